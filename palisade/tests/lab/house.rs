//! The program under test: its daemon and its verbs, with a config and folders of their own.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs;
use std::io::{BufRead, BufReader, ErrorKind};
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::thread::spawn;
use std::time::{Duration, Instant};

use palisade_core::time::Stamp;
use palisade_os::clock;
use rustix::process::Signal;
use serde_json::Value;

use super::service::Running;
use super::space::Space;
use super::{Lab, SOON, append, until};

/// The jails that are there without being written.
const BUILT_IN: [&str; 5] = ["sshd", "dropbear", "web-auth", "web-probes", "web-cms"];

/// What a verb answered.
#[derive(Debug)]
pub struct Answer {
    /// Its exit code.
    pub code: i32,
    /// Standard output.
    pub out: String,
    /// Standard error.
    pub err: String,
}

impl Answer {
    /// The JSON document it printed.
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.out).unwrap_or_else(|error| panic!("no JSON ({error}): {self:?}"))
    }

    /// Itself, when it ended with this exit code; else the test fails.
    #[track_caller]
    pub fn code(self, code: i32) -> Self {
        assert_eq!(self.code, code, "{self:?}");
        self
    }
}

/// One ban as nft(8) tells it: which prefix, with what left of how long, and what it dropped.
#[derive(Clone, Debug, PartialEq)]
pub struct Element {
    /// Seconds left; `None` for ever.
    pub left: Option<u64>,
    /// Packets dropped.
    pub packets: u64,
    /// The set that holds it.
    pub set: String,
}

/// A palisade on one host of a laboratory.
pub struct House<'a> {
    lab: &'a Lab,
    space: &'a Space,
    /// The config file.
    pub config: PathBuf,
    /// The state folder.
    pub state: PathBuf,
    /// The run folder.
    pub run: PathBuf,
    /// Variables of the daemon and the verbs.
    pub env: Vec<(String, String)>,
    daemon: Option<Running>,
}

impl<'a> House<'a> {
    /// On the victim, not running yet. Jails that `config` does not write are off: the machine's own
    /// logs are none of the victim's.
    pub fn new(lab: &'a Lab, config: &str) -> Self {
        let state = lab.path("state");
        Self { lab, space: &lab.victim, config: lab.path("palisade.toml"), state, run: lab.path("run"), env: Vec::new(), daemon: None }
            .configured(config)
    }

    fn configured(self, config: &str) -> Self {
        self.configure(config);
        self
    }

    /// Writes another config. The daemon reads it when told to.
    pub fn configure(&self, config: &str) {
        let off = BUILT_IN.iter().filter(|name| !config.contains(&format!("[jail.{name}]")));
        let off: String = off.map(|name| format!("[jail.{name}]\nenabled = false\n")).collect();
        fs::write(&self.config, format!("{config}\n{off}")).unwrap();
    }

    /// The program with this house's folders and these arguments, to be run in the host.
    pub fn command<A: AsRef<OsStr>>(&self, arguments: impl IntoIterator<Item = A>) -> Command {
        // The variables are for the program alone, not for what enters the namespaces before it.
        let mut command = self.space.command("env");
        command.args(self.env.iter().map(|(name, value)| format!("{name}={value}"))).arg(env!("CARGO_BIN_EXE_palisade"));
        self.dress(&mut command);
        command.args(arguments);
        command
    }

    /// Gives a command the folders of this house.
    pub fn dress(&self, command: &mut Command) {
        command.arg("--config").arg(&self.config).arg("--state-dir").arg(&self.state).arg("--run-dir").arg(&self.run);
        command.env_remove("SSH_CONNECTION").env("RUST_BACKTRACE", "1");
    }

    /// Starts the daemon and waits until it says that it is ready.
    pub fn start(&mut self) {
        self.start_with(&["run"]);
    }

    /// Starts it with other arguments, and waits.
    pub fn start_with(&mut self, arguments: &[&str]) {
        let (daemon, ready) = self.launch(arguments);
        self.wait_for(daemon, &ready);
    }

