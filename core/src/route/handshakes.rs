//! Whether somebody is at the other end of a WireGuard interface.
//!
//! WireGuard has no connection that could be down: what tells is when a peer last agreed on keys. While there is
//! anything to send, that happens every two minutes, and keys older than three are not used any more. A silent
//! interface agrees on nothing and is still well: an old handshake is bad news only while something is being sent.

use std::fmt;
use std::net::SocketAddr;

use crate::time::{Now, Span, Stamp, Tick};

/// A WireGuard public key.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PublicKey(pub [u8; 32]);

impl fmt::Display for PublicKey {
    /// In base64 (RFC 4648), as `wg` writes it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
        let mut text = String::with_capacity(44);
        for chunk in self.0.chunks(3) {
            let byte = |i: usize| u32::from(chunk.get(i).copied().unwrap_or_default());
            let bits = byte(0) << 16 | byte(1) << 8 | byte(2);
            for (i, shift) in [18, 12, 6, 0].into_iter().enumerate() {
                let letter = LETTERS[usize::try_from(bits >> shift & 63).unwrap_or_default()];
                text.push(if i <= chunk.len() { char::from(letter) } else { '=' });
            }
        }
        f.pad(&text)
    }
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// One peer of an interface.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Peer {
    /// Who.
    pub key: PublicKey,
    /// Where it was last heard from, or is said to be.
    pub endpoint: Option<SocketAddr>,
    /// How often something is sent to it even if there is nothing to say.
    pub keepalive: Option<Span>,
    /// When keys were last agreed on; none: never yet.
    pub handshake: Option<Stamp>,
    /// Bytes that came from it.
    pub rx: u64,
    /// Bytes sent to it, the attempts at a handshake among them.
    pub tx: u64,
}

/// All peers of an interface.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Peers(pub Vec<Peer>);

impl Peers {
    /// When any of them last agreed on keys.
    pub fn handshake(&self) -> Option<Stamp> {
        self.0.iter().filter_map(|peer| peer.handshake).max()
    }

    /// Bytes sent to all of them.
    pub fn sent(&self) -> u64 {
        self.0.iter().fold(0, |sum, peer| sum.saturating_add(peer.tx))
    }
}

/// How an interface is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Alive {
    /// Keys are fresh: somebody is there.
    Alive,
    /// Something is being sent, and nobody agrees on keys.
    Stale,
    /// Nothing is being sent, so nothing can be told.
    Idle,
}

/// How many looks running must find more sent and no keys. The first packet after a silence is sent before its
/// handshake is answered: one look may fall between the two.
const LOOKS: u8 = 2;

/// What was seen of an interface at earlier looks, which should be some seconds apart: WireGuard repeats an unanswered
/// handshake every five.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Handshakes {
    before: Option<Seen>,
    unanswered: u8,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Seen {
    /// When keys were last agreed on, as the interface says it
    handshake: Option<Stamp>,
    /// and by the clock that never steps.
    fresh: Option<Tick>,
    sent: u64,
}

