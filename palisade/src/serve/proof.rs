//! The proof that a ban blocks here, asked of a child: whoever proves leaves the host for good.

use std::ffi::OsString;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result, bail};
use palisade_core::bans::backend::Backend;
use palisade_core::bans::proof::Proof;
use palisade_core::time::Span;
use palisade_os::errors::chain;
use palisade_os::files;
use palisade_os::process::Tool;
use serde::{Deserialize, Serialize};

use crate::settings::Places;

/// Nothing would be blocked, or not all of it: why, and what to do. Exit code 6.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(crate) struct CannotEnforce(pub(crate) String);

/// How long it may take: a copy of ten thousand foreign rules takes some seconds on a slow machine.
const WITHIN: Span = Span::secs(30);

/// The largest answer that is read: notes are a few lines.
const ANSWER_MAX: usize = 1 << 20;

/// What `palisade prove` found out.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Proven {
    /// Of which firewall.
    pub(crate) backend: String,
    /// What was proven.
    #[serde(flatten)]
    pub(crate) proof: Proof,
    /// What else the operator should know.
    pub(crate) notes: Vec<String>,
}

/// Has it proven by a child of ours. Where the child may not, what `palisade prove --keep` kept counts.
pub(crate) fn ask(places: &Places, backend: Backend) -> Proven {
    let asked = child(places, backend).unwrap_or_else(|error| untried(backend, format!("{error:#}")));
    match (&asked.proof, kept(&places.run)) {
        (Proof::Untried { .. }, Some(kept)) if kept.backend == backend.word() => kept,
        _ => asked,
    }
}

fn untried(backend: Backend, why: String) -> Proven {
    Proven { backend: backend.to_string(), proof: Proof::Untried { why }, notes: Vec::new() }
}

fn child(places: &Places, backend: Backend) -> Result<Proven> {
    let program = std::env::current_exe().context("where this program is")?;
    let arguments = arguments(places, backend)?;
    let mut answer = Vec::new();
    let ran = Tool::at(program).within(WITHIN).stream(
        &arguments,
        |_| Ok(()),
        |piece| {
            answer.extend_from_slice(piece);
            if answer.len() > ANSWER_MAX { Err(std::io::Error::other("the answer is too long")) } else { Ok(()) }
        },
    )?;
    match serde_json::from_slice(&answer) {
        Ok(proven) => Ok(proven),
        Err(_) => bail!("`palisade prove` ended with {}: {}", ran.status, ran.complaint),
    }
}

fn arguments(places: &Places, backend: Backend) -> Result<Vec<OsString>> {
    let mut arguments = vec!["--json".into(), "prove".into(), "--backend".into(), backend.word().into()];
    if places.config_named {
        // The child runs in another folder.
        let config = std::path::absolute(&places.config).context("where the config is")?;
        arguments.extend(["--config".into(), config.into_os_string()]);
    }
    Ok(arguments)
}

/// What was proven since the last boot by somebody with more rights: the run folder is emptied at boot.
fn kept(run: &Path) -> Option<Proven> {
    serde_json::from_slice(&fs::read(run.join(KEPT)).ok()?).ok()
}

/// The kept proof's file in the run folder.
const KEPT: &str = "proof.json";

/// Keeps it for a daemon that may not prove anything itself.
pub(crate) fn keep(run: &Path, proven: &Proven) -> Result<()> {
    fs::create_dir_all(run).with_context(|| format!("cannot make {}", run.display()))?;
    let path = run.join(KEPT);
    files::replace(&path, &serde_json::to_vec(proven)?).with_context(|| format!("cannot write {}", path.display()))
}

/// Proves it right here. The process can do nothing else afterwards.
#[cfg(target_os = "linux")]
pub(crate) fn here(backend: Backend, section: &palisade_core::config::BackendSection) -> Proven {
    let palisade_os::block::proof::Outcome { proof, notes } = palisade_os::block::proof::prove(backend, section);
    Proven { backend: backend.to_string(), proof, notes }
}

/// There are no namespaces to prove anything in: the backend's own reading has to do.
#[cfg(not(target_os = "linux"))]
pub(crate) fn here(backend: Backend, _: &palisade_core::config::BackendSection) -> Proven {
    untried(backend, "this system has no network namespaces; what was put up is read back, and its counters tell".to_owned())
}

/// An error for a backend that fails its proof, naming the next best.
pub(crate) fn insist(proven: &Proven, next_best: impl FnOnce() -> Option<Backend>) -> Result<()> {
    let Proof::Failed { .. } = &proven.proof else { return Ok(()) };
    let next = next_best().map_or_else(
        || "no other firewall of this host can be used".to_owned(),
        |next| format!("`backend = \"{next}\"` in [ban] is the next best here"),
    );
    let notes: String = proven.notes.iter().map(|note| format!("; {note}")).collect();
    let what = format!("{} {}{notes}; nothing falls back by itself: mend it (`palisade doctor`), or {next}", proven.backend, proven.proof);
    Err(CannotEnforce(what).into())
}

/// An error's words where a backend that was named cannot be used: what would work.
pub(crate) fn advise(error: palisade_os::block::BlockError, next_best: Option<Backend>) -> anyhow::Error {
    let next = next_best.map_or_else(String::new, |next| format!("; `backend = \"{next}\"` in [ban] would work here"));
    CannotEnforce(format!("nothing would be blocked: {}{next}", chain(&error))).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_child_finds_a_config_that_was_named_from_here() {
        let places = |named| Places { config: "here.toml".into(), config_named: named, state: "/s".into(), run: "/r".into() };
        let asked = arguments(&places(true), Backend::Nftables).unwrap();
        assert_eq!(Path::new(asked.last().unwrap()), std::env::current_dir().unwrap().join("here.toml"));
        assert_eq!(arguments(&places(false), Backend::Nftables).unwrap(), ["--json", "prove", "--backend", "nftables"]);
    }
}
