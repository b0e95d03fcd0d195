//! `palisade conntrack top`.

use std::io::{self, IsTerminal};

use anyhow::{Context, Result};
use clap::Args;
use palisade_core::attack::excerpt;
use palisade_core::control::{KillCount, Reply, Request};
use palisade_core::flood::owner::Process;
use palisade_core::flood::view::{TopDoc, TopSource};
use palisade_core::net::Prefix;
use palisade_core::time::Span;
use palisade_os::clock;
use palisade_os::wake::poll;
use serde_json::{Value, json};

use super::app::App;
use super::draw::heading;
use super::feed::{Kernel, LISTEN};
use super::look::{Feed, Look};
use super::rows::{self, Line, Sort, View, rate};
use super::screen;
use crate::cli::ask::{Refused, ask, asker};
use crate::cli::facts::leases;
use crate::cli::{Exit, Global, print};

/// Who fills the connection table.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  palisade conntrack top                          live; h tells the keys\n  palisade conntrack top --by process --sort new  who of this host opens the most\n  palisade conntrack top --once --rows 5          two looks a second apart, and the five largest\n  palisade --json conntrack top --once | jq '.sources[0]'\n  palisade --json conntrack top --interval 10s    an object a line, every ten seconds\n\nReads the kernel itself, so it needs root (CAP_NET_ADMIN) and no daemon. Where standard output is no terminal, it does as\nwith --once, and so it does with --json, unless --interval is said. Exit code 3: without the rights. SHARE is of the flows that there are,\nNEW/s what the kernel tells of new ones, GROWTH/s what changed between two looks."
)]
pub(super) struct TopArgs {
    /// Show one table, not a live screen: two looks, one interval apart
    #[arg(long)]
    once: bool,
    /// What the rows are
    #[arg(long, value_enum, value_name = "WHAT", default_value = "source")]
    by: View,
    /// What they are sorted by
    #[arg(long, value_enum, value_name = "COLUMN", default_value = "flows")]
    sort: Sort,
    /// How long from one look to the next; 1s where no more is said. With --json: an object each such time, without end
    #[arg(long, value_name = "TIME", value_parser = interval)]
    interval: Option<Span>,
    /// At most so many rows; 20 where no more is said, all that are known on the live screen
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=10_000))]
    rows: Option<u16>,
    /// Hear of one new flow in so many: a power of two. 1 hears of all, larger ones cost a flooded host less
    #[arg(long, value_name = "N", default_value = "16", value_parser = power_of_two)]
    one_in: u32,
}

/// No look sooner after another: what is between them would be no rate.
const SHORTEST: Span = Span::millis(500);
/// Nor later: the screen would look broken.
const LONGEST: Span = Span::secs(3600);

fn interval(text: &str) -> Result<Span, String> {
    match text.parse().map_err(|e| format!("{e}"))? {
        span if (SHORTEST..=LONGEST).contains(&span) => Ok(span),
        _ => Err(format!("it is {SHORTEST} to {LONGEST}")),
    }
}

fn power_of_two(text: &str) -> Result<u32, String> {
    let number: u32 = text.parse().map_err(|e| format!("{e}"))?;
    if number.is_power_of_two() && number <= 65_536 { Ok(number) } else { Err("it is a power of two up to 65536".to_owned()) }
}

/// How long from one look to the next where it is not said.
const USUAL: Span = Span::secs(1);

/// How many rows are shown where it is not said.
const ROWS: usize = 20;
/// How many sources are known to what shows them.
const KNOWN: usize = 1000;

/// How it is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    /// An object a line, until nobody reads them.
    Stream,
    /// On a screen.
    Live,
    /// Once.
    Single,
}

impl TopArgs {
    /// Does it.
    pub(super) fn run(self, global: &Global) -> Result<Exit> {
        let terminal = io::stdin().is_terminal() && io::stdout().is_terminal();
        let known = usize::from(self.rows.unwrap_or(0)).max(KNOWN);
        let feed = Kernel::open(self.one_in, known, leases(global)).map_err(|error| no_table(&error))?;
        match self.way(global.json, terminal) {
            Way::Stream => self.stream(feed),
            Way::Live => self.live(global, feed),
            Way::Single => self.single(global, feed),
        }
    }

