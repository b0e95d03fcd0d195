//! How long the wall takes, and how much memory: `cargo run --release -p palisade-os --example bulk -- 1000000`.
//! With `once` behind the number only the first load is done: what `ipset restore` and `nft -f` do.
//!
//! Works in a network namespace of its own and changes nothing else; needs root.

use std::net::Ipv4Addr;
use std::time::{Instant, SystemTime};

use palisade_core::bans::wall::{Entry, Frame, Key, Step};
use palisade_core::net::Prefix;
use palisade_core::time::{Span, Stamp, Until};
use palisade_os::block::nftables::Nftables;
use palisade_os::block::{Blocker, Read};

/// How many single bans are timed.
const SINGLE: u32 = 1000;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let count: u32 = std::env::args().nth(1).map_or(Ok(1_000_000), |text| text.parse())?;
    // SAFETY: takes no pointers; only this thread, the only one, changes its namespace.
    if unsafe { libc::unshare(libc::CLONE_NEWNET) } < 0 {
        return Err(std::io::Error::last_os_error().into());
    }
    let once = std::env::args().nth(2).is_some_and(|text| text == "once");
    let now = Stamp(i64::try_from(SystemTime::now().duration_since(SystemTime::UNIX_EPOCH)?.as_millis())?);
    let key = |i: u32| Key::all(Prefix::host(Ipv4Addr::from_bits(0x0a00_0000 + i).into()));
    let until = Until::At(now.plus(Span::secs(86_400)));
    let entry = |i: u32| Entry { key: key(i), until };

    let began = Instant::now();
    let mut wall = Nftables::open()?;
    report_line("open", began);
    for what in ["replace, nothing there", "replace, as many there"] {
        let began = Instant::now();
        let report = wall.replace(&Frame::default(), &mut (0..count).map(entry), now)?;
        report_line(&format!("{what}: {} done", report.done), began);
        if once {
            return Ok(());
        }
    }
    let steps: Vec<Step> = (0..count.min(100_000)).map(|i| Step::Block(entry(i))).collect();
    let began = Instant::now();
    let report = wall.apply(&steps, now);
    report_line(&format!("apply, all standing: {} done", report.done), began);
    drop(steps);

    for (what, step) in [("block", Step::Block as fn(Entry) -> Step), ("release", |entry| Step::Release(entry.key))] {
        let began = Instant::now();
        let failed = (count..count + SINGLE).filter(|i| !wall.apply(&[step(entry(*i))], now).ok()).count();
        let each = began.elapsed() / SINGLE;
        report_line(&format!("{what} one: {each:?} each, {failed} failed"), began);
    }
    let keys: Vec<Key> = (0..SINGLE.min(count)).map(key).collect();
    let began = Instant::now();
    let found = wall.read(Read::Keys(&keys))?;
    report_line(&format!("read {} by key, whole: {}", found.bans.len(), found.whole), began);
    let began = Instant::now();
    let drift = wall.drift()?;
    report_line(&format!("drift: {drift:?}"), began);
    Ok(())
}

/// User and kernel time of this process so far, in milliseconds: what a busy machine leaves comparable.
fn cpu() -> libc::time_t {
    // SAFETY: rusage is plain integers, all zero is a valid value of it.
    let mut usage: libc::rusage = unsafe { std::mem::zeroed() };
    // SAFETY: `usage` is live and ours; the kernel writes only into it.
    unsafe { libc::getrusage(libc::RUSAGE_SELF, &raw mut usage) };
    let ms = |time: libc::timeval| time.tv_sec * 1000 + time.tv_usec / 1000;
    ms(usage.ru_utime) + ms(usage.ru_stime)
}

#[expect(clippy::print_stdout, reason = "an example's output")]
fn report_line(what: &str, began: Instant) {
    let took = began.elapsed();
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap_or("?").trim();
    println!("{took:>12.3?}  CPU so far {:>6} ms  peak RSS {peak:>10}  {what}", cpu());
}
