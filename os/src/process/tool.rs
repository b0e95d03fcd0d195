//! Other people's programs, run to their end: what goes in, what came out, within bounds.
//!
//! No shell, no inherited environment, no unbounded output, no unbounded wait. A program is looked
//! for in the folders of the config, never in somebody's `$PATH`.

use std::ffi::OsStr;
use std::fmt;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::thread;

use palisade_core::time::{Span, Tick};

use super::{end_of, nonblocking, prepare};
use crate::clock;
use crate::wake::{Want, poll, poll_for};

/// What a program may print, unless it is read piece by piece ([`Tool::stream`]): far more than any
/// message, far less than memory.
const OUTPUT_MAX: usize = 64 * 1024;

/// How much of what a program complained is told: the first lines say it.
pub(super) const COMPLAINT_MAX: usize = 600;

/// One read of a pipe (pipe(7): its capacity).
const PIECE: usize = 64 * 1024;

/// How long a program may take that does not get bans by the thousands.
pub const SOON: Span = Span::secs(20);

/// How long one may take that does.
pub const LONG: Span = Span::secs(300);

/// A program and where it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tool {
    path: PathBuf,
    within: Span,
}

/// Why a program did not do what it was run for.
#[derive(Debug, thiserror::Error)]
pub enum ToolError {
    /// There is none of that name.
    #[error("there is no program `{name}` in {}", folders.join(", "))]
    Missing {
        /// Its name.
        name: String,
        /// Where it was looked for.
        folders: Vec<String>,
    },
    /// It could not be started or spoken to.
    #[error("`{call}` could not be run")]
    Run {
        /// Program and arguments.
        call: String,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// It ended badly.
    #[error("`{call}` ended with {status}{}", told(complaint))]
    Failed {
        /// Program and arguments.
        call: String,
        /// Its exit status.
        status: ExitStatus,
        /// What it wrote to standard error, printable and cut.
        complaint: String,
    },
    /// It did not end.
    #[error("`{call}` was still running after {within} and was stopped")]
    Stuck {
        /// Program and arguments.
        call: String,
        /// How long it was given.
        within: Span,
    },
}

fn told(complaint: &str) -> String {
    if complaint.is_empty() { String::new() } else { format!(": {complaint}") }
}

impl ToolError {
    /// The exit code it ended with, where it ended by itself.
    pub fn code(&self) -> Option<i32> {
        match self {
            Self::Failed { status, .. } => status.code(),
            _ => None,
        }
    }

    /// What it complained.
    pub fn complaint(&self) -> &str {
        match self {
            Self::Failed { complaint, .. } => complaint,
            _ => "",
        }
    }
}

/// What came of a run, whatever its exit code.
#[derive(Debug)]
pub struct Ran {
    /// How it ended.
    pub status: ExitStatus,
    /// What it wrote to standard error, printable and cut.
    pub complaint: String,
}

impl Tool {
    /// The program of this name in the first of these folders that has one that can be executed.
    ///
    /// # Errors
    /// [`ToolError::Missing`].
    pub fn find(name: &str, folders: &[String]) -> Result<Self, ToolError> {
        let can_run = |path: &PathBuf| path.metadata().is_ok_and(|meta| meta.is_file() && meta.mode() & 0o111 != 0);
        let found = folders.iter().map(|folder| Path::new(folder).join(name)).find(can_run);
        let path = found.ok_or_else(|| ToolError::Missing { name: name.to_owned(), folders: folders.to_vec() })?;
        Ok(Self { path, within: SOON })
    }

    /// The program at this path.
    pub fn at(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into(), within: SOON }
    }

