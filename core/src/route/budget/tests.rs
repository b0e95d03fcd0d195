use super::*;
use crate::time::{Stamp, Tick};

/// A moment of the one boot of these tests, wall and boot clock in step.
fn at(s: u64) -> Now {
    at_ms(s * 1000)
}

fn at_ms(ms: u64) -> Now {
    Now { stamp: Stamp(1_795_000_000_000 + i64::try_from(ms).unwrap()), tick: Tick(1_000_000 + ms) }
}

pub(super) fn boot(id: &str) -> BootId {
    BootId::from(id)
}

pub(super) fn sixxs() -> Budget {
    Budget {
        name: "sixxs".into(),
        connects: 4,
        within: Span::secs(60),
        penalty: Span::secs(300),
        breaches: 2,
        breach_within: Span::secs(86_400),
        lockout: Span::secs(604_800),
        reserve: 1,
        margin: Span::secs(5),
    }
}

/// The provider's own numbers: nothing kept for a human, no margin.
fn bare() -> Ledger {
    ledger(Budget { reserve: 0, margin: Span::ZERO, ..sixxs() })
}

fn ledger(budget: Budget) -> Ledger {
    Ledger::new(budget, Account::new(at(0), &boot("one")), boot("one"))
}

pub(super) fn ask(who: &str, kind: Kind) -> Ask {
    Ask { who: who.into(), kind, cost: 1 }
}

fn tunnel() -> Ask {
    ask("sixxs0", Kind::Automatic)
}

/// Asks, and spends where that is granted; else how many seconds are left of the wait.
fn connect(ledger: &mut Ledger, ask: &Ask, now: Now) -> Result<u32, f64> {
    match ledger.grant(ask, now) {
        Grant::Granted { left } => {
            ledger.spend(ask, now);
            Ok(left)
        }
        Grant::Wait { left, until, .. } => {
            assert_eq!((until.stamp, until.tick), (now.stamp.plus(left), now.tick.plus(left)));
            #[expect(clippy::cast_precision_loss, reason = "small numbers")]
            Err(left.as_millis() as f64 / 1000.0)
        }
        Grant::Denied { why } => panic!("denied: {why}"),
    }
}

#[test]
fn the_providers_own_vectors() {
    let mut fine = bare();
    for (s, left) in [(0, 3), (15, 2), (30, 1), (45, 0), (60, 0)] {
        assert_eq!(connect(&mut fine, &tunnel(), at(s)), Ok(left), "at {s}: at 60 the window (0, 60] holds four");
    }

    let mut breach = bare();
    for s in [0, 15, 30, 45] {
        assert!(connect(&mut breach, &tunnel(), at(s)).is_ok());
    }
    assert_eq!(connect(&mut breach, &tunnel(), at(59)), Err(1.0), "the fifth at 59 would be the breach");

    // Somebody made it all the same, and the provider says so.
    breach.spend(&tunnel(), at(59));
    let status = breach.status(at(59));
    assert_eq!((status.breaches.len(), status.hold), (1, Some(at(359).stamp)));
    assert_eq!(connect(&mut breach, &tunnel(), at(358)), Err(1.0));
    assert!(connect(&mut breach, &tunnel(), at(360)).is_ok());
    let status = breach.status(at(360));
    assert_eq!(status.used, 1, "the log was empty");

    // The second within a day.
    breach.account.since_refusal = 2;
    breach.refused(at(86_458));
    assert_eq!(breach.status(at(86_458)).locked, Some(at(86_458 + 604_800).stamp));
    assert_eq!(connect(&mut breach, &tunnel(), at(86_459)), Err(604_799.0));
    assert!(connect(&mut breach, &tunnel(), at(86_458 + 604_800)).is_ok());
}

