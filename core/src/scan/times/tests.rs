use jiff::tz::TimeZone;
use jiff::{Timestamp, ToSpan};
use proptest::prelude::*;

use super::*;

/// 22 November 2026, 17:00:00 UTC.
const NOW: i64 = 1_795_366_800_000;

fn clock(zone: &str) -> LogClock {
    LogClock::new(TimeZone::posix(zone).unwrap(), Stamp(NOW))
}

/// What a text means to a host in Berlin.
fn berlin(text: &str) -> Option<String> {
    clock("CET-1CEST,M3.5.0,M10.5.0/3").read(text.as_bytes()).map(|at| Timestamp::from_millisecond(at.0).unwrap().to_string())
}

#[test]
fn each_shape_is_read() {
    for (text, moment) in [
        ("Nov 22 17:00:00", "2026-11-22T16:00:00Z"),
        ("Nov  2 07:00:00.5", "2026-11-02T06:00:00.5Z"),
        ("Nov 2 7:00:00", "2026-11-02T06:00:00Z"),
        ("Jul 22 2025 17:00:00", "2025-07-22T15:00:00Z"),
        ("2026-11-22T17:00:00.123456+01:00", "2026-11-22T16:00:00.123Z"),
        ("2026-11-22T17:00:00Z", "2026-11-22T17:00:00Z"),
        ("2026-11-22 17:00:00,123", "2026-11-22T16:00:00.123Z"),
        ("2026-11-22_16:00:00.12345", "2026-11-22T16:00:00.123Z"),
        ("2026-11-22T16:00:00.12345", "2026-11-22T16:00:00.123Z"),
        ("2026-11-22T17:00:00.123456", "2026-11-22T16:00:00.123Z"),
        ("2026-11-22 17:00:00 -0530", "2026-11-22T22:30:00Z"),
        ("2026-11-22 17:00:00 UTC", "2026-11-22T17:00:00Z"),
        ("2026-11-22T17:00:00-05", "2026-11-22T22:00:00Z"),
        ("2026/11/22 17:00:00", "2026-11-22T16:00:00Z"),
        ("2026/11/22 - 17:00:00", "2026-11-22T16:00:00Z"),
        ("2026-11-22 17:00:00.5 -03", "2026-11-22T20:00:00.5Z"),
        ("22 Nov 2026 17:00:00.123", "2026-11-22T16:00:00.123Z"),
        ("22/Nov/2026:17:00:00 +0100", "2026-11-22T16:00:00Z"),
        ("[22/Nov/2026:17:00:00 +0100]", "2026-11-22T16:00:00Z"),
        ("Sun Nov 22 17:00:00.123456 2026", "2026-11-22T16:00:00.123Z"),
        ("Sun Nov 22 17:00:00", "2026-11-22T16:00:00Z"),
        ("Sun Nov 22 17:00:00 UTC 2026", "2026-11-22T17:00:00Z"),
        ("22-Nov-2026 17:00:00.123", "2026-11-22T16:00:00.123Z"),
        ("20261122 17:00:00", "2026-11-22T16:00:00Z"),
        ("20261122T170000", "2026-11-22T16:00:00Z"),
        ("20261122-17:00:00", "2026-11-22T16:00:00Z"),
        ("261122 17:00:00", "2026-11-22T16:00:00Z"),
        ("261122  7:00:00", "2026-11-22T06:00:00Z"),
        ("11/22/2026 17:00:00", "2026-11-22T16:00:00Z"),
        ("22/11/2026 17:00:00", "2026-11-22T16:00:00Z"),
        ("11.11.2026 17:00:00", "2026-11-11T16:00:00Z"),
        ("1700000000", "2023-11-14T22:13:20Z"),
        ("1700000000.123", "2023-11-14T22:13:20.123Z"),
        ("1700000000.5", "2023-11-14T22:13:20.5Z"),
        ("1700000000123", "2023-11-14T22:13:20.123Z"),
        ("1700000000123456", "2023-11-14T22:13:20.123Z"),
        ("@400000006553f10a075bca00", "2023-11-14T22:13:20.123Z"),
        ("[ 2026-11-22 17:00:00 ]", "2026-11-22T16:00:00Z"),
        ("2026-12-31 23:59:60", "2026-12-31T22:59:59Z"),
    ] {
        assert_eq!(berlin(text).as_deref(), Some(moment), "{text}");
    }
}

