//! Tables out: bans in, bytes out, one at a time.

use std::fmt;
use std::io::Write as _;

use super::{csv, hammer, ipset, json, nft, plain};
use crate::net::{Family, Prefix};
use crate::ports::Ports;
use crate::time::{Stamp, Until};

/// A table's form on the way out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// `ADDR=TIME`.
    BanHammer,
    /// A prefix a line.
    Plain,
    /// A file for `nft -f`.
    Nft,
    /// A file for `ipset restore`.
    Ipset,
    /// A table file of PF.
    Pf,
    /// Comma-separated values.
    Csv,
    /// The document of `palisade list`.
    Json,
}

impl Form {
    /// Whether it tells ports, forced bans and everything else apart.
    const fn tells_all(self) -> bool {
        matches!(self, Self::Csv | Self::Json)
    }
}

/// A ban on its way out.
#[derive(Clone, Copy, Debug)]
pub struct Out<'a> {
    /// Who.
    pub prefix: Prefix,
    /// From what.
    pub ports: &'a Ports,
    /// Whether it stands before the allow list.
    pub forced: bool,
    /// Since when.
    pub since: Stamp,
    /// Until when.
    pub until: Until,
    /// Whose it is.
    pub origin: &'a str,
    /// Why.
    pub reason: &'a str,
    /// The how manieth.
    pub offences: u32,
}

impl Out<'_> {
    /// A single address without its length, a prefix with it.
    pub(super) fn put_bare(&self, out: &mut Vec<u8>) {
        if self.prefix.is_host() { put(out, format_args!("{}", self.prefix.addr())) } else { put(out, format_args!("{}", self.prefix)) }
    }
}

/// How many bans of each family there are at most, for forms that must say so first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sizes {
    /// Of IPv4.
    pub v4: usize,
    /// Of IPv6.
    pub v6: usize,
}

impl Sizes {
    /// One more of this family.
    pub const fn count(&mut self, family: Family) {
        match family {
            Family::V4 => self.v4 += 1,
            Family::V6 => self.v6 += 1,
        }
    }
}

/// What a form could not say.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Lost {
    /// Bans of single ports, left out: as bans of all they would shut out more.
    pub ports: u64,
    /// Prefixes that the form knows not, left out.
    pub wide: u64,
    /// Bans that last longer than the form can say, written with the longest it can.
    pub long: u64,
}

/// Writes one table. Give it the bans in order of their prefixes.
#[derive(Debug)]
pub struct Writer {
    form: Form,
    now: Stamp,
    sizes: Sizes,
    lost: Lost,
    first: bool,
    /// The ban that is written when another prefix's comes: forms that do not tell two bans of one
    /// prefix apart get the longer.
    held: Option<(Prefix, Until)>,
    nft: nft::Sets,
}

impl Writer {
    /// A writer of a table that begins. What is left of bans counts from `now`.
    pub fn new(form: Form, sizes: Sizes, now: Stamp) -> Self {
        Self { form, now, sizes, lost: Lost::default(), first: true, held: None, nft: nft::Sets::default() }
    }

    /// What stands before the bans.
    pub fn begin(&mut self, out: &mut Vec<u8>) {
        match self.form {
            Form::Nft => nft::head(out),
            Form::Ipset => ipset::head(self.sizes, out),
            Form::Csv => csv::head(out),
            Form::Json => json::head(out),
            Form::BanHammer | Form::Plain | Form::Pf => {}
        }
    }

    /// Writes one ban. One that is over is not written.
    pub fn write(&mut self, ban: &Out<'_>, out: &mut Vec<u8>) {
        if ban.until.over(self.now) {
            return;
        }
        if self.form.tells_all() {
            return self.row(ban, out);
        }
        if *ban.ports != Ports::All {
            self.lost.ports += 1;
            return;
        }
        match &mut self.held {
            Some((prefix, until)) if *prefix == ban.prefix => *until = ban.until.max(*until),
            held => {
                let before = held.replace((ban.prefix, ban.until));
                self.let_go(before, out);
            }
        }
    }

    /// What stands after the bans.
    pub fn finish(&mut self, out: &mut Vec<u8>) {
        let last = self.held.take();
        self.let_go(last, out);
        match self.form {
            Form::Nft => self.nft.finish(out),
            Form::Json => json::tail(out),
            _ => {}
        }
    }

    /// What could not be said so far.
    pub const fn lost(&self) -> Lost {
        self.lost
    }

    fn let_go(&mut self, held: Option<(Prefix, Until)>, out: &mut Vec<u8>) {
        if let Some((prefix, until)) = held {
            let ban = Out { prefix, ports: &Ports::All, forced: false, since: self.now, until, origin: "", reason: "", offences: 1 };
            self.row(&ban, out);
        }
    }

    fn row(&mut self, ban: &Out<'_>, out: &mut Vec<u8>) {
        match self.form {
            Form::BanHammer => hammer::write(ban, out),
            Form::Plain | Form::Pf => plain::write(ban, out),
            Form::Nft => self.nft.write(ban, self.now, out),
            Form::Ipset => ipset::write(ban, self.now, &mut self.lost, out),
            Form::Csv => csv::write(ban, out),
            Form::Json => json::write(ban, self.first, out),
        }
        self.first = false;
    }
}

/// Appends formatted text.
pub(super) fn put(out: &mut Vec<u8>, text: fmt::Arguments<'_>) {
    // Writing into a vector cannot fail.
    let _ = out.write_fmt(text);
}
