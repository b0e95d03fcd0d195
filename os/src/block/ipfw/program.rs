//! ipfw(8), called and understood.
//!
//! | call | prints | source (FreeBSD, `sbin/ipfw`) |
//! |---|---|---|
//! | `list A-B` | `00040 deny ip from ...` a line; none: a complaint and exit code 69 | `ipfw2.c`: `ipfw_show_config` |
//! | `table all info` | `--- table(N), set(0) ---`, ` items: N, size: N` | `tables.c`: `table_show_info` |
//! | `table N list` | `203.0.113.7/32 0` | `tables.c`: `table_show_entry` |
//! | `table N lookup A` | the most specific entry; none: exit code 69 | `tables.c`: `table_lookup` |
//! | `-q PATH` | nothing | `main.c`: `ipfw_readfile` |
//!
//! Commands in bulk come from a file, which must be named by an absolute path and be readable; `/dev/stdin` is one. A
//! line is at most 4095 bytes (`char buf[4096]`, `fgets`), the first that fails ends the run, and says
//! `Line N:`. With `-q` an entry that is there is updated and one that is not there is deleted without complaint
//! (`table_modify_record`). Exit codes are those of sysexits(3): 64 usage, 65 data, 69 unavailable, 71 system error.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, Write};

use palisade_core::config::BackendSection;
use palisade_core::net::Prefix;

use super::super::BlockError;
use crate::process::{LONG, Tool, ToolError};

/// Entries a line: the longest IPv6 prefix takes 46 bytes with its value, so 64 stay below 4095 with the command before.
const A_LINE: usize = 64;

/// EX_UNAVAILABLE (sysexits(3)): no such rule, no such entry; also no right to the socket.
const UNAVAILABLE: i32 = 69;

/// ipfw, and sysctl where there is one.
#[derive(Clone, Debug)]
pub(super) struct Program {
    tool: Tool,
    sysctl: Option<Tool>,
}

/// The table that is filled beside this one to be swapped with it.
pub(super) fn spare(table: &str) -> String {
    format!("{table}n")
}

impl Program {
    pub(super) fn find(section: &BackendSection) -> Result<Self, BlockError> {
        let tool = Tool::find("ipfw", &section.path).map_err(|source| BlockError::Tool {
            what: "ipfw cannot be used".to_owned(),
            hint: "ipfw is part of FreeBSD; elsewhere choose another `backend`".to_owned(),
            source,
        })?;
        Ok(Self { tool, sysctl: Tool::find("sysctl", &section.path).ok() })
    }

    /// The rules from this number to that, their numbers and what they say.
    pub(super) fn rules(&self, first: u16, last: u16) -> Result<Vec<(u16, String)>, ToolError> {
        let mut rules = Vec::new();
        let span = format!("{first}-{last}");
        let listed = self.tool.lines(&["list", &span], |_| Ok(()), |line| rules.extend(rule(line)));
        match listed {
            Err(error) if !is_nothing(&error, "no rules in range") => Err(error),
            _ => Ok(rules),
        }
    }

    /// All tables there are, and how many entries each has.
    pub(super) fn tables(&self) -> Result<BTreeMap<String, u64>, ToolError> {
        let (mut tables, mut name) = (BTreeMap::new(), None);
        self.tool.lines(
            &["table", "all", "info"],
            |_| Ok(()),
            |line| {
                if let Some(rest) = line.strip_prefix("--- table(") {
                    name = rest.split(')').next().map(str::to_owned);
                } else if let Some(count) = line.trim_start().strip_prefix("items: ").and_then(|rest| rest.split(',').next()?.parse().ok())
                    && let Some(name) = name.take()
                {
                    tables.insert(name, count);
                }
            },
        )?;
        Ok(tables)
    }

    /// One table's entries.
    pub(super) fn list(&self, table: &str, mut each: impl FnMut(Prefix)) -> Result<(), ToolError> {
        let entry = |line: &str| {
            if let Some(prefix) = line.split(' ').next().and_then(|text| text.parse().ok()) {
                each(prefix);
            }
        };
        self.tool.clone().within(LONG).lines(&["table", table, "list"], |_| Ok(()), entry).map(|_| ())
    }

    /// Whether this host has an entry of its own.
    pub(super) fn holds_host(&self, table: &str, host: &Prefix) -> Result<bool, ToolError> {
        let mut holds = false;
        let addr = host.addr().to_string();
        let found = self.tool.lines(
            &["table", table, "lookup", &addr],
            |_| Ok(()),
            |line| {
                holds = line.split(' ').next().and_then(|text| text.parse::<Prefix>().ok()).as_ref() == Some(host);
            },
        );
        match found {
            Err(error) if !is_nothing(&error, "not found") => Err(error),
            _ => Ok(holds),
        }
    }

