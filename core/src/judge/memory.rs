//! Who failed how often and when, within a bounded memory.
//!
//! The room holds a fixed number of records, one a source and jail. **The overflow rule:**
//!
//! 1. A source begins in the *nursery*. At its second sighting it moves to the *hall*, which may
//!    take seven eighths of the room; the last eighth is the nursery's own, and it may use what the
//!    hall does not.
//! 2. A record's weight is the number of full failures in its window when it was last seen.
//! 3. When the hall is full, its lightest record leaves, the one seen longest ago first, but only
//!    for a newcomer at least as heavy. A lighter one stays in the nursery.
//! 4. When the whole room is full, the lightest record of the nursery leaves for a new source, the
//!    one seen longest ago first, but never one heavier than the new source's first failure:
//!    then it is the new source that is not kept.
//!
//! So whoever floods the log with forged sources displaces only sources seen no more heavily than
//! those he forges. Who has failed three times is safe from any number of sources that failed
//! twice. Bans are not in this memory at all.

use std::collections::HashMap;

use super::policy::Policy;
use super::window::Window;
use crate::attack::{FULL_FAILURE, JailName};
use crate::net::Prefix;
use crate::time::{Span, Stamp};

/// How many records one [`Judge::sweep`] looks at: well under a millisecond, and the default room
/// of 262,144 is gone through within 32 sweeps, less than the default `find_time`.
const SWEEP: usize = 8192;

/// How long from one sweep to the next.
const SWEEP_PAUSE: Span = Span::secs(10);

/// How many records are looked at for ended windows whenever the room is full: a flood pays for the
/// room it takes, and a round of the default room costs it 32,768 sources.
const OVERFLOW_SWEEP: usize = 8;

/// Weights from this one on are the same: nobody forges sixteen failures each for a quarter of a
/// million sources within a window.
const HEAVIEST: u8 = 15;

/// One a weight, in the nursery and in the hall.
const SHELVES: usize = 2 * (HEAVIEST as usize + 1);

/// One place of a full room in so many is the nursery's own.
const NURSERY_SHARE: usize = 8;

const NIL: u32 = u32::MAX;

/// What became of one failure.
#[must_use]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Heard {
    /// Counted; not yet enough.
    Watch {
        /// The window's sum, this failure included.
        score: u32,
        /// The sum that trips.
        needed: u32,
    },
    /// Enough. The window is empty again.
    Tripped {
        /// The window's sum.
        score: u32,
        /// How many failures and weaker signs it held.
        failures: usize,
        /// From the first of them to the last.
        span: Span,
    },
}

/// What is remembered of one source in one jail, for `palisade why`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Remembered {
    /// The jail.
    pub jail: JailName,
    /// What is counted together.
    pub unit: Prefix,
    /// The sum within the window at the moment asked about.
    pub score: u32,
    /// How many failures and weaker signs that is.
    pub failures: usize,
    /// When the last was.
    pub last: Stamp,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Key {
    unit: Prefix,
    jail: u16,
}

/// Which of the two a record is in, and how heavy it is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Shelf {
    hall: bool,
    weight: u8,
}

impl Shelf {
    const fn index(self) -> usize {
        (if self.hall { SHELVES / 2 } else { 0 }) + self.weight as usize
    }
}

#[derive(Clone, Debug)]
struct Seen {
    key: Key,
    window: Window,
    /// Neighbours on the shelf; `next` leads to the later seen, or through the free places.
    prev: u32,
    next: u32,
    /// `None`: a free place.
    shelf: Option<Shelf>,
}

#[derive(Clone, Copy, Debug)]
struct Ends {
    oldest: u32,
    latest: u32,
}

/// Counts failures in exact sliding windows.
#[derive(Clone, Debug)]
pub struct Judge {
    /// Every name ever heard, with its latest window; a config's worth.
    jails: Vec<(JailName, Span)>,
    index: HashMap<Key, u32>,
    places: Vec<Seen>,
    free: u32,
    shelves: [Ends; SHELVES],
    in_hall: usize,
    capacity: usize,
    evicted: u64,
    hand: usize,
    swept: Stamp,
}

