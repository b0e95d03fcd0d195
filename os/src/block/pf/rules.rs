//! The rules of our anchor for the tables in use: text out, printed rules back. Pure.
//!
//! ```text
//! table <palisade_f> persist counters
//! table <palisade> persist counters
//! table <palisade_1> persist counters
//! block drop quick from <palisade_f> to any label "palisade:palisade_f:from"
//! block drop quick from any to <palisade_f> label "palisade:palisade_f:to"
//! block drop quick from <palisade> to any label "palisade:palisade:from"
//! block drop quick from any to <palisade> label "palisade:palisade:to"
//! block drop quick proto { tcp, udp } from <palisade_1> to any port 22 label "palisade:palisade_1:from:22"
//! block drop quick proto { tcp, udp } from any port 22 to <palisade_1> label "palisade:palisade_1:to:22"
//! ```
//!
//! Without a direction, so that a packet to or from a banned address is stopped wherever it is seen: coming in,
//! going out, and on a gateway on both its sides. `quick`, so that nothing behind decides otherwise.
//!
//! The allow list is no rule: a `pass quick` would let allow-listed hosts past every other rule of the machine, and
//! PF knows no "leave this anchor". It stands in the tables as negated entries: of a wider ban they are the
//! exception, because the most specific entry decides (`pf_table.c`: `pfr_match_addr`).
//!
//! The labels keep pfctl's optimizer from joining and reordering the rules (`pfctl_optimize.c`: a label is a barrier; pf.conf(5),
//! `set ruleset-optimization`). And they say which ports a table is for, so that a new process can read what an old one built; pfctl prints
//! ports by their names in /etc/services, which we need not understand so. A label is 63 bytes at most
//! (`pfvar.h`: `PF_RULE_LABEL_SIZE`).

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use palisade_core::bans::wall::{Key, Ports, Refusal};

/// What the label of each of our rules begins with.
const LABEL: &str = "palisade:";

/// Which bans a table is for. In the order of their rules: forced ones first.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Kind {
    /// Not forced; `false` comes first.
    pub(super) plain: bool,
    pub(super) ports: Ports,
}

impl Kind {
    pub(super) fn of(key: &Key) -> Self {
        Self { plain: !key.forced, ports: key.ports.clone() }
    }
}

/// The tables in use and what a banned packet meets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Layout {
    base: String,
    pub(super) refusal: Refusal,
    pub(super) tables: BTreeMap<Kind, String>,
}

impl Layout {
    /// The two tables of bans from all ports.
    pub(super) fn new(base: &str, refusal: Refusal) -> Self {
        let kind = |plain| Kind { plain, ports: Ports::All };
        let tables = [(kind(false), format!("{base}_f")), (kind(true), base.to_owned())];
        Self { base: base.to_owned(), refusal, tables: tables.into() }
    }

    /// The table of this kind, a new one where there is none.
    pub(super) fn table(&mut self, kind: Kind) -> &str {
        let used: BTreeSet<&String> = self.tables.values().collect();
        let forced = if kind.plain { "" } else { "f" };
        let free = (1..).map(|n: u32| format!("{}_{forced}{n}", self.base)).find(|name| !used.contains(name)).unwrap_or_default();
        self.tables.entry(kind).or_insert(free)
    }

    /// Whether a table of this name is or was one of ours, and then whether it is for bans that are not forced.
    pub(super) fn owns(&self, table: &str) -> Option<bool> {
        let rest = table.strip_prefix(&*self.base)?;
        let number = rest.strip_prefix("_f").or_else(|| rest.strip_prefix('_')).unwrap_or(rest);
        let ours = number.bytes().all(|byte| byte.is_ascii_digit()) && rest != "_" && (rest.is_empty() || rest.starts_with('_'));
        ours.then_some(!rest.starts_with("_f"))
    }

    /// The text to load.
    pub(super) fn text(&self) -> String {
        let mut text = String::new();
        for table in self.tables.values() {
            let _ = writeln!(text, "table <{table}> persist counters");
        }
        for (table, port, side, label) in self.rules() {
            let (proto, from, to) = match port {
                None => ("", String::new(), String::new()),
                Some(port) if side == "from" => (" proto { tcp, udp }", String::new(), format!(" port {port}")),
                Some(port) => (" proto { tcp, udp }", format!(" port {port}"), String::new()),
            };
            let (source, destination) =
                if side == "from" { (format!("<{table}>"), "any".into()) } else { ("any".into(), format!("<{table}>")) };
            let _ = writeln!(text, "{}{proto} from {source}{from} to {destination}{to} label \"{label}\"", self.begins());
        }
        text
    }

    /// Table, port, side and label of each rule in their order.
    fn rules(&self) -> Vec<(&str, Option<u16>, &'static str, String)> {
        let mut rules = Vec::new();
        for (kind, table) in &self.tables {
            match &kind.ports {
                Ports::All => rules.extend(["from", "to"].map(|side| (&**table, None, side, format!("{LABEL}{table}:{side}")))),
                Ports::Only(ports) => rules.extend(
                    ports
                        .iter()
                        .flat_map(|port| ["from", "to"].map(|side| (&**table, Some(*port), side, format!("{LABEL}{table}:{side}:{port}")))),
                ),
            }
        }
        rules
    }

