//! What jails hold lines against, from the disk: signatures of one's own, and filters of fail2ban.
//!
//! A signature of one's own is part of the config: one that is wrong makes the config invalid. A
//! filter belongs to somebody else, who may change it at any time: one that is wrong keeps its own
//! jail from running, and no other.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{ErrorKind, Read};
use std::path::Path;
use std::sync::Arc;

use anyhow::Result;
use palisade_core::attack::JailName;
use palisade_core::config::{Config, Jail, Reads, journal_match};
use palisade_core::ini;
use palisade_core::scan::fail2ban::{self, FilterError};
use palisade_core::scan::{self, JailScan, Scanner, Signature, SignatureError};

use crate::settings::{BadConfig, parts, read_text};

/// The largest filter file that is read, in bytes: one more than the reader takes, so that it says so.
const FILTER_MAX: u64 = (1 << 20) + 1;

/// How many files of a folder are looked at: far more than anybody has filters.
const FOLDER_MAX: usize = 4096;

/// The signatures of one's own, over those that ship.
#[derive(Clone, Debug, Default)]
pub struct Library {
    own: BTreeMap<String, Arc<Signature>>,
}

/// A jail, ready to hear.
#[derive(Debug)]
pub(crate) struct Listening {
    /// What its lines are held against.
    pub(crate) scan: JailScan,
    /// What it reads.
    pub(crate) source: Source,
}

/// What a jail reads on this host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Source {
    Journal(Vec<String>),
    Files(Vec<String>),
    Nothing,
}

impl Library {
    /// Reads `signatures/*.toml` beside the config file, and proves each.
    ///
    /// # Errors
    /// [`BadConfig`].
    pub fn open(config: &Path) -> Result<Self> {
        let mut own = BTreeMap::new();
        for path in parts(&config.parent().unwrap_or(Path::new(".")).join("signatures"))? {
            let text = read_text(&path).map_err(|error| BadConfig::Unreadable { path: path.clone(), error })?;
            let file = path.display().to_string();
            let signature = Signature::compile(&file, &text).map_err(BadConfig::Signature)?;
            let stem = path.file_stem().map(|stem| stem.to_string_lossy().into_owned()).unwrap_or_default();
            if stem != signature.name() {
                let what = format!(
                    "it calls itself `{}`; write `name = \"{stem}\"`, or call the file {}.toml",
                    signature.name(),
                    signature.name()
                );
                return Err(BadConfig::Signature(SignatureError::Rule { file, rule: String::new(), what }).into());
            }
            own.insert(stem, Arc::new(signature));
        }
        Ok(Self { own })
    }

    /// The names of all signatures there are.
    pub fn names(&self) -> Vec<&str> {
        let mut names: Vec<&str> = self.own.keys().map(String::as_str).chain(scan::shipped().iter().map(|(name, _)| *name)).collect();
        names.sort_unstable();
        names.dedup();
        names
    }

    /// One signature; one's own comes before one that ships.
    pub fn signature(&self, name: &str) -> Option<Arc<Signature>> {
        self.own.get(name).cloned().or_else(|| scan::load(name))
    }

    /// All signatures, sorted by name.
    pub fn all(&self) -> Vec<Arc<Signature>> {
        let shipped = scan::builtin().iter().filter(|signature| !self.own.contains_key(signature.name()));
        let mut all: Vec<Arc<Signature>> = shipped.chain(self.own.values()).cloned().collect();
        all.sort_by(|a, b| a.name().cmp(b.name()));
        all
    }

    /// Whether it is one's own.
    pub fn is_own(&self, name: &str) -> bool {
        self.own.contains_key(name)
    }

    /// What a jail hears on a host where the journal can be read, or cannot.
    pub(crate) fn listening(&self, jail: &Jail, journal: bool) -> Result<Listening, FilterError> {
        let signatures = jail.signatures.iter().filter_map(|name| self.signature(name)).collect();
        let mut scan = JailScan::of(jail.name.clone(), signatures);
        let mut source = match jail.reads(journal) {
            Reads::Journal(matches) => Source::Journal(matches.to_vec()),
            Reads::Files(patterns) => Source::Files(patterns.to_vec()),
            Reads::Nothing => Source::Nothing,
        };
        let Some(written) = &jail.fail2ban else { return Ok(Listening { scan, source }) };
        let silent = jail.files.is_empty() && jail.journal.is_empty();
        let by_journal = matches!(source, Source::Journal(_)) || (silent && !jail.reports);
        let (definition, filter) = fail2ban::load(&Disk, &written.path, &written.options, by_journal)?;
        if silent && !jail.reports {
            let fault = |what: String| FilterError { file: written.path.clone(), line: 0, what };
            let advice = format!("write `files` or `journal` in [jail.{}]", jail.name);
            if definition.journalmatch.is_empty() {
                return Err(fault(format!("the filter does not say what to read of the journal: {advice}")));
            }
            let matches = definition.journalmatch.iter().map(|text| journal_match(text).map_err(|why| fault(format!("{why}; {advice}"))));
            let matches = matches.collect::<Result<Vec<_>, _>>()?;
            if !journal {
                return Err(fault(format!("the filter reads the journal, which cannot be read here: {advice}")));
            }
            source = Source::Journal(matches);
        }
        scan.filters.push(Arc::new(filter));
        Ok(Listening { scan, source })
    }

    /// The scanner of these jails, for lines of files.
    pub(crate) fn scanner<'a>(&self, jails: impl IntoIterator<Item = &'a Jail>) -> Result<Scanner, FilterError> {
        // What is handed lines needs nothing to read.
        let handed = |jail: &Jail| Jail { files: vec!["/dev/stdin".to_owned()], journal: Vec::new(), ..jail.clone() };
        let scans = jails.into_iter().map(|jail| Ok(self.listening(&handed(jail), false)?.scan));
        Ok(Scanner::new(&scans.collect::<Result<Vec<_>, FilterError>>()?))
    }

    /// The enabled jails whose filters cannot be used, and why.
    pub fn faults(&self, config: &Config) -> Vec<(JailName, FilterError)> {
        let jails = config.jails().values().filter(|jail| jail.enabled && jail.fail2ban.is_some());
        // Whether the journal can be read is this host's business, not the config's.
        jails.filter_map(|jail| Some((jail.name.clone(), self.listening(jail, true).err()?))).collect()
    }
}

/// The files of filters.
pub(crate) struct Disk;

impl ini::Files for Disk {
    fn read(&self, path: &str) -> Result<Option<Vec<u8>>, String> {
        match fs::metadata(path) {
            Ok(about) if about.is_file() => {}
            // A folder or a pipe is not read, as fail2ban does not read it.
            Ok(_) => return Ok(None),
            Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => return Ok(None),
            Err(error) => return Err(error.to_string()),
        }
        let mut bytes = Vec::new();
        let file = File::open(path).map_err(|error| error.to_string())?;
        file.take(FILTER_MAX).read_to_end(&mut bytes).map_err(|error| error.to_string())?;
        Ok(Some(bytes))
    }

    fn list(&self, dir: &str, ending: &str) -> Vec<String> {
        let entries = fs::read_dir(dir).into_iter().flatten().flatten().take(FOLDER_MAX);
        let mut paths: Vec<String> = entries.filter_map(|entry| entry.path().to_str().map(str::to_owned)).collect();
        paths.retain(|path| path.ends_with(ending));
        paths.sort();
        paths
    }
}
