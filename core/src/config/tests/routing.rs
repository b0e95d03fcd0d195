//! Routing and tunnels: what the two worked examples mean, what does not go together, and that all of it reads back.

use super::*;
use crate::net::{Addr, Family, Prefix};
use crate::route::spec::{
    Condition, Families, FreeAction, Gateway, Guard, LastResort, Member, OnDown, Purge, RpFilter, Settings, Sources, Sticky, Track,
};
use crate::route::tunnels::{Backoff, Budget, LinkKind, Ready, Restart, TunnelKind};
use crate::route::{Mark, Mask, Priority, Protocol, Spec, Table, TableId};

/// A host with one provider and two IPv6 tunnels of another, each with an address of its own.
const TUNNELS: &str = r#"
[routing]
priority_base = 4000
protocol      = 80
table_names   = true

[uplink.net0]              # only watched
interface = "net0"
table     = "main"
source    = ["2001::1"]

[uplink.sixxs0]
interface = "sixxs0"
table     = { name = "sixxs0", id = 200 }
source    = ["2a02::1"]
subnets   = []
gateway   = "none"         # nobody to hand it to: point to point
tunnel    = "sixxs0"
on_down   = "unreachable"
guard     = "count"
[uplink.sixxs0.track]
targets  = ["2001:db8:1::1", "2606:4700:4700::1111"]
interval = "10s"
timeout  = "2s"
down     = 3
up       = 3
quorum   = 1

[uplink.sixxs1]
interface = "sixxs1"
table     = { name = "sixxs1", id = 201 }
source    = ["2a02::2"]
gateway   = "none"
tunnel    = "sixxs1"

[tunnel.sixxs0]
kind      = "exec"
start     = ["aiccu", "start", "/etc/aiccu/tunnel0.conf"]
stop      = ["aiccu", "stop",  "/etc/aiccu/tunnel0.conf"]
type      = "forking"
pidfile   = "/run/aiccu-tunnel0.pid"
ready     = { interface = "sixxs0", address = "2a02::1", within = "60s" }
restart   = "on-failure"
backoff   = { min = "30s", max = "30m", factor = 2.0, jitter = 0.2, reset_after = "15m" }
budget    = "sixxs"
fatal     = { output = ["not enabled", "Login failed", "No such tunnel"] }
[tunnel.sixxs1]
kind      = "exec"
start     = ["aiccu", "start", "/etc/aiccu/tunnel1.conf"]
stop      = ["aiccu", "stop",  "/etc/aiccu/tunnel1.conf"]
type      = "forking"
pidfile   = "/run/aiccu-tunnel1.pid"
ready     = { interface = "sixxs1", address = "2a02::2", within = "60s" }
budget    = "sixxs"        # one account, one budget

[budget.sixxs]
limit    = { connects = 4, within = "60s" }
penalty  = "5m"
lockout  = { breaches = 2, within = "24h", for = "7d" }
reserve  = 1
margin   = "5s"
"#;

/// A gateway with two IPv4 providers.
const PROVIDERS: &str = r#"
[routing]
mark_mask = "0x7f000000"
rp_filter = "advise"

[uplink.fibre]
interface = "wan1"
gateway4  = "198.51.100.1"
source    = ["198.51.100.2"]
weight = 3
[uplink.fibre.track]
targets  = ["9.9.9.9", "1.1.1.1", "198.51.100.1"]
quorum   = 2
interval = "1s"
loss     = { warn = 10, down = 20 }
latency  = { warn = "200ms", down = "500ms" }
window   = "60s"

[uplink.lte]
interface = "wwan0"
gateway4  = "dhcp"
source    = "auto"
metered   = true

[policy.default]
members = [ { uplink = "fibre", tier = 1 }, { uplink = "lte", tier = 2 } ]
sticky        = "connection"
on_failover   = { purge = "uplink" }
on_failback   = { purge = "uplink", after = "2m" }
last_resort   = "unreachable"

[[rule]]
name = "mail-by-fibre"
ipproto = "tcp"
dport = 25
lookup = "fibre"
[[rule]]
name = "backup-user"
uid = "backup"
lookup = "lte"
[[rule]]
name = "guests"
iif = "lan2"
from = "192.168.20.0/24"
policy = "default"
[[rule]]
name = "no-bulk-on-lte"
fwmark = "0x5/0xf"
when = { fibre = "down" }
action = "prohibit"
"#;

fn addr(text: &str) -> Addr {
    text.parse().unwrap()
}

fn prefix(text: &str) -> Prefix {
    text.parse().unwrap()
}

fn table(name: &str, id: u32) -> Option<Table> {
    Some(Table { name: name.into(), id: TableId(id) })
}

#[test]
fn two_tunnels_of_one_provider() {
    let config = good(TUNNELS);
    let spec = config.routing();
    assert_eq!(spec.settings, Settings::default());
    let names: Vec<&str> = spec.uplinks.iter().map(|uplink| &*uplink.name).collect();
    assert_eq!(names, ["net0", "sixxs0", "sixxs1"]);
    let net0 = spec.uplink("net0").unwrap();
    assert_eq!((&net0.table, &net0.source, &net0.track), (&None, &Sources::Fixed(vec![prefix("2001::1")]), &None));
    let sixxs0 = spec.uplink("sixxs0").unwrap();
    assert_eq!((sixxs0.interface.as_str(), &sixxs0.table), ("sixxs0", &table("sixxs0", 200)));
    assert_eq!((sixxs0.gateway4, sixxs0.gateway6), (Gateway::Unused, Gateway::None));
    assert_eq!((sixxs0.on_down, sixxs0.guard, sixxs0.tunnel.as_deref()), (OnDown::Unreachable, Guard::Count, Some("sixxs0")));
    let track = Track {
        targets: vec![addr("2001:db8:1::1"), addr("2606:4700:4700::1111")],
        interval: Span::secs(10),
        timeout: Span::secs(2),
        down: 3,
        up: 3,
        quorum: 1,
        loss: None,
        latency: None,
        window: Span::secs(60),
    };
    assert_eq!(sixxs0.track, Some(track));
    let sixxs1 = spec.uplink("sixxs1").unwrap();
    assert_eq!((&sixxs1.table, sixxs1.on_down, sixxs1.guard, sixxs1.weight), (&table("sixxs1", 201), OnDown::Unreachable, Guard::Count, 1));
}

