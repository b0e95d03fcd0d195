//! Opening the database: making it, checking it, setting a damaged one aside, bringing an old one
//! up to date.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt, lchown};
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use rusqlite::config::DbConfig;
use rusqlite::{Connection, ErrorCode, OpenFlags};

use super::error::StoreError;
use super::{BUSY_TIMEOUT, FILE, Opening, schema};

/// The state directory: the daemon's own, its group may look.
const DIR_MODE: u32 = 0o750;

/// The database; SQLite gives `-wal` and `-shm` the same mode and, as root, the same owner.
const FILE_MODE: u32 = 0o640;

/// How much of the file is held in memory, in KiB (a negative `cache_size`). The upper levels of
/// the trees of a million bans are under 1 MiB; the rest is for batches to change pages in.
const CACHE_KIB: i64 = 4096;

/// How many statements stay prepared: more than this room has.
const STATEMENTS: usize = 64;

/// After how many pages of 4 KiB the log is carried into the database (SQLite's own default), and
/// what a log left by a large batch is cut to afterwards, in bytes.
const CHECKPOINT_PAGES: i64 = 1000;
const LOG_LEFT: i64 = 16 << 20;

/// What stands at the database's path.
enum Found {
    /// It can be used.
    Sound(Connection),
    /// It cannot, and why: told to the operator, and it is set aside.
    Damaged(String),
}

/// How closely a database is looked at before it is trusted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Trust {
    /// Every page and row is checked: a second for a million bans.
    Proven,
    /// The header only; damage further in shows when it is met.
    Assumed,
}

/// Opens the database in `dir` for writing, making both where they are missing.
pub(super) fn writable(dir: &Path, steps: &[&str], trust: Trust) -> Result<(Connection, PathBuf, Opening), StoreError> {
    fs::DirBuilder::new().recursive(true).mode(DIR_MODE).create(dir).map_err(|e| StoreError::io(dir, &e))?;
    // Resolved once, so that SQLite can be told to follow no link: what owns the directory must
    // not lead root's hand elsewhere.
    let dir = dir.canonicalize().map_err(|e| StoreError::io(dir, &e))?;
    let path = dir.join(FILE);
    let size = match fs::symlink_metadata(&path) {
        Ok(meta) if !meta.is_file() => return Err(StoreError::NotAFile(path)),
        Ok(meta) => meta.len(),
        Err(e) if e.kind() == io::ErrorKind::NotFound => {
            // A log without its database would be replayed into the new one.
            move_away(&path)?;
            return Ok((create(&path, steps)?, path, Opening::New));
        }
        Err(e) => return Err(StoreError::io(&path, &e)),
    };
    let why = if size == 0 {
        // SQLite would take it for a new database and throw its log away.
        "it is empty".to_owned()
    } else {
        match inspect(&path, steps, trust)? {
            Found::Sound(db) => return Ok((db, path, Opening::Known)),
            Found::Damaged(why) => why,
        }
    };
    let to = move_away(&path)?;
    Ok((create(&path, steps)?, path, Opening::SetAside { to, why }))
}

/// Opens what is there for reading, beside a writer or without one.
pub(super) fn readable(dir: &Path, steps: &[&str]) -> Result<(Connection, PathBuf), StoreError> {
    let dir = match dir.canonicalize() {
        Ok(dir) => dir,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Err(StoreError::Missing(dir.join(FILE))),
        Err(e) => return Err(StoreError::io(dir, &e)),
    };
    let path = dir.join(FILE);
    match fs::symlink_metadata(&path) {
        Ok(meta) if !meta.is_file() => return Err(StoreError::NotAFile(path)),
        Ok(_) => {}
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Err(StoreError::Missing(path)),
        Err(e) => return Err(StoreError::io(&path, &e)),
    }
    let told = |e| StoreError::sqlite(&path, e);
    let db = look(&path)?;
    if id(&db).map_err(told)? != schema::APPLICATION_ID {
        return Err(StoreError::Corrupt { path, why: "it is not a database of palisade".to_owned() });
    }
    let (found, known) = (schema::version(&db).map_err(told)?, schema::newest(steps));
    match found.cmp(&known) {
        std::cmp::Ordering::Equal => Ok((db, path)),
        std::cmp::Ordering::Less => Err(StoreError::Older { path, found, known }),
        std::cmp::Ordering::Greater => Err(StoreError::Newer { path, found, known }),
    }
}

