//! A notice in words: for the log, `events` and `why`.

use palisade_core::bans::ban::Origin;
use palisade_core::event::{KillCount, Notice, What};
use palisade_core::flood::settings::Action;
use palisade_core::time::{Span, Until};

/// A notice on one line: when, about whom, what.
pub(crate) fn describe(notice: &Notice) -> String {
    // Who fills the table is in the words already.
    let named = matches!(notice.what, What::Culprit { .. } | What::CulpritOver { .. });
    let about = notice.prefix.filter(|_| !named).map(|prefix| format!("{prefix} ")).unwrap_or_default();
    format!("{} {about}{}", notice.at, printable(&sentence(&notice.what)))
}

fn sentence(what: &What) -> String {
    match what {
        What::Ban { until, origin, reason, offences, killed } => {
            let nth = if *offences > 1 && *origin != Origin::Manual { format!(" (ban {offences})") } else { String::new() };
            format!("banned {}{nth}{}", ruling(*until, origin, reason), ended(*killed, ", "))
        }
        What::WouldBan { until, origin, reason } => format!("would be banned {}", ruling(*until, origin, reason)),
        What::Imported { origin, bans, displaced, killed } => {
            let left = if *displaced > 0 { format!(", {displaced} others left the full table") } else { String::new() };
            format!("banned {bans} by {origin}{left}{}", ended(*killed, ", "))
        }
        What::Fed { feed, members, added, removed } => format!("feed {feed}: {members} members, {added} of them new, {removed} gone"),
        What::Killed(killed) => ended(*killed, ""),
        What::Unban { by } => format!("unbanned by {by}"),
        What::Expired => "expired".to_owned(),
        What::Refused { origin, protected_by } => format!("refused ({origin}): protected by {protected_by}"),
        What::Drift { what, repaired, millis } => format!("drift: {what}; {repaired} bans put back in {millis} ms"),
        What::Problem { about, what } => format!("problem with {about}: {what}"),
        What::Solved { about } => format!("{about} works again"),
        What::Allow { added, comment } => {
            let how = if *added { "put on the allow list" } else { "taken off the allow list" };
            format!("{how}{}", colon(comment))
        }
        What::Route { what } => format!("routing: {what}"),
        What::Table { state, count, max, what } => format!("connection table: {state}, {count} of {max}{}", colon(what)),
        What::Culprit { who, flows, new_per_second, action, what } => {
            format!("{who} fills the connection table: {flows} flows, {new_per_second} new a second; {}{}", done(*action), colon(what))
        }
        What::CulpritOver { who, seconds, dropped } => {
            format!("{who} is held no longer, after {} and {dropped} packets dropped", Span::secs(*seconds))
        }
        What::Purged { whose, states } => format!("ended {states} states of {whose}"),
        What::Daemon { what } => format!("daemon: {what}"),
    }
}

const fn done(action: Action) -> &'static str {
    match action {
        Action::Watch => "watched",
        Action::Limit => "its new flows are limited",
        Action::Ban => "banned",
    }
}

/// `until T by jail:sshd: 3 failures of sshd in 4s`.
fn ruling(until: Until, origin: &Origin, reason: &str) -> String {
    let end = match until {
        Until::At(at) => format!("until {at}"),
        Until::Forever => "for ever".to_owned(),
    };
    format!("{end} by {origin}{}", colon(reason))
}

fn colon(text: &str) -> String {
    if text.is_empty() { String::new() } else { format!(": {text}") }
}

fn ended(killed: KillCount, before: &str) -> String {
    format!("{before}ended {} sockets and {} states", killed.sockets, killed.states)
}

/// Some of the words were typed or logged by others: nothing in them may begin a new line or drive a terminal.
fn printable(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '"' | '\'' | '\\' => out.push(c),
            c => out.extend(c.escape_debug()),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use palisade_core::time::Stamp;

    use super::*;

    fn told(what: What) -> String {
        let prefix = Some("203.0.113.7".parse().unwrap());
        describe(&Notice { at: Stamp(0), prefix, what })
    }

    #[test]
    fn notices_are_sentences() {
        let killed = KillCount { sockets: 2, states: 1 };
        let until = Until::At(Stamp(1000));
        let ban = What::Ban { until, origin: Origin::Jail("sshd".into()), reason: "3 failures".to_owned(), offences: 1, killed };
        assert_eq!(
            told(ban),
            "1970-01-01T00:00:00Z 203.0.113.7/32 banned until 1970-01-01T00:00:01Z by jail:sshd: 3 failures, ended 2 sockets and 1 states"
        );
        let ban = What::Ban { until: Until::Forever, origin: Origin::Manual, reason: String::new(), offences: 2, killed };
        assert!(told(ban).contains(" banned for ever by manual, ended "));
        assert!(told(What::Expired).ends_with("203.0.113.7/32 expired"));
        assert!(told(What::Unban { by: "uid 0".to_owned() }).ends_with(" unbanned by uid 0"));
    }

    #[test]
    fn what_others_typed_stays_on_its_line() {
        let text = told(What::Allow { added: true, comment: "a\nb \u{1b}[2J \u{202e} \"ä\"".to_owned() });
        assert!(text.ends_with("put on the allow list: a\\nb \\u{1b}[2J \\u{202e} \"ä\""), "{text}");
    }
}
