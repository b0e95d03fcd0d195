use std::collections::BTreeSet;

use proptest::prelude::*;

use super::catalogue::{ALL, LONGEST, Scope, Unit, switch, timeout};
use super::plan::{Change, advice, plan, told};
use super::profile::{NAT_TCP, TABLE, values};
use super::{Facts, Profile, Values, number, persist};
use crate::flood::settings::Settings;
use crate::time::Span;

/// What Linux 6.18 has by itself on a machine of 24 GiB.
const LINUX: &str = "\
acct=0 buckets=262144 checksum=1 count=0 events=2 expect_max=4096 frag6_high_thresh=4194304 frag6_low_thresh=3145728 \
frag6_timeout=60 generic_timeout=600 gre_timeout=30 gre_timeout_stream=180 icmp_timeout=30 icmpv6_timeout=30 log_invalid=0 \
max=262144 sctp_timeout_closed=10 sctp_timeout_cookie_echoed=3 sctp_timeout_cookie_wait=3 sctp_timeout_established=210 \
sctp_timeout_heartbeat_sent=30 sctp_timeout_shutdown_ack_sent=3 sctp_timeout_shutdown_recd=3 sctp_timeout_shutdown_sent=3 \
tcp_be_liberal=0 tcp_ignore_invalid_rst=0 tcp_loose=1 tcp_max_retrans=3 tcp_timeout_close=10 tcp_timeout_close_wait=60 \
tcp_timeout_established=432000 tcp_timeout_fin_wait=120 tcp_timeout_last_ack=30 tcp_timeout_max_retrans=300 \
tcp_timeout_syn_recv=60 tcp_timeout_syn_sent=120 tcp_timeout_time_wait=120 tcp_timeout_unacknowledged=300 timestamp=0 \
udp_timeout=30 udp_timeout_stream=120";

const HOST: Facts = Facts { ram: 24 << 30, initial: true, forwards: false };
const ROUTER: Facts = Facts { forwards: true, ..HOST };

fn linux() -> Values {
    let one = |word: &str| {
        let (name, value) = word.split_once('=').unwrap();
        (format!("nf_conntrack_{name}"), value.to_owned())
    };
    LINUX.split_whitespace().map(one).collect()
}

fn with(pairs: &[(&str, &str)]) -> Values {
    let mut found = linux();
    found.extend(pairs.iter().map(|(name, value)| (format!("nf_conntrack_{name}"), (*value).to_owned())));
    found
}

fn typed(pairs: &[(&str, u64)]) -> Settings {
    Settings { timeouts: pairs.iter().map(|(name, secs)| ((*name).to_owned(), Span::secs(*secs))).collect(), ..Settings::default() }
}

fn to<'a>(changes: &'a [Change], name: &str) -> Option<&'a str> {
    changes.iter().find(|change| change.name == format!("nf_conntrack_{name}")).map(|change| change.to.as_str())
}

fn applied(mut found: Values, changes: &[Change]) -> Values {
    for change in changes {
        assert_eq!(found.insert(change.name.clone(), change.to.clone()).as_ref(), Some(&change.from));
    }
    found
}

#[test]
fn the_catalogue_knows_what_this_kernel_has_and_every_name_once() {
    for name in linux().keys() {
        assert!(switch(name).is_some(), "{name}");
    }
    let names: BTreeSet<&str> = ALL.iter().map(|switch| switch.name).collect();
    assert_eq!(names.len(), ALL.len());
    assert!(ALL.is_sorted_by_key(|switch| switch.name));
    let shorts: BTreeSet<String> = ALL.iter().filter_map(|switch| switch.short()).collect();
    assert_eq!(shorts.len(), ALL.iter().filter(|switch| switch.unit == Unit::Seconds).count(), "short names are not shared");
    for switch in ALL {
        assert!(switch.what.ends_with('.') && switch.default.is_empty() == (switch.scope == Scope::ReadOnly), "{switch:?}");
    }
    assert_eq!(timeout("tcp_established").unwrap().name, "tcp_timeout_established");
    assert_eq!(timeout("udp").unwrap().name, "udp_timeout");
    assert_eq!(timeout("tcp_max_retrans").unwrap().unit, Unit::Seconds, "the time, not the count of the same short name");
    assert!(timeout("max").is_none() && timeout("tcp_loose").is_none());
    assert!(switch("nf_conntrack_new").is_none() && switch("udp_timeout").is_none());
    for row in TABLE {
        let known = switch(&format!("nf_conntrack_{}", row.name)).unwrap();
        assert!(known.unit == Unit::Seconds && row.calm >= row.pressure && row.pressure >= row.attack && row.attack > 0, "{row:?}");
    }
}

