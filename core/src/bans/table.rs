//! The one truth of who is shut out, and until when, whoever asked.
//!
//! One ban a [`Key`]: the longest wins and a permanent one absorbs all. Bans of different prefixes
//! may overlap; each stands for itself, and unbanning one says what still covers it.
//!
//! **A feed's ban yields.** Whoever else bans the same key has it, whichever ends later: a feed goes on
//! listing its members, so its ban can stand again when the other has ended.
//!
//! **When the table is full,** a new ban displaces a feed's, or where there is none the one that ends
//! soonest, never a permanent one and never one made by hand; where only such are left, the new ban is
//! refused. A feed's displaces none.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::sync::Arc;

use super::ban::{Ban, Origin};
use super::wall::{Entry, Frame, Key, Wanted};
use crate::allow::Bannable;
use crate::attack::JailName;
use crate::cover::{Lengths, end_of};
use crate::net::{Addr, Prefix};
use crate::ports::Ports;
use crate::time::{Stamp, Until};

/// How many different reasons are shared between bans. Reasons of jails repeat (`5 failures of sshd
/// in 10s`) and those of an import are one; a few thousand catch nearly all, in half a megabyte.
const SHARED_REASONS: usize = 4096;

/// A ban to be.
#[derive(Clone, Debug)]
pub struct NewBan {
    /// Who, with the proof that it may be.
    pub who: Bannable,
    /// From what.
    pub ports: Ports,
    /// From when.
    pub since: Stamp,
    /// Until when.
    pub until: Until,
    /// Who asks.
    pub origin: Origin,
    /// Why, in a few printable words.
    pub reason: Arc<str>,
    /// The how manieth ban of this source it is, from 1.
    pub offences: u32,
}

/// What asking for a ban did.
#[must_use]
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// It stands now and did not before.
    New {
        /// The ban.
        ban: Ban,
        /// What had to leave for it: release it and forget it.
        displaced: Option<Ban>,
    },
    /// One of the same key stood and ends later now.
    Extended {
        /// The ban as it is now: since when the former began, and the new one's origin and reason.
        ban: Ban,
        /// When the former would have ended.
        was: Until,
    },
    /// One of the same key stands as long or longer.
    Unchanged {
        /// That one.
        ban: Ban,
    },
}

/// There is no room for one more ban.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the ban table is full with {capacity} bans that are permanent or made by hand; unban some, or raise [limits] bans")]
pub struct Full {
    /// Who was to be banned.
    pub prefix: Prefix,
    /// How many bans there are.
    pub capacity: usize,
}

/// What an unban did.
#[must_use]
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Unbanned {
    /// What stood for exactly this prefix, and does no more.
    pub removed: Vec<Ban>,
    /// What covers it and stands on: who asked is still shut out by these.
    pub still_covered_by: Vec<Ban>,
    /// What stands on for parts of it.
    pub inside: Vec<Ban>,
}

/// How many bans there are, counted without copying them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// All.
    pub bans: usize,
    /// Those without an end.
    pub permanent: usize,
    /// Who asked for how many.
    pub by_origin: Vec<(Origin, usize)>,
}

/// A ban without its key, in 40 bytes.
#[derive(Clone, Debug)]
struct Kept {
    since: Stamp,
    until: Until,
    reason: Arc<str>,
    origin: u32,
    offences: u32,
}

/// All bans that have not ended.
#[derive(Clone, Debug)]
pub struct BanTable {
    bans: BTreeMap<Key, Kept>,
    /// When bans end, those made by hand apart: they are never displaced. One entry a prefix and
    /// moment, whatever the number of its bans.
    ends: [BTreeSet<(Stamp, Prefix)>; 2],
    lengths: Lengths,
    /// Every origin that ever was, by number: jails, import formats, feeds, and a few more.
    origins: Vec<Origin>,
    reasons: HashSet<Arc<str>>,
    /// How many bans are a feed's.
    fed: usize,
    /// Where the last of them that was displaced stood: the next is looked for behind it, so that finding
    /// them costs one walk through the table and not one each.
    hand: Option<Key>,
    capacity: usize,
    displaced: u64,
}

impl BanTable {
    /// A table for at most `capacity` bans (at least one).
    pub fn new(capacity: usize) -> Self {
        Self {
            bans: BTreeMap::new(),
            ends: Default::default(),
            lengths: Lengths::default(),
            origins: Vec::new(),
            reasons: HashSet::new(),
            fed: 0,
            hand: None,
            capacity: capacity.max(1),
            displaced: 0,
        }
    }

