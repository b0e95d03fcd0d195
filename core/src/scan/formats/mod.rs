//! What a line is made of before anybody asks what it means.
//!
//! | part | what it takes apart |
//! |---|---|
//! | [`syslog`] | the prefix a syslog daemon writes: date, host, program |
//! | [`access`] | the access logs of web servers |
//! | [`container`] | what a container's engine writes around a program's output |
//! | [`record`] | lines of named fields: [`json`] objects and [`logfmt`] |

pub mod access;
pub mod container;
mod date;
mod json;
mod logfmt;
pub(super) mod quote;
pub mod record;
pub mod syslog;
mod unescape;
