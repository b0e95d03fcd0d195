//! From lines to attacks.
//!
//! A line is bytes from an enemy. What happens to it, in order:
//!
//! 1. [`framing`] takes the syslog prefix off by hand-written byte parsers and says which program
//!    wrote the line. A journal record comes already split ([`Line::journal`]).
//! 2. Only signatures of that program (or, for web servers, of the access-log format: [`access`])
//!    look at the message: all rules of a signature in one pass of one automaton.
//! 3. The rule that matched names the address. Its pattern is anchored at both ends and was
//!    refused at load if a field the attacker fills could move the address (`pattern`).
//!
//! Everything is linear in the line's length and total on any bytes.

pub mod access;
mod explain;
pub mod fail2ban;
pub mod framing;
mod pattern;
mod scanner;
mod shipped;
mod signature;
pub mod times;
mod toml_keys;

pub use explain::{Explanation, Reason, Trial};
pub use pattern::PatternError;
pub use scanner::{JailScan, Line, ScanState, Scanner};
pub use shipped::{builtin, load, shipped};
pub use signature::{Found, Hit, Kind, Rule, Signature, SignatureError};
pub use times::{LogClock, counts_at};