    /// Asks for a ban. The longest wins; of two that end together, the former stays. One that had
    /// ended by `new.since` counts as gone, and so does a feed's where somebody else asks. Of a feed's
    /// question to what stands already nothing follows.
    pub fn ban(&mut self, new: NewBan) -> Result<Change, Full> {
        let key = Key { prefix: new.who.prefix(), ports: new.ports, forced: new.who.forced() };
        let NewBan { since, until, origin, reason, offences, .. } = new;
        let gone = |was: &Ban| was.until.over(since) || (was.origin.is_feed() && !origin.is_feed());
        let Some(was) = self.get(&key).filter(|was| !gone(was)) else {
            self.take(&key);
            let displaced = self.make_room(key.prefix, &origin)?;
            self.put(key.clone(), since, until, origin, &reason, offences);
            let ban = self.ban_of(&key);
            return Ok(Change::New { ban, displaced });
        };
        if origin.is_feed() {
            return Ok(Change::Unchanged { ban: was });
        }
        let since = since.min(was.since);
        let offences = offences.max(was.offences);
        self.take(&key);
        if until > was.until {
            self.put(key.clone(), since, until, origin, &reason, offences);
            return Ok(Change::Extended { ban: self.ban_of(&key), was: was.until });
        }
        self.put(key.clone(), since, was.until, was.origin, &Arc::from(was.reason), offences);
        Ok(Change::Unchanged { ban: self.ban_of(&key) })
    }

    /// Puts back a ban that the store kept. Whether there was room and none of its key stood; what
    /// the allow list has come to protect since is for the caller to lift ([`Self::overlapping`]).
    pub fn restore(&mut self, ban: Ban) -> bool {
        let fits = self.bans.len() < self.capacity && !self.bans.contains_key(&ban.key);
        if fits {
            self.put(ban.key, ban.since, ban.until, ban.origin, &Arc::from(ban.reason), ban.offences);
        }
        fits
    }

    /// The ban of this key.
    pub fn get(&self, key: &Key) -> Option<Ban> {
        self.bans.get_key_value(key).map(|held| self.whole(held))
    }

    /// All bans that cover `prefix`, it included, from any ports; the widest first.
    pub fn covering(&self, prefix: Prefix) -> Vec<Ban> {
        self.lengths.covers_of(prefix).flat_map(|p| self.exactly(p)).map(|held| self.whole(held)).collect()
    }

