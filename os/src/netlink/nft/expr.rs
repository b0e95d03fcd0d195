//! The expressions of rules: the few we write, and read back to compare.
//!
//! ```text
//!  expression   nest LIST_ELEM { str NAME=1, nest DATA=2 {...} }          all numbers big endian
//!  meta         DREG=1  KEY=2            to set: KEY=2  SREG=3
//!  ct           DREG=1  KEY=2            to set: KEY=2  SREG=4
//!  payload      DREG=1  BASE=2  OFFSET=3  LEN=4
//!  bitwise      SREG=1  DREG=2  LEN=3  MASK=4{VALUE}  XOR=5{VALUE}  OP=6 (0: and, xor)
//!  cmp          SREG=1  OP=2 (0: ==, 1: !=)  DATA=3{VALUE}
//!  lookup       SET=1  SREG=2  FLAGS=5 (1: not in)
//!  immediate    DREG=1 (0: the verdict)  DATA=2{VERDICT=2{CODE=1, CHAIN=2}}
//!  objref       TYPE=1 (1: counter, 4: limit, 7: timeouts)  NAME=2
//!  reject       TYPE=1 (1: TCP reset, 2: ICMP of the packet's family)  ICMP_CODE=2 (u8)
//! ```
//! Source: linux/netfilter/nf_tables.h. One register is enough: each rule loads, masks and asks
//! in turn.

mod keys;

pub use keys::{Ct, Header, Meta, ct_state, ct_status};

use super::nfta::{DATA_VALUE, DATA_VERDICT, EXPR_DATA, EXPR_NAME, LIST_ELEM};
use super::object::{OBJECT_COUNTER, OBJECT_LIMIT, OBJECT_TIMEOUTS};
use crate::netlink::wire::{Attr, Attrs, Builder};

/// `NFT_REG_1`: 16 bytes, an IPv6 address fits.
const REGISTER: u32 = 1;
/// `NFT_REG_VERDICT`.
const REGISTER_VERDICT: u32 = 0;

/// `enum nft_cmp_ops`.
const EQUAL: u32 = 0;
const DIFFERS: u32 = 1;
/// `enum nft_reject_types`.
const REJECT_TCP_RESET: u32 = 1;
const REJECT_ICMPX: u32 = 2;
/// `NFT_REJECT_ICMPX_ADMIN_PROHIBITED`: ICMP 3/13, ICMPv6 1/1.
const ADMIN_PROHIBITED: u8 = 3;

/// What becomes of a packet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It vanishes.
    Drop,
    /// It has passed this base chain.
    Accept,
    /// On in that chain, without coming back.
    Goto(String),
    /// On in that chain, and back behind this rule.
    Jump(String),
    /// Back to where the jump came from.
    Return,
}

/// One expression.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Expr {
    /// Loads what is known of the packet.
    Meta(Meta),
    /// Loads what is known of its connection.
    Ct(Ct),
    /// Makes what was loaded the packet's: its mark.
    SetMeta(Meta),
    /// Makes what was loaded its connection's: the mark.
    SetCt(Ct),
    /// Loads bytes of it.
    Payload {
        /// Of which header.
        header: Header,
        /// From which byte.
        offset: u32,
        /// How many.
        len: u32,
    },
    /// Keeps these bits of what was loaded.
    Mask(Vec<u8>),
    /// Keeps the bits of `mask`, then turns those of `xor`.
    Bits {
        /// As long as what was loaded.
        mask: Vec<u8>,
        /// As long, and not all zero: that is [`Expr::Mask`].
        xor: Vec<u8>,
    },
    /// Goes on only if what was loaded is this.
    Equal(Vec<u8>),
    /// Goes on only if what was loaded is not this.
    Differs(Vec<u8>),
    /// Goes on only if what was loaded is a member of the set.
    In(String),
    /// Counts it in the table's counter of this name.
    Count(String),
    /// Goes on only if it is more than the table's limit of this name lets through.
    Over(String),
    /// Gives its connection the table's timeouts of this name: for good, and only with its first packet.
    Timeouts(String),
    /// Ends the rule.
    Verdict(Verdict),
    /// Answers with a TCP reset.
    RejectReset,
    /// Answers with ICMP "administratively prohibited".
    RejectProhibited,
    /// Anything else: its name. Never written.
    Other(String),
}

impl Verdict {
    /// `NF_DROP`, `NF_ACCEPT`, `NFT_JUMP` (-3), `NFT_GOTO` (-4) and `NFT_RETURN` (-5), as the u32 they travel as.
    const fn code(&self) -> u32 {
        match self {
            Self::Drop => 0,
            Self::Accept => 1,
            Self::Jump(_) => (-3i32).cast_unsigned(),
            Self::Goto(_) => (-4i32).cast_unsigned(),
            Self::Return => (-5i32).cast_unsigned(),
        }
    }
}

