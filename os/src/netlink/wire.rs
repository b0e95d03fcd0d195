//! Netlink's bytes: messages, attributes, nests.
//!
//! ```text
//!  message   u32 length  u16 type  u16 flags  u32 sequence  u32 port   payload  pad to 4
//!  attribute u16 length  u16 type  payload  pad to 4          (length: header included, pad not)
//! ```
//! Numbers of the headers are in host order (netlink(7)); those of nfnetlink attributes are big
//! endian. Reading is total: whatever the bytes, an attribute is either whole or not there.

/// `struct nlmsghdr`.
pub const HEADER: usize = 16;
/// `struct nlattr`.
const ATTR_HEADER: usize = 4;
/// `NLA_F_NESTED`: set on nests we write, as nf_tables and newer kernels ask for.
const NESTED: u16 = 1 << 15;
/// `NLA_TYPE_MASK`: what is left of a type without the nested and byte-order flags.
const TYPE_MASK: u16 = !(3 << 14);

/// Flags of a message (linux/netlink.h).
pub mod flag {
    /// `NLM_F_REQUEST`.
    pub const REQUEST: u16 = 1;
    /// `NLM_F_ACK`.
    pub const ACK: u16 = 4;
    /// `NLM_F_DUMP`.
    pub const DUMP: u16 = 0x300;
    /// `NLM_F_DUMP_INTR`: the listing changed while it was read.
    pub const DUMP_INTR: u16 = 0x10;
    /// `NLM_F_REPLACE`, also in the notification of what replaced another.
    pub const REPLACE: u16 = 0x100;
    /// `NLM_F_CAPPED`: an error carries only the header of what it answers.
    pub const CAPPED: u16 = 0x100;
    /// `NLM_F_ACK_TLVS`: an error carries attributes.
    pub const ACK_TLVS: u16 = 0x200;
    /// `NLM_F_EXCL`.
    pub const EXCL: u16 = 0x200;
    /// `NLM_F_CREATE`.
    pub const CREATE: u16 = 0x400;
    /// `NLM_F_APPEND`.
    pub const APPEND: u16 = 0x800;
}

/// `NLMSG_ERROR`: also the acknowledgement, with error 0.
pub const ERROR: u16 = 2;
/// `NLMSG_DONE`; it carries the listing's error, 0 for none.
pub const DONE: u16 = 3;
/// `NLMSGERR_ATTR_MSG`: the kernel's words about an error.
const WORDS: u16 = 1;

/// Builds messages one after another in one buffer.
#[derive(Debug, Default)]
pub struct Builder {
    buf: Vec<u8>,
    message: usize,
}

/// A nest being written: where it began.
#[must_use]
#[derive(Clone, Copy, Debug)]
pub struct Nest(usize);

fn align(len: usize) -> usize {
    len.next_multiple_of(4)
}

impl Builder {
    /// An empty buffer.
    pub const fn new() -> Self {
        Self { buf: Vec::new(), message: 0 }
    }

    /// Begins a message; `fixed` is the header that follows nlmsghdr (nfgenmsg, rtmsg, ...).
    pub fn message(&mut self, kind: u16, flags: u16, seq: u32, fixed: &[u8]) -> &mut Self {
        self.message = self.buf.len();
        self.buf.extend_from_slice(&[0; 4]);
        self.buf.extend_from_slice(&kind.to_ne_bytes());
        self.buf.extend_from_slice(&flags.to_ne_bytes());
        self.buf.extend_from_slice(&seq.to_ne_bytes());
        self.buf.extend_from_slice(&[0; 4]);
        self.buf.extend_from_slice(fixed);
        self.pad();
        self.finish();
        self
    }

    fn pad(&mut self) {
        self.buf.resize(align(self.buf.len()), 0);
    }

    /// Writes the length of the message begun last. Every writer calls it, so the buffer is always whole.
    fn finish(&mut self) {
        let len = u32::try_from(self.buf.len() - self.message)
            .expect("a message is far below 4 GiB: its attributes are u16 sized and batches are cut");
        self.buf[self.message..self.message + 4].copy_from_slice(&len.to_ne_bytes());
    }

    /// Appends an attribute.
    pub fn attr(&mut self, kind: u16, payload: &[u8]) -> &mut Self {
        let len = u16::try_from(ATTR_HEADER + payload.len()).expect("a single attribute of ours is far below 64 KiB");
        self.buf.extend_from_slice(&len.to_ne_bytes());
        self.buf.extend_from_slice(&kind.to_ne_bytes());
        self.buf.extend_from_slice(payload);
        self.pad();
        self.finish();
        self
    }

    /// A big-endian u32, as nfnetlink has its numbers.
    pub fn attr_be32(&mut self, kind: u16, value: u32) -> &mut Self {
        self.attr(kind, &value.to_be_bytes())
    }