/// A connection that reads only. SQLite wants to make the log's index even for that; where it may
/// not (a read-only disk, a user of the group) and there is no log, and so no writer either, the
/// file is read as one that does not change.
fn look(path: &Path) -> Result<Connection, StoreError> {
    let told = |e| StoreError::sqlite(path, e);
    let first = match connect(path, OpenFlags::SQLITE_OPEN_READ_ONLY).and_then(|db| id(&db).map(|_| db)) {
        Ok(db) => return Ok(db),
        Err(e) => e,
    };
    let no_log = fs::metadata(beside(path, "-wal")).map_or(true, |log| log.len() == 0);
    if first.sqlite_error_code() != Some(ErrorCode::CannotOpen) || !no_log {
        return Err(told(first));
    }
    let still = format!("file:{}?immutable=1", escape(path));
    connect(Path::new(&still), OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_URI).map_err(told)
}

/// A path as a URI takes it (RFC 3986, 2.1).
fn escape(path: &Path) -> String {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"/._-".contains(&b);
    path.as_os_str().as_bytes().iter().map(|&b| if plain(b) { char::from(b).to_string() } else { format!("%{b:02X}") }).collect()
}

/// Makes a fresh database. It is built under another name, so that a crash leaves no half of one.
pub(super) fn create(path: &Path, steps: &[&str]) -> Result<Connection, StoreError> {
    let draft = beside(path, ".new");
    for stale in family_of(&draft) {
        remove(&stale)?;
    }
    let told = |e| StoreError::sqlite(path, e);
    let mut db =
        Connection::open_with_flags(&draft, flags(OpenFlags::SQLITE_OPEN_READ_WRITE) | OpenFlags::SQLITE_OPEN_CREATE).map_err(told)?;
    // Both stand in the header and must be said before the first table. Incremental vacuum is what
    // gives the space of a million expired bans back to the disk.
    db.execute_batch("PRAGMA auto_vacuum = INCREMENTAL").map_err(told)?;
    schema::migrate(&mut db, steps).map_err(told)?;
    db.execute_batch("PRAGMA journal_mode = WAL").map_err(told)?;
    db.close().map_err(|(_, e)| told(e))?;
    settle(&draft)?;
    fs::rename(&draft, path).map_err(|e| StoreError::io(path, &e))?;
    sync_dir(path)?;
    connect(path, OpenFlags::SQLITE_OPEN_READ_WRITE).map_err(told)
}

/// Moves the database at `path` and its log aside and says where it is now.
pub(super) fn move_away(path: &Path) -> Result<PathBuf, StoreError> {
    let mut second = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |t| t.as_secs());
    let mut to = beside(path, &format!(".corrupt-{second}"));
    while family_of(&to).iter().any(|p| p.symlink_metadata().is_ok()) {
        second += 1;
        to = beside(path, &format!(".corrupt-{second}"));
    }
    // The log first: should we die in between, it must not be replayed into a new database.
    for (from, to) in family_of(path).into_iter().zip(family_of(&to)).rev() {
        match fs::rename(&from, &to) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(StoreError::io(&from, &e)),
            _ => {}
        }
    }
    sync_dir(path)?;
    Ok(to)
}

/// Opens the database at `path`, looks whether it can be used, and brings an older one up to date.
///
/// What fails because of damage is a verdict on the file; anything else (busy, full, the disk) may
/// be over in a moment, and nothing is set aside for it.
fn inspect(path: &Path, steps: &[&str], trust: Trust) -> Result<Found, StoreError> {
    match sound(path, steps, trust) {
        Err(StoreError::Corrupt { why, .. }) => Ok(Found::Damaged(why)),
        Err(other) => Err(other),
        Ok(db) => Ok(Found::Sound(db)),
    }
}

fn sound(path: &Path, steps: &[&str], trust: Trust) -> Result<Connection, StoreError> {
    let told = |e| StoreError::sqlite(path, e);
    let damaged = |why: &str| StoreError::Corrupt { path: path.to_owned(), why: why.to_owned() };
    let opened = connect(path, OpenFlags::SQLITE_OPEN_READ_WRITE).and_then(|db| id(&db).map(|id| (db, id)));
    let (mut db, id) = match opened {
        Err(e) if e.sqlite_error_code() == Some(ErrorCode::CannotOpen) => return Err(unopened(path, e)),
        opened => opened.map_err(told)?,
    };
    // SQLite opens what it may not write for reading, without a word, and stays with that.
    if db.is_readonly("main").map_err(told)? {
        return Err(StoreError::ReadOnly(path.to_owned()));
    }
    if id != schema::APPLICATION_ID {
        return Err(damaged("it is not a database of palisade"));
    }
    let (found, known) = (schema::version(&db).map_err(told)?, schema::newest(steps));
    if found > known {
        return Err(StoreError::Newer { path: path.to_owned(), found, known });
    }
    if trust == Trust::Proven {
        // The first thing that is wrong: broken pages and trees, rows that violate their CHECKs.
        let verdict: String = db.query_row("PRAGMA quick_check(1)", [], |row| row.get(0)).map_err(told)?;
        if verdict != "ok" {
            return Err(damaged(&verdict));
        }
    }
    if found < known {
        back_up(&db, path, found)?;
        schema::migrate(&mut db, steps).map_err(told)?;
    }
    Ok(db)
}

