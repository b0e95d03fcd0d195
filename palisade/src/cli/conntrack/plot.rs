//! The table's history drawn with characters. Pure: points in, lines out.

use std::collections::BTreeMap;

use palisade_core::flood::history::Point;
use palisade_core::net::Prefix;
use palisade_core::time::{Span, Stamp};

use super::super::chart::{AXIS, Paper, eighths, label, short};

/// A line of the chart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Line {
    /// What it says.
    pub(super) text: String,
    /// Whether it marks drops, and is worth a warning colour.
    pub(super) drops: bool,
}

impl Line {
    fn plain(text: String) -> Self {
        Self { text, drops: false }
    }
}

/// One column: the most flows in its time, and whether packets were dropped. `None` where nothing was measured.
type Column = Option<(u32, bool)>;

/// The points of these hours or days, without those that are told twice: the fine ones where `fine`, else the coarse
/// ones and what came after the last of them.
pub(super) fn between(points: &[Point], from: Stamp, until: Stamp, fine: bool) -> Vec<Point> {
    let end = |point: &Point| point.at.plus(Span::secs(point.grain.into()));
    let coarse = |point: &&Point| point.grain >= 3600;
    let told = if fine { None } else { points.iter().filter(coarse).map(end).max() };
    let chosen =
        points.iter().filter(|point| if fine { !coarse(point) } else { coarse(point) || told.is_none_or(|told| point.at >= told) });
    let mut chosen: Vec<Point> = chosen.filter(|point| end(point) > from && point.at < until).cloned().collect();
    chosen.sort_by_key(|point| point.at);
    chosen
}

/// Draws how many flows there were from `from` until `until`, with a line below it where packets were dropped.
/// Empty where nothing was measured.
pub(super) fn chart(points: &[Point], from: Stamp, until: Stamp, paper: Paper) -> Vec<Line> {
    let peak = points.iter().map(|point| point.peak).max().unwrap_or(0);
    if points.is_empty() || paper.width < 12 || paper.height == 0 {
        return Vec::new();
    }
    let columns = columns(points, from, until, paper.width);
    let max = points.iter().map(|point| point.max).max().unwrap_or(0);
    let top = scale(peak, max);
    let mut lines: Vec<Line> = (0..paper.height).map(|row| Line::plain(row_of(&columns, row, top, paper))).collect();
    lines.push(Line::plain(paper.floor("")));
    lines.push(Line::plain(times(from, until, paper.width)));
    if columns.iter().flatten().any(|(_, dropped)| *dropped) {
        let marks: String = columns.iter().map(|column| if column.is_some_and(|(_, dropped)| dropped) { '!' } else { ' ' }).collect();
        lines.push(Line { text: format!("{:>6}  {}", "drops", marks.trim_end()), drops: true });
    }
    lines
}

fn columns(points: &[Point], from: Stamp, until: Stamp, width: usize) -> Vec<Column> {
    let mut columns: Vec<Column> = vec![None; width];
    let whole = until.since(from).as_millis().max(1);
    let wide = u64::try_from(width).unwrap_or(u64::MAX);
    let column = |ms: u64| usize::try_from(u128::from(ms) * u128::from(wide) / u128::from(whole)).unwrap_or(width);
    for point in points {
        let start = point.at.since(from).as_millis();
        let end = point.at.plus(Span::secs(point.grain.into())).since(from).as_millis().saturating_sub(1);
        let last = column(end.max(start)).min(width - 1);
        for column in columns.iter_mut().take(last + 1).skip(column(start)) {
            let (peak, dropped) = column.unwrap_or((0, false));
            *column = Some((peak.max(point.peak), dropped || point.drops > 0));
        }
    }
    columns
}

/// What the topmost row stands for: the table's bound where that is within reach of the eye, else a round number.
fn scale(peak: u32, max: u32) -> u32 {
    if max > 0 && peak >= max / 2 {
        return max.max(peak);
    }
    let mut step = 1u32;
    loop {
        for round in [1u32, 2, 5] {
            let top = step.saturating_mul(round);
            if top >= peak.max(10) {
                return top;
            }
        }
        step = step.saturating_mul(10);
    }
}