fn data(b: &mut Builder, kind: u16, value: &[u8]) {
    let nest = b.nest(kind);
    b.attr(DATA_VALUE, value);
    b.end(nest);
}

fn bitwise(b: &mut Builder, mask: &[u8], xor: &[u8]) {
    let len = u32::try_from(mask.len()).expect("a mask is at most 16 bytes");
    b.attr_be32(1, REGISTER).attr_be32(2, REGISTER).attr_be32(3, len);
    data(b, 4, mask);
    data(b, 5, xor);
}

fn compare(b: &mut Builder, operation: u32, value: &[u8]) {
    b.attr_be32(1, REGISTER).attr_be32(2, operation);
    data(b, 3, value);
}

fn refer(b: &mut Builder, kind: u32, name: &str) {
    b.attr_be32(1, kind).attr_str(2, name);
}

impl Expr {
    /// The kernel's name of it.
    fn name(&self) -> &str {
        match self {
            Self::Meta(_) | Self::SetMeta(_) => "meta",
            Self::Ct(_) | Self::SetCt(_) => "ct",
            Self::Payload { .. } => "payload",
            Self::Mask(_) | Self::Bits { .. } => "bitwise",
            Self::Equal(_) | Self::Differs(_) => "cmp",
            Self::Count(_) | Self::Over(_) | Self::Timeouts(_) => "objref",
            Self::In(_) => "lookup",
            Self::Verdict(_) => "immediate",
            Self::RejectReset | Self::RejectProhibited => "reject",
            Self::Other(name) => name,
        }
    }

    /// Writes it as a member of a rule's list.
    pub fn write(&self, b: &mut Builder) {
        let member = b.nest(LIST_ELEM);
        b.attr_str(EXPR_NAME, self.name());
        let body = b.nest(EXPR_DATA);
        match self {
            Self::Meta(meta) => {
                b.attr_be32(1, REGISTER).attr_be32(2, meta.number());
            }
            Self::Payload { header, offset, len } => {
                b.attr_be32(1, REGISTER).attr_be32(2, header.number()).attr_be32(3, *offset).attr_be32(4, *len);
            }
            Self::Ct(key) => {
                b.attr_be32(1, REGISTER).attr_be32(2, key.number());
            }
            Self::SetMeta(meta) => {
                b.attr_be32(2, meta.number()).attr_be32(3, REGISTER);
            }
            Self::SetCt(key) => {
                b.attr_be32(2, key.number()).attr_be32(4, REGISTER);
            }
            Self::Mask(mask) => bitwise(b, mask, &vec![0; mask.len()]),
            Self::Bits { mask, xor } => bitwise(b, mask, xor),
            Self::Equal(value) => compare(b, EQUAL, value),
            Self::Differs(value) => compare(b, DIFFERS, value),
            Self::Count(name) => refer(b, OBJECT_COUNTER, name),
            Self::Over(name) => refer(b, OBJECT_LIMIT, name),
            Self::Timeouts(name) => refer(b, OBJECT_TIMEOUTS, name),
            Self::In(set) => {
                b.attr_str(1, set).attr_be32(2, REGISTER);
            }
            Self::Verdict(verdict) => {
                b.attr_be32(1, REGISTER_VERDICT);
                let value = b.nest(2);
                let nest = b.nest(DATA_VERDICT);
                b.attr_be32(1, verdict.code());
                if let Verdict::Goto(chain) | Verdict::Jump(chain) = verdict {
                    b.attr_str(2, chain);
                }
                b.end(nest).end(value);
            }
            Self::RejectReset => {
                b.attr_be32(1, REJECT_TCP_RESET);
            }
            Self::RejectProhibited => {
                b.attr_be32(1, REJECT_ICMPX).attr(2, &[ADMIN_PROHIBITED]);
            }
            Self::Other(_) => {}
        }
        b.end(body).end(member);
    }

    /// Reads one member of a rule's list; anything but what [`Expr::write`] writes is [`Expr::Other`].
    pub fn read(member: Attr<'_>) -> Self {
        let attrs = member.nested();
        let name = attrs.find(EXPR_NAME).and_then(|a| a.str()).unwrap_or("?");
        let body = attrs.find(EXPR_DATA).map_or(Attrs(&[]), |a| a.nested());
        Self::understand(name, body).unwrap_or_else(|| Self::Other(name.to_owned()))
    }

