//! The asking end of the control socket.

use std::fmt::Display;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result};
use palisade_core::control::{ANSWER_WITHIN, REQUEST_MAX, Reply, Request};
use palisade_core::event::Notice;

/// The longest answer that is read, in bytes: a list of a few million bans.
const ANSWER_MAX: u64 = 1 << 30;

/// The daemon is needed and cannot be asked, or hung up; exit code 3.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct Unreachable(pub String);

/// No answer came. A change that was asked for may have been made all the same.
fn no_answer(request: &Request, why: impl Display) -> anyhow::Error {
    let perhaps = if request.only_reads() { "" } else { "; what was asked for may have been done all the same: look before asking again" };
    anyhow::Error::new(Unreachable(format!("the daemon gave no answer: {why}{perhaps}; see its log")))
}

/// A connection to the daemon.
#[derive(Debug)]
pub struct Client {
    stream: BufReader<UnixStream>,
}

impl Client {
    /// Connects to the daemon's socket.
    pub fn connect(socket: &Path) -> io::Result<Self> {
        let stream = UnixStream::connect(socket)?;
        stream.set_write_timeout(Some(Duration::from_millis(ANSWER_WITHIN.as_millis())))?;
        Ok(Self { stream: BufReader::new(stream) })
    }

    /// Asks once.
    ///
    /// # Errors
    /// [`Unreachable`] where no answer came.
    pub fn ask(&mut self, request: &Request) -> Result<Reply> {
        let mut line = serde_json::to_vec(request)?;
        anyhow::ensure!(line.len() < REQUEST_MAX, "the request is longer than {REQUEST_MAX} bytes; ask for fewer at once");
        line.push(b'\n');
        let within = request.answer_within();
        self.stream.get_ref().set_read_timeout(Some(Duration::from_millis(within.as_millis())))?;
        self.stream.get_mut().write_all(&line).map_err(|e| no_answer(request, format_args!("writing to it failed: {e}")))?;
        let line = match self.read_line() {
            Ok(Some(line)) => line,
            Ok(None) => return Err(no_answer(request, "it closed the connection")),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                return Err(no_answer(request, format_args!("none came within {within}")));
            }
            Err(error) => return Err(no_answer(request, format_args!("reading from it failed: {error}"))),
        };
        serde_json::from_slice(&line).context("the daemon's answer is not understood; is it of another version?")
    }

    /// After `events` with `follow`: the next one, or `None` when the daemon is gone. Waits for ever.
    pub fn next_notice(&mut self) -> Result<Option<Notice>> {
        self.stream.get_mut().set_read_timeout(None)?;
        let line = self.read_line().map_err(|e| anyhow::Error::new(Unreachable(format!("following the daemon failed: {e}"))))?;
        let Some(line) = line else { return Ok(None) };
        Ok(Some(serde_json::from_slice(&line).context("an event is not understood; is the daemon of another version?")?))
    }

    fn read_line(&mut self) -> io::Result<Option<Vec<u8>>> {
        let mut line = Vec::new();
        (&mut self.stream).take(ANSWER_MAX).read_until(b'\n', &mut line)?;
        Ok(line.ends_with(b"\n").then_some(line))
    }
}