fn row_of(columns: &[Column], row: usize, top: u32, paper: Paper) -> String {
    let label = match row {
        0 => short(top.into()),
        row if row * 2 == paper.height => short(u64::from(top) / 2),
        _ => String::new(),
    };
    // A measured column shows, even one of no flows.
    let high = |column: &Column| column.map_or(0, |(peak, _)| eighths(peak.into(), top.into(), paper.height).max(1));
    paper.row(row, paper.height, &label, columns.iter().map(high))
}

/// The line of times: begin, middle and end. Hours of up to two days, days of more.
fn times(from: Stamp, until: Stamp, width: usize) -> String {
    let whole = until.since(from);
    let text = |at| label(at, whole);
    let half = text(from.plus(Span::millis(whole.as_millis() / 2)));
    let (middle, right) = (width / 2 - 5, width - width / 2 - 5);
    format!("{:>AXIS$}{}{}{half}{}{} UTC", "", text(from), " ".repeat(middle), " ".repeat(right), text(until))
}

/// What the chart shows, in words: the peak and who held it, and who had grown until then.
pub(super) fn told(points: &[Point]) -> Vec<String> {
    let Some(peak) = points.iter().max_by(|a, b| a.peak.cmp(&b.peak).then(b.at.cmp(&a.at))) else { return Vec::new() };
    let of =
        if peak.max == 0 { String::new() } else { format!(" of {} ({} %)", peak.max, u64::from(peak.peak) * 100 / u64::from(peak.max)) };
    let mut lines = vec![format!("peak {}{of} at {}{}", peak.peak, peak.at, listed(", held by ", &peak.top, ""))];
    if let Some((low, grown)) = grown(points, peak) {
        let text = listed(", most by ", &grown, "+");
        lines.push(format!("grew by {} since {}{text}", peak.peak - low.peak, low.at));
    }
    let drops: u64 = points.iter().fold(0, |sum, point| sum.saturating_add(point.drops));
    if drops > 0 {
        lines.push(format!("{drops} packets dropped because the table was full"));
    }
    lines
}

/// The lowest point before the peak, and by how much whom it names has grown since. Who was not named then held less than
/// the last that was, and is counted from there: it has grown at least so much.
fn grown<'a>(points: &'a [Point], peak: &Point) -> Option<(&'a Point, Vec<(Prefix, u32)>)> {
    let low = points.iter().filter(|point| point.at < peak.at).min_by(|a, b| a.peak.cmp(&b.peak).then(b.at.cmp(&a.at)))?;
    if low.peak >= peak.peak {
        return None;
    }
    let before: BTreeMap<Prefix, u32> = low.top.iter().copied().collect();
    let unnamed = low.top.last().filter(|_| low.top.len() >= palisade_core::flood::history::NAMED).map_or(0, |(_, flows)| *flows);
    let growth = peak.top.iter().map(|(prefix, flows)| (*prefix, flows.saturating_sub(before.get(prefix).copied().unwrap_or(unnamed))));
    let mut grown: Vec<(Prefix, u32)> = growth.filter(|(_, more)| *more > 0).collect();
    grown.sort_by_key(|(prefix, more)| (u32::MAX - more, *prefix));
    Some((low, grown))
}

fn listed(lead: &str, who: &[(Prefix, u32)], sign: &str) -> String {
    let names: Vec<String> = who.iter().map(|(prefix, flows)| format!("{} ({sign}{flows})", whom(prefix))).collect();
    if names.is_empty() { String::new() } else { format!("{lead}{}", names.join(", ")) }
}

