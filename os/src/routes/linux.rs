//! Rules and routes over rtnetlink: read whole, changed step by step, asked for single ways.

use std::io;

use palisade_core::net::Family;
use palisade_core::route::lookup::{Answer, Question};
use palisade_core::route::plan::{Failure, Report, Step};
use palisade_core::route::{Route, Rule, TableId, World};

use super::wire::{self, GETADDR, GETLINK, GETROUTE, GETRULE, IFADDRMSG, IFINFOMSG, RTMSG};
use super::{Read, RouteError, Router, marks, sysctl};
use crate::netlink::family_byte;
use crate::netlink::pipeline::Pipeline;
use crate::netlink::socket::{Next, ROUTE, Socket};
use crate::netlink::wire::{Builder, Message, flag};

/// How often a listing that changed under our hands is read again before it is taken as it is: the change itself is
/// notified, and what is wrong is found by the next look.
const REPEATS: usize = 5;

/// `NETLINK_GET_STRICT_CHK`: the kernel filters a listing by what is asked for, and refuses what it does not understand.
const STRICT: i32 = 12;

/// Room for many changes in one send and their acknowledgements.
const BUFFERS: (i32, i32) = (1 << 20, 4 << 20);

/// The families, in the order in which they are read.
const FAMILIES: [Family; 2] = [Family::V4, Family::V6];

/// The kernel's rules and routes in one network namespace.
#[derive(Debug)]
pub struct Linux(Socket);

fn failed(what: &'static str) -> impl FnOnce(io::Error) -> RouteError {
    move |source| RouteError { what, source }
}

/// Whether the kernel says that it does not have this family.
fn no_family(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EAFNOSUPPORT | libc::EOPNOTSUPP))
}

impl Linux {
    /// Opens it for the calling thread's namespace.
    ///
    /// # Errors
    /// Where rtnetlink cannot be opened.
    pub fn open() -> Result<Self, RouteError> {
        let fail = |error| RouteError { what: "opening rtnetlink", source: error };
        let socket = Socket::open(ROUTE).map_err(fail)?;
        socket.buffers(BUFFERS.0, BUFFERS.1).map_err(fail)?;
        // Before Linux 4.20 there is no such thing: all is listed, and filtered here.
        let _ = socket.option(libc::SOL_NETLINK, STRICT, &1i32);
        Ok(Self(socket))
    }

    /// Reads a listing into what `take` makes of its messages; anew when it changed meanwhile.
    fn list<T>(&mut self, kind: u16, head: &[u8], table: Option<TableId>, take: impl Fn(&Message<'_>) -> Option<T>) -> io::Result<Vec<T>> {
        let mut found = Vec::new();
        for _ in 0..REPEATS {
            found.clear();
            let seq = self.0.next_seq();
            let mut request = Builder::new();
            request.message(kind, flag::REQUEST | flag::DUMP, seq, head);
            if let Some(table) = table {
                request.attr(wire::RTA_TABLE, &table.0.to_ne_bytes());
            }
            let interrupted = self.0.dump(request.bytes(), seq, |message| {
                found.extend(take(&message));
                Next::More
            })?;
            if !interrupted {
                break;
            }
        }
        Ok(found)
    }

    fn rules(&mut self, family: Family) -> io::Result<Vec<Rule>> {
        let mut head = [0; RTMSG];
        head[0] = family_byte(Some(family));
        self.list(GETRULE, &head, None, |message| wire::rule(message).filter(|rule| rule.family == family))
    }

    fn routes(&mut self, family: Family, table: Option<TableId>, keep: impl Fn(&Route) -> bool) -> io::Result<Vec<Route>> {
        let mut head = [0; RTMSG];
        head[0] = family_byte(Some(family));
        let here = |route: &Route| route.family() == family && table.is_none_or(|table| route.table == table);
        let found = self.list(GETROUTE, &head, table, |message| wire::route(message).filter(|route| here(route) && keep(route)));
        match found {
            // There is no such table yet.
            Err(error) if error.raw_os_error() == Some(libc::ENOENT) => Ok(Vec::new()),
            other => other,
        }
    }

    fn routes_of(&mut self, family: Family, what: &Read) -> io::Result<Vec<Route>> {
        let Read::Ours(tables) = what else { return self.routes(family, None, |_| true) };
        let mut all = self.routes(family, Some(TableId::MAIN), Route::is_default)?;
        // With many tables one listing of everything is cheaper than one of each; but not where somebody keeps a million routes.
        for table in tables.iter().filter(|table| **table != TableId::MAIN) {
            all.extend(self.routes(family, Some(*table), |_| true)?);
        }
        Ok(all)
    }
}

impl Router for Linux {
    fn read(&mut self, what: &Read) -> Result<World, RouteError> {
        let mut world = World::default();
        let links = self.list(GETLINK, &[0; IFINFOMSG], None, wire::link).map_err(failed("listing the interfaces"))?;
        world.links = links.into_iter().map(|link| (link.index, link)).collect();
        world.addresses = self.list(GETADDR, &[0; IFADDRMSG], None, wire::address).map_err(failed("listing the addresses"))?;
        for family in FAMILIES {
            match self.rules(family) {
                Ok(rules) => world.rules.extend(rules),
                Err(error) if no_family(&error) => {
                    world.missing.push(family);
                    continue;
                }
                Err(error) => return Err(failed("listing the rules")(error)),
            }
            world.routes.extend(self.routes_of(family, what).map_err(failed("listing the routes"))?);
        }
        Ok(world)
    }

