//! The whole way from an attack to a verdict.

use super::clemency::Clemency;
use super::memory::{Heard, Judge};
use super::policy::Policy;
use super::sentence::{Past, Sentence, sentence};
use crate::allow::{AllowList, Bannable, Protected};
use crate::attack::{Attack, FULL_FAILURE, Login, excerpt};
use crate::net::Prefix;
use crate::time::{Span, Stamp, Until};

/// What is to become of an attacker.
#[must_use]
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Nothing: the attacker is on the allow list, and was not counted.
    Ignore {
        /// What protects it.
        why: Protected,
    },
    /// It was counted.
    Watch {
        /// What is counted together with the attacker.
        unit: Prefix,
        /// The window's sum.
        score: u32,
        /// The sum that bans.
        needed: u32,
    },
    /// It is to be banned.
    Ban {
        /// Who; the unit, or the attacker alone where a neighbour in the unit is protected.
        prefix: Bannable,
        /// What was counted together, whose window is spent.
        unit: Prefix,
        /// Until when.
        until: Until,
        /// The how manieth offence.
        offences: u32,
        /// Why, printable: `5 failures of sshd in 2m31s`.
        reason: String,
    },
}

/// All that judging remembers.
#[derive(Clone, Debug)]
pub struct Court {
    /// The windows.
    pub judge: Judge,
    /// The sentences so far.
    pub past: Past,
    /// The logins.
    pub clemency: Clemency,
}

impl Court {
    /// A court that remembers at most so many sources and so many sentences.
    pub fn new(sources: usize, sentences: usize) -> Self {
        Self { judge: Judge::new(sources), past: Past::new(sentences), clemency: Clemency::default() }
    }

    /// Judges one attack at `now`, the moment at which it counts.
    ///
    /// Ask the ban table first whether the attacker is shut out already: lines that were written
    /// before the ban stood and are read after it would count as further offences here.
    pub fn hear(&mut self, attack: &Attack, policy: &Policy, allow: &AllowList, now: Stamp) -> Verdict {
        self.hear_at(attack, policy, allow, (now, now))
    }

    /// The same for an attack that counts at an earlier moment than the one at which it is heard: the
    /// window is of the first, and what follows from it begins at the second.
    pub fn hear_at(&mut self, attack: &Attack, policy: &Policy, allow: &AllowList, (counted, now): (Stamp, Stamp)) -> Verdict {
        let unit = policy.unit(attack.addr);
        let prefix = match allow.bannable_or_narrower(attack.addr, unit, now) {
            Ok(prefix) => prefix,
            Err(why) => return Verdict::Ignore { why },
        };
        match self.judge.hear(&attack.jail, policy, unit, attack.score, counted) {
            Heard::Watch { score, needed } => Verdict::Watch { unit, score, needed },
            Heard::Tripped { score, failures, span } => {
                let (term, offences) = sentence(policy, prefix.prefix(), &self.past, now);
                let until = term.from(now);
                self.past.add(Sentence { prefix: prefix.prefix(), started: now, ends: until });
                Verdict::Ban { prefix, unit, until, offences, reason: reason(&attack.service, score, failures, span) }
            }
        }
    }

    /// Hears of a login at `now`. What is forgiven: the source whose window in this jail is empty
    /// again, where anything stood in it.
    pub fn welcome(&mut self, login: &Login, policy: &Policy, now: Stamp) -> Option<Prefix> {
        let unit = policy.unit(login.addr);
        let forgives = self.clemency.login(&login.jail, unit, policy.find_time, now);
        (forgives && policy.forgive && self.judge.forgive(&login.jail, unit)).then_some(unit)
    }

    /// Moves all that is remembered along with a wall clock that stepped by `ms`.
    pub fn shift(&mut self, ms: i64) {
        self.judge.shift(ms);
        self.past.shift(ms);
        self.clemency.shift(ms);
    }
}

