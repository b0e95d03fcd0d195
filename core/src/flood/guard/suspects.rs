//! Who of a census is over: by its own habit, and far more than the others.
//!
//! | who | over when |
//! |---|---|
//! | anybody | it holds `per_source` flows or more, and 4 times its habit, and 8 times what 9 of 10 others hold |
//! | anybody | for 10 seconds and 3 censuses it opened 20 a second or more, and 4 times its habit, and 8 times what 9 of 10 others open, what it opens while a flow lives is `per_source` or more, and it holds half of `per_source` or more |
//! | the largest, where nobody else is | the table is under pressure, and it holds a quarter of it, and 4 times its slow habit, and 8 times what others hold |
//!
//! Under pressure 2 times the habit and 4 times the others are enough. Once over, it stays so until it holds less than
//! half of what makes it over.
//!
//! The others are those who are not over their own habit: ten that flood are no measure for each other.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use super::habit::{self, FAST, Habits, LIFE, Measure, Season, Usual};
use super::level::percent;
use crate::flood::census::{Census, Held, Row};
use crate::flood::flow::Endpoint;
use crate::flood::owner::Process;
use crate::flood::wanted::Culprit;
use crate::net::{Addr, Family, Prefix};
use crate::time::Span;

/// What counts as fast must be so for so long, in so many censuses.
const SUSTAINED: (Span, u32) = (Span::secs(10), 3);

/// Flows of a /64 are spread when so many of its addresses have some, and none of them half.
const SPREAD: u32 = 8;

/// More processes than this are not told apart: those after them hold less.
const PROCESSES: usize = 1024;

/// The share of the table from which on one endangers it by itself.
pub(super) const SHARE: f64 = 0.05;

/// Under pressure this share of all there can be is enough, or not to be dwarfed by another culprit. Who is what presses
/// must not be because of somebody else's flood.
pub(super) const WEIGHTY: f64 = 0.01;

/// Dwarfed is who holds less than this part of what the largest culprit holds.
pub(super) const DWARFED: f64 = 0.25;

/// One that was looked at.
#[derive(Clone, Debug)]
pub(super) struct Suspect {
    pub culprit: Culprit,
    pub measure: Measure,
    pub usual: Usual,
    pub top: Option<(Endpoint, u32)>,
    pub unreplied: Option<u32>,
    pub process: Option<Process>,
    /// Crosses the line; `None`: it does not.
    pub over: Option<String>,
    /// Too much to be let go, though not enough to be named.
    pub stays: bool,
}

/// How many times the habit, and how many times the others.
const fn factors(pressed: bool) -> (f64, f64) {
    if pressed { (2.0, 4.0) } else { (4.0, 8.0) }
}

/// Everybody in a census that could be one, each with its verdict. Learns from those who are not over; of those for whom
/// `standing` is true, who were over before, only once they are let go.
pub(super) fn suspects(
    census: &Census,
    lan: &Lan<'_>,
    standing: &dyn Fn(&Culprit) -> bool,
    habits: &mut Habits,
    season: &Season,
) -> Vec<Suspect> {
    let mut all = sources(census, lan);
    all.extend(processes(&census.processes));
    look(&mut all, habits, season);
    let rest = Rest::of(all.iter(), census, season);
    for suspect in &mut all {
        judge(suspect, &rest, season);
    }
    within_nets(&mut all);
    if season.pressed && all.iter().all(|suspect| suspect.over.is_none()) {
        last_resort(&mut all, census, season);
    }
    learn(&all, standing, habits, season);
    habits.trim(season.now);
    all
}

/// What all of each habit have together.
fn sums(all: &[Suspect]) -> BTreeMap<Culprit, Measure> {
    let mut sums: BTreeMap<Culprit, Measure> = BTreeMap::new();
    for suspect in all {
        let sum = sums.entry(habit::key(suspect.culprit)).or_default();
        sum.flows = sum.flows.saturating_add(suspect.measure.flows);
        sum.opened = added(sum.opened, suspect.measure.opened);
    }
    sums
}