impl Handshakes {
    /// How the interface is, by what it says now. Keys older than `limit` are none.
    ///
    /// The kernel tells the time of a handshake by the wall clock, which may step: it is only believed at the first
    /// look, and from then on counts when it was seen to change.
    pub fn look(&mut self, peers: &Peers, limit: Span, now: Now) -> Alive {
        let (handshake, sent) = (peers.handshake(), peers.sent());
        let fresh = match &self.before {
            Some(before) if before.handshake == handshake => before.fresh,
            Some(_) => handshake.map(|_| now.tick),
            None => handshake.map(|then| Tick(now.tick.0.saturating_sub(now.stamp.since(then).as_millis()))),
        };
        let more = self.before.as_ref().is_some_and(|before| sent > before.sent);
        self.before = Some(Seen { handshake, fresh, sent });
        if fresh.is_some_and(|fresh| now.tick.since(fresh) <= limit) {
            self.unanswered = 0;
            return Alive::Alive;
        }
        self.unanswered = if more { self.unanswered.saturating_add(1) } else { 0 };
        if self.unanswered >= LOOKS { Alive::Stale } else { Alive::Idle }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const LIMIT: Span = Span::secs(180);
    const START: i64 = 1_700_000_000;

    fn at(second: u64) -> Now {
        Now { stamp: Stamp((START + i64::try_from(second).unwrap()) * 1000), tick: Tick(second * 1000 + 10_000_000) }
    }

    /// One peer: when it last agreed on keys, in seconds after START, and what it was sent.
    fn peers(handshake: Option<i64>, tx: u64) -> Peers {
        let handshake = handshake.map(|second| Stamp((START + second) * 1000));
        Peers(vec![Peer { key: PublicKey([0; 32]), endpoint: None, keepalive: None, handshake, rx: 0, tx }])
    }

    /// What is said at looks ten seconds apart.
    fn looks(seen: &[(Option<i64>, u64)]) -> Vec<Alive> {
        let mut handshakes = Handshakes::default();
        let look = |(i, (handshake, tx)): (u64, &(Option<i64>, u64))| handshakes.look(&peers(*handshake, *tx), LIMIT, at(i * 10));
        (0..).zip(seen).map(look).collect()
    }

    #[test]
    fn a_key_is_written_as_wg_writes_it() {
        // RFC 4648, section 10: "f", "fo", "foo" padded to 32 bytes with zeros differ in their beginnings alone.
        let mut bytes = [0; 32];
        bytes[..3].copy_from_slice(b"foo");
        assert_eq!(PublicKey(bytes).to_string(), format!("Zm9v{}=", "A".repeat(39)));
        assert_eq!(PublicKey([255; 32]).to_string(), format!("{}8=", "/".repeat(42)));
    }

    #[test]
    fn fresh_keys_are_alive_whatever_is_sent() {
        assert_eq!(looks(&[(Some(0), 1), (Some(0), 900), (Some(0), 900)]), [Alive::Alive; 3]);
    }

    #[test]
    fn silence_is_idle_and_not_dead() {
        assert_eq!(looks(&[(Some(-500), 5), (Some(-500), 5), (Some(-500), 5), (Some(-500), 5)]), [Alive::Idle; 4]);
        assert_eq!(looks(&[(None, 0), (None, 0), (None, 0)]), [Alive::Idle; 3]);
    }

    #[test]
    fn sending_without_keys_is_stale_at_the_second_look_and_alive_with_the_handshake() {
        let seen = [(Some(-500), 5), (Some(-500), 6), (Some(-500), 7), (Some(-500), 8), (Some(35), 9)];
        assert_eq!(looks(&seen), [Alive::Idle, Alive::Idle, Alive::Stale, Alive::Stale, Alive::Alive]);
        assert_eq!(looks(&[(None, 0), (None, 148), (None, 296)]), [Alive::Idle, Alive::Idle, Alive::Stale], "never yet");
    }

    #[test]
    fn the_first_packet_after_a_silence_is_no_alarm() {
        assert_eq!(looks(&[(Some(-500), 5), (Some(-500), 6), (Some(11), 7)]), [Alive::Idle, Alive::Idle, Alive::Alive]);
    }

    #[test]
    fn one_of_several_peers_is_enough() {
        let mut both = peers(Some(-500), 5);
        both.0.extend(peers(Some(-1), 5).0);
        assert_eq!(Handshakes::default().look(&both, LIMIT, at(0)), Alive::Alive);
    }

    #[test]
    fn a_wall_clock_that_steps_makes_no_keys_fresh_or_old() {
        for step in [-86_400i64, 86_400] {
            let mut handshakes = Handshakes::default();
            let _ = handshakes.look(&peers(Some(0), 1), LIMIT, at(0));
            let stepped = |second| Now { stamp: at(second).stamp.shifted(step * 1000), ..at(second) };
            assert_eq!(handshakes.look(&peers(Some(0), 2), LIMIT, stepped(170)), Alive::Alive, "{step}");
            let _ = handshakes.look(&peers(Some(0), 3), LIMIT, stepped(190));
            assert_eq!(handshakes.look(&peers(Some(0), 4), LIMIT, stepped(200)), Alive::Stale, "{step}");
            assert_eq!(handshakes.look(&peers(Some(205 + step), 5), LIMIT, stepped(210)), Alive::Alive, "{step}");
        }
    }

    proptest! {
        #[test]
        fn nothing_sent_is_never_stale(handshakes in proptest::collection::vec(proptest::option::of(any::<i64>()), 1..20), ticks in proptest::collection::vec(any::<u64>(), 20), stamp: i64) {
            let mut machine = Handshakes::default();
            for (handshake, tick) in handshakes.iter().zip(&ticks) {
                let mut peers = peers(None, 7);
                peers.0[0].handshake = handshake.map(Stamp);
                let now = Now { stamp: Stamp(stamp), tick: Tick(*tick) };
                prop_assert_ne!(machine.look(&peers, LIMIT, now), Alive::Stale);
            }
        }
    }
}
