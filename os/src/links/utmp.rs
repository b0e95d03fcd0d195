//! utmp(5): who is logged in, as login programs write it.
//!
//! ```text
//!  offset  glibc with 32-bit times (x86-64, 32-bit, ppc64, s390x, mips)   others (aarch64, riscv64, loongarch64)
//!       0  i16 ut_type, 7 USER_PROCESS                                     the same
//!       4  i32 ut_pid                                                      the same
//!      76  char ut_host[256]                                               the same
//!     348  i32 ut_addr_v6[4], in network order                             360
//!     384  the next record                                                 400
//! ```
//! Source: utmp(5), glibc bits/utmp.h (`__WORDSIZE_TIME64_COMPAT32`).

use palisade_core::net::Addr;

use super::lenient_addr;

/// How much of the file is read: 2,730 records.
pub const MOST_BYTES: u64 = 1024 * 1024;

const WIDE: bool = cfg!(any(target_arch = "aarch64", target_arch = "riscv64", target_arch = "loongarch64"));
const RECORD: usize = if WIDE { 400 } else { 384 };
const ADDR: usize = if WIDE { 360 } else { 348 };
const HOST: usize = 76;
const HOST_LEN: usize = 256;
const USER_PROCESS: i16 = 7;

/// A login from elsewhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Login {
    /// The process that made the record.
    pub pid: u32,
    /// From where.
    pub remote: Addr,
}

/// The logins that name a remote address. Records that do not, or are cut short, are passed over.
pub fn logins(bytes: &[u8]) -> impl Iterator<Item = Login> + '_ {
    bytes.chunks_exact(RECORD).filter_map(|record| {
        let pid = u32::from_ne_bytes([record[4], record[5], record[6], record[7]]);
        if i16::from_ne_bytes([record[0], record[1]]) != USER_PROCESS || pid == 0 {
            return None;
        }
        let host = &record[HOST..HOST + HOST_LEN];
        let host = host.split(|byte| *byte == 0).next().unwrap_or_default();
        // The text first: in the number an IPv6 address that ends in 96 zero bits looks like IPv4.
        let named = std::str::from_utf8(host).ok().and_then(lenient_addr);
        Some(Login { pid, remote: named.or_else(|| number(&record[ADDR..ADDR + 16]))? })
    })
}

fn number(bytes: &[u8]) -> Option<Addr> {
    if bytes.iter().all(|byte| *byte == 0) {
        return None;
    }
    let is_v4 = bytes[4..].iter().all(|byte| *byte == 0);
    Addr::from_octets(if is_v4 { &bytes[..4] } else { bytes })
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use proptest::prelude::*;

    pub(in super::super) fn record(kind: i16, pid: u32, host: &str, addr: &[u8]) -> Vec<u8> {
        let mut bytes = vec![0; RECORD];
        bytes[..2].copy_from_slice(&kind.to_ne_bytes());
        bytes[4..8].copy_from_slice(&pid.to_ne_bytes());
        bytes[HOST..HOST + host.len()].copy_from_slice(host.as_bytes());
        bytes[ADDR..ADDR + addr.len()].copy_from_slice(addr);
        bytes
    }

    #[cfg(target_env = "gnu")]
    #[test]
    fn the_layout_is_the_c_librarys() {
        use std::mem::offset_of;
        assert_eq!((RECORD, ADDR), (size_of::<libc::utmpx>(), offset_of!(libc::utmpx, ut_addr_v6)));
        assert_eq!((4, HOST), (offset_of!(libc::utmpx, ut_pid), offset_of!(libc::utmpx, ut_host)));
    }

    #[test]
    fn only_live_logins_with_an_address_count() {
        let file = [
            record(2, 1, "6.1.0", &[]),
            record(7, 10, "198.51.100.20", &[198, 51, 100, 20]),
            record(7, 11, "admin.example.org", &[192, 0, 2, 9]),
            record(7, 12, "2001:db8::", &[0x20, 1, 0xd, 0xb8]),
            record(7, 13, "fe80::7%eth0", &[]),
            record(7, 14, ":0", &[]),
            record(8, 15, "203.0.113.1", &[]),
            record(7, 0, "203.0.113.2", &[]),
            record(7, 16, "tmux(1).%0", &[0; 16]),
            record(7, 17, "203.0.113.3", &[])[..100].to_vec(),
        ]
        .concat();
        let found: Vec<_> = logins(&file).map(|login| (login.pid, login.remote.to_string())).collect();
        let want = [(10, "198.51.100.20"), (11, "192.0.2.9"), (12, "2001:db8::"), (13, "fe80::7")];
        assert_eq!(found, want.map(|(pid, addr)| (pid, addr.to_owned())));
    }

    proptest! {
        #[test]
        fn reading_is_total(mut bytes in proptest::collection::vec(any::<u8>(), 0..1300), kind in any::<bool>()) {
            if kind && bytes.len() > 2 {
                bytes[..2].copy_from_slice(&USER_PROCESS.to_ne_bytes());
            }
            prop_assert!(logins(&bytes).count() <= bytes.len() / RECORD);
        }
    }
}
