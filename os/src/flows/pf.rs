//! PF's states, by pfctl(8).
//!
//! What is to be ended, and how:
//!
//! 1. The host's own sockets, by [`super::tcpdrop`].
//! 2. `-k PREFIX`: states that the prefix began; `-k 0.0.0.0/0 -k PREFIX`: states that lead to it. One of them leaves
//!    the other's (`pf_ioctl.c`: `pf_killstates_row` compares the first with who began the state, the second with
//!    whom it leads to).
//! 3. `-K PREFIX` and `-K 0.0.0.0/0 -K PREFIX`: source tracking nodes, or a sticky translation outlives the states.
//! 4. Then all states are listed, and those of a target that are still there are ended one by one,
//!    `-k id -k ID/CREATOR`. What step 2 does not find:
//!    * a state in which the address stands on one side of a translation only: `-k` sees the key of the wire;
//!    * states of bans from some ports: `-k` of two networks knows no ports;
//!    * everything that leads *to* the prefix where pfctl copies the second `-k` over the first, as that of FreeBSD's main
//!      did in 2025 (`pfctl.c`: `pfctl_net_kill_states`), and says "killed 0 states".
//!
//! Where states cannot be listed, steps 2 and 3 are done for thousands of prefixes unseen, and that is told.
//!
//! With more than a few targets the listing comes first, and steps 2 and 3 are done for those only that are in it:
//! each `-k` walks all states in the kernel.

use std::collections::BTreeSet;
use std::io;

use palisade_core::bans::wall::Ports;
use palisade_core::config::BackendSection;
use palisade_core::net::{Addr, Family, Prefix};

use super::targets::Targets;
use super::tcpdrop::Tcpdrop;
use super::{FlowError, Flows, Killed, Target};
use crate::block::pf::{Pfctl, count_before};
use crate::process::ToolError;

/// Up to so many targets are killed without a look whether they have states. Each takes four calls of pfctl.
const DIRECT: usize = 16;

/// How often states are listed anew after some were ended. The block stands, so nothing new can begin and
/// once is nearly always enough.
const PASSES: usize = 3;

/// So many states are ended one by one in a pass; the next pass takes the rest. Each is a call of pfctl.
const SINGLE_MAX: usize = 4096;

/// What is told where states cannot be listed: what is done all the same, and what is not.
const UNLISTED: &str =
    "could not list states of PF, so those of up to 4096 prefixes shut out of all ports were ended unseen, and no others";

/// So many are: each takes four calls, and a wall that is built anew is of any length.
const UNSEEN_MAX: usize = 4096;

/// The states of PF and the host's own sockets.
#[derive(Debug)]
pub struct Pf {
    pfctl: Pfctl,
    tcpdrop: Tcpdrop,
}

/// One state as `pfctl -ss` prints it: the two ends as they are before and behind translation.
#[derive(Clone, Debug, PartialEq, Eq)]
struct State {
    /// Address and port; no port for what is neither TCP nor UDP.
    near: Vec<(Addr, Option<u16>)>,
    far: Vec<(Addr, Option<u16>)>,
}

impl State {
    /// Whether it is a connection with a target. Of each end ours is the port at the other.
    fn is_of(&self, targets: &Targets) -> bool {
        let with = |theirs: &[(Addr, Option<u16>)], ours: &[(Addr, Option<u16>)]| {
            theirs.iter().any(|(addr, _)| ours.iter().any(|(_, port)| targets.take(*addr, *port)))
        };
        with(&self.near, &self.far) || with(&self.far, &self.near)
    }
}

/// `all tcp 192.0.2.1:22 (10.0.0.5:22) <- 203.0.113.7:50000       ESTABLISHED:ESTABLISHED`
fn state(line: &str) -> Option<State> {
    let mut words = line.split_whitespace();
    let (_interface, protocol) = (words.next()?, words.next()?);
    let has_ports = matches!(protocol, "tcp" | "udp");
    let (mut near, mut far, mut crossed) = (Vec::new(), Vec::new(), false);
    for word in words {
        if matches!(word, "<-" | "->") {
            crossed = true;
        } else if let Some((addr, port)) = end(word.trim_start_matches('(').trim_end_matches(')')) {
            if crossed { &mut far } else { &mut near }.push((addr, port.filter(|_| has_ports)));
        }
    }
    (!near.is_empty() && !far.is_empty()).then_some(State { near, far })
}

/// `203.0.113.7:22`, `2001:db8::7[22]`, or without a port (`pfctl_parser.c`: `print_host`).
fn end(word: &str) -> Option<(Addr, Option<u16>)> {
    if let Some((addr, port)) = word.strip_suffix(']').and_then(|word| word.split_once('[')) {
        return Some((addr.parse().ok()?, Some(port.parse().ok()?)));
    }
    match word.split_once(':') {
        Some((addr, port)) if addr.contains('.') => Some((addr.parse().ok()?, Some(port.parse().ok()?))),
        _ => Some((word.parse().ok()?, None)),
    }
}