#[test]
fn the_kernels_own_values_are_shortened_to_what_is_of_use() {
    let changes = plan(&linux(), &HOST, &Settings::default());
    let wanted = [
        ("generic_timeout", "120"),
        ("max", "1048576"),
        ("tcp_timeout_established", "86400"),
        ("tcp_timeout_fin_wait", "60"),
        ("tcp_timeout_max_retrans", "120"),
        ("tcp_timeout_syn_recv", "30"),
        ("tcp_timeout_syn_sent", "60"),
        ("tcp_timeout_time_wait", "60"),
        ("tcp_timeout_unacknowledged", "120"),
    ];
    let got: Vec<(&str, &str)> = changes.iter().map(|change| (&change.name["nf_conntrack_".len()..], change.to.as_str())).collect();
    assert_eq!(got, wanted);
    assert!(changes.iter().all(|change| !change.why.is_empty()));
}

#[test]
fn what_is_shorter_already_is_the_administrators_unless_a_translator_may_not() {
    let found = with(&[("tcp_timeout_established", "3600"), ("udp_timeout_stream", "60"), ("tcp_timeout_syn_sent", "10")]);
    let host = plan(&found, &HOST, &Settings::default());
    assert_eq!(
        (to(&host, "tcp_timeout_established"), to(&host, "udp_timeout_stream"), to(&host, "tcp_timeout_syn_sent")),
        (None, None, None)
    );
    let router = plan(&found, &ROUTER, &Settings::default());
    assert_eq!(to(&router, "tcp_timeout_established"), Some("7440"));
    assert_eq!(to(&router, "udp_timeout_stream"), Some("120"));
    assert!(router.iter().any(|change| change.why.contains("RFC 5382")) && router.iter().any(|change| change.why.contains("RFC 4787")));
}

#[test]
fn no_connection_outlives_the_address() {
    let life = |text: &str| Settings { address_lifetime: Some(text.parse().unwrap()), ..Settings::default() };
    let changes = plan(&linux(), &ROUTER, &life("12h"));
    let change = changes.iter().find(|change| change.name.ends_with("tcp_timeout_established")).unwrap();
    assert_eq!(change.to, "43200");
    assert!(change.why.contains("12h"), "{change:?}");
    assert_eq!(to(&plan(&linux(), &ROUTER, &life("2d")), "tcp_timeout_established"), Some("86400"));
    let hour = plan(&linux(), &ROUTER, &life("1h"));
    assert_eq!(to(&hour, "tcp_timeout_established"), Some("3600"), "the RFC's two hours are for addresses that stay");
    assert_eq!(
        to(&plan(&linux(), &ROUTER, &life("5s")), "tcp_timeout_established"),
        Some("300"),
        "a living connection is silent for minutes"
    );
    assert_eq!(to(&plan(&linux(), &ROUTER, &life("0s")), "tcp_timeout_established"), Some("86400"));
    assert_eq!(to(&plan(&with(&[("dccp_timeout_open", "43200")]), &HOST, &life("1h")), "dccp_timeout_open"), Some("3600"));
}

#[test]
fn what_is_typed_holds_exactly_and_within_what_the_kernel_takes() {
    let settings = typed(&[("tcp_established", 7200), ("udp", 600), ("icmp", 0), ("generic", u64::MAX), ("gre_stream", 180)]);
    let changes = plan(&linux(), &ROUTER, &settings);
    assert_eq!(to(&changes, "tcp_timeout_established"), Some("7200"), "against the RFC too: it was typed");
    assert_eq!(to(&changes, "udp_timeout"), Some("600"));
    assert_eq!(to(&changes, "icmp_timeout"), Some("1"));
    assert_eq!(to(&changes, "generic_timeout"), Some(LONGEST.to_string().as_str()));
    assert_eq!(to(&changes, "gre_timeout_stream"), None, "it holds already");
    let why = |name: &str| &changes.iter().find(|change| change.name.ends_with(name)).unwrap().why;
    assert!(why("tcp_timeout_established").contains("timeouts.tcp_established = \"2h\""), "{changes:?}");
    assert!(why("icmp_timeout").contains("the kernel takes"), "{changes:?}");
    let said = advice(&linux(), &ROUTER, &typed(&[("dccp_open", 5), ("nonsense", 5)])).join("\n");
    assert!(said.contains("no nf_conntrack_dccp_timeout_open") && said.contains("timeouts.nonsense: there is no such"), "{said}");
}

