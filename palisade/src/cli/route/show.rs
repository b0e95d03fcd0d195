//! Plans and uplinks for people.

use anyhow::Result;
use palisade_core::control::route::{PlanReply, RouteReply, RouteRequest, RouteStatus, StepText, UplinkStatus};
use palisade_core::time::Span;
use palisade_os::clock;
use serde_json::json;

use super::ask;
use crate::cli::print::{self, Painted};
use crate::cli::{Exit, Global};

/// `+ rule6  4200: from 2a02::1 lookup sixxs0`, a line a step.
pub(super) fn steps(plan: &PlanReply) -> Result<()> {
    plan.steps.iter().try_for_each(|step| {
        let (sign, color) = match step.op.as_str() {
            "add" => ('+', 32),
            "del" => ('-', 31),
            _ => ('~', 33),
        };
        let object = object(step);
        let pending = step.pending.as_ref().map(|why| format!("   (pending: {why})")).unwrap_or_default();
        print::line(format_args!("{} {object:<7}{}{}", Painted(color, sign), step.text, Painted(2, pending)))
    })
}

fn object(step: &StepText) -> String {
    match (step.object.as_str(), step.family) {
        ("rule", Some(6)) => "rule6".to_owned(),
        (object, _) => object.to_owned(),
    }
}

/// `3 changes, 1 pending, 12 unchanged`.
pub(super) fn summary(plan: &PlanReply) -> String {
    let pending = if plan.pending > 0 { format!(", {} pending", plan.pending) } else { String::new() };
    let plural = if plan.changes() == 1 { "" } else { "s" };
    format!("{} change{plural}{pending}, {} unchanged", plan.changes(), plan.unchanged)
}

/// What did not go as it should.
pub(super) fn notes(plan: &PlanReply) {
    for failed in &plan.failed {
        print::say(format_args!("palisade: not done: {failed}"));
    }
    for conflict in &plan.conflicts {
        print::say(format_args!("palisade: conflict: {conflict}"));
    }
    for shadow in &plan.shadows {
        print::say(format_args!("palisade: in front of ours: {shadow}"));
    }
}

/// `palisade route status`.
pub(super) fn status(global: &Global) -> Result<Exit> {
    let RouteReply::Status(status) = ask(global, RouteRequest::Status)? else {
        return Err(anyhow::anyhow!("no status came back; this is a bug"));
    };
    let bad = !status.conflicts.is_empty() || status.missing > 0 || status.contested.is_some();
    if global.json {
        print::json(&status_json(&status))?;
    } else {
        people(&status)?;
    }
    Ok(if bad { Exit::Degraded } else { Exit::Done })
}

fn status_json(status: &RouteStatus) -> serde_json::Value {
    let millis = |span: Span| span.as_millis() as f64 / 1000.0;
    let uplink = |uplink: &UplinkStatus| {
        json!({
            "name": uplink.name,
            "interface": uplink.interface,
            "table": { "name": uplink.table.0, "id": uplink.table.1 },
            "state": uplink.state,
            "since": uplink.since,
            "sources": uplink.sources,
            "rtt": uplink.rtt.map(millis),
            "loss": uplink.loss,
            "warn": uplink.warn,
            "leaks": uplink.leaks,
            "pending": uplink.pending,
        })
    };
    json!({
        "v": 1,
        "state": status.state,
        "since": status.since,
        "confirm_within": status.confirm_within.map(Span::as_secs_ceil),
        "uplinks": status.uplinks.iter().map(uplink).collect::<Vec<_>>(),
        "policies": status.policies,
        "shadows": status.shadows,
        "conflicts": status.conflicts,
        "missing": status.missing,
        "healed": status.healed,
        "contested": status.contested,
    })
}

fn people(status: &RouteStatus) -> Result<()> {
    let now = clock::now().stamp;
    match (status.state.as_str(), status.confirm_within) {
        ("none", _) => return print::line("nothing is applied; `palisade route plan` shows what the config would do"),
        (_, Some(left)) => print::line(format_args!("on trial, taken back in {}; keep it: palisade route confirm", print::rough(left)))?,
        _ => {}
    }
    let mut rows = vec![["UPLINK", "STATE", "SINCE", "INTERFACE", "TABLE", "RTT", "LOSS", "LEAKS", "SOURCES"].map(str::to_owned).to_vec()];
    for uplink in &status.uplinks {
        let dash = || "-".to_owned();
        let sources: Vec<String> =
            uplink.sources.iter().map(|prefix| if prefix.is_host() { prefix.addr().to_string() } else { prefix.to_string() }).collect();
        rows.push(vec![
            uplink.name.clone(),
            uplink.state.clone(),
            uplink.since.map_or_else(dash, |since| print::rough(now.since(since))),
            uplink.interface.clone(),
            format!("{} ({})", uplink.table.0, uplink.table.1),
            uplink.rtt.map_or_else(dash, print::rough),
            uplink.loss.map_or_else(dash, |loss| format!("{loss:.0}%")),
            uplink.leaks.map_or_else(dash, |leaks| leaks.to_string()),
            if sources.is_empty() { dash() } else { sources.join(" ") },
        ]);
    }
    print::table(&rows)?;
    for policy in &status.policies {
        let uses = if policy.uses.is_empty() { "none of its uplinks".to_owned() } else { policy.uses.join(", ") };
        print::line(format_args!("policy {} uses {uses} (of {})", policy.name, policy.members.join(", ")))?;
    }
    for uplink in &status.uplinks {
        for what in uplink.pending.iter().chain(&uplink.warn) {
            print::line(format_args!("{}: {what}", uplink.name))?;
        }
    }
    let wrong = status.shadows.iter().chain(&status.conflicts).chain(&status.contested);
    wrong.into_iter().try_for_each(|what| print::line(format_args!("{} {what}", Painted(31, "!"))))?;
    if status.missing > 0 {
        print::line(format_args!(
            "{} {} rules and routes of ours do not stand; `palisade route plan` tells which",
            Painted(31, "!"),
            status.missing
        ))?;
    }
    Ok(())
}