    /// A big-endian u64.
    pub fn attr_be64(&mut self, kind: u16, value: u64) -> &mut Self {
        self.attr(kind, &value.to_be_bytes())
    }

    /// A NUL-terminated string.
    pub fn attr_str(&mut self, kind: u16, value: &str) -> &mut Self {
        let mut bytes = Vec::with_capacity(value.len() + 1);
        bytes.extend_from_slice(value.as_bytes());
        bytes.push(0);
        self.attr(kind, &bytes)
    }

    /// Begins a nest.
    pub fn nest(&mut self, kind: u16) -> Nest {
        let at = self.buf.len();
        self.buf.extend_from_slice(&[0; 2]);
        self.buf.extend_from_slice(&(kind | NESTED).to_ne_bytes());
        Nest(at)
    }

    /// Ends a nest. Nests of set elements are cut by their writer before they reach 64 KiB.
    pub fn end(&mut self, nest: Nest) -> &mut Self {
        let len = u16::try_from(self.buf.len() - nest.0).expect("nests are cut before 64 KiB");
        self.buf[nest.0..nest.0 + 2].copy_from_slice(&len.to_ne_bytes());
        self.finish();
        self
    }

    /// Bytes written since this nest began, its header included.
    pub const fn nest_len(&self, nest: Nest) -> usize {
        self.buf.len() - nest.0
    }

    /// Sets flags on the message begun last, such as [`flag::ACK`] on the last of a batch.
    pub fn add_flags(&mut self, flags: u16) -> &mut Self {
        let at = self.message + 6;
        let old = u16::from_ne_bytes([self.buf[at], self.buf[at + 1]]);
        self.buf[at..at + 2].copy_from_slice(&(old | flags).to_ne_bytes());
        self
    }

    /// All messages.
    pub fn bytes(&self) -> &[u8] {
        &self.buf
    }

    /// Whether nothing was written.
    pub const fn is_empty(&self) -> bool {
        self.buf.is_empty()
    }

    /// Forgets all messages and keeps the memory.
    pub fn clear(&mut self) {
        self.buf.clear();
        self.message = 0;
    }
}

/// One message of a reply or notification.
#[derive(Clone, Copy, Debug)]
pub struct Message<'a> {
    /// `nlmsg_type`.
    pub kind: u16,
    /// `nlmsg_flags`.
    pub flags: u16,
    /// `nlmsg_seq`: of the request it answers.
    pub seq: u32,
    /// `nlmsg_pid`: the port of who caused it.
    pub port: u32,
    /// What follows the header.
    pub payload: &'a [u8],
}

impl<'a> Message<'a> {
    /// For an [`ERROR`] message: the positive errno, 0 for an acknowledgement. `None` when it is cut short.
    pub fn errno(&self) -> Option<i32> {
        let code = i32::from_ne_bytes(self.payload.first_chunk::<4>().copied()?);
        Some(code.checked_neg().unwrap_or(i32::MAX))
    }

    /// For an [`ERROR`] or [`DONE`] message: the kernel's own words about it, where it has any (extended acknowledgement).
    ///
    /// ```text
    ///  ERROR  i32 error  nlmsghdr of the request  (its payload, unless CAPPED)  attributes, if ACK_TLVS
    ///  DONE   i32 error                                                        attributes, if ACK_TLVS
    /// ```
    pub fn words(&self) -> Option<&'a str> {
        if self.flags & flag::ACK_TLVS == 0 {
            return None;
        }
        let skip = match self.kind {
            DONE => 4,
            _ if self.flags & flag::CAPPED != 0 => 4 + HEADER,
            _ => 4 + usize::try_from(u32::from_ne_bytes(self.payload.get(4..8)?.try_into().ok()?)).ok()?.min(self.payload.len()),
        };
        self.attrs(skip).find(WORDS)?.str()
    }

    /// The attributes behind a fixed header of `skip` bytes.
    pub fn attrs(&self, skip: usize) -> Attrs<'a> {
        Attrs(self.payload.get(align(skip)..).unwrap_or_default())
    }
}

/// The whole messages of a datagram; stops at the first that is cut short or lies about its length.
#[derive(Clone, Debug)]
pub struct Messages<'a>(pub &'a [u8]);

impl<'a> Iterator for Messages<'a> {
    type Item = Message<'a>;
    fn next(&mut self) -> Option<Message<'a>> {
        let head = self.0.first_chunk::<HEADER>()?;
        let u32_at = |i: usize| u32::from_ne_bytes([head[i], head[i + 1], head[i + 2], head[i + 3]]);
        let u16_at = |i: usize| u16::from_ne_bytes([head[i], head[i + 1]]);
        let len = usize::try_from(u32_at(0)).ok()?;
        let payload = self.0.get(HEADER..len)?;
        let message = Message { kind: u16_at(4), flags: u16_at(6), seq: u32_at(8), port: u32_at(12), payload };
        self.0 = self.0.get(align(len)..).unwrap_or_default();
        Some(message)
    }
}