#[test]
fn the_table_is_as_large_as_the_memory_bears() {
    let max = |ram: u64, found: &Values| to(&plan(found, &Facts { ram, ..HOST }, &Settings::default()), "max").map(str::to_owned);
    let small = |max: &str| with(&[("max", max), ("buckets", max)]);
    assert_eq!(max(24 << 30, &linux()).as_deref(), Some("1048576"));
    assert_eq!(max(1 << 40, &with(&[("max", "4000000")])), None, "an administrator's larger one is left");
    assert_eq!(max(1 << 30, &small("65536")).as_deref(), Some("131072"));
    assert_eq!(max(512 << 20, &small("32768")).as_deref(), Some("65536"));
    assert_eq!(max(128 << 20, &small("8192")).as_deref(), Some("65536"), "the least, a fifth of the memory");
    assert_eq!(max(64 << 20, &small("4096")).as_deref(), Some("32768"), "but a quarter at most");
    assert_eq!(max(512 << 20, &with(&[("max", "2000000")])).as_deref(), Some("65536"), "it could take all the memory");
    assert_eq!(max(512 << 20, &with(&[("max", "2000000"), ("count", "60000")])), None, "but is in use");
    assert_eq!(max(0, &small("4096")), None, "nothing is known of the memory");

    let both = plan(&small("65536"), &HOST, &Settings::default());
    assert_eq!((to(&both, "max"), to(&both, "buckets")), (Some("1048576"), Some("1048576")));
    let inside = Facts { initial: false, ..HOST };
    assert_eq!(to(&plan(&small("65536"), &inside, &Settings::default()), "max"), None);
    let said = advice(&small("65536"), &inside, &Settings::default()).join("\n");
    assert!(said.contains("nf_conntrack_max = 1048576") && said.contains("initial"), "{said}");
    assert!(said.contains("nf_conntrack_acct = 0"), "{said}");
}

#[test]
fn profiles_only_tighten_and_leave_what_was_typed() {
    assert_eq!(values(Profile::Calm, &linux(), &HOST, &Settings::default()), Values::new());
    let short = |profile, facts: &Facts, settings: &Settings, name: &str| {
        values(profile, &linux(), facts, settings).get(&format!("nf_conntrack_{name}")).cloned()
    };
    let none = Settings::default();
    assert_eq!(short(Profile::Pressure, &HOST, &none, "tcp_timeout_established").as_deref(), Some("7440"));
    assert_eq!(short(Profile::Attack, &HOST, &none, "tcp_timeout_established").as_deref(), Some("3600"));
    assert_eq!(short(Profile::Attack, &ROUTER, &none, "tcp_timeout_established").as_deref(), Some(NAT_TCP.to_string().as_str()));
    assert_eq!(short(Profile::Attack, &HOST, &none, "tcp_timeout_syn_sent").as_deref(), Some("8"));
    assert_eq!(short(Profile::Attack, &HOST, &none, "udp_timeout_stream").as_deref(), Some("30"));
    assert_eq!(short(Profile::Attack, &HOST, &none, "tcp_loose"), None);
    assert_eq!(short(Profile::Attack, &HOST, &typed(&[("tcp_syn_sent", 100)]), "tcp_timeout_syn_sent"), None);
    let hour = Settings { address_lifetime: Some(Span::secs(1800)), ..Settings::default() };
    assert_eq!(short(Profile::Pressure, &ROUTER, &hour, "tcp_timeout_established").as_deref(), Some("1800"));
    assert_eq!(short(Profile::Attack, &HOST, &none, "gre_timeout"), None, "it is as short already");
}

#[test]
fn the_file_says_who_wrote_it_and_is_read_as_it_was_written() {
    let text = persist::text([("nf_conntrack_udp_timeout", "30", "why\nnet.ipv4.ip_forward = 1"), ("nf_conntrack_max", "65536", "room")]);
    assert!(text.contains("palisade conntrack timeouts revert"));
    assert!(
        text.lines().all(|line| line.is_empty() || line.starts_with('#') || line.starts_with("-net.netfilter.nf_conntrack_")),
        "{text}"
    );
    let read = persist::read(&text);
    assert_eq!(read.len(), 2);
    assert_eq!((read["nf_conntrack_udp_timeout"].as_str(), read["nf_conntrack_max"].as_str()), ("30", "65536"));
    let others = persist::read(
        "net/netfilter/nf_conntrack_acct=1\n; net.netfilter.nf_conntrack_max = 1\nnet.ipv4.ip_forward = 1\nnet.netfilter.nf_log = 1",
    );
    assert_eq!(others, Values::from([("nf_conntrack_acct".to_owned(), "1".to_owned())]));
}

