//! The disk, for what reads fail2ban's own files: the crate itself reads none.

use palisade_core::ini::Files;

/// The folders of a disk.
pub(crate) struct Disk;

impl Files for Disk {
    fn read(&self, path: &str) -> Result<Option<Vec<u8>>, String> {
        Ok(std::fs::read(path).ok())
    }

    fn list(&self, dir: &str, ending: &str) -> Vec<String> {
        let entries = std::fs::read_dir(dir).into_iter().flatten().flatten();
        let mut paths: Vec<String> = entries.filter_map(|entry| entry.path().to_str().map(str::to_owned)).collect();
        paths.retain(|path| path.ends_with(ending));
        paths.sort();
        paths
    }
}
