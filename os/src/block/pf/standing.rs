//! Whether PF filters at all and gets to our anchor: what no rule inside the anchor can bring about.

use palisade_core::config::{BackendSection, PfSection};

use super::super::BlockError;
use super::pfctl::{Pfctl, explained};

/// The lines to put into /etc/pf.conf, with where, for `doctor` and for errors.
pub fn lines(section: &PfSection) -> String {
    format!(
        "# Palisade: behind `set`, `scrub`, `nat` and `rdr`, before the first `pass` or `block` rule\n\
         anchor \"{}\"\n",
        section.anchor
    )
}

/// Looks at what only the administrator can set right. What is worth knowing though bans work.
///
/// # Errors
/// Where a ban would not block: PF is not there or not enabled, or our anchor is not asked first.
pub fn look(section: &BackendSection) -> Result<Vec<String>, BlockError> {
    let pfctl = Pfctl::find(section)?;
    let mut notes = stands(&pfctl)?;
    pfctl
        .call(&["-vsI"], |line| {
            // `lo0 (skip)`: pfctl_table.c, print_iface.
            if let Some(interface) = line.strip_suffix(" (skip)")
                && !is_loopback(interface)
            {
                notes.push(format!("`set skip on {interface}` in pf.conf: nothing is filtered there, banned or not"));
            }
        })
        .map_err(|source| explained("PF cannot be asked for its interfaces", source))?;
    Ok(notes)
}

/// Whether PF is enabled and the main ruleset leads to our anchor before anything else decides.
/// The rules before it that let some pass, whom a ban would not stop.
pub(super) fn stands(pfctl: &Pfctl) -> Result<Vec<String>, BlockError> {
    let failed = |source| explained("PF cannot be used", source);
    let mut status = None;
    pfctl.call(&["-si"], |line| status = status.take().or_else(|| line.strip_prefix("Status: ").map(str::to_owned))).map_err(failed)?;
    match status.as_deref().map(|status| status.starts_with("Enabled")) {
        Some(true) => {}
        Some(false) => {
            return Err(unusable(
                "PF is loaded and not enabled, it filters nothing",
                "`pfctl -e` now, and `sysrc pf_enable=YES` (FreeBSD) for every boot",
            ));
        }
        None => {
            return Err(unusable("`pfctl -si` does not say whether PF is enabled", "see what it prints; is it the system's own pfctl?"));
        }
    }
    let mut main = Vec::new();
    pfctl.call(&["-sr"], |line| main.push(line.to_owned())).map_err(failed)?;
    place(&main, pfctl.anchor())
}

fn unusable(what: impl Into<String>, hint: impl Into<String>) -> BlockError {
    BlockError::Unusable { what: what.into(), hint: hint.into() }
}

/// Looks for our anchor in the printed main ruleset.
fn place(main: &[String], anchor: &str) -> Result<Vec<String>, BlockError> {
    let line = format!(
        "put the line `anchor \"{anchor}\"` into /etc/pf.conf before its first `pass` or `block` rule and load it: `pfctl -f /etc/pf.conf`"
    );
    let Some(at) = main.iter().position(|rule| leads_to(rule, anchor)) else {
        return Err(unusable(format!("the main ruleset of PF does not lead to the anchor `{anchor}`, so nothing in it is asked"), line));
    };
    let before = main[..at].iter().filter(|rule| rule.starts_with("pass ") && rule.split(' ').any(|word| word == "quick"));
    let (some, all): (Vec<&String>, Vec<&String>) = before.filter(|rule| !on_loopback(rule)).partition(|rule| names_a_source(rule));
    if let Some(rule) = all.first() {
        return Err(unusable(format!("a rule before the anchor `{anchor}` lets anybody pass: `{rule}`"), line));
    }
    let mut notes: Vec<String> =
        some.iter().map(|rule| format!("whom this rule of pf.conf lets pass a ban does not stop: `{rule}`")).collect();
    if !main[at].ends_with("\" all") {
        notes.push(format!("the anchor is asked about some packets only: `{}`", main[at]));
    }
    Ok(notes)
}

/// `anchor "palisade" all`; for `a/b` also `anchor "a/*" all`, which asks every anchor below `a`.
/// `anchor "palisade/*"` asks what is below ours and not ours.
fn leads_to(rule: &str, anchor: &str) -> bool {
    let Some(name) = rule.strip_prefix("anchor \"").and_then(|rest| rest.split('"').next()) else { return false };
    let parent = anchor.rsplit_once('/').map(|(parent, _)| format!("{parent}/*"));
    name == anchor || parent.is_some_and(|parent| parent == name) || (name == "*" && !anchor.contains('/'))
}

/// Nothing from outside comes in by the loopback interface.
fn on_loopback(rule: &str) -> bool {
    let mut words = rule.split(' ');
    words.any(|word| word == "on") && words.next().is_some_and(is_loopback)
}

fn is_loopback(interface: &str) -> bool {
    interface.strip_prefix("lo").is_some_and(|rest| rest.bytes().all(|byte| byte.is_ascii_digit()))
}

/// Whether it is about some hosts only, which the administrator chose: `from 198.51.100.0/24`.
fn names_a_source(rule: &str) -> bool {
    rule.split_once(" from ").is_some_and(|(_, rest)| !rest.starts_with("any"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(main: &[&str], anchor: &str) -> Result<Vec<String>, String> {
        let main: Vec<String> = main.iter().map(|rule| (*rule).to_owned()).collect();
        place(&main, anchor).map_err(|error| error.to_string())
    }

    #[test]
    fn an_anchor_that_is_asked_first_is_well() {
        let rules =
            ["scrub in all fragment reassemble", "pass quick on lo0 all flags S/SA keep state", "anchor \"palisade\" all", "pass all"];
        assert_eq!(told(&rules, "palisade"), Ok(vec![]));
        assert_eq!(
            told(&["block drop all", "anchor \"guards/*\" all"], "guards/palisade"),
            Ok(vec![]),
            "the last match decides, and ours are quick"
        );
    }

    #[test]
    fn a_missing_anchor_is_told_with_the_line_to_add() {
        for rules in [&["pass all flags S/SA keep state"][..], &["anchor \"palisade/*\" all"], &["anchor \"palisades\" all"], &[]] {
            let error = told(rules, "palisade").unwrap_err();
            assert!(
                error.contains("does not lead to the anchor `palisade`") && error.contains("the line `anchor \"palisade\"`"),
                "{error}"
            );
        }
    }

    #[test]
    fn a_quick_rule_before_it_is_named() {
        let quick = "pass in quick proto tcp from any to any port = ssh flags S/SA keep state";
        let error = told(&[quick, "anchor \"palisade\" all"], "palisade").unwrap_err();
        assert!(error.contains(&format!("lets anybody pass: `{quick}`")), "{error}");
        assert_eq!(told(&["anchor \"palisade\" all", quick], "palisade"), Ok(vec![]));
        let chosen = "pass in quick inet from 198.51.100.0/24 to any flags S/SA keep state";
        assert_eq!(told(&[chosen, "anchor \"palisade\" all"], "palisade").unwrap().len(), 1, "the administrator's choice, and told");
        assert_eq!(told(&["anchor \"palisade\" in on em0 all"], "palisade").unwrap().len(), 1);
    }
}
