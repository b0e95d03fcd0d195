//! FreeBSD: not here. It has routing tables (FIBs), but nothing that chooses among them by source, user or mark as
//! rules do.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};

use super::{Changes, Own, RouteError, Router};

const WHAT_TO_DO: &str = "FreeBSD has no rules that choose a routing table by a packet's source, so [uplink] and [[rule]] cannot be \
     applied here; let pf choose: `pass out route-to (IFACE GATEWAY) from SOURCE` in pf.conf for each uplink, and \
     `pass in on IFACE reply-to (IFACE GATEWAY)` for what is answered (pf.conf(5))";

/// Says what is missing.
pub fn open() -> Result<Box<dyn Router>, RouteError> {
    Err(RouteError::Unsupported(WHAT_TO_DO.to_owned()))
}

/// Nothing: there is none to be had.
#[derive(Debug)]
pub enum Watch {}

impl Watch {
    /// Says what is missing.
    pub fn open(_own: Own) -> io::Result<Self> {
        Err(io::Error::new(io::ErrorKind::Unsupported, WHAT_TO_DO))
    }

    /// Nobody can call it.
    pub fn set(&mut self, _own: Own) {
        match *self {}
    }

    /// Nobody can call it.
    pub fn drain(&mut self) -> io::Result<Changes> {
        match *self {}
    }
}

impl AsFd for Watch {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match *self {}
    }
}
