//! FreeBSD's lists of processes and of what they hold open, as sysctl(3) gives them (sys/user.h), native byte order.
//!
//! `struct kinfo_proc`, as laid out on 64-bit systems:
//!
//! | offset | size | what |
//! |---|---|---|
//! | 0 | 4 | its own size: the next one follows |
//! | 72 | 4 | process id |
//! | 168, 172, 176 | 4 | effective, real and saved user |
//! | 447 | 20 | name, NUL terminated |
//!
//! `struct kinfo_file`, since FreeBSD 12:
//!
//! | offset | size | what |
//! |---|---|---|
//! | 0 | 4 | its own size: the next one follows, 0 ends |
//! | 4 | 4 | kind: 2 socket |
//! | 40 | 4 | kind of socket: 1 stream |
//! | 48 | 128 | own address, a `sockaddr` |
//! | 176 | 128 | the other end's; all zero where there is none |

use palisade_core::net::Addr;

use super::rtsock;

/// Where things are in a `kinfo_proc`.
struct Layout {
    pid: usize,
    users: [usize; 3],
    name: usize,
}

#[cfg(target_os = "freebsd")]
const LAYOUT: Layout = {
    use std::mem::offset_of;
    Layout {
        pid: offset_of!(libc::kinfo_proc, ki_pid),
        users: [offset_of!(libc::kinfo_proc, ki_uid), offset_of!(libc::kinfo_proc, ki_ruid), offset_of!(libc::kinfo_proc, ki_svuid)],
        name: offset_of!(libc::kinfo_proc, ki_comm),
    }
};
#[cfg(not(target_os = "freebsd"))]
const LAYOUT: Layout = Layout { pid: 72, users: [168, 172, 176], name: 447 };

// What the tests try elsewhere is what is read there.
#[cfg(all(target_os = "freebsd", target_pointer_width = "64"))]
const _: () = assert!(LAYOUT.pid == 72 && LAYOUT.users[0] == 168 && LAYOUT.users[1] == 172 && LAYOUT.users[2] == 176 && LAYOUT.name == 447);

/// `COMMLEN`.
const NAME: usize = 19;

const FILE_KIND: usize = 4;
const SOCKET: u32 = 2;
const SOCKET_KIND: usize = 40;
const STREAM: u32 = 1;
const OWN: usize = 48;
const PEER: usize = 176;
const SOCKADDR: usize = 128;

/// A process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Process {
    pub(super) pid: u32,
    /// Its user, where effective, real and saved one are the same.
    pub(super) user: Option<u32>,
    pub(super) name: String,
}

/// The processes of a list. Ends at anything cut short.
pub(super) fn processes(list: &[u8]) -> impl Iterator<Item = Process> + '_ {
    records(list).filter_map(|record| {
        let [effective, real, saved] = LAYOUT.users.map(|at| word(record, at));
        let name = record.get(LAYOUT.name..LAYOUT.name + NAME)?;
        let name = name.split(|byte| *byte == 0).next().unwrap_or_default();
        Some(Process {
            pid: word(record, LAYOUT.pid)?,
            user: effective.filter(|_| effective == real && real == saved),
            name: String::from_utf8_lossy(name).into_owned(),
        })
    })
}

/// A stream socket of IPv4 or IPv6.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Stream {
    pub(super) port: u16,
    /// The other end; `None` of one that listens.
    pub(super) peer: Option<Addr>,
}

/// The stream sockets in a list of open files. Ends at anything cut short.
pub(super) fn streams(list: &[u8]) -> impl Iterator<Item = Stream> + '_ {
    records(list).filter_map(|record| {
        if word(record, FILE_KIND)? != SOCKET || word(record, SOCKET_KIND)? != STREAM {
            return None;
        }
        let own = record.get(OWN..OWN + SOCKADDR)?;
        rtsock::address(own)?;
        let peer = record.get(PEER..PEER + SOCKADDR)?;
        let connected = port(peer) != 0;
        Some(Stream { port: port(own), peer: rtsock::address(peer).filter(|_| connected) })
    })
}

