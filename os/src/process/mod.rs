//! Children that speak to us through pipes or listen to us, programs run to their end, clients that outlive us, and what the
//! service manager is told.

pub mod client;
mod fed;
#[cfg(target_os = "freebsd")]
mod freebsd;
mod lines;
#[cfg(target_os = "linux")]
mod linux;
mod tool;

pub use fed::{Fed, Told};
pub use tool::{LONG, Ran, SOON, Tool, ToolError};

use std::ffi::{OsStr, OsString};
use std::io;
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, ChildStderr, ChildStdout, Command, ExitStatus, Stdio};

use palisade_core::time::Span;

use crate::wake;
#[cfg(target_os = "freebsd")]
use freebsd::{abstract_address, end_of, end_with_parent, give_up_inherited};
#[cfg(target_os = "linux")]
use linux::{abstract_address, end_of, end_with_parent, give_up_inherited};

/// How long a child that is dropped may take to stop before it is killed.
const STOP: Span = Span::secs(1);

/// Tells the service manager `state` (`READY=1`, `WATCHDOG=1`, ...; sd_notify(3)). `socket` is what
/// `$NOTIFY_SOCKET` holds: a path, or `@name` for the abstract namespace. Whether there was somebody
/// to tell. Never blocks.
pub fn sd_notify(socket: Option<&OsStr>, state: &str) -> io::Result<bool> {
    let Some(name) = socket.filter(|name| !name.is_empty()) else { return Ok(false) };
    let address = match name.as_bytes().strip_prefix(b"@") {
        Some(abstract_name) => abstract_address(abstract_name)?,
        None => SocketAddr::from_pathname(Path::new(name))?,
    };
    let datagram = UnixDatagram::unbound()?;
    datagram.set_nonblocking(true)?;
    datagram.send_to_addr(state.as_bytes(), &address)?;
    Ok(true)
}

/// A running child whose output is read without blocking. Stopped and reaped when dropped.
#[derive(Debug)]
pub struct Piped {
    child: Child,
    /// What it prints. Reads never block.
    pub stdout: ChildStdout,
    /// What it complains. Reads never block.
    pub stderr: ChildStderr,
}

