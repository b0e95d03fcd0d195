//! Who logged in, and what that forgives.
//!
//! Whoever mistypes a password twice and then gets it right is no attacker: a login forgives what
//! was counted for its source in that jail. But an attacker may own an account, and log in between
//! two guesses at somebody else's: so a login forgives at most once in each `find_time`, which
//! leaves such an attacker twice the guesses of another, not any number of them.

use std::collections::BTreeMap;

use crate::attack::JailName;
use crate::net::Prefix;
use crate::time::{Span, Stamp};

/// How many sources' logins are remembered: more than administrators and users of a host that is
/// guarded by failures. When it is full, the one seen longest ago goes, and could be forgiven early.
const REMEMBERED: usize = 4096;

/// One source's logins in one jail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Welcome {
    /// The last login.
    pub last: Stamp,
    /// When a login forgave last.
    forgave: Option<Stamp>,
}

/// Who logged in where.
#[derive(Clone, Debug, Default)]
pub struct Clemency {
    known: BTreeMap<(JailName, Prefix), Welcome>,
}

impl Clemency {
    /// Notes a login at `now`. Whether it forgives what was counted so far.
    pub fn login(&mut self, jail: &JailName, unit: Prefix, find_time: Span, now: Stamp) -> bool {
        if let Some(welcome) = self.known.get_mut(&(jail.clone(), unit)) {
            welcome.last = welcome.last.max(now);
            let forgives = welcome.forgave.is_none_or(|last| now.since(last) >= find_time);
            if forgives {
                welcome.forgave = Some(now);
            }
            return forgives;
        }
        if self.known.len() >= REMEMBERED
            && let Some(oldest) = self.known.iter().min_by_key(|(_, welcome)| welcome.last).map(|(key, _)| key.clone())
        {
            self.known.remove(&oldest);
        }
        self.known.insert((jail.clone(), unit), Welcome { last: now, forgave: Some(now) });
        true
    }

    /// The last logins of sources that share an address with `prefix`: jail, source, when.
    pub fn of(&self, prefix: Prefix) -> impl Iterator<Item = (&JailName, Prefix, Stamp)> {
        self.known.iter().filter(move |((_, unit), _)| unit.overlaps(&prefix)).map(|((jail, unit), welcome)| (jail, *unit, welcome.last))
    }

    /// Moves all moments along with a wall clock that stepped by `ms`.
    pub fn shift(&mut self, ms: i64) {
        for welcome in self.known.values_mut() {
            welcome.last = welcome.last.shifted(ms);
            welcome.forgave = welcome.forgave.map(|at| at.shifted(ms));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WINDOW: Span = Span::secs(600);

    fn unit(text: &str) -> Prefix {
        text.parse().unwrap()
    }

    #[test]
    fn a_login_forgives_once_in_a_window() {
        let mut clemency = Clemency::default();
        let at = |s: i64| Stamp(s * 1000);
        let mut login = |jail: &str, s| clemency.login(&jail.into(), unit("192.0.2.7/32"), WINDOW, at(s));
        assert!(login("sshd", 0));
        assert!(!login("sshd", 599) && login("dovecot", 599));
        assert!(login("sshd", 600) && !login("sshd", 601));
    }

    #[test]
    fn the_memory_is_bounded_and_the_oldest_goes_first() {
        let mut clemency = Clemency::default();
        for n in 0..2 * REMEMBERED as i64 {
            let host = unit(&format!("10.{}.{}.1/32", n / 256 % 256, n % 256));
            clemency.login(&"sshd".into(), host, WINDOW, Stamp(n));
        }
        assert_eq!(clemency.known.len(), REMEMBERED);
        assert!(clemency.known.values().all(|w| w.last.0 >= REMEMBERED as i64));
    }
}
