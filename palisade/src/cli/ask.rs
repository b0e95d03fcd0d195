//! Asks the daemon, or does without it.

use std::io;

use anyhow::{Context, Result};
use palisade_core::control::{Reply, Request};
use palisade_core::net::Addr;
use palisade_os::{clock, links, privileges};

use super::{Exit, Global};
use crate::direct::Direct;
use crate::serve::client::Client;
use crate::settings::Places;

/// The daemon is needed and not there; exit code 3.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct Unreachable(pub String);

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
    let places = global.places();
    if let Some(reply) = served(&places, &request)? {
        return answered(reply);
    }
    let direct = match Direct::open(&places, &request) {
        Ok(direct) => direct,
        // Whoever held the lock may have been a daemon on its way up.
        Err(error) => return served(&places, &request)?.map_or(Err(error), answered),
    };
    answered(direct.ask(request, clock::now())?)
}

/// The daemon's answer; `None` where no daemon runs.
fn served(places: &Places, request: &Request) -> Result<Option<Reply>> {
    match Client::connect(&places.socket()) {
        Ok(mut client) => client.ask(request).context("the daemon did not answer").map(Some),
        Err(error) if nobody_listens(&error) => Ok(None),
        Err(error) => Err(anyhow::Error::new(Unreachable(format!(
            "cannot reach the daemon at {}: {error}{}",
            places.socket().display(),
            hint(&error)
        )))),
    }
}

/// Whether there is no daemon (rather than one that cannot be reached).
pub fn nobody_listens(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused)
}

fn hint(error: &io::Error) -> &'static str {
    if error.kind() == io::ErrorKind::PermissionDenied { "; run this as root or as a member of the group palisade" } else { "" }
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
