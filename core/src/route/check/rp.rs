//! The reverse path filter (IPv4 only): whether it drops what comes in by an uplink.
//!
//! Tried out with two ISPs, for a packet that arrives by an uplink that is not main's default:
//!
//! ```text
//!   filter            to this host's own address            passed on to a host behind (DNAT), by connection mark
//!   0, 2 (loose)      passes                                passes
//!   1 (strict)        passes: the source rule leads back    dropped, unless src_valid_mark = 1: the way back is looked
//!                                                           up for the host behind, and only the mark tells the uplink
//! ```

use super::Verdict;

/// What comes in by an uplink and how its answers find back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Paths {
    /// It has a table and source rules of its own.
    pub own_table: bool,
    /// Main's default route is by it, so that the way back to anybody is too.
    pub main_default: bool,
    /// Its connections are marked.
    pub marked: bool,
    /// This host passes packets on.
    pub forwards: bool,
}

/// What counts of the two switches: the greater (ip-sysctl.rst).
pub fn effective_rp_filter(all: u8, interface: u8) -> u8 {
    all.max(interface)
}

/// What an effective filter does to an uplink: the verdict, the detail, and what to type.
pub fn rp_verdict(filter: u8, src_valid_mark: bool, paths: Paths, interface: &str) -> (Verdict, String, Option<String>) {
    let ok = |text: &str| (Verdict::Ok, text.to_owned(), None);
    let loose = format!("sysctl -w net.ipv4.conf.{}.rp_filter=2", interface.replace('.', "/"));
    match filter {
        0 => ok("off"),
        2 => ok("loose: any way back will do"),
        1 if paths.main_default => ok("strict: main's default route leads back by it"),
        1 if !paths.own_table => {
            let text = "strict, and main's default route leads elsewhere: what comes in by it is dropped".to_owned();
            (Verdict::Warn, text, Some(loose))
        }
        1 if paths.forwards && !paths.marked => {
            let text = "strict: passes what is for this host; for hosts behind it, it is dropped, for its connections are not marked";
            (Verdict::Warn, text.to_owned(), Some(loose))
        }
        1 if paths.forwards && !src_valid_mark => {
            let text = "strict, and marks do not count: what it brings for hosts behind this one (DNAT) is dropped".to_owned();
            let fix = "sysctl -w net.ipv4.conf.all.src_valid_mark=1  # or in [routing]: rp_filter = \"set\"";
            (Verdict::Fail, text, Some(fix.to_owned()))
        }
        1 => ok("strict: the way back is by its own rules"),
        other => (Verdict::Warn, format!("{other} is none of 0, 1, 2"), Some(loose)),
    }
}
