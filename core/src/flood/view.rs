//! What `conntrack top` shows: rows of one census, and what changed since the one before.

use std::cmp::Ordering;

use serde::{Deserialize, Serialize};

use super::census::{Census, Row};
use super::flow::{Endpoint, Protocol};
use super::gauge::Gauge;
use super::owner::Process;
use crate::net::Prefix;
use crate::time::Span;

/// What the rows are of.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum By {
    /// Who opened the flows: hosts, and /64s where no host of one stands out.
    #[default]
    Source,
    /// Where they go: address, port and protocol.
    Destination,
    /// Which port, wherever.
    Port,
    /// Which local process.
    Process,
}

/// What the rows are ordered by.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Key {
    /// Most flows first.
    #[default]
    Flows,
    /// Fastest first.
    NewPerSecond,
    /// Most unanswered flows first.
    Unreplied,
    /// What grew most since the census before first; what shrank, last.
    Growth,
    /// By name: addresses and ports in their own order, processes by theirs.
    Name,
}

/// What a row is of.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Who {
    /// A host or a /64.
    Source(Prefix),
    /// Where flows go.
    Destination(Endpoint),
    /// A port: number, then protocol.
    Port(u16, u8),
    /// A process.
    Process(Process),
}

/// One row.
#[derive(Clone, Debug, PartialEq)]
pub struct Line {
    /// Of what.
    pub who: Who,
    /// How many flows.
    pub flows: u32,
    /// Of which never answered, where that is counted.
    pub unreplied: Option<u32>,
    /// How many more there are than at the census before; negative: fewer. `None` without one. What that one did not name counts
    /// as many as the least that it did, where it named not all.
    pub growth: Option<i64>,
    /// How many are opened a second: as heard, else what grew a second, 0 where it shrank. 0 where neither is known.
    pub new_per_second: f64,
    /// Whether that was heard, and not only reckoned from growth, which does not see what ended meanwhile.
    pub heard: bool,
    /// Its part of all flows, 0 to 1.
    pub share: f64,
    /// Where most go, and how many at least.
    pub top: Option<(Endpoint, u32)>,
    /// How many hosts it is.
    pub hosts: u32,
}

/// The census before, and how long before.
pub type Before<'a> = Option<(&'a Census, Span)>;

impl std::fmt::Display for Who {
    /// `192.0.2.1`, `2001:db8::/64`, `192.0.2.1:443/tcp`, `443/tcp`, `firefox (pid 4211, user anna)`.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Source(prefix) => f.write_str(&name(*prefix)),
            Self::Destination(endpoint) => endpoint.fmt(f),
            Self::Port(port, protocol) => write!(f, "{port}/{}", Protocol(*protocol)),
            Self::Process(process) => process.fmt(f),
        }
    }
}

/// A host by its address alone, other prefixes as they are written.
fn name(prefix: Prefix) -> String {
    if prefix.is_host() { prefix.addr().to_string() } else { prefix.to_string() }
}

/// The rows of a census, in the order of [`Key::Flows`]. `count`: how many flows the table has by its gauge.
pub fn lines(census: &Census, count: u32, before: Before<'_>, by: By) -> Vec<Line> {
    let all = census.flows.max(count.into());
    let mut lines: Vec<Line> = match by {
        By::Source => census.largest(usize::MAX).into_iter().map(|row| source(row, before)).collect(),
        By::Destination => counted(&census.endpoints, before.map(|(was, _)| &was.endpoints[..]), |(to, n)| (Who::Destination(*to), *n)),
        By::Port => counted(&census.ports, before.map(|(was, _)| &was.ports[..]), |(protocol, port, n)| (Who::Port(*port, *protocol), *n)),
        By::Process => processes(census, before),
    };
    for line in &mut lines {
        let grown = line.growth.zip(before).filter(|_| !line.heard);
        if let Some((growth, (_, passed))) = grown {
            line.new_per_second = per_second(growth, passed);
        }
        line.share = part(line.flows, all);
    }
    sort(&mut lines, Key::Flows, false);
    lines
}

