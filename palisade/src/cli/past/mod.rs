//! Logs of the past, read to their end: whatever they are compressed with, in whole blocks of whole lines.
//!
//! | file | what |
//! |---|---|
//! | `open` | a file or standard input, and by its first bytes what it is |
//! | `zstd` | frames of zstd, one after the other |
//! | `blocks` | bytes in, whole lines out |
//! | `when` | `--now`, `--zone`: what the times in a log are read by |

mod blocks;
mod open;
mod when;
mod zstd;

pub(super) use blocks::{Blocks, all_fit, each_line};
pub(super) use open::{Kind, Opened, Several, journal, unread};
pub(super) use when::When;
