//! Looks at the kernel's connection table, of the network namespace the command runs in.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::PathBuf;

use palisade_core::flood::census::{Fold, Opened, Sample};
use palisade_core::net::{Addr, Prefix};
use palisade_core::time::Span;
use palisade_os::clock;
use palisade_os::errors::chain;
use palisade_os::flows::census::{Listener, Table};
use palisade_os::links::{Links, Paths};

use super::look::{Detail, Feed, Look};
use super::who::Who;

/// How many sources have a row of their own before only the largest are told apart.
const ROOM: usize = 65_536;

/// How many flows of this host are drawn by lot, to see whose they are.
const SAMPLE: usize = 4096;

/// The kernel's table.
pub(super) struct Kernel {
    table: Table,
    listener: Option<Listener>,
    /// Why nobody listens.
    deaf: Option<String>,
    opened: Opened,
    /// Something that the kernel told was lost since the last look.
    lost: bool,
    links: Option<Links>,
    who: Who,
    rows: usize,
}

impl Kernel {
    /// Opens it and begins to listen to one new flow in `one_in`. At most `rows` sources are named.
    ///
    /// # Errors
    /// The table cannot be read. That nobody can listen is none: it is told with each look.
    pub(super) fn open(one_in: u32, rows: usize, leases: Vec<PathBuf>) -> io::Result<Self> {
        let mut table = Table::open()?;
        table.gauge()?;
        let (listener, deaf) = match Listener::open(one_in) {
            Ok(listener) => (Some(listener), None),
            Err(error) => (None, Some(format!("new flows are not heard of: {error}"))),
        };
        let mut opened = Opened::new(ROOM);
        opened.settle(clock::now().tick);
        let links = Links::open(Paths::default()).ok();
        Ok(Self { table, listener, deaf, opened, lost: false, links, who: Who::new(leases), rows })
    }

    fn own(&mut self) -> BTreeSet<Addr> {
        let links = self.links.as_mut();
        links.and_then(|links| links.snapshot().ok()).map(|around| around.own).unwrap_or_default()
    }
}

impl Feed for Kernel {
    fn look(&mut self) -> io::Result<Look> {
        let own = self.own();
        let began = clock::now();
        let gauge = self.table.gauge()?;
        let mut fold = Fold::new(ROOM);
        // Which of the flows are drawn need not be hard to foresee: nothing is done because of it.
        let mut sample = Sample::new(SAMPLE, began.tick.0);
        let pass = self.table.each(|flow| {
            fold.add(flow);
            if own.contains(&flow.source) {
                sample.add(flow);
            }
        })?;
        self.listen()?;
        let at = clock::now();
        self.opened.settle(at.tick);
        let heard = self.listener.is_some();
        let mut census = fold.finish(self.rows, heard.then_some(&self.opened));
        let mut notes: Vec<String> = self.deaf.iter().cloned().collect();
        if std::mem::take(&mut self.lost) {
            notes.push("the kernel told of more new flows than could be read: NEW/s is too low (--one-in 64 hears of fewer)".to_owned());
        }
        if pass.others > 0 {
            notes.push(format!("{} entries are of no known kind", pass.others));
        }
        match Who::holders(sample.flows(), sample.seen()) {
            Ok(held) => census.processes = held,
            Err(error) => notes.push(format!("processes are not told: {}", chain(&error))),
        }
        let processes = match self.who.processes(&census, &own, sample.flows(), at.tick) {
            Ok(processes) => processes,
            Err(error) => {
                notes.push(format!("who is behind a source is not told: {}", chain(&error)));
                BTreeMap::new()
            }
        };
        let took = clock::now().tick.since(began.tick);
        let new = if heard { self.opened.all() } else { None };
        Ok(Look { at, gauge, census, new, processes, took, notes })
    }

    fn detail(&mut self, of: Prefix) -> io::Result<Detail> {
        let own = self.own();
        let mut fold = Fold::new(ROOM);
        let mut sample = Sample::new(SAMPLE, clock::now().tick.0);
        self.table.each(|flow| {
            if of.contains(flow.source) {
                fold.add(flow);
                if own.contains(&flow.source) {
                    sample.add(flow);
                }
            }
        })?;
        let census = fold.finish(10, None);
        let mut behind = if of.is_host() { self.who.behind(of.addr())? } else { Default::default() };
        if behind.processes.is_empty() {
            let held = Who::holders(sample.flows(), sample.seen())?;
            behind.processes = held.into_iter().map(|held| (held.process, held.flows)).collect();
        }
        Ok(Detail { census, behind })
    }

    fn listen(&mut self) -> io::Result<()> {
        let Some(listener) = &mut self.listener else { return Ok(()) };
        #[expect(clippy::cast_precision_loss, reason = "one flow in 2^24 is more than anybody asks for, and that fits")]
        let weight = listener.one_in() as f32;
        let opened = &mut self.opened;
        match listener.drain(|flow| opened.add(flow, weight)) {
            Ok(heard) => self.lost |= heard.lost,
            Err(error) => {
                self.listener = None;
                self.deaf = Some(format!("new flows are not heard of any more: {error}"));
            }
        }
        self.opened.settle(clock::now().tick);
        Ok(())
    }
}

/// How often the kernel is listened to between two looks: often enough that its buffer lasts.
pub(super) const LISTEN: Span = Span::millis(250);
