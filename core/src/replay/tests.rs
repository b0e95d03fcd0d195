use super::*;
use crate::attack::{Attack, FULL_FAILURE, Login};
use crate::time::Term;

/// 2026-11-22T17:00:00Z.
const START: i64 = 1_795_366_800;

fn config(text: &str) -> Config {
    Config::read(&[("test.toml".to_owned(), text.to_owned())], &["sshd"]).unwrap()
}

struct Play {
    replay: Replay,
    line: u64,
}

impl Play {
    fn of(text: &str) -> Self {
        Self { replay: Replay::new(config(text)), line: 0 }
    }

    /// A failure so many seconds after the start.
    fn fail(&mut self, second: i64, addr: &str, jail: &str) {
        self.line += 1;
        self.again(second, addr, jail);
    }

    /// The same line for another jail.
    fn again(&mut self, second: i64, addr: &str, jail: &str) {
        let sign = Sign::Attack(Attack {
            addr: addr.parse().unwrap(),
            jail: jail.into(),
            signature: "sshd/failed-password".into(),
            service: "sshd".into(),
            score: FULL_FAILURE,
            at: None,
            user: None,
            line: String::new(),
        });
        self.replay.hear(Stamp((START + second) * 1000), LineId { log: 0, line: self.line }, sign);
    }

    fn login(&mut self, second: i64, addr: &str) {
        self.line += 1;
        let (signature, service) = ("sshd/accepted".into(), "sshd".into());
        let sign = Sign::Login(Login {
            addr: addr.parse().unwrap(),
            jail: "sshd".into(),
            signature,
            service,
            at: None,
            user: None,
            line: String::new(),
        });
        self.replay.hear(Stamp((START + second) * 1000), LineId { log: 0, line: self.line }, sign);
    }

    /// Prefix, second of its begin, length in seconds, offence, lines kept out.
    fn bans(&self) -> Vec<(String, i64, Option<i64>, u32, u64)> {
        let second = |at: Stamp| at.0 / 1000 - START;
        let length = |ban: &WouldBan| match ban.until {
            Until::At(at) => Some((at.0 - ban.at.0) / 1000),
            Until::Forever => None,
        };
        let all = self.replay.bans().iter();
        all.map(|ban| (ban.prefix.to_string(), second(ban.at), length(ban), ban.offence, ban.kept_out)).collect()
    }
}

#[test]
fn bans_come_end_and_grow_in_log_time() {
    let mut play = Play::of("[jail.sshd]\nmax_retry = 3\n");
    for second in [0, 100, 200, 300, 400] {
        play.fail(second, "203.0.113.7", "sshd");
    }
    // Over at 800: the first ban lasts ten minutes.
    for second in [799, 800, 801, 802, 900] {
        play.fail(second, "203.0.113.7", "sshd");
    }
    let ban = |at, length, offence, kept| ("203.0.113.7/32".to_owned(), at, Some(length), offence, kept);
    assert_eq!(play.bans(), [ban(200, 600, 1, 3), ban(802, 1200, 2, 1)]);
    assert_eq!(play.replay.counts(), Counts { attacks: 10, logins: 0, kept_out: 4, logins_kept_out: 0 });
    // A month and more after it ended it is a first offence again.
    let month = 31 * 86_400 + 2100;
    for second in 0..3 {
        play.fail(month + second, "203.0.113.7", "sshd");
    }
    assert_eq!(play.bans()[2], ban(month + 2, 600, 1, 0));
    assert_eq!(play.replay.span(), Some((Stamp(START * 1000), Stamp((START + month + 2) * 1000))));
}

#[test]
fn failures_that_are_far_apart_do_not_add_up() {
    let mut play = Play::of("[jail.sshd]\nmax_retry = 3\nfind_time = \"10m\"\n");
    for n in 0..100 {
        play.fail(n * 301, "203.0.113.7", "sshd");
    }
    assert_eq!(play.bans(), [], "never three within ten minutes");
    for n in 0..3 {
        play.fail(100_000 + n * 299, "203.0.113.7", "sshd");
    }
    assert_eq!(play.bans().len(), 1);
}

