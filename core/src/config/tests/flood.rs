//! The flood guard: what its section means, what does not go together, and that all of it reads back.

use super::*;
use crate::flood::flow::{TCP, UDP};
use crate::flood::settings::{Action, Service, Settings};
use crate::flood::timeouts::Timeouts;

fn read_settings(text: &str) -> Settings {
    good(&format!("[conntrack]\n{text}\n")).conntrack().clone()
}

fn times(pairs: &[(&str, u64)]) -> Timeouts {
    pairs.iter().map(|(name, secs)| ((*name).to_owned(), Span::secs(*secs))).collect()
}

/// A random valid section with a service or two.
pub(super) fn section() -> impl Strategy<Value = String> {
    let fills = (0.0001f64..0.4, 0.4f64..0.7, 0.7f64..=1.0, 1u32..40, any::<bool>()).prop_map(|(low, mid, high, percent, whole)| {
        if whole {
            format!("engage = \"{}.5%\"\nrelease = \"{percent}%\"\n", percent + 50)
        } else {
            format!("engage = [{mid}, {high}]\nrelease = {low}\n")
        }
    });
    let spans = (1u64..86_400, 0u64..86_400, 1u64..86_400, prop::option::of(60u64..9_999_999));
    let spans = spans.prop_map(|(calm, horizon, limit, life)| {
        let life = life.map_or("\"permanent\"".to_owned(), |secs| secs.to_string());
        format!("calm_after = {calm}\nhorizon = {horizon}\nlimit_time = {limit}\nban_time = {limit}\naddress_lifetime = {life}\n")
    });
    let limit = prop_oneof![
        (1u32..10_000).prop_map(|rate| format!("\"{rate}/second\"")),
        (1u32..10_000).prop_map(|rate| format!("\"{}/minute\"", rate * 60)),
        (1u32..10_000, 1u32..100_000).prop_map(|(rate, burst)| format!("{{ rate = {rate}, burst = {burst} }}")),
    ];
    let rest = (1u32..16_777_216, any::<u32>(), 1u8..=32, any::<[bool; 4]>(), 0usize..3).prop_map(|(flows, addr, len, on, action)| {
        let (addr, word) = (std::net::Ipv4Addr::from_bits(addr), conntrack::ACTIONS[action].0);
        format!(
            "per_source = {flows}\nexempt = [\"{addr}/{len}\"]\naction = \"{word}\"\nenabled = {}\npurge = {}\nadapt = {}\nfollow_addresses = {}\n",
            on[0], on[1], on[2], on[3]
        )
    });
    let leases = prop::option::of("[a-z/]{0,9}[^\\p{C}*?\\[/.]");
    let leases =
        leases.prop_map(|path| path.map_or(String::new(), |path| format!("leases = [{}]\n", toml::Value::String(format!("/{path}")))));
    let timeouts = prop::collection::btree_map(prop::sample::select(conntrack::TIMEOUTS.to_vec()), 1u64..2_592_000, 0..5);
    let timeouts = timeouts.prop_map(|all| inline(&all));
    let services = prop::collection::btree_map("[a-z][a-z0-9_-]{0,9}", service(), 0..3);
    (fills, spans, limit, rest, leases, timeouts, services).prop_map(|(fills, spans, limit, rest, leases, timeouts, services)| {
        // A port of its own for each, so that no two have the same.
        let tables =
            services.iter().enumerate().map(|(n, (name, rest))| format!("[conntrack.service.{name}]\nports = [{}]\n{rest}", n + 1));
        let tables: String = tables.collect();
        format!("[conntrack]\n{fills}{spans}limit = {limit}\n{rest}{leases}timeouts = {timeouts}\n{tables}")
    })
}

fn inline(all: &BTreeMap<&str, u64>) -> String {
    let parts: Vec<String> = all.iter().map(|(name, secs)| format!("{name} = {secs}")).collect();
    format!("{{ {} }}", parts.join(", "))
}

