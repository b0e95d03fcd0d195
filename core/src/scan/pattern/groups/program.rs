//! A pattern as the places in it where a byte of the text is taken, and the ways between them.
//!
//! Made from the regex crate's own automaton (`thompson::NFA`), so that what is preferred to what is
//! the same. What takes no byte there (choices, ends of groups) is worked off once, here: from each
//! place there is a list of those that may come next, the preferred first.

use regex_automata::nfa::thompson::{Compiler, Config, NFA, State, WhichCaptures};
use regex_automata::util::look::Look;
use regex_automata::util::primitives::StateID;
use regex_automata::util::syntax;

/// The groups whose places are asked for.
pub(in super::super) const NAMES: [&str; 3] = ["addr", "user", "time"];
/// The beginning and the end of each.
pub(super) const PLACES: usize = 2 * NAMES.len();
/// The stop where the pattern has matched; all others take a byte.
pub(super) const MATCH: u16 = 0;

/// One place where a byte is taken.
#[derive(Debug, Default)]
pub(super) struct Stop {
    /// From this byte to that one, and which steps follow.
    ranges: Vec<(u8, u8, u32)>,
    /// It may follow itself, and of all that may these are preferred to it.
    pub(super) stays: Option<Vec<u16>>,
    /// No group begins or ends from here on.
    pub(super) quiet: bool,
}

/// A way to a stop.
#[derive(Clone, Copy, Debug)]
pub(super) struct Step {
    pub(super) stop: u16,
    /// A bit for each beginning and end of a group that is passed.
    marks: u8,
}

/// What follows a byte that was taken.
#[derive(Debug, Default)]
struct Follow {
    within: Vec<Step>,
    at_end: Vec<Step>,
}

/// A stop from which another is reached by one of these bytes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Before {
    pub(super) stop: u16,
    pub(super) from: u8,
    pub(super) to: u8,
}

/// A pattern.
#[derive(Debug)]
pub(super) struct Program {
    stops: Vec<Stop>,
    follows: Vec<Follow>,
    start: Follow,
    /// For each stop those that it follows, within the text.
    before: Vec<Vec<Before>>,
    /// Those after which the text may end.
    before_end: Vec<Before>,
    /// The class of each byte: those of one class lead to the same.
    pub(super) classes: [u8; 256],
    /// A byte of each class.
    pub(super) bytes: Vec<u8>,
}

impl Step {
    /// Notes that the groups which begin or end here do so at this place of the text.
    pub(super) fn put(self, at: usize, places: &mut [Option<usize>; PLACES]) {
        if self.marks == 0 {
            return;
        }
        for (bit, place) in places.iter_mut().enumerate() {
            if self.marks >> bit & 1 == 1 {
                *place = Some(at);
            }
        }
    }
}

impl Stop {
    /// What follows this byte.
    pub(super) fn next(&self, byte: u8) -> Option<u32> {
        self.ranges.iter().find(|(from, to, _)| (*from..=*to).contains(&byte)).map(|(_, _, next)| *next)
    }
}

impl Program {
    /// `None` for a pattern that looks at what stands beside a byte, or that is too large.
    pub(super) fn new(expanded: &str) -> Option<Self> {
        let config = Config::new().utf8(false).nfa_size_limit(Some(super::super::SIZE)).which_captures(WhichCaptures::All);
        let syntax = syntax::Config::new().unicode(false).utf8(false).nest_limit(super::super::NEST);
        let nfa = Compiler::new().syntax(syntax).configure(config).build(expanded).ok()?;
        Reading::new(&nfa)?.program()
    }

    pub(super) fn start(&self, at_end: bool) -> &[Step] {
        if at_end { &self.start.at_end } else { &self.start.within }
    }

    pub(super) fn steps(&self, follow: u32, at_end: bool) -> &[Step] {
        let follow = self.follows.get(follow as usize);
        follow.map(|follow| if at_end { &follow.at_end[..] } else { &follow.within }).unwrap_or_default()
    }

    pub(super) fn stop(&self, stop: u16) -> Option<&Stop> {
        self.stops.get(usize::from(stop))
    }

    /// How many stops there are.
    pub(super) fn len(&self) -> usize {
        self.stops.len()
    }

    /// The stops that this one follows.
    pub(super) fn before(&self, stop: usize) -> &[Before] {
        self.before.get(stop).map(Vec::as_slice).unwrap_or_default()
    }

    /// The stops after which the text may end.
    pub(super) fn before_end(&self) -> &[Before] {
        &self.before_end
    }
}

/// An automaton of the regex crate that is being read.
struct Reading<'n> {
    nfa: &'n NFA,
    /// For each of its states the stop it is.
    stops: Vec<u16>,
    /// For each state what follows whoever leads there.
    follow_of: Vec<Option<u32>>,
    follows: Vec<Follow>,
    /// For each state when it was last seen.
    seen: Vec<u32>,
    round: u32,
}

impl<'n> Reading<'n> {
    fn new(nfa: &'n NFA) -> Option<Self> {
        let mut count = MATCH;
        let mut stops = Vec::with_capacity(nfa.states().len());
        for state in nfa.states() {
            let takes = matches!(state, State::ByteRange { .. } | State::Sparse(_));
            count = count.checked_add(u16::from(takes))?;
            stops.push(if takes { count } else { MATCH });
        }
        let states = stops.len();
        Some(Self { nfa, stops, follow_of: vec![None; states], follows: Vec::new(), seen: vec![0; states], round: 0 })
    }

