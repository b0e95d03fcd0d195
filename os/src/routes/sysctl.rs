//! Switches of the kernel's network below `/proc/sys/net`, of the calling thread's network namespace: the kernel
//! shows each task that opens a file there its own namespace's (net/sysctl_net.c, `net_ctl_header_lookup`).

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::path::PathBuf;

use palisade_core::route::wanted::Sysctl;

/// How much of a value is read: switches have a few characters, lists of ports some hundred.
const MOST: u64 = 64 * 1024;

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
pub fn set(wanted: &Sysctl) -> io::Result<()> {
    let Sysctl { path, value } = wanted;
    if get(path)?.is_some_and(|stands| stands == *value) {
        return Ok(());
    }
    let written = OpenOptions::new().write(true).open(place(path)?).and_then(|mut file| file.write_all(format!("{value}\n").as_bytes()));
    written.map_err(|error| told(path, &format!("setting `{value}`"), &error))
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
        Some(libc::ENOENT) => "; this kernel or namespace has no such switch",
        Some(libc::EACCES | libc::EPERM) => "; run as root or give the process CAP_NET_ADMIN",
        Some(libc::EROFS) => "; /proc/sys is mounted read-only here, set it outside of the container",
        Some(libc::EINVAL) => "; the kernel takes no such value",
        _ => "",
    };
    io::Error::new(error.kind(), format!("/proc/sys/{path}: {doing}: {error}{hint}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::netns::Netns;

    const SWITCH: &str = "net/ipv4/conf/all/src_valid_mark";

    fn to(path: &str, value: &str) -> Sysctl {
        Sysctl { path: path.to_owned(), value: value.to_owned() }
    }

    #[test]
    fn each_thread_sees_its_own_namespace() {
        let (one, other) = (Netns::new().unwrap(), Netns::new().unwrap());
        let before = get(SWITCH).unwrap();
        let first = one.within(|| get(SWITCH).unwrap().unwrap()).unwrap();
        let turned = if first == "0" { "1" } else { "0" };
        one.within(|| set(&to(SWITCH, turned)).unwrap()).unwrap();
        assert_eq!(one.within(|| get(SWITCH).unwrap().unwrap()).unwrap(), turned);
        assert_eq!(other.within(|| get(SWITCH).unwrap().unwrap()).unwrap(), first, "another namespace keeps its own");
        assert_eq!(get(SWITCH).unwrap(), before, "the host's is untouched");
        one.within(|| set(&to(SWITCH, &first)).unwrap()).unwrap();
        assert_eq!(one.within(|| get(SWITCH).unwrap().unwrap()).unwrap(), first);
    }

    #[test]
    fn the_filter_of_an_interface_with_a_dot() {
        let (left, right) = (Netns::new().unwrap(), Netns::new().unwrap());
        left.wiring().unwrap().cable("eth0.100", &right, "eth0").unwrap();
        left.within(|| {
            set(&to("net/ipv4/conf/all/rp_filter", "1")).unwrap();
            set(&to("net/ipv4/conf/eth0.100/rp_filter", "2")).unwrap();
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
            assert_eq!(set(&to(wrong, "1")).unwrap_err().kind(), io::ErrorKind::InvalidInput, "{wrong:?}");
        }
        for wrong in ["", "..", "a/b", "a-name-of-sixteen"] {
            assert!(rp_filter(wrong).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn what_is_not_there_or_refused_is_told() {
        Netns::new()
            .unwrap()
            .within(|| {
                assert_eq!(get("net/ipv4/no_such_switch").unwrap(), None);
                let missing = set(&to("net/ipv4/no_such_switch", "1")).unwrap_err();
                assert!(missing.kind() == io::ErrorKind::NotFound && missing.to_string().contains("no such switch"), "{missing}");
                let wrong = set(&to(SWITCH, "many")).unwrap_err().to_string();
                assert!(wrong.contains(SWITCH) && wrong.contains("`many`") && wrong.contains("takes no such value"), "{wrong}");
            })
            .unwrap();
    }
}
