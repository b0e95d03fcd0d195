//! The program ipset: what goes in, what comes out.
//!
//! ```text
//!  create NAME hash:net family inet hashsize 1024 maxelem 65536 timeout 0 counters     restore and save
//!  add NAME 192.0.2.7 timeout 599 packets 3 bytes 180                                  restore and save
//!  del NAME 192.0.2.7    swap NAME NAME    destroy NAME                                restore
//!
//!  Name: NAME                                                                          list -t
//!  Type: hash:net
//!  Header: family inet hashsize 1024 maxelem 65536 timeout 0 counters ...
//!  Number of entries: 17                                      without those whose time is over
//! ```
//! Source: ipset(8), and what ipset 7 prints. A restore is no transaction: it stops at the first line
//! that is refused, and what came before it may or may not have been done. With `-exist` every line can be
//! done again, so a restore is repeated without the lines that are to blame.

use std::collections::BTreeMap;
use std::io::{self, Write};

use palisade_core::bans::wall::Standing;
use palisade_core::net::{Family, Prefix};
use palisade_core::time::{Span, Stamp, Until};

use super::MOST_BANS;
use crate::block::xtables::option;
use crate::errors::chain;
use crate::process::{LONG, Tool, ToolError};

/// The longest timeout, in seconds: the kernel counts in milliseconds of 32 bits less one (ipset(8)).
const LONGEST: u64 = 2_147_483;

/// How many lines are found out to be to blame, each by another run, before the rest is given up.
const BLAMED: usize = 64;

/// How often a set that is no longer used is let go of, and what is waited in between: nf_tables lets
/// go of what the rules of a former ruleset used a moment after the new one stands.
const TRIES: u32 = 8;
const PAUSE: std::time::Duration = std::time::Duration::from_millis(2);

/// What a member is to become.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// Nothing.
    Release,
    /// A member, for so many seconds.
    In(u64),
    /// A member for good; also of a set whose members have no timeouts, and for bans that end later
    /// than the kernel can count: those we release ourselves.
    Never,
}

impl End {
    /// For a ban `until`, at `now`.
    pub fn of(until: Until, now: Stamp) -> Self {
        match until.left(now) {
            Some(_) if until.over(now) => Self::Release,
            Some(left) if left.as_secs_ceil() <= LONGEST => Self::In(left.as_secs_ceil().max(1)),
            _ => Self::Never,
        }
    }
}

/// One member to change: the place of its set, and whose step it is.
#[derive(Clone, Copy, Debug)]
pub struct Change {
    /// Which set.
    pub set: usize,
    /// The member.
    pub member: Prefix,
    /// What becomes of it.
    pub end: End,
    /// Index of the step.
    pub index: usize,
}

/// How a set is made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Header {
    /// `hash:net`.
    pub kind: String,
    /// Of which addresses.
    pub family: Family,
    /// How many members it takes.
    pub most: usize,
    /// Whether members may end by themselves.
    pub timeouts: bool,
    /// Whether members count.
    pub counters: bool,
    /// How many members there are.
    pub entries: usize,
}

impl Header {
    /// The line that makes such a set.
    pub fn create(&self, name: &str) -> String {
        let family = if self.family == Family::V4 { "inet" } else { "inet6" };
        let timeouts = if self.timeouts { " timeout 0" } else { "" };
        let counters = if self.counters { " counters" } else { "" };
        format!("create {name} {} family {family} maxelem {}{timeouts}{counters}", self.kind, self.most)
    }
}

/// Reads `list -t`.
#[derive(Debug, Default)]
struct Headers {
    found: BTreeMap<String, Header>,
    name: Option<String>,
    kind: String,
}

impl Headers {
    fn take(&mut self, line: &str, ours: impl Fn(&str) -> bool) {
        if let Some(name) = line.strip_prefix("Name: ") {
            self.name = ours(name).then(|| name.to_owned());
        } else if let Some(kind) = line.strip_prefix("Type: ") {
            kind.clone_into(&mut self.kind);
        } else if let (Some(name), Some(header)) = (&self.name, line.strip_prefix("Header: ")) {
            let has = |word: &str| header.split(' ').any(|one| one == word);
            let header = Header {
                kind: std::mem::take(&mut self.kind),
                family: if has("inet6") { Family::V6 } else { Family::V4 },
                most: option(header, "maxelem").and_then(|most| most.parse().ok()).unwrap_or(0),
                timeouts: has("timeout"),
                counters: has("counters"),
                entries: 0,
            };
            self.found.insert(name.clone(), header);
        } else if let (Some(name), Some(count)) = (&self.name, line.strip_prefix("Number of entries: "))
            && let Some(header) = self.found.get_mut(name)
        {
            header.entries = count.trim().parse().unwrap_or(usize::MAX);
        }
    }
}

