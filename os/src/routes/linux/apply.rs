//! Carrying steps out: many requests in one send, and what became of each.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use palisade_core::net::Family;
use palisade_core::route::plan::{Failure, Report, Step};
use palisade_core::route::{Action, Priority, Protocol, Route, Rule, Selector};

use super::{Linux, errno, route, rule};
use crate::netlink::pipeline::Pipeline;
use crate::netlink::wire::{Builder, flag};
use crate::routes::places::{Addition, Places, Removal};

pub(super) fn apply(router: &mut Linux, steps: &[Step]) -> Report {
    let known = standing(router, steps);
    let dscp = steps.iter().any(|step| matches!(step, Step::AddRule(rule) if rule.selector.dscp.is_some())) && knows_dscp(router);
    let Linux { socket, marks, sysctl, .. } = router;
    let mut run = Run { pipeline: Pipeline::new(socket), waiting: VecDeque::new(), failed: BTreeMap::new(), known, dscp };
    for (at, step) in steps.iter().enumerate() {
        match step {
            Step::AddRoute(route) => run.add_route(at, route),
            Step::DelRoute(route) => run.del_route(at, route),
            Step::AddRule(rule) => run.add_rule(at, rule),
            Step::DelRule(rule) => run.del_rule(at, rule),
            Step::Marks(wanted) => {
                run.flush();
                run.other(at, marks(wanted.as_ref()));
            }
            Step::Sysctl(wanted) => {
                run.flush();
                run.other(at, sysctl(wanted));
            }
        }
    }
    run.flush();
    Report { done: steps.len() - run.failed.len(), failed: run.failed.into_iter().collect() }
}

/// The rules of those families of which some are to be added or removed; or why they cannot be known.
fn standing(router: &mut Linux, steps: &[Step]) -> BTreeMap<Family, Result<Places, Failure>> {
    let read = |family| {
        let places = match router.rules(family) {
            Ok(rules) => Ok(Places::new(rules.unwrap_or_default())),
            Err(error) => Err(Failure { error: crate::errors::chain(&error), passing: true }),
        };
        (family, places)
    };
    let families: BTreeSet<Family> = steps
        .iter()
        .filter_map(|step| if let Step::AddRule(rule) | Step::DelRule(rule) = step { Some(rule.family) } else { None })
        .collect();
    families.into_iter().map(read).collect()
}

/// An older kernel overlooks `FRA_DSCP`, and would make a rule for every packet. Nobody's rule has a code point that does
/// not exist: to remove one is refused by who knows what they are, and finds nothing where it is overlooked.
fn knows_dscp(router: &mut Linux) -> bool {
    if let Some(known) = router.dscp {
        return known;
    }
    let nobody = Rule::new(Family::V4, Priority(u32::MAX), Selector::default(), Action::Nop, Protocol::OURS);
    let seq = router.socket.next_seq();
    let mut request = Builder::new();
    request.message(rule::DELRULE, flag::REQUEST | flag::ACK, seq, &rule::head(&nobody));
    rule::write(&mut request, &nobody);
    request.attr(rule::DSCP, &[u8::MAX]);
    let Ok(answer) = router.socket.ask(request.bytes(), seq, |_| {}) else { return false };
    let known = answer.is_err_and(|refusal| !matches!(refusal.errno, libc::ENOENT | libc::EPERM));
    router.dscp = Some(known);
    known
}

/// What a request that is on its way belongs to.
#[derive(Clone, Copy)]
struct Sent {
    /// The step.
    at: usize,
    /// The answers that are as good as done: what should go is not there.
    fine: &'static [i32],
    /// It adds a rule, no route.
    rule: bool,
}

struct Run<'s> {
    pipeline: Pipeline<'s>,
    waiting: VecDeque<Sent>,
    failed: BTreeMap<usize, Failure>,
    known: BTreeMap<Family, Result<Places, Failure>>,
    dscp: bool,
}