    /// Programs get documents without end only where they said how often.
    const fn way(&self, json: bool, terminal: bool) -> Way {
        match (self.once, json, self.interval) {
            (false, true, Some(_)) => Way::Stream,
            (false, false, _) if terminal => Way::Live,
            _ => Way::Single,
        }
    }

    fn interval(&self) -> Span {
        self.interval.unwrap_or(USUAL)
    }

    fn live(&self, global: &Global, feed: Kernel) -> Result<Exit> {
        let app = App::new(self.by, self.sort, asker());
        let places = global.clone();
        screen::run(app, Box::new(feed), Box::new(move |prefix| killed(&places, prefix)), self.interval(), print::colored())?;
        Ok(Exit::Done)
    }

    /// Two looks, and the table of the second.
    fn single(&self, global: &Global, mut feed: Kernel) -> Result<Exit> {
        let before = feed.look().context("looking at the table")?;
        wait(&mut feed, self.interval())?;
        let look = feed.look().context("looking at the table")?;
        if global.json {
            print::json(&self.document(&look, &before))?;
        } else {
            print::line(summary(&look))?;
            look.notes.iter().for_each(|note| print::say(format_args!("palisade: {}", excerpt(note.as_bytes()))));
            print::table(&self.table(&look, &before))?;
        }
        Ok(Exit::Done)
    }

    /// An object a line until nobody reads them.
    fn stream(&self, mut feed: Kernel) -> Result<Exit> {
        let mut before = feed.look().context("looking at the table")?;
        loop {
            wait(&mut feed, self.interval())?;
            let look = feed.look().context("looking at the table")?;
            print::json(&self.document(&look, &before))?;
            before = look;
        }
    }

    fn lines(&self, look: &Look, before: &Look, view: View) -> Vec<Line> {
        let mut lines = rows::lines(look, Some(before), view, self.sort, false);
        lines.truncate(self.rows.map_or(ROWS, usize::from));
        lines
    }

    fn table(&self, look: &Look, before: &Look) -> Vec<Vec<String>> {
        let (names, contents): (Vec<_>, Vec<_>) = heading(self.by).into_iter().unzip();
        let row = |line: &Line| contents.iter().map(|content| content(line)).collect();
        let lines = self.lines(look, before, self.by);
        std::iter::once(names).chain(lines.iter().map(row)).collect()
    }

    /// The document of programs: always with sources, and with what else was asked for.
    fn document(&self, look: &Look, before: &Look) -> Value {
        let lines = |view| self.lines(look, before, view);
        let sources = |view| lines(view).iter().map(source).collect::<Vec<TopSource>>();
        let (count, max, error) = (look.gauge.count, look.gauge.max, look.census.error);
        let document = TopDoc { v: 1, count, max, error, sources: sources(View::Source) };
        let mut told = json!(document);
        let Value::Object(fields) = &mut told else { return told };
        let mut say = |name: &str, what: Value| drop(fields.insert(name.to_owned(), what));
        say("at", json!(look.at.stamp));
        say("new_per_second", json!(look.new.map(|new| tenth(new.into()))));
        say("dropped", json!(look.gauge.drop.saturating_sub(before.gauge.drop)));
        say("notes", json!(look.notes));
        let named = |what: &str| lines(self.by).iter().map(|line| named(what, line)).collect::<Vec<Value>>();
        match self.by {
            View::Source => {}
            View::Net => say("nets", json!(sources(View::Net))),
            View::Destination => say("destinations", json!(named("to"))),
            View::Port => say("ports", json!(named("port"))),
            View::Process => say("processes", json!(lines(View::Process).iter().map(holder).collect::<Vec<Value>>())),
        }
        told
    }
}

