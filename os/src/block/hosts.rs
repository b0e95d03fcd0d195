//! TCP wrappers: a block of lines in hosts.deny or hosts.allow, for services that ask libwrap.
//!
//! | file | line | counts |
//! |---|---|---|
//! | hosts.deny | `ALL : 192.0.2.7 198.51.100.0/255.255.255.0 [2001:db8::]/64` | where hosts.allow has no line for that client |
//! | hosts.allow | the same and ` : deny` | always: the first line that matches decides, and ours is the first |
//!
//! Source: hosts_access(5), hosts_options(5). An IPv4 prefix is spelled with its mask, which every
//! libwrap reads (a length only some do), and one address bare, because 255.255.255.255 is no mask to
//! it. IPv6 needs its brackets, as `:` ends a field. libwrap reads a line into 2048 bytes and passes
//! over a longer one, so a line holds [`Wrappers::A_LINE`] bans at most. The word `deny` is understood
//! by a libwrap with the options language (Debian's, FreeBSD's); one without would take it for a
//! shell command and let the client in, so `hosts.deny` is the default.
//!
//! (A foreign last line without its end makes libwrap deny everybody, with our block or without it.)
//!
//! What it cannot do: it is asked only by services that use libwrap, when a connection is made; ports
//! are no matter to it; forced bans stand first but are otherwise like the rest, as the allow list is
//! not expressed (see [`super::listed`]).

use std::os::fd::BorrowedFd;
use std::path::{Path, PathBuf};

use palisade_core::bans::wall::{Entry, Found, Frame, Limits, Report, Step};
use palisade_core::config::HostsSection;
use palisade_core::net::{Addr, Family, Prefix};
use palisade_core::time::Stamp;

use super::file::{self, Seen};
use super::listed::{Listed, Syntax};
use super::{BlockError, Blocker, Drift, Read};

/// What begins each of our lines: every service.
const SERVICES: &str = "ALL : ";
/// What ends them in hosts.allow.
const DENY: &str = " : deny";

/// How TCP wrappers spell bans.
#[derive(Debug)]
pub(super) struct Wrappers {
    /// Whether a line says what it is for: in hosts.allow.
    pub(super) deny_word: bool,
}

impl Syntax for Wrappers {
    /// The longest ban has 45 bytes, so a line has less than 400. sshguard writes as many.
    const A_LINE: usize = 8;

    fn write(&self, bans: &[Prefix], out: &mut String) {
        let words: Vec<String> = bans.iter().map(spell).collect();
        out.push_str(SERVICES);
        out.push_str(&words.join(" "));
        out.push_str(if self.deny_word { DENY } else { "" });
        out.push('\n');
    }

    fn read(&self, line: &str) -> Option<Vec<Prefix>> {
        let rest = line.strip_prefix(SERVICES)?;
        let rest = if self.deny_word { rest.strip_suffix(DENY)? } else { rest };
        rest.split(' ').map(unspell).collect()
    }
}

fn spell(prefix: &Prefix) -> String {
    match prefix.family() {
        Family::V6 => format!("[{}]/{}", prefix.addr(), prefix.len()),
        Family::V4 if prefix.is_host() => prefix.addr().to_string(),
        Family::V4 => {
            format!("{}/{}", prefix.addr(), Addr::from_octets(&prefix.netmask()).map_or_else(String::new, |mask| mask.to_string()))
        }
    }
}

fn unspell(word: &str) -> Option<Prefix> {
    let prefix: Prefix = match word.strip_prefix('[') {
        Some(rest) => {
            let (addr, len) = rest.split_once("]/")?;
            Prefix::new(addr.parse().ok()?, len.parse().ok()?)?
        }
        None => match word.split_once('/') {
            None => Prefix::host(word.parse().ok()?),
            Some((addr, mask)) => {
                let mask: std::net::Ipv4Addr = mask.parse().ok()?;
                Prefix::new(addr.parse().ok()?, u8::try_from(mask.to_bits().leading_ones()).ok()?)?
            }
        },
    };
    // What we would spell otherwise is not ours.
    (spell(&prefix) == word).then_some(prefix)
}

