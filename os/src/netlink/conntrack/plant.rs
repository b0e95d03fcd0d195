//! States made by hand: for tests and measurements, which need half a million connections without having them.
//!
//! Nothing that guards a host uses this. What is planted is as real to the kernel as what packets made; do it only in
//! a network namespace of your own.
//!
//! A request is `IPCTNL_MSG_CT_NEW` with `NLM_F_CREATE | NLM_F_EXCL`: both tuples, status, timeout, and for TCP its
//! state (`ctnetlink_create_conntrack`, net/netfilter/nf_conntrack_netlink.c). The tuples may say what they like; bits
//! of translation cannot be set so, the kernel does not take them.

use std::io;

use palisade_core::flood::flow::TcpState;
use palisade_core::net::{Addr, Family};

use super::entry::{L4, Tuple, status};
use super::{NEW, PROTOINFO, PROTOINFO_TCP, PROTOINFO_TCP_STATE, STATUS, TIMEOUT, TUPLE_IP, TUPLE_ORIG, TUPLE_PROTO, TUPLE_REPLY, ZONE};
use crate::netlink::family_byte;
use crate::netlink::pipeline::Pipeline;
use crate::netlink::socket::Socket;
use crate::netlink::wire::{Builder, flag};

/// One state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Seed {
    /// The direction of its first packet.
    pub orig: Tuple,
    /// The direction of the answers.
    pub reply: Tuple,
    /// [`status`] bits; `CONFIRMED` is added.
    pub status: u32,
    /// In seconds.
    pub timeout: u32,
    /// Where a TCP connection is.
    pub tcp: Option<TcpState>,
    /// Its zone.
    pub zone: u16,
}

impl Seed {
    /// A flow that is answered and assured, open if it is TCP, untranslated, for ten minutes.
    pub fn new(protocol: u8, (source, source_port): (Addr, u16), (destination, port): (Addr, u16)) -> Self {
        let l4 = |source, destination| L4::Ports { source, destination };
        let orig = Tuple { source, destination, protocol, l4: l4(source_port, port) };
        let reply = Tuple { source: destination, destination: source, protocol, l4: l4(port, source_port) };
        let tcp = (protocol == palisade_core::flood::flow::TCP).then_some(TcpState::Established);
        Self { orig, reply, status: status::SEEN_REPLY | status::ASSURED, timeout: 600, tcp, zone: 0 }
    }

    fn write(&self, request: &mut Builder) {
        tuple(request, TUPLE_ORIG, &self.orig);
        tuple(request, TUPLE_REPLY, &self.reply);
        request.attr_be32(STATUS, self.status | status::CONFIRMED).attr_be32(TIMEOUT, self.timeout);
        if self.zone != 0 {
            request.attr(ZONE, &self.zone.to_be_bytes());
        }
        if let Some(state) = self.tcp {
            let outer = request.nest(PROTOINFO);
            let inner = request.nest(PROTOINFO_TCP);
            request.attr(PROTOINFO_TCP_STATE, &[state as u8]);
            request.end(inner);
            request.end(outer);
        }
    }
}

pub(super) fn tuple(request: &mut Builder, kind: u16, tuple: &Tuple) {
    let first = if tuple.source.family() == Family::V4 { 1 } else { 3 };
    let outer = request.nest(kind);
    let ip = request.nest(TUPLE_IP);
    request.attr(first, &tuple.source.octets()).attr(first + 1, &tuple.destination.octets());
    request.end(ip);
    let proto = request.nest(TUPLE_PROTO);
    request.attr(1, &[tuple.protocol]);
    match tuple.l4 {
        L4::Ports { source, destination } => _ = request.attr(2, &source.to_be_bytes()).attr(3, &destination.to_be_bytes()),
        L4::Icmp { id, kind, code } => {
            let first = if tuple.source.family() == Family::V4 { 4 } else { 7 };
            request.attr(first, &id.to_be_bytes()).attr(first + 1, &[kind]).attr(first + 2, &[code]);
        }
        L4::None => {}
    }
    request.end(proto);
    request.end(outer);
}

/// Plants them in the network namespace of the socket. How many are new; what is there already stays.
///
/// # Errors
/// The first that the kernel refused (`ENOMEM`: the table is full), after all were tried.
pub fn plant(socket: &mut Socket, seeds: impl IntoIterator<Item = Seed>) -> io::Result<u64> {
    let (mut planted, mut refused) = (0, None);
    let mut pipeline = Pipeline::new(socket);
    let mut ended = |errno| match errno {
        0 => planted += 1,
        libc::EEXIST => {}
        errno => _ = refused.get_or_insert(errno),
    };
    for seed in seeds {
        let request = pipeline.push(NEW, &[family_byte(Some(seed.orig.source.family())), 0, 0, 0]);
        request.add_flags(flag::CREATE | flag::EXCL);
        seed.write(request);
        if pipeline.full() {
            pipeline.flush(&mut ended)?;
        }
    }
    pipeline.flush(&mut ended)?;
    match refused {
        None => Ok(planted),
        Some(errno) => Err(io::Error::from_raw_os_error(errno)),
    }
}
