//! The table as a whole: building, healing, removing, and what nft(8) says of it.

use palisade_core::bans::wall::{Entry, Frame, Key, Refusal, Step, Wanted};
use palisade_core::time::Until;

use super::namespace::{alone, sh};
use super::{block, did, frame, holds, key, keys, many, now, port_key, replaced, wanted};
use crate::block::nftables::load::{Change, End, Sets};
use crate::block::nftables::{Manner, Nftables, commit_each};
use crate::block::{BlockError, Blocker, Drift, Read};

#[test]
fn nft_prints_what_was_meant_and_can_read_it_back() {
    alone(|| {
        let mut wall = Nftables::open().unwrap();
        let forced = Key { forced: true, ..key("203.0.113.9/32") };
        let all = [key("198.51.100.0/24"), key("192.0.2.7/32"), key("2001:db8:0:1::/64"), port_key("192.0.2.8/32", &[22, 80]), forced];
        let wanted = wanted(Frame { refusal: Refusal::Reject, ..frame(&["198.51.100.7/32", "2001:db8::/48"]) }, &all);
        replaced(&mut wall, &wanted.frame, &mut wanted.entries());
        let text = sh("nft list table inet palisade");
        for line in [
            "type filter hook prerouting priority raw - 10; policy accept;",
            "type filter hook output priority raw - 10; policy accept;",
            "iif \"lo\" accept",
            "ip saddr @forced4_32 goto refuse",
            "ip saddr @allow4_32 goto v4dst",
            "ip saddr & 255.255.255.0 == @ban4_24 goto refuse",
            "meta l4proto @tcp_udp th dport @ports_22_80 ip saddr @ban4_32_p22_80 goto refuse",
            "meta l4proto @tcp_udp th sport @ports_22_80 ip daddr @ban4_32_p22_80 goto refuse",
            "ip6 saddr & ffff:ffff:ffff:ffff:: == @ban6_64 goto refuse",
            "ip6 daddr & ffff:ffff:ffff:: == @allow6_48 accept",
            "elements = { 22, 80 }",
            "198.51.100.0 counter packets 0 bytes 0",
        ] {
            assert!(text.contains(line), "no `{line}` in\n{text}");
        }
        // An administrator saves the ruleset and loads it again.
        sh("nft list ruleset > /tmp/palisade-test-$$; nft flush ruleset; nft -f /tmp/palisade-test-$$; rm /tmp/palisade-test-$$");
        let found = wall.read(Read::All).unwrap();
        assert_eq!((keys(&found), found.frame), (all.into(), Some(wanted.frame)));
    });
}

#[test]
fn nothing_is_left_and_strangers_are_untouched() {
    alone(|| {
        sh(
            "nft 'table inet other { set s { type ipv4_addr; elements = { 192.0.2.1 }; }; chain c { type filter hook input priority 0; ip saddr @s counter; }; }'",
        );
        sh("nft 'table ip palisade { chain c { }; }'");
        let before = sh("nft -s list ruleset");
        let mut wall = Nftables::open().unwrap();
        assert_eq!(sh("nft -s list ruleset"), before, "opening leaves no trace");
        did(&mut wall, &[block(key("192.0.2.7/32"), Some(50)), Step::Frame(frame(&["192.0.2.9/32"])), Step::Release(key("192.0.2.8/32"))]);
        replaced(&mut wall, &frame(&[]), &mut many(2000));
        wall.remove().unwrap();
        assert_eq!(sh("nft -s list ruleset"), before);
        wall.remove().unwrap();
        did(&mut wall, &[Step::Release(key("192.0.2.7/32")), Step::Release(key("2001:db8::/64"))]);
        assert_eq!(sh("nft -s list ruleset"), before, "releasing builds nothing");
        assert!(!wall.read(Read::All).unwrap().whole);
    });
}

