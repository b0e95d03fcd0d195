//! A program that is kept running and told things, line by line, on its standard input.
//!
//! How it is told, and how it ends:
//!
//! * It has the writing end of its own input open, so it never sees an end of input while it lives:
//!   whoever feeds it may die at any moment without its taking that for a farewell. It ends with
//!   us all the same: the kernel kills it when the thread that started it ends, and dropping it
//!   does. Always by SIGKILL, which no program can answer with cleaning up.
//! * Nothing in such a protocol says that a line was carried out. What can be seen is that the pipe
//!   is empty, and that the program waits, without a child of its own at work: then it waits for
//!   more input. (`State` and the counts of context switches in `/proc/PID/task/PID/status`, and
//!   `/proc/PID/task/PID/children`: proc(5); `schedstat`: sched-stats.rst of the kernel. Where they are not to be had, the empty pipe must do.)

use std::ffi::OsStr;
use std::fs;
use std::io::{self, PipeWriter, Read, Write};
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, ChildStderr, ExitStatus, Stdio};

use palisade_core::time::{Span, Tick};

use super::tool::{COMPLAINT_MAX, bare, printable};
use super::{end_with_parent, nonblocking, prepare};
use crate::clock;
use crate::wake::{Want, poll_for};

/// Between two looks at whether it is done: a program run by it takes a millisecond at the least.
const LOOK_EVERY: Span = Span::millis(1);

/// How long it may have a child at work with nothing left to read, before that child is taken for
/// one that stays. More than any firewall tool takes for one address; firewalld's reload takes seconds.
const CHILD_WITHIN: Span = Span::secs(5);

/// A running program that is fed. Killed and reaped when dropped.
#[derive(Debug)]
pub struct Fed {
    child: Child,
    stdin: PipeWriter,
    stderr: ChildStderr,
    /// What it complained and was not told yet, cut.
    complaint: Vec<u8>,
    /// Its children that stay, as far as was seen: they are not waited for.
    staying: Vec<String>,
    /// Whether it has closed its input, its standard error.
    shut: (bool, bool),
}

/// What became of a line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Told {
    /// It was taken. What the program wrote to standard error meanwhile, printable; mostly nothing.
    Taken(String),
    /// The program has ended. What it wrote last.
    Ended(ExitStatus, String),
    /// It was not taken in time.
    Stuck,
}

