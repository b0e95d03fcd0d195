//! Disks that are full, read-only, or held by another.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::path::Path;
use std::process::Command;

use palisade_core::event::Record;

use super::super::{BUSY_TIMEOUT, FILE, StoreError};
use super::*;

/// Tells the child where its small disk is mounted.
const DISK: &str = "PALISADE_TEST_SMALL_DISK";

/// Runs the ignored test `name` of this module in its own mount namespace, on a disk of 2 MiB.
#[track_caller]
fn on_a_small_disk(name: &str) {
    let dir = TempDir::new().unwrap();
    let out = Command::new("unshare")
        .args(["--mount", "--propagation", "private", "sh", "-c"])
        .arg("mount -t tmpfs -o size=2m,mode=700 small \"$0\" && exec \"$@\"")
        .arg(dir.path())
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", &format!("store::tests::failing::{name}"), "--ignored", "--nocapture"])
        .env(DISK, dir.path())
        .output()
        .unwrap();
    let told = String::from_utf8_lossy(&out.stdout).into_owned() + &String::from_utf8_lossy(&out.stderr);
    assert!(out.status.success() && told.contains("1 passed"), "{told}");
}

fn many(from: u32, count: u32) -> Vec<Record> {
    (from..from + count).map(|n| Record::Ban(ban(&format!("198.18.{}.{}", n / 256 % 256, n % 256), i64::from(n)))).collect()
}

#[test]
fn a_full_disk_loses_no_ban_and_is_got_over() {
    if root() {
        on_a_small_disk("full_disk");
    }
}

#[test]
#[ignore = "run by a_full_disk_loses_no_ban_and_is_got_over on a disk of its own"]
fn full_disk() {
    let Some(disk) = std::env::var_os(DISK) else { return };
    let disk = Path::new(&disk);
    let (mut store, _) = Store::open(&disk.join("state")).unwrap();
    store.write(&many(0, 100)).unwrap();
    // Leave less than one batch needs.
    let ballast = disk.join("ballast");
    let fill = || {
        let mut file = fs::OpenOptions::new().create(true).append(true).open(&ballast).unwrap();
        while std::io::Write::write_all(&mut file, &[0; 4096]).is_ok() {}
    };
    fill();
    for _ in 0..3 {
        let error = store.write(&many(1000, 2000)).unwrap_err();
        assert!(matches!(error, StoreError::Full(_)), "{error:?}");
        assert_eq!(bans(&store).len(), 100, "nothing of the batch, all from before");
        let mut entries = 0;
        let mut take = |batch: Vec<_>| {
            entries += batch.len();
            ControlFlow::Continue(())
        };
        store.entries(Stamp(-1), 1000, &mut take).unwrap();
        assert_eq!(entries, 100);
    }
    // Small batches until it is full again: each acknowledged one is there.
    let mut kept = 100;
    for n in 0..10_000 {
        match store.write(&many(5000 + n, 1)) {
            Ok(()) => kept += 1,
            Err(StoreError::Full(_)) => break,
            Err(other) => panic!("{other:?}"),
        }
    }
    drop(store);
    let (mut store, opening) = Store::open(&disk.join("state")).unwrap();
    assert_eq!((opening, store.ban_count().unwrap()), (Opening::Known, kept));
    fill();
    let fresh = Store::open(&disk.join("second")).map(drop).unwrap_err();
    assert!(matches!(fresh, StoreError::Full(_)), "{fresh:?}");
    assert!(!disk.join("second").join(FILE).exists(), "no half of a database");
    fs::remove_file(&ballast).unwrap();
    store.write(&many(1000, 2000)).unwrap();
    assert_eq!(store.ban_count().unwrap(), kept + 2000);
    Store::open(&disk.join("second")).map(drop).unwrap();
}

#[test]
fn a_read_only_disk_is_said_and_nothing_is_set_aside() {
    if root() {
        on_a_small_disk("read_only_disk");
    }
}

#[test]
#[ignore = "run by a_read_only_disk_is_said_and_nothing_is_set_aside on a disk of its own"]
fn read_only_disk() {
    let Some(disk) = std::env::var_os(DISK) else { return };
    let disk = Path::new(&disk);
    // Odd characters of a path must not end up as a URI's.
    let (closed, crashed) = (&disk.join("100%41?closed#"), &disk.join("crashed"));
    let (mut store, _) = Store::open(closed).unwrap();
    store.write(&many(0, 100)).unwrap();
    fs::create_dir(crashed).unwrap();
    for name in [FILE, "palisade.db-wal", "palisade.db-shm"] {
        fs::copy(closed.join(name), crashed.join(name)).unwrap();
    }
    drop(store);
    let mount = |how: &str| assert!(Command::new("mount").args(["-o", how]).arg(disk).status().unwrap().success());
    mount("remount,ro");
    for dir in [closed, crashed] {
        let error = Store::open(dir).map(drop).unwrap_err();
        assert!(matches!(error, StoreError::ReadOnly(_)), "{error:?}");
        let store = Store::open_read_only(dir).unwrap();
        assert_eq!(bans(&store).len(), 100, "the wall can still be put up from it");
    }
    mount("remount,rw");
    for dir in [closed, crashed] {
        let (mut store, opening) = Store::open(dir).unwrap();
        assert_eq!((opening, store.ban_count().unwrap()), (Opening::Known, 100));
        store.write(&many(1000, 1)).unwrap();
    }
}

#[test]
fn a_lock_held_by_another_is_busy_and_over_when_it_ends() {
    let (dir, mut store) = fresh();
    let other = rusqlite::Connection::open(dir.path().join(FILE)).unwrap();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    store.db.busy_timeout(BUSY_TIMEOUT / 100).unwrap();
    assert!(matches!(store.write(&many(0, 1)), Err(StoreError::Busy(_))));
    assert_eq!(store.ban_count().unwrap(), 0);
    other.execute_batch("ROLLBACK").unwrap();
    store.write(&many(0, 1)).unwrap();
}

#[test]
fn what_root_makes_belongs_to_the_owner_of_the_directory() {
    if !root() {
        return;
    }
    let dir = TempDir::new().unwrap();
    chown(dir.path(), Some(4711), Some(4712)).unwrap();
    fs::write(dir.path().join(FILE), b"noise").unwrap();
    let (mut store, _) = Store::open(dir.path()).unwrap();
    store.write(&many(0, 10)).unwrap();
    let mut seen = 0;
    for name in [FILE, "palisade.db-wal", "palisade.db-shm"] {
        let meta = fs::metadata(dir.path().join(name)).unwrap();
        assert_eq!((meta.uid(), meta.gid(), meta.permissions().mode() & 0o777), (4711, 4712, 0o640), "{name}");
        seen += 1;
    }
    assert_eq!(seen, 3);
    let made = dir.path().join("deep").join("state");
    Store::open(&made).map(drop).unwrap();
    assert_eq!(fs::metadata(made).unwrap().permissions().mode() & 0o777, 0o750);
}