/// The sum of what is known.
fn added(one: Option<f32>, other: Option<f32>) -> Option<f32> {
    [one, other].into_iter().flatten().filter(|opened| opened.is_finite()).reduce(|a, b| a + b)
}

/// Notes what is usual for each.
fn look(all: &mut [Suspect], habits: &mut Habits, season: &Season) {
    let sums = sums(all);
    let mut usual: HashMap<Culprit, Usual> = HashMap::new();
    // In the order of the census, the largest first: where there is no room for all, those have some.
    for suspect in all {
        let key = habit::key(suspect.culprit);
        let sum = sums.get(&key).copied().unwrap_or(suspect.measure);
        suspect.usual = *usual.entry(key).or_insert_with(|| habits.look(key, sum, season));
    }
}

/// Teaches each habit once. Where one of those who share it is over, nothing is learned of the others.
fn learn(all: &[Suspect], standing: &dyn Fn(&Culprit) -> bool, habits: &mut Habits, season: &Season) {
    let mut over: BTreeSet<Culprit> = BTreeSet::new();
    for suspect in all {
        if suspect.over.is_some() || over_habit(suspect, season) || (suspect.stays && standing(&suspect.culprit)) {
            over.insert(habit::key(suspect.culprit));
        }
    }
    for (key, sum) in sums(all) {
        let near = season.max > 0 && f64::from(sum.flows) >= SHARE * f64::from(season.max);
        let over = over.contains(&key);
        habits.learn(key, over, near, season);
        if let Some(opened) = sum.opened.filter(|_| !over) {
            habits.learn_rate(key, opened, season);
        }
    }
}

/// Which addresses are this host's own, and in which /64s it has some.
pub(super) struct Lan<'a> {
    pub own: &'a dyn Fn(Addr) -> bool,
    pub homes: &'a BTreeSet<Prefix>,
}

/// Hosts and /64s whose flows are spread; none of this host's own.
fn sources(census: &Census, lan: &Lan<'_>) -> Vec<Suspect> {
    // Of each /64: the most one of its hosts holds, and whether one of them is our own.
    let mut inside: HashMap<Prefix, (u32, bool)> = HashMap::new();
    let mut all = Vec::new();
    for row in census.top.iter().filter(|row| row.prefix.is_host()) {
        let own = (lan.own)(row.prefix.addr());
        if row.prefix.family() == Family::V6 {
            let net = inside.entry(row.prefix.widen(64)).or_default();
            *net = (net.0.max(row.flows), net.1 || own);
        }
        if !own {
            all.push(of_row(row));
        }
    }
    for row in census.nets.iter().filter(|row| row.prefix.family() == Family::V6 && row.prefix.len() == 64) {
        let (most, ours) = inside.get(&row.prefix).copied().unwrap_or_default();
        let ours = ours || lan.homes.contains(&row.prefix) || (lan.own)(row.prefix.addr());
        if row.hosts >= SPREAD && most < row.flows.div_ceil(2) && !ours {
            all.push(of_row(row));
        }
    }
    all
}

/// A host of a /64 that is over is not named beside it.
fn within_nets(all: &mut [Suspect]) {
    let over = |suspect: &Suspect| match suspect.culprit {
        Culprit::Source { prefix } if !prefix.is_host() && suspect.over.is_some() => Some(prefix),
        _ => None,
    };
    let nets: BTreeSet<Prefix> = all.iter().filter_map(over).collect();
    for suspect in all {
        if matches!(suspect.culprit, Culprit::Source { prefix } if prefix.is_host() && nets.contains(&prefix.widen(64))) {
            (suspect.over, suspect.stays) = (None, false);
        }
    }
}

fn of_row(row: &Row) -> Suspect {
    Suspect {
        culprit: Culprit::Source { prefix: row.prefix },
        measure: Measure { flows: row.flows, opened: row.opened.filter(|opened| opened.is_finite()) },
        usual: Usual { flows: 0.0, slow: 0.0, rate: 0.0, growth: 0.0, gained: 0.0, fast: (Span::ZERO, 0) },
        top: row.top,
        unreplied: Some(row.unreplied),
        process: None,
        over: None,
        stays: false,
    }
}

