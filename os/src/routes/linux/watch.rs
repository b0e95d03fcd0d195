//! What the kernel tells of changes.
//!
//! ```text
//!  groups  1 RTNLGRP_LINK   5 IPV4_IFADDR   7 IPV4_ROUTE   8 IPV4_RULE   9 IPV6_IFADDR   11 IPV6_ROUTE   19 IPV6_RULE
//! ```
//! Source: linux/rtnetlink.h. A notification carries the port of the socket that caused it. Those of our router are no
//! news, for who answers his own voice never stops talking.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};

use palisade_core::net::Family;

use super::{links, route, rule};
use crate::netlink::socket::{ROUTE, Socket};
use crate::netlink::wire::Message;
use crate::routes::{Changes, Own};

const GROUPS: [u32; 7] = [1, 5, 7, 8, 9, 11, 19];

/// The group that tells of the rules of a family.
pub(super) const fn rule_group(family: Family) -> u32 {
    match family {
        Family::V4 => 8,
        Family::V6 => 19,
    }
}

/// Room for what comes while nobody reads, in bytes: about five thousand notifications.
const BUFFER: i32 = 4 << 20;

/// How many datagrams are read at most at once; on a router in turmoil there is always one more, and the descriptor
/// stays readable.
const MOST_DATAGRAMS: usize = 4096;

/// How many removed rules are told at most.
const MOST_GONE: usize = 1024;

/// The kernel's notifications of links, addresses, rules and routes of one network namespace. Its descriptor is readable
/// while there is something to [drain](Watch::drain).
#[derive(Debug)]
pub struct Watch {
    socket: Socket,
    own: Own,
}

impl Watch {
    /// Begins to watch the calling thread's network namespace.
    pub fn open(own: Own) -> io::Result<Self> {
        let socket = Socket::open(ROUTE)?;
        socket.buffers(0, BUFFER)?;
        for group in GROUPS {
            socket.join(group)?;
        }
        Ok(Self { socket, own })
    }

    /// From now on, this is ours.
    pub fn set(&mut self, own: Own) {
        self.own = own;
    }

    /// What changed since. Never blocks.
    pub fn drain(&mut self) -> io::Result<Changes> {
        let mut changes = Changes::default();
        for _ in 0..MOST_DATAGRAMS {
            match self.socket.receive(false) {
                Ok(messages) => messages.for_each(|message| take(&self.own, &message, &mut changes)),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) if error.raw_os_error() == Some(libc::ENOBUFS) => changes.lost = true,
                Err(error) => return Err(error),
            }
        }
        Ok(changes)
    }
}

impl AsFd for Watch {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

/// Takes one notification in.
pub(super) fn take(own: &Own, message: &Message<'_>, changes: &mut Changes) {
    let ours = message.port != 0 && own.port == Some(message.port);
    match message.kind {
        links::NEWLINK | links::DELLINK => changes.links = true,
        links::NEWADDR | links::DELADDR => changes.addresses = true,
        rule::NEWRULE if !ours => changes.rules_new = true,
        rule::DELRULE if !ours => match rule::read(message).filter(|rule| rule.protocol == own.protocol) {
            None => changes.rules_gone = true,
            Some(rule) if changes.ours_gone.len() < MOST_GONE => changes.ours_gone.push(rule),
            Some(_) => changes.lost = true,
        },
        route::NEWROUTE | route::DELROUTE if !ours => {
            let Some(route) = route::read(message) else { return };
            let of_us = route.protocol == own.protocol && message.kind == route::DELROUTE;
            changes.routes_gone |= of_us;
            changes.defaults |= route.is_default() || !of_us && own.tables.contains(&route.table);
        }
        _ => {}
    }
}