#[test]
fn what_is_no_time_or_could_be_two_is_not_read() {
    for text in [
        "",
        "[",
        "[]",
        "@",
        "Nov",
        "Nov 22",
        "Nov 22 17:00",
        "Nov 22 17:00:00x",
        "Nov 22 24:00:00",
        "Nov 31 17:00:00",
        "2026-02-30 17:00:00",
        "2026-11/22 17:00:00",
        "2026-11-22",
        "2026-11-22T17:00:00+25:00",
        "04/05/2026 17:00:00",
        "13/13/2026 17:00:00",
        "22/Nov/26:17:00:00",
        "170000000",
        "17000000000",
        "@800000000000000000000000",
        "[2026-11-22 17:00:00",
        "2026-11-22 17:00:00]",
        "2026-11-22 17:00:00 x",
    ] {
        assert_eq!(berlin(text), None, "{text}");
    }
}

#[test]
fn a_line_is_cut_behind_its_time() {
    for (line, time, rest) in [
        ("Nov 22 17:00:00 host sshd[1]: x", "Nov 22 17:00:00", "host sshd[1]: x"),
        ("[Sun Nov 22 17:00:00.123456 2026] [core:error] x", "Sun Nov 22 17:00:00.123456 2026", "[core:error] x"),
        ("2026/11/22 17:00:00 [error] 1#1: x", "2026/11/22 17:00:00", "[error] 1#1: x"),
        ("1700000000.123     12 192.0.2.7 TCP_DENIED/403", "1700000000.123", "12 192.0.2.7 TCP_DENIED/403"),
        ("2026-11-22 17:00:00,123 - x", "2026-11-22 17:00:00,123", "- x"),
        ("2026-11-22 17:00:00 +0100 x", "2026-11-22 17:00:00 +0100", "x"),
        ("2026-11-22 17:00:00: x", "2026-11-22 17:00:00", ": x"),
        ("Nov 22 17:00:00 2026 x", "Nov 22 17:00:00", "2026 x"),
        ("Nov 22 17:00:00", "Nov 22 17:00:00", ""),
    ] {
        assert_eq!(take(line.as_bytes()), Some((time.as_bytes(), rest.as_bytes())), "{line}");
        let (range, at) = clock("UTC0").find(line.as_bytes()).unwrap();
        assert_eq!((&line[range], at.is_some()), (time, true), "{line}");
    }
    assert_eq!(take(b"host sshd[1]: Nov 22 17:00:00"), None);
}

#[test]
fn a_day_that_does_not_exist_has_the_shape_of_a_time_and_no_moment() {
    assert_eq!(clock("UTC0").find(b"Feb 30 17:00:00 host"), Some((0..15, None)));
}

#[test]
fn without_a_year_it_is_the_latest_no_more_than_a_day_ahead() {
    let read = |now: &str, text: &str| {
        let now = Stamp(now.parse::<Timestamp>().unwrap().as_millisecond());
        LogClock::utc(now).read(text.as_bytes()).map(|at| at.to_string()).unwrap_or_default()
    };
    assert_eq!(read("2026-01-01T00:00:05Z", "Dec 31 23:59:59"), "2025-12-31T23:59:59Z");
    assert_eq!(read("2026-12-31T23:59:55Z", "Jan  1 00:00:01"), "2027-01-01T00:00:01Z");
    assert_eq!(read("2026-11-22T17:00:00Z", "Nov 23 16:59:59"), "2026-11-23T16:59:59Z");
    assert_eq!(read("2026-11-22T17:00:00Z", "Nov 23 17:00:01"), "2025-11-23T17:00:01Z");
    assert_eq!(read("2026-11-22T17:00:00Z", "Feb 29 12:00:00"), "2024-02-29T12:00:00Z");
    assert_eq!(read("2103-01-01T00:00:00Z", "Feb 29 12:00:00"), "2096-02-29T12:00:00Z");
}

