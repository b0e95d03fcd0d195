//! One round: look, compare, plan, apply, look again, until nothing is left to do.

use std::collections::{BTreeMap, BTreeSet};

use super::{Action, Changes, RETRY, Steering, text};
use crate::control::route::{PlanReply, RouteReply};
use crate::route::heal::Seen;
use crate::route::plan::{Ours, Plan, Report, Step, plan};
use crate::route::policy::Chooser;
use crate::route::shadow::shadows;
use crate::route::wanted::{Sysctl, wanted};
use crate::route::{Rule, Spec, TableId, Wanted, World};
use crate::time::Now;

/// So often a round looks again after it has changed something. What then still differs is somebody else's doing, or ours.
const ATTEMPTS: u32 = 4;

/// How many rounds may wait: one for each connection that may ask, and one of our own.
const WAITING: usize = 65;

/// Why a round is made.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Why {
    /// The daemon starts.
    Start,
    /// Something failed the last time.
    Again,
    /// Somebody else removed something of ours.
    Drift,
    /// Something changed, or nothing did for a while.
    Look,
    /// An uplink, or what a policy chose, changed.
    Health,
    /// A set was taken back.
    Reverted,
    /// Somebody asked for it, and is answered when it is done.
    Asked(u64),
    /// Somebody asked what this would change: nothing is changed.
    Planned(u64, Box<Spec>),
}

/// A round under way.
#[derive(Clone, Debug)]
pub(super) struct Round {
    pub(super) why: Why,
    attempt: u32,
    world: World,
    wanted: Wanted,
    steps: Vec<Step>,
    /// What the asker is told.
    reply: PlanReply,
}

impl Round {
    pub(super) fn new(why: Why) -> Self {
        Self { why, attempt: 0, world: World::default(), wanted: Wanted::default(), steps: Vec::new(), reply: PlanReply::default() }
    }

    const fn asker(&self) -> Option<u64> {
        match self.why {
            Why::Asked(id) | Why::Planned(id, _) => Some(id),
            _ => None,
        }
    }
}

/// What a round found that is not as it should be.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Findings {
    pub(super) conflicts: Vec<String>,
    pub(super) shadows: Vec<String>,
    pub(super) failed: Vec<String>,
    /// Rules and routes that do not stand.
    pub(super) missing: usize,
}

impl Steering {
    /// Starts a round, or puts it behind the one under way.
    pub(super) fn begin(&mut self, round: Round) {
        if self.round.is_some() {
            let same = |waiting: &Round| waiting.asker().is_none() && round.asker().is_none();
            if !self.waiting.iter().any(same) && self.waiting.len() < WAITING {
                self.waiting.push_back(round);
            }
            return;
        }
        if round.asker().is_none() {
            self.retry_at = None;
        }
        let tables = self.tables_of(&round);
        self.round = Some(round);
        self.out.push(Action::Look(tables));
    }

    fn tables_of(&self, round: &Round) -> BTreeSet<TableId> {
        let planned = if let Why::Planned(_, spec) = &round.why { Some(&**spec) } else { None };
        let specs = [Some(&self.spec), planned].into_iter().flatten();
        specs.flat_map(Spec::tables).map(|table| table.id).chain(self.ours.iter().flat_map(|ours| ours.tables.iter().copied())).collect()
    }

    pub(super) fn found(&mut self, world: World, now: Now) {
        let Some(mut round) = self.round.take() else { return };
        // What was to be written before this is.
        (self.before, self.blind_until) = (None, None);
        if let Why::Planned(_, spec) = &round.why {
            let mut chooser = Chooser::default();
            let _ = chooser.update(spec, &self.healths, now);
            round.wanted = wanted(spec, &world, &self.healths, chooser.chosen());
        } else {
            self.world = world.clone();
            self.weigh(now);
            round.wanted = self.wanted.clone();
        }
        round.world = world;
        let switches = round.wanted.sysctls.iter().map(|switch| switch.path.clone()).chain(self.journal.switches.keys().cloned()).collect();
        self.out.push(Action::Compare { marks: round.wanted.marks.clone(), switches });
        self.round = Some(round);
    }

