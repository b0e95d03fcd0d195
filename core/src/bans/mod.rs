//! Who is shut out, and until when: the ban table, what the kernel should hold for it, and the
//! steps from what is there to what should be.

pub mod ban;
pub mod order;
pub mod plan;
pub mod table;
pub mod wall;
