//! How FreeBSD's kernel is spoken to, where Linux has netlink, inotify and signalfd: kqueue(2) and sysctl(3).
//!
//! Compiled on every change, never run: no BSD kernel is to be had where this is built. Hence what can go
//! wrong in silence, reading the kernel's answers, is plain functions over bytes beside their users, which
//! the tests run on any system.

pub(crate) mod kqueue;
pub(crate) mod sysctl;
