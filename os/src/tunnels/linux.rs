//! 6in4 and GRE interfaces over rtnetlink.
//!
//! ```text
//!  16 RTM_NEWLINK 17 DELLINK 18 GETLINK   ifinfomsg  u8 family  u8 pad  u16 type  i32 link  u32 flags  u32 change
//!       3 IFLA_IFNAME   4 IFLA_MTU   20 IFLA_IFALIAS (cannot be told when an interface is made, only afterwards)
//!       18 IFLA_LINKINFO { 1 IFLA_INFO_KIND  2 IFLA_INFO_DATA { see `ends` } }
//!  20 RTM_NEWADDR   ifaddrmsg  u8 family  u8 prefixlen  u8 flags  u8 scope  u32 link
//!       1 IFA_ADDRESS   2 IFA_LOCAL
//! ```
//! Source: rtnetlink(7), linux/rtnetlink.h, linux/if_link.h, linux/if_addr.h.

use std::io;
use std::net::{IpAddr, Ipv4Addr};

use palisade_core::net::Addr;
use palisade_core::route::handshakes::Peers;
use palisade_core::route::tunnels::LinkTunnel;

use super::ends::{Dialect, Ends};
use super::{LinkState, TunnelError};
use crate::netlink::family_byte;
use crate::netlink::socket::{Next, ROUTE, Socket};
use crate::netlink::wire::{Builder, Message, flag};

const NEWLINK: u16 = 16;
const DELLINK: u16 = 17;
const GETLINK: u16 = 18;
const NEWADDR: u16 = 20;

const IFINFOMSG: usize = 16;
const IFLA_IFNAME: u16 = 3;
const IFLA_MTU: u16 = 4;
const IFLA_LINKINFO: u16 = 18;
const IFLA_IFALIAS: u16 = 20;
const IFLA_INFO_KIND: u16 = 1;
const IFLA_INFO_DATA: u16 = 2;
/// `IFF_UP`.
const UP: u32 = 1;
/// `IFF_LOWER_UP`.
const LOWER_UP: u32 = 1 << 16;

const IFA_ADDRESS: u16 = 1;
const IFA_LOCAL: u16 = 2;

/// What an interface made here says in its alias. By the interface's name and not the tunnel's: one that was renamed
/// is no longer what we made, and a tunnel that is called otherwise in the config still is.
fn mark(interface: &str) -> String {
    format!("palisade: tunnel {interface}")
}

/// An interface as it was found.
#[derive(Clone, Debug, Default)]
struct Found {
    index: u32,
    name: String,
    flags: u32,
    mtu: u32,
    alias: String,
    kind: Option<String>,
    data: Vec<u8>,
}

impl Found {
    fn read(message: &Message<'_>) -> Option<Self> {
        let head = message.payload.first_chunk::<IFINFOMSG>()?;
        let number = |at: usize| u32::from_ne_bytes([head[at], head[at + 1], head[at + 2], head[at + 3]]);
        let attrs = message.attrs(IFINFOMSG);
        let text = |kind| attrs.find(kind).and_then(|attr| attr.str()).unwrap_or_default().to_owned();
        let info = attrs.find(IFLA_LINKINFO).map(|attr| attr.nested());
        let within = |kind| info.and_then(|info| info.find(kind));
        (message.kind == NEWLINK).then(|| Self {
            index: number(4),
            name: text(IFLA_IFNAME),
            flags: number(8),
            mtu: attrs.find(IFLA_MTU).and_then(|attr| attr.ne32()).unwrap_or_default(),
            alias: text(IFLA_IFALIAS),
            kind: within(IFLA_INFO_KIND).and_then(|attr| attr.str()).map(str::to_owned),
            data: within(IFLA_INFO_DATA).map(|attr| attr.payload.to_vec()).unwrap_or_default(),
        })
    }

    fn ends(&self) -> Ends {
        self.kind.as_deref().and_then(Dialect::named).map(|dialect| dialect.read(&self.data)).unwrap_or_default()
    }

    fn ours(&self) -> bool {
        self.alias == mark(&self.name)
    }

    /// Whether it is the tunnel that is declared, wherever it begins.
    fn is(&self, tunnel: &LinkTunnel) -> bool {
        self.kind.as_deref() == Some(Dialect::of(tunnel.kind).kind) && self.ends().remote == Some(tunnel.remote)
    }

