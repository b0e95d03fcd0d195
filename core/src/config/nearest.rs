//! "Did you mean": the known word nearest to a mistyped one.

use crate::attack::excerpt;

/// Longer words are not mistyped ones; bounds the work a hostile name can ask for.
const LONGEST: usize = 64;

/// How much of a user's text goes into a message, in characters.
const SHOWN: usize = 60;

/// What other programs and older habits call our keys: (theirs, what to write here).
const ELSEWHERE: [(&str, &str); 12] = [
    ("ignoreip", "`prefixes` in [allow]"),
    ("ignoreself", "`auto` in [allow]"),
    ("filter", "`signatures`"),
    ("logpath", "`files`"),
    ("log_path", "`files`"),
    ("journalmatch", "`journal`"),
    ("port", "`ports`"),
    ("banaction", "`backend` and `action` in [ban]"),
    ("maxtime", "`escalate = { max = ... }`"),
    ("bantime.increment", "`escalate`"),
    ("bantime.factor", "`escalate = { factor = ... }`"),
    ("max_bans", "`bans` in [limits]"),
];

/// Text from a file as part of a message: printable, on one line, not long.
pub(super) fn shown(text: &str) -> String {
    let printable = excerpt(text.as_bytes());
    match printable.char_indices().nth(SHOWN) {
        Some((at, _)) => format!("{}…", &printable[..at]),
        None => printable,
    }
}

/// `did you mean ...?` for a key, where there is something to say.
pub(super) fn key_hint(typed: &str, known: &[&str]) -> Option<String> {
    let elsewhere = ELSEWHERE.iter().find(|(theirs, _)| typed.eq_ignore_ascii_case(theirs));
    elsewhere.map(|(_, ours)| format!("here it is {ours}")).or_else(|| hint(typed, known))
}

/// `did you mean ...?` for any word.
pub(super) fn hint(typed: &str, known: &[&str]) -> Option<String> {
    nearest(typed, known).map(|word| format!("did you mean `{word}`?"))
}

/// The one of `known` that `typed` was probably meant to be: at most a third of its letters are
/// wrong. Case, `_` and `-` do not count. Of equally near ones, one with the same first letter.
pub(super) fn nearest<'a>(typed: &str, known: &[&'a str]) -> Option<&'a str> {
    if typed.len() > LONGEST {
        return None;
    }
    let typed = plain(typed);
    let allowed = (typed.len() / 3).max(1);
    let near = known.iter().map(|word| (distance(&typed, &plain(word)), *word));
    let other_start = |word: &str| plain(word).first() != typed.first();
    near.filter(|(d, word)| *d <= allowed && *d < word.len()).min_by_key(|(d, word)| (*d, other_start(word))).map(|(_, word)| word)
}

fn plain(word: &str) -> Vec<char> {
    word.chars().filter(|c| !matches!(c, '_' | '-')).flat_map(char::to_lowercase).collect()
}

/// How many letters to add, drop, change or swap with their neighbour to get from `a` to `b`.
fn distance(a: &[char], b: &[char]) -> usize {
    let mut before: Vec<usize> = Vec::new();
    let mut last: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.iter().enumerate() {
        let mut row = vec![i + 1];
        for (j, y) in b.iter().enumerate() {
            let mut best = (last[j] + usize::from(x != y)).min(last[j + 1] + 1).min(row[j] + 1);
            if i > 0 && j > 0 && *x == b[j - 1] && a[i - 1] == *y {
                best = best.min(before[j - 1] + 1);
            }
            row.push(best);
        }
        before = std::mem::replace(&mut last, row);
    }
    last[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn near_words_are_found_and_far_ones_are_not() {
        let known = ["max_retry", "ban_time", "find_time", "kill_states", "nftables"];
        for (typed, meant) in [
            ("maxretries", Some("max_retry")),
            ("maxretry", Some("max_retry")),
            ("bantime", Some("ban_time")),
            ("FindTime", Some("find_time")),
            ("nftalbes", Some("nftables")),
            ("kil_state", Some("kill_states")),
            ("banana", None),
            ("x", None),
            ("", None),
        ] {
            assert_eq!(nearest(typed, &known), meant, "{typed}");
        }
        assert_eq!(nearest(&"a".repeat(1000), &known), None);
    }

    #[test]
    fn distance_counts_edits() {
        let d = |a: &str, b: &str| distance(&a.chars().collect::<Vec<_>>(), &b.chars().collect::<Vec<_>>());
        assert_eq!((d("", "abc"), d("abc", ""), d("abc", "abc")), (3, 3, 0));
        assert_eq!((d("ab", "ba"), d("kitten", "sitting")), (1, 3));
    }
}
