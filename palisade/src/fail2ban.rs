//! fail2ban's database, read beside a fail2ban that runs.
//!
//! | table, of version | columns that matter |
//! |---|---|
//! | `bips`, 4 (0.11 and later) | `ip`, `jail`, `timeofban`, `bantime`, `bancount`: the ban of each address in each jail |
//! | `bans`, 3 (0.11's development) | the same of every ban there was: the latest of each address and jail counts |
//! | `bans`, 1 and 2 (0.9, 0.10) | without `bantime` and `bancount` |
//!
//! Times are seconds; `bantime` -1 is for ever, -2 not known (an upgrade of fail2ban's wrote it). What
//! is left is `timeofban + bantime` less now. (fail2ban/server/database.py, `_CREATE_TABS` and
//! `updateDb`.) A ban without a known end gets the importer's.
//!
//! fail2ban keeps its journal in memory and writes with short locks (`journal_mode = MEMORY`), so
//! reading waits a moment at worst. A file that cannot be locked, as on a read-only disk, is read as one
//! that does not change. A database is input like any other: its views and triggers are not run.

use std::path::{Path, PathBuf};
use std::time::Duration;

use palisade_core::attack::excerpt;
use palisade_core::net::Prefix;
use palisade_core::tables::{End, Item, REASON_MAX, Row};
use rusqlite::config::DbConfig;
use rusqlite::limits::Limit;
use rusqlite::types::ValueRef;
use rusqlite::{Connection, ErrorCode, OpenFlags};

/// How long one of fail2ban's transactions is waited for. They take milliseconds.
const BUSY: Duration = Duration::from_secs(5);

/// The longest value that is looked at: fail2ban keeps matched log lines in `data`, which is not read.
const LONGEST_VALUE: i32 = 1 << 20;

/// How many bytes of an address or a jail's name are looked at.
const WORD: usize = 256;

/// The ways the bans stand in a database, the newest first: the table, what of it must be there, the question.
const SHAPES: [(&str, &str); 3] = [
    ("bips", "SELECT ip, jail, timeofban, bantime, bancount FROM bips"),
    ("bans", "SELECT ip, jail, max(timeofban), bantime, bancount FROM bans GROUP BY ip, jail"),
    ("bans", "SELECT ip, jail, max(timeofban), NULL, 1 FROM bans GROUP BY ip, jail"),
];

/// It is none of fail2ban's databases, or cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// SQLite says so.
    #[error("{}: {source}", path.display())]
    Sqlite {
        /// Which file.
        path: PathBuf,
        /// What it said.
        source: rusqlite::Error,
    },
    /// It is not there, or may not be read.
    #[error("cannot read {}: {source}", path.display())]
    Unreadable {
        /// Which file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// It is a database of something else.
    #[error("{}: there is no table `bips` or `bans` in it; fail2ban's database is usually /var/lib/fail2ban/fail2ban.sqlite3", .0.display())]
    Foreign(PathBuf),
}

/// The database, open.
pub struct Database {
    db: Connection,
    path: PathBuf,
}

impl Database {
    /// Opens it, changing nothing.
    ///
    /// # Errors
    /// [`Error`], also where there is no such file.
    pub fn open(path: &Path) -> Result<Self, Error> {
        let told = |source| Error::Sqlite { path: path.to_owned(), source };
        // SQLite tells of any file that it cannot open in one and the same words.
        std::fs::File::open(path).map_err(|source| Error::Unreadable { path: path.to_owned(), source })?;
        let db = match connect(path, false) {
            Err(error) if error.sqlite_error_code() == Some(ErrorCode::CannotOpen) && path.is_file() => connect(path, true),
            other => other,
        };
        Ok(Self { db: db.map_err(told)?, path: path.to_owned() })
    }

    /// Hands out every ban, with the number of its row, until `take` fails.
    ///
    /// # Errors
    /// [`Error`], or what `take` said.
    pub fn each<E: From<Error>>(&self, take: &mut dyn FnMut(u64, Item) -> Result<(), E>) -> Result<(), E> {
        let told = |source| Error::Sqlite { path: self.path.clone(), source };
        let mut statement = self.question().map_err(told)?.ok_or_else(|| Error::Foreign(self.path.clone()))?;
        let mut rows = statement.query([]).map_err(told)?;
        let mut number = 0;
        while let Some(row) = rows.next().map_err(told)? {
            number += 1;
            let word = |at| row.get_ref(at).map(word).unwrap_or_default();
            let whole = |at| row.get_ref(at).ok().and_then(whole);
            take(number, item(&word(0), &word(1), whole(2), whole(3), whole(4)))?;
        }
        Ok(())
    }

