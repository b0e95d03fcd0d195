//! How far one reading thread is behind, for the brain.

use std::collections::HashMap;
use std::sync::mpsc::SyncSender;

use palisade_core::brain::Event;
use palisade_core::time::{Span, Tick};

use super::Input;

/// How often the brain is told while there is something to tell.
const EVERY: Span = Span::secs(1);

/// What was told last, and what is to be told.
#[derive(Debug, Default)]
pub(super) struct Lags {
    next: Option<Tick>,
    /// Inputs that were behind when the brain was last told.
    told: HashMap<String, (u64, Span)>,
    news: Vec<(String, u64, Span)>,
}

impl Lags {
    /// Whether it is time to look: each second while there is `more` to read, and once when there is not.
    pub(super) fn due(&mut self, now: Tick, more: bool) -> bool {
        let due = if more { self.next.is_none_or(|next| now >= next) } else { !self.told.is_empty() };
        if due {
            self.next = Some(now.plus(EVERY));
        }
        due
    }

    /// Takes how far an input is behind.
    pub(super) fn note(&mut self, name: &str, bytes: u64, since: Span) {
        let lag = (bytes, since);
        let old = if bytes == 0 && since == Span::ZERO { self.told.remove(name) } else { self.told.insert(name.to_owned(), lag) };
        if old.unwrap_or_default() != lag {
            self.news.push((name.to_owned(), bytes, since));
        }
    }

    /// Tells what is new. A full inbox makes this wait.
    pub(super) fn tell(&mut self, brain: &SyncSender<Input>) {
        for (source, bytes, since) in self.news.drain(..) {
            let _ = brain.send(Input::Event(Event::Behind { source, bytes, since }));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc::sync_channel;

    #[test]
    fn what_is_behind_is_told_each_second_and_once_when_it_is_not() {
        let (brain, inbox) = sync_channel(100);
        let mut lags = Lags::default();
        let mut turn = |ms, more, lag: (u64, Span)| {
            if lags.due(Tick(ms), more) {
                lags.note("/log", lag.0, lag.1);
                lags.note("/quiet", 0, Span::ZERO);
                lags.tell(&brain);
            }
            let told = |input| match input {
                Input::Event(Event::Behind { source, bytes, since }) => (source, bytes, since),
                _ => panic!("nothing else is told"),
            };
            inbox.try_iter().map(told).collect::<Vec<_>>()
        };
        let told = |bytes, since| vec![("/log".to_owned(), bytes, since)];
        assert!(turn(0, false, (0, Span::ZERO)).is_empty());
        assert_eq!(turn(0, true, (9, Span::secs(1))), told(9, Span::secs(1)));
        assert!(turn(999, true, (8, Span::secs(1))).is_empty());
        assert_eq!(turn(1000, true, (7, Span::secs(2))), told(7, Span::secs(2)));
        assert_eq!(turn(1001, false, (0, Span::ZERO)), told(0, Span::ZERO));
        assert!(turn(9999, false, (0, Span::ZERO)).is_empty());
    }
}
