//! A host: network and mount namespaces of its own, held open by a process that dies with the test.

use std::ffi::OsStr;
use std::fs::File;
use std::io::{BufRead, BufReader};
use std::os::fd::AsFd;
use std::process::{Child, Command, Output, Stdio};

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use super::program;

/// A host of the laboratory.
pub struct Space {
    name: String,
    /// `cat` with our end of its standard input: when that closes, it ends, and the namespaces with it.
    holder: Child,
}

impl Space {
    /// A host with nothing but loopback, and connection tracking off.
    pub fn new(name: &str) -> Self {
        let mut holder = Command::new(program("unshare"))
            .args(["--net", "--mount", "sh", "-ec"])
            .arg("sysctl -qw net.ipv6.conf.default.accept_dad=0 net.ipv6.conf.all.accept_dad=0; ip link set lo up; echo ready; exec cat")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(holder.stdout.take().unwrap()).read_line(&mut line).unwrap();
        assert_eq!(line, "ready\n", "the namespaces of {name} could not be made");
        Self { name: name.to_owned(), holder }
    }

    /// A process in it, by which others find it.
    pub fn pid(&self) -> u32 {
        self.holder.id()
    }

    /// A command that will run in it; its process id is the program's own.
    pub fn command(&self, name: impl AsRef<OsStr>) -> Command {
        let mut command = Command::new(program("nsenter"));
        command.arg(format!("--target={}", self.pid())).args(["--net", "--mount", "--"]).arg(name).stdin(Stdio::null());
        command
    }

    /// Runs a shell script in it, which must succeed, and what it printed.
    pub fn sh(&self, script: &str) -> String {
        let output = self.try_sh(script);
        assert!(output.status.success(), "in {}: {script}\n{}", self.name, String::from_utf8_lossy(&output.stderr));
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    /// Runs a shell script in it that may fail.
    pub fn try_sh(&self, script: &str) -> Output {
        self.command("sh").args(["-ec", script]).env("LC_ALL", "C").output().unwrap()
    }

    /// Does something in its network; sockets made there stay there.
    pub fn within<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        let net = self.net();
        std::thread::scope(|scope| {
            let thread = scope.spawn(move || {
                enter(&net);
                work()
            });
            thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })
    }

    /// The network namespace, for a thread that wants to [`enter`] it.
    pub fn net(&self) -> File {
        File::open(format!("/proc/{}/ns/net", self.pid())).unwrap()
    }
}

/// Moves the calling thread, which should end soon after, into a network namespace.
pub fn enter(net: &File) {
    move_into_link_name_space(net.as_fd(), Some(LinkNameSpaceType::Network)).unwrap();
}

impl Drop for Space {
    fn drop(&mut self) {
        let _ = self.holder.kill();
        let _ = self.holder.wait();
    }
}