impl Judge {
    /// A judge who remembers at most `capacity` sources (at least 16, at most 2^32 - 2).
    pub fn new(capacity: usize) -> Self {
        Self {
            jails: Vec::new(),
            index: HashMap::new(),
            places: Vec::new(),
            free: NIL,
            shelves: [Ends { oldest: NIL, latest: NIL }; SHELVES],
            in_hall: 0,
            capacity: capacity.clamp(16, NIL as usize - 1),
            evicted: 0,
            hand: 0,
            swept: Stamp::default(),
        }
    }

    /// Counts a failure of `score` (0 counts nothing) of `unit` in `jail` at `now`. It trips when
    /// the scores of `(now - find_time, now]` sum up to `max_retry` full failures. Where `now` is
    /// before the source's last failure, it counts at its own place in the window that ends with
    /// that one, and not at all where it is older than that window.
    pub fn hear(&mut self, jail: &JailName, policy: &Policy, unit: Prefix, score: u16, now: Stamp) -> Heard {
        let needed = needed(policy);
        let key = Key { unit, jail: self.jail(jail, policy.find_time) };
        if score == 0 {
            return Heard::Watch { score: self.score(jail, unit, now), needed };
        }
        let Some(&at) = self.index.get(&key) else {
            if u32::from(score) >= needed {
                return Heard::Tripped { score: score.into(), failures: 1, span: Span::ZERO };
            }
            self.admit(key, score, now, now);
            return Heard::Watch { score: score.into(), needed };
        };
        let window = &mut self.places[at as usize].window;
        let last = window.last().map_or(now, |last| last.max(now));
        let cutoff = last.minus(policy.find_time);
        if now <= cutoff {
            return Heard::Watch { score: window.sum_since(cutoff), needed };
        }
        window.forget_until(cutoff);
        window.insert(now, score);
        let score = window.sum();
        if score >= needed {
            let span = window.first().map_or(Span::ZERO, |first| last.since(first));
            let failures = window.len();
            self.remove(at);
            return Heard::Tripped { score, failures, span };
        }
        self.reshelve(at, last);
        Heard::Watch { score, needed }
    }

    /// Counts a failure that the store kept, at its own time. It does not trip; the next may.
    pub fn restore(&mut self, jail: &JailName, policy: &Policy, unit: Prefix, at: Stamp, score: u16) {
        let key = Key { unit, jail: self.jail(jail, policy.find_time) };
        let Some(&place) = self.index.get(&key) else {
            return if score > 0 {
                self.admit(key, score, at, at)
            };
        };
        if score > 0 {
            let window = &mut self.places[place as usize].window;
            window.insert(at, score);
            window.keep_latest(needed(policy) as usize);
            let last = window.last().unwrap_or(at);
            self.reshelve(place, last);
        }
    }

    /// The sum within the window that ends at `now`; 0 for who is not remembered.
    pub fn score(&self, jail: &JailName, unit: Prefix, now: Stamp) -> u32 {
        let found = self.jails.iter().position(|(name, _)| name == jail);
        let place = found.and_then(|jail| self.index.get(&Key { unit, jail: u16::try_from(jail).ok()? }));
        place.map_or(0, |at| {
            let seen = &self.places[*at as usize];
            seen.window.sum_since(now.minus(self.find_time(seen.key)))
        })
    }

    /// What is remembered at `now` of every source that shares an address with `prefix`. Walks
    /// through all of the memory: for a question, not for each line.
    pub fn windows_of(&self, prefix: Prefix, now: Stamp) -> Vec<Remembered> {
        let near = self.places.iter().filter(|seen| seen.shelf.is_some() && seen.key.unit.overlaps(&prefix));
        let mut found: Vec<_> = near.filter_map(|seen| self.remembered(seen, now)).collect();
        found.sort_by(|a, b| (&a.jail, a.unit).cmp(&(&b.jail, b.unit)));
        found
    }

    fn remembered(&self, seen: &Seen, now: Stamp) -> Option<Remembered> {
        let cutoff = now.minus(self.find_time(seen.key));
        Some(Remembered {
            jail: self.jails[usize::from(seen.key.jail)].0.clone(),
            unit: seen.key.unit,
            score: seen.window.sum_since(cutoff),
            failures: seen.window.since(cutoff).len(),
            last: seen.window.last().filter(|last| *last > cutoff)?,
        })
    }