/// Why SQLite could not open the log beside a database that is there, which it does not say. Found
/// out by making a file there; opening the database itself would drop this process' locks on it.
fn unopened(path: &Path, error: rusqlite::Error) -> StoreError {
    let probe = beside(path, ".probe");
    match File::create(&probe).and_then(|_| fs::remove_file(&probe)) {
        Err(e) => match StoreError::io(path, &e) {
            StoreError::Io { .. } => StoreError::sqlite(path, error),
            plain => plain,
        },
        Ok(()) => StoreError::sqlite(path, error),
    }
}

/// Copies the database before a migration changes it: `palisade.db.v1-<unix time>`.
fn back_up(db: &Connection, path: &Path, version: i64) -> Result<(), StoreError> {
    let second = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |t| t.as_secs());
    let to = beside(path, &format!(".v{version}-{second}"));
    remove(&to)?;
    db.execute("VACUUM INTO ?1", [to.to_string_lossy()]).map_err(|e| StoreError::sqlite(&to, e))?;
    settle(&to)?;
    sync_dir(path)
}

/// A connection as every one of ours is.
///
/// `synchronous = FULL`: each commit is on the disk when it returns, so that a ban that was
/// acknowledged outlives a power cut; NORMAL would save the flush (57 us where it was measured) and
/// lose the last commits. No memory map: a failing disk must be an error, not a SIGBUS.
fn connect(path: &Path, access: OpenFlags) -> rusqlite::Result<Connection> {
    let db = Connection::open_with_flags(path, flags(access))?;
    db.busy_timeout(BUSY_TIMEOUT)?;
    db.set_prepared_statement_cache_capacity(STATEMENTS);
    db.set_db_config(DbConfig::SQLITE_DBCONFIG_DEFENSIVE, true)?;
    db.execute_batch(&format!(
        "PRAGMA trusted_schema = OFF; PRAGMA cell_size_check = ON; PRAGMA foreign_keys = OFF; PRAGMA mmap_size = 0;
         PRAGMA cache_size = -{CACHE_KIB}; PRAGMA temp_store = MEMORY; PRAGMA synchronous = FULL;
         PRAGMA wal_autocheckpoint = {CHECKPOINT_PAGES}; PRAGMA journal_size_limit = {LOG_LEFT};"
    ))?;
    Ok(db)
}

/// One thread at a time uses a connection (`Connection` is not `Sync`), so SQLite need not lock.
fn flags(access: OpenFlags) -> OpenFlags {
    access | OpenFlags::SQLITE_OPEN_NO_MUTEX | OpenFlags::SQLITE_OPEN_NOFOLLOW
}

fn id(db: &Connection) -> rusqlite::Result<i64> {
    db.pragma_query_value(None, "application_id", |row| row.get(0))
}

/// `path` with `end` at the end of its name.
fn beside(path: &Path, end: &str) -> PathBuf {
    let mut name = OsString::from(path);
    name.push(end);
    name.into()
}

/// The database at `path`, its log, and the index of its log.
fn family_of(path: &Path) -> [PathBuf; 3] {
    [path.to_owned(), beside(path, "-wal"), beside(path, "-shm")]
}

fn remove(path: &Path) -> Result<(), StoreError> {
    match fs::remove_file(path) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => Err(StoreError::io(path, &e)),
        _ => Ok(()),
    }
}

/// Gives a file its mode, and the owner of its directory: root may open the store before the
/// daemon's own user does. Who may not give files away owns them rightly already.
fn settle(path: &Path) -> Result<(), StoreError> {
    let told = |e: io::Error| StoreError::io(path, &e);
    fs::set_permissions(path, fs::Permissions::from_mode(FILE_MODE)).map_err(told)?;
    let owner = fs::metadata(path.parent().unwrap_or(Path::new("."))).map_err(told)?;
    match lchown(path, Some(owner.uid()), Some(owner.gid())) {
        Err(e) if e.kind() != io::ErrorKind::PermissionDenied => Err(told(e)),
        _ => Ok(()),
    }
}

/// Makes the renames in the directory of `path` outlive a power cut.
fn sync_dir(path: &Path) -> Result<(), StoreError> {
    let dir = path.parent().unwrap_or(Path::new("."));
    File::open(dir).and_then(|dir| dir.sync_all()).map_err(|e| StoreError::io(dir, &e))
}
