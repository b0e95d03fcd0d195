//! Other programs: started, measured, and ended by their own ids.

use std::io::Write;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::signal::{Signal, kill, killpg};
use nix::sys::time::TimeValLike;
use nix::unistd::Pid;

/// How long a program is given to end when asked to, before it is killed.
const PATIENCE: Duration = Duration::from_secs(20);

/// `USER_HZ`, in which /proc tells processor time (proc(5)).
const TICKS: f64 = 100.0;

/// A program that runs beside a measurement, with all it starts.
#[derive(Debug)]
pub(crate) struct Running(Child);

impl Running {
    /// Starts it in a process group of its own, in the network namespace of the calling thread.
    pub(crate) fn start(command: &mut Command) -> Result<Self> {
        let child = command.process_group(0).stdin(Stdio::null()).spawn().with_context(|| format!("{command:?}"))?;
        Ok(Self(child))
    }

    /// Its process id, which is also its group's.
    pub(crate) fn id(&self) -> u32 {
        self.0.id()
    }

    /// Processor time it has used so far, its own and the kernel's on its behalf, in seconds.
    pub(crate) fn used(&self) -> Result<f64> {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.id()))?;
        // The name may hold anything; what follows it are numbers (proc(5)).
        let after = stat.rsplit_once(')').context("stat")?.1;
        let ticks = |n: usize| after.split_whitespace().nth(n).and_then(|word| word.parse::<f64>().ok()).context("stat");
        Ok((ticks(11)? + ticks(12)?) / TICKS)
    }

    /// Says so if it is gone.
    pub(crate) fn must_live(&mut self) -> Result<()> {
        match self.0.try_wait()? {
            Some(status) => bail!("the guard ended: {status}"),
            None => Ok(()),
        }
    }
}

impl Drop for Running {
    /// Asks the program to end, then its whole group, then kills what is left of it.
    fn drop(&mut self) {
        let Ok(id) = i32::try_from(self.0.id()).map(Pid::from_raw) else { return };
        let _ = kill(id, Signal::SIGTERM);
        let asked = Instant::now();
        while matches!(self.0.try_wait(), Ok(None)) && asked.elapsed() < PATIENCE {
            thread::sleep(Duration::from_millis(5));
        }
        // Not waited for yet, or just now: nobody else can have been given this group's number while members live.
        let _ = killpg(id, Signal::SIGKILL);
        let _ = self.0.wait();
    }
}

/// What a whole process cost.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Cost {
    /// From before it was started until it was waited for.
    pub(crate) wall: Duration,
    /// The most memory it had, in KiB. Not less than what the measuring process had when it forked, about 2 MiB.
    pub(crate) peak_kib: u64,
    /// Processor time, its own and the kernel's on its behalf: what other work on the machine changes least.
    pub(crate) cpu: Duration,
}

/// Runs `args` to its end in the network namespace of the calling thread; `output` is where its
/// standard output goes. A small copy of this program starts and waits for it, because the kernel
/// tells the peak memory only of all children together, and a child begins with its parent's.
pub(crate) fn measure(args: &[&str], output: Stdio) -> Result<Cost> {
    let me = std::env::current_exe().context("finding this program")?;
    let mut wrapper = Command::new(me).arg(MEASURE).args(args).stdin(Stdio::null()).stdout(output).stderr(Stdio::piped()).spawn()?;
    let mut told = String::new();
    std::io::Read::read_to_string(&mut wrapper.stderr.take().context("its messages")?, &mut told)?;
    let status = wrapper.wait()?;
    ensure!(status.success(), "{}: {status}: {told}", args.join(" "));
    let last: Vec<u64> = told.lines().last().unwrap_or_default().split(' ').filter_map(|number| number.parse().ok()).collect();
    let [wall, cpu, peak_kib] = last[..] else { bail!("{}: {told}", args.join(" ")) };
    Ok(Cost { wall: Duration::from_nanos(wall), cpu: Duration::from_micros(cpu), peak_kib })
}

/// The first argument that makes this program the small copy of [`measure`].
pub(crate) const MEASURE: &str = "measure-one";

/// The small copy: runs `args`, then writes nanoseconds, microseconds of processor time and KiB to
/// standard error.
pub(crate) fn measure_here(mut args: impl Iterator<Item = String>) -> Result<()> {
    let program = args.next().context("nothing to measure")?;
    let mut command = Command::new(program);
    command.args(args);
    let began = Instant::now();
    let status = command.status()?;
    let wall = began.elapsed();
    let used = getrusage(UsageWho::RUSAGE_CHILDREN)?;
    let cpu = (used.user_time() + used.system_time()).num_microseconds();
    writeln!(std::io::stderr(), "{} {cpu} {}", wall.as_nanos(), used.max_rss())?;
    ensure!(status.success(), "{status}");
    Ok(())
}

/// How long a short process takes, from before it is started until it was waited for.
pub(crate) fn clock(program: &str, args: &[&str]) -> Result<(Duration, ExitStatus)> {
    let mut command = Command::new(program);
    command.args(args).stdin(Stdio::null()).stdout(Stdio::null());
    let began = Instant::now();
    let status = command.status().with_context(|| program.to_owned())?;
    Ok((began.elapsed(), status))
}

/// `VmRSS` and `VmHWM` of a running process, in KiB.
pub(crate) fn memory(id: u32) -> Result<(u64, u64)> {
    let path = Path::new("/proc").join(id.to_string()).join("status");
    let text = std::fs::read_to_string(&path).with_context(|| path.display().to_string())?;
    let field = |name: &str| -> Result<u64> {
        let line = text.lines().find_map(|line| line.strip_prefix(name)).with_context(|| format!("{name} in {}", path.display()))?;
        Ok(line.trim().trim_end_matches(" kB").parse()?)
    };
    Ok((field("VmRSS:")?, field("VmHWM:")?))
}

/// Makes the calling thread wake within microseconds of when it should, whatever else runs: its
/// stamps shall be the guard's times and not the scheduler's. Only for threads that hardly ever run.
pub(crate) fn precise() -> Result<()> {
    // 1 ns: without it the kernel adds up to 50 µs to each sleep.
    nix::sys::prctl::set_timerslack(1).context("the timer slack")?;
    let status = Command::new("chrt").args(["--fifo", "--pid", "10", &nix::unistd::gettid().to_string()]).status()?;
    ensure!(status.success(), "chrt: {status}");
    Ok(())
}
