//! From the line a source delivers to the line a program wrote.
//!
//! | around or within it | what is done |
//! |---|---|
//! | a container engine's wrapping ([`container`]) | taken off; pieces of a long line are joined |
//! | colours (`ESC [ ... m`, ECMA-48 8.3.117) | taken out: loggers paint levels and names |
//! | a JSON object of a syslog daemon, below | the program and the message are taken from its fields |
//!
//! | daemon | program | message | time |
//! |---|---|---|---|
//! | rsyslog, by its documentation's templates | `programname` | `message` | `@timestamp`, `timestamp`, `timereported` |
//! | syslog-ng, format-json | `PROGRAM` | `MESSAGE` | `ISODATE`, `DATE` |
//! | journalctl -o json | `SYSLOG_IDENTIFIER` | `MESSAGE` | `__REALTIME_TIMESTAMP` |
//!
//! Each is done once, from the outside to the inside, and only where nothing stands before it: what
//! looks like a wrapping within a message is the text of whoever made the program write it. Of a
//! journal record only colours are taken out.

use std::collections::HashMap;

use super::formats::container::{self, Stream};
use super::formats::record::{Got, Record};
use super::formats::syslog::Frame;
use super::line::Line;

/// How long a line joined from pieces may be, as long as nobody says otherwise: the default of
/// `line` in `[limits]`. A longer one is dropped whole.
const CAP: usize = 16 * 1024;

/// Texts one of which each line holds in which something may be hidden, or which may be a piece:
/// Docker's and CRI's wrapping ([`container`]), a colour, the names of [`DAEMONS`].
pub(super) const MARKS: &[&[u8]] =
    &[b"{\"log\":\"", b"stdout F", b"stdout P", b"stderr F", b"stderr P", b"\x1b[", b"programname", b"PROGRAM", b"SYSLOG_IDENTIFIER"];

/// What was found in a line.
pub(super) enum Opened<'a> {
    /// The line as it is.
    AsIs(Line<'a>),
    /// This.
    Inner(Inner<'a>),
    /// A piece of a line that goes on, or the end of one that was too long.
    Pending,
}

/// What was found within a line that something was wrapped around.
pub(super) struct Inner<'a> {
    /// What the program wrote.
    pub(super) line: Line<'a>,
    /// When, says what was around it.
    pub(super) time: Option<&'a [u8]>,
    /// What a syslog daemon's object says.
    pub(super) daemon: Option<Frame<'a>>,
}

/// What is remembered from one line to the next, and memory.
#[derive(Debug)]
pub(super) struct Unwrapper {
    cap: usize,
    /// By file, those with a line that goes on, for each of the two outputs. Files that one jail reads
    /// share this, and what two programs write must never become one line.
    pieces: HashMap<Box<[u8]>, [Joined; 2]>,
    record: Record,
    text: Vec<u8>,
    /// Program, message and time of a daemon's object, one behind the other.
    parts: Vec<u8>,
}

/// The pieces of one output's line so far.
#[derive(Debug, Default)]
struct Joined {
    text: Vec<u8>,
    /// There is a piece.
    goes_on: bool,
    /// It has become longer than allowed.
    over: bool,
}

impl Default for Unwrapper {
    fn default() -> Self {
        Self { cap: CAP, pieces: HashMap::new(), record: Record::default(), text: Vec::new(), parts: Vec::new() }
    }
}

impl Unwrapper {
    /// How long a joined line may be.
    pub(super) fn set_cap(&mut self, cap: usize) {
        self.cap = cap;
    }

    /// A line of a file was dropped unread. If it was a piece, what follows it is the rest of a line:
    /// each output's next line end is taken for the end of that one.
    pub(super) fn dropped(&mut self, file: &[u8]) {
        let both = [true, true].map(|yes| Joined { text: Vec::new(), goes_on: yes, over: yes });
        self.pieces.insert(file.into(), both);
    }

