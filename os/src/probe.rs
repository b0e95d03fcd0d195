//! Echo requests from an uplink's own source, and their answers.
//!
//! ```text
//!  echo   u8 type  u8 code 0  be16 checksum  be16 id  be16 sequence   then data: 8 random bytes, zeros
//!         ICMP: 8 asks, 0 answers (RFC 792)    ICMPv6: 128 asks, 129 answers (RFC 4443 4)
//! ```
//! A raw ICMP socket is read with the IPv4 header before the message (raw(7)), whose checksum nobody has looked at
//! yet; a raw ICMPv6 socket without a header, and the kernel makes and checks the sum (RFC 3542 3.1).
//!
//! The 8 bytes are new for each request and an answer must bring them back, from where the request went: who is not
//! on the way cannot say that an uplink works.

mod socket;
#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use palisade_core::net::{Addr, Family};
use palisade_core::route::words::Mark;
use palisade_core::time::Tick;

use self::socket::{address, denied, only_answers, option, random, raw, sender};
use crate::clock;

/// The message before its data.
const HEADER: usize = 8;
/// What each request's data begins with.
const NONCE: usize = 8;
/// The most data sent: with all headers it fits the smallest packet that IPv6 promises (RFC 8200 5), so no answer
/// is lost for its size.
const MOST_DATA: usize = 1280 - 40 - HEADER;
/// Requests whose answers are waited for; older ones are given up. A target asked every second for 10 s takes 10.
const OPEN: usize = 1024;
/// Datagrams read in one go, so that a flood of them does not hold the thread.
const AT_ONCE: usize = 256;
/// The longest datagram worth reading: an IPv4 header with options, the message, its data.
const BUFFER: usize = 60 + HEADER + MOST_DATA;

/// The types of one family's messages.
#[derive(Clone, Copy, Debug)]
struct Types {
    asks: u8,
    answers: u8,
}

const fn types(family: Family) -> Types {
    match family {
        Family::V4 => Types { asks: 8, answers: 0 },
        Family::V6 => Types { asks: 128, answers: 129 },
    }
}

/// One uplink's echo requests of one family: a raw socket bound to its source and marked with its mark.
///
/// It becomes readable when an answer to somebody's request came; [`Prober::receive`] keeps those that are ours.
/// It is bound to the interface there was: for one that was made anew, and for another source, open another.
#[derive(Debug)]
pub struct Prober {
    fd: OwnedFd,
    family: Family,
    id: u16,
    open: VecDeque<Asked>,
}

/// A request that was not answered yet.
#[derive(Clone, Copy, Debug)]
struct Asked {
    to: Addr,
    seq: u16,
    nonce: [u8; NONCE],
}

/// An answer to one of our requests. Each is told once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Answer {
    /// Whom we had asked.
    pub from: Addr,
    /// The number of the request.
    pub seq: u16,
    /// When it was read.
    pub at: Tick,
}

/// Whether this error of [`Prober::open`] or [`Prober::send`] is the network's state and may pass by itself: there is
/// no way there now, the source is not there yet, a queue is full. Any other says that it will never work.
pub fn passes(error: &io::Error) -> bool {
    matches!(
        error.raw_os_error(),
        Some(
            libc::ENETUNREACH | libc::EHOSTUNREACH | libc::ENETDOWN | libc::EHOSTDOWN // no route, link down
                | libc::EADDRNOTAVAIL | libc::ENODEV | libc::ENXIO // no such address or device (yet)
                | libc::EACCES | libc::EINVAL | libc::EPERM // `prohibit`, `blackhole`; a firewall that drops
                | libc::EAFNOSUPPORT // a host without IPv6
                | libc::EAGAIN | libc::ENOBUFS | libc::ENOMEM | libc::EMSGSIZE // full; a path that is narrower
        )
    )
}