/// `   id: 65f2c3a100000001 creatorid: 5a2b8d3c` as `-k id -k` takes it.
fn id(line: &str) -> Option<String> {
    let mut words = line.split_whitespace();
    let ("id:", id, "creatorid:", creator) = (words.next()?, words.next()?, words.next()?, words.next()?) else { return None };
    let hex = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_hexdigit());
    (hex(id) && hex(creator)).then(|| format!("{id}/{creator}"))
}

/// Every address of a family.
const fn any(family: Family) -> &'static str {
    match family {
        Family::V4 => "0.0.0.0/0",
        Family::V6 => "::/0",
    }
}

/// Does as much as it can, and keeps the first thing that went wrong.
#[derive(Default)]
struct Trouble(Option<(String, ToolError)>);

impl Trouble {
    fn add(&mut self, what: &str, error: ToolError) {
        self.0.get_or_insert_with(|| (what.to_owned(), error));
    }

    fn or(self, killed: Killed) -> Result<Killed, FlowError> {
        match self.0 {
            None => Ok(killed),
            Some((what, error)) => Err(FlowError { what, killed, source: io::Error::other(error) }),
        }
    }
}

impl Pf {
    /// Finds the programs.
    pub fn open(section: &BackendSection) -> Result<Self, FlowError> {
        let found = Pfctl::find(section);
        let pfctl = found.map_err(|e| FlowError {
            what: "cannot end states of PF".into(),
            killed: Killed::default(),
            source: io::Error::other(e),
        })?;
        Ok(Self { pfctl, tcpdrop: Tcpdrop::find(&section.path) })
    }

    /// `-k` or `-K`, both ways; how many the calls say they ended.
    fn both_ways(&self, option: &str, prefix: Prefix, unit: &str) -> Result<u64, ToolError> {
        let text = prefix.to_string();
        let from = self.pfctl.call(&[option, &text], |_| {})?;
        let to = self.pfctl.call(&[option, any(prefix.family()), option, &text], |_| {})?;
        Ok(count_before(&from, unit).saturating_add(count_before(&to, unit)))
    }

    /// The ids of all states of the targets, and their addresses.
    fn states_of(&self, targets: &Targets) -> Result<(Vec<String>, BTreeSet<Addr>), ToolError> {
        let (mut ids, mut addrs, mut meant) = (Vec::new(), BTreeSet::new(), false);
        self.pfctl.long_call(&["-vvss"], |line| {
            if !line.starts_with(' ') {
                let state = state(line).filter(|state| state.is_of(targets));
                meant = state.is_some();
                addrs.extend(state.into_iter().flat_map(|state| [state.near, state.far].concat()).map(|(addr, _)| addr));
            } else if meant && let Some(id) = id(line) {
                ids.push(id);
            }
        })?;
        Ok((ids, addrs))
    }

    /// The addresses that source tracking knows: `203.0.113.7 -> 0.0.0.0 ( states 1, ...`.
    fn tracked(&self) -> Result<BTreeSet<Addr>, ToolError> {
        let mut addrs = BTreeSet::new();
        self.pfctl.long_call(&["-sS"], |line| addrs.extend(line.split_whitespace().filter_map(|word| word.parse::<Addr>().ok())))?;
        Ok(addrs)
    }

    /// Those of these prefixes of which there is anything to end.
    fn in_use(&self, all: &BTreeSet<Prefix>, targets: &Targets) -> Result<BTreeSet<Prefix>, ToolError> {
        if all.len() <= DIRECT {
            return Ok(all.clone());
        }
        let addrs: BTreeSet<Addr> = self.states_of(targets)?.1.into_iter().chain(self.tracked()?).collect();
        let prefixes = addrs.iter().flat_map(|addr| (0..=addr.family().bits()).filter_map(|len| Prefix::new(*addr, len)));
        Ok(prefixes.filter(|prefix| all.contains(prefix)).collect())
    }

    fn kill_states(&self, given: &[Target], targets: &Targets, trouble: &mut Trouble) -> u64 {
        let mut killed = 0;
        let all: BTreeSet<Prefix> = given.iter().filter(|target| target.ports == Ports::All).map(|target| target.prefix).collect();
        let (prefixes, listed) = match self.in_use(&all, targets) {
            Ok(prefixes) => (prefixes, true),
            Err(error) => {
                trouble.add(UNLISTED, error);
                (all.into_iter().take(UNSEEN_MAX).collect(), false)
            }
        };
        for prefix in prefixes {
            match self.both_ways("-k", prefix, " states") {
                Ok(count) => killed += count,
                Err(error) => trouble.add("could not end states of PF", error),
            }
            if let Err(error) = self.both_ways("-K", prefix, " src nodes") {
                trouble.add("could not end source tracking of PF", error);
            }
        }
        for _ in 0..if listed { PASSES } else { 0 } {
            let ids = match self.states_of(targets) {
                Ok((ids, _)) => ids,
                Err(error) => {
                    trouble.add(UNLISTED, error);
                    break;
                }
            };
            if ids.is_empty() {
                break;
            }
            for id in ids.iter().take(SINGLE_MAX) {
                match self.pfctl.call(&["-k", "id", "-k", id], |_| {}) {
                    Ok(said) => killed += count_before(&said, " states"),
                    Err(error) => trouble.add("could not end a state of PF", error),
                }
            }
        }
        killed
    }
}