    /// Opens one line.
    pub(super) fn open<'a>(&'a mut self, line: Line<'a>) -> Opened<'a> {
        let mut time = None;
        let mut inside = false;
        self.text.clear();
        if !line.is_record()
            && let Some(piece) = container::unwrap(line.text, &mut self.record)
        {
            if !join(&mut self.pieces, line.file(), &piece, self.cap, &mut self.text) {
                return Opened::Pending;
            }
            (time, inside) = (Some(piece.time), true);
        }
        if memchr::memchr(0x1b, if inside { &self.text } else { line.text }).is_some() {
            if !inside {
                self.text.extend_from_slice(line.text);
            }
            let before = self.text.len();
            strip_colours(&mut self.text);
            inside |= self.text.len() != before;
        }
        let text = if inside { &self.text } else { line.text };
        let daemon = if line.is_record() { None } else { daemon(text, &mut self.record, &mut self.parts) };
        if !inside && daemon.is_none() {
            return Opened::AsIs(line);
        }
        Opened::Inner(Inner { line: line.within(text), time, daemon: daemon.map(|cut| cut.of(&self.parts)) })
    }
}

/// Adds a piece to those of its file and output; whether `whole` is a whole line now.
fn join(pieces: &mut HashMap<Box<[u8]>, [Joined; 2]>, file: &[u8], piece: &container::Piece<'_>, cap: usize, whole: &mut Vec<u8>) -> bool {
    let which = usize::from(piece.stream == Stream::Err);
    let Some(both) = pieces.get_mut(file) else {
        if piece.ends {
            piece.append(whole);
            return true;
        }
        let mut both = <[Joined; 2]>::default();
        both[which].add(piece, cap);
        pieces.insert(file.into(), both);
        return false;
    };
    both[which].add(piece, cap);
    if !piece.ends {
        return false;
    }
    let Joined { text, over, .. } = std::mem::take(&mut both[which]);
    whole.extend_from_slice(&text);
    if both.iter().all(|joined| !joined.goes_on) {
        pieces.remove(file);
    }
    !over
}

impl Joined {
    fn add(&mut self, piece: &container::Piece<'_>, cap: usize) {
        self.goes_on = true;
        if !self.over {
            piece.append(&mut self.text);
            self.over = self.text.len() > cap;
        }
        if self.over {
            self.text = Vec::new();
        }
    }
}

/// So many bytes are looked at one by one before the next escape is searched for.
const NEAR: usize = 8;
/// Longest number of a colour: `38;2;255;255;255`.
const COLOUR: usize = 16;

/// Takes colours out; other sequences stay, and what is none too.
fn strip_colours(text: &mut Vec<u8>) {
    let (mut from, mut to) = (0, 0);
    while let Some(rest) = text.get(from..).filter(|rest| !rest.is_empty()) {
        let colour = rest.strip_prefix(b"\x1b[").and_then(|rest| {
            let digits = rest.iter().take(COLOUR).take_while(|b| b.is_ascii_digit() || **b == b';').count();
            (rest.get(digits) == Some(&b'm')).then_some(digits + 3)
        });
        match colour {
            Some(length) => from += length,
            None => {
                let (near, far) = rest[1..].split_at(NEAR.min(rest.len() - 1));
                let next = near.iter().position(|b| *b == 0x1b);
                let plain = 1 + next.unwrap_or_else(|| near.len() + memchr::memchr(0x1b, far).unwrap_or(far.len()));
                if to < from {
                    text.copy_within(from..from + plain, to);
                }
                (from, to) = (from + plain, to + plain);
            }
        }
    }
    text.truncate(to);
}

/// Where program, message and time end in their memory.
struct Cut {
    program: usize,
    message: usize,
}

impl Cut {
    fn of(self, parts: &[u8]) -> Frame<'_> {
        let (program, rest) = parts.split_at_checked(self.program).unwrap_or_default();
        let (message, time) = rest.split_at_checked(self.message).unwrap_or_default();
        Frame::once((!time.is_empty()).then_some(time), Some(program), message.trim_ascii())
    }
}

const DAEMONS: [(&str, &str, &[&str]); 3] = [
    ("programname", "message", &["@timestamp", "timestamp", "timereported"]),
    ("PROGRAM", "MESSAGE", &["ISODATE", "DATE"]),
    ("SYSLOG_IDENTIFIER", "MESSAGE", &["__REALTIME_TIMESTAMP"]),
];

