//! Which template is tried first, and which match is distrusted.
//!
//! The port of fail2ban's `server/datedetector.py`, `DateDetector.matchTime`. What it is for: who can write into
//! a log line can write a date into it. So the template of the last line is tried first, where it was;
//! a match further to the right than the template's last is kept in reserve while others are tried;
//! and templates that hit often move to the front. Places count in characters.

use std::cell::Cell;
use std::sync::Arc;

use super::mould::Mould;
use super::recent::Recent;
use super::run::Hit;
use super::template::{LINE_BEGIN, LINE_END, Template};
use crate::time::Stamp;

/// A distance that no match has: a template that never matched.
const FAR: u32 = 0x7fff_ffff;

/// After so many seconds without a match a template makes place for the one that matches.
const UNUSED: i64 = 300;

/// What finding dates remembers from one line to the next; one for each source. Bounded: a few
/// bytes a template.
#[derive(Clone, Debug, Default)]
pub struct DateMemory {
    order: Vec<Entry>,
    last: Option<Last>,
    first_unused: usize,
    cast: Option<Cast>,
    /// Whether moulds are worth making: each line that fits one earns something, each mould costs.
    credit: u32,
    pub(super) recent: Recent,
}

/// A mould of the last template, where it was.
#[derive(Clone, Debug)]
struct Cast {
    template: u16,
    /// What the last match must have been, where the template is not bound.
    last: Option<Last>,
    mould: Mould,
}

/// How many steps all templates together may take for one line: a line of 64 KiB that makes them take more has no date.
const STEPS: usize = 700_000;

/// What a mould costs, in lines that fit one; and what can be saved up.
const COST: u32 = 4;
const SAVED: u32 = 64;

/// A line whose date is where the last one's was.
pub(super) struct Fitting<'m> {
    /// The template, by its place in the list.
    pub(super) template: usize,
    pub(super) hit: &'m Hit,
}

#[derive(Clone, Copy, Debug)]
struct Entry {
    template: u16,
    /// How often it won.
    hits: u32,
    /// How often it matched.
    matched: u32,
    used: i64,
    distance: u32,
}

/// The last match.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Last {
    index: usize,
    start: u32,
    end: u32,
    /// The characters before and at the start, and before and at the end.
    around_start: (Option<char>, Option<char>),
    around_end: (Option<char>, Option<char>),
}

impl Last {
    /// The characters before it and behind it.
    const fn outside(&self) -> (Option<char>, Option<char>) {
        (self.around_start.0, self.around_end.1)
    }

    const fn place(&self) -> (usize, u32, u32, (Option<char>, Option<char>)) {
        (self.index, self.start, self.end, self.outside())
    }
}

/// A line whose places are counted in characters.
struct Counted<'a> {
    text: &'a str,
    ascii: bool,
    /// How many steps may still be taken for it.
    left: Cell<usize>,
}

impl Counted<'_> {
    fn search(&self, template: &Template, from: usize, to: usize) -> Option<Hit> {
        let mut left = self.left.get();
        let hit = template.search(self.text, (from, to), &mut left);
        self.left.set(left);
        hit
    }

    fn count(&self, at: usize) -> u32 {
        let chars = if self.ascii { at } else { self.text.get(..at).map_or(at, |before| before.chars().count()) };
        u32::try_from(chars).unwrap_or(FAR)
    }

    /// In bytes; the text's end for what is behind it.
    fn place(&self, count: u32) -> usize {
        if self.ascii {
            return self.text.len().min(count as usize);
        }
        self.text.char_indices().nth(count as usize).map_or(self.text.len(), |(at, _)| at)
    }

    fn at(&self, count: u32) -> Option<char> {
        if self.ascii {
            return self.text.as_bytes().get(count as usize).map(|b| char::from(*b));
        }
        self.text.chars().nth(count as usize)
    }

    fn before(&self, count: u32) -> Option<char> {
        self.at(count.checked_sub(1)?)
    }

    fn around(&self, count: u32) -> (Option<char>, Option<char>) {
        (self.before(count), self.at(count))
    }
}

/// A match that may win.
#[derive(Clone, Copy)]
struct Found {
    hit: Hit,
    index: usize,
    distance: u32,
}

impl DateMemory {
    /// What [`super::Detector::recent`] is from now on.
    pub fn set_recent(&mut self, at: Option<Stamp>) {
        self.recent.set(at);
    }

