//! A line through a whole filter: what fail2ban's rules say of sessions, several lines, names and dates.

use palisade_core::scan::fail2ban::{CompileError, Definition, Failure, Filter, Session};
use palisade_core::scan::{Line, LogClock};
use palisade_core::time::Stamp;

/// 2026-03-01 12:00 UTC.
const NOW: Stamp = Stamp(1_772_366_400_000);

fn definition(failregex: &[&str]) -> Definition {
    Definition {
        name: "door".to_owned(),
        failregex: failregex.iter().map(|&text| text.to_owned()).collect(),
        maxlines: 1,
        datepattern: Some("{NONE}".to_owned()),
        ..Definition::default()
    }
}

fn filter(definition: &Definition) -> Filter {
    Filter::compile(definition).unwrap_or_else(|error| panic!("{error}"))
}

struct Log {
    filter: Filter,
    session: Session,
    clock: LogClock,
}

impl Log {
    fn new(definition: &Definition) -> Self {
        let filter = filter(definition);
        Self { session: filter.session(), filter, clock: LogClock::utc(NOW) }
    }

    fn line(&mut self, line: &str) -> Option<Failure> {
        self.filter.look(&mut self.session, Line::raw(line.as_bytes()), &self.clock)
    }

    /// Host, user and lines of the failure.
    fn told(&mut self, line: &str) -> Option<(String, String, u32)> {
        self.line(line).map(|failure| (failure.host, failure.user.unwrap_or_default(), failure.attempts))
    }
}

fn sessions() -> Log {
    Log::new(&Definition {
        prefregex: Some(r"^<F-MLFID>\w+\[\d+\]</F-MLFID>: <F-CONTENT>.+</F-CONTENT>$".to_owned()),
        ..definition(&[
            r"^<F-NOFAIL>connection from</F-NOFAIL> <HOST>$",
            r"^<F-NOFAIL>tried key</F-NOFAIL> of <F-USER>\S+</F-USER>$",
            r"^wrong password of <F-USER>\S+</F-USER>$",
            r"^<F-MLFGAINED>welcome</F-MLFGAINED> <F-USER>\S+</F-USER>$",
            r"^<F-NOFAIL><F-MLFFORGET>bye</F-MLFFORGET></F-NOFAIL>(?: <HOST>)?$",
        ])
    })
}

fn found(host: &str, user: &str, lines: u32) -> Option<(String, String, u32)> {
    Some((host.to_owned(), user.to_owned(), lines))
}

#[test]
fn a_session_knows_the_address_that_an_earlier_line_told() {
    let mut log = sessions();
    assert_eq!(log.told("door[1]: connection from 192.0.2.1"), None);
    // The line that waited counts with the failure; the next failure is alone.
    assert_eq!(log.told("door[1]: wrong password of ann"), found("192.0.2.1", "ann", 2));
    assert_eq!(log.told("door[1]: wrong password of ann"), found("192.0.2.1", "ann", 1));
    // Another session knows nothing of it.
    assert_eq!(log.told("door[2]: wrong password of ann"), None);
}

#[test]
fn a_failure_without_an_address_counts_when_the_address_comes() {
    let mut log = sessions();
    assert_eq!(log.told("door[1]: wrong password of ann"), None);
    assert_eq!(log.told("door[1]: bye 192.0.2.1"), found("192.0.2.1", "ann", 2));
    assert_eq!(log.told("door[1]: bye 192.0.2.1"), None);
}

#[test]
fn a_second_user_in_one_session_is_a_failure_whatever_the_line_says() {
    let mut log = sessions();
    log.told("door[1]: connection from 192.0.2.1");
    assert_eq!(log.told("door[1]: tried key of ann"), None);
    assert_eq!(log.told("door[1]: tried key of ann"), None);
    assert_eq!(log.told("door[1]: tried key of bob"), found("192.0.2.1", "bob", 4));
    let failure = log.line("door[1]: welcome eve");
    assert_eq!(failure.map(|failure| failure.users), Some(vec!["ann".to_owned(), "bob".to_owned(), "eve".to_owned()]));
}

#[test]
fn who_gets_in_has_failed_nothing_and_who_leaves_is_forgotten() {
    let mut log = sessions();
    log.told("door[1]: connection from 192.0.2.1");
    log.told("door[1]: tried key of ann");
    assert_eq!(log.told("door[1]: welcome ann"), None);
    assert_eq!(log.told("door[1]: bye 192.0.2.1"), None);
    assert_eq!(log.told("door[1]: wrong password of ann"), None);
}

#[test]
fn a_session_lasts_five_minutes_and_a_hundred_are_remembered() {
    let mut log = sessions();
    log.told("door[1]: connection from 192.0.2.1");
    log.clock.now = Stamp(NOW.0 + 299_000);
    assert!(log.told("door[1]: wrong password of ann").is_some());
    log.clock.now = Stamp(NOW.0 + 301_000);
    assert_eq!(log.told("door[1]: wrong password of ann"), None);
    let mut log = sessions();
    for id in 0..101 {
        log.told(&format!("door[{id}]: connection from 192.0.2.1"));
    }
    assert_eq!(log.told("door[0]: wrong password of ann"), None);
    assert!(log.told("door[100]: wrong password of ann").is_some());
}

#[test]
fn one_regex_may_span_lines_and_skip_others() {
    let mut log = Log::new(&Definition { maxlines: 4, ..definition(&[r"^(?P<pid>\d+) failed$<SKIPLINES>^(?P=pid) closed by <HOST>$"]) });
    assert_eq!(log.told("7 failed"), None);
    assert_eq!(log.told("8 fine"), None);
    assert_eq!(log.told("7 closed by 192.0.2.7"), found("192.0.2.7", "", 2));
    // What matched is gone, what was skipped is not.
    assert_eq!(log.told("7 closed by 192.0.2.7"), None);
    // Beyond four lines nothing is remembered.
    log.told("9 failed");
    (0..3).for_each(|_| assert_eq!(log.told("noise"), None));
    assert_eq!(log.told("9 closed by 192.0.2.9"), None);
}