    /// Waits until a launched daemon says that it is ready, and keeps it.
    pub fn wait_for(&mut self, daemon: Running, ready: &UnixDatagram) {
        self.daemon = Some(daemon);
        let mut text = [0; 512];
        let start = Instant::now();
        loop {
            match ready.recv(&mut text) {
                Ok(n) if String::from_utf8_lossy(&text[..n]).contains("READY=1") => return,
                Ok(_) => {}
                // A stopped and started process group (SIGCONT) interrupts the wait.
                Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut | ErrorKind::Interrupted) => {
                    let status = self.daemon.as_mut().unwrap().0.try_wait().unwrap();
                    assert!(status.is_none() && start.elapsed() < SOON, "the daemon is not ready: {status:?}\n{}", self.log());
                }
                Err(error) => panic!("{error}"),
            }
        }
    }

    /// Starts the daemon without waiting: the process, and where it will say that it is ready.
    pub fn launch(&self, arguments: &[&str]) -> (Running, UnixDatagram) {
        let socket = self.lab.path("notify");
        let _ = fs::remove_file(&socket);
        let ready = UnixDatagram::bind(&socket).unwrap();
        ready.set_read_timeout(Some(Duration::from_millis(20))).unwrap();
        let log = fs::OpenOptions::new().append(true).create(true).open(self.log_file()).unwrap();
        let mut command = self.command(arguments);
        command.env("NOTIFY_SOCKET", &socket).stdout(Stdio::null()).stderr(log);
        (Running(command.spawn().unwrap()), ready)
    }

    /// What the daemon wrote to standard error.
    pub fn log(&self) -> String {
        fs::read_to_string(self.log_file()).unwrap_or_default()
    }

    fn log_file(&self) -> PathBuf {
        self.lab.path("daemon.log")
    }

    /// The daemon's process.
    pub fn daemon(&self) -> &Running {
        self.daemon.as_ref().expect("the daemon was started")
    }

    /// Tells the daemon to stop, and waits until it has: with exit code 0.
    pub fn stop(&mut self) {
        let mut daemon = self.daemon.take().expect("the daemon was started");
        daemon.signal(Signal::TERM);
        let mut status = None;
        until("the daemon stops", || {
            status = daemon.0.try_wait().unwrap();
            status.is_some()
        });
        assert!(status.is_some_and(|status| status.success()), "{status:?}\n{}", self.log());
    }

    /// Kills the daemon with SIGKILL.
    pub fn kill(&mut self) {
        let mut daemon = self.daemon.take().expect("the daemon was started");
        daemon.0.kill().unwrap();
        daemon.0.wait().unwrap();
    }

    /// Has the config read anew.
    pub fn reload(&self) {
        self.daemon().signal(Signal::HUP);
    }

    /// Runs a verb.
    pub fn ask<A: AsRef<OsStr>>(&self, arguments: impl IntoIterator<Item = A>) -> Answer {
        let mut command = self.command(arguments);
        let start = Instant::now();
        let output = command.output().unwrap();
        assert!(start.elapsed() < SOON, "no verb takes {:?}: {command:?}", start.elapsed());
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let code = output.status.code().unwrap_or(-1);
        Answer { code, out: text(&output.stdout), err: text(&output.stderr) }
    }

    /// Runs a verb written as words, which must end with exit code 0, with `--json`.
    #[track_caller]
    pub fn json(&self, words: &str) -> Value {
        self.ask(["--json"].into_iter().chain(words.split_whitespace())).code(0).json()
    }

    /// Runs a verb written as words, which must end with this exit code.
    #[track_caller]
    pub fn expect(&self, code: i32, words: &str) -> Answer {
        self.ask(words.split_whitespace()).code(code)
    }

    /// Whether an address is banned.
    pub fn banned(&self, addr: &str) -> bool {
        let answer = self.ask(["check", addr]);
        assert!(answer.code == 0 || answer.code == 1, "{answer:?}");
        answer.code == 0
    }

    /// Waits until an address is banned.
    #[track_caller]
    pub fn until_banned(&self, addr: &str) -> Duration {
        until(&format!("{addr} is banned"), || self.banned(addr))
    }

    /// How much is counted against an address, in all jails.
    pub fn score(&self, addr: &str) -> u64 {
        let answer = self.ask(["--json", "why", addr]);
        let windows = answer.json()["windows"].as_array().cloned().unwrap_or_default();
        windows.iter().map(|window| window["score"].as_u64().unwrap()).sum()
    }

    /// `status --json`, whatever its exit code.
    pub fn status(&self) -> Value {
        self.ask(["--json", "status"]).json()
    }

    /// Lines read since start.
    pub fn lines(&self) -> u64 {
        self.status()["lines"].as_u64().unwrap()
    }

    /// The kept events of this name.
    pub fn events(&self, name: &str) -> Vec<Value> {
        let all = self.ask(["--json", "events"]).code(0).out;
        let all = all.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
        all.filter(|event| event["event"] == name).collect()
    }

    /// Follows the events from now on, also those that come before the daemon is asked for them.
    pub fn follow(&self) -> Follower {
        self.follow_since(clock::now().stamp)
    }

    /// Follows the events, those from this moment on first.
    pub fn follow_since(&self, since: Stamp) -> Follower {
        let since = since.to_string();
        let mut child = Running(self.command(["--json", "events", "-f", "--since", &since]).stdout(Stdio::piped()).spawn().unwrap());
        let lines = BufReader::new(child.0.stdout.take().unwrap()).lines();
        let (sender, events) = channel();
        spawn(move || {
            for line in lines.map_while(Result::ok) {
                let event = serde_json::from_str(&line).unwrap_or_else(|error| panic!("no JSON ({error}): {line}"));
                if sender.send((Instant::now(), event)).is_err() {
                    return;
                }
            }
        });
        Follower { child, events }
    }

    /// `list`, as prefix and end.
    pub fn list(&self) -> BTreeMap<String, Value> {
        let bans = self.json("list")["bans"].as_array().unwrap().clone();
        bans.into_iter().map(|ban| (ban["prefix"].as_str().unwrap().to_owned(), ban["until"].clone())).collect()
    }

    /// What stands in the kernel, as nft(8) tells, from our table alone.
    pub fn kernel(&self) -> BTreeMap<String, Element> {
        kernel(self.space)
    }
}

