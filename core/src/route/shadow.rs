//! Stub.
use super::Rule;
/// Stub.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shadow { /// a
 pub rule: String, /// a
 pub by: String, /// a
 pub why: String }
/// Stub.
pub fn shadows(_: &[Rule], _: &[Rule]) -> Vec<Shadow> { Vec::new() }