#[test]
fn a_long_wall_does_not_count_and_is_whole() {
    alone(|| {
        let mut wall = Nftables::open().unwrap();
        wall.counted = 5;
        let counts = |wall: &mut Nftables| -> Vec<bool> {
            let found = wall.read(Read::All).unwrap();
            assert!(found.whole);
            found.bans.values().map(|standing| standing.packets.is_some()).collect()
        };
        // Bans that are over take no place.
        let past = Until::At(now());
        let over =
            |n: u32| many(n + 9).map(move |entry| if entry.key < key("10.0.0.9/32") { Entry { until: past, ..entry } } else { entry });
        for (some, counted) in [(5, true), (6, false), (2, true), (3000, false)] {
            replaced(&mut wall, &frame(&["192.0.2.1/32"]), &mut over(some));
            assert_eq!(counts(&mut wall), vec![counted; some as usize], "{some}");
        }
        // A set that stands goes on as it is, a new one counts; both with more bans than they were made for.
        let more: Vec<_> = many(5000).map(Step::Block).collect();
        did(&mut wall, &more);
        assert_eq!(counts(&mut wall), vec![false; 5000]);
        did(&mut wall, &[block(key("198.51.100.0/24"), None), Step::Frame(frame(&[])), block(key("10.0.0.1/32"), Some(70))]);
        assert_eq!(counts(&mut wall).into_iter().filter(|counted| *counted).count(), 1);
        assert_eq!(wall.drift().unwrap(), Drift::None);
        // Whoever opens it next takes it as it is, saved and loaded by nft(8) or not.
        let mut wall = Nftables::open().unwrap();
        sh("nft list ruleset > /tmp/palisade-long-$$; nft flush ruleset; nft -f /tmp/palisade-long-$$; rm /tmp/palisade-long-$$");
        did(&mut wall, &[block(key("10.0.0.1/32"), Some(80)), block(key("198.51.100.0/24"), Some(90))]);
        assert_eq!(counts(&mut wall).into_iter().filter(|counted| *counted).count(), 1);
        assert_eq!(wall.read(Read::All).unwrap().bans.len(), 5001);
    });
}

#[test]
fn a_kernel_that_cannot_size_sets_loads_them_too() {
    alone(|| {
        let mut wall = Nftables::open().unwrap();
        for sized in [false, true] {
            wall.sized = sized;
            replaced(&mut wall, &Frame::default(), &mut many(70_000));
            assert_eq!(sh("nft -t list sets").contains("size"), sized);
            assert_eq!(wall.read(Read::All).unwrap().bans.len(), 70_000);
        }
    });
}

#[test]
fn a_ban_again_gets_the_new_end() {
    for manner in [Manner::Update, Manner::Exchange] {
        alone(move || {
            let mut wall = Nftables::open().unwrap();
            wall.manner = manner;
            let asked = [key("192.0.2.7/32")];
            for seconds in [Some(5), Some(300), Some(300), None, Some(20), Some(5000), None] {
                did(&mut wall, &[block(asked[0].clone(), seconds)]);
                let left = wall.read(Read::Keys(&asked)).unwrap().bans[&asked[0]].left.map(|left| left.as_secs_ceil());
                assert_eq!(left, seconds);
            }
            let over = Step::Block(Entry { key: asked[0].clone(), until: Until::At(now()) });
            did(&mut wall, &[over]);
            assert!(wall.read(Read::All).unwrap().bans.is_empty(), "a ban already over is released");
        });
    }
}

#[test]
fn within_one_call_the_last_word_counts() {
    alone(|| {
        let mut wall = Nftables::open().unwrap();
        let (a, b) = (key("192.0.2.7/32"), key("192.0.2.8/32"));
        did(
            &mut wall,
            &[
                block(a.clone(), None),
                Step::Release(a.clone()),
                Step::Release(b.clone()),
                block(b.clone(), Some(9)),
                block(b.clone(), None),
            ],
        );
        holds(&mut wall, &wanted(Frame::default(), &[b]));
    });
}

#[test]
fn one_poisoned_element_does_not_sink_the_rest() {
    alone(|| {
        let mut wall = Nftables::open().unwrap();
        replaced(&mut wall, &Frame::default(), &mut many(1));
        let sets = Sets::of(&crate::block::nftables::Snapshot::take(&mut wall.port).unwrap().layout());
        let change = |index: usize, addr: &str| Change { set: 0, addr: addr.parse().unwrap(), end: End::Never, index };
        let mut changes: Vec<_> = (0..100).map(|i| change(i, &format!("198.51.100.{i}"))).collect();
        changes[17] = change(17, "2001:db8::1"); // 16 bytes in a set of 4
        changes[63] = change(63, "2001:db8::2");
        let mut failed = Vec::new();
        commit_each(&mut wall.port, &sets, &changes, Manner::Update, &mut failed).unwrap();
        assert_eq!(failed.iter().map(|(index, _)| *index).collect::<Vec<_>>(), [17, 63]);
        assert_eq!(wall.read(Read::All).unwrap().bans.len(), 99);
    });
}

