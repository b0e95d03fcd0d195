//! At which moment a line counts.

use crate::time::Stamp;

/// The moment at which a line counts that says it was `written` then, and came at `arrived`.
///
/// | line | counts at |
/// |---|---|
/// | live | its arrival: that moment is certain, whatever zone or clock wrote the line |
/// | of a backlog (`catching_up`) | when it was written, but never later than it came |
/// | of a backlog, without a time | its arrival |
///
/// So failures of an hour that are read within a second do not look like a storm, and one that was
/// written long ago does not count as one of now. fail2ban comes to the same by another way: a live
/// line more than 60 s off counts as now, and while it catches up, lines older than `findtime` are skipped.
#[must_use]
pub fn counts_at(written: Option<Stamp>, arrived: Stamp, catching_up: bool) -> Stamp {
    written.filter(|_| catching_up).map_or(arrived, |written| written.min(arrived))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_live_line_counts_when_it_came_and_an_old_one_when_it_was_written() {
        let (old, now, ahead) = (Stamp(1000), Stamp(9000), Stamp(10_000));
        assert_eq!(counts_at(Some(old), now, false), now);
        assert_eq!(counts_at(Some(old), now, true), old);
        assert_eq!(counts_at(Some(ahead), now, true), now);
        assert_eq!(counts_at(None, now, true), now);
    }
}
