//! What came of a replay: tables and totals for people, or one JSON document.

use std::collections::BTreeSet;
use std::path::Path;

use anyhow::Result;
use palisade_core::net::Prefix;
use palisade_core::replay::{Replay, WouldBan};
use palisade_core::time::{Span, Stamp, Until};
use serde_json::{Value, json};

use super::super::chart::{AXIS, Paper};
use super::super::past::Kind;
use super::super::print::{self, Painted};
use super::plot;
use super::which::{Ear, LeftOut};

/// An hour: what is told of time in JSON.
const HOUR: Span = Span::secs(3600);

/// What came of it.
pub(super) struct Answer {
    pub(super) lines: u64,
    pub(super) oversize: u64,
    pub(super) seconds: f64,
    /// By this config, and by that one where two are compared.
    pub(super) replays: Vec<Replay>,
    /// The other config's name.
    pub(super) against: Option<String>,
    pub(super) files: Vec<File>,
    /// Jails that heard nothing.
    pub(super) left_out: Vec<LeftOut>,
    pub(super) top: usize,
}

/// A log that was read.
pub(super) struct File {
    path: String,
    kind: Kind,
    jails: Vec<String>,
}

impl File {
    pub(super) fn new(path: &Path, kind: Kind, ears: &[Ear]) -> Self {
        let jails = ears.iter().filter(|ear| ear.whose & 1 != 0).flat_map(|ear| ear.scanner.jails());
        Self { path: path.display().to_string(), kind, jails: jails.map(|part| part.jail.to_string()).collect() }
    }

    fn json(&self) -> Value {
        let format = match self.kind {
            Kind::Plain => "plain",
            Kind::Gzip => "gzip",
            Kind::Xz => "xz",
            Kind::Zstd => "zstd",
            Kind::Journal => "journal",
        };
        json!({ "path": self.path, "format": format, "jails": self.jails })
    }
}

impl Answer {
    /// Whether anybody would have been banned, by any of the configs.
    pub(super) fn banned(&self) -> bool {
        self.replays.iter().any(|replay| !replay.bans().is_empty())
    }

    #[expect(clippy::cast_precision_loss, reason = "nobody counts so many lines that a double does not hold them")]
    fn per_second(&self) -> f64 {
        self.lines as f64 / self.seconds.max(0.000_001)
    }

    /// Writes the JSON document.
    pub(super) fn json(&self) -> Result<()> {
        let Some(mine) = self.replays.first() else { return Ok(()) };
        let mut all = of(mine);
        let more = json!({
            "v": 1,
            "lines": self.lines,
            "oversize": self.oversize,
            "seconds": self.seconds,
            "lines_per_second": self.per_second(),
            "files": self.files.iter().map(File::json).collect::<Vec<_>>(),
            "left_out": self.left_out(0),
        });
        merge(&mut all, more);
        if let (Some(other), Some(path)) = (self.replays.get(1), &self.against) {
            let mut theirs = of(other);
            merge(&mut theirs, json!({ "config": path, "left_out": self.left_out(1) }));
            let (ours, others) = only(mine, other);
            merge(&mut all, json!({ "against": theirs, "only_this": ours, "only_against": others }));
        }
        print::json(&all)
    }

    fn left_out(&self, config: usize) -> Vec<Value> {
        let its = self.left_out.iter().filter(|out| out.config == config);
        its.map(|out| json!({ "jail": out.jail, "why": out.why })).collect()
    }

    /// Writes it for people.
    pub(super) fn show(&self) -> Result<()> {
        let Some(mine) = self.replays.first() else { return Ok(()) };
        self.bans(mine)?;
        // What was all written within one moment has no course.
        if let Some((from, until)) = mine.span().filter(|(from, until)| from < until) {
            for line in plot::draw(mine.timeline(), from, until, Paper::of_terminal(AXIS + 1, 160, 6)) {
                print::line(line)?;
            }
        }
        if let (Some(other), Some(path)) = (self.replays.get(1), &self.against) {
            self.compare(mine, other, path)?;
        }
        let counts = mine.counts();
        let long = if self.oversize == 0 { String::new() } else { format!(" ({} too long, dropped whole)", self.oversize) };
        print::line(format_args!(
            "{}{long}, {}, {}",
            many(self.lines, "line"),
            many(counts.attacks, "attack"),
            many(counts.logins, "login")
        ))?;
        let by = if self.left_out.iter().any(|out| out.config == 0) { " by the jails that can be used" } else { "" };
        print::line(format_args!("{}{by}", total(mine)))?;
        if counts.logins_kept_out > 0 {
            let what = format!(
                "{} from addresses while they were banned: look whether somebody who belongs there is among them",
                many(counts.logins_kept_out, "login")
            );
            print::line(Painted(33, what))?;
        }
        print::line(format_args!("{:.2} s, {:.0} lines a second", self.seconds, self.per_second()))
    }

