use std::fs;
use std::path::{Path, PathBuf};

use palisade_core::event::Record;
use rusqlite::Connection;

use super::super::{FILE, StoreError, open, schema};
use super::*;

/// A directory with a database of some bans, closed.
fn filled() -> (TempDir, PathBuf) {
    let (dir, mut store) = fresh();
    let records: Vec<Record> = (0..2000u32).map(|n| Record::Ban(ban(&format!("198.51.{}.{}", n / 256, n % 256), 5000))).collect();
    store.write(&records).unwrap();
    let path = store.path().to_owned();
    (dir, path)
}

/// Opening must set the database aside, byte for byte, and give a fresh one that works.
#[track_caller]
fn set_aside(dir: &Path) -> String {
    let before = fs::read(dir.join(FILE)).unwrap();
    let (mut store, opening) = Store::open(dir).unwrap();
    let Opening::SetAside { to, why } = opening else { panic!("{opening:?}") };
    assert!(to.file_name().unwrap().to_str().unwrap().starts_with("palisade.db.corrupt-"), "{to:?}");
    assert_eq!(fs::read(&to).unwrap(), before);
    assert_eq!(store.ban_count().unwrap(), 0);
    store.write(&[Record::Ban(ban("203.0.113.7", 5000))]).unwrap();
    drop(store);
    let (store, opening) = Store::open(dir).unwrap();
    assert_eq!((opening, store.ban_count().unwrap()), (Opening::Known, 1), "no loop");
    why
}