/// Reads a line of `save`: the member of this set, and how it stands.
fn member(line: &str, set: &str) -> Option<(Prefix, Standing)> {
    let rest = line.strip_prefix("add ")?.strip_prefix(set)?.strip_prefix(' ')?;
    let member: Prefix = rest.split(' ').next()?.parse().ok()?;
    let number = |name| option(rest, name).and_then(|value| value.parse::<u64>().ok());
    let left = number("timeout").filter(|left| *left > 0).map(Span::secs);
    Some((member, Standing { left, packets: number("packets"), bytes: number("bytes") }))
}

/// `Error in line 4: Hash is full, cannot add more elements`: the line, from 1 on, and what is wrong with it.
fn blamed(complaint: &str) -> Option<(usize, &str)> {
    let (line, why) = complaint.split_once("Error in line ")?.1.split_once(": ")?;
    Some((line.parse().ok()?, why))
}

/// The program.
#[derive(Clone, Debug)]
pub struct Sets(Tool);

impl Sets {
    /// Finds it.
    pub fn find(path: &[String]) -> Result<Self, ToolError> {
        Ok(Self(Tool::find("ipset", path)?.within(LONG)))
    }

    /// How the sets are made that are ours.
    pub fn headers(&self, ours: impl Fn(&str) -> bool) -> Result<BTreeMap<String, Header>, ToolError> {
        let mut headers = Headers::default();
        self.listing(&["list", "-t"], |line| headers.take(line, &ours))?;
        Ok(headers.found)
    }

    /// Hands on every member of a set.
    pub fn members(&self, set: &str, mut each: impl FnMut(Prefix, Standing)) -> Result<(), ToolError> {
        self.listing(&["save", set], |line| {
            if let Some((member, standing)) = member(line, set) {
                each(member, standing);
            }
        })
    }

    fn listing(&self, arguments: &[&str], each: impl FnMut(&str)) -> Result<(), ToolError> {
        self.0.lines(arguments, |_| Ok(()), each).map(|_| ())
    }

    /// Does these lines.
    pub fn restore(&self, lines: &[String]) -> Result<(), ToolError> {
        if lines.is_empty() {
            return Ok(());
        }
        let write = |input: &mut dyn Write| lines.iter().try_for_each(|line| writeln!(input, "{line}"));
        self.0.feed(&["-exist", "restore"], write).map(|_| ())
    }

    /// Makes these changes, `names` being the sets'. Which of them could not be made, and why.
    ///
    /// # Errors
    /// What is about all of them.
    pub fn change(&self, changes: &[Change], names: &[&str]) -> Result<Vec<(usize, String)>, ToolError> {
        let mut bad: Vec<(usize, String)> = Vec::new();
        let mut left: Vec<&Change> = changes.iter().collect();
        while !left.is_empty() {
            let write = |input: &mut dyn Write| left.iter().try_for_each(|change| write(input, change, names));
            match self.0.feed(&["-exist", "restore"], write) {
                Ok(_) => break,
                Err(error) => {
                    let told = blamed(error.complaint()).map(|(line, why)| (line, why.to_owned()));
                    let Some((line, why)) = told.filter(|(line, why)| (1..=left.len()).contains(line) && !why.contains("does not exist"))
                    else {
                        return Err(error);
                    };
                    if bad.len() >= BLAMED {
                        bad.extend(left.iter().map(|change| (change.index, format!("ipset refused so many others: {why}"))));
                        break;
                    }
                    bad.push((left.remove(line - 1).index, format!("ipset refused it: {why}")));
                }
            }
        }
        bad.sort();
        bad.dedup_by_key(|(index, _)| *index);
        Ok(bad)
    }

    /// Copies a set into another one, with all that is known of its members, in pieces.
    pub fn copy(&self, from: &str, to: &str, piece_of: usize) -> Result<(), ToolError> {
        let (mut waiting, mut failed) = (Vec::new(), None);
        let begin = format!("add {from} ");
        let ran = self.0.try_lines(
            &["save", from],
            |_| Ok(()),
            |line| {
                waiting.extend(line.strip_prefix(&begin).map(|member| format!("add {to} {member}")));
                if waiting.len() >= piece_of {
                    let done = self.restore(&std::mem::take(&mut waiting));
                    done.map_err(|error| failed.insert(error)).map_err(|_| io::Error::other("the copy could not be written"))?;
                }
                Ok(())
            },
        );
        match (failed, ran) {
            (Some(error), _) | (None, Err(error)) => Err(error),
            (None, Ok(_)) => self.restore(&waiting),
        }
    }