fn service() -> impl Strategy<Value = String> {
    let of = |word: &'static str, states: &'static [&'static str]| {
        let timeouts = prop::collection::btree_map(prop::sample::select(states), 1u64..2_592_000, 1..4);
        let prefixes = prop::sample::select(vec!["", "prefixes = [\"192.0.2.0/24\", \"2001:db8::/32\"]\n"]);
        (timeouts, prefixes).prop_map(move |(all, prefixes)| format!("protocol = \"{word}\"\n{prefixes}timeouts = {}\n", inline(&all)))
    };
    prop_oneof![of("tcp", conntrack::TCP_STATES), of("udp", conntrack::UDP_STATES)]
}

#[test]
fn nothing_typed_is_the_default() {
    assert_eq!(Config::builtin().conntrack(), &Settings::default());
    assert_eq!(read_settings(""), Settings::default());
    assert_eq!(good(&show(&Config::builtin())).conntrack(), &Settings::default());
    // The number alone that the default's pressure is has the default's flood.
    assert_eq!(read_settings("engage = \"70%\"\nlimit = \"5/second\""), Settings::default());
}

#[test]
fn a_whole_section_is_read() {
    let text = r#"
        enabled = true
        engage = ["60%", 0.9]
        release = "45.5%"
        calm_after = "2m"
        horizon = "0s"
        per_source = 1_000
        exempt = ["192.0.2.53", "2001:db8:5::/48"]
        action = "ban"
        limit = "300/minute"
        limit_time = "10m"
        ban_time = "permanent"
        purge = false
        adapt = false
        follow_addresses = false
        address_lifetime = "36h"
        timeouts = { tcp_established = "2h", udp_stream = 60 }
        leases = ["/var/lib/misc/dnsmasq.leases"]
        [conntrack.service.dns]
        protocol = "udp"
        ports = ["dns", 5353, "6000-6002", 6001]
        timeouts = { unreplied = "5s", replied = "10s" }
        [conntrack.service.web]
        protocol = "tcp"
        ports = ["https"]
        prefixes = ["192.0.2.80"]
        timeouts = { established = "1h", syn_sent = "5s" }
    "#;
    let dns = Service {
        protocol: UDP,
        ports: vec![53, 5353, 6000, 6001, 6002],
        prefixes: vec![],
        timeouts: times(&[("unreplied", 5), ("replied", 10)]),
    };
    let prefixes = vec!["192.0.2.80/32".parse().unwrap()];
    let web = Service { protocol: TCP, ports: vec![443], prefixes, timeouts: times(&[("established", 3600), ("syn_sent", 5)]) };
    let wanted = Settings {
        enabled: true,
        engage: (0.6, 0.9),
        release: 0.455,
        calm_after: Span::secs(120),
        horizon: Span::ZERO,
        per_source: 1000,
        exempt: vec!["192.0.2.53/32".parse().unwrap(), "2001:db8:5::/48".parse().unwrap()],
        action: Action::Ban,
        limit: (5, 20),
        limit_time: Span::secs(600),
        ban_time: Term::Forever,
        purge: false,
        adapt: false,
        follow_addresses: false,
        address_lifetime: Some(Span::secs(36 * 3600)),
        timeouts: times(&[("tcp_established", 7200), ("udp_stream", 60)]),
        services: [("dns".to_owned(), dns), ("web".to_owned(), web)].into(),
        leases: Some(vec!["/var/lib/misc/dnsmasq.leases".to_owned()]),
    };
    assert_eq!(read_settings(text), wanted);
}

#[test]
fn what_is_not_typed_follows_what_is() {
    // A flood begins half way from pressure to full.
    assert_eq!(read_settings("engage = \"50%\"").engage, (0.5, 0.75));
    assert_eq!(read_settings("engage = 1").engage, (1.0, 1.0));
    // The end of pressure stays below its beginning.
    assert_eq!(read_settings("engage = \"90%\"").release, 0.6);
    assert_eq!(read_settings("engage = 0.02").release, 0.02 * 0.9);
    assert_eq!(read_settings("limit = { rate = 7 }").limit, (7, 28));
    assert_eq!(read_settings("limit = { rate = 7, burst = 1 }").limit, (7, 1));
    // None at all is not the usual ones.
    assert_eq!((read_settings("leases = []").leases, read_settings("").leases), (Some(vec![]), None));
}

