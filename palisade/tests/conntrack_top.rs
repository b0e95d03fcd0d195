//! `palisade conntrack top` and `kill` on a real connection table.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod lab;

use std::fs::{File, OpenOptions};
use std::io::{Read, Write};
use std::net::UdpSocket;
use std::process::Stdio;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{JoinHandle, sleep, spawn};
use std::time::Duration;

use lab::house::House;
use lab::service::Running;
use lab::space::{Space, enter};
use lab::{ATTACKER, BYSTANDER, Lab, VICTIM, until};
use rustix::process::{Pid, Signal, kill_process};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{Winsize, tcgetattr, tcsetwinsize};
use serde_json::Value;

/// A laboratory whose victim tracks connections.
fn tracking() -> Option<Lab> {
    let lab = Lab::new()?;
    lab.victim.sh("nft 'table inet track { chain seen { type filter hook input priority 0; ct state new counter; }; }'");
    Some(lab)
}

/// Opens so many flows to the victim's port, each from a port of its own, and keeps their sockets.
fn open(space: &Space, from: &str, to: &str, times: usize) -> Vec<UdpSocket> {
    space.within(|| {
        let one = |_| {
            let socket = UdpSocket::bind((from, 0)).unwrap();
            socket.send_to(b"x", to).unwrap();
            socket
        };
        (0..times).map(one).collect()
    })
}

/// Opens flows all the time.
struct Opener {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Opener {
    fn start(space: &Space, from: &'static str, to: &'static str) -> Self {
        let (stop, net) = (Arc::new(AtomicBool::new(false)), space.net());
        let stopped = Arc::clone(&stop);
        let thread = spawn(move || {
            enter(&net);
            while !stopped.load(Ordering::Relaxed) {
                // Whoever has no way for a moment tries the next one.
                let _ = UdpSocket::bind((from, 0)).unwrap().send_to(b"x", to);
                sleep(Duration::from_millis(10));
            }
        });
        Self { stop, thread: Some(thread) }
    }
}

impl Drop for Opener {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        let _ = self.thread.take().map(JoinHandle::join);
    }
}

fn source<'a>(told: &'a Value, addr: &str) -> &'a Value {
    told["sources"].as_array().unwrap().iter().find(|source| source["addr"] == addr).unwrap_or_else(|| panic!("no {addr} in {told}"))
}

#[test]
fn one_look_names_who_fills_the_table() {
    let Some(lab) = tracking() else { return };
    let house = House::new(&lab, "");
    open(&lab.outside, ATTACKER, &format!("{VICTIM}:9"), 60);
    open(&lab.outside, BYSTANDER, &format!("{VICTIM}:53"), 5);
    // Somebody of this host too: this test, whose sockets stay open.
    let held = open(&lab.victim, VICTIM, &format!("{ATTACKER}:7"), 20);
    let opener = Opener::start(&lab.outside, BYSTANDER, "198.51.100.1:123");

    let told = house.ask(["--json", "conntrack", "top", "--once", "--one-in", "1"]).code(0).json();
    assert_eq!(told["v"], 1);
    assert!(told["count"].as_u64().unwrap() >= 85 && told["max"].as_u64().unwrap() > 0, "{told}");
    let attacker = source(&told, ATTACKER);
    assert!(attacker["flows"].as_u64().unwrap() >= 60 && attacker["share"].as_f64().unwrap() > 0.0, "{told}");
    assert_eq!(attacker["top_dst"], "198.51.100.1:9/udp", "{told}");
    // To the victim the outside is what a container is to its host: a namespace with a process that holds it. Which of
    // them is not asked: laboratories of other tests have hosts of the same address.
    assert_eq!(attacker["process"]["comm"], "cat", "{told}");
    assert!(source(&told, BYSTANDER)["new_per_second"].as_f64().unwrap() > 0.0, "{told}");
    let own = source(&told, VICTIM);
    assert_eq!(own["process"]["pid"], std::process::id(), "{told}");
    drop(opener);

    let told = house.ask(["--json", "conntrack", "top", "--once", "--by", "destination"]).code(0).json();
    let to = told["destinations"].as_array().unwrap().iter().find(|one| one["to"] == "198.51.100.1:9/udp").unwrap();
    assert!(to["flows"].as_u64().unwrap() >= 60, "{told}");

    // No terminal, and nobody said how often: it ends after one document.
    let told = house.ask(["--json", "conntrack", "top", "--one-in", "1"]).code(0);
    assert_eq!((told.out.lines().count(), &told.json()["v"]), (1, &1.into()), "{told:?}");

    let told = house.ask(["conntrack", "top", "--by", "process", "--rows", "3", "--interval", "500ms"]).code(0);
    assert!(told.out.contains(&format!("(pid {}", std::process::id())) && told.out.contains("PROCESS"), "{told:?}");
    assert_eq!(told.out.lines().filter(|line| line.contains('\x1b')).count(), 0);
    drop(held);
}

#[test]
fn flows_are_ended_by_hand() {
    let Some(lab) = tracking() else { return };
    let house = House::new(&lab, "");
    open(&lab.outside, ATTACKER, &format!("{VICTIM}:9"), 30);
    open(&lab.outside, BYSTANDER, &format!("{VICTIM}:9"), 3);
    let told = house.ask(["--json", "conntrack", "kill", ATTACKER]).code(0).json();
    assert_eq!(told["states"], 30, "{told}");
    let told = house.ask(["--json", "conntrack", "top", "--once", "--interval", "500ms"]).code(0).json();
    assert!(told["sources"].as_array().unwrap().iter().all(|source| source["addr"] != ATTACKER), "{told}");
    assert_eq!(source(&told, BYSTANDER)["flows"], 3);
    // Nobody watches without a daemon, but how full it is can be told.
    let told = house.ask(["--json", "conntrack", "status"]).code(3);
    assert!(told.json()["count"].as_u64().unwrap() >= 3 && told.err.contains("no daemon runs"), "{told:?}");
}