impl Run<'_> {
    fn add_route(&mut self, at: usize, route: &Route) {
        if let Some(why) = route::flaw(route) {
            return self.refuse(at, why);
        }
        let sent = Sent { at, fine: &[], rule: false };
        self.send(sent, route::NEWROUTE, flag::CREATE | flag::EXCL, &route::head(route, false), |b| route::write(b, route));
    }

    fn del_route(&mut self, at: usize, route: &Route) {
        if let Some(why) = route::flaw(route) {
            return self.refuse(at, why);
        }
        // Not there: ESRCH; nor its table: ESRCH or ENOENT; nor its link: ENODEV, and routes go with their link.
        let sent = Sent { at, fine: &[libc::ESRCH, libc::ENOENT, libc::ENODEV], rule: false };
        self.send(sent, route::DELROUTE, 0, &route::head(route, true), |b| route::write(b, route));
    }

    fn add_rule(&mut self, at: usize, rule: &Rule) {
        if let Some(why) = rule::flaw(rule) {
            return self.refuse(at, why);
        }
        if rule.selector.dscp.is_some() && !self.dscp {
            return self.refuse(at, "this kernel has no rules on dscp (Linux 6.13): use tos, or leave it out");
        }
        let regardless = match self.known.get_mut(&rule.family) {
            Some(Ok(places)) => places.add(rule) == Addition::Regardless,
            _ => false,
        };
        let flags = if regardless { flag::CREATE } else { flag::CREATE | flag::EXCL };
        let sent = Sent { at, fine: &[], rule: true };
        self.send(sent, rule::NEWRULE, flags, &rule::head(rule), |b| rule::write(b, rule));
    }

    /// Removes this rule and no other: see [`places`](crate::routes::places).
    fn del_rule(&mut self, at: usize, rule: &Rule) {
        let before = match self.known.get_mut(&rule.family) {
            Some(Ok(places)) => match places.remove(rule) {
                Removal::Gone => return,
                Removal::Behind(before) => before,
            },
            Some(Err(failure)) => {
                self.failed.insert(at, failure.clone());
                return;
            }
            None => return,
        };
        let gone = Sent { at, fine: &[libc::ENOENT, libc::ESRCH], rule: false };
        for other in before.iter().chain([rule]) {
            self.send(gone, rule::DELRULE, 0, &rule::head(other), |b| rule::write(b, other));
        }
        for other in &before {
            let back = Sent { at, fine: &[], rule: true };
            self.send(back, rule::NEWRULE, flag::CREATE, &rule::head(other), |b| rule::write(b, other));
        }
    }

    fn refuse(&mut self, at: usize, why: &str) {
        self.failed.insert(at, Failure { error: why.to_owned(), passing: false });
    }

    fn other(&mut self, at: usize, result: std::io::Result<()>) {
        if let Err(error) = result {
            let errno = error.raw_os_error();
            let passing = errno.is_some_and(|errno| errno::failure(errno, None).passing);
            self.failed.insert(at, Failure { error: crate::errors::chain(&error), passing });
        }
    }

    fn send(&mut self, sent: Sent, kind: u16, flags: u16, head: &[u8], write: impl FnOnce(&mut Builder)) {
        write(self.pipeline.push(kind, head).add_flags(flags));
        self.waiting.push_back(sent);
        if self.pipeline.full() {
            self.flush();
        }
    }

    fn flush(&mut self) {
        let Self { pipeline, waiting, failed, .. } = self;
        let result = pipeline.flush_told(|errno, words| {
            if let Some(sent) = waiting.pop_front()
                && errno != 0
                && !sent.fine.contains(&errno)
            {
                failed.entry(sent.at).or_insert_with(|| refused(sent, errno, words));
            }
        });
        if let Err(error) = result {
            let failure = Failure { error: format!("the kernel did not take it: {error}"), passing: true };
            for sent in waiting.drain(..) {
                failed.entry(sent.at).or_insert_with(|| failure.clone());
            }
        }
    }
}

fn refused(sent: Sent, errno: i32, words: Option<&str>) -> Failure {
    match (errno, sent.rule) {
        // It came since the rules were read.
        (libc::EEXIST, true) => Failure { error: "there is one like it already".to_owned(), passing: true },
        (libc::EEXIST, false) => Failure {
            error: "somebody else's route to there with that metric is in the table; it is left alone".to_owned(),
            passing: false,
        },
        _ => errno::failure(errno, words),
    }
}
