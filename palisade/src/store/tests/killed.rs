//! Writers killed at any moment, and logs torn at any byte.

use std::fs::{self, OpenOptions};
use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use palisade_core::event::Record;

use super::*;

/// Tells the child where to write.
const DIR: &str = "PALISADE_TEST_KILLED_DIR";
const BATCH: usize = 40;

fn batch(n: usize) -> Vec<Record> {
    let mut records: Vec<Record> = (0..BATCH)
        .map(|i| {
            let mut one = ban(&format!("2001:db8:{:x}:{:x}::/64", n % 50_000, i), 5000);
            one.offences = n as u32;
            Record::Ban(one)
        })
        .collect();
    records.insert(BATCH / 2, Record::Position { source: "log".to_owned(), position: n.to_string() });
    records
}

/// Every batch is there wholly or not at all, without a gap, and the position is that of the last.
#[track_caller]
fn whole_batches(store: &Store) -> usize {
    let all = bans(store);
    assert_eq!(all.len() % BATCH, 0, "a part of a batch");
    let count = all.len() / BATCH;
    let mut sizes = vec![0; count];
    all.iter().for_each(|ban| sizes[ban.offences as usize] += 1);
    assert!(sizes.iter().all(|size| *size == BATCH), "a batch is missing before the last");
    let position = store.positions().unwrap().get("log").cloned();
    assert_eq!(position, count.checked_sub(1).map(|last| last.to_string()));
    count
}

/// Not a test of its own: what the next one runs and kills.
#[test]
#[ignore = "the child of a_killed_writer_loses_nothing_acknowledged"]
fn writer() {
    let Some(dir) = std::env::var_os(DIR) else { return };
    let dir = Path::new(&dir);
    let (mut store, _) = Store::open(dir).unwrap();
    let mut acknowledged = OpenOptions::new().create(true).append(true).open(dir.join("acknowledged")).unwrap();
    for n in whole_batches(&store).. {
        store.write(&batch(n)).unwrap();
        acknowledged.write_all(b".").unwrap();
    }
}

#[test]
fn a_killed_writer_loses_nothing_acknowledged() {
    let dir = TempDir::new().unwrap();
    let mut last = 0;
    for round in 0..14u64 {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "store::tests::killed::writer", "--ignored", "--nocapture"])
            .env(DIR, dir.path())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        std::thread::sleep(Duration::from_millis(25 + round * 37 % 190));
        assert!(child.try_wait().unwrap().is_none(), "the writer ended by itself");
        child.kill().unwrap();
        child.wait().unwrap();
        let (store, opening) = Store::open(dir.path()).unwrap();
        assert!(!matches!(opening, Opening::SetAside { .. }), "{opening:?}");
        let there = whole_batches(&store);
        let acknowledged = fs::metadata(dir.path().join("acknowledged")).map_or(0, |m| m.len() as usize);
        // A kill may fall between the commit and the dot; never the other way round.
        assert!(there >= acknowledged && there >= last, "{there} there, {acknowledged} acknowledged, {last} before");
        let missing = vec![b'.'; there - acknowledged];
        OpenOptions::new().create(true).append(true).open(dir.path().join("acknowledged")).unwrap().write_all(&missing).unwrap();
        last = there;
    }
    assert!(last > 20, "only {last} batches were written at all");
}

/// What a power cut can leave: the log ends anywhere, or its last pages are noise.
#[test]
fn a_torn_log_is_a_shorter_story() {
    let (dir, mut store) = fresh();
    for n in 0..12 {
        store.write(&batch(n)).unwrap();
    }
    let database = fs::read(store.path()).unwrap();
    let log = fs::read(dir.path().join("palisade.db-wal")).unwrap();
    let mut stories = std::collections::BTreeSet::new();
    for cut in (0..=log.len()).step_by(1371).chain([log.len()]) {
        for noise in [false, true] {
            let torn = TempDir::new().unwrap();
            let mut part = log[..cut].to_vec();
            if noise {
                part.resize(log.len(), 0xa5);
            }
            fs::write(torn.path().join("palisade.db"), &database).unwrap();
            fs::write(torn.path().join("palisade.db-wal"), part).unwrap();
            let (store, opening) = Store::open(torn.path()).unwrap();
            assert_eq!(opening, Opening::Known);
            stories.insert(whole_batches(&store));
        }
    }
    assert!(stories.contains(&0) && stories.contains(&12) && stories.len() > 8, "{stories:?}");
}