/// One attribute.
#[derive(Clone, Copy, Debug)]
pub struct Attr<'a> {
    /// Its type without flags.
    pub kind: u16,
    /// Its payload without padding.
    pub payload: &'a [u8],
}

impl<'a> Attr<'a> {
    /// As a nest.
    pub const fn nested(&self) -> Attrs<'a> {
        Attrs(self.payload)
    }

    /// As a big-endian u32.
    pub fn be32(&self) -> Option<u32> {
        Some(u32::from_be_bytes(self.payload.try_into().ok()?))
    }

    /// As a big-endian u64.
    pub fn be64(&self) -> Option<u64> {
        Some(u64::from_be_bytes(self.payload.try_into().ok()?))
    }

    /// As a big-endian u16.
    pub fn be16(&self) -> Option<u16> {
        Some(u16::from_be_bytes(self.payload.try_into().ok()?))
    }

    /// As a host-order u32.
    pub fn ne32(&self) -> Option<u32> {
        Some(u32::from_ne_bytes(self.payload.try_into().ok()?))
    }

    /// As a string, its NUL removed; `None` where it is not UTF-8.
    pub fn str(&self) -> Option<&'a str> {
        let text = self.payload.strip_suffix(&[0]).unwrap_or(self.payload);
        std::str::from_utf8(text).ok()
    }
}

/// The whole attributes of a payload; stops at the first that is cut short or lies about its length.
#[derive(Clone, Copy, Debug)]
pub struct Attrs<'a>(pub &'a [u8]);

impl<'a> Attrs<'a> {
    /// The first attribute of this type.
    pub fn find(mut self, kind: u16) -> Option<Attr<'a>> {
        <Self as Iterator>::find(&mut self, |attr| attr.kind == kind)
    }
}

impl<'a> Iterator for Attrs<'a> {
    type Item = Attr<'a>;
    fn next(&mut self) -> Option<Attr<'a>> {
        let head = self.0.first_chunk::<ATTR_HEADER>()?;
        let len = usize::from(u16::from_ne_bytes([head[0], head[1]]));
        let kind = u16::from_ne_bytes([head[2], head[3]]) & TYPE_MASK;
        let payload = self.0.get(ATTR_HEADER..len)?;
        self.0 = self.0.get(align(len)..).unwrap_or_default();
        Some(Attr { kind, payload })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn what_is_written_is_read() {
        let mut b = Builder::new();
        b.message(7, flag::REQUEST, 3, &[1, 0, 0, 9]).attr_str(1, "abc").attr_be32(2, 5);
        let nest = b.nest(4);
        b.attr_be64(1, 6);
        b.end(nest);
        b.message(8, 0, 4, &[]).add_flags(flag::ACK);
        let all: Vec<_> = Messages(b.bytes()).collect();
        assert_eq!((all.len(), all[0].kind, all[0].seq, all[1].flags), (2, 7, 3, flag::ACK));
        let attrs = all[0].attrs(4);
        assert_eq!(attrs.find(1).and_then(|a| a.str()), Some("abc"));
        assert_eq!(attrs.find(2).and_then(|a| a.be32()), Some(5));
        assert_eq!(attrs.find(4).and_then(|a| a.nested().find(1)).and_then(|a| a.be64()), Some(6));
        assert_eq!(attrs.count(), 3);
    }

    #[test]
    fn the_kernels_words_are_found_behind_what_they_are_about() {
        let request = [20u32.to_ne_bytes(), [0; 4], [0; 4], [0; 4], [9; 4]].concat();
        for (kind, flags, before) in
            [(ERROR, flag::ACK_TLVS | flag::CAPPED, &request[..HEADER]), (ERROR, flag::ACK_TLVS, &request[..]), (DONE, flag::ACK_TLVS, &[])]
        {
            let mut b = Builder::new();
            b.message(kind, flags, 1, &[(-22i32).to_ne_bytes().as_slice(), before].concat()).attr_str(WORDS, "no such thing");
            let message = Messages(b.bytes()).next().unwrap();
            assert_eq!((message.errno(), message.words()), (Some(22), Some("no such thing")));
        }
        let mut b = Builder::new();
        b.message(ERROR, flag::CAPPED, 1, &[0; 4 + HEADER]).attr_str(WORDS, "not told");
        assert_eq!(Messages(b.bytes()).next().unwrap().words(), None);
    }

    proptest! {
        #[test]
        fn reading_is_total(bytes in proptest::collection::vec(any::<u8>(), 0..256), skip in 0usize..40) {
            for message in Messages(&bytes) {
                let _ = (message.errno(), message.words());
                for attr in message.attrs(skip) {
                    let _ = (attr.be32(), attr.be64(), attr.str());
                    prop_assert!(attr.nested().count() <= bytes.len());
                }
            }
        }
    }
}
