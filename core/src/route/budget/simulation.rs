//! A provider who enforces his rule, and clients who crash, are restarted and have their clocks set, through whatever
//! comes: he never refuses one of them.

use proptest::prelude::*;

use super::tests::{ask, boot, sixxs};
use super::*;
use crate::time::{Stamp, Tick};

/// The provider, by his own true clock in milliseconds. Where his words leave it open he is as strict as can be.
#[derive(Debug, Default)]
struct Provider {
    attempts: Vec<u64>,
    breaches: Vec<u64>,
    refuses_until: Option<u64>,
}

impl Provider {
    /// Whether he takes a connect.
    fn takes(&mut self, t: u64, budget: &Budget) -> bool {
        let count = |all: &[u64], within: Span| all.iter().filter(|a| **a <= t && **a + within.as_millis() > t).count();
        self.attempts.push(t);
        let mut refused = self.refuses_until.is_some_and(|until| t <= until);
        if count(&self.attempts, budget.within) > budget.connects as usize {
            refused = true;
            self.breaches.push(t);
        }
        if refused {
            // What is tried while refused extends it.
            let locks = count(&self.breaches, budget.breach_within) >= budget.breaches as usize;
            let until = t + if locks { budget.lockout } else { budget.penalty }.as_millis();
            self.refuses_until = self.refuses_until.max(Some(until));
        }
        !refused
    }
}

/// What happens.
#[derive(Clone, Debug)]
enum Op {
    /// Time passes.
    Pass(u64),
    /// A tunnel wants to start, and its connect takes this part of the margin to arrive.
    Tunnel(u8, u64),
    /// A human wants to connect.
    Human(u64),
    /// The daemon is killed between what it wrote and the connect.
    KilledBeforeConnect(u8),
    /// The daemon is killed and started.
    Restart,
    /// The wall clock is set.
    Step(i64),
    /// The machine is off for this time; its clock goes on, or is then so far behind.
    Reboot(u64, Option<u64>),
    /// The wall clock that was behind is set right.
    Right,
}

fn op() -> impl Strategy<Value = Op> {
    let day = 86_400_000i64;
    prop_oneof![
        4 => (0u64..40_000).prop_map(Op::Pass),
        1 => (0u64..90_000_000).prop_map(Op::Pass),
        8 => (0u8..4, 0u64..5000).prop_map(|(who, late)| Op::Tunnel(who, late)),
        2 => (0u64..5000).prop_map(Op::Human),
        1 => (0u8..4).prop_map(Op::KilledBeforeConnect),
        2 => Just(Op::Restart),
        1 => prop_oneof![Just(day), Just(-day), -100_000..100_000i64].prop_map(Op::Step),
        1 => (1000u64..120_000, proptest::option::of(0u64..100_000_000)).prop_map(|(off, behind)| Op::Reboot(off, behind)),
        1 => Just(Op::Right),
    ]
}

/// A machine with its clocks, its disk and its daemon.
struct Machine {
    /// True time.
    t: u64,
    booted: u64,
    boots: u32,
    /// How far the wall clock is from the truth, and would be if it were not behind.
    wall: i64,
    right: i64,
    disk: Vec<u8>,
    ledger: Ledger,
}

impl Machine {
    fn new() -> Self {
        let t = 1_000_000;
        let account = Account::new(Now { stamp: Stamp(1_000_000), tick: Tick(0) }, &boot("0"));
        let disk = account.write();
        Self { t, booted: t, boots: 0, wall: 0, right: 0, disk, ledger: Ledger::new(sixxs(), account, boot("0")) }
    }

    fn now(&self) -> Now {
        Now { stamp: Stamp(i64::try_from(self.t).unwrap() + self.wall), tick: Tick(self.t - self.booted) }
    }

    fn write(&mut self) {
        self.disk = self.ledger.account().write();
    }

    fn restart(&mut self) {
        let account = Account::read(&"sixxs".into(), &self.disk).unwrap();
        self.ledger = Ledger::new(sixxs(), account, boot(&self.boots.to_string()));
        self.look();
    }

    /// As the daemon does with each turn.
    fn look(&mut self) {
        if self.ledger.observe(self.now()) {
            self.write();
        }
    }

    /// Spends and writes, if that is granted.
    fn starts(&mut self, ask: &Ask) -> bool {
        let granted = matches!(self.ledger.grant(ask, self.now()), Grant::Granted { .. });
        if granted {
            self.ledger.spend(ask, self.now());
            self.write();
        }
        granted
    }

