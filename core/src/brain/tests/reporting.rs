//! What programs report, and what logins forgive.

use super::*;
use crate::attack::Login;
use crate::control::report::{ReportOutcome, Reported, ReportedAs};

fn report(what: ReportedAs, addrs: &[&str]) -> Request {
    let addrs = addrs.iter().map(|addr| addr.parse().unwrap()).collect();
    Request::Report(Reported { addrs, jail: "sshd".into(), what, user: Some("bob\u{1b}[2J".to_owned()), reason: "my own check".to_owned() })
}

#[test]
fn what_a_program_reports_counts_as_a_line_does() {
    let mut lab = Lab::new("");
    for n in 1..5 {
        let reply = lab.ask(report(ReportedAs::Failure(10), &["203.0.113.7"]));
        let Reply::Reported { results } = reply else { panic!("{reply:?}") };
        assert_eq!(results[0].what, ReportOutcome::Counted { score: n * 10, needed: 50 });
    }
    let Reply::Reported { results } = lab.ask(report(ReportedAs::Failure(10), &["203.0.113.7", "127.0.0.1"])) else { panic!() };
    assert!(matches!(results[0].what, ReportOutcome::Banned { .. }), "{results:?}");
    assert!(matches!(results[1].what, ReportOutcome::Refused { .. }), "{results:?}");
    let Reply::Reported { results } = lab.ask(report(ReportedAs::Abuse, &["198.51.100.9"])) else { panic!() };
    assert!(matches!(results[0].what, ReportOutcome::Banned { .. }), "{results:?}");
}

#[test]
fn a_reported_login_forgives_and_an_unknown_jail_is_told() {
    let mut lab = Lab::new("");
    lab.fail("203.0.113.7", 4);
    let Reply::Reported { results } = lab.ask(report(ReportedAs::Login, &["203.0.113.7"])) else { panic!() };
    assert_eq!(results[0].what, ReportOutcome::Counted { score: 0, needed: 50 });
    let Request::Report(mut other) = report(ReportedAs::Abuse, &["203.0.113.7"]) else { panic!() };
    other.jail = "nowhere".into();
    assert!(matches!(lab.ask(Request::Report(other)), Reply::Failed { exit: 2, .. }));
}

#[test]
fn a_login_in_the_log_forgives_what_was_counted_before_it() {
    let mut lab = Lab::new("");
    let fails = |n: usize| (0..n).map(|_| Sign::Attack(attack("203.0.113.7"))).collect::<Vec<_>>();
    let signs = [fails(4), vec![Sign::Login(Login::of_tests("203.0.113.7"))], fails(4)].concat();
    let batch = Batch { source: "/var/log/auth.log".to_owned(), lines: 9, signs, ..Batch::default() };
    assert!(steps(&lab.play(Event::Heard(batch))).is_empty());
    assert!(!steps(&lab.fail("203.0.113.7", 1)).is_empty());
}
