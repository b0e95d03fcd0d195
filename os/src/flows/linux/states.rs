//! States of the targets: found, and deleted one by one.
//!
//! A host's states among many are found with the kernel's filter, which compares one place and walks the whole hash
//! table for it; four places are four walks. They have nothing to do with one another, so each processor takes some.

use std::io;
use std::net::IpAddr;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use crate::flows::targets::Targets;
use crate::netlink::conntrack::{self, Entry, Filter, Place, stats};
use crate::netlink::pipeline::Pipeline;
use crate::netlink::socket::{NETFILTER, Next, Socket};

/// Up to so many single IPv4 addresses the kernel filters, four listings each. At 500,000 states a
/// filtered listing takes a tenth of a plain one (0.07 to 0.11 s against 0.75 s): two addresses still gain.
const FILTERED: usize = 2;

/// With up to so many states one plain listing is cheaper than four filtered ones: each walks the hash
/// table (about 7 ms at 262,144 buckets), and a state listed costs 1.4 us.
pub(in crate::flows) const FEW_STATES: u32 = 16_384;

/// More at once do not help: so many filters one address has.
const WALKERS: usize = Place::ALL.len();

/// There while connections are tracked in this network namespace.
const TRACKING: &str = "/proc/sys/net/netfilter/nf_conntrack_count";

/// Where states are listed and deleted, all in the network namespace in which it was opened.
#[derive(Debug)]
pub(in crate::flows) struct States {
    first: Walker,
    /// Those of the other processors.
    others: Vec<Walker>,
}

/// Two sockets: one lists while the other deletes, so that nothing has to be kept in memory.
#[derive(Debug)]
struct Walker {
    list: Socket,
    delete: Socket,
}

/// What became of the states of some targets.
#[derive(Debug)]
pub(super) struct Deleted {
    /// How many are gone.
    pub(super) states: u64,
    /// Why one could not be deleted.
    pub(super) refused: Option<io::Error>,
    /// Whether all were found.
    pub(super) listed: io::Result<()>,
}

impl Deleted {
    fn and(self, other: Self) -> Self {
        Self { states: self.states + other.states, refused: self.refused.or(other.refused), listed: self.listed.and(other.listed) }
    }
}

impl States {
    pub(in crate::flows) fn open() -> io::Result<Self> {
        let walkers = thread::available_parallelism().map_or(1, |processors| processors.get().min(WALKERS));
        Ok(Self { first: Walker::open()?, others: (1..walkers).map(|_| Walker::open()).collect::<io::Result<_>>()? })
    }

    /// Hands every state of the targets to `take`, some perhaps more than once.
    pub(in crate::flows) fn each(&mut self, targets: &Targets, few: u32, mut take: impl FnMut(&Entry<'_>) -> Next) -> io::Result<()> {
        let list = &mut self.first.list;
        let result = match how(list, targets, few) {
            How::Nothing => return Ok(()),
            How::Plainly => plain(list, targets, &mut take),
            How::Filtered(filters) => (0..filters.len()).try_for_each(|n| filtered(list, targets, &filters, n, &mut take)),
        };
        let result = match result {
            Err(error) if no_filter(&error) => plain(list, targets, &mut take),
            other => other,
        };
        if_tracked(result)
    }

    /// Deletes every state of the targets, and no other.
    pub(super) fn delete(&mut self, targets: &Targets, few: u32) -> Deleted {
        let deleted = match how(&mut self.first.list, targets, few) {
            How::Nothing => return Deleted { states: 0, refused: None, listed: Ok(()) },
            How::Plainly => self.first.delete(|list, take| plain(list, targets, take)),
            How::Filtered(filters) => self.walk(targets, &filters),
        };
        let deleted = match &deleted.listed {
            Err(error) if no_filter(error) => {
                let again = self.first.delete(|list, take| plain(list, targets, take));
                Deleted { listed: Ok(()), ..deleted }.and(again)
            }
            _ => deleted,
        };
        Deleted { listed: if_tracked(deleted.listed), ..deleted }
    }

    /// One walk for each filter, as many at once as there are walkers.
    fn walk(&mut self, targets: &Targets, filters: &[Filter]) -> Deleted {
        let next = AtomicUsize::new(0);
        let work = |walker: &mut Walker| {
            walker.delete(|list, take| {
                loop {
                    match next.fetch_add(1, Ordering::Relaxed) {
                        n if n < filters.len() => filtered(list, targets, filters, n, take)?,
                        _ => return Ok(()),
                    }
                }
            })
        };
        thread::scope(|scope| {
            let named = |walker| thread::Builder::new().name("states".to_owned()).spawn_scoped(scope, move || work(walker));
            // One that cannot be started leaves its walks to the others.
            let others: Vec<_> = self.others.iter_mut().filter_map(|walker| named(walker).ok()).collect();
            let first = work(&mut self.first);
            others.into_iter().fold(first, |all, other| match other.join() {
                Ok(deleted) => all.and(deleted),
                Err(panic) => std::panic::resume_unwind(panic),
            })
        })
    }
}

impl Walker {
    fn open() -> io::Result<Self> {
        Ok(Self { list: Socket::open(NETFILTER)?, delete: Socket::open(NETFILTER)? })
    }