    /// `a sit tunnel to 192.0.2.9`.
    fn text(&self) -> String {
        match (self.kind.as_deref(), self.ends().remote) {
            (Some(kind), Some(remote)) => format!("a {kind} tunnel to {remote}"),
            (Some(kind), None) => format!("a {kind} interface"),
            (None, _) => "a network card".to_owned(),
        }
    }
}

pub(super) fn make(tunnel: &LinkTunnel, local: Addr) -> Result<u32, TunnelError> {
    let (near, far) = (v4(tunnel, local)?, v4(tunnel, tunnel.remote)?);
    let mut kernel = Kernel::open(tunnel)?;
    let index = if let Some(found) = kernel.find()? {
        kernel.adopt(&found, near)?;
        found.index
    } else {
        kernel.create(near, far)?
    };
    for (addr, len) in &tunnel.addresses {
        kernel.add_address(index, *addr, *len)?;
    }
    kernel.switch_on(index)?;
    Ok(index)
}

pub(super) fn set_local(tunnel: &LinkTunnel, local: Addr) -> Result<(), TunnelError> {
    let near = v4(tunnel, local)?;
    let mut kernel = Kernel::open(tunnel)?;
    let Some(found) = kernel.find()? else {
        return Err(kernel.failed("move the near end of", io::ErrorKind::NotFound.into()));
    };
    kernel.must_be_it(&found)?;
    if found.ends().local == Some(local) {
        return Ok(());
    }
    let ttl = found.ends().ttl;
    kernel.change(&found, near, ttl, None)
}

pub(super) fn remove(tunnel: &LinkTunnel) -> Result<bool, TunnelError> {
    let mut kernel = Kernel::open(tunnel)?;
    let Some(found) = kernel.find()?.filter(Found::ours) else { return Ok(false) };
    kernel.delete(found.index).map(|()| true)
}

pub(super) fn state(tunnel: &LinkTunnel) -> Result<Option<LinkState>, TunnelError> {
    Ok(Kernel::open(tunnel)?.find()?.map(|found| {
        let Ends { local, remote, .. } = found.ends();
        let (up, carrier, ours) = (found.flags & UP != 0, found.flags & LOWER_UP != 0, found.ours());
        LinkState { index: found.index, kind: found.kind, local, remote, up, carrier, ours }
    }))
}

pub(super) fn wireguard(interface: &str) -> Result<Option<Peers>, TunnelError> {
    super::wireguard::peers(interface).map_err(|e| TunnelError::new(format!("read the peers of WireGuard interface {interface}"), e))
}

fn v4(tunnel: &LinkTunnel, addr: Addr) -> Result<Ipv4Addr, TunnelError> {
    match addr.ip() {
        IpAddr::V4(addr) => Ok(addr),
        IpAddr::V6(addr) => {
            let kind = Dialect::of(tunnel.kind).kind;
            let what = format!("make the tunnel {} with {addr} at an end: {kind} runs over IPv4, name an IPv4 address", tunnel.interface);
            Err(TunnelError::new(what, io::ErrorKind::InvalidInput.into()))
        }
    }
}

/// rtnetlink, and the tunnel it is asked about.
struct Kernel<'a> {
    socket: Socket,
    tunnel: &'a LinkTunnel,
    dialect: Dialect,
}

impl<'a> Kernel<'a> {
    /// Of the calling thread's namespace.
    fn open(tunnel: &'a LinkTunnel) -> Result<Self, TunnelError> {
        let socket = Socket::open(ROUTE).map_err(|e| TunnelError::new("open netlink to the interfaces", e))?;
        Ok(Self { socket, tunnel, dialect: Dialect::of(tunnel.kind) })
    }

    /// `what` is a verb and how it goes on: `make`, `add an address to`.
    fn failed(&self, what: &str, error: io::Error) -> TunnelError {
        TunnelError::new(format!("{what} tunnel interface {}", self.tunnel.interface), error)
    }

    /// The same with what to do about it.
    fn failed_as(&self, what: &str, hint: &str, error: io::Error) -> TunnelError {
        TunnelError::new(format!("{what} tunnel interface {}: {hint}", self.tunnel.interface), error)
    }

