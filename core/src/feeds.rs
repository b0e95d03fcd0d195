//! Feeds, the block lists that others keep: what of a fresh copy is taken, what is refused, and when to ask again.
//!
//! A list from outside is an enemy's until it looks like the one it was yesterday. What does not is refused, and
//! what was good last stands on:
//!
//! | the fresh copy | what becomes of it |
//! |---|---|
//! | holds nothing, or mostly what is no entry (an error page) | refused |
//! | holds more entries than it may | refused, and not read to its end |
//! | lost or gained more than its share of members | refused until the operator says that it is right |
//! | holds prefixes that are too wide | taken without them; they are counted |
//! | holds members that lie within others | taken without them; they are counted |

use serde::{Deserialize, Serialize};

use crate::net::Prefix;
use crate::time::{Span, Stamp};

/// How much later than due a list is asked for at most, as a part of the time between two askings: hosts that were
/// started together do not ask together, and nobody asks more often than he said.
const JITTER: f64 = 0.1;

/// The first wait after a failure; doubles with each further one, up to the time between two askings.
const RETRY_FIRST: Span = Span::secs(300);

/// After so many failures the wait grows no more: 300 s doubled as often is longer than any time between askings.
const DOUBLINGS: u32 = 16;

/// How many bytes are shown of what was expected in the place of the first line that is no entry.
const SHOWN: usize = 200;

/// What may be taken.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Guard {
    /// So many entries, as they stand in the list.
    pub most: usize,
    /// Such a share of the former members lost, or gained.
    pub change: f64,
}

/// What was left out of a list, and why.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LeftOut {
    /// Prefixes too wide to be anything but a mistake.
    pub wide: usize,
    /// Lines that were not understood.
    pub bad: usize,
    /// Members within other members, and those listed twice.
    pub covered: usize,
}

/// A list while it is read. Never holds more than it may take.
#[derive(Debug)]
pub struct Gather {
    entries: Vec<Prefix>,
    most: usize,
    left_out: LeftOut,
    /// The first thing that was not understood.
    strange: Option<String>,
}

impl Gather {
    /// An empty one.
    pub const fn new(guard: Guard) -> Self {
        Self { entries: Vec::new(), most: guard.most, left_out: LeftOut { wide: 0, bad: 0, covered: 0 }, strange: None }
    }

    /// An entry.
    pub fn add(&mut self, prefix: Prefix) {
        // One more than it may take is kept, so that it shows.
        if self.entries.len() <= self.most {
            self.entries.push(prefix);
        }
    }

    /// An entry that is too wide.
    pub const fn wide(&mut self) {
        self.left_out.wide = self.left_out.wide.saturating_add(1);
    }

    /// Something that is no entry, and what was expected there.
    pub fn bad(&mut self, why: &str) {
        self.left_out.bad = self.left_out.bad.saturating_add(1);
        if self.strange.is_none() {
            let end = (0..=SHOWN.min(why.len())).rev().find(|end| why.is_char_boundary(*end)).unwrap_or(0);
            let dots = if end < why.len() { "…" } else { "" };
            self.strange = Some(format!("{}{dots}", &why[..end]));
        }
    }

    /// Whether it holds more than it may: what follows need not be read.
    pub const fn too_many(&self) -> bool {
        self.entries.len() > self.most
    }

    /// The list is over: sorted, without what is covered.
    pub fn finish(mut self) -> Fresh {
        let too_many = self.too_many();
        let entries = self.entries.len();
        self.entries.sort_unstable();
        // What covers a prefix sorts before it, with nothing between that is not covered too.
        let mut last: Option<Prefix> = None;
        self.entries.retain(|prefix| {
            let keep = last.is_none_or(|last| !last.covers(prefix));
            if keep {
                last = Some(*prefix);
            }
            keep
        });
        self.left_out.covered = entries - self.entries.len();
        Fresh { members: self.entries, entries, too_many, left_out: self.left_out, strange: self.strange }
    }
}

/// A list that was read, not yet weighed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fresh {
    members: Vec<Prefix>,
    entries: usize,
    too_many: bool,
    left_out: LeftOut,
    strange: Option<String>,
}

/// A list that may be followed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Accepted {
    /// Its members, sorted, none within another.
    pub members: Vec<Prefix>,
    /// How many of them are new.
    pub added: usize,
    /// How many of the former are gone.
    pub removed: usize,
    /// What it has that is not followed.
    pub left_out: LeftOut,
}

