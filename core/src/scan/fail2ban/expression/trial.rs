//! A regex of Python's without tags of fail2ban's, run by trying alone: what dates need beyond their templates.

use super::ExpressionError;
use super::machine::{Machine, STEPS};
use super::parse::parse;
use super::program::{Program, slot};
use super::syntax::Tree;

/// A compiled regex. Immutable.
#[derive(Debug)]
pub(in super::super) struct Trial {
    program: Program,
    groups: u32,
    /// The named groups, in their order.
    names: Vec<(String, usize)>,
}

impl Trial {
    pub(in super::super) fn compile(text: &str) -> Result<Self, ExpressionError> {
        let Tree { node, groups, names } = parse(text, false)?;
        let mut names: Vec<_> = names.into_iter().map(|(name, group)| (name, slot(group) / 2)).collect();
        names.sort_by_key(|(_, group)| *group);
        Ok(Self { program: Program::new(&node), groups, names })
    }

    /// How many groups there are, without the whole match.
    pub(in super::super) const fn groups(&self) -> u32 {
        self.groups
    }

    pub(in super::super) fn names(&self) -> &[(String, usize)] {
        &self.names
    }

    /// Begins and ends of the groups of the leftmost match that begins at `from` or later; `^` is the
    /// text's start. None either where it would take too many steps, or more than are `left`, from which they are taken.
    pub(in super::super) fn search(&self, text: &str, from: usize, left: &mut usize) -> Option<Vec<Option<usize>>> {
        if !text.is_char_boundary(from) || (self.program.anchored && from > 0) {
            return None;
        }
        let mut machine = Machine::default();
        machine.wind(STEPS.min(u32::try_from(*left).unwrap_or(STEPS)));
        let found = machine.search(&self.program, text, from, slot(self.groups).saturating_add(2));
        *left = left.saturating_sub(machine.taken());
        (found == Ok(true)).then(|| machine.slots().to_vec())
    }
}