#[test]
fn the_allow_list_is_the_configs_and_loopback() {
    let mut play = Play::of("[allow]\nprefixes = [\"198.51.100.0/24\"]\n[jail.sshd]\nmax_retry = 1\n");
    for addr in ["198.51.100.9", "127.0.0.1", "::1", "203.0.113.9"] {
        play.fail(0, addr, "sshd");
    }
    assert_eq!(play.bans().into_iter().map(|ban| ban.0).collect::<Vec<_>>(), ["203.0.113.9/32"]);
}

#[test]
fn neighbours_spread_only_while_they_are_banned() {
    let text = "[ban]\nspread = { ipv4 = 24, hosts = 3 }\n[jail.sshd]\nmax_retry = 1\n";
    let mut play = Play::of(text);
    for (second, host) in [(0, 1), (1, 2), (700, 3), (701, 4)] {
        play.fail(second, &format!("203.0.113.{host}"), "sshd");
    }
    assert!(play.bans().iter().all(|ban| ban.0.ends_with("/32")), "two had ended: {:?}", play.bans());
    play.fail(702, "203.0.113.5", "sshd");
    assert_eq!(play.bans().last().unwrap().0, "203.0.113.0/24");
    let wide = play.replay.bans().last().unwrap();
    assert_eq!((wide.origin.clone(), wide.jail.clone()), (Origin::Spread, "sshd".into()));
    play.fail(703, "203.0.113.99", "sshd");
    assert_eq!(play.replay.counts().kept_out, 1);
}

#[test]
fn a_line_that_two_jails_hear_counts_once() {
    let text =
        "[jail.sshd]\nmax_retry = 2\n[jail.other]\nsignatures = [\"sshd\"]\nfiles = [\"/x\"]\nmax_retry = 3\nban_time = \"permanent\"\n";
    let mut play = Play::of(text);
    for second in 0..4 {
        play.fail(second, "203.0.113.7", "sshd");
        play.again(second, "203.0.113.7", "other");
    }
    assert_eq!(play.replay.counts(), Counts { attacks: 4, kept_out: 3, ..Counts::default() }, "{:?}", play.bans());
    assert_eq!(play.bans().len(), 1, "who is shut out by one jail is not heard by the other: {:?}", play.bans());
    assert_eq!(play.bans()[0].4, 3);
}

#[test]
fn a_login_forgives_as_it_does_live() {
    let mut play = Play::of("[jail.sshd]\nmax_retry = 3\n");
    for second in [0, 1] {
        play.fail(second, "203.0.113.7", "sshd");
    }
    play.login(2, "203.0.113.7");
    for second in [3, 4] {
        play.fail(second, "203.0.113.7", "sshd");
    }
    assert_eq!(play.bans(), [], "two were forgiven");
    play.fail(5, "203.0.113.7", "sshd");
    assert_eq!(play.bans().len(), 1);
}

#[test]
fn a_login_of_somebody_shut_out_is_told() {
    let mut play = Play::of("[jail.sshd]\nmax_retry = 1\n");
    play.login(0, "203.0.113.7");
    play.fail(1, "203.0.113.7", "sshd");
    play.login(2, "203.0.113.7");
    play.login(602, "203.0.113.7");
    assert_eq!(play.replay.counts(), Counts { attacks: 1, logins: 3, kept_out: 1, logins_kept_out: 1 });
}

#[test]
fn any_times_in_any_order_are_lived_through() {
    let mut play = Play::of("[jail.sshd]\nmax_retry = 1\n");
    for (n, at) in [i64::MIN, -1, 0, i64::MAX, 5, i64::MIN].into_iter().enumerate() {
        let addr = format!("203.0.113.{n}").parse().unwrap();
        let sign = Sign::Attack(Attack {
            addr,
            jail: "sshd".into(),
            signature: "s/r".into(),
            service: "s".into(),
            score: FULL_FAILURE,
            at: Some(Stamp(at)),
            user: None,
            line: String::new(),
        });
        play.replay.hear(Stamp(at), LineId { log: 0, line: n as u64 }, sign);
    }
    assert_eq!(play.bans().len(), 6);
    assert_eq!(config("").ban().policy.ban_time, Term::For(Span::secs(600)));
}