#[test]
fn damage_of_every_kind_is_set_aside() {
    let noise: Vec<u8> = (0..65_536u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
    let (dir, path) = filled();
    let good = fs::read(&path).unwrap();
    let headless = [&noise[..100], &good[100..]].concat();
    let torn = good[..good.len() / 2].to_vec();
    let gutted = [&good[..4096], &noise[..good.len().min(60_000) - 4096], &good[good.len().min(60_000)..]].concat();
    for (what, bytes) in [
        ("noise", noise.clone()),
        ("zeros", vec![0; 40_960]),
        ("text", b"hello".to_vec()),
        ("head", headless),
        ("torn", torn),
        ("gut", gutted),
    ] {
        fs::write(&path, &bytes).unwrap();
        assert!(!set_aside(dir.path()).is_empty(), "{what}");
    }
    fs::write(&path, b"").unwrap();
    assert_eq!(set_aside(dir.path()), "it is empty");
}

#[test]
fn an_empty_file_takes_its_log_along() {
    let (dir, path) = filled();
    fs::write(&path, b"").unwrap();
    fs::write(dir.path().join("palisade.db-wal"), b"frames").unwrap();
    let (_store, opening) = Store::open(dir.path()).unwrap();
    let Opening::SetAside { to, .. } = opening else { panic!("{opening:?}") };
    let log = PathBuf::from(format!("{}-wal", to.display()));
    assert_eq!(fs::read(log).unwrap(), b"frames");
}

/// The log of a database that is gone has sound checksums: SQLite would replay it into a new one.
#[test]
fn a_log_without_its_database_is_not_replayed() {
    let (dir, mut store) = fresh();
    store.write(&[Record::Ban(ban("203.0.113.7", 5000))]).unwrap();
    let log = fs::read(dir.path().join("palisade.db-wal")).unwrap();
    assert!(!log.is_empty());
    drop(store);
    fs::remove_file(dir.path().join(FILE)).unwrap();
    fs::write(dir.path().join("palisade.db-wal"), &log).unwrap();
    let (store, opening) = Store::open(dir.path()).unwrap();
    assert_eq!((opening, store.ban_count().unwrap()), (Opening::New, 0));
}

#[test]
fn a_strangers_database_is_set_aside_and_a_newer_one_is_refused() {
    let dir = TempDir::new().unwrap();
    let path = dir.path().join(FILE);
    let other = Connection::open(&path).unwrap();
    other.execute_batch("CREATE TABLE bips (ip TEXT)").unwrap();
    other.close().unwrap();
    assert!(matches!(Store::open_read_only(dir.path()), Err(StoreError::Corrupt { .. })));
    assert!(set_aside(dir.path()).contains("not a database of palisade"));

    let db = Connection::open(&path).unwrap();
    db.pragma_update(None, "user_version", 99).unwrap();
    db.close().unwrap();
    let before = fs::read(&path).unwrap();
    let error = Store::open(dir.path()).unwrap_err();
    assert!(matches!(error, StoreError::Newer { found: 99, .. }) && error.to_string().contains("install the newer palisade"), "{error}");
    assert!(matches!(Store::open_read_only(dir.path()), Err(StoreError::Newer { .. })));
    assert_eq!(fs::read(&path).unwrap(), before, "refused, not touched");
}

#[test]
fn rows_of_a_strangers_hand_are_damage() {
    let (dir, path) = filled();
    let db = Connection::open(&path).unwrap();
    db.execute_batch("PRAGMA ignore_check_constraints = ON; UPDATE bans SET len = 77 WHERE addr = x'c6330101'").unwrap();
    db.close().unwrap();
    let reader = Store::open_read_only(dir.path()).unwrap();
    assert!(matches!(reader.each_ban(&mut |_| ControlFlow::Continue(())), Err(StoreError::Corrupt { .. })));
    drop(reader);
    assert!(set_aside(dir.path()).contains("CHECK"));
}

#[test]
fn damage_found_later_can_be_set_aside_too() {
    let (dir, mut store) = fresh();
    store.write(&[Record::Ban(ban("203.0.113.7", 5000))]).unwrap();
    let (mut store, opening) = store.set_aside("a page".to_owned()).unwrap();
    assert!(matches!(opening, Opening::SetAside { why, .. } if why == "a page"));
    assert_eq!(store.ban_count().unwrap(), 0);
    store.write(&[Record::Ban(ban("203.0.113.8", 5000))]).unwrap();
    drop(store);
    assert_eq!(bans(&Store::open(dir.path()).unwrap().0).len(), 1);
}

#[test]
fn what_is_no_file_is_refused() {
    let dir = TempDir::new().unwrap();
    let path = dir.path().join(FILE);
    fs::create_dir(&path).unwrap();
    assert!(matches!(Store::open(dir.path()), Err(StoreError::NotAFile(_))));
    fs::remove_dir(&path).unwrap();
    let (other, _) = fresh();
    std::os::unix::fs::symlink(other.path().join(FILE), &path).unwrap();
    assert!(matches!(Store::open(dir.path()), Err(StoreError::NotAFile(_))));
    assert!(matches!(Store::open_read_only(dir.path()), Err(StoreError::NotAFile(_))));
    assert!(matches!(Store::open_read_only(&dir.path().join("none")), Err(StoreError::Missing(_))));
    assert!(matches!(Store::open_read_only(&other.path().join("..").join("none")), Err(StoreError::Missing(_))));
}

/// Whatever a few flipped bytes do, opening gives a store that answers or says that it is damaged.
#[test]
fn flipped_bytes_never_crash_anything() {
    let (dir, path) = filled();
    let good = fs::read(&path).unwrap();
    let mut seed = 0x9e37_79b9_7f4a_7c15u64;
    let mut random = |below: usize| {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (seed >> 33) as usize % below
    };
    let (mut aside, mut known) = (0, 0);
    for round in 0..80 {
        let mut bytes = good.clone();
        for _ in 0..1 + random(8) {
            let at = if round % 2 == 0 { random(4096) } else { random(bytes.len()) };
            bytes[at] = random(256) as u8;
        }
        fs::write(&path, &bytes).unwrap();
        match Store::open(dir.path()) {
            Ok((mut store, opening)) => {
                let mut seen = 0;
                let read = store.each_ban(&mut |_| {
                    seen += 1;
                    ControlFlow::Continue(())
                });
                assert!(matches!(read, Ok(()) | Err(StoreError::Corrupt { .. })), "{read:?}");
                let wrote = store.write(&[Record::Ban(ban("203.0.113.7", 1))]);
                assert!(matches!(wrote, Ok(()) | Err(StoreError::Corrupt { .. })), "{wrote:?}");
                match opening {
                    Opening::Known => known += 1,
                    _ => aside += 1,
                }
            }
            Err(StoreError::Newer { .. }) => {}
            Err(other) => panic!("{other:?}"),
        }
        for stale in fs::read_dir(dir.path()).unwrap() {
            fs::remove_file(stale.unwrap().path()).unwrap();
        }
    }
    assert!(aside > 10, "{aside} set aside, {known} known");
}

/// A step to a schema of tomorrow: the old file is copied first, and everything in it comes along.
#[test]
fn an_older_schema_is_copied_and_brought_up_to_date() {
    const TOMORROW: &[&str] = &[schema::STEPS[0], schema::STEPS[1], "ALTER TABLE bans ADD COLUMN country TEXT"];
    let (dir, path) = filled();
    assert!(matches!(open::readable(dir.path(), TOMORROW), Err(StoreError::Older { found: 2, known: 3, .. })));
    let (db, _, opening) = open::writable(dir.path(), TOMORROW, open::Trust::Proven).unwrap();
    assert_eq!(opening, Opening::Known);
    let count: i64 = db.query_row("SELECT count(country IS NULL) FROM bans", [], |row| row.get(0)).unwrap();
    assert_eq!((count, schema::version(&db).unwrap()), (2000, 3));
    drop(db);
    let copy =
        fs::read_dir(dir.path()).unwrap().map(|e| e.unwrap().path()).find(|p| p.to_string_lossy().contains("palisade.db.v2-")).unwrap();
    assert!(matches!(Store::open(dir.path()), Err(StoreError::Newer { found: 3, known: 2, .. })), "no way back but by the copy");
    fs::rename(copy, &path).unwrap();
    let (store, opening) = Store::open(dir.path()).unwrap();
    assert_eq!((opening, store.ban_count().unwrap()), (Opening::Known, 2000));
}

/// A file of the release before, which knew no history of the connection table.
#[test]
fn the_first_schema_is_brought_up_to_date() {
    let dir = tempfile::tempdir().unwrap();
    let (db, ..) = open::writable(dir.path(), &schema::STEPS[..1], open::Trust::Proven).unwrap();
    assert_eq!(schema::version(&db).unwrap(), 1);
    drop(db);
    let (mut store, _) = Store::open(dir.path()).unwrap();
    assert_eq!(schema::version(&store.db).unwrap(), 2);
    let point = palisade_core::flood::history::Point { at: Stamp(0), grain: 60, peak: 1, max: 2, drops: 0, top: Vec::new() };
    store.write(&[Record::History(point.clone())]).unwrap();
    assert_eq!(store.history(60, Stamp(0)).unwrap(), [point]);
}

/// A migration that fails leaves the old schema.
#[test]
fn a_step_that_fails_changes_nothing() {
    let (dir, _) = filled();
    let broken: &[&str] = &[schema::STEPS[0], schema::STEPS[1], "ALTER TABLE bans ADD COLUMN country TEXT; SELECT nonsense"];
    assert!(open::writable(dir.path(), broken, open::Trust::Proven).is_err());
    let (store, opening) = Store::open(dir.path()).unwrap();
    assert_eq!((opening, store.ban_count().unwrap()), (Opening::Known, 2000));
}
