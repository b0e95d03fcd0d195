//! Who can never be banned, and the proof that a prefix may be.
//!
//! [`Bannable`] is the only thing the ban table takes, and [`AllowList`] is the only place that
//! hands one out. It is a word of floor 0 because the judge, the flood guard and the operator all
//! need it, and the ban table too; none of those may import another.
//!
//! A prefix is protected when it shares a single address with a member: a /24 around an allowed
//! host is as protected as a host inside an allowed /24.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

use crate::cover::{Lengths, end_of};
use crate::net::{Addr, Prefix};
use crate::time::{Span, Stamp, Until};

/// How long the peer of an administrator's session stays protected after it was last seen: long
/// enough to log in again after a dropped line and a few mistyped passwords.
pub const SESSION_GRACE: Span = Span::secs(3600);

/// Why somebody is on the allow list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Why {
    /// `[allow] prefixes` of the config.
    Config,
    /// `palisade allow add`.
    Hand {
        /// What the operator said it is for.
        comment: Arc<str>,
    },
    /// 127.0.0.0/8 and ::1. Always a member.
    Loopback,
    /// An address of this host.
    Own,
    /// The next hop of a default route.
    Gateway,
    /// A name server this host asks.
    Resolver,
    /// The peer of an administrator's session, or of one that ended less than [`SESSION_GRACE`] ago.
    AdminSession,
    /// What this name of `[allow] names` resolved to.
    Name(String),
}

impl fmt::Display for Why {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Config => f.write_str("allowed by the config"),
            Self::Hand { comment } if comment.is_empty() => f.write_str("allowed by hand"),
            Self::Hand { comment } => write!(f, "allowed by hand: {comment}"),
            Self::Loopback => f.write_str("loopback"),
            Self::Own => f.write_str("an address of this host"),
            Self::Gateway => f.write_str("a gateway of this host"),
            Self::Resolver => f.write_str("a name server of this host"),
            Self::AdminSession => f.write_str("the peer of an administrator's session"),
            Self::Name(name) => write!(f, "an address of {name}"),
        }
    }
}

/// The parts of the list, each of which changes by itself. The strongest reason first: it is the
/// one that is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Part {
    Loopback,
    Own,
    Config,
    Hand,
    Gateway,
    Resolver,
    AdminSession,
    Name,
}

impl Part {
    const FIRST: Self = Self::Loopback;
    const LAST: Self = Self::Name;
}

impl Why {
    const fn part(&self) -> Part {
        match self {
            Self::Config => Part::Config,
            Self::Hand { .. } => Part::Hand,
            Self::Loopback => Part::Loopback,
            Self::Own => Part::Own,
            Self::Gateway => Part::Gateway,
            Self::Resolver => Part::Resolver,
            Self::AdminSession => Part::AdminSession,
            Self::Name(_) => Part::Name,
        }
    }
}

/// One member of the allow list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    /// Who.
    pub prefix: Prefix,
    /// Why.
    pub why: Why,
    /// Until when.
    pub until: Until,
}

impl fmt::Display for Member {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.prefix, self.why)
    }
}

/// The proof that a prefix may be banned. Only an [`AllowList`] makes one.
#[must_use]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bannable {
    prefix: Prefix,
    forced: bool,
}

impl Bannable {
    /// What may be banned.
    pub const fn prefix(&self) -> Prefix {
        self.prefix
    }

    /// Whether it may only because an operator insisted: such a ban stands before the allow list.
    pub const fn forced(&self) -> bool {
        self.forced
    }
}

/// The prefix must not be banned, and what protects it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{prefix} is protected by {member}")]
pub struct Protected {
    /// What was to be banned.
    pub prefix: Prefix,
    /// Who of the allow list it shares addresses with.
    pub member: Member,
}

/// What a change did to the set of protected prefixes. Nothing in it: the wall need not be told.
#[must_use]
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Altered {
    /// Protected now and not before: bans that overlap one of these must be lifted.
    pub added: Vec<Prefix>,
    /// Protected before, not any more.
    pub removed: Vec<Prefix>,
}

impl Altered {
    /// Whether all is as it was.
    pub const fn is_empty(&self) -> bool {
        self.added.is_empty() && self.removed.is_empty()
    }
}

#[derive(Clone, Debug)]
struct Held {
    why: Why,
    until: Until,
}

