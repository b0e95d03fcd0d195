//! What our table of limits looks like. Pure: names, chains, rules and objects, no kernel.
//!
//! ```text
//!  table inet palisade_flood {
//!    counter, limit source_192.0.2.7/32 { over 5/second burst 20 packets }          each limit
//!    ct timeout source_192.0.2.7/32_tcp4 { .. }                                     each of its protocols
//!    ct timeout service_ssh_tcp4 { .. }                                             each service and family
//!
//!    chain pre { filter hook prerouting mangle + 5 (-145):          behind connection tracking, before DNAT (-100)
//!      ct state new ct status ! confirmed jump incoming }
//!    chain out { filter hook output mangle + 5:
//!      ct state new ct status ! confirmed jump outgoing }
//!    chain incoming { ip saddr 192.0.2.7 limit name .. counter name .. drop         each source
//!                     ip daddr 192.0.2.1 tcp dport 443 limit .. drop                each crowd
//!                     jump timeouts
//!                     ip daddr 192.0.2.1 tcp dport 443 ct timeout set ..            each crowd }
//!    chain outgoing { ip saddr 192.0.2.7 limit .. drop                              each source
//!                     meta skuid 1000 udp dport 53 limit .. drop                    each local user
//!                     jump timeouts
//!                     meta skuid 1000 udp dport 53 ct timeout set ..                each local user }
//!    chain timeouts { tcp dport 22 jump service_ssh                                 each service's port
//!                     ip saddr 192.0.2.7 meta l4proto tcp ct timeout set ..         each source }
//!    chain service_ssh { ip saddr 198.51.100.0/24 ct timeout set ..                 each prefix, and as daddr;
//!                        meta nfproto ipv4 ct timeout set ..                        without prefixes: each family }
//!  }
//! ```
//! Connection tracking calls every packet new until the first answer. Only a flow's first one is not yet in the
//! table (`confirmed`), so only that is held to the rate, and a stream that nobody answers goes on. It
//! also keeps this host's packets to itself from being counted twice: behind the loopback their flow is confirmed.
//! A flow whose first packet is dropped never gets into the table.
//!
//! Of timeouts the last that is set holds: the culprit's, not the service's.

use std::collections::{BTreeMap, BTreeSet};
use std::io;

use palisade_core::flood::flow::{Protocol, TCP, UDP, has_ports};
use palisade_core::flood::settings::Service;
use palisade_core::flood::wanted::{Culprit, LIMITS, Limit, Wanted};
use palisade_core::net::{Family, Prefix};

use super::policy::Beneath;
use super::{names, policy};
use crate::netlink::nft::expr::{Ct, Header, Meta, ct_state, ct_status};
use crate::netlink::nft::whole::Whole;
use crate::netlink::nft::{Base, Chain, Expr, Held, Object, Policy, Rate, Rule, Verdict};

/// `NF_INET_PRE_ROUTING`, `NF_INET_LOCAL_OUT`, `NF_ACCEPT` (linux/netfilter.h).
const PREROUTING: u32 = 0;
const OUTPUT: u32 = 3;
const ACCEPT: u32 = 1;
/// Behind connection tracking (-200) and mangle (-150), where marks are set; before `NF_IP_PRI_NAT_DST` (-100), so that
/// destinations are as the sender wrote them (linux/netfilter_ipv4.h).
const PRIORITY: i32 = -145;
/// `NFPROTO_IPV4`, `NFPROTO_IPV6`.
const IPV4: u8 = 2;
const IPV6: u8 = 10;
/// The longest name of a service: three bytes for each at worst, well within the kernel's 255 of a chain's name.
const LONGEST: usize = 64;

