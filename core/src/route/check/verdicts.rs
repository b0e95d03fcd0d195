//! What the facts mean for one uplink.

use std::sync::Arc;

use super::super::lookup::Answer;
use super::super::routes::{Kind, Route};
use super::super::rule::{Action, Rule};
use super::super::spec::{Guard, Policy, Sources, Uplink};
use super::super::wanted::connection_mark;
use super::super::wanted::way::Way;
use super::super::words::{Names, TableId};
use super::super::world::World;
use super::{Bound, Facts, Finding, Paths, Probe, Subject, Verdict, effective_rp_filter, rp_verdict};
use crate::net::{Family, Prefix};

pub(super) struct Verdicts<'a> {
    subject: &'a Subject<'a>,
    uplink: &'a Uplink,
    way: Way<'a>,
    facts: &'a Facts,
    names: Names,
    pub(super) findings: Vec<Finding>,
}

const APPLY: &str = "palisade route apply";

impl<'a> Verdicts<'a> {
    pub(super) fn of(subject: &'a Subject<'a>, uplink: &'a Uplink, facts: &'a Facts) -> Self {
        let (way, names) = (Way::of(uplink, subject.world), subject.spec.names());
        Self { subject, uplink, way, facts, names, findings: Vec::new() }
    }

    fn add(&mut self, family: Option<Family>, what: &'static str, ok: Verdict, detail: impl Into<String>, fix: Option<String>) {
        let uplink = Some(Arc::clone(&self.uplink.name));
        self.findings.push(Finding { uplink, family, what, ok, detail: detail.into(), fix });
    }

    pub(super) fn all(&mut self) {
        self.link();
        for family in [Family::V4, Family::V6] {
            if !self.way.uses(family) {
                continue;
            }
            if !self.subject.world.has(family) {
                self.add(Some(family), "family", Verdict::Skipped, "this kernel does not have it", None);
                continue;
            }
            self.sources(family);
            if let Some(table) = self.uplink.table.as_ref().map(|table| table.id) {
                self.default_route(family, table);
                self.rules(family, table);
            }
            self.lookups(family);
            self.probe(family);
        }
        self.leaks();
        self.rp_filter();
    }

    fn link(&mut self) {
        let interface = &self.uplink.interface;
        let (ok, detail, fix) = match self.way.obstacle() {
            None => (Verdict::Ok, format!("{interface} is up"), None),
            Some(why) => {
                let fix = match (why, &self.uplink.tunnel) {
                    (_, Some(tunnel)) => format!("palisade tunnel restart {tunnel}"),
                    ("interface down", None) => format!("ip link set {interface} up"),
                    ("no carrier", None) => format!("ip -s link show dev {interface}  # is anything at the other end?"),
                    (_, None) => format!("ip link show dev {interface}  # who makes it?"),
                };
                (Verdict::Fail, format!("{interface}: {why}"), Some(fix))
            }
        };
        self.add(None, "link", ok, detail, fix);
    }

    fn sources(&mut self, family: Family) {
        let interface = self.uplink.interface.clone();
        let version = if family == Family::V4 { "-4" } else { "-6" };
        if self.way.obstacle().is_some() {
            return self.add(Some(family), "source", Verdict::Skipped, "its link is not up", None);
        }
        let troubles = self.way.troubles(family);
        for trouble in &troubles {
            let (ok, fix) = if trouble.ends_with("is tentative") {
                (Verdict::Warn, format!("ip {version} address show dev {interface} tentative  # over in a few seconds"))
            } else if trouble.ends_with("duplicate address detected") {
                (Verdict::Fail, format!("ip {version} address show dev {interface} dadfailed  # another host has it"))
            } else {
                (Verdict::Fail, format!("ip {version} address show  # add it to {interface}, or correct `source`"))
            };
            self.add(Some(family), "source", ok, trouble.clone(), Some(fix));
        }
        let own = self.way.sources(family);
        let old: Vec<String> = (self.subject.world.addresses.iter())
            .filter(|address| address.deprecated && own.contains(&Prefix::host(address.addr)))
            .map(|address| address.addr.to_string())
            .collect();
        if !old.is_empty() {
            let fix = format!("ip {version} address show dev {interface} deprecated");
            self.add(
                Some(family),
                "source",
                Verdict::Warn,
                format!("{} no longer for what is new (deprecated)", old.join(", ")),
                Some(fix),
            );
        } else if troubles.is_empty() {
            let detail = own.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
            let (ok, fix) = match (&self.uplink.source, own.is_empty()) {
                (Sources::Auto, true) => {
                    (Verdict::Warn, Some(format!("ip {version} address show dev {interface}  # it has no global address")))
                }
                _ => (Verdict::Ok, None),
            };
            self.add(Some(family), "source", ok, if detail.is_empty() { "none".to_owned() } else { detail }, fix);
        }
    }

