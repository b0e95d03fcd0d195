//! Any lines of one file through every shipped signature: raw, in blocks, as journal records, and why
//! they do or do not match. Whatever comes of a line is the same either way, at most one sign for a
//! jail, of bounded size, and blames an address that stands in the text.

mod evidence;

use std::sync::LazyLock;

use palisade_core::attack::{EXCERPT, Sign};
use palisade_core::net::Addr;
use palisade_core::scan::{JailScan, Line, LogClock, Reason, ScanState, Scanner, builtin};
use palisade_core::time::Stamp;

use evidence::Evidence;

static SCANNER: LazyLock<Scanner> = LazyLock::new(|| Scanner::new(&[JailScan::of("fuzz".into(), builtin().to_vec())]));

/// An excerpt ends with the character that is too much and a mark of three bytes.
const TEXT_MAX: usize = EXCERPT + 16;

fn state() -> ScanState {
    SCANNER.state(LogClock::utc(Stamp(1_795_366_800_000)))
}

fn scanned(state: &mut ScanState, line: Line<'_>) -> Vec<Sign> {
    let mut signs = Vec::new();
    SCANNER.scan(state, line, &mut |sign| signs.push(sign));
    assert!(signs.len() <= 1, "{signs:?}");
    signs
}

fn addr(sign: &Sign) -> Addr {
    match sign {
        Sign::Attack(attack) => attack.addr,
        Sign::Login(login) => login.addr,
    }
}

/// What is kept and shown of a line is small and printable, however the line was.
fn bounded(sign: &Sign) {
    let (user, line) = match sign {
        Sign::Attack(attack) => (&attack.user, &attack.line),
        Sign::Login(login) => (&login.user, &login.line),
    };
    for text in user.iter().chain([line]) {
        assert!(text.len() <= TEXT_MAX && !text.chars().any(char::is_control), "{} bytes", text.len());
    }
}

/// So many lines of an input are tried alone too, and so many explained: each takes as long as all of the rest.
const ALONE: usize = 24;
const EXPLAINED: usize = 2;

/// Whether an engine may have put something around it: then it may be a piece of a line.
fn may_be_a_piece(line: &[u8]) -> bool {
    line.starts_with(b"{") || [&b" stdout "[..], b" stderr "].iter().any(|stream| line.windows(8).any(|part| part == *stream))
}

/// Why a line matched is told of those that did, and of no others.
fn explained(line: &[u8], signs: &[Sign]) {
    let matched = SCANNER.explain(Line::raw(line)).trials.into_iter().filter_map(|trial| match trial.reason {
        Reason::Match { addr, .. } => Some(addr),
        _ => None,
    });
    let matched: Vec<Addr> = matched.collect();
    let told = signs.iter().all(|sign| matched.contains(&addr(sign))) && signs.is_empty() == matched.is_empty();
    assert!(told, "explained: {matched:?}, found: {signs:?}");
}

/// Tries one input.
pub fn run(bytes: &[u8]) {
    let lines: Vec<&[u8]> = bytes.split(|b| *b == b'\n').map(|line| line.strip_suffix(b"\r").unwrap_or(line)).collect();
    let (mut one_by_one, mut evidence) = (Vec::new(), Evidence::default());
    let mut together = state();
    let mut alone = ALONE;
    for (number, line) in (0u64..).zip(&lines) {
        let signs = scanned(&mut together, Line::raw(line));
        evidence.add(line);
        for sign in &signs {
            bounded(sign);
            assert!(evidence.holds(addr(sign)), "{sign:?} of {:?}", String::from_utf8_lossy(line));
        }
        if !line.is_empty() && !may_be_a_piece(line) && alone > 0 {
            alone -= 1;
            // What is a line of its own means the same wherever it stands, and `explain` says so too.
            assert_eq!(scanned(&mut state(), Line::raw(line)), signs, "alone");
            if alone >= ALONE - EXPLAINED {
                explained(line, &signs);
            }
        }
        one_by_one.extend(signs.into_iter().map(|sign| (number, sign)));
    }
    let (mut in_a_block, mut places) = (Vec::new(), Vec::new());
    let count = SCANNER.scan_block(&mut state(), (b"", bytes), &mut |place, sign| {
        places.push((place.line, place.bytes.clone()));
        in_a_block.push((place.line, sign));
    });
    // What follows the last newline is a line only if there is something.
    assert_eq!(count, lines.len() as u64 - u64::from(lines.last().is_none_or(|last| last.is_empty() && !bytes.ends_with(b"\r"))));
    assert_eq!(in_a_block, one_by_one);
    for (line, place) in places {
        assert_eq!(bytes.get(place), usize::try_from(line).ok().and_then(|line| lines.get(line)).copied());
    }
    // A record's message is no line: nothing around it is taken off.
    let (program, message) = bytes.iter().position(|b| *b == b' ').map_or((&b"sshd"[..], bytes), |at| (&bytes[..at], &bytes[at + 1..]));
    for program in [Some(&b"sshd"[..]), Some(program), None] {
        let mut evidence = Evidence::default();
        evidence.add(message);
        for sign in scanned(&mut state(), Line::journal(program, None, message, None)) {
            bounded(&sign);
            assert!(evidence.holds(addr(&sign)), "{sign:?} of a record");
        }
    }
}
