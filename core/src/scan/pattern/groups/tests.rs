//! The regex crate says where groups are; so must this.

use proptest::prelude::*;
use regex::bytes::RegexBuilder;

use super::*;
use crate::scan::{Kind, builtin, formats::syslog};

/// What the regex crate says.
fn by_regex(pattern: &str, text: &[u8]) -> Option<Groups> {
    let regex = RegexBuilder::new(pattern).unicode(false).build().unwrap();
    let groups = regex.captures(text)?;
    let span = |name| groups.name(name).map(|group| (group.start(), group.end()));
    Some(Groups { addr: span("addr"), user: span("user"), time: span("time") })
}

fn same(pattern: &str, text: &[u8]) {
    let finder = Finder::new(pattern).unwrap_or_else(|| panic!("cannot do {pattern}"));
    let found = finder.find(text, &mut Trail::default());
    assert!(finder.begins(text) || found == Ok(None), "{pattern}");
    assert_eq!(found, Ok(by_regex(pattern, text)), "{pattern} over {}", String::from_utf8_lossy(text));
}

#[test]
fn what_is_preferred_is_taken() {
    for pattern in [
        "^(?P<user>.*)(?P<addr>[0-9]+)$",
        "^(?P<user>.*?)(?P<addr>[0-9]+)$",
        "^(?:in )?(?P<user>.*) from (?P<addr>[0-9.]{2,7})(?: x)?$",
        "^(?P<user>a|ab)(?P<addr>c|bcd)(?P<time>d*)$",
        "^(?:(?P<user>a)|(?P<addr>b)|(?P<time>ab))*$",
        "^(?:(?P<user>a*)(?P<addr>b*))*$",
        "^(?P<user>(?:a|b)*?)(?P<addr>b*)",
        "^(?P<user>.*?)(?P<addr>1)",
        "^(?P<user>a??)(?P<addr>a{2,3}?)(?P<time>a*)$",
        "^(?:(?P<time>1+) )?(?P<user>(?:[^\"\\\\]|\\\\.)*)\" (?P<addr>[0-9]*)$",
        "^(?:a$|(?P<user>a)b)",
        "^(?P<user>)$",
        "^(?:^|a)(?P<user>b?)$",
    ] {
        for text in [
            "",
            "a",
            "b",
            "ab",
            "abcd",
            "aab",
            "aaaa",
            "abab",
            "aabb",
            "a1",
            "12",
            "x 12",
            "in a from 1.1 x",
            "in  from 1.1",
            "a from 1 from 1.1 x from 1",
            "1 a\\\" b\" 1",
            "11 \" ",
            "in in x from 1 from 12",
            "1 1 1\" 1",
            "\n1",
        ] {
            same(pattern, text.as_bytes());
        }
    }
}

#[test]
fn a_field_may_go_on_and_on() {
    for pattern in [
        "^(?P<user>.*) from (?P<addr>[0-9.]{2,7})$",
        "^(?P<user>.*?) from (?P<addr>[0-9.]{2,7})(?P<time>.*)$",
        "^(?P<user>[^f]*)(?P<time>.*) (?P<addr>[0-9.]{2,7})$",
        "^(?P<user>(?:[^\"\\\\]|\\\\.)*)(?P<addr>[0-9.]{2,7})$",
    ] {
        for piece in ["x", "from ", " from 1.1", "\\\"", "7", "x\n"] {
            for times in [1000, 1023, 1024, 1025, 1039, 1040, 3000] {
                for end in ["", " from 1.1", " from 1.1 f", "7", " x 1.1"] {
                    same(pattern, format!("{}{end}", piece.repeat(times)).as_bytes());
                }
            }
        }
    }
}

#[test]
fn a_word_boundary_is_left_to_the_regex() {
    assert!(Finder::new("^(?P<user>.*)\\b(?P<addr>[0-9])$").is_none());
}

