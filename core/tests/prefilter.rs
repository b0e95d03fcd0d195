//! The one pass before all signatures passes nothing over, and costs no memory on what is innocent.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::sync::{Arc, LazyLock};

use palisade_core::attack::Sign;
use palisade_core::scan::{JailScan, Line, LogClock, Reason, Scanner, builtin};
use palisade_core::time::Stamp;
use proptest::prelude::*;

/// Counts what each thread asks for.
struct Counting;

thread_local! {
    static ASKED: Cell<u64> = const { Cell::new(0) };
}

fn count() {
    // A thread that ends has nothing left to count with.
    let _ = ASKED.try_with(|asked| asked.set(asked.get() + 1));
}

// SAFETY: everything is handed to the system's allocator as it came.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count();
        // SAFETY: the caller's promise is the same.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        // SAFETY: the caller's promise is the same.
        unsafe { System.dealloc(at, layout) }
    }

    unsafe fn realloc(&self, at: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count();
        // SAFETY: the caller's promise is the same.
        unsafe { System.realloc(at, layout, size) }
    }
}

#[global_allocator]
static COUNTING: Counting = Counting;

/// Needles shorter than this would stand in every other line.
const SHORTEST: usize = 3;

/// A jail of its own for each signature, so that each must say the same with the prefilter as without.
static EACH: LazyLock<Scanner> = LazyLock::new(|| {
    let jail = |s: &Arc<_>| JailScan::of(palisade_core::scan::Signature::name(s).into(), vec![Arc::clone(s)]);
    Scanner::new(&builtin().iter().map(jail).collect::<Vec<_>>())
});

/// All in one jail, as `palisade test` has them.
static ONE: LazyLock<Scanner> = LazyLock::new(|| Scanner::new(&[JailScan::of("one".into(), builtin().to_vec())]));

/// Every line that a shipped signature brings along.
static LINES: LazyLock<Vec<String>> = LazyLock::new(|| {
    let rules = || builtin().iter().flat_map(|signature| signature.rules());
    let hits = rules().flat_map(|rule| rule.hits()).map(|hit| hit.line.clone());
    hits.chain(rules().flat_map(|rule| rule.misses()).cloned()).collect()
});

/// Jail, rule and address: what a sign is about.
type About = (String, String, String);

fn about(sign: Sign) -> About {
    match sign {
        Sign::Attack(attack) => (attack.jail.to_string(), attack.signature.to_string(), attack.addr.to_string()),
        Sign::Login(login) => (login.jail.to_string(), login.signature.to_string(), login.addr.to_string()),
    }
}

fn scanned(scanner: &Scanner, line: &[u8]) -> Vec<About> {
    let mut all = Vec::new();
    scanner.scan(&mut scanner.state(LogClock::utc(Stamp(0))), Line::raw(line), &mut |sign| all.push(about(sign)));
    all
}

/// What each signature says when it is asked without a prefilter.
fn asked(line: &[u8]) -> Vec<About> {
    let found = builtin().iter().filter_map(|s| Some((s.name().to_owned(), s.find(Line::raw(line))?)));
    found.map(|(jail, found)| (jail, found.rule.full_name().to_string(), found.addr.to_string())).collect()
}

/// The same for a block, each with the text of its line and how many lines are before it.
fn block(scanner: &Scanner, block: &[u8]) -> (u64, Vec<(u64, Vec<u8>, About)>) {
    let mut all = Vec::new();
    let lines = scanner.scan_block(&mut scanner.state(LogClock::utc(Stamp(0))), (b"/log", block), &mut |place, sign| {
        all.push((place.line, block[place.bytes].to_vec(), about(sign)));
    });
    (lines, all)
}

#[test]
fn every_shipped_rule_has_needles_worth_looking_for() {
    let mut wrong = Vec::new();
    for rule in builtin().iter().flat_map(|signature| signature.rules()) {
        let needles = rule.needles();
        if needles.is_empty() || needles.texts.iter().any(|text| text.len() < SHORTEST) {
            wrong.push(format!("{}: {needles:?}", rule.full_name()));
        }
    }
    assert!(wrong.is_empty(), "these would be asked about every line: {wrong:#?}");
}

#[test]
fn shipped_lines_say_the_same_with_and_without() {
    let text = LINES.join("\n") + "\n";
    let (count, signs) = block(&EACH, text.as_bytes());
    assert_eq!(count, text.lines().count() as u64);
    let mut wanted = Vec::new();
    for (number, line) in text.lines().enumerate() {
        assert_eq!(scanned(&EACH, line.as_bytes()), asked(line.as_bytes()), "{line}");
        wanted.extend(asked(line.as_bytes()).into_iter().map(|about| (number as u64, line.as_bytes().to_vec(), about)));
    }
    assert!(wanted.len() >= builtin().len());
    assert_eq!(signs, wanted);
}