    /// The interface of the tunnel's name.
    fn find(&mut self) -> Result<Option<Found>, TunnelError> {
        let seq = self.socket.next_seq();
        let mut request = Builder::new();
        request.message(GETLINK, flag::REQUEST | flag::ACK, seq, &[0; IFINFOMSG]).attr_str(IFLA_IFNAME, &self.tunnel.interface);
        let mut found = None;
        match self.socket.request(request.bytes(), seq, |message| found = Found::read(&message)) {
            Ok(()) => Ok(found),
            Err(error) if error.raw_os_error() == Some(libc::ENODEV) => Ok(None),
            Err(error) => Err(self.failed("read the state of", error)),
        }
    }

    fn must_be_it(&self, found: &Found) -> Result<(), TunnelError> {
        if found.is(self.tunnel) {
            return Ok(());
        }
        let LinkTunnel { interface, remote, .. } = self.tunnel;
        let what = format!(
            "use the interface {interface} as {} tunnel to {remote}: it is {} and is left alone; name another interface in the config, or remove it (ip link del {interface})",
            self.dialect.kind,
            found.text()
        );
        Err(TunnelError::new(what, io::ErrorKind::AlreadyExists.into()))
    }

    /// Makes one that is there the one that is declared. Only of our own more than the near end is set.
    fn adopt(&mut self, found: &Found, near: Ipv4Addr) -> Result<(), TunnelError> {
        self.must_be_it(found)?;
        let Ends { local, ttl, .. } = found.ends();
        let (ttl_wanted, mtu) = if found.ours() { (self.tunnel.ttl, Some(self.tunnel.mtu)) } else { (ttl, None) };
        let mtu = mtu.filter(|mtu| *mtu != found.mtu);
        if local == Some(Addr::from(IpAddr::V4(near))) && ttl == ttl_wanted && mtu.is_none() {
            return Ok(());
        }
        self.change(found, near, ttl_wanted, mtu)
    }

    fn create(&mut self, near: Ipv4Addr, far: Ipv4Addr) -> Result<u32, TunnelError> {
        let LinkTunnel { interface, ttl, mtu, .. } = self.tunnel;
        let dialect = self.dialect;
        let made = self.ask(NEWLINK, flag::CREATE | flag::EXCL, &[0; IFINFOMSG], |b| {
            b.attr_str(IFLA_IFNAME, interface).attr(IFLA_MTU, &mtu.to_ne_bytes());
            let info = b.nest(IFLA_LINKINFO);
            b.attr_str(IFLA_INFO_KIND, dialect.kind);
            let data = b.nest(IFLA_INFO_DATA);
            dialect.write(b, near, far, *ttl);
            b.end(data).end(info);
        });
        made.map_err(|e| self.not_made(near, e))?;
        let gone = || io::Error::from(io::ErrorKind::NotFound);
        let index = self.find()?.ok_or_else(|| self.failed("find the just made", gone()))?.index;
        let marked = self.ask(NEWLINK, 0, &head(index, 0), |b| _ = b.attr_str(IFLA_IFALIAS, &mark(interface)));
        // One without our mark would stay for ever.
        marked.map_err(|e| {
            let _ = self.delete(index);
            self.failed("mark as ours the", e)
        })?;
        Ok(index)
    }

    /// Why the kernel would not have a tunnel that begins there, and what to do.
    fn not_made(&mut self, near: Ipv4Addr, error: io::Error) -> TunnelError {
        let kind = self.dialect.kind;
        match error.raw_os_error() {
            Some(libc::EOPNOTSUPP) => {
                let hint = format!("this kernel has no {kind} interfaces now; load what has them (modprobe {})", module(kind));
                self.failed_as("make", &hint, error)
            }
            Some(libc::EEXIST) => match self.same_ends(near) {
                Some(other) => self.failed_as("make", &taken(&other), error),
                None => self.failed("make", error),
            },
            _ => self.failed("make", error),
        }
    }

    /// Who has the ends already.
    fn same_ends(&mut self, near: Ipv4Addr) -> Option<String> {
        let ends = (Some(Addr::from(IpAddr::V4(near))), Some(self.tunnel.remote));
        let seq = self.socket.next_seq();
        let mut request = Builder::new();
        request.message(GETLINK, flag::REQUEST | flag::DUMP, seq, &[0; IFINFOMSG]);
        let mut other = None;
        let listed = self.socket.dump(request.bytes(), seq, |message| {
            let same = |found: &Found| found.is(self.tunnel) && (found.ends().local, found.ends().remote) == ends;
            other = Found::read(&message).filter(same).map(|found| found.name);
            if other.is_some() { Next::Enough } else { Next::More }
        });
        listed.ok().and(other)
    }

