//! Files of DHCP servers.

use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};

use palisade_core::flood::leases::{LINE, Search};
use palisade_core::flood::owner::Behind;
use palisade_core::net::Addr;

use crate::files::open_regular;

/// Most bytes read of a file. Kea and dhcpd tidy theirs every hour; a lease is a few hundred bytes.
const MOST_BYTES: u64 = 256 << 20;

/// Adds the host's name, and its link-layer address where the neighbour table had none. A file that is not there says
/// nothing; one that may not be read is told of.
pub(super) fn add(addr: Addr, files: &[PathBuf], behind: &mut Behind) {
    let mut search = Search::new(addr);
    for file in files {
        if let Err(error) = read(file, &mut search)
            && error.kind() != std::io::ErrorKind::NotFound
        {
            let told = format!("cannot read the leases in {}: {error}", file.display());
            behind.hidden = Some(behind.hidden.take().map_or(told.clone(), |before| format!("{before}; {told}")));
        }
        search.end_of_file();
    }
    if let Some(lease) = search.finish() {
        behind.host = lease.host;
        behind.mac = behind.mac.take().or(lease.mac);
    }
}

fn read(file: &Path, search: &mut Search) -> std::io::Result<()> {
    let mut reader = BufReader::new(open_regular(file)?.take(MOST_BYTES));
    let mut line = Vec::new();
    loop {
        line.clear();
        // Of a longer line the rest is read and thrown away.
        let most = u64::try_from(LINE).unwrap_or(u64::MAX);
        if (&mut reader).take(most).read_until(b'\n', &mut line)? == 0 {
            return Ok(());
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
