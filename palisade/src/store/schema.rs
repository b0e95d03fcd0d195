//! The tables, and the way from one schema to the next.
//!
//! `application_id` says that a file is ours, `user_version` which schema it has. Step *n* of
//! [`STEPS`] leads from schema *n* to *n* + 1; a fresh file walks all of them.

use rusqlite::{Connection, TransactionBehavior};

/// `PRAGMA application_id`: "Pali" in ASCII (SQLite file format, 1.3, offset 68).
pub(super) const APPLICATION_ID: i64 = 0x5061_6c69;

/// The ways from schema to schema. Append only: files of every release are somewhere.
pub(super) const STEPS: &[&str] = &[FIRST, HISTORY];

/// How `why` and the judge ask is why these are the indexes: failures by moment (restoring the
/// windows, forgetting) and by attacker (`why`, spending); notices by moment.
///
/// The CHECKs keep a stranger's hand from writing what cannot be read; `quick_check` tests them.
/// `sentences` has no unique key, because `Record::Shift` moves `started`, and SQLite
/// checks a unique key row by row, in the middle of the move.
const FIRST: &str = "
CREATE TABLE bans (
    family   INTEGER NOT NULL CHECK (family IN (4, 6)),
    addr     BLOB    NOT NULL CHECK (length(addr) = CASE family WHEN 4 THEN 4 ELSE 16 END),
    len      INTEGER NOT NULL CHECK (len BETWEEN 0 AND length(addr) * 8),
    ports    BLOB    NOT NULL CHECK (length(ports) <= 64 AND length(ports) % 2 = 0),
    forced   INTEGER NOT NULL CHECK (forced IN (0, 1)),
    since    INTEGER NOT NULL,
    until    INTEGER,
    origin   TEXT    NOT NULL,
    reason   TEXT    NOT NULL,
    offences INTEGER NOT NULL CHECK (offences BETWEEN 0 AND 4294967295),
    PRIMARY KEY (family, addr, len, ports, forced)
) STRICT, WITHOUT ROWID;

CREATE TABLE failures (
    id        INTEGER PRIMARY KEY,
    counted   INTEGER NOT NULL,
    family    INTEGER NOT NULL CHECK (family IN (4, 6)),
    addr      BLOB    NOT NULL CHECK (length(addr) = CASE family WHEN 4 THEN 4 ELSE 16 END),
    unit      INTEGER NOT NULL CHECK (unit BETWEEN 0 AND length(addr) * 8),
    spent     INTEGER NOT NULL CHECK (spent IN (0, 1)),
    jail      TEXT    NOT NULL,
    signature TEXT    NOT NULL,
    service   TEXT    NOT NULL,
    score     INTEGER NOT NULL CHECK (score BETWEEN 0 AND 65535),
    at        INTEGER,
    user      TEXT,
    line      TEXT    NOT NULL
) STRICT;
CREATE INDEX failures_counted ON failures (counted);
CREATE INDEX failures_addr ON failures (family, addr);

CREATE TABLE sentences (
    id      INTEGER PRIMARY KEY,
    family  INTEGER NOT NULL CHECK (family IN (4, 6)),
    addr    BLOB    NOT NULL CHECK (length(addr) = CASE family WHEN 4 THEN 4 ELSE 16 END),
    len     INTEGER NOT NULL CHECK (len BETWEEN 0 AND length(addr) * 8),
    started INTEGER NOT NULL,
    ends    INTEGER
) STRICT;
CREATE INDEX sentences_prefix ON sentences (family, addr, len, started);
CREATE INDEX sentences_ends ON sentences (ends);

CREATE TABLE allowed (
    family  INTEGER NOT NULL CHECK (family IN (4, 6)),
    addr    BLOB    NOT NULL CHECK (length(addr) = CASE family WHEN 4 THEN 4 ELSE 16 END),
    len     INTEGER NOT NULL CHECK (len BETWEEN 0 AND length(addr) * 8),
    since   INTEGER NOT NULL,
    until   INTEGER,
    comment TEXT    NOT NULL,
    PRIMARY KEY (family, addr, len)
) STRICT, WITHOUT ROWID;

CREATE TABLE positions (
    source   TEXT NOT NULL PRIMARY KEY,
    position TEXT NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE notices (
    id     INTEGER PRIMARY KEY,
    at     INTEGER NOT NULL,
    family INTEGER,
    addr   BLOB,
    len    INTEGER,
    what   TEXT    NOT NULL
) STRICT;
CREATE INDEX notices_at ON notices (at);

CREATE TABLE clock (
    one  INTEGER PRIMARY KEY CHECK (one = 1),
    seen INTEGER NOT NULL
) STRICT;
";

/// How the connection table was: 1440 fine rows and 744 coarse ones, about 100 bytes each. No unique key, as with
/// `sentences`: a stepping clock may lay a grain upon another.
const HISTORY: &str = "
CREATE TABLE history (
    id    INTEGER PRIMARY KEY,
    at    INTEGER NOT NULL,
    grain INTEGER NOT NULL CHECK (grain > 0),
    peak  INTEGER NOT NULL CHECK (peak BETWEEN 0 AND 4294967295),
    max   INTEGER NOT NULL CHECK (max BETWEEN 0 AND 4294967295),
    drops INTEGER NOT NULL CHECK (drops >= 0),
    top   TEXT    NOT NULL
) STRICT;
CREATE INDEX history_at ON history (grain, at);
";

/// A schema version as the header holds it.
pub(super) fn version(db: &Connection) -> rusqlite::Result<i64> {
    db.pragma_query_value(None, "user_version", |row| row.get(0))
}

/// The newest schema `steps` lead to.
pub(super) fn newest(steps: &[&str]) -> i64 {
    i64::try_from(steps.len()).expect("a handful of steps")
}

/// Walks the steps that `db` has not gone yet, all in one transaction.
pub(super) fn migrate(db: &mut Connection, steps: &[&str]) -> rusqlite::Result<()> {
    let tx = db.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let gone = usize::try_from(version(&tx)?).unwrap_or(0);
    for step in steps.iter().skip(gone) {
        tx.execute_batch(step)?;
    }
    tx.pragma_update(None, "application_id", APPLICATION_ID)?;
    tx.pragma_update(None, "user_version", newest(steps))?;
    tx.commit()
}
