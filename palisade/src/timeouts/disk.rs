//! What is kept on the disk: the former values of switches, before the first of them is changed.
//!
//! | file in the state folder | what |
//! |---|---|
//! | `conntrack-timeouts.json` | what `palisade conntrack timeouts apply` changed |
//! | `conntrack-profile.json` | what is shortened while the table fills |
//! | `conntrack-timeouts.lock` | held by whoever changes either |

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io::{self, ErrorKind, Read};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use palisade_core::attack::excerpt;
use palisade_core::flood::timeouts::plan::{is_value, may_set};
use palisade_core::flood::timeouts::{Profile, Values, persist};
use palisade_core::time::Span;
use palisade_os::netns::Netns;
use palisade_os::privileges::{self, Lock, LockError};
use palisade_os::wake::poll;
use palisade_os::{clock, files};
use serde::{Deserialize, Serialize};

/// What the files look like.
const VERSION: u32 = 1;

/// A file larger than this is none of ours: some sixty switches of a line each.
const MOST: u64 = 1 << 20;

/// How long the lock is waited for: setting sixty switches takes milliseconds, giving the hash table another size a
/// second.
const LOCK_WITHIN: Span = Span::secs(10);

/// How often it is tried.
const LOCK_AGAIN: Span = Span::millis(20);

/// A boot's and a namespace's name are shorter.
const NAME: usize = 64;

/// What was changed, and what there was before.
///
/// The state folder may be another user's than of whoever reads this, the daemon's own; root reads it. So a file that
/// names anything but switches we set, and numbers, is damaged; and no path in it is ever followed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Journal {
    v: u32,
    /// The boot in which it was written.
    pub(super) boot: String,
    /// The network namespace whose switches these are.
    pub(super) net: String,
    /// Of a profile: which.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) profile: Option<Profile>,
    /// Of what is applied: the file of sysctl.d that sets it at boot. To be told only: which file is written and taken
    /// away says the command line.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) file: Option<PathBuf>,
    /// By switch.
    pub(super) values: BTreeMap<String, Kept>,
    /// Of a profile: what somebody else set meanwhile. It is left alone until calm.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub(super) left: BTreeSet<String>,
}

/// One switch.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Kept {
    /// What it held before us.
    pub(super) former: String,
    /// What we set, the last first. More than one: while it is being changed, and where the kernel rounded it.
    pub(super) ours: Vec<String>,
    /// Why.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub(super) why: String,
}

impl Kept {
    /// Whether a value is one that we set.
    pub(super) fn is_ours(&self, value: &str) -> bool {
        self.ours.iter().any(|ours| ours == value)
    }
}

impl Journal {
    /// An empty one, of this boot and namespace.
    pub(super) fn new() -> Result<Self> {
        let (boot, net) = here()?;
        Ok(Self { v: VERSION, boot, net, profile: None, file: None, values: BTreeMap::new(), left: BTreeSet::new() })
    }

    /// Whether it could be one we wrote, and if not, why.
    fn check(&self) -> Result<(), String> {
        if self.v != VERSION {
            return Err(format!("version {}, not {VERSION}", self.v));
        }
        let plain = |name: &String| name.len() <= NAME && name.bytes().all(|byte| byte.is_ascii_graphic());
        if !plain(&self.boot) || !plain(&self.net) {
            return Err("the boot or the network namespace has no such name".to_owned());
        }
        if self.file.as_ref().is_some_and(|file| !file.is_absolute() || file.file_name() != Some(persist::FILE.as_ref())) {
            return Err(format!("no file of ours but {} is written for the boot", persist::FILE));
        }
        if let Some(name) = self.values.keys().chain(&self.left).find(|name| !may_set(name)) {
            return Err(format!("{name:?} is no switch that is ever changed"));
        }
        let bad = |(name, kept): (&String, &Kept)| {
            let value = std::iter::once(&kept.former).chain(&kept.ours).find(|value| !is_value(value))?;
            Some(format!("{value:?} is no value of {name}"))
        };
        self.values.iter().find_map(bad).map_or(Ok(()), Err)
    }