impl Prober {
    /// Opens the socket in the calling thread's network namespace: what it sends has the source `from` and the mark,
    /// and leaves (and is answered) by the interface alone, if one is named.
    ///
    /// # Errors
    /// Some that [`passes`], such as a source that is not there yet; without the rights (CAP_NET_RAW, and
    /// CAP_NET_ADMIN for a mark) `PermissionDenied`.
    pub fn open(from: Addr, mark: Option<Mark>, interface: Option<&str>) -> io::Result<Self> {
        let family = from.family();
        let fd = raw(family).map_err(|error| denied(error, "opening a raw ICMP socket", "CAP_NET_RAW"))?;
        only_answers(&fd, family)?;
        if let Some(Mark(mark)) = mark {
            option(&fd, libc::SOL_SOCKET, libc::SO_MARK, &mark.to_ne_bytes())
                .map_err(|error| denied(error, "marking echo requests", "CAP_NET_ADMIN"))?;
        }
        if let Some(interface) = interface {
            // EINVAL would say that the name is too long, which does not pass.
            if interface.is_empty() || interface.len() >= libc::IFNAMSIZ {
                let what = format!("`{interface}` cannot be an interface's name");
                return Err(io::Error::new(io::ErrorKind::InvalidInput, what));
            }
            option(&fd, libc::SOL_SOCKET, libc::SO_BINDTODEVICE, interface.as_bytes())
                .map_err(|error| denied(error, "binding to an interface", "CAP_NET_RAW"))?;
        }
        let (storage, len) = address(from);
        // SAFETY: the storage is live for the call and holds an address of `len` bytes; the kernel only reads it.
        if unsafe { libc::bind(fd.as_raw_fd(), (&raw const storage).cast(), len) } < 0 {
            return Err(io::Error::last_os_error());
        }
        let id = u16::from_ne_bytes(random()?);
        Ok(Self { fd, family, id, open: VecDeque::new() })
    }

    /// Sends one request, with about so many bytes of data (8 to 1232). Never waits.
    ///
    /// # Errors
    /// One that [`passes`] counts as a request that was lost; another one stays.
    pub fn send(&mut self, to: Addr, seq: u16, size: usize) -> io::Result<()> {
        if to.family() != self.family {
            let what = format!("{to} is of another family than the source it should be asked from");
            return Err(io::Error::new(io::ErrorKind::InvalidInput, what));
        }
        let nonce = random()?;
        let request = request(self.family, self.id, seq, nonce, size);
        let (storage, len) = address(to);
        loop {
            // SAFETY: message and address are live for the call, with their own lengths; the kernel only reads them.
            let sent = unsafe {
                libc::sendto(
                    self.fd.as_raw_fd(),
                    request.as_ptr().cast(),
                    request.len(),
                    libc::MSG_NOSIGNAL,
                    (&raw const storage).cast(),
                    len,
                )
            };
            if sent >= 0 {
                break;
            }
            let error = io::Error::last_os_error();
            if error.kind() != io::ErrorKind::Interrupted {
                return Err(error);
            }
        }
        if self.open.len() >= OPEN {
            self.open.pop_front();
        }
        self.open.push_back(Asked { to, seq, nonce });
        Ok(())
    }

    /// The answers that came, at most 256 datagrams' worth: while it stays readable there are more. Never waits.
    ///
    /// # Errors
    /// The socket's own, which [`passes`] where its interface went down.
    pub fn receive(&mut self) -> io::Result<Vec<Answer>> {
        let mut answers = Vec::new();
        let mut buffer = [0; BUFFER];
        for _ in 0..AT_ONCE {
            let (datagram, from) = match self.datagram(&mut buffer) {
                Ok(Some(got)) => got,
                Ok(None) => break,
                // What was read before it is told first; the socket tells a lasting error again.
                Err(_) if !answers.is_empty() => break,
                Err(error) => return Err(error),
            };
            let Some(reply) = from.and_then(|from| Reply::parse(self.family, from, datagram)) else { continue };
            answers.extend(self.settle(&reply).map(|asked| Answer { from: asked.to, seq: asked.seq, at: clock::now().tick }));
        }
        Ok(answers)
    }

