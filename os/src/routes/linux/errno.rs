//! What the kernel's refusals mean.

use std::io;

use palisade_core::route::plan::Failure;

use crate::netlink::socket::Refusal;

/// Most of the kernel's words that are passed on, in characters.
const MOST_WORDS: usize = 200;

/// Refusals that say no more than how things are now: a link is down or absent, a gateway is not to be reached yet, the
/// kernel is busy.
const PASSING: [i32; 11] = [
    libc::ENETDOWN,
    libc::ENODEV,
    libc::ENXIO,
    libc::ENETUNREACH,
    libc::EHOSTUNREACH,
    libc::EADDRNOTAVAIL,
    libc::EAGAIN,
    libc::EBUSY,
    libc::EINTR,
    libc::ENOBUFS,
    libc::ENOMEM,
];

/// Beginnings of the kernel's words where the number alone (`EINVAL`) does not tell: the source of a route is not an
/// address of this host, or not yet (net/ipv4/fib_frontend.c, fib_semantics.c, net/ipv6/route.c).
const PASSING_WORDS: [&str; 3] = ["Invalid source address", "Invalid prefsrc address", "Device for nexthop is not up"];

/// Why a step was not done.
pub(super) fn failure(errno: i32, words: Option<&str>) -> Failure {
    let passing = PASSING.contains(&errno) || words.is_some_and(|words| PASSING_WORDS.iter().any(|known| words.starts_with(known)));
    let error = io::Error::from_raw_os_error(errno);
    Failure { error: words.map_or_else(|| error.to_string(), |words| format!("{} ({error})", plain(words))), passing }
}

/// The same as an error.
pub(super) fn error(refusal: Refusal) -> io::Error {
    let error = io::Error::from_raw_os_error(refusal.errno);
    match refusal.words {
        Some(words) => io::Error::new(error.kind(), format!("{} ({error})", plain(&words))),
        None => error,
    }
}

/// Whether a question was answered with "no way": a route or rule that leads nowhere, or none at all. `EINVAL` is a
/// blackhole's answer, and that of a question that makes no sense; only of the latter the kernel has words.
pub(super) fn no_way(refusal: &Refusal) -> bool {
    match refusal.errno {
        libc::ENETUNREACH | libc::EHOSTUNREACH | libc::EACCES | libc::EAGAIN => true,
        libc::EINVAL => refusal.words.is_none(),
        _ => false,
    }
}

fn plain(words: &str) -> String {
    words.chars().take(MOST_WORDS).map(|c| if c.is_control() { ' ' } else { c }).collect()
}
