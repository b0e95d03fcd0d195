//! Any bytes as a request on the control socket, and what the brain makes of it.
use palisade_core::bans::wall::Limits;
use palisade_core::brain::{Brain, Event, Kept, Mode};
use palisade_core::config::Config;
use palisade_core::control::Request;
use palisade_core::time::{Now, Stamp, Tick};

/// Tries one input.
pub fn run(bytes: &[u8]) {
    let now = Now { stamp: Stamp(1_795_366_800_000), tick: Tick(1) };
    let limits = Limits { bans: 1000, ports: true, timeouts: true, counters: true, lasting: false };
    let mut brain = Brain::new(Config::builtin(), Mode::Enforce, "memory", limits, Kept::default(), now);
    let mut actions = Vec::new();
    for line in bytes.split(|b| *b == b'\n') {
        if let Ok(request) = serde_json::from_slice::<Request>(line) {
            brain.handle(Event::Asked { id: 1, who: String::new(), request }, now, &mut actions);
        }
    }
}
