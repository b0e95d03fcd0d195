//! The logs of fail2ban's own tests of its filter (`tests/filtertestcase.py`, class `GetFailures`): who failed as
//! often as is forbidden within the last ten minutes, how often, and when last.
//!
//! They are read from the first folder of `$PALISADE_FAIL2BAN_SOURCE` that has them; none is part of this repository.
#![expect(clippy::disallowed_methods, reason = "a test reads what is no part of the repository")]

use std::collections::BTreeMap;

use jiff::tz::TimeZone;
use palisade_core::scan::fail2ban::{Definition, Filter};
use palisade_core::scan::{Line, LogClock};
use palisade_core::time::Stamp;

/// When fail2ban's tests say it is, in seconds.
const NOW: i64 = 1_124_013_600;
/// fail2ban's findtime.
const WINDOW: i64 = 600;
/// What its tests set in order to be faster.
const DATE: &str = r"^(?:%a )?%b %d %H:%M:%S(?:\.%f)?(?: %ExY)?";
const DATES: &str =
    "^%ExY(?P<_sep>[-/.])%m(?P=_sep)%d[T ]%H:%M:%S(?:[.,]%f)?(?:\\s*%z)?\n^(?:%a )?%b %d %H:%M:%S(?:\\.%f)?(?: %ExY)?\n^EPOCH";
const USERS: &str = r"(?:(?:Authentication failure|Failed [-/\w+]+) for(?: [iI](?:llegal|nvalid) user)?|[Ii](?:llegal|nvalid) user|ROOT LOGIN REFUSED) .*(?: from|FROM) <HOST>$";
const RSYNC: &str = r"^.*rsyncd\[(?P<pid>\d+)\]: connect from .+ \(<HOST>\)$<SKIPLINES>^.+ rsyncd\[(?P=pid)\]: rsync error: .*$";

/// The log, what is looked for, what is not, how many lines it spans, how often is too often, how dates look, and who: how
/// often, when last.
type Case<'a> = (&'a str, &'a [&'a str], &'a [&'a str], u32, usize, Option<&'a str>, &'a [(&'a str, usize, i64)]);

const CASES: &[Case<'_>] = &[
    ("testcase01.log", &[USERS], &[], 1, 3, Some(DATE), &[("193.168.0.128", 3, 1_124_013_599)]),
    ("testcase02.log", &["Failed .* from <HOST>"], &[], 1, 4, Some(DATE), &[("141.3.81.106", 4, 1_124_013_539)]),
    ("testcase02.log", &["Failed .* from <HOST>", "Accepted .* from <HOST>"], &[], 1, 8, Some(DATE), &[("141.3.81.106", 8, 1_124_013_541)]),
    ("testcase02.log", &["Failed .* from <HOST>", "Accepted .* from <HOST>"], &["for roehl"], 1, 3, Some(DATE), &[]),
    ("testcase03.log", &["error,relay=<HOST>,.*550 User unknown"], &[], 1, 6, Some(DATE), &[("203.162.223.135", 6, 1_124_013_600)]),
    (
        "testcase04.log",
        &["Invalid user .* <HOST>"],
        &[],
        1,
        2,
        Some(DATES),
        &[("212.41.96.185", 2, 1_124_013_598), ("212.41.96.186", 4, 1_124_013_600)],
    ),
    ("testcase-usedns.log", &["Failed .* from <HOST>"], &[], 1, 1, None, &[("145.239.69.22", 1, 1_124_013_539)]),
    ("testcase-multiline.log", &[RSYNC], &[], 100, 1, Some(DATE), &[("192.0.43.10", 2, 1_124_013_599), ("192.0.43.11", 1, 1_124_013_598)]),
];

#[test]
fn the_logs_of_fail2bans_own_tests_are_decided_as_they_say() {
    let trees = std::env::var_os("PALISADE_FAIL2BAN_SOURCE").unwrap_or_default();
    let Some(logs) = std::env::split_paths(&trees).map(|tree| tree.join("fail2ban/tests/files")).find(|logs| logs.is_dir()) else {
        eprintln!("SKIPPED: no folder of PALISADE_FAIL2BAN_SOURCE has fail2ban/tests/files");
        return;
    };
    let zone = TimeZone::posix("CET-01CEST-02,M3.5.0,M10.5.0").unwrap();
    for (file, failregex, ignoreregex, maxlines, maxretry, datepattern, wanted) in CASES {
        let own = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect();
        let definition = Definition {
            name: "case".to_owned(),
            failregex: own(failregex),
            ignoreregex: own(ignoreregex),
            prefregex: None,
            maxlines: *maxlines,
            datepattern: datepattern.map(str::to_owned),
            journalmatch: Vec::new(),
            usedns: Some("no".to_owned()),
        };
        let filter = Filter::compile(&definition).unwrap();
        let (mut session, clock) = (filter.session(), LogClock::new(zone.clone(), Stamp(NOW * 1000)));
        let mut found: BTreeMap<String, (usize, i64)> = BTreeMap::new();
        for line in std::fs::read(logs.join(file)).unwrap().split(|byte| *byte == b'\n') {
            let Some(failure) = filter.look(&mut session, Line::raw(line), &clock) else { continue };
            // Of an old line without a date fail2ban counts nothing either, and one from the future counts now.
            let Some(at) = failure.at.map(|at| (at.0 / 1000).min(NOW)) else { continue };
            if at > NOW - WINDOW {
                let of = found.entry(failure.addr.unwrap().to_string()).or_default();
                *of = (of.0 + 1, of.1.max(at));
            }
        }
        found.retain(|_, of| of.0 >= *maxretry);
        let wanted: BTreeMap<String, (usize, i64)> =
            wanted.iter().map(|(host, count, last)| ((*host).to_owned(), (*count, *last))).collect();
        assert_eq!(found, wanted, "{file} {failregex:?}");
    }
}