    fn begins(&self) -> &'static str {
        match self.refusal {
            Refusal::Drop => "block drop quick",
            Refusal::Reject => "block return quick",
        }
    }

    /// The layout that these printed rules come from, and whether they are exactly its rules.
    pub(super) fn read(base: &str, printed: &[String]) -> (Self, bool) {
        let returns = printed.first().is_some_and(|line| line.starts_with("block return"));
        let mut layout = Self::new(base, if returns { Refusal::Reject } else { Refusal::Drop });
        let mut ports: BTreeMap<String, BTreeSet<u16>> = BTreeMap::new();
        for (table, _, port) in printed.iter().filter_map(|line| parts(label(line)?)) {
            ports.entry(table.to_owned()).or_default().extend(port);
        }
        for (table, ports) in ports {
            if let Some(plain) = layout.owns(&table)
                && let Some(ports @ Ports::Only(_)) = Ports::only(ports)
            {
                layout.tables.insert(Kind { plain, ports }, table);
            }
        }
        let whole = layout.is(printed);
        (layout, whole)
    }

    /// Whether these are its rules: labels in order, each with the action and the table it should have.
    fn is(&self, printed: &[String]) -> bool {
        let mut wanted = self.rules().into_iter();
        let mut now: Option<(&str, Option<u16>, &str, String)> = None;
        for line in printed {
            let Some(found) = label(line) else { return false };
            if now.as_ref().is_none_or(|(.., label)| label != found) {
                now = wanted.next();
            }
            // A rule of two protocols is printed as two.
            let Some((table, _, side, label)) = &now else { return false };
            if label != found || !line.starts_with(self.begins()) || !line.contains(&format!(" {side} <{table}>")) {
                return false;
            }
        }
        wanted.next().is_none() && !printed.is_empty()
    }
}

/// What stands behind `label` in quotes.
fn label(line: &str) -> Option<&str> {
    line.split_once(" label \"")?.1.split('"').next()
}

/// Table, side and port of a label of ours.
fn parts(label: &str) -> Option<(&str, &str, Option<u16>)> {
    let mut parts = label.strip_prefix(LABEL)?.split(':');
    let (table, side) = (parts.next()?, parts.next()?);
    let port = match parts.next() {
        Some(port) => Some(port.parse().ok()?),
        None => None,
    };
    Some((table, side, port))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn only(ports: &[u16]) -> Ports {
        Ports::only(ports.iter().copied()).unwrap()
    }

    fn layout() -> Layout {
        let mut layout = Layout::new("palisade", Refusal::Drop);
        for (plain, ports) in [(true, only(&[22])), (false, only(&[22])), (true, only(&[80, 443]))] {
            layout.table(Kind { plain, ports });
        }
        layout
    }

    /// As pfctl prints what was loaded, with the lists taken apart.
    fn printed(layout: &Layout) -> Vec<String> {
        let text = layout.text();
        let rules = text.lines().filter(|line| line.starts_with("block"));
        rules
            .flat_map(|line| match line.split_once("{ tcp, udp }") {
                Some((before, after)) => {
                    ["tcp", "udp"].map(|proto| format!("{before}{proto}{after}").replace("port 22 ", "port = ssh ")).to_vec()
                }
                None => vec![line.to_owned()],
            })
            .collect()
    }

    #[test]
    fn what_was_loaded_is_read_back_whole() {
        for refusal in [Refusal::Drop, Refusal::Reject] {
            let layout = Layout { refusal, ..layout() };
            assert_eq!(Layout::read("palisade", &printed(&layout)), (layout, true));
        }
        assert_eq!(Layout::read("palisade", &[]), (Layout::new("palisade", Refusal::Drop), false), "no rules are not whole");
    }

    #[test]
    fn whatever_is_changed_is_seen() {
        let whole = printed(&layout());
        for at in 0..whole.len() {
            let mut less = whole.clone();
            less.remove(at);
            // Of a rule of two protocols one half is enough to be taken for it; the printed text is compared too.
            let half = whole[at].contains(" proto ");
            assert_eq!(Layout::read("palisade", &less).1, half, "without {:?}", whole[at]);
            let mut other = whole.clone();
            other[at] = other[at].replace("block", "pass");
            assert!(!Layout::read("palisade", &other).1);
            other[at] = whole[at].replace('<', "<x");
            assert!(!Layout::read("palisade", &other).1);
            other.insert(at, "pass quick all flags S/SA keep state".to_owned());
            assert!(!Layout::read("palisade", &other).1);
        }
        let mut swapped = whole;
        swapped.swap(0, 1);
        assert!(!Layout::read("palisade", &swapped).1);
    }

    #[test]
    fn only_tables_of_our_pattern_are_ours() {
        let layout = layout();
        let owned = ["palisade", "palisade_f", "palisade_1", "palisade_f12"].map(|table| layout.owns(table));
        assert_eq!(owned, [Some(true), Some(false), Some(true), Some(false)]);
        for other in ["palisade_", "palisade2", "palisades", "palisade_x", "palisade_fx", "other", "palisade_1x"] {
            assert_eq!(layout.owns(other), None, "{other}");
        }
        let names: BTreeSet<_> = layout.tables.values().collect();
        assert_eq!(names.len(), layout.tables.len());
    }
}
