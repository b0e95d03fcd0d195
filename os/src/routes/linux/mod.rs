//! The Linux router: rtnetlink.

mod apply;
mod errno;
mod links;
mod route;
mod rule;
#[cfg(test)]
mod tests;
mod watch;

use std::io;

use palisade_core::net::{Addr, Family};
use palisade_core::route::lookup::{Answer, Question};
use palisade_core::route::plan::{Report, Step};
use palisade_core::route::wanted::{Marks, Sysctl};
use palisade_core::route::{Route, Rule, TableId, World};

pub use watch::Watch;

use super::{Read, RouteError, Router};
use crate::netlink::socket::{Next, ROUTE, Socket};
use crate::netlink::wire::{Builder, Message, flag};
use crate::netlink::{FAMILIES, family_byte};

/// How often a listing that changed under our hands is read again.
const REPEATS: usize = 8;

/// Room for the acknowledgements of many changes and for listings, in bytes.
const BUFFER: i32 = 1 << 20;

fn family(byte: u8) -> Option<Family> {
    FAMILIES.into_iter().find(|family| family_byte(Some(*family)) == byte)
}

/// Appends an attribute to bytes that are no message. One that is too long for an attribute is not: what came in a
/// message fits into one.
fn append(bytes: &mut Vec<u8>, kind: u16, payload: &[u8]) {
    let Ok(len) = u16::try_from(4 + payload.len()) else { return };
    bytes.extend_from_slice(&len.to_ne_bytes());
    bytes.extend_from_slice(&kind.to_ne_bytes());
    bytes.extend_from_slice(payload);
    bytes.resize(bytes.len().next_multiple_of(4), 0);
}

fn failed(what: impl Into<String>) -> impl FnOnce(io::Error) -> RouteError {
    move |source| RouteError::Kernel { what: what.into(), source }
}

/// Opens the router of the calling thread's network namespace.
pub fn open() -> Result<Box<dyn Router>, RouteError> {
    let linux =
        Linux::open()?.with(Box::new(super::marks::set), Box::new(|wanted: &Sysctl| crate::sysctl::set(&wanted.path, &wanted.value)));
    Ok(Box::new(linux))
}

type SetMarks = Box<dyn FnMut(Option<&Marks>) -> io::Result<()> + Send>;
type SetSysctl = Box<dyn FnMut(&Sysctl) -> io::Result<()> + Send>;

/// The kernel's rules and routes in one network namespace.
pub struct Linux {
    socket: Socket,
    marks: SetMarks,
    sysctl: SetSysctl,
    /// Whether the kernel knows `FRA_DSCP`, once it was asked.
    dscp: Option<bool>,
}

impl std::fmt::Debug for Linux {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Linux").field("socket", &self.socket).field("dscp", &self.dscp).finish_non_exhaustive()
    }
}

impl Linux {
    /// Opens its socket in the calling thread's network namespace. It does rules and routes, and neither marks nor switches.
    pub fn open() -> Result<Self, RouteError> {
        let not_here = || io::Error::new(io::ErrorKind::Unsupported, "not in this router: it was opened for rules and routes alone");
        Ok(Self {
            socket: socket().map_err(failed("open netlink to rules and routes"))?,
            marks: Box::new(move |_| Err(not_here())),
            sysctl: Box::new(move |_| Err(not_here())),
            dscp: None,
        })
    }

    /// The same with what does the steps that are no rules and routes.
    #[must_use]
    pub fn with(mut self, marks: SetMarks, sysctl: SetSysctl) -> Self {
        self.marks = marks;
        self.sysctl = sysctl;
        self
    }

    fn rules(&mut self, family: Family) -> Result<Option<Vec<Rule>>, RouteError> {
        match all_rules(&mut self.socket, family) {
            Ok(rules) => rules.map(Some).ok_or(RouteError::Unsteady { what: "the rules" }),
            Err(error) if matches!(error.raw_os_error(), Some(libc::EAFNOSUPPORT | libc::EOPNOTSUPP)) => Ok(None),
            Err(error) => Err(failed(format!("list the rules of {family:?}"))(error)),
        }
    }

