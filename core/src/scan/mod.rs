//! From lines to attacks.
//!
//! A line is bytes from an enemy. What happens to it, in order:
//!
//! 0. A search for what the rules' lines must hold runs over whole blocks of lines (`prefilter`); a
//!    line that holds none of it is only counted. The others are known by the rules they can be of.
//! 1. `unwrap` takes off what a container's engine put around it, and colours.
//! 2. [`formats`] takes the line apart by hand-written byte parsers: the syslog prefix, which says
//!    the program that wrote it, the fields of an access log, of JSON, of `key=value` words. A
//!    journal record comes already split ([`Line::journal`]).
//! 3. Of those rules, the ones whose signature listens to that program, or reads that format, look at
//!    the message, the heaviest of each signature first.
//! 4. The rule that matched names the address. Its pattern is anchored at both ends and was
//!    refused at load if a field the attacker fills could move the address (`pattern`).
//!
//! Everything is linear in the line's length and total on any bytes.

mod block;
mod explain;
pub mod fail2ban;
mod filters;
pub mod formats;
mod line;
mod needles;
mod pattern;
mod prefilter;
mod scanner;
mod shipped;
mod signature;
pub mod times;
mod unwrap;
mod view;

pub use block::Place;
pub use explain::{Explanation, Reason, Trial};
pub use line::Line;
pub use needles::Needles;
pub use pattern::PatternError;
pub use scanner::{JailScan, ScanState, Scanner};
pub use shipped::{builtin, load, places, shipped};
pub use signature::{Found, Hit, Kind, Places, Rule, Signature, SignatureError};
pub use times::{LogClock, counts_at};
