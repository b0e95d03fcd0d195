//! Connections where ipfw filters: the host's own sockets, by [`super::tcpdrop`].
//!
//! ipfw's dynamic states need no ending for a ban to hold: our `deny` rules stand before every rule that looks at
//! states, so packets of an established connection meet them first. Nor could they be ended: `ipfw -D delete N` takes all
//! states of rule N, whoever's they are (`ip_fw_sockopt.c`: `delete_range`, `IPFW_RCFLAG_DYNAMIC`), and there is no
//! call for those of an address. They end by themselves at most `net.inet.ip.fw.dyn_ack_lifetime` (300 s) after the
//! ban; what the keepalives of ipfw draw as answers does not renew them, because the answers are denied too.

use std::io;

use palisade_core::config::BackendSection;

use super::targets::Targets;
use super::tcpdrop::Tcpdrop;
use super::{FlowError, Flows, Killed, Target};

/// The host's own sockets.
#[derive(Debug)]
pub struct Ipfw {
    tcpdrop: Tcpdrop,
}

impl Ipfw {
    /// Finds the program.
    pub fn open(section: &BackendSection) -> Self {
        Self { tcpdrop: Tcpdrop::find(&section.path) }
    }
}

impl Flows for Ipfw {
    fn kill(&mut self, targets: &[Target]) -> Result<Killed, FlowError> {
        let (sockets, error) = self.tcpdrop.drop(&Targets::new(targets));
        let killed = Killed { sockets, states: 0 };
        match error {
            None => Ok(killed),
            Some(error) => Err(FlowError { what: "could not end local sockets".into(), killed, source: io::Error::other(error) }),
        }
    }
}