    pub(super) fn blind(&mut self, error: String, now: Now) {
        self.trouble("routing", Some(format!("the kernel's rules and routes cannot be read: {error}; trying again")));
        if let Some(id) = self.round.take().and_then(|round| round.asker()) {
            self.out.push(Action::Answer { id, reply: Err((6, error)) });
        }
        self.again(now);
        self.blind_until = self.retry_at;
    }

    pub(super) fn again(&mut self, now: Now) {
        self.retry_at = Some(now.tick.plus(self.retry));
        self.retry = self.retry.times(2.0).min(RETRY.1);
    }

    pub(super) fn compared(&mut self, marks: bool, switches: &BTreeMap<String, String>, now: Now) {
        let Some(mut round) = self.round.take() else { return };
        let spec = if let Why::Planned(_, spec) = &round.why { spec } else { &self.spec };
        let plan = self.plan_for(&round, &Ours::of(spec), marks, switches);
        let names = spec.names();
        let not_ours = |rule: &&Rule| !self.ours.iter().any(|ours| ours.is_rule(rule));
        let found: Vec<Rule> = round.world.rules.iter().filter(not_ours).cloned().collect();
        let shadows: Vec<String> = shadows(&round.wanted.rules, &found, &Ours::of(spec), &names).iter().map(text::shadow).collect();
        let conflicts: Vec<String> = plan.conflicts.iter().map(|conflict| text::conflict(conflict, &names, &round.world)).collect();
        if round.attempt == 0 {
            round.reply = text::reply(&plan, &round.wanted, &round.world, &names);
            round.reply.shadows.clone_from(&shadows);
            round.reply.conflicts.clone_from(&conflicts);
        }
        if let Why::Planned(id, _) = round.why {
            self.out.push(Action::Answer { id, reply: Ok(RouteReply::Plan(round.reply)) });
            return;
        }
        let missing = plan.steps.iter().filter(|step| matches!(step, Step::AddRule(_) | Step::AddRoute(_))).count();
        self.findings = Findings { conflicts, shadows, failed: std::mem::take(&mut self.findings.failed), missing };
        if plan.steps.is_empty() {
            self.findings.failed.clear();
            let forget = self.forget(&round.wanted);
            self.finish(round, now);
            if forget {
                self.keep();
            }
            return;
        }
        if self.observe || round.attempt >= ATTEMPTS {
            if !self.observe {
                self.again(now);
            }
            return self.finish(round, now);
        }
        if round.attempt == 0 && round.why == Why::Drift {
            self.healed += plan.steps.len() as u64;
            self.tell(&format!("somebody else removed what is ours: put back by {} steps", plan.steps.len()));
        }
        self.remember_switches(&round.wanted, switches);
        round.steps.clone_from(&plan.steps);
        round.attempt += 1;
        self.round = Some(round);
        self.out.push(Action::Apply(plan.steps));
    }

    /// The plan, and after it the removal of what earlier sets left under another protocol or elsewhere.
    fn plan_for(&self, round: &Round, ours: &Ours, marks: bool, switches: &BTreeMap<String, String>) -> Plan {
        let held = |path: &str| switches.get(path).cloned();
        // What has the same protocol number is looked for at once, or it would be removed twice.
        let mut groups = vec![ours.clone()];
        for earlier in self.ours.iter().chain([&Ours::of(&self.spec)]) {
            match groups.iter_mut().find_map(|group| Some((group.join(earlier)?, group))) {
                Some((both, group)) => *group = both,
                None => groups.push(earlier.clone()),
            }
        }
        let mut all = plan(&round.wanted, &round.world, &groups[0], marks, &held);
        for earlier in &groups[1..] {
            all.steps.extend(plan(&Wanted::default(), &round.world, earlier, true, &held).steps);
        }
        let back = |(path, value): (&String, &String)| {
            let unwanted = !round.wanted.sysctls.iter().any(|switch| switch.path == *path);
            (unwanted && switches.get(path).is_some_and(|held| held != value))
                .then(|| Step::Sysctl(Sysctl { path: path.clone(), value: value.clone() }))
        };
        all.steps.extend(self.journal.switches.iter().filter_map(back));
        all
    }

