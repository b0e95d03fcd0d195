//! Control groups of version 2 by their number.
//!
//! A socket's group is told as a number (`INET_DIAG_CGROUP_ID`, Linux 5.9), which is the inode of its folder. It can
//! only be found by walking the tree: `open_by_handle_at(2)` takes a right (`CAP_DAC_READ_SEARCH`) that whoever asks
//! this way has not.

use std::collections::{HashMap, HashSet};
use std::fs;
use std::os::unix::fs::{DirEntryExt, MetadataExt};
use std::path::{Path, PathBuf};

use palisade_core::flood::owner::unit_of_path;

/// Where it is mounted: alone, or beside the controllers of version 1. Only version 2 has `cgroup.controllers` in its root.
const MOUNTS: [&str; 2] = ["/sys/fs/cgroup", "/sys/fs/cgroup/unified"];

/// Most folders looked at; a host with a thousand containers has some thousands.
const MOST_FOLDERS: usize = 32_768;

/// Most processes of one group that are told: with more, nobody is the only one of anything.
const MOST_PROCESSES: usize = 65_536;

/// A control group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Group {
    /// What it is called; `None` for the root.
    pub(super) unit: Option<String>,
    /// Its processes, [`MOST_PROCESSES`] at most; none where they are of another PID namespace.
    pub(super) processes: Vec<u32>,
}

/// The groups of these numbers, as far as they are there.
pub(super) fn find(wanted: &HashSet<u64>) -> HashMap<u64, Group> {
    let root = MOUNTS.iter().map(Path::new).find(|root| root.join("cgroup.controllers").exists());
    root.map(|root| find_below(root, wanted)).unwrap_or_default()
}

fn find_below(root: &Path, wanted: &HashSet<u64>) -> HashMap<u64, Group> {
    let mut found = HashMap::new();
    let mut note = |inode: u64, folder: &Path| {
        if wanted.contains(&inode) {
            let path = folder.strip_prefix(root).unwrap_or(folder).to_string_lossy();
            found.insert(inode, Group { unit: unit_of_path(&path), processes: processes(folder) });
        }
        found.len() == wanted.len()
    };
    if fs::metadata(root).is_ok_and(|root_folder| note(root_folder.ino(), root)) {
        return found;
    }
    let (mut waiting, mut folders) = (vec![root.to_path_buf()], 0);
    while let Some(folder) = waiting.pop() {
        for entry in fs::read_dir(&folder).into_iter().flatten().flatten() {
            if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                folders += 1;
                let path: PathBuf = entry.path();
                if note(entry.ino(), &path) || folders >= MOST_FOLDERS {
                    return found;
                }
                waiting.push(path);
            }
        }
    }
    found
}

/// The processes of a group. A process 0 is one of another PID namespace: then it is not known how many there are.
fn processes(folder: &Path) -> Vec<u32> {
    let Ok(text) = fs::read_to_string(folder.join("cgroup.procs")) else { return Vec::new() };
    let pids: Vec<u32> = text.lines().map_while(|line| line.parse().ok()).take(MOST_PROCESSES + 1).collect();
    if pids.contains(&0) || pids.len() > MOST_PROCESSES { Vec::new() } else { pids }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_group_is_found_by_the_inode_of_its_folder() {
        let root = tempfile::tempdir().unwrap();
        let (web, shell) = (root.path().join("system.slice/web.service"), root.path().join("user.slice/session-1.scope"));
        for (folder, processes) in [(&web, "4211\n"), (&shell, "1\n2\n")] {
            fs::create_dir_all(folder).unwrap();
            fs::write(folder.join("cgroup.procs"), processes).unwrap();
        }
        let inode = |path: &Path| fs::metadata(path).unwrap().ino();
        let found = find_below(root.path(), &[inode(&web), inode(&shell), inode(root.path()), u64::MAX].into());
        assert_eq!(found[&inode(&web)], Group { unit: Some("web.service".into()), processes: vec![4211] });
        assert_eq!(found[&inode(&shell)], Group { unit: Some("session-1.scope".into()), processes: vec![1, 2] });
        assert_eq!(found[&inode(root.path())].unit, None);
        assert_eq!(found.len(), 3);
    }
}