#[test]
fn their_clients_and_the_budget_they_share() {
    let config = good(TUNNELS);
    let words = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>();
    let tunnel = &config.tunnels()["sixxs0"];
    assert!(tunnel.enabled && tunnel.underlay.is_none());
    assert_eq!(tunnel.ready, Ready { interface: "sixxs0".into(), address: Some(prefix("2a02::1")), within: Span::secs(60) });
    let backoff = Backoff { min: Span::secs(30), max: Span::secs(1800), factor: 200, jitter: 20, reset_after: Span::secs(900) };
    // The second one's is not written.
    assert_eq!((tunnel.backoff, config.tunnels()["sixxs1"].backoff), (backoff, backoff));
    let TunnelKind::Exec(exec) = &tunnel.kind else { panic!("{tunnel:?}") };
    assert_eq!(exec.start, words(&["aiccu", "start", "/etc/aiccu/tunnel0.conf"]));
    assert_eq!(exec.stop, Some(words(&["aiccu", "stop", "/etc/aiccu/tunnel0.conf"])));
    assert_eq!((exec.pidfile.as_deref(), exec.restart), (Some("/run/aiccu-tunnel0.pid"), Restart::OnFailure));
    assert_eq!((exec.budget.as_deref(), exec.cost, exec.stop_cost, exec.restart_on_probe), (Some("sixxs"), 1, 0, false));
    assert_eq!((&exec.fatal, exec.min_uptime), (&words(&["not enabled", "Login failed", "No such tunnel"]), Span::secs(10)));
    let budget = Budget {
        name: "sixxs".into(),
        connects: 4,
        within: Span::secs(60),
        penalty: Span::secs(300),
        breaches: 2,
        breach_within: days(1),
        lockout: days(7),
        reserve: 1,
        margin: Span::secs(5),
    };
    assert_eq!(config.budgets()["sixxs"], budget);
    // What the provider is known for need not be written, but for its limit.
    assert_eq!(good("[budget.sixxs]\nlimit = { connects = 4, within = 60 }\n").budgets()["sixxs"], budget);
}

#[test]
fn two_providers_one_better() {
    let config = good(PROVIDERS);
    let spec = config.routing();
    assert_eq!((spec.settings.mark_mask, spec.settings.rp_filter), (Mask(0x7f00_0000), RpFilter::Advise));
    let (fibre, lte) = (spec.uplink("fibre").unwrap(), spec.uplink("lte").unwrap());
    assert_eq!((fibre.gateway4, fibre.gateway6), (Gateway::Addr(addr("198.51.100.1")), Gateway::Unused));
    // Only IPv4 was spoken of: IPv6 stays where it is.
    assert_eq!((lte.gateway4, lte.gateway6, &lte.source), (Gateway::Dhcp, Gateway::Unused, &Sources::Auto));
    assert_eq!((fibre.weight, fibre.metered, lte.weight, lte.metered), (3, false, 1, true));
    let track = fibre.track.as_ref().unwrap();
    assert_eq!((track.quorum, track.interval, track.window), (2, Span::secs(1), Span::secs(60)));
    assert_eq!((track.loss, track.latency), (Some((10, 20)), Some((Span::millis(200), Span::millis(500)))));
    // Numbers are chosen, and the names are those of the uplinks and `policy.NAME`.
    let ours: Vec<&Table> = spec.tables().collect();
    assert_eq!(ours.iter().map(|table| &*table.name).collect::<Vec<_>>(), ["fibre", "lte", "policy.default"]);
    assert!(ours.iter().all(|table| (20_000..30_000).contains(&table.id.0)));
    let policy = spec.policy("default").unwrap();
    let member = |uplink: &str, tier, weight| Member { uplink: uplink.into(), tier, weight };
    assert_eq!(policy.members, [member("fibre", 1, 3), member("lte", 2, 1)]);
    assert_eq!((policy.sticky, policy.on_failover, policy.on_failback), (Sticky::Connection, Purge::Uplink, Purge::Uplink));
    assert_eq!((policy.failback_after, policy.last_resort), (Span::secs(120), LastResort::Unreachable));
    assert_eq!(
        good("[uplink.a]\ninterface = \"a\"\nsource = \"auto\"\n[policy.default]\nmembers = [{ uplink = \"a\" }]\n").routing().policies[0],
        {
            let mut plain = policy.clone();
            plain.members = vec![member("a", 1, 1)];
            plain
        }
    );
}

#[test]
fn rules_of_ones_own() {
    let config = good(PROVIDERS);
    let [mail, backup, guests, bulk] = config.routing().rules.as_slice() else { panic!() };
    assert_eq!(
        (mail.name.as_deref(), mail.families, &mail.action),
        (Some("mail-by-fibre"), Families::Both, &FreeAction::Uplink("fibre".into()))
    );
    assert_eq!((mail.selector.ipproto, mail.selector.dport, mail.selector.from), (Some(6), Some((25, 25)), None));
    assert_eq!((backup.user.as_deref(), backup.selector.uid, &backup.action), (Some("backup"), None, &FreeAction::Uplink("lte".into())));
    assert_eq!((guests.families, guests.selector.from), (Families::Only(Family::V4), Some(prefix("192.168.20.0/24"))));
    assert_eq!((guests.selector.iif.as_deref(), &guests.action), (Some("lan2"), &FreeAction::Policy("default".into())));
    assert_eq!((bulk.selector.fwmark, &bulk.action), (Some((Mark(5), Mask(15))), &FreeAction::Prohibit));
    assert_eq!(bulk.when, [("fibre".into(), Condition::Down)]);
    assert!(config.routing().rules.iter().all(|rule| rule.priority.is_none()));
}