    /// The same, given so long before it is stopped.
    #[must_use]
    pub const fn within(mut self, within: Span) -> Self {
        self.within = within;
        self
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Runs it and returns what it printed.
    ///
    /// # Errors
    /// Where it does not end with exit code 0, or prints more than 64 KiB.
    pub fn run<A: AsRef<OsStr>>(&self, arguments: &[A]) -> Result<String, ToolError> {
        self.feed(arguments, |_| Ok(()))
    }

    /// Runs it with this on its standard input, and returns what it printed.
    ///
    /// # Errors
    /// As [`Self::run`]. What `input` could not write because the program did not read it is told by
    /// the program's own end.
    pub fn feed<A: AsRef<OsStr>>(
        &self,
        arguments: &[A],
        input: impl FnOnce(&mut dyn Write) -> io::Result<()> + Send,
    ) -> Result<String, ToolError> {
        let mut printed = Vec::new();
        let ran = self.stream(arguments, input, |piece| {
            if printed.len() + piece.len() > OUTPUT_MAX {
                return Err(io::Error::other(format!("it printed more than {OUTPUT_MAX} bytes")));
            }
            printed.extend_from_slice(piece);
            Ok(())
        })?;
        if ran.status.success() {
            return Ok(String::from_utf8_lossy(&printed).into_owned());
        }
        Err(ToolError::Failed { call: self.call(arguments), status: ran.status, complaint: ran.complaint })
    }

    /// Runs it with this on its standard input, and hands on what it prints piece by piece, so that
    /// neither side needs memory for all of it.
    ///
    /// # Errors
    /// Where it cannot be run or does not end in time, or `output` has enough. An exit code is no error here.
    pub fn stream<A: AsRef<OsStr>>(
        &self,
        arguments: &[A],
        input: impl FnOnce(&mut dyn Write) -> io::Result<()> + Send,
        output: impl FnMut(&[u8]) -> io::Result<()>,
    ) -> Result<Ran, ToolError> {
        let run = |source| ToolError::Run { call: self.call(arguments), source };
        let end = clock::now().tick.plus(self.within);
        let mut child = Reaped(self.command(arguments).spawn().map_err(run)?);
        let (Some(stdin), Some(stdout), Some(stderr)) = (child.0.stdin.take(), child.0.stdout.take(), child.0.stderr.take()) else {
            return Err(run(io::Error::other("it has no pipes")));
        };
        nonblocking(&stdin).and_then(|()| nonblocking(&stdout)).and_then(|()| nonblocking(&stderr)).map_err(run)?;
        let gone = libc::pid_t::try_from(child.0.id()).map_err(io::Error::other).and_then(end_of).map_err(run)?;
        thread::scope(|scope| {
            // A pipe that nobody reads takes no more, so writing is a thread's work. It ends with the child, which
            // ends here at the latest, whoever else has the pipe.
            let stdin = Input { pipe: stdin, gone: gone.as_fd(), end };
            let writer = scope.spawn(move || {
                let mut stdin = io::BufWriter::with_capacity(PIECE, stdin);
                input(&mut stdin).and_then(|()| stdin.flush())
            });
            let heard = listen((stdout, stderr), output, end);
            // It may go on when nobody can hear it any more.
            let heard = heard.and_then(|complaint| Ok(complaint.zip(ended(&gone, end)?)));
            let complaint = match heard {
                Ok(Some((complaint, ()))) => complaint,
                Ok(None) => {
                    child.kill();
                    return Err(ToolError::Stuck { call: self.call(arguments), within: self.within });
                }
                Err(error) => {
                    child.kill();
                    return Err(run(error));
                }
            };
            let status = child.0.wait().map_err(run)?;
            match writer.join() {
                Ok(Err(error)) if status.success() && error.kind() != io::ErrorKind::BrokenPipe => return Err(run(error)),
                Ok(_) => {}
                Err(panic) => std::panic::resume_unwind(panic),
            }
            Ok(Ran { status, complaint: printable(&complaint) })
        })
    }

    fn command<A: AsRef<OsStr>>(&self, arguments: &[A]) -> Command {
        let mut command = bare(&self.path, arguments);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let parent = std::process::id();
        // SAFETY: the closure runs in the child between fork and exec, where only async-signal-safe
        // calls are allowed: `prepare` makes plain system calls and allocates nothing.
        unsafe { command.pre_exec(move || prepare(parent)) };
        command
    }

    /// Program and arguments, for messages.
    pub(crate) fn call<A: AsRef<OsStr>>(&self, arguments: &[A]) -> String {
        let words = [self.path.as_os_str()].into_iter().chain(arguments.iter().map(AsRef::as_ref));
        printable(words.collect::<Vec<_>>().join(OsStr::new(" ")).as_encoded_bytes())
    }
}

/// A program in the environment every program of ours gets.
pub(super) fn bare<A: AsRef<OsStr>>(program: &Path, arguments: &[A]) -> Command {
    let mut command = Command::new(program);
    // Messages are matched on in places: they must not be translated.
    command.args(arguments).env_clear().env("LC_ALL", "C").env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin").current_dir("/");
    command
}

impl fmt::Display for Tool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.path.display().fmt(f)
    }
}