/// Processes of this host, one a user, protocol and port that most of its flows go to; those whose flows go nowhere in
/// particular by user and protocol only, but for root: all of root's flows are never one thing.
fn processes(held: &[Held]) -> Vec<Suspect> {
    let mut all: Vec<Suspect> = Vec::new();
    for held in held.iter().take(PROCESSES) {
        // Of root's processes only those to one port are ever meant; of others, all where no port has half.
        let most = |flows| held.process.uid == 0 || flows >= held.flows / 2;
        let (protocol, port) = match (held.port, held.top) {
            (Some((protocol, port, flows)), _) if most(flows) => (protocol, port),
            (None, Some((to, flows))) if most(flows) => (to.protocol, to.port),
            (Some((protocol, ..)), _) => (protocol, 0),
            (None, Some((to, _))) => (to.protocol, 0),
            (None, None) => (0, 0),
        };
        let culprit = Culprit::Local { uid: held.process.uid, protocol, port };
        if let Some(same) = all.iter_mut().find(|one| one.culprit == culprit) {
            same.measure.flows = same.measure.flows.saturating_add(held.flows);
            same.measure.opened = added(same.measure.opened, held.opened);
            continue;
        }
        let opened = held.opened.filter(|opened| opened.is_finite());
        let row =
            Row { prefix: Prefix::host(Addr::UNSPECIFIED), flows: held.flows, unreplied: 0, unassured: 0, opened, top: held.top, hosts: 1 };
        all.push(Suspect { culprit, process: Some(held.process.clone()), unreplied: None, ..of_row(&row) });
    }
    all
}

/// What nine of ten of those hold, and open, who are not over their habit.
#[derive(Clone, Copy, Debug, Default)]
struct Rest {
    hosts: f64,
    nets: f64,
    rate: f64,
}

const fn is_net(culprit: &Culprit) -> bool {
    matches!(culprit, Culprit::Source { prefix } if !prefix.is_host())
}

impl Rest {
    fn of<'a>(all: impl Iterator<Item = &'a Suspect>, census: &Census, season: &Season) -> Self {
        let (over, usual): (Vec<&Suspect>, Vec<&Suspect>) = all.partition(|suspect| over_habit(suspect, season));
        let (nets, hosts): (Vec<&Suspect>, Vec<&Suspect>) = usual.into_iter().partition(|suspect| is_net(&suspect.culprit));
        let over = over.iter().filter(|suspect| !is_net(&suspect.culprit)).count() as u64;
        let flows = |some: &[&Suspect]| some.iter().map(|suspect| f64::from(suspect.measure.flows)).collect::<Vec<_>>();
        let rates = hosts.iter().filter_map(|suspect| {
            let opened = f64::from(suspect.measure.opened?);
            (opened < fast_by_habit(suspect, season)).then_some(opened)
        });
        let among_hosts = ninth(flows(&hosts), census.sources.saturating_sub(over), f64::from(census.typical.1));
        Self { hosts: among_hosts, nets: ninth(flows(&nets), 0, 0.0).max(among_hosts), rate: ninth(rates.collect(), 0, 0.0) }
    }
}

/// The 90th percentile of `of` values, of which only the largest are known, and never the largest of several: in a small
/// network one busy host would raise the bar for all. Where it is not among them, `typical`, but no more than the smallest
/// of them.
fn ninth(mut largest: Vec<f64>, of: u64, typical: f64) -> f64 {
    largest.sort_unstable_by(|a, b| b.total_cmp(a));
    let rank = usize::try_from(of.max(largest.len() as u64) / 10).unwrap_or(usize::MAX).max(usize::from(largest.len() > 1));
    match (largest.get(rank), largest.last()) {
        (Some(value), _) => *value,
        (None, Some(smallest)) => typical.min(*smallest),
        (None, None) => 0.0,
    }
}

