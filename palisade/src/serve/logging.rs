//! The daemon's own log: standard error, which systemd hands to the journal.

use std::io::{self, IsTerminal};

use palisade_core::event::{Notice, What};
use tracing_subscriber::EnvFilter;

/// Starts it. `PALISADE_LOG` sets the level (`debug`, `info`, `warn`); it goes without times to the
/// journal, which has its own.
pub(super) fn start() {
    let filter = EnvFilter::try_from_env("PALISADE_LOG").unwrap_or_else(|_| EnvFilter::new("info"));
    let log =
        tracing_subscriber::fmt().with_env_filter(filter).with_writer(io::stderr).with_target(false).with_ansi(io::stderr().is_terminal());
    let journal = std::env::var_os("JOURNAL_STREAM").is_some();
    let started = if journal { log.without_time().try_init() } else { log.try_init() };
    if let Err(error) = started {
        eprintln!("palisade: logging: {error}");
    }
}

/// One notice as one line: what an operator would tell a colleague is INFO, what is worth waking
/// somebody is WARN.
pub(super) fn tell(notice: &Notice) {
    let text = crate::tell::describe(notice);
    let line = text.split_once(' ').map_or(text.as_str(), |(_, rest)| rest);
    match notice.what {
        What::Problem { .. } | What::Drift { .. } | What::Culprit { .. } => tracing::warn!("{line}"),
        _ => tracing::info!("{line}"),
    }
}