    fn change(&mut self, found: &Found, near: Ipv4Addr, ttl: u8, mtu: Option<u32>) -> Result<(), TunnelError> {
        let dialect = self.dialect;
        let changed = self.ask(NEWLINK, 0, &head(found.index, 0), |b| {
            if let Some(mtu) = mtu {
                b.attr(IFLA_MTU, &mtu.to_ne_bytes());
            }
            let info = b.nest(IFLA_LINKINFO);
            b.attr_str(IFLA_INFO_KIND, dialect.kind);
            let data = b.nest(IFLA_INFO_DATA);
            dialect.rewrite(b, &found.data, near, ttl);
            b.end(data).end(info);
        });
        changed.map_err(|error| {
            let what = format!("move to {near} the near end of");
            match (error.raw_os_error(), self.same_ends(near)) {
                (Some(libc::EEXIST), Some(other)) => self.failed_as(&what, &taken(&other), error),
                _ => self.failed(&what, error),
            }
        })
    }

    fn delete(&mut self, index: u32) -> Result<(), TunnelError> {
        self.ask(DELLINK, 0, &head(index, 0), |_| {}).map_err(|e| self.failed("remove", e))
    }

    fn switch_on(&mut self, index: u32) -> Result<(), TunnelError> {
        self.ask(NEWLINK, 0, &head(index, UP), |_| {}).map_err(|e| self.failed("switch on", e))
    }

    fn add_address(&mut self, index: u32, addr: Addr, len: u8) -> Result<(), TunnelError> {
        let [a, b, c, d] = index.to_ne_bytes();
        let head = [family_byte(Some(addr.family())), len, 0, 0, a, b, c, d];
        let added = self.ask(NEWADDR, flag::CREATE | flag::EXCL, &head, |b| {
            b.attr(IFA_LOCAL, &addr.octets()).attr(IFA_ADDRESS, &addr.octets());
        });
        match added {
            Err(error) if error.raw_os_error() != Some(libc::EEXIST) => {
                Err(self.failed(&format!("add the address {addr}/{len} to"), error))
            }
            _ => Ok(()),
        }
    }

    fn ask(&mut self, kind: u16, flags: u16, head: &[u8], attributes: impl FnOnce(&mut Builder)) -> io::Result<()> {
        let seq = self.socket.next_seq();
        let mut request = Builder::new();
        attributes(request.message(kind, flag::REQUEST | flag::ACK | flags, seq, head));
        self.socket.request(request.bytes(), seq, |_| {})
    }
}

/// `ifinfomsg` about an interface, with these flags switched on.
fn head(index: u32, on: u32) -> [u8; IFINFOMSG] {
    let mut head = [0; IFINFOMSG];
    head[4..8].copy_from_slice(&index.to_ne_bytes());
    head[8..12].copy_from_slice(&on.to_ne_bytes());
    head[12..16].copy_from_slice(&on.to_ne_bytes());
    head
}

/// What to do where another interface has the same two ends, which only one can have.
fn taken(other: &str) -> String {
    format!("{other} has the same two ends; name {other} in the config, or remove it (ip link del {other})")
}

/// Which module holds a kind of interface.
fn module(kind: &str) -> &str {
    if kind == "gre" { "ip_gre" } else { kind }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::netlink::wire::Messages;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn reading_is_total(bytes in proptest::collection::vec(any::<u8>(), 0..200), kind in prop_oneof![Just("sit"), Just("gre"), Just("x")]) {
            let mut b = Builder::new();
            b.message(NEWLINK, 0, 1, &[0; IFINFOMSG]);
            let info = b.nest(IFLA_LINKINFO);
            b.attr_str(IFLA_INFO_KIND, kind).attr(IFLA_INFO_DATA, &bytes).end(info);
            b.attr(IFLA_IFALIAS, &bytes).message(NEWLINK, 0, 1, &bytes);
            for message in Messages(b.bytes()) {
                if let Some(found) = Found::read(&message) {
                    let _ = (found.ends(), found.ours(), found.text());
                }
            }
        }
    }
}
