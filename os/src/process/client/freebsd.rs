//! Not made for FreeBSD yet: nothing there holds a process by a descriptor that could be found again after a restart.

use std::convert::Infallible;
use std::io;
use std::os::fd::BorrowedFd;
use std::process::ExitStatus;

use palisade_core::time::Span;

use super::{End, Identity};

fn unsupported<T>() -> io::Result<T> {
    let what = "tunnels of kind \"exec\" are supervised on Linux only; start the client by rc.d and leave the tunnel out of the config";
    Err(io::Error::new(io::ErrorKind::Unsupported, what))
}

/// There is none.
#[derive(Debug)]
pub struct Run(Infallible);

#[allow(missing_docs, reason = "as on Linux; none of it can be called")]
impl Run {
    pub fn spawn(_: &[String]) -> io::Result<Self> {
        unsupported()
    }
    pub fn pid(&self) -> u32 {
        match self.0 {}
    }
    pub fn fds(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        std::iter::empty()
    }
    pub fn end_fd(&self) -> Option<BorrowedFd<'_>> {
        match self.0 {}
    }
    pub fn ended(&mut self) -> io::Result<Option<ExitStatus>> {
        match self.0 {}
    }
    pub fn lines(&mut self, _: impl FnMut(&str)) -> io::Result<bool> {
        match self.0 {}
    }
    pub fn signal(&mut self, _: i32) -> io::Result<()> {
        match self.0 {}
    }
}

/// There is none.
#[derive(Debug)]
pub struct Process(Infallible);

#[allow(missing_docs, reason = "as on Linux; none of it can be called")]
impl Process {
    pub fn open(_: u32) -> io::Result<Option<Self>> {
        unsupported()
    }
    pub fn known(_: &Identity) -> io::Result<Option<Self>> {
        unsupported()
    }
    pub fn identity(&self) -> &Identity {
        match self.0 {}
    }
    pub fn age(&self) -> Span {
        match self.0 {}
    }
    pub fn fd(&self) -> BorrowedFd<'_> {
        match self.0 {}
    }
    pub fn ended(&self) -> io::Result<Option<End>> {
        match self.0 {}
    }
    pub fn signal(&self, _: i32) -> io::Result<()> {
        match self.0 {}
    }
}

/// As on Linux.
pub fn adopt_orphans() -> io::Result<()> {
    unsupported()
}

/// There are none.
pub fn reap_orphans(_: &[u32]) -> usize {
    0
}
