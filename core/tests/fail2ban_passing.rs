//! Lines that are only passed by leave a filter as if it had looked at them.
//!
//! The same lines go through two sessions: one looks at each line, as fail2ban does, the other passes by what holds none
//! of the filter's needles. What both find must be the same, the moments too: they tell which date was the last, and
//! which template was tried first.

use std::sync::{Arc, LazyLock};

use palisade_core::attack::Sign;
use palisade_core::scan::fail2ban::{Definition, Failure, Filter};
use palisade_core::scan::{JailScan, Line, LogClock, Scanner};
use palisade_core::time::Stamp;
use proptest::prelude::*;

/// 2028-03-01 12:00 UTC: 29 February is over, and there was one.
const NOW: Stamp = Stamp(1_835_524_800_000);

/// What filters say of dates, one of each kind.
const PATTERNS: &[Option<&str>] = &[
    None,
    Some("{^LN-BEG}"),
    Some(r"^[^\[]*\[({DATE})"),
    Some(r"\[%d/%b/%Y:%H:%M:%S\]"),
    Some("%H:%M:%S"),
    Some("^%d%m%y %H%M%S"),
    Some(r"^(%b %d)? ?%H:%M:%S"),
    Some("{EPOCH}"),
    Some("EPOCH\n%Y-%m-%d %H:%M:%S"),
    Some("{NONE}"),
    Some(r"(?<=at )%H:%M:%S"),
];

fn filter(datepattern: Option<&str>, pref: bool) -> Filter {
    let definition = Definition {
        name: "door".to_owned(),
        failregex: [
            r"^.*(?:knock|[rR]ing)s? (?:by|from) <HOST>(?: as <F-USER>\S*</F-USER>)?\b",
            r"^.*\[\] no entry for <HOST>$",
            r"^(?:.*? )?(?:<F-MLFID>door</F-MLFID>: )?<F-NOFAIL>key</F-NOFAIL> shown by <F-USER>\S+</F-USER>",
        ]
        .map(str::to_owned)
        .into(),
        prefregex: pref.then(|| "^<F-MLFID>(?:.*? )?door</F-MLFID>:? ?<F-CONTENT>.+</F-CONTENT>$".to_owned()),
        ignoreregex: vec!["by 192.0.2.250".to_owned()],
        maxlines: 1,
        datepattern: datepattern.map(str::to_owned),
        ..Definition::default()
    };
    Filter::compile(&definition).unwrap_or_else(|error| panic!("{error}"))
}

/// Compiled once: with and without a prefregex.
static FILTERS: LazyLock<Vec<[Arc<Filter>; 2]>> =
    LazyLock::new(|| PATTERNS.iter().map(|pattern| [false, true].map(|pref| Arc::new(filter(*pattern, pref)))).collect());

fn date() -> impl Strategy<Value = String> {
    let two = |from: u32, to: u32| (from..to).prop_map(|n| format!("{n:02}"));
    // Mostly moments near one another, as in a log; now and then one that is none, or far away.
    let day = prop_oneof![20 => Just("01".to_owned()), 3 => Just(" 1".to_owned()), 2 => two(27, 32), 1 => Just("00".to_owned())];
    let month = prop_oneof![20 => Just(2), 5 => Just(1), 1 => 0_usize..12];
    let year = prop_oneof![20 => Just("2028"), 1 => Just("2027"), 1 => Just("0000")];
    let hour = prop_oneof![10 => Just("11".to_owned()), 3 => two(9, 13), 1 => two(0, 27)];
    let second = prop_oneof![10 => two(10, 20), 1 => two(0, 64)];
    (day, month, year, hour, two(50, 60), second, 0..22_u8).prop_map(|(day, month, year, hour, minute, second, kind)| {
        const NAMES: [&str; 12] = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
        let (name, number) = (NAMES[month], month + 1);
        let time = format!("{hour}:{minute}:{second}");
        match kind {
            0..8 => format!("{name} {day} {time} host "),
            8 => format!("{name} {day} {time} {year} "),
            9 => format!("{name} {day} {time}.0{second}: "),
            10..13 => format!("{year}-{number:02}-{day}T{time}.{minute}+01:00 "),
            13 => format!("{year}-{number:02}-{day} {time},{minute} UTC "),
            14 => format!("192.0.2.{second} - - [{day}/{name}/{year}:{time} +0000] "),
            15 => format!("192.0.2.{second} - - [{day}/{name}/{year}:{time}] "),
            16 => format!("{time} "),
            17 => format!("{day}{number:02}28 {hour}{minute}{second} "),
            18 => format!("18355{minute}8{second} "),
            19 => format!("é at {time} "),
            20 => format!("[{name} {day} {time}] "),
            _ => String::new(),
        }
    })
}

