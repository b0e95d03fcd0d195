//! The parts of root's power, and giving up the rest.
//!
//! `capset(2)`, version 3: a head of version and thread id (0: the calling one), then two of
//! these, for the lower and the upper 32 capabilities (linux/capability.h):
//!
//! | offset | size | what |
//! |---|---|---|
//! | 0 | 4 | effective |
//! | 4 | 4 | permitted |
//! | 8 | 4 | inheritable |

use std::io;

use crate::privileges::{Cap, Children};

/// `_LINUX_CAPABILITY_VERSION_3`: 64 capabilities.
const VERSION_3: u32 = 0x2008_0522;

/// More capabilities than any kernel has; the bounding set is dropped up to the first unknown one.
const CAPS_MAX: u32 = 64;

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
struct Half {
    effective: u32,
    permitted: u32,
    inheritable: u32,
}

#[repr(C)]
struct Head {
    version: u32,
    pid: i32,
}

fn get() -> io::Result<[Half; 2]> {
    let mut head = Head { version: VERSION_3, pid: 0 };
    let mut halves = [Half::default(); 2];
    // SAFETY: the head says version 3, for which the kernel writes two halves; both are live and ours.
    let rc = unsafe { libc::syscall(libc::SYS_capget, &raw mut head, halves.as_mut_ptr()) };
    if rc != 0 { Err(io::Error::last_os_error()) } else { Ok(halves) }
}

fn set(halves: [Half; 2]) -> io::Result<()> {
    let mut head = Head { version: VERSION_3, pid: 0 };
    // SAFETY: as above; the kernel only reads the halves.
    let rc = unsafe { libc::syscall(libc::SYS_capset, &raw mut head, halves.as_ptr()) };
    if rc != 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

fn prctl(option: i32, argument: u64) -> io::Result<i32> {
    // SAFETY: plain system call without pointers; unused arguments are zero as it demands.
    let rc = unsafe { libc::prctl(option, argument, 0u64, 0u64, 0u64) };
    if rc < 0 { Err(io::Error::last_os_error()) } else { Ok(rc) }
}

/// Keeps these capabilities at most, in every set, for good: children cannot gain any either
/// (no_new_privs), nor may they inherit ours. Counts for the calling thread and those it starts:
/// call it before any is started.
pub fn drop_capabilities(keep: &[Cap], children: Children) -> io::Result<()> {
    prctl(libc::PR_SET_NO_NEW_PRIVS, 1)?;
    let kept = |number: u32| keep.iter().any(|cap| *cap as u32 == number);
    for number in (0..CAPS_MAX).filter(|number| !kept(*number)) {
        match prctl(libc::PR_CAPBSET_DROP, u64::from(number)) {
            // Past the last one this kernel has.
            Err(error) if error.raw_os_error() == Some(libc::EINVAL) => break,
            // Needs CAP_SETPCAP; without it there is nothing to gain from the bounding set either, as
            // no_new_privs stands.
            Err(error) if error.raw_os_error() == Some(libc::EPERM) => break,
            other => other?,
        };
    }
    // SAFETY: plain system call without pointers. It fails only on kernels without ambient sets.
    unsafe { libc::prctl(libc::PR_CAP_AMBIENT, libc::PR_CAP_AMBIENT_CLEAR_ALL, 0u64, 0u64, 0u64) };
    let mask = keep.iter().fold(0u32, |mask, cap| mask | 1 << (*cap as u32));
    let [low, _] = get()?;
    let permitted = low.permitted & mask;
    let inheritable = if children == Children::Same { permitted } else { 0 };
    match set([Half { effective: permitted, permitted, inheritable }, Half::default()]) {
        // Under a filter of system calls that forbids it (systemd's @privileged), there where there is nothing to give up.
        Err(error) if error.raw_os_error() == Some(libc::EPERM) && inheritable == 0 && low.permitted == permitted => {}
        other => other?,
    }
    for cap in keep.iter().filter(|cap| inheritable & (1 << (**cap as u32)) != 0) {
        let (raise, number) =
            (libc::c_ulong::try_from(libc::PR_CAP_AMBIENT_RAISE).map_err(io::Error::other)?, libc::c_ulong::from(*cap as u32));
        // SAFETY: plain system call without pointers. What children of another user than root are to have must be ambient.
        if unsafe { libc::prctl(libc::PR_CAP_AMBIENT, raise, number, 0u64, 0u64) } != 0 {
            return Err(io::Error::last_os_error());
        }
    }
    Ok(())
}

/// Makes all that is permitted effective: a change of user takes it away.
pub(super) fn raise() -> io::Result<()> {
    let halves = get()?;
    set(halves.map(|half| Half { effective: half.permitted, ..half }))
}

/// Whether the calling thread has it in effect.
pub fn have(cap: Cap) -> bool {
    get().is_ok_and(|[low, _]| low.effective & (1 << (cap as u32)) != 0)
}

/// Keeps or forgets the permitted capabilities over a change of user.
pub(super) fn keep_over_user_change(keep: bool) -> io::Result<()> {
    prctl(libc::PR_SET_KEEPCAPS, u64::from(keep)).map(drop)
}