#[test]
fn timeouts_and_services_merge_by_name() {
    let config = read_all(&[
        "[conntrack]\nper_source = 100\nlimit = { rate = 7, burst = 7 }\ntimeouts = { udp = 10, icmp = 10 }\n\
         [conntrack.service.dns]\nprotocol = \"udp\"\ntimeouts = { replied = 10 }\n",
        "[conntrack.timeouts]\nudp = \"20s\"\n[conntrack.service.dns]\nports = [53]\n[conntrack.service.dns.timeouts]\nunreplied = 5\n",
        "[conntrack]\nlimit = \"9/second\"\naddress_lifetime = \"1d\"\n[conntrack.service.ntp]\nprotocol = \"udp\"\nports = [\"ntp\"]\ntimeouts = { replied = 1 }\n",
        "[conntrack]\naddress_lifetime = \"permanent\"\n",
    ])
    .unwrap();
    let settings = config.conntrack();
    assert_eq!((settings.per_source, settings.limit, settings.address_lifetime), (100, (9, 36), None));
    assert_eq!(settings.timeouts, times(&[("udp", 20), ("icmp", 10)]));
    assert_eq!(settings.services["dns"].timeouts, times(&[("replied", 10), ("unreplied", 5)]));
    assert_eq!(settings.services.keys().collect::<Vec<_>>(), ["dns", "ntp"]);
}