#[test]
fn a_users_number_is_filled_in_later() {
    let mut spec = good(PROVIDERS).routing().clone();
    assert_eq!(spec.resolve_users(|_| None).into_iter().collect::<Vec<_>>(), ["backup"]);
    assert!(spec.resolve_users(|name| (name == "backup").then_some(34)).is_empty());
    assert_eq!(spec.rules[1].selector.uid, Some((34, 34)));
}

/// Rules with an uplink `a` and a policy `p` to name.
fn ruled(rule: &str) -> String {
    let base = "[uplink.a]\ninterface = \"a0\"\nsource = \"auto\"\n[policy.p]\nmembers = [{ uplink = \"a\" }]\n";
    format!("{base}[[rule]]\n{rule}\n")
}

#[test]
fn the_words_of_ip_rule() {
    let one = |rule: &str| good(&ruled(rule)).routing().rules[0].clone();
    for (rule, text) in [
        ("from = \"2001:db8::/32\"\naction = \"prohibit\"", "from 2001:db8::/32"),
        ("not = true\nto = \"192.0.2.1\"\naction = \"nop\"", "not to 192.0.2.1"),
        ("oif = \"wan1\"\nl3mdev = true\naction = \"blackhole\"", "oif wan1 l3mdev"),
        ("fwmark = 7\nlookup = 100", "fwmark 0x7"),
        ("fwmark = \"0x10\"\nlookup = \"100\"", "fwmark 0x10"),
        ("uid = \"1000-1999\"\nlookup = \"main\"", "uidrange 1000-1999"),
        ("uid = 0\nlookup = \"default\"", "uidrange 0-0"),
        ("ipproto = 17\nsport = \"6000-6007\"\ndport = \"domain\"\nlookup = \"local\"", "ipproto udp sport 6000-6007 dport 53"),
        ("ipproto = \"ipv6-icmp\"\nfamily = \"ipv6\"\nlookup = \"a\"", "ipproto ipv6-icmp"),
        ("tos = 0x10\npolicy = \"p\"", "tos 0x10"),
        ("dscp = 46\ntun_id = 77\nlookup = \"policy.p\"", "dscp 46 tun_id 77"),
    ] {
        assert_eq!(one(rule).selector.to_string(), text, "{rule}");
    }
    let action = |rule: &str| one(rule).action;
    assert_eq!(action("lookup = \"a\""), FreeAction::Uplink("a".into()));
    assert_eq!(action("lookup = 4294967295"), FreeAction::Table(TableId(u32::MAX)));
    assert_eq!(action("lookup = \"main\""), FreeAction::Table(TableId::MAIN));
    assert_eq!(action("goto = 20000"), FreeAction::Goto(Priority(20_000)));
    assert_eq!(action("goto = 20000\naction = \"goto\""), FreeAction::Goto(Priority(20_000)));
    assert_eq!(action("action = \"unreachable\""), FreeAction::Unreachable);
    // What a VRF is bound to: the kernel wants no table there.
    assert_eq!(action("l3mdev = true"), FreeAction::Table(TableId(0)));
    let rule = one("lookup = 7\npriority = 300\nsuppress_prefixlength = 0\nsuppress_ifgroup = 3\nfamily = \"ipv4\"");
    assert_eq!((rule.priority, rule.suppress_prefixlength, rule.suppress_ifgroup), (Some(Priority(300)), Some(0), Some(3)));
    assert_eq!(rule.families, Families::Only(Family::V4));
    // Debian's mail server has a capital letter.
    assert_eq!(one("uid = \"Debian-exim\"\nlookup = \"a\"").user.as_deref(), Some("Debian-exim"));
}

#[test]
fn next_hops_are_of_the_families_that_have_sources() {
    let hops = |text: &str| {
        let config = good(&format!("[uplink.a]\ninterface = \"a0\"\n{text}\n"));
        let uplink = config.routing().uplinks[0].clone();
        (uplink.gateway4, uplink.gateway6)
    };
    let (v4, v6) = (Gateway::Addr(addr("192.0.2.1")), Gateway::Addr(addr("fe80::1")));
    let both = "source = [\"192.0.2.7\", \"2001:db8::7\"]";
    let cases = [
        ("source = \"auto\"".to_owned(), (Gateway::Dhcp, Gateway::Ra)),
        ("source = \"auto\"\ngateway = \"none\"".to_owned(), (Gateway::None, Gateway::None)),
        ("source = \"auto\"\ngateway = \"dhcp\"".to_owned(), (Gateway::Dhcp, Gateway::Unused)),
        ("source = \"auto\"\ngateway = \"ra\"".to_owned(), (Gateway::Unused, Gateway::Ra)),
        ("source = \"auto\"\ngateway4 = \"192.0.2.1\"".to_owned(), (v4, Gateway::Unused)),
        ("source = \"auto\"\ngateway = \"fe80::1\"\ngateway4 = \"dhcp\"".to_owned(), (Gateway::Dhcp, v6)),
        (both.to_owned(), (Gateway::None, Gateway::None)),
        (format!("{both}\ngateway4 = \"192.0.2.1\""), (v4, Gateway::None)),
        (format!("{both}\ngateway = \"192.0.2.1\"\ngateway6 = \"ra\""), (v4, Gateway::Ra)),
        ("source = [\"192.0.2.7\"]\ngateway = \"192.0.2.1\"".to_owned(), (v4, Gateway::Unused)),
        ("source = [\"192.0.2.7\"]\nsubnets = [\"2001:db8:7::/48\"]\ngateway = \"none\"".to_owned(), (Gateway::None, Gateway::None)),
    ];
    for (text, wanted) in cases {
        assert_eq!(hops(&text), wanted, "{text}");
    }
}

