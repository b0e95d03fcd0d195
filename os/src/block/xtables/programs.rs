//! Which iptables programs there are, and which of the two kinds to use.

use palisade_core::config::Variant;
use palisade_core::net::Family;

use super::save::{Shape, Snapshot};
use crate::block::BlockError;
use crate::errors::chain;
use crate::process::{LONG, Tool, ToolError};

/// How long a program waits for others that change the tables, in seconds (`-w` of iptables(8)). A
/// reload of Docker's or ufw's rules takes a second or two.
const WAIT: &str = "--wait=10";

/// The kind of tables.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// nf_tables, in tables of its own.
    Nft,
    /// The kernel's first ones.
    Legacy,
}

impl Kind {
    const fn word(self) -> &'static str {
        match self {
            Self::Nft => "nft",
            Self::Legacy => "legacy",
        }
    }

    /// As `iptables -V` has it since 1.8; before, there was legacy only.
    fn of_version(told: &str) -> Self {
        if told.contains("(nf_tables)") { Self::Nft } else { Self::Legacy }
    }
}

/// The two programs of one family.
#[derive(Clone, Debug)]
pub struct Programs {
    restore: Tool,
    save: Tool,
}

impl Programs {
    /// Those of this kind: under names that say so, or under the plain ones where they are of that kind.
    fn find(family: Family, kind: Kind, path: &[String]) -> Result<Self, ToolError> {
        let stem = stem(family);
        let named = |stem: &str| -> Result<Self, ToolError> {
            let tool = |end| Tool::find(&format!("{stem}-{end}"), path);
            Ok(Self { restore: tool("restore")?.within(LONG), save: tool("save")?.within(LONG) })
        };
        match named(&format!("{stem}-{}", kind.word())) {
            Err(missing) if plain_kind(family, path) == Some(kind) => named(stem).map_err(|_| missing),
            other => other,
        }
    }

    /// What of ours stands in the filter table.
    pub fn snapshot(&self, ours: impl Fn(&str) -> bool) -> Result<Snapshot, ToolError> {
        let mut snapshot = Snapshot::default();
        let mut incompatible = None;
        self.listing(&["-t", "filter"], |line| {
            // `is incompatible`, `contains incompatible base-chains`: printed where something is that only nft(8) can write.
            if line.starts_with("# Table `filter' ") && line.contains("incompatible") {
                incompatible = Some(line.to_owned());
            }
            snapshot.take(line, &ours);
        })?;
        match incompatible {
            None => Ok(snapshot),
            Some(line) => {
                let call = format!("{} -t filter", self.save);
                Err(ToolError::Run { call, source: std::io::Error::other(line) })
            }
        }
    }

    /// What is in all tables; nothing where they cannot be read. Makes no table that is not there.
    fn census(&self, ours: &dyn Fn(&str) -> bool) -> Census {
        let mut census = Census::default();
        let listed = self.listing(&[], |line| {
            census.rules += usize::from(line.starts_with("-A "));
            census.ours |= line.strip_prefix(':').and_then(|rest| rest.split(' ').next()).is_some_and(ours);
        });
        if listed.is_ok() { census } else { Census::default() }
    }

    /// Every rule is a line, whatever its comment holds: what stands before our jump must be seen.
    fn listing(&self, arguments: &[&str], each: impl FnMut(&str)) -> Result<(), ToolError> {
        self.save.lines(arguments, |_| Ok(()), each).map(|_| ())
    }

    /// Changes the filter table as the script says: all of it or nothing.
    pub(super) fn restore(&self, script: &str) -> Result<(), ToolError> {
        self.restore.feed(&["--noflush", WAIT], |input| input.write_all(script.as_bytes())).map(|_| ())
    }

    /// Makes this stand. What stood is read again where somebody changed it in between. In how many
    /// transactions that was done: none where it stood.
    pub(super) fn set(&self, shape: &Shape, ours: impl Fn(&str) -> bool) -> Result<u32, ToolError> {
        let mut tried = 0;
        loop {
            tried += 1;
            let there = self.snapshot(&ours)?;
            if there.amiss(shape).is_none() || there.is_empty() && *shape == Shape::default() {
                return Ok(0);
            }
            match self.restore(&there.script(shape)) {
                Err(_) if tried < super::TRIES => {}
                done => return done.map(|()| 1),
            }
        }
    }
}

const fn stem(family: Family) -> &'static str {
    match family {
        Family::V4 => "iptables",
        Family::V6 => "ip6tables",
    }
}

/// What the program without a kind in its name is.
fn plain_kind(family: Family, path: &[String]) -> Option<Kind> {
    let told = Tool::find(stem(family), path).and_then(|tool| tool.run(&["-V"])).ok()?;
    Some(Kind::of_version(&told))
}

/// What the tables of a kind hold.
#[derive(Clone, Copy, Debug, Default)]
struct Census {
    rules: usize,
    /// Whether a chain of ours is among them.
    ours: bool,
}