/// Waits for the next look, listening meanwhile.
fn wait(feed: &mut Kernel, interval: Span) -> Result<()> {
    let due = clock::now().tick.plus(interval);
    loop {
        feed.listen()?;
        let left = due.since(clock::now().tick);
        if left == Span::ZERO {
            return Ok(());
        }
        let _ = poll(&[], None, Some(left.min(LISTEN)))?;
    }
}

/// `131072/262144 50.0%  new 12/s  3 sources`.
fn summary(look: &Look) -> String {
    let gauge = &look.gauge;
    let fill = if gauge.max == 0 { "of no known bound".to_owned() } else { format!("of {} ({:.1}%)", gauge.max, gauge.fill() * 100.0) };
    let new = look.new.map(|new| format!(", {} new a second", rate(new.into()))).unwrap_or_default();
    let least = if look.census.error > 0 { "at least " } else { "" };
    format!("{} flows {fill}{new}, from {least}{} sources", gauge.count, look.census.sources)
}

/// A rate to a tenth: more digits would only look exact.
fn tenth(rate: f64) -> f64 {
    (rate * 10.0).round() / 10.0
}

/// A source as the contract has it.
fn source(line: &Line) -> TopSource {
    TopSource {
        addr: line.name.split(' ').next().unwrap_or_default().to_owned(),
        flows: line.flows,
        new_per_second: tenth(line.new.unwrap_or(0.0)),
        share: share(line),
        unreplied: line.unreplied.unwrap_or(0),
        hosts: line.hosts,
        top_dst: line.top.map(|(to, _)| to),
        process: line.process.as_ref().map(printable),
    }
}

/// A process of this host.
fn holder(line: &Line) -> Value {
    json!({
        "process": line.process.as_ref().map(printable),
        "flows": line.flows,
        "new_per_second": line.new.map(tenth),
        "growth_per_second": line.growth.map(tenth),
        "share": share(line),
        "top_dst": line.top.map(|(to, _)| to.to_string()),
    })
}

fn named(what: &str, line: &Line) -> Value {
    json!({ what: line.name, "flows": line.flows, "growth_per_second": line.growth.map(tenth), "share": share(line) })
}

fn share(line: &Line) -> f64 {
    (line.share * 10_000.0).round() / 10_000.0
}

/// A process names itself: what it says is made printable, since JSON is read on terminals too.
fn printable(process: &Process) -> Process {
    let clean = |text: &String| excerpt(text.as_bytes());
    Process { comm: clean(&process.comm), user: process.user.as_ref().map(clean), unit: process.unit.as_ref().map(clean), ..*process }
}

/// Ends a source's flows as `palisade kill` does, and says how it went.
fn killed(global: &Global, prefix: Prefix) -> String {
    match ask(global, Request::Kill { prefixes: vec![prefix] }) {
        Ok(Reply::Killed(KillCount { sockets, states, .. })) => {
            format!("ended {sockets} local sockets and {states} connection states of {prefix}")
        }
        Ok(_) => format!("{prefix}: the daemon's answer is not understood; is it of another version?"),
        Err(error) => format!("{prefix}: {error:#}"),
    }
}

/// Why there is nothing to look at.
fn no_table(error: &io::Error) -> anyhow::Error {
    if error.kind() == io::ErrorKind::PermissionDenied {
        let message = "palisade: only root may read the connection table: run this as root (CAP_NET_ADMIN)".to_owned();
        return anyhow::Error::new(Refused { exit: Exit::NoDaemon, message });
    }
    anyhow::anyhow!("the connection table cannot be read: {error}")
}

#[cfg(test)]
mod tests {
    use super::super::rows::tests::{look, net, row};
    use super::*;
    use clap::Parser;

