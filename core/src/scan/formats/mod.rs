//! What a line is made of before anybody asks what it means.
//!
//! | part | what it takes apart |
//! |---|---|
//! | [`syslog`] | the prefix a syslog daemon writes: date, host, program |
//! | [`access`] | the access logs of web servers |
//! | [`record`] | lines of named fields: [`json`] objects and [`logfmt`] |

pub mod access;
mod json;
mod logfmt;
pub mod record;
pub mod syslog;
mod unescape;