#[test]
fn ignored_lines_are_ignored_before_or_after_a_match() {
    let ignoring = |failregex: &[&str]| Definition { ignoreregex: vec!["of root".to_owned()], ..definition(failregex) };
    let few = ignoring(&["^no <HOST> of <F-USER>.*</F-USER>$"]);
    let many = ignoring(&["^a <HOST>$", "^b <HOST>$", "^c <HOST>$", "^no <HOST> of <F-USER>.*</F-USER>$"]);
    for definition in [few, many] {
        let mut log = Log::new(&definition);
        assert_eq!(log.told("no 192.0.2.1 of root"), None);
        assert_eq!(log.told("no 192.0.2.1 of ann"), found("192.0.2.1", "ann", 1));
    }
}

#[test]
fn names_are_hosts_without_an_address_unless_names_are_not_wanted() {
    let mut log = Log::new(&definition(&["from <HOST>$"]));
    let failure = log.line("from host.example");
    assert_eq!(failure.map(|failure| (failure.host, failure.addr)), Some(("host.example".to_owned(), None)));
    assert_eq!(log.session.nameless(), 1);
    // Digits that look like an address and are none.
    assert_eq!(log.line("from 192.0.2.999").map(|failure| failure.addr), Some(None));
    assert!(log.line("from ::ffff:192.0.2.1").is_some_and(|failure| failure.addr == "192.0.2.1".parse().ok()));
    let mut log = Log::new(&Definition { usedns: Some("no".to_owned()), ..definition(&["from <HOST>$"]) });
    assert_eq!(log.line("from host.example"), None);
    assert!(log.line("from [2001:db8::1]").is_some_and(|failure| failure.addr == "2001:db8::1".parse().ok()));
}

#[test]
fn alternatives_fill_a_user_that_is_missing() {
    let mut log = Log::new(&definition(&[
        r"^<HOST>(?: a=<F-USER>\w*</F-USER>)?(?: b=<F-ALT_USER_1>\w+</F-ALT_USER_1>)?(?: c=<F-ALT_USER_2>\w+</F-ALT_USER_2>)?$",
    ]));
    assert_eq!(log.told("192.0.2.1 a=ann b=bob"), found("192.0.2.1", "ann", 1));
    assert_eq!(log.told("192.0.2.1 a= b=bob c=cid"), found("192.0.2.1", "bob", 1));
    assert_eq!(log.told("192.0.2.1 c=cid"), found("192.0.2.1", "cid", 1));
}

#[test]
fn an_identity_that_is_no_address_goes_before_the_address() {
    let mut log = Log::new(&definition(&[r"^<F-ID>\w+</F-ID> at <ADDR>$"]));
    let failure = log.line("ann at 192.0.2.1").map(|failure| (failure.host, failure.addr));
    assert_eq!(failure, Some(("ann".to_owned(), "192.0.2.1".parse().ok())));
}

#[test]
fn dates_are_cut_out_and_what_has_none_counts_at_the_last() {
    let mut log = Log::new(&Definition { datepattern: None, ..definition(&[r"^\s*door: <HOST>$"]) });
    let at = |failure: Option<Failure>| failure.and_then(|failure| failure.at).map(|at| at.to_string());
    assert_eq!(at(log.line("2026-03-01 11:59:30 door: 192.0.2.1")).as_deref(), Some("2026-03-01T11:59:30Z"));
    assert_eq!(at(log.line("door: 192.0.2.1")).as_deref(), Some("2026-03-01T11:59:30Z"));
    log.clock.now = Stamp(NOW.0 + 31_000);
    let failure = log.line("door: 192.0.2.1");
    assert!(failure.is_some_and(|failure| failure.at.is_none()));
}

#[test]
fn a_journal_record_reads_as_a_line_with_its_own_time() {
    let definition = definition(&[r"^\S+ door\[\d+\]: two\\nlines <HOST>$"]);
    let filter = filter(&definition);
    let line = Line::journal(Some(b"door"), Some(7), b"two\nlines 192.0.2.1", Some(Stamp(5000)));
    let failure = filter.look(&mut filter.session(), line, &LogClock::utc(NOW));
    assert_eq!(failure.and_then(|failure| failure.at), Some(Stamp(5000)));
    let line = Line::dated(b"h door[7]: two\\nlines 192.0.2.1", Stamp(6000));
    let failure = filter.look(&mut filter.session(), line, &LogClock::utc(NOW));
    assert_eq!(failure.and_then(|failure| failure.at), Some(Stamp(6000)));
}

#[test]
fn lines_of_any_bytes_and_any_length_are_decided() {
    let mut log = Log::new(&definition(&["^.*from <HOST>$"]));
    let session = &mut log.session;
    assert!(log.filter.look(session, Line::raw(b"\xff\xfe from 192.0.2.1\r"), &log.clock).is_some());
    let long = [vec![b'x'; 1 << 20], b" from 192.0.2.1".to_vec()].concat();
    assert_eq!(log.filter.look(session, Line::raw(&long), &log.clock), None);
    assert_eq!(session.limits(), 1);
}

#[test]
fn what_cannot_be_compiled_says_which_line_it_is() {
    let error = Filter::compile(&definition(&["<HOST>", "(<HOST>"])).err();
    assert!(matches!(&error, Some(CompileError::Expression { option: "failregex", number: 2, .. })), "{error:?}");
    assert!(Filter::compile(&definition(&["nobody"])).is_err());
}
