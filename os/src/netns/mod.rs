//! A small network of our own: namespaces joined by virtual cables, gone with the process that made it.
//!
//! [`leave_host`] first, while there is one thread; then a [`Netns`] for every further host, and
//! [`Wiring`] for cables, addresses and routes. Nothing of the machine's own network is touched, and
//! nothing is left: the kernel takes a namespace away when nobody is in it and nobody holds it.

#[cfg(test)]
pub(crate) mod trying;
mod wiring;

use std::ffi::CString;
use std::fs::{self, File};
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

pub use wiring::Wiring;

use crate::privileges;

/// Why there is no network of our own.
#[derive(Debug, thiserror::Error)]
pub enum NetnsError {
    /// Neither root nor allowed to make user namespaces.
    #[error("this needs namespaces of its own, which the kernel refuses us ({source}): {hint}")]
    Forbidden {
        /// What it said.
        source: io::Error,
        /// What to do next.
        hint: &'static str,
    },
    /// The kernel said no.
    #[error("{what}")]
    Kernel {
        /// What was tried.
        what: String,
        /// What it said.
        #[source]
        source: io::Error,
    },
}

fn failed(what: impl Into<String>) -> impl FnOnce(io::Error) -> NetnsError {
    move |source| NetnsError::Kernel { what: what.into(), source }
}

fn check(rc: i32) -> io::Result<()> {
    if rc == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

fn unshare(flags: i32) -> io::Result<()> {
    // SAFETY: plain system call without pointers. New namespaces change what the calling thread sees,
    // no memory; descriptors that are open stay as they are.
    check(unsafe { libc::unshare(flags) })
}

/// Takes the process away from the host, for good: it gets a network of its own with nothing but a
/// loopback that is down, and sees mounts of its own. Who has not the right to that becomes root of
/// a user namespace first, in which alone it counts.
///
/// # Errors
/// [`NetnsError::Forbidden`], also when more than one thread runs.
pub fn leave_host() -> Result<(), NetnsError> {
    let apart = libc::CLONE_NEWNET | libc::CLONE_NEWNS;
    let result = match unshare(apart) {
        Ok(()) if privileges::have_net_admin() => Ok(()),
        Err(error) if error.raw_os_error() != Some(libc::EPERM) => Err(error),
        _ => own_user_namespace(apart), // also where a network may be made, but not changed
    };
    result.map_err(|source| NetnsError::Forbidden { source, hint: why_forbidden() })?;
    // Mounts spread between namespaces by default where systemd runs; from here on ours do not.
    mount(None, Path::new("/"), libc::MS_REC | libc::MS_PRIVATE).map_err(failed("making mounts our own"))
}

/// In it we are root: our own user and group are its 0, and there are no others (user_namespaces(7)).
fn own_user_namespace(apart: i32) -> io::Result<()> {
    // SAFETY: plain system calls without pointers that cannot fail.
    let (uid, gid) = unsafe { (libc::geteuid(), libc::getegid()) };
    unshare(libc::CLONE_NEWUSER | apart)?;
    fs::write("/proc/self/setgroups", "deny")?;
    fs::write("/proc/self/uid_map", format!("0 {uid} 1"))?;
    fs::write("/proc/self/gid_map", format!("0 {gid} 1"))
}

/// The switches that forbid user namespaces, what they are set to then, and how to allow them.
const SWITCHES: [(&str, &str, &str); 3] = [
    (
        "/proc/sys/kernel/unprivileged_userns_clone",
        "0",
        "run it as root, or allow user namespaces (Debian): sysctl kernel.unprivileged_userns_clone=1",
    ),
    (
        "/proc/sys/kernel/apparmor_restrict_unprivileged_userns",
        "1",
        "run it as root, or allow user namespaces (Ubuntu): sysctl kernel.apparmor_restrict_unprivileged_userns=0",
    ),
    ("/proc/sys/user/max_user_namespaces", "0", "run it as root, or allow user namespaces: sysctl user.max_user_namespaces=1000"),
];

fn why_forbidden() -> &'static str {
    let set = |path: &str, to: &str| fs::read_to_string(path).is_ok_and(|text| text.trim() == to);
    let switch = SWITCHES.iter().find(|(path, to, _)| set(path, to));
    switch.map_or("run it as root; in a container, one with CAP_SYS_ADMIN and without a seccomp filter on unshare", |(_, _, hint)| hint)
}

