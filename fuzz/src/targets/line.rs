//! Any lines of one file through every shipped signature, raw and as journal records, and why they
//! do or do not match.

use std::sync::LazyLock;

use palisade_core::scan::{JailScan, Line, LogClock, Scanner, builtin};
use palisade_core::time::Stamp;

static SCANNER: LazyLock<Scanner> = LazyLock::new(|| Scanner::new(&[JailScan::of("fuzz".into(), builtin().to_vec())]));

/// Tries one input.
pub fn run(bytes: &[u8]) {
    let mut state = SCANNER.state(LogClock::utc(Stamp(0)));
    for line in bytes.split(|b| *b == b'\n') {
        SCANNER.scan(&mut state, Line::raw(line), &mut |_| {});
    }
    SCANNER.scan(&mut state, Line::journal(Some(b"sshd"), None, bytes, None), &mut |_| {});
    SCANNER.explain(Line::raw(bytes));
}
