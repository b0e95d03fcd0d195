//! What is drawn over time with characters: the pieces that every such drawing is made of.

use std::io::{self, IsTerminal};

use palisade_core::time::{Span, Stamp};

/// Columns left of a chart: a label of six and the axis.
pub(super) const AXIS: usize = 8;

/// Lower blocks, an eighth of a row more each (Unicode, block elements U+2581 to U+2588).
const BLOCKS: [char; 9] = [' ', '▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
/// The same without Unicode.
const ASCII: [char; 9] = [' ', '.', '.', '.', ':', ':', '|', '|', '#'];

/// How large a chart is, and with which characters it may be drawn.
#[derive(Clone, Copy, Debug)]
pub(super) struct Paper {
    /// Columns of the chart itself, without its axis.
    pub(super) width: usize,
    /// Rows of the chart itself.
    pub(super) height: usize,
    /// Whether block characters can be shown; else ASCII.
    pub(super) blocks: bool,
}

impl Paper {
    /// As wide as the terminal less what stands `beside` the chart, within reason.
    pub(super) fn of_terminal(beside: usize, widest: usize, height: usize) -> Self {
        let columns = if io::stdout().is_terminal() { columns().unwrap_or(80) } else { 80 };
        Self { width: columns.saturating_sub(beside).clamp(16, widest), height, blocks: blocks() }
    }

    /// One row of a chart that is `height` rows high, of columns so many eighths of a row high.
    pub(super) fn row(self, row: usize, height: usize, label: &str, columns: impl Iterator<Item = usize>) -> String {
        let (glyphs, axis) = if self.blocks { (BLOCKS, '┤') } else { (ASCII, '|') };
        // In eighths of a row, from the bottom.
        let below = (height - 1 - row) * 8;
        let cells: String = columns.map(|high| glyphs[high.saturating_sub(below).min(8)]).collect();
        format!("{label:>6} {axis}{}", cells.trim_end())
    }

    /// The line below the rows, with a name in it or none.
    pub(super) fn floor(self, name: &str) -> String {
        let (corner, rule) = if self.blocks { ('└', '─') } else { ('+', '-') };
        let name = if name.is_empty() { String::new() } else { format!("{rule} {name} ") };
        let rest = self.width.saturating_sub(name.chars().count());
        format!("{:>6} {corner}{name}{}", "0", rule.to_string().repeat(rest))
    }
}

#[cfg(target_os = "linux")]
fn columns() -> Option<usize> {
    crossterm::terminal::size().ok().map(|(columns, _)| usize::from(columns))
}

#[cfg(not(target_os = "linux"))]
fn columns() -> Option<usize> {
    None
}

/// Whether the locale's characters are UTF-8 (setlocale(3): the first of these that is set).
fn blocks() -> bool {
    let set = ["LC_ALL", "LC_CTYPE", "LANG"].into_iter().filter_map(std::env::var_os).find(|value| !value.is_empty());
    set.is_some_and(|value| {
        let value = value.to_string_lossy().to_lowercase();
        value.contains("utf-8") || value.contains("utf8")
    })
}

/// How high a column is, in eighths of a row. Whatever there was shows at least one.
pub(super) fn eighths(count: u64, top: u64, height: usize) -> usize {
    let high = u128::from(count) * 8 * height as u128 / u128::from(top.max(1));
    usize::try_from(high).unwrap_or(usize::MAX).max(usize::from(count > 0))
}

/// A moment in five characters: hours where the whole is up to two days, days where it is more.
pub(super) fn label(at: Stamp, whole: Span) -> String {
    let text = at.to_string();
    let part = if whole <= Span::secs(2 * 86_400) { text.get(11..16) } else { text.get(5..10) };
    part.unwrap_or_default().to_owned()
}

/// A count in at most five characters: `950`, `1.2k`, `131k`, `1.5M`.
pub(super) fn short(count: u64) -> String {
    let (unit, name) = match count {
        0..1000 => return count.to_string(),
        1000..1_000_000 => (1000, 'k'),
        1_000_000..1_000_000_000 => (1_000_000, 'M'),
        _ => (1_000_000_000, 'G'),
    };
    match (count / unit, count % unit * 10 / unit) {
        (whole @ 0..10, tenth @ 1..) => format!("{whole}.{tenth}{name}"),
        (whole, _) => format!("{whole}{name}"),
    }
}
