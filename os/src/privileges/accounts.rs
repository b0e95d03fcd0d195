//! Users and groups, read from the files: a static program has no name service, and the names we
//! ask for are system accounts.
//!
//! `/etc/passwd` (passwd(5)): `name:x:UID:GID:...`; `/etc/group` (group(5)): `name:x:GID:member,...`

use std::io;

/// A system account.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Account {
    /// Its number.
    pub uid: u32,
    /// Its own group.
    pub gid: u32,
}

/// The account of this name, if there is one.
pub fn user(name: &str) -> io::Result<Option<Account>> {
    Ok(user_in(&std::fs::read_to_string("/etc/passwd")?, name))
}

/// The name of this user, if it has one.
pub fn user_name(uid: u32) -> io::Result<Option<String>> {
    let text = std::fs::read_to_string("/etc/passwd")?;
    let found = text.lines().find(|line| line.split(':').nth(2).and_then(|f| f.parse().ok()) == Some(uid));
    Ok(found.and_then(|line| line.split(':').next()).map(str::to_owned))
}

/// The number of the group of this name, if there is one.
pub fn group(name: &str) -> io::Result<Option<u32>> {
    Ok(group_in(&std::fs::read_to_string("/etc/group")?, name))
}

/// The groups a user is a member of, beside the account's own.
pub fn groups_of(name: &str) -> io::Result<Vec<u32>> {
    Ok(groups_in(&std::fs::read_to_string("/etc/group")?, name))
}

fn entry<'a>(text: &'a str, name: &str) -> Option<Vec<&'a str>> {
    text.lines().map(|line| line.split(':').collect::<Vec<_>>()).find(|fields| fields[0] == name && !name.is_empty())
}

fn user_in(text: &str, name: &str) -> Option<Account> {
    let fields = entry(text, name)?;
    Some(Account { uid: fields.get(2)?.parse().ok()?, gid: fields.get(3)?.parse().ok()? })
}

fn group_in(text: &str, name: &str) -> Option<u32> {
    entry(text, name)?.get(2)?.parse().ok()
}

fn groups_in(text: &str, name: &str) -> Vec<u32> {
    let lines = text.lines().map(|line| line.split(':').collect::<Vec<_>>());
    let member = |fields: &Vec<&str>| fields.get(3).is_some_and(|members| members.split(',').any(|member| member == name));
    lines.filter(member).filter_map(|fields| fields[2].parse().ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn accounts_are_found_by_name() {
        let passwd = "root:x:0:0:root:/root:/bin/sh\n\nbroken\nwrong:x:a:b\nlog:x:990:980::/:/bin/false\n";
        assert_eq!(user_in(passwd, "log"), Some(Account { uid: 990, gid: 980 }));
        for none in ["", "lo", "broken", "wrong", "x"] {
            assert_eq!(user_in(passwd, none), None, "{none}");
        }
        let groups = "root:x:0:\nadm:x:4:syslog,log\nweb:x:33:other\nbad:x:y:log\njournal:x:999:log\nshort\n";
        assert_eq!(group_in(groups, "adm"), Some(4));
        assert_eq!(groups_in(groups, "log"), [4, 999]);
        assert_eq!(user("root").unwrap(), Some(Account { uid: 0, gid: 0 }));
        assert_eq!(user_name(0).unwrap().as_deref(), Some("root"));
        assert_eq!(group("root").unwrap(), Some(0));
        assert_eq!(groups_of("nobody-of-this-name").unwrap(), [0u32; 0]);
    }
}