    fn apply(&mut self, steps: &[Step]) -> Report {
        let mut report = Report::default();
        let mut at = 0;
        while at < steps.len() {
            let rest = &steps[at..];
            let batch = rest.iter().take_while(|step| !matches!(step, Step::Marks(_) | Step::Sysctl(_))).count();
            if batch == 0 {
                let done = match &rest[0] {
                    Step::Marks(marks) => marks::set(marks.as_ref()),
                    Step::Sysctl(switch) => sysctl::set(switch),
                    _ => Ok(()),
                };
                tell(&mut report, at, done);
                at += 1;
                continue;
            }
            self.send(&rest[..batch], at, &mut report);
            at += batch;
        }
        report
    }

    fn lookup(&mut self, question: &Question) -> Result<Answer, RouteError> {
        let seq = self.0.next_seq();
        let mut request = Builder::new();
        request.message(GETROUTE, flag::REQUEST | flag::ACK, seq, &wire::question_head(question));
        wire::question_attrs(question, &mut request);
        let mut route = None;
        match self.0.request(request.bytes(), seq, |message| route = route.take().or_else(|| wire::route(&message))) {
            Ok(()) => Ok(route.map_or(Answer::NoWay(0), Answer::Route)),
            Err(error) => match error.raw_os_error() {
                Some(errno @ (libc::ENETUNREACH | libc::EHOSTUNREACH | libc::EACCES | libc::EINVAL | libc::ENETDOWN)) => Ok(Answer::NoWay(errno)),
                _ => Err(failed("asking for a way")(error)),
            },
        }
    }

    fn port(&self) -> u32 {
        self.0.port()
    }
}

/// Pads the outcome of one step into the report.
fn tell(report: &mut Report, at: usize, done: io::Result<()>) {
    match done {
        Ok(()) => report.done += 1,
        Err(error) => report.failed.push((at, Failure { error: error.to_string(), passing: false })),
    }
}

impl Linux {
    /// Sends steps about rules and routes together, and tells what became of each.
    fn send(&mut self, steps: &[Step], first: usize, report: &mut Report) {
        let mut outcomes: Vec<Option<i32>> = Vec::with_capacity(steps.len());
        let mut pipeline = Pipeline::new(&mut self.0);
        for step in steps {
            push(&mut pipeline, step);
            if pipeline.full() && pipeline.flush(|errno| outcomes.push(Some(errno))).is_err() {
                outcomes.resize(outcomes.len().max(steps.len()), None);
                break;
            }
        }
        let _ = pipeline.flush(|errno| outcomes.push(Some(errno)));
        for (at, step) in steps.iter().enumerate() {
            match outcomes.get(at).copied().flatten() {
                Some(0) => report.done += 1,
                Some(errno) => report.failed.push((first + at, failure(step, errno))),
                None => {
                    let error = "the kernel gave no answer".to_owned();
                    report.failed.push((first + at, Failure { error, passing: true }));
                }
            }
        }
    }
}

fn push(pipeline: &mut Pipeline<'_>, step: &Step) {
    let new = flag::CREATE | flag::EXCL;
    match step {
        Step::AddRule(rule) => wire::rule_attrs(rule, pipeline.push(wire::NEWRULE, &wire::rule_head(rule)).add_flags(new)),
        Step::DelRule(rule) => wire::rule_attrs(rule, pipeline.push(wire::DELRULE, &wire::rule_head(rule))),
        Step::AddRoute(route) => wire::route_attrs(route, pipeline.push(wire::NEWROUTE, &wire::route_head(route)).add_flags(new)),
        Step::DelRoute(route) => wire::route_attrs(route, pipeline.push(wire::DELROUTE, &wire::route_head(route))),
        // Carried out by themselves, never sent.
        Step::Marks(_) | Step::Sysctl(_) => {}
    }
}

/// What an error means. Much of what the kernel refuses it takes a moment later, once the link is up or the address
/// is known to be nobody else's.
fn failure(step: &Step, errno: i32) -> Failure {
    let adds = matches!(step, Step::AddRoute(_) | Step::AddRule(_));
    let (why, passing) = match errno {
        libc::ENETDOWN => ("the interface is down", true),
        libc::ENODEV => ("the interface is gone", true),
        libc::EHOSTUNREACH | libc::ENETUNREACH => ("the gateway is not on a network of the interface", true),
        libc::EADDRNOTAVAIL => ("the address is not there", true),
        libc::EINVAL if adds && prefers_source(step) => ("its source is not there, or not yet known to be nobody else's", true),
        // Somebody was faster in removing it.
        libc::ENOENT | libc::ESRCH if !adds => ("it is gone already", true),
        libc::EEXIST => ("somebody else's stands there", false),
        libc::EPERM => ("not permitted: this takes CAP_NET_ADMIN", false),
        _ => ("", false),
    };
    let error = io::Error::from_raw_os_error(errno);
    Failure { error: if why.is_empty() { error.to_string() } else { format!("{why} ({error})") }, passing }
}

fn prefers_source(step: &Step) -> bool {
    matches!(step, Step::AddRoute(route) if route.prefsrc.is_some())
}
