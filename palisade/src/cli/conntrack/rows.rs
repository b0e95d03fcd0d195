//! A census as the rows of a table. Pure.

use clap::ValueEnum;
use palisade_core::attack::excerpt;
use palisade_core::flood::census::Census;
use palisade_core::flood::flow::Endpoint;
use palisade_core::flood::owner::Process;
use palisade_core::flood::view::{self, By, Key, Who};
use palisade_core::time::Span;

use super::look::Look;

/// What the rows are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(super) enum View {
    /// Who sent the first packet: addresses, and /64s of which no address stands out
    #[default]
    Source,
    /// The /64s of IPv6 alone
    Net,
    /// Where to: address, port and protocol
    Destination,
    /// Where to: port and protocol alone
    Port,
    /// Which processes of this host
    Process,
}

impl View {
    /// All, in the order of the screen's tabs.
    pub(super) const ALL: [Self; 5] = [Self::Source, Self::Net, Self::Destination, Self::Port, Self::Process];

    /// What it is called.
    pub(super) const fn word(self) -> &'static str {
        match self {
            Self::Source => "source",
            Self::Net => "net",
            Self::Destination => "destination",
            Self::Port => "port",
            Self::Process => "process",
        }
    }

    /// What a census is asked for.
    const fn by(self) -> By {
        match self {
            Self::Source | Self::Net => By::Source,
            Self::Destination => By::Destination,
            Self::Port => By::Port,
            Self::Process => By::Process,
        }
    }
}

/// What they are sorted by.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(super) enum Sort {
    /// Most flows first
    #[default]
    Flows,
    /// Most new flows a second first
    New,
    /// Most flows without an answer first
    Unreplied,
    /// Who grew most since the look before first
    Growth,
    /// By address, port or name
    Name,
}

impl Sort {
    /// All, in the order of the columns.
    pub(super) const ALL: [Self; 5] = [Self::Flows, Self::New, Self::Growth, Self::Unreplied, Self::Name];

    /// What rows are ordered by.
    const fn key(self) -> Key {
        match self {
            Self::Flows => Key::Flows,
            Self::New => Key::NewPerSecond,
            Self::Unreplied => Key::Unreplied,
            Self::Growth => Key::Growth,
            Self::Name => Key::Name,
        }
    }
}

/// One row, as it is shown.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Line {
    /// What it is about.
    pub(super) key: Who,
    /// That in words, fit for a terminal.
    pub(super) name: String,
    /// How many flows.
    pub(super) flows: u32,
    /// How much of all that is, 0 to 1.
    pub(super) share: f64,
    /// New ones a second, heard or at least by what it grew.
    pub(super) new: Option<f64>,
    /// By how many a second it grew or shrank since the look before.
    pub(super) growth: Option<f64>,
    /// How many were never answered.
    pub(super) unreplied: Option<u32>,
    /// How many hosts it is.
    pub(super) hosts: u32,
    /// Where most go, and how many.
    pub(super) top: Option<(Endpoint, u32)>,
    /// Who is behind it.
    pub(super) process: Option<Process>,
}

impl Line {
    fn of(line: view::Line, look: &Look, passed: Option<Span>) -> Self {
        let process = match &line.who {
            Who::Source(prefix) => look.processes.get(prefix).cloned(),
            Who::Process(process) => Some(process.clone()),
            Who::Destination(_) | Who::Port(..) => None,
        };
        let hosts = if line.hosts > 1 { format!(" ({} hosts)", line.hosts) } else { String::new() };
        Self {
            name: excerpt(format!("{}{hosts}", line.who).as_bytes()),
            key: line.who,
            flows: line.flows,
            share: line.share,
            new: (line.heard || line.growth.is_some()).then_some(line.new_per_second),
            growth: line.growth.zip(passed).map(|(growth, passed)| a_second(growth, passed)),
            unreplied: line.unreplied,
            hosts: line.hosts,
            top: line.top,
            process,
        }
    }

    /// Where most go, with how much of the row that is: `192.0.2.1:443/tcp 87%`.
    pub(super) fn to(&self) -> String {
        let Some((to, flows)) = self.top else { return String::new() };
        let percent = u64::from(flows) * 100 / u64::from(self.flows.max(1));
        if percent >= 100 { to.to_string() } else { format!("{to} {percent}%") }
    }