fn line() -> impl Strategy<Value = Vec<u8>> {
    let said = prop_oneof![
        12 => "(door: )?[a-z ]{0,12}",
        2 => Just("door: knocks from 192.0.2.7 as anna".to_owned()),
        2 => "(door )?RING by (192\\.0\\.2\\.250|198\\.51\\.100\\.[1-9])( as [ab])?",
        1 => Just("[] no entry for 203.0.113.5".to_owned()),
        1 => Just("] no entry for 203.0.113.5".to_owned()),
        1 => Just("door: key shown by anna".to_owned()),
        1 => "([0-9]{1,2}|Mar 01 11:55:12|11:55:13|[ :.,]2028|é+|[+-]01:00 Z|AM x)".prop_map(|text: String| text),
    ];
    let end = prop_oneof![8 => Just(&b""[..]), 1 => Just(&b"\r"[..]), 1 => Just(&b" \xff\xfe"[..])];
    (date(), said, end).prop_map(|(date, said, end)| [date.as_bytes(), said.as_bytes(), end].concat())
}

fn holds(text: &[u8], needles: &[String]) -> bool {
    let text = text.to_ascii_lowercase();
    needles.iter().any(|needle| memchr::memmem::find(&text, needle.as_bytes()).is_some())
}

/// What looking at each line finds, what passing by finds, and how many lines were passed by.
fn both(filter: &Filter, lines: &[Vec<u8>]) -> (Vec<Option<Failure>>, Vec<Option<Failure>>, usize) {
    let mut clock = LogClock::utc(NOW);
    let (mut one, mut other) = (filter.session(), filter.session());
    let (mut looked, mut passed, mut count) = (Vec::new(), Vec::new(), 0);
    for (number, line) in lines.iter().enumerate() {
        looked.push(filter.look(&mut one, Line::raw(line), &clock));
        passed.push(if !holds(line, filter.needles()) && filter.pass(&mut other, line, &clock) {
            count += 1;
            None
        } else {
            filter.look(&mut other, Line::raw(line), &clock)
        });
        // Now and then time goes on.
        if number % 16 == 15 {
            clock.now = Stamp(clock.now.0 + 45_000);
        }
    }
    (looked, passed, count)
}

fn attacks(scanner: &Scanner, lines: &[Vec<u8>], at_once: bool) -> Vec<(u64, String, Option<Stamp>)> {
    let mut state = scanner.state(LogClock::utc(NOW));
    let mut all = Vec::new();
    let mut note = |line: u64, sign: Sign| match sign {
        Sign::Attack(attack) => all.push((line, attack.addr.to_string(), attack.at)),
        Sign::Login(login) => panic!("{login:?}"),
    };
    if at_once {
        let block = lines.join(&b'\n');
        let count = scanner.scan_block(&mut state, (b"", &block), &mut |place, sign| note(place.line, sign));
        assert_eq!(count, block.split(|byte| *byte == b'\n').count() as u64 - u64::from(block.is_empty() || block.ends_with(b"\n")));
    } else {
        (0..).zip(lines).for_each(|(number, line)| scanner.scan(&mut state, Line::raw(line), &mut |sign| note(number, sign)));
    }
    all
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn passing_by_changes_nothing(lines in prop::collection::vec(line(), 1..80), pattern in 0..PATTERNS.len(), pref: bool) {
        let (looked, passed, _) = both(&FILTERS[pattern][usize::from(pref)], &lines);
        for ((looked, passed), number) in looked.iter().zip(&passed).zip(0..) {
            let text = || lines[..=number].iter().map(|line| String::from_utf8_lossy(line).into_owned()).collect::<Vec<_>>();
            prop_assert_eq!(looked, passed, "{:?} {:#?}", PATTERNS[pattern], text());
        }
    }

    /// A block at once, and a line at a time.
    #[test]
    fn a_block_says_what_its_lines_say(lines in prop::collection::vec(line(), 1..80), patterns in prop::collection::vec(0..PATTERNS.len(), 1..4)) {
        let filters = patterns.iter().map(|pattern| Arc::clone(&FILTERS[*pattern][0])).collect();
        let scanner = Scanner::new(&[JailScan { jail: "door".into(), signatures: Vec::new(), filters }]);
        let each = patterns.iter().map(|pattern| both(&FILTERS[*pattern][0], &lines).0).collect::<Vec<_>>();
        prop_assert_eq!(attacks(&scanner, &lines, true), attacks(&scanner, &lines, false));
        if patterns.len() == 1 && lines.len() <= 16 {
            let wanted = each[0].iter().zip(0..).filter_map(|(found, number)| {
                found.as_ref().and_then(|found| Some((number, found.addr?.to_string(), found.at)))
            });
            prop_assert_eq!(attacks(&scanner, &lines, true), wanted.collect::<Vec<_>>());
        }
    }
}

