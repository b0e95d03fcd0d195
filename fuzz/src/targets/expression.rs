//! Any text as a regex of fail2ban's, and any line: it is refused, or decides the line within bounds.
//!
//! The bytes are the failregex, the prefregex and the lines, parted by NUL.
use palisade_core::scan::fail2ban::{Definition, Filter};
use palisade_core::scan::{Line, LogClock};
use palisade_core::time::Stamp;

/// Tries one input.
pub fn run(bytes: &[u8]) {
    let mut parts = bytes.splitn(3, |byte| *byte == 0);
    let mut text = || parts.next().map(|bytes| String::from_utf8_lossy(bytes).into_owned()).unwrap_or_default();
    let (failregex, prefregex, lines) = (text(), text(), text());
    for maxlines in [1, 3] {
        let definition = Definition {
            name: "fuzz".to_owned(),
            failregex: vec![failregex.clone()],
            prefregex: Some(prefregex.clone()).filter(|text| !text.is_empty()),
            maxlines,
            datepattern: Some("{NONE}".to_owned()),
            ..Definition::default()
        };
        let Ok(filter) = Filter::compile(&definition) else { continue };
        let mut session = filter.session();
        for line in lines.split('\n') {
            if let Some(failure) = filter.look(&mut session, Line::raw(line.as_bytes()), &LogClock::utc(Stamp(0))) {
                assert!(failure.regex == 0 && failure.attempts > 0, "{failure:?}");
            }
        }
    }
}
