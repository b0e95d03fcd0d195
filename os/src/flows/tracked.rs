//! How many flows of a prefix are tracked, and where they go.

use std::io;

use palisade_core::flood::flow::Endpoint;
use palisade_core::net::Prefix;

/// The tracked flows of a prefix.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tracked {
    /// From it or to it, each counted once.
    pub flows: u64,
    /// Which it began itself.
    pub began: u64,
    /// Which were never answered.
    pub unreplied: u64,
    /// Where most of those lead that it began, or where it began none, of all; and how many do.
    pub top: Option<(Endpoint, u64)>,
}

/// Counts the tracked flows of a prefix in the calling thread's network namespace.
///
/// # Errors
/// What the kernel said: listing takes CAP_NET_ADMIN. None where no connections are tracked: there are no flows then.
/// `Unsupported` on systems other than Linux.
#[cfg(target_os = "linux")]
pub fn tracked(prefix: Prefix) -> io::Result<Tracked> {
    linux::tracked(prefix)
}

/// Not known on this system.
///
/// # Errors
/// Always `Unsupported`.
#[cfg(not(target_os = "linux"))]
pub fn tracked(_prefix: Prefix) -> io::Result<Tracked> {
    Err(io::Error::new(io::ErrorKind::Unsupported, "not known on this system"))
}

#[cfg(target_os = "linux")]
mod linux {
    use std::collections::HashMap;

    use palisade_core::bans::wall::Ports;

    use super::*;
    use crate::flows::Target;
    use crate::flows::linux::states::{FEW_STATES, States};
    use crate::flows::targets::Targets;
    use crate::netlink::conntrack::{Entry, status};
    use crate::netlink::socket::Next;

    /// Most endpoints told apart. Of those that come later than so many others none is counted.
    const MOST_ENDPOINTS: usize = 65_536;

    pub(super) fn tracked(prefix: Prefix) -> io::Result<Tracked> {
        let mut states = match States::open() {
            // A kernel without netfilter tracks nothing.
            Err(error) if error.raw_os_error() == Some(libc::EPROTONOSUPPORT) => return Ok(Tracked::default()),
            other => other?,
        };
        let targets = Targets::new(&[Target { prefix, ports: Ports::All }]);
        let mut tracked = Tracked::default();
        let mut ends = [HashMap::<Endpoint, u64>::new(), HashMap::new()];
        states.each(&targets, FEW_STATES, |entry| {
            let began = prefix.contains(entry.orig.source);
            tracked.flows += 1;
            tracked.began += u64::from(began);
            tracked.unreplied += u64::from(entry.status & status::SEEN_REPLY == 0);
            let ends = &mut ends[usize::from(!began)];
            let (end, room) = (endpoint(entry), ends.len() < MOST_ENDPOINTS);
            match ends.get_mut(&end) {
                Some(count) => *count += 1,
                None if room => _ = ends.insert(end, 1),
                None => {}
            }
            Next::More
        })?;
        let [began, others] = ends;
        let most = if began.is_empty() { others } else { began };
        tracked.top = most.into_iter().max_by_key(|(end, count)| (*count, *end));
        Ok(tracked)
    }

    fn endpoint(entry: &Entry<'_>) -> Endpoint {
        let port = entry.orig.ports().map_or(0, |(_, port)| port);
        Endpoint { addr: entry.orig.destination, port, protocol: entry.orig.protocol }
    }
}
