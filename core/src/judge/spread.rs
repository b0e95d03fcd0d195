//! When so many neighbours are banned that the neighbourhood is.

use std::collections::BTreeSet;

use super::policy::Policy;
use crate::net::{Family, Prefix};

/// The wider prefix in which neighbours of `prefix` count, and how many ban it. `None` where the
/// policy has none, or `prefix` is as wide already.
pub fn neighbourhood(policy: &Policy, prefix: Prefix) -> Option<(Prefix, u32)> {
    let (len, hosts) = match prefix.family() {
        Family::V4 => policy.spread.ipv4?,
        Family::V6 => policy.spread.ipv6?,
    };
    (len < prefix.len()).then(|| (prefix.widen(len), hosts))
}

/// The wider prefix to ban once `prefix` is: when it and `bans` (all that stand within the
/// [`neighbourhood`]; others are not counted) are in so many distinct units.
pub fn spread(policy: &Policy, prefix: Prefix, bans: impl IntoIterator<Item = Prefix>) -> Option<Prefix> {
    let (wide, hosts) = neighbourhood(policy, prefix)?;
    let mut units = BTreeSet::new();
    std::iter::once(prefix)
        .chain(bans)
        .filter(|ban| wide.covers(ban) && *ban != wide)
        .any(|ban| {
            units.insert(policy.unit(ban.addr()).widen(ban.len()));
            units.len() >= hosts as usize
        })
        .then_some(wide)
}

#[cfg(test)]
mod tests {
    use super::super::policy::Spread;
    use super::*;

    fn p(text: &str) -> Prefix {
        text.parse().unwrap()
    }

    #[test]
    fn distinct_units_count_once_each() {
        let policy = Policy { spread: Spread { ipv4: Some((24, 3)), ipv6: Some((48, 2)) }, ..Policy::default() };
        let wide = |who: &str, bans: &[&str]| spread(&policy, p(who), bans.iter().map(|b| p(b)));
        let (one, two) = ("203.0.113.1", "203.0.113.2");
        assert_eq!(wide(one, &[one, two, two, "198.51.100.3", "203.0.0.0/16"]), None);
        assert_eq!(wide(one, &[two, "203.0.113.3"]), Some(p("203.0.113.0/24")));
        assert_eq!(wide("203.0.113.0/24", &[one, two, "203.0.113.3"]), None, "as wide already");
        assert_eq!(wide("2001:db8::1", &["2001:db8::2", "2001:db8::3"]), None, "all of one /64");
        assert_eq!(wide("2001:db8::/64", &["2001:db8:0:1::/64"]), Some(p("2001:db8::/48")));
        assert_eq!(spread(&Policy::default(), p(one), [p(two)]), None);
    }
}
