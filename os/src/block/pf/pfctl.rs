//! pfctl(8), called and understood.
//!
//! | call | prints | source (FreeBSD, `sbin/pfctl`) |
//! |---|---|---|
//! | `-si` | `Status: Enabled for ...` to stdout | `pfctl_parser.c`: `print_status` |
//! | `-sr`, `-a A -sr` | a rule a line to stdout; of an anchor that is not there a complaint and exit code 0 | `pfctl.c`: `pfctl_show_rules`, whose result `main` does not look at |
//! | `-a A -vvsT` | flags, name, anchor, tabs between; `Addresses: N` below | `pfctl_table.c`: `print_table`, `print_tstats` |
//! | `-T add`, `delete` | `N/M addresses added.` to stderr | `pfctl_table.c`: `pfctl_table`, `xprintf` |
//! | `-T show` | two signs, address, `/len` where it is no host's; with `-v` counters below | `pfctl_table.c`: `print_addrx`, `print_astats` |
//! | `-k`, `-K` | `killed N states from ...` to stderr | `pfctl.c`: `pfctl_net_kill_states`, `pfctl_kill_src_nodes` |
//! | `-vvss` | a state a line, `id: N creatorid: N` below | `pf_print_state.c`: `print_state` |
//!
//! A table that is not there is exit code 255 (`main` returns the -1 of `pfctl_table`), `-T test` that finds
//! less than all 2, everything else that fails 1. Addresses come on standard input (`-f -`), all are read before
//! the first is used, and each call is one ioctl: it is done whole or not at all (`pf_table.c`: `pfr_add_addrs`).

use std::collections::BTreeMap;
use std::io::Write;

use palisade_core::config::BackendSection;
use palisade_core::net::Prefix;

use super::super::BlockError;
use crate::process::{LONG, Tool, ToolError};

/// The program and our anchor.
#[derive(Clone, Debug)]
pub(crate) struct Pfctl {
    tool: Tool,
    anchor: String,
}

/// One entry of a table as it is read back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Listed {
    pub(super) prefix: Prefix,
    /// `!`: what is in it is not in the table, though a wider entry is.
    pub(super) negated: bool,
    /// What it blocked, both directions, where the table counts.
    pub(super) blocked: Option<(u64, u64)>,
}

impl Pfctl {
    /// Finds the program.
    pub(crate) fn find(section: &BackendSection) -> Result<Self, BlockError> {
        let tool = Tool::find("pfctl", &section.path).map_err(|source| BlockError::Tool {
            what: "PF cannot be used".to_owned(),
            hint: "pfctl is part of FreeBSD and OpenBSD; on another system choose another `backend`, on these put its folder into \
                   `[backend] path`"
                .to_owned(),
            source,
        })?;
        Ok(Self { tool, anchor: section.pf.anchor.clone() })
    }

    /// Our anchor's path.
    pub(crate) fn anchor(&self) -> &str {
        &self.anchor
    }

    /// Calls it as it is; what it complained.
    pub(crate) fn call(&self, arguments: &[&str], each: impl FnMut(&str)) -> Result<String, ToolError> {
        self.tool.lines(arguments, |_| Ok(()), each)
    }

    /// As [`Self::call`], where it may take long: a host may have a million states.
    pub(crate) fn long_call(&self, arguments: &[&str], each: impl FnMut(&str)) -> Result<String, ToolError> {
        self.tool.clone().within(LONG).lines(arguments, |_| Ok(()), each)
    }

    /// As [`Self::call`], about our anchor.
    fn ours(&self, arguments: &[&str], each: impl FnMut(&str)) -> Result<String, ToolError> {
        self.call(&[&["-a", &*self.anchor], arguments].concat(), each)
    }