impl Fed {
    /// Starts it: no shell, no environment but `LC_ALL` and `PATH`, what it prints is thrown away.
    ///
    /// # Errors
    /// Where it cannot be started.
    pub fn spawn<A: AsRef<OsStr>>(program: &Path, arguments: &[A]) -> io::Result<Self> {
        let (reader, writer) = io::pipe()?;
        nonblocking(&writer)?;
        let fd = writer.as_fd().as_raw_fd();
        let parent = std::process::id();
        let mut command = bare(program, arguments);
        command.stdin(reader).stdout(Stdio::null()).stderr(Stdio::piped());
        // SAFETY: the closure runs in the child between fork and exec, where only async-signal-safe
        // calls are allowed: it makes plain system calls and allocates nothing. The descriptor is open
        // in the child, as it is a copy of us; only there it loses its close-on-exec flag.
        unsafe {
            command.pre_exec(move || {
                prepare(parent)?;
                if libc::fcntl(fd, libc::F_SETFD, 0) != 0 {
                    return Err(io::Error::last_os_error());
                }
                end_with_parent(libc::SIGKILL)
            })
        };
        let mut child = command.spawn()?;
        let stderr = child.stderr.take().ok_or_else(|| io::Error::other("it has no pipes"))?;
        nonblocking(&stderr)?;
        Ok(Self { child, stdin: writer, stderr, complaint: Vec::new(), staying: Vec::new(), shut: (false, false) })
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// How it ended, if it did. Never blocks.
    ///
    /// # Errors
    /// What the system says.
    pub fn ended(&mut self) -> io::Result<Option<ExitStatus>> {
        self.child.try_wait()
    }

    /// What it complained since it was last asked, printable. Never blocks.
    ///
    /// # Errors
    /// Where its standard error cannot be read.
    pub fn complaint(&mut self) -> io::Result<String> {
        self.listen()?;
        Ok(printable(&std::mem::take(&mut self.complaint)))
    }

    /// Tells it this and waits until it has carried it out, but not longer than `within`. With nothing
    /// to tell it waits for the program to be ready for more.
    ///
    /// # Errors
    /// Where the system fails us.
    pub fn tell(&mut self, text: &[u8], within: Span) -> io::Result<Told> {
        let end = clock::now().tick.plus(within);
        let mut left = text;
        let mut busy_since = None;
        loop {
            left = self.write(left)?;
            self.listen()?;
            if let Some(status) = self.child.try_wait()? {
                return Ok(Told::Ended(status, self.complaint()?));
            }
            if left.is_empty() && self.unread()? == 0 && self.waits(&mut busy_since) {
                return Ok(Told::Taken(self.complaint()?));
            }
            let now = clock::now().tick;
            if now >= end {
                return Ok(Told::Stuck);
            }
            let wait = Span::millis(end.since(now).as_millis().min(LOOK_EVERY.as_millis()));
            // While the pipe is full, room in it ends the wait; a complaint does anyway. What is shut would always.
            let room = (!self.shut.0 && !left.is_empty()).then(|| (self.stdin.as_fd(), Want::Write));
            let heard = (!self.shut.1).then(|| (self.stderr.as_fd(), Want::Read));
            let _ = poll_for(&room.into_iter().chain(heard).collect::<Vec<_>>(), None, Some(wait))?;
        }
    }

    fn write<'a>(&mut self, mut text: &'a [u8]) -> io::Result<&'a [u8]> {
        while !text.is_empty() {
            match self.stdin.write(text) {
                Ok(n) => text = &text[n..],
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                // Nobody will read it. Its end tells why, if it ends.
                Err(error) if error.kind() == io::ErrorKind::BrokenPipe => {
                    self.shut.0 = true;
                    break;
                }
                Err(error) => return Err(error),
            }
        }
        Ok(text)
    }

    fn listen(&mut self) -> io::Result<()> {
        let mut piece = [0; 4096];
        while !self.shut.1 {
            match self.stderr.read(&mut piece) {
                Ok(0) => {
                    self.shut.1 = true;
                    return Ok(());
                }
                Ok(n) => {
                    let room = COMPLAINT_MAX.saturating_sub(self.complaint.len());
                    self.complaint.extend_from_slice(&piece[..n.min(room)]);
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// How many bytes wait in the pipe.
    fn unread(&self) -> io::Result<i32> {
        let mut count = 0;
        // SAFETY: the descriptor is open, and FIONREAD writes one int into `count`, which is live and ours.
        let rc = unsafe { libc::ioctl(self.stdin.as_raw_fd(), libc::FIONREAD, &raw mut count) };
        if rc == 0 { Ok(count) } else { Err(io::Error::last_os_error()) }
    }

    /// Whether it waits for more, nothing being left to read. `busy_since`: since when that is so but
    /// for a child at work.
    fn waits(&mut self, busy_since: &mut Option<Tick>) -> bool {
        let pid = self.pid();
        let read = |name: &str| fs::read_to_string(format!("/proc/{pid}/task/{pid}/{name}"));
        let Ok(before) = read("status") else { return true };
        let rest = |name: &str| read(name).unwrap_or_default();
        // Only if it did not run in between were those its children while it slept: else it may have had one before and
        // another after the look at them. A task counts as sleeping a moment before it stops running, with the counts
        // of the time before; its time on the processor and a second look at its children give that moment away.
        let (ran_before, children, ran_after) = (rest("schedstat"), rest("children"), rest("schedstat"));
        let after = rest("status");
        let later = rest("children");
        let sleeps = ran_before == ran_after && sleep(&before).is_some_and(|sleep_before| sleep(&after) == Some(sleep_before));
        let at_work = |child: &str| !self.staying.iter().any(|stays| stays == child);
        let busy = [&children, &later].into_iter().flat_map(|list| list.split_ascii_whitespace()).any(at_work);
        if !sleeps || !busy {
            *busy_since = None;
            return sleeps;
        }
        let now = clock::now().tick;
        if now.since(*busy_since.get_or_insert(now)) < CHILD_WITHIN {
            return false;
        }
        self.staying = later.split_ascii_whitespace().map(str::to_owned).collect();
        true
    }
}

/// How often a sleeping task had stopped running, by itself and not; `None` for one that does not sleep.
fn sleep(status: &str) -> Option<Vec<&str>> {
    let of = |name: &'static str| status.lines().filter(move |line| line.starts_with(name));
    of("State:").any(|line| line.contains("S (sleeping)")).then(|| of("voluntary_ctxt").chain(of("nonvoluntary_ctxt")).collect())
}

impl Drop for Fed {
    fn drop(&mut self) {
        // It may be gone already; there is nobody left to tell.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SOON: Span = Span::secs(20);

    fn sh(script: &str) -> Fed {
        Fed::spawn(Path::new("/bin/sh"), &["-c", script]).unwrap()
    }

    #[test]
    fn a_line_is_taken_when_what_it_asks_for_is_done() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("done");
        let mut fed = sh(&format!("while read -r line; do sleep 0.2; echo \"$line\" >>{}; done", path.display()));
        assert_eq!(fed.tell(b"one\ntwo\n", SOON).unwrap(), Told::Taken(String::new()));
        assert_eq!(fs::read_to_string(&path).unwrap(), "one\ntwo\n");
    }

    #[test]
    fn one_child_after_another_is_not_mistaken_for_none() {
        // Many short ones: the moments between them are many.
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("done");
        let child = "/bin/true;".repeat(40);
        let mut fed = sh(&format!("while read -r line; do {child} echo \"$line\" >{}; done", path.display()));
        for n in 0..40 {
            assert_eq!(fed.tell(format!("{n}\n").as_bytes(), SOON).unwrap(), Told::Taken(String::new()));
            assert_eq!(fs::read_to_string(&path).unwrap_or_default(), format!("{n}\n"));
        }
    }

    #[test]
    fn its_end_and_its_complaints_are_told() {
        let mut fed = sh("read -r line; echo \"no $line\" >&2; read -r line; echo bye >&2; exit 65");
        assert_eq!(fed.tell(b"one\n", SOON).unwrap(), Told::Taken("no one".into()));
        let Told::Ended(status, last) = fed.tell(b"two\n", SOON).unwrap() else { panic!("it has ended") };
        assert_eq!((status.code(), &*last), (Some(65), "bye"));
        assert!(matches!(fed.tell(b"three\n", SOON).unwrap(), Told::Ended(..)));
    }

    #[test]
    fn one_that_does_not_read_is_waited_for_no_longer_than_said() {
        let mut deaf = sh("exec sleep 600");
        assert_eq!(deaf.tell(&[b'x'; 1 << 20], Span::millis(200)).unwrap(), Told::Stuck);
        assert_eq!(deaf.tell(b"x", Span::millis(50)).unwrap(), Told::Stuck);
        let mut shut = sh("exec sleep 600 <&- 2>&-");
        assert_eq!(shut.tell(&[b'x'; 1 << 20], Span::millis(200)).unwrap(), Told::Stuck);
    }

    #[test]
    fn one_with_a_child_that_stays_is_not_waited_for_twice() {
        let mut fed = sh("sleep 600 & while read -r line; do :; done");
        assert_eq!(fed.tell(b"one\n", SOON).unwrap(), Told::Taken(String::new()));
        assert_eq!(fed.staying.len(), 1);
        assert_eq!(fed.tell(b"two\n", SOON).unwrap(), Told::Taken(String::new()));
        let children = fs::read_to_string(format!("/proc/{0}/task/{0}/children", fed.pid())).unwrap();
        let child: i32 = children.trim().parse().unwrap();
        drop(fed);
        // SAFETY: plain system call without pointers; the child is ours and nobody else reaps it.
        unsafe { libc::kill(child, libc::SIGKILL) };
    }

    #[test]
    fn it_never_sees_its_input_end() {
        let mut fed = sh("while read -r line; do :; done; sleep 600");
        assert_eq!(fed.tell(b"one\n", SOON).unwrap(), Told::Taken(String::new()));
        let fds = fs::read_dir(format!("/proc/{}/fd", fed.pid())).unwrap();
        let pipes: Vec<_> = fds.map(|fd| fs::read_link(fd.unwrap().path()).unwrap()).collect();
        let own = fs::read_link(format!("/proc/{}/fd/0", fed.pid())).unwrap();
        assert_eq!(pipes.iter().filter(|pipe| **pipe == own).count(), 2, "both ends of it: {pipes:?}");
    }

    #[test]
    fn it_ends_without_a_farewell_when_its_feeder_does() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("farewell");
        let script = format!("trap 'echo bye >{}' EXIT INT TERM; while read -r line; do :; done", path.display());
        let pid = std::thread::spawn({
            let script = script.clone();
            move || {
                let mut fed = sh(&script);
                assert_eq!(fed.tell(b"one\n", SOON).unwrap(), Told::Taken(String::new()));
                let pid = fed.pid();
                // As if we died: nothing is dropped, the thread just ends.
                std::mem::forget(fed);
                pid
            }
        });
        let pid = libc::pid_t::try_from(pid.join().unwrap()).unwrap();
        // SAFETY: plain system call; a null status is allowed. It is our child and was not reaped.
        assert_eq!(unsafe { libc::waitpid(pid, std::ptr::null_mut(), 0) }, pid);
        assert!(!path.exists(), "it took our end for a farewell");

        let mut fed = sh(&script);
        assert_eq!(fed.tell(b"one\n", SOON).unwrap(), Told::Taken(String::new()));
        drop(fed);
        assert!(!path.exists(), "it took being dropped for a farewell");
    }
}