/// Who follows the events.
pub struct Follower {
    child: Running,
    events: Receiver<(Instant, Value)>,
}

impl Follower {
    /// The next event of this name and when it came; those before it are passed over.
    pub fn next(&self, name: &str) -> (Instant, Value) {
        let start = Instant::now();
        while let Some(left) = SOON.checked_sub(start.elapsed()) {
            match self.events.recv_timeout(left) {
                Ok((at, event)) if event["event"] == name => return (at, event),
                Ok(_) => {}
                Err(_) => break,
            }
        }
        panic!("waited {SOON:?} in vain for the event {name}");
    }
}

impl Drop for House<'_> {
    fn drop(&mut self) {
        self.daemon = None;
        if std::thread::panicking() {
            let log = self.log();
            let tail: Vec<&str> = log.lines().rev().filter(|line| !line.contains(" ban killed=")).take(30).collect();
            eprintln!("the daemon's last words:\n{}", tail.into_iter().rev().collect::<Vec<_>>().join("\n"));
        }
    }
}

/// The bans that stand in a host's kernel, as nft(8) tells.
pub fn kernel(space: &Space) -> BTreeMap<String, Element> {
    let output = space.try_sh("nft -j list table inet palisade");
    if !output.status.success() {
        return BTreeMap::new();
    }
    let all: Value = serde_json::from_slice(&output.stdout).unwrap();
    let sets = all["nftables"].as_array().unwrap().iter().filter_map(|object| object.get("set"));
    let mut bans = BTreeMap::new();
    for set in sets {
        let name = set["name"].as_str().unwrap();
        let Some(rest) = name.strip_prefix("ban").or_else(|| name.strip_prefix("forced")) else { continue };
        let len: String = rest.split_once('_').unwrap().1.chars().take_while(char::is_ascii_digit).collect();
        for element in set["elem"].as_array().into_iter().flatten() {
            let inner = element.get("elem").unwrap_or(element);
            let addr = inner.get("val").unwrap_or(inner).as_str().unwrap();
            let packets = inner["counter"]["packets"].as_u64().unwrap_or(0);
            bans.insert(format!("{addr}/{len}"), Element { left: inner["expires"].as_u64(), packets, set: name.to_owned() });
        }
    }
    bans
}

/// A log line as rsyslog writes what sshd says about a wrong password.
pub fn failure(addr: &str) -> String {
    // Now: what was written while the daemon was away counts by the time in it.
    let now = jiff::Zoned::now().strftime("%b %e %H:%M:%S");
    format!("{now} victim sshd[77]: Failed password for root from {addr} port 50022 ssh2\n")
}

/// A config with one jail that reads sshd's lines from `log`, and more lines of it.
pub fn sshd_jail(log: &Path, more: &str) -> String {
    format!("[jail.sshd]\nfiles = [\"{}\"]\n{more}\n", log.display())
}

/// Writes so many failures.
pub fn fail(log: &Path, addr: &str, times: usize) {
    append(log, failure(addr).repeat(times));
}
