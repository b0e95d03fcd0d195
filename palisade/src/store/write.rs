//! Keeping records: one call, one transaction.

use palisade_core::attack::{Attack, JailName};
use palisade_core::bans::ban::Ban;
use palisade_core::bans::wall::Key;
use palisade_core::event::{Allowed, Notice, Record, Sentence};
use palisade_core::flood::history::Point;
use palisade_core::net::Prefix;
use palisade_core::time::Stamp;
use rusqlite::{Connection, TransactionBehavior, named_params, params};

use super::column::{self, PrefixColumns};
use super::{Store, StoreError};

impl Store {
    /// Keeps all of `records`, in their order, or none of them. When it returns `Ok` they are on the disk.
    ///
    /// # Errors
    /// Any [`StoreError`]; the store stays as it was and the same records may be written again.
    pub fn write(&mut self, records: &[Record]) -> Result<(), StoreError> {
        if records.is_empty() {
            return Ok(());
        }
        self.transact(|db| records.iter().try_for_each(|record| keep(db, record)))
    }

    /// Remembers that the wall clock showed `now`; see [`Store::last_moment`].
    ///
    /// # Errors
    /// Any [`StoreError`].
    pub fn seen(&mut self, now: Stamp) -> Result<(), StoreError> {
        self.transact(|db| {
            db.prepare_cached("INSERT INTO clock VALUES (1, ?1) ON CONFLICT DO UPDATE SET seen = max(seen, excluded.seen)")?
                .execute([now.0])
                .map(drop)
        })
    }

    /// Runs `work` in a transaction that takes the writer's lock at once, so that it is busy at the
    /// start or never.
    pub(super) fn transact<T>(&mut self, work: impl FnOnce(&Connection) -> rusqlite::Result<T>) -> Result<T, StoreError> {
        let Self { db, path, .. } = self;
        let run = || {
            let tx = db.transaction_with_behavior(TransactionBehavior::Immediate)?;
            let out = work(&tx)?;
            tx.commit().map(|()| out)
        };
        run().map_err(|e| StoreError::sqlite(path, e))
    }
}

fn keep(db: &Connection, record: &Record) -> rusqlite::Result<()> {
    match record {
        Record::Ban(ban) => keep_ban(db, ban),
        Record::Unban(key) => drop_ban(db, key),
        Record::Failure { unit, counted, attack } => keep_failure(db, *unit, *counted, attack),
        Record::Spent { jail, unit } => spend(db, jail, unit),
        Record::Sentence(sentence) => keep_sentence(db, sentence),
        Record::Allow(member) => keep_allowed(db, member),
        Record::Disallow(prefix) => drop_allowed(db, prefix),
        Record::Position { source, position } => db
            .prepare_cached("INSERT INTO positions VALUES (?1, ?2) ON CONFLICT DO UPDATE SET position = excluded.position")?
            .execute([source, position])
            .map(drop),
        Record::Notice(notice) => keep_notice(db, notice),
        Record::History(point) => keep_point(db, point),
        Record::Shift(by) => shift(db, *by),
    }
}

fn keep_ban(db: &Connection, ban: &Ban) -> rusqlite::Result<()> {
    let who = PrefixColumns::from(&ban.key.prefix);
    db.prepare_cached("INSERT OR REPLACE INTO bans VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10)")?
        .execute(params![
            who.family,
            &*who.addr,
            who.len,
            column::ports(&ban.key.ports),
            ban.key.forced,
            ban.since.0,
            column::until(ban.until),
            ban.origin.to_string(),
            ban.reason,
            ban.offences,
        ])
        .map(drop)
}

fn drop_ban(db: &Connection, key: &Key) -> rusqlite::Result<()> {
    let who = PrefixColumns::from(&key.prefix);
    db.prepare_cached("DELETE FROM bans WHERE family = ?1 AND addr = ?2 AND len = ?3 AND ports = ?4 AND forced = ?5")?
        .execute(params![who.family, &*who.addr, who.len, column::ports(&key.ports), key.forced])
        .map(drop)
}

/// A unit holds its attacker, so its length is all that has to be kept of it.
fn keep_failure(db: &Connection, unit: Prefix, counted: Stamp, attack: &Attack) -> rusqlite::Result<()> {
    db.prepare_cached(
        "INSERT INTO failures (counted, family, addr, unit, spent, jail, signature, service, score, at, user, line)
         VALUES (?1, ?2, ?3, ?4, 0, ?5, ?6, ?7, ?8, ?9, ?10, ?11)",
    )?
    .execute(params![
        counted.0,
        column::family(attack.addr.family()),
        &*attack.addr.octets(),
        unit.len(),
        &*attack.jail.0,
        &*attack.signature,
        &*attack.service,
        attack.score,
        attack.at.map(|at| at.0),
        attack.user,
        attack.line,
    ])
    .map(drop)
}

