//! resolv.conf(5): lines of `nameserver ADDRESS`, whatever else there is.

use std::collections::BTreeSet;

use palisade_core::net::Addr;

use super::lenient_addr;

/// How much of the file is read. Real ones have a few hundred bytes.
pub const MOST_BYTES: u64 = 64 * 1024;

/// How many servers are taken: glibc asks 3, others some more. Each is a hole in the wall.
const MOST: usize = 16;

/// The name servers named. Lines that cannot be read are passed over, as the C library does.
pub fn nameservers(bytes: &[u8]) -> BTreeSet<Addr> {
    let mut found = BTreeSet::new();
    for line in bytes.split(|byte| *byte == b'\n') {
        let Ok(line) = std::str::from_utf8(line) else { continue };
        let mut words = line.split_ascii_whitespace();
        if words.next() == Some("nameserver") && found.len() < MOST {
            found.extend(words.next().and_then(lenient_addr));
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn servers_of_a_motley_file() {
        let text = b"# nameserver 192.0.2.9\n;x\nsearch example.org\nnameserver\t192.0.2.53 # first\r\n  nameserver 2001:db8::53\n\
            nameserver fe80::1%eth0\nnameserver 192.0.2.300\nnameserver\nnameserver \xff\nnameservers 192.0.2.1\noptions edns0\nnameserver 127.0.0.53";
        let found: Vec<_> = nameservers(text).iter().map(ToString::to_string).collect();
        assert_eq!(found, ["127.0.0.53", "192.0.2.53", "2001:db8::53", "fe80::1"]);
    }

    proptest! {
        #[test]
        fn reading_is_total_and_bounded(bytes in proptest::collection::vec(any::<u8>(), 0..500), n in 0usize..40) {
            let mut all = bytes;
            for i in 0..n {
                all.extend_from_slice(format!("\nnameserver 192.0.2.{i}\n").as_bytes());
            }
            prop_assert!(nameservers(&all).len() <= MOST);
        }
    }
}
