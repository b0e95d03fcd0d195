//! The filter table as iptables-save prints it, what should stand in it, and the way from one to the other.
//!
//! ```text
//!  *filter                         the table begins
//!  :INPUT ACCEPT [0:0]             a chain, its policy (`-` for one of a user's), its counters
//!  -A INPUT -j palisade-src        a rule at the end of a chain, in the order in which they stand
//!  COMMIT                          the table ends
//! ```
//! iptables-restore(8) reads the same. With `--noflush` it leaves alone what is not named, takes also
//! `-I`, `-D` and `-X`, empties a user's chain that is named with `:`, and changes all or nothing.

use std::collections::BTreeMap;
use std::fmt::Write as _;

/// The chains that packets come through (iptables(8)).
pub const HOOKS: [&str; 3] = ["INPUT", "FORWARD", "OUTPUT"];

/// The most rules of ours that are kept of a listing: eight times what the backend of single rules
/// holds. Beyond, it is no wall of ours, whatever stands there.
const MOST_RULES: usize = 1 << 19;

/// Chains with their rules, each without its `-A CHAIN `.
pub type Chains = BTreeMap<String, Vec<String>>;

/// What should stand in a filter table.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Shape {
    /// Our chains.
    pub chains: Chains,
    /// Which hook's first rule jumps to which of our chains.
    pub jumps: Vec<(&'static str, String)>,
}

/// What of ours stands in a filter table, and where.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Snapshot {
    /// Our chains.
    pub chains: Chains,
    /// Of each hook, the places of the rules that jump to a chain of ours and do nothing else.
    jumps: BTreeMap<&'static str, Vec<(usize, String)>>,
    rules: BTreeMap<&'static str, usize>,
    kept: usize,
}

impl Snapshot {
    /// Takes in a line of the listing. `ours` knows our chains by name.
    pub fn take(&mut self, line: &str, ours: impl Fn(&str) -> bool) {
        if let Some(chain) = line.strip_prefix(':').and_then(|rest| rest.split(' ').next()) {
            if ours(chain) {
                self.chains.entry(chain.to_owned()).or_default();
            }
            return;
        }
        let Some((chain, rule)) = line.strip_prefix("-A ").and_then(|rest| rest.split_once(' ')) else { return };
        if ours(chain) {
            if self.kept < MOST_RULES {
                self.kept += 1;
                self.chains.entry(chain.to_owned()).or_default().push(rule.to_owned());
            }
        } else if let Some(hook) = HOOKS.into_iter().find(|hook| *hook == chain) {
            let place = self.rules.entry(hook).or_default();
            if let Some(target) = rule.strip_prefix("-j ").filter(|target| ours(target)) {
                self.jumps.entry(hook).or_default().push((*place, target.to_owned()));
            }
            *place += 1;
        }
    }

    /// Whether nothing of ours stands.
    pub fn is_empty(&self) -> bool {
        self.chains.is_empty() && self.jumps.is_empty()
    }

