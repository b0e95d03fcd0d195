//! Where things are, and the config read from there.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use palisade_core::config::Config;
use palisade_core::scan;

/// The largest config file that is read, in bytes: far beyond any written by hand.
const CONFIG_MAX: u64 = 4 << 20;

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
            Err(error) if error.kind() == std::io::ErrorKind::NotFound && !self.config_named => {}
            Err(error) => return Err(error).with_context(|| format!("cannot read {}", self.config.display())),
        }
        let beside = self.config.parent().unwrap_or(Path::new(".")).join("conf.d");
        for path in parts(&beside)? {
            let text = read_text(&path).with_context(|| format!("cannot read {}", path.display()))?;
            texts.push((path.display().to_string(), text));
        }
        Ok(texts)
    }

    /// The effective config.
    pub fn config(&self) -> Result<Config> {
        let texts = self.config_texts()?;
        let names: Vec<&str> = scan::shipped().iter().map(|(name, _)| *name).collect();
        Config::read(&texts, &names).map_err(|errors| anyhow::Error::new(BadConfig(errors.to_string())))
    }
}

/// A config that cannot be used; exit code 4.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct BadConfig(pub String);

fn read_text(path: &Path) -> std::io::Result<String> {
    let size = fs::metadata(path)?.len();
    if size > CONFIG_MAX {
        return Err(std::io::Error::other(format!("it has {size} bytes; a config is at most {CONFIG_MAX}")));
    }
    fs::read_to_string(path)
}

/// The `*.toml` files of a folder, sorted by name; none where there is no folder.
fn parts(folder: &Path) -> Result<Vec<PathBuf>> {
    let entries = match fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if matches!(error.kind(), std::io::ErrorKind::NotFound | std::io::ErrorKind::NotADirectory) => return Ok(Vec::new()),
        Err(error) => return Err(error).with_context(|| format!("cannot read {}", folder.display())),
    };
    let mut paths = Vec::new();
    for entry in entries {
        let path = entry.with_context(|| format!("cannot read {}", folder.display()))?.path();
        if path.extension().is_some_and(|ext| ext == "toml") {
            paths.push(path);
        }
    }
    paths.sort();
    Ok(paths)
}
