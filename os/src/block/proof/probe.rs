//! Three hosts on two cables, and datagrams across them.
//!
//! ```text
//!   outside ──── host (where we are) ──── inside
//!   probe 192.0.2.66, 2001:db8:66::66       192.0.2.129, 2001:db8:1::81
//!   other 192.0.2.77, 2001:db8:77::77
//! ```
//! The probe is banned, the other is not: its datagram, sent last, tells that those of the probe had
//! their chance. RFC 5737 and RFC 3849: addresses for documentation, which no real host has.

use std::fs;
use std::io::ErrorKind;
use std::net::{SocketAddr, UdpSocket};
use std::time::Duration;

use palisade_core::bans::backend::Backend;
use palisade_core::bans::proof::{Trial, Way};
use palisade_core::bans::wall::{Entry, Frame, Key, Step};
use palisade_core::config::BackendSection;
use palisade_core::net::{Addr, Prefix};
use palisade_core::time::{Span, Until};

use crate::block::{self, Blocker, Read};
use crate::clock;
use crate::errors::chain;
use crate::netns::{Netns, NetnsError, Wiring};

const HOST: [&str; 2] = ["192.0.2.1", "2001:db8:1::1"];
const PROBE: [&str; 2] = ["192.0.2.66", "2001:db8:66::66"];
const OTHER: [&str; 2] = ["192.0.2.77", "2001:db8:77::77"];
const INSIDE: [&str; 2] = ["192.0.2.129", "2001:db8:1::81"];

/// The discard service's port (RFC 863): nobody's rules do anything special with it.
const PORT: u16 = 9;

/// How many datagrams are sent each time: the first may wait for a neighbour's address.
const SENT: usize = 3;

/// What the datagrams hold.
const OF_PROBE: &[u8] = b"palisade: of the probe";
const OF_OTHER: &[u8] = b"palisade: of the other";

/// How often nobody may be heard before that is how it is.
const ROUNDS: usize = 3;

/// How long is waited for what may not come. Across a cable it takes microseconds; the first one needs
/// the neighbour's answer, which takes no longer.
const SILENCE: Duration = Duration::from_millis(120);

/// How long the bans last at most: longer than this takes.
const BANNED: Span = Span::secs(300);

/// Switches that make the namespace forward (ip-sysctl.rst).
const FORWARD: [&str; 2] = ["/proc/sys/net/ipv4/ip_forward", "/proc/sys/net/ipv6/conf/all/forwarding"];

/// What the far ends of the cables are called.
const TO_HOST: &str = "host";
/// What the cables are called here, where the host has no interface to name them after.
const OUTSIDE: &str = "outside";
const INSIDE_LINK: &str = "inside";

/// Switches that look first whether an IPv6 address is anybody else's: for a second or two the link's own address
/// could not ask for a neighbour's, and nothing would be passed on.
const DETECTS_DUPLICATES: [&str; 2] = ["/proc/sys/net/ipv6/conf/all/accept_dad", "/proc/sys/net/ipv6/conf/default/accept_dad"];

/// The namespaces, as long as files can still be written: their switches are files.
pub(super) struct Ground {
    outside: Netns,
    inside: Netns,
    forwards: [bool; 2],
}

impl Ground {
    /// Two more namespaces than the one the caller is in, which forwards where it may.
    pub(super) fn lay() -> Result<Self, NetnsError> {
        let (outside, inside) = (Netns::new()?, Netns::new()?);
        // Where it is not possible, the first packets are lost and the next rounds tell.
        let no_waiting = || DETECTS_DUPLICATES.iter().for_each(|path| _ = fs::write(path, "0"));
        no_waiting();
        outside.within(no_waiting)?;
        inside.within(no_waiting)?;
        Ok(Self { outside, inside, forwards: FORWARD.map(|path| fs::write(path, "1").is_ok()) })
    }
}

/// The three of them.
pub(super) struct Lab {
    outside: Netns,
    inside: Netns,
    forwards: [bool; 2],
}

fn addr(text: &str) -> Addr {
    text.parse().expect("the constants above are addresses")
}

fn host(text: &str) -> Prefix {
    Prefix::host(addr(text))
}

impl Lab {
    /// Builds it around the namespace the caller is in, with interfaces that are called like the host's.
    pub(super) fn build(links: &[String], Ground { outside, inside, forwards }: Ground) -> Result<Self, NetnsError> {
        let mut here = Netns::current()?.wiring()?;
        here.up("lo")?;
        let wan = links.first().map_or(OUTSIDE, String::as_str);
        here.cable(wan, &outside, TO_HOST)?;
        here.cable(INSIDE_LINK, &inside, TO_HOST)?;
        // The others only have to be there, for rules that name them.
        for (n, link) in links.iter().enumerate().skip(1) {
            here.cable(link, &inside, &format!("spare{n}"))?;
        }
        for (link, far, peers) in [(wan, &outside, [PROBE, OTHER].as_slice()), (INSIDE_LINK, &inside, [INSIDE].as_slice())] {
            here.up(link)?;
            let mut there = far.wiring()?;
            there.up(TO_HOST)?;
            for (family, own) in HOST.iter().enumerate() {
                here.add_address(link, addr(own))?;
                there.add_route(host(own), TO_HOST)?;
                for peer in peers {
                    there.add_address(TO_HOST, addr(peer[family]))?;
                    here.add_route(host(peer[family]), link)?;
                }
            }
        }
        cross(&mut outside.wiring()?, [INSIDE].as_slice())?;
        cross(&mut inside.wiring()?, [PROBE, OTHER].as_slice())?;
        Ok(Self { outside, inside, forwards })
    }

