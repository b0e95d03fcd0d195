//! `timeouts`, of the whole table and of one service: a name and a time each.

use std::collections::BTreeMap;

use super::super::error::{At, Problem};
use super::super::nearest::shown;
use super::super::show::quoted;
use super::super::values::{Reading, TimeBounds, Value};
use crate::flood::timeouts::Timeouts;
use crate::time::Span;

/// The kernel's switches that are timeouts of flows, by their short names: `nf_conntrack_tcp_timeout_established` is
/// `tcp_established` (Documentation/networking/nf_conntrack-sysctl.rst; net/netfilter/nf_conntrack_standalone.c). `sctp_heartbeat_acked` was
/// there up to Linux 6.1, those of DCCP up to 6.15.
pub(in super::super) const TIMEOUTS: &[&str] = &[
    "generic",
    "icmp",
    "icmpv6",
    "tcp_syn_sent",
    "tcp_syn_recv",
    "tcp_established",
    "tcp_fin_wait",
    "tcp_close_wait",
    "tcp_last_ack",
    "tcp_time_wait",
    "tcp_close",
    "tcp_max_retrans",
    "tcp_unacknowledged",
    "udp",
    "udp_stream",
    "gre",
    "gre_stream",
    "sctp_closed",
    "sctp_cookie_wait",
    "sctp_cookie_echoed",
    "sctp_established",
    "sctp_shutdown_sent",
    "sctp_shutdown_recd",
    "sctp_shutdown_ack_sent",
    "sctp_heartbeat_sent",
    "sctp_heartbeat_acked",
    "dccp_request",
    "dccp_respond",
    "dccp_partopen",
    "dccp_open",
    "dccp_closereq",
    "dccp_closing",
    "dccp_timewait",
];
/// States of TCP flows, as nft's `ct timeout` names them (nft(8), "ct timeout").
pub(in super::super) const TCP_STATES: &[&str] =
    &["syn_sent", "syn_recv", "established", "fin_wait", "close_wait", "last_ack", "time_wait", "close", "retrans", "unack"];
/// States of UDP flows.
pub(in super::super) const UDP_STATES: &[&str] = &["unreplied", "replied"];

const TIMEOUT: TimeBounds = TimeBounds {
    low: Span::secs(1),
    high: Span::secs(30 * 86_400),
    permanent: false,
    why: "the kernel counts seconds, and what is idle for a month is no connection any more",
};

/// What was typed, each with the place of its name.
pub(super) type RawTimeouts = BTreeMap<String, At<Span>>;

impl Reading<'_> {
    /// `{ NAME = "2h", ... }` with `known` names.
    pub(super) fn flood_timeouts(&mut self, value: &Value<'_>, table: &str, known: &[&str]) -> RawTimeouts {
        let want = format!("a table like {{ {} = \"2h\" }}", known.iter().find(|name| name.ends_with("established")).unwrap_or(&"udp"));
        let mut raw = RawTimeouts::new();
        for (key, value) in self.table("timeouts", value, &want).into_iter().flatten() {
            let name: &str = key.get_ref();
            if !known.contains(&name) {
                match meant(name, known) {
                    Some(meant) => {
                        let problem = Problem::UnknownKey { key: shown(name), table: format!("in {table}") };
                        self.tell(&key.span(), problem, Some(format!("here it is `{meant}`")));
                    }
                    None => self.unknown(key, &format!("in {table}"), known),
                }
                continue;
            }
            let Some(time) = self.span(name, value, TIMEOUT) else { continue };
            if time.value.as_millis().is_multiple_of(1000) {
                raw.insert(name.to_owned(), At { value: time.value, at: self.place(&key.span()) });
            } else {
                let message = format!("`{name}` is {}, and the kernel counts whole seconds", time.value);
                self.tell(&value.span(), Problem::Value(message), None);
            }
        }
        raw
    }
}

/// Which one was meant by the name that a sysctl, `nft` or a state has for it.
fn meant<'k>(typed: &str, known: &[&'k str]) -> Option<&'k str> {
    let typed = typed.to_ascii_lowercase().replace(['.', '/', '-'], "_");
    let typed = typed.strip_prefix("net_netfilter_").unwrap_or(&typed);
    // `nf_conntrack_tcp_max_retrans` is a count, and `nf_conntrack_tcp_loose` a flag.
    if typed.starts_with("nf_conntrack_") && !typed.contains("_timeout") {
        return None;
    }
    let plain = typed.strip_prefix("nf_conntrack_").unwrap_or(typed).replace("_timeout", "");
    let same = |name: &&&str| **name == plain || ["tcp_", "udp_"].iter().any(|protocol| name.strip_prefix(protocol) == Some(&plain));
    let found = known.iter().find(same).or_else(|| {
        // A switch's name where a state is wanted, and what the two are called otherwise.
        let state = match plain.strip_prefix("tcp_").or_else(|| plain.strip_prefix("udp_")).unwrap_or(&plain) {
            "max_retrans" | "retrans" => ["retrans", "tcp_max_retrans"],
            "unacknowledged" | "unack" => ["unack", "tcp_unacknowledged"],
            "stream" | "replied" => ["replied", "udp_stream"],
            "udp" | "unreplied" => ["unreplied", "udp"],
            other => [other, other],
        };
        known.iter().find(|name| state.contains(*name))
    });
    found.copied()
}

/// What was typed, without its places.
pub(super) fn mean(raw: RawTimeouts) -> Timeouts {
    raw.into_iter().map(|(name, typed)| (name, typed.value)).collect()
}

/// One line of TOML.
pub(super) fn show(timeouts: &Timeouts) -> String {
    let parts: Vec<String> = timeouts.iter().map(|(name, time)| format!("{name} = {}", quoted(time))).collect();
    if parts.is_empty() { "{}".to_owned() } else { format!("{{ {} }}", parts.join(", ")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn other_names_of_a_timeout_are_known() {
        for (typed, wanted) in [
            ("nf_conntrack_tcp_timeout_established", Some("tcp_established")),
            ("net.netfilter.nf_conntrack_udp_timeout", Some("udp")),
            ("net/netfilter/nf_conntrack_gre_timeout_stream", Some("gre_stream")),
            ("nf_conntrack_tcp_timeout_max_retrans", Some("tcp_max_retrans")),
            ("nf_conntrack_tcp_max_retrans", None),
            ("nf_conntrack_tcp_loose", None),
            ("tcp_timeout_syn_sent", Some("tcp_syn_sent")),
            ("SYN_SENT", Some("tcp_syn_sent")),
            ("replied", Some("udp_stream")),
            ("unreplied", Some("udp")),
            ("unack", Some("tcp_unacknowledged")),
            ("nf_conntrack_max", None),
            ("", None),
        ] {
            assert_eq!(meant(typed, TIMEOUTS), wanted, "{typed}");
        }
        let states = [TCP_STATES, UDP_STATES].concat();
        for (typed, wanted) in [
            ("tcp_established", Some("established")),
            ("nf_conntrack_tcp_timeout_max_retrans", Some("retrans")),
            ("udp_stream", Some("replied")),
            ("udp", Some("unreplied")),
            ("stablished", None),
        ] {
            assert_eq!(meant(typed, &states), wanted, "{typed}");
        }
    }
}
