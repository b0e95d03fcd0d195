//! PF and ipfw against stand-ins for their programs (`tests/stand-ins`), as no BSD kernel can run here.
//!
//! One body for both: what a user of either must see. What only one has stands in a file of its own.

#![allow(clippy::unwrap_used, reason = "a test may panic, its helpers too")]

mod body;
mod ipfw;
mod pf;
mod world;