    fn happens(&mut self, op: &Op, provider: &mut Provider) -> Result<(), TestCaseError> {
        match *op {
            Op::Pass(ms) => self.t += ms,
            Op::Tunnel(who, late) => {
                if self.starts(&ask(&who.to_string(), Kind::Automatic)) {
                    prop_assert!(provider.takes(self.t + late, &sixxs()), "refused at {}", self.t);
                }
            }
            Op::Human(late) => {
                if self.starts(&ask("human", Kind::Manual)) {
                    prop_assert!(provider.takes(self.t + late, &sixxs()), "refused by hand at {}", self.t);
                }
            }
            Op::KilledBeforeConnect(who) => {
                self.starts(&ask(&who.to_string(), Kind::Automatic));
                self.restart();
            }
            Op::Restart => self.restart(),
            Op::Step(ms) => {
                self.wall += ms;
                self.right += ms;
            }
            Op::Reboot(off, behind) => {
                self.t += off;
                (self.booted, self.boots) = (self.t, self.boots + 1);
                self.wall = self.wall.min(self.right - behind.map_or(0, |ms| i64::try_from(ms).unwrap()));
                self.restart();
            }
            Op::Right => self.wall = self.right,
        }
        self.look();
        Ok(())
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn the_provider_never_refuses(ops in proptest::collection::vec(op(), 1..120)) {
        let (mut machine, mut provider) = (Machine::new(), Provider::default());
        for op in &ops {
            machine.happens(op, &mut provider)?;
        }
        prop_assert!(provider.breaches.is_empty());
    }

    /// Tunnels that want to start all the time start as soon as the rule allows, not a millisecond later.
    #[test]
    fn a_start_is_as_early_as_the_rule_allows(steps in proptest::collection::vec((0u64..30_000, any::<bool>(), any::<bool>()), 1..60)) {
        let (mut machine, budget) = (Machine::new(), sixxs());
        let mut made: Vec<u64> = Vec::new();
        let window = plus(budget.within, budget.margin).as_millis();
        for (pass, human, restart) in steps {
            machine.t += pass;
            if restart {
                machine.restart();
            }
            let (kind, limit) = if human { (Kind::Manual, 4) } else { (Kind::Automatic, 3) };
            let counted = |t: u64| made.iter().filter(|a| **a + window > t).count();
            match machine.ledger.grant(&ask("one", kind), machine.now()) {
                Grant::Granted { .. } => prop_assert!(counted(machine.t) < limit),
                Grant::Wait { left, .. } => {
                    let until = machine.t + left.as_millis();
                    prop_assert!(counted(until) < limit && counted(until - 1) >= limit, "at {}: {left}", machine.t);
                    machine.t = until;
                }
                Grant::Denied { why } => prop_assert!(false, "{}", why),
            }
            prop_assert!(machine.starts(&ask("one", kind)));
            made.push(machine.t);
        }
    }

    /// A file from anybody is read or refused, and never makes a ledger panic.
    #[test]
    fn hostile_numbers_are_only_numbers(wall: i64, tick: u64, high: i64, seen: u64, lasts: u64, cost: u32, now: (i64, u64), n in 0u32..5) {
        let stamp = |ms: i64| Stamp(ms.clamp(-60_000_000_000_000, 250_000_000_000_000));
        let moment = |boot: &str| serde_json::json!({"wall": stamp(wall), "boot": boot, "tick": tick});
        let attempt = serde_json::json!({"id": 1, "at": moment("0"), "cost": cost, "who": "x", "manual": true});
        let pause = serde_json::json!({"since": moment("1"), "lasts": lasts});
        let file = serde_json::json!({"v": 1, "next": u64::MAX, "attempts": [attempt], "breaches": [moment("0"), moment("1")],
            "hold": pause, "lock": pause, "refusals": cost, "since_refusal": n, "high_water": stamp(high),
            "seen": {"wall": stamp(high), "boot": "0", "tick": seen}});
        let account = Account::read(&"sixxs".into(), file.to_string().as_bytes()).unwrap();
        let mut ledger = Ledger::new(sixxs(), account, boot("0"));
        let now = Now { stamp: stamp(now.0), tick: Tick(now.1) };
        let _ = ledger.grant(&ask("a", Kind::Automatic), now);
        ledger.spend(&ask("a", Kind::Manual), now);
        ledger.refused(now);
        let _ = ledger.status(now).to_string();
        prop_assert!(Account::read(&"sixxs".into(), &ledger.account().write()).is_ok() || ledger.account().next == u64::MAX);
    }
}
