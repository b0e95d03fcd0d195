use palisade_core::route::{Mark, Mask};

use super::*;

/// Every word of a selector and every action, for one family.
pub(super) fn every(family: Family) -> Vec<Rule> {
    let (host, net, other) = match family {
        Family::V4 => ("192.0.2.1", "198.51.100.0/24", "203.0.113.0/25"),
        Family::V6 => ("2a02::1", "2001:db8:1::/48", "2001:db8:2::/64"),
    };
    let plain = Selector::default;
    let prefix = |text: &str| Some(text.parse().unwrap());
    let mut selectors = vec![
        plain(),
        from(host),
        from(net),
        Selector { to: prefix(other), ..from(net) },
        Selector { not: true, ..from(host) },
        Selector { iif: Some("absent0".into()), ..plain() },
        Selector { oif: Some("fifteen-bytes-x".into()), ..plain() },
        Selector { fwmark: Some((Mark(0x0100_0000), Mask(0x7f00_0000))), ..plain() },
        Selector { fwmark: Some((Mark(0), Mask(0xff))), ..plain() },
        Selector { fwmark: Some((Mark(7), Mask::ALL)), ..plain() },
        Selector { uid: Some((0, 0)), ..plain() },
        Selector { uid: Some((1000, 1999)), ..plain() },
        Selector { ipproto: Some(6), sport: Some((1024, 2047)), dport: Some((25, 25)), ..plain() },
        Selector { tos: 0x10, ..plain() },
        Selector { dscp: Some(46), ..plain() },
        Selector { dscp: Some(0), ..plain() },
        Selector { tun_id: Some(0x1_0000_0002), ..plain() },
    ];
    selectors.push(Selector {
        ipproto: Some(17),
        uid: Some((5, 6)),
        iif: Some("lo".into()),
        oif: Some("x".into()),
        ..selectors[3].clone()
    });
    let mut rules: Vec<Rule> = (0..).zip(selectors).map(|(at, selector)| rule(family, 4000 + at, selector)).collect();
    let end = |at: u32, action| Rule { action, ..rule(family, 5000 + at, from(host)) };
    rules.extend([
        end(0, Action::Lookup(TableId(255))),
        end(1, Action::Lookup(TableId(256))),
        end(2, Action::Lookup(TableId(u32::MAX))),
        end(3, Action::Goto(Priority(5004))),
        end(4, Action::Nop),
        end(5, Action::Blackhole),
        end(6, Action::Unreachable),
        end(7, Action::Prohibit),
        end(8, Action::Goto(Priority(9999))),
        end(9, Action::Lookup(TableId::MAIN)).suppress(0),
        end(10, Action::Lookup(TableId::MAIN)).suppress(3),
        Rule { suppress_ifgroup: Some(7), ..end(11, Action::Lookup(TableId::MAIN)) },
        Rule { action: Action::Lookup(TableId(0)), ..rule(family, 5012, Selector { l3mdev: true, ..plain() }) },
        rule(family, u32::MAX, plain()),
    ]);
    rules
}

fn both() -> Vec<Rule> {
    [every(Family::V4), every(Family::V6)].concat()
}

#[test]
fn what_is_written_is_what_is_read_and_what_is_removed() {
    alone(|| {
        let mut router = Linux::open().unwrap();
        let before = all(&mut router).rules;
        assert!(before.iter().all(|rule| rule.other.is_empty() && rule.protocol == Protocol::KERNEL), "{before:?}");
        let rules = both();
        let add: Vec<Step> = rules.iter().cloned().map(Step::AddRule).collect();
        done(&mut router, &add);
        let found = of_us(&all(&mut router).rules);
        for (found, wanted) in found.iter().zip(&rules) {
            assert_eq!(found, wanted);
        }
        assert_eq!(found.len(), rules.len());
        for step in add {
            assert!(refused(&mut router, step).1, "it is there, and the next reading tells");
        }
        // In an order that is not that of their making.
        let del: Vec<Step> = rules.iter().rev().cloned().map(Step::DelRule).collect();
        done(&mut router, &del);
        assert_eq!(all(&mut router).rules, before);
        done(&mut router, &del);
    });
}