    fn routes(&mut self, family: Family, what: &Read) -> Result<Vec<Route>, RouteError> {
        let mut routes = Vec::new();
        match what {
            Read::All => routes = table(&mut self.socket, family, None)?,
            Read::Ours(tables) => {
                if !tables.contains(&TableId::MAIN) {
                    routes = defaults(&mut self.socket, family)?;
                }
                for id in tables {
                    routes.append(&mut table(&mut self.socket, family, Some(*id))?);
                }
            }
        }
        Ok(routes)
    }
}

fn socket() -> io::Result<Socket> {
    let socket = Socket::open(ROUTE)?;
    socket.buffers(BUFFER, BUFFER)?;
    // Without it (before Linux 4.20) a table's listing is everybody's: what is not asked for is left out here as well.
    let _ = socket.strict();
    Ok(socket)
}

/// More rules than this may come in several pieces: the kernel's smallest are a little under 4 KiB, and a rule takes at
/// least 60 bytes.
const ONE_PIECE: usize = 30;

/// More waiting notifications than a receive buffer holds: there is a storm.
const MOST_HEARD: usize = 4096;

/// The rules of a family. `None`: they kept changing.
///
/// The kernel does not tell when a listing of rules changed between two pieces (tried on 6.18); it counts on from where
/// it was, and so leaves one out or tells one twice. So whoever has many listens meanwhile whether any came or went.
fn all_rules(socket: &mut Socket, family: Family) -> io::Result<Option<Vec<Rule>>> {
    let mut head = [0; rule::HEAD];
    head[0] = family_byte(Some(family));
    let mut rules = list(socket, rule::GETRULE, &head, |_| {}, rule::read)?;
    if rules.as_ref().is_none_or(|rules| rules.len() <= ONE_PIECE) {
        return Ok(rules);
    }
    let mut ear = Socket::open(ROUTE)?;
    ear.join(watch::rule_group(family))?;
    for _ in 0..REPEATS {
        rules = list(socket, rule::GETRULE, &head, |_| {}, rule::read)?;
        if !heard(&mut ear)? {
            return Ok(rules);
        }
    }
    Ok(None)
}

/// Whether anything was told; nothing of it is left.
fn heard(ear: &mut Socket) -> io::Result<bool> {
    let mut any = false;
    for _ in 0..MOST_HEARD {
        match ear.receive(false) {
            Ok(_) => any = true,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(any),
            Err(error) if error.raw_os_error() == Some(libc::ENOBUFS) => any = true,
            Err(error) => return Err(error),
        }
    }
    Ok(true)
}