/// Puts the rows in order; of equals, first what has more flows, then by name. `reversed`: the last first.
pub fn sort(lines: &mut [Line], key: Key, reversed: bool) {
    let by = |a: &Line, b: &Line| match key {
        Key::Flows => Ordering::Equal,
        Key::NewPerSecond => b.new_per_second.total_cmp(&a.new_per_second),
        Key::Unreplied => b.unreplied.cmp(&a.unreplied),
        Key::Growth => b.growth.cmp(&a.growth),
        Key::Name => a.who.cmp(&b.who),
    };
    lines.sort_by(|a, b| by(a, b).then(b.flows.cmp(&a.flows)).then_with(|| a.who.cmp(&b.who)));
    if reversed {
        lines.reverse();
    }
}

#[expect(clippy::cast_precision_loss, reason = "a rate to a few digits")]
fn per_second(growth: i64, passed: Span) -> f64 {
    let ms = passed.as_millis();
    if ms == 0 { 0.0 } else { growth.max(0) as f64 * 1000.0 / ms as f64 }
}

#[expect(clippy::cast_precision_loss, reason = "a share to a few digits")]
fn part(flows: u32, all: u64) -> f64 {
    if all == 0 { 0.0 } else { (f64::from(flows) / all as f64).min(1.0) }
}

/// What is known by its number of flows alone.
fn bare(who: Who, flows: u32) -> Line {
    let (growth, top, unreplied) = (None, None, None);
    Line { who, flows, unreplied, growth, new_per_second: 0.0, heard: false, share: 0.0, top, hosts: 1 }
}

fn source(row: &Row, before: Before<'_>) -> Line {
    let was = before.map(|(was, _)| {
        let rows = if row.prefix.is_host() { &was.top } else { &was.nets };
        let named = rows.iter().find(|then| then.prefix == row.prefix).map(|then| then.flows);
        let listed = u64::try_from(was.top.len()).unwrap_or(u64::MAX);
        named.unwrap_or_else(|| if was.sources > listed { rows.last().map_or(0, |least| least.flows.min(row.flows)) } else { 0 })
    });
    Line {
        unreplied: Some(row.unreplied),
        growth: was.map(|was| i64::from(row.flows) - i64::from(was)),
        new_per_second: row.opened.map_or(0.0, f64::from),
        heard: row.opened.is_some(),
        top: row.top,
        hosts: row.hosts,
        ..bare(Who::Source(row.prefix), row.flows)
    }
}

/// Rows of a list that is cut at [`super::census::LISTED`].
fn counted<T>(now: &[T], was: Option<&[T]>, of: impl Fn(&T) -> (Who, u32)) -> Vec<Line> {
    let then: Option<std::collections::BTreeMap<Who, u32>> = was.map(|was| was.iter().map(&of).collect());
    let cut = was.filter(|was| was.len() >= super::census::LISTED).and_then(|was| was.last()).map_or(0, |least| of(least).1);
    let line = |(who, flows): (Who, u32)| {
        let was = then.as_ref().map(|then| then.get(&who).copied().unwrap_or_else(|| cut.min(flows)));
        Line { growth: was.map(|was| i64::from(flows) - i64::from(was)), ..bare(who, flows) }
    };
    now.iter().map(|item| line(of(item))).collect()
}

fn processes(census: &Census, before: Before<'_>) -> Vec<Line> {
    let line = |held: &super::census::Held| {
        let then = |was: &Census| was.processes.iter().find(|then| then.process == held.process).map_or(0, |then| then.flows);
        Line {
            // Where no process was looked for, nothing is known to have grown.
            growth: before.filter(|(was, _)| !was.processes.is_empty()).map(|(was, _)| i64::from(held.flows) - i64::from(then(was))),
            new_per_second: held.opened.map_or(0.0, f64::from),
            heard: held.opened.is_some(),
            top: held.top,
            ..bare(Who::Process(held.process.clone()), held.flows)
        }
    };
    census.processes.iter().map(line).collect()
}