    /// Deletes what a listing hands over.
    fn delete(&mut self, listing: impl FnOnce(&mut Socket, &mut dyn FnMut(&Entry<'_>) -> Next) -> io::Result<()>) -> Deleted {
        let mut deletion = Deletion::new(&mut self.delete);
        let listed = listing(&mut self.list, &mut |entry| deletion.add(entry));
        deletion.flush();
        Deleted { states: deletion.deleted, refused: deletion.error, listed }
    }
}

/// Deletions on their way.
pub(in crate::flows) struct Deletion<'s> {
    pipeline: Pipeline<'s>,
    pub(in crate::flows) deleted: u64,
    pub(in crate::flows) error: Option<io::Error>,
    /// The socket does not work any more.
    broken: bool,
}

impl<'s> Deletion<'s> {
    pub(in crate::flows) const fn new(socket: &'s mut Socket) -> Self {
        Self { pipeline: Pipeline::new(socket), deleted: 0, error: None, broken: false }
    }

    /// Deletes this state, some time until the last [`Deletion::flush`].
    pub(in crate::flows) fn add(&mut self, entry: &Entry<'_>) -> Next {
        if self.broken {
            return Next::Enough;
        }
        entry.delete(&mut self.pipeline);
        if self.pipeline.full() { self.flush() } else { Next::More }
    }

    /// One state that cannot be deleted does not stop the rest; a broken socket does.
    pub(in crate::flows) fn flush(&mut self) -> Next {
        let (deleted, error) = (&mut self.deleted, &mut self.error);
        let result = self.pipeline.flush(|errno| match errno {
            0 => *deleted += 1,
            // It ended by itself, or was deleted when it was listed before.
            libc::ENOENT => {}
            errno => *error = Some(io::Error::from_raw_os_error(errno)),
        });
        match result {
            Ok(()) => Next::More,
            Err(broken) => {
                self.error = Some(broken);
                self.broken = true;
                Next::Enough
            }
        }
    }
}

/// How the states of some targets are best found.
enum How {
    /// There are no states at all.
    Nothing,
    /// One listing, looked through here.
    Plainly,
    /// One for each filter.
    Filtered(Vec<Filter>),
}

fn how(list: &mut Socket, targets: &Targets, few: u32) -> How {
    // A count that cannot be had decides nothing.
    match stats::count(list).unwrap_or(u32::MAX) {
        0 => How::Nothing,
        count => single_ipv4(targets).filter(|_| count > few).map_or(How::Plainly, How::Filtered),
    }
}

fn plain(list: &mut Socket, targets: &Targets, take: &mut dyn FnMut(&Entry<'_>) -> Next) -> io::Result<()> {
    conntrack::dump(list, targets.family(), None, |entry| if meant(targets, entry) { take(entry) } else { Next::More })
}

/// The `n`-th listing. A state is in up to four and counts in the first, whichever is read first. A kernel that ignores
/// the filter lists all in each.
fn filtered(
    list: &mut Socket,
    targets: &Targets,
    filters: &[Filter],
    n: usize,
    take: &mut dyn FnMut(&Entry<'_>) -> Next,
) -> io::Result<()> {
    let first = |entry: &Entry<'_>| filters[n].matches(entry) && !filters[..n].iter().any(|earlier| earlier.matches(entry));
    let mine = |entry: &Entry<'_>| first(entry) && meant(targets, entry);
    conntrack::dump(list, None, Some(filters[n]), |entry| if mine(entry) { take(entry) } else { Next::More })
}

fn meant(targets: &Targets, entry: &Entry<'_>) -> bool {
    targets.take_tuple(&entry.orig) || targets.take_tuple(&entry.reply)
}

/// A kernel that does not know the filter and says so; also one without connection tracking.
fn no_filter(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EINVAL | libc::EOPNOTSUPP))
}

/// The kernel knows the messages only with connection tracking; without it there are no states.
fn if_tracked(result: io::Result<()>) -> io::Result<()> {
    match result {
        Err(error) if no_filter(&error) && !tracking() => Ok(()),
        other => other,
    }
}

/// The filters that together find all states of the targets, where they are few single IPv4 addresses.
fn single_ipv4(targets: &Targets) -> Option<Vec<Filter>> {
    let mut filters = Vec::new();
    for prefix in targets.few(FILTERED)? {
        match prefix.addr().ip() {
            IpAddr::V4(addr) if prefix.is_host() => filters.extend(Place::ALL.map(|place| Filter { place, addr })),
            _ => return None,
        }
    }
    Some(filters)
}

pub(in crate::flows) fn tracking() -> bool {
    Path::new(TRACKING).exists()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::flows::Target;

    #[test]
    fn the_kernel_filters_only_few_single_ipv4_addresses() {
        let filters = |prefixes: &[&str]| {
            let all: Vec<_> =
                prefixes.iter().map(|p| Target { prefix: p.parse().unwrap(), ports: palisade_core::bans::wall::Ports::All }).collect();
            single_ipv4(&Targets::new(&all)).map(|filters| filters.len())
        };
        assert_eq!(filters(&["192.0.2.1/32"]), Some(4));
        assert_eq!(filters(&["192.0.2.1/32", "192.0.2.2/32"]), Some(8));
        for plain in
            [&["192.0.2.0/31"][..], &["2001:db8::1/128"], &["192.0.2.1/32", "2001:db8::1/128"], &["192.0.2.1", "192.0.2.2", "192.0.2.3"]]
        {
            assert_eq!(filters(plain), None, "{plain:?}");
        }
    }
}
