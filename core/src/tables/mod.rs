//! Tables in and out: what other tools keep of who is shut out, read into [`Row`]s and written from them.
//!
//! A [`Reader`] is given a table's bytes in whatever pieces they come and hands out what each line
//! says; nothing in it allocates by what a table holds, and nothing a table says makes it fail: a line
//! that is not understood is one [`Item::Bad`] with what was expected, and the next line is read. A
//! [`Writer`] is the way back. `docs/tables.md` describes every format.
//!
//! | file | what |
//! |---|---|
//! | `lines`, `objects` | a stream cut into lines; a JSON stream cut into the objects that are rows |
//! | `words` | addresses, prefixes, ranges, texts |
//! | `moment` | the one rule for what a time in a table means |
//! | `plain` | one prefix a line; FireHOL's netsets, PF's tables |
//! | `hammer` | `ADDR=TIME` |
//! | `csv` | comma-separated, ours and CrowdSec's |
//! | `json` | the document of `palisade list`, or an object a line; Spamhaus' DROP |
//! | `crowdsec` | decisions as `cscli` lists and imports them |
//! | `sshguard` | blacklist and whitelist |
//! | `nft`, `ipset` | files that `nft -f` and `ipset restore` load |
//! | `write` | [`Writer`] |

mod crowdsec;
mod csv;
mod hammer;
mod ipset;
mod json;
mod lines;
mod moment;
mod nft;
mod objects;
mod plain;
mod sshguard;
#[cfg(test)]
mod tests;
mod words;
pub mod write;

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::net::{Family, Prefix};
use crate::ports::Ports;
use crate::time::{Stamp, Until};

use lines::Lines;
use objects::Objects;
pub use write::{Form, Out, Writer};

/// The longest line, and the longest object, in bytes. A row of the longest reason takes a hundredth of it.
pub const LINE_MAX: usize = 64 * 1024;

/// How many bytes of a reason are kept: what `palisade why` shows on a line or two.
pub const REASON_MAX: usize = 200;

/// A table's form on the way in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Format {
    /// `ADDR=TIME`.
    BanHammer,
    /// One address, prefix or range a line.
    Plain,
    /// The same as FireHOL writes it.
    Netset,
    /// Comma-separated values.
    Csv,
    /// The document of `palisade list`, or one object a line.
    Json,
    /// sshguard's blacklist.
    Sshguard,
    /// sshguard's whitelist: addresses, prefixes and names.
    SshguardWhitelist,
    /// Decisions of CrowdSec, in CSV or JSON.
    Crowdsec,
    /// Spamhaus' DROP lists.
    DropJson,
}

impl Format {
    /// All of them.
    pub const ALL: [Self; 9] = [
        Self::BanHammer,
        Self::Plain,
        Self::Netset,
        Self::Csv,
        Self::Json,
        Self::Sshguard,
        Self::SshguardWhitelist,
        Self::Crowdsec,
        Self::DropJson,
    ];
}

/// When a row says that its ban ends. Not [`Until`], whose "for ever" is JSON's null: a row may also say nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum End {
    /// At this moment, in milliseconds since 1970.
    At(i64),
    /// Not by itself.
    Forever,
}

impl From<End> for Until {
    fn from(end: End) -> Self {
        match end {
            End::At(ms) => Self::At(Stamp(ms)),
            End::Forever => Self::Forever,
        }
    }
}

impl From<Until> for End {
    fn from(until: Until) -> Self {
        match until {
            Until::At(at) => Self::At(at.0),
            Until::Forever => Self::Forever,
        }
    }
}

/// One ban of a table, as far as its format tells.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Row {
    /// Who.
    pub prefix: Prefix,
    /// Until when; `None` where the table does not say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub end: Option<End>,
    /// Since when.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since: Option<Stamp>,
    /// From what.
    #[serde(default, skip_serializing_if = "all_ports")]
    pub ports: Ports,
    /// The how manieth ban, from 1.
    #[serde(default = "one", skip_serializing_if = "is_one")]
    pub offences: u32,
    /// Why, printable and at most [`REASON_MAX`] bytes; empty where the table does not say.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub reason: String,
}

fn all_ports(ports: &Ports) -> bool {
    *ports == Ports::All
}

const fn one() -> u32 {
    1
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde asks it so")]
const fn is_one(offences: &u32) -> bool {
    *offences == 1
}

impl Row {
    /// A row that says who and nothing more. Allocates nothing.
    pub const fn of(prefix: Prefix) -> Self {
        Self { prefix, end: None, since: None, ports: Ports::All, offences: 1, reason: String::new() }
    }

    /// A bound on its bytes in a request.
    pub fn bytes(&self) -> usize {
        // 200 for names, numbers, prefix and times; six a port; a byte of text may become six in JSON.
        let ports = if let Ports::Only(ports) = &self.ports { 6 * ports.len() } else { 0 };
        200 + ports + 6 * self.reason.len()
    }
}

/// What a line of a table says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Item {
    /// A ban. One line with a range may say several.
    Ban(Row),
    /// A host's name where one may stand: in a whitelist.
    Name(String),
    /// Understood, and no ban: what it is.
    Passed(String),
    /// Not understood: what was expected.
    Bad(String),
}

/// What takes the items, each with the number of the line it begins on, from 1.
pub type Take<'a> = dyn FnMut(u64, Item) + 'a;

/// The widest prefixes that a table may ban. Wider ones are a mistake in the table, or somebody's hand in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Widest {
    /// The shortest length of IPv4.
    pub v4: u8,
    /// The shortest length of IPv6.
    pub v6: u8,
}