    /// What would stand without it: what it changed and still holds our value has its former one.
    pub(super) fn beneath(&self, found: &Values) -> Values {
        let mut base = found.clone();
        for (name, kept) in &self.values {
            if let Some(value) = base.get_mut(name).filter(|value| kept.is_ours(value)) {
                value.clone_from(&kept.former);
            }
        }
        base
    }
}

/// Which boot and which network namespace this is.
pub(super) fn here() -> Result<(String, String)> {
    let boot = clock::boot_id().context("which boot this is cannot be told")?;
    Ok((boot, Netns::id().context("which network namespace this is cannot be told")?))
}

/// Of the two files, which.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Which {
    Applied,
    Profile,
}

impl Which {
    /// Where it is.
    pub(super) fn path(self, state: &Path) -> PathBuf {
        state.join(match self {
            Self::Applied => "conntrack-timeouts.json",
            Self::Profile => "conntrack-profile.json",
        })
    }

    /// Reads it; `None` where there is none. What could not be ours is damaged.
    pub(super) fn read(self, state: &Path) -> Result<Option<Journal>, JournalError> {
        let path = self.path(state);
        let unreadable = |source| JournalError::Unreadable { path: path.clone(), source };
        let file = match open_unlinked(&path) {
            Ok(file) => file,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(unreadable(error)),
        };
        let mut bytes = Vec::new();
        file.take(MOST).read_to_end(&mut bytes).map_err(unreadable)?;
        let damaged = |what: String| JournalError::Damaged { path: path.clone(), what: excerpt(what.as_bytes()) };
        let journal: Journal = serde_json::from_slice(&bytes).map_err(|error| damaged(error.to_string()))?;
        journal.check().map_err(damaged)?;
        Ok(Some(journal))
    }

    /// Writes it, and returns once it is on the disk. One without values is taken away.
    pub(super) fn write(self, state: &Path, journal: &Journal) -> Result<()> {
        let path = self.path(state);
        let written = if journal.values.is_empty() && journal.left.is_empty() {
            gone(&path)
        } else {
            serde_json::to_vec(journal).map_err(io::Error::other).and_then(|bytes| files::replace(&path, &bytes))
        };
        written.with_context(|| format!("cannot write {}", path.display()))
    }
}

/// Opens a regular file that lies at this very path: a link there is not followed, wherever it leads.
pub(super) fn open_unlinked(path: &Path) -> io::Result<File> {
    let there = fs::symlink_metadata(path)?;
    let other = || io::Error::other("it is no regular file");
    if !there.is_file() {
        return Err(other());
    }
    let file = files::open_regular(path)?;
    let opened = file.metadata()?;
    // It may have been exchanged for a link in between.
    if (there.dev(), there.ino()) == (opened.dev(), opened.ino()) { Ok(file) } else { Err(other()) }
}

/// Takes a file away, for good.
pub(super) fn gone(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        other => other?,
    }
    path.parent().map_or(Ok(()), |dir| File::open(dir)?.sync_all())
}

/// Why there is no journal to go by.
#[derive(Debug, thiserror::Error)]
pub(super) enum JournalError {
    /// It cannot be read.
    #[error("cannot read {}: {source}", path.display())]
    Unreadable {
        /// Which file.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// It is no journal.
    #[error("{} is damaged ({what}): the former values are not known; look with `palisade conntrack timeouts show`, which tells the kernel's own, and remove the file", path.display())]
    Damaged {
        /// Which file.
        path: PathBuf,
        /// What is wrong.
        what: String,
    },
}

/// One of us at a time, daemon and verbs.
pub(super) fn lock(state: &Path) -> Result<Lock> {
    fs::create_dir_all(state).with_context(|| format!("cannot make {}; run this as root", state.display()))?;
    let path = state.join("conntrack-timeouts.lock");
    let until = clock::now().tick.plus(LOCK_WITHIN);
    loop {
        match privileges::lock_file(&path) {
            Ok(lock) => return Ok(lock),
            Err(error @ LockError::Held { .. }) if clock::now().tick >= until => {
                bail!("{error} (whoever changes timeouts holds it for moments only)")
            }
            Err(LockError::Held { .. }) => {}
            Err(error) => return Err(anyhow::Error::new(error).context("timeouts cannot be changed; run this as root")),
        }
        let _ = poll(&[], None, Some(LOCK_AGAIN)).context("waiting for the lock")?;
    }
}
