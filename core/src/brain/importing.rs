//! Tables become bans: one order (or one new wall), one reply and one notice for all rows of a request.

use std::sync::Arc;

use super::Brain;
use super::wall::{Pending, REBUILD_FROM, REBUILD_PART};
use crate::attack::excerpt;
use crate::bans::ban::{Ban, Origin};
use crate::bans::order::Order;
use crate::bans::table::{Change, NewBan};
use crate::bans::wall::{Entry, Report};
use crate::control::{Imported, KillCount, Reply};
use crate::event::{Notice, Record, What};
use crate::tables::Row;
use crate::time::{Stamp, Term, Until};

/// What holds for all rows.
pub(super) struct Import {
    pub(super) term: Option<Term>,
    pub(super) reason: String,
    pub(super) origin: Origin,
}

impl Brain {
    /// Bans whom the rows name. An import is no hand that forces: what the allow list protects is refused.
    pub(super) fn import(&mut self, id: u64, rows: Vec<Row>, asked: &Import, now: Stamp) {
        let kill = self.config.ban().policy.kill_states;
        let until = asked.term.unwrap_or(self.config.ban().manual_time).from(now);
        let reason: Arc<str> = excerpt(asked.reason.as_bytes()).into();
        let mut imported = Imported::default();
        let mut order = Order::new();
        for (at, row) in rows.into_iter().enumerate() {
            let new = match self.allow.bannable(row.prefix, now) {
                Ok(who) => NewBan {
                    who,
                    until: row.end.map_or(until, Until::from),
                    since: row.since.map_or(now, |since| since.min(now)),
                    ports: row.ports,
                    origin: asked.origin.clone(),
                    reason: if row.reason.is_empty() { reason.clone() } else { excerpt(row.reason.as_bytes()).into() },
                    offences: row.offences.max(1),
                },
                Err(protected) => {
                    imported.refused.push((at, format!("{} is protected by {}", row.prefix, protected.member)));
                    continue;
                }
            };
            if new.until.over(now) {
                imported.over += 1;
                continue;
            }
            match self.table.ban(new) {
                Ok(Change::New { ban, displaced }) => {
                    imported.new += 1;
                    if let Some(gone) = displaced {
                        imported.displaced += 1;
                        order.release(gone.key.clone());
                        self.records.push(Record::Unban(gone.key));
                    }
                    self.enter_row(ban, kill, &mut order);
                }
                Ok(Change::Extended { ban, .. }) => {
                    imported.longer += 1;
                    self.enter_row(ban, kill, &mut order);
                }
                Ok(Change::Unchanged { .. }) => imported.unchanged += 1,
                Err(full) => imported.fail(1, format_args!("{full}; it is not kept")),
            }
        }
        let (bans, displaced) = (imported.new + imported.longer, imported.displaced);
        let what = What::Imported { origin: asked.origin.clone(), bans, displaced, killed: KillCount::default() };
        let notices = if bans > 0 { vec![Notice { at: now, prefix: None, what }] } else { Vec::new() };
        let pending = Pending { answer: Some((id, Reply::Imported(imported))), notices, ..Pending::default() };
        if bans >= REBUILD_FROM && bans >= self.table.len() / REBUILD_PART {
            let kills = order.kills(&Report::all_done(order.len()));
            return self.rebuild(Pending { kills, ..pending });
        }
        self.order(order, pending);
    }

    fn enter_row(&mut self, ban: Ban, kill: bool, order: &mut Order) {
        order.block(Entry { key: ban.key.clone(), until: ban.until }, kill);
        self.records.push(Record::Ban(ban));
    }
}
