//! Routing without a daemon, for one question.

use anyhow::{Context, Result};
use palisade_core::control::route::RouteRequest;
use palisade_core::steering::{Answered, Event, Steering};
use palisade_os::{clock, privileges, routes};

use super::desk::{Desk, Hands, Out};
use super::disk;
use crate::cli::print;
use crate::serve::open;
use crate::settings::Places;

/// Kernel and journal, held for one question.
pub(crate) struct Alone {
    desk: Desk,
    _lock: Option<privileges::Lock>,
}

impl Alone {
    /// For whoever changes something: with the lock held.
    pub(crate) fn open(places: &Places) -> Result<Self> {
        let lock = open::lock(places)?;
        std::fs::create_dir_all(&places.state).with_context(|| format!("cannot make {}", places.state.display()))?;
        Self::with(places, Hands::Free, Some(lock))
    }

    /// For whoever only looks.
    pub(crate) fn looking(places: &Places) -> Result<Self> {
        Self::with(places, Hands::Tied, None)
    }

    fn with(places: &Places, hands: Hands, lock: Option<privileges::Lock>) -> Result<Self> {
        let journal = match disk::read(&places.state) {
            Err(error) if hands == Hands::Tied => {
                print::say(format_args!("palisade: {error}"));
                Default::default()
            }
            other => other?,
        };
        let boot = clock::boot_id().context("which boot this is cannot be told")?;
        let steering = Steering::new(journal, &boot, hands == Hands::Tied, clock::now());
        let mut desk = Desk::new(steering, routes::open()?, &places.state, hands);
        // What is to stand already is put right first, so that the answer is about what is asked.
        let mut out = Vec::new();
        desk.handle(Event::Idle, &mut out);
        tell(out);
        Ok(Self { desk, _lock: lock })
    }

    /// Asks it.
    pub(crate) fn ask(&mut self, request: RouteRequest) -> Result<Answered> {
        let mut out = Vec::new();
        self.desk.handle(Event::Asked { id: 0, request }, &mut out);
        tell(out).context("there was no answer; this is a bug")
    }
}

/// Tells what is for the operator, and hands back the answer. What does not work is in the answer too.
fn tell(out: Vec<Out>) -> Option<Answered> {
    let mut answer = None;
    for one in out {
        match one {
            Out::Answer(_, reply) => answer = Some(reply),
            Out::Tell(what) => print::say(format_args!("palisade: {what}")),
            Out::Trouble(..) => {}
        }
    }
    answer
}
