//! Which records a source wants: `_SYSTEMD_UNIT=ssh.service _COMM=sshd + _COMM=dropbear`.

use super::super::LogError;

/// So long a match is no unit name; bounds what a command line holds.
const TEXT_MAX: usize = 1024;

/// One source's match: one of the groups must hold. In a group all fields must hold; of a field that
/// is named more than once, one value must (as `journalctl` has it).
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Match {
    pub(super) source: usize,
    pub(super) groups: Vec<Vec<(String, String)>>,
}

impl Match {
    pub(super) fn parse(source: usize, text: &str) -> Result<Self, LogError> {
        let wrong = |why| LogError::Match { text: text.to_owned(), why };
        if text.len() > TEXT_MAX || text.contains('\0') {
            return Err(wrong("it is too long or holds a NUL"));
        }
        let mut groups = vec![Vec::new()];
        for word in text.split_ascii_whitespace() {
            if word == "+" {
                groups.push(Vec::new());
                continue;
            }
            let (field, value) = word.split_once('=').ok_or_else(|| wrong("a word in it has no ="))?;
            // A field's name cannot look like an option of the program either.
            let name = |byte: u8| byte.is_ascii_uppercase() || byte.is_ascii_digit() || byte == b'_';
            if field.is_empty() || !field.bytes().all(name) || field.starts_with("__") {
                return Err(wrong("a field's name is upper-case letters, digits and _"));
            }
            groups.last_mut().into_iter().for_each(|group| group.push((field.to_owned(), value.to_owned())));
        }
        if groups.iter().any(Vec::is_empty) {
            return Err(wrong("it would match everything"));
        }
        Ok(Self { source, groups })
    }

    /// Whether a record is wanted; `values` gives a field's values.
    pub(super) fn holds<'a>(&self, values: &dyn Fn(&str) -> &'a [Vec<u8>]) -> bool {
        let has = |field: &str, value: &str| values(field).iter().any(|v| v == value.as_bytes());
        let field_holds = |group: &[(String, String)], field: &str| group.iter().any(|(f, v)| f == field && has(f, v));
        self.groups.iter().any(|group| group.iter().all(|(field, _)| field_holds(group, field)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn matches_follow_journalctl() {
        let m = Match::parse(7, "_SYSTEMD_UNIT=ssh.service _SYSTEMD_UNIT=sshd.service _UID=0 + _COMM=dropbear").unwrap();
        let unit = |u: &str, uid: &str| vec![("_SYSTEMD_UNIT", vec![u.as_bytes().to_vec()]), ("_UID", vec![uid.as_bytes().to_vec()])];
        let holds = |fields: &[(&str, Vec<Vec<u8>>)]| {
            let fields = fields.to_vec();
            let values = |name: &str| -> &[Vec<u8>] { fields.iter().find(|(f, _)| *f == name).map_or(&[], |(_, v)| v) };
            m.holds(&values)
        };
        assert!(holds(&unit("ssh.service", "0")) && holds(&unit("sshd.service", "0")));
        assert!(!holds(&unit("ssh.service", "1000")) && !holds(&unit("cron.service", "0")) && !holds(&[]));
        assert!(holds(&[("_COMM", vec![b"x".to_vec(), b"dropbear".to_vec()])]));
        for wrong in ["", " ", "_COMM", "--file=/etc/x", "a=b", "=x", "+", "_COMM=x +", "__CURSOR=x", "_C\0=x"] {
            assert!(Match::parse(0, wrong).is_err(), "{wrong:?}");
        }
    }
}
