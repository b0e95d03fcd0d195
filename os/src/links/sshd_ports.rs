//! On which ports sshd listens, by its own configuration (sshd_config(5)).

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use super::read_some;

/// Port 22 where the configuration names none.
const DEFAULT: u16 = 22;

/// The most that is read of one file, and how many files of the drop-in folder: far more than
/// anybody writes by hand.
const FILE_MAX: u64 = 256 * 1024;
const FILES: usize = 64;

/// The ports of `Port` and `ListenAddress` in `main` and the drop-ins beside it. Unreadable files
/// name none; Debian's `sshd_config` and its drop-ins are readable for all.
pub(super) fn configured(main: &Path) -> BTreeSet<u16> {
    let mut files: Vec<PathBuf> = fs::read_dir(main.with_extension("d"))
        .or_else(|_| fs::read_dir(main.with_file_name("sshd_config.d")))
        .map(|entries| {
            entries.filter_map(|e| Some(e.ok()?.path())).filter(|p| p.extension().is_some_and(|e| e == "conf")).take(FILES).collect()
        })
        .unwrap_or_default();
    files.push(main.to_owned());
    let texts = files.iter().filter_map(|path| read_some(path, FILE_MAX).ok());
    let ports: BTreeSet<u16> = texts.flat_map(|bytes| ports(&String::from_utf8_lossy(&bytes))).collect();
    if ports.is_empty() { [DEFAULT].into() } else { ports }
}

/// `Port 2222`, `ListenAddress 192.0.2.1:2222`, `ListenAddress [2001:db8::1]:2222`. Keywords are
/// not case sensitive, `=` may stand between keyword and argument.
fn ports(text: &str) -> BTreeSet<u16> {
    let mut found = BTreeSet::new();
    for line in text.lines() {
        let mut words = line.split(|c: char| c.is_ascii_whitespace() || c == '=').filter(|w| !w.is_empty());
        let (Some(keyword), Some(value)) = (words.next(), words.next()) else { continue };
        if keyword.eq_ignore_ascii_case("port") {
            found.extend(value.parse::<u16>());
        } else if keyword.eq_ignore_ascii_case("listenaddress")
            && let Some((host, port)) = value.rsplit_once(':')
            && (host.ends_with(']') || !host.contains(':'))
        {
            found.extend(port.parse::<u16>());
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_are_read_as_sshd_reads_them() {
        let text = "# Port 1\nPort 22\nport=2222\nListenAddress 192.0.2.1:2022\nListenAddress [2001:db8::1]:2023\nListenAddress 2001:db8::2\nListenAddress 0.0.0.0\nPort x\nGatewayPorts 99\n";
        assert_eq!(ports(text), [22, 2022, 2023, 2222].into());
    }

    #[test]
    fn drop_ins_count_and_nothing_means_22() {
        let dir = tempfile::tempdir().unwrap();
        let main = dir.path().join("sshd_config");
        assert_eq!(configured(&main), [22].into());
        fs::create_dir(dir.path().join("sshd_config.d")).unwrap();
        fs::write(dir.path().join("sshd_config.d/a.conf"), "Port 2222\n").unwrap();
        fs::write(dir.path().join("sshd_config.d/a.bak"), "Port 3333\n").unwrap();
        assert_eq!(configured(&main), [2222].into());
    }
}
