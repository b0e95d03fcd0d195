//! What is expected here was found by fail2ban itself, asked about these lines.

use std::sync::LazyLock;

use jiff::tz::TimeZone;
use proptest::prelude::*;

use super::*;

/// 14 August 2005, 12:00 in Berlin: the moment at which fail2ban's own tests run.
const NOW: Stamp = Stamp(1_124_013_600_000);

fn clock() -> LogClock {
    LogClock::new(TimeZone::posix("CET-1CEST,M3.5.0,M10.5.0/3").unwrap(), NOW)
}

/// What is cut out of a line, and its moment in seconds.
fn found(pattern: Option<&str>, line: &str) -> Option<(String, Option<i64>)> {
    let detector = Detector::compile(pattern).unwrap();
    seen(&detector, &mut DateMemory::default(), line)
}

fn seen(detector: &Detector, memory: &mut DateMemory, line: &str) -> Option<(String, Option<i64>)> {
    let found = detector.find(memory, line, &clock())?;
    Some((line[found.start..found.end].to_owned(), found.at.map(|at| at.0 / 1000)))
}

fn date(text: &str, at: i64) -> Option<(String, Option<i64>)> {
    Some((text.to_owned(), Some(at)))
}

#[test]
fn each_default_template_finds_its_date() {
    for (text, at) in [
        ("2005-01-23T20:59:59.252Z", 1_106_513_999),
        ("2005-01-23T15:59:59-05:00", 1_106_513_999),
        ("2005/01/23 21:59:59", 1_106_513_999),
        ("Jan 23 21:59:59", 1_106_513_999),
        ("Sun Jan 23 21:59:59.011 2005", 1_106_513_999),
        ("Sun Jan 23 2005 21:59:59", 1_106_513_999),
        ("23/01/05 21:59:59", 1_106_513_999),
        ("23/Jan/2005:21:59:59 +0100", 1_106_513_999),
        ("23-Jan-2005 21:59:59.02", 1_106_513_999),
        ("01/23/2005:21:59:59", 1_106_513_999),
        ("01-23-2005 21:59:59.252", 1_106_513_999),
        ("1106513999.000", 1_106_513_999),
        ("11:59:59", 1_124_013_599),
        ("<01/23/05@21:59:59>", 1_106_513_999),
        ("050123 21:59:59", 1_106_513_999),
        ("Jan 23, 2005 9:59:59 PM", 1_106_513_999),
        ("Jan-23-05 21:59:59", 1_106_513_999),
        ("20050123T215959", 1_106_513_999),
        ("20050123-21:59:59", 1_106_513_999),
        ("PDT Jan 23 13:59:59", 1_106_513_999),
        ("+01:00 Jan 23 21:59:59.011 2005", 1_106_513_999),
        ("@4000000041f4104f00000000", 1_106_513_999),
    ] {
        assert_eq!(found(None, &format!("{text} host a.b[12]: who from 192.0.2.7")), date(text, at), "{text}");
    }
}

#[test]
fn a_date_needs_an_edge_on_both_sides_and_up_to_two_signs_before_it_are_left() {
    assert_eq!(found(None, "##Jan 23 21:59:59] x"), date("Jan 23 21:59:59", 1_106_513_999));
    assert_eq!(found(None, "x to Jan 23 21:59:59 y"), date("Jan 23 21:59:59", 1_106_513_999));
    for line in ["xJan 23 21:59:59", "éJan 23 21:59:59", "Jan 23 21:59:59x", "_2005-01-23 21:59:59", "no date", "", "«»", "12:34"] {
        assert_eq!(found(None, line), None, "{line}");
    }
}

#[test]
fn what_is_left_out_is_taken_from_the_clock() {
    for (pattern, line, at) in [
        ("%H:%M:%S", "21:59:59", 1_123_963_199),
        ("%H:%M:%S", "00:00:01", 1_123_970_401),
        ("%m/%d %H:%M:%S", "09/01 21:59:59", 1_094_068_799),
        ("%Y-%m-%d", "2004-09-01", 1_093_989_600),
        ("%j %H:%M:%S", "060 12:00:00", 1_109_674_800),
        ("^%y %U %A %H:%M:%S", "01 11 Wednesday 21:59:59", 985_208_399),
        ("^%y %W %w %H:%M:%S", "01 11 0 21:59:59", 984_949_199),
        ("%B %Exd %I:%M:%S %p", "january 23 12:59:59 am", 1_106_438_399),
        ("%Y-%m-%d %H:%M:%S(?: ?%Exz)?", "2017-01-23 15:00:00 CET+0130", 1_485_174_600),
    ] {
        assert_eq!(found(Some(pattern), line), date(line, at), "{pattern} {line}");
    }
    assert_eq!(found(Some("%Y-%m-%d %H:%M:%S"), "x 2005-02-30 10:00:00"), Some(("2005-02-30 10:00:00".to_owned(), None)));
}