#[test]
fn who_made_it_is_part_of_what_it_is_and_others_stay() {
    alone(|| {
        let mut router = Linux::open().unwrap();
        let ours = rule(Family::V6, 4200, from("2a02::1"));
        sh("ip -6 rule add pref 4200 from 2a02::1 lookup 200; ip -6 rule add pref 4200 from 2a02::1 lookup 200 protocol 4
            ip -6 rule add pref 4200 from 2a02::1 lookup 200 fwmark 9; ip -6 rule add pref 4100 from 2a02::1 lookup 200 protocol 80");
        let before = all(&mut router).rules;
        done(&mut router, &[Step::AddRule(ours.clone())]);
        assert_eq!(all(&mut router).rules.len(), before.len() + 1);
        for _ in 0..2 {
            done(&mut router, &[Step::DelRule(ours.clone())]);
            assert_eq!(all(&mut router).rules, before);
        }
    });
}

#[test]
fn one_of_ours_that_says_more_is_not_taken_for_the_one_that_says_less() {
    alone(|| {
        let mut router = Linux::open().unwrap();
        let less = rule(Family::V4, 4200, from("192.0.2.1"));
        let more = rule(Family::V4, 4200, Selector { oif: Some("tun0".into()), ..from("192.0.2.1") });
        let most = rule(Family::V4, 4200, Selector { ipproto: Some(6), ..more.selector.clone() });
        let end = rule(Family::V4, 4201, Selector::default());
        done(&mut router, &[&most, &more, &less, &end].map(|rule| Step::AddRule(rule.clone())));
        done(&mut router, &[Step::DelRule(less.clone())]);
        assert_eq!(of_us(&all(&mut router).rules), [most.clone(), more.clone(), end.clone()]);
        // Without our care the kernel takes the first that fits.
        sh("ip rule del pref 4200 from 192.0.2.1 lookup 200 protocol 80");
        assert_eq!(of_us(&all(&mut router).rules), [more.clone(), end.clone()]);
        // Within one call, too.
        done(&mut router, &[Step::AddRule(less.clone()), Step::DelRule(less), Step::DelRule(end)]);
        assert_eq!(of_us(&all(&mut router).rules), [more]);
    });
}

/// The facts of the kernel that `places` is built on, and that we know how to live with them.
#[test]
fn rules_that_the_kernel_takes_for_each_other_stand_beside_each_other() {
    alone(|| {
        let mut router = Linux::open().unwrap();
        let goto = |to| Rule { action: Action::Goto(Priority(to)), ..rule(Family::V4, 4300, Selector::default()) };
        let of_us_v4 = [
            (rule(Family::V4, 4200, from("192.0.2.1")), "pref 4200 from 192.0.2.1 lookup 200"),
            (rule(Family::V4, 4200, Selector { not: true, ..from("192.0.2.1") }), "pref 4200 not from 192.0.2.1 lookup 200"),
            (rule(Family::V4, 4200, Selector::default()), "pref 4200 lookup 200"),
            (goto(5000), "pref 4300 goto 5000"),
            (goto(5001), "pref 4300 goto 5001"),
        ];
        done(&mut router, &[Step::AddRule(of_us_v4[0].0.clone()), Step::AddRule(of_us_v4[3].0.clone())]);
        for (rule, text) in &of_us_v4 {
            let words: Vec<&str> = text.split(' ').collect();
            let status = Command::new("ip").args(["rule", "add"]).args(words).args(["protocol", "80"]).output().unwrap();
            assert!(String::from_utf8_lossy(&status.stderr).contains("File exists"), "{text}");
            let there = all(&mut router).rules.contains(rule);
            assert_eq!(router.apply(&[Step::AddRule(rule.clone())]).done, usize::from(!there));
        }
        for (rule, _) in &of_us_v4 {
            let mut rest = of_us(&all(&mut router).rules);
            assert!(rest.contains(rule));
            rest.retain(|other| other != rule);
            done(&mut router, &[Step::DelRule(rule.clone())]);
            let mut now = of_us(&all(&mut router).rules);
            rest.sort();
            now.sort();
            assert_eq!(now, rest);
        }
    });
}

#[test]
fn what_the_kernel_would_misread_is_not_sent() {
    alone(|| {
        let mut router = Linux::open().unwrap();
        let before = all(&mut router).rules;
        let bad = [
            Selector { from: Some("0.0.0.0/0".parse().unwrap()), ..Selector::default() },
            from("2001:db8::1"),
            Selector { iif: Some("sixteen-bytes-xx".into()), ..Selector::default() },
            Selector { fwmark: Some((Mark(1), Mask(0))), ..Selector::default() },
            Selector { ipproto: Some(0), ..Selector::default() },
            Selector { dscp: Some(64), ..Selector::default() },
        ];
        for selector in bad {
            let (error, passing) = refused(&mut router, Step::AddRule(rule(Family::V4, 1, selector)));
            assert!(!passing, "{error}");
        }
        let backward = Rule { action: Action::Goto(Priority(5)), ..rule(Family::V4, 9, Selector::default()) };
        let (error, passing) = refused(&mut router, Step::AddRule(backward));
        assert!(error.contains("ackward") && !passing, "the kernel's own words: {error}");
        assert_eq!(all(&mut router).rules, before);
    });
}

#[test]
fn steps_that_fail_do_not_hold_up_the_others() {
    alone(|| {
        let mut router = Linux::open().unwrap();
        let good = |n: u32| Step::AddRule(rule(Family::V4, 4000 + n, from("192.0.2.1")));
        let steps: Vec<Step> = (0..600)
            .map(|n| {
                if n % 100 == 7 {
                    Step::Marks(None)
                } else if n % 3 == 0 {
                    good(0)
                } else {
                    good(n)
                }
            })
            .collect();
        let report = router.apply(&steps);
        // Of every third only the first is new.
        let failed = |n: &usize| n % 100 == 7 || (n.is_multiple_of(3) && *n != 0);
        assert_eq!(report.failed.iter().map(|(at, _)| *at).collect::<Vec<_>>(), (0..600).filter(failed).collect::<Vec<_>>());
        assert_eq!(report.done, steps.len() - report.failed.len());
        assert!(report.failed[0].1.passing && !report.failed.iter().find(|(at, _)| *at == 7).unwrap().1.passing);
    });
}

/// A listing comes in several pieces, and what stands between them may change: it is read again, or not believed.
#[test]
fn a_reading_is_whole_or_it_is_none() {
    alone(|| {
        let mut router = Linux::open().unwrap();
        let ours: Vec<Rule> = (0..1500).map(|n| rule(Family::V4, 4000 + n, from("192.0.2.1"))).collect();
        done(&mut router, &ours.iter().cloned().map(Step::AddRule).collect::<Vec<_>>());
        let other = std::thread::spawn(|| {
            let mut router = Linux::open().unwrap();
            let early = Rule { protocol: Protocol::STATIC, ..rule(Family::V4, 3000, from("192.0.2.9")) };
            for _ in 0..800 {
                done(&mut router, &[Step::AddRule(early.clone()), Step::DelRule(early.clone())]);
            }
        });
        while !other.is_finished() {
            match router.read(&Read::Ours([TableId(200)].into())) {
                Ok(world) => assert!(of_us(&world.rules) == ours),
                Err(error) => assert!(matches!(error, crate::routes::RouteError::Unsteady { .. }), "{error}"),
            }
        }
        other.join().unwrap();
        assert!(of_us(&all(&mut router).rules) == ours);
    });
}