    /// Loads this as all the rules of our anchor, in one transaction. Tables keep what they hold
    /// (`pf_table.c`: `pfr_commit_ktable`, a shadow without addresses).
    pub(super) fn load(&self, rules: &str) -> Result<(), ToolError> {
        self.tool.feed(&["-a", &self.anchor, "-f", "-"], |input| input.write_all(rules.as_bytes())).map(|_| ())
    }

    /// The rules of our anchor as they are printed; nothing where it has none.
    pub(super) fn rules(&self) -> Result<Vec<String>, ToolError> {
        let mut rules = Vec::new();
        self.ours(&["-sr"], |line| rules.push(line.to_owned()))?;
        Ok(rules)
    }

    /// The tables of our anchor, and how many entries each has.
    pub(super) fn tables(&self) -> Result<BTreeMap<String, u64>, ToolError> {
        let mut tables = BTreeMap::new();
        let mut name = String::new();
        let listed = self.ours(&["-vvsT"], |line| {
            if let Some(count) = line.trim_start().strip_prefix("Addresses:") {
                tables.insert(std::mem::take(&mut name), count.trim().parse().unwrap_or(0));
            } else if let [_flags, table, anchor] = line.split('\t').collect::<Vec<_>>()[..]
                && anchor == self.anchor
            {
                table.clone_into(&mut name);
            }
        });
        match listed {
            Err(error) if !is_no_anchor(&error) => Err(error),
            _ => Ok(tables),
        }
    }

    /// One table's entries.
    pub(super) fn show(&self, table: &str, mut each: impl FnMut(Listed)) -> Result<(), ToolError> {
        let mut last: Option<Listed> = None;
        self.ours(&["-t", table, "-T", "show", "-v"], |line| {
            if let Some(entry) = entry(line) {
                last.replace(entry).into_iter().for_each(&mut each);
            } else if let (Some(last), Some((packets, bytes))) = (&mut last, blocked(line)) {
                let (p, b) = last.blocked.unwrap_or_default();
                last.blocked = Some((p.saturating_add(packets), b.saturating_add(bytes)));
            }
        })?;
        last.into_iter().for_each(each);
        Ok(())
    }

    /// `-T add`, `delete` or `replace` with these entries, `!` before those that are negated. How many
    /// the call says were added or deleted; 0 where it says nothing of that.
    pub(super) fn change<'a>(
        &self,
        table: &str,
        command: &str,
        entries: impl Iterator<Item = (&'a Prefix, bool)> + Send,
    ) -> Result<u64, ToolError> {
        let arguments = ["-a", &self.anchor, "-t", table, "-T", command, "-f", "-"];
        let write = |input: &mut dyn Write| {
            for (prefix, negated) in entries {
                writeln!(input, "{}{prefix}", if negated { "!" } else { "" })?;
            }
            Ok(())
        };
        let said = self.tool.clone().within(LONG).lines(&arguments, write, |_| {})?;
        Ok(count_before(&said, " addresses "))
    }

    /// Takes a table away.
    pub(super) fn drop_table(&self, table: &str) -> Result<(), ToolError> {
        self.ours(&["-t", table, "-T", "kill"], |_| {}).map(|_| ())
    }

    /// Takes the rules of our anchor away, then its tables. That there are none is success.
    pub(super) fn flush(&self) -> Result<(), ToolError> {
        for what in ["rules", "Tables"] {
            match self.ours(&["-F", what], |_| {}) {
                Err(error) if !is_no_anchor(&error) => return Err(error),
                _ => {}
            }
        }
        Ok(())
    }
}

/// ENOENT of a call about the tables of an anchor that has neither rules nor tables (`pf_table.c`: `pfr_table_count`).
fn is_no_anchor(error: &ToolError) -> bool {
    error.complaint().contains("Anchor or Ruleset does not exist")
}

/// The number that stands before this text: 3 of `3/4 addresses added.`, 2 of `killed 2 states from`.
pub(crate) fn count_before(said: &str, text: &str) -> u64 {
    let Some((before, _)) = said.split_once(text) else { return 0 };
    let word = before.rsplit([' ', ';']).next().unwrap_or("");
    word.split('/').next().and_then(|number| number.parse().ok()).unwrap_or(0)
}

