//! Regexes with look-around, conditions or repeated groups: fail2ban's regexes are run by the same
//! machine ([`super::super::expression`]).
//!
//! A search that takes too many steps finds nothing.

use super::super::expression::Trial;
use super::parse::field;
use super::program::GROUPS;
use super::run::Hit;

/// A compiled regex.
#[derive(Debug)]
pub(super) struct Wild {
    regex: Trial,
    fields: Box<[(char, u8)]>,
}

impl Wild {
    pub(super) fn compile(regex: &str) -> Result<Self, String> {
        let regex = Trial::compile(regex).map_err(|error| error.to_string())?;
        if usize::try_from(regex.groups()).map_or(true, |groups| groups >= GROUPS) {
            return Err(format!("it has more than {} groups", GROUPS - 1));
        }
        let fields = regex.names().iter().filter_map(|(name, group)| Some((field(name)?, u8::try_from(*group).ok()?)));
        Ok(Self { fields: fields.collect(), regex })
    }

    /// The groups whose names say what they hold.
    pub(super) fn fields(&self) -> &[(char, u8)] {
        &self.fields
    }

    /// The leftmost match that begins at `from` or later. `^` is the text's start. Takes its steps from `left`.
    pub(super) fn search(&self, text: &str, from: usize, left: &mut usize) -> Option<Hit> {
        let found = self.regex.search(text, from, left)?;
        let mut places = found.chunks_exact(2).map(|pair| Some((pair[0]?, pair[1]?)));
        let (start, end) = places.next()??;
        let mut hit = Hit::new(start, end);
        for (group, place) in (1u8..).zip(places) {
            if let Some((start, end)) = place {
                hit.note(group, start, end);
            }
        }
        Some(hit)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_search_that_would_run_away_finds_nothing() {
        let wild = Wild::compile(r"(?:a+)+(?=b)(\d)").unwrap();
        assert!(wild.search(&"a".repeat(5000), 0, &mut { 1_000_000 }).is_none());
    }

    #[test]
    fn python_s_way_of_writing_is_understood() {
        for (regex, text, none) in [
            (r"\<\d{,3}\Z", "<123", "<1234"),
            (r"a{b}\{", "a{b}{", "ab{"),
            (r"[]\d[&-]{2}", "]&", "a&"),
            (r#"ts=\"\-"#, "ts=\"-", "ts=-"),
            (r"^[^]]+\Z", "a[b", "a]b"),
        ] {
            let wild = Wild::compile(regex).unwrap();
            let found = wild.search(text, 0, &mut { 1_000_000 }).map(|hit| (hit.start, hit.end));
            assert_eq!(found, Some((0, text.len())), "{regex}");
            assert!(wild.search(none, 0, &mut { 1_000_000 }).is_none(), "{regex} {none}");
        }
    }

    #[test]
    fn fields_are_found_from_a_place_on() {
        let wild = Wild::compile(r"(?=\d)(?P<Y>\d{4})-(?P<m>\d\d)").unwrap();
        assert_eq!(wild.fields(), [('Y', 1), ('m', 2)]);
        let hit = wild.search("2025-01 2026-11", 1, &mut { 1_000_000 }).unwrap();
        assert_eq!((hit.start, hit.group(1), hit.group(2)), (8, Some((8, 12)), Some((13, 15))));
        let first = Wild::compile(r"^(?=\d)(\d)").unwrap();
        assert!(first.search("1 2", 0, &mut { 1000 }).is_some() && first.search("1 2", 2, &mut { 1000 }).is_none());
    }

    #[test]
    fn a_name_that_stands_twice_and_too_many_groups_are_told() {
        assert!(Wild::compile(r"(?=x)(?P<Y>\d)(?P<Y>\d)").unwrap_err().contains('Y'));
        assert!(Wild::compile(&"(x)".repeat(GROUPS)).unwrap_err().contains("more than"));
    }
}