/// A child that does not outlive this value.
struct Reaped(Child);

impl Reaped {
    fn kill(&mut self) {
        // It may be gone already; there is nobody left to tell.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Drop for Reaped {
    fn drop(&mut self) {
        if !matches!(self.0.try_wait(), Ok(Some(_))) {
            self.kill();
        }
    }
}

/// The input of a child, which takes no longer than the child may.
struct Input<'a> {
    pipe: ChildStdin,
    /// Readable when the child has ended.
    gone: BorrowedFd<'a>,
    end: Tick,
}

impl Write for Input<'_> {
    /// A child that has ended reads no more, though one of its own may have the pipe open.
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        loop {
            let left = self.end.since(clock::now().tick);
            let ready = poll_for(&[(self.pipe.as_fd(), Want::Write), (self.gone, Want::Read)], None, Some(left))?;
            if left == Span::ZERO || ready.at(1) {
                return Err(io::ErrorKind::BrokenPipe.into());
            }
            match self.pipe.write(bytes) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                done => return done,
            }
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Waits for the end of a child: `None` where that takes too long.
fn ended(gone: &OwnedFd, end: Tick) -> io::Result<Option<()>> {
    Ok(poll(&[gone.as_fd()], None, Some(end.since(clock::now().tick)))?.at(0).then_some(()))
}

/// Reads both to their ends: the complaint, or `None` where that takes too long.
fn listen(
    (mut stdout, mut stderr): (impl Read + AsFd, impl Read + AsFd),
    mut output: impl FnMut(&[u8]) -> io::Result<()>,
    end: Tick,
) -> io::Result<Option<Vec<u8>>> {
    let (mut complaint, mut piece) = (Vec::new(), vec![0; PIECE]);
    let (mut talks, mut complains) = (true, true);
    while talks || complains {
        // Looked at before each read: one that always has more to say is stopped too.
        let left = end.since(clock::now().tick);
        if left == Span::ZERO {
            return Ok(None);
        }
        let fds: Vec<BorrowedFd<'_>> =
            [(talks, stdout.as_fd()), (complains, stderr.as_fd())].into_iter().filter_map(|(on, fd)| on.then_some(fd)).collect();
        let _ = poll(&fds, None, Some(left))?;
        match if talks { heard(&mut stdout, &mut piece)? } else { None } {
            Some(0) => talks = false,
            Some(n) => output(&piece[..n])?,
            None => {}
        }
        match if complains { heard(&mut stderr, &mut piece)? } else { None } {
            Some(0) => complains = false,
            Some(n) => {
                let room = COMPLAINT_MAX.saturating_sub(complaint.len());
                complaint.extend_from_slice(&piece[..n.min(room)]);
            }
            None => {}
        }
    }
    Ok(Some(complaint))
}

/// What there is to read now, none at the end; `None` where there is nothing yet.
fn heard(pipe: &mut impl Read, piece: &mut [u8]) -> io::Result<Option<usize>> {
    match pipe.read(piece) {
        Ok(n) => Ok(Some(n)),
        Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => Ok(None),
        Err(error) => Err(error),
    }
}

