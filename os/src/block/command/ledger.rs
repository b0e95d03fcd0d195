//! What the program was told, kept in a file for who is told next.
//!
//! | line | meaning |
//! |---|---|
//! | `palisade 1 BOOT NETNS` | the first: which boot and network namespace the rest is true of |
//! | `block ADDR 4\|6 LEN` | is about to be told, once more if it was before |
//! | `block ADDR 4\|6 LEN N` | was told N times; the file is written anew with these |
//! | `release ADDR 4\|6 LEN` | was told, as often as `block` had been |
//!
//! A block is written down before it is told and a release after: whenever we die, at least all that
//! may stand is in it. It is not brought to the disk, as a crash of the system takes the firewall
//! with it as well. Where it is of another boot, or not there, nothing is known.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};

use palisade_core::net::{Family, Prefix};

use super::super::file;
use crate::clock;
use crate::privileges;

/// From so many lines that say nothing any more on, the file is written anew.
const STALE_MAX: usize = 1024;

/// How often a ban is told to be released at the most, however often it was told to stand.
const TIMES_MAX: u32 = 100;

/// The file, and what it says.
#[derive(Debug)]
pub(super) struct Ledger {
    path: PathBuf,
    head: String,
    /// How often each was told to stand; `None` where that is not known.
    times: Option<BTreeMap<Prefix, u32>>,
    lines: usize,
    /// Whether its last line may be half a line, onto which nothing is to be put.
    torn: bool,
    file: Option<File>,
}

/// The protocol's words for a prefix.
pub(super) fn words(prefix: &Prefix) -> String {
    let kind = if prefix.family() == Family::V4 { 4 } else { 6 };
    format!("{} {kind} {}", prefix.addr(), prefix.len())
}

/// A prefix, and how often.
fn parsed(words: &str) -> Option<(Prefix, u32)> {
    let mut fields = words.split(' ');
    let (addr, _, len) = (fields.next()?, fields.next()?, fields.next()?);
    let times = fields.next().map_or(Some(1), |times| times.parse().ok())?;
    Some((Prefix::new(addr.parse().ok()?, len.parse().ok()?)?, times))
}

/// Which boot this is and in which network namespace we are; what cannot be told is the same everywhere.
fn head() -> String {
    let boot = clock::boot_id().unwrap_or_default();
    let netns = fs::metadata("/proc/thread-self/ns/net").map(|meta| meta.ino()).unwrap_or_default();
    format!("palisade 1 {boot} {netns}")
}

fn replay(text: &str, head: &str) -> Option<BTreeMap<Prefix, u32>> {
    // A last line without its end was being written when we died: what it says was not told yet.
    let mut lines = text.split_inclusive('\n').filter_map(|line| line.strip_suffix('\n'));
    if lines.next() != Some(head) {
        return None;
    }
    let mut times = BTreeMap::new();
    for line in lines {
        match line.split_once(' ').and_then(|(word, rest)| Some((word, parsed(rest)?))) {
            Some(("block", (prefix, more))) => {
                let count: &mut u32 = times.entry(prefix).or_default();
                *count = count.saturating_add(more).min(TIMES_MAX);
            }
            Some(("release", (prefix, _))) => _ = times.remove(&prefix),
            _ => {}
        }
    }
    Some(times)
}

impl Ledger {
    /// Reads it, where there is one. Its folder is made.
    pub(super) fn open(path: &Path) -> io::Result<Self> {
        if let Some(dir) = path.parent() {
            DirBuilder::new().recursive(true).mode(0o750).create(dir)?;
        }
        file::writable(path)?;
        let (bytes, _) = file::read(path)?;
        let head = head();
        let text = String::from_utf8_lossy(&bytes);
        let (lines, torn) = (text.lines().count(), !text.ends_with('\n'));
        Ok(Self { path: path.to_owned(), times: replay(&text, &head), head, lines, torn, file: None })
    }

    /// Whether it is known what the program was told.
    pub(super) const fn known(&self) -> bool {
        self.times.is_some()
    }

    /// What it was told to stand.
    pub(super) fn told(&self) -> impl Iterator<Item = &Prefix> {
        self.times.iter().flat_map(BTreeMap::keys)
    }

    /// How often it was told that this stands.
    pub(super) fn times(&self, prefix: &Prefix) -> u32 {
        self.times.as_ref().and_then(|times| times.get(prefix)).copied().unwrap_or(0)
    }

    /// From now on nothing stands.
    pub(super) fn start(&mut self) -> io::Result<()> {
        self.times = Some(BTreeMap::new());
        self.rewrite()
    }

