//! Lines that were written while nobody read them.

use super::*;

const ADDR: &str = "203.0.113.7";

impl Lab {
    /// Failures that were written so many seconds ago and are heard now.
    fn backlog(&mut self, ago: &[u64], catching_up: bool) -> Vec<Action> {
        let now = self.now.stamp;
        let sign = |ago: &u64| Sign::Attack(Attack { at: Some(now.minus(Span::secs(*ago))), ..attack(ADDR) });
        let signs: Vec<_> = ago.iter().map(sign).collect();
        let batch = Batch { source: "/var/log/auth.log".to_owned(), lines: ago.len() as u64, signs, catching_up, ..Batch::default() };
        self.play(Event::Heard(batch))
    }
}

#[test]
fn failures_far_apart_that_are_read_at_once_are_no_storm() {
    let far_apart = [590, 1200, 300, 1800, 10];
    let mut lab = Lab::new("");
    let _ = lab.backlog(&far_apart, true);
    assert!(!lab.banned(ADDR));
    // The three of the last ten minutes count, and no other.
    let _ = lab.fail(ADDR, 1);
    assert!(!lab.banned(ADDR));
    let _ = lab.fail(ADDR, 1);
    assert!(lab.banned(ADDR));
    // Live lines count when they come, whatever they say.
    let mut lab = Lab::new("");
    let _ = lab.backlog(&far_apart, false);
    assert!(lab.banned(ADDR));
}

#[test]
fn a_storm_of_some_minutes_ago_is_a_ban_from_now() {
    let mut lab = Lab::new("");
    let _ = lab.backlog(&[305, 304, 301, 302, 303], true);
    let Reply::Check { bans } = lab.ask(Request::Check { addr: ADDR.parse().unwrap() }) else { panic!() };
    assert_eq!(bans[0].until, Until::At(lab.now.stamp.plus(Span::secs(600))));
    assert!(bans[0].reason.ends_with("in 4s"), "{}", bans[0].reason);
}

#[test]
fn a_storm_of_yesterday_says_nothing_of_today() {
    let mut lab = Lab::new("");
    let actions = lab.backlog(&[86_400; 9], true);
    assert!(!lab.banned(ADDR));
    assert!(
        !actions
            .iter()
            .any(|action| matches!(action, Action::Keep(records) if records.iter().any(|r| matches!(r, Record::Failure { .. }))))
    );
}

#[test]
fn a_line_from_the_future_counts_now() {
    let mut lab = Lab::new("");
    let now = lab.now.stamp;
    let signs = vec![Sign::Attack(Attack { at: Some(now.plus(Span::secs(7200))), ..attack(ADDR) }); 4];
    let _ = lab.play(Event::Heard(Batch { signs, catching_up: true, ..Batch::default() }));
    lab.pass(601_000);
    let _ = lab.fail(ADDR, 1);
    assert!(!lab.banned(ADDR), "they are out of the window as if written when they came");
}