    /// How many sources of each jail have failures that count at `now`. Walks through all of the memory.
    pub fn failing(&self, now: Stamp) -> impl Iterator<Item = (&JailName, usize)> {
        let mut counts = vec![0usize; self.jails.len()];
        for seen in self.places.iter().filter(|seen| seen.shelf.is_some()) {
            let cutoff = now.minus(self.find_time(seen.key));
            let counts_still = seen.window.last().is_some_and(|last| last > cutoff);
            if let Some(count) = counts.get_mut(usize::from(seen.key.jail)) {
                *count += usize::from(counts_still);
            }
        }
        self.jails.iter().map(|(name, _)| name).zip(counts)
    }

    /// Forgets what `unit` did in any jail, as an unban asks for.
    pub fn forget(&mut self, unit: Prefix) {
        for jail in 0..self.jails.len() {
            let key = u16::try_from(jail).map(|jail| Key { unit, jail });
            if let Some(&at) = key.ok().and_then(|key| self.index.get(&key)) {
                self.remove(at);
            }
        }
    }

    /// Forgets what `unit` did in this jail. Whether anything was remembered.
    pub fn forgive(&mut self, jail: &JailName, unit: Prefix) -> bool {
        let found = self.jails.iter().position(|(name, _)| name == jail);
        let key = found.and_then(|jail| Some(Key { unit, jail: u16::try_from(jail).ok()? }));
        let Some(&at) = key.and_then(|key| self.index.get(&key)) else { return false };
        self.remove(at);
        true
    }

    /// Forgets what any source that shares an address with `prefix` did. Walks through all of the memory.
    pub fn forget_overlapping(&mut self, prefix: Prefix) {
        for at in 0..self.places.len() {
            let seen = &self.places[at];
            if seen.shelf.is_some() && seen.key.unit.overlaps(&prefix) {
                self.remove(place_number(at));
            }
        }
    }

    /// Moves every window along with a wall clock that stepped by `ms`.
    pub fn shift(&mut self, ms: i64) {
        for seen in &mut self.places {
            seen.window.shift(ms);
        }
        self.swept = self.swept.shifted(ms);
    }

    /// Drops ended windows among the next few thousand records; how many. What has ended never
    /// counts, swept or not: this only gives memory back.
    pub fn sweep(&mut self, now: Stamp) -> usize {
        self.swept = now;
        self.sweep_some(SWEEP, now)
    }

    /// When [`Self::sweep`] is worth calling again.
    pub fn next_deadline(&self) -> Option<Stamp> {
        (!self.index.is_empty()).then(|| self.swept.plus(SWEEP_PAUSE))
    }

    /// How many sources are remembered, each jail's for itself.
    pub fn len(&self) -> usize {
        self.index.len()
    }

    /// Whether nobody is.
    pub fn is_empty(&self) -> bool {
        self.index.is_empty()
    }

    /// How many sources were not kept, or not kept any longer, for want of room.
    pub const fn evicted(&self) -> u64 {
        self.evicted
    }

    /// The number of a jail, whose window it notes. The 65,536th name and all later ones share one
    /// number: a config that names so many jails gets one common window for the last.
    fn jail(&mut self, name: &JailName, find_time: Span) -> u16 {
        let known = self.jails.iter().position(|(known, _)| known == name);
        let at = known.unwrap_or_else(|| {
            if self.jails.len() < usize::from(u16::MAX) {
                self.jails.push((name.clone(), find_time));
            }
            self.jails.len() - 1
        });
        self.jails[at].1 = find_time;
        u16::try_from(at).unwrap_or(u16::MAX - 1)
    }

    fn find_time(&self, key: Key) -> Span {
        self.jails[usize::from(key.jail)].1
    }

    fn sweep_some(&mut self, n: usize, now: Stamp) -> usize {
        let mut dropped = 0;
        for _ in 0..n.min(self.places.len()) {
            self.hand = (self.hand + 1) % self.places.len();
            let seen = &self.places[self.hand];
            let cutoff = now.minus(self.find_time(seen.key));
            if seen.shelf.is_some() && seen.window.last().is_none_or(|last| last <= cutoff) {
                self.remove(place_number(self.hand));
                dropped += 1;
            }
        }
        dropped
    }

