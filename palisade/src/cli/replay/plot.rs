//! Attacks and bans over time, drawn with characters. Pure: counts in, lines out.

use palisade_core::replay::timeline::{Bucket, Timeline};
use palisade_core::time::{Span, Stamp};

use super::super::chart::{AXIS, Paper, eighths, label, short};
use super::super::print;
use super::show::span;

/// Characters of a time below the drawing, and how wide it must be for one in the middle.
const LABEL: usize = 5;
const WIDE: usize = 4 * LABEL;

/// The whole drawing.
pub(super) fn draw(timeline: &Timeline, from: Stamp, until: Stamp, paper: Paper) -> Vec<String> {
    let columns = timeline.columns(from, until, paper.width);
    let each = print::rough(Span::millis(until.since(from).as_millis() / columns.len().max(1) as u64));
    let mut lines = vec![format!("{}; a column is {each}", span(from, until))];
    let attacks = |bucket: &Bucket| bucket.attacks;
    let bans = |bucket: &Bucket| bucket.bans;
    lines.extend(chart("attacks", &columns, attacks, paper.height, paper));
    lines.extend(chart("bans", &columns, bans, paper.height.div_ceil(2), paper));
    lines.push(times(from, until, paper.width));
    lines.push(String::new());
    lines
}

fn chart(name: &str, columns: &[Bucket], of: impl Fn(&Bucket) -> u64, height: usize, paper: Paper) -> Vec<String> {
    let top = columns.iter().map(&of).max().unwrap_or(0);
    if top == 0 {
        return Vec::new();
    }
    let rows = (0..height).map(|row| {
        let label = if row == 0 { short(top) } else { String::new() };
        paper.row(row, height, &label, columns.iter().map(|bucket| eighths(of(bucket), top, height)))
    });
    rows.chain([paper.floor(name)]).collect()
}

/// Begin, middle and end: hours of up to two days, days of more.
fn times(from: Stamp, until: Stamp, width: usize) -> String {
    let whole = until.since(from);
    let text = |at| label(at, whole);
    let half = if width >= WIDE { text(from.plus(Span::millis(whole.as_millis() / 2))) } else { " ".repeat(LABEL) };
    let left = (width / 2).saturating_sub(LABEL + LABEL / 2);
    let right = width.saturating_sub(left + 3 * LABEL);
    format!("{:>AXIS$}{}{}{half}{}{}", "", text(from), " ".repeat(left), " ".repeat(right), text(until))
}

#[cfg(test)]
mod tests {
    use super::*;
    use palisade_core::replay::timeline::What;

    /// 2026-11-22T17:00:00Z.
    const START: i64 = 1_795_366_800_000;

    fn day() -> Timeline {
        let mut line = Timeline::default();
        // Every second hour, more each time; a ban with the last.
        for hour in (0..16).step_by(2) {
            (0..=hour).for_each(|_| line.add(Stamp(START + hour * 3_600_000), What::Attack));
        }
        line.add(Stamp(START + 15 * 3_600_000), What::Ban);
        line
    }

    #[test]
    fn what_rises_is_seen_to_rise() {
        let until = Stamp(START + 16 * 3_600_000 - 1);
        let lines = draw(&day(), Stamp(START), until, Paper { width: 16, height: 2, blocks: true });
        let expected = [
            "2026-11-22T17:00:00Z to 2026-11-23T08:59:59Z (16h); a column is 1h",
            "    15 ┤        ▁ ▃ ▅ █",
            "       ┤▁ ▃ ▅ ▇ █ █ █ █",
            "     0 └─ attacks ──────",
            "     1 ┤               █",
            "     0 └─ bans ─────────",
            "        17:00      08:59",
            "",
        ];
        assert_eq!(lines, expected);
        let lines = draw(&day(), Stamp(START), until, Paper { width: 32, height: 2, blocks: true });
        assert_eq!(lines[6], "        17:00         00:59        08:59");
    }

    #[test]
    fn any_counts_and_times_fit_on_the_paper() {
        let mut line = day();
        line.add(Stamp(i64::MAX), What::KeptOut);
        for (from, until) in [(0, 0), (START, START + 1), (0, i64::MAX), (i64::MIN, i64::MAX), (5, -5)] {
            for (width, blocks) in [(16, true), (17, false), (160, true)] {
                let lines = draw(&line, Stamp(from), Stamp(until), Paper { width, height: 3, blocks });
                assert!(lines.iter().skip(1).all(|line| line.chars().count() <= width + AXIS + 1), "{lines:?}");
                assert!(blocks || lines.iter().all(|line| line.is_ascii()), "{lines:?}");
            }
        }
        assert_eq!(
            [0, 999, 1000, 1234, 131_072, 1_500_000, u64::MAX].map(short),
            ["0", "999", "1k", "1.2k", "131k", "1.5M", "18446744073G"]
        );
    }
}