impl Widest {
    /// /8 is what the largest holders of IPv4 were given (the class A networks of RFC 1166); an IPv6
    /// prefix shorter than /19 is a whole region's, or one of the very few larger allocations.
    pub const DEFAULT: Self = Self { v4: 8, v6: 19 };

    /// Whether it is not too wide.
    pub const fn admits(&self, prefix: &Prefix) -> bool {
        prefix.len() >= self.of(prefix.family())
    }

    /// The shortest length of a family.
    pub const fn of(&self, family: Family) -> u8 {
        match family {
            Family::V4 => self.v4,
            Family::V6 => self.v6,
        }
    }
}

/// Reads one table.
#[derive(Debug)]
pub struct Reader {
    shape: Shape,
    now: Stamp,
}

/// How the bytes are cut, and who reads the pieces.
#[derive(Debug)]
enum Shape {
    Hammer(Lines),
    Plain(Lines),
    Netset(Lines, plain::Header),
    Blacklist(Lines),
    Whitelist(Lines),
    Csv(Lines, csv::Columns),
    DropJson(Lines),
    Json(Objects),
    /// CrowdSec: which of the two shows with the first byte that is no blank.
    Crowdsec(Lines),
    CrowdsecCsv(Lines, csv::Columns),
    CrowdsecJson(Objects),
}

impl Reader {
    /// A reader of a table that begins. Durations in it count from `now`.
    pub fn new(format: Format, now: Stamp) -> Self {
        let lines = Lines::new(0);
        let shape = match format {
            Format::BanHammer => Shape::Hammer(lines),
            Format::Plain => Shape::Plain(lines),
            Format::Netset => Shape::Netset(lines, plain::Header::default()),
            Format::Csv => Shape::Csv(lines, csv::Columns::ours()),
            Format::Json => Shape::Json(Objects::new(0)),
            Format::Sshguard => Shape::Blacklist(lines),
            Format::SshguardWhitelist => Shape::Whitelist(lines),
            Format::Crowdsec => Shape::Crowdsec(lines),
            Format::DropJson => Shape::DropJson(lines),
        };
        Self { shape, now }
    }

    /// Takes the next bytes, cut anywhere.
    pub fn push(&mut self, bytes: &[u8], take: &mut Take<'_>) {
        let bytes = self.choose(bytes);
        let now = self.now;
        match &mut self.shape {
            Shape::Hammer(lines) => lines.push(bytes, take, &mut |line, say| hammer::read(line, now, say)),
            Shape::Plain(lines) => lines.push(bytes, take, &mut plain::read),
            Shape::Netset(lines, header) => lines.push(bytes, take, &mut |line, say| header.read(line, say)),
            Shape::Blacklist(lines) => lines.push(bytes, take, &mut sshguard::blacklist),
            Shape::Whitelist(lines) => lines.push(bytes, take, &mut sshguard::whitelist),
            Shape::Csv(lines, columns) => lines.push(bytes, take, &mut |line, say| csv::read(line, columns, now, say)),
            Shape::DropJson(lines) => lines.push(bytes, take, &mut json::drop),
            Shape::Json(objects) => objects.push(bytes, take, &mut json::Rows(now)),
            Shape::CrowdsecCsv(lines, columns) => lines.push(bytes, take, &mut |line, say| crowdsec::csv(line, columns, now, say)),
            Shape::CrowdsecJson(objects) => objects.push(bytes, take, &mut crowdsec::Decisions(now)),
            Shape::Crowdsec(_) => {}
        }
    }

    /// The table is over: a last line without its newline counts, an object without its end does not.
    pub fn finish(&mut self, take: &mut Take<'_>) {
        if let Shape::Json(objects) | Shape::CrowdsecJson(objects) = &mut self.shape {
            return objects.finish(take);
        }
        let (Shape::Hammer(lines)
        | Shape::Plain(lines)
        | Shape::Netset(lines, _)
        | Shape::Blacklist(lines)
        | Shape::Whitelist(lines)
        | Shape::Csv(lines, _)
        | Shape::CrowdsecCsv(lines, _)
        | Shape::DropJson(lines)) = &mut self.shape
        else {
            return;
        };
        if lines.unfinished() {
            self.push(b"\n", take);
        }
    }

    /// Chooses between CrowdSec's two forms by the first byte that is no blank; gives back what is still to be read.
    fn choose<'b>(&mut self, bytes: &'b [u8]) -> &'b [u8] {
        let Shape::Crowdsec(lines) = &mut self.shape else { return bytes };
        let blank = |byte: &u8| byte.is_ascii_whitespace() || lines::BOM.contains(byte);
        let blanks = bytes.iter().take_while(|byte| blank(byte)).count();
        let before = lines.number() + bytes[..blanks].iter().filter(|byte| **byte == b'\n').count() as u64;
        self.shape = match bytes.get(blanks) {
            None => Shape::Crowdsec(Lines::new(before)),
            Some(b'[' | b'{') => Shape::CrowdsecJson(Objects::new(before)),
            Some(_) => Shape::CrowdsecCsv(Lines::new(before), csv::Columns::crowdsec()),
        };
        &bytes[blanks..]
    }
}

impl fmt::Display for Format {
    /// As the command line names it, and the origin of its bans: `import:NAME`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::BanHammer => "ban-hammer",
            Self::Plain => "plain",
            Self::Netset => "netset",
            Self::Csv => "csv",
            Self::Json => "json",
            Self::Sshguard | Self::SshguardWhitelist => "sshguard",
            Self::Crowdsec => "crowdsec",
            Self::DropJson => "drop-json",
        })
    }
}
