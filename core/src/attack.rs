//! One hostile line, understood.

use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::net::Addr;
use crate::time::Stamp;

/// The weight of one full failure: a wrong password. Weaker signs weigh 2 or 1 (sshguard's scale).
pub const FULL_FAILURE: u16 = 10;

/// How much of a line is kept as evidence, in bytes.
pub const EXCERPT: usize = 400;

/// A jail's name: `[a-z0-9._-]`, at most 64 bytes (the config makes sure).
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct JailName(pub Arc<str>);

impl fmt::Display for JailName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl From<&str> for JailName {
    fn from(name: &str) -> Self {
        Self(name.into())
    }
}

/// Who attacked, by which signature, how heavily, when.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attack {
    /// The attacker.
    pub addr: Addr,
    /// The jail whose source the line came from.
    pub jail: JailName,
    /// The signature that matched, `service/rule`: `sshd/failed-password`.
    pub signature: Arc<str>,
    /// The service attacked: `sshd`.
    pub service: Arc<str>,
    /// How heavy: [`FULL_FAILURE`] is one full failure.
    pub score: u16,
    /// The line's own time where it carries one that could be read.
    pub at: Option<Stamp>,
    /// The user name tried, made printable.
    pub user: Option<String>,
    /// The line, made printable by [`excerpt`].
    pub line: String,
}

/// Somebody logged in: what a service says of the right password.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Login {
    /// Who.
    pub addr: Addr,
    /// The jail whose source the line came from.
    pub jail: JailName,
    /// The signature that matched, `service/rule`: `sshd/accepted`.
    pub signature: Arc<str>,
    /// The service: `sshd`.
    pub service: Arc<str>,
    /// The line's own time where it carries one that could be read.
    pub at: Option<Stamp>,
    /// The user, made printable.
    pub user: Option<String>,
    /// The line, made printable by [`excerpt`].
    pub line: String,
}

#[cfg(test)]
impl Login {
    /// A login to sshd, as tests need one.
    pub(crate) fn of_tests(addr: &str) -> Self {
        let (signature, service, line) = ("sshd/accepted".into(), "sshd".into(), String::new());
        Self { addr: addr.parse().unwrap(), jail: "sshd".into(), signature, service, at: None, user: None, line }
    }
}

/// What a line can mean.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Sign {
    /// Somebody attacks.
    Attack(Attack),
    /// Somebody belongs here.
    Login(Login),
}

/// A hostile line as printable text of at most [`EXCERPT`] bytes: control characters, bidirectional
/// marks and broken UTF-8 are escaped, so that showing it cannot drive a terminal.
pub fn excerpt(line: &[u8]) -> String {
    let mut out = String::new();
    for chunk in line.utf8_chunks() {
        for c in chunk.valid().chars() {
            let hostile =
                c.is_control() || matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}');
            if hostile {
                out.extend(c.escape_unicode());
            } else {
                out.push(c);
            }
            if out.len() >= EXCERPT {
                out.push('…');
                return out;
            }
        }
        for byte in chunk.invalid() {
            out.push_str(&format!("\\x{byte:02x}"));
            if out.len() >= EXCERPT {
                out.push('…');
                return out;
            }
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_excerpt_cannot_drive_a_terminal() {
        assert_eq!(excerpt(b"a\x1b[2Jb\xffc\0"), "a\\u{1b}[2Jb\\xffc\\u{0}");
        assert_eq!(excerpt("x\u{202e}y".as_bytes()), "x\\u{202e}y");
        for byte in [b'a', 0x1b, 0xff] {
            assert!(excerpt(&vec![byte; 1 << 20]).len() < EXCERPT + 16, "{byte}");
        }
    }
}
