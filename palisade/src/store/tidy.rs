//! Forgetting what nobody needs any more, in bites that hold the writer up for milliseconds.

use std::net::Ipv4Addr;

use palisade_core::bans::wall::Key;
use palisade_core::flood::history::{COARSE, FINE};
use palisade_core::net::{Addr, Prefix};
use palisade_core::time::{Span, Stamp};
use rusqlite::{Connection, OptionalExtension, Params, params};

use super::column::{self, KEY, PrefixColumns};
use super::{Store, StoreError};

/// How many failures are kept at most: as many as sources are tracked (`[limits] tracked_sources`);
/// with a line of 400 bytes each about 150 MiB.
const FAILURES: i64 = 262_144;

/// How many notices are kept at most, and for how long: a busy host's months, about 20 MiB.
const NOTICES: i64 = 100_000;
const NOTICE_AGE: Span = Span::secs(90 * 86_400);

/// How many rows of a table one call takes away: some 10 ms.
const BITE: i64 = 5_000;

/// How many bans one call looks at. Bans end by their own `Unban`; this finds the few that were
/// over while nothing ran, without an index on a million of ends that would double each write.
const LOOK: i64 = 20_000;

/// How many pages go back to the disk in one call (8 MiB), once so many lie unused.
const PAGES: i64 = 2_048;

/// A key as columns: where a sweep over the bans stopped.
#[derive(Clone, Debug)]
pub(super) struct Place(Key);

/// How long things are of use; the judge's policies say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Keep {
    /// Failures, counted or spent: at least the longest `find_time`; longer for `why`.
    pub failures: Span,
    /// Sentences, after their end: at least the longest `forget` or `within`.
    pub sentences: Span,
}

/// What [`Store::tidy`] took away.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tidied {
    /// Failures.
    pub failures: usize,
    /// Notices.
    pub notices: usize,
    /// Sentences.
    pub sentences: usize,
    /// Allow-list members that were over.
    pub allowed: usize,
    /// Grains of the connection table's history.
    pub history: usize,
    /// Bans that were over.
    pub bans: usize,
    /// Whether there is more to take away at once.
    pub more: bool,
}

impl Store {
    /// Takes away what is over or too much, oldest first, at most some thousand rows a table; call
    /// it every few minutes, and again at once while [`Tidied::more`].
    ///
    /// # Errors
    /// Any [`StoreError`]; nothing was taken away then.
    pub fn tidy(&mut self, now: Stamp, keep: Keep) -> Result<Tidied, StoreError> {
        let from = self.sweep.take();
        let (mut tidied, place) = self.transact(|db| {
            let (bans, place) = sweep(db, now, from)?;
            let done = Tidied {
                failures: too_old(db, "failures", "counted", now.minus(keep.failures))? + too_many(db, "failures", FAILURES)?,
                notices: too_old(db, "notices", "at", now.minus(NOTICE_AGE))? + too_many(db, "notices", NOTICES)?,
                sentences: forget_sentences(db, now.minus(keep.sentences))?,
                allowed: bite(db, "DELETE FROM allowed WHERE until <= ?1", [now.0])?,
                history: forget_history(db, now, FINE)? + forget_history(db, now, COARSE)?,
                bans,
                more: false,
            };
            Ok((done, place))
        })?;
        let full = usize::try_from(BITE).unwrap_or(usize::MAX);
        tidied.more = [tidied.failures, tidied.notices, tidied.sentences].iter().any(|n| *n >= full);
        self.sweep = place;
        self.give_back()?;
        Ok(tidied)
    }

    /// Gives unused pages back to the disk when there are many, and the like of a quarter of the file.
    fn give_back(&self) -> Result<(), StoreError> {
        let ask = |pragma: &str| self.db.pragma_query_value(None, pragma, |row| row.get::<_, i64>(0));
        let work = || {
            let unused = ask("freelist_count")?;
            if unused > PAGES && unused > ask("page_count")? / 4 {
                self.db.execute_batch(&format!("PRAGMA incremental_vacuum({PAGES})"))?;
            }
            Ok(())
        };
        work().map_err(|e| StoreError::sqlite(&self.path, e))
    }
}

