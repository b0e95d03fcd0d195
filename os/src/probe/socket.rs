//! The raw socket of echo requests: how it is made, and addresses as the kernel has them.

use std::io;
use std::net::{Ipv6Addr, SocketAddr};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

use palisade_core::net::{Addr, Family};

use super::types;

/// `SOL_RAW`, `ICMP_FILTER` (linux/icmp.h): bits of types that are *not* passed on.
const SOL_RAW: i32 = 255;
const ICMP_FILTER: i32 = 1;
/// `SOL_ICMPV6`, `ICMPV6_FILTER` (linux/icmpv6.h): the same for 256 types.
const SOL_ICMPV6: i32 = 58;
const ICMPV6_FILTER: i32 = 1;

pub(super) fn raw(family: Family) -> io::Result<OwnedFd> {
    let (domain, protocol) = match family {
        Family::V4 => (libc::AF_INET, libc::IPPROTO_ICMP),
        Family::V6 => (libc::AF_INET6, libc::IPPROTO_ICMPV6),
    };
    // SAFETY: plain system call without pointers; the result is checked.
    let fd = unsafe { libc::socket(domain, libc::SOCK_RAW | libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK, protocol) };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the descriptor was just made, is open and nobody else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Lets nothing but echo replies wake us.
pub(super) fn only_answers(fd: &OwnedFd, family: Family) -> io::Result<()> {
    let answers = types(family).answers;
    match family {
        Family::V4 => option(fd, SOL_RAW, ICMP_FILTER, &(!(1u32 << answers)).to_ne_bytes()),
        Family::V6 => {
            let mut blocked = [0xff; 32];
            let word = usize::from(answers / 32) * 4;
            blocked[word..word + 4].copy_from_slice(&(!(1u32 << (answers % 32))).to_ne_bytes());
            option(fd, SOL_ICMPV6, ICMPV6_FILTER, &blocked)
        }
    }
}

pub(super) fn option(fd: &OwnedFd, level: i32, name: i32, value: &[u8]) -> io::Result<()> {
    let len = libc::socklen_t::try_from(value.len()).expect("options are a few bytes");
    // SAFETY: `value` is live for the call and `len` its length; the kernel only reads it.
    let rc = unsafe { libc::setsockopt(fd.as_raw_fd(), level, name, value.as_ptr().cast(), len) };
    if rc < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Says what right is missing, so that it is not taken for something that passes.
pub(super) fn denied(error: io::Error, doing: &str, right: &str) -> io::Error {
    match error.raw_os_error() {
        Some(libc::EPERM | libc::EACCES) => {
            io::Error::new(io::ErrorKind::PermissionDenied, format!("{doing}: {error}; run as root or give the process {right}"))
        }
        _ => error,
    }
}

pub(super) fn random<const N: usize>() -> io::Result<[u8; N]> {
    let mut bytes = [0; N];
    loop {
        // SAFETY: the buffer is live, ours, and of the length given.
        let got = unsafe { libc::getrandom(bytes.as_mut_ptr().cast(), N, 0) };
        // Up to 256 bytes come whole or not at all (getrandom(2)).
        if usize::try_from(got) == Ok(N) {
            return Ok(bytes);
        }
        let error = io::Error::last_os_error();
        if error.kind() != io::ErrorKind::Interrupted {
            return Err(error);
        }
    }
}

/// The address as the kernel's structure, and its length. A link-local one is of the interface bound to.
pub(super) fn address(addr: Addr) -> (libc::sockaddr_storage, libc::socklen_t) {
    // SAFETY: sockaddr_storage is plain integers, all zero is a valid value of it.
    let mut storage: libc::sockaddr_storage = unsafe { std::mem::zeroed() };
    let len = match SocketAddr::new(addr.ip(), 0) {
        SocketAddr::V4(v4) => {
            // SAFETY: the storage is large enough and aligned for every socket address, and nobody else sees it.
            let to = unsafe { &mut *(&raw mut storage).cast::<libc::sockaddr_in>() };
            to.sin_family = libc::sa_family_t::try_from(libc::AF_INET).expect("2");
            to.sin_addr.s_addr = u32::from_ne_bytes(v4.ip().octets());
            size_of::<libc::sockaddr_in>()
        }
        SocketAddr::V6(v6) => {
            // SAFETY: the storage is large enough and aligned for every socket address, and nobody else sees it.
            let to = unsafe { &mut *(&raw mut storage).cast::<libc::sockaddr_in6>() };
            to.sin6_family = libc::sa_family_t::try_from(libc::AF_INET6).expect("10");
            to.sin6_addr.s6_addr = v6.ip().octets();
            size_of::<libc::sockaddr_in6>()
        }
    };
    (storage, libc::socklen_t::try_from(len).expect("16 or 28"))
}

pub(super) fn sender(storage: &libc::sockaddr_storage) -> Option<Addr> {
    match i32::from(storage.ss_family) {
        libc::AF_INET => {
            // SAFETY: the storage is as large and aligned as every socket address, all of whose values are valid.
            let from = unsafe { &*std::ptr::from_ref(storage).cast::<libc::sockaddr_in>() };
            Addr::from_octets(&from.sin_addr.s_addr.to_ne_bytes())
        }
        libc::AF_INET6 => {
            // SAFETY: the storage is as large and aligned as every socket address, all of whose values are valid.
            let from = unsafe { &*std::ptr::from_ref(storage).cast::<libc::sockaddr_in6>() };
            Some(Addr::from(Ipv6Addr::from(from.sin6_addr.s6_addr)))
        }
        _ => None,
    }
}
