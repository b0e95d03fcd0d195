//! Programs that know an attacker themselves: the command line, and blocklistd's socket.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod lab;

use std::fs;
use std::io::IoSlice;
use std::mem::MaybeUninit;
use std::net::TcpStream;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixDatagram;
use std::path::Path;

use lab::house::House;
use lab::traffic::{listen, tcp};
use lab::{ATTACKER, BYSTANDER, Lab, until};
use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};

const TO: &str = "198.51.100.1:7000";

const JAIL: &str = "[jail.own]\nreports = true\nports = [7000]\nmax_retry = 3\n";

/// What libblocklist sends: 4 words, a socket address of 128 bytes (here none), text.
fn tell(socket: &Path, kind: u32, connection: &TcpStream, text: &str) {
    send(socket, &message(kind, text.as_bytes()), &[connection.as_fd()]);
}

fn message(kind: u32, text: &[u8]) -> Vec<u8> {
    let mut bytes = vec![0u8; 144];
    bytes.extend_from_slice(text);
    let length = u32::try_from(bytes.len()).unwrap();
    for (at, word) in [length, 1, kind, 0].into_iter().enumerate() {
        bytes[at * 4..at * 4 + 4].copy_from_slice(&word.to_ne_bytes());
    }
    bytes
}

fn send(socket: &Path, bytes: &[u8], passed: &[BorrowedFd<'_>]) {
    let to = UnixDatagram::unbound().unwrap();
    to.connect(socket).unwrap();
    let mut space = [MaybeUninit::uninit(); 1280];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if !passed.is_empty() {
        assert!(control.push(SendAncillaryMessage::ScmRights(passed)));
    }
    sendmsg(&to, &[IoSlice::new(bytes)], &mut control, SendFlags::empty()).unwrap();
}

#[test]
fn a_passed_socket_tells_who_is_banned() {
    let Some(lab) = Lab::new() else { return };
    let socket = lab.path("blocklistd.sock");
    let config = format!("{JAIL}[blocklistd]\nsocket = \"{}\"\n", socket.display());
    let mut house = House::new(&lab, &config);
    let listener = listen(&lab.victim, TO);
    house.start();
    until("the socket is there", || socket.exists());
    let (client, other) = (tcp(&lab.outside, ATTACKER, TO).unwrap(), tcp(&lab.outside, BYSTANDER, TO).unwrap());
    let (served, _) = listener.accept().unwrap();
    let (served_other, _) = listener.accept().unwrap();
    // What the attacker wrote names somebody else: nobody reads it.
    for _ in 0..2 {
        tell(&socket, 1, &served, &format!("{BYSTANDER} failed"));
    }
    until("two failures count", || house.score(ATTACKER) == 20);
    // A login forgives; then a wrong user name is half a failure, and abuse is enough.
    tell(&socket, 2, &served, "ssh");
    until("they are forgiven", || house.score(ATTACKER) == 0);
    tell(&socket, 4, &served, "ssh");
    until("half a failure counts", || house.score(ATTACKER) == 5);
    assert!(!house.banned(ATTACKER));
    tell(&socket, 3, &served, "ssh");
    house.until_banned(ATTACKER);
    assert!(!house.banned(BYSTANDER) && tcp(&lab.outside, ATTACKER, TO).is_err() && tcp(&lab.outside, BYSTANDER, TO).is_ok());
    let why = house.expect(0, &format!("--json why {ATTACKER}")).json();
    assert!(why["logins"][0]["jail"] == "own" && why["lines"].as_array().is_some_and(|lines| !lines.is_empty()), "{why}");
    drop((client, other, served_other));
    house.stop();
    assert!(!socket.exists(), "the socket outlives the daemon");
}

#[test]
fn who_may_not_report_is_not_believed() {
    let Some(lab) = Lab::new() else { return };
    let socket = lab.path("blocklistd.sock");
    let config = format!("{JAIL}[blocklistd]\nsocket = \"{}\"\nusers = [\"daemon\"]\n", socket.display());
    let mut house = House::new(&lab, &config);
    let listener = listen(&lab.victim, TO);
    house.start();
    until("the socket is there", || socket.exists());
    let _client = tcp(&lab.outside, ATTACKER, TO).unwrap();
    let (served, _) = listener.accept().unwrap();
    tell(&socket, 3, &served, "ssh");
    let told = || house.status()["problems"].as_array().unwrap().iter().any(|p| p["about"] == "blocklistd");
    until("it is told", told);
    assert!(!house.banned(ATTACKER));
    // Somebody who may: the problem stays until a reload, the report counts.
    house.configure(&config.replace("daemon", "root"));
    house.reload();
    until("it is well again", || !told() && socket.exists());
    tell(&socket, 3, &served, "ssh");
    house.until_banned(ATTACKER);
}

/// Whatever a program sends that has lost its mind: nothing of it stays open in the daemon, nobody is banned for it,
/// and an honest report counts as before.
#[test]
fn hostile_messages_leave_nothing_behind() {
    let Some(lab) = Lab::new() else { return };
    let socket = lab.path("blocklistd.sock");
    let mut house = House::new(&lab, &format!("{JAIL}[blocklistd]\nsocket = \"{}\"\n", socket.display()));
    let listener = listen(&lab.victim, TO);
    house.start();
    until("the socket is there", || socket.exists());
    assert_eq!(fs::metadata(&socket).unwrap().permissions().mode() & 0o777, 0o600, "only root is believed, so only root may write");
    let _client = tcp(&lab.outside, ATTACKER, TO).unwrap();
    let (served, _) = listener.accept().unwrap();
    let open = || fs::read_dir(format!("/proc/{}/fd", house.daemon().0.id())).unwrap().count();
    let heard = || house.lines();
    tell(&socket, 1, &served, "ssh");
    until("an honest report counts", || house.score(ATTACKER) == 10);
    let (before, null) = (open(), fs::File::open("/dev/null").unwrap());
    let good = message(3, b"ssh");
    let long = message(3, &vec![b'x'; 100_000]);
    let mut sent = heard();
    let mut hostile = |bytes: &[u8], passed: &[BorrowedFd<'_>]| {
        send(&socket, bytes, passed);
        sent += 1;
    };
    for round in 0u32..40 {
        hostile(&good, &[]);
        hostile(&good, &vec![served.as_fd(); 253]);
        hostile(&good, &[served.as_fd(), null.as_fd()]);
        hostile(&good, &[null.as_fd()]);
        hostile(&good[..usize::try_from(round).unwrap() * 3], &[served.as_fd()]);
        hostile(&long, &[served.as_fd()]);
        hostile(&message(round + 5, b""), &[served.as_fd()]);
        let garbage: Vec<u8> = (0..300u32).map(|n| (n * (round + 7) * 37).to_le_bytes()[1]).collect();
        hostile(&garbage, &[served.as_fd()]);
    }
    until("all of it was heard", || heard() >= sent);
    until("nothing of it is open", || open() <= before);
    assert!(!house.banned(ATTACKER) && house.score(ATTACKER) == 10);
    // A flood of honest ones is heard to its end.
    for _ in 0..2000 {
        tell(&socket, 2, &served, "ssh");
    }
    until("a flood was heard", || heard() >= sent + 2000);
    tell(&socket, 3, &served, "ssh");
    house.until_banned(ATTACKER);
    until("nothing of the flood is open", || open() <= before);
}

#[test]
fn the_command_line_reports_too() {
    let Some(lab) = Lab::new() else { return };
    let mut house = House::new(&lab, JAIL);
    house.expect(3, &format!("report {ATTACKER} --jail own"));
    house.start();
    assert!(house.expect(0, &format!("report {ATTACKER} --jail own")).out.contains("counted: 10 of 30"));
    let answer = house.expect(0, &format!("--json report {ATTACKER} {BYSTANDER} --jail own --score 2 --user bob --reason mine")).json();
    assert_eq!(answer["results"][0]["score"], 10, "weak signs beside a full failure are part of it: {answer}");
    assert_eq!(answer["results"][1]["score"], 2, "{answer}");
    assert!(house.expect(0, &format!("report {ATTACKER} --jail own --abuse")).out.contains("banned"));
    assert!(house.banned(ATTACKER) && house.kernel().contains_key(&format!("{ATTACKER}/32")));
    assert!(house.expect(5, "report 198.51.100.1 --jail own").out.contains("protected by"));
    assert!(house.expect(2, &format!("report {BYSTANDER} --jail nobody")).err.contains("no jail `nobody`"));
    house.expect(2, "report not-an-address --jail own");
    house.expect(2, &format!("report {BYSTANDER} --jail own --abuse --login"));
    assert!(house.expect(0, &format!("why {ATTACKER}")).out.contains("reported"));
}
