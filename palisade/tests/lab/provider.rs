//! A tunnel provider that enforces "more than 4 connects in 60 s: refused 5 minutes; twice in 24 h: a week", in a time
//! that runs faster, and a client program that logs in there and makes a real tun device.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::thread::spawn;
use std::time::{Duration, Instant};

use super::space::Space;
use super::traffic::listen;
use super::{Lab, program};

/// What became of a connect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It was let in.
    Taken,
    /// It came while refused, and made that last longer.
    Refused,
    /// It was one too many.
    Breach,
    /// It was the breach that locked out.
    Lockout,
}

/// One connect as the provider saw it.
#[derive(Clone, Copy, Debug)]
pub struct Attempt {
    /// When, in the provider's own seconds.
    pub at: f64,
    /// What became of it.
    pub verdict: Verdict,
}

/// The provider's rule, in his own seconds. Where his words leave it open he is as strict as can be.
#[derive(Debug, Default)]
struct Rule {
    log: Vec<Attempt>,
    refuses_until: f64,
    locked: bool,
}

impl Rule {
    fn connect(&mut self, at: f64) -> Verdict {
        let within = |past: f64, within: f64| past <= at && past > at - within;
        let breach = |attempt: &&Attempt| matches!(attempt.verdict, Verdict::Breach | Verdict::Lockout);
        let refused = at <= self.refuses_until;
        let connects = 1 + self.log.iter().filter(|attempt| within(attempt.at, 60.0)).count();
        let breaches = 1 + self.log.iter().filter(breach).filter(|attempt| within(attempt.at, 86_400.0)).count();
        let verdict = match (refused, connects > 4, breaches >= 2) {
            (true, _, _) => Verdict::Refused,
            (false, false, _) => Verdict::Taken,
            (false, true, false) => Verdict::Breach,
            (false, true, true) => Verdict::Lockout,
        };
        self.locked |= verdict == Verdict::Lockout;
        let lasts = if self.locked { 604_800.0 } else { 300.0 };
        if verdict != Verdict::Taken {
            self.refuses_until = self.refuses_until.max(at + lasts);
        }
        self.log.push(Attempt { at, verdict });
        verdict
    }
}

/// A provider at work, until the test ends.
pub struct Provider {
    rule: Arc<Mutex<Rule>>,
    began: Instant,
    /// So many of his seconds pass in one of ours.
    scale: f64,
    at: String,
}

impl Provider {
    /// Listens in a space: `198.51.100.66:3874`.
    pub fn start(space: &Space, at: &str, scale: f64) -> Self {
        let (rule, began, listener) = (Arc::new(Mutex::new(Rule::default())), Instant::now(), listen(space, at));
        let theirs = Arc::clone(&rule);
        spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                // The connect counts, whatever is said afterwards.
                let verdict = theirs.lock().unwrap().connect(began.elapsed().as_secs_f64() * scale);
                spawn(move || answer(stream, verdict));
            }
        });
        Self { rule, began, scale, at: at.to_owned() }
    }

    /// All connects so far.
    pub fn log(&self) -> Vec<Attempt> {
        self.rule.lock().unwrap().log.clone()
    }

    /// How many there were of that kind.
    pub fn count(&self, verdict: Verdict) -> usize {
        self.log().iter().filter(|attempt| attempt.verdict == verdict).count()
    }

    /// How long, in our time, until he lets somebody in again.
    pub fn refuses_for(&self) -> Duration {
        let now = self.began.elapsed().as_secs_f64() * self.scale;
        let left = (self.rule.lock().unwrap().refuses_until - now) / self.scale;
        Duration::from_secs_f64(left.max(0.0))
    }

    /// Whether he locked somebody out.
    pub fn locked(&self) -> bool {
        self.rule.lock().unwrap().locked
    }

    /// A span of his, written for a config in our time: `ours(60.0)` is `600ms` at a scale of 100.
    pub fn ours(&self, seconds: f64) -> String {
        format!("{}ms", (seconds * 1000.0 / self.scale).ceil())
    }
}

fn answer(stream: TcpStream, verdict: Verdict) {
    let _ = stream.set_read_timeout(Some(Duration::from_secs(5)));
    let mut line = String::new();
    let mut reader = BufReader::new(stream);
    // Who says nothing has connected all the same.
    let _ = reader.read_line(&mut line);
    let text = if verdict == Verdict::Taken { "200 welcome\n" } else { "500 Login failed: too many connects\n" };
    let _ = reader.into_inner().write_all(text.as_bytes());
}

/// A client of one tunnel: a program, its config and its pidfile.
pub struct Client {
    /// The program.
    pub program: PathBuf,
    /// Its config.
    pub config: PathBuf,
    /// Where it writes its process id.
    pub pidfile: PathBuf,
    /// The interface that it makes.
    pub interface: String,
}

impl Client {
    /// A client of the provider, whose interface comes `delay` after `start` has returned.
    pub fn new(lab: &Lab, provider: &Provider, interface: &str, address: &str, delay: Duration) -> Self {
        let (path, config, pidfile) = (lab.path("client"), lab.path(&format!("{interface}.json")), lab.path(&format!("{interface}.pid")));
        if !path.exists() {
            // Written under another name: no child of another thread may have it open for writing when it is run.
            let text = include_str!("client.py").replace("@PYTHON@", &program("python3").display().to_string());
            fs::write(lab.path("client.new"), text).unwrap();
            fs::set_permissions(lab.path("client.new"), fs::Permissions::from_mode(0o755)).unwrap();
            lab.outside.sh(&format!("cp {0}.new {0}", path.display()));
        }
        let (host, port) = provider.at.rsplit_once(':').unwrap();
        let text = serde_json::json!({"host": host, "port": port, "interface": interface, "address": address, "pidfile": pidfile,
            "delay": delay.as_secs_f64()});
        fs::write(&config, text.to_string()).unwrap();
        Self { program: path, config, pidfile, interface: interface.to_owned() }
    }

    /// `start` and `stop` for a config: `["/.../client", "start", "/.../sixxs0.json"]`.
    pub fn call(&self, word: &str) -> String {
        format!("{:?}", [self.program.to_str().unwrap(), word, self.config.to_str().unwrap()])
    }

    /// Its process, if it wrote one down and that lives.
    pub fn pid(&self) -> Option<u32> {
        let pid: u32 = fs::read_to_string(&self.pidfile).ok()?.trim().parse().ok()?;
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        (!stat.contains(") Z ")).then_some(pid)
    }

    /// Kills it as a crash would, and its interface goes with it. Whether it ran.
    pub fn crash(&self) -> bool {
        let pid = self.pid().and_then(|pid| rustix::process::Pid::from_raw(i32::try_from(pid).ok()?));
        pid.is_some_and(|pid| rustix::process::kill_process(pid, rustix::process::Signal::KILL).is_ok())
    }
}

impl Drop for Client {
    /// Clients outlive the daemon; not the test.
    fn drop(&mut self) {
        self.crash();
    }
}
