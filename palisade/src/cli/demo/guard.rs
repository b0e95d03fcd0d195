//! The real daemon: this very program, as a child in the victim's namespace, and its control socket.

use std::ffi::OsString;
use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use palisade_core::bans::wall::Standing;
use palisade_core::config::Config;
use palisade_core::control::{Reply, Request, State};
use palisade_core::net::Prefix;
use palisade_core::scan;
use palisade_core::time::Span;
use palisade_os::process::Piped;

use super::service;
use crate::serve::client::Client;

/// How long the daemon may take to be ready.
const READY: Duration = Duration::from_secs(10);

/// How long it may take to stop: it keeps everything it knows before it ends.
const STOPPED: Span = Span::secs(10);

/// How often it is asked whether it is ready.
const ASK: Duration = Duration::from_millis(10);

/// The running daemon.
pub(super) struct Guard {
    daemon: Piped,
    socket: PathBuf,
}

impl Guard {
    /// Starts it where we are, with everything of its own in `dir`, and waits until it guards. It ends
    /// with us at the latest: the kernel tells it when the calling thread is gone.
    pub(super) fn start(dir: &Path, max_retry: usize) -> Result<Self> {
        let log = service::log_in(dir);
        service::open_log(&log).with_context(|| format!("making {}", log.display()))?;
        let (config, run) = (dir.join("palisade.toml"), dir.join("run"));
        fs::write(&config, config_text(&log, max_retry)?).with_context(|| format!("writing {}", config.display()))?;
        let arguments: [OsString; 7] = [
            "run".into(),
            "--config".into(),
            config.into(),
            "--state-dir".into(),
            dir.join("state").into(),
            "--run-dir".into(),
            run.clone().into(),
        ];
        let daemon = Piped::spawn(Path::new("/proc/self/exe"), &arguments).context("starting the guard")?;
        let mut guard = Self { daemon, socket: run.join("control.sock") };
        guard.wait_until_ready()?;
        Ok(guard)
    }

    fn wait_until_ready(&mut self) -> Result<()> {
        let until = Instant::now() + READY;
        loop {
            match self.ask(&Request::Status) {
                Ok(Reply::Status(status)) if status.state == State::Enforcing => return Ok(()),
                other if self.daemon.ended()?.is_some() || Instant::now() > until => {
                    bail!("the guard does not guard ({other:?}); its log:\n{}", self.log());
                }
                _ => thread::sleep(ASK),
            }
        }
    }

    /// Asks it as the command line does.
    pub(super) fn ask(&self, request: &Request) -> Result<Reply> {
        Client::connect(&self.socket).context("reaching the guard")?.ask(request)
    }

    /// What the kernel holds for a banned prefix, as `palisade why` tells.
    pub(super) fn standing(&self, prefix: Prefix) -> Result<Option<Standing>> {
        let Reply::Why(why) = self.ask(&Request::Why { prefix })? else { return Ok(None) };
        Ok(why.bans.into_iter().find(|(ban, _)| ban.key.prefix == prefix).and_then(|(_, standing)| standing))
    }

    /// What it has logged since this was asked last.
    pub(super) fn log(&mut self) -> String {
        let mut text = Vec::new();
        // Reads what there is: the end is told as an error, as it never blocks.
        let _ = self.daemon.stderr.read_to_end(&mut text);
        String::from_utf8_lossy(&text).into_owned()
    }

    /// Stops it. Whether it ended in good order.
    pub(super) fn stop(mut self) -> Result<bool> {
        let status = self.daemon.stop(STOPPED).context("stopping the guard")?;
        Ok(status.success() && !self.socket.exists())
    }
}

/// The defaults, but for one jail that reads our log: the built-in ones would read this host's.
fn config_text(log: &Path, max_retry: usize) -> Result<String> {
    let signatures: Vec<&str> = scan::shipped().iter().map(|(name, _)| *name).collect();
    let defaults = Config::read(&[], &signatures)?;
    let mut text = format!(
        "[ban]\nmax_retry = {max_retry}\n\n[allow]\nauto = [\"loopback\", \"self\"]\n\n\
         [jail.demo]\nsignatures = [\"sshd\"]\nfiles = [\"{}\"]\n",
        log.display()
    );
    for jail in defaults.jails().keys() {
        text.push_str(&format!("\n[jail.{jail}]\nenabled = false\n"));
    }
    Ok(text)
}
