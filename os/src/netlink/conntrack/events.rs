//! New states as they come: multicast group `NFNLGRP_CONNTRACK_NEW`.
//!
//! The kernel tells of a state when its first packet has passed all rules, and only of those that began while somebody
//! listened, or at all times where `net.netfilter.nf_conntrack_events` is 1 (2, the default, is the former; 0: never).
//! It writes each message before it asks whether we want it, so hearing one in some saves our time, not its.

use std::fs;
use std::io;

use crate::netlink::socket::{NETFILTER, Socket};

/// `NFNLGRP_CONNTRACK_NEW` (linux/netfilter/nfnetlink_compat.h, nfnetlink.h).
const GROUP_NEW: u32 = 1;

/// The switch.
const EVENTS: &str = "/proc/sys/net/netfilter/nf_conntrack_events";

/// `SKF_AD_OFF + SKF_AD_RANDOM` (linux/filter.h): where a classic filter reads a random number.
const RANDOM: u32 = 0xffff_f000 + 56;

/// A socket that hears of new states in the calling thread's network namespace, of one in `one_in` by chance, with a
/// receive buffer of so many bytes (the kernel takes twice as many, for what it needs itself).
///
/// # Errors
/// `InvalidInput` where `one_in` is no power of two, `EPERM` without CAP_NET_ADMIN.
pub fn open(one_in: u32, buffer: i32) -> io::Result<Socket> {
    if !one_in.is_power_of_two() {
        let text = format!("one new connection in {one_in} cannot be picked: it must be a power of two, as 1, 64 or 1024");
        return Err(io::Error::new(io::ErrorKind::InvalidInput, text));
    }
    let socket = Socket::open(NETFILTER)?;
    socket.buffers(4096, buffer)?;
    if one_in > 1 {
        socket.filter(&mut one_in_some(one_in - 1))?;
    }
    // Last: what came before the filter stood would not have been picked.
    socket.join(GROUP_NEW)?;
    Ok(socket)
}

/// Lets through what meets `random & mask == 0`, whole.
fn one_in_some(mask: u32) -> [libc::sock_filter; 5] {
    /// `BPF_LD | BPF_W | BPF_ABS`, `BPF_ALU | BPF_AND | BPF_K`, `BPF_JMP | BPF_JEQ | BPF_K`, `BPF_RET | BPF_K`.
    const CODES: [u16; 4] = [0x20, 0x54, 0x15, 0x06];
    let step = |code: u16, jf: u8, k: u32| libc::sock_filter { code, jt: 0, jf, k };
    [step(CODES[0], 0, RANDOM), step(CODES[1], 0, mask), step(CODES[2], 1, 0), step(CODES[3], 0, u32::MAX), step(CODES[3], 0, 0)]
}

/// Whether the kernel was told not to tell of states.
pub fn silenced() -> bool {
    fs::read_to_string(EVENTS).is_ok_and(|text| text.trim() == "0")
}
