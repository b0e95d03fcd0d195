//! Cables, addresses and routes of a network namespace, over rtnetlink.
//!
//! ```text
//!  16 RTM_NEWLINK 18 GETLINK   ifinfomsg  u8 family  u8 pad  u16 type  i32 link  u32 flags  u32 change
//!       3 IFLA_IFNAME   28 IFLA_NET_NS_FD
//!       18 IFLA_LINKINFO { 1 IFLA_INFO_KIND "veth"  2 IFLA_INFO_DATA { 1 VETH_INFO_PEER: ifinfomsg, attributes } }
//!  20 RTM_NEWADDR 21 DELADDR   ifaddrmsg  u8 family  u8 prefixlen  u8 flags  u8 scope  u32 link
//!       1 IFA_ADDRESS   2 IFA_LOCAL
//!  24 RTM_NEWROUTE             rtmsg      u8 family  u8 dst_len  u8 src_len  u8 tos  u8 table  u8 protocol  u8 scope  u8 type  u32 flags
//!       1 RTA_DST   4 RTA_OIF   5 RTA_GATEWAY
//! ```
//! Source: rtnetlink(7), linux/rtnetlink.h, linux/if_link.h, linux/if_addr.h, linux/veth.h.

use std::io;
use std::os::fd::{AsFd, AsRawFd};

use palisade_core::net::{Addr, Family, Prefix};

use super::{Netns, NetnsError, failed};
use crate::netlink::family_byte;
use crate::netlink::socket::{ROUTE, Socket};
use crate::netlink::wire::{Builder, HEADER, flag};

const NEWLINK: u16 = 16;
const GETLINK: u16 = 18;
const NEWADDR: u16 = 20;
const DELADDR: u16 = 21;
const NEWROUTE: u16 = 24;

const IFINFOMSG: usize = 16;
const IFLA_IFNAME: u16 = 3;
const IFLA_LINKINFO: u16 = 18;
const IFLA_NET_NS_FD: u16 = 28;
const IFLA_INFO_KIND: u16 = 1;
const IFLA_INFO_DATA: u16 = 2;
const VETH_INFO_PEER: u16 = 1;
/// `IFF_UP`.
const UP: u32 = 1;

const IFA_ADDRESS: u16 = 1;
const IFA_LOCAL: u16 = 2;
/// `IFA_F_NODAD`: usable at once; nobody else on our cables could have the address.
const NODAD: u8 = 2;

const RTA_DST: u16 = 1;
const RTA_OIF: u16 = 4;
const RTA_GATEWAY: u16 = 5;
/// `RT_TABLE_MAIN`, `RTPROT_STATIC`, `RT_SCOPE_LINK`, `RTN_UNICAST`.
const ON_LINK: [u8; 4] = [254, 4, 253, 1];

/// One network namespace's interfaces, to be changed.
#[derive(Debug)]
pub struct Wiring(Socket);

impl Wiring {
    /// Of the calling thread's namespace.
    pub(super) fn open() -> Result<Self, NetnsError> {
        Socket::open(ROUTE).map(Self).map_err(failed("opening rtnetlink"))
    }

    /// Lays a cable (a veth pair) from here, where its end is called `name`, to `there`. Both ends are down.
    pub fn cable(&mut self, name: &str, there: &Netns, name_there: &str) -> Result<(), NetnsError> {
        // The far end is described as a whole message without its header.
        let mut far = Builder::new();
        far.message(0, 0, 0, &[0; IFINFOMSG]).attr_str(IFLA_IFNAME, name_there);
        far.attr(IFLA_NET_NS_FD, &there.as_fd().as_raw_fd().to_ne_bytes());
        self.ask(NEWLINK, flag::CREATE | flag::EXCL, &[0; IFINFOMSG], |b| {
            b.attr_str(IFLA_IFNAME, name);
            let info = b.nest(IFLA_LINKINFO);
            b.attr_str(IFLA_INFO_KIND, "veth");
            let data = b.nest(IFLA_INFO_DATA);
            b.attr(VETH_INFO_PEER, &far.bytes()[HEADER..]).end(data).end(info);
        })
        .map_err(failed(format!("laying the cable {name}")))
    }