#[test]
fn what_is_wrong_is_told_with_its_place_and_hint() {
    let service = "[conntrack.service.a]\nprotocol = \"tcp\"\n";
    let cases = [
        ("[conntrak]\n", "1:2 unknown table [conntrak] [did you mean [conntrack]?]"),
        ("[conntrack]\npersource = 1\n", "2:1 unknown key `persource` in [conntrack] [did you mean `per_source`?]"),
        ("[ban]\nengage = 0.5\n", "2:1 unknown key `engage` in [ban] [it belongs in [conntrack]]"),
        // Fills.
        (
            "[conntrack]\nengage = 70\n",
            "2:10 `engage` is 70, but must be above 0 and at most 1: it is a share of the table; 70% is written \"70%\" or 0.7 [did you mean \"70%\"?]",
        ),
        (
            "[conntrack]\nrelease = \"0%\"\n",
            "2:11 `release` is 0%, but must be above 0 and at most 1: it is a share of the table; 70% is written \"70%\" or 0.7",
        ),
        (
            "[conntrack]\nengage = [0.5, nan]\n",
            "2:16 `engage` is NaN, but must be above 0 and at most 1: it is a share of the table; 70% is written \"70%\" or 0.7",
        ),
        ("[conntrack]\nengage = \"high\"\n", "2:10 `high` is no fill: write it like \"70%\" or 0.7"),
        (
            "[conntrack]\nengage = [0.5]\n",
            "2:10 `engage` has 1 entries; it is a fill like \"70%\" or 0.7, or two of them: where pressure begins, and where a flood",
        ),
        (
            "[conntrack]\nengage = [\"85%\", 0.7]\n",
            "2:10 `engage` has a flood begin at 70%, below the pressure at 85% [did you mean [\"70%\", \"85%\"]?]",
        ),
        (
            "[conntrack]\nrelease = \"70%\"\n",
            "2:11 `release` = 70% is not below 70%, where `engage` has pressure begin: it would begin and end at once [write less than 70%]",
        ),
        (
            "[conntrack]\nengage = \"50%\"\nrelease = 0.6\n",
            "3:11 `release` = 60% is not below 50%, where `engage` has pressure begin: it would begin and end at once [write less than 50%]",
        ),
        // Whom and what.
        ("[conntrack]\naction = \"block\"\n", "2:10 `block` is not a word for `action`: it is one of watch, limit, ban"),
        (
            "[conntrack]\nexempt = [\"::/0\"]\n",
            "2:11 `::/0` is everyone: with it nothing would ever be done about a flood [write `action = \"watch\"`]",
        ),
        ("[conntrack]\nlimit = \"5 a second\"\n", "2:9 `5 a second` is no rate: write it like \"5/second\" or \"300/minute\""),
        (
            "[conntrack]\nlimit = \"5/seconds\"\n",
            "2:9 `5/seconds` is no rate: it is a number of flows per second, minute or hour [did you mean `second`?]",
        ),
        (
            "[conntrack]\nlimit = \"100/minute\"\n",
            "2:9 `100/minute` is no whole number of flows a second [the next that is: \"120/minute\"]",
        ),
        ("[conntrack]\nlimit = { burst = 5 }\n", "2:9 `limit` needs a `rate`: how many new flows a second"),
        (
            "[conntrack]\nlimit = 5\n",
            "2:9 `limit` must be a text like \"5/second\" or \"300/minute\", or a table like { rate = 5, burst = 20 }, not an integer",
        ),
        ("[conntrack]\nleases = [\"leases\"]\n", "2:11 `leases` is not absolute: paths begin with /"),
        // Timeouts.
        (
            "[conntrack]\ntimeouts = { udp_strem = 5 }\n",
            "2:14 unknown key `udp_strem` in [conntrack.timeouts] [did you mean `udp_stream`?]",
        ),
        (
            "[conntrack.timeouts]\nnf_conntrack_tcp_timeout_established = 5\n",
            "2:1 unknown key `nf_conntrack_tcp_timeout_established` in [conntrack.timeouts] [here it is `tcp_established`]",
        ),
        ("[conntrack.timeouts]\nudp = \"1500ms\"\n", "2:7 `udp` is 1s500ms, and the kernel counts whole seconds"),
        (
            "[conntrack.timeouts]\nudp = \"5w\"\n",
            "2:7 `udp` is 5w, but must be 1s to 4w2d: the kernel counts seconds, and what is idle for a month is no connection any more",
        ),
        // Services.
        (
            "[conntrack.service.A]\n",
            "1:20 `A` cannot be a service's name: a letter, then a-z, 0-9, `_` and `-`, 31 at most [did you mean `a`?]",
        ),
        ("[conntrack.service]\nports = [1]\n", "2:1 unknown key `ports` in [conntrack.service] [it belongs in [jail.NAME]]"),
        (
            &format!("{service}ports = [1]\ntimeouts = {{ replied = 5 }}\n"),
            "4:14 `replied` is no state of tcp, which service `a` is: its states are syn_sent, syn_recv, established, fin_wait, close_wait, last_ack, time_wait, close, retrans, unack",
        ),
        (
            &format!("{service}ports = [1]\ntimeouts = {{ tcp_established = 5 }}\n"),
            "4:14 unknown key `tcp_established` in [conntrack.service.a.timeouts] [here it is `established`]",
        ),
        (
            &format!("{service}timeouts = {{ close = 5 }}\n"),
            "1:20 service `a` has no ports: write those that it listens on, like `ports = [\"dns\"]`",
        ),
        (
            &format!("{service}ports = [1]\n"),
            "1:20 service `a` has no timeouts: write at least one, like `timeouts = { established = \"1h\" }` of tcp or `{ unreplied = \"10s\" }` of udp",
        ),
        (
            "[conntrack.service.a]\nports = [1]\ntimeouts = { close = 5 }\n",
            "1:20 service `a` has no protocol: write `protocol = \"tcp\"` or `\"udp\"`",
        ),
        (
            &format!("{service}ports = [\"1-40\"]\n"),
            "3:10 `1-40` is more than 32 ports, and a service has no more: timeouts of a whole protocol are `timeouts` in [conntrack]",
        ),
        (
            &format!(
                "{service}ports = [53]\ntimeouts = {{ close = 5 }}\n[conntrack.service.b]\nprotocol = \"tcp\"\nports = [\"dns\"]\ntimeouts = {{ close = 6 }}\n"
            ),
            "5:20 services `a` and `b` both have tcp port 53 of the same addresses: which timeouts are meant?",
        ),
    ];
    for (text, wanted) in cases {
        assert_eq!(told(text), [wanted], "{text}");
    }
}