/// Spent failures stay as evidence.
fn spend(db: &Connection, jail: &JailName, unit: &Prefix) -> rusqlite::Result<()> {
    let who = PrefixColumns::from(unit);
    db.prepare_cached(
        "UPDATE OR ROLLBACK failures SET spent = 1
         WHERE family = ?1 AND addr BETWEEN ?2 AND ?3 AND unit = ?4 AND jail = ?5 AND spent = 0",
    )?
    .execute(params![who.family, &*who.addr, &*who.last, who.len, &*jail.0])
    .map(drop)
}

/// The same sentence again, with another end, replaces itself.
fn keep_sentence(db: &Connection, sentence: &Sentence) -> rusqlite::Result<()> {
    let who = PrefixColumns::from(&sentence.prefix);
    let ends = column::until(sentence.ends);
    let grown = db
        .prepare_cached("UPDATE OR ROLLBACK sentences SET ends = ?5 WHERE family = ?1 AND addr = ?2 AND len = ?3 AND started = ?4")?
        .execute(params![who.family, &*who.addr, who.len, sentence.started.0, ends])?;
    if grown > 0 {
        return Ok(());
    }
    db.prepare_cached("INSERT INTO sentences (family, addr, len, started, ends) VALUES (?1, ?2, ?3, ?4, ?5)")?
        .execute(params![who.family, &*who.addr, who.len, sentence.started.0, ends])
        .map(drop)
}

fn keep_allowed(db: &Connection, member: &Allowed) -> rusqlite::Result<()> {
    let who = PrefixColumns::from(&member.prefix);
    db.prepare_cached("INSERT OR REPLACE INTO allowed VALUES (?1, ?2, ?3, ?4, ?5, ?6)")?
        .execute(params![who.family, &*who.addr, who.len, member.since.0, column::until(member.until), member.comment])
        .map(drop)
}

fn drop_allowed(db: &Connection, prefix: &Prefix) -> rusqlite::Result<()> {
    let who = PrefixColumns::from(prefix);
    db.prepare_cached("DELETE FROM allowed WHERE family = ?1 AND addr = ?2 AND len = ?3")?
        .execute(params![who.family, &*who.addr, who.len])
        .map(drop)
}

fn keep_notice(db: &Connection, notice: &Notice) -> rusqlite::Result<()> {
    let who = notice.prefix.as_ref().map(PrefixColumns::from);
    let what = serde_json::to_string(&notice.what).map_err(|e| rusqlite::Error::ToSqlConversionFailure(e.into()))?;
    db.prepare_cached("INSERT INTO notices (at, family, addr, len, what) VALUES (?1, ?2, ?3, ?4, ?5)")?
        .execute(params![notice.at.0, who.as_ref().map(|w| w.family), who.as_ref().map(|w| &*w.addr), who.as_ref().map(|w| w.len), what])
        .map(drop)
}

fn keep_point(db: &Connection, point: &Point) -> rusqlite::Result<()> {
    let top = serde_json::to_string(&point.top).map_err(|e| rusqlite::Error::ToSqlConversionFailure(e.into()))?;
    let drops = i64::try_from(point.drops).unwrap_or(i64::MAX);
    db.prepare_cached("INSERT INTO history (at, grain, peak, max, drops, top) VALUES (?1, ?2, ?3, ?4, ?5, ?6)")?
        .execute(params![point.at.0, point.grain, point.peak, point.max, drops, top])
        .map(drop)
}

/// Every column that holds a moment.
const MOMENTS: [(&str, &[&str]); 7] = [
    ("bans", &["since", "until"]),
    ("failures", &["counted", "at"]),
    ("sentences", &["started", "ends"]),
    ("allowed", &["since", "until"]),
    ("notices", &["at"]),
    ("history", &["at"]),
    ("clock", &["seen"]),
];

/// Moves every moment by `by`. Saturates: first each is brought
/// to where the sum cannot overflow (SQLite would make it a REAL). NULL stays NULL.
///
/// OR ROLLBACK here and above: any failure ends the whole transaction anyway, and SQLite then need
/// not keep a copy of every page of the table in case just this statement is to be undone.
fn shift(db: &Connection, by: i64) -> rusqlite::Result<()> {
    let low = i64::MIN.saturating_sub(by.min(0));
    let high = i64::MAX.saturating_sub(by.max(0));
    let moved = |moment: &str| format!("max(:low, min(:high, {moment})) + :by");
    for (table, columns) in MOMENTS {
        let set: Vec<String> = columns.iter().map(|column| format!("{column} = {}", moved(column))).collect();
        let sql = format!("UPDATE OR ROLLBACK {table} SET {}", set.join(", "));
        db.prepare_cached(&sql)?.execute(named_params! {":low": low, ":high": high, ":by": by})?;
    }
    Ok(())
}