fn over_habit(suspect: &Suspect, season: &Season) -> bool {
    let flows = suspect.measure.flows;
    flows >= season.per_source && f64::from(flows) >= factors(season.pressed).0 * suspect.usual.flows
}

/// From how many a second on one opens more than it is wont to.
fn fast_by_habit(suspect: &Suspect, season: &Season) -> f64 {
    FAST.max(factors(season.pressed).0 * suspect.usual.rate)
}

fn judge(suspect: &mut Suspect, rest: &Rest, season: &Season) {
    let (habit, others) = factors(season.pressed);
    let (flows, opened) = (f64::from(suspect.measure.flows), f64::from(suspect.measure.opened.unwrap_or(0.0)));
    let beside = if is_net(&suspect.culprit) { rest.nets } else { rest.hosts };
    let least = f64::from(season.per_source).max(habit * suspect.usual.flows).max(others * beside);
    let fastest = fast_by_habit(suspect, season).max(others * rest.rate);
    let (long, often) = suspect.usual.fast;
    let sustained = long >= SUSTAINED.0 && often >= SUSTAINED.1;
    let many = opened * LIFE >= f64::from(season.per_source) && suspect.measure.flows >= season.per_source / 2;
    let fast = opened >= fastest && many && sustained;
    suspect.stays = flows >= least / 2.0 || opened >= fastest / 2.0;
    if flows >= least {
        suspect.over = Some(holds(suspect, beside));
    } else if fast {
        suspect.over = Some(opens(suspect, rest.rate));
    }
}

/// Nobody is over, and the table fills all the same: one that has become so large over many hours that it could
/// train its habit.
fn last_resort(all: &mut [Suspect], census: &Census, season: &Season) {
    let Some((at, largest)) = all.iter().enumerate().max_by_key(|(_, suspect)| suspect.measure.flows) else { return };
    let rest = Rest::of(all.iter().filter(|suspect| suspect.culprit != largest.culprit), census, season);
    let flows = f64::from(largest.measure.flows);
    let beside = if is_net(&largest.culprit) { rest.nets } else { rest.hosts };
    let least = f64::from(season.per_source).max(4.0 * largest.usual.slow).max(8.0 * beside);
    if season.max > 0 && flows >= f64::from(season.max) / 4.0 && flows >= least {
        let share = percent(flows / f64::from(season.max));
        let why = format!("{}; it has come to hold {share} of the table, slowly", holds(largest, beside));
        (all[at].over, all[at].stays) = (Some(why), true);
    }
}

fn holds(suspect: &Suspect, beside: f64) -> String {
    let opened =
        suspect.measure.opened.filter(|opened| *opened >= 1.0).map_or_else(String::new, |opened| format!(", opens {opened:.0} a second"));
    format!(
        "holds {} flows where it usually has {:.0} and 9 of 10 others at most {beside:.0}{opened}{}",
        suspect.measure.flows,
        suspect.usual.flows,
        to(suspect)
    )
}

fn opens(suspect: &Suspect, beside: f64) -> String {
    let opened = suspect.measure.opened.unwrap_or(0.0);
    format!(
        "opens {opened:.0} flows a second where it usually opens {:.0} at most and 9 of 10 others {beside:.0}; it holds {}{}",
        suspect.usual.rate,
        suspect.measure.flows,
        to(suspect)
    )
}

/// Where most of them go, and whether anybody answers.
fn to(suspect: &Suspect) -> String {
    let most = suspect.top.filter(|(_, flows)| *flows >= suspect.measure.flows / 2);
    let most = most.map_or_else(String::new, |(to, _)| format!(", most to {to}"));
    let unanswered = suspect.unreplied.filter(|unreplied| suspect.measure.flows > 0 && *unreplied >= suspect.measure.flows / 2);
    format!("{most}{}", unanswered.map_or("", |_| ", most without an answer"))
}