impl Flows for Pf {
    fn kill(&mut self, given: &[Target]) -> Result<Killed, FlowError> {
        let targets = Targets::new(given);
        let (mut killed, mut trouble) = (Killed::default(), Trouble::default());
        if !targets.is_empty() {
            let (sockets, error) = self.tcpdrop.drop(&targets);
            killed.sockets = sockets;
            if let Some(error) = error {
                trouble.add("could not end local sockets", error);
            }
            killed.states = self.kill_states(given, &targets, &mut trouble);
        }
        trouble.or(killed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn target(prefix: &str, ports: &[u16]) -> Target {
        Target { prefix: prefix.parse().unwrap(), ports: Ports::only(ports.iter().copied()).unwrap() }
    }

    #[test]
    fn states_are_read_in_every_form_they_are_printed() {
        let ends = |line: &str| state(line).map(|state| (state.near, state.far));
        let end = |addr: &str, port: Option<u16>| (addr.parse::<Addr>().unwrap(), port);
        assert_eq!(
            ends("all tcp 192.0.2.1:22 <- 203.0.113.7:50000       ESTABLISHED:ESTABLISHED"),
            Some((vec![end("192.0.2.1", Some(22))], vec![end("203.0.113.7", Some(50000))]))
        );
        assert_eq!(
            ends("em0 tcp 10.0.0.5:80 (192.0.2.1:80) <- 203.0.113.7:50000       ESTABLISHED:ESTABLISHED"),
            Some((vec![end("10.0.0.5", Some(80)), end("192.0.2.1", Some(80))], vec![end("203.0.113.7", Some(50000))]))
        );
        assert_eq!(
            ends("all udp 2001:db8::1[53] -> 2001:db8:1::7[40000]       MULTIPLE:SINGLE"),
            Some((vec![end("2001:db8::1", Some(53))], vec![end("2001:db8:1::7", Some(40000))]))
        );
        assert_eq!(
            ends("all icmp 192.0.2.1:8 <- 203.0.113.7:77       0:0"),
            Some((vec![end("192.0.2.1", None)], vec![end("203.0.113.7", None)])),
            "an ICMP id is no port"
        );
        for hostile in
            ["", "all tcp", "all tcp a:b <- c:d", "all tcp 192.0.2.1:99999 <- 203.0.113.7:1", "all tcp 192.0.2.1:22 203.0.113.7:1"]
        {
            assert_eq!(state(hostile), None, "{hostile}");
        }
        assert_eq!(id("   id: 65f2c3a100000001 creatorid: 5a2b8d3c").as_deref(), Some("65f2c3a100000001/5a2b8d3c"));
        assert_eq!(id("   id: 65f2c3a100000001 creatorid: 5a2b8d3c route-to: 192.0.2.9@em1").as_deref(), Some("65f2c3a100000001/5a2b8d3c"));
        assert_eq!(id("   age 00:00:07, expires in 24:00:00"), None);
        assert_eq!(id("   id: -k creatorid: 0"), None);
    }

    #[test]
    fn only_our_ports_count_and_any_address_of_a_translated_state() {
        let it = Targets::new(&[target("203.0.113.7/32", &[22])]);
        let of = |line: &str, targets: &Targets| state(line).unwrap().is_of(targets);
        assert!(of("all tcp 192.0.2.1:22 <- 203.0.113.7:50000  A:B", &it));
        assert!(!of("all tcp 192.0.2.1:443 <- 203.0.113.7:50000  A:B", &it));
        assert!(!of("all tcp 192.0.2.1:50000 -> 203.0.113.7:22  A:B", &it), "our own connection to its port 22");
        assert!(of("all tcp 10.0.0.5:2222 (192.0.2.1:22) <- 203.0.113.7:50000  A:B", &it), "the port it was sent to");
        let all = Targets::new(&[target("203.0.113.0/24", &[])]);
        assert!(of("all tcp 10.0.0.5:22 <- 10.0.0.1:5000 (203.0.113.7:50000)  A:B", &all), "hidden behind a translation");
        assert!(!of("all tcp 10.0.0.5:22 <- 10.0.0.1:5000  A:B", &all));
    }
}