/// What is wanted, as a table; `None` where nothing is. What its policies do not say is as beneath them.
///
/// # Errors
/// `InvalidInput` for more than [`LIMITS`] limits and for what cannot be one, by its name.
pub(super) fn whole(wanted: &Wanted, beneath: &Beneath) -> io::Result<Option<Whole>> {
    check(&wanted.limits)?;
    let mut table = Whole::default();
    wanted.limits.iter().for_each(|limit| limited(&mut table, limit));
    let mut timeouts = Whole::default();
    for (name, service) in &wanted.services {
        if timeouts.chains.iter().any(|chain| chain.name == names::service(name)) {
            return Err(wrong(format!("service {name}: there are two of this name")));
        }
        served(&mut timeouts, name, service, beneath)?;
    }
    wanted.limits.iter().for_each(|limit| shortened(&mut timeouts, limit, beneath));
    if table.rules.is_empty() && timeouts.rules.is_empty() {
        return Ok(None);
    }
    if timeouts.rules.iter().any(|rule| rule.chain == "timeouts") {
        timeouts.chains.push(Chain { name: "timeouts".to_owned(), base: None });
        let through = |chain: &str| rule(chain, [jump("timeouts")]);
        table.rules.extend([through("incoming"), through("outgoing")]);
    }
    table.rules.extend(timeouts.rules);
    table.chains.extend(timeouts.chains);
    table.objects.extend(timeouts.objects);
    for (name, hook, to) in [("pre", PREROUTING, "incoming"), ("out", OUTPUT, "outgoing")] {
        let base = Base { hook, priority: PRIORITY, policy: ACCEPT, kind: "filter".to_owned() };
        table.chains.push(Chain { name: name.to_owned(), base: Some(base) });
        table.chains.push(Chain { name: to.to_owned(), base: None });
        table.rules.push(rule(name, first_packet().into_iter().chain([jump(to)])));
    }
    Ok(Some(table))
}

/// The same without timeouts, for a kernel that has none; `None` where nothing is left.
pub(super) fn without_timeouts(wanted: &Wanted) -> io::Result<Option<Whole>> {
    let plain = |limit: &Limit| Limit { timeouts: BTreeMap::new(), ..limit.clone() };
    whole(&Wanted { limits: wanted.limits.iter().map(plain).collect(), services: Vec::new(), ..wanted.clone() }, &Beneath::default())
}

fn wrong(what: String) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, what)
}

fn check(limits: &[Limit]) -> io::Result<()> {
    if limits.len() > LIMITS {
        return Err(wrong(format!("{} limits at once: each costs every new flow a comparison, so at most {LIMITS} stand", limits.len())));
    }
    let mut seen = BTreeSet::new();
    for Limit { whose, rate, burst, .. } in limits {
        if !seen.insert(whose) {
            return Err(wrong(format!("{whose}: two limits of one culprit")));
        }
        if *rate == 0 || *burst == 0 {
            return Err(wrong(format!("{whose}: a limit lets at least one flow a second and one at once through")));
        }
        let (Culprit::Local { protocol, port, .. } | Culprit::Crowd { to: palisade_core::flood::flow::Endpoint { protocol, port, .. } }) =
            whose
        else {
            continue;
        };
        if *port != 0 && !has_ports(*protocol) {
            return Err(wrong(format!("{whose}: {} has no ports", Protocol(*protocol))));
        }
    }
    Ok(())
}

/// In which chains a culprit's flows are seen, and what tells them from others.
fn seen(whose: &Culprit) -> (&'static [&'static str], Vec<Expr>) {
    match whose {
        Culprit::Source { prefix } => (&["incoming", "outgoing"], address(prefix, Side::Source)),
        Culprit::Local { uid, protocol, port } => {
            let user = [Expr::Meta(Meta::User), Expr::Equal(uid.to_ne_bytes().to_vec())];
            (&["outgoing"], user.into_iter().chain(transport(*protocol, *port)).collect())
        }
        Culprit::Crowd { to } => {
            let there = address(&Prefix::host(to.addr), Side::Destination);
            (&["incoming"], there.into_iter().chain(transport(to.protocol, to.port)).collect())
        }
    }
}