    fn default_route(&mut self, family: Family, table: TableId) {
        let is_own = |route: &&Route| route.table == table && route.family() == family && route.kind == Kind::Unicast && route.is_default();
        let wanted = self.subject.wanted.routes.iter().find(is_own);
        let fix = || Some(APPLY.to_owned());
        let (ok, detail, fix) = match (wanted, self.way.hop(family)) {
            (_, Err(why)) => {
                let version = if family == Family::V4 { "-4" } else { "-6" };
                let look = format!("ip {version} route show default; ip address show dev {}  # {why}", self.uplink.interface);
                (Verdict::Fail, format!("pending: {why}"), Some(look))
            }
            (Some(route), Ok(_)) if self.subject.world.routes.contains(route) => (Verdict::Ok, self.text(route), None),
            (Some(route), Ok(_)) => (Verdict::Fail, format!("missing: {}", self.text(route)), fix()),
            (None, Ok(_)) => (Verdict::Fail, "not planned yet".to_owned(), fix()),
        };
        self.add(Some(family), "default route", ok, detail, fix);
    }

    fn text(&self, route: &Route) -> String {
        text(route, &self.names, self.subject.world)
    }

    /// Whether one of our rules is for this uplink.
    fn own_rule(&self, rule: &Rule, family: Family, table: TableId, sources: &[Prefix]) -> bool {
        let selector = &rule.selector;
        rule.family == family
            && (rule.action == Action::Lookup(table)
                || selector.oif.as_ref() == Some(&self.uplink.interface)
                || selector.from.is_some_and(|from| sources.contains(&from)))
    }

    fn rules(&mut self, family: Family, table: TableId) {
        let sources = self.way.sources(family);
        let own: Vec<&Rule> = self.subject.wanted.rules.iter().filter(|rule| self.own_rule(rule, family, table, &sources)).collect();
        let missing: Vec<String> =
            own.iter().filter(|rule| !self.subject.world.rules.contains(rule)).map(|rule| rule.text(&self.names)).collect();
        let texts: Vec<String> = own.iter().map(|rule| rule.text(&self.names)).collect();
        if missing.is_empty() {
            self.add(Some(family), "rules", Verdict::Ok, format!("all {} stand", own.len()), None);
        } else {
            let detail = format!("{} of {} missing: {}", missing.len(), own.len(), missing.join("; "));
            self.add(Some(family), "rules", Verdict::Fail, detail, Some(APPLY.to_owned()));
        }
        for shadow in self.facts.shadows.iter().filter(|shadow| shadow.family == family && texts.contains(&shadow.rule)) {
            let detail = format!("`{}` stands before `{}`", shadow.by, shadow.rule);
            self.add(Some(family), "shadowed", Verdict::Warn, detail, Some(shadow.why.clone()));
        }
    }

    fn lookups(&mut self, family: Family) {
        let mine = |asked: &super::Asked| asked.uplink.as_ref() == Some(&self.uplink.name) && asked.family == family;
        for (asked, answer) in self.facts.answers.iter().filter(|(asked, _)| mine(asked)) {
            let what = match asked.bound {
                Bound::Source => "lookup by source",
                Bound::Interface => "lookup by interface",
                Bound::ProbeMark => "lookup by probe mark",
                Bound::ConnectionMark => "lookup by connection mark",
                Bound::Not => "lookup",
            };
            let from = asked.question.from.map_or_else(|| "SRC".to_owned(), |from| from.to_string());
            let explain = Some(format!("palisade route explain {from} {}", asked.question.to));
            let (ok, detail, fix) = match answer {
                Answer::NoWay(_) if self.way.hop(family).is_err() => {
                    (Verdict::Ok, "refused: nothing leaks while it has no way".to_owned(), None)
                }
                Answer::NoWay(errno) => (Verdict::Fail, format!("no way (error {errno})"), explain),
                Answer::Route(route) if self.is_right(route) => (Verdict::Ok, self.text(route), None),
                Answer::Route(route) => (Verdict::Fail, format!("takes another way: {}", self.text(route)), explain),
            };
            self.add(Some(family), what, ok, detail, fix);
        }
    }

    /// Whether a route is by this uplink: its interface, and its table if it has one.
    fn is_right(&self, route: &Route) -> bool {
        let link = self.subject.world.link(&self.uplink.interface).map(|link| link.index);
        let table = self.uplink.table.as_ref().is_none_or(|table| table.id == route.table);
        // What main knows better than by a default route (the target is near) stays with main on purpose.
        let near = route.table == TableId::MAIN && !route.is_default();
        route.hops.iter().any(|hop| Some(hop.link) == link) && (table || near)
    }