    /// All bans of prefixes within `prefix`, it included, in order.
    pub fn within(&self, prefix: Prefix) -> impl Iterator<Item = Ban> + '_ {
        self.inside(prefix).map(|held| self.whole(held))
    }

    /// All bans that share an address with `prefix`: what a new member of the allow list touches.
    pub fn overlapping(&self, prefix: Prefix) -> Vec<Ban> {
        let mut found = self.covering(prefix);
        found.extend(self.within(prefix).filter(|ban| ban.key.prefix != prefix));
        found
    }

    /// The ban of the longest prefix that holds `addr`, from any ports.
    pub fn check(&self, addr: Addr) -> Option<Ban> {
        let mut covers = self.lengths.covers_of(addr.into()).rev();
        covers.find_map(|p| self.exactly(p).next()).map(|held| self.whole(held))
    }

    /// A ban that shuts `addr` out of all of `ports` already. Lines of such a source were written
    /// before the ban stood, and are no further offence.
    pub fn shut_out(&self, addr: Addr, ports: &Ports) -> Option<Ban> {
        let all = self.lengths.covers_of(addr.into()).flat_map(|p| self.exactly(p));
        all.filter(|(key, _)| key.ports.covers(ports)).map(|held| self.whole(held)).next()
    }

    /// Takes back the bans of exactly `prefix`, whatever their ports, forced ones too.
    pub fn unban(&mut self, prefix: Prefix) -> Unbanned {
        let removed = self.remove_all(|table| table.exactly(prefix).map(|(key, _)| key.clone()).collect());
        Unbanned { removed, still_covered_by: self.covering(prefix), inside: self.within(prefix).collect() }
    }

    /// Takes back what this jail asked for.
    pub fn unban_jail(&mut self, jail: &JailName) -> Vec<Ban> {
        let origin = Origin::Jail(jail.clone());
        let Some(number) = self.origins.iter().position(|o| *o == origin) else { return Vec::new() };
        self.remove_all(|table| table.bans.iter().filter(|(_, kept)| kept.origin as usize == number).map(|(key, _)| key.clone()).collect())
    }

    /// Whether a ban of this key stands, and whose it is.
    pub fn origin_of(&self, key: &Key) -> Option<&Origin> {
        self.bans.get(key).map(|kept| &self.origins[kept.origin as usize])
    }

    /// Whom each feed has banned, in the order of their prefixes.
    pub fn fed(&self) -> impl Iterator<Item = (Prefix, &Arc<str>)> {
        self.bans.iter().filter_map(|(key, kept)| match &self.origins[kept.origin as usize] {
            Origin::Feed(name) => Some((key.prefix, name)),
            _ => None,
        })
    }

    /// Takes back everything.
    pub fn unban_all(&mut self) -> Vec<Ban> {
        let removed = self.iter().collect();
        *self = Self { displaced: self.displaced, ..Self::new(self.capacity) };
        removed
    }

    /// Takes back one ban.
    pub fn remove(&mut self, key: &Key) -> Option<Ban> {
        let ban = self.get(key)?;
        self.take(key);
        Some(ban)
    }

    /// Takes out the bans that are over at `now`.
    pub fn expire(&mut self, now: Stamp) -> Vec<Ban> {
        let mut over = Vec::new();
        for hands in 0..self.ends.len() {
            while let Some(&(at, prefix)) = self.ends[hands].first()
                && at <= now
            {
                let ended =
                    |table: &Self| table.exactly(prefix).filter(|(_, kept)| kept.until.over(now)).map(|(key, _)| key.clone()).collect();
                over.extend(self.remove_all(ended));
            }
        }
        over
    }

    /// When [`Self::expire`] has something to do.
    pub fn next_deadline(&self) -> Option<Stamp> {
        self.ends.iter().filter_map(|ends| ends.first()).map(|(at, _)| *at).min()
    }

    /// Moves every ban along with a wall clock that stepped by `ms`, so that what is left of it
    /// stays what it was.
    pub fn shift(&mut self, ms: i64) {
        for kept in self.bans.values_mut() {
            (kept.since, kept.until) = (kept.since.shifted(ms), kept.until.shifted(ms));
        }
        for ends in &mut self.ends {
            *ends = std::mem::take(ends).into_iter().map(|(at, prefix)| (at.shifted(ms), prefix)).collect();
        }
    }

    /// How many bans are not over at `now`, how many of them for ever, and whose they are.
    pub fn tally(&self, now: Stamp) -> Tally {
        let mut by_origin = vec![0; self.origins.len()];
        let (mut bans, mut permanent) = (0, 0);
        for kept in self.bans.values().filter(|kept| !kept.until.over(now)) {
            bans += 1;
            permanent += usize::from(kept.until == Until::Forever);
            by_origin[kept.origin as usize] += 1;
        }
        let by_origin = self.origins.iter().cloned().zip(by_origin).filter(|(_, count)| *count > 0).collect();
        Tally { bans, permanent, by_origin }
    }

    /// All bans, sorted by prefix.
    pub fn iter(&self) -> impl Iterator<Item = Ban> + '_ {
        self.bans.iter().map(|held| self.whole(held))
    }

    /// All bans as the wall knows them, in order.
    pub fn entries(&self) -> impl Iterator<Item = Entry> + '_ {
        self.bans.iter().map(|(key, kept)| Entry { key: key.clone(), until: kept.until })
    }

    /// What should stand, for a plan. A copy: for a stream, use [`Self::entries`].
    pub fn wanted(&self, frame: Frame) -> Wanted {
        Wanted { frame, bans: self.bans.iter().map(|(key, kept)| (key.clone(), kept.until)).collect() }
    }

    /// How many bans stand.
    pub fn len(&self) -> usize {
        self.bans.len()
    }

    /// Whether none does.
    pub fn is_empty(&self) -> bool {
        self.bans.is_empty()
    }

    /// How many bans it holds at most.
    pub const fn capacity(&self) -> usize {
        self.capacity
    }

    /// How many bans were displaced since the start.
    pub const fn displaced(&self) -> u64 {
        self.displaced
    }

    /// The bans of exactly this prefix. `Key::all` is the first of its keys in order.
    fn exactly(&self, prefix: Prefix) -> impl Iterator<Item = (&Key, &Kept)> {
        self.bans.range(Key::all(prefix)..).take_while(move |(key, _)| key.prefix == prefix)
    }

    fn inside(&self, prefix: Prefix) -> impl Iterator<Item = (&Key, &Kept)> {
        let end = end_of(prefix);
        self.bans.range(Key::all(prefix)..).take_while(move |(key, _)| key.prefix <= end)
    }

    fn whole(&self, (key, kept): (&Key, &Kept)) -> Ban {
        Ban {
            key: key.clone(),
            since: kept.since,
            until: kept.until,
            origin: self.origins[kept.origin as usize].clone(),
            reason: kept.reason.to_string(),
            offences: kept.offences,
        }
    }

    fn ban_of(&self, key: &Key) -> Ban {
        self.get(key).expect("was put in right before")
    }

    fn remove_all(&mut self, which: impl FnOnce(&Self) -> Vec<Key>) -> Vec<Ban> {
        which(self).iter().filter_map(|key| self.remove(key)).collect()
    }

    /// Which of [`Self::ends`] a ban of this origin is in.
    fn by_hand(&self, origin: u32) -> usize {
        usize::from(self.origins[origin as usize] == Origin::Manual)
    }

    fn make_room(&mut self, newcomer: Prefix, origin: &Origin) -> Result<Option<Ban>, Full> {
        if self.bans.len() < self.capacity {
            return Ok(None);
        }
        let full = Full { prefix: newcomer, capacity: self.capacity };
        if origin.is_feed() {
            return Err(full);
        }
        if let Some(key) = self.next_fed() {
            self.displaced += 1;
            self.hand = Some(key.clone());
            return Ok(self.remove(&key));
        }
        let &(at, prefix) = self.ends[0].first().ok_or(full)?;
        let ends_so = |kept: &Kept| kept.until == Until::At(at) && self.by_hand(kept.origin) == 0;
        let key = self.exactly(prefix).find(|(_, kept)| ends_so(kept)).map(|(key, _)| key.clone()).ok_or(full)?;
        self.displaced += 1;
        Ok(self.remove(&key))
    }

    /// The next ban of a feed behind [`Self::hand`], or from the start.
    fn next_fed(&self) -> Option<Key> {
        if self.fed == 0 {
            return None;
        }
        let is_fed = |(key, kept): (&Key, &Kept)| self.origins[kept.origin as usize].is_feed().then(|| key.clone());
        let behind = self.hand.as_ref().and_then(|hand| self.bans.range(hand..).find_map(is_fed));
        behind.or_else(|| self.bans.iter().find_map(is_fed))
    }

    fn put(&mut self, key: Key, since: Stamp, until: Until, origin: Origin, reason: &Arc<str>, offences: u32) {
        let known = self.origins.iter().position(|o| *o == origin);
        let origin = known.unwrap_or_else(|| {
            self.origins.push(origin);
            self.origins.len() - 1
        });
        self.fed += usize::from(self.origins[origin].is_feed());
        let origin = u32::try_from(origin).expect("origins are jails, import formats and feeds: a handful");
        if let Until::At(at) = until {
            let hands = self.by_hand(origin);
            self.ends[hands].insert((at, key.prefix));
        }
        self.lengths.add(key.prefix);
        let reason = self.shared(reason);
        self.bans.insert(key, Kept { since, until, reason, origin, offences });
    }

    fn take(&mut self, key: &Key) {
        let Some(kept) = self.bans.remove(key) else { return };
        self.fed -= usize::from(self.origins[kept.origin as usize].is_feed());
        self.lengths.remove(key.prefix);
        let hands = self.by_hand(kept.origin);
        let twin = self.exactly(key.prefix).any(|(_, other)| other.until == kept.until && self.by_hand(other.origin) == hands);
        if let Until::At(at) = kept.until
            && !twin
        {
            self.ends[hands].remove(&(at, key.prefix));
        }
    }

    fn shared(&mut self, reason: &Arc<str>) -> Arc<str> {
        if let Some(known) = self.reasons.get(reason) {
            return known.clone();
        }
        if self.reasons.len() >= SHARED_REASONS {
            self.reasons.clear();
        }
        self.reasons.insert(reason.clone());
        reason.clone()
    }
}

#[cfg(test)]
mod tests;
