//! Files of DHCP servers.

use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};

use palisade_core::flood::leases::{LINE, Search, USUAL};
use palisade_core::flood::owner::Behind;
use palisade_core::net::Addr;

use crate::files::{open_of_system, open_regular};

/// Most bytes read of a file: Kea and dhcpd tidy theirs every hour; a lease is a few hundred bytes.
const MOST_BYTES: u64 = 16 << 20;

/// Adds the host's name, and its link-layer address where the neighbour table had none. A file that is not there says
/// nothing; one that may not be read, or not to its end, is told of. In the usual places nobody has chosen, what a local user
/// may have put there is not read: see [`open_of_system`].
pub(super) fn add(addr: Addr, files: &[PathBuf], behind: &mut Behind) {
    let mut search = Search::new(addr);
    for file in files {
        let usual = USUAL.iter().any(|usual| Path::new(usual) == file);
        let told = match read(file, usual, MOST_BYTES, &mut search) {
            Ok(true) => None,
            Ok(false) => Some(format!("of the leases in {} only the first {} MiB were read", file.display(), MOST_BYTES >> 20)),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => None,
            Err(error) => Some(format!("cannot read the leases in {}: {error}", file.display())),
        };
        if let Some(told) = told {
            behind.hidden = Some(behind.hidden.take().map_or(told.clone(), |before| format!("{before}; {told}")));
        }
        search.end_of_file();
    }
    if let Some(lease) = search.finish() {
        behind.host = lease.host;
        behind.mac = behind.mac.take().or(lease.mac);
    }
}

/// Whether the file was read to its end.
fn read(file: &Path, usual: bool, most: u64, search: &mut Search) -> std::io::Result<bool> {
    let file = if usual { open_of_system(file)? } else { open_regular(file)? };
    let whole = file.metadata()?.len() <= most;
    let mut reader = BufReader::new(file.take(most));
    let mut line = Vec::new();
    loop {
        line.clear();
        // Of a longer line the rest is read and thrown away.
        let most = u64::try_from(LINE).unwrap_or(u64::MAX);
        if (&mut reader).take(most).read_until(b'\n', &mut line)? == 0 {
            return Ok(whole);
        }
        if line.last() != Some(&b'\n') {
            reader.skip_until(b'\n')?;
        }
        search.line(&line);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_a_usual_file_only_the_systems_own_counts_and_its_beginning() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("leases");
        let line = "1795700000 52:54:00:12:34:56 192.0.2.10 host *\n";
        std::fs::write(&file, line.repeat(2)).unwrap();
        let most = u64::try_from(line.len()).unwrap();
        let run = |usual, most| {
            let mut search = Search::new("192.0.2.10".parse().unwrap());
            (read(&file, usual, most, &mut search).ok(), search.finish().is_some())
        };
        assert_eq!((run(true, 2 * most), run(true, most), run(false, 5)), ((Some(true), true), (Some(false), true), (Some(false), false)));
        std::os::unix::fs::chown(&file, Some(65534), None).unwrap();
        assert_eq!((run(true, 2 * most), run(false, 2 * most)), ((None, false), (Some(true), true)));
    }

    #[test]
    fn files_are_read_to_their_end_whatever_is_missing() {
        let dir = tempfile::tempdir().unwrap();
        let [absent, long, dnsmasq] = ["absent", "long", "dnsmasq"].map(|name| dir.path().join(name));
        let noise = "x".repeat(3 * LINE);
        std::fs::write(&long, format!("{noise}\n1795700000 52:54:00:12:34:56 192.0.2.10 early * {noise}\n{noise}")).unwrap();
        std::fs::write(&dnsmasq, "1795700001 52:54:00:12:34:57 192.0.2.10 late *").unwrap();
        let mut behind = Behind::default();
        add("192.0.2.10".parse().unwrap(), &[absent.clone(), long.clone(), dnsmasq], &mut behind);
        assert_eq!((behind.host.as_deref(), behind.mac.as_deref()), (Some("late"), Some("52:54:00:12:34:57")));
        let mut behind = Behind { mac: Some("02:00:00:00:00:01".into()), ..Behind::default() };
        add("192.0.2.10".parse().unwrap(), &[absent, long], &mut behind);
        assert_eq!((behind.host.as_deref(), behind.mac.as_deref()), (Some("early"), Some("02:00:00:00:00:01")));
        assert_eq!(behind.hidden, None);
        // A folder is no file.
        add("192.0.2.10".parse().unwrap(), &[dir.path().to_path_buf()], &mut behind);
        assert!(behind.hidden.is_some_and(|told| told.contains("cannot read the leases")));
    }
}