/// The object of a syslog daemon: its parts are put into `parts`.
fn daemon(text: &[u8], record: &mut Record, parts: &mut Vec<u8>) -> Option<Cut> {
    // Cheaper than to walk each object: one of the names must be there.
    let may = text.first() == Some(&b'{') && DAEMONS.iter().any(|(program, ..)| memchr::memmem::find(text, program.as_bytes()).is_some());
    if !may || !record.read(text) {
        return None;
    }
    DAEMONS.iter().find_map(|(program, message, times)| {
        let field = |name: &str| match record.get(text, name) {
            Got::One(value) => Some(value),
            _ => None,
        };
        let (program, message) = (field(program)?, field(message)?);
        parts.clear();
        program.append(parts);
        let ends = parts.len();
        message.append(parts);
        let cut = Cut { program: ends, message: parts.len() - ends };
        if let Some(time) = times.iter().find_map(|name| field(name)) {
            time.append(parts);
        }
        Some(cut)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scan::{JailScan, LogClock, Scanner, load};
    use crate::time::Stamp;
    use proptest::prelude::*;

    const MESSAGE: &str = "Failed password for root from 192.0.2.7 port 50022 ssh2";

    /// Who is blamed for these lines of one file, by sshd's signature.
    fn blamed(lines: &[&str]) -> Vec<String> {
        let scanner = Scanner::new(&[JailScan::of("test".into(), vec![load("sshd").unwrap()])]);
        let mut state = scanner.state(LogClock::utc(Stamp(0)));
        let mut all = Vec::new();
        for line in lines {
            scanner.scan(&mut state, Line::raw(line.as_bytes()), &mut |sign| match sign {
                crate::attack::Sign::Attack(attack) => {
                    all.push(format!("{} {}", attack.addr, attack.at.map_or(String::new(), |at| at.to_string())))
                }
                crate::attack::Sign::Login(_) => {}
            });
        }
        all
    }

    #[test]
    fn whatever_is_around_it_is_taken_off() {
        let time = "2026-11-22T17:00:00Z";
        for line in [
            format!(r#"{{"log":"{MESSAGE}\n","stream":"stdout","time":"{time}"}}"#),
            format!(r#"{{"log":"sshd[7]: {MESSAGE}\r\n","stream":"stderr","time":"{time}"}}"#),
            format!("{time} stderr F sshd[7]: {MESSAGE}"),
            format!("{time} stderr F \u{1b}[1;32msshd[7]\u{1b}[0m: {MESSAGE}"),
            format!(r#"{{"@timestamp":"{time}","host":"h","programname":"sshd","message":" {MESSAGE}"}}"#),
            format!(r#"{{"PROGRAM":"sshd","MESSAGE":"{MESSAGE}","ISODATE":"{time}","HOST":"h"}}"#),
            format!(r#"{{"log":"{{\"programname\":\"sshd\",\"message\":\"{MESSAGE}\"}}\n","stream":"stdout","time":"{time}"}}"#),
        ] {
            assert_eq!(blamed(&[&line]), ["192.0.2.7 2026-11-22T17:00:00Z"], "{line}");
        }
    }

    #[test]
    fn what_looks_like_a_wrapping_inside_is_only_text() {
        let docker = format!(r#"{{"log":"{MESSAGE}\n","stream":"stdout","time":"2026-11-22T17:00:00Z"}}"#);
        let twice = serde_json::json!({ "log": docker.clone() + "\n", "stream": "stdout", "time": "2026-11-22T17:00:00Z" });
        // serde_json sorts the names, so the order is the engine's.
        for line in [
            twice.to_string(),
            format!("2026-11-22T17:00:00Z stdout F {docker}"),
            format!("Nov 22 17:00:00 host web[7]: {docker}"),
            format!("Nov 22 17:00:00 host sshd[7]: {docker}"),
            format!(r#"{{"programname":"web","message":"sshd[7]: {MESSAGE}"}}"#),
            format!(r#"{{"programname":"sshd","message":"Nov 22 17:00:00 h sshd[7]: {MESSAGE}"}}"#),
            format!(r#"{{"programname":"sshd","programname":"web","message":"{MESSAGE}"}}"#),
        ] {
            assert_eq!(blamed(&[&line]), [""; 0], "{line}");
        }
    }

    #[test]
    fn pieces_are_joined_or_dropped_whole() {
        let (head, tail) = MESSAGE.split_at(20);
        let p = |stream: &str, tag: &str, text: &str| format!("2026-11-22T17:00:00Z {stream} {tag} {text}");
        assert_eq!(blamed(&[&p("stdout", "P", head), &p("stderr", "F", "x"), &p("stdout", "F", tail)]).len(), 1);
        // A piece alone is nobody's line, whatever it says.
        assert_eq!(blamed(&[&p("stdout", "P", "x"), &p("stdout", "F", MESSAGE)]).len(), 0);
        assert_eq!(blamed(&[&p("stdout", "P", MESSAGE)]).len(), 0);
        // Too long: its end counts for nothing, and the next line for itself.
        let long = "x".repeat(CAP + 1);
        assert_eq!(
            blamed(&[&p("stdout", "P", &long), &p("stdout", "P", MESSAGE), &p("stdout", "F", MESSAGE), &p("stdout", "F", MESSAGE)]).len(),
            1
        );
        let docker = |text: &str| format!(r#"{{"log":"{text}","stream":"stdout","time":"2026-11-22T17:00:00Z"}}"#);
        assert_eq!(blamed(&[&docker(head), &docker(&format!("{tail}\\n"))]).len(), 1);
        assert_eq!(blamed(&[&docker("x"), &docker(&format!("{MESSAGE}\\n"))]).len(), 0);
    }

    #[test]
    fn what_two_files_say_is_never_one_line() {
        let scanner = Scanner::new(&[JailScan::of("test".into(), vec![load("sshd").unwrap()])]);
        let mut state = scanner.state(LogClock::utc(Stamp(0)));
        let (head, tail) = MESSAGE.split_at(20);
        let (head, tail) = (format!("2026-11-22T17:00:00Z stdout P {head}"), format!("2026-11-22T17:00:00Z stdout F {tail}"));
        let mut found = Vec::new();
        for (file, line) in [("a", &head), ("b", &tail), ("b", &head), ("a", &tail), ("a", &tail), ("b", &tail)] {
            let mut any = false;
            scanner.scan(&mut state, Line::raw(line.as_bytes()).of_file(file.as_bytes()), &mut |_| any = true);
            found.push(any);
        }
        assert_eq!(found, [false, false, false, true, false, true]);
    }

    #[test]
    fn the_rest_of_a_line_that_was_dropped_is_no_line() {
        let scanner = Scanner::new(&[JailScan::of("test".into(), vec![load("sshd").unwrap()])]);
        let mut state = scanner.state(LogClock::utc(Stamp(0)));
        state.dropped(b"a");
        let line = format!("2026-11-22T17:00:00Z stdout F {MESSAGE}");
        let mut found = 0;
        for file in ["a", "b", "a"] {
            scanner.scan(&mut state, Line::raw(line.as_bytes()).of_file(file.as_bytes()), &mut |_| found += 1);
        }
        assert_eq!(found, 2);
    }

    #[test]
    fn only_colours_are_taken_out() {
        let stripped = |text: &str| {
            let mut text = text.as_bytes().to_vec();
            strip_colours(&mut text);
            String::from_utf8(text).unwrap()
        };
        assert_eq!(stripped("\u{1b}[1;32ma\u{1b}[0mb\u{1b}[m"), "ab");
        for text in ["\u{1b}[2J", "\u{1b}[", "\u{1b}", "\u{1b}[11111111111111111m", "\u{1b}[ m", "plain"] {
            assert_eq!(stripped(text), text);
        }
    }

    proptest! {
        #[test]
        fn total_on_any_lines(lines in prop::collection::vec(r#"(\{"log":"|2026-11-22T17:00:00Z std(out|err) [FP] |\PC|\\|"|\x1b\[1m|","stream":"stdout","time":"x"\}){0,6}"#, 0..6)) {
            let lines: Vec<&str> = lines.iter().map(String::as_str).collect();
            blamed(&lines);
        }
    }
}
