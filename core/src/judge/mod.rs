//! From attacks to verdicts: sliding windows, and how long a sentence is.

pub mod clemency;
pub mod court;
pub mod memory;
pub mod policy;
pub mod sentence;
pub mod spread;
mod window;

pub use court::{Court, Verdict};
pub use memory::{Heard, Judge};
pub use sentence::{Past, Sentence};
