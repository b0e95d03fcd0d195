//! What an ssh server and its processes look like, on every system.

use std::path::Path;

use super::{LinkError, read_some};

/// What an ssh server's processes are called: OpenSSH, OpenSSH since 9.8, dropbear.
pub(super) const SERVERS: [&str; 3] = ["sshd", "sshd-session", "dropbear"];

/// The account of OpenSSH's unprivileged process (`SSH_PRIVSEP_USER`).
const PRIVSEP: &str = "sshd";

/// Most bytes of passwd(5).
const MOST_PASSWD: u64 = 4 * 1024 * 1024;

/// The user id of sshd's unprivileged process, by this passwd(5).
pub(super) fn privsep(passwd: &Path) -> Result<Option<u32>, LinkError> {
    Ok(account(&read_some(passwd, MOST_PASSWD)?, PRIVSEP))
}

/// `sshd: NAME@TERMINAL`; nothing with spaces or brackets, and nothing behind it but the padding.
pub(super) fn is_session_title(cmdline: &[u8]) -> bool {
    let Ok(text) = std::str::from_utf8(cmdline) else { return false };
    let text = text.trim_end_matches(['\0', ' ']);
    let title = text.strip_prefix("sshd: ").or_else(|| text.strip_prefix("sshd-session: "));
    title.and_then(|title| title.split_once('@')).is_some_and(|(name, terminal)| {
        !name.is_empty() && !terminal.is_empty() && !title.is_some_and(|t| t.contains([' ', '\0', '[', ']']))
    })
}

/// The user id of an account in passwd(5).
fn account(passwd: &[u8], name: &str) -> Option<u32> {
    passwd.split(|byte| *byte == b'\n').find_map(|line| {
        let mut fields = std::str::from_utf8(line).ok()?.split(':');
        (fields.next()? == name).then(|| fields.nth(1)?.parse().ok())?
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn titles_before_and_after_login() {
        for title in ["sshd: root@pts/0\0\0", "sshd: root@notty\0", "sshd-session: root@pts/3,pts/4", "sshd: root@notty   \0"] {
            assert!(is_session_title(title.as_bytes()), "{title}");
        }
        for title in [
            "sshd: [accepted]",
            "sshd: root [priv]",
            "sshd: someone@example.org [priv]",
            "sshd: unknown [net]",
            "sshd: a@b [net]",
            "sshd: /usr/sbin/sshd -D -f /etc/x@y [listener] 1 of 10-100 startups",
            "/usr/sbin/sshd\0-D\0-R\0-oX=root@pts/0\0",
            "sshd: root@",
            "sshd: root@pts/0\0[net]",
            "sshd: root",
        ] {
            assert!(!is_session_title(title.as_bytes()), "{title}");
        }
    }

    #[test]
    fn accounts_are_found_by_name() {
        assert_eq!(account(b"root:x:0:0::/:\nsshd:x:103:65534::/run/sshd:/usr/sbin/nologin\n", "sshd"), Some(103));
        assert_eq!(account(b"sshd\nsshdx:x:1:\n", "sshd"), None);
    }

    proptest! {
        #[test]
        fn reading_is_total(bytes in proptest::collection::vec(any::<u8>(), 0..300), line in "sshd:.{0,40}") {
            for text in [&bytes[..], line.as_bytes()] {
                let _ = (is_session_title(text), account(text, "sshd"));
            }
        }
    }
}