    /// From now on nothing is known.
    pub(super) fn forget(&mut self) -> io::Result<()> {
        (self.times, self.file) = (None, None);
        match fs::remove_file(&self.path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }

    /// This is about to be told to stand.
    pub(super) fn blocks(&mut self, prefix: &Prefix) -> io::Result<()> {
        if let Some(times) = &mut self.times {
            let count = times.entry(*prefix).or_default();
            *count = (*count + 1).min(TIMES_MAX);
        }
        self.append("block", prefix)
    }

    /// It was refused: it stands as often as before, or once if the refusal was only a grumble.
    pub(super) fn refused(&mut self, prefix: &Prefix) {
        if let Some(count) = self.times.as_mut().and_then(|times| times.get_mut(prefix)) {
            *count = (*count - 1).max(1);
        }
    }

    /// This was told to stand no more.
    pub(super) fn released(&mut self, prefix: &Prefix) -> io::Result<()> {
        if let Some(times) = &mut self.times {
            times.remove(prefix);
        }
        self.append("release", prefix)
    }

    fn append(&mut self, word: &str, prefix: &Prefix) -> io::Result<()> {
        let live = self.times.as_ref().map_or(0, BTreeMap::len);
        if self.torn || self.lines > live.saturating_mul(2).saturating_add(STALE_MAX) {
            return self.rewrite(); // what is to be said is in it
        }
        let file = match &mut self.file {
            Some(file) => file,
            none => none.insert(OpenOptions::new().append(true).open(&self.path)?),
        };
        self.lines += 1;
        let written = file.write_all(format!("{word} {}\n", words(prefix)).as_bytes());
        self.torn = written.is_err();
        written
    }

    fn rewrite(&mut self) -> io::Result<()> {
        let mut text = format!("{}\n", self.head);
        for (prefix, times) in self.times.iter().flatten() {
            let _ = writeln!(text, "block {} {times}", words(prefix)); // a String takes all
        }
        self.file = None;
        let (_, seen) = file::read(&self.path)?;
        let written = file::write(&self.path, text.as_bytes(), &seen)?;
        written.ok_or_else(|| io::Error::other("somebody else writes it too"))?;
        (self.lines, self.torn) = (text.lines().count(), false);
        // What root makes, by a verb, the daemon must find and go on with.
        privileges::own_like_dir(&self.path)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn p(text: &str) -> Prefix {
        text.parse().unwrap()
    }

    fn told(ledger: &Ledger) -> Vec<(Prefix, u32)> {
        ledger.told().map(|prefix| (*prefix, ledger.times(prefix))).collect()
    }

    #[test]
    fn what_was_told_is_known_to_the_next() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("sub/record");
        let mut ledger = Ledger::open(&path).unwrap();
        assert!(!ledger.known());
        ledger.start().unwrap();
        for prefix in ["192.0.2.7/32", "2001:db8::/64", "192.0.2.7/32", "198.51.100.0/24"] {
            ledger.blocks(&p(prefix)).unwrap();
        }
        ledger.released(&p("198.51.100.0/24")).unwrap();
        let next = Ledger::open(&path).unwrap();
        assert_eq!(told(&next), [(p("192.0.2.7/32"), 2), (p("2001:db8::/64"), 1)]);
        assert_eq!(told(&next), told(&ledger));
        assert!(fs::read_to_string(&path).unwrap().ends_with("\nrelease 198.51.100.0 4 24\n"));
    }

    #[test]
    fn of_another_boot_nothing_is_known_and_half_a_line_says_nothing() {
        let text = "palisade 1 a 1\nblock 192.0.2.7 4 32\nnonsense\nblock 192.0.2.7 4 33\nrelease 2001:db8:: 6 64\nblock 2001:db8:: 6 6";
        assert_eq!(replay(text, "palisade 1 a 1"), Some(BTreeMap::from([(p("192.0.2.7/32"), 1)])));
        assert_eq!(replay(text, "palisade 1 b 1"), None);
        assert_eq!(replay("", "palisade 1 a 1"), None);
    }

    #[test]
    fn what_was_told_often_takes_no_more_room() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("record");
        let mut ledger = Ledger::open(&path).unwrap();
        ledger.start().unwrap();
        let hosts: Vec<Prefix> = (0..1500u32).map(|n| Prefix::host(std::net::Ipv4Addr::from_bits(0x0a00_0000 + n).into())).collect();
        for _ in 0..4 {
            hosts.iter().for_each(|host| ledger.blocks(host).unwrap());
        }
        ledger.rewrite().unwrap();
        let before = fs::metadata(&path).unwrap().ino();
        for host in &hosts[..1000] {
            ledger.blocks(host).unwrap();
        }
        assert_eq!(fs::metadata(&path).unwrap().ino(), before, "a line is put behind the others, the file not written anew");
        let next = Ledger::open(&path).unwrap();
        assert_eq!((next.times(&hosts[0]), next.times(&hosts[1499])), (5, 4));
        assert_eq!(told(&next), told(&ledger));
    }

    #[test]
    fn nothing_is_put_onto_half_a_line() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("record");
        let mut ledger = Ledger::open(&path).unwrap();
        ledger.start().unwrap();
        ledger.blocks(&p("192.0.2.7/32")).unwrap();
        let half = fs::read_to_string(&path).unwrap() + "block 198.51.100.0 4 2";
        fs::write(&path, half).unwrap();
        let mut next = Ledger::open(&path).unwrap();
        next.blocks(&p("192.0.2.8/32")).unwrap();
        assert_eq!(told(&Ledger::open(&path).unwrap()), [(p("192.0.2.7/32"), 1), (p("192.0.2.8/32"), 1)]);
        // As a full disk leaves it.
        next.file = Some(File::open(&path).unwrap());
        assert!(next.blocks(&p("192.0.2.9/32")).is_err());
        next.blocks(&p("192.0.2.9/32")).unwrap();
        assert_eq!(told(&Ledger::open(&path).unwrap()), told(&next));
    }

    #[test]
    fn the_file_does_not_grow_with_the_years() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("record");
        let mut ledger = Ledger::open(&path).unwrap();
        ledger.start().unwrap();
        ledger.blocks(&p("192.0.2.1/32")).unwrap();
        for _ in 0..5000 {
            ledger.blocks(&p("192.0.2.7/32")).unwrap();
            ledger.released(&p("192.0.2.7/32")).unwrap();
        }
        assert!(fs::read_to_string(&path).unwrap().lines().count() < 2000);
        assert_eq!(told(&Ledger::open(&path).unwrap()), [(p("192.0.2.1/32"), 1)]);
    }
}
