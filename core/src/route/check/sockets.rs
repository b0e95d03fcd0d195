//! UDP servers that listen on no address in particular: with several uplinks they answer from the wrong one. No route can
//! mend that, for the kernel chooses the source before any rule of ours can know it.

use super::{Finding, Subject, Verdict};
use crate::net::Family;

/// A UDP socket bound to no address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listener {
    /// Of which family.
    pub family: Family,
    /// On which port.
    pub port: u16,
    /// Which program, where it is known.
    pub program: Option<String>,
}

/// What is known of some programs: whether they see to it themselves (`IP_PKTINFO`), or what to set.
const KNOWN: &[(&str, Option<&str>)] = &[
    ("chronyd", None),
    ("dnsmasq", None),
    ("openvpn", Some("add `multihome` to its configuration")),
    ("unbound", Some("set `interface-automatic: yes`, or `interface:` to each address")),
    ("iperf3", Some("start it with --bind ADDRESS, once for each address")),
    ("snmpd", Some("set `agentAddress udp:ADDRESS:161` for each address")),
];

/// Ports that clients open for themselves (net.ipv4.ip_local_port_range as it comes): they ask, they do not answer.
const EPHEMERAL: std::ops::RangeInclusive<u16> = 32768..=60999;

pub(super) fn verdicts(subject: &Subject<'_>, listeners: &[Listener]) -> Vec<Finding> {
    if subject.spec.uplinks.len() < 2 {
        return Vec::new();
    }
    let mut findings = Vec::new();
    for listener in listeners.iter().filter(|listener| !EPHEMERAL.contains(&listener.port)) {
        let program = listener.program.as_deref();
        let remedy = match KNOWN.iter().find(|(name, _)| Some(*name) == program) {
            Some((_, None)) => continue,
            Some((_, Some(remedy))) => *remedy,
            None => "bind it to each address by itself",
        };
        let who = program.unwrap_or("an unknown program");
        let detail = format!("{who} on port {} answers from the address of the default way, whichever was asked", listener.port);
        findings.push(Finding {
            uplink: None,
            family: Some(listener.family),
            what: "udp server",
            ok: Verdict::Warn,
            detail,
            fix: Some(remedy.to_owned()),
        });
    }
    findings
}
