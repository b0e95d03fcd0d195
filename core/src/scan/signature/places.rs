//! Where a service usually logs and listens: what a jail gets that names the signature only.

use serde::Deserialize;

use super::raw::Port;

/// The places of one signature, as the config writes them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Places {
    /// Log files, absolute, with `*`, `?` and `[...]`.
    pub files: Vec<String>,
    /// Journal matches.
    pub journal: Vec<String>,
    /// Ports: numbers, ranges and names.
    pub ports: Vec<String>,
}

impl Places {
    /// Those a signature file names, without compiling it; `None` for a text that is none.
    pub fn of(text: &str) -> Option<Self> {
        #[derive(Deserialize)]
        struct File {
            #[serde(default)]
            files: Vec<String>,
            #[serde(default)]
            journal: Vec<String>,
            #[serde(default)]
            ports: Vec<Port>,
        }
        toml::from_str(text).ok().map(|file: File| Self::new(file.files, file.journal, file.ports))
    }

    pub(super) fn new(files: Vec<String>, journal: Vec<String>, ports: Vec<Port>) -> Self {
        let port = |port| match port {
            Port::Number(number) => number.to_string(),
            Port::Name(name) => name,
        };
        Self { files, journal, ports: ports.into_iter().map(port).collect() }
    }
}
