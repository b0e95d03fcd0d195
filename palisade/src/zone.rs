//! The zone of times that name none.

use anyhow::{Context, Result};
use jiff::tz::TimeZone;

/// This host's: `TZ` where it is set (a name or a POSIX rule), else `/etc/localtime`, else UTC.
pub(crate) fn system() -> TimeZone {
    TimeZone::try_system().unwrap_or(TimeZone::UTC)
}

/// The zone of that name, from the host's tz database.
pub(crate) fn named(name: &str) -> Result<TimeZone> {
    TimeZone::get(name).with_context(|| format!("there is no zone `{name}` in this host's tz database"))
}

/// The zone of a jail's times. Whether there is the one it names was seen when the config was read; should
/// it be gone since, the host's is taken.
pub(crate) fn of(name: Option<&str>) -> TimeZone {
    name.and_then(|name| named(name).ok()).unwrap_or_else(system)
}