    /// The template that wins, by its place in `templates`, and its match.
    pub(super) fn search(&mut self, templates: &[Arc<Template>], line: &str, now: i64) -> Option<(usize, Hit)> {
        if self.order.len() != templates.len() {
            let fresh = |template| Entry { template, hits: 0, matched: 0, used: 0, distance: FAR };
            self.order = (0..).take(templates.len()).map(fresh).collect();
            (self.last, self.first_unused, self.cast, self.credit) = (None, 0, None, SAVED / 2);
        }
        if let Some(Fitting { template, hit }) = self.fitting(line.as_bytes()) {
            let found = (template, *hit);
            self.fitted(line.as_bytes(), now);
            return Some(found);
        }
        let line = Counted { text: line, ascii: line.is_ascii(), left: Cell::new(STEPS) };
        let mut reserve = None;
        let mut tried = None;
        let found = match self.by_last(templates, &line, &mut reserve, &mut tried) {
            Some(found) => {
                self.cast(templates, &line, tried.is_none());
                found
            }
            None => self.by_all(templates, &line, reserve, tried)?,
        };
        Some((self.won(templates, &line, &found, now), found.hit))
    }

    /// Makes a mould of a line that the last template won; `there`: it was only looked for where it was.
    fn cast(&mut self, templates: &[Arc<Template>], line: &Counted<'_>, there: bool) {
        let Some(credit) = self.credit.checked_sub(COST) else { return };
        let Some((last, entry)) = self.last.and_then(|last| Some((last, *self.order.get(last.index)?))) else { return };
        let Some(template) = template(templates, &entry) else { return };
        let bound = template.flags & (LINE_BEGIN | LINE_END) != 0;
        if bound == there {
            return;
        }
        self.credit = credit;
        let bytes = line.text.as_bytes();
        let part = if there { (last.start as usize, last.end as usize) } else { (0, bytes.len()) };
        self.cast = template.mould(bytes, part, there).and_then(|mut mould| {
            if there {
                // Where the same stands on both sides, it is looked for between them.
                let outside = (line.before(last.start), line.at(last.end));
                if (mould.hit.start, mould.hit.end) != part || outside != last.outside() {
                    return None;
                }
                for at in last.start.checked_sub(1).into_iter().chain([last.end]).map(|at| at as usize) {
                    mould.narrow(at, *bytes.get(at).filter(|byte| byte.is_ascii())?)?;
                }
            }
            Some(Cast { template: entry.template, last: there.then_some(last), mould })
        });
    }