/// Everyone who can never be banned.
///
/// A look-up costs one search a prefix length in use, however long the list is.
#[derive(Clone, Debug)]
pub struct AllowList {
    members: BTreeMap<(Prefix, Part), Held>,
    ends: BTreeSet<(Stamp, Prefix, Part)>,
    lengths: Lengths,
}

impl Default for AllowList {
    fn default() -> Self {
        Self::new()
    }
}

/// 127.0.0.0/8 (RFC 1122 3.2.1.3) and ::1 (RFC 4291 2.5.3).
fn loopback() -> [Prefix; 2] {
    let v4 = Prefix::host(Ipv4Addr::LOCALHOST.into()).widen(8);
    [v4, Prefix::host(Ipv6Addr::LOCALHOST.into())]
}

impl AllowList {
    /// A list of loopback alone, which no list is without.
    pub fn new() -> Self {
        let mut list = Self { members: BTreeMap::new(), ends: BTreeSet::new(), lengths: Lengths::default() };
        for prefix in loopback() {
            list.put(prefix, Why::Loopback, Until::Forever);
        }
        list
    }

    /// The config's prefixes, all of them; replaces the former.
    pub fn set_config(&mut self, prefixes: impl IntoIterator<Item = Prefix>) -> Altered {
        self.set(Part::Config, prefixes.into_iter().map(|p| (p, Why::Config)))
    }

    /// This host's addresses, all of them; replaces the former.
    pub fn set_own(&mut self, addrs: impl IntoIterator<Item = Addr>) -> Altered {
        self.set(Part::Own, addrs.into_iter().map(|a| (a.into(), Why::Own)))
    }

    /// The next hops of the default routes, all of them; replaces the former.
    pub fn set_gateways(&mut self, addrs: impl IntoIterator<Item = Addr>) -> Altered {
        self.set(Part::Gateway, addrs.into_iter().map(|a| (a.into(), Why::Gateway)))
    }

    /// The name servers, all of them; replaces the former.
    pub fn set_resolvers(&mut self, addrs: impl IntoIterator<Item = Addr>) -> Altered {
        self.set(Part::Resolver, addrs.into_iter().map(|a| (a.into(), Why::Resolver)))
    }

    /// What the config's names resolve to, all of them; replaces the former.
    pub fn set_names(&mut self, addrs: impl IntoIterator<Item = (String, Addr)>) -> Altered {
        self.set(Part::Name, addrs.into_iter().map(|(name, a)| (a.into(), Why::Name(name))))
    }

    /// The peers of administrators' sessions that live at `now`. One that is not named any more
    /// stays for [`SESSION_GRACE`] after it was last named, so this must be called more often.
    pub fn set_sessions(&mut self, peers: impl IntoIterator<Item = Addr>, now: Stamp) -> Altered {
        let until = Until::At(now.plus(SESSION_GRACE));
        let mut altered = Altered::default();
        for peer in peers {
            let prefix = Prefix::host(peer);
            if self.put(prefix, Why::AdminSession, until) {
                altered.added.push(prefix);
            }
        }
        altered
    }

    /// Adds a member by hand; replaces the one by hand of the same prefix.
    pub fn add_by_hand(&mut self, prefix: Prefix, until: Until, comment: &str) -> Altered {
        let added = self.put(prefix, Why::Hand { comment: comment.into() }, until);
        Altered { added: if added { vec![prefix] } else { Vec::new() }, removed: Vec::new() }
    }

    /// Takes away what was added by hand. `None`: there is no such member (other parts of the list
    /// may still hold the prefix; [`Self::members`] tells).
    pub fn remove_by_hand(&mut self, prefix: Prefix) -> Option<Altered> {
        self.members.contains_key(&(prefix, Part::Hand)).then(|| {
            let gone = self.take(prefix, Part::Hand);
            Altered { added: Vec::new(), removed: if gone { vec![prefix] } else { Vec::new() } }
        })
    }

    /// Takes away the members that are over at `now`.
    pub fn expire(&mut self, now: Stamp) -> Altered {
        let mut altered = Altered::default();
        while let Some(&(at, prefix, part)) = self.ends.first()
            && at <= now
        {
            if self.take(prefix, part) {
                altered.removed.push(prefix);
            }
        }
        altered
    }

    /// When [`Self::expire`] has something to do.
    pub fn next_deadline(&self) -> Option<Stamp> {
        self.ends.first().map(|(at, ..)| *at)
    }

