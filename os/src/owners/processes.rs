//! Processes, by proc(5).

use std::collections::{HashMap, HashSet};
use std::fs::{self, File};
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use palisade_core::flood::owner::{Process, printable, unit};

use crate::privileges::{self, Cap};

/// Most descriptors looked at in one search. Each costs about a microsecond; what is not found by then is told by its user and unit.
const MOST_LINKS: usize = 131_072;

/// Most processes looked at: the kernel's own limit (`PID_MAX_LIMIT`).
const MOST_PROCESSES: usize = 1 << 22;

/// Most bytes of one small file in /proc.
const MOST_BYTES: u64 = 16 * 1024;

/// Most characters of a process's name: `TASK_COMM_LEN` without its end.
const COMM: usize = 15;

/// A process as the folder shows it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Entry {
    pub(super) pid: u32,
    /// Its user; root for one that may not be looked into by anybody else.
    pub(super) uid: u32,
}

/// All processes.
pub(super) fn all() -> io::Result<Vec<Entry>> {
    let entries = fs::read_dir("/proc")?.take(MOST_PROCESSES).flatten();
    let entry = |entry: fs::DirEntry| {
        let pid = entry.file_name().to_str()?.parse().ok()?;
        Some(Entry { pid, uid: entry.metadata().ok()?.uid() })
    };
    Ok(entries.filter_map(entry).collect())
}

/// Who holds sockets.
#[derive(Debug, Default)]
pub(super) struct Found {
    /// Process by the socket's inode.
    pub(super) pids: HashMap<u32, u32>,
    /// Some processes could not be looked into.
    pub(super) barred: bool,
}

/// The processes that hold sockets, given by inode with the user they are of. Of several that hold the same one, one of that user; process 1,
/// which keeps sockets for services it may start, last. Where we may not look into the processes of others, only our own are looked into.
pub(super) fn holding(wanted: &HashMap<u32, u32>, mut among: Vec<Entry>) -> Found {
    let users: HashSet<u32> = wanted.values().copied().collect();
    among.sort_by_key(|entry| (entry.pid == 1, !users.contains(&entry.uid), entry.pid));
    let (mut found, mut links) = (Found::default(), 0);
    let only = (!privileges::have(Cap::SysPtrace)).then(privileges::effective_user);
    for Entry { pid, uid } in among {
        if found.pids.len() == wanted.len() || links >= MOST_LINKS {
            break;
        }
        if only.is_some_and(|ours| ours != uid) {
            found.barred = true;
        } else if let Err(error) = look_into(pid, wanted, &mut found.pids, &mut links) {
            found.barred |= error.kind() == io::ErrorKind::PermissionDenied;
        }
    }
    found
}

/// Adds the sockets of one process. The folder itself may be read by root, what its links say only by who may trace the process
/// (fs/proc/base.c, `proc_pid_readlink`): the first refusal is that of all, and costs none of the links that are looked at.
fn look_into(pid: u32, wanted: &HashMap<u32, u32>, found: &mut HashMap<u32, u32>, links: &mut usize) -> io::Result<()> {
    for fd in fs::read_dir(format!("/proc/{pid}/fd"))?.flatten() {
        if *links >= MOST_LINKS {
            break;
        }
        match fs::read_link(fd.path()) {
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => return Err(error),
            link => {
                *links += 1;
                if let Some(inode) = link.ok().and_then(|link| socket(&link)).filter(|inode| wanted.contains_key(inode)) {
                    found.entry(inode).or_insert(pid);
                }
            }
        }
    }
    Ok(())
}

/// The inode of a socket's descriptor: `socket:[1234]`.
fn socket(link: &Path) -> Option<u32> {
    link.to_str()?.strip_prefix("socket:[")?.strip_suffix(']')?.parse().ok()
}

/// At most `most` bytes of a file of a process; empty where it is gone or may not be read.
pub(super) fn read(pid: u32, file: &str, most: u64) -> String {
    let mut bytes = Vec::new();
    let _ = File::open(format!("/proc/{pid}/{file}")).and_then(|file| file.take(most).read_to_end(&mut bytes));
    String::from_utf8_lossy(&bytes).into_owned()
}

/// Describes processes; a user's name is looked up once.
#[derive(Debug, Default)]
pub(super) struct Names(HashMap<u32, Option<String>>);

impl Names {
    /// A process whose sockets are of this user.
    pub(super) fn process(&mut self, pid: u32, uid: u32) -> Process {
        let comm = printable(read(pid, "comm", MOST_BYTES).trim_end_matches('\n'), COMM);
        Process { pid, comm, uid, user: self.user(uid), unit: unit(&read(pid, "cgroup", MOST_BYTES)) }
    }

    /// One of which only its user and perhaps its unit is known.
    pub(super) fn stranger(&mut self, uid: u32, unit: Option<String>) -> Process {
        Process { pid: 0, comm: String::new(), uid, user: self.user(uid), unit }
    }

    fn user(&mut self, uid: u32) -> Option<String> {
        self.0.entry(uid).or_insert_with(|| privileges::user_name(uid).ok().flatten().map(|name| printable(&name, 32))).clone()
    }
}

/// The user a process runs as, by its folder.
pub(super) fn user_of(pid: u32) -> Option<u32> {
    fs::metadata(format!("/proc/{pid}")).ok().map(|folder| folder.uid())
}
