//! What is asked of the store. What may be much is streamed to a callback, in memory that does not
//! grow with it.

use std::collections::HashMap;
use std::ops::ControlFlow;

use palisade_core::attack::JailName;
use palisade_core::bans::ban::Ban;
use palisade_core::bans::wall::Entry;
use palisade_core::event::{Allowed, Notice, Sentence, What};
use palisade_core::flood::history::Point;
use palisade_core::net::{Addr, Prefix};
use palisade_core::time::{Stamp, Until};
use rusqlite::{Params, Row, params};

use super::column::{self, KEY, PrefixColumns};
use super::{Store, StoreError};

/// A failure that still counts: what the judge's windows are refilled from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Counted {
    /// In which jail.
    pub jail: JailName,
    /// What is counted together with the attacker.
    pub unit: Prefix,
    /// When.
    pub counted: Stamp,
    /// How heavy.
    pub score: u16,
}

/// A hostile line as it is shown to who asks why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Evidence {
    /// When it was counted.
    pub counted: Stamp,
    /// Who.
    pub addr: Addr,
    /// In which jail.
    pub jail: JailName,
    /// By which signature.
    pub signature: String,
    /// How heavy.
    pub score: u16,
    /// The user name tried.
    pub user: Option<String>,
    /// The line, printable.
    pub line: String,
    /// Whether it has led to a ban already and counts no more.
    pub spent: bool,
}

impl Store {
    /// Hands every ban to `take`, sorted by prefix, until it breaks off. Bans that are over are
    /// among them until they are taken back or tidied away.
    ///
    /// # Errors
    /// Any [`StoreError`]; what was handed out before stays right.
    pub fn each_ban(&self, take: &mut dyn FnMut(Ban) -> ControlFlow<()>) -> Result<(), StoreError> {
        let sql = format!("SELECT {KEY}, since, until, origin, reason, offences FROM bans ORDER BY family, addr, len, ports, forced");
        self.stream(&sql, [], |row| Ok(take(column::read_ban(row)?)))
    }

    /// Hands what the wall must hold at `now` to `take`, at most `batch` at a time, and in each
    /// batch what goes into the same set of the kernel together: one family, length, kind and ports
    /// after the other. Bans that are over are left out. Memory: one batch, about 64 bytes an entry.
    ///
    /// # Errors
    /// Any [`StoreError`]; what was handed out before stays right.
    pub fn entries(&self, now: Stamp, batch: usize, take: &mut dyn FnMut(Vec<Entry>) -> ControlFlow<()>) -> Result<(), StoreError> {
        let batch = batch.max(1);
        let mut held: Vec<Entry> = Vec::new();
        let mut stopped = false;
        let mut give = |held: &mut Vec<Entry>| {
            held.sort_by(|a, b| set_of(a).cmp(&set_of(b)));
            take(std::mem::take(held))
        };
        let sql = format!("SELECT {KEY}, until FROM bans WHERE until IS NULL OR until > ?1 ORDER BY family, addr, len, ports, forced");
        self.stream(&sql, [now.0], |row| {
            held.push(Entry { key: column::read_key(row)?, until: column::read_until(row, 5)? });
            if held.len() < batch {
                return Ok(ControlFlow::Continue(()));
            }
            let next = give(&mut held);
            stopped = next.is_break();
            Ok(next)
        })?;
        if !stopped && !held.is_empty() {
            let _ = give(&mut held);
        }
        Ok(())
    }

