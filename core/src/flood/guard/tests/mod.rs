//! The guard over whole hours, second by second, with censuses as often as it asks for them.

mod acting;
mod any;
mod drops;
mod hosts;
mod levels;
mod many;
mod world;
