//! What the kernel lost, why, and since when: every packet counted, told at most once a minute a cause.
//!
//! | counter (net/netfilter/nf_conntrack_core.c) | goes up when |
//! |---|---|
//! | `drop` | no entry could be made: the table is full, or there is no memory; since Linux 5.7 also with each clash that is not resolved (`nf_ct_resolve_clash`) |
//! | `early_drop` | an unassured flow was thrown out to make room |
//! | `insert_failed` | an entry was made but another with the same tuple stood already, or `chain_too_long` |
//! | `chain_too_long` | a hash bucket has too many entries; counted in `insert_failed` too |
//!
//! So of what `drop` gained, as much as `insert_failed` gained by clashes is taken for those and not for want of room: two DNS
//! questions sent from one socket at the same moment are the usual case. An older kernel counts a clash in `insert_failed` alone; there a
//! second in which both went up may hide as many real drops as there were clashes, and the next one tells.

use serde::{Deserialize, Serialize};

use super::Said;
use crate::flood::gauge::Gauge;
use crate::time::{Now, Span, Tick};

/// So full counts as full: the count is read a little after the packet was lost.
const NEARLY: f64 = 0.95;

/// How often one cause is told.
const PAUSE: Span = Span::secs(60);

/// Why packets or flows were lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Cause {
    /// The table was full: packets of new flows were dropped.
    TableFull,
    /// Flows were thrown out before their time to make room.
    EarlyDrop,
    /// There was room in the table, but none in memory.
    NoMemory,
    /// A hash bucket had too many entries.
    ChainTooLong,
    /// Two packets made the same flow, or two flows were translated to the same tuple.
    Clash,
}

impl Cause {
    const ALL: [Self; 5] = [Self::TableFull, Self::EarlyDrop, Self::NoMemory, Self::ChainTooLong, Self::Clash];

    /// What it means and what helps.
    pub const fn text(self) -> &'static str {
        match self {
            Self::TableFull => {
                "packets of new flows were dropped because the table is full; see who fills it (palisade conntrack top) or raise net.netfilter.nf_conntrack_max"
            }
            Self::EarlyDrop => {
                "flows that were not yet assured were thrown out before their time because the table is full; see who fills it (palisade conntrack top)"
            }
            Self::NoMemory => {
                "packets were dropped although the table has room: the kernel had no memory for an entry, or the packets were malformed; look at free memory and at slab nf_conntrack"
            }
            Self::ChainTooLong => {
                "flows were given up because their hash bucket's chain is too long: the hash table is too small for so many flows; raise net.netfilter.nf_conntrack_buckets"
            }
            Self::Clash => {
                "flows could not be inserted because another with the same addresses and ports stood already: one packet of each was dropped or given to the flow that stood; usually two DNS questions sent from one socket at the same moment, or too few ports for a translated source (SNAT)"
            }
        }
    }
}

/// How much was lost by one cause since the guard started.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lost {
    /// Why.
    pub cause: Cause,
    /// How many packets or flows.
    pub total: u64,
}

/// One cause: all of it, what is not told yet, and when it was told last.
#[derive(Clone, Copy, Debug, Default)]
struct Account {
    total: u64,
    untold: Gauge,
    pending: u64,
    told: Option<Tick>,
}

/// What moved with the last gauge.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Moved {
    /// Packets were lost because the table is full.
    pub full: bool,
    /// Something was lost for want of room in the table. Packets dropped while it has room are told and no more: a
    /// malformed packet counts as one (`nf_conntrack_in`), and whoever sends some shall not move our timeouts.
    pub any: bool,
}

/// All causes.
#[derive(Clone, Debug, Default)]
pub(super) struct Drops {
    last: Option<Gauge>,
    accounts: [Account; Cause::ALL.len()],
}

impl Drops {
    /// Adds what the counters gained since the gauge before. The first gauge is where counting begins; counters that went
    /// back (another namespace, a module loaded anew) begin again.
    pub(super) fn gauge(&mut self, gauge: Gauge) -> Moved {
        let Some(last) = self.last.replace(gauge) else { return Moved::default() };
        let more = gauge.since(&last);
        let (early, chains) = (more.early_drop, more.chain_too_long);
        let clashes = more.insert_failed.saturating_sub(chains);
        let drop = more.drop.saturating_sub(clashes);
        let nearly = gauge.fill().max(last.fill()) >= NEARLY;
        let (full, memory) = if nearly { (drop, 0) } else { (0, drop) };
        let gained = [full, early, memory, chains, clashes];
        for ((account, cause), by) in self.accounts.iter_mut().zip(Cause::ALL).zip(gained) {
            if by > 0 {
                account.add(cause, by, &gauge);
            }
        }
        Moved { full: full > 0, any: full > 0 || early > 0 }
    }

    /// Counting ends, or begins: what the counters gain until the next gauge is not told.
    pub(super) const fn pause(&mut self) {
        self.last = None;
    }

    /// What is to be told by now.
    pub(super) fn told(&mut self, now: Now) -> Vec<Said> {
        let mut said = Vec::new();
        for (account, cause) in self.accounts.iter_mut().zip(Cause::ALL) {
            if account.pending > 0 && account.due().is_none_or(|due| due <= now.tick) {
                let explanation = format!("{} {}", account.pending, cause.text());
                said.push(Said::Dropped { cause, count: account.pending, difference: account.untold, explanation });
                *account = Account { total: account.total, told: Some(now.tick), ..Account::default() };
            }
        }
        said
    }

    /// When the next may be told.
    pub(super) fn deadline(&self) -> Option<Tick> {
        self.accounts.iter().filter(|account| account.pending > 0).filter_map(Account::due).min()
    }

    /// Everything since the start.
    pub(super) fn totals(&self) -> Vec<Lost> {
        self.accounts.iter().zip(Cause::ALL).map(|(account, cause)| Lost { cause, total: account.total }).collect()
    }
}

impl Account {
    fn add(&mut self, cause: Cause, by: u64, gauge: &Gauge) {
        self.total = self.total.saturating_add(by);
        self.pending = self.pending.saturating_add(by);
        let untold = &mut self.untold;
        (untold.count, untold.max) = (gauge.count, gauge.max);
        match cause {
            Cause::TableFull | Cause::NoMemory => untold.drop = self.pending,
            Cause::EarlyDrop => untold.early_drop = self.pending,
            Cause::ChainTooLong => (untold.chain_too_long, untold.insert_failed) = (self.pending, self.pending),
            Cause::Clash => untold.insert_failed = self.pending,
        }
    }

    fn due(&self) -> Option<Tick> {
        self.told.map(|told| told.plus(PAUSE))
    }
}