/// Why a list is not followed. Each says what to do where there is something.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum Refused {
    /// Nothing in it.
    #[error("the list is empty")]
    Empty,
    /// No list.
    #[error(
        "this is no such list: {bad} of its lines are not understood and {entries} are; the first: {strange}; look at what it answers, and at `format`"
    )]
    Strange {
        /// How many lines were not understood.
        bad: usize,
        /// How many entries were.
        entries: usize,
        /// What was expected on the first.
        strange: String,
    },
    /// Only prefixes that are too wide.
    #[error("none of its {wide} entries is narrow enough to be banned")]
    Wide {
        /// How many there are.
        wide: usize,
    },
    /// Too many.
    #[error("it has more than {most} entries; raise `most` if that is right")]
    Huge {
        /// How many may be.
        most: usize,
    },
    /// So many members gone, or new, that somebody should look.
    #[error("of {former} members {removed} are gone and {added} are new, more than the {} % that may change at once", (change * 100.0).round())]
    Changed {
        /// How many there were.
        former: usize,
        /// How many are gone.
        removed: usize,
        /// How many are new.
        added: usize,
        /// Which share of the former may.
        change: f64,
    },
}

impl Refused {
    /// Whether the operator's word is all that is missing.
    pub const fn acceptable(&self) -> bool {
        matches!(self, Self::Changed { .. })
    }
}

/// Whether a fresh copy may be followed, after the members that were good last (`None`: there were none yet). With
/// `accept`, however much it changed.
pub fn weigh(last: Option<&[Prefix]>, fresh: Fresh, guard: Guard, accept: bool) -> Result<Accepted, Refused> {
    let Fresh { members, entries, too_many, left_out, strange } = fresh;
    if too_many {
        return Err(Refused::Huge { most: guard.most });
    }
    if left_out.bad > entries + left_out.wide {
        return Err(Refused::Strange { bad: left_out.bad, entries, strange: strange.unwrap_or_default() });
    }
    if members.is_empty() {
        return Err(if left_out.wide > 0 { Refused::Wide { wide: left_out.wide } } else { Refused::Empty });
    }
    let former = last.unwrap_or_default();
    let changes = Changes::between(former, &members);
    let (added, removed) = (changes.added.len(), changes.removed.len());
    #[expect(
        clippy::cast_precision_loss,
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a share of a number of entries"
    )]
    let may = (former.len() as f64 * guard.change) as usize;
    if !accept && !former.is_empty() && added.max(removed) > may {
        return Err(Refused::Changed { former: former.len(), removed, added, change: guard.change });
    }
    Ok(Accepted { members, added, removed, left_out })
}

/// From one list of members to another, both sorted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Changes {
    /// In the later one only.
    pub added: Vec<Prefix>,
    /// In the former one only.
    pub removed: Vec<Prefix>,
}

impl Changes {
    /// What differs.
    pub fn between(former: &[Prefix], later: &[Prefix]) -> Self {
        let mut changes = Self::default();
        let (mut old, mut new) = (former.iter().peekable(), later.iter().peekable());
        loop {
            match (old.peek(), new.peek()) {
                (Some(a), Some(b)) if a == b => drop((old.next(), new.next())),
                (Some(a), Some(b)) if a < b => changes.removed.extend(old.next()),
                (_, Some(_)) => changes.added.extend(new.next()),
                (Some(_), None) => changes.removed.extend(old.next()),
                (None, None) => return changes,
            }
        }
    }
}

/// How long to wait before a list is asked for again: a little more than `every`; after failures in a row less, at
/// first, but not less than its keeper asked for. `dice` is a random number, 0 to 1.
pub fn wait(every: Span, failures: u32, asked: Option<Span>, dice: f64) -> Span {
    let due = match failures {
        0 => every,
        n => every.min(RETRY_FIRST.times(2f64.powi((n - 1).min(DOUBLINGS).cast_signed()))),
    };
    let due = due.max(asked.unwrap_or_default());
    Span::millis(due.as_millis().saturating_add(due.times(JITTER * dice.clamp(0.0, 1.0)).as_millis()))
}