#[test]
fn a_breach_a_day_later_is_the_first() {
    let mut ledger = bare();
    ledger.spend(&tunnel(), at(0));
    ledger.refused(at(0));
    for _ in 0..2 {
        ledger.spend(&tunnel(), at(86_399));
    }
    let mut sooner = ledger.clone();
    sooner.refused(at(86_399));
    assert!(sooner.status(at(86_399)).locked.is_some());
    ledger.refused(at(86_400));
    assert_eq!(ledger.status(at(86_400)).locked, None, "(0, 86400] excludes the first");
    assert_eq!(ledger.status(at(86_400)).breaches.len(), 1);
}

#[test]
fn one_connect_is_kept_for_a_human_and_the_margin_is_waited_for() {
    let mut ledger = ledger(sixxs());
    for s in [0, 10, 20] {
        assert!(connect(&mut ledger, &tunnel(), at(s)).is_ok());
    }
    assert_eq!(connect(&mut ledger, &tunnel(), at(21)), Err(44.0), "the first counts until 65");
    assert_eq!(connect(&mut ledger, &ask("by hand", Kind::Manual), at(22)), Ok(0));
    assert_eq!(connect(&mut ledger, &ask("by hand", Kind::Manual), at(23)), Err(42.0));
    // The human's counts too: at 65 there are 10, 20 and 22.
    assert_eq!(connect(&mut ledger, &tunnel(), at(65)), Err(10.0));
    assert_eq!(connect(&mut ledger, &tunnel(), at_ms(74_999)), Err(0.001));
    assert!(connect(&mut ledger, &tunnel(), at(75)).is_ok());
}

#[test]
fn after_a_breach_automatic_starts_are_alone_and_the_last_one_takes_a_word() {
    let mut ledger = ledger(sixxs());
    ledger.spend(&tunnel(), at(0));
    ledger.refused(at(1));
    assert_eq!(connect(&mut ledger, &ask("other", Kind::Automatic), at(2)), Err(304.0), "all tunnels of the budget wait");
    assert_eq!(connect(&mut ledger, &ask("by hand", Kind::SpendLast), at(2)), Err(304.0), "and humans");
    ledger.leave("other");
    assert!(connect(&mut ledger, &tunnel(), at(306)).is_ok());
    assert_eq!(connect(&mut ledger, &tunnel(), at(307)), Err(64.0), "one in a window");
    let hand = ask("by hand", Kind::Manual);
    assert_eq!(connect(&mut ledger, &hand, at(360)), Ok(2));
    assert_eq!(connect(&mut ledger, &tunnel(), at(371)), Err(54.0), "none beside a human's");
    assert_eq!((connect(&mut ledger, &hand, at(372)), connect(&mut ledger, &hand, at(373))), (Ok(2), Ok(1)));
    let Grant::Denied { why } = ledger.grant(&hand, at(374)) else { panic!("it could be the breach that locks out") };
    assert!(why.contains("--spend-last") && why.contains(&at(425).stamp.to_string()), "{why}");
    assert_eq!(connect(&mut ledger, &ask("by hand", Kind::SpendLast), at(374)), Ok(0));
    assert_eq!(connect(&mut ledger, &ask("by hand", Kind::SpendLast), at(375)), Err(50.0), "nobody may make five");
    // A day after the breach all is as before.
    for s in [86_406, 86_407, 86_408] {
        assert!(connect(&mut ledger, &tunnel(), at(s)).is_ok(), "{s}");
    }
}