    /// Who is behind it, fit for a terminal.
    pub(super) fn who(&self) -> String {
        self.process.as_ref().map(|process| excerpt(process.to_string().as_bytes())).unwrap_or_default()
    }

    /// Whether it has this text in any of its words, whatever the case.
    pub(super) fn has(&self, text: &str) -> bool {
        let text = text.to_lowercase();
        [self.name.clone(), self.to(), self.who()].iter().any(|words| words.to_lowercase().contains(&text))
    }
}

#[expect(clippy::cast_precision_loss, reason = "a rate for people")]
fn a_second(growth: i64, passed: Span) -> f64 {
    growth as f64 * 1000.0 / passed.as_millis().max(1) as f64
}

/// The rows of a view in their order. What grew is told against the look before.
pub(super) fn lines(look: &Look, before: Option<&Look>, view: View, by: Sort, inverted: bool) -> Vec<Line> {
    let passed = |before: &Look| look.at.tick.since(before.at.tick);
    let before = before.map(|before| (&before.census, passed(before))).filter(|(_, passed)| *passed > Span::ZERO);
    let nets;
    let census = if view == View::Net {
        // Without hosts, networks are all the sources there are.
        nets = Census { top: Vec::new(), ..look.census.clone() };
        &nets
    } else {
        &look.census
    };
    let mut lines = view::lines(census, look.gauge.count, before, view.by());
    view::sort(&mut lines, by.key(), inverted);
    let passed = before.map(|(_, passed)| passed);
    lines.into_iter().map(|line| Line::of(line, look, passed)).collect()
}