#[test]
fn a_tables_number_stays_when_others_come_and_go() {
    let uplink = |name: &str, rest: &str| format!("[uplink.{name}]\ninterface = \"{name}\"\nsource = \"auto\"\n{rest}\n");
    let tables = |text: &str| good(text).routing().tables().cloned().collect::<Vec<_>>();
    let all = tables(&["a", "fibre", "lte"].map(|name| uplink(name, "")).concat());
    assert_eq!(tables(&uplink("fibre", "")), all[1..2]);
    // FNV-1a of "a" is 0xe40c292c (its authors' test vectors): 3826002220 modulo 10000, from 20000.
    assert_eq!(all[0].id, TableId(22_220));
    // Somebody's number is never chosen for another.
    let with = tables(&(uplink("a", "") + &uplink("z", "table = 22220")));
    assert_eq!(with.iter().map(|table| (&*table.name, table.id.0)).collect::<Vec<_>>(), [("a", 22_221), ("z", 22_220)]);
    for (typed, wanted) in [
        ("table = 77", table("a", 77)),
        ("table = \"77\"", table("a", 77)),
        ("table = { id = 77 }", table("a", 77)),
        ("table = { name = \"x.y\", id = 77 }", table("x.y", 77)),
        ("table = \"main\"", None),
    ] {
        assert_eq!(good(&uplink("a", typed)).routing().uplinks[0].table, wanted, "{typed}");
    }
    assert_eq!(tables(&uplink("b", "table = \"a\""))[0].id, TableId(22_220));
}

#[test]
fn tunnels_of_our_own_making() {
    let config = good(
        "[tunnel.he]\nkind = \"sit\"\nremote = \"192.0.2.1\"\naddresses = [\"2001:db8::2/64\", \"2001:db8:7::1\"]\nupdate = [\"curl\", \"{local}\"]\n\
         [tunnel.g]\nkind = \"gre\"\ninterface = \"gre1\"\nlocal = \"198.51.100.2\"\nremote = \"192.0.2.1\"\nttl = 9\nmtu = 1400\n\
         [tunnel.wg0]\nkind = \"wireguard\"\nenabled = false\nready = { within = 5 }\n",
    );
    let (TunnelKind::Link(he), TunnelKind::Link(gre)) = (&config.tunnels()["he"].kind, &config.tunnels()["g"].kind) else { panic!() };
    assert_eq!((he.kind, he.interface.as_str(), he.local, he.ttl, he.mtu), (LinkKind::Sit, "he", None, 64, 1480));
    assert_eq!(he.addresses, [(addr("2001:db8::2"), 64), (addr("2001:db8:7::1"), 128)]);
    assert_eq!((gre.kind, gre.local, gre.ttl, gre.mtu), (LinkKind::Gre, Some(addr("198.51.100.2")), 9, 1400));
    assert_eq!(config.tunnels()["g"].ready.interface, "gre1");
    let wireguard = &config.tunnels()["wg0"];
    let TunnelKind::Wireguard(watched) = &wireguard.kind else { panic!() };
    assert_eq!((watched.interface.as_str(), watched.handshake), ("wg0", Span::secs(180)));
    assert_eq!((wireguard.enabled, wireguard.ready.within), (false, Span::secs(5)));
}

#[test]
fn later_files_win_and_their_rules_come_behind() {
    let config = read_all(&[
        "[uplink.a]\ninterface = \"a0\"\nsource = \"auto\"\n[uplink.a.track]\ntargets = [\"192.0.2.1\"]\nup = 5\n[[rule]]\nname = \"first\"\naction = \"nop\"\n",
        "[uplink.a]\ninterface = \"a1\"\n[uplink.a.track]\nup = 7\n[[rule]]\nname = \"second\"\nlookup = \"a\"\n[routing]\nprotocol = 81\n",
        "[routing]\npriority_base = 5000\n[tunnel.t]\nkind = \"exec\"\n",
        "[tunnel.t]\nstart = [\"x\"]\n",
    ])
    .unwrap();
    let spec = config.routing();
    assert_eq!((spec.settings.protocol, spec.settings.priority_base), (Protocol(81), Priority(5000)));
    assert_eq!((spec.uplinks[0].interface.as_str(), &spec.uplinks[0].source), ("a1", &Sources::Auto));
    let track = spec.uplinks[0].track.as_ref().unwrap();
    assert_eq!((track.up, &track.targets), (7, &vec![addr("192.0.2.1")]));
    assert_eq!(spec.rules.iter().map(|rule| rule.name.as_deref().unwrap()).collect::<Vec<_>>(), ["first", "second"]);
    assert_eq!(config.tunnels()["t"].ready.interface, "t");
}