/// A host without its length, a network with it.
pub(super) fn whom(prefix: &Prefix) -> String {
    if prefix.is_host() { prefix.addr().to_string() } else { prefix.to_string() }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 2026-11-22T17:00:00Z.
    const NOON: Stamp = Stamp(1_795_366_800_000);
    const PAPER: Paper = Paper { width: 16, height: 4, blocks: true };

    fn point(minute: u64, peak: u32, drops: u64, top: &[(&str, u32)]) -> Point {
        let top = top.iter().map(|(who, flows)| (who.parse().unwrap(), *flows)).collect();
        Point { at: NOON.plus(Span::secs(minute * 60)), grain: 60, peak, max: 1000, drops, top }
    }

    fn day() -> Vec<Point> {
        vec![
            point(0, 100, 0, &[("192.0.2.1/32", 60), ("192.0.2.2/32", 20)]),
            point(1, 250, 0, &[("192.0.2.1/32", 60)]),
            point(4, 500, 0, &[]),
            point(5, 1000, 7, &[("192.0.2.9/32", 800), ("192.0.2.1/32", 70), ("2001:db8:0:66::/64", 30)]),
            point(6, 990, 2, &[]),
            point(7, 40, 0, &[]),
        ]
    }

    #[test]
    fn a_flood_is_seen_with_its_drops_and_its_gap() {
        let lines = chart(&day(), NOON, NOON.plus(Span::secs(8 * 60)), PAPER);
        let text: Vec<&str> = lines.iter().map(|line| line.text.as_str()).collect();
        let expected = [
            "    1k ┤          ██▇▇",
            "       ┤          ████",
            "   500 ┤        ██████",
            "       ┤▃▃██    ██████▁▁",
            "     0 └────────────────",
            "        17:00   17:04   17:08 UTC",
            " drops            !!!!",
        ];
        assert_eq!(text, expected);
        assert!(lines[6].drops && !lines[0].drops);
    }

    #[test]
    fn without_unicode_it_is_ascii_and_without_drops_no_line_says_so() {
        let lines = chart(&day()[..3], NOON, NOON.plus(Span::secs(8 * 60)), Paper { blocks: false, ..PAPER });
        assert!(lines.iter().all(|line| line.text.is_ascii()), "{lines:?}");
        assert_eq!(lines.len(), 6);
        assert!(lines[3].text == "       |..##    ##", "{lines:?}");
    }

    #[test]
    fn nothing_measured_draws_nothing() {
        assert_eq!(chart(&[], NOON, NOON.plus(Span::secs(60)), PAPER), []);
        assert_eq!(told(&[]), Vec::<String>::new());
    }

    #[test]
    fn hostile_times_and_sizes_are_drawn_within_the_paper() {
        let mut points = day();
        points.push(Point { at: Stamp(i64::MAX), grain: u32::MAX, peak: u32::MAX, max: 0, drops: u64::MAX, top: Vec::new() });
        points.push(Point { at: Stamp(i64::MIN), grain: 0, peak: u32::MAX, max: u32::MAX, drops: u64::MAX, top: Vec::new() });
        for (from, until) in [(NOON, NOON), (NOON, Stamp(0)), (Stamp(i64::MIN), Stamp(i64::MAX))] {
            for width in [12, 13, 200] {
                let lines = chart(&points, from, until, Paper { width, height: 3, blocks: true });
                assert!(lines.iter().all(|line| line.text.chars().count() <= width + AXIS + 9), "{lines:?}");
            }
        }
        assert!(!told(&points).is_empty());
    }

    #[test]
    fn it_is_told_who_held_the_peak_and_who_grew() {
        assert_eq!(
            told(&day()),
            [
                "peak 1000 of 1000 (100 %) at 2026-11-22T17:05:00Z, held by 192.0.2.9 (800), 192.0.2.1 (70), 2001:db8:0:66::/64 (30)",
                "grew by 900 since 2026-11-22T17:00:00Z, most by 192.0.2.9 (+800), 2001:db8:0:66::/64 (+30), 192.0.2.1 (+10)",
                "9 packets dropped because the table was full",
            ]
        );
    }

    #[test]
    fn no_time_is_counted_twice() {
        let hour =
            |hour: u64, drops| Point { at: NOON.plus(Span::secs(hour * 3600)), grain: 3600, peak: 9, max: 10, drops, top: Vec::new() };
        let points = [hour(0, 5), hour(1, 6), point(30, 1, 5, &[]), point(119, 1, 6, &[]), point(121, 1, 1, &[])];
        let (from, until) = (NOON, NOON.plus(Span::secs(3 * 3600)));
        let drops = |fine| between(&points, from, until, fine).iter().map(|point| point.drops).sum::<u64>();
        assert_eq!((drops(true), drops(false)), (12, 12));
        assert_eq!(between(&points, NOON.plus(Span::secs(7200)), until, true).len(), 1);
    }

    #[test]
    fn counts_are_short() {
        let told = [0, 999, 1000, 1234, 9999, 131_072, 1_500_000, 4_294_967_295].map(short);
        assert_eq!(told, ["0", "999", "1k", "1.2k", "9.9k", "131k", "1.5M", "4.2G"]);
    }
}