#[test]
fn services_may_share_a_port_where_no_flow_is_of_both() {
    let one = |name: &str, protocol: &str, state: &str, prefixes: &str| {
        format!(
            "[conntrack.service.{name}]\nprotocol = \"{protocol}\"\nports = [53]\nprefixes = [{prefixes}]\ntimeouts = {{ {state} = 9 }}\n"
        )
    };
    let (tcp, udp) = (one("a", "tcp", "close", ""), one("b", "udp", "replied", ""));
    assert_eq!(good(&format!("{tcp}{udp}")).conntrack().services.len(), 2);
    let (here, there) = (one("a", "udp", "replied", "\"192.0.2.0/24\""), one("b", "udp", "replied", "\"198.51.100.0/24\""));
    assert_eq!(good(&format!("{here}{there}")).conntrack().services.len(), 2);
    let within = one("b", "udp", "replied", "\"192.0.2.7\"");
    assert_eq!(told(&format!("{here}{within}")).len(), 1);
}

#[test]
fn more_services_than_a_packet_is_held_against_are_refused() {
    let services = |from: u16, to: u16| -> String {
        (from..to)
            .map(|n| format!("[conntrack.service.s{n}]\nprotocol = \"udp\"\nports = [{}]\ntimeouts = {{ replied = 9 }}\n", n + 1))
            .collect()
    };
    assert_eq!(good(&services(0, 32)).conntrack().services.len(), 32);
    let wanted = "33 services are more than 32: every new flow is held against each of them";
    assert_eq!(read(&services(0, 33)).unwrap_err().errors[0].problem, Problem::TooLarge(wanted.to_owned()));
    assert_eq!(read_all(&[&services(0, 20), &services(20, 33)]).unwrap_err().errors[0].problem, Problem::TooLarge(wanted.to_owned()));
}

#[test]
fn the_guides_examples_are_read() {
    const GUIDE: &str = include_str!("../../../../docs/conntrack.md");
    let blocks: Vec<&str> = GUIDE.split("```toml\n").skip(1).map(|rest| rest.split("```").next().unwrap()).collect();
    assert!(!blocks.is_empty());
    for block in blocks {
        assert_ne!(good(block).conntrack(), &Settings::default(), "{block}");
    }
}

#[test]
fn the_man_page_tells_the_bounds_and_defaults_that_hold() {
    let settings = Settings::default();
    let percent = |share: f64| format!("{}%", (share * 100.0).round());
    for (key, default) in [
        ("engage", format!("[\"{}\", \"{}\"]", percent(settings.engage.0), percent(settings.engage.1))),
        ("release", format!("\"{}\"", percent(settings.release))),
        ("calm_after", format!("\"{}\"", settings.calm_after)),
        ("horizon", format!("\"{}\"", settings.horizon)),
        ("per_source", settings.per_source.to_string()),
        ("limit", format!("{{ rate = {}, burst = {} }}", settings.limit.0, settings.limit.1)),
        ("limit_time", format!("\"{}\"", settings.limit_time)),
        ("ban_time", format!("\"{}\"", settings.ban_time)),
    ] {
        let row = MAN_PAGE.split("## [conntrack]").nth(1).unwrap().lines().find(|line| line.starts_with(&format!("| `{key}` |"))).unwrap();
        assert!(row.contains(&default), "{row} does not have {default}");
    }
}