/// The kind to use: `auto` is the one that has chains of ours, as with the other they would stand for
/// ever; else the one that has rules; else the host's.
///
/// # Errors
/// Where there are no programs of the kind asked for, or of any.
pub(super) fn choose(who: &'static str, variant: Variant, path: &[String], ours: &dyn Fn(&str) -> bool) -> Result<Kind, BlockError> {
    let of = |kind| Programs::find(Family::V4, kind, path);
    match variant {
        Variant::Nft => of(Kind::Nft).map(|_| Kind::Nft).map_err(|error| missing(who, error)),
        Variant::Legacy => of(Kind::Legacy).map(|_| Kind::Legacy).map_err(|error| missing(who, error)),
        Variant::Auto => match (of(Kind::Nft), of(Kind::Legacy)) {
            (Ok(_), Err(_)) => Ok(Kind::Nft),
            (Err(_), Ok(_)) => Ok(Kind::Legacy),
            (Err(error), Err(_)) => Err(missing(who, error)),
            (Ok(_), Ok(_)) => {
                let (nft, legacy) = (census(Kind::Nft, path, ours), census(Kind::Legacy, path, ours));
                Ok(match ((nft.ours, legacy.ours), (nft.rules, legacy.rules)) {
                    ((true, false), _) => Kind::Nft,
                    ((false, true), _) => Kind::Legacy,
                    (_, (1.., 0)) => Kind::Nft,
                    (_, (0, 1..)) => Kind::Legacy,
                    _ => plain_kind(Family::V4, path).unwrap_or(Kind::Nft),
                })
            }
        },
    }
}

fn census(kind: Kind, path: &[String], ours: &dyn Fn(&str) -> bool) -> Census {
    let of = |family| Programs::find(family, kind, path).map_or_else(|_| Census::default(), |programs| programs.census(ours));
    let (v4, v6) = (of(Family::V4), of(Family::V6));
    Census { rules: v4.rules + v6.rules, ours: v4.ours || v6.ours }
}

fn missing(who: &str, error: ToolError) -> BlockError {
    let hint = "install Debian's package `iptables`, or name the folder of its programs in `path` of [backend]".to_owned();
    BlockError::Tool { what: format!("{who}: the iptables programs are missing"), hint, source: error }
}

/// The programs of a family, shown to work.
///
/// # Errors
/// [`BlockError::Tool`] where they are missing or cannot read the filter table, with what would help.
pub(super) fn usable(who: &'static str, family: Family, kind: Kind, path: &[String]) -> Result<Programs, BlockError> {
    let programs = Programs::find(family, kind, path).map_err(|error| missing(who, error))?;
    match programs.snapshot(|_| false) {
        Ok(_) => Ok(programs),
        Err(error) => {
            let what = format!("{who}: {} cannot be used", programs.save);
            Err(BlockError::Tool { what, hint: hint(family, kind, &error), source: error })
        }
    }
}

/// What to do about what one of the programs said.
pub fn hint(family: Family, kind: Kind, error: &ToolError) -> String {
    let said = chain(error);
    let has = |words: &[&str]| words.iter().any(|word| said.contains(word));
    let hint = if has(&["ermission denied", "must be root", "not permitted"]) {
        match kind {
            Kind::Nft => "run as root or give the process CAP_NET_ADMIN",
            Kind::Legacy => "run as root: iptables-legacy needs CAP_NET_ADMIN, CAP_NET_RAW and its lock /run/xtables.lock",
        }
    } else if has(&["do you need to insmod", "Table does not exist", "nitialize", "not supported"]) {
        match (kind, family) {
            (Kind::Nft, _) => "this kernel lacks nf_tables or nft_compat: modprobe nf_tables nft_compat, or set variant = \"legacy\"",
            (Kind::Legacy, Family::V4) => "this kernel lacks ip_tables: modprobe ip_tables iptable_filter, or set variant = \"nft\"",
            (Kind::Legacy, Family::V6) => "this kernel lacks ip6_tables: modprobe ip6_tables ip6table_filter, or set variant = \"nft\"",
        }
    } else if has(&["incompatible"]) {
        "somebody put rules into the filter table that only nft(8) can write; use backend = \"nftables\""
    } else if has(&["xtables lock"]) {
        "another program holds the lock of the tables; find it with `fuser /run/xtables.lock`"
    } else if has(&["match-set", "Couldn't load match", "match `set'"]) {
        "this kernel or this iptables lacks the match `set`: modprobe xt_set"
    } else {
        ""
    };
    hint.to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kind_is_in_the_version() {
        assert_eq!(Kind::of_version("iptables v1.8.9 (nf_tables)\n"), Kind::Nft);
        assert_eq!(Kind::of_version("iptables v1.8.9 (legacy)\n"), Kind::Legacy);
        assert_eq!(Kind::of_version("iptables v1.6.1\n"), Kind::Legacy);
    }
}