    /// Takes a set away that no rule uses any more.
    pub fn destroy(&self, set: &str) -> Result<(), ToolError> {
        let mut tried = 0;
        loop {
            tried += 1;
            match self.0.run(&["destroy", set]) {
                Err(error) if error.complaint().contains("does not exist") => return Ok(()),
                Err(error) if error.complaint().contains("in use") && tried < TRIES => std::thread::sleep(PAUSE * (1 << tried)),
                done => return done.map(|_| ()),
            }
        }
    }
}

fn write(out: &mut dyn Write, change: &Change, names: &[&str]) -> io::Result<()> {
    let set = names.get(change.set).copied().unwrap_or_default();
    let member = change.member;
    match change.end {
        End::Release => writeln!(out, "del {set} {member}"),
        End::In(seconds) => writeln!(out, "add {set} {member} timeout {seconds}"),
        End::Never => writeln!(out, "add {set} {member}"),
    }
}

/// What to do about what ipset said.
pub fn hint(error: &ToolError) -> String {
    let said = chain(error);
    let has = |words: &[&str]| words.iter().any(|word| said.contains(word));
    if matches!(error, ToolError::Missing { .. }) {
        "install Debian's package `ipset`, or name the folder of its program in `path` of [backend]".to_owned()
    } else if has(&["not permitted", "ermission denied"]) {
        "run as root or give the process CAP_NET_ADMIN".to_owned()
    } else if has(&["open session", "Kernel support", "not supported", "upport is missing"]) {
        "this kernel lacks ip_set: modprobe ip_set ip_set_hash_net xt_set".to_owned()
    } else if has(&["Hash is full"]) {
        format!("a set takes {MOST_BANS} members; ban wider prefixes, or for a shorter time")
    } else {
        String::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_are_read() {
        let mut headers = Headers::default();
        let text = "Name: other\nType: hash:ip\nHeader: family inet maxelem 3\nNumber of entries: 9\n\nName: pal-b6\nType: hash:net\nRevision: 7\n\
                    Header: family inet6 hashsize 1024 maxelem 2000 timeout 0 counters bucketsize 12 initval 0x1\nReferences: 2\nNumber of entries: 17\n";
        text.lines().for_each(|line| headers.take(line, |name| name.starts_with("pal")));
        let header = Header { kind: "hash:net".into(), family: Family::V6, most: 2000, timeouts: true, counters: true, entries: 17 };
        assert_eq!(headers.found, [("pal-b6".to_owned(), header.clone())].into());
        assert_eq!(header.create("x"), "create x hash:net family inet6 maxelem 2000 timeout 0 counters");
    }

    #[test]
    fn members_are_read() {
        let (prefix, standing) = member("add s 192.0.2.7 timeout 599 packets 3 bytes 180", "s").unwrap();
        assert_eq!(prefix.to_string(), "192.0.2.7/32");
        assert_eq!(standing, Standing { left: Some(Span::secs(599)), packets: Some(3), bytes: Some(180) });
        assert_eq!(member("add s 2001:db8::/64 timeout 0", "s").unwrap().1, Standing::default());
        for other in ["add s2 192.0.2.7", "create s hash:net", "add s", "add s x", ""] {
            assert_eq!(member(other, "s"), None, "{other}");
        }
    }

    #[test]
    fn the_line_to_blame_is_read() {
        assert_eq!(
            blamed("ipset v7.17: Error in line 4: Hash is full, cannot add more elements"),
            Some((4, "Hash is full, cannot add more elements"))
        );
        assert_eq!(blamed("ipset v7.17: Error in line x: y"), None);
        assert_eq!(blamed("Kernel error received: Operation not permitted"), None);
    }

    #[test]
    fn ends_fit_the_kernel() {
        let now = Stamp(1_000_000);
        assert_eq!(End::of(Until::At(now), now), End::Release);
        assert_eq!(End::of(Until::At(Stamp(1_000_001)), now), End::In(1));
        assert_eq!(End::of(Until::At(now.plus(Span::secs(LONGEST))), now), End::In(LONGEST));
        assert_eq!(End::of(Until::At(now.plus(Span::secs(LONGEST + 1))), now), End::Never);
        assert_eq!(End::of(Until::Forever, now), End::Never);
    }
}