/// `  !203.0.113.0/24` or `   203.0.113.7`: feedback sign, space, negation, address.
fn entry(line: &str) -> Option<Listed> {
    let text = line.strip_prefix("  ")?;
    let (negated, text) = match text.strip_prefix('!') {
        Some(text) => (true, text),
        None => (false, text.trim_start()),
    };
    Some(Listed { prefix: text.trim_end().parse().ok()?, negated, blocked: None })
}

/// `In/Block:    [ Packets: 3                  Bytes: 180                ]`
fn blocked(line: &str) -> Option<(u64, u64)> {
    match line.split_whitespace().collect::<Vec<_>>()[..] {
        ["In/Block:" | "Out/Block:", "[", "Packets:", packets, "Bytes:", bytes, "]"] => Some((packets.parse().ok()?, bytes.parse().ok()?)),
        _ => None,
    }
}

/// Why a call failed, with what to do about it where the complaint tells.
pub(crate) fn explained(what: impl Into<String>, source: ToolError) -> BlockError {
    let said = source.complaint();
    let no_pf = said.contains("/dev/pf: No such file or directory");
    let hint = if no_pf {
        "PF is not in the kernel: `kldload pf`, and for every boot `sysrc pf_enable=YES`"
    } else if said.contains("/dev/pf: Permission denied") || said.contains("Operation not permitted") {
        "only root may change PF (and nobody may at securelevel 3, see security(7)): run palisade as root"
    } else if said.contains("Cannot allocate memory") {
        "the table is full: raise `set limit table-entries` in pf.conf and load it with `pfctl -f /etc/pf.conf`"
    } else if said.contains("Invalid argument") || said.contains("Argument list too long") {
        "the kernel takes no more entries at once than net.pf.request_maxcount: raise it in /boot/loader.conf"
    } else if said.contains("Table does not exist") {
        "somebody took the table away; it comes back when the wall is next built anew"
    } else {
        ""
    };
    if no_pf {
        return BlockError::Unusable { what: format!("{}: {source}", what.into()), hint: hint.to_owned() };
    }
    BlockError::Tool { what: what.into(), hint: hint.to_owned(), source }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_are_read_as_they_are_printed() {
        let listed = |text: &str, negated| Listed { prefix: text.parse().unwrap(), negated, blocked: None };
        assert_eq!(entry("   203.0.113.7"), Some(listed("203.0.113.7/32", false)));
        assert_eq!(entry("  !198.51.100.0/24"), Some(listed("198.51.100.0/24", true)));
        assert_eq!(entry("   2001:db8::/32"), Some(listed("2001:db8::/32", false)));
        for none in ["\tCleared:     Tue Nov 25 23:00:00 2025", "\tIn/Block:    [ Packets: 1 Bytes: 60 ]", "", "  ", "   host.example"] {
            assert_eq!(entry(none), None, "{none:?}");
        }
        assert_eq!(blocked("\tOut/Block:   [ Packets: 3                  Bytes: 180                ]"), Some((3, 180)));
        assert_eq!(blocked("\tIn/Pass:     [ Packets: 3                  Bytes: 180                ]"), None);
        assert_eq!(blocked("\tIn/Block:    [ Packets: -3 Bytes: 180 ]"), None);
    }

    #[test]
    fn counts_are_read_out_of_the_noise() {
        let noise = "No ALTQ support in kernel; ALTQ related functions disabled; ";
        assert_eq!(count_before(&format!("{noise}3/4 addresses added."), " addresses "), 3);
        assert_eq!(count_before(&format!("{noise}killed 12 states from 1 sources and 0 destinations"), " states"), 12);
        assert_eq!(count_before("no changes.", " addresses "), 0);
        assert_eq!(count_before("many addresses added", " addresses "), 0);
    }
}
