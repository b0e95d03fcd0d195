//! Rules and routes that exist only in memory: the peer of the real router for tests and dry runs.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use palisade_core::net::{Addr, Family};
use palisade_core::route::lookup::{Answer, Question};
use palisade_core::route::plan::{Failure, Report, Step};
use palisade_core::route::wanted::{Marks, Sysctl};
use palisade_core::route::{Kind, Route, Rule, TableId, World};

use super::places::{Addition, Places};
use super::{Read, RouteError, Router};

/// What stands, what was done and what is to happen.
#[derive(Debug, Default)]
pub struct Record {
    /// What stands. A test may change it as other programs would.
    pub world: World,
    /// What [`Step::Marks`] set last.
    pub marks: Option<Marks>,
    /// What [`Step::Sysctl`] set, in order.
    pub sysctls: Vec<Sysctl>,
    /// The steps of each call of [`Router::apply`].
    pub applied: Vec<Vec<Step>>,
    /// These steps fail so, once each.
    pub failing: Vec<(Step, Failure)>,
    /// Where set, the next reading or question fails with this text.
    pub unreadable: Option<String>,
    /// What questions are answered with; others with "network unreachable".
    pub answers: Vec<(Question, Answer)>,
}

impl Record {
    /// What Linux does when a link is switched off: its routes go, and its addresses of IPv6.
    pub fn link_down(&mut self, index: u32) {
        if let Some(link) = self.world.links.get_mut(&index) {
            (link.up, link.carrier) = (false, false);
        }
        self.world.addresses.retain(|address| address.link != index || address.addr.family() == Family::V4);
        self.world.routes.retain(|route| route.hops.iter().all(|hop| hop.link != index));
    }

    /// What Linux does when a link is removed: all of it goes.
    pub fn link_gone(&mut self, index: u32) {
        self.link_down(index);
        self.world.links.remove(&index);
        self.world.addresses.retain(|address| address.link != index);
    }

    fn step(&mut self, step: &Step) -> Result<(), Failure> {
        if let Some(at) = self.failing.iter().position(|(other, _)| other == step) {
            return Err(self.failing.remove(at).1);
        }
        match step {
            Step::AddRule(rule) => {
                if self.of(rule.family, |places| places.add(rule)) == Addition::There {
                    return Err(fault("there is one like it already", true));
                }
            }
            Step::DelRule(rule) => self.of(rule.family, |places| _ = places.remove(rule)),
            Step::AddRoute(route) => self.add_route(route)?,
            Step::DelRoute(route) => self.world.routes.retain(|other| other != route),
            Step::Marks(marks) => self.marks.clone_from(marks),
            Step::Sysctl(sysctl) => self.sysctls.push(sysctl.clone()),
        }
        Ok(())
    }

    /// Works on the rules of a family.
    fn of<T>(&mut self, family: Family, work: impl FnOnce(&mut Places) -> T) -> T {
        let (mine, others): (Vec<Rule>, Vec<Rule>) =
            std::mem::take(&mut self.world.rules).into_iter().partition(|rule| rule.family == family);
        let mut places = Places::new(mine);
        let result = work(&mut places);
        // The listing has IPv4's first.
        let (first, second) = if family == Family::V4 { (places.rules(), others.as_slice()) } else { (others.as_slice(), places.rules()) };
        self.world.rules = [first, second].concat();
        result
    }

    fn add_route(&mut self, route: &Route) -> Result<(), Failure> {
        let key = |route: &Route| (route.table, route.to, route.from, route.metric, route.tos);
        if self.world.routes.iter().any(|other| key(other) == key(route)) {
            return Err(fault("File exists", false));
        }
        if route.kind == Kind::Unicast && route.hops.is_empty() {
            return Err(fault("Egress device not specified", false));
        }
        for hop in &route.hops {
            match self.world.links.get(&hop.link) {
                None => return Err(fault("No such device", true)),
                Some(link) if !link.up => return Err(fault("Network is down", true)),
                Some(_) => {}
            }
        }
        if route.prefsrc.is_some_and(|source| !self.has(source)) {
            return Err(fault("Invalid source address", true));
        }
        self.world.routes.push(route.clone());
        Ok(())
    }

    fn has(&self, addr: Addr) -> bool {
        self.world.addresses.iter().any(|address| address.addr == addr && address.usable())
    }
}

