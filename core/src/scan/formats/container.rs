//! What a container's engine writes around each line of a program's output.
//!
//! | engine | form | source |
//! |---|---|---|
//! | Docker, json-file | `{"log":"msg\n","stream":"stdout","time":"2026-11-22T17:00:00.123456789Z"}`, `attrs` may follow | jsonlog.go |
//! | Kubernetes, podman | `2026-11-22T17:00:00.123456789Z stdout F msg` | CRI log format, kubelet |
//!
//! A line longer than 16 KiB comes in pieces: Docker's have no `\n` at the end but in the last, of CRI
//! all but the last have the tag `P`. Only whole lines are looked at: a piece that begins where the
//! engine has cut is the text of whoever knows where that is.
//!
//! What is within is the program's own text and no more to be believed than any line of a file. It
//! is unwrapped once: what looks like a wrapping in there is only text.

use super::record::{Got, Record, Value};

/// Which of a program's outputs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stream {
    /// Standard output.
    Out,
    /// Standard error.
    Err,
}

/// One piece of a program's output.
#[derive(Clone, Copy, Debug)]
pub struct Piece<'t> {
    /// When the engine got it.
    pub time: &'t [u8],
    /// From where.
    pub stream: Stream,
    /// Whether its line ends here.
    pub ends: bool,
    text: Value<'t>,
}

impl Piece<'_> {
    /// Appends its text, without the line's end.
    pub fn append(&self, out: &mut Vec<u8>) {
        self.text.append(out);
        if self.ends && out.last() == Some(&b'\n') {
            out.pop();
        }
    }
}

/// Takes the wrapping off; `record` is memory to use.
pub fn unwrap<'t>(line: &'t [u8], record: &mut Record) -> Option<Piece<'t>> {
    match line.first()? {
        b'{' => docker(line, record),
        b'0'..=b'9' => cri(line),
        _ => None,
    }
}

fn docker<'t>(line: &'t [u8], record: &mut Record) -> Option<Piece<'t>> {
    // The engine writes its fields in this order; others' objects need not be walked.
    let own = line.starts_with(b"{\"log\":\"") && record.read(line);
    let field = |name| match record.get(line, name) {
        Got::One(value) => Some(value),
        _ => None,
    };
    let (text, stream, time) = own.then(|| Some((field("log")?, field("stream")?, field("time")?))).flatten()?;
    Some(Piece { time: time.raw(), stream: stream_of(stream.raw())?, ends: text.raw().ends_with(b"\\n"), text })
}

fn cri(line: &[u8]) -> Option<Piece<'_>> {
    let mut words = line.splitn(4, |b| *b == b' ');
    let (time, stream, tags, text) = (words.next()?, words.next()?, words.next()?, words.next()?);
    // `F` and `P` are the first of tags that colons separate; there are no others yet.
    let ends = match tags.split(|b| *b == b':').next()? {
        b"F" => true,
        b"P" => false,
        _ => return None,
    };
    let date = super::date::whole_iso(time)? == time.len() && time.get(10) == Some(&b'T');
    Some(Piece { time: date.then_some(time)?, stream: stream_of(stream)?, ends, text: Value::plain(text) })
}

fn stream_of(text: &[u8]) -> Option<Stream> {
    match text {
        b"stdout" => Some(Stream::Out),
        b"stderr" => Some(Stream::Err),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(line: &str) -> Option<(String, bool)> {
        let piece = unwrap(line.as_bytes(), &mut Record::default())?;
        let mut out = Vec::new();
        piece.append(&mut out);
        Some((String::from_utf8(out).unwrap(), piece.ends))
    }

    #[test]
    fn both_engines_are_taken_off() {
        let docker = r#"{"log":"a \"b\"\u0026\n","stream":"stderr","time":"2026-11-22T17:00:00.123456789Z"}"#;
        assert_eq!(text(docker), Some(("a \"b\"&".to_owned(), true)));
        let attrs = r#"{"log":"half","stream":"stdout","attrs":{"log":"x"},"time":"2026-11-22T17:00:00Z"}"#;
        assert_eq!(text(attrs), Some(("half".to_owned(), false)));
        assert_eq!(text("2026-11-22T17:00:00.123456789+01:00 stdout F a b"), Some(("a b".to_owned(), true)));
        assert_eq!(text("2026-11-22T17:00:00Z stderr P a b"), Some(("a b".to_owned(), false)));
        assert_eq!(text("2026-11-22T17:00:00Z stderr F "), Some((String::new(), true)));
    }

    #[test]
    fn what_only_looks_like_it_is_left() {
        for line in [
            r#"{"log":"x\n","stream":"stdin","time":"2026-11-22T17:00:00Z"}"#,
            r#"{"log":"x\n","stream":"stdout"}"#,
            r#"{"log":"x\n","log":"y\n","stream":"stdout","time":"2026-11-22T17:00:00Z"}"#,
            r#"{"log":{"log":"x\n"},"stream":"stdout","time":"2026-11-22T17:00:00Z"}"#,
            "2026-11-22T17:00:00Z stdout X a",
            "2026-11-22 17:00:00 stdout F a",
            "2026-11-22T17:00:00Zx stdout F a",
            "2026-11-22T17:00:00Z host sshd[7]: a",
            "",
        ] {
            assert_eq!(text(line), None, "{line}");
        }
    }
}