/// Reads a listing until it did not change while it was read. `None`: it always did.
fn list<T>(
    socket: &mut Socket,
    kind: u16,
    head: &[u8],
    filter: impl Fn(&mut Builder),
    read: impl Fn(&Message<'_>) -> Option<T>,
) -> io::Result<Option<Vec<T>>> {
    for _ in 0..REPEATS {
        let seq = socket.next_seq();
        let mut request = Builder::new();
        filter(request.message(kind, flag::REQUEST | flag::DUMP, seq, head));
        let mut found = Vec::new();
        let interrupted = socket.dump(request.bytes(), seq, |message| {
            found.extend(read(&message));
            Next::More
        })?;
        if !interrupted {
            return Ok(Some(found));
        }
    }
    Ok(None)
}

fn route_head(family: Family) -> [u8; route::HEAD] {
    let mut head = [0; route::HEAD];
    head[0] = family_byte(Some(family));
    head
}

/// The routes of a table, or of all.
fn table(socket: &mut Socket, family: Family, id: Option<TableId>) -> Result<Vec<Route>, RouteError> {
    let head = route_head(family);
    let filter = |b: &mut Builder| {
        if let Some(TableId(id)) = id {
            b.attr(route::TABLE, &id.to_ne_bytes());
        }
    };
    let wanted = |message: &Message<'_>| route::read(message).filter(|route| id.is_none_or(|id| route.table == id));
    match list(socket, route::GETROUTE, &head, filter, wanted) {
        Ok(routes) => routes.ok_or(RouteError::Unsteady { what: "the routes" }),
        // There is no such table: nothing was ever put into it.
        Err(error) if error.raw_os_error() == Some(libc::ENOENT) => Ok(Vec::new()),
        Err(error) => Err(failed(format!(
            "list the {family:?} routes of {}",
            id.map_or("all tables".to_owned(), |id| format!("table {}", id.0))
        ))(error)),
    }
}

/// The default routes of main, of which a router may have a million others.
///
/// The kernel lists a table of IPv4 by address, so theirs are the first: the rest is not waited for, and that costs a
/// socket. IPv6 lists them last; there each route passes by and is let go.
fn defaults(socket: &mut Socket, family: Family) -> Result<Vec<Route>, RouteError> {
    let fail = || failed(format!("list the default routes of {family:?}"));
    let mut own = if family == Family::V4 { Some(self::socket().map_err(fail())?) } else { None };
    let socket = own.as_mut().unwrap_or(socket);
    for _ in 0..REPEATS {
        let seq = socket.next_seq();
        let mut found = Vec::new();
        let mut request = Builder::new();
        request
            .message(route::GETROUTE, flag::REQUEST | flag::DUMP, seq, &route_head(family))
            .attr(route::TABLE, &TableId::MAIN.0.to_ne_bytes());
        let result = socket.dump(request.bytes(), seq, |message| {
            let route = route::read(&message).filter(|route| route.table == TableId::MAIN);
            let beyond = route.as_ref().is_some_and(|route| !route.to.contains(Addr::UNSPECIFIED));
            found.extend(route.filter(Route::is_default));
            if beyond && family == Family::V4 { Next::Leave } else { Next::More }
        });
        match result {
            Ok(false) => return Ok(found),
            Ok(true) => {}
            Err(error) if error.raw_os_error() == Some(libc::ENOENT) => return Ok(Vec::new()),
            Err(error) => return Err(fail()(error)),
        }
    }
    Err(RouteError::Unsteady { what: "the routes" })
}

impl Router for Linux {
    fn read(&mut self, what: &Read) -> Result<World, RouteError> {
        let mut world = World::default();
        let links = list(&mut self.socket, links::GETLINK, &[0; links::IFINFOMSG], links::briefly, links::link)
            .map_err(failed("list the links"))?;
        world.links = links.ok_or(RouteError::Unsteady { what: "the links" })?.into_iter().map(|link| (link.index, link)).collect();
        let addresses =
            list(&mut self.socket, links::GETADDR, &[0; links::IFADDRMSG], |_| {}, links::address).map_err(failed("list the addresses"))?;
        world.addresses = addresses.ok_or(RouteError::Unsteady { what: "the addresses" })?;
        for family in FAMILIES {
            let Some(mut rules) = self.rules(family)? else {
                world.missing.push(family);
                continue;
            };
            world.rules.append(&mut rules);
            world.routes.append(&mut self.routes(family, what)?);
        }
        Ok(world)
    }

    fn apply(&mut self, steps: &[Step]) -> Report {
        apply::apply(self, steps)
    }

    fn lookup(&mut self, question: &Question) -> Result<Answer, RouteError> {
        let seq = self.socket.next_seq();
        let mut request = Builder::new();
        request.message(route::GETROUTE, flag::REQUEST | flag::ACK, seq, &route::question_head(question));
        route::write_question(&mut request, question);
        let mut found = None;
        let what = || failed(format!("ask for the way to {}", question.to));
        let asked = self.socket.ask(request.bytes(), seq, |message| found = found.take().or_else(|| route::read(&message)));
        match asked.map_err(what())? {
            Ok(()) => found.map(Answer::Route).ok_or_else(|| what()(io::ErrorKind::InvalidData.into())),
            Err(refusal) if errno::no_way(&refusal) => Ok(Answer::NoWay(refusal.errno)),
            Err(refusal) => Err(what()(errno::error(refusal))),
        }
    }

    fn port(&self) -> Option<u32> {
        Some(self.socket.port())
    }
}
