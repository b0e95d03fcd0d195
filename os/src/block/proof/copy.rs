//! Others' rules, taken as the text that their own tools write and read.

use std::fs;
use std::io;
use std::path::Path;

use palisade_core::config::BackendSection;
use palisade_core::ours::{NFT_PROBE_TABLE, NFT_ROUTE_TABLE, NFT_TABLE};
use palisade_core::time::Span;

use crate::netlink::nft::survey::{self, family_name};
use crate::process::{Tool, ToolError};

/// How much text of one tool is copied. A host with ten thousand rules has about 1 MiB.
const MOST: usize = 16 << 20;

/// How long one tool may take to write or read it.
const WITHIN: Span = Span::secs(5);

/// How many interfaces are made in the copy, for rules that name them.
const LINKS: usize = 32;

/// The tables that are iptables-nft's own (iptables(8)); nft(8) cannot write them back whole.
const XTABLES: [&str; 5] = ["filter", "nat", "mangle", "raw", "security"];

/// The four saves of iptables and what reads each; of which backend's tables.
const SAVES: [(&str, &str); 4] = [
    ("iptables-nft-save", "iptables-nft-restore"),
    ("ip6tables-nft-save", "ip6tables-nft-restore"),
    ("iptables-legacy-save", "iptables-legacy-restore"),
    ("ip6tables-legacy-save", "ip6tables-legacy-restore"),
];

/// Where legacy tables are named that are in use: reading them by iptables-legacy-save would make them.
const LEGACY_NAMES: [(&str, &str); 2] = [
    ("iptables-legacy-save", "/proc/thread-self/net/ip_tables_names"),
    ("ip6tables-legacy-save", "/proc/thread-self/net/ip6_tables_names"),
];

/// What others have here.
#[derive(Debug, Default)]
pub(super) struct Copy {
    /// Each text with what reads it, in the order to read them.
    parts: Vec<Part>,
    /// What is there but could not be copied.
    pub(super) missing: Vec<String>,
}

#[derive(Debug)]
struct Part {
    what: String,
    reader: Tool,
    arguments: &'static [&'static str],
    text: Vec<u8>,
}

impl Copy {
    /// Takes it. What a missing tool keeps from us is told.
    pub(super) fn take(section: &BackendSection) -> Self {
        let mut copy = Self::default();
        copy.ipset(section);
        copy.xtables(section);
        copy.nft(section);
        copy
    }

    /// Sets that rules of iptables may match.
    fn ipset(&mut self, section: &BackendSection) {
        let Ok(tool) = Tool::find("ipset", &section.path) else { return };
        let ours = &section.ipset.name;
        match text(&tool, &["save"], |line| !names_set(line, ours)) {
            Ok(text) if text.is_empty() => {}
            Ok(text) => self.parts.push(Part { what: "ipset's sets".into(), reader: tool, arguments: &["restore", "-exist"], text }),
            // A kernel without sets has none to copy.
            Err(error) => drop(error),
        }
    }

    fn xtables(&mut self, section: &BackendSection) {
        for (save, restore) in SAVES {
            let unused = |path: &str| fs::read_to_string(path).unwrap_or_default().trim().is_empty();
            if LEGACY_NAMES.iter().any(|(name, path)| *name == save && unused(path)) {
                continue;
            }
            let (Ok(save_tool), Ok(reader)) = (Tool::find(save, &section.path), Tool::find(restore, &section.path)) else { continue };
            let ours = [&section.iptables.ipv4_chain, &section.iptables.ipv6_chain, &section.ipset.name];
            match text(&save_tool, &[] as &[&str], |line| !ours.iter().any(|name| names_chain(line, name))) {
                Ok(text) if text.is_empty() => {}
                Ok(text) => self.parts.push(Part { what: format!("the rules of {save}"), reader, arguments: &[], text }),
                Err(error) => self.missing.push(format!("the rules of {save} are not in the copy: {error}")),
            }
        }
    }

    fn nft(&mut self, section: &BackendSection) {
        let tables = survey::tables().unwrap_or_default();
        let foreign: Vec<_> =
            tables.into_iter().filter(|(_, name)| ![NFT_TABLE, NFT_ROUTE_TABLE, NFT_PROBE_TABLE].contains(&name.as_str())).collect();
        let of_xtables = |family: &str, name: &str| matches!(family, "ip" | "ip6") && XTABLES.contains(&name);
        let saved = self.parts.iter().any(|part| part.what.contains("-nft-save"));
        let Ok(tool) = Tool::find("nft", &section.path) else {
            if !foreign.is_empty() {
                self.missing.push("nftables rules of others are not in the copy: there is no nft program to read them".to_owned());
            }
            return;
        };
        for (family, name) in foreign {
            let family = family_name(family);
            if saved && of_xtables(family, &name) {
                continue;
            }
            let what = format!("table {family} {name}");
            match text(&tool, &["list", "table", family, &name], |_| true) {
                Ok(text) => self.parts.push(Part { what, reader: tool.clone(), arguments: &["-f", "-"], text }),
                Err(error) => self.missing.push(format!("{what} is not in the copy: {error}")),
            }
        }
    }