/// Of an ordinary log nearly all lines are passed by, whatever the template.
#[test]
fn ordinary_lines_are_passed_by() {
    for (pattern, before, after) in [
        (None, "Mar 01 11:50:", " host cron[7]: nothing"),
        (None, "2028-03-01T11:50:", ".123456+00:00 host cron[7]: nothing"),
        (None, "host [01/Mar/2028:11:50:", " +0000] nothing"),
        (Some("{^LN-BEG}"), "2028-03-01 11:50:", ",123 nothing"),
        (Some("%H:%M:%S"), "11:50:", " nothing"),
        (Some(r"^[^\[]*\[({DATE})"), "192.0.2.7 - - [01/Mar/2028:11:50:", " +0000] \"GET /\""),
    ] {
        let lines: Vec<Vec<u8>> = (0..180).map(|n| format!("{before}{:02}{after} {n}", n / 3).into_bytes()).collect();
        let (_, _, passed) = both(&filter(pattern, false), &lines);
        assert!(passed > 150, "{pattern:?} {before}: {passed}");
    }
}

/// A needle that stands there only once the date is cut out.
#[test]
fn what_stands_together_without_the_date_is_seen() {
    for (pattern, before, calm, told) in [
        (r"\[%d/%b/%Y:%H:%M:%S\]", "x kno[01/Mar/2028:11:50:00]c", "ker", "k by 203.0.113.5"),
        (r"^[^\[]*\[({DATE})", "x [01/Mar/2028:11:50:00", "]", "] no entry for 203.0.113.5"),
    ] {
        let filter = filter(Some(pattern), false);
        let line = |after: &str| format!("{before}{after}").into_bytes();
        assert!(!holds(&line(told), filter.needles()), "{told}");
        let lines = [vec![line(calm); 8], vec![line(told)]].concat();
        let (looked, passed, _) = both(&filter, &lines);
        assert!(looked[8].is_some(), "{told}");
        assert_eq!(looked, passed);
    }
}

#[test]
fn the_last_date_is_the_last_that_was_one() {
    let filter = filter(None, false);
    let at = |lines: &[&str]| {
        let mut lines: Vec<Vec<u8>> = lines.iter().map(|line| line.as_bytes().to_vec()).collect();
        lines.push(b"knock by 203.0.113.5".to_vec());
        let (looked, passed, count) = both(&filter, &lines);
        assert_eq!(looked, passed);
        (looked.last().cloned().flatten().and_then(|found| found.at).map(|at| (at.0 - NOW.0) / 1000), count)
    };
    let calm = ["Mar 01 11:59:10 x", "Mar 01 11:59:11 x", "Mar 01 11:59:12 x"];
    assert_eq!(at(&calm).0, Some(-48));
    assert!(at(&calm).1 >= 1);
    // Second 60 is none, and 59 s are less than a minute.
    assert_eq!(at(&[&calm[..], &["Mar 01 11:59:60 x"]].concat()).0, Some(-48));
    assert_eq!(at(&[&calm[..], &["Mar 01 11:59:01 x"]].concat()).0, Some(-59));
    assert_eq!(at(&[&calm[..], &["Mar 01 11:59:00 x"]].concat()).0, None);
    assert_eq!(at(&[&calm[..], &["x"]].concat()).0, Some(-48));
}
