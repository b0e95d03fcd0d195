//! A provider's rule, "more than 4 connects in 60 s: refused 5 minutes; twice in 24 h: a week", from both sides: the
//! court that bans by it as `[ban] escalate = { steps = ["5m", "1w"], within = "24h" }`, and the budget that keeps a
//! client within it. Both must agree on every moment.
#![expect(clippy::unwrap_used, reason = "a test: what is not there is a failure")]

use palisade_core::allow::AllowList;
use palisade_core::attack::{Attack, FULL_FAILURE};
use palisade_core::judge::policy::{Escalate, Policy};
use palisade_core::judge::{Court, Verdict};
use palisade_core::route::budget::{Account, Ask, BootId, Grant, Kind, Ledger};
use palisade_core::route::tunnels::Budget;
use palisade_core::time::{Now, Span, Stamp, Term, Tick, Until};
use proptest::prelude::*;

const WEEK: i64 = 604_800;
const DAY: i64 = 86_400;

/// The provider: who connects while he is shut out is refused and not counted, as behind a firewall.
struct Provider {
    court: Court,
    allow: AllowList,
    policy: Policy,
    until: Option<Until>,
}

/// What he does with a connect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Does {
    Takes,
    /// Refuses, as it is one too many: until then, in seconds.
    Breach(i64),
    Refuses,
}

impl Provider {
    fn new() -> Self {
        let secs = |s: i64| Term::For(Span::secs(s.unsigned_abs()));
        let policy = Policy {
            find_time: Span::secs(60),
            // More than four is five or more.
            max_retry: 5,
            ban_time: secs(300),
            escalate: Escalate::Ladder { steps: vec![secs(300), secs(WEEK)], within: Span::secs(DAY.unsigned_abs()) },
            ..Policy::default()
        };
        Self { court: Court::new(100, 100), allow: AllowList::new(), policy, until: None }
    }

    fn connect(&mut self, s: i64) -> Does {
        let now = Stamp(s * 1000);
        if self.until.is_some_and(|until| !until.over(now)) {
            return Does::Refuses;
        }
        let attack = Attack {
            addr: "192.0.2.1".parse().unwrap(),
            jail: "tic".into(),
            signature: "tic/connect".into(),
            service: "tic".into(),
            score: FULL_FAILURE,
            at: None,
            user: None,
            line: String::new(),
        };
        match self.court.hear(&attack, &self.policy, &self.allow, now) {
            Verdict::Ban { until: Until::At(until), .. } => {
                self.until = Some(Until::At(until));
                Does::Breach(until.0 / 1000)
            }
            Verdict::Watch { .. } => Does::Takes,
            other => panic!("{other:?}"),
        }
    }
}

fn now(s: i64) -> Now {
    Now { stamp: Stamp(s * 1000), tick: Tick(s.unsigned_abs() * 1000) }
}

/// A client that knows the rule as it is: no margin, nothing kept back.
fn client(margin: Span, reserve: u32) -> Ledger {
    let budget = Budget {
        name: "tic".into(),
        connects: 4,
        within: Span::secs(60),
        penalty: Span::secs(300),
        breaches: 2,
        breach_within: Span::secs(DAY.unsigned_abs()),
        lockout: Span::secs(WEEK.unsigned_abs()),
        reserve,
        margin,
    };
    let boot = BootId::from("one");
    Ledger::new(budget, Account::new(now(0), &boot), boot)
}

fn ask(kind: Kind) -> Ask {
    Ask { who: "tunnel".into(), kind, cost: 1 }
}

/// Plays connects into both, each made whatever the client says; its own view of what the provider did is what it is
/// told. Both must say the same of each.
fn both(provider: &mut Provider, client: &mut Ledger, moments: &[i64]) -> Vec<Does> {
    let each = |s: &i64| {
        let allowed = matches!(client.grant(&ask(Kind::SpendLast), now(*s)), Grant::Granted { .. });
        let does = provider.connect(*s);
        assert_eq!(allowed, does == Does::Takes, "at {s}: the client says {allowed}, the provider {does:?}");
        if does != Does::Refuses {
            client.spend(&ask(Kind::SpendLast), now(*s));
        }
        if let Does::Breach(until) = does {
            let status = client.status(now(*s));
            let (hold, lock) = (status.hold, status.locked);
            assert_eq!(hold.max(lock), Some(Stamp(until * 1000)), "at {s}: until when");
        }
        does
    };
    moments.iter().map(each).collect()
}

#[test]
fn the_vectors_are_the_same_from_both_sides() {
    use Does::{Breach, Refuses, Takes};
    let play = |moments: &[i64]| both(&mut Provider::new(), &mut client(Span::ZERO, 0), moments);
    assert_eq!(play(&[0, 15, 30, 45, 60]), [Takes; 5], "(0, 60] holds four");
    assert_eq!(play(&[0, 15, 30, 45, 59]), [Takes, Takes, Takes, Takes, Breach(359)]);
    assert_eq!(play(&[0, 15, 30, 45, 59, 358, 360])[4..], [Breach(359), Refuses, Takes]);

    let burst = |s: i64| [s, s, s, s, s];
    let two = |first: i64, second: i64| play(&[burst(first), burst(second)].concat());
    assert_eq!(two(0, DAY - 1)[4..], [Breach(300), Takes, Takes, Takes, Takes, Breach(DAY - 1 + WEEK)]);
    assert_eq!(two(0, DAY)[4..], [Breach(300), Takes, Takes, Takes, Takes, Breach(DAY + 300)], "(0, 86400] excludes the first");
    let locked = play(&[&burst(0)[..], &burst(1000), &[1000 + WEEK - 1, 1000 + WEEK]].concat());
    assert_eq!(locked[9..], [Breach(1000 + WEEK), Refuses, Takes]);
}

proptest! {
    /// Whatever is tried, both sides agree on each connect and on how long a breach is answered.
    #[test]
    fn both_sides_agree(steps in proptest::collection::vec(prop_oneof![9 => 0i64..40, 1 => 200i64..400, 1 => DAY - 400..DAY + 400], 1..200)) {
        let moments: Vec<i64> = steps.iter().scan(0, |s, step| { *s += step; Some(*s) }).collect();
        both(&mut Provider::new(), &mut client(Span::ZERO, 0), &moments);
    }

    /// A client that asks first and waits as long as it is told is never banned, nor refused.
    #[test]
    fn who_keeps_to_its_budget_is_never_refused(steps in proptest::collection::vec((0i64..30, any::<bool>()), 1..200)) {
        let (mut provider, mut client, mut s) = (Provider::new(), client(Span::secs(5), 1), 0);
        for (pass, by_hand) in steps {
            s += pass;
            let ask = ask(if by_hand { Kind::Manual } else { Kind::Automatic });
            match client.grant(&ask, now(s)) {
                Grant::Granted { .. } => {}
                Grant::Wait { left, .. } => s += i64::try_from(left.as_millis() / 1000).unwrap(),
                Grant::Denied { why } => prop_assert!(false, "{}", why),
            }
            let granted = matches!(client.grant(&ask, now(s)), Grant::Granted { .. });
            prop_assert!(granted, "it waited as long as it was told");
            client.spend(&ask, now(s));
            prop_assert_eq!(provider.connect(s), Does::Takes);
        }
    }
}
