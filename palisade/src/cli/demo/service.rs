//! The victim's service: it echoes lines, refuses every password, and logs that as sshd does.

use std::fs::{File, OpenOptions};
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{Ipv6Addr, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use palisade_core::net::Addr;
use palisade_os::clock;

use super::lab::PORT;

/// The longest line it takes, in bytes.
const LINE: u64 = 256;

/// What the service logged.
pub(super) struct Line {
    pub(super) text: String,
    /// Just before it was written.
    pub(super) written: Instant,
}

/// A connection that ended.
struct End {
    peer: SocketAddr,
    at: Instant,
    /// Not by its peer, but by an error of its socket.
    broken: bool,
}

/// The running service. Its threads end with the process.
pub(super) struct Service {
    lines: Receiver<Line>,
    ends: Receiver<End>,
}

/// What each connection's thread has.
#[derive(Clone)]
struct Desk {
    log: PathBuf,
    lines: Sender<Line>,
    ends: Sender<End>,
}

/// Where the log is.
pub(super) fn log_in(dir: &Path) -> PathBuf {
    dir.join("auth.log")
}

impl Service {
    /// Starts it in the network namespace of the calling thread.
    pub(super) fn start(dir: &Path) -> Result<Self> {
        let listener = TcpListener::bind((Ipv6Addr::UNSPECIFIED, PORT)).context("the victim's service cannot listen")?;
        let (tell_line, lines) = channel();
        let (tell_end, ends) = channel();
        let desk = Desk { log: log_in(dir), lines: tell_line, ends: tell_end };
        thread::Builder::new().name("service".to_owned()).spawn(move || {
            for stream in listener.incoming().flatten() {
                let desk = desk.clone();
                thread::spawn(move || desk.serve(&stream));
            }
        })?;
        Ok(Self { lines, ends })
    }

    /// The next line of its log.
    pub(super) fn line(&self, within: Duration) -> Option<Line> {
        self.lines.recv_timeout(within).ok()
    }

    /// When the victim's kernel broke the connection from this address.
    pub(super) fn end_of(&self, peer: SocketAddr, within: Duration) -> Option<Instant> {
        let until = Instant::now() + within;
        loop {
            let end = self.ends.recv_timeout(until.saturating_duration_since(Instant::now())).ok()?;
            if end.peer == peer && end.broken {
                return Some(end.at);
            }
        }
    }
}

impl Desk {
    fn serve(&self, stream: &TcpStream) {
        let Ok(peer) = stream.peer_addr() else { return };
        // The listener takes both families; an IPv4 peer is to be called by its own address.
        let peer = SocketAddr::new(Addr::from(peer.ip()).ip(), peer.port());
        let broken = self.talk(stream, peer).is_err();
        // The demo may be over already.
        let _ = self.ends.send(End { peer, at: Instant::now(), broken });
    }

    /// Answers lines until the peer leaves.
    fn talk(&self, mut stream: &TcpStream, peer: SocketAddr) -> io::Result<()> {
        stream.set_nodelay(true)?;
        let mut input = BufReader::new(stream);
        loop {
            let mut line = String::new();
            if input.by_ref().take(LINE).read_line(&mut line)? == 0 {
                return Ok(());
            }
            if line.starts_with("login ") {
                self.log_failure(peer)?;
                stream.write_all(b"denied\n")?;
            } else {
                stream.write_all(line.as_bytes())?;
            }
        }
    }

    fn log_failure(&self, peer: SocketAddr) -> io::Result<()> {
        let (ip, port) = (peer.ip(), peer.port());
        let text =
            format!("{} victim sshd[{}]: Failed password for root from {ip} port {port} ssh2", clock::now().stamp, std::process::id());
        let mut log = open_log(&self.log)?;
        // Told first: whoever measures from `written` then measures the telling too, never less than the truth.
        let _ = self.lines.send(Line { text: text.clone(), written: Instant::now() });
        log.write_all(format!("{text}\n").as_bytes())
    }
}

/// Opens the log to write at its end; makes it where there is none.
pub(super) fn open_log(path: &Path) -> io::Result<File> {
    OpenOptions::new().append(true).create(true).open(path)
}
