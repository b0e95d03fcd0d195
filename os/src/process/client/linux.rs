//! pidfd_open(2), pidfd_send_signal(2), proc(5), pipe(7).

use std::fs::{self, File, OpenOptions};
use std::io::{self, PipeReader, Read};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Child, Command, ExitStatus, Stdio};

use palisade_core::time::Span;

use super::{End, FOLDERS, Identity, program};
use crate::clock;
use crate::process::tool::printable;
use crate::process::{end_of, nonblocking, unblock_signals};
use crate::wake::poll;

/// A line is cut here.
const LINE_MAX: usize = 1024;

/// How much is read in one go: what floods us must wait, or lose it.
const READ_MAX: usize = 64 * 1024;

/// A command that was started in a session of its own. It goes on when this is dropped, and when we end.
#[derive(Debug)]
pub struct Run {
    child: Child,
    status: Option<ExitStatus>,
    gone: OwnedFd,
    output: Option<PipeReader>,
    rest: Vec<u8>,
}

impl Run {
    /// Starts it: no shell, no input, no environment but `PATH` and `LC_ALL`.
    ///
    /// # Errors
    /// Where it cannot be started: then nothing of it ever ran.
    pub fn spawn(call: &[String]) -> io::Result<Self> {
        let path = program(call)?;
        let (output, writer) = io::pipe()?;
        nonblocking(&output)?;
        // It has the pipe open for reading too, so that our end is not its end (SIGPIPE); and it does not wait for us to read.
        let own = format!("/proc/self/fd/{}", writer.as_raw_fd());
        let both: File = OpenOptions::new().read(true).write(true).custom_flags(libc::O_NONBLOCK).open(own)?;
        let mut command = Command::new(&path);
        command.args(&call[1..]).env_clear().env("LC_ALL", "C").env("PATH", FOLDERS).current_dir("/");
        command.stdin(Stdio::null()).stdout(both.try_clone()?).stderr(both);
        // SAFETY: the closure runs in the child between fork and exec, where only async-signal-safe
        // calls are allowed: it makes plain system calls and allocates nothing.
        unsafe {
            command.pre_exec(|| {
                unblock_signals();
                if libc::setsid() < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
            })
        };
        let child =
            command.spawn().map_err(|error| io::Error::new(error.kind(), format!("{} could not be started ({error})", path.display())))?;
        let gone = end_of(libc::pid_t::try_from(child.id()).map_err(io::Error::other)?)?;
        Ok(Self { child, status: None, gone, output: Some(output), rest: Vec::new() })
    }

    /// Its process.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// What to wait for: something to read, its end.
    pub fn fds(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        self.output.iter().map(AsFd::as_fd).chain(self.status.is_none().then(|| self.gone.as_fd()))
    }