/// How it goes with following a feed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report {
    /// When its list was last asked for.
    pub checked: Option<Stamp>,
    /// When the list that is followed was last what its keeper has.
    pub good: Option<Stamp>,
    /// When it will be asked for again.
    pub next: Option<Stamp>,
    /// How many members the last copy brought.
    pub added: usize,
    /// How many it dropped.
    pub removed: usize,
    /// What the list has that is not followed.
    pub left_out: LeftOut,
    /// Why the last copy is not followed, and what to do next.
    pub error: Option<String>,
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::net::Addr;

    const GUARD: Guard = Guard { most: 1000, change: 0.5 };

    fn fresh(guard: Guard, prefixes: impl IntoIterator<Item = Prefix>) -> Fresh {
        let mut gather = Gather::new(guard);
        prefixes.into_iter().for_each(|prefix| gather.add(prefix));
        gather.finish()
    }

    fn hosts(range: std::ops::Range<u16>) -> Vec<Prefix> {
        range.map(|n| Prefix::host(Addr::from(std::net::Ipv4Addr::from_bits(0x0a00_0000 + u32::from(n) * 2)))).collect()
    }

    fn texts(texts: &[&str]) -> Vec<Prefix> {
        texts.iter().map(|text| text.parse().unwrap()).collect()
    }

    fn any_prefix() -> impl Strategy<Value = Prefix> {
        // Few bits, so that they cover one another often.
        (0u32..64, 26u8..=32, any::<bool>(), 122u8..=128).prop_map(|(bits, v4, six, v6)| {
            let addr = if six {
                Addr::from(std::net::Ipv6Addr::from_bits(0x2001_0db8 << 96 | u128::from(bits)))
            } else {
                Addr::from(std::net::Ipv4Addr::from_bits(0xc000_0200 + bits))
            };
            Prefix::new(addr, if six { v6 } else { v4 }).unwrap()
        })
    }

    #[test]
    fn what_is_empty_strange_wide_or_huge_is_refused_whoever_accepts_it() {
        for accept in [false, true] {
            let weigh = |fresh| weigh(Some(&hosts(0..10)), fresh, GUARD, accept);
            assert_eq!(weigh(fresh(GUARD, [])), Err(Refused::Empty));
            assert_eq!(weigh(fresh(GUARD, hosts(0..1001))), Err(Refused::Huge { most: 1000 }));
            let mut page = Gather::new(GUARD);
            page.add("192.0.2.1".parse().unwrap());
            (0..2).for_each(|n| page.bad(&format!("expected an address, found `<html>{n}`")));
            let told = weigh(page.finish()).unwrap_err();
            assert!(told.to_string().contains("<html>0") && told.to_string().contains("2 of its lines") && !told.acceptable(), "{told}");
            let mut wide = Gather::new(GUARD);
            wide.wide();
            assert_eq!(weigh(wide.finish()), Err(Refused::Wide { wide: 1 }));
        }
    }

    #[test]
    fn a_list_that_may_have_just_so_many_entries_is_taken_and_no_more_are_kept() {
        let mut gather = Gather::new(Guard { most: 2, change: 0.5 });
        hosts(0..2).into_iter().for_each(|prefix| gather.add(prefix));
        assert!(!gather.too_many());
        hosts(2..100).into_iter().for_each(|prefix| gather.add(prefix));
        assert!(gather.too_many() && gather.entries.len() == 3);
    }

    #[test]
    fn a_sharp_change_waits_for_the_operators_word() {
        let last = hosts(0..10);
        for (now, refused) in [(0..5, false), (0..4, true), (0..15, false), (0..16, true), (5..15, false), (6..16, true), (0..10, false)] {
            let outcome = weigh(Some(&last), fresh(GUARD, hosts(now.clone())), GUARD, false);
            assert_eq!(outcome.is_err(), refused, "{now:?}: {outcome:?}");
            assert!(outcome.err().is_none_or(|why| why.acceptable() && why.to_string().contains("50 %")));
            let accepted = weigh(Some(&last), fresh(GUARD, hosts(now.clone())), GUARD, true).unwrap();
            assert_eq!(accepted.members, hosts(now));
        }
        // The first list has nothing to be compared with.
        assert_eq!(weigh(None, fresh(GUARD, hosts(0..900)), GUARD, false).unwrap().added, 900);
    }

    #[test]
    fn members_within_members_are_left_out_and_counted() {
        let list = texts(&["192.0.2.7", "192.0.2.0/24", "192.0.2.7", "198.51.100.1", "2001:db8::1", "2001:db8::/32"]);
        let accepted = weigh(None, fresh(GUARD, list), GUARD, false).unwrap();
        assert_eq!(accepted.members, texts(&["192.0.2.0/24", "198.51.100.1", "2001:db8::/32"]));
        assert_eq!(accepted.left_out, LeftOut { covered: 3, ..LeftOut::default() });
    }

    #[test]
    fn a_message_is_never_cut_within_a_letter() {
        let mut gather = Gather::new(GUARD);
        gather.bad(&format!("a{}", "ä".repeat(100)));
        assert!(gather.finish().strange.unwrap().ends_with('…'));
    }

    #[test]
    fn nobody_is_asked_sooner_than_due_and_failures_wait_longer_each_time() {
        let day = Span::secs(86_400);
        assert_eq!(wait(day, 0, None, 0.0), day);
        assert_eq!(wait(day, 0, None, 1.0), day.times(1.1));
        let waits: Vec<Span> = (1..12).map(|n| wait(day, n, None, 0.0)).collect();
        assert_eq!(waits[..3], [300, 600, 1200].map(Span::secs));
        assert!(waits.is_sorted() && waits[10] == day && wait(day, u32::MAX, None, 0.0) == day);
        // One that is read every minute is not put off for longer than that.
        assert_eq!(wait(Span::secs(60), 9, None, 0.0), Span::secs(60));
        assert_eq!(wait(Span::secs(3600), 1, Some(Span::secs(7200)), 0.0), Span::secs(7200));
        assert!(wait(Span::millis(u64::MAX), 0, None, f64::NAN) >= day);
    }

    proptest! {
        /// Whoever is shut out by the entries is shut out by the members, and nobody else; none covers another.
        #[test]
        fn members_shut_out_the_same_as_the_entries(entries in proptest::collection::vec(any_prefix(), 0..60)) {
            let fresh = fresh(GUARD, entries.iter().copied());
            let members = &fresh.members;
            prop_assert!(members.is_sorted());
            prop_assert!(entries.iter().all(|e| members.iter().any(|m| m.covers(e))));
            prop_assert!(members.iter().all(|m| entries.contains(m)));
            for (n, one) in members.iter().enumerate() {
                prop_assert!(members.iter().skip(n + 1).all(|other| !one.overlaps(other)));
            }
            prop_assert_eq!(fresh.left_out.covered + members.len(), entries.len());
        }

        /// What is accepted is the fresh list whole, within its bounds, and the counts of what changed are right.
        #[test]
        fn what_is_accepted_is_within_bounds(
            last in proptest::collection::vec(any_prefix(), 0..40), list in proptest::collection::vec(any_prefix(), 0..40),
            most in 0usize..40, change in 0.0f64..3.0, accept: bool,
        ) {
            let guard = Guard { most, change };
            let last = fresh(GUARD, last).members;
            let size = list.len();
            match weigh(Some(&last), fresh(guard, list.iter().copied()), guard, accept) {
                Ok(Accepted { members, added, removed, .. }) => {
                    prop_assert!(size <= most && !members.is_empty());
                    let kept = members.iter().filter(|m| last.contains(m)).count();
                    prop_assert_eq!((added, removed), (members.len() - kept, last.len() - kept));
                    prop_assert!(accept || last.is_empty() || added.max(removed) as f64 <= change * last.len() as f64);
                }
                Err(Refused::Changed { .. }) => prop_assert!(!accept),
                Err(Refused::Huge { .. }) => prop_assert!(size > most),
                Err(refused) => prop_assert!(size == 0 && refused == Refused::Empty),
            }
        }

        /// One list and what changed make the other.
        #[test]
        fn changes_lead_from_one_list_to_the_other(
            former in proptest::collection::btree_set(any_prefix(), 0..40), later in proptest::collection::btree_set(any_prefix(), 0..40),
        ) {
            let list = |set: &std::collections::BTreeSet<Prefix>| set.iter().copied().collect::<Vec<_>>();
            let changes = Changes::between(&list(&former), &list(&later));
            prop_assert!(changes.removed.iter().all(|p| former.contains(p)) && changes.added.iter().all(|p| !former.contains(p)));
            let mut led = former;
            led.retain(|p| !changes.removed.contains(p));
            led.extend(changes.added);
            prop_assert_eq!(led, later);
        }
    }
}