fn limited(table: &mut Whole, limit: &Limit) {
    let name = names::of(&limit.whose);
    let rate = Rate { per_second: limit.rate.into(), burst: limit.burst };
    table.objects.extend([Object::counter(name.clone()), Object { name: name.clone(), held: Held::Limit(rate) }]);
    let (chains, culprit) = seen(&limit.whose);
    for chain in chains {
        let drop = [Expr::Over(name.clone()), Expr::Count(name.clone()), Expr::Verdict(Verdict::Drop)];
        table.rules.push(rule(chain, culprit.iter().cloned().chain(drop)));
    }
}

/// What a limited culprit may still open does not last long.
fn shortened(table: &mut Whole, limit: &Limit, beneath: &Beneath) {
    let whose = names::of(&limit.whose);
    let (families, protocols): (Vec<Family>, Vec<u8>) = match limit.whose {
        Culprit::Source { prefix } => (vec![prefix.family()], vec![TCP, UDP]),
        Culprit::Local { protocol, .. } => (vec![Family::V4, Family::V6], vec![protocol]),
        Culprit::Crowd { to } => (vec![to.addr.family()], vec![to.protocol]),
    };
    let (chains, culprit) = seen(&limit.whose);
    // A source is looked for once for both directions.
    let chain = if chains.len() > 1 { "timeouts" } else { chains[0] };
    for family in families {
        for protocol in &protocols {
            let seconds = policy::by_switch(&limit.timeouts, *protocol);
            if seconds.is_empty() {
                continue;
            }
            let seconds = beneath.fill(*protocol, seconds);
            let name = names::timeouts(&whose, family, *protocol);
            let mut exprs = culprit.clone();
            match limit.whose {
                Culprit::Source { .. } => exprs.extend(transport(*protocol, 0)),
                Culprit::Local { .. } => exprs.extend(of_family(family)),
                Culprit::Crowd { .. } => {}
            }
            exprs.push(Expr::Timeouts(name.clone()));
            table.rules.push(rule(chain, exprs));
            table.objects.push(Object { name, held: Held::Timeouts(Policy { family, protocol: *protocol, seconds }) });
        }
    }
}

fn served(table: &mut Whole, name: &str, service: &Service, beneath: &Beneath) -> io::Result<()> {
    let Service { protocol, ports, prefixes, timeouts } = service;
    if name.is_empty() || name.len() > LONGEST {
        return Err(wrong(format!("service {name:?}: a name has 1 to {LONGEST} bytes")));
    }
    if ![TCP, UDP].contains(protocol) {
        return Err(wrong(format!("service {name}: {} is neither tcp nor udp", Protocol(*protocol))));
    }
    let seconds = policy::by_state(timeouts, *protocol).map_err(|unknown| {
        let known: Vec<_> = policy::states(*protocol).map(|state| state.name).collect();
        wrong(format!("service {name}: `{unknown}` is no state of {}: it has {}", Protocol(*protocol), known.join(", ")))
    })?;
    if seconds.is_empty() {
        return Ok(());
    }
    let seconds = beneath.fill(*protocol, seconds);
    let chain = names::service(name);
    table.chains.push(Chain { name: chain.clone(), base: None });
    let any = [0];
    let ports: BTreeSet<u16> = if ports.is_empty() { any.into() } else { ports.iter().copied().collect() };
    table.rules.extend(ports.iter().map(|port| rule("timeouts", transport(*protocol, *port).into_iter().chain([jump(&chain)]))));
    for family in [Family::V4, Family::V6] {
        let object = names::timeouts(&chain, family, *protocol);
        let mut matches: Vec<Vec<Expr>> = Vec::new();
        if prefixes.is_empty() {
            matches.push(of_family(family).into());
        }
        for prefix in prefixes.iter().filter(|prefix| prefix.family() == family).collect::<BTreeSet<_>>() {
            matches.extend([Side::Source, Side::Destination].map(|side| address(prefix, side)));
        }
        if !matches.is_empty() {
            let policy = Policy { family, protocol: *protocol, seconds: seconds.clone() };
            table.objects.push(Object { name: object.clone(), held: Held::Timeouts(policy) });
        }
        let set = || [Expr::Timeouts(object.clone())];
        table.rules.extend(matches.into_iter().map(|exprs| rule(&chain, exprs.into_iter().chain(set()))));
    }
    Ok(())
}

