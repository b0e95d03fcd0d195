//! What tests in namespaces share: waiting for the kernel, and seeing that a stream works.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

/// Waits for what the kernel does in a moment.
#[track_caller]
pub(crate) fn soon(what: &str, mut done: impl FnMut() -> bool) {
    let begin = Instant::now();
    while !done() {
        assert!(begin.elapsed() < Duration::from_secs(20), "{what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// The stream works in both directions.
#[track_caller]
pub(crate) fn echoes((a, b): &mut (TcpStream, TcpStream)) {
    let mut buffer = [0; 4];
    a.write_all(b"ping").unwrap();
    b.read_exact(&mut buffer).unwrap();
    b.write_all(b"pong").unwrap();
    a.read_exact(&mut buffer).unwrap();
    assert_eq!(&buffer, b"pong");
}
