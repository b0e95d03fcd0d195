//! Any line through every shipped signature, raw and as a journal record.
#![no_main]

use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use palisade_core::scan::{JailScan, Line, Scanner, builtin};

static SCANNER: LazyLock<Scanner> =
    LazyLock::new(|| Scanner::new(&[JailScan { jail: "fuzz".into(), signatures: builtin().to_vec() }]));

fuzz_target!(|line: &[u8]| {
    SCANNER.scan(Line::raw(line), &mut |_| {});
    SCANNER.scan(Line::journal(Some(b"sshd"), line, None), &mut |_| {});
    SCANNER.explain(Line::raw(line));
});
