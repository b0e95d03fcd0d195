//! How much memory the machine has.

use std::fs::File;
use std::io::{self, Read};

/// `MemTotal` is the first line; all of /proc/meminfo has some fifty.
const MOST: u64 = 16 * 1024;

/// Bytes of memory the kernel has to work with (proc_meminfo(5), `MemTotal`): without what its own image takes.
///
/// # Errors
/// `InvalidData` where the file tells no such thing, else what the kernel said.
pub fn total() -> io::Result<u64> {
    let mut text = String::new();
    File::open("/proc/meminfo")?.take(MOST).read_to_string(&mut text)?;
    read(&text).ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "/proc/meminfo tells no MemTotal"))
}

/// `MemTotal:       24683656 kB`, whose kB are 1024 bytes.
fn read(text: &str) -> Option<u64> {
    let rest = text.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    rest.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()?.checked_mul(1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_told_in_bytes() {
        assert_eq!(read("MemTotal:       24683656 kB\nMemFree: 1 kB\n"), Some(24_683_656 * 1024));
        for wrong in ["", "MemFree: 1 kB", "MemTotal: many kB", "MemTotal: 1", "MemTotal: 18446744073709551615 kB"] {
            assert_eq!(read(wrong), None, "{wrong}");
        }
        assert!(total().unwrap() > 16 << 20, "no machine this runs on has less");
    }
}
