//! What holds where nothing was written: built for a plain Debian 12 host, which has journald only,
//! and for one with log files.

use super::{AllowSection, AutoAllow, BanSection, LimitsSection};
use crate::bans::wall::Refusal;
use crate::judge::policy::Policy;
use crate::time::{Span, Term};

/// The names of the shipped signatures that the built-in jails use. One table, so that a renamed
/// signature is one change here.
pub mod signature {
    /// OpenSSH.
    pub const SSHD: &str = "sshd";
    /// Dropbear.
    pub const DROPBEAR: &str = "dropbear";
    /// 401 answers in an access log.
    pub const ACCESS_AUTH: &str = "access-auth";
    /// Requests for what only an attacker looks for.
    pub const ACCESS_PROBES: &str = "access-probes";
    /// Logins to content management systems.
    pub const ACCESS_CMS: &str = "access-cms";

    /// All of them. Whoever loads the signatures makes sure that each is among them.
    pub const ALL: [&str; 5] = [SSHD, DROPBEAR, ACCESS_AUTH, ACCESS_PROBES, ACCESS_CMS];
}

/// A jail that is there without being written. Where none of its sources exists it is idle.
pub(super) struct BuiltIn {
    pub(super) name: &'static str,
    pub(super) signatures: &'static [&'static str],
    pub(super) files: &'static [&'static str],
    pub(super) journal: &'static [&'static str],
}

/// Debian's file, and Red Hat's.
const AUTH_LOGS: &[&str] = &["/var/log/auth.log", "/var/log/secure"];

/// Where distributions keep access logs: nginx, Apache on Debian, Apache on Red Hat (`access_log`), lighttpd.
const ACCESS_LOGS: &[&str] =
    &["/var/log/nginx/*access*.log", "/var/log/apache2/*access*.log", "/var/log/httpd/*access*log", "/var/log/lighttpd/*access*.log"];

/// Journal matches are on fields that journald itself fills in: those begin with `_`, and no
/// process can forge them (systemd.journal-fields(7)). A process can choose its `_COMM`, so that
/// goes with `_UID=0`: of sshd's processes the root monitor does the logging, for its unprivileged
/// child too. A unit is chosen by systemd, but whoever logs in through one stays in it unless PAM
/// moves him into a session (pam_systemd(8); Dropbear asks no PAM): there `_UID=0` belongs to it too.
/// Socket activated sshd runs in `ssh@N.service`, a name no match can spell: `_COMM` finds it.
pub(super) const JAILS: [BuiltIn; 5] = [
    BuiltIn {
        name: "sshd",
        signatures: &[signature::SSHD],
        files: AUTH_LOGS,
        journal: &[
            "_SYSTEMD_UNIT=ssh.service _UID=0",
            "_SYSTEMD_UNIT=sshd.service _UID=0",
            "_COMM=sshd _UID=0",
            "_COMM=sshd-session _UID=0",
        ],
    },
    BuiltIn {
        name: "dropbear",
        signatures: &[signature::DROPBEAR],
        files: AUTH_LOGS,
        journal: &["_SYSTEMD_UNIT=dropbear.service _UID=0", "_COMM=dropbear _UID=0"],
    },
    BuiltIn { name: "web-auth", signatures: &[signature::ACCESS_AUTH], files: ACCESS_LOGS, journal: &[] },
    BuiltIn { name: "web-probes", signatures: &[signature::ACCESS_PROBES], files: ACCESS_LOGS, journal: &[] },
    BuiltIn { name: "web-cms", signatures: &[signature::ACCESS_CMS], files: ACCESS_LOGS, journal: &[] },
];

/// Ports by the names of `/etc/services` (IANA), as far as log readers guard such services. A
/// table of our own: what a name means must not depend on the host it is read on.
pub(super) const SERVICES: [(&str, &[u16]); 38] = [
    ("ftp", &[21]),
    ("ftp-data", &[20]),
    ("ftps", &[990]),
    ("ftps-data", &[989]),
    ("ssh", &[22]),
    ("telnet", &[23]),
    ("smtp", &[25]),
    ("smtps", &[465]),
    ("ssmtp", &[465]),
    ("submission", &[587]),
    ("submissions", &[465]),
    ("domain", &[53]),
    ("dns", &[53]),
    ("http", &[80]),
    ("https", &[443]),
    ("pop3", &[110]),
    ("pop3s", &[995]),
    ("imap", &[143]),
    ("imap2", &[143]),
    ("imap3", &[220]),
    ("imaps", &[993]),
    ("sieve", &[4190]),
    ("ldap", &[389]),
    ("ldaps", &[636]),
    ("ntp", &[123]),
    ("snmp", &[161]),
    ("sip", &[5060]),
    ("sips", &[5061]),
    ("mysql", &[3306]),
    ("postgresql", &[5432]),
    ("redis", &[6379]),
    ("rdp", &[3389]),
    ("ms-wbt-server", &[3389]),
    ("vnc", &[5900]),
    ("x11", &[6000]),
    ("socks", &[1080]),
    ("xmpp", &[5222, 5269]),
    ("openvpn", &[1194]),
];

impl Default for BanSection {
    fn default() -> Self {
        Self { backend: None, manual_time: Term::For(Span::secs(86_400)), refusal: Refusal::Drop, policy: Policy::default() }
    }
}

impl Default for AllowSection {
    fn default() -> Self {
        Self { prefixes: Vec::new(), names: Vec::new(), auto: AutoAllow::ALL }
    }
}

impl AutoAllow {
    /// All of them: the default.
    pub const ALL: Self = Self { loopback: true, own: true, gateways: true, resolvers: true, admin_sessions: true };
    /// None of them.
    pub const NONE: Self = Self { loopback: false, own: false, gateways: false, resolvers: false, admin_sessions: false };
}

impl Default for LimitsSection {
    /// As in the house's memory budget: 262,144 sources at about 128 bytes are 32 MiB; sshd's and
    /// web servers' lines stay far under 16 KiB, and journald cuts at 48 KiB.
    fn default() -> Self {
        Self { tracked_sources: 262_144, bans: 1_000_000, line: 16 * 1024 }
    }
}