    fn probe(&mut self, family: Family) {
        let (ok, detail, fix) = match self.facts.probes.get(&(Arc::clone(&self.uplink.name), family)) {
            None => (Verdict::Skipped, "no target of this family in `track`".to_owned(), None),
            Some(Probe::NotSent(why)) => (Verdict::Skipped, why.clone(), None),
            Some(Probe::Answered(target, rtt)) => (Verdict::Ok, format!("{target} answered in {rtt}"), None),
            Some(Probe::Silent(targets)) => {
                let all = targets.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
                let look = format!("tcpdump -ni {} icmp or icmp6  # do requests leave, do answers come?", self.uplink.interface);
                (Verdict::Fail, format!("no answer from {all}"), Some(look))
            }
        };
        self.add(Some(family), "probe", ok, detail, fix);
    }

    fn leaks(&mut self) {
        let (ok, detail, fix) = match (self.uplink.guard, self.facts.leaks.get(&self.uplink.name)) {
            (Guard::Off, _) => return,
            (_, None) => (Verdict::Skipped, "not counted yet".to_owned(), None),
            (_, Some(0)) => (Verdict::Ok, "none".to_owned(), None),
            (Guard::Drop, Some(n)) => (Verdict::Warn, format!("{n} packets would have left elsewhere and were dropped"), None),
            (Guard::Count, Some(n)) => {
                let source = self.way.families().flat_map(|family| self.way.sources(family)).next();
                let source = source.map_or_else(|| "SRC".to_owned(), |source| source.addr().to_string());
                (Verdict::Fail, format!("{n} packets with its source left elsewhere"), Some(format!("palisade route explain {source} DST")))
            }
        };
        self.add(None, "leaks", ok, detail, fix);
    }

    fn rp_filter(&mut self) {
        let Some(rp) = self.facts.rp.as_ref().filter(|_| self.way.families().any(|family| family == Family::V4)) else { return };
        let Some(own) = rp.interfaces.get(&self.uplink.interface) else {
            return self.add(Some(Family::V4), "rp_filter", Verdict::Skipped, "interface absent", None);
        };
        let link = self.subject.world.link(&self.uplink.interface).map(|link| link.index);
        let defaults = self.subject.world.routes.iter().filter(|route| {
            route.table == TableId::MAIN && route.is_default() && route.family() == Family::V4 && route.kind == Kind::Unicast
        });
        let best = defaults.min_by_key(|route| route.metric);
        let paths = Paths {
            own_table: self.uplink.table.is_some(),
            main_default: best.is_some_and(|route| route.hops.iter().any(|hop| Some(hop.link) == link)),
            marked: connection_mark(self.subject.spec, &self.uplink.name).is_some(),
            forwards: rp.forwards,
        };
        let filter = effective_rp_filter(rp.all, *own);
        let (ok, detail, fix) = rp_verdict(filter, rp.src_valid_mark, paths, &self.uplink.interface);
        self.add(Some(Family::V4), "rp_filter", ok, detail, fix);
    }
}

fn text(route: &Route, names: &Names, world: &World) -> String {
    route.text(names, |index| world.name_of(index))
}

/// Where what is bound to nothing goes: by what the default policy chose, or as main says.
pub(super) fn unbound(subject: &Subject<'_>, facts: &Facts) -> Vec<Finding> {
    let (names, world, spec) = (subject.spec.names(), subject.world, subject.spec);
    let policy = spec.policy(Policy::DEFAULT);
    let links: Vec<u32> = policy
        .and_then(|policy| subject.chosen.get(&policy.name))
        .into_iter()
        .flatten()
        .filter_map(|member| world.link(&spec.uplink(&member.uplink)?.interface))
        .map(|link| link.index)
        .collect();
    let verdict = |asked: &super::Asked, answer: &Answer| match answer {
        Answer::NoWay(_) => (Verdict::Skipped, "no way".to_owned(), None),
        Answer::Route(route) => {
            let expected = policy.is_none() || links.is_empty() || route.hops.iter().any(|hop| links.contains(&hop.link));
            let explain = format!("palisade route explain SRC {}", asked.question.to);
            let ok = if expected { Verdict::Ok } else { Verdict::Warn };
            (ok, text(route, &names, world), (!expected).then_some(explain))
        }
    };
    let all = facts.answers.iter().filter(|(asked, _)| asked.bound == Bound::Not);
    all.map(|(asked, answer)| {
        let (ok, detail, fix) = verdict(asked, answer);
        Finding { uplink: None, family: Some(asked.family), what: "unbound lookup", ok, detail, fix }
    })
    .collect()
}