/// Puts an empty file system of our own over this folder, in memory: what is written there nobody
/// else sees, and it is gone with us. Call it after [`leave_host`].
pub fn hide(dir: &Path) -> Result<(), NetnsError> {
    mount(Some("tmpfs"), dir, libc::MS_NOSUID | libc::MS_NODEV).map_err(failed(format!("mounting over {}", dir.display())))
}

/// Makes everything that is mounted read-only for this process and its children, but nobody else, so that a
/// program that is tried out cannot leave a trace. Call it after [`leave_host`], before [`hide`].
///
/// # Errors
/// Before Linux 5.12, which has no mount_setattr(2).
pub fn freeze_files() -> Result<(), NetnsError> {
    /// `AT_RECURSIVE` (linux/fcntl.h).
    const RECURSIVE: libc::c_int = 0x8000;
    // SAFETY: mount_attr is plain data of integers.
    let mut attr: libc::mount_attr = unsafe { std::mem::zeroed() };
    attr.attr_set = libc::MOUNT_ATTR_RDONLY;
    // SAFETY: the path is a live C string and `attr` a live structure of the size told.
    let rc = unsafe {
        libc::syscall(libc::SYS_mount_setattr, libc::AT_FDCWD, c"/".as_ptr(), RECURSIVE, &raw const attr, size_of::<libc::mount_attr>())
    };
    let result = if rc == 0 { Ok(()) } else { Err(io::Error::last_os_error()) };
    result.map_err(failed("making all mounts read-only"))
}

fn mount(kind: Option<&str>, at: &Path, flags: libc::c_ulong) -> io::Result<()> {
    let kind = CString::new(kind.unwrap_or("none"))?;
    let at = CString::new(at.as_os_str().as_bytes())?;
    // SAFETY: the strings are live and end with NUL; these mounts take no data.
    check(unsafe { libc::mount(kind.as_ptr(), at.as_ptr(), kind.as_ptr(), flags, std::ptr::null()) })
}

/// A network namespace.
#[derive(Debug)]
pub struct Netns(File);

impl Netns {
    /// A new one, owned by the calling thread's user namespace.
    pub fn new() -> Result<Self, NetnsError> {
        aside(|| unshare(libc::CLONE_NEWNET).and_then(|()| Self::here())).map_err(failed("making a network namespace"))
    }

    /// The calling thread's.
    pub fn current() -> Result<Self, NetnsError> {
        Self::here().map_err(failed("opening our network namespace"))
    }

    fn here() -> io::Result<Self> {
        File::open("/proc/thread-self/ns/net").map(Self)
    }

    /// Which one it is, as the kernel writes it: `net:[4026531833]`. Told apart from all others that are there at the
    /// same time; the number of one that is gone may be given again.
    pub fn id() -> io::Result<String> {
        fs::read_link("/proc/thread-self/ns/net").map(|link| link.to_string_lossy().into_owned())
    }

    /// Whether process 1 lives in the calling thread's: the one that is set up at boot, of the machine or of the
    /// container. `false` where that cannot be seen.
    pub fn is_booted() -> bool {
        fs::read_link("/proc/1/ns/net").is_ok_and(|first| Self::id().is_ok_and(|ours| first.as_os_str() == ours.as_str()))
    }

    /// Another hold on the same one.
    pub fn share(&self) -> Result<Self, NetnsError> {
        self.0.try_clone().map(Self).map_err(failed("holding a network namespace"))
    }

    /// Does something within it. Sockets made there stay there, wherever they are used.
    pub fn within<T: Send>(&self, work: impl FnOnce() -> T + Send) -> Result<T, NetnsError> {
        let fd = self.0.as_raw_fd();
        let enter = move || {
            // SAFETY: plain system call on a descriptor that `self` keeps open; only the calling
            // thread changes its namespace, and it ends with the work.
            check(unsafe { libc::setns(fd, libc::CLONE_NEWNET) })
        };
        aside(|| enter().map(|()| work())).map_err(failed("entering a network namespace"))
    }

    /// Its interfaces, addresses and routes.
    pub fn wiring(&self) -> Result<Wiring, NetnsError> {
        self.within(Wiring::open)?
    }
}