/// Each is one mistake: where it is told, and with what words.
#[test]
fn what_does_not_go_together_is_told_in_its_place() {
    let uplink = |name: &str, rest: &str| format!("[uplink.{name}]\ninterface = \"{name}0\"\nsource = \"auto\"\n{rest}\n");
    let exec = |rest: &str| format!("[tunnel.t]\nkind = \"exec\"\nstart = [\"x\"]\n{rest}\n");
    let sit = |rest: &str| format!("[tunnel.t]\nkind = \"sit\"\n{rest}\n");
    let fixed = |name: &str, source: &str, rest: &str| format!("[uplink.{name}]\ninterface = \"{name}0\"\nsource = [{source}]\n{rest}\n");
    let cases: Vec<(String, &str, &[&str])> = vec![
        // Keys and words.
        ("[uplnk.a]\n".into(), "1:2", &["unknown table [uplnk]", "did you mean [uplink]?"]),
        (uplink("a", "gatway = \"none\""), "4:1", &["`gatway`", "did you mean `gateway`?"]),
        (uplink("a", "on_down = \"unreachble\""), "4:11", &["did you mean `unreachable`?"]),
        (uplink("a", "quorum = 2"), "4:1", &["unknown key `quorum`"]),
        (ruled("lokup = \"a\""), "7:1", &["`lokup`", "did you mean `lookup`?"]),
        ("rule = 1\n".into(), "1:8", &["[[rule]]"]),
        ("[uplink.a.b]\nc = 1\n[[policy]]\n".into(), "1:11", &["unknown key `b`"]),
        ("[uplink.A]\ninterface = \"a\"\n".into(), "1:9", &["did you mean `a`?"]),
        ("[uplink.200]\ninterface = \"a\"\n".into(), "1:9", &["`200` cannot be"]),
        (uplink("main", ""), "1:9", &["`main`"]),
        // [routing].
        ("[routing]\nmark_mask = \"0x5\"\n".into(), "2:13", &["0x5"]),
        ("[routing]\nmark_mask = \"0x1000\"\n".into(), "2:13", &["0x1000"]),
        ("[routing]\nmark_mask = 0\n".into(), "2:13", &["0x0"]),
        ("[routing]\nmark_mask = \"0xfffffffff\"\n".into(), "2:13", &["0xfffffffff"]),
        ("[routing]\npriority_base = 0\n".into(), "2:17", &["must be 1 to"]),
        ("[routing]\npriority_base = 32000\n".into(), "2:17", &["32766"]),
        ("[routing]\nprotocol = 4\n".into(), "2:12", &["must be 5 to 255"]),
        ("[routing]\nprotocol = 16\n".into(), "2:12", &["16", "dhcp"]),
        // Uplinks.
        ("[uplink.a]\nsource = \"auto\"\n".into(), "1:9", &["`a` has no interface"]),
        ("[uplink.a]\ninterface = \"a0\"\n".into(), "1:9", &["`a` has no source"]),
        (fixed("a", "", ""), "3:10", &["`a`", "sources"]),
        ("[uplink.a]\ninterface = \"sixteen_bytes_xx\"\nsource = \"auto\"\n".into(), "2:13", &["1 to 15"]),
        ("[uplink.a]\ninterface = \"a/b\"\nsource = \"auto\"\n".into(), "2:13", &["`a/b`"]),
        (fixed("a", "\"0.0.0.0/0\"", ""), "3:11", &["`0.0.0.0/0`"]),
        (fixed("a", "\"127.0.0.1\"", ""), "3:11", &["`127.0.0.1`"]),
        (fixed("a", "\"ff02::1\"", ""), "3:11", &["`ff02::1`"]),
        (fixed("a", "\"192.0.2.256\"", ""), "3:11", &["192.0.2.256"]),
        (fixed("a", "\"192.0.2.1\"", "gateway4 = \"fe80::1\""), "4:12", &["fe80::1"]),
        (fixed("a", "\"192.0.2.1\"", "gateway6 = \"fe80::1\""), "4:12", &["IPv6", "no source"]),
        (fixed("a", "\"2001:db8::1\"", "gateway = \"dhcp\""), "4:11", &["IPv4", "no source"]),
        (uplink("a", "gateway4 = \"ra\""), "4:12", &["`ra`"]),
        (uplink("a", "gateway6 = \"dhcp\""), "4:12", &["`dhcp`"]),
        (uplink("a", "table = 254"), "4:9", &["254"]),
        (uplink("a", "table = \"local\""), "4:9", &["local"]),
        (uplink("a", "table = { id = 0 }"), "4:16", &["must be 1 to"]),
        (uplink("a", "table = { nme = \"x\" }"), "4:11", &["did you mean `name`?"]),
        (uplink("a", "table = 7") + &uplink("b", "table = 7"), "8:9", &["`a`", "`b`", "7"]),
        (uplink("a", "table = \"x\"") + &uplink("b", "table = \"x\""), "8:9", &["`a`", "`b`", "`x`"]),
        (fixed("a", "\"2001:db8::/32\"", "") + &fixed("b", "\"2001:db8::1\"", ""), "7:10", &["`a` and `b` both claim 2001:db8::1"]),
        (fixed("a", "\"192.0.2.1\"", "") + &fixed("b", "\"192.0.2.1\"", ""), "7:10", &["`a` and `b` both claim 192.0.2.1"]),
        (uplink("a", "tunnel = \"t\""), "4:10", &["no [tunnel.t]"]),
        (uplink("a", "tunnel = \"tt\"") + &exec(""), "4:10", &["no [tunnel.tt]"]),
        (uplink("a", "track = { up = 1 }"), "4:", &["`a`", "targets"]),
        (fixed("a", "\"192.0.2.1\"", "track = { targets = [\"::1\"] }"), "4:", &["::1"]),
        (uplink("a", "track = { targets = [\"192.0.2.1\"], quorum = 2 }"), "4:", &["`quorum`", "2"]),
        (uplink("a", "track = { targets = [\"192.0.2.1\"], loss = { warn = 30, down = 20 } }"), "4:", &["`loss`"]),
        // Policies.
        ("[policy.p]\nsticky = \"source\"\n".into(), "1:9", &["`p` has no members"]),
        (uplink("a", "") + "[policy.p]\nmembers = [{ uplink = \"aa\" }]\n", "6:12", &["no [uplink.aa]"]),
        (uplink("a", "") + "[policy.p]\nmembers = [{ uplink = \"a\" }, { uplink = \"a\" }]\n", "6:30", &["`a`", "twice"]),
        (uplink("fibre", "tunnel = \"sixs0\"") + &exec("").replace("tunnel.t", "tunnel.sixxs0"), "4:10", &["did you mean `sixxs0`?"]),
        (uplink("fibre", "") + "[policy.p]\nmembers = [{ uplink = \"fiber\" }]\n", "6:12", &["no [uplink.fiber]", "did you mean `fibre`?"]),
        (uplink("a", "") + "[policy.p]\nmembers = [{ tier = 1 }]\n", "6:12", &["uplink"]),
        (
            uplink("a", "") + "[policy.p]\nmembers = [{ uplink = \"a\" }]\non_failover = { purge = \"all\" }\n",
            "7:25",
            &["`all`", "none, uplink"],
        ),
        // Rules.
        (ruled("dport = 25"), "6:", &["does nothing"]),
        (ruled("lookup = \"b\""), "7:10", &["`b`", "table"]),
        (ruled("lookup = \"a\"\npolicy = \"p\""), "8:10", &["one of `lookup`, `policy` and `action`"]),
        (ruled("lookup = \"a\"\ngoto = 9000"), "8:8", &["`goto`"]),
        (ruled("policy = \"q\""), "7:10", &["no [policy.q]"]),
        (ruled("action = \"goto\""), "6:", &["`goto = "]),
        (ruled("action = \"reject\""), "7:10", &["`reject` is not a word for `action`"]),
        (ruled("action = \"nop\"\nwhen = { b = \"up\" }"), "8:10", &["no [uplink.b]"]),
        (ruled("action = \"nop\"\nwhen = { a = \"dwn\" }"), "8:14", &["did you mean `down`?"]),
        (ruled("from = \"192.0.2.1\"\nto = \"2001:db8::1\"\nlookup = \"a\""), "6:", &["famil"]),
        (ruled("from = \"192.0.2.1\"\nfamily = \"ipv6\"\nlookup = \"a\""), "8:10", &["ipv6"]),
        (ruled("not = true\nlookup = \"a\""), "6:", &["`not`"]),
        (ruled("fwmark = \"0x15/0xf\"\nlookup = \"a\""), "7:10", &["0xf"]),
        (ruled("dport = \"xmpp\"\nlookup = \"a\""), "7:9", &["`xmpp`"]),
        (ruled("dport = \"7-5\"\nlookup = \"a\""), "7:9", &["`7-5`"]),
        (ruled("dport = \"+5-7\"\nlookup = \"a\""), "7:9", &["`+5-7`"]),
        (ruled("ipproto = \"tpc\"\nlookup = \"a\""), "7:11", &["did you mean `tcp`?"]),
        (ruled("uid = \"4294967295\"\nlookup = \"a\""), "7:7", &["4294967295"]),
        (ruled("uid = \"a b\"\nlookup = \"a\""), "7:7", &["`a b`"]),
        (ruled("tos = 3\nlookup = \"a\""), "7:7", &["tos"]),
        (ruled("tos = 4\ndscp = 1\nlookup = \"a\""), "6:", &["`tos`", "`dscp`"]),
        (ruled("l3mdev = true\nlookup = \"a\""), "6:", &["`l3mdev`"]),
        (ruled("action = \"nop\"\nsuppress_prefixlength = 0"), "8:", &["`suppress_prefixlength`"]),
        (ruled("goto = 4000"), "7:8", &["`goto`", "4999"]),
        (ruled("priority = 9000\ngoto = 9000"), "8:8", &["`goto`", "9000"]),
        (ruled("priority = 4500\nlookup = \"a\""), "7:12", &["4500", "4000 to 4999"]),
        (ruled("priority = 300\naction = \"nop\"\n[[rule]]\npriority = 300\naction = \"nop\""), "10:12", &["300"]),
        (ruled("priority = 300\naction = \"nop\"\n[[rule]]\npriority = 301\nlookup = \"a\""), "10:12", &["300"]),
        // Tunnels and budgets.
        ("[tunnel.t]\nenabled = true\n".into(), "1:9", &["`t` has no kind"]),
        ("[tunnel.t]\nkind = \"exec\"\n".into(), "1:9", &["nothing to start"]),
        ("[tunnel.t]\nkind = \"exec\"\nstart = [\"./x\"]\n".into(), "3:", &["`./x`"]),
        (exec("type = \"forking\""), "4:8", &["pidfile"]),
        (exec("type = \"simple\"\npidfile = \"/run/t.pid\""), "5:11", &["pidfile"]),
        (exec("ttl = 64"), "4:1", &["`ttl`", "exec"]),
        (exec("budget = \"b\""), "4:10", &["no [budget.b]"]),
        (exec("underlay = \"b\""), "4:12", &["no [uplink.b]"]),
        (exec("underlay = \"a\"") + &uplink("a", "tunnel = \"t\""), "4:12", &["`t`", "itself"]),
        (exec("budget = \"b\"\ncost = 4") + "[budget.b]\nlimit = { connects = 4, within = 60 }\n", "5:8", &["4", "3"]),
        (exec("backoff = { min = \"2h\", max = \"1h\" }"), "4:11", &["2h", "1h"]),
        ("[tunnel.a-name-too-long-for-it]\nkind = \"exec\"\nstart = [\"x\"]\n".into(), "1:9", &["interface"]),
        (sit(""), "1:9", &["no far end"]),
        (sit("remote = \"2001:db8::1\""), "3:10", &["IPv4"]),
        (sit("remote = \"192.0.2.1\"\nlocal = \"::1\""), "4:9", &["IPv4"]),
        (sit("remote = \"192.0.2.1\"\nmtu = 1000"), "4:7", &["1280"]),
        ("[budget.b]\nreserve = 1\n".into(), "1:9", &["no limit"]),
        ("[budget.b]\nlimit = { connects = 4, within = 60 }\nreserve = 4\n".into(), "3:11", &["4"]),
    ];
    let mut wrong = Vec::new();
    for (text, place, words) in cases {
        let told = read(&text).map_or_else(|_| told(&text), |_| Vec::new());
        let first = told.first().is_some_and(|first| first.starts_with(place) && words.iter().all(|word| first.contains(word)));
        if !first || (told.len() > 1 && !text.contains("[[policy]]")) {
            wrong.push(format!("{text}\n{place} {words:?}\n{told:#?}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n\n"));
}

#[test]
fn too_many_are_told() {
    let uplinks = |count: usize, rest: &str| {
        (0..count).map(|n| format!("[uplink.u{n}]\ninterface = \"i{n}\"\nsource = \"auto\"\n{rest}\n")).collect::<String>()
    };
    let rules = |count: usize| "[[rule]]\naction = \"nop\"\n".repeat(count);
    for text in [uplinks(4097, ""), rules(4097)] {
        assert!(matches!(read(&text).unwrap_err().errors[0].problem, Problem::TooLarge(_)));
    }
    let errors = read_all(&[&rules(3000), &rules(3000)]).unwrap_err();
    assert!(matches!(errors.errors[0].problem, Problem::TooLarge(_)), "{errors}");
    // Of two bits one is for connections: one uplink can be tracked.
    let mask = "[routing]\nmark_mask = \"0x3\"\n";
    let tracked = "track = { targets = [\"192.0.2.1\"] }";
    good(&format!("{mask}{}", uplinks(1, tracked)));
    let told = told(&format!("{mask}{}", uplinks(2, tracked)));
    assert!(told[0].contains("`mark_mask`") && told.len() == 1, "{told:?}");
    // A wide source that many share a part of is not compared with each of them.
    let sources: String = (0..2000)
        .map(|n| {
            format!(
                "[uplink.u{n}]\ninterface = \"i\"\nsource = [{}]\n",
                (0..64).map(|m| format!("\"10.{}.{}.{m}\"", n / 250, n % 250)).collect::<Vec<_>>().join(",")
            )
        })
        .collect();
    good(&format!("[routing]\npriority_range = 20000\n{sources}"));
}

#[test]
fn what_is_applied_reads_back_without_its_tunnels() {
    for text in [TUNNELS, PROVIDERS] {
        let config = good(text);
        let shown = show_routing(&config);
        assert!(!shown.contains("[tunnel") && !shown.contains("[jail"), "{shown}");
        assert_eq!(&Config::read_routing(&shown, "applied.toml").unwrap(), config.routing(), "{shown}");
    }
    assert_eq!(Config::read_routing(&show_routing(&Config::builtin()), "applied.toml").unwrap(), Spec::default());
    let errors = Config::read_routing("[uplink.a]\n", "applied.toml").unwrap_err();
    assert!(errors.to_string().starts_with("applied.toml:1:9: "), "{errors}");
}

fn list_of(texts: &[String]) -> String {
    texts.iter().map(|text| toml::Value::String(text.clone()).to_string()).collect::<Vec<_>>().join(", ")
}

/// Random uplinks, rules, policies, tunnels and budgets that go together.
pub(super) fn routing_text() -> impl Strategy<Value = String> {
    let pick = |words: &'static [&'static str]| prop::sample::select(words);
    let uplink = (
        prop::sample::select(&["", "table = 77\n", "table = \"own.x\"\n", "table = { id = 1234567 }\n"][..]),
        pick(&["unreachable", "fallthrough"]),
        pick(&["off", "count", "drop"]),
        (1u32..=256, any::<bool>(), 1u64..3_000_000, prop::option::of((1u8..50, 50u8..=100))),
        pick(&["", "gateway = \"none\"\n", "gateway4 = \"192.0.2.254\"\n", "gateway6 = \"ra\"\n"]),
    )
        .prop_map(|(table, on_down, guard, (weight, metered, interval, loss), gateway)| {
            let interval = Span::millis(100 + interval);
            let loss = loss.map_or(String::new(), |(warn, down)| format!("loss = {{ warn = {warn}, down = {down} }}\nlatency = {{ warn = 1, down = 2 }}\n"));
            format!(
                "[uplink.\"a.b\"]\ninterface = \"wan.1\"\nsource = [\"192.0.2.1\", \"2001:db8::/64\"]\nsubnets = [\"2001:db8:1::/48\"]\n{table}{gateway}\
                 on_down = \"{on_down}\"\nguard = \"{guard}\"\nweight = {weight}\nmetered = {metered}\ntunnel = \"t.1\"\n\
                 [uplink.\"a.b\".track]\ntargets = [\"192.0.2.9\", \"2001:db8::9\"]\ninterval = \"{interval}\"\nquorum = 2\n{loss}\
                 [uplink.plain]\ninterface = \"plain\"\ntable = \"main\"\nsource = \"auto\"\n[uplink.auto]\ninterface = \"auto\"\nsource = \"auto\"\n"
            )
        });
    let selector = prop::collection::vec(
        pick(&[
            "not = true",
            "from = \"192.0.2.0/24\"",
            "to = \"198.51.100.7\"",
            "iif = \"lo\"",
            "oif = \"wan.1\"",
            "fwmark = \"0x5/0xf\"",
            "uid = \"1000-1999\"",
            "ipproto = \"gre\"",
            "sport = \"1-65535\"",
            "dport = 53",
            "dscp = 46",
            "tun_id = 9",
            "when = { \"a.b\" = \"down\", auto = \"up\" }",
            "family = \"ipv4\"",
        ]),
        1..6,
    );
    let action = pick(&[
        "lookup = \"a.b\"",
        "lookup = 9999",
        "lookup = \"main\"\nsuppress_prefixlength = 3",
        "policy = \"default\"",
        "action = \"nop\"",
        "goto = 20000",
        "action = \"blackhole\"",
        "lookup = \"auto\"",
    ]);
    let rules = prop::collection::vec((selector, action, "[^\\p{C}]{1,9}", any::<bool>()), 0..5).prop_map(|rules| {
        let mut out = String::new();
        for (n, (selector, action, name, placed)) in rules.into_iter().enumerate() {
            let own: BTreeSet<&str> = selector.into_iter().chain(["iif = \"x\""]).collect();
            // One `iif` is enough.
            let own: Vec<&str> = own.iter().copied().filter(|key| *key != "iif = \"lo\"").collect();
            let priority = if placed { format!("priority = {}\n", 100 + 2 * n) } else { String::new() };
            out += &format!("[[rule]]\nname = {}\n{}\n{action}\n{priority}", list_of(&[name]), own.join("\n"));
        }
        out
    });
    let policy = (pick(&["connection", "source"]), pick(&["none", "uplink"]), pick(&["unreachable", "main"]), 0u64..90_000_000, 1u32..=256).prop_map(
        |(sticky, purge, last, after, weight)| {
            format!(
                "[policy.default]\nmembers = [{{ uplink = \"a.b\", tier = 2 }}, {{ uplink = \"auto\", weight = {weight} }}]\nsticky = \"{sticky}\"\n\
                 on_failover = {{ purge = \"{purge}\" }}\non_failback = {{ purge = \"{purge}\", after = \"{}\" }}\nlast_resort = \"{last}\"\n",
                Span::millis(after.min(86_400_000))
            )
        },
    );
    let words = prop::collection::vec("[^\\p{C}/]{1,9}", 1..4);
    let tunnel = (words, pick(&["no", "on-failure", "always"]), 100u32..900, 0u32..=100, any::<bool>(), 1u32..4).prop_map(
        |(words, restart, factor, jitter, probe, cost)| {
            let start = list_of(&words);
            let (factor, jitter) = (f64::from(factor) / 100.0, f64::from(jitter) / 100.0);
            format!(
                "[tunnel.\"t.1\"]\nkind = \"exec\"\nstart = [{start}]\nstop = [{start}]\nrestart = \"{restart}\"\nrestart_on_probe = {probe}\nbudget = \"b\"\n\
                 cost = {cost}\nfatal = {{ output = [\"x\\\"y\"] }}\nbackoff = {{ factor = {factor}, jitter = {jitter} }}\nready = {{ address = \"2001:db8::1\" }}\nunderlay = \"auto\"\n\
                 [tunnel.six]\nkind = \"sit\"\nremote = \"192.0.2.77\"\naddresses = [\"2001:db8::2/64\"]\nupdate = [{start}]\nbudget = \"b\"\n\
                 [tunnel.wg]\nkind = \"wireguard\"\nhandshake = {factor:.0}\nenabled = {probe}\n\
                 [budget.b]\nlimit = {{ connects = 4, within = {} }}\nreserve = 1\n",
                cost * 30
            )
        },
    );
    let settings = (1u32..3000, 600u32..9000, 20u8..40, pick(&["advise", "set"]), 0u32..20).prop_map(|(base, range, protocol, rp, shift)| {
        let base = base + 1000;
        format!("[routing]\npriority_base = {base}\npriority_range = {range}\nprotocol = {protocol}\nrp_filter = \"{rp}\"\nmark_mask = \"{:#x}\"\ntable_names = false\ncontrol_peers = [\"192.0.2.3\"]\n", 0xff_u32 << shift)
    });
    (settings, uplink, rules, policy, tunnel)
        .prop_map(|(settings, uplink, rules, policy, tunnel)| format!("{settings}{uplink}{rules}{policy}{tunnel}"))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn all_of_routing_reads_back(text in routing_text()) {
        let config = good(&text);
        let shown = show(&config);
        let again = read(&shown).map_err(|e| TestCaseError::fail(format!("{e}\n{shown}")))?;
        prop_assert_eq!(&again, &config, "{}", shown);
        prop_assert_eq!(show(&again), shown);
        prop_assert_eq!(&Config::read_routing(&show_routing(&config), "applied.toml").unwrap(), config.routing());
    }

    #[test]
    fn any_value_of_any_key_is_read_or_refused(parts in prop::collection::vec(prop::sample::select(vec![
        "[routing]\n", "[uplink.a]\n", "[uplink.b.track]\n", "[[rule]]\n", "[policy.default]\n", "[tunnel.t]\n", "[budget.b]\n", "interface = ", "table = ",
        "source = ", "subnets = ", "gateway = ", "gateway4 = ", "targets = ", "quorum = ", "loss = ", "latency = ", "members = ", "on_failback = ",
        "lookup = ", "policy = ", "goto = ", "action = ", "when = ", "fwmark = ", "uid = ", "dport = ", "tos = ", "dscp = ", "tun_id = ", "priority = ",
        "suppress_prefixlength = ", "kind = ", "start = ", "pidfile = ", "ready = ", "backoff = ", "fatal = ", "remote = ", "addresses = ", "ttl = ",
        "limit = ", "lockout = ", "reserve = ", "mark_mask = ", "priority_base = ", "priority_range = ", "tunnel = ", "budget = ", "underlay = ", "weight = ",
        "\"auto\"\n", "\"a\"\n", "\"b\"\n", "\"t\"\n", "\"\"\n", "\"main\"\n", "\"exec\"\n", "\"sit\"\n", "\"192.0.2.1\"\n", "\"::/0\"\n", "[\"192.0.2.1/0\"]\n",
        "[\"2001:db8::1\"]\n", "\"0x0/0x0\"\n", "\"0xffffffff\"\n", "\"0\"\n", "0\n", "1\n", "-1\n", "4294967295\n", "9223372036854775807\n", "true\n",
        "1979-05-27\n", "[]\n", "{}\n", "[{}]\n", "{ a = \"up\" }\n", "{ uplink = \"a\" }\n", "[{ uplink = \"a\" }]\n", "{ warn = 1, down = 0 }\n",
        "{ connects = 1, within = 1 }\n", "{ min = \"1w\" }\n", "{ factor = nan }\n", "\"ä/\\u0000\"\n", "\"-\"\n", "\"1-0\"\n", "\"65536\"\n",
    ]), 0..40)) {
        if let Err(errors) = read(&parts.concat()) {
            let _ = (errors.to_string(), errors.to_json());
        }
    }

    #[test]
    fn a_damaged_sample_is_read_or_refused_with_a_place(cut in 0..TUNNELS.len(), drop in 0usize..40, put in "[\\PC\n]{0,12}", which in any::<bool>()) {
        let whole = if which { TUNNELS } else { PROVIDERS };
        let at = |n: usize| (0..=n.min(whole.len())).rev().find(|n| whole.is_char_boundary(*n)).unwrap();
        let text = format!("{}{put}{}", &whole[..at(cut)], &whole[at(cut + drop)..]);
        if let Err(errors) = read(&text) {
            for error in &errors.errors {
                let line = text.split('\n').nth(error.line - 1);
                prop_assert!(line.is_some_and(|line| error.column <= line.chars().count() + 1), "{}", error);
            }
        }
    }
}
