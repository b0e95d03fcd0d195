//! How errors are told.

pub(crate) use palisade_os::errors::chain;
