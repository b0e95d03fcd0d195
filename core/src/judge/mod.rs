//! From attacks to verdicts: sliding windows, and how long a sentence is.

pub mod policy;