#[test]
fn who_is_refused_again_and_again_waits_longer_each_time() {
    let mut ledger = ledger(sixxs());
    ledger.spend(&tunnel(), at(0));
    ledger.spend(&ask("other", Kind::Automatic), at(0));
    ledger.refused(at(0));
    ledger.refused(at(3));
    let status = ledger.status(at(3));
    assert_eq!((status.breaches.len(), status.hold), (1, Some(at(308).stamp)), "both were under way: one breach");
    ledger.spend(&tunnel(), at(308));
    ledger.refused(at(308));
    let status = ledger.status(at(308));
    assert_eq!((status.breaches.len(), status.hold, status.locked), (1, Some(at(308 + 605).stamp), None));
    ledger.spend(&tunnel(), at(913));
    ledger.refused(at(913));
    assert_eq!(ledger.status(at(913)).hold, Some(at(913 + 1205).stamp));
    // One was taken, another refused: that is a breach of its own.
    for _ in 0..2 {
        ledger.spend(&tunnel(), at(2118));
    }
    ledger.refused(at(2118));
    assert!(ledger.status(at(2118)).locked.is_some());
    ledger.reset(at(2119));
    assert!(connect(&mut ledger, &tunnel(), at(2119)).is_ok());
}

#[test]
fn who_waited_longest_is_first() {
    let mut ledger = ledger(sixxs());
    (0..3).for_each(|s| assert!(connect(&mut ledger, &tunnel(), at(s)).is_ok()));
    let [one, two] = ["one", "two"].map(|who| ask(who, Kind::Automatic));
    assert_eq!(connect(&mut ledger, &one, at(10)), Err(55.0));
    assert_eq!(connect(&mut ledger, &two, at(11)), Err(55.0), "not the first's turn at 65, but the next");
    assert_eq!(connect(&mut ledger, &two, at(65)), Err(1.0));
    assert!(connect(&mut ledger, &one, at(65)).is_ok());
    assert!(connect(&mut ledger, &two, at(66)).is_ok());
    assert_eq!(connect(&mut ledger, &one, at(66)), Err(1.0));
    ledger.leave("one");
    assert!(connect(&mut ledger, &two, at(67)).is_ok(), "one gave up its place");
}

#[test]
fn what_never_left_is_given_back() {
    let mut ledger = ledger(sixxs());
    let ticket = ledger.spend(&tunnel(), at(0));
    assert!(ledger.give_back(ticket) && !ledger.give_back(ticket));
    assert_eq!(ledger.status(at(0)).used, 0);
    let dear = Ask { cost: 4, ..tunnel() };
    let Grant::Denied { why } = ledger.grant(&dear, at(0)) else { panic!("more than there ever is") };
    assert!(why.contains("costs 4 of budget sixxs, which has 4 with 1 kept"), "{why}");
}

#[test]
fn a_file_is_read_as_it_was_written_or_not_at_all() {
    let mut ledger = ledger(sixxs());
    ledger.spend(&tunnel(), at(0));
    ledger.refused(at(1));
    let (name, bytes) = (Arc::from("sixxs"), ledger.account().write());
    assert_eq!(&Account::read(&name, &bytes).unwrap(), ledger.account());
    for end in 0..bytes.len() - 2 {
        assert!(Account::read(&name, &bytes[..end]).is_err(), "cut at {end}");
    }
    let text = String::from_utf8(bytes).unwrap();
    for (what, instead, says) in [
        ("\"v\": 1", "\"v\": 2", "of version 2"),
        ("\"id\": 1", "\"id\": 7", "not written by this program"),
        ("\"cost\": 1", "\"cost\": -1", "damaged"),
        ("\"hold\"", "\"holds\"", "damaged"),
    ] {
        let error = Account::read(&name, text.replace(what, instead).as_bytes()).unwrap_err().to_string();
        assert!(error.contains(says) && error.contains("palisade budget sixxs --reset --i-know"), "{error}");
    }
    assert!(Account::read(&name, &vec![b' '; FILE_MAX + 1]).is_err());
}

/// The same account some boots later.
fn rebooted(ledger: &Ledger, id: &str) -> Ledger {
    let account = Account::read(&"sixxs".into(), &ledger.account().write()).unwrap();
    Ledger::new(ledger.budget().clone(), account, boot(id))
}

/// So many seconds of the wall, so many since that boot.
fn in_boot(s: u64, up: u64) -> Now {
    Now { stamp: at(s).stamp, tick: Tick(up * 1000) }
}

