//! Where the groups of a match are: twice over the text, at a few nanoseconds a byte.
//!
//! An engine that carries groups along for every way a pattern may go takes 30 to 50 nanoseconds a
//! byte. Here the text is first run through backwards by an automaton ([`alive`]) that tells for each
//! place which parts of the pattern ([`program`]) can still come to the end from there; where it was
//! is noted. Then one walk forwards takes, wherever there is a choice, the first way that leads to
//! the end: the way that the leftmost-first rule prefers. So there is nothing to carry along and to
//! give up later. Of a field that goes on and on the walk only looks for where it must be left.
//!
//! Linear in the text. What it cannot do (word boundaries, a text that would need too many states)
//! is left to the regex crate, which is slower and says the same.

mod alive;
mod program;

use std::panic::{RefUnwindSafe, UnwindSafe};

use regex_automata::util::pool::Pool;

use alive::Alive;
pub(super) use program::NAMES;
use program::{MATCH, Program};

type Make = Box<dyn Fn() -> Alive + Send + Sync + UnwindSafe + RefUnwindSafe>;

/// First byte and end.
type Span = (usize, usize);

/// The groups that are asked for, in the order of [`NAMES`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(in super::super) struct Groups {
    /// The address.
    pub(in super::super) addr: Option<Span>,
    /// The user's name.
    pub(in super::super) user: Option<Span>,
    /// The date.
    pub(in super::super) time: Option<Span>,
}

/// What finds them.
pub(super) struct Finder {
    program: Program,
    automata: Pool<Alive, Make>,
}

impl std::fmt::Debug for Finder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Finder").finish_non_exhaustive()
    }
}

/// Where the backward automaton was at each byte. Kept as memory for the next text: twice the length of
/// the longest line that there was.
#[derive(Debug, Default)]
pub(in super::super) struct Trail(Vec<u16>);

/// How much of a long text is looked at before all of it is.
const HEAD: usize = 64;

/// That it was not decided here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Undecided;

impl Finder {
    /// `None` for a pattern that this cannot do.
    pub(super) fn new(expanded: &str) -> Option<Self> {
        let program = Program::new(expanded)?;
        let automata: Make = Box::new(Alive::default);
        Some(Self { program, automata: Pool::new(automata) })
    }

    /// Whether what the text begins with may begin a match. Looks at [`HEAD`] bytes.
    pub(super) fn begins(&self, text: &[u8]) -> bool {
        let Some((head, _)) = text.split_at_checked(HEAD) else { return true };
        let stops = |steps: &[program::Step]| steps.iter().map(|step| step.stop).collect::<Vec<u16>>();
        let mut now = stops(self.program.start(false));
        for byte in head {
            // What needs no more text may be a match.
            if now.contains(&MATCH) {
                return true;
            }
            let mut next: Vec<u16> = now
                .iter()
                .filter_map(|stop| self.program.stop(*stop)?.next(*byte))
                .flat_map(|follow| stops(self.program.steps(follow, false)))
                .collect();
            next.sort_unstable();
            next.dedup();
            now = next;
        }
        !now.is_empty()
    }

    /// The groups of the match; `None` where there is none.
    pub(super) fn find(&self, text: &[u8], trail: &mut Trail) -> Result<Option<Groups>, Undecided> {
        let mut alive = self.automata.get();
        let states = trail.of(text.len() + 1);
        let comes = alive.run(&self.program, text, states).map_err(|alive::TooMany| Undecided)?;
        Ok(if comes { self.walk(&alive, states, text) } else { None })
    }

    fn walk(&self, alive: &Alive, states: &[u16], text: &[u8]) -> Option<Groups> {
        let mut places = [None; program::PLACES];
        let mut at = 0;
        let mut steps = self.program.start(text.is_empty());
        loop {
            let row = alive.row(*states.get(at)?);
            let step = steps.iter().find(|step| row.has(step.stop))?;
            step.put(at, &mut places);
            if step.stop == MATCH {
                break;
            }
            let stop = self.program.stop(step.stop)?;
            if stop.quiet {
                break;
            }
            if let Some(before) = &stop.stays {
                let rest = states.get(at + 1..text.len()).unwrap_or_default();
                at += alive.stays(rest, step.stop, before);
            }
            let next = stop.next(*text.get(at)?)?;
            at += 1;
            steps = self.program.steps(next, at == text.len());
        }
        let [addr, user, time] = std::array::from_fn(|group| places[2 * group].zip(places[2 * group + 1]));
        Some(Groups { addr, user, time })
    }
}

impl Trail {
    fn of(&mut self, length: usize) -> &mut [u16] {
        if self.0.len() < length {
            self.0.resize(length, 0);
        }
        self.0.get_mut(..length).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests;