    /// The date of a line that fits the mould; nothing is remembered of it yet.
    pub(super) fn fitting(&self, line: &[u8]) -> Option<Fitting<'_>> {
        let (last, cast) = (self.last?, self.cast.as_ref()?);
        let same = self.order.get(last.index)?.template == cast.template && cast.last.is_none_or(|then| then.place() == last.place());
        (same && cast.mould.fits(line)).then_some(Fitting { template: usize::from(cast.template), hit: &cast.mould.hit })
    }

    /// Remembers that a line fitted, as [`Self::won`] would: the last template wins again, as it did.
    pub(super) fn fitted(&mut self, line: &[u8], now: i64) {
        let (Some(last), Some(cast)) = (&mut self.last, &self.cast) else { return };
        let Some(entry) = self.order.get_mut(last.index) else { return };
        // What is ASCII counts alike in bytes and characters.
        let [start, end] = [cast.mould.hit.start, cast.mould.hit.end].map(|at| u32::try_from(at).unwrap_or(FAR));
        entry.matched = entry.matched.saturating_add(1);
        entry.hits = entry.hits.saturating_add(1);
        (entry.used, entry.distance) = (now, start);
        (last.start, last.end) = (start, end);
        // Where a template is not bound, what is around it decides next time; outside it is the same.
        if cast.last.is_some() {
            let inside = line.get(cast.mould.hit.start..cast.mould.hit.end).unwrap_or_default();
            last.around_start.1 = inside.first().map(|byte| char::from(*byte));
            last.around_end.0 = inside.last().map(|byte| char::from(*byte));
        }
        self.credit = SAVED.min(self.credit + 1);
    }

    /// The last template, where it was. `tried` is told if it was looked for in all of the line.
    fn by_last(
        &mut self,
        templates: &[Arc<Template>],
        line: &Counted<'_>,
        reserve: &mut Option<Found>,
        tried: &mut Option<usize>,
    ) -> Option<Found> {
        let last = self.last?;
        let template = template(templates, self.order.get(last.index)?)?;
        let bound = template.flags & (LINE_BEGIN | LINE_END) != 0;
        let same_place = || {
            let same = |now: Option<char>, then: Option<char>| now == then;
            let sign = |now: Option<char>, then: Option<char>| now == then && !then.is_none_or(char::is_alphanumeric);
            let (left, right) = (line.around(last.start), line.around(last.end));
            (same(left.0, last.around_start.0) || sign(left.1, last.around_start.1))
                && (same(right.1, last.around_end.1) || sign(right.0, last.around_end.0))
        };
        let hit = if !bound && same_place() {
            line.search(template, line.place(last.start), line.place(last.end))
        } else {
            *tried = Some(last.index);
            line.search(template, 0, line.text.len())
        };
        let hit = hit?;
        let (distance, end) = (line.count(hit.start), line.count(hit.end));
        let entry = self.order.get_mut(last.index)?;
        entry.matched = entry.matched.saturating_add(1);
        let found = Found { hit, index: last.index, distance };
        if templates.len() == 1 || bound || (distance == last.start && end == last.end) {
            return Some(found);
        }
        *reserve = Some(found);
        None
    }

    /// All of them in their order.
    fn by_all(
        &mut self,
        templates: &[Arc<Template>],
        line: &Counted<'_>,
        mut reserve: Option<Found>,
        tried: Option<usize>,
    ) -> Option<Found> {
        let last_start = self.last.map_or(1, |last| last.start);
        for index in 0..self.order.len() {
            if tried == Some(index) {
                continue;
            }
            let next_matched = self.order.get(index + 1).map(|next| next.matched);
            let Some(entry) = self.order.get_mut(index) else { continue };
            let Some(template) = template(templates, entry) else { continue };
            let Some(hit) = line.search(template, 0, line.text.len()) else { continue };
            entry.matched = entry.matched.saturating_add(1);
            let distance = line.count(hit.start);
            let found = Found { hit, index, distance };
            let bound = template.flags & (LINE_BEGIN | LINE_END) != 0;
            let Some(next_matched) = next_matched else { return Some(found) };
            if bound || (distance == 0 && entry.hits > 0 && next_matched == 0) {
                return Some(found);
            }
            if distance > entry.distance || distance > last_start {
                // Further to the right than a date was before: perhaps one that somebody sent.
                if reserve.is_none_or(|reserve| distance < reserve.distance) {
                    reserve = Some(found);
                }
                continue;
            }
            return Some(found);
        }
        reserve
    }

    /// Remembers who won; the template's place in `templates`.
    fn won(&mut self, templates: &[Arc<Template>], line: &Counted<'_>, found: &Found, now: i64) -> usize {
        let (mut index, end) = (found.index, line.count(found.hit.end));
        let Some(entry) = self.order.get_mut(index) else { return 0 };
        entry.hits = entry.hits.saturating_add(1);
        (entry.used, entry.distance) = (now, found.distance);
        let template = usize::from(entry.template);
        if self.first_unused == index {
            self.first_unused += 1;
        }
        let last_index = self.last.map(|last| last.index);
        if index > 0 && last_index != Some(index) {
            index = self.moved_up(templates, index);
        }
        let (around_start, around_end) = (line.around(found.distance), line.around(end));
        self.last = Some(Last { index, start: found.distance, end, around_start, around_end });
        template
    }

    /// Moves a template towards the front if it outweighs one there.
    fn moved_up(&mut self, templates: &[Arc<Template>], index: usize) -> usize {
        let weight =
            |entry: &Entry| template(templates, entry).map_or(0.0, |t| f64::from(entry.hits) * t.weight / f64::from(entry.distance.max(1)));
        let Some(entry) = self.order.get(index).copied() else { return index };
        let outweighs =
            |at: usize| self.order.get(at).is_some_and(|there| weight(&entry) > weight(there) || entry.used - UNUSED > there.used);
        let mut to = if self.first_unused < index { self.first_unused } else { index / 2 };
        if !outweighs(to) {
            if to == index - 1 {
                return index;
            }
            to = index - 1;
            if !outweighs(to) {
                return index;
            }
        }
        if let Some(part) = self.order.get_mut(to..=index) {
            part.rotate_right(1);
        }
        while self.order.get(self.first_unused).is_some_and(|entry| entry.hits > 0) {
            self.first_unused += 1;
        }
        to
    }
}

fn template<'t>(templates: &'t [Arc<Template>], entry: &Entry) -> Option<&'t Template> {
    templates.get(usize::from(entry.template)).map(AsRef::as_ref)
}
