//! Inputs that do not keep up with what is written to them.
//!
//! A reader says every second how far it is behind ([`super::Event::Behind`]), and once more when it
//! is not any more. A backlog after a stop is nothing to speak of; one that stays is: bans come late.

use std::collections::BTreeMap;

use super::Brain;
use crate::control::Source;
use crate::time::{Span, Tick};

/// More bytes than this are far behind: a second of reading or less, on any machine.
const FAR: u64 = 64 << 20;
/// So long not at the end is far behind too: an attacker has made all attempts he is allowed by then.
const LONG: Span = Span::secs(30);
/// For so long an input may be far behind before it is worth a word.
const PATIENCE: Span = Span::secs(60);

/// Since when each input is far behind.
#[derive(Debug, Default)]
pub(super) struct Lagging(BTreeMap<String, Tick>);

fn problem(name: &str) -> String {
    format!("reading {name}")
}

impl Brain {
    /// An input is so many bytes behind, and was not so long ago.
    pub(super) fn behind(&mut self, name: &str, bytes: u64, since: Span, now: crate::time::Now) {
        let source = self.sources.entry(name.to_owned()).or_insert_with(|| Source::new(name));
        (source.behind_bytes, source.behind_ms) = (bytes, since.as_millis());
        if bytes <= FAR && since <= LONG {
            self.lagging.0.remove(name);
            return self.trouble(&problem(name), None, now.stamp);
        }
        let from = *self.lagging.0.entry(name.to_owned()).or_insert(now.tick);
        if now.tick.since(from) >= PATIENCE {
            // Without numbers that change: told once.
            let what = "lines are written faster than they are read, so bans come late; give palisade more of the processor, \
                        or fewer jails for this file (`palisade status` tells how far it is behind)";
            self.trouble(&problem(name), Some(what.to_owned()), now.stamp);
        }
    }

    /// Another config: what its readers are behind, they will say.
    pub(super) fn forget_lags(&mut self, now: crate::time::Stamp) {
        for name in std::mem::take(&mut self.lagging).0.into_keys() {
            self.trouble(&problem(&name), None, now);
        }
        self.sources.values_mut().for_each(|source| (source.behind_bytes, source.behind_ms) = (0, 0));
    }
}
