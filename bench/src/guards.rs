//! The programs that are compared, each set up so that one line of auth.log is a ban.

use std::fmt::Write as _;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use palisade::serve::client::Client;
use palisade_core::control::{Reply, Request, Status};

use crate::lab::Netns;
use crate::process::Running;

/// How long a guard may take until it is ready: fail2ban needs a second or two.
const READY_WITHIN: Duration = Duration::from_secs(60);

/// One of the compared programs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Guard {
    Palisade,
    Fail2ban,
    Sshguard,
}

impl Guard {
    pub(crate) const ALL: [Self; 3] = [Self::Palisade, Self::Fail2ban, Self::Sshguard];

    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Palisade => "palisade",
            Self::Fail2ban => "fail2ban",
            Self::Sshguard => "sshguard",
        }
    }

    /// Starts it in `ns`, watching `log`, with its state in `dir`. Whether it really watches shows
    /// the first ban.
    pub(crate) fn start(self, ns: &Netns, palisade: &Path, dir: &Path, log: &Path) -> Result<Running> {
        match self {
            Self::Palisade => {
                let place = Place::new(palisade, dir, &one_line_bans(log))?;
                let mut running = place.run(ns)?;
                place.wait(&mut running)?;
                Ok(running)
            }
            Self::Fail2ban => fail2ban(ns, dir, log),
            Self::Sshguard => sshguard(ns, dir, log),
        }
    }
}

/// Palisade's config for a jail of one file; everything else is as it ships.
pub(crate) fn jail(log: &Path, max_retry: u32) -> String {
    let mut text = format!("[jail.sshd]\nfiles = [\"{}\"]\nmax_retry = {max_retry}\nban_time = \"1h\"\n", log.display());
    for other in ["dropbear", "web-auth", "web-probes", "web-cms"] {
        let _ = writeln!(text, "[jail.{other}]\nenabled = false");
    }
    text
}

fn one_line_bans(log: &Path) -> String {
    jail(log, 1)
}

/// A Palisade of its own: binary, config, state, socket.
#[derive(Debug)]
pub(crate) struct Place {
    binary: PathBuf,
    dir: PathBuf,
}

impl Place {
    pub(crate) fn new(binary: &Path, dir: &Path, config: &str) -> Result<Self> {
        fs::create_dir_all(dir)?;
        fs::write(dir.join("palisade.toml"), config)?;
        Ok(Self { binary: binary.to_owned(), dir: dir.to_owned() })
    }

    /// Where the store is.
    pub(crate) fn state(&self) -> PathBuf {
        self.dir.join("state")
    }

    /// The command line for a verb.
    pub(crate) fn args(&self, verb: &[&str]) -> Vec<String> {
        let path = |path: PathBuf| path.display().to_string();
        let mut args = vec![path(self.binary.clone())];
        args.extend(verb.iter().map(|word| (*word).to_owned()));
        let options = [("--config", "palisade.toml"), ("--state-dir", "state"), ("--run-dir", "run")];
        args.extend(options.into_iter().flat_map(|(option, name)| [option.to_owned(), path(self.dir.join(name))]));
        args
    }

    /// Starts the daemon.
    pub(crate) fn run(&self, ns: &Netns) -> Result<Running> {
        let args = self.args(&["run"]);
        let log = fs::File::create(self.dir.join("daemon.log"))?;
        ns.within(|| Running::start(Command::new(&self.binary).args(args.iter().skip(1)).stdout(log.try_clone()?).stderr(log)))
    }

    /// A connection to the daemon.
    pub(crate) fn client(&self) -> Result<Client> {
        Client::connect(&self.dir.join("run/control.sock")).context("connecting to palisade")
    }

    /// What `palisade status` knows.
    pub(crate) fn status(&self) -> Result<Status> {
        match self.client()?.ask(&Request::Status)? {
            Reply::Status(status) => Ok(*status),
            other => bail!("status was answered with {other:?}"),
        }
    }

    /// Waits until the daemon answers.
    pub(crate) fn wait(&self, running: &mut Running) -> Result<()> {
        ready(running, || self.status().is_ok()).with_context(|| format!("see {}", self.dir.join("daemon.log").display()))
    }
}

fn ready(running: &mut Running, is: impl Fn() -> bool) -> Result<()> {
    let began = Instant::now();
    while !is() {
        running.must_live()?;
        if began.elapsed() > READY_WITHIN {
            bail!("the guard was not ready within {} s", READY_WITHIN.as_secs());
        }
        thread::sleep(Duration::from_millis(20));
    }
    Ok(())
}

/// fail2ban as it ships, but for: inotify, its nftables action for all ports of TCP and UDP (it has
/// TCP only by default; the packets counted here are UDP), one failure, and no look-ups of names.
fn fail2ban(ns: &Netns, dir: &Path, log: &Path) -> Result<Running> {
    let config = dir.join("fail2ban");
    fs::create_dir_all(&config)?;
    for part in [
        "action.d",
        "filter.d",
        "fail2ban.conf",
        "jail.conf",
        "paths-arch.conf",
        "paths-common.conf",
        "paths-debian.conf",
        "paths-opensuse.conf",
    ] {
        let shipped = Path::new("/etc/fail2ban").join(part);
        if shipped.exists() {
            symlink(shipped, config.join(part))?;
        }
    }
    fs::write(config.join("fail2ban.local"), format!("[Definition]\ndbfile = {}\n", dir.join("fail2ban.sqlite3").display()))?;
    let jail = format!(
        "[DEFAULT]\nbackend = pyinotify\nusedns = no\nbanaction = nftables-allports\nprotocol = tcp,udp\nbantime = 1h\nfindtime = 10m\nmaxretry = 1\n[sshd]\nenabled = true\nlogpath = {}\n",
        log.display()
    );
    fs::write(config.join("jail.local"), jail)?;
    let path = |name: &str| dir.join(name).display().to_string();
    let (socket, pid, messages) = (path("fail2ban.sock"), path("fail2ban.pid"), path("fail2ban.log"));
    let conf = config.display().to_string();
    let mut server = Command::new("fail2ban-server");
    server
        .args(["-f", "-c", &conf, "-s", &socket, "-p", &pid, "--logtarget", &messages, "start"])
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    let mut running = ns.within(|| Running::start(&mut server))?;
    let pong = || {
        let answer = Command::new("fail2ban-client").args(["-c", &conf, "-s", &socket, "status", "sshd"]).stderr(Stdio::null()).output();
        answer.is_ok_and(|answer| String::from_utf8_lossy(&answer.stdout).contains("File list"))
    };
    ready(&mut running, pong).with_context(|| format!("fail2ban; see {messages}"))?;
    Ok(running)
}

/// sshguard's own pipeline as Debian starts it (its nftables backend is the default there), with
/// the file in place of the journal and a threshold of one attack.
fn sshguard(ns: &Netns, dir: &Path, log: &Path) -> Result<Running> {
    let messages = fs::File::create(dir.join("sshguard.log"))?;
    let mut command = Command::new("sshguard");
    command.args(["-a", "10", "-p", "3600"]).arg(log).stdout(messages.try_clone()?).stderr(messages);
    let mut running = ns.within(|| Running::start(&mut command))?;
    ready(&mut running, || ns.ask("nft", &["list", "set", "ip", "sshguard", "attackers"]).is_ok()).context("sshguard")?;
    Ok(running)
}
