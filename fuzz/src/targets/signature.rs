//! Any text as a signature file: compiled, or refused in words.

use palisade_core::scan::{Line, Places, Signature};

/// Tries one input.
pub fn run(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let _ = Places::of(text);
    match Signature::compile("fuzz.toml", text) {
        Ok(signature) => {
            for hit in signature.rules().iter().flat_map(|rule| rule.hits()) {
                assert!(signature.find(Line::raw(hit.line.as_bytes())).is_some_and(|found| found.addr == hit.addr));
            }
        }
        Err(error) => drop(error.to_string()),
    }
}
