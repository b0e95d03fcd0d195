//! Whether ipfw filters at all and our rules come first: what no rule of ours can bring about.

use palisade_core::config::{BackendSection, IpfwSection};

use super::super::BlockError;
use super::program::{Program, explained};

/// What makes ipfw filter from boot on without shutting anybody out, for `doctor` and for errors.
pub fn lines(section: &IpfwSection) -> String {
    format!(
        "sysrc firewall_enable=YES firewall_type=open        # or your own firewall_script\n\
         echo net.inet.ip.fw.default_to_accept=1 >> /boot/loader.conf\n\
         # In a script of your own: no rule with a number up to {} that allows, jumps or says check-state or keep-state.\n",
        section.rule.saturating_add(1)
    )
}

/// Looks at what only the administrator can set right. What is worth knowing though bans work.
///
/// # Errors
/// Where a ban would not block: ipfw is not there or not enabled, our numbers are taken, or other rules decide before.
pub fn look(section: &BackendSection) -> Result<Vec<String>, BlockError> {
    stands(&Program::find(section)?, &section.ipfw)
}

/// Whether ipfw is enabled, our rule numbers are ours, and nothing before them decides.
/// The rules before them that let some pass, whom a ban would not stop.
pub(super) fn stands(program: &Program, section: &IpfwSection) -> Result<Vec<String>, BlockError> {
    let last = section.rule.saturating_add(1);
    let rules = program.rules(1, last).map_err(|source| explained("ipfw cannot be used", source))?;
    for name in ["net.inet.ip.fw.enable", "net.inet6.ip6.fw.enable"] {
        if program.sysctl(name).as_deref() == Some("0") {
            let hint = format!("`sysctl {name}=1` now, and `sysrc firewall_enable=YES` for every boot");
            return Err(BlockError::Unusable { what: format!("ipfw is loaded and not enabled ({name} is 0), it filters nothing"), hint });
        }
    }
    let mut notes = Vec::new();
    for (number, rule) in &rules {
        if *number >= section.rule {
            if !is_ours(rule, &section.table) {
                let what = format!("the rule number {number} is not ours: `{rule}`");
                return Err(BlockError::Unusable {
                    what,
                    hint: "choose two free numbers before all rules that allow, `[backend.ipfw] rule`".into(),
                });
            }
        } else if let Some(how) = passes(rule) {
            if how == Pass::Anybody {
                let what = format!("a rule before ours decides first: `{number} {rule}`");
                let hint = format!("give it a number above {last}, or ours a lower one: `[backend.ipfw] rule`");
                return Err(BlockError::Unusable { what, hint });
            }
            notes.push(format!("whom this rule lets pass a ban does not stop: `{number} {rule}`"));
        }
    }
    Ok(notes)
}

/// Whether it is a rule about a table of ours.
pub(super) fn is_ours(rule: &str, table: &str) -> bool {
    ["", "_f", "_a"].iter().any(|of| rule.contains(&format!(" table({table}{of})")))
}

/// Whom a rule keeps from ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Pass {
    /// Whoever is banned too.
    Anybody,
    /// Those that the administrator named.
    Some,
}

/// Whom a rule keeps from the ones behind it; `None` for nobody who is not refused, or for loopback.
fn passes(rule: &str) -> Option<Pass> {
    let mut words = rule.split(' ');
    let action = words.next()?;
    let rest: Vec<&str> = words.collect();
    // States pass whoever made them before the ban.
    if action == "check-state" {
        return Some(Pass::Anybody);
    }
    // nat and divert hand packets on behind their own rule only where net.inet.ip.fw.one_pass is 0.
    if !matches!(action, "allow" | "accept" | "pass" | "permit" | "skipto" | "fwd" | "forward" | "nat" | "divert") {
        return None;
    }
    if rest.windows(2).any(|two| matches!(two, ["via" | "recv" | "xmit", "lo0"])) {
        return None;
    }
    let named = rest.windows(2).any(|two| two[0] == "from" && two[1] != "any");
    Some(if named { Pass::Some } else { Pass::Anybody })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rules_that_decide_before_ours_are_found() {
        for (rule, whom) in [
            ("allow ip from any to any via lo0", None),
            ("deny ip from any to 127.0.0.0/8", None),
            ("count ip from any to any", None),
            ("check-state :default", Some(Pass::Anybody)),
            ("allow tcp from any to any established", Some(Pass::Anybody)),
            ("allow tcp from any to me 22 setup keep-state :default", Some(Pass::Anybody)),
            ("skipto 1000 ip from any to any", Some(Pass::Anybody)),
            ("nat 1 ip from any to any via em0", Some(Pass::Anybody)),
            ("allow ip from 198.51.100.0/24 to any", Some(Pass::Some)),
            ("", None),
        ] {
            assert_eq!(passes(rule), whom, "{rule}");
        }
    }

    #[test]
    fn a_rule_of_ours_is_told_by_its_table() {
        assert!(is_ours("deny ip from table(palisade_f) to any", "palisade") && is_ours("deny ip from any to table(palisade)", "palisade"));
        assert!(!is_ours("deny ip from table(palisades) to any", "palisade") && !is_ours("deny ip from any to any", "palisade"));
    }
}
