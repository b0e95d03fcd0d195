//! The kernel's switches of connection tracking, set and put back.
//!
//! | file | what |
//! |---|---|
//! | [`desk`] | [`Desk`]: shown, planned, applied for good, reverted |
//! | [`hold`] | [`Hold`]: timeouts shortened while the table fills, put back after |
//! | `disk` | what both keep on the disk: the former values, before the first of them is changed |
//! | `switches` | the kernel's own, and what else of the machine a plan must know |
//!
//! Both save first and set then, so whoever dies in between leaves a file that says what there was. Both work under one
//! lock, since what is applied while timeouts are shortened is what shall hold after.

pub mod desk;
mod disk;
pub mod hold;
mod switches;
#[cfg(test)]
mod tests;

use palisade_core::flood::timeouts::catalogue::switch;
use palisade_core::flood::timeouts::{Timeouts, Values};
use palisade_core::time::Span;

/// The timeouts among what switches hold, as the config calls them. What is no number of seconds is left out.
pub fn timeouts(values: &Values) -> Timeouts {
    let one = |(name, value): (&String, &String)| Some((switch(name)?.short()?, Span::secs(value.parse().ok()?)));
    values.iter().filter_map(one).collect()
}

pub use desk::{Applied, Desk, Shown};
pub use hold::Hold;
pub use switches::{Proc, Switches, facts};
