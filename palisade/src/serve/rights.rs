//! What the daemon may, once everything is open that needs more.

use std::os::unix::fs::MetadataExt;

use palisade_core::bans::backend::Backend;
use palisade_os::privileges::{self, Cap, Children};

/// Keeps of root's power what enforcing and reading logs need. Not where the store belongs to
/// somebody else than root, whose files root could then not write; and not where the firewall is a file of
/// somebody's or a program, which may need any of them; nor where tunnels are clients that are started.
pub(super) fn give_up(state: &std::path::Path, backend: Backend, clients: bool) {
    if clients {
        tracing::info!("[tunnel] has clients to start: no rights are given up, as they may need any of them");
        return;
    }
    let (keep, children): (&[Cap], _) = match backend {
        // A raw socket is what asks whether an uplink works, and how legacy iptables speaks to its tables (iptables/libiptc).
        Backend::Nftables | Backend::Memory => (&[Cap::NetAdmin, Cap::NetRaw, Cap::DacReadSearch], Children::None),
        Backend::Ipset | Backend::Iptables => (&[Cap::NetAdmin, Cap::NetRaw, Cap::DacReadSearch], Children::Same),
        Backend::Pf | Backend::Ipfw | Backend::Hosts | Backend::Nginx | Backend::Command => {
            tracing::info!("the firewall is {backend}: no rights are given up, as its programs and files may need any of them");
            return;
        }
    };
    let foreign = std::fs::metadata(state).is_ok_and(|meta| meta.uid() != 0);
    if privileges::is_root() && foreign {
        tracing::warn!(
            "{} does not belong to root: running with all rights; better start the service, or `setpriv` to its owner",
            state.display()
        );
        return;
    }
    if let Err(error) = privileges::drop_capabilities(keep, children) {
        tracing::warn!("rights could not be given up: {error}");
    }
    if let Some(kept) = privileges::KEPT {
        tracing::info!("{kept}");
    }
}
