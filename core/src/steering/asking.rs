//! Requests become rounds and answers.

use super::journal::Set;
use super::round::{Round, Why};
use super::{Action, Steering};
use crate::config::Config;
use crate::control::route::{PolicyStatus, RouteReply, RouteRequest, RouteStatus, UplinkStatus};
use crate::net::Addr;
use crate::route::spec::Uplink;
use crate::route::wanted::{Health, sources};
use crate::route::{Spec, TableId};
use crate::time::{Now, Span};

/// How long a trial may last: longer is no trial.
pub(super) const TRIAL: (Span, Span) = (Span::secs(10), Span::secs(3600));

impl Steering {
    pub(super) fn asked(&mut self, id: u64, request: RouteRequest, now: Now) {
        let changes = matches!(request, RouteRequest::Apply { .. } | RouteRequest::Confirm | RouteRequest::Revert | RouteRequest::Release);
        if changes && self.observe {
            let why = "the daemon only observes (--observe): nothing is changed".to_owned();
            return self.out.push(Action::Answer { id, reply: Err((5, why)) });
        }
        let answer = match request {
            RouteRequest::Status => Ok(Some(RouteReply::Status(Box::new(self.status(now))))),
            RouteRequest::Plan { text } => parse(&text).map(|spec| {
                self.begin(Round::new(Why::Planned(id, Box::new(spec))));
                None
            }),
            RouteRequest::Apply { text, confirm, peer } => self.apply(id, text, confirm, peer, now).map(|()| None),
            RouteRequest::Confirm => self.confirm(id, now).map(|()| None),
            RouteRequest::Revert => self.revert(id, now).map(|()| None),
            RouteRequest::Release => {
                self.change(id, now, |journal| journal.release());
                Ok(None)
            }
            _ => Err((70, "this is nothing that is asked of routing; this is a bug".to_owned())),
        };
        match answer {
            Ok(None) => {}
            Ok(Some(reply)) => self.out.push(Action::Answer { id, reply: Ok(reply) }),
            Err(no) => self.out.push(Action::Answer { id, reply: Err(no) }),
        }
    }

    /// Changes the journal, has it written, and then what stands.
    fn change(&mut self, id: u64, now: Now, change: impl FnOnce(&mut super::Journal)) {
        self.before = Some(self.journal.clone());
        change(&mut self.journal);
        self.keep();
        self.stand(now);
        self.begin(Round::new(Why::Asked(id)));
    }

    fn apply(&mut self, id: u64, text: String, confirm: Option<Span>, peer: Option<(Addr, Addr)>, now: Now) -> Result<(), (u8, String)> {
        let spec = parse(&text)?;
        match confirm {
            Some(within) => {
                let (low, high) = TRIAL;
                if !(low..=high).contains(&within) {
                    return Err((2, format!("a trial lasts {low} to {high}, not {within}")));
                }
                self.guard(peer, &spec.settings.control_peers, now);
                let boot = self.boot.clone();
                self.change(id, now, |journal| _ = journal.try_out(text, &boot, within, now));
            }
            None => self.change(id, now, |journal| journal.confirm(Set { at: now.stamp, text })),
        }
        Ok(())
    }

    fn confirm(&mut self, id: u64, now: Now) -> Result<(), (u8, String)> {
        if self.journal.trial.is_none() {
            return Err((
                1,
                "nothing is on trial: what stands was confirmed, or was taken back already (`palisade route status`)".to_owned(),
            ));
        }
        self.change(id, now, |journal| _ = journal.confirm_trial());
        self.tell("the set on trial is confirmed");
        Ok(())
    }

    fn revert(&mut self, id: u64, now: Now) -> Result<(), (u8, String)> {
        if self.journal.standing().is_none() && self.journal.history.is_empty() {
            return Err((1, "nothing was applied that could be taken back".to_owned()));
        }
        self.change(id, now, |journal| _ = journal.go_back());
        Ok(())
    }

    /// The journal is as it was, and so is the kernel.
    pub(super) fn not_kept(&mut self, error: &str, now: Now) {
        let what = format!("the journal of routing cannot be written: {error}");
        self.trouble("routing journal", Some(format!("{what}; make room in the state folder")));
        let rounds = self.round.take().into_iter().chain(std::mem::take(&mut self.waiting));
        let askers: Vec<u64> = rounds.filter_map(|round| if let Why::Asked(id) = round.why { Some(id) } else { None }).collect();
        for id in askers {
            self.out.push(Action::Answer { id, reply: Err((6, format!("{what}; nothing was changed"))) });
        }
        match self.before.take() {
            Some(before) => {
                self.journal = before;
                self.stand(now);
                self.again(now);
            }
            // What must stand must stand, written down or not.
            None => self.begin(Round::new(Why::Again)),
        }
    }

    /// How it stands.
    pub fn status(&self, now: Now) -> RouteStatus {
        let standing = self.journal.standing();
        let trial = self.journal.trial.as_ref();
        let state = match (trial, standing) {
            (Some(_), _) => "trial",
            (None, Some(_)) => "applied",
            (None, None) => "none",
        };
        let policies = self.spec.policies.iter().map(|policy| PolicyStatus {
            name: policy.name.to_string(),
            uses: self.chooser.chosen().get(&policy.name).into_iter().flatten().map(|member| member.uplink.to_string()).collect(),
            members: policy.members.iter().map(|member| member.uplink.to_string()).collect(),
        });
        RouteStatus {
            state: state.to_owned(),
            since: standing.map(|set| set.at),
            confirm_within: trial.map(|trial| trial.until.since(now.tick)),
            uplinks: self.spec.uplinks.iter().map(|uplink| self.uplink(uplink)).collect(),
            policies: policies.collect(),
            shadows: self.findings.shadows.clone(),
            conflicts: self.findings.conflicts.clone(),
            missing: self.findings.missing,
            healed: self.healed,
            contested: self.contested.clone(),
        }
    }

    fn uplink(&self, uplink: &Uplink) -> UplinkStatus {
        let pending: Vec<String> = self.wanted.pending.iter().filter(|p| p.uplink == uplink.name).map(|p| p.why.clone()).collect();
        let (health, since) = self.since.get(&uplink.name).copied().unzip();
        let state = match health {
            Some(Health::Up) => "up",
            Some(Health::Down) if !pending.is_empty() => "pending",
            Some(Health::Down) => "down",
            None => "unknown",
        };
        let stats = self.watched.get(&uplink.name).map(|watched| watched.tracker().stats());
        let main = ("main".to_owned(), TableId::MAIN.0);
        UplinkStatus {
            name: uplink.name.to_string(),
            interface: uplink.interface.clone(),
            table: uplink.table.as_ref().map_or(main, |table| (table.name.to_string(), table.id.0)),
            state: state.to_owned(),
            since,
            sources: sources(uplink, &self.world),
            rtt: stats.as_ref().and_then(|stats| stats.rtt),
            loss: stats.as_ref().and_then(|stats| stats.loss).map(f64::from),
            warn: stats.is_some_and(|stats| stats.warn).then(|| "answers are lost or late, though not enough to count as down".to_owned()),
            leaks: None,
            pending,
        }
    }
}

fn parse(text: &str) -> Result<Spec, (u8, String)> {
    Config::read_routing(text, "the config").map_err(|errors| (4, errors.to_string()))
}