/// The block in the file of the config.
#[derive(Debug)]
pub struct Hosts {
    listed: Listed<Wrappers>,
    /// The hosts.allow that stands before it, where it is another file.
    before: Option<Before>,
}

impl Hosts {
    /// Opens it. What stands in the file goes on standing.
    ///
    /// # Errors
    /// [`BlockError::Unusable`] where the file cannot be rewritten, or could but would have no effect.
    pub fn open(section: &HostsSection) -> Result<Self, BlockError> {
        let path = Path::new(&section.file);
        let deny_word = path.file_name().is_some_and(|name| name == "hosts.allow");
        let mut before = (!deny_word).then(|| Before { path: path.with_file_name("hosts.allow"), seen: None, line: None });
        before.as_mut().map_or(Ok(()), Before::look)?;
        Ok(Self { listed: Listed::open("hosts", &section.file, Wrappers { deny_word })?, before })
    }
}

/// A hosts.allow, which libwrap looks at before hosts.deny.
#[derive(Debug)]
struct Before {
    path: PathBuf,
    seen: Option<Seen>,
    /// Its line that lets everybody in.
    line: Option<String>,
}

impl Before {
    /// An error where it lets everybody in before hosts.deny is even looked at. One that cannot be read
    /// is libwrap's to complain of. One stat(2) where nothing changed.
    fn look(&mut self) -> Result<(), BlockError> {
        if !self.seen.as_ref().is_some_and(|seen| seen.still(&self.path).unwrap_or(false)) {
            let (text, seen) = file::read(&self.path).map_or_else(|_| (Vec::new(), None), |(text, seen)| (text, Some(seen)));
            let text = String::from_utf8_lossy(&text).replace("\\\n", " ");
            self.line = text.lines().find(|line| lets_everybody_in(line)).map(|line| line.trim().to_owned());
            self.seen = seen;
        }
        let (Some(line), path) = (&self.line, self.path.display()) else { return Ok(()) };
        Err(BlockError::Unusable {
            what: format!("hosts: bans in hosts.deny have no effect, as {path} lets everybody in first with `{line}`"),
            hint: format!("take that line out, or set file = \"{path}\" in [backend.hosts]: there our lines come before it"),
        })
    }
}

/// Whether a line of hosts.allow matches all clients, for whatever service, and does not deny. Whom it
/// excepts is nobody of ours.
fn lets_everybody_in(line: &str) -> bool {
    if line.trim_start().starts_with('#') {
        return false;
    }
    // Between brackets `:` is a part of an address.
    let mut inside = false;
    let ends = |c: char| {
        inside = c == '[' || inside && c != ']';
        c == ':' && !inside
    };
    let mut fields = line.split(ends).map(str::trim);
    let clients = fields.nth(1).unwrap_or_default();
    let denies = fields.any(|option| option.eq_ignore_ascii_case("deny"));
    let words = clients.split([' ', '\t', ',']).take_while(|word| !word.eq_ignore_ascii_case("EXCEPT"));
    !denies && { words }.any(|word| word.eq_ignore_ascii_case("ALL"))
}

impl Blocker for Hosts {
    fn name(&self) -> &'static str {
        "hosts"
    }

    fn limits(&self) -> Limits {
        Listed::<Wrappers>::limits()
    }

    fn read(&mut self, what: Read<'_>) -> Result<Found, BlockError> {
        self.listed.read(what)
    }

    fn apply(&mut self, steps: &[Step], now: Stamp) -> Report {
        let result = self.listed.apply(steps, now);
        result.map_or_else(|error| error.all_failed(steps.len()), |_| Report::all_done(steps.len()))
    }

    fn replace(&mut self, _: &Frame, entries: &mut dyn Iterator<Item = Entry>, now: Stamp) -> Result<Report, BlockError> {
        self.listed.replace(entries, now).map(|(count, _)| Report::all_done(count))
    }

    fn remove(&mut self) -> Result<(), BlockError> {
        self.listed.remove().map(|_| ())
    }

    fn notices(&self) -> Option<BorrowedFd<'_>> {
        None
    }

    fn drift(&mut self) -> Result<Drift, BlockError> {
        self.before.as_mut().map_or(Ok(()), Before::look)?;
        self.listed.drift()
    }
}

#[cfg(test)]
mod tests;
