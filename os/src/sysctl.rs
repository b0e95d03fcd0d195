//! Switches of the kernel's network below `/proc/sys/net`, of the calling thread's network namespace: the kernel
//! shows each task that opens a file there its own namespace's (net/sysctl_net.c, `net_ctl_header_lookup`).

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

/// How much of a value is read: switches have a few characters, lists of ports some hundred.
const MOST: u64 = 64 * 1024;

/// How many switches of a folder are listed: the fullest, `net/ipv4`, has some two hundred.
const MOST_LISTED: usize = 4096;

/// `IFNAMSIZ` (linux/if.h): an interface's name has at most one byte less.
const NAME_SIZE: usize = 16;

/// What the switch holds, without the line's end; `None` where this kernel (or this interface) has no such switch.
///
/// # Errors
/// `InvalidInput` for a path that does not lie below `net/`, else what the kernel said.
pub fn get(path: &str) -> io::Result<Option<String>> {
    let file = match File::open(place(path)?) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(told(path, "reading", &error)),
    };
    let mut value = String::new();
    file.take(MOST).read_to_string(&mut value).map_err(|error| told(path, "reading", &error))?;
    Ok(Some(value.trim_end().to_owned()))
}

/// Makes the switch hold the value; one that does already is not written, so that a read-only /proc/sys that is
/// right will do.
///
/// # Errors
/// As of [`get`]; `NotFound` where there is no such switch.
pub fn set(path: &str, value: &str) -> io::Result<()> {
    if get(path)?.is_some_and(|stands| stands == value) {
        return Ok(());
    }
    let written = OpenOptions::new().write(true).open(place(path)?).and_then(|mut file| file.write_all(format!("{value}\n").as_bytes()));
    written.map_err(|error| told(path, &format!("setting `{value}`"), &error))
}

/// The switches of a folder whose names begin so, and what each holds: `list("net/netfilter", "nf_conntrack_")`. Empty
/// where there is no such folder.
///
/// # Errors
/// As of [`get`].
pub fn list(folder: &str, prefix: &str) -> io::Result<BTreeMap<String, String>> {
    let entries = match fs::read_dir(place(folder)?) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(BTreeMap::new()),
        Err(error) => return Err(told(folder, "listing", &error)),
    };
    let mut found = BTreeMap::new();
    for entry in entries.take(MOST_LISTED) {
        let entry = entry.map_err(|error| told(folder, "listing", &error))?;
        let switch = entry.file_type().is_ok_and(|kind| kind.is_file());
        let Some(name) = entry.file_name().to_str().filter(|name| switch && name.starts_with(prefix)).map(str::to_owned) else { continue };
        // One that is gone since goes without saying.
        if let Some(value) = get(&format!("{folder}/{name}"))? {
            found.insert(name, value);
        }
    }
    Ok(found)
}

/// Whether nobody can set the switch here, root neither: what only tells, and what all network namespaces share and the
/// initial one alone sets (net/netfilter/nf_conntrack_standalone.c makes those 0444 elsewhere).
///
/// # Errors
/// As of [`get`]; `NotFound` where there is no such switch.
pub fn fixed(path: &str) -> io::Result<bool> {
    let meta = fs::metadata(place(path)?).map_err(|error| told(path, "looking at it", &error))?;
    Ok(meta.permissions().mode() & 0o222 == 0)
}

/// The reverse path filter: `all`'s and the interface's own value. The larger one counts (0 off, 1 strict, 2 loose;
/// kernel documentation, networking/ip-sysctl).
///
/// # Errors
/// As of [`get`]; `NotFound` where there is no such interface.
pub fn rp_filter(interface: &str) -> io::Result<(u8, u8)> {
    if interface.is_empty() || interface.len() >= NAME_SIZE || interface.contains(['/', '\0']) {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, format!("`{interface}` cannot be an interface's name")));
    }
    Ok((rp_filter_of("all")?, rp_filter_of(interface)?))
}

fn rp_filter_of(which: &str) -> io::Result<u8> {
    let path = format!("net/ipv4/conf/{which}/rp_filter");
    let value = get(&path)?.ok_or_else(|| io::Error::new(io::ErrorKind::NotFound, format!("/proc/sys/{path}: no interface `{which}`")))?;
    value.parse().map_err(|_| io::Error::new(io::ErrorKind::InvalidData, format!("/proc/sys/{path} holds `{value}`, which is no number")))
}

/// The file of a switch. A name of an interface may have dots, so only whole parts of them are refused.
fn place(path: &str) -> io::Result<PathBuf> {
    let mut parts = path.split('/');
    let below = parts.next() == Some("net") && path.len() > "net/".len() && !path.contains('\0');
    if !below || parts.any(|part| matches!(part, "" | "." | "..")) {
        let what = format!("`{path}` is no switch of the network: it reads net/ipv4/conf/all/src_valid_mark, below /proc/sys");
        return Err(io::Error::new(io::ErrorKind::InvalidInput, what));
    }
    Ok(PathBuf::from("/proc/sys").join(path))
}

