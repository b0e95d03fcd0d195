//! sysctl(3): what the kernel tells about itself, as bytes.

use std::ffi::CStr;
use std::io;
use std::ptr;

use libc::c_int;

/// How often a list that grew while it was fetched is asked for again.
const REPEATS: usize = 5;

/// Room for what comes in between asking for the length and for the content: a quarter more, and this.
const SLACK: usize = 4096;

/// A list or text of the kernel's, of at most `most` bytes.
///
/// # Errors
/// What the kernel said, or that it is longer.
pub(crate) fn list(name: &[c_int], most: usize) -> io::Result<Vec<u8>> {
    let count = libc::c_uint::try_from(name.len()).map_err(io::Error::other)?;
    for _ in 0..REPEATS {
        let mut len = 0usize;
        // SAFETY: `name` is a live slice of `count` numbers that is only read; with no buffer given only the length
        // is written, which is live and ours; there is no new value.
        let rc = unsafe { libc::sysctl(name.as_ptr(), count, ptr::null_mut(), &raw mut len, ptr::null(), 0) };
        if rc != 0 {
            return Err(io::Error::last_os_error());
        }
        let room = len.saturating_add(len / 4).saturating_add(SLACK);
        if room > most {
            return Err(io::Error::other(format!("the kernel has {len} bytes to tell, more than the {most} that are read")));
        }
        let mut bytes = vec![0u8; room];
        let mut len = room;
        // SAFETY: as above, and `bytes` is a live vector of `len` bytes, which the kernel fills and of which it
        // writes the length.
        let rc = unsafe { libc::sysctl(name.as_ptr(), count, bytes.as_mut_ptr().cast(), &raw mut len, ptr::null(), 0) };
        if rc == 0 {
            bytes.truncate(len);
            return Ok(bytes);
        }
        let error = io::Error::last_os_error();
        if error.raw_os_error() != Some(libc::ENOMEM) {
            return Err(error);
        }
    }
    Err(io::Error::other("the list grew faster than it could be read"))
}

/// A value of a known size: fills `value`, and tells how much of it.
pub(crate) fn value(name: &CStr, value: &mut [u8]) -> io::Result<usize> {
    let mut len = value.len();
    // SAFETY: `name` is a live NUL-terminated string that is only read; `value` is a live slice of `len` bytes of
    // ours, which the kernel fills; there is no new value.
    let rc = unsafe { libc::sysctlbyname(name.as_ptr(), value.as_mut_ptr().cast(), &raw mut len, ptr::null(), 0) };
    if rc != 0 { Err(io::Error::last_os_error()) } else { Ok(len) }
}