#[test]
fn another_boot_goes_by_the_wall_clock_unless_that_is_behind() {
    let mut first = ledger(sixxs());
    (100..103).for_each(|s| assert!(connect(&mut first, &tunnel(), at(s)).is_ok()));
    assert_eq!(connect(&mut rebooted(&first, "two"), &tunnel(), in_boot(130, 5)), Err(35.0));
    assert!(connect(&mut rebooted(&first, "two"), &tunnel(), in_boot(165, 5)).is_ok());
    // No battery: the clock says that it is long before. At least this boot's time has passed since.
    let mut behind = rebooted(&first, "two");
    assert_eq!(connect(&mut behind, &tunnel(), in_boot(10, 5)), Err(60.0));
    // It is set, perhaps right: connects are still as young as this boot.
    assert_eq!(connect(&mut behind, &tunnel(), in_boot(130, 6)), Err(59.0));
    let mut restarted = rebooted(&behind, "two");
    assert_eq!(connect(&mut restarted, &tunnel(), in_boot(131, 7)), Err(58.0), "and after a restart of the daemon too");
    // What lasts longer is known by it: a refusal's end.
    let mut refused = first.clone();
    refused.refused(at(103));
    let mut behind = rebooted(&refused, "two");
    assert_eq!(connect(&mut behind, &tunnel(), in_boot(10, 5)), Err(300.0));
    assert_eq!(connect(&mut behind, &tunnel(), in_boot(399, 6)), Err(59.0));
    // And what is written under such a clock is not older for it later.
    let mut behind = rebooted(&first, "two");
    assert!(connect(&mut behind, &tunnel(), in_boot(10, 65)).is_ok());
    assert_eq!(behind.account().attempts[0].at.wall, None);
    let mut third = rebooted(&behind, "three");
    let _ = third.grant(&tunnel(), in_boot(500, 1));
    assert_eq!(third.status(in_boot(500, 1)).used, 1);
    assert_eq!(third.status(in_boot(564, 65)).used, 0);
}

#[test]
fn a_clock_that_is_set_ages_nothing() {
    let day = 86_400;
    let mut ledger = ledger(sixxs());
    (day..day + 3).for_each(|s| assert!(connect(&mut ledger, &tunnel(), at(s)).is_ok()));
    for set in [2 * day, 0] {
        // The wall jumps a day either way while ten seconds pass; then a reboot of ten seconds.
        let mut set_here = ledger.clone();
        let later = Now { stamp: at(set + 12).stamp, tick: at(day + 12).tick };
        assert_eq!(connect(&mut set_here, &tunnel(), later), Err(53.0));
        assert!(!set_here.observe(later), "seen already");
        let mut next = rebooted(&set_here, "two");
        assert_eq!(connect(&mut next, &tunnel(), in_boot(set + 22, 3)), Err(43.0));
    }
}

#[test]
fn its_status_is_one_line() {
    let mut ledger = ledger(sixxs());
    (0..2).for_each(|s| assert!(connect(&mut ledger, &tunnel(), at(s)).is_ok()));
    assert_eq!(ledger.status(at(2)).to_string(), "budget sixxs: 2 of 4 in 60 s (1 reserved) · next automatic now · breaches 0");
    ledger.refused(at(3));
    let day = |s| at(s).stamp.to_string();
    assert_eq!(
        ledger.status(at(4)).to_string(),
        format!(
            "budget sixxs: 2 of 4 in 60 s (1 reserved) · next automatic {} · breaches 1 ({}, expires {}) · refused until {} · a further breach locks for 7d",
            day(308),
            day(3),
            day(86_408),
            day(308)
        )
    );
    let json = serde_json::to_value(ledger.status(at(4))).unwrap();
    assert_eq!((&json["used"], &json["of"], &json["why"]), (&2.into(), &4.into(), &"hold".into()));
}
