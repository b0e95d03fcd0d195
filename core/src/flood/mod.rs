//! The flood guard: who fills the connection table, whether that is a flood, and what is to be done.
//!
//! Everything here is pure: flows, gauges and time are passed in; what should hold in the kernel comes out.
//!
//! | file | what |
//! |---|---|
//! | [`flow`] | one tracked flow, as far as it is counted |
//! | [`census`] | flows folded to who holds how many: [`census::Census`] |
//! | [`gauge`] | the table as a whole at one instant |
//! | [`leases`] | names of hosts, as DHCP servers keep them |
//! | [`pace`] | when flows are counted next |
//! | [`owner`] | who is behind an address: process, neighbour, lease |
//! | [`guard`] | [`guard::FloodGuard`]: calm, pressure or flood; whose fault; what to do |
//! | [`settings`] | what the config sets |
//! | [`wanted`] | what should hold in the kernel because of it |
//! | [`timeouts`] | the kernel's switches of connection tracking: what each is for, what it should be |
//! | [`history`] | how the table was, a day finely and a month coarsely |
//! | [`view`] | what `conntrack top` shows of a census |

pub mod census;
pub mod flow;
pub mod gauge;
pub mod guard;
pub mod history;
pub mod leases;
pub mod owner;
pub mod pace;
pub mod settings;
pub mod timeouts;
pub mod view;
pub mod wanted;
