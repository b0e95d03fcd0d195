//! The sockets that probes go out by: one for each uplink and family, bound to its source and marked.

use std::collections::BTreeMap;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;

use palisade_core::net::{Addr, Family};
use palisade_core::steering::{Event, Probe};
use palisade_os::probe::Prober;

/// How many bytes each request carries, as ping(8) has it.
const SIZE: usize = 56;

/// All of them.
#[derive(Debug, Default)]
pub(super) struct Probes(BTreeMap<(Arc<str>, Family), Prober>);

impl Probes {
    /// Sends one. What cannot be sent is not answered either: the tracker counts it as lost.
    pub(super) fn send(&mut self, probe: &Probe) {
        let family = probe.to.family();
        let key = (Arc::clone(&probe.uplink), family);
        if !self.0.contains_key(&key) {
            let from = probe.from.unwrap_or_else(|| any(family));
            match Prober::open(from, probe.mark, None) {
                Ok(prober) => drop(self.0.insert(key.clone(), prober)),
                Err(error) => {
                    tracing::debug!("probe of {}: {error}", probe.uplink);
                    return;
                }
            }
        }
        if let Some(prober) = self.0.get_mut(&key)
            && let Err(error) = prober.send(probe.to, probe.seq, SIZE)
        {
            tracing::debug!("probe of {} to {}: {error}", probe.uplink, probe.to);
        }
    }

    /// The answers that are there.
    pub(super) fn receive(&mut self) -> Vec<Event> {
        let mut events = Vec::new();
        for ((uplink, _), prober) in &mut self.0 {
            match prober.receive() {
                Ok(answers) => events.extend(answers.into_iter().map(|answer| Event::Echo {
                    uplink: Arc::clone(uplink),
                    target: answer.from,
                    seq: answer.seq,
                })),
                Err(error) => tracing::debug!("probe of {uplink}: {error}"),
            }
        }
        events
    }

    /// To be polled.
    pub(super) fn fds(&self) -> Vec<BorrowedFd<'_>> {
        self.0.values().map(AsFd::as_fd).collect()
    }

    /// Closes an uplink's sockets.
    pub(super) fn forget(&mut self, uplink: &str) {
        self.0.retain(|(name, _), _| &**name != uplink);
    }
}

/// No address in particular: the kernel chooses.
fn any(family: Family) -> Addr {
    match family {
        Family::V4 => Addr::UNSPECIFIED,
        Family::V6 => std::net::IpAddr::V6(std::net::Ipv6Addr::UNSPECIFIED).into(),
    }
}