#[test]
fn the_first_group_is_what_is_cut_out() {
    assert_eq!(found(Some(r"^t=(%Y-%m-%d),"), "t=2004-09-01, x"), date("2004-09-01", 1_093_989_600));
    assert_eq!(found(Some(r"\[%Y-%m-%d\]"), "a[2004-09-01]b"), date("[2004-09-01]", 1_093_989_600));
    assert_eq!(found(Some("{UNB}%Y-%m-%d"), "a2004-09-01b"), date("2004-09-01", 1_093_989_600));
    assert_eq!(found(Some("**%Y-%m-%d"), "a2004-09-01b"), None);
    assert_eq!(found(Some("**%Y-%m-%d**"), "a2004-09-01b"), date("2004-09-01", 1_093_989_600));
    assert_eq!(found(Some(r"^[^\[]*\[({DATE})"), "a b [23/Jan/2005:21:59:59 +0100] c"), date("23/Jan/2005:21:59:59 +0100", 1_106_513_999));
    assert_eq!(found(Some(r"(?<=\|\s){LEPOCH}(?=\s\|)"), "a | 1106513999123 | b"), date("1106513999123", 1_106_513_999));
    assert_eq!(found(Some("{NONE}"), "2004-09-01 x"), Some((String::new(), None)));
    assert_eq!(found(Some("%H:%M\n^WARN()**"), "WARN x"), Some((String::new(), None)));
}

#[test]
fn a_pattern_that_cannot_be_used_says_why() {
    for (pattern, why) in [
        ("%Y-%Q", "`%Q`"),
        ("(%Y", "cannot be used"),
        ("%H %H", "twice"),
        ("%Y\n%Y", "twice"),
        ("^[({DATE}", "cannot be used"),
        (&"%Y".repeat(3000), "longer"),
    ] {
        let error = Detector::compile(Some(pattern)).unwrap_err().to_string();
        assert!(error.contains(why), "{pattern}: {error}");
    }
}

#[test]
fn a_date_that_somebody_sent_is_not_taken_for_the_line_s() {
    let detector = Detector::compile(None).unwrap();
    let mut memory = DateMemory::default();
    let lines = [
        ("host db[10]: 050807  0:04:00 who", "050807  0:04:00"),
        ("host db[10]: 050807  0:04:01 who 2003-03-07 17:05:01", "050807  0:04:01"),
        ("host db[10]: 050807  0:04:02 who Aug  1 00:00:00", "050807  0:04:02"),
    ];
    for (line, text) in lines.iter().cycle().take(30) {
        assert_eq!(seen(&detector, &mut memory, line).unwrap().0, *text, "{line}");
    }
    // Where the service changes its ways, the nearest date counts.
    let (line, text) = ("host db[10]: 2005-08-07 06:09:42 who", "2005-08-07 06:09:42");
    assert_eq!(seen(&detector, &mut memory, line).unwrap().0, text);
}

#[test]
fn whoever_makes_a_pattern_search_for_ever_finds_no_date() {
    let detector = Detector::compile(Some("[^x]*[^y]*[^z]*[^w]*%Y")).unwrap();
    let line = "a".repeat(20_000);
    assert_eq!(detector.find(&mut DateMemory::default(), &line, &clock()), None);
}

/// Pieces of dates and of what stands around them.
fn pieces() -> impl Strategy<Value = String> {
    let words = [
        "Aug",
        " 14 ",
        "Sun ",
        "2005",
        "-08-",
        "/Aug/",
        "11:59:59",
        "[",
        "@4000000041f4104f",
        "00000000",
        "1106513999",
        "UTC",
        " +0200",
        "é",
        "audit(",
    ];
    let piece = prop_oneof![prop::sample::select(words.to_vec()).prop_map(String::from), "[0-9]{1,3}", "[-/:., TxZ<>@]{1,2}"];
    prop::collection::vec(piece, 0..14).prop_map(|pieces| pieces.concat())
}

/// Compiled once for all cases.
static KNOWN: LazyLock<Vec<Detector>> = LazyLock::new(|| {
    let patterns = [None, Some("{^LN-BEG}"), Some("^[^\\[]*\\[({DATE})\n{DATE}\nLEPOCH")];
    patterns.into_iter().map(|pattern| Detector::compile(pattern).unwrap()).collect()
});

/// The default templates' regexes, each for both.
static ENGINES: LazyLock<Vec<(&str, program::Program, wild::Wild)>> = LazyLock::new(|| {
    let regexes = defaults::ALL.iter().filter_map(|template| template.regex());
    regexes.map(|regex| (regex, program::Program::compile(regex).unwrap(), wild::Wild::compile(regex).unwrap())).collect()
});

proptest! {
    #[test]
    fn any_text_may_come(lines in prop::collection::vec(prop_oneof![pieces(), any::<String>()], 1..8), pattern in prop_oneof![pieces(), any::<String>(), "[%a-zA-Z(){}|?*^$\\\\\\[\\].+]{0,24}"]) {
        let own = Detector::compile(Some(&pattern));
        for detector in KNOWN.iter().chain(&own) {
            let mut memory = DateMemory::default();
            for line in &lines {
                if let Some(found) = detector.find(&mut memory, line, &clock()) {
                    prop_assert!(line.get(found.start..found.end).is_some());
                }
            }
        }
    }

    #[test]
    fn the_walker_finds_what_the_regex_engine_finds(line in pieces(), from in 0usize..4) {
        for (regex, program, wild) in ENGINES.iter() {
            let groups = |hit: Hit| (hit.start, hit.end, (1..24).map(|group| hit.group(group)).collect::<Vec<_>>());
            if line.is_char_boundary(from.min(line.len())) {
                let from = from.min(line.len());
                prop_assert_eq!(program.search(line.as_bytes(), from, &mut { 1_000_000 }).map(groups), wild.search(&line, from, &mut { 1_000_000 }).map(groups), "{} {}", regex, line);
            }
        }
    }
}