    const TO: &str = "203.0.113.1:443/tcp";

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        args: TopArgs,
    }

    fn args(words: &str) -> Result<TopArgs, clap::Error> {
        Line::try_parse_from(["top"].into_iter().chain(words.split_whitespace())).map(|line| line.args)
    }

    fn looks() -> (Look, Look) {
        let before = look(0, vec![row("192.0.2.1/32", 100, 5, 1.0, TO)]);
        let mut now = look(2, vec![row("192.0.2.1/32", 300, 5, 125.04, TO), row("2001:db8::1/128", 100, 40, 0.0, TO)]);
        let process = Process { pid: 7, comm: "cu\u{9b}2Jrl".to_owned(), uid: 1000, user: None, unit: None };
        now.processes.insert("192.0.2.1/32".parse().unwrap(), process);
        (now, before)
    }

    #[test]
    fn the_document_is_the_contracts() {
        let (mut now, before) = looks();
        let told = args("--once").unwrap().document(&now, &before);
        assert_eq!((&told["v"], &told["count"], &told["max"]), (&json!(1), &json!(400), &json!(800)));
        let process = json!({ "pid": 7, "comm": "cu\\u{9b}2Jrl", "uid": 1000 });
        let first = json!({
            "addr": "192.0.2.1", "flows": 300, "new_per_second": 125.0, "share": 0.75, "unreplied": 5, "hosts": 1, "top_dst": TO,
            "process": process,
        });
        assert_eq!(told["sources"][0], first);
        assert_eq!(told["sources"][1]["process"], Value::Null);
        let told = args("--once --by destination --rows 1 --sort name").unwrap().document(&now, &before);
        assert_eq!(told["destinations"], json!([{ "to": TO, "flows": 200, "growth_per_second": 75.0, "share": 0.5 }]));
        assert_eq!(told["sources"].as_array().unwrap().len(), 1);
        now.census.nets = vec![net()];
        let told = args("--by net").unwrap().document(&now, &before);
        assert_eq!(told["nets"][0]["addr"], json!("2001:db8:0:66::/64"));
    }

    #[test]
    fn what_was_not_heard_is_told_by_what_grew() {
        let (mut now, before) = looks();
        now.census.top.iter_mut().for_each(|row| row.opened = None);
        now.new = None;
        let told = args("--once").unwrap().document(&now, &before);
        assert_eq!((&told["new_per_second"], &told["sources"][0]["new_per_second"]), (&Value::Null, &json!(100.0)));
    }

    #[test]
    fn the_table_of_people_is_that_of_the_screen() {
        let (now, before) = looks();
        let table = args("--once --rows 1").unwrap().table(&now, &before);
        let rows: Vec<String> = table.iter().map(|row| row.iter().map(|cell| cell.trim()).collect::<Vec<_>>().join("|")).collect();
        assert_eq!(
            rows,
            [
                "FLOWS|SHARE|NEW/s|GROWTH/s|UNREPL|SOURCE|MOST GO TO|WHO",
                "300|75.0%|125|+100|5|192.0.2.1|203.0.113.1:443/tcp 50%|cu\\u{9b}2Jrl (pid 7, user 1000)",
            ]
        );
        assert_eq!(summary(&now), "400 flows of 800 (50.0%), 12 new a second, from 2 sources");
    }

    #[test]
    fn only_who_says_how_often_gets_documents_without_end() {
        let way = |words: &str, json, terminal| args(words).unwrap().way(json, terminal);
        assert_eq!([way("", true, false), way("", true, true), way("--interval 1s --once", true, false)], [Way::Single; 3]);
        assert_eq!([way("--interval 1s", true, false), way("--interval 1s", true, true)], [Way::Stream; 2]);
        assert_eq!([way("", false, true), way("--interval 1s", false, true)], [Way::Live; 2]);
        assert_eq!([way("", false, false), way("--interval 1s", false, false), way("--once", false, true)], [Way::Single; 3]);
    }

    #[test]
    fn what_makes_no_sense_is_refused() {
        for wrong in ["--interval 100ms", "--interval 2h", "--rows 0", "--one-in 3", "--one-in 0", "--by nobody", "--sort nothing"] {
            assert!(args(wrong).is_err(), "{wrong}");
        }
        assert!(args("--by process --sort growth --interval 500ms --rows 10000 --one-in 1").is_ok());
    }
}