    /// What of the jumps is not as it should be: each alone, and before everything else.
    pub fn jump_amiss(&self, jumps: &[(&'static str, String)]) -> Option<String> {
        for hook in HOOKS {
            let there = self.jumps.get(hook).map_or(&[][..], Vec::as_slice);
            let wanted = jumps.iter().find(|(at, _)| *at == hook).map(|(_, chain)| chain);
            match (wanted, there) {
                (None, []) => {}
                (Some(chain), [(0, target)]) if target == chain => {}
                (Some(chain), []) => return Some(format!("the jump from {hook} to {chain} is gone")),
                (Some(chain), [(0, target), ..]) if target == chain => return Some(format!("{hook} jumps to {chain} twice")),
                (Some(chain), _) => return Some(format!("the jump to {chain} is not the first rule of {hook}")),
                (None, _) => return Some(format!("{hook} jumps to a chain of ours")),
            }
        }
        None
    }

    /// What is not as it should be; nothing where all is.
    pub fn amiss(&self, shape: &Shape) -> Option<String> {
        let amiss = shape.chains.iter().find_map(|(name, rules)| match self.chains.get(name) {
            None => Some(format!("the chain {name} is gone")),
            Some(there) if there != rules => Some(format!("the rules of the chain {name} were changed")),
            Some(_) => None,
        });
        let stray = || self.chains.keys().find(|name| !shape.chains.contains_key(*name)).map(|name| format!("a chain {name} was added"));
        amiss.or_else(stray).or_else(|| self.jump_amiss(&shape.jumps))
    }

    /// The lines that make this stand, in one transaction, whatever of ours stood before.
    pub fn script(&self, shape: &Shape) -> String {
        let mut out = "*filter\n".to_owned();
        let stray = || self.chains.keys().filter(|name| !shape.chains.contains_key(*name));
        for name in shape.chains.keys().chain(stray()) {
            let _ = writeln!(out, ":{name} - [0:0]");
        }
        for (chain, rules) in &shape.chains {
            for rule in rules {
                let _ = writeln!(out, "-A {chain} {rule}");
            }
        }
        for hook in HOOKS {
            let wanted = shape.jumps.iter().find(|(at, _)| *at == hook).map(|(_, chain)| chain);
            let there = self.jumps.get(hook).map_or(&[][..], Vec::as_slice);
            if wanted.is_some_and(|chain| matches!(there, [(0, target)] if target == chain)) {
                continue;
            }
            for (_, target) in there {
                let _ = writeln!(out, "-D {hook} -j {target}");
            }
            if let Some(chain) = wanted {
                let _ = writeln!(out, "-I {hook} 1 -j {chain}");
            }
        }
        for name in stray() {
            let _ = writeln!(out, "-X {name}");
        }
        out.push_str("COMMIT\n");
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn snapshot(listing: &str) -> Snapshot {
        let mut snapshot = Snapshot::default();
        listing.lines().for_each(|line| snapshot.take(line, |chain| chain.starts_with("our")));
        snapshot
    }

    fn shape() -> Shape {
        let rules = |rules: &[&str]| rules.iter().map(|rule| (*rule).to_owned()).collect();
        Shape {
            chains: [("our-a".to_owned(), rules(&["-i lo -j RETURN", "-j our-b"])), ("our-b".to_owned(), rules(&["-j DROP"]))].into(),
            jumps: vec![("INPUT", "our-a".to_owned())],
        }
    }

    const WHOLE: &str = "*filter\n:INPUT ACCEPT [0:0]\n:our-a - [0:0]\n:our-b - [0:0]\n-A INPUT -j our-a\n-A INPUT -j ACCEPT\n\
                         -A our-a -i lo -j RETURN\n-A our-a -j our-b\n-A our-b -j DROP\nCOMMIT\n";

    #[test]
    fn what_was_done_to_ours_is_named() {
        assert_eq!(snapshot(WHOLE).amiss(&shape()), None);
        for (from, to, what) in [
            ("-A INPUT -j our-a\n", "", "the jump from INPUT to our-a is gone"),
            (
                "-A INPUT -j our-a\n",
                "-A INPUT -s 192.0.2.1/32 -j ACCEPT\n-A INPUT -j our-a\n",
                "the jump to our-a is not the first rule of INPUT",
            ),
            ("-A INPUT -j our-a\n", "-A INPUT -j our-a\n-A INPUT -j our-a\n", "INPUT jumps to our-a twice"),
            ("-A INPUT -j ACCEPT\n", "-A OUTPUT -j our-b\n", "OUTPUT jumps to a chain of ours"),
            ("-A our-b -j DROP\n", "", "the rules of the chain our-b were changed"),
            (":our-b - [0:0]\n", ":our-c - [0:0]\n", "a chain our-c was added"),
        ] {
            assert_eq!(snapshot(&WHOLE.replace(from, to)).amiss(&shape()).as_deref(), Some(what));
        }
        assert_eq!(snapshot("*filter\nCOMMIT\n").amiss(&shape()).as_deref(), Some("the chain our-a is gone"));
    }

    #[test]
    fn a_script_changes_the_jumps_only_where_they_are_amiss() {
        assert!(!snapshot(WHOLE).script(&shape()).contains("INPUT"));
        let torn = snapshot(":our-c - [0:0]\n-A INPUT -j ACCEPT\n-A INPUT -j our-a\n-A OUTPUT -j our-a\n");
        assert_eq!(
            torn.script(&shape()),
            "*filter\n:our-a - [0:0]\n:our-b - [0:0]\n:our-c - [0:0]\n-A our-a -i lo -j RETURN\n-A our-a -j our-b\n-A our-b -j DROP\n\
             -D INPUT -j our-a\n-I INPUT 1 -j our-a\n-D OUTPUT -j our-a\n-X our-c\nCOMMIT\n"
        );
        assert_eq!(
            snapshot(WHOLE).script(&Shape::default()),
            "*filter\n:our-a - [0:0]\n:our-b - [0:0]\n-D INPUT -j our-a\n-X our-a\n-X our-b\nCOMMIT\n"
        );
        assert!(snapshot("nonsense\n-A\n-A INPUT\n:\n").is_empty());
    }
}
