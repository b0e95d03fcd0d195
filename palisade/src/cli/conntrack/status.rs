//! `palisade conntrack status`.

use anyhow::{Context, Result};
use clap::Args;
use palisade_core::attack::excerpt;
use palisade_core::control::conntrack::{ConntrackReply, ConntrackRequest, Status};
use palisade_core::control::{Reply, Request};
use palisade_core::flood::gauge::Gauge;
use palisade_core::flood::guard::{Offender, State};
use palisade_core::flood::history::{COARSE, FINE, Point};
use palisade_core::time::Stamp;
use palisade_os::clock;
use palisade_os::flows::census::Table;
use serde_json::{Value, json};

use super::super::chart::{AXIS, Paper};
use super::plot;
use super::rows::rate;
use crate::cli::ask::{answered, served, unexpected};
use crate::cli::print::{self, Painted};
use crate::cli::{Exit, Global};

/// How it stands with the connection table.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  palisade conntrack status\n  palisade conntrack status --month\n  palisade --json conntrack status --history | jq '.history[] | select(.drops > 0)'\n\nExit code 0: the daemon told. 3: no daemon runs; what the kernel tells is shown all the same. 6: the daemon does not watch the table."
)]
pub(super) struct StatusArgs {
    /// How it was in the last month, not the last day
    #[arg(long)]
    month: bool,
    /// With --json: how it was, too (people are always shown)
    #[arg(long)]
    history: bool,
}

impl StatusArgs {
    /// Does it.
    pub(super) fn run(self, global: &Global) -> Result<Exit> {
        let Some(reply) = ask(global, ConntrackRequest::Status)? else { return alone(global) };
        let ConntrackReply::Status(status) = reply else { return Err(anyhow::anyhow!("no status came back; this is a bug")) };
        let points = if global.json && !self.history && !self.month { None } else { Some(self.points(global)?) };
        if global.json {
            print::json(&document(&status, points.as_deref()))?;
            return Ok(Exit::Done);
        }
        let now = clock::now().stamp;
        print::line(head(&status, now))?;
        print::table(&facts(&status))?;
        if !status.offenders.is_empty() {
            print::line("")?;
            print::table(&offenders(&status.offenders, now))?;
        }
        lost(&status).into_iter().try_for_each(|text| print::line(format_args!("{} {text}", Painted(31, "!"))))?;
        self.draw(&points.unwrap_or_default(), now)?;
        Ok(Exit::Done)
    }

    fn points(&self, global: &Global) -> Result<Vec<Point>> {
        match ask(global, ConntrackRequest::History)? {
            Some(ConntrackReply::History { points }) => {
                let now = clock::now().stamp;
                Ok(plot::between(&points, self.from(now), now, !self.month))
            }
            Some(ConntrackReply::Status(_)) => Err(anyhow::anyhow!("no history came back; this is a bug")),
            // It stopped between two questions.
            None => Ok(Vec::new()),
        }
    }

    fn from(&self, now: Stamp) -> Stamp {
        now.minus(if self.month { COARSE.1 } else { FINE.1 })
    }

    fn draw(&self, points: &[Point], now: Stamp) -> Result<()> {
        // The last time's label stands beyond the chart.
        let paper = Paper::of_terminal(AXIS + 10, 120, 8);
        let lines = plot::chart(points, self.from(now), now, paper);
        if lines.is_empty() {
            return Ok(());
        }
        print::line(format_args!("\n{}", if self.month { "flows, the last 31 days" } else { "flows, the last day" }))?;
        for line in lines {
            if line.drops { print::line(Painted(31, line.text))? } else { print::line(line.text)? }
        }
        plot::told(points).into_iter().try_for_each(print::line)
    }
}

/// Asks the daemon; `None` where none runs.
fn ask(global: &Global, request: ConntrackRequest) -> Result<Option<ConntrackReply>> {
    match served(&global.places(), &Request::Conntrack(request))?.map(answered).transpose()? {
        None => Ok(None),
        Some(Reply::Conntrack(reply)) => Ok(Some(reply)),
        Some(other) => Err(unexpected(&other)),
    }
}

/// What the kernel tells without a daemon.
fn alone(global: &Global) -> Result<Exit> {
    let gauge = Table::open().and_then(|mut table| table.gauge()).context("no daemon runs, and without one")?;
    if global.json {
        let (count, max, fill) = (gauge.count, gauge.max, gauge.fill());
        print::json(&json!({ "v": 1, "count": count, "max": max, "fill": fill, "state": null, "offenders": [], "kernel": gauge }))?;
    } else {
        print::line(format_args!("conntrack  {}", bar(gauge.count, gauge.max)))?;
        print::table(&counters(&gauge))?;
    }
    print::say("palisade: no daemon runs: nobody watches the table; `palisade run` does, `palisade conntrack top` shows who fills it");
    Ok(Exit::NoDaemon)
}