fn rule(chain: &str, exprs: impl IntoIterator<Item = Expr>) -> Rule {
    Rule { chain: chain.to_owned(), exprs: exprs.into_iter().collect() }
}

fn jump(chain: &str) -> Expr {
    Expr::Verdict(Verdict::Jump(chain.to_owned()))
}

fn word(value: u32) -> Vec<u8> {
    value.to_ne_bytes().to_vec()
}

/// Only the first packet of a flow.
fn first_packet() -> [Expr; 6] {
    [
        Expr::Ct(Ct::State),
        Expr::Mask(word(ct_state::NEW)),
        Expr::Differs(word(0)),
        Expr::Ct(Ct::Status),
        Expr::Mask(word(ct_status::CONFIRMED)),
        Expr::Equal(word(0)),
    ]
}

/// Only this protocol; and this port, unless it is 0.
fn transport(protocol: u8, port: u16) -> Vec<Expr> {
    let mut exprs = vec![Expr::Meta(Meta::Transport), Expr::Equal(vec![protocol])];
    if port != 0 {
        // RFC 9293 3.1, RFC 768: the destination's port is the second.
        exprs.extend([Expr::Payload { header: Header::Transport, offset: 2, len: 2 }, Expr::Equal(port.to_be_bytes().to_vec())]);
    }
    exprs
}

