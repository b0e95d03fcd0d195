//! Asks the daemon, or does without it.

use std::fmt::Display;
use std::io;
use std::path::Path;

use anyhow::Result;
use palisade_core::control::{Reply, Request};
use palisade_core::net::Addr;
use palisade_os::{clock, links, privileges};

use super::{Exit, Global};
use crate::direct::Direct;
use crate::serve::client::Client;
pub use crate::serve::client::Unreachable;
use crate::settings::{BadConfig, Places};

/// The answer was no, and why.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub struct Refused {
    /// The exit code that says which kind of no.
    pub exit: Exit,
    /// What happened and what to do next.
    pub message: String,
}

/// Asks the daemon where one runs; else works on store and kernel directly, with the lock held.
pub fn ask(global: &Global, request: Request) -> Result<Reply> {
    Session::default().ask(global, request)
}

/// A question in parts: without a daemon store and kernel are opened once for all of them.
#[derive(Default)]
pub struct Session(Option<Direct>);

impl Session {
    /// Whether it is known that no daemon answers, and store and kernel are open.
    pub const fn alone(&self) -> bool {
        self.0.is_some()
    }

    /// Asks as [`ask`] does. All parts must be requests of the same kind.
    pub fn ask(&mut self, global: &Global, request: Request) -> Result<Reply> {
        if let Some(direct) = &mut self.0 {
            return answered(direct.ask(request, clock::now())?);
        }
        let places = global.places();
        if let Some(reply) = served(&places, &request)? {
            return answered(reply);
        }
        let direct = match Direct::open(&places, &request) {
            Ok(direct) => direct,
            // Whoever held the lock may have been a daemon on its way up.
            Err(error) => return served(&places, &request)?.map_or_else(|| Err(without_rights(&places, error)), answered),
        };
        answered(self.0.insert(direct).ask(request, clock::now())?)
    }
}

/// The daemon's answer; `None` where no daemon runs.
pub(super) fn served(places: &Places, request: &Request) -> Result<Option<Reply>> {
    match Client::connect(&places.socket()) {
        Ok(mut client) => client.ask(request).map(Some),
        Err(error) if nobody_listens(&error) => Ok(None),
        Err(error) => Err(unreachable(&places.socket(), &error)),
    }
}

/// Why there is no talking to the daemon, and what to do.
pub fn unreachable(socket: &Path, error: &io::Error) -> anyhow::Error {
    let socket = socket.display();
    anyhow::Error::new(Unreachable(if nobody_listens(error) {
        format!("no daemon listens at {socket}")
    } else {
        format!("cannot reach the daemon at {socket}: {error}{}", hint(error))
    }))
}

/// Whoever has not the rights to do without the daemon needs one.
pub(super) fn without_rights(places: &Places, error: anyhow::Error) -> anyhow::Error {
    if may_enforce() || error.is::<BadConfig>() {
        return error;
    }
    let socket = places.socket();
    anyhow::Error::new(Unreachable(format!("no daemon listens at {}, and without one: {error:#}{RIGHTS}", socket.display())))
}

/// What was asked for does not exist: the words are wrong, not the world.
pub fn usage(message: impl Display) -> anyhow::Error {
    anyhow::Error::new(Refused { exit: Exit::Usage, message: format!("palisade: {message}") })
}

/// Who may ask the daemon.
const RIGHTS: &str = "; run this as root or as a member of the group palisade";

/// Whether there is no daemon (rather than one that cannot be reached).
pub fn nobody_listens(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused)
}

fn hint(error: &io::Error) -> &'static str {
    if error.kind() == io::ErrorKind::PermissionDenied { RIGHTS } else { "" }
}

/// Turns a failed answer into an error.
pub fn answered(reply: Reply) -> Result<Reply> {
    match reply {
        Reply::Failed { exit, message } => {
            Err(anyhow::Error::new(Refused { exit: Exit::from_code(exit), message: format!("palisade: {message}") }))
        }
        reply => Ok(reply),
    }
}

/// The peer of the ssh session this command runs in.
pub fn asker() -> Option<Addr> {
    links::ssh_connection_peer(&std::env::var("SSH_CONNECTION").ok()?)
}

/// An answer that does not fit the question: a daemon of another version.
pub fn unexpected(reply: &Reply) -> anyhow::Error {
    let kind = serde_json::to_value(reply).ok().and_then(|v| v.get("answer").map(ToString::to_string)).unwrap_or_default();
    anyhow::anyhow!("the daemon answered {kind}, which is no answer to this; is it of another version? restart it")
}

/// Whether this process may change the firewall by itself.
pub fn may_enforce() -> bool {
    privileges::have_net_admin()
}