    /// Moves every end along with a wall clock that stepped by `ms`.
    pub fn shift(&mut self, ms: i64) {
        for held in self.members.values_mut() {
            held.until = held.until.shifted(ms);
        }
        self.ends = std::mem::take(&mut self.ends).into_iter().map(|(at, prefix, part)| (at.shifted(ms), prefix, part)).collect();
    }

    /// The proof that `prefix` may be banned at `now`, or the member it overlaps.
    pub fn bannable(&self, prefix: Prefix, now: Stamp) -> Result<Bannable, Protected> {
        match self.overlapping(prefix).find(|m| !m.until.over(now)) {
            Some(member) => Err(Protected { prefix, member }),
            None => Ok(Bannable { prefix, forced: false }),
        }
    }

    /// `unit` where it may be banned; the attacker's address alone where only a neighbour within
    /// the unit is protected. `unit` is what is banned together with `addr`.
    pub fn bannable_or_narrower(&self, addr: Addr, unit: Prefix, now: Stamp) -> Result<Bannable, Protected> {
        self.bannable(unit, now).or_else(|_| self.bannable(Prefix::host(addr), now))
    }

    /// For `--force`: all may be banned but loopback and this host's own addresses.
    pub fn forced(&self, prefix: Prefix) -> Result<Bannable, Protected> {
        match self.overlapping(prefix).find(|m| matches!(m.why, Why::Loopback | Why::Own)) {
            Some(member) => Err(Protected { prefix, member }),
            None => Ok(Bannable { prefix, forced: true }),
        }
    }

    /// The members of `now`, in order of their prefixes.
    pub fn members(&self, now: Stamp) -> impl Iterator<Item = Member> + '_ {
        self.members.iter().map(Self::member).filter(move |m| !m.until.over(now))
    }

    /// The protected prefixes of `now`, as the wall's frame has them.
    pub fn prefixes(&self, now: Stamp) -> BTreeSet<Prefix> {
        self.members.iter().filter(|(_, held)| !held.until.over(now)).map(|((prefix, _), _)| *prefix).collect()
    }

    fn member(((prefix, _), held): (&(Prefix, Part), &Held)) -> Member {
        Member { prefix: *prefix, why: held.why.clone(), until: held.until }
    }

    /// Every member that shares an address with `prefix`, over or not: those around it, then those in it.
    fn overlapping(&self, prefix: Prefix) -> impl Iterator<Item = Member> + '_ {
        let around = self.lengths.covers_of(prefix).filter(move |p| *p != prefix);
        let around = around.flat_map(|p| self.members.range((p, Part::FIRST)..=(p, Part::LAST)));
        let within = self.members.range((prefix, Part::FIRST)..=(end_of(prefix), Part::LAST));
        around.chain(within).map(Self::member)
    }

    fn holds(&self, prefix: Prefix) -> bool {
        self.members.range((prefix, Part::FIRST)..=(prefix, Part::LAST)).next().is_some()
    }

    /// Puts a member in; whether its prefix was not a member's before.
    fn put(&mut self, prefix: Prefix, why: Why, until: Until) -> bool {
        let part = why.part();
        let new = !self.holds(prefix);
        self.take(prefix, part);
        if let Until::At(at) = until {
            self.ends.insert((at, prefix, part));
        }
        self.lengths.add(prefix);
        self.members.insert((prefix, part), Held { why, until });
        new
    }

    /// Takes a member out; whether its prefix is nobody's any more.
    fn take(&mut self, prefix: Prefix, part: Part) -> bool {
        let Some(held) = self.members.remove(&(prefix, part)) else { return false };
        if let Until::At(at) = held.until {
            self.ends.remove(&(at, prefix, part));
        }
        self.lengths.remove(prefix);
        !self.holds(prefix)
    }

    /// Makes a part hold exactly `new`, for ever.
    fn set(&mut self, part: Part, new: impl Iterator<Item = (Prefix, Why)>) -> Altered {
        let new: BTreeMap<Prefix, Why> = new.collect();
        let old = self.members.keys().filter(|(_, p)| *p == part).map(|(prefix, _)| *prefix);
        let gone: Vec<Prefix> = old.filter(|prefix| !new.contains_key(prefix)).collect();
        let removed = gone.into_iter().filter(|prefix| self.take(*prefix, part)).collect();
        let added = new.into_iter().filter_map(|(prefix, why)| self.put(prefix, why, Until::Forever).then_some(prefix)).collect();
        Altered { added, removed }
    }
}

#[cfg(test)]
mod tests;