/// Each shipped rule, over its own lines, and over these cut, doubled and filled.
#[test]
fn every_shipped_pattern_finds_what_the_regex_finds() {
    let (mut tried, mut memory) = (0, super::super::Memory::default());
    for signature in builtin().iter().filter(|s| matches!(s.kind(), Kind::Plain | Kind::Syslog)) {
        let of = |line: &str| match signature.kind() {
            Kind::Plain => line.trim_ascii_end().as_bytes().to_vec(),
            _ => syslog::frame(line.as_bytes()).message.to_vec(),
        };
        for rule in signature.rules() {
            let crate::scan::signature::Test::Message(pattern) = &rule.test else { continue };
            let hits = rule.hits().iter().map(|hit| of(&hit.line)).chain(rule.misses().iter().map(|line| of(line)));
            for text in hits {
                let middle = text.len() / 2;
                let filled = [&text[..middle], &b"x from 203.0.113.9 port 1 \"".repeat(9), &text[middle..]].concat();
                for text in [text.clone(), [&text[..], b" ", &text].concat(), filled] {
                    assert_eq!(
                        pattern.groups(&text, &mut memory),
                        pattern.captured(&text),
                        "{}: {}",
                        rule.full_name(),
                        String::from_utf8_lossy(&text)
                    );
                    tried += 1;
                }
            }
        }
    }
    assert!(tried > 1000, "{tried}");
}

#[test]
fn too_many_states_are_not_decided() {
    // Backwards, each `b` may be the one that has thirty letters before it.
    let pattern = "^(?P<user>[ab]*)(?P<addr>1)[ab]{30}b[ab]*$";
    let finder = Finder::new(pattern).unwrap();
    let mut draw = 1u64;
    let letters = std::iter::repeat_with(|| {
        draw = draw.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        if draw >> 40 & 1 == 0 { b'a' } else { b'b' }
    });
    let text: Vec<u8> = letters.take(100_000).collect();
    assert_eq!(finder.find(&text, &mut Trail::default()), Err(Undecided));
    // The next one is.
    let short = [&b"ab1"[..], &text[..30], b"bab"].concat();
    assert!(by_regex(pattern, &short).is_some());
    assert_eq!(finder.find(&short, &mut Trail::default()), Ok(by_regex(pattern, &short)));
}

/// Patterns of the parts that signatures are made of.
fn pattern() -> impl Strategy<Value = String> {
    let leaf = prop_oneof![
        "[ab1 ]{1,3}",
        Just(".*".to_owned()),
        Just(".*?".to_owned()),
        Just("[^ ]*".to_owned()),
        Just("[a1]{1,3}".to_owned()),
        Just("[ab]+".to_owned()),
        Just("(?:a|ab|b)".to_owned()),
    ];
    let inner = leaf.prop_recursive(3, 12, 3, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 1..3).prop_map(|all| all.concat()),
            (inner.clone(), inner.clone()).prop_map(|(a, b)| format!("(?:{a}|{b})")),
            (inner, prop_oneof![Just("?"), Just("*"), Just("+?"), Just("??"), Just("{0,2}")])
                .prop_map(|(a, times)| format!("(?:{a}){times}")),
        ]
    });
    let end = prop_oneof![Just("$"), Just("")];
    (inner.clone(), inner.clone(), inner.clone(), inner.clone(), inner, end)
        .prop_map(|(a, b, c, d, e, end)| format!("^{a}(?P<time>{b})?(?P<user>{c}){d}(?P<addr>{e}){end}"))
}

proptest! {
    #[test]
    fn whatever_the_pattern(pattern in pattern(), texts in prop::collection::vec("[ab1 ]{0,12}", 1..8)) {
        let finder = Finder::new(&pattern).unwrap();
        for text in texts {
            prop_assert_eq!(finder.find(text.as_bytes(), &mut Trail::default()), Ok(by_regex(&pattern, text.as_bytes())), "{} over {}", pattern, text);
        }
    }
}