    /// Takes a new source into the nursery, or turns it away (rule 4).
    fn admit(&mut self, key: Key, score: u16, at: Stamp, now: Stamp) {
        let mut window = Window::default();
        window.insert(at, score);
        let shelf = Shelf { hall: false, weight: weight(window.sum()) };
        if self.index.len() >= self.capacity && self.sweep_some(OVERFLOW_SWEEP, now) == 0 && !self.displace(shelf) {
            self.evicted += 1;
            return;
        }
        let seen = Seen { key, window, prev: NIL, next: NIL, shelf: None };
        let place = if self.free == NIL {
            self.places.push(seen);
            place_number(self.places.len() - 1)
        } else {
            let place = self.free;
            self.free = self.places[place as usize].next;
            self.places[place as usize] = seen;
            place
        };
        self.index.insert(key, place);
        self.shelve(place, shelf);
    }

    /// Puts a record that was just seen again where it now belongs (rules 1 to 3).
    fn reshelve(&mut self, at: u32, now: Stamp) {
        let seen = &self.places[at as usize];
        let weight = weight(seen.window.sum());
        let was_in_hall = seen.shelf.is_some_and(|shelf| shelf.hall);
        let again = was_in_hall || seen.window.len() > 1;
        self.unshelve(at);
        let hall = again && (was_in_hall || self.hall_has_room(weight, now));
        self.shelve(at, Shelf { hall, weight });
    }

    fn hall_has_room(&mut self, weight: u8, now: Stamp) -> bool {
        let room = self.capacity - self.capacity / NURSERY_SHARE;
        if self.in_hall < room {
            return true;
        }
        let _ = self.sweep_some(OVERFLOW_SWEEP, now);
        self.in_hall < room || self.displace(Shelf { hall: true, weight })
    }

    /// Removes the lightest record of a room, oldest first, if the newcomer weighs as much.
    fn displace(&mut self, newcomer: Shelf) -> bool {
        let lightest =
            (0..=newcomer.weight).map(|weight| self.shelves[Shelf { weight, ..newcomer }.index()].oldest).find(|oldest| *oldest != NIL);
        if let Some(at) = lightest {
            self.remove(at);
            self.evicted += 1;
        }
        lightest.is_some()
    }

    /// Forgets a record that may stand on a shelf.
    fn remove(&mut self, at: u32) {
        self.unshelve(at);
        let seen = &mut self.places[at as usize];
        seen.window = Window::default();
        seen.next = self.free;
        self.free = at;
        self.index.remove(&seen.key);
    }

    fn shelve(&mut self, at: u32, shelf: Shelf) {
        let ends = &mut self.shelves[shelf.index()];
        let prev = std::mem::replace(&mut ends.latest, at);
        if prev == NIL {
            ends.oldest = at;
        } else {
            self.places[prev as usize].next = at;
        }
        let seen = &mut self.places[at as usize];
        (seen.prev, seen.next, seen.shelf) = (prev, NIL, Some(shelf));
        self.in_hall += usize::from(shelf.hall);
    }

    fn unshelve(&mut self, at: u32) {
        let seen = &mut self.places[at as usize];
        let Some(shelf) = seen.shelf.take() else { return };
        let (prev, next) = (seen.prev, seen.next);
        let ends = &mut self.shelves[shelf.index()];
        match prev {
            NIL => ends.oldest = next,
            prev => self.places[prev as usize].next = next,
        }
        match next {
            NIL => self.shelves[shelf.index()].latest = prev,
            next => self.places[next as usize].prev = prev,
        }
        self.in_hall -= usize::from(shelf.hall);
    }
}

/// The sum that trips.
fn needed(policy: &Policy) -> u32 {
    u32::from(policy.max_retry.max(1)) * u32::from(FULL_FAILURE)
}

/// The class of a window's sum: its full failures.
fn weight(sum: u32) -> u8 {
    u8::try_from(sum / u32::from(FULL_FAILURE)).map_or(HEAVIEST, |full| full.min(HEAVIEST))
}

/// Places are numbered in four bytes; the capacity makes sure that they suffice.
fn place_number(at: usize) -> u32 {
    u32::try_from(at).unwrap_or(NIL)
}

#[cfg(test)]
mod tests;