    /// What the switches were before the first of ours is written down before they are set.
    fn remember_switches(&mut self, wanted: &Wanted, switches: &BTreeMap<String, String>) {
        let (before, mut new) = (self.journal.clone(), false);
        for Sysctl { path, value } in &wanted.sysctls {
            if let Some(held) = switches.get(path).filter(|held| *held != value)
                && !self.journal.switches.contains_key(path)
            {
                self.journal.switches.insert(path.clone(), held.clone());
                new = true;
            }
        }
        if new {
            self.before = Some(before);
            self.keep();
        }
    }

    /// Everything stands as it should: what was put back or is gone need not be remembered. Whether there was any.
    fn forget(&mut self, wanted: &Wanted) -> bool {
        if self.observe {
            return false;
        }
        self.ours = vec![Ours::of(&self.spec)];
        let before = self.journal.switches.len();
        self.journal.switches.retain(|path, _| wanted.sysctls.iter().any(|switch| switch.path == *path));
        self.journal.settled() || self.journal.switches.len() != before
    }

    pub(super) fn applied(&mut self, report: &Report, now: Now) {
        let Some(mut round) = self.round.take() else { return };
        let names = self.spec.names();
        let said = |(index, failure): &(usize, crate::route::plan::Failure)| {
            let step = round.steps.get(*index).map(|step| text::step(step, &names, &round.world).text).unwrap_or_default();
            format!("{step}: {}", failure.error)
        };
        self.findings.failed = report.failed.iter().filter(|(_, failure)| !failure.passing).map(said).collect();
        let passing = report.failed.iter().any(|(_, failure)| failure.passing);
        if round.attempt == 1 {
            round.reply.failed = report.failed.iter().map(said).collect();
        }
        if report.done == 0 || passing && round.attempt >= ATTEMPTS {
            self.again(now);
            return self.finish(round, now);
        }
        let tables = self.tables_of(&round);
        self.round = Some(round);
        self.out.push(Action::Look(tables));
    }

    /// Answers, and tells what is not as it should be.
    fn finish(&mut self, round: Round, now: Now) {
        self.purge();
        let wrong = self.wrong();
        if wrong.is_none() && self.findings.missing == 0 {
            self.retry = RETRY.0;
        }
        self.trouble("routing", wrong);
        if let Why::Asked(id) = round.why {
            let mut reply = round.reply;
            reply.confirm_within = self.journal.trial.as_ref().map(|trial| trial.until.since(now.tick));
            reply.failed.clone_from(&self.findings.failed);
            self.held = Some((id, reply));
        }
        if !self.look_after_trial() {
            self.answer_held();
        }
    }

    /// The answer that waited.
    pub(super) fn answer_held(&mut self) {
        if let Some((id, reply)) = self.held.take() {
            self.out.push(Action::Answer { id, reply: Ok(RouteReply::Plan(reply)) });
        }
    }

    /// What is wrong, in one sentence with what to do.
    pub(super) fn wrong(&self) -> Option<String> {
        let findings = &self.findings;
        if let Some(contested) = &self.contested {
            return Some(contested.clone());
        }
        if let Some(first) = findings.failed.first() {
            return Some(format!("{} steps failed, the first: {first}; `palisade route plan` shows them", findings.failed.len()));
        }
        if let Some(first) = findings.conflicts.first() {
            return Some(format!("{first}; `palisade route check` tells more"));
        }
        findings.shadows.first().map(|first| format!("{first}; `palisade route check` tells more"))
    }

    /// The kernel told of changes.
    pub(super) fn changed(&mut self, changes: &Changes, now: Now) {
        let names = self.spec.names();
        let is_rule = |rule: &&Rule| self.ours.iter().any(|ours| ours.is_rule(rule));
        let rules: Vec<String> = changes.rules.iter().filter(is_rule).map(|rule| rule.text(&names)).collect();
        let others = changes.others || rules.len() < changes.rules.len();
        for removed in &rules {
            self.healer.seen(Seen::Removed(removed), now.tick);
        }
        if changes.routes {
            self.healer.seen(Seen::Removed("routes of ours"), now.tick);
        }
        self.drifted |= changes.routes || !rules.is_empty();
        if changes.lost {
            self.healer.seen(Seen::Lost, now.tick);
        } else if changes.links || others {
            self.healer.seen(Seen::Changed, now.tick);
        }
    }
}