#[test]
fn nothing_but_our_switches_and_numbers_gets_into_the_file() {
    let evil = [
        ("nf_conntrack_max", "8\nkernel.core_pattern=|/x", ""),
        ("nf_conntrack_max", "", ""),
        ("nf_conntrack_max", "8 ", ""),
        ("nf_conntrack_max", "-1", ""),
        ("nf_conntrack_max", "123456789012345678901", ""),
        ("nf_conntrack_helper", "1", ""),
        ("nf_conntrack_count", "1", ""),
        ("nf_conntrack_unheard_of", "1", ""),
        ("nf_conntrack_max = 1\nkernel.core_pattern", "1", ""),
        ("../../kernel/core_pattern", "1", ""),
    ];
    let text = persist::text(evil);
    assert!(text.lines().all(|line| line.is_empty() || line.starts_with('#')), "{text}");
    assert!(!persist::is_ours(&text), "it sets nothing");
    assert!(!persist::is_ours("root:x:0:0:root:/root:/bin/sh\n") && !persist::is_ours("net.netfilter.nf_conntrack_max = 8\n"));
    let long = persist::text([("nf_conntrack_max", "8", "\u{e9}".repeat(5000).as_str())]);
    assert!(long.lines().all(|line| line.len() < 1000) && persist::is_ours(&long), "{long}");
}

#[test]
fn times_are_told_with_what_they_are() {
    assert_eq!(told(switch("nf_conntrack_tcp_timeout_established"), "432000"), "432000 (5d)");
    assert_eq!(told(switch("nf_conntrack_udp_timeout"), "30"), "30");
    assert_eq!(told(switch("nf_conntrack_max"), "262144"), "262144");
    assert_eq!(told(None, "?"), "?");
}

/// Whatever a kernel may hold in its switches.
fn any_values() -> impl Strategy<Value = Values> {
    let value = prop_oneof![
        (0_u64..500_000).prop_map(|n| n.to_string()),
        any::<u64>().prop_map(|n| n.to_string()),
        any::<i64>().prop_map(|n| n.to_string()),
        Just(String::new()),
        "\\PC{0,8}",
    ];
    let names: Vec<String> = ALL.iter().map(|switch| switch.full()).chain(["nf_conntrack_unheard_of".to_owned()]).collect();
    proptest::collection::vec(proptest::option::of(value), names.len())
        .prop_map(move |values| names.iter().cloned().zip(values).filter_map(|(name, value)| Some((name, value?))).collect())
}

fn any_settings() -> impl Strategy<Value = Settings> {
    let shorts: Vec<String> = ALL.iter().filter_map(|switch| switch.short()).collect();
    let timeouts = proptest::collection::btree_map(proptest::sample::select(shorts), (0_u64..u64::MAX).prop_map(Span::millis), 0..6);
    (timeouts, proptest::option::of((0_u64..1_000_000_000).prop_map(Span::millis))).prop_map(|(timeouts, address_lifetime)| Settings {
        timeouts,
        address_lifetime,
        ..Settings::default()
    })
}

fn any_facts() -> impl Strategy<Value = Facts> {
    (prop_oneof![Just(0), 1_u64 << 24..1 << 42, any::<u64>()], any::<bool>(), any::<bool>()).prop_map(|(ram, initial, forwards)| Facts {
        ram,
        initial,
        forwards,
    })
}

proptest! {
    #[test]
    fn after_the_plan_there_is_nothing_left_to_plan(found in any_values(), facts in any_facts(), settings in any_settings()) {
        let changes = plan(&found, &facts, &settings);
        let names: BTreeSet<&String> = changes.iter().map(|change| &change.name).collect();
        prop_assert_eq!(names.len(), changes.len());
        for change in &changes {
            prop_assert_ne!(&change.from, &change.to);
            let to: u64 = change.to.parse().unwrap();
            let known = switch(&change.name).unwrap();
            prop_assert!(known.scope != Scope::ReadOnly && (known.unit != Unit::Seconds || (1..=LONGEST).contains(&to)), "{:?}", change);
        }
        let after = applied(found, &changes);
        prop_assert_eq!(plan(&after, &facts, &settings), Vec::new());
        let _ = advice(&after, &facts, &settings);
    }

    #[test]
    fn a_profile_never_lengthens_and_attack_is_never_longer_than_pressure(found in any_values(), facts in any_facts(), settings in any_settings()) {
        let (pressure, attack) = (values(Profile::Pressure, &found, &facts, &settings), values(Profile::Attack, &found, &facts, &settings));
        for tight in [&pressure, &attack] {
            for name in tight.keys() {
                prop_assert!(number(tight, name).unwrap() < number(&found, name).unwrap());
            }
        }
        for name in pressure.keys() {
            prop_assert!(number(&attack, name).unwrap() <= number(&pressure, name).unwrap());
        }
    }

    #[test]
    fn any_text_is_read(text in "\\PC{0,200}") {
        let _ = persist::read(&text);
    }
}