/// `5 failures of sshd in 2m31s`; weaker ones among them are called signs.
fn reason(service: &str, score: u32, failures: usize, span: Span) -> String {
    let full = u64::from(score) >= failures as u64 * u64::from(FULL_FAILURE);
    let what = if full { "failure" } else { "sign" };
    let service = excerpt(service.as_bytes());
    match failures {
        1 => format!("1 {what} of {service}"),
        n => format!("{n} {what}s of {service} in {}", Span::secs(span.as_secs_ceil())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::time::Term;

    fn attack(addr: &str) -> Attack {
        Attack {
            addr: addr.parse().unwrap(),
            jail: "sshd".into(),
            signature: "sshd/failed-password".into(),
            service: "sshd".into(),
            score: FULL_FAILURE,
            at: None,
            user: None,
            line: String::new(),
        }
    }

    /// Hears `n` attacks a second apart; the last verdict.
    fn storm(court: &mut Court, allow: &AllowList, addr: &str, n: i64, start: i64) -> Verdict {
        let mut last = None;
        for s in 0..n {
            last = Some(court.hear(&attack(addr), &Policy::default(), allow, Stamp((start + s) * 1000)));
        }
        last.unwrap()
    }

    #[test]
    fn the_fifth_failure_bans_and_the_next_ban_is_longer() {
        let (mut court, allow) = (Court::new(100, 100), AllowList::new());
        assert!(matches!(storm(&mut court, &allow, "203.0.113.7", 4, 0), Verdict::Watch { score: 40, needed: 50, .. }));
        let Verdict::Ban { prefix, until, offences, reason, .. } = storm(&mut court, &allow, "203.0.113.7", 1, 151) else { panic!() };
        assert_eq!((prefix.prefix().to_string().as_str(), until, offences), ("203.0.113.7/32", Until::At(Stamp(751_000)), 1));
        assert_eq!(reason, "5 failures of sshd in 2m31s");
        let Verdict::Ban { until, offences, .. } = storm(&mut court, &allow, "203.0.113.7", 5, 1000) else { panic!() };
        assert_eq!((until, offences), (Until::At(Stamp(2_204_000)), 2));
    }

    #[test]
    fn an_ipv6_unit_is_counted_and_banned_as_one() {
        let (mut court, allow) = (Court::new(100, 100), AllowList::new());
        for host in 1..=4 {
            assert!(matches!(storm(&mut court, &allow, &format!("2001:db8::{host}"), 1, host), Verdict::Watch { .. }));
        }
        let Verdict::Ban { prefix, .. } = storm(&mut court, &allow, "2001:db8::5", 1, 5) else { panic!() };
        assert_eq!(prefix.prefix().to_string(), "2001:db8::/64");
    }

    #[test]
    fn allowed_ones_are_not_counted_and_their_neighbours_are_banned_alone() {
        let (mut court, mut allow) = (Court::new(100, 100), AllowList::new());
        let _ = allow.set_config(["2001:db8::a".parse().unwrap()]);
        assert!(matches!(storm(&mut court, &allow, "2001:db8::a", 50, 0), Verdict::Ignore { .. }));
        assert!(court.judge.is_empty());
        let Verdict::Ban { prefix, unit, .. } = storm(&mut court, &allow, "2001:db8::b", 5, 0) else { panic!() };
        assert_eq!((prefix.prefix().to_string().as_str(), unit.to_string().as_str()), ("2001:db8::b/128", "2001:db8::/64"));
    }

    #[test]
    fn reasons_are_printable() {
        assert_eq!(reason("sshd", 10, 1, Span::ZERO), "1 failure of sshd");
        assert_eq!(reason("sshd", 50, 41, Span::millis(1)), "41 signs of sshd in 1s");
        assert_eq!(reason("a\x1b[2J", 50, 5, Span::ZERO), "5 failures of a\\u{1b}[2J in 0s");
        assert_eq!(Policy::default().ban_time, Term::For(Span::secs(600)));
    }

    #[test]
    fn a_login_forgives_mistyped_passwords_but_not_without_end() {
        let (mut court, allow) = (Court::new(1000, 1000), AllowList::new());
        let login = Login::of_tests("203.0.113.7");
        let policy = Policy::default();
        assert!(matches!(storm(&mut court, &allow, "203.0.113.7", 4, 0), Verdict::Watch { score: 40, .. }));
        assert_eq!(court.welcome(&login, &policy, Stamp(5000)), Some("203.0.113.7/32".parse().unwrap()));
        assert!(matches!(storm(&mut court, &allow, "203.0.113.7", 4, 6), Verdict::Watch { score: 40, .. }));
        // An attacker who owns an account logs in again: nothing is forgiven within the same window.
        assert_eq!(court.welcome(&login, &policy, Stamp(11_000)), None);
        assert!(matches!(storm(&mut court, &allow, "203.0.113.7", 1, 12), Verdict::Ban { .. }));
    }

    #[test]
    fn where_forgiving_is_switched_off_a_login_changes_nothing() {
        let (mut court, allow) = (Court::new(1000, 1000), AllowList::new());
        let login = Login::of_tests("203.0.113.7");
        let _ = storm(&mut court, &allow, "203.0.113.7", 4, 0);
        assert_eq!(court.welcome(&login, &Policy { forgive: false, ..Policy::default() }, Stamp(5000)), None);
        assert!(matches!(storm(&mut court, &allow, "203.0.113.7", 1, 6), Verdict::Ban { .. }));
    }
}
