//! The host's own TCP connections on FreeBSD, ended by tcpdrop(8).
//!
//! `tcpdrop -l -a` prints a line `tcpdrop LOCAL PORT FOREIGN PORT` for each connection there is
//! (`usr.sbin/tcpdrop/tcpdrop.c`: `tcplist`). OpenBSD's has no `-l`; there, and where the program is
//! missing, sockets are left: their packets are blocked in both directions, and they end by their timeouts.

use palisade_core::net::Addr;

use super::targets::Targets;
use crate::process::{Tool, ToolError};

/// The program, where there is one.
#[derive(Debug)]
pub(super) struct Tcpdrop(Option<Tool>);

impl Tcpdrop {
    pub(super) fn find(folders: &[String]) -> Self {
        Self(Tool::find("tcpdrop", folders).ok())
    }

    /// Ends the connections of the targets; how many.
    pub(super) fn drop(&self, targets: &Targets) -> (u64, Option<ToolError>) {
        let Some(tool) = &self.0 else { return (0, None) };
        let mut meant = Vec::new();
        let listed = tool.lines(&["-l", "-a"], |_| Ok(()), |line| meant.extend(connection(line, targets)));
        match listed {
            // A usage message is OpenBSD's way to say that it cannot list.
            Err(error) if meant.is_empty() && error.complaint().contains("usage:") => return (0, None),
            Err(error) => return (0, Some(error)),
            Ok(_) => {}
        }
        let (mut dropped, mut failed) = (0, None);
        for ends in meant {
            match tool.run(&ends) {
                Ok(_) => dropped += 1,
                // It ended by itself (tcpdrop.c: ESRCH).
                Err(error) if error.complaint().contains("No such process") => {}
                Err(error) => failed = Some(error),
            }
        }
        (dropped, failed)
    }
}

/// The words of this line's connection, if it is one of a target.
fn connection(line: &str, targets: &Targets) -> Option<[String; 4]> {
    let ["tcpdrop", local, port, foreign, foreign_port] = line.split_whitespace().collect::<Vec<_>>()[..] else { return None };
    let remote: Addr = foreign.parse().ok()?;
    targets.take(remote, Some(port.parse().ok()?)).then(|| [local, port, foreign, foreign_port].map(str::to_owned))
}
