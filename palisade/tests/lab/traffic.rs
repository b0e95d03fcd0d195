//! Streams and packets, each from an address of one's choice.

use std::collections::HashMap;
use std::io::{ErrorKind, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{JoinHandle, sleep, spawn};
use std::time::{Duration, Instant};

use rustix::net::{AddressFamily, SocketFlags, SocketType, bind, connect, socket_with};

use super::space::{Space, enter};

/// A stream from an address of `space` to `to`, a socket address.
pub fn tcp(space: &Space, from: &str, to: &str) -> std::io::Result<TcpStream> {
    let (from, to): (SocketAddr, SocketAddr) = (SocketAddr::new(from.parse().unwrap(), 0), to.parse().unwrap());
    space.within(|| {
        let family = if to.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
        // Not for children: one that another test starts meanwhile would hold the stream open, and go on knocking.
        let stream = TcpStream::from(socket_with(family, SocketType::STREAM, SocketFlags::CLOEXEC, None)?);
        // Gives up after 2 s in place of 2 minutes.
        stream.set_write_timeout(Some(Duration::from_secs(2)))?;
        stream.set_read_timeout(Some(Duration::from_secs(5)))?;
        bind(&stream, &from)?;
        connect(&stream, &to)?;
        Ok(stream)
    })
}

/// Both ends of a connection that does nothing by itself.
pub struct Stream {
    /// The end outside.
    pub client: TcpStream,
    /// When the server's end, which waits for bytes and echoes them, broke, and how.
    pub broken: Arc<Mutex<Option<(Instant, ErrorKind)>>>,
}

impl Stream {
    /// From `from` outside to a listener in the victim, or behind it.
    pub fn open(outside: &Space, from: &str, listener: &TcpListener, to: &str) -> Self {
        let client = tcp(outside, from, to).unwrap_or_else(|error| panic!("{from} cannot reach {to}: {error}"));
        let mut server = listener.accept().unwrap().0;
        let broken = Arc::new(Mutex::new(None));
        let told = Arc::clone(&broken);
        spawn(move || {
            let mut buffer = [0; 64];
            let how = loop {
                match server.read(&mut buffer).and_then(|n| server.write_all(&buffer[..n]).map(|()| n)) {
                    Ok(0) => break ErrorKind::UnexpectedEof,
                    Ok(_) => {}
                    Err(error) => break error.kind(),
                }
            };
            *told.lock().unwrap() = Some((Instant::now(), how));
        });
        let mut stream = Self { client, broken };
        assert!(stream.echoes_within(super::SOON), "the stream from {from} to {to} does not work to begin with");
        stream
    }

    /// Whether a byte comes back. On a dead stream this takes a second.
    pub fn echoes(&mut self) -> bool {
        self.echoes_within(Duration::from_secs(1))
    }

    fn echoes_within(&mut self, time: Duration) -> bool {
        self.client.set_read_timeout(Some(time)).unwrap();
        let mut back = [0];
        self.client.write_all(b"!").is_ok() && matches!(self.client.read(&mut back), Ok(1))
    }

    /// When and how the server's end broke, if it did.
    pub fn broke(&self) -> Option<(Instant, ErrorKind)> {
        *self.broken.lock().unwrap()
    }
}

/// A TCP listener in a space.
pub fn listen(space: &Space, at: &str) -> TcpListener {
    space.within(|| TcpListener::bind(at).unwrap())
}

/// Somebody who sends datagrams all the time, and somebody who counts those that arrive.
pub struct Flood {
    stop: Arc<AtomicBool>,
    sent: Arc<AtomicU64>,
    threads: Vec<JoinHandle<()>>,
}

impl Flood {
    /// Sends from `from` to `to` until dropped, some thousands a second.
    pub fn start(space: &Space, from: &str, to: &str) -> Self {
        let (stop, sent) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let (from, to, net): (IpAddr, SocketAddr, _) = (from.parse().unwrap(), to.parse().unwrap(), space.net());
        let (stopped, count) = (Arc::clone(&stop), Arc::clone(&sent));
        let thread = spawn(move || {
            enter(&net);
            let socket = UdpSocket::bind((from, 0)).unwrap();
            while !stopped.load(Ordering::Relaxed) {
                if socket.send_to(b"flood", to).is_ok() {
                    count.fetch_add(1, Ordering::Relaxed);
                }
                sleep(Duration::from_micros(200));
            }
        });
        Self { stop, sent, threads: vec![thread] }
    }

    /// How many were sent so far.
    pub fn sent(&self) -> u64 {
        self.sent.load(Ordering::Relaxed)
    }

    /// Waits until `more` more were sent: after that, what is measured has met traffic.
    pub fn go_on(&self, more: u64) {
        let goal = self.sent() + more;
        super::until("the flood goes on", || self.sent() >= goal);
    }
}

impl Drop for Flood {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

/// Counts the datagrams that arrive, by who sent them.
pub struct Counter {
    stop: Arc<AtomicBool>,
    counts: Arc<Mutex<HashMap<IpAddr, u64>>>,
    thread: Option<JoinHandle<()>>,
}

impl Counter {
    /// Counts at a socket address of the space.
    pub fn start(space: &Space, at: &str) -> Self {
        let socket = space.within(|| UdpSocket::bind(at).unwrap());
        socket.set_read_timeout(Some(Duration::from_millis(50))).unwrap();
        let (stop, counts) = (Arc::new(AtomicBool::new(false)), Arc::new(Mutex::new(HashMap::new())));
        let (stopped, counted) = (Arc::clone(&stop), Arc::clone(&counts));
        let thread = spawn(move || {
            let mut buffer = [0; 16];
            while !stopped.load(Ordering::Relaxed) {
                if let Ok((_, from)) = socket.recv_from(&mut buffer) {
                    *counted.lock().unwrap().entry(from.ip()).or_default() += 1;
                }
            }
        });
        Self { stop, counts, thread: Some(thread) }
    }

    /// How many datagrams of `from` have arrived.
    pub fn of(&self, from: &str) -> u64 {
        self.counts.lock().unwrap().get(&from.parse::<IpAddr>().unwrap()).copied().unwrap_or(0)
    }
}

impl Drop for Counter {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}
