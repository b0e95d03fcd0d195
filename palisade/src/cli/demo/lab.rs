//! Three hosts on two cables, each in a network namespace of its own; the victim is where we are.

use std::io::{self, BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use palisade_core::net::{Addr, Prefix};
use palisade_os::netns::{Netns, NetnsError, Wiring};

/// The victim, as both of the others reach it (RFC 5737 and RFC 3849: addresses for documentation).
pub(super) const VICTIM: &str = "192.0.2.1";
pub(super) const VICTIM6: &str = "2001:db8:1::1";
/// The attacker, and the IPv6 network it can take any address of.
pub(super) const ATTACKER: &str = "198.51.100.66";
pub(super) const ATTACKERS6: &str = "2001:db8:66::/64";
/// Somebody who does nothing wrong.
pub(super) const BYSTANDER: &str = "203.0.113.5";

/// Addresses the attacker takes, one after another.
pub(super) const HOPS: [&str; 4] = ["2001:db8:66::a", "2001:db8:66::1:b", "2001:db8:66::2:c", "2001:db8:66:0:dead:beef:0:d"];

/// Where the victim's service listens.
pub(super) const PORT: u16 = 2222;

pub(super) const PICTURE: &str = "\
a network of our own:  attacker 198.51.100.66, 2001:db8:66::/64 ---+
                                                                   +--- victim 192.0.2.1, 2001:db8:1::1
                       bystander 203.0.113.5 ----------------------+    (a login service, guarded by `palisade run`)";

/// How long to wait for what should not come: a handshake takes well under a millisecond here.
pub(super) const SILENCE: Duration = Duration::from_millis(500);

/// What each end of a cable is called where it is.
const TO_ATTACKER: &str = "attacker";
const TO_BYSTANDER: &str = "bystander";
const TO_VICTIM: &str = "victim";

/// The network.
pub(super) struct Lab {
    pub(super) attacker: Netns,
    pub(super) bystander: Netns,
    attackers_wiring: Wiring,
    attackers_address: Option<Addr>,
}

fn addr(text: &str) -> Addr {
    text.parse().expect("the constants above are addresses")
}

impl Lab {
    /// Builds it around the namespace we are in.
    pub(super) fn build() -> Result<Self, NetnsError> {
        let victim = Netns::current()?;
        let (attacker, bystander) = (Netns::new()?, Netns::new()?);
        let mut here = victim.wiring()?;
        here.up("lo")?;
        let net = ATTACKERS6.parse().expect("the constant above is a prefix");
        let ends = [(TO_ATTACKER, &attacker, ATTACKER, Some(net)), (TO_BYSTANDER, &bystander, BYSTANDER, None)];
        for (cable, host, address, net) in ends {
            here.cable(cable, host, TO_VICTIM)?;
            here.up(cable)?;
            here.add_address(cable, addr(VICTIM))?;
            here.add_address(cable, addr(VICTIM6))?;
            here.add_route(Prefix::host(addr(address)), cable)?;
            if let Some(net) = net {
                here.add_route(net, cable)?;
            }
            let mut there = host.wiring()?;
            there.up(TO_VICTIM)?;
            there.add_address(TO_VICTIM, addr(address))?;
            there.add_route(Prefix::host(addr(VICTIM)), TO_VICTIM)?;
            there.add_route(Prefix::host(addr(VICTIM6)), TO_VICTIM)?;
        }
        let attackers_wiring = attacker.wiring()?;
        Ok(Self { attacker, bystander, attackers_wiring, attackers_address: None })
    }

    /// The attacker gives its IPv6 address up and takes another.
    pub(super) fn hop_to(&mut self, address: &str) -> Result<(), NetnsError> {
        if let Some(old) = self.attackers_address.replace(addr(address)) {
            self.attackers_wiring.remove_address(TO_VICTIM, old)?;
        }
        self.attackers_wiring.add_address(TO_VICTIM, addr(address))
    }
}

/// Connects to the victim's service, from within the namespace the caller is in.
pub(super) fn connect(victim: &str, within: Duration) -> io::Result<TcpStream> {
    let stream = TcpStream::connect_timeout(&SocketAddr::new(addr(victim).ip(), PORT), within)?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

/// Says a line; the answer, if there is one in time.
fn say(stream: &mut TcpStream, line: &str, within: Duration) -> io::Result<String> {
    stream.set_read_timeout(Some(within))?;
    stream.write_all(line.as_bytes())?;
    let mut answer = String::new();
    BufReader::new(stream).read_line(&mut answer)?;
    Ok(answer)
}

/// Whether what we say comes back in time.
pub(super) fn echoes(stream: &mut TcpStream, within: Duration) -> bool {
    say(stream, "are you there?\n", within).is_ok_and(|answer| answer == "are you there?\n")
}

/// Tries a wrong password. The answer does not matter, and to the last one there is none.
pub(super) fn try_password(victim: &str, within: Duration) {
    let _ = connect(victim, within).and_then(|mut stream| say(&mut stream, "login guess\n", SILENCE));
}

/// Whether a new connection gets no answer at all.
pub(super) fn times_out(victim: &str) -> bool {
    connect(victim, SILENCE).is_err_and(|error| error.kind() == io::ErrorKind::TimedOut)
}