#[test]
fn killed_in_the_middle_of_a_replace() {
    alone(|| {
        let old = wanted(frame(&["192.0.2.1/32"]), &[key("192.0.2.7/32"), key("198.51.100.0/24")]);
        let new = Wanted { bans: many(3000).map(|entry| (entry.key, entry.until)).collect(), ..Wanted::default() };
        let mut wall = Nftables::open().unwrap();
        replaced(&mut wall, &old.frame, &mut old.entries());
        for generation in [2, 3] {
            let _ = wall.fill(generation, &mut many(2000), now()).unwrap();
            wall = Nftables::open().unwrap();
            let found = wall.read(Read::All).unwrap();
            assert_eq!((keys(&found), found.frame.as_ref(), found.whole), (old.bans.keys().cloned().collect(), Some(&old.frame), false));
        }
        replaced(&mut wall, &new.frame, &mut new.entries());
        holds(&mut wall, &new);
        assert_eq!(sh("nft list table inet palisade | grep -c 'set '").trim(), "1", "no set of a dead generation is left");
        // And where the first one ever was killed: sets, but no chain.
        sh("nft delete table inet palisade");
        let _ = {
            wall.port.begin().add_table();
            wall.port.commit()
        }
        .and_then(|()| wall.fill(1, &mut many(2000), now()))
        .unwrap();
        let mut wall = Nftables::open().unwrap();
        assert!(!wall.read(Read::Frame).unwrap().whole);
        replaced(&mut wall, &new.frame, &mut new.entries());
        holds(&mut wall, &new);
    });
}

#[test]
fn steps_alone_heal_a_torn_table() {
    for wound in [
        "nft delete table inet palisade",
        "nft flush chain inet palisade pre",
        "nft flush ruleset; nft add table inet palisade '{ flags dormant; }'",
        "nft flush table inet palisade; nft delete chain inet palisade out",
        "nft flush ruleset; nft add table inet palisade; nft add chain inet palisade pre",
        "nft flush ruleset; nft 'table inet palisade { set ban4_32 { type ipv6_addr; }; }'",
    ] {
        alone(move || {
            let mut wall = Nftables::open().unwrap();
            let ban = key("192.0.2.7/32");
            did(&mut wall, &[Step::Frame(frame(&["192.0.2.1/32"])), block(ban.clone(), None)]);
            sh(wound);
            let wanted = wanted(frame(&["192.0.2.1/32"]), std::slice::from_ref(&ban));
            let found = wall.read(Read::All).unwrap();
            assert!(!found.whole, "{wound}");
            let report = wall.apply(&super::diff(&found, &wanted, now()), now());
            assert!(report.ok(), "{wound}: {report:?}");
            holds(&mut wall, &wanted);
        });
    }
}

#[test]
fn a_replace_of_a_hundred_thousand_in_both_families() {
    alone(|| {
        let mut wall = Nftables::open().unwrap();
        let v6 = |i: u32| Entry { key: key(&format!("2001:db8:{:x}:{:x}::/64", i >> 16, i & 0xffff)), until: Until::Forever };
        // Mixed, so that every transaction holds several sets.
        let mixed = || many(70_000).zip(0u32..).flat_map(|(entry, i)| [Some(entry), (i % 2 == 0).then(|| v6(i))]).flatten();
        let report = wall.replace(&Frame::default(), &mut mixed(), now()).unwrap();
        assert_eq!((report.done, report.ok()), (105_000, true));
        assert_eq!(wall.read(Read::All).unwrap().bans.len(), 105_000);
        let releases: Vec<_> = mixed().map(|entry| Step::Release(entry.key)).collect();
        did(&mut wall, &releases);
        assert_eq!(wall.read(Read::All).unwrap().bans.len(), 0);
    });
}

#[test]
fn without_the_right_it_says_so() {
    alone(|| {
        // SAFETY: header (version 3, this thread) and data (no capability at all) are live and of the
        // sizes that version has; only this thread changes.
        let rc = unsafe { libc::syscall(libc::SYS_capset, [0x2008_0522u32, 0].as_ptr(), [0u32; 6].as_ptr()) };
        assert_eq!(rc, 0);
        let error = Nftables::open().unwrap_err();
        assert!(matches!(error, BlockError::Unusable { .. }) && error.to_string().contains("CAP_NET_ADMIN"), "{error}");
        assert_eq!(error.to_string().lines().count(), 1);
    });
}