    /// Its end alone, for when it talks too much.
    pub fn end_fd(&self) -> Option<BorrowedFd<'_>> {
        self.status.is_none().then(|| self.gone.as_fd())
    }

    /// How it ended, if it did. Never blocks.
    ///
    /// # Errors
    /// What the system says.
    pub fn ended(&mut self) -> io::Result<Option<ExitStatus>> {
        if self.status.is_none() {
            self.status = self.child.try_wait()?;
        }
        Ok(self.status)
    }

    /// Hands on each line that it and its children printed, printable and cut; at most 64 KiB of them. Whether there may be
    /// more. Never blocks. Whoever it left behind may go on printing after its end.
    ///
    /// # Errors
    /// What the system says.
    pub fn lines(&mut self, mut each: impl FnMut(&str)) -> io::Result<bool> {
        let (mut piece, mut left) = ([0; 4096], READ_MAX);
        while let Some(output) = &mut self.output {
            if left == 0 {
                return Ok(true);
            }
            match output.read(&mut piece) {
                Ok(0) => self.output = None,
                Ok(n) => {
                    left = left.saturating_sub(n);
                    self.push(&piece[..n], &mut each);
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        if (self.output.is_none() || self.status.is_some()) && !self.rest.is_empty() {
            each(&printable(&std::mem::take(&mut self.rest)));
        }
        Ok(false)
    }

    fn push(&mut self, piece: &[u8], each: &mut impl FnMut(&str)) {
        for part in piece.split_inclusive(|byte| *byte == b'\n') {
            let text = part.strip_suffix(b"\n").unwrap_or(part);
            let room = LINE_MAX.saturating_sub(self.rest.len());
            self.rest.extend_from_slice(&text[..text.len().min(room)]);
            if part.len() > text.len() && !self.rest.is_empty() {
                each(&printable(&self.rest));
                self.rest.clear();
            }
        }
    }

    /// Sends its whole session's first group a signal. Nothing where it has ended.
    ///
    /// # Errors
    /// What the system says.
    pub fn signal(&mut self, signal: i32) -> io::Result<()> {
        if self.ended()?.is_some() {
            return Ok(());
        }
        let pid = libc::pid_t::try_from(self.child.id()).map_err(io::Error::other)?;
        // SAFETY: plain system call without pointers. The child leads its group and is not reaped, so the number is still its.
        let rc = unsafe { libc::kill(-pid, signal) };
        if rc == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
    }
}

/// A process that we may or may not have started, held by a descriptor: never taken for another of the same number.
#[derive(Debug)]
pub struct Process {
    identity: Identity,
    gone: OwnedFd,
}

impl Process {
    /// The process of that number; `None`: there is none that lives.
    ///
    /// # Errors
    /// What the system says.
    pub fn open(pid: u32) -> io::Result<Option<Self>> {
        let none = |error: &io::Error| matches!(error.raw_os_error(), Some(libc::ESRCH | libc::EINVAL | libc::ENOENT));
        let gone = match libc::pid_t::try_from(pid).map_err(io::Error::other).and_then(end_of) {
            Ok(fd) => fd,
            Err(error) if none(&error) => return Ok(None),
            Err(error) => return Err(error),
        };
        let stat = match fs::read(format!("/proc/{pid}/stat")) {
            Ok(stat) => stat,
            Err(error) if none(&error) => return Ok(None),
            Err(error) => return Err(error),
        };
        let stat = Stat::read(&stat).ok_or_else(|| io::Error::other(format!("/proc/{pid}/stat is not as proc(5) says")))?;
        let exe = fs::read_link(format!("/proc/{pid}/exe")).ok();
        let identity = Identity { pid, started: stat.started, boot: clock::boot_id()?, exe };
        let process = Self { identity, gone };
        // Alive after what was read: so that is what was read of.
        Ok((stat.state != b'Z' && !process.is_gone()?).then_some(process))
    }

    /// The process that was this when it was last seen; `None`: it is gone, or its number somebody else's.
    ///
    /// # Errors
    /// What the system says.
    pub fn known(known: &Identity) -> io::Result<Option<Self>> {
        let same = |found: &Self| (found.identity.started, &found.identity.boot) == (known.started, &known.boot);
        Ok(Self::open(known.pid)?.filter(same))
    }

    /// What it is.
    pub const fn identity(&self) -> &Identity {
        &self.identity
    }

    /// How long ago it began.
    pub fn age(&self) -> Span {
        // SAFETY: plain call without pointers.
        let hertz = u64::try_from(unsafe { libc::sysconf(libc::_SC_CLK_TCK) }).unwrap_or(100).max(1);
        let began = self.identity.started.saturating_mul(1000) / hertz;
        Span::millis(clock::now().tick.0.saturating_sub(began))
    }

    /// Readable when it has ended.
    pub fn fd(&self) -> BorrowedFd<'_> {
        self.gone.as_fd()
    }

    fn is_gone(&self) -> io::Result<bool> {
        Ok(poll(&[self.gone.as_fd()], None, Some(Span::ZERO))?.at(0))
    }

    /// How it ended, if it did. Reaps it where it is our child by now and no [`Run`] is to. Never blocks.
    ///
    /// # Errors
    /// What the system says.
    pub fn ended(&self) -> io::Result<Option<End>> {
        if !self.is_gone()? {
            return Ok(None);
        }
        let mut info = MaybeUninit::<libc::siginfo_t>::zeroed();
        let id = libc::id_t::try_from(self.gone.as_raw_fd()).map_err(io::Error::other)?;
        // SAFETY: the descriptor is an open pidfd; the kernel fills `info`, which is live, ours and of its size.
        let rc = unsafe { libc::waitid(libc::P_PIDFD, id, info.as_mut_ptr(), libc::WEXITED | libc::WNOHANG) };
        if rc != 0 {
            // Not our child, or reaped: nobody knows.
            return Ok(Some(End { status: None }));
        }
        // SAFETY: zeroed and then filled by a call that succeeded.
        let info = unsafe { info.assume_init() };
        // SAFETY: what waitid fills is the variant of a child, and zeroes are a valid one.
        let (pid, status) = unsafe { (info.si_pid(), info.si_status()) };
        // wait(2): an exit code stands in the second byte, a signal in the first.
        let raw = if info.si_code == libc::CLD_EXITED { (status & 0xff) << 8 } else { status & 0x7f };
        Ok(Some(End { status: (pid != 0).then(|| ExitStatus::from_raw(raw)) }))
    }

    /// Sends it a signal. Nothing where it has ended.
    ///
    /// # Errors
    /// What the system says.
    pub fn signal(&self, signal: i32) -> io::Result<()> {
        let none = std::ptr::null::<libc::siginfo_t>();
        // SAFETY: the descriptor is an open pidfd; a null siginfo is allowed (pidfd_send_signal(2)).
        let rc = unsafe { libc::syscall(libc::SYS_pidfd_send_signal, self.gone.as_raw_fd(), signal, none, 0) };
        match rc {
            0 => Ok(()),
            _ => {
                Err(io::Error::last_os_error()).or_else(|error| if error.raw_os_error() == Some(libc::ESRCH) { Ok(()) } else { Err(error) })
            }
        }
    }
}

/// What is used of /proc/PID/stat (proc(5); fields are counted from 1):
///
/// | field | what |
/// |---|---|
/// | 2 | name in brackets, which may hold anything, brackets too |
/// | 3 | state, one letter |
/// | 6 | session |
/// | 22 | start, in clock ticks since boot |
struct Stat {
    state: u8,
    session: i32,
    started: u64,
}

impl Stat {
    fn read(bytes: &[u8]) -> Option<Self> {
        let end = bytes.iter().rposition(|byte| *byte == b')')?;
        let rest = std::str::from_utf8(bytes.get(end + 1..)?).ok()?;
        let fields: Vec<&str> = rest.split_ascii_whitespace().take(20).collect();
        let state = *fields.first()?.as_bytes().first()?;
        Some(Self { state, session: fields.get(3)?.parse().ok()?, started: fields.get(19)?.parse().ok()? })
    }
}

/// Has clients that went into the background become our children when their parents end, so that they are reaped and
/// their exit status is known. Of the whole process.
///
/// # Errors
/// What the system says.
pub fn adopt_orphans() -> io::Result<()> {
    // SAFETY: plain system call without pointers.
    let rc = unsafe { libc::prctl(libc::PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) };
    if rc == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Reaps the dead among our children that a client left behind, but none of `ours`, which others reap. Clients run in
/// sessions of their own and nobody can get out of one into ours, so who died in ours is a child of somebody else here.
/// Call it from the thread that makes [`Run`]s. How many there were.
pub fn reap_orphans(ours: &[u32]) -> usize {
    // SAFETY: plain system call without pointers.
    let session = unsafe { libc::getsid(0) };
    let tasks = fs::read_dir("/proc/self/task").into_iter().flatten().flatten();
    let lists = tasks.filter_map(|task| fs::read_to_string(task.path().join("children")).ok());
    let children: Vec<u32> =
        lists.flat_map(|list| list.split_ascii_whitespace().filter_map(|pid| pid.parse().ok()).collect::<Vec<_>>()).collect();
    let dead = |pid: &u32| {
        let stat = fs::read(format!("/proc/{pid}/stat")).ok().and_then(|bytes| Stat::read(&bytes));
        stat.is_some_and(|stat| stat.state == b'Z' && stat.session != session)
    };
    let reap = |pid: &u32| {
        let Ok(pid) = libc::pid_t::try_from(*pid) else { return false };
        // SAFETY: plain system call; a null status is allowed. It is dead, our child, and not reaped: the number is its.
        unsafe { libc::waitpid(pid, std::ptr::null_mut(), libc::WNOHANG) == pid }
    };
    children.iter().filter(|pid| !ours.contains(pid)).filter(|pid| dead(pid)).filter(|pid| reap(pid)).count()
}