    /// The question that fits this database.
    fn question(&self) -> rusqlite::Result<Option<rusqlite::Statement<'_>>> {
        for (table, sql) in SHAPES {
            let there: i64 =
                self.db.query_row("SELECT count(*) FROM sqlite_master WHERE type = 'table' AND name = ?1", [table], |row| row.get(0))?;
            if there > 0
                && let Ok(statement) = self.db.prepare(sql)
            {
                return Ok(Some(statement));
            }
        }
        Ok(None)
    }
}

fn connect(path: &Path, unchanging: bool) -> rusqlite::Result<Connection> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let db = if unchanging {
        Connection::open_with_flags(uri(path), flags | OpenFlags::SQLITE_OPEN_URI)?
    } else {
        Connection::open_with_flags(path, flags)?
    };
    db.busy_timeout(BUSY)?;
    for (config, on) in [
        (DbConfig::SQLITE_DBCONFIG_DEFENSIVE, true),
        (DbConfig::SQLITE_DBCONFIG_TRUSTED_SCHEMA, false),
        (DbConfig::SQLITE_DBCONFIG_ENABLE_VIEW, false),
        (DbConfig::SQLITE_DBCONFIG_ENABLE_TRIGGER, false),
    ] {
        db.set_db_config(config, on)?;
    }
    db.set_limit(Limit::SQLITE_LIMIT_LENGTH, LONGEST_VALUE)?;
    // The file is not looked at before it is asked something.
    db.query_row("PRAGMA schema_version", [], |_| Ok(()))?;
    Ok(db)
}

/// The file as one that does not change (sqlite.org/uri.html, `immutable`).
fn uri(path: &Path) -> String {
    use std::os::unix::ffi::OsStrExt;
    let mut uri = "file:".to_owned();
    for byte in path.as_os_str().as_bytes() {
        match byte {
            b'/' | b'.' | b'-' | b'_' => uri.push(char::from(*byte)),
            byte if byte.is_ascii_alphanumeric() => uri.push(char::from(*byte)),
            byte => uri.push_str(&format!("%{byte:02X}")),
        }
    }
    uri + "?immutable=1"
}

fn word(value: ValueRef<'_>) -> String {
    match value {
        ValueRef::Text(bytes) | ValueRef::Blob(bytes) => excerpt(&bytes[..bytes.len().min(WORD)]),
        _ => String::new(),
    }
}

#[expect(clippy::cast_possible_truncation, reason = "float to int saturates, NaN is 0")]
fn whole(value: ValueRef<'_>) -> Option<i64> {
    match value {
        ValueRef::Integer(number) => Some(number),
        ValueRef::Real(number) => Some(number as i64),
        _ => None,
    }
}

fn item(ip: &str, jail: &str, began: Option<i64>, lasts: Option<i64>, count: Option<i64>) -> Item {
    let Ok(prefix) = ip.parse::<Prefix>() else {
        return Item::Bad(format!("expected an address, found `{ip}` (jail {jail})"));
    };
    let Some(began) = began else { return Item::Bad(format!("expected when {prefix} was banned (jail {jail}), found nothing")) };
    let end = match lasts {
        Some(-1) => Some(End::Forever),
        Some(lasts) if lasts >= 0 => Some(End::At(began.saturating_add(lasts).saturating_mul(1000))),
        _ => None,
    };
    let since = Some(palisade_core::time::Stamp(began.saturating_mul(1000)));
    let offences = count.and_then(|count| u32::try_from(count).ok()).unwrap_or(1).max(1);
    let mut reason = format!("fail2ban jail {jail}");
    let most = (0..=REASON_MAX.min(reason.len())).rev().find(|end| reason.is_char_boundary(*end)).unwrap_or(0);
    reason.truncate(most);
    Item::Ban(Row { end, since, offences, reason, ..Row::of(prefix) })
}