/// What the kernel has counted since it booted, in words.
fn counters(gauge: &Gauge) -> Vec<Vec<String>> {
    let counts = [
        (gauge.drop, "packets dropped: no room in the table, or no memory"),
        (gauge.early_drop, "flows thrown out before their time to make room"),
        (gauge.insert_failed, "flows that could not be inserted"),
        (gauge.chain_too_long, "of these because a hash bucket was too long"),
    ];
    let row = |(count, what): (u64, &str)| vec![count.to_string(), format!("{what}, since boot")];
    counts.into_iter().filter(|(count, _)| *count > 0).map(row).collect()
}

/// How wide the bar of the table is.
const BAR: usize = 24;

/// `[||||||||||||            ] 131072/262144 50.0%`.
fn bar(count: u32, max: u32) -> String {
    if max == 0 {
        return format!("{count} flows, no bound is known");
    }
    let fill = f64::from(count) / f64::from(max);
    let full = usize::try_from(u64::from(count).saturating_mul(24) / u64::from(max)).unwrap_or(BAR).min(BAR);
    format!("[{}{}] {count}/{max} {:.1}%", "|".repeat(full), " ".repeat(BAR - full), fill * 100.0)
}

const fn word(state: State) -> Painted<&'static str> {
    match state {
        State::Calm => Painted(32, "calm"),
        State::Pressure => Painted(33, "pressure"),
        State::Flood => Painted(31, "flood"),
    }
}

fn head(status: &Status, now: Stamp) -> String {
    format!("conntrack  {}  {} for {}", bar(status.count, status.max), word(status.state), print::rough(now.since(status.since)))
}

/// What more there is to say of the table, where there is.
fn facts(status: &Status) -> Vec<Vec<String>> {
    let mut rows = Vec::new();
    let mut say = |what: &str, text: String| rows.push(vec![what.to_owned(), text]);
    if let Some(forecast) = &status.forecast {
        say(
            "forecast",
            format!(
                "full in {} if it goes on like this: {:+.1} flows a second",
                print::rough(forecast.full_in),
                forecast.growth_per_second
            ),
        );
    }
    if let Some(profile) = status.profile {
        // Its word is the one of the config and of JSON.
        say(
            "timeouts",
            format!("those of {}", serde_json::to_value(profile).ok().and_then(|v| v.as_str().map(str::to_owned)).unwrap_or_default()),
        );
    }
    if status.limits > 0 {
        say("limits", format!("{} in the kernel", status.limits));
    }
    if status.untold > 0 {
        say("untold", format!("{} messages, because too many came at once", status.untold));
    }
    rows
}

/// What was lost and why, where anything was.
fn lost(status: &Status) -> Vec<String> {
    status.drops.iter().filter(|lost| lost.total > 0).map(|lost| format!("{}: {}", lost.total, lost.cause.text())).collect()
}

fn offenders(offenders: &[Offender], now: Stamp) -> Vec<Vec<String>> {
    let mut rows = vec![["OFFENDER", "FLOWS", "SHARE", "NEW/s", "USUAL", "FOR", "ACTION", "DROPPED", "WHY"].map(str::to_owned).to_vec()];
    for offender in offenders {
        let action = serde_json::to_value(offender.action).ok().and_then(|v| v.as_str().map(str::to_owned)).unwrap_or_default();
        let action = if offender.exempt.is_some() { "none".to_owned() } else { action };
        let mut why = vec![offender.why.clone()];
        why.extend(offender.exempt.iter().map(|exempt| format!("spared: {exempt}")));
        why.extend(offender.process.iter().map(ToString::to_string));
        why.extend((!offender.over).then(|| "quiet now".to_owned()));
        rows.push(vec![
            excerpt(offender.addr.as_bytes()),
            offender.flows.to_string(),
            format!("{:.1}%", offender.share * 100.0),
            rate(offender.new_per_second.into()),
            format!("{:.0}", offender.usual),
            print::rough(now.since(offender.since)),
            action,
            offender.dropped.to_string(),
            excerpt(why.join("; ").as_bytes()),
        ]);
    }
    rows
}

fn document(status: &Status, history: Option<&[Point]>) -> Value {
    let mut value = serde_json::to_value(status).unwrap_or_default();
    if let Value::Object(fields) = &mut value {
        fields.insert("v".to_owned(), 1.into());
        if let Some(points) = history {
            fields.insert("history".to_owned(), json!(points));
        }
    }
    value
}

