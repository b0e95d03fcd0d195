//! Clients that outlive us: tunnel programs that are started, found again, and told to stop.
//!
//! Unlike the other children they end neither with us nor with their thread. So they are known by more than their
//! number: a process is the same only if it began at the same moment of the same boot.

#[cfg(target_os = "freebsd")]
mod freebsd;
#[cfg(target_os = "linux")]
mod linux;
#[cfg(test)]
#[cfg(target_os = "linux")]
mod tests;

#[cfg(target_os = "freebsd")]
pub use freebsd::{Process, Run, adopt_orphans, reap_orphans};
#[cfg(target_os = "linux")]
pub use linux::{Process, Run, adopt_orphans, reap_orphans};

use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::ExitStatus;

use palisade_core::time::{Span, Stamp};
use serde::{Deserialize, Serialize};

use crate::{clock, files};

/// Where programs without a slash are looked for, and what they get as PATH.
const FOLDERS: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// A pidfile is a number and a line's end; some write spaces before it.
const PIDFILE_MAX: u64 = 64;

/// How much later than its pidfile a process may seem to have begun: the kernel counts that in hundredths of a second, and
/// file systems note times late or in whole seconds.
const PIDFILE_SLACK: Span = Span::secs(2);

/// What tells a process from any other of the same number.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Identity {
    /// Its number.
    pub pid: u32,
    /// When it began, in the kernel's clock ticks since boot.
    pub started: u64,
    /// The boot.
    pub boot: String,
    /// Its program, as far as that could be seen: only to be shown.
    pub exe: Option<PathBuf>,
}

/// How a process ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct End {
    /// None of one that was not our child.
    pub status: Option<ExitStatus>,
}

/// The program that a call means: by path, or by name in the system's folders.
///
/// # Errors
/// [`io::ErrorKind::NotFound`] or [`io::ErrorKind::PermissionDenied`], with its name and what was looked through.
pub fn program(call: &[String]) -> io::Result<PathBuf> {
    let name = call.first().ok_or_else(|| io::Error::new(io::ErrorKind::NotFound, "there is no program in an empty command"))?;
    let runs = |path: &Path| path.metadata().is_ok_and(|meta| meta.is_file() && meta.mode() & 0o111 != 0);
    if name.contains('/') {
        let path = PathBuf::from(name);
        return match path.metadata() {
            Ok(_) if runs(&path) => Ok(path),
            Ok(_) => Err(io::Error::new(io::ErrorKind::PermissionDenied, format!("{name} is no program: it cannot be executed"))),
            Err(error) => Err(io::Error::new(error.kind(), format!("there is no program {name} ({error})"))),
        };
    }
    let found = FOLDERS.split(':').map(|folder| Path::new(folder).join(name)).find(|path| runs(path));
    found.ok_or_else(|| io::Error::new(io::ErrorKind::NotFound, format!("there is no program {name} in {FOLDERS}; write its whole path")))
}

/// The process that a pidfile names, if it lives. `known`: what it was when it was last seen. One that is not known counts
/// only if it began before the file was written: else it is somebody else with a used number.
///
/// # Errors
/// Where the file is there and is none that a client would write.
pub fn from_pidfile(path: &Path, known: Option<&Identity>) -> io::Result<Option<Process>> {
    let Some((pid, written)) = pidfile(path)? else { return Ok(None) };
    let Some(process) = Process::open(pid)? else { return Ok(None) };
    let same = match known.filter(|known| known.pid == pid && known.boot == process.identity().boot) {
        Some(known) => known.started == process.identity().started,
        None => clock::now().stamp.minus(process.age()) <= written.plus(PIDFILE_SLACK),
    };
    Ok(same.then_some(process))
}

/// The number in a pidfile and when it was written; `None`: there is no such file, or it is empty yet.
fn pidfile(path: &Path) -> io::Result<Option<(u32, Stamp)>> {
    let file = match files::open_regular(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let meta = file.metadata()?;
    let mut text = Vec::new();
    file.take(PIDFILE_MAX + 1).read_to_end(&mut text)?;
    let bad = || io::Error::other("it holds no process number");
    let text = std::str::from_utf8(&text).map_err(|_| bad())?.trim();
    if text.is_empty() {
        return Ok(None);
    }
    // 1 is init; we are none of our clients.
    let pid = text.parse().ok().filter(|pid: &u32| *pid > 1 && *pid != std::process::id()).ok_or_else(bad)?;
    Ok(Some((pid, Stamp(meta.mtime().saturating_mul(1000).saturating_add(meta.mtime_nsec() / 1_000_000)))))
}
