//! The guard over whole hours, second by second, with censuses as often as it asks for them.
#![expect(clippy::cast_possible_truncation, reason = "the world's numbers are small, and floats saturate")]

mod acting;
mod any;
mod drops;
mod hosts;
mod levels;
mod many;
mod world;