    /// The bans that would have kept out most, in the order of time.
    fn bans(&self, replay: &Replay) -> Result<()> {
        let all = replay.bans();
        let mut order: Vec<usize> = (0..all.len()).collect();
        order.sort_by_key(|at| (std::cmp::Reverse(all.get(*at).map(|ban| ban.kept_out)), *at));
        order.truncate(self.top);
        order.sort_unstable();
        if order.is_empty() {
            return Ok(());
        }
        let heads = ["at", "banned", "for", "jail", "offence", "kept out", "why"].map(str::to_owned).to_vec();
        let rows: Vec<Vec<String>> = std::iter::once(heads).chain(order.iter().filter_map(|at| all.get(*at)).map(row)).collect();
        print::table(&rows)?;
        if all.len() > order.len() {
            let what = format!(
                "{} of {}: those that would have kept out most; --top N lists more, --json all",
                order.len(),
                many(count(all.len()), "ban")
            );
            print::line(Painted(2, what))?;
        }
        print::line("")
    }

    fn compare(&self, mine: &Replay, other: &Replay, path: &str) -> Result<()> {
        let (ours, theirs) = only(mine, other);
        print::line(format_args!("{}", Painted(1, format_args!("against {path}"))))?;
        let row = |name: &str, replay: &Replay, only: &[Prefix]| {
            let counts = replay.counts();
            let prefixes = banned(replay).len();
            [
                name.to_owned(),
                replay.bans().len().to_string(),
                prefixes.to_string(),
                only.len().to_string(),
                counts.kept_out.to_string(),
                counts.logins_kept_out.to_string(),
            ]
            .to_vec()
        };
        let heads = ["", "bans", "banned", "by it only", "lines kept out", "logins kept out"].map(str::to_owned).to_vec();
        print::table(&[heads, row("this config", mine, &ours), row(path, other, &theirs)])?;
        for (name, list) in [("this config", &ours), (path, &theirs)] {
            if !list.is_empty() {
                let told: Vec<String> = list.iter().take(self.top).map(Prefix::to_string).collect();
                let more = if list.len() > told.len() { format!(" and {} more", list.len() - told.len()) } else { String::new() };
                print::line(format_args!("banned by {name} only: {}{more}", told.join(" ")))?;
            }
        }
        print::line("")
    }
}

/// What the contract names of one config, and more.
fn of(replay: &Replay) -> Value {
    let counts = replay.counts();
    let bans: Vec<Value> = replay.bans().iter().map(document).collect();
    let hours = replay.timeline().by(HOUR).into_iter();
    let hours: Vec<Value> =
        hours.map(|hour| json!({ "at": hour.from, "attacks": hour.attacks, "bans": hour.bans, "kept_out": hour.kept_out })).collect();
    let (from, until) = replay.span().unzip();
    json!({
        "attacks": counts.attacks,
        "logins": counts.logins,
        "kept_out": counts.kept_out,
        "logins_kept_out": counts.logins_kept_out,
        "from": from,
        "until": until,
        "bans": bans,
        "hours": hours,
    })
}

fn document(ban: &WouldBan) -> Value {
    json!({
        "prefix": ban.prefix,
        "at": ban.at,
        "until": ban.until,
        "jail": ban.jail,
        "offence": ban.offence,
        "origin": ban.origin,
        "reason": ban.reason,
        "kept_out": ban.kept_out,
    })
}

fn merge(into: &mut Value, from: Value) {
    if let (Value::Object(into), Value::Object(from)) = (into, from) {
        into.extend(from);
    }
}

fn banned(replay: &Replay) -> BTreeSet<Prefix> {
    replay.bans().iter().map(|ban| ban.prefix).collect()
}

/// Who is banned by the one only, and by the other only.
fn only(mine: &Replay, other: &Replay) -> (Vec<Prefix>, Vec<Prefix>) {
    let (mine, other) = (banned(mine), banned(other));
    (mine.difference(&other).copied().collect(), other.difference(&mine).copied().collect())
}

fn row(ban: &WouldBan) -> Vec<String> {
    let length = match ban.until {
        Until::Forever => "ever".to_owned(),
        Until::At(until) => print::rough(until.since(ban.at)),
    };
    [
        ban.at.to_string(),
        ban.prefix.to_string(),
        length,
        ban.jail.to_string(),
        ban.offence.to_string(),
        ban.kept_out.to_string(),
        ban.reason.clone(),
    ]
    .to_vec()
}

fn total(replay: &Replay) -> String {
    let bans = replay.bans();
    if bans.is_empty() {
        return "nobody would have been banned".to_owned();
    }
    let prefixes = count(banned(replay).len());
    let kept = many(replay.counts().kept_out, "line");
    format!("{} of {} would have kept out {kept}", many(count(bans.len()), "ban"), many(prefixes, "source"))
}

fn count(n: usize) -> u64 {
    u64::try_from(n).unwrap_or(u64::MAX)
}

fn many(n: u64, what: &str) -> String {
    if n == 1 { format!("1 {what}") } else { format!("{n} {what}s") }
}

/// The first and last moment, for people.
pub(super) fn span(from: Stamp, until: Stamp) -> String {
    format!("{from} to {until} ({})", print::rough(until.since(from)))
}
