//! Where everything happens: network namespaces without names, gone with the last file or process
//! that holds them.

use std::fs::File;
use std::io::Write;
use std::net::Ipv4Addr;
use std::os::fd::AsRawFd;
use std::process::{Command, Stdio};
use std::thread;

use anyhow::{Context, Result, ensure};
use nix::sched::{CloneFlags, setns, unshare};

/// The guarded host of [`Lab`].
pub(crate) const VICTIM: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);
/// What the attacker's end of the cable is called by the victim.
const HOP: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 2);
/// Where the attackers' addresses are: two documentation networks, 254 hosts each.
const ATTACKERS: [[u8; 3]; 2] = [[203, 0, 113], [198, 51, 100]];

/// One network namespace.
#[derive(Debug)]
pub(crate) struct Netns(File);

impl Netns {
    /// A fresh one, with its loopback up.
    pub(crate) fn fresh() -> Result<Self> {
        let made = thread::spawn(|| -> Result<File> {
            unshare(CloneFlags::CLONE_NEWNET).context("a new network namespace; root is needed")?;
            File::open("/proc/thread-self/ns/net").context("/proc/thread-self/ns/net")
        });
        let ns = Self(made.join().map_err(|_| anyhow::anyhow!("the thread making a namespace panicked"))??);
        ns.ip(&["link", "set", "lo", "up"])?;
        Ok(ns)
    }

    /// Runs `work` in it, on a thread of its own. What `work` opens and starts stays in it.
    pub(crate) fn within<T: Send>(&self, work: impl FnOnce() -> Result<T> + Send) -> Result<T> {
        thread::scope(|scope| {
            let done = scope.spawn(|| {
                setns(&self.0, CloneFlags::CLONE_NEWNET).context("entering the namespace")?;
                work()
            });
            done.join().map_err(|_| anyhow::anyhow!("a thread in a namespace panicked"))?
        })
    }

    /// `ip ARGS` in it.
    fn ip(&self, args: &[&str]) -> Result<()> {
        self.feed("ip", args, "")
    }

    /// Runs a command in it that must succeed, with `input` on its standard input.
    pub(crate) fn feed(&self, program: &str, args: &[&str], input: &str) -> Result<()> {
        self.within(|| {
            let mut child =
                Command::new(program).args(args).stdin(Stdio::piped()).stdout(Stdio::null()).spawn().with_context(|| program.to_owned())?;
            child.stdin.take().context("its input")?.write_all(input.as_bytes())?;
            let status = child.wait()?;
            ensure!(status.success(), "{program} {}: {status}", args.join(" "));
            Ok(())
        })
    }

    /// What a command in it prints.
    pub(crate) fn ask(&self, program: &str, args: &[&str]) -> Result<String> {
        self.within(|| {
            let output = Command::new(program).args(args).stdin(Stdio::null()).output().with_context(|| program.to_owned())?;
            ensure!(output.status.success(), "{program} {}: {}", args.join(" "), output.status);
            Ok(String::from_utf8_lossy(&output.stdout).into_owned())
        })
    }
}

/// A guarded host and an attacker with many addresses, joined by a cable.
#[derive(Debug)]
pub(crate) struct Lab {
    /// The guarded host.
    pub(crate) victim: Netns,
    /// The attacker.
    pub(crate) attacker: Netns,
}

impl Lab {
    /// Builds it.
    pub(crate) fn build() -> Result<Self> {
        let (victim, attacker) = (Netns::fresh()?, Netns::fresh()?);
        let there = format!("/proc/{}/fd/{}", std::process::id(), attacker.0.as_raw_fd());
        victim.ip(&["link", "add", "cable", "type", "veth", "peer", "name", "cable", "netns", &there])?;
        let here: String = std::iter::once(format!("addr add {VICTIM}/24 dev cable\nlink set cable up\n"))
            .chain(ATTACKERS.map(|[a, b, c]| format!("route add {a}.{b}.{c}.0/24 via {HOP}\n")))
            .collect();
        let there: String = std::iter::once(format!("addr add {HOP}/24 dev cable\nlink set cable up\n"))
            .chain(attackers().map(|addr| format!("addr add {addr}/32 dev lo\n")))
            .collect();
        attacker.feed("ip", &["-batch", "-"], &there)?;
        victim.feed("ip", &["-batch", "-"], &here)?;
        Ok(Self { victim, attacker })
    }
}

/// The attacker's addresses.
pub(crate) fn attackers() -> impl Iterator<Item = Ipv4Addr> {
    ATTACKERS.into_iter().flat_map(|[a, b, c]| (1..=254).map(move |d| Ipv4Addr::new(a, b, c, d)))
}

/// The `n`-th of up to 16,777,216 distinct addresses of 10.0.0.0/8, scattered over it: no
/// documentation network is large enough. The factor is odd, so nothing comes twice; it is 2^24
/// divided by the golden ratio, which spreads neighbours far apart.
pub(crate) fn scattered(n: u32) -> Ipv4Addr {
    Ipv4Addr::from(10 << 24 | n.wrapping_mul(10_368_889) & 0x00ff_ffff)
}