fn told(path: &str, doing: &str, error: &io::Error) -> io::Error {
    let hint = match error.raw_os_error() {
        Some(libc::EACCES | libc::EPERM) if fixed_quietly(path) => {
            "; it is read-only here: what all network namespaces share is set in the machine's initial one"
        }
        Some(libc::ENOENT) => "; this kernel or namespace has no such switch",
        Some(libc::EACCES | libc::EPERM) => "; run as root or give the process CAP_NET_ADMIN",
        Some(libc::EROFS) => "; /proc/sys is mounted read-only here, set it outside of the container",
        Some(libc::EINVAL) => "; the kernel takes no such value",
        _ => "",
    };
    io::Error::new(error.kind(), format!("/proc/sys/{path}: {doing}: {error}{hint}"))
}

/// [`fixed`] for whoever has an error to tell already.
fn fixed_quietly(path: &str) -> bool {
    place(path).and_then(fs::metadata).is_ok_and(|meta| meta.permissions().mode() & 0o222 == 0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::netns::Netns;

    const SWITCH: &str = "net/ipv4/conf/all/src_valid_mark";

    #[test]
    fn each_thread_sees_its_own_namespace() {
        let (one, other) = (Netns::new().unwrap(), Netns::new().unwrap());
        let before = get(SWITCH).unwrap();
        let first = one.within(|| get(SWITCH).unwrap().unwrap()).unwrap();
        let turned = if first == "0" { "1" } else { "0" };
        one.within(|| set(SWITCH, turned).unwrap()).unwrap();
        assert_eq!(one.within(|| get(SWITCH).unwrap().unwrap()).unwrap(), turned);
        assert_eq!(other.within(|| get(SWITCH).unwrap().unwrap()).unwrap(), first, "another namespace keeps its own");
        assert_eq!(get(SWITCH).unwrap(), before, "the host's is untouched");
        one.within(|| set(SWITCH, &first).unwrap()).unwrap();
        assert_eq!(one.within(|| get(SWITCH).unwrap().unwrap()).unwrap(), first);
    }

    #[test]
    fn the_filter_of_an_interface_with_a_dot() {
        let (left, right) = (Netns::new().unwrap(), Netns::new().unwrap());
        left.wiring().unwrap().cable("eth0.100", &right, "eth0").unwrap();
        left.within(|| {
            set("net/ipv4/conf/all/rp_filter", "1").unwrap();
            set("net/ipv4/conf/eth0.100/rp_filter", "2").unwrap();
            assert_eq!(rp_filter("eth0.100").unwrap(), (1, 2));
            let error = rp_filter("eth9").unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::NotFound);
            assert!(error.to_string().contains("eth9"), "{error}");
        })
        .unwrap();
    }

    #[test]
    fn only_the_network_and_no_way_out_of_it() {
        for wrong in
            ["", "net", "net/", "kernel/panic", "/net/ipv4/ip_forward", "net/../kernel/panic", "net//x", "net/./x", "net/x/..", "net/x\0"]
        {
            assert_eq!(get(wrong).unwrap_err().kind(), io::ErrorKind::InvalidInput, "{wrong:?}");
            assert_eq!(set(wrong, "1").unwrap_err().kind(), io::ErrorKind::InvalidInput, "{wrong:?}");
        }
        for wrong in ["", "..", "a/b", "a-name-of-sixteen"] {
            assert!(rp_filter(wrong).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn a_folder_is_listed_as_it_reads_and_what_is_shared_is_fixed_elsewhere() {
        let inside = Netns::new().unwrap();
        inside
            .within(|| {
                let found = list("net/netfilter", "nf_conntrack_").unwrap();
                let names: Vec<String> = fs::read_dir("/proc/sys/net/netfilter")
                    .unwrap()
                    .map(|entry| entry.unwrap().file_name().into_string().unwrap())
                    .filter(|name| name.starts_with("nf_conntrack_"))
                    .collect();
                assert!(names.len() > 20, "this kernel tracks connections: {names:?}");
                assert_eq!(found.len(), names.len());
                for (name, value) in &found {
                    assert_eq!(fs::read_to_string(format!("/proc/sys/net/netfilter/{name}")).unwrap().trim_end(), value);
                }
                assert!(list("net/nowhere", "").unwrap().is_empty());
                assert!(!list("net/netfilter", "").unwrap().contains_key("nf_log"), "folders are no switches");
                assert!(fixed("net/netfilter/nf_conntrack_max").unwrap() && fixed("net/netfilter/nf_conntrack_count").unwrap());
                assert!(!fixed("net/netfilter/nf_conntrack_udp_timeout").unwrap());
                assert_eq!(fixed("net/netfilter/nf_nowhere").unwrap_err().kind(), io::ErrorKind::NotFound);
                let other = found["nf_conntrack_max"].parse::<u64>().unwrap() + 1;
                let refused = set("net/netfilter/nf_conntrack_max", &other.to_string()).unwrap_err();
                assert!(refused.kind() == io::ErrorKind::PermissionDenied && refused.to_string().contains("initial"), "{refused}");
            })
            .unwrap();
    }

    #[test]
    fn what_is_not_there_or_refused_is_told() {
        Netns::new()
            .unwrap()
            .within(|| {
                assert_eq!(get("net/ipv4/no_such_switch").unwrap(), None);
                let missing = set("net/ipv4/no_such_switch", "1").unwrap_err();
                assert!(missing.kind() == io::ErrorKind::NotFound && missing.to_string().contains("no such switch"), "{missing}");
                let wrong = set(SWITCH, "many").unwrap_err().to_string();
                assert!(wrong.contains(SWITCH) && wrong.contains("`many`") && wrong.contains("takes no such value"), "{wrong}");
            })
            .unwrap();
    }
}