#[test]
fn a_fold_is_its_earlier_hour_and_a_gap_is_stepped_over() {
    assert_eq!(berlin("2026-10-25 02:30:00").unwrap(), "2026-10-25T00:30:00Z");
    assert_eq!(berlin("2026-03-29 02:30:00").unwrap(), "2026-03-29T01:30:00Z");
}

#[test]
fn only_a_text_that_says_all_is_absolute() {
    assert_eq!(absolute(b"22/Nov/2026:17:00:00 +0100").unwrap().to_string(), "2026-11-22T16:00:00Z");
    assert_eq!(absolute(b"1700000000").unwrap(), Stamp(1_700_000_000_000));
    for text in ["22/Nov/2026:17:00:00", "Nov 22 17:00:00", "22/Nov/2026:17:00:00 +0100 "] {
        assert_eq!(absolute(text.as_bytes()), None, "{text}");
    }
}

/// Like a log's line: pieces of times and of what stands around them.
fn pieces() -> impl Strategy<Value = String> {
    let piece = prop_oneof![
        "[0-9]{1,17}",
        "[-/:., T\\[\\]@+]",
        prop_oneof![Just("Nov"), Just("Sun "), Just("UTC"), Just("Z"), Just("2026-11-22T"), Just("17:00:00"), Just("é")]
            .prop_map(String::from),
    ];
    prop::collection::vec(piece, 0..12).prop_map(|pieces| pieces.concat())
}

proptest! {
    #[test]
    fn any_bytes_may_come(line: Vec<u8>, text in pieces()) {
        let clock = clock("EST5EDT,M3.2.0,M11.1.0");
        for line in [line.as_slice(), text.as_bytes()] {
            let found = clock.find(line);
            if let Some((time, rest)) = take(line) {
                let (range, at) = found.unwrap();
                prop_assert_eq!(&line[range], time);
                prop_assert_eq!(clock.read(time), at);
                prop_assert!(time.len() + rest.len() <= line.len());
            }
            let _ = (clock.read(line), absolute(line));
        }
    }

    #[test]
    fn what_is_printed_is_read_back(millis in 978_307_200_000i64..4_000_000_000_000, offset in -50_000i32..50_000) {
        let at = Timestamp::from_millisecond(millis).unwrap();
        let minutes = Offset::from_seconds(offset / 60 * 60).unwrap();
        let there = at.to_zoned(TimeZone::fixed(minutes));
        let clock = LogClock::new(TimeZone::fixed(minutes), Stamp(NOW));
        let whole = Stamp(millis.div_euclid(1000) * 1000);
        for (format, moment) in [
            ("%Y-%m-%dT%H:%M:%S%.f%:z", Stamp(millis)),
            ("%Y-%m-%d %H:%M:%S,%3f", Stamp(millis)),
            ("%Y/%m/%d %H:%M:%S", whole),
            ("%d/%b/%Y:%H:%M:%S %z", whole),
            ("%a %b %e %H:%M:%S.%6f %Y", Stamp(millis)),
            ("%d-%b-%Y %H:%M:%S.%3f", Stamp(millis)),
            ("%Y%m%d %H:%M:%S", whole),
        ] {
            let text = there.strftime(format).to_string();
            prop_assert_eq!(clock.read(text.as_bytes()), Some(moment), "{}", text);
        }
        prop_assert_eq!(clock.read(at.to_string().as_bytes()), Some(Stamp(millis)));
    }

    #[test]
    fn without_a_year_no_order_is_lost(now in 978_307_200i64..4_000_000_000, back in prop::collection::vec(-86_400i64..364 * 86_400, 2..8)) {
        // From 364 days back to one ahead, so over the turn of a year more often than not.
        let clock = LogClock::utc(Stamp(now * 1000));
        for back in back {
            let at = Timestamp::from_second(now).unwrap() - back.seconds();
            let text = at.strftime("%b %e %H:%M:%S").to_string();
            prop_assert_eq!(clock.read(text.as_bytes()), Some(Stamp((now - back) * 1000)), "{}", text);
        }
    }
}
