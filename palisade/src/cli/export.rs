//! `palisade export`.

use std::io::{self, Write};
use std::ops::ControlFlow;

use anyhow::{Context, Result};
use clap::{Args, ValueEnum};
use palisade_core::bans::ban::Ban;
use palisade_core::control::{Reply, Request};
use palisade_core::net::Family;
use palisade_core::tables::write::{Form, Lost, Out, Sizes, Writer};
use palisade_core::time::Stamp;
use palisade_os::clock;

use super::ask::{answered, served, unexpected};
use super::print;
use super::{Exit, Global};
use crate::store::{Store, StoreError};

/// How many bytes of a table are written at once.
const AT_ONCE: usize = 64 * 1024;

/// The forms, as they are typed.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum FormArg {
    /// ADDR=TIME a line, the end in seconds since 1970
    BanHammer,
    /// A prefix a line
    Plain,
    /// A file for `nft -f`: a table of its own that shuts out whom it lists
    Nft,
    /// A file for `ipset restore`
    Ipset,
    /// A table file for PF
    Pf,
    /// Comma-separated values with a header
    Csv,
    /// The document of `palisade list --json`
    Json,
}

impl From<FormArg> for Form {
    fn from(form: FormArg) -> Self {
        match form {
            FormArg::BanHammer => Self::BanHammer,
            FormArg::Plain => Self::Plain,
            FormArg::Nft => Self::Nft,
            FormArg::Ipset => Self::Ipset,
            FormArg::Pf => Self::Pf,
            FormArg::Csv => Self::Csv,
            FormArg::Json => Self::Json,
        }
    }
}

/// The bans as a table for another tool.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  palisade export csv > bans.csv\n  palisade export ban-hammer --family 4 > /etc/firewall/ip4.ban\n  palisade export nft | ssh other nft -f -\n  palisade export ipset | ssh other ipset restore\n  palisade export pf --family 4 > /etc/palisade.pf && pfctl -t palisade -T replace -f /etc/palisade.pf\n\nThe daemon is asked where one runs, else the store is read. docs/tables.md describes every format."
)]
pub struct ExportArgs {
    /// Which
    #[arg(value_name = "FORMAT")]
    form: FormArg,
    /// Only this family
    #[arg(long, value_name = "4|6", value_parser = family)]
    family: Option<Family>,
}

fn family(text: &str) -> Result<Family, String> {
    match text {
        "4" => Ok(Family::V4),
        "6" => Ok(Family::V6),
        _ => Err("the families are 4 and 6".to_owned()),
    }
}

impl ExportArgs {
    /// Does it.
    pub fn run(self, global: &Global) -> Result<Exit> {
        let places = global.places();
        let now = clock::now().stamp;
        let lost = match served(&places, &Request::List)? {
            Some(reply) => match answered(reply)? {
                Reply::List { bans } => self.of_list(&bans, now)?,
                other => return Err(unexpected(&other)),
            },
            None => match Store::open_read_only(&places.state) {
                Ok(store) => self.of_store(&store, now)?,
                // Nothing was ever kept, so nobody is banned.
                Err(StoreError::Missing(_)) => self.of_list(&[], now)?,
                Err(error) => return Err(error).with_context(|| format!("the store in {}", places.state.display())),
            },
        };
        tell(lost);
        Ok(Exit::Done)
    }

    fn wanted(&self, ban: &Ban) -> bool {
        self.family.is_none_or(|family| ban.key.prefix.family() == family)
    }

    fn of_list(&self, bans: &[Ban], now: Stamp) -> Result<Lost> {
        let mut sizes = Sizes::default();
        bans.iter().for_each(|ban| sizes.count(ban.key.prefix.family()));
        let mut table = Table::new(self.form.into(), sizes, now);
        print::out(|out| {
            table.begin(out)?;
            bans.iter().filter(|ban| self.wanted(ban)).try_for_each(|ban| table.write(ban, out))?;
            table.finish(out)
        })?;
        Ok(table.writer.lost())
    }

    /// The same from the store, ban by ban: memory does not grow with it.
    fn of_store(&self, store: &Store, now: Stamp) -> Result<Lost> {
        let mut sizes = Sizes::default();
        if matches!(self.form, FormArg::Ipset) {
            store.each_ban(&mut |ban| {
                sizes.count(ban.key.prefix.family());
                ControlFlow::Continue(())
            })?;
        }
        let mut table = Table::new(self.form.into(), sizes, now);
        let mut read = Ok(());
        print::out(|out| {
            table.begin(out)?;
            let mut written = Ok(());
            read = store.each_ban(&mut |ban| {
                written = if self.wanted(&ban) { table.write(&ban, out) } else { Ok(()) };
                if written.is_ok() { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
            });
            written?;
            // A table that could not be read to its end must not look whole.
            if read.is_ok() { table.finish(out) } else { table.flush(out) }
        })?;
        read.context("reading the store; what was written is not all of it")?;
        Ok(table.writer.lost())
    }
}

/// Says what the form could not.
fn tell(lost: Lost) {
    if lost.ports > 0 {
        print::say(format_args!("palisade: left out {} bans of single ports, which this format would make bans of all", lost.ports));
    }
    if lost.wide > 0 {
        print::say(format_args!("palisade: left out {} bans of everybody (/0), which this format cannot say", lost.wide));
    }
    if lost.long > 0 {
        print::say(format_args!("palisade: {} bans last longer than this format can say and end there sooner", lost.long));
    }
}

/// A table on its way out, a good deal of it at a time.
pub(super) struct Table {
    writer: Writer,
    buffer: Vec<u8>,
}

impl Table {
    pub(super) fn new(form: Form, sizes: Sizes, now: Stamp) -> Self {
        Self { writer: Writer::new(form, sizes, now), buffer: Vec::with_capacity(AT_ONCE + 1024) }
    }

    pub(super) fn begin(&mut self, out: &mut dyn Write) -> io::Result<()> {
        self.writer.begin(&mut self.buffer);
        self.flush(out)
    }

    pub(super) fn write(&mut self, ban: &Ban, out: &mut dyn Write) -> io::Result<()> {
        let origin = ban.origin.to_string();
        let ban = Out {
            prefix: ban.key.prefix,
            ports: &ban.key.ports,
            forced: ban.key.forced,
            since: ban.since,
            until: ban.until,
            origin: &origin,
            reason: &ban.reason,
            offences: ban.offences,
        };
        self.writer.write(&ban, &mut self.buffer);
        if self.buffer.len() >= AT_ONCE { self.flush(out) } else { Ok(()) }
    }

    pub(super) fn finish(&mut self, out: &mut dyn Write) -> io::Result<()> {
        self.writer.finish(&mut self.buffer);
        self.flush(out)
    }

    fn flush(&mut self, out: &mut dyn Write) -> io::Result<()> {
        out.write_all(&self.buffer)?;
        self.buffer.clear();
        Ok(())
    }
}