impl AsFd for Netns {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// Runs this in a thread of its own, so that the caller stays in its namespace.
fn aside<T: Send>(work: impl FnOnce() -> T + Send) -> T {
    std::thread::scope(|scope| match scope.spawn(work).join() {
        Ok(result) => result,
        Err(panic) => std::panic::resume_unwind(panic),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read, Write};
    use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
    use std::time::Duration;

    use palisade_core::net::{Addr, Prefix};

    const LEFT: [&str; 2] = ["192.0.2.1", "2001:db8:1::1"];
    const RIGHT: [&str; 2] = ["198.51.100.7", "2001:db8:2::7"];

    fn addr(text: &str) -> Addr {
        text.parse().unwrap()
    }

    /// Two hosts on one cable, each with a route to the other's address only.
    fn pair() -> (Netns, Netns) {
        let (left, right) = (Netns::new().unwrap(), Netns::new().unwrap());
        let (mut a, mut b) = (left.wiring().unwrap(), right.wiring().unwrap());
        a.cable("to-right", &right, "to-left").unwrap();
        for (wiring, link, own, others) in [(&mut a, "to-right", LEFT, RIGHT), (&mut b, "to-left", RIGHT, LEFT)] {
            wiring.up(link).unwrap();
            for (own, other) in own.iter().zip(others) {
                wiring.add_address(link, addr(own)).unwrap();
                wiring.add_route(Prefix::host(addr(other)), link).unwrap();
            }
        }
        (left, right)
    }

    #[test]
    fn a_cable_carries_packets_between_two_namespaces() {
        let (left, right) = pair();
        for (l, r) in LEFT.iter().zip(RIGHT) {
            let at = SocketAddr::new(addr(l).ip(), 7);
            let listener = left.within(|| TcpListener::bind(at).unwrap()).unwrap();
            let mut client = right.within(|| TcpStream::connect_timeout(&at, Duration::from_secs(10)).unwrap()).unwrap();
            let (mut server, peer) = listener.accept().unwrap();
            assert_eq!(peer.ip(), addr(r).ip());
            client.write_all(b"ping").unwrap();
            let mut got = [0; 4];
            server.read_exact(&mut got).unwrap();
            assert_eq!(&got, b"ping");
        }
    }

    #[test]
    fn another_address_is_another_sender_and_the_old_one_is_gone() {
        let (left, right) = pair();
        let mut wiring = right.wiring().unwrap();
        let new = "2001:db8:2::8";
        left.wiring().unwrap().add_route("2001:db8:2::/64".parse().unwrap(), "to-right").unwrap();
        wiring.add_address("to-left", addr(new)).unwrap();
        wiring.remove_address("to-left", addr(RIGHT[1])).unwrap();
        let listener = left.within(|| TcpListener::bind("[::]:7").unwrap()).unwrap();
        let at = SocketAddr::new(addr(LEFT[1]).ip(), 7);
        let _client = right.within(|| TcpStream::connect_timeout(&at, Duration::from_secs(10)).unwrap()).unwrap();
        assert_eq!(listener.accept().unwrap().1.ip(), addr(new).ip());
        let bound = right.within(|| UdpSocket::bind((addr(RIGHT[1]).ip(), 9)).is_err()).unwrap();
        assert!(bound, "nobody has that address any more");
    }

    #[test]
    fn the_caller_stays_where_it_is() {
        let before = fs::read_link("/proc/thread-self/ns/net").unwrap();
        let other = Netns::new().unwrap();
        let inside = other.within(|| fs::read_link("/proc/thread-self/ns/net").unwrap()).unwrap();
        assert_ne!(inside, before);
        assert_eq!(fs::read_link("/proc/thread-self/ns/net").unwrap(), before);
        assert_eq!(Netns::id().unwrap(), before.to_string_lossy());
        assert!(!other.within(Netns::is_booted).unwrap(), "nothing boots in a namespace made just now");
    }

    #[test]
    fn what_is_not_there_is_told_by_name() {
        let mut wiring = Netns::new().unwrap().wiring().unwrap();
        let error = wiring.up("nowhere").unwrap_err();
        assert!(error.to_string().contains("nowhere"), "{error}");
        assert!(wiring.add_address("nowhere", addr(LEFT[0])).is_err());
    }
}