#[test]
fn without_rights_it_says_so() {
    let Some(lab) = tracking() else { return };
    let mut command = lab.victim.command("setpriv");
    command.args(["--reuid=65534", "--regid=65534", "--clear-groups", "--bounding-set=-all", "--inh-caps=-all"]);
    // Where this test lies nobody else may go: the program is handed over open.
    let program = File::open(env!("CARGO_BIN_EXE_palisade")).unwrap();
    command.args(["/proc/self/fd/0", "conntrack", "top", "--once"]).stdin(Stdio::from(program));
    let output = command.output().unwrap();
    let told = String::from_utf8_lossy(&output.stderr);
    assert!(told.contains("run this as root"), "{told}");
    assert_eq!(output.status.code(), Some(3));
}

/// A terminal of this test's own with the live screen in it.
struct Terminal {
    child: Running,
    ours: File,
    theirs: File,
    shown: Arc<Mutex<Vec<u8>>>,
    before: String,
}

impl Terminal {
    fn start(house: &House<'_>, arguments: &[&str]) -> Self {
        let ours = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
        grantpt(&ours).unwrap();
        unlockpt(&ours).unwrap();
        tcsetwinsize(&ours, Winsize { ws_row: 30, ws_col: 110, ws_xpixel: 0, ws_ypixel: 0 }).unwrap();
        let name = ptsname(&ours, Vec::new()).unwrap().into_string().unwrap();
        let theirs = OpenOptions::new().read(true).write(true).open(name).unwrap();
        let before = modes(&theirs);
        let end = || Stdio::from(theirs.try_clone().unwrap());
        let mut command = house.command(arguments);
        let child = Running(command.stdin(end()).stdout(end()).stderr(end()).env("TERM", "xterm").spawn().unwrap());
        let ours = File::from(ours);
        let shown = Arc::new(Mutex::new(Vec::new()));
        let (mut reader, seen) = (ours.try_clone().unwrap(), Arc::clone(&shown));
        spawn(move || {
            let mut buffer = [0; 4096];
            // Ends when the last of the other end is closed.
            while let Ok(n @ 1..) = reader.read(&mut buffer) {
                seen.lock().unwrap().extend_from_slice(&buffer[..n]);
            }
        });
        Self { child, ours, theirs, shown, before }
    }

    fn shows(&self, text: &str) -> bool {
        String::from_utf8_lossy(&self.shown.lock().unwrap()).contains(text)
    }

    fn until_shows(&self, text: &str) {
        until(&format!("the screen shows {text}"), || self.shows(text));
    }

    fn press(&mut self, keys: &str) {
        self.ours.write_all(keys.as_bytes()).unwrap();
    }

    /// Waits for its end: the terminal must be as it was.
    fn ended(mut self) -> Option<i32> {
        let mut status = None;
        until("the screen is left", || {
            status = self.child.0.try_wait().unwrap();
            status.is_some()
        });
        until("the terminal is given back", || self.shows("\x1b[?1049l") && self.shows("\x1b[?25h"));
        assert_eq!(modes(&self.theirs), self.before, "the terminal's modes are others than before");
        status.unwrap().code()
    }
}

/// How a terminal is set.
fn modes(terminal: &File) -> String {
    let modes = tcgetattr(terminal).unwrap();
    format!("{:?} {:?} {:?} {:?}", modes.input_modes, modes.output_modes, modes.control_modes, modes.local_modes)
}

#[test]
fn the_live_screen_is_used_and_left() {
    let Some(lab) = tracking() else { return };
    let house = House::new(&lab, "");
    open(&lab.outside, ATTACKER, &format!("{VICTIM}:9"), 40);
    open(&lab.outside, BYSTANDER, &format!("{VICTIM}:9"), 3);
    let mut terminal = Terminal::start(&house, &["conntrack", "top", "--interval", "500ms"]);
    terminal.until_shows(ATTACKER);
    terminal.until_shows("FLOWSv");
    assert_ne!(modes(&terminal.theirs), terminal.before, "the terminal was never taken");
    terminal.press(">");
    terminal.until_shows("NEW/sv");
    terminal.press("d");
    terminal.until_shows("198.51.100.1:9/udp");
    terminal.press("s/100.66\rx");
    terminal.until_shows("End all 40 flows of 198.51.100.66 now?");
    terminal.press("y");
    terminal.until_shows("40 connection states of 198.51.100.66");
    terminal.press("q");
    assert_eq!(terminal.ended(), Some(0));
}

#[test]
fn a_signal_leaves_the_terminal_as_it_was() {
    let Some(lab) = tracking() else { return };
    let house = House::new(&lab, "");
    open(&lab.outside, ATTACKER, &format!("{VICTIM}:9"), 4);
    for signal in [Signal::TERM, Signal::INT, Signal::HUP] {
        let terminal = Terminal::start(&house, &["conntrack", "top"]);
        terminal.until_shows(ATTACKER);
        let pid = Pid::from_raw(i32::try_from(terminal.child.0.id()).unwrap()).unwrap();
        kill_process(pid, signal).unwrap();
        assert_eq!(terminal.ended(), Some(0));
    }
}
