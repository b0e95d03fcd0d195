//! fail2ban's filters, run as fail2ban runs them.
//!
//! | part | what it does |
//! |---|---|
//! | `definition` | a `filter.d` file with its includes and options to the texts of its expressions |
//! | `tags` | `<tag>` in options: other options by name |
//! | `dates` | finds the date in a line and takes it out |
//! | `expression` | fail2ban's tags and Python's regexes to engines that cannot run away |
//! | `sieve` | which expressions a line can match at all, in one pass |
//! | `filter` | a line through all of it: `undated` cuts its date out, `finding` says what is left of it says |
//! | `rule` | an expression and what its groups say |
//! | `session`, `lines` | what one session says over several lines; one match over several lines |

pub mod dates;
mod definition;
mod expression;
mod filter;
mod finding;
mod lines;
mod rule;
mod session;
mod sieve;
mod tags;
mod undated;

use serde::{Deserialize, Serialize};

use crate::net::Addr;
use crate::time::Stamp;

pub use definition::{FilterError, define, known, load};
pub use expression::ExpressionError;
pub use filter::{CompileError, Filter, Session, Summary};

/// What a filter says, with all that stands in other files and options put in: only the tags of
/// fail2ban's own regexes (`<HOST>`, `<F-USER>`, `<SKIPLINES>`) are left.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Definition {
    /// The file's stem: `sshd` of `sshd.conf`.
    pub name: String,
    /// One regex each; the first that matches counts.
    pub failregex: Vec<String>,
    /// Lines that match one of these are not looked at.
    pub ignoreregex: Vec<String>,
    /// What each line must match first; its `<F-CONTENT>` is what failregex sees.
    pub prefregex: Option<String>,
    /// Over how many lines a regex may match.
    pub maxlines: u32,
    /// Where the date is and what it looks like; `None`: fail2ban's list of templates.
    pub datepattern: Option<String>,
    /// Journal matches, one each, as `journalctl` takes them.
    pub journalmatch: Vec<String>,
    /// `yes`, `warn`, `no` or `raw`.
    pub usedns: Option<String>,
}

/// What filters left undone.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Shortfall {
    /// Lines that were not decided, for an expression's step limit or their own length.
    pub undecided: u64,
    /// Failures that named somebody by what is no address.
    pub nameless: u64,
}

impl Shortfall {
    /// Whether nothing was left undone.
    pub fn is_none(&self) -> bool {
        *self == Self::default()
    }

    /// Adds what came later.
    pub const fn add(&mut self, later: Self) {
        self.undecided = self.undecided.saturating_add(later.undecided);
        self.nameless = self.nameless.saturating_add(later.nameless);
    }

    /// What came since then.
    pub(super) const fn since(self, then: Self) -> Self {
        Self { undecided: self.undecided.saturating_sub(then.undecided), nameless: self.nameless.saturating_sub(then.nameless) }
    }
}

/// What a filter found in a line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// The text that names the attacker, as it stands in the line.
    pub host: String,
    /// The same as an address, where it is one.
    pub addr: Option<Addr>,
    /// The line's own time.
    pub at: Option<Stamp>,
    /// The user name tried, made printable.
    pub user: Option<String>,
    /// All user names of the session, made printable.
    pub users: Vec<String>,
    /// How many lines of the session made up this failure.
    pub attempts: u32,
    /// Which of the failregexes matched, from 0.
    pub regex: usize,
}