fn fault(error: &str, passing: bool) -> Failure {
    Failure { error: error.to_owned(), passing }
}

/// The peer. Clones share one record, so that a test can look while a thread works.
#[derive(Clone, Debug, Default)]
pub struct Memory(Arc<Mutex<Record>>);

impl Memory {
    /// One where this stands.
    pub fn new(world: World) -> Self {
        Self(Arc::new(Mutex::new(Record { world, ..Record::default() })))
    }

    /// The record, to read or to change. Locked while the guard lives: hold one at a time.
    pub fn record(&self) -> MutexGuard<'_, Record> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn readable(record: &mut Record) -> Result<(), RouteError> {
    match record.unreadable.take() {
        Some(what) => Err(RouteError::Kernel { what, source: std::io::ErrorKind::Other.into() }),
        None => Ok(()),
    }
}

impl Router for Memory {
    fn read(&mut self, what: &Read) -> Result<World, RouteError> {
        let mut record = self.record();
        readable(&mut record)?;
        let mut world = record.world.clone();
        if let Read::Ours(tables) = what {
            world.routes.retain(|route| tables.contains(&route.table) || (route.table == TableId::MAIN && route.is_default()));
        }
        Ok(world)
    }

    fn apply(&mut self, steps: &[Step]) -> Report {
        let mut record = self.record();
        record.applied.push(steps.to_vec());
        let mut report = Report::default();
        for (at, step) in steps.iter().enumerate() {
            match record.step(step) {
                Ok(()) => report.done += 1,
                Err(failure) => report.failed.push((at, failure)),
            }
        }
        report
    }

    fn lookup(&mut self, question: &Question) -> Result<Answer, RouteError> {
        let mut record = self.record();
        readable(&mut record)?;
        let known = record.answers.iter().find(|(other, _)| other == question);
        Ok(known.map_or(Answer::NoWay(libc::ENETUNREACH), |(_, answer)| answer.clone()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use palisade_core::route::world::Link;
    use palisade_core::route::{Action, Hop, Priority, Protocol, Selector};

    #[test]
    fn it_keeps_places_keys_and_links_as_the_kernel_does() {
        let mut memory = Memory::default();
        let peer = memory.clone();
        let link = Link { index: 7, name: "net0".into(), up: true, carrier: true, kind: None };
        peer.record().world.links.insert(7, link);
        let rule = |protocol| Rule::new(Family::V6, Priority(5), Selector::default(), Action::Lookup(TableId(9)), protocol);
        let route = Route {
            table: TableId(9),
            to: "::/0".parse().unwrap(),
            from: None,
            metric: 1024,
            tos: 0,
            kind: Kind::Unicast,
            hops: vec![Hop { link: 7, gateway: None, onlink: false, weight: 1 }],
            prefsrc: None,
            protocol: Protocol::OURS,
        };
        let add = [
            Step::AddRule(rule(Protocol::STATIC)),
            Step::AddRule(rule(Protocol::OURS)),
            Step::AddRule(rule(Protocol::OURS)),
            Step::AddRoute(route.clone()),
            Step::AddRoute(Route { protocol: Protocol::STATIC, ..route.clone() }),
            Step::AddRoute(Route { metric: 5, hops: vec![Hop { link: 8, gateway: None, onlink: false, weight: 1 }], ..route.clone() }),
        ];
        let report = memory.apply(&add);
        let failed: Vec<_> = report.failed.iter().map(|(at, failure)| (*at, failure.passing)).collect();
        assert_eq!((report.done, failed), (3, vec![(2, true), (4, false), (5, true)]));
        peer.record().failing.push((Step::DelRoute(route.clone()), fault("busy", true)));
        let del = [Step::DelRule(rule(Protocol::OURS)), Step::DelRoute(route.clone())];
        assert_eq!(memory.apply(&del).failed, [(1, fault("busy", true))]);
        let world = memory.read(&Read::Ours([TableId(9)].into())).unwrap();
        assert_eq!((world.rules, world.routes), (vec![rule(Protocol::STATIC)], vec![route]));
        peer.record().link_gone(7);
        peer.record().unreadable = Some("read".into());
        assert!(memory.read(&Read::All).is_err());
        assert_eq!(memory.read(&Read::All).unwrap().routes, []);
        assert_eq!(memory.lookup(&Question::to("192.0.2.1".parse().unwrap())).unwrap(), Answer::NoWay(libc::ENETUNREACH));
    }
}