fn bite(db: &Connection, sql: &str, params: impl Params) -> rusqlite::Result<usize> {
    db.prepare_cached(sql)?.execute(params)
}

fn too_old(db: &Connection, table: &str, moment: &str, before: Stamp) -> rusqlite::Result<usize> {
    let sql = format!("DELETE FROM {table} WHERE id IN (SELECT id FROM {table} WHERE {moment} < ?1 ORDER BY {moment} LIMIT {BITE})");
    bite(db, &sql, [before.0])
}

/// Ids grow by one a row and the oldest go first, so the newest `most` are those with the highest
/// `most` ids (fewer where a stepping clock has made the old go out of turn).
fn too_many(db: &Connection, table: &str, most: i64) -> rusqlite::Result<usize> {
    let sql = format!(
        "DELETE FROM {table} WHERE id IN
         (SELECT id FROM {table} WHERE id <= (SELECT max(id) FROM {table}) - ?1 ORDER BY id LIMIT {BITE})"
    );
    bite(db, &sql, [most])
}

/// A finer history than this is of no use after its time.
fn forget_history(db: &Connection, now: Stamp, (grain, keep): (Span, Span)) -> rusqlite::Result<usize> {
    let seconds = i64::try_from(grain.as_secs_ceil()).unwrap_or(i64::MAX);
    bite(db, "DELETE FROM history WHERE grain = ?1 AND at < ?2", [seconds, now.minus(keep).0])
}

/// A sentence that ended before the horizon makes nobody a repeat offender; one for ever, once no
/// ban of its prefix stands any more, is judged by its start.
fn forget_sentences(db: &Connection, before: Stamp) -> rusqlite::Result<usize> {
    let over = format!("DELETE FROM sentences WHERE id IN (SELECT id FROM sentences WHERE ends < ?1 LIMIT {BITE})");
    let pardoned = format!(
        "DELETE FROM sentences WHERE id IN (SELECT id FROM sentences AS s WHERE ends IS NULL AND started < ?1 AND NOT EXISTS
         (SELECT 1 FROM bans AS b WHERE b.family = s.family AND b.addr = s.addr AND b.len = s.len) LIMIT {BITE})"
    );
    Ok(bite(db, &over, [before.0])? + bite(db, &pardoned, [before.0])?)
}

/// Looks at the next bans after `from` and takes away those that are over; says where it stopped,
/// `None` at the end.
fn sweep(db: &Connection, now: Stamp, from: Option<Place>) -> rusqlite::Result<(usize, Option<Place>)> {
    let first = Place(Key::all(Prefix::host(Addr::from(Ipv4Addr::UNSPECIFIED)).widen(0)));
    let Place(start) = from.unwrap_or(first);
    let a = PrefixColumns::from(&start.prefix);
    let ports = column::ports(&start.ports);
    let order = "ORDER BY family, addr, len, ports, forced";
    let end = db
        .prepare_cached(&format!("SELECT {KEY} FROM bans WHERE ({KEY}) >= (?1, ?2, ?3, ?4, ?5) {order} LIMIT 1 OFFSET {LOOK}"))?
        .query_row(params![a.family, &*a.addr, a.len, ports, start.forced], column::read_key)
        .optional()?;
    let over = format!("DELETE FROM bans WHERE until <= ?1 AND ({KEY}) >= (?2, ?3, ?4, ?5, ?6)");
    let Some(end) = end else {
        return Ok((bite(db, &over, params![now.0, a.family, &*a.addr, a.len, ports, start.forced])?, None));
    };
    let b = PrefixColumns::from(&end.prefix);
    let gone = bite(
        db,
        &format!("{over} AND ({KEY}) < (?7, ?8, ?9, ?10, ?11)"),
        params![now.0, a.family, &*a.addr, a.len, ports, start.forced, b.family, &*b.addr, b.len, column::ports(&end.ports), end.forced],
    )?;
    Ok((gone, Some(Place(end))))
}