#[cfg(test)]
mod tests {
    use super::*;
    use palisade_core::flood::guard::{Cause, Forecast, Lost};
    use palisade_core::flood::owner::Process;
    use palisade_core::flood::settings::Action;
    use palisade_core::flood::timeouts::Profile;
    use palisade_core::flood::wanted::Culprit;
    use palisade_core::time::Span;

    /// 2026-11-22T17:00:00Z.
    const NOON: Stamp = Stamp(1_795_366_800_000);

    fn status() -> Status {
        let prefix = "192.0.2.7/32".parse().unwrap();
        let process = Process { pid: 7, comm: "x\x1b[2J".to_owned(), uid: 1000, user: None, unit: None };
        let offender = Offender {
            addr: "192.0.2.7".to_owned(),
            culprit: Culprit::Source { prefix },
            flows: 88_000,
            new_per_second: 1234.0,
            share: 0.335,
            usual: 12.4,
            since: NOON.minus(Span::secs(75)),
            action: Action::Limit,
            why: "88000 flows where 12 are usual".to_owned(),
            exempt: None,
            process: None,
            dropped: 99,
            over: true,
            limited: true,
        };
        let spared = Offender { exempt: Some("gateway".to_owned()), process: Some(process), over: false, ..offender.clone() };
        Status {
            count: 131_072,
            max: 262_144,
            fill: 0.5,
            state: State::Pressure,
            since: NOON.minus(Span::secs(200)),
            profile: Some(Profile::Pressure),
            forecast: Some(Forecast { growth_per_second: 430.0, full_in: Span::secs(305) }),
            offenders: vec![offender, spared],
            limits: 1,
            drops: vec![Lost { cause: Cause::TableFull, total: 5 }],
            habits: 9,
            untold: 0,
        }
    }

    #[test]
    fn people_are_told_how_it_stands() {
        let status = status();
        assert_eq!(head(&status, NOON), "conntrack  [||||||||||||            ] 131072/262144 50.0%  pressure for 3m20s");
        let facts: Vec<String> = facts(&status).iter().map(|row| row.join(": ")).collect();
        assert_eq!(
            facts,
            [
                "forecast: full in 5m5s if it goes on like this: +430.0 flows a second",
                "timeouts: those of pressure",
                "limits: 1 in the kernel"
            ]
        );
        let rows: Vec<String> = offenders(&status.offenders, NOON).iter().map(|row| row.join(" | ")).collect();
        assert_eq!(
            rows[1..],
            [
                "192.0.2.7 | 88000 | 33.5% | 1.2k | 12 | 1m15s | limit | 99 | 88000 flows where 12 are usual",
                "192.0.2.7 | 88000 | 33.5% | 1.2k | 12 | 1m15s | none | 99 | 88000 flows where 12 are usual; spared: gateway; x\\u{1b}[2J (pid 7, user 1000); quiet now",
            ]
        );
    }

    #[test]
    fn only_what_was_lost_is_told() {
        let mut status = status();
        assert_eq!(lost(&status), [format!("5: {}", Cause::TableFull.text())]);
        status.drops[0].total = 0;
        assert_eq!(lost(&status), [""; 0]);
    }

    #[test]
    fn programs_are_told_what_the_contract_says() {
        let told = document(&status(), None);
        assert_eq!(
            (&told["v"], &told["count"], &told["max"], &told["fill"], &told["state"]),
            (&json!(1), &json!(131_072), &json!(262_144), &json!(0.5), &json!("pressure"))
        );
        let offender = &told["offenders"][0];
        assert_eq!(
            (&offender["addr"], &offender["flows"], &offender["new_per_second"]),
            (&json!("192.0.2.7"), &json!(88_000), &json!(1234.0))
        );
        assert_eq!((&offender["since"], &offender["action"]), (&json!("2026-11-22T16:58:45Z"), &json!("limit")));
        assert!(told.get("history").is_none());
        assert_eq!(document(&status(), Some(&[]))["history"], json!([]));
    }

    #[test]
    fn a_bar_is_never_longer_than_itself() {
        assert_eq!(bar(0, 10), format!("[{}] 0/10 0.0%", " ".repeat(24)));
        assert_eq!(bar(20, 10), format!("[{}] 20/10 200.0%", "|".repeat(24)));
        assert_eq!(bar(u32::MAX, 1).matches('|').count(), 24);
        assert_eq!(bar(7, 0), "7 flows, no bound is known");
    }
}
