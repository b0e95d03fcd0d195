//! The two clocks, read together, and which boot this is.

use std::io;

use palisade_core::time::{Now, Stamp, Tick};

/// The clock that never steps. Linux's goes on during suspend; of FreeBSD's none did when this was written
/// (sys/kern/kern_time.c: `CLOCK_MONOTONIC` and `CLOCK_UPTIME` are the same time), and this is the one that by
/// its name may come to do so.
#[cfg(target_os = "linux")]
const BOOT: libc::clockid_t = libc::CLOCK_BOOTTIME;
#[cfg(target_os = "freebsd")]
const BOOT: libc::clockid_t = libc::CLOCK_MONOTONIC;

/// This instant on both clocks: the wall clock (`CLOCK_REALTIME`), and time since boot (Linux: `CLOCK_BOOTTIME`,
/// which never steps and goes on during suspend).
pub fn now() -> Now {
    let wall = read(libc::CLOCK_REALTIME);
    let boot = read(BOOT);
    Now { stamp: Stamp(millis(wall)), tick: Tick(u64::try_from(millis(boot)).unwrap_or(0)) }
}

/// The kernel's random id of this boot, as text. [`Tick`]s of two boots must not be compared.
#[cfg(target_os = "freebsd")]
pub fn boot_id() -> io::Result<String> {
    let mut id = [0; 16];
    crate::bsd::sysctl::value(c"kern.boot_id", &mut id)?;
    Ok(id.iter().map(|byte| format!("{byte:02x}")).collect())
}

/// The kernel's random id of this boot (RFC 4122 text). [`Tick`]s of two boots must not be compared.
#[cfg(target_os = "linux")]
pub fn boot_id() -> io::Result<String> {
    std::fs::read_to_string("/proc/sys/kernel/random/boot_id").map(|id| id.trim().to_owned())
}

#[allow(clippy::useless_conversion, reason = "both are 32 bits wide on 32-bit systems")]
fn millis(time: libc::timespec) -> i64 {
    let (seconds, nanos) = (i64::from(time.tv_sec), i64::from(time.tv_nsec));
    seconds.saturating_mul(1000).saturating_add(nanos / 1_000_000)
}

fn read(clock: libc::clockid_t) -> libc::timespec {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `time` is live and ours; the kernel writes one timespec into it. It fails only for a
    // clock the kernel does not know (both are older than Linux 2.6.39, and than FreeBSD 5), and leaves zero then.
    unsafe { libc::clock_gettime(clock, &raw mut time) };
    time
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::{SystemTime, UNIX_EPOCH};

    #[test]
    fn both_clocks_tell_the_time() {
        let system = i64::try_from(SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis()).unwrap();
        let uptime: f64 = std::fs::read_to_string("/proc/uptime").unwrap().split(' ').next().unwrap().parse().unwrap();
        let first = now();
        std::thread::sleep(std::time::Duration::from_millis(20));
        let second = now();
        assert!((first.stamp.0 - system).abs() < 5000, "{first:?} {system}");
        #[expect(clippy::cast_precision_loss, reason = "uptimes are small")]
        let tick = first.tick.0 as f64 / 1000.0;
        assert!((tick - uptime).abs() < 5.0, "{tick} {uptime}");
        assert!(second.tick.0 >= first.tick.0 + 20);
    }

    #[test]
    fn the_boot_has_an_id() {
        let id = boot_id().unwrap();
        assert_eq!(id.len(), 36);
        assert_eq!(id, boot_id().unwrap());
    }
}