    fn datagram<'b>(&self, buffer: &'b mut [u8]) -> io::Result<Option<(&'b [u8], Option<Addr>)>> {
        loop {
            // SAFETY: sockaddr_storage is plain integers, all zero is a valid value of it.
            let mut storage: libc::sockaddr_storage = unsafe { std::mem::zeroed() };
            let mut len = libc::socklen_t::try_from(size_of::<libc::sockaddr_storage>()).expect("128 bytes");
            // SAFETY: buffer and address are live, ours, and the lengths given are theirs.
            let got = unsafe {
                libc::recvfrom(self.fd.as_raw_fd(), buffer.as_mut_ptr().cast(), buffer.len(), 0, (&raw mut storage).cast(), &raw mut len)
            };
            if let Ok(got) = usize::try_from(got) {
                return Ok(Some((buffer.get(..got).unwrap_or_default(), sender(&storage))));
            }
            let error = io::Error::last_os_error();
            match error.kind() {
                io::ErrorKind::Interrupted => {}
                io::ErrorKind::WouldBlock => return Ok(None),
                _ => return Err(error),
            }
        }
    }

    /// Takes out the request that this answers.
    fn settle(&mut self, reply: &Reply) -> Option<Asked> {
        let answers = |asked: &Asked| asked.to == reply.from && asked.seq == reply.seq && asked.nonce == reply.nonce;
        let at = (reply.id == self.id).then(|| self.open.iter().position(answers))??;
        self.open.remove(at)
    }
}

impl AsFd for Prober {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// The parts of an echo reply that say whose it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Reply {
    from: Addr,
    id: u16,
    seq: u16,
    nonce: [u8; NONCE],
}

impl Reply {
    /// Reads what a raw socket of the family gave. `None` for anything but a whole echo reply.
    fn parse(family: Family, from: Addr, datagram: &[u8]) -> Option<Self> {
        let message = match family {
            Family::V4 => {
                // The version and the header's length in 32-bit words (RFC 791 3.1).
                let first = *datagram.first()?;
                let message = datagram.get(usize::from(first & 0xf) * 4..)?;
                (first >> 4 == 4 && sum(message) == 0xffff).then_some(message)?
            }
            Family::V6 => datagram,
        };
        let (head, data) = message.split_first_chunk::<HEADER>()?;
        let [kind, code, _, _, id @ .., seq_high, seq_low] = *head;
        (kind == types(family).answers && code == 0 && from.family() == family).then_some(Self {
            from,
            id: u16::from_be_bytes(id),
            seq: u16::from_be_bytes([seq_high, seq_low]),
            nonce: *data.first_chunk()?,
        })
    }
}

fn request(family: Family, id: u16, seq: u16, nonce: [u8; NONCE], size: usize) -> Vec<u8> {
    let mut message = vec![0; HEADER + size.clamp(NONCE, MOST_DATA)];
    message[0] = types(family).asks;
    message[4..6].copy_from_slice(&id.to_be_bytes());
    message[6..8].copy_from_slice(&seq.to_be_bytes());
    message[HEADER..HEADER + NONCE].copy_from_slice(&nonce);
    if family == Family::V4 {
        let sum = !sum(&message);
        message[2..4].copy_from_slice(&sum.to_be_bytes());
    }
    message
}

/// The sum of RFC 1071, not yet complemented: 0xffff over a message whose checksum is right.
fn sum(bytes: &[u8]) -> u16 {
    let words = bytes.chunks(2).map(|pair| u16::from_be_bytes([pair[0], pair.get(1).copied().unwrap_or(0)]));
    // Adding with the carry brought around at each step cannot overflow.
    words.fold(0, |sum: u16, word| {
        let (sum, carry) = sum.overflowing_add(word);
        sum + u16::from(carry)
    })
}