/// A rate for people: `0`, `0.4`, `12`, `1.2k`.
pub(super) fn rate(rate: f64) -> String {
    let (sign, size) = if rate < 0.0 { ("-", -rate) } else { ("", rate) };
    if size < 0.05 {
        return "0".to_owned();
    }
    if size < 9.95 {
        return format!("{sign}{size:.1}");
    }
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "positive, and saturates")]
    let whole = size.round() as u64;
    format!("{sign}{}", super::super::chart::short(whole))
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use palisade_core::flood::census::{Held, Row};
    use palisade_core::flood::gauge::Gauge;
    use palisade_core::time::{Now, Stamp, Tick};

    /// One source of a look made by hand.
    pub(in crate::cli::conntrack) fn row(who: &str, flows: u32, unreplied: u32, opened: f32, to: &str) -> Row {
        let top = Some((to.parse().unwrap(), flows / 2));
        Row { prefix: who.parse().unwrap(), flows, unreplied, unassured: 0, opened: Some(opened), top, hosts: 1 }
    }

    /// One network of it.
    pub(in crate::cli::conntrack) fn net() -> Row {
        Row { hosts: 3, ..row("2001:db8:0:66::/64", 30, 2, 1.5, "[2001:db8::1]:53/udp") }
    }

    /// A look made by hand, so many seconds after the first.
    pub(in crate::cli::conntrack) fn look(second: u64, top: Vec<Row>) -> Look {
        let flows = top.iter().map(|row| u64::from(row.flows)).sum();
        let count = u32::try_from(flows).unwrap();
        let endpoints = vec![("203.0.113.1:443/tcp".parse().unwrap(), count / 2), ("203.0.113.2:53/udp".parse().unwrap(), count / 4)];
        let mut tcp = [0; 10];
        (tcp[1], tcp[3]) = (count / 4, count / 2);
        let census = Census {
            flows,
            sources: u64::try_from(top.len()).unwrap(),
            top,
            endpoints,
            ports: vec![(6, 443, count / 2), (17, 53, count / 4)],
            protocols: vec![(6, count / 2), (17, count / 4)],
            tcp,
            unreplied: count / 10,
            ..Census::default()
        };
        let gauge = Gauge { count, max: count * 2, ..Gauge::default() };
        let at = Now { stamp: Stamp(1_795_366_800_000), tick: Tick(1000 * (second + 1)) };
        Look { at, gauge, census, new: Some(12.0), ..Look::default() }
    }

    fn names(lines: &[Line]) -> Vec<&str> {
        lines.iter().map(|line| line.name.as_str()).collect()
    }

    #[test]
    fn growth_is_told_where_it_is_known() {
        let before = look(0, vec![row("192.0.2.1/32", 100, 0, 0.0, "203.0.113.1:443/tcp")]);
        let now =
            look(2, vec![row("192.0.2.1/32", 90, 0, 0.0, "203.0.113.1:443/tcp"), row("192.0.2.2/32", 50, 0, 9.0, "203.0.113.1:443/tcp")]);
        let growth =
            |before: &Look| lines(&now, Some(before), View::Source, Sort::Flows, false).iter().map(|line| line.growth).collect::<Vec<_>>();
        assert_eq!(growth(&before), [Some(-5.0), Some(25.0)]);
        for before in [None, Some(&now)] {
            assert!(lines(&now, before, View::Source, Sort::Flows, false).iter().all(|line| line.growth.is_none()));
        }
    }

    #[test]
    fn rows_are_sorted_either_way() {
        let top = vec![
            row("192.0.2.9/32", 10, 1, 5.0, "203.0.113.1:443/tcp"),
            Row { opened: None, ..row("192.0.2.10/32", 30, 9, 0.0, "203.0.113.1:443/tcp") },
            row("2001:db8::1/128", 20, 4, 7.0, "203.0.113.1:443/tcp"),
        ];
        let look = look(0, top);
        let by = |sort, inverted| names(&lines(&look, None, View::Source, sort, inverted)).join(" ");
        assert_eq!(by(Sort::Flows, false), "192.0.2.10 2001:db8::1 192.0.2.9");
        assert_eq!(by(Sort::Flows, true), "192.0.2.9 2001:db8::1 192.0.2.10");
        assert_eq!(by(Sort::New, false), "2001:db8::1 192.0.2.9 192.0.2.10");
        assert_eq!(by(Sort::New, true), "192.0.2.10 192.0.2.9 2001:db8::1");
        assert_eq!(by(Sort::Unreplied, false), "192.0.2.10 2001:db8::1 192.0.2.9");
        assert_eq!(by(Sort::Name, false), "192.0.2.9 192.0.2.10 2001:db8::1");
    }

    #[test]
    fn each_view_has_its_rows() {
        let mut look = look(0, vec![row("192.0.2.1/32", 100, 0, 0.0, "203.0.113.1:443/tcp")]);
        let process = Process { pid: 7, comm: "curl".to_owned(), uid: 1000, ..Process::default() };
        look.census.processes = vec![Held { process, flows: 100, opened: Some(1.0), top: None, port: None }];
        look.census.nets = vec![net()];
        let shown = |view| lines(&look, None, view, Sort::Flows, false);
        let all: Vec<String> = View::ALL.iter().map(|view| names(&shown(*view)).join(" ")).collect();
        assert_eq!(
            all,
            [
                "192.0.2.1 2001:db8:0:66::/64 (3 hosts)",
                "2001:db8:0:66::/64 (3 hosts)",
                "203.0.113.1:443/tcp 203.0.113.2:53/udp",
                "443/tcp 53/udp",
                "curl (pid 7, user 1000)"
            ]
        );
        assert_eq!(shown(View::Source)[0].to(), "203.0.113.1:443/tcp 50%");
    }

    #[test]
    fn no_name_can_drive_a_terminal() {
        let mut look = look(0, vec![row("192.0.2.1/32", 100, 0, 0.0, "203.0.113.1:443/tcp")]);
        let process =
            Process { pid: 7, comm: "\x1b[2J\u{202e}x".to_owned(), uid: 0, user: Some("a\nb".to_owned()), unit: Some("\x07".to_owned()) };
        look.processes.insert("192.0.2.1/32".parse().unwrap(), process.clone());
        look.census.processes = vec![Held { process, flows: 1, opened: None, top: None, port: None }];
        for view in [View::Source, View::Process] {
            for line in lines(&look, None, view, Sort::Flows, false) {
                let text = format!("{} {}", line.name, line.who());
                assert!(!text.chars().any(|c| c.is_control() || c == '\u{202e}'), "{text:?}");
                assert!(line.who().contains("\\u{1b}[2J"), "{text:?}");
            }
        }
    }

    #[test]
    fn rates_are_short() {
        assert_eq!([0.0, 0.04, 0.44, -3.26, 9.96, 999.6, 12_345.0, f64::NAN].map(rate), ["0", "0", "0.4", "-3.3", "10", "1k", "12k", "0"]);
    }
}