/// `conntrack top --json`: schema version 1.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TopDoc {
    /// The schema's version.
    pub v: u8,
    /// How many flows are tracked.
    pub count: u32,
    /// How many there can be; 0: no bound is known.
    pub max: u32,
    /// By how much the flows of a source may be too small; 0: they are exact.
    pub error: u32,
    /// Who holds the most, largest first.
    pub sources: Vec<TopSource>,
}

/// One source of a [`TopDoc`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TopSource {
    /// `192.0.2.1`, `2001:db8::1`, or `2001:db8::/64` where no host of it stands out.
    pub addr: String,
    /// How many flows it holds.
    pub flows: u32,
    /// How many it opens a second.
    pub new_per_second: f64,
    /// Its part of all flows, 0 to 1.
    pub share: f64,
    /// Of its flows, those never answered.
    pub unreplied: u32,
    /// How many hosts it is.
    pub hosts: u32,
    /// Where most go: `192.0.2.1:443/tcp`.
    pub top_dst: Option<Endpoint>,
    /// The local process behind it, where there is one and it is known.
    pub process: Option<Process>,
}

impl TopDoc {
    /// The `most` largest sources of a census. `process`: which local process is behind a source.
    pub fn of(census: &Census, gauge: &Gauge, before: Before<'_>, most: usize, process: &dyn Fn(Prefix) -> Option<Process>) -> Self {
        let source = |line: Line| {
            let Who::Source(prefix) = line.who else { return None };
            Some(TopSource {
                addr: name(prefix),
                flows: line.flows,
                new_per_second: line.new_per_second,
                share: line.share,
                unreplied: line.unreplied.unwrap_or(0),
                hosts: line.hosts,
                top_dst: line.top.map(|(to, _)| to),
                process: process(prefix),
            })
        };
        let sources = lines(census, gauge.count, before, By::Source).into_iter().take(most).filter_map(source).collect();
        Self { v: 1, count: gauge.count, max: gauge.max, error: census.error, sources }
    }
}

#[cfg(test)]
mod tests {
    use super::super::census::Held;
    use super::*;

    fn row(prefix: &str, flows: u32, unreplied: u32, opened: Option<f32>) -> Row {
        let top = Some(("198.51.100.1:443/tcp".parse().unwrap(), flows));
        Row { prefix: prefix.parse().unwrap(), flows, unreplied, unassured: 0, opened, top, hosts: 1 }
    }

    fn census(rows: Vec<Row>) -> Census {
        let flows = rows.iter().map(|row| u64::from(row.flows)).sum();
        Census { flows, sources: rows.len() as u64, top: rows, ..Census::default() }
    }

    fn names(lines: &[Line]) -> Vec<String> {
        lines.iter().map(|line| line.who.to_string()).collect()
    }

    #[test]
    fn growth_and_rates_by_hand() {
        let was = census(vec![row("192.0.2.1", 100, 0, None), row("192.0.2.2", 50, 0, None)]);
        let rows = vec![row("192.0.2.1", 40, 9, None), row("192.0.2.2", 50, 1, Some(7.5)), row("192.0.2.3", 60, 0, None)];
        let lines = lines(&census(rows), 300, Some((&was, Span::secs(4))), By::Source);
        assert_eq!(names(&lines), ["192.0.2.3", "192.0.2.2", "192.0.2.1"]);
        let figures: Vec<_> = lines.iter().map(|line| (line.growth, line.new_per_second, line.heard)).collect();
        assert_eq!(figures, [(Some(60), 15.0, false), (Some(0), 7.5, true), (Some(-60), 0.0, false)]);
        // Of 300 by the gauge, though 150 were counted.
        assert_eq!(lines.iter().map(|line| line.share).collect::<Vec<_>>(), [0.2, 50.0 / 300.0, 40.0 / 300.0]);
    }

    #[test]
    fn what_was_not_named_may_have_been_there() {
        let was = Census { sources: 9, ..census(vec![row("192.0.2.1", 100, 0, None), row("192.0.2.2", 50, 0, None)]) };
        let now = census(vec![row("192.0.2.3", 60, 0, None), row("192.0.2.4", 20, 0, None)]);
        let growth = |before| lines(&now, 80, before, By::Source).iter().map(|line| line.growth).collect::<Vec<_>>();
        assert_eq!(growth(Some((&was, Span::secs(1)))), [Some(10), Some(0)]);
        assert_eq!(growth(None), [None, None]);
    }