    /// Each way before, during and after a ban of the probe. The error says what of it could not be put up.
    pub(super) fn trials(&self, backend: Backend, section: &BackendSection) -> Result<Vec<Trial>, String> {
        let mut wall = block::open(backend, section).map_err(|error| chain(&error))?;
        let ways: Vec<(Way, usize)> = [(Way::In4, 0), (Way::In6, 1), (Way::Through4, 0), (Way::Through6, 1)]
            .into_iter()
            .filter(|(way, family)| matches!(way, Way::In4 | Way::In6) || self.forwards[*family])
            .collect();
        let before: Vec<Option<bool>> = ways.iter().map(|way| self.arrives(*way)).collect::<Result<_, _>>()?;
        let keys = PROBE.map(|text| Key::all(host(text)));
        let now = clock::now().stamp;
        let entries = keys.clone().map(|key| Entry { key, until: Until::At(now.plus(BANNED)) });
        let report = wall.replace(&Frame::default(), &mut entries.into_iter(), now).map_err(|error| chain(&error))?;
        if let Some((_, why)) = report.failed.first() {
            return Err(why.clone());
        }
        let mut trials = Vec::new();
        for ((way, family), before) in ways.iter().zip(before) {
            let earlier = counted(wall.as_mut(), &keys[*family])?;
            let banned = self.arrives((*way, *family))?;
            let later = counted(wall.as_mut(), &keys[*family])?;
            let stands = later.is_some();
            let counted = later.flatten().map(|packets| packets.saturating_sub(earlier.flatten().unwrap_or(0)));
            trials.push(Trial { way: *way, before, stands, banned, counted, after: None });
        }
        let steps = keys.map(Step::Release);
        if let Some((_, why)) = wall.apply(&steps, clock::now().stamp).failed.first() {
            return Err(why.clone());
        }
        for (trial, way) in trials.iter_mut().zip(&ways) {
            trial.after = self.arrives(*way)?;
        }
        Ok(trials)
    }

    /// Whether datagrams of the probe arrive; `None` where nobody's do. Rules that let only so many pass in a while get
    /// some more chances to let the other's.
    fn arrives(&self, way: (Way, usize)) -> Result<Option<bool>, String> {
        for _ in 0..ROUNDS {
            if let Some(arrives) = self.round(way)? {
                return Ok(Some(arrives));
            }
        }
        Ok(None)
    }

    fn round(&self, (way, family): (Way, usize)) -> Result<Option<bool>, String> {
        let (to, receiver) = match way {
            Way::In4 | Way::In6 => (HOST[family], Netns::current().map_err(|error| chain(&error))?),
            Way::Through4 | Way::Through6 => (INSIDE[family], self.inside.share().map_err(|error| chain(&error))?),
        };
        let sent = |error: std::io::Error| format!("a probe packet could not be sent: {error}");
        let to = SocketAddr::new(addr(to).ip(), PORT);
        let bind = |from: SocketAddr| move || UdpSocket::bind(from);
        let ears = receiver.within(bind(to)).map_err(|error| chain(&error))?.map_err(sent)?;
        ears.set_read_timeout(Some(SILENCE)).map_err(sent)?;
        // Told apart by what they hold: rules on the way may change where they come from.
        for (from, text) in [(addr(PROBE[family]).ip(), OF_PROBE), (addr(OTHER[family]).ip(), OF_OTHER)] {
            let mouth = self.outside.within(bind(SocketAddr::new(from, 0))).map_err(|error| chain(&error))?.map_err(sent)?;
            for _ in 0..SENT {
                mouth.send_to(text, to).map_err(sent)?;
            }
        }
        let (mut heard, mut others) = (false, 0);
        let mut buffer = [0; 64];
        while others < SENT {
            match ears.recv_from(&mut buffer) {
                Ok((len, _)) => {
                    heard |= buffer[..len] == *OF_PROBE;
                    others += usize::from(buffer[..len] == *OF_OTHER);
                }
                Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => break,
                Err(error) => return Err(sent(error)),
            }
        }
        Ok((heard || others > 0).then_some(heard))
    }
}

/// Routes to those behind the host, by way of it.
fn cross(wiring: &mut Wiring, peers: &[[&str; 2]]) -> Result<(), NetnsError> {
    for peer in peers {
        for (to, by) in peer.iter().zip(HOST) {
            wiring.add_route_by(host(to), addr(by), TO_HOST)?;
        }
    }
    Ok(())
}

/// What the ban has dropped, where it stands and where it counts.
#[expect(clippy::option_option, reason = "stands or not, counts or not")]
fn counted(wall: &mut dyn Blocker, key: &Key) -> Result<Option<Option<u64>>, String> {
    let found = wall.read(Read::Keys(std::slice::from_ref(key))).map_err(|error| chain(&error))?;
    Ok(found.bans.get(key).map(|standing| standing.packets))
}