#[test]
fn what_matches_nothing_costs_no_allocation() {
    // Where a pattern matches and only the address is none, the groups were taken out before that was seen.
    let nobody = |line: &str| ONE.explain(Line::raw(line.as_bytes())).trials.iter().any(|t| matches!(t.reason, Reason::NoAddress { .. }));
    let calm: Vec<&String> = LINES.iter().filter(|line| scanned(&ONE, line.as_bytes()).is_empty() && !nobody(line)).collect();
    assert!(calm.len() > 20);
    let padding = ["Nov 22 17:00:00 host cron[7]: (root) CMD (run-parts)".to_owned(), "x".repeat(9000), String::new()];
    let text: String = calm.into_iter().chain(&padding).map(|line| format!("{line}\n")).collect::<String>().repeat(40);
    assert!(text.len() > 100_000, "long enough to be cut into lanes");
    let mut state = ONE.state(LogClock::utc(Stamp(0)));
    let mut run = || {
        let before = ASKED.get();
        ONE.scan_block(&mut state, (b"/log", text.as_bytes()), &mut |_, sign| panic!("{sign:?}"));
        for line in text.lines() {
            ONE.scan(&mut state, Line::raw(line.as_bytes()), &mut |sign| panic!("{sign:?}"));
        }
        ASKED.get() - before
    };
    // The first time regexes build what they keep.
    run();
    assert_eq!(run(), 0);
    let before = ASKED.get();
    drop(std::hint::black_box(vec![1u8]));
    assert_eq!(ASKED.get() - before, 1, "the counter counts");
}

/// A line of the shipped ones with a piece replaced, or two of them joined.
fn line() -> impl Strategy<Value = Vec<u8>> {
    let shipped = || any::<prop::sample::Index>().prop_map(|index| index.get(&LINES).clone().into_bytes());
    let junk = prop_oneof![
        proptest::collection::vec(any::<u8>().prop_filter("one line", |b| *b != b'\n'), 0..8),
        Just(b" ".to_vec()),
        Just(b"\r".to_vec()),
        Just(b"invalid user ".to_vec()),
        Just(b" from 203.0.113.9 ".to_vec()),
    ];
    prop_oneof![
        2 => shipped(),
        4 => (shipped(), any::<prop::sample::Index>(), 0..6usize, junk).prop_map(|(line, at, cut, junk)| {
            let at = at.index(line.len() + 1);
            [&line[..at], &junk, line.get(at + cut..).unwrap_or_default()].concat()
        }),
        1 => (shipped(), shipped()).prop_map(|(a, b)| [a, b].concat()),
        2 => Just(b"Nov 22 17:00:00 host cron[7]: (root) CMD (run-parts)".to_vec()),
    ]
}

/// The same, in what containers' engines and loggers put around it.
fn wrapped() -> impl Strategy<Value = Vec<u8>> {
    let time = "2026-11-22T17:00:00Z";
    (line(), 0..8usize, any::<prop::sample::Index>()).prop_map(move |(line, how, at)| {
        let text = String::from_utf8_lossy(&line).replace(['\n', '\r'], " ");
        let at = (0..=at.index(text.len() + 1)).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0);
        let (head, tail) = text.split_at(at);
        match how {
            0 => format!("{{\"log\":{},\"stream\":\"stdout\",\"time\":\"{time}\"}}", serde_json::Value::from(text + "\n")),
            1 => format!("{{\"log\":{},\"stream\":\"stderr\",\"time\":\"{time}\"}}", serde_json::Value::from(head)),
            2 => format!("{time} stdout F {text}"),
            3 => format!("{time} stderr F {tail}"),
            4 => format!("{time} stderr P {head}"),
            5 => format!("{head}\u{1b}[1;31m{tail}\u{1b}[0m"),
            6 => format!("{time} stdout F {head}\u{1b}[1;31m{tail}"),
            _ => return line,
        }
        .into_bytes()
    })
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    /// Asking every signature, scanning line by line and scanning the block say the same of the same lines.
    #[test]
    fn nothing_is_passed_over(lines in proptest::collection::vec(line(), 0..80), ended: bool, crlf: bool) {
        let end: &[u8] = if crlf { b"\r\n" } else { b"\n" };
        let mut text = lines.join(end);
        if ended && !lines.is_empty() {
            text.extend(end);
        }
        let mut wanted = Vec::new();
        let mut count = 0;
        for (number, line) in text.split_inclusive(|b| *b == b'\n').enumerate() {
            let line = line.strip_suffix(b"\n").unwrap_or(line);
            let line = line.strip_suffix(b"\r").unwrap_or(line);
            let asked = asked(line);
            prop_assert_eq!(&scanned(&EACH, line), &asked);
            wanted.extend(asked.into_iter().map(|about| (number as u64, line.to_vec(), about)));
            count += 1;
        }
        prop_assert_eq!(block(&EACH, &text), (count, wanted));
    }

    /// Wrappings and colours hide nothing, and pieces of lines meet in a block as they do one by one.
    #[test]
    fn nothing_is_hidden(lines in proptest::collection::vec(wrapped(), 0..40)) {
        let mut state = EACH.state(LogClock::utc(Stamp(0)));
        let mut one_by_one = Vec::new();
        for (number, line) in lines.iter().enumerate() {
            let line = line.strip_suffix(b"\r").unwrap_or(line);
            let mut found = Vec::new();
            EACH.scan(&mut state, Line::raw(line).of_file(b"/log"), &mut |sign| found.push(about(sign)));
            let asked = asked(line);
            // Pieces say nothing alone, and something together.
            let piece = [&b"stderr"[..], b"{\"log\""].iter().any(|mark| line.windows(mark.len()).any(|part| part == *mark));
            prop_assert!(piece || found == asked, "{found:?} {asked:?}");
            one_by_one.extend(found.into_iter().map(|about| (number as u64, line.to_vec(), about)));
        }
        let text = lines.iter().flat_map(|line| [&line[..], b"\n"].concat()).collect::<Vec<u8>>();
        prop_assert_eq!(block(&EACH, &text), (lines.len() as u64, one_by_one));
    }
}
