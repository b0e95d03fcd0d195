//! A folder with the stand-ins in it, and a test's hand in the kernel behind them.

use std::fs;
use std::io::Write;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::Path;
use std::process::{Command, Stdio};

use palisade_core::bans::wall::{Entry, Frame, Key, Ports, Step};
use palisade_core::config::BackendSection;
use palisade_core::time::{Span, Stamp, Until};
use palisade_os::clock;

/// The programs that are linked into a folder.
const PROGRAMS: [&str; 5] = ["pfctl", "ipfw", "tcpdrop", "sysctl", "world"];

/// One kernel of the mind and the programs that speak to it.
pub(crate) struct World {
    folder: tempfile::TempDir,
}

/// One packet.
#[derive(Clone, Copy)]
pub(crate) struct Packet<'a> {
    pub(crate) direction: &'a str,
    pub(crate) protocol: &'a str,
    pub(crate) from: (&'a str, u16),
    pub(crate) to: (&'a str, u16),
    /// It opens a TCP connection.
    pub(crate) syn: bool,
}

impl<'a> Packet<'a> {
    /// The first packet of a TCP connection to us.
    pub(crate) const fn syn(from: (&'a str, u16), to: (&'a str, u16)) -> Self {
        Self { direction: "in", protocol: "tcp", from, to, syn: true }
    }

    /// A later packet of it.
    pub(crate) const fn later(self) -> Self {
        Self { syn: false, ..self }
    }

    /// The answer to it.
    pub(crate) const fn answer(self) -> Self {
        let direction = if matches!(self.direction.as_bytes(), b"in") { "out" } else { "in" };
        Self { direction, from: self.to, to: self.from, syn: false, ..self }
    }

    /// The same, going out.
    pub(crate) const fn out(self) -> Self {
        Self { direction: "out", ..self }
    }
}

impl World {
    pub(crate) fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let programs = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/stand-ins");
        for program in PROGRAMS {
            symlink(programs.join(program), folder.path().join(program)).unwrap();
        }
        Self { folder }
    }

    /// Takes a program away.
    pub(crate) fn without(&self, program: &str) {
        fs::remove_file(self.folder.path().join(program)).unwrap();
    }

    /// Has a program fail where it is given this argument.
    pub(crate) fn refuse(&self, program: &str, argument: &str) {
        let (path, real) = (self.folder.path().join(program), self.folder.path().join(format!("{program}-real")));
        fs::rename(&path, &real).unwrap();
        let script = format!(
            "#!/bin/sh\nfor word; do [ \"$word\" != {argument} ] || {{ echo 'Cannot allocate memory' >&2; exit 1; }}; done\nexec {} \"$@\"\n",
            real.display()
        );
        fs::write(&path, script).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    }

    /// The defaults, with the programs looked for here.
    pub(crate) fn section(&self) -> BackendSection {
        BackendSection { path: vec![self.folder.path().to_str().unwrap().to_owned()], ..BackendSection::default() }
    }

    fn spawn(&self, program: &str, arguments: &[&str], input: &str) -> (bool, String) {
        let mut command = Command::new(self.folder.path().join(program));
        command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
        let done = child.wait_with_output().unwrap();
        let complaint = String::from_utf8_lossy(&done.stderr).into_owned();
        assert!(!complaint.contains("Traceback"), "{complaint}");
        (done.status.success(), String::from_utf8_lossy(&done.stdout).into_owned())
    }

    /// Runs a program as the administrator or a stranger would; what it printed.
    pub(crate) fn run(&self, program: &str, arguments: &[&str]) -> String {
        self.feed(program, arguments, "")
    }

    /// As [`Self::run`], with this on its standard input.
    pub(crate) fn feed(&self, program: &str, arguments: &[&str], input: &str) -> String {
        let (done, printed) = self.spawn(program, arguments, input);
        assert!(done, "{program} {arguments:?} failed");
        printed
    }

    /// Sets a value of the state: `pf.enabled`, `false`.
    pub(crate) fn set(&self, path: &str, value: &str) {
        self.run("world", &["set", path, value]);
    }

    /// A value of the state as JSON.
    pub(crate) fn get(&self, path: &str) -> serde_json::Value {
        serde_json::from_str(&self.run("world", &["get", path])).unwrap()
    }

    /// Whether this firewall lets a packet pass.
    pub(crate) fn passes(&self, firewall: &str, packet: Packet<'_>) -> bool {
        let (sport, dport) = (packet.from.1.to_string(), packet.to.1.to_string());
        let mut arguments = vec!["packet", firewall, packet.direction, packet.protocol, packet.from.0, &sport, packet.to.0, &dport];
        arguments.extend(packet.syn.then_some("syn"));
        self.spawn("world", &arguments, "").0
    }
}

pub(crate) fn now() -> Stamp {
    clock::now().stamp
}

pub(crate) fn key(prefix: &str) -> Key {
    Key::all(prefix.parse().unwrap())
}

pub(crate) fn port_key(prefix: &str, ports: &[u16]) -> Key {
    Key { ports: Ports::only(ports.iter().copied()).unwrap(), ..key(prefix) }
}

pub(crate) fn hour() -> Until {
    Until::At(now().plus(Span::secs(3600)))
}

pub(crate) fn block(key: &Key) -> Step {
    Step::Block(Entry { key: key.clone(), until: hour() })
}

pub(crate) fn frame(allow: &[&str]) -> Frame {
    Frame { allow: allow.iter().map(|text| text.parse().unwrap()).collect(), ..Frame::default() }
}
