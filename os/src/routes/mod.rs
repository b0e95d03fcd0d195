//! Rules and routes of the host, and what belongs to them.

pub mod marks;
pub mod sysctl;