/// On one line, without what could drive a terminal.
pub(super) fn printable(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(&bytes[..bytes.len().min(COMPLAINT_MAX)]);
    let lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
    lines.collect::<Vec<_>>().join("; ").chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::errors::chain;
    use std::fs;

    fn sh() -> Tool {
        Tool::find("sh", &["/nonexistent".into(), "/bin".into()]).unwrap()
    }

    #[test]
    fn what_goes_in_comes_out_whatever_its_size() {
        // More than both pipes hold, so a writer that waits for its reader would wait for ever.
        let line = "0123456789abcdef\n".repeat(100_000);
        let mut printed = 0;
        let cat = Tool::find("cat", &["/bin".into()]).unwrap();
        let ran = cat.stream::<&str>(
            &[],
            |input| input.write_all(line.as_bytes()),
            |piece| {
                printed += piece.len();
                Ok(())
            },
        );
        assert!(ran.unwrap().status.success());
        assert_eq!(printed, line.len());
        let error = cat.feed::<&str>(&[], |input| input.write_all(line.as_bytes())).unwrap_err();
        assert!(chain(&error).contains("more than 65536 bytes"), "{}", chain(&error));
    }

    #[test]
    fn a_failure_says_what_the_program_said() {
        let error = sh().run(&["-c", "echo 'no \x1b[1msuch set' >&2; echo more >&2; exit 3"]).unwrap_err();
        assert_eq!(error.code(), Some(3));
        assert_eq!(error.complaint(), "no \u{fffd}[1msuch set; more");
        assert!(error.to_string().starts_with("`/bin/sh -c echo"), "{error}");
        assert_eq!(sh().run(&["-c", "exit 3"]).unwrap_err().to_string(), "`/bin/sh -c exit 3` ended with exit status: 3");
    }

    #[test]
    fn one_that_hangs_is_stopped_and_one_that_does_not_read_is_no_trouble() {
        let hung = sh().within(Span::millis(200)).run(&["-c", "exec sleep 600"]).unwrap_err();
        assert!(matches!(hung, ToolError::Stuck { .. }), "{hung}");
        let deaf = sh().feed(&["-c", "exec true"], |input| input.write_all(&[b'x'; 1 << 20]));
        assert_eq!(deaf.unwrap(), "");
    }

    #[test]
    fn one_that_is_silent_or_never_silent_or_leaves_another_behind_is_stopped_too() {
        let stuck = |script: &str, input: &[u8]| {
            let error = sh().within(Span::millis(200)).stream(&["-c", script], |out| out.write_all(input), |_| Ok(())).unwrap_err();
            assert!(matches!(error, ToolError::Stuck { .. }), "{script}: {error}");
        };
        stuck("exec >/dev/null 2>&1; exec sleep 600", b"");
        stuck("exec yes", b"");
        // Somebody else has its input open when it is killed, and does not read it. It ends once that is shut.
        let dir = tempfile::tempdir().unwrap();
        let fifo = dir.path().join("fifo").display().to_string();
        sh().run(&["-c", &format!("mkfifo {fifo}")]).unwrap();
        stuck(&format!("exec 4<&0; {{ read x <{fifo}; }} & exec sleep 600"), &vec![b'x'; 1 << 20]);
        fs::write(&fifo, "over\n").unwrap();
    }

    #[test]
    fn one_that_ends_before_another_has_read_its_input_is_not_waited_for() {
        let dir = tempfile::tempdir().unwrap();
        let fifo = dir.path().join("fifo").display().to_string();
        sh().run(&["-c", &format!("mkfifo {fifo}")]).unwrap();
        let script = format!("exec 4<&0; {{ read x <{fifo}; }} >/dev/null 2>&1 & exit 0");
        assert_eq!(sh().feed(&["-c", &script], |input| input.write_all(&[b'x'; 1 << 20])).unwrap(), "");
        fs::write(&fifo, "over\n").unwrap();
    }

    #[test]
    fn a_missing_program_is_named_with_where_it_was_looked_for() {
        let error = Tool::find("ipsett", &["/usr/sbin".into(), "/sbin".into()]).unwrap_err();
        assert_eq!(error.to_string(), "there is no program `ipsett` in /usr/sbin, /sbin");
        assert!(Tool::find("passwd", &["/etc".into()]).is_err(), "a file that cannot be executed is no program");
    }
}
