//! The zone of times that name none.

use jiff::tz::TimeZone;

/// This host's: `TZ` where it is set (a name or a POSIX rule), else `/etc/localtime`, else UTC.
pub(crate) fn system() -> TimeZone {
    TimeZone::try_system().unwrap_or(TimeZone::UTC)
}
