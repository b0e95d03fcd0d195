//! Who is shut out, and until when: the ban table, what the kernel should hold for it, the
//! steps from what is there to what should be, and which firewall to take them with.

pub mod backend;
pub mod ban;
pub mod order;
pub mod plan;
pub mod proof;
pub mod table;
pub mod wall;