    /// Switches an interface on.
    pub fn up(&mut self, link: &str) -> Result<(), NetnsError> {
        let mut head = [0; IFINFOMSG];
        head[8..12].copy_from_slice(&UP.to_ne_bytes());
        head[12..16].copy_from_slice(&UP.to_ne_bytes());
        self.ask(NEWLINK, 0, &head, |b| _ = b.attr_str(IFLA_IFNAME, link)).map_err(failed(format!("switching {link} on")))
    }

    /// Gives an interface this address alone, without a network around it.
    pub fn add_address(&mut self, link: &str, addr: Addr) -> Result<(), NetnsError> {
        self.address(NEWADDR, flag::CREATE | flag::EXCL, link, addr).map_err(failed(format!("adding {addr} to {link}")))
    }

    /// Takes an address away that [`Wiring::add_address`] gave.
    pub fn remove_address(&mut self, link: &str, addr: Addr) -> Result<(), NetnsError> {
        self.address(DELADDR, 0, link, addr).map_err(failed(format!("removing {addr} from {link}")))
    }

    fn address(&mut self, kind: u16, flags: u16, link: &str, addr: Addr) -> io::Result<()> {
        let [a, b, c, d] = self.index(link)?.to_ne_bytes();
        let head = [family_byte(Some(addr.family())), addr.family().bits(), NODAD, 0, a, b, c, d];
        self.ask(kind, flags, &head, |b| _ = b.attr(IFA_LOCAL, &addr.octets()).attr(IFA_ADDRESS, &addr.octets()))
    }

    /// Says that `to` is found at the other end of this interface's cable.
    pub fn add_route(&mut self, to: Prefix, link: &str) -> Result<(), NetnsError> {
        self.route(to, None, link).map_err(failed(format!("adding a route to {to} by {link}")))
    }

    /// Says that `to` is found by way of `gateway`, which is at the other end of this interface's cable.
    pub fn add_route_by(&mut self, to: Prefix, gateway: Addr, link: &str) -> Result<(), NetnsError> {
        self.route(to, Some(gateway), link).map_err(failed(format!("adding a route to {to} by {gateway}")))
    }

    fn route(&mut self, to: Prefix, gateway: Option<Addr>, link: &str) -> io::Result<()> {
        let index = self.index(link)?;
        let [table, protocol, scope, kind] = ON_LINK;
        // IPv6 routes have no scope, and what is behind a gateway is not on the link (RT_SCOPE_UNIVERSE).
        let scope = if to.family() == Family::V4 && gateway.is_none() { scope } else { 0 };
        let head = [family_byte(Some(to.family())), to.len(), 0, 0, table, protocol, scope, kind, 0, 0, 0, 0];
        self.ask(NEWROUTE, flag::CREATE | flag::EXCL, &head, |b| {
            b.attr(RTA_DST, &to.addr().octets()).attr(RTA_OIF, &index.to_ne_bytes());
            if let Some(gateway) = gateway {
                b.attr(RTA_GATEWAY, &gateway.octets());
            }
        })
    }

    fn index(&mut self, link: &str) -> io::Result<u32> {
        let seq = self.0.next_seq();
        let mut request = Builder::new();
        request.message(GETLINK, flag::REQUEST | flag::ACK, seq, &[0; IFINFOMSG]).attr_str(IFLA_IFNAME, link);
        let mut index = None;
        self.0.request(request.bytes(), seq, |message| {
            index = message.payload.get(4..8).and_then(|bytes| bytes.try_into().ok()).map(u32::from_ne_bytes);
        })?;
        index.ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    fn ask(&mut self, kind: u16, flags: u16, head: &[u8], attributes: impl FnOnce(&mut Builder)) -> io::Result<()> {
        let seq = self.0.next_seq();
        let mut request = Builder::new();
        attributes(request.message(kind, flag::REQUEST | flag::ACK | flags, seq, head));
        self.0.request(request.bytes(), seq, |_| {})
    }
}
