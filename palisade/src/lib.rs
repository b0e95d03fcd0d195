//! The house of Palisade: the store, and what else runs around the brain.
#![forbid(unsafe_code)]

pub mod store;