impl Piped {
    /// Starts `program` with these arguments: no shell, an empty environment, no input, no blocked
    /// signals. It is told to stop when the calling thread ends (FreeBSD: the process).
    pub fn spawn(program: &Path, arguments: &[OsString]) -> io::Result<Self> {
        let mut command = Command::new(program);
        command.args(arguments).env_clear().current_dir("/");
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let parent = std::process::id();
        // SAFETY: the closure runs in the child between fork and exec, where only async-signal-safe
        // calls are allowed: `prepare` and what follows make plain system calls and allocate nothing. What such a
        // child reads is written by anybody: what the firewall's programs may is not for it.
        unsafe { command.pre_exec(move || prepare(parent).map(|()| give_up_inherited())) };
        let mut child = command.spawn()?;
        let (Some(stdout), Some(stderr)) = (child.stdout.take(), child.stderr.take()) else {
            return Err(io::Error::other("the child has no pipes"));
        };
        let piped = Self { child, stdout, stderr };
        nonblocking(&piped.stdout)?;
        nonblocking(&piped.stderr)?;
        Ok(piped)
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// How it ended, if it did. Never blocks.
    pub fn ended(&mut self) -> io::Result<Option<ExitStatus>> {
        self.child.try_wait()
    }

    /// Waits until it has ended by itself; one that has not `within` is told to stop. How it ended.
    pub fn wait(&mut self, within: Span) -> io::Result<ExitStatus> {
        if let Some(status) = self.child.try_wait()? {
            return Ok(status);
        }
        // Not reaped yet, so the id is still this child's.
        let pid = libc::pid_t::try_from(self.child.id()).map_err(io::Error::other)?;
        let _ = end_of(pid).and_then(|fd| wake::poll(&[fd.as_fd()], None, Some(within)))?;
        self.stop(STOP)
    }

    /// Tells it to stop and kills it if it is not gone `within`. How it ended.
    pub fn stop(&mut self, within: Span) -> io::Result<ExitStatus> {
        if let Some(status) = self.child.try_wait()? {
            return Ok(status);
        }
        // Not reaped yet, so the id is still this child's.
        let pid = libc::pid_t::try_from(self.child.id()).map_err(io::Error::other)?;
        // SAFETY: plain system call without pointers.
        unsafe { libc::kill(pid, libc::SIGTERM) };
        let gone = end_of(pid).and_then(|fd| wake::poll(&[fd.as_fd()], None, Some(within)));
        if !gone.is_ok_and(|ready| ready.at(0)) {
            self.child.kill()?;
        }
        self.child.wait()
    }
}

impl Drop for Piped {
    fn drop(&mut self) {
        // There is nobody left to tell; the kernel ends it with us at the latest.
        let _ = self.stop(STOP);
    }
}

/// Async-signal-safe.
fn unblock_signals() {
    // SAFETY: sigset_t is plain data which sigemptyset fills; pthread_sigmask only reads it. Children
    // inherit the mask, and one that blocks SIGTERM would not stop.
    unsafe {
        let mut none: libc::sigset_t = std::mem::zeroed();
        libc::sigemptyset(&raw mut none);
        libc::pthread_sigmask(libc::SIG_SETMASK, &raw const none, std::ptr::null_mut());
    }
}

fn prepare(parent: u32) -> io::Result<()> {
    unblock_signals();
    end_with_parent(libc::SIGTERM)?;
    // SAFETY: plain system call without pointers. A parent that died before the line above sends nothing.
    if u32::try_from(unsafe { libc::getppid() }) != Ok(parent) {
        return Err(io::Error::from_raw_os_error(libc::ESRCH));
    }
    Ok(())
}

fn nonblocking(pipe: &impl AsFd) -> io::Result<()> {
    let fd = pipe.as_fd().as_raw_fd();
    // SAFETY: plain system calls without pointers on a descriptor that is open.
    let rc = unsafe { libc::fcntl(fd, libc::F_SETFL, libc::fcntl(fd, libc::F_GETFL) | libc::O_NONBLOCK) };
    if rc < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read;
    use std::os::linux::net::SocketAddrExt;

    #[test]
    fn the_service_manager_is_told_by_path_and_by_name() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("notify");
        let name = format!("palisade-test-{}", std::process::id());
        let at_path = UnixDatagram::bind(&path).unwrap();
        let at_name = UnixDatagram::bind_addr(&SocketAddr::from_abstract_name(&name).unwrap()).unwrap();
        for (socket, receiver) in [(path.into_os_string(), at_path), (format!("@{name}").into(), at_name)] {
            assert!(sd_notify(Some(&socket), "READY=1").unwrap());
            let mut buffer = [0; 100];
            let len = receiver.recv(&mut buffer).unwrap();
            assert_eq!(&buffer[..len], b"READY=1");
        }
        assert!(!sd_notify(None, "READY=1").unwrap() && !sd_notify(Some(OsStr::new("")), "READY=1").unwrap());
        assert!(sd_notify(Some(OsStr::new("/nonexistent/notify")), "READY=1").is_err());
    }

    #[test]
    fn a_child_has_no_environment_and_is_gone_after_drop() {
        let script = ["-c", "env | grep -v -e ^PWD= -e ^_= -e ^SHLVL=; echo ready; exec sleep 600"].map(OsString::from);
        // Blocked signals are not passed on: else SIGTERM would not stop it.
        let _signals = wake::Signals::take_over().unwrap();
        let mut child = Piped::spawn(Path::new("/bin/sh"), &script).unwrap();
        let mut text = String::new();
        while !text.ends_with("ready\n") {
            assert!(wake::poll(&[child.stdout.as_fd()], None, Some(Span::secs(20))).unwrap().at(0));
            let mut buffer = [0; 100];
            let len = child.stdout.read(&mut buffer).unwrap();
            text.push_str(std::str::from_utf8(&buffer[..len]).unwrap());
        }
        assert_eq!(text, "ready\n");
        assert_eq!(child.stdout.read(&mut [0]).unwrap_err().kind(), io::ErrorKind::WouldBlock);
        let pid = child.pid();
        assert!(child.ended().unwrap().is_none());
        drop(child);

        assert!(!Path::new(&format!("/proc/{pid}")).exists());
    }
}
