//! What the objects of our table are called: culprit and service are told by the name alone.
//!
//! | whose | name |
//! |---|---|
//! | a source | `source_192.0.2.7/32`, `source_2001-db8--/64` |
//! | processes of a user | `user_1000_udp_53` |
//! | many sources to one endpoint | `crowd_192.0.2.1_tcp_443` |
//! | a service | `service_ssh`, with other characters by their bytes: `service_6/20in/204` |
//! | timeouts of one of these | with `_tcp4`, `_udp6`, ... behind it |
//!
//! nft(8) reads names of letters, digits and `/ - _ .` without quotes (libnftables, scanner.l): an address has `-` for
//! its `:`.

use std::fmt::Write;

use palisade_core::flood::flow::{Endpoint, Protocol};
use palisade_core::flood::wanted::Culprit;
use palisade_core::net::{Addr, Family};

/// The name of a culprit's limit and counter.
pub(super) fn of(culprit: &Culprit) -> String {
    match culprit {
        Culprit::Source { prefix } => format!("source_{}", prefix.to_string().replace(':', "-")),
        Culprit::Local { uid, protocol, port } => format!("user_{uid}_{}_{port}", Protocol(*protocol)),
        Culprit::Crowd { to } => format!("crowd_{}_{}_{}", to.addr.to_string().replace(':', "-"), Protocol(to.protocol), to.port),
    }
}

/// Whose limit or counter is called so; `None` for any other name.
pub(super) fn culprit(name: &str) -> Option<Culprit> {
    let (kind, rest) = name.split_once('_')?;
    let parts: Vec<&str> = rest.split('_').collect();
    let culprit = match (kind, &parts[..]) {
        ("source", [prefix]) => Culprit::Source { prefix: prefix.replace('-', ":").parse().ok()? },
        ("user", [uid, protocol, port]) => {
            Culprit::Local { uid: uid.parse().ok()?, protocol: Protocol::of(protocol)?.0, port: port.parse().ok()? }
        }
        ("crowd", [addr, protocol, port]) => {
            let addr: Addr = addr.replace('-', ":").parse().ok()?;
            Culprit::Crowd { to: Endpoint { addr, port: port.parse().ok()?, protocol: Protocol::of(protocol)?.0 } }
        }
        _ => return None,
    };
    // Only as we write it: no other name may count for the same culprit.
    (of(&culprit) == name).then_some(culprit)
}

/// The name of a service's chain.
pub(super) fn service(name: &str) -> String {
    let mut text = "service_".to_owned();
    for byte in name.bytes() {
        match byte {
            b'0'..=b'9' | b'a'..=b'z' | b'A'..=b'Z' | b'.' | b'-' | b'_' => text.push(char::from(byte)),
            other => write!(text, "/{other:02x}").expect("a string takes everything"),
        }
    }
    text
}

/// The name of the timeouts of a culprit or service for one family and protocol.
pub(super) fn timeouts(whose: &str, family: Family, protocol: u8) -> String {
    format!("{whose}_{}{}", Protocol(protocol), if family == Family::V4 { 4 } else { 6 })
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use palisade_core::net::Prefix;
    use proptest::prelude::*;

    fn addr() -> impl Strategy<Value = Addr> {
        prop_oneof![
            any::<[u8; 4]>().prop_map(|octets| Addr::from_octets(&octets).unwrap()),
            any::<[u8; 16]>().prop_map(|octets| Addr::from_octets(&octets).unwrap()),
            Just("::".parse().unwrap()),
            Just("2001:db8::1".parse().unwrap()),
        ]
    }

    pub(in crate::limits) fn any_culprit() -> impl Strategy<Value = Culprit> {
        let prefix = (addr(), 0u8..=128).prop_map(|(addr, len)| Prefix::new(addr, len.min(addr.family().bits())).unwrap());
        prop_oneof![
            prefix.prop_map(|prefix| Culprit::Source { prefix }),
            (any::<u32>(), any::<u8>(), any::<u16>()).prop_map(|(uid, protocol, port)| Culprit::Local { uid, protocol, port }),
            (addr(), any::<u8>(), any::<u16>()).prop_map(|(addr, protocol, port)| Culprit::Crowd { to: Endpoint { addr, port, protocol } }),
        ]
    }

    proptest! {
        #[test]
        fn a_culprit_is_told_by_its_name(culprit_ in any_culprit()) {
            let name = of(&culprit_);
            prop_assert!(name.chars().all(|c| c.is_ascii_alphanumeric() || "/-_.".contains(c)), "{}", name);
            prop_assert!(name.len() < 64);
            prop_assert_eq!(culprit(&name), Some(culprit_));
            prop_assert_eq!(culprit(&timeouts(&name, Family::V4, 6)), None);
        }

        #[test]
        fn any_name_is_a_culprits_or_none(name in ".{0,40}", tail in "(source|user|crowd|service)_[-0-9a-f_./+]{0,30}") {
            for name in [name, tail] {
                if let Some(known) = culprit(&name) {
                    prop_assert_eq!(of(&known), name);
                }
            }
        }

        #[test]
        fn services_with_different_names_have_different_names(a in ".{0,12}", b in ".{0,12}") {
            prop_assert_eq!(service(&a) == service(&b), a == b);
            prop_assert!(service(&a).chars().all(|c| c.is_ascii_alphanumeric() || "/-_.".contains(c)));
        }
    }

    #[test]
    fn names_read_as_the_table_says() {
        let named = |culprit: Culprit| of(&culprit);
        assert_eq!(named(Culprit::Source { prefix: "192.0.2.7/32".parse().unwrap() }), "source_192.0.2.7/32");
        assert_eq!(named(Culprit::Source { prefix: "2001:db8::/64".parse().unwrap() }), "source_2001-db8--/64");
        assert_eq!(named(Culprit::Local { uid: 1000, protocol: 17, port: 53 }), "user_1000_udp_53");
        assert_eq!(named(Culprit::Crowd { to: "192.0.2.1:443/tcp".parse().unwrap() }), "crowd_192.0.2.1_tcp_443");
        assert_eq!((service("ssh"), service("6 in 4")), ("service_ssh".to_owned(), "service_6/20in/204".to_owned()));
        for strange in ["source_192.0.2.7", "source_192.0.2.7/33", "user_+5_udp_53", "user_5_17_53", "user_5_udp_053", "crowd_x_tcp_1"] {
            assert_eq!(culprit(strange), None, "{strange}");
        }
    }
}