    fn understand(name: &str, body: Attrs<'_>) -> Option<Self> {
        let number = |kind| body.find(kind).and_then(|a| a.be32());
        let value = |kind| Some(body.find(kind)?.nested().find(DATA_VALUE)?.payload.to_vec());
        let is = |kind, wanted| (number(kind)? == wanted).then_some(());
        Some(match name {
            "meta" if body.find(1).is_none() => {
                is(3, REGISTER)?;
                Self::SetMeta(Meta::of(number(2)?)?)
            }
            "meta" => {
                is(1, REGISTER)?;
                Self::Meta(Meta::of(number(2)?)?)
            }
            "ct" if body.find(1).is_none() => {
                is(4, REGISTER)?;
                Self::SetCt(Ct::of(number(2)?)?)
            }
            "ct" => {
                is(1, REGISTER)?;
                Self::Ct(Ct::of(number(2)?)?)
            }
            "payload" => {
                is(1, REGISTER)?;
                let base = number(2)?;
                let header = [Header::Network, Header::Transport].into_iter().find(|h| h.number() == base)?;
                Self::Payload { header, offset: number(3)?, len: number(4)? }
            }
            "bitwise" => {
                is(1, REGISTER)?;
                is(2, REGISTER)?;
                (number(6).unwrap_or(0) == 0).then_some(())?;
                let (mask, xor) = (value(4)?, value(5)?);
                if xor.iter().all(|byte| *byte == 0) { Self::Mask(mask) } else { Self::Bits { mask, xor } }
            }
            "cmp" => {
                is(1, REGISTER)?;
                match number(2)? {
                    EQUAL => Self::Equal(value(3)?),
                    DIFFERS => Self::Differs(value(3)?),
                    _ => return None,
                }
            }
            "objref" => {
                let object = body.find(2)?.str()?.to_owned();
                match number(1)? {
                    OBJECT_COUNTER => Self::Count(object),
                    OBJECT_LIMIT => Self::Over(object),
                    OBJECT_TIMEOUTS => Self::Timeouts(object),
                    _ => return None,
                }
            }
            "lookup" => {
                is(2, REGISTER)?;
                (number(5).unwrap_or(0) == 0).then_some(())?;
                Self::In(body.find(1)?.str()?.to_owned())
            }
            "immediate" => {
                is(1, REGISTER_VERDICT)?;
                let verdict = body.find(2)?.nested().find(DATA_VERDICT)?.nested();
                let chain = verdict.find(2).and_then(|a| a.str()).unwrap_or_default();
                let code = verdict.find(1)?.be32()?;
                let chain = || chain.to_owned();
                let known = [Verdict::Drop, Verdict::Accept, Verdict::Return, Verdict::Goto(chain()), Verdict::Jump(chain())];
                Self::Verdict(known.into_iter().find(|v| v.code() == code)?)
            }
            "reject" => match number(1)? {
                REJECT_TCP_RESET => Self::RejectReset,
                REJECT_ICMPX => (body.find(2)?.payload == [ADMIN_PROHIBITED]).then_some(Self::RejectProhibited)?,
                _ => return None,
            },
            _ => return None,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn any_expr() -> impl Strategy<Value = Expr> {
        let bytes = || proptest::collection::vec(any::<u8>(), 1..17);
        let name = || "[a-z][a-z0-9_.]{0,20}";
        let meta = || proptest::sample::select(Meta::ALL.map(|(meta, _)| meta).to_vec());
        prop_oneof![
            meta().prop_map(Expr::Meta),
            meta().prop_map(Expr::SetMeta),
            proptest::sample::select(Ct::ALL.to_vec()).prop_map(Expr::Ct),
            prop_oneof![Just(Ct::State), Just(Ct::Mark)].prop_map(Expr::SetCt),
            (prop_oneof![Just(Header::Network), Just(Header::Transport)], 0u32..60, 1u32..17)
                .prop_map(|(header, offset, len)| Expr::Payload { header, offset, len }),
            bytes().prop_map(Expr::Mask),
            (bytes(), 1u8..).prop_map(|(mask, bits)| Expr::Bits { xor: vec![bits; mask.len()], mask }),
            bytes().prop_map(Expr::Equal),
            bytes().prop_map(Expr::Differs),
            name().prop_map(Expr::Count),
            name().prop_map(Expr::Over),
            name().prop_map(Expr::Timeouts),
            name().prop_map(Expr::In),
            prop_oneof![
                Just(Verdict::Drop),
                Just(Verdict::Accept),
                Just(Verdict::Return),
                name().prop_map(Verdict::Goto),
                name().prop_map(Verdict::Jump)
            ]
            .prop_map(Expr::Verdict),
            Just(Expr::RejectReset),
            Just(Expr::RejectProhibited),
        ]
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(expr in any_expr()) {
            let mut b = Builder::new();
            b.message(0, 0, 0, &[]);
            expr.write(&mut b);
            let message = crate::netlink::wire::Messages(b.bytes()).next().unwrap();
            let member = message.attrs(0).find(LIST_ELEM).unwrap();
            prop_assert_eq!(Expr::read(member), expr);
        }

        #[test]
        fn reading_is_total(bytes in proptest::collection::vec(any::<u8>(), 0..256)) {
            let _ = Expr::read(Attr { kind: LIST_ELEM, payload: &bytes });
        }
    }
}
