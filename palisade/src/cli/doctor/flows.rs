//! What `doctor` says of the connection table.

use palisade_core::config::Config;
use palisade_core::flood::gauge::Gauge;
use palisade_os::flows::census::Table;
use palisade_os::privileges;

use super::{Finding, bad, note, ok};
use crate::settings::Places;
use crate::timeouts::{Desk, Shown};

/// What the findings are about.
const ABOUT: &str = "flows";

/// How many names a finding has before it says how many more there are.
const NAMED: usize = 6;

/// How full it is, what was lost, and whether its switches fit the machine.
pub(super) fn flows(places: &Places, config: &Config) -> Vec<Finding> {
    if !privileges::have_net_admin() {
        return vec![note(ABOUT, "the connection table was not looked at", "run doctor as root")];
    }
    let settings = config.conntrack();
    let mut findings = match Table::open().and_then(|mut table| table.gauge()) {
        Ok(gauge) => filled(&gauge, settings.engage.0),
        Err(error) => vec![note(ABOUT, format!("the connection table cannot be read: {error}"), "see palisade(1), conntrack")],
    };
    if !settings.enabled {
        findings.push(note(ABOUT, "nobody watches the connection table", "[conntrack] enabled = true"));
    }
    match Desk::open(&places.state, settings.clone(), None).show() {
        Ok(shown) => findings.extend(switches(&shown)),
        Err(error) => {
            findings.push(note(ABOUT, format!("its switches cannot be read: {error:#}"), "run doctor as root, outside a container"))
        }
    }
    findings
}

fn filled(gauge: &Gauge, engage: f64) -> Vec<Finding> {
    let Gauge { count, max, drop, early_drop, .. } = *gauge;
    let what = format!("{count} connections of {max} that can be tracked");
    let mut findings =
        vec![if gauge.fill() >= engage { bad(ABOUT, what, "palisade conntrack top shows who holds them") } else { ok(ABOUT, what) }];
    if drop + early_drop > 0 {
        let what =
            format!("since the start {drop} packets were dropped and {early_drop} connections forgotten, most because the table was full");
        findings.push(note(ABOUT, what, "palisade conntrack status tells when and why; palisade conntrack timeouts plan"));
    }
    findings
}

fn switches(shown: &Shown) -> Vec<Finding> {
    let mut findings = Vec::new();
    if !shown.changes.is_empty() {
        let words = |change: &palisade_core::flood::timeouts::plan::Change| format!("{} {} -> {}", change.name, change.from, change.to);
        let mut named: Vec<String> = shown.changes.iter().take(NAMED).map(words).collect();
        if shown.changes.len() > NAMED {
            named.push(format!("{} more", shown.changes.len() - NAMED));
        }
        let what = format!("{} switches of connection tracking do not fit this machine: {}", shown.changes.len(), named.join(", "));
        findings.push(note(ABOUT, what, "palisade conntrack timeouts plan says why each; palisade conntrack timeouts apply"));
    }
    findings.extend(shown.advice.iter().map(|advice| note(ABOUT, advice.clone(), "palisade conntrack timeouts show")));
    findings
}

#[cfg(test)]
mod tests {
    use super::super::Grade;
    use super::*;

    #[test]
    fn a_full_table_is_bad_and_losses_are_told() {
        let grades =
            |count, drop| filled(&Gauge { count, max: 1000, drop, ..Gauge::default() }, 0.7).iter().map(|f| f.grade).collect::<Vec<_>>();
        assert_eq!(grades(100, 0), [Grade::Ok]);
        assert_eq!(grades(700, 0), [Grade::Bad]);
        assert_eq!(grades(100, 3), [Grade::Ok, Grade::Note]);
    }
}