/// The port of a `sockaddr` of IPv4 or IPv6.
fn port(sockaddr: &[u8]) -> u16 {
    sockaddr.get(2..4).map_or(0, |bytes| u16::from_be_bytes([bytes[0], bytes[1]]))
}

/// Records that begin with their own size.
fn records(mut list: &[u8]) -> impl Iterator<Item = &[u8]> {
    std::iter::from_fn(move || {
        let len = usize::try_from(word(list, 0)?).ok().filter(|len| *len >= 4)?;
        let (record, rest) = list.split_at_checked(len)?;
        list = rest;
        Some(record)
    })
}

fn word(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_ne_bytes(*bytes.get(at..)?.first_chunk()?))
}

#[cfg(test)]
mod tests {
    use super::super::rtsock::tests::sockaddr;
    use super::*;
    use proptest::prelude::*;

    fn put(record: &mut [u8], at: usize, bytes: &[u8]) {
        record[at..at + bytes.len()].copy_from_slice(bytes);
    }

    fn process(pid: u32, users: [u32; 3], name: &str) -> Vec<u8> {
        let mut record = vec![0; 1088];
        put(&mut record, 0, &1088u32.to_ne_bytes());
        put(&mut record, LAYOUT.pid, &pid.to_ne_bytes());
        for (at, user) in LAYOUT.users.into_iter().zip(users) {
            put(&mut record, at, &user.to_ne_bytes());
        }
        put(&mut record, LAYOUT.name, name.as_bytes());
        record
    }

    fn file(kind: u32, socket: u32, own: Vec<u8>, peer: Vec<u8>) -> Vec<u8> {
        // The path at the end is cut, so records differ in length.
        let mut record = vec![0; 384];
        put(&mut record, 0, &384u32.to_ne_bytes());
        put(&mut record, FILE_KIND, &kind.to_ne_bytes());
        put(&mut record, SOCKET_KIND, &socket.to_ne_bytes());
        put(&mut record, OWN, &own);
        put(&mut record, PEER, &peer);
        record
    }

    #[test]
    fn processes_have_one_user_or_none_that_counts() {
        let list = [process(40, [0, 0, 0], "sshd-session"), process(41, [1001, 0, 0], "sshd"), process(42, [22, 22, 22], "sshd")].concat();
        let found: Vec<_> = processes(&list).map(|p| (p.pid, p.user, p.name)).collect();
        assert_eq!(found, [(40, Some(0), "sshd-session".into()), (41, None, "sshd".into()), (42, Some(22), "sshd".into())]);
    }

    #[test]
    fn streams_have_a_port_and_maybe_another_end() {
        let list = [
            file(1, 0, vec![], vec![]),
            file(2, 1, sockaddr("192.0.2.1", 22), sockaddr("198.51.100.20", 55122)),
            file(2, 1, sockaddr("::", 2222), sockaddr("::", 0)),
            file(2, 1, sockaddr("2001:db8::1", 22), sockaddr("2001:db8::5", 55122)),
            file(2, 2, sockaddr("192.0.2.1", 53), sockaddr("198.51.100.20", 53)),
            file(2, 1, vec![106, 1], vec![106, 1]),
            file(2, 1, sockaddr("0.0.0.0", 22), vec![]),
            vec![0; 8],
            file(2, 1, sockaddr("192.0.2.1", 1), sockaddr("192.0.2.2", 1)),
        ]
        .concat();
        let found: Vec<_> = streams(&list).map(|s| (s.port, s.peer.map(|peer| peer.to_string()))).collect();
        let want = [(22, Some("198.51.100.20")), (2222, None), (22, Some("2001:db8::5")), (22, None)];
        assert_eq!(found, want.map(|(port, peer)| (port, peer.map(str::to_owned))));
    }

    proptest! {
        #[test]
        fn reading_is_total(bytes in proptest::collection::vec(any::<u8>(), 0..600), len in 0u32..700) {
            let mut bytes = bytes;
            if bytes.len() >= 4 {
                bytes[..4].copy_from_slice(&len.to_ne_bytes());
            }
            prop_assert!(processes(&bytes).count() + streams(&bytes).count() <= bytes.len());
        }
    }
}