    fn program(mut self) -> Option<Program> {
        let mut stops = vec![Stop::default()];
        for state in self.nfa.states() {
            let ranges = match state {
                State::ByteRange { trans } => vec![(trans.start, trans.end, self.follow(trans.next)?)],
                State::Sparse(sparse) => {
                    let ranges = sparse.transitions.iter().map(|trans| Some((trans.start, trans.end, self.follow(trans.next)?)));
                    ranges.collect::<Option<_>>()?
                }
                _ => continue,
            };
            stops.push(Stop { ranges, stays: None, quiet: false });
        }
        let from = self.nfa.start_anchored();
        let start = Follow { within: self.steps(from, true, false)?, at_end: self.steps(from, true, true)? };
        let (mut before, mut before_end) = (vec![Vec::new(); stops.len()], Vec::new());
        for (number, stop) in (0..).zip(&mut stops) {
            for (from, to, follow) in &stop.ranges {
                let one = Before { stop: number, from: *from, to: *to };
                let follow = self.follows.get(*follow as usize)?;
                follow.within.iter().for_each(|step| before[usize::from(step.stop)].push(one));
                before_end.extend(follow.at_end.iter().any(|step| step.stop == MATCH).then_some(one));
            }
            stop.stays = stays(number, stop, &self.follows);
        }
        quieten(&mut stops, &self.follows, &before);
        let classes = self.nfa.byte_classes();
        let bytes: Vec<u8> = classes.representatives(0..=255).filter_map(|unit| unit.as_u8()).collect();
        let classes = std::array::from_fn(|byte| classes.get(u8::try_from(byte).unwrap_or(0)));
        Some(Program { stops, follows: self.follows, start, before, before_end, classes, bytes })
    }

    /// What follows a byte that leads to this state.
    fn follow(&mut self, state: StateID) -> Option<u32> {
        if let Some(known) = self.follow_of.get(state.as_usize()).copied().flatten() {
            return Some(known);
        }
        let follow = Follow { within: self.steps(state, false, false)?, at_end: self.steps(state, false, true)? };
        let number = u32::try_from(self.follows.len()).ok()?;
        self.follows.push(follow);
        *self.follow_of.get_mut(state.as_usize())? = Some(number);
        Some(number)
    }

    /// The ways from a state to stops, the preferred first, each stop once.
    fn steps(&mut self, from: StateID, at_start: bool, at_end: bool) -> Option<Vec<Step>> {
        self.round += 1;
        let mut steps = Vec::new();
        let mut open = vec![(from, 0)];
        while let Some((id, marks)) = open.pop() {
            let at = id.as_usize();
            if std::mem::replace(self.seen.get_mut(at)?, self.round) == self.round {
                continue;
            }
            match self.nfa.state(id) {
                State::ByteRange { .. } | State::Sparse(_) | State::Match { .. } => steps.push(Step { stop: *self.stops.get(at)?, marks }),
                State::Union { alternates } => open.extend(alternates.iter().rev().map(|next| (*next, marks))),
                State::BinaryUnion { alt1, alt2 } => open.extend([(*alt2, marks), (*alt1, marks)]),
                State::Capture { next, group_index, slot, pattern_id } => {
                    let name = self.nfa.group_info().to_name(*pattern_id, group_index.as_usize());
                    let group = NAMES.iter().position(|group| name == Some(*group));
                    let mark = group.map_or(0, |group| 1 << (2 * group + slot.as_usize() % 2));
                    open.push((*next, marks | mark));
                }
                State::Look { look: Look::Start, next } => open.extend(at_start.then_some((*next, marks))),
                State::Look { look: Look::End, next } => open.extend(at_end.then_some((*next, marks))),
                State::Fail => {}
                State::Look { .. } | State::Dense(_) => return None,
            }
        }
        Some(steps)
    }
}

/// Where a stop may follow itself whatever byte was taken: which stops are preferred to that.
fn stays(number: u16, stop: &Stop, follows: &[Follow]) -> Option<Vec<u16>> {
    let (_, _, follow) = stop.ranges.first()?;
    if stop.ranges.iter().any(|(_, _, other)| other != follow) {
        return None;
    }
    let steps = &follows.get(*follow as usize)?.within;
    let own = steps.iter().position(|step| step.stop == number && step.marks == 0)?;
    Some(steps.iter().take(own).map(|step| step.stop).collect())
}

/// Finds the stops from which on no group begins or ends: all but those that lead to one that does.
fn quieten(stops: &mut [Stop], follows: &[Follow], before: &[Vec<Before>]) {
    stops.iter_mut().for_each(|stop| stop.quiet = true);
    let marked = |(_, _, follow): &(u8, u8, u32)| {
        follows.get(*follow as usize).is_some_and(|follow| follow.within.iter().chain(&follow.at_end).any(|step| step.marks != 0))
    };
    let mut loud: Vec<usize> = (0..stops.len()).filter(|stop| stops[*stop].ranges.iter().any(marked)).collect();
    loud.iter().for_each(|stop| stops[*stop].quiet = false);
    while let Some(stop) = loud.pop() {
        for one in &before[stop] {
            let stop = usize::from(one.stop);
            if std::mem::take(&mut stops[stop].quiet) {
                loud.push(stop);
            }
        }
    }
}