    #[test]
    fn every_key_orders_and_can_be_turned() {
        let was = census(vec![row("192.0.2.10", 1, 0, None), row("192.0.2.2", 50, 0, None)]);
        let rows = vec![row("192.0.2.10", 40, 9, Some(1.0)), row("192.0.2.2", 50, 1, Some(0.0)), row("192.0.2.1", 50, 3, Some(2.0))];
        let mut lines = lines(&census(rows), 140, Some((&was, Span::secs(1))), By::Source);
        let mut by = |key, reversed| {
            sort(&mut lines, key, reversed);
            lines.iter().map(|line| line.who.to_string().trim_start_matches("192.0.2.").to_owned()).collect::<Vec<_>>()
        };
        assert_eq!(by(Key::Flows, false), ["1", "2", "10"]);
        assert_eq!(by(Key::NewPerSecond, false), ["1", "10", "2"]);
        assert_eq!(by(Key::Unreplied, false), ["10", "1", "2"]);
        assert_eq!(by(Key::Growth, false), ["1", "10", "2"]);
        assert_eq!(by(Key::Name, false), ["1", "2", "10"]);
        assert_eq!(by(Key::Name, true), ["10", "2", "1"]);
    }

    #[test]
    fn destinations_ports_and_processes() {
        let process = Process { pid: 7, comm: "curl".to_owned(), uid: 1000, ..Process::default() };
        let held = |flows| Held { process: process.clone(), flows, opened: None, top: None, port: None };
        let of = |to: u32, port: u32, held| Census {
            flows: 100,
            endpoints: vec![("198.51.100.1:443/tcp".parse().unwrap(), to)],
            ports: vec![(17, 53, port)],
            processes: held,
            ..Census::default()
        };
        let (was, now) = (of(10, 9, vec![held(1)]), of(30, 4, vec![held(3)]));
        let seen = |by, was| {
            let line = lines(&now, 100, Some((was, Span::secs(2))), by).remove(0);
            (line.who.to_string(), line.growth, line.new_per_second)
        };
        assert_eq!(seen(By::Destination, &was), ("198.51.100.1:443/tcp".to_owned(), Some(20), 10.0));
        assert_eq!(seen(By::Port, &was), ("53/udp".to_owned(), Some(-5), 0.0));
        assert_eq!(seen(By::Process, &was), ("curl (pid 7, user 1000)".to_owned(), Some(2), 1.0));
        assert_eq!(seen(By::Process, &of(0, 0, Vec::new())).1, None);
    }

    #[test]
    fn the_document_is_as_it_is_promised() {
        let process = Process { pid: 7, comm: "curl".to_owned(), uid: 1000, ..Process::default() };
        let now = census(vec![row("192.0.2.1", 75, 3, Some(2.5)), row("192.0.2.2", 25, 0, None)]);
        let gauge = Gauge { count: 100, max: 4096, ..Gauge::default() };
        let mine = |prefix: Prefix| (prefix == "192.0.2.1".parse().unwrap()).then(|| process.clone());
        let doc = TopDoc::of(&now, &gauge, None, 1, &mine);
        let text = serde_json::to_string(&doc).unwrap();
        assert_eq!(
            text,
            r#"{"v":1,"count":100,"max":4096,"error":0,"sources":[{"addr":"192.0.2.1","flows":75,"new_per_second":2.5,"share":0.75,"unreplied":3,"hosts":1,"top_dst":"198.51.100.1:443/tcp","process":{"pid":7,"comm":"curl","uid":1000}}]}"#
        );
        assert_eq!(serde_json::from_str::<TopDoc>(&text).unwrap(), doc);
        let empty = TopDoc::of(&Census::default(), &Gauge::default(), None, 9, &|_| None);
        assert_eq!((empty.count, empty.sources.len()), (0, 0));
    }
}
