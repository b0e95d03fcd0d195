//! The templates used where a filter has no `datepattern`.
//!
//! fail2ban's list (`server/datedetector.py`, `DEFAULT_TEMPLATES`), in its order. Each that is not
//! bound to the start of the line already is tried there first, so the list has 31 entries.

use std::sync::{Arc, LazyLock};

use super::template::{LINE_BEGIN, Template};

/// What fail2ban knows, with a line for each.
pub(super) const PATTERNS: [&str; 17] = [
    // 2005-01-23T21:59:59.981746Z, 2005/01/23 21:59:59, 2006.12.21 06:43:20
    r"%ExY(?P<_sep>[-/.])%m(?P=_sep)%d(?:T|  ?)%H:%M:%S(?:[.,]%f)?(?:\s*%z)?",
    // Sun Jan 23 21:59:59.011 2005, Jan 23 21:59:59
    r"(?:%a )?%b %d %k:%M:%S(?:\.%f)?(?: %ExY)?",
    // Sun Jan 23 2005 21:59:59.011
    r"(?:%a )?%b %d %ExY %k:%M:%S(?:\.%f)?",
    // 23/01/2005 21:59:59, 23-01-05 21:59:59
    r"%d(?P<_sep>[-/])%m(?P=_sep)(?:%ExY|%Exy) %k:%M:%S",
    // 31/Oct/2006:09:22:55 -0000, 26-Jul-2007 15:20:52.252
    r"%d(?P<_sep>[-/])%b(?P=_sep)%ExY[ :]?%H:%M:%S(?:\.%f)?(?: %z)?",
    // 05/20/2008:01:57:39
    r"%m/%d/%ExY:%H:%M:%S",
    // 01-27-2012 16:22:44.252
    r"%m-%d-%ExY %k:%M:%S(?:\.%f)?",
    "EPOCH",
    r"{^LN-BEG}%H:%M:%S",
    // <09/16/08@05:03:30>
    r"^<%m/%d/%Exy@%H:%M:%S>",
    // 130322 11:46:11
    r"%Exy%Exm%Exd  ?%H:%M:%S",
    // Jan 23, 2005 9:59:59 PM
    r"%b %d, %ExY %I:%M:%S %p",
    // Apr-27-13 02:33:06
    r"^%b-%d-%Exy %k:%M:%S",
    // 20050123T215959, 20050123 215959, 20050123-21:59:59
    r"%ExY%Exm%Exd(?:-|T|  ?)%ExH:?%ExM:?%ExS(?:[.,]%f)?(?:\s*%z)?",
    // PDT Apr 16 21:05:29
    r"(?:%Z )?(?:%a )?%b %d %k:%M:%S(?:\.%f)?(?: %ExY)?",
    // +00:00 Jan 23 21:59:59.011 2005
    r"(?:%z )?(?:%a )?%b %d %k:%M:%S(?:\.%f)?(?: %ExY)?",
    "TAI64N",
];

/// How much heavier a template at the start of the line weighs than one anywhere.
const START_WEIGHT: f64 = 100.0;

/// The 17 patterns as they stand.
pub(super) static PLAIN: LazyLock<Vec<Arc<Template>>> =
    LazyLock::new(|| PATTERNS.iter().filter_map(|pattern| Template::new(pattern).ok()).map(Arc::new).collect());

/// The whole list, in the order of its first use.
pub(super) static ALL: LazyLock<Vec<Arc<Template>>> = LazyLock::new(|| {
    let loose = PATTERNS.iter().filter(|pattern| !pattern.starts_with("{^LN-BEG}") && !pattern.starts_with('^'));
    let bound = loose.filter_map(|pattern| Template::new(&format!("{{^LN-BEG}}{pattern}")).ok());
    let bound = bound.map(|template| Arc::new(template.weighing(START_WEIGHT)));
    bound.chain(PLAIN.iter().cloned()).collect()
});

/// Those bound to the start of the line.
pub(super) fn at_start() -> impl Iterator<Item = Arc<Template>> {
    ALL.iter().filter(|template| template.flags & LINE_BEGIN != 0).cloned()
}