fn of_family(family: Family) -> [Expr; 2] {
    [Expr::Meta(Meta::Family), Expr::Equal(vec![if family == Family::V4 { IPV4 } else { IPV6 }])]
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Side {
    Source,
    Destination,
}

/// Only packets with an address of this prefix there. Where it stands: RFC 791 3.1, RFC 8200 3.
fn address(prefix: &Prefix, side: Side) -> Vec<Expr> {
    let (first, len) = match prefix.family() {
        Family::V4 => (12, 4),
        Family::V6 => (8, 16),
    };
    let mut exprs: Vec<Expr> = of_family(prefix.family()).into();
    let offset = if side == Side::Source { first } else { first + len };
    let octets = prefix.addr().octets();
    match (u32::from(prefix.len()) / 8, prefix.len() % 8) {
        (0, 0) => {}
        // Whole bytes need no mask; nft(8) writes it so too.
        (bytes, 0) => {
            let there: Vec<u8> = octets.iter().copied().zip(0..bytes).map(|(octet, _)| octet).collect();
            exprs.extend([Expr::Payload { header: Header::Network, offset, len: bytes }, Expr::Equal(there)]);
        }
        _ => exprs.extend([
            Expr::Payload { header: Header::Network, offset, len },
            Expr::Mask(prefix.netmask().to_vec()),
            Expr::Equal(octets.to_vec()),
        ]),
    }
    exprs
}

#[cfg(test)]
mod tests {
    use super::*;
    use palisade_core::flood::flow::ICMP;
    use palisade_core::time::Span;
    use proptest::prelude::*;

    fn whole(wanted: &Wanted) -> io::Result<Option<Whole>> {
        super::whole(wanted, &Beneath::default())
    }

    fn limit(whose: Culprit) -> Limit {
        Limit { whose, rate: 5, burst: 20, timeouts: BTreeMap::new() }
    }

    fn refused(wanted: &Wanted) -> String {
        let error = whole(wanted).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
        error.to_string()
    }

    fn service(protocol: u8, state: &str) -> Service {
        let timeouts = BTreeMap::from([(state.to_owned(), Span::secs(60))]);
        Service { protocol, ports: vec![22, 22, 2222], prefixes: Vec::new(), timeouts }
    }

    #[test]
    fn nothing_wanted_is_no_table() {
        assert_eq!(whole(&Wanted::default()).unwrap(), None);
        let mut idle = service(TCP, "established");
        idle.timeouts.clear();
        assert_eq!(whole(&Wanted { services: vec![("ssh".to_owned(), idle)], ..Wanted::default() }).unwrap(), None);
        let only_services = Wanted { services: vec![("ssh".to_owned(), service(TCP, "established"))], ..Wanted::default() };
        assert!(whole(&only_services).unwrap().is_some());
        assert_eq!(without_timeouts(&only_services).unwrap(), None);
    }

    #[test]
    fn what_cannot_be_is_refused_by_name() {
        let source = |n: u32| Culprit::Source { prefix: Prefix::host(std::net::Ipv4Addr::from(0xc000_0200 + n).into()) };
        let with = |limits: Vec<Limit>| Wanted { limits, ..Wanted::default() };
        let many = |n| with((0..n).map(source).map(limit).collect());
        assert!(whole(&many(64)).unwrap().is_some());
        assert!(refused(&many(65)).contains("65 limits"));
        assert!(refused(&with(vec![limit(source(7)), limit(source(7))])).contains("192.0.2.7"));
        assert!(refused(&with(vec![Limit { rate: 0, ..limit(source(7)) }])).contains("192.0.2.7"));
        assert!(refused(&with(vec![limit(Culprit::Local { uid: 5, protocol: ICMP, port: 53 })])).contains("no ports"));
        let with = |name: &str, service: Service| Wanted { services: vec![(name.to_owned(), service)], ..Wanted::default() };
        assert!(refused(&with("dns", service(UDP, "established"))).contains("service dns: `established` is no state of udp"));
        assert!(refused(&with("x", service(ICMP, "timeout"))).contains("neither tcp nor udp"));
        assert!(refused(&with("", service(TCP, "established"))).contains("name"));
        let mut twice = with("ssh", service(TCP, "established"));
        twice.services.push(twice.services[0].clone());
        assert!(refused(&twice).contains("two of this name"));
    }

    proptest! {
        #[test]
        fn rules_use_only_what_is_there(
            culprits in proptest::collection::btree_set(names::tests::any_culprit(), 0..8),
            times in proptest::collection::btree_map("(tcp_established|udp|icmp|icmpv6|gre)", (0u64..1000).prop_map(Span::secs), 0..4),
            served in any::<bool>(),
        ) {
            let limits: Vec<Limit> = culprits.into_iter().map(|whose| Limit { timeouts: times.clone(), ..limit(whose) }).collect();
            let services = if served { vec![("s".to_owned(), service(TCP, "unack"))] } else { Vec::new() };
            let Ok(Some(table)) = whole(&Wanted { limits, services, ..Wanted::default() }) else { return Ok(()) };
            let has = |kind: fn(&Held) -> bool, name: &str| table.objects.iter().any(|object| object.name == name && kind(&object.held));
            for rule in &table.rules {
                prop_assert!(table.chains.iter().any(|chain| chain.name == rule.chain), "{:?}", rule);
                for expr in &rule.exprs {
                    match expr {
                        Expr::Count(name) => prop_assert!(has(|held| matches!(held, Held::Counter { .. }), name), "{}", name),
                        Expr::Over(name) => prop_assert!(has(|held| matches!(held, Held::Limit(_)), name)),
                        Expr::Timeouts(name) => prop_assert!(has(|held| matches!(held, Held::Timeouts(_)), name)),
                        Expr::Verdict(Verdict::Jump(to)) => prop_assert!(table.chains.iter().any(|chain| &chain.name == to)),
                        _ => {}
                    }
                }
            }
            let mut names: Vec<_> = table.objects.iter().map(|object| (object.kind(), &object.name)).collect();
            names.sort();
            names.dedup();
            prop_assert_eq!(names.len(), table.objects.len());
        }
    }
}