    /// Puts it into the namespace that the caller is in. What could not be read there.
    pub(super) fn lay(&self) -> Vec<String> {
        let lay = |part: &Part| {
            let fed = part.reader.clone().within(WITHIN).feed(part.arguments, |input| input.write_all(&part.text));
            fed.err().map(|error| format!("{} is not in the copy, which does not take it: {error}", part.what))
        };
        self.parts.iter().filter_map(lay).collect()
    }
}

/// The interfaces of this host, the one of the default route first.
pub(super) fn links() -> Vec<String> {
    let entries = fs::read_dir("/sys/class/net").into_iter().flatten().flatten();
    let names = entries.filter_map(|entry| entry.file_name().into_string().ok()).filter(|name| name != "lo" && is_link(name));
    let mut names: Vec<String> = names.collect();
    names.sort();
    if let Some(first) = default_link(Path::new("/proc/thread-self/net/route")).and_then(|link| names.iter().position(|name| *name == link))
    {
        names.swap(0, first);
    }
    names.truncate(LINKS);
    names
}

/// bonding_masters and the like are files among the folders of interfaces.
fn is_link(name: &str) -> bool {
    Path::new("/sys/class/net").join(name).join("ifindex").exists()
}

/// The interface of the first default route (proc_net(5): interface, destination, gateway, flags, ..., mask).
fn default_link(path: &Path) -> Option<String> {
    let routes = fs::read_to_string(path).ok()?;
    let default =
        routes.lines().skip(1).map(|line| line.split_whitespace().collect::<Vec<_>>()).find(|fields| fields.get(1) == Some(&"00000000"))?;
    default.first().map(|name| (*name).to_owned())
}

/// What the tool prints, less the lines that are not wanted.
fn text(tool: &Tool, arguments: &[&str], wanted: impl Fn(&[u8]) -> bool) -> Result<Vec<u8>, ToolError> {
    let (mut all, mut line) = (Vec::new(), Vec::new());
    let ran = tool.clone().within(WITHIN).stream(
        arguments,
        |_| Ok(()),
        |piece| {
            for part in piece.split_inclusive(|b| *b == b'\n') {
                line.extend_from_slice(part);
                if line.ends_with(b"\n") {
                    if wanted(&line) {
                        all.extend_from_slice(&line);
                    }
                    line.clear();
                }
                if all.len() + line.len() > MOST {
                    return Err(io::Error::other(format!("more than {MOST} bytes")));
                }
            }
            Ok(())
        },
    )?;
    if ran.status.success() {
        return Ok(all);
    }
    let call = std::iter::once(tool.to_string()).chain(arguments.iter().map(|a| (*a).to_owned())).collect::<Vec<_>>().join(" ");
    Err(ToolError::Failed { call, status: ran.status, complaint: ran.complaint })
}

/// Whether a line of `ipset save` is about a set of ours: `create NAME ...`, `add NAME ...`.
fn names_set(line: &[u8], ours: &str) -> bool {
    line.split(|b| *b == b' ').nth(1).is_some_and(|name| name.starts_with(ours.as_bytes()))
}

/// Whether a line of `iptables-save` makes, fills or jumps to a chain of ours: `:NAME ...`, `-A NAME ...`, `... -j NAME`.
fn names_chain(line: &[u8], ours: &str) -> bool {
    let line = line.trim_ascii_end();
    let is_ours = |word: &[u8]| word.starts_with(ours.as_bytes());
    let mut words = line.split(|b| *b == b' ');
    let first = words.next().unwrap_or_default();
    let target = line.windows(4).position(|w| w == b" -j ").map(|at| &line[at + 4..]);
    first.strip_prefix(b":").is_some_and(is_ours)
        || (first == b"-A" && words.next().is_some_and(is_ours))
        || target.is_some_and(|target| is_ours(target.split(|b| *b == b' ').next().unwrap_or_default()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_ours_are_left_out() {
        for ours in [
            ":IP4BAN - [0:0]\n",
            "-A IP4BAN -s 192.0.2.1/32 -j DROP\n",
            "-A INPUT -j IP4BAN\n",
            "-A INPUT -m set --match-set palisade4 src -j IP4BAN",
        ] {
            assert!(names_chain(ours.as_bytes(), "IP4BAN"), "{ours}");
        }
        for others in
            [":INPUT ACCEPT [0:0]\n", "-A INPUT -j DROP\n", "-A DOCKER -s 192.0.2.1/32 -j IP5BAN\n", "COMMIT\n", "*filter\n", "-j"]
        {
            assert!(!names_chain(others.as_bytes(), "IP4BAN"), "{others}");
        }
        assert!(names_set(b"create palisade4_32_a hash:net\n", "palisade") && !names_set(b"add foreign 192.0.2.1\n", "palisade"));
    }

    #[test]
    fn the_default_routes_interface_is_found() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("route");
        fs::write(&path, "Iface\tDestination\tGateway\nlan0\t000200C0\t00000000\nwan0\t00000000\t010200C0\n").unwrap();
        assert_eq!(default_link(&path).as_deref(), Some("wan0"));
        fs::write(&path, "Iface\n\n").unwrap();
        assert_eq!(default_link(&path), None);
    }
}
