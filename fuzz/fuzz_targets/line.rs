//! Any line through every shipped signature, raw and as a journal record.
#![no_main]

use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use palisade_core::scan::{JailScan, Line, LogClock, Scanner, builtin};
use palisade_core::time::Stamp;

static SCANNER: LazyLock<Scanner> =
    LazyLock::new(|| Scanner::new(&[JailScan::of("fuzz".into(), builtin().to_vec())]));

fuzz_target!(|line: &[u8]| {
    let mut state = SCANNER.state(LogClock::utc(Stamp(0)));
    SCANNER.scan(&mut state, Line::raw(line), &mut |_| {});
    SCANNER.scan(&mut state, Line::journal(Some(b"sshd"), None, line, None), &mut |_| {});
    SCANNER.explain(Line::raw(line));
});
