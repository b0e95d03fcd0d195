//! What others change: links, addresses, rules, routes.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};

use palisade_core::route::TableId;
use palisade_core::route::world::Changes;

use super::wire::{self, DELADDR, DELLINK, DELROUTE, DELRULE, NEWADDR, NEWLINK, NEWROUTE, NEWRULE};
use crate::netlink::socket::{ROUTE, Socket};
use crate::netlink::wire::Message;

/// `RTNLGRP_LINK`, `IPV4_IFADDR`, `IPV4_ROUTE`, `IPV4_RULE`, `IPV6_IFADDR`, `IPV6_ROUTE`, `IPV6_RULE` (linux/rtnetlink.h).
const GROUPS: [u32; 7] = [1, 5, 7, 8, 9, 11, 19];

/// Notifications that wait here: with the default of 208 KiB a thousand changes at once are lost.
const RECEIVE: i32 = 4 << 20;

/// How many datagrams are read in one go; on a router in turmoil there is always one more, and the descriptor stays
/// readable.
const MOST_DATAGRAMS: usize = 4096;

/// How many removed rules and routes are told one by one. Whoever removes more is met by a look at everything.
const MOST_REMOVED: usize = 1024;

/// Hears what changes by others' hands.
#[derive(Debug)]
pub struct Watch {
    socket: Socket,
    /// The port of the socket that makes our own changes.
    own: u32,
}

impl Watch {
    /// Begins to listen in the calling thread's network namespace, deaf to what is done through the socket with the
    /// port `own`.
    pub fn open(own: u32) -> io::Result<Self> {
        let socket = Socket::open(ROUTE)?;
        socket.buffers(RECEIVE, RECEIVE)?;
        for group in GROUPS {
            socket.join(group)?;
        }
        Ok(Self { socket, own })
    }

    /// Reads what waits. Never waits itself.
    pub fn drain(&mut self) -> io::Result<Changes> {
        let mut changes = Changes::default();
        for _ in 0..MOST_DATAGRAMS {
            match self.socket.receive(false) {
                Ok(messages) => messages.filter(|message| message.port != self.own).for_each(|message| take(&message, &mut changes)),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) if error.raw_os_error() == Some(libc::ENOBUFS) => changes.lost = true,
                Err(error) => return Err(error),
            }
        }
        Ok(changes)
    }
}

fn take(message: &Message<'_>, changes: &mut Changes) {
    // The kernel itself removes what hangs on a link that goes; only who asked for it has a port.
    let by_somebody = message.port != 0;
    let room = changes.rules.len() + changes.routes.len() < MOST_REMOVED;
    match message.kind {
        NEWLINK | DELLINK | NEWADDR | DELADDR => changes.links = true,
        DELRULE if by_somebody && room => changes.rules.extend(wire::rule(message)),
        DELRULE | NEWRULE => changes.others = true,
        NEWROUTE | DELROUTE => {
            let Some(route) = wire::route(message) else { return };
            // A router's own thousands: nothing of ours depends on them.
            if matches!(route.table, TableId::MAIN | TableId::LOCAL) {
                changes.others |= route.is_default();
            } else if message.kind == DELROUTE && by_somebody && room {
                changes.routes.push(wire::normal(route));
            } else {
                changes.others |= message.kind == DELROUTE || route.is_default();
            }
        }
        _ => {}
    }
}

impl AsFd for Watch {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}
