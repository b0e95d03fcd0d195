//! Where things are, and the config read from there.

use std::fs;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

use anyhow::Result;
use palisade_core::config::{Config, ConfigErrors};
use palisade_core::scan::SignatureError;

use crate::library::Library;
use crate::zone;

/// The largest config file that is read, in bytes: far beyond any written by hand.
const CONFIG_MAX: u64 = 4 << 20;

/// What differs from system to system in where things are and what to tell the operator; chosen here alone.
#[cfg(target_os = "linux")]
pub mod system {
    /// The config, where none is named.
    pub const CONFIG: &str = "/etc/palisade/palisade.toml";
    /// The store's folder.
    pub const STATE: &str = "/var/lib/palisade";
    /// The folder of the control socket and the lock.
    pub const RUN: &str = "/run/palisade";
    /// How the daemon is started, now and at boot.
    pub const START: &str = "systemctl enable --now palisade";
    /// What changing the firewall takes.
    pub const RIGHTS: &str = "CAP_NET_ADMIN";
}

/// What differs from system to system in where things are (hier(7)) and what to tell the operator; chosen here
/// alone.
#[cfg(target_os = "freebsd")]
pub mod system {
    /// The config, where none is named.
    pub const CONFIG: &str = "/usr/local/etc/palisade/palisade.toml";
    /// The store's folder.
    pub const STATE: &str = "/var/db/palisade";
    /// The folder of the control socket and the lock.
    pub const RUN: &str = "/var/run/palisade";
    /// How the daemon is started, now and at boot.
    pub const START: &str = "sysrc palisade_enable=YES; service palisade start";
    /// What changing the firewall takes.
    pub const RIGHTS: &str = "root";
}

/// Where the config, the state and the socket are.
#[derive(Clone, Debug)]
pub struct Places {
    /// The main config file; `conf.d/*.toml` beside it is read after it.
    pub config: PathBuf,
    /// Whether the config file was named: then it must be there.
    pub config_named: bool,
    /// The store.
    pub state: PathBuf,
    /// The control socket and the lock.
    pub run: PathBuf,
}

impl Places {
    /// The control socket.
    pub fn socket(&self) -> PathBuf {
        self.run.join("control.sock")
    }

    /// The lock that keeps the daemon and the verbs that work without it apart.
    pub fn lock(&self) -> PathBuf {
        self.run.join("lock")
    }

    /// The config files that are there, in reading order, with their texts.
    pub fn config_texts(&self) -> Result<Vec<(String, String)>> {
        let mut texts = Vec::new();
        match read_text(&self.config) {
            Ok(text) => texts.push((self.config.display().to_string(), text)),
            Err(error) if error.kind() == ErrorKind::NotFound && !self.config_named => {}
            Err(error) => return Err(unreadable(&self.config, error)),
        }
        let beside = self.config.parent().unwrap_or(Path::new(".")).join("conf.d");
        for path in parts(&beside)? {
            let text = read_text(&path).map_err(|error| unreadable(&path, error))?;
            texts.push((path.display().to_string(), text));
        }
        Ok(texts)
    }

    /// The effective config.
    pub fn config(&self) -> Result<Config> {
        Ok(self.config_and_library()?.0)
    }

    /// The effective config, and the signatures its jails may name.
    pub fn config_and_library(&self) -> Result<(Config, Library)> {
        let texts = self.config_texts()?;
        let library = Library::open(&self.config)?;
        let config = Config::read(&texts, &library.names()).map_err(|errors| anyhow::Error::new(BadConfig::Invalid(errors)))?;
        zones(&config)?;
        Ok((config, library))
    }
}

/// Makes sure that the zones the jails name are there.
fn zones(config: &Config) -> Result<(), BadConfig> {
    for jail in config.jails().values() {
        if let Some(zone) = jail.timezone.as_ref().filter(|name| zone::named(name).is_err()) {
            return Err(BadConfig::Zone { jail: jail.name.to_string(), zone: zone.clone() });
        }
    }
    Ok(())
}

/// A config that cannot be used; exit code 4.
#[derive(Debug, thiserror::Error)]
pub enum BadConfig {
    /// Something in it is wrong.
    #[error("{0}")]
    Invalid(ConfigErrors),
    /// A zone that this host does not know.
    #[error(
        "`timezone` of [jail.{jail}] is `{zone}`, which is not in this host's tz database: `timedatectl list-timezones` lists what is; the database is the package tzdata"
    )]
    Zone {
        /// Whose.
        jail: String,
        /// As typed.
        zone: String,
    },
    /// A signature of one's own is wrong.
    #[error("{0}")]
    Signature(SignatureError),
    /// It cannot be read.
    #[error("cannot read {}: {error}{}", path.display(), if error.kind() == ErrorKind::PermissionDenied { "; run this as root" } else { "" })]
    Unreadable {
        /// Which file or folder.
        path: PathBuf,
        /// Why not.
        error: io::Error,
    },
}

fn unreadable(path: &Path, error: io::Error) -> anyhow::Error {
    anyhow::Error::new(BadConfig::Unreadable { path: path.to_owned(), error })
}

pub(crate) fn read_text(path: &Path) -> io::Result<String> {
    let size = fs::metadata(path)?.len();
    if size > CONFIG_MAX {
        return Err(io::Error::other(format!("it has {size} bytes; a config is at most {CONFIG_MAX}")));
    }
    fs::read_to_string(path)
}

/// The `*.toml` files of a folder, sorted by name; none where there is no folder.
pub(crate) fn parts(folder: &Path) -> Result<Vec<PathBuf>> {
    let entries = match fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => return Ok(Vec::new()),
        Err(error) => return Err(unreadable(folder, error)),
    };
    let mut paths = Vec::new();
    for entry in entries {
        let path = entry.map_err(|error| unreadable(folder, error))?.path();
        if path.extension().is_some_and(|ext| ext == "toml") {
            paths.push(path);
        }
    }
    paths.sort();
    Ok(paths)
}
