//! A filter of fail2ban, any bytes: it is read and compiled within bounds, or refused.
//!
//! The bytes are `door.conf`, `common.conf` and `door.local`, parted by NUL, then what the jail gives as
//! `name[...]`.
use std::collections::BTreeMap;

use palisade_core::ini::{self, Files};
use palisade_core::scan::fail2ban::{known, load};

struct Fake<'a>(Vec<(&'static str, &'a [u8])>);

impl Files for Fake<'_> {
    fn read(&self, path: &str) -> Result<Option<Vec<u8>>, String> {
        Ok(self.0.iter().find(|(name, _)| path.ends_with(name)).map(|(_, bytes)| bytes.to_vec()))
    }

    fn list(&self, _dir: &str, _ending: &str) -> Vec<String> {
        Vec::new()
    }
}

/// Tries one input.
pub fn run(bytes: &[u8]) {
    let mut parts = bytes.splitn(4, |byte| *byte == 0);
    let mut file = |name| parts.next().map(|bytes| (name, bytes));
    let files: Vec<_> = [file("door.conf"), file("common.conf"), file("door.local")].into_iter().flatten().collect();
    let call = parts.next().map(String::from_utf8_lossy).unwrap_or_default();
    let options: BTreeMap<String, String> = ini::call(&call).map(|(_, options)| options.into_iter().collect()).unwrap_or_default();
    let files = Fake(files);
    for journal in [false, true] {
        if let Err(fault) = load(&files, "/f/door.conf", &options, journal) {
            assert!(!fault.what.is_empty(), "{fault}");
        }
    }
    let _ = known(&files, "/f/door.conf", &options, false);
}
