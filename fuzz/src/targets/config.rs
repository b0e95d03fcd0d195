//! Any text as a config: read, or refused with places; what is read can be shown and read again.
use palisade_core::config::{Config, show, signature};

/// Tries one input.
pub fn run(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    match Config::read(&[("fuzz.toml".to_owned(), text.to_owned())], &signature::ALL) {
        Ok(config) => {
            let again = Config::read(&[("shown.toml".to_owned(), show(&config))], &signature::ALL).expect("what is shown can be read");
            assert_eq!(again, config);
        }
        Err(errors) => drop(errors.to_string()),
    }
}
