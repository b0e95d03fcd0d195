//! The three sets of timeouts.

use super::catalogue::PREFIX;
use super::{Facts, Profile, Values, number};
use crate::flood::settings::Settings;

/// Established TCP is kept at least so long by whoever translates addresses: 2 hours 4 minutes, two keep-alive
/// intervals (RFC 5382, REQ-5; RFC 1122, 4.2.3.6).
pub const NAT_TCP: u64 = 7440;

/// And UDP that goes both ways: 2 minutes (RFC 4787, REQ-5).
pub const NAT_UDP: u64 = 120;

/// No lifetime of an address shortens a state below this: living connections are silent for minutes.
const SILENCE: u64 = 300;

/// One timeout in each set, in seconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Row {
    /// The switch, without its prefix.
    pub name: &'static str,
    /// While nothing is wrong.
    pub calm: u64,
    /// While the table fills.
    pub pressure: u64,
    /// While it is nearly full.
    pub attack: u64,
}

const fn row(name: &'static str, calm: u64, pressure: u64, attack: u64) -> Row {
    Row { name, calm, pressure, attack }
}

/// All timeouts there is something to say about.
///
/// Calm is what a state is of use for: a day for open connections, which kube-proxy has settled on too and which is long
/// after any application's keep-alive; half of the kernel's own patience with handshakes, which a client has long
/// repeated; UDP as it is. Pressure is the least that RFC 5382 lets a translator do about open TCP, and a few round trips
/// for everything unfinished. Attack is what a connection can just do with: a flow lost then opens anew, and when the
/// table is full nobody opens any. UDP that goes both ways keeps 30 s, over the 25 s at which WireGuard and most VoIP
/// keep their path open; this is below RFC 4787's 2 minutes, for as long as it lasts.
pub const TABLE: &[Row] = &[
    row("generic_timeout", 120, 60, 30),
    row("gre_timeout", 30, 30, 30),
    row("icmp_timeout", 30, 10, 5),
    row("icmpv6_timeout", 30, 10, 5),
    row("sctp_timeout_established", 86_400, 7440, 3600),
    row("tcp_timeout_close", 10, 5, 5),
    row("tcp_timeout_close_wait", 60, 20, 10),
    row("tcp_timeout_established", 86_400, NAT_TCP, 3600),
    row("tcp_timeout_fin_wait", 60, 20, 10),
    row("tcp_timeout_last_ack", 30, 10, 10),
    row("tcp_timeout_max_retrans", 120, 60, 30),
    row("tcp_timeout_syn_recv", 30, 15, 8),
    row("tcp_timeout_syn_sent", 60, 20, 8),
    row("tcp_timeout_time_wait", 60, 15, 5),
    row("tcp_timeout_unacknowledged", 120, 60, 30),
    row("udp_timeout", 30, 15, 10),
    row("udp_timeout_stream", NAT_UDP, 60, 30),
];

/// Whether states of this timeout are open connections, which an address that is gone makes useless.
pub(super) fn is_open(name: &str) -> bool {
    matches!(name, "tcp_timeout_established" | "sctp_timeout_established" | "dccp_timeout_open")
}

/// How long a state can be of use where the uplinks' addresses live so long; `None`: nothing is known of that.
pub(super) fn useful(settings: &Settings) -> Option<u64> {
    let lifetime = settings.address_lifetime?.as_secs_ceil();
    (lifetime > 0).then(|| lifetime.max(SILENCE))
}

/// What the switches should hold in this profile: the timeouts to be shortened, and none else. Nothing is ever made
/// longer than in `base`, which is what stands in calm; so [`Profile::Calm`] asks for nothing. Timeouts that the config
/// sets hold whatever happens.
pub fn values(profile: Profile, base: &Values, facts: &Facts, settings: &Settings) -> Values {
    let one = |row: &Row| {
        let wanted = match profile {
            Profile::Calm => return None,
            Profile::Pressure => row.pressure,
            Profile::Attack if facts.forwards && row.name == "tcp_timeout_established" => NAT_TCP,
            Profile::Attack => row.attack,
        };
        let wanted = if is_open(row.name) { useful(settings).map_or(wanted, |life| wanted.min(life)) } else { wanted };
        let name = format!("{PREFIX}{}", row.name);
        let typed = settings.timeouts.contains_key(&row.name.replacen("_timeout", "", 1));
        (!typed && number(base, &name)? > wanted).then(|| (name, wanted.to_string()))
    };
    TABLE.iter().filter_map(one).collect()
}