    /// Every ban that shares an address with `prefix`, sorted by prefix: first those that cover it,
    /// then what lies in it.
    ///
    /// # Errors
    /// Any [`StoreError`].
    pub fn overlapping(&self, prefix: &Prefix) -> Result<Vec<Ban>, StoreError> {
        let mut found = Vec::new();
        let mut keep = |row: &Row<'_>| {
            found.push(column::read_ban(row)?);
            Ok(ControlFlow::Continue(()))
        };
        let columns = format!("SELECT {KEY}, since, until, origin, reason, offences FROM bans WHERE");
        let exactly = format!("{columns} family = ?1 AND addr = ?2 AND len = ?3 ORDER BY ports, forced");
        for len in 0..=prefix.len() {
            let cover = PrefixColumns::from(&prefix.widen(len));
            self.stream(&exactly, params![cover.family, &*cover.addr, cover.len], &mut keep)?;
        }
        let within = format!("{columns} family = ?1 AND addr BETWEEN ?2 AND ?3 AND len > ?4 ORDER BY addr, len, ports, forced");
        let it = PrefixColumns::from(prefix);
        self.stream(&within, params![it.family, &*it.addr, &*it.last, it.len], &mut keep)?;
        Ok(found)
    }

    /// How many bans are kept.
    ///
    /// # Errors
    /// Any [`StoreError`].
    pub fn ban_count(&self) -> Result<u64, StoreError> {
        Ok(self.one::<i64>("SELECT count(*) FROM bans")?.unsigned_abs())
    }

    /// Hands the failures since then that still count to `take`, oldest first.
    ///
    /// # Errors
    /// Any [`StoreError`].
    pub fn failures(&self, since: Stamp, take: &mut dyn FnMut(Counted) -> ControlFlow<()>) -> Result<(), StoreError> {
        let mut last: Option<JailName> = None;
        let sql = "SELECT family, addr, unit, jail, counted, score FROM failures WHERE counted >= ?1 AND spent = 0 ORDER BY counted, id";
        self.stream(sql, [since.0], |row| {
            let name = row.get_ref(3)?.as_str()?;
            // Neighbouring failures are mostly of one jail: share its name.
            let jail = last.take().filter(|jail| &*jail.0 == name).unwrap_or_else(|| name.into());
            last = Some(jail.clone());
            Ok(take(Counted { jail, unit: column::read_prefix(row, 0)?, counted: Stamp(row.get(4)?), score: row.get(5)? }))
        })
    }

    /// The newest `limit` hostile lines from addresses in `prefix`, newest first.
    ///
    /// # Errors
    /// Any [`StoreError`].
    pub fn lines_of(&self, prefix: &Prefix, limit: usize) -> Result<Vec<Evidence>, StoreError> {
        let it = PrefixColumns::from(prefix);
        let mut found = Vec::new();
        // `+id`: by address, then sorted; the other way round would read every line there is.
        let sql = "SELECT family, addr, unit, counted, jail, signature, score, user, line, spent FROM failures
                   WHERE family = ?1 AND addr BETWEEN ?2 AND ?3 ORDER BY +id DESC LIMIT ?4";
        self.stream(sql, params![it.family, &*it.addr, &*it.last, rows(limit)], |row| {
            let bytes = row.get_ref(1)?.as_blob()?;
            let addr = Addr::from_octets(bytes).ok_or(rusqlite::Error::IntegralValueOutOfRange(1, rows(bytes.len())))?;
            found.push(Evidence {
                counted: Stamp(row.get(3)?),
                addr,
                jail: row.get_ref(4)?.as_str()?.into(),
                signature: row.get(5)?,
                score: row.get(6)?,
                user: row.get(7)?,
                line: row.get(8)?,
                spent: row.get(9)?,
            });
            Ok(ControlFlow::Continue(()))
        })?;
        Ok(found)
    }

    /// Hands every kept sentence to `take`, by prefix, oldest first.
    ///
    /// # Errors
    /// Any [`StoreError`].
    pub fn sentences(&self, take: &mut dyn FnMut(Sentence) -> ControlFlow<()>) -> Result<(), StoreError> {
        let sql = "SELECT family, addr, len, started, ends FROM sentences ORDER BY family, addr, len, started";
        self.stream(sql, [], |row| {
            Ok(take(Sentence { prefix: column::read_prefix(row, 0)?, started: Stamp(row.get(3)?), ends: column::read_until(row, 4)? }))
        })
    }

    /// The allow-list members set by hand, sorted by prefix.
    ///
    /// # Errors
    /// Any [`StoreError`].
    pub fn allowed(&self) -> Result<Vec<Allowed>, StoreError> {
        let mut found = Vec::new();
        self.stream("SELECT family, addr, len, since, until, comment FROM allowed ORDER BY family, addr, len", [], |row| {
            let (since, until) = (Stamp(row.get(3)?), column::read_until(row, 4)?);
            found.push(Allowed { prefix: column::read_prefix(row, 0)?, since, until, comment: row.get(5)? });
            Ok(ControlFlow::Continue(()))
        })?;
        Ok(found)
    }

    /// How far each input has been read.
    ///
    /// # Errors
    /// Any [`StoreError`].
    pub fn positions(&self) -> Result<HashMap<String, String>, StoreError> {
        let mut found = HashMap::new();
        self.stream("SELECT source, position FROM positions", [], |row| {
            found.insert(row.get(0)?, row.get(1)?);
            Ok(ControlFlow::Continue(()))
        })?;
        Ok(found)
    }

    /// How the connection table was since then, oldest first, in grains of so many seconds.
    ///
    /// # Errors
    /// Any [`StoreError`].
    pub fn history(&self, grain: u32, since: Stamp) -> Result<Vec<Point>, StoreError> {
        let mut found = Vec::new();
        let sql = "SELECT at, peak, max, drops, top FROM history WHERE grain = ?1 AND at >= ?2 ORDER BY at, id";
        self.stream(sql, params![grain, since.0], |row| {
            let drops: i64 = row.get(3)?;
            // A stranger's hand may have written anything here; who held the most then is worth no error.
            let top = serde_json::from_str(row.get_ref(4)?.as_str()?).unwrap_or_default();
            found.push(Point { at: Stamp(row.get(0)?), grain, peak: row.get(1)?, max: row.get(2)?, drops: drops.unsigned_abs(), top });
            Ok(ControlFlow::Continue(()))
        })?;
        Ok(found)
    }

    /// The newest `limit` notices, oldest first: of those since then, and about prefixes that share
    /// an address with `about`.
    ///
    /// # Errors
    /// Any [`StoreError`].
    pub fn notices(&self, since: Option<Stamp>, about: Option<&Prefix>, limit: usize) -> Result<Vec<Notice>, StoreError> {
        let mut found = Vec::new();
        if limit == 0 {
            return Ok(found);
        }
        // `+at`: newest first by id and no sorting of all there is in memory.
        let sql = "SELECT family, addr, len, at, what FROM notices WHERE +at >= ?1 ORDER BY id DESC";
        self.stream(sql, [since.map_or(i64::MIN, |s| s.0)], |row| {
            let prefix = match row.get::<_, Option<i64>>(0)? {
                Some(_) => Some(column::read_prefix(row, 0)?),
                None => None,
            };
            if about.is_none_or(|about| prefix.is_some_and(|prefix| prefix.overlaps(about))) {
                found.push(Notice { at: Stamp(row.get(3)?), prefix, what: read_what(row.get_ref(4)?.as_str()?) });
            }
            Ok(if found.len() < limit { ControlFlow::Continue(()) } else { ControlFlow::Break(()) })
        })?;
        found.reverse();
        Ok(found)
    }

    /// The newest moment of the wall clock that the store knows of: told by [`Store::seen`], or of a
    /// failure or a notice. A clock that shows less after a reboot is behind.
    ///
    /// # Errors
    /// Any [`StoreError`].
    pub fn last_moment(&self) -> Result<Option<Stamp>, StoreError> {
        let sql = "SELECT max(moment) FROM (SELECT max(counted) AS moment FROM failures
                   UNION ALL SELECT max(at) FROM notices UNION ALL SELECT seen FROM clock)";
        Ok(self.one::<Option<i64>>(sql)?.map(Stamp))
    }

    /// The first column of the only row.
    fn one<T: rusqlite::types::FromSql>(&self, sql: &str) -> Result<T, StoreError> {
        let ask = || self.db.prepare_cached(sql)?.query_row([], |row| row.get(0));
        ask().map_err(|e| StoreError::sqlite(&self.path, e))
    }

    /// Runs a query and hands each row to `take` until it breaks off.
    fn stream<P: Params>(
        &self,
        sql: &str,
        params: P,
        mut take: impl FnMut(&Row<'_>) -> rusqlite::Result<ControlFlow<()>>,
    ) -> Result<(), StoreError> {
        let run = || {
            let mut statement = self.db.prepare_cached(sql)?;
            let mut rows = statement.query(params)?;
            while let Some(row) = rows.next()? {
                if take(row)?.is_break() {
                    break;
                }
            }
            Ok(())
        };
        run().map_err(|e| StoreError::sqlite(&self.path, e))
    }
}

/// What decides in which set of the kernel an entry lies, then its address.
fn set_of(entry: &Entry) -> (bool, &palisade_core::bans::wall::Ports, palisade_core::net::Family, u8, Addr, Until) {
    let prefix = &entry.key.prefix;
    (entry.key.forced, &entry.key.ports, prefix.family(), prefix.len(), prefix.addr(), entry.until)
}

/// A count as SQLite takes it.
fn rows(count: usize) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

/// An event of another release is still worth showing.
fn read_what(json: &str) -> What {
    serde_json::from_str(json).unwrap_or_else(|_| What::Daemon { what: format!("an event that this release does not know: {json}") })
}