    /// Runs these commands in order, up to the first that fails.
    pub(super) fn commands(&self, commands: &[String]) -> Result<(), ToolError> {
        self.bulk(|input| commands.iter().try_for_each(|command| writeln!(input, "{command}")))
    }

    /// Puts these into a table or takes them out, whether they were in it or not.
    pub(super) fn change(&self, table: &str, add: bool, prefixes: &[&Prefix]) -> Result<(), ToolError> {
        if prefixes.is_empty() {
            return Ok(());
        }
        self.bulk(|input| entries(input, table, add, prefixes.iter().copied()))
    }

    /// Makes a table hold exactly these. `there`: the table; `left`: the one to fill, of a run that broke off.
    pub(super) fn exchange(&self, table: &str, wanted: &BTreeSet<Prefix>, there: bool, left: bool) -> Result<(), ToolError> {
        let spare = spare(table);
        self.bulk(|input| {
            if !there {
                writeln!(input, "table {table} create type addr")?;
            }
            writeln!(input, "table {spare} {}", if left { "flush" } else { "create type addr" })?;
            entries(input, &spare, true, wanted.iter())?;
            writeln!(input, "table {table} swap {spare}\ntable {spare} destroy")
        })
    }

    fn bulk(&self, input: impl FnOnce(&mut dyn Write) -> io::Result<()> + Send) -> Result<(), ToolError> {
        self.tool.clone().within(LONG).feed(&["-q", "/dev/stdin"], input).map(|_| ())
    }

    /// What sysctl says of this name; `None` where it says nothing.
    pub(super) fn sysctl(&self, name: &str) -> Option<String> {
        Some(self.sysctl.as_ref()?.run(&["-n", name]).ok()?.trim().to_owned())
    }
}

fn entries<'a>(input: &mut dyn Write, table: &str, add: bool, prefixes: impl Iterator<Item = &'a Prefix>) -> io::Result<()> {
    let mut on_line = 0;
    for prefix in prefixes {
        if on_line == 0 {
            write!(input, "table {table} {}", if add { "add" } else { "delete" })?;
        }
        // Several entries a line are told apart by each having a value.
        write!(input, " {prefix}{}", if add { " 0" } else { "" })?;
        on_line += 1;
        if on_line == A_LINE {
            on_line = 0;
            writeln!(input)?;
        }
    }
    if on_line > 0 { writeln!(input) } else { Ok(()) }
}

/// `00040 deny ip from table(palisade) to any`
fn rule(line: &str) -> Option<(u16, String)> {
    let (number, text) = line.split_once(' ')?;
    Some((number.parse().ok()?, text.split_whitespace().collect::<Vec<_>>().join(" ")))
}

/// Whether it only says that there is none.
fn is_nothing(error: &ToolError, said: &str) -> bool {
    error.code() == Some(UNAVAILABLE) && error.complaint().contains(said)
}

/// Why a call failed, with what to do about it where the complaint tells.
pub(super) fn explained(what: impl Into<String>, source: ToolError) -> BlockError {
    let said = source.complaint();
    if said.contains("Protocol not available") {
        let hint = "load it so that it does not shut you out (its last rule denies everything): `kenv net.inet.ip.fw.default_to_accept=1`, \
                    `kldload ipfw`; for every boot the first into /boot/loader.conf, and `sysrc firewall_enable=YES firewall_type=open`";
        return BlockError::Unusable { what: format!("{}: ipfw is not in the kernel", what.into()), hint: hint.to_owned() };
    }
    let hint = if said.contains("Operation not permitted") {
        "only root may change ipfw: run palisade as root"
    } else if said.contains("table is locked") {
        "somebody locked it: `ipfw table NAME unlock`"
    } else {
        ""
    };
    BlockError::Tool { what: what.into(), hint: hint.to_owned(), source }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_line_is_longer_than_ipfw_reads() {
        let long: Prefix = "2001:db8:ffff:ffff:ffff:ffff:ffff:ffff/128".parse().unwrap();
        for (count, lines) in [(0, 0), (1, 1), (A_LINE, 1), (A_LINE + 1, 2), (1000, 16)] {
            let mut out = Vec::new();
            entries(&mut out, &"n".repeat(33), true, std::iter::repeat_n(&long, count)).unwrap();
            let text = String::from_utf8(out).unwrap();
            assert_eq!(text.lines().count(), lines);
            assert!(text.lines().all(|line| line.len() < 4095) && (text.is_empty() || text.ends_with('\n')));
            assert_eq!(text.matches(" 0").count(), count);
        }
    }

    #[test]
    fn rules_are_read_as_they_are_listed() {
        assert_eq!(rule("00040 deny ip from table(palisade) to any"), Some((40, "deny ip from table(palisade) to any".into())));
        for none in ["", "## Dynamic rules (1 128):", "99999 deny ip from any to any", "00040"] {
            assert_eq!(rule(none), None);
        }
    }
}
