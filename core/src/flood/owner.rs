//! Who is behind an address.

use std::fmt;

use serde::{Deserialize, Serialize};

/// A process, as far as it can be told.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Process {
    /// Its number, 0 where only its user is known.
    pub pid: u32,
    /// Its name (`comm`, at most 15 bytes), empty where unknown.
    pub comm: String,
    /// Whose it is; for one found by its sockets whose those are, as packet filters see it (`meta skuid`).
    pub uid: u32,
    /// That user's name, where it has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// The unit, container or other control group it runs in, by [`unit`]: `nginx.service`, `docker 3f2a9c0d1e2f`; the path where it is
    /// none of those.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unit: Option<String>,
}

impl fmt::Display for Process {
    /// `firefox (pid 4211, user anna)`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let user = self.user.clone().unwrap_or_else(|| self.uid.to_string());
        match (self.pid, self.comm.is_empty()) {
            (0, _) => write!(f, "a process of user {user}")?,
            (pid, true) => write!(f, "pid {pid}, user {user}")?,
            (pid, false) => write!(f, "{} (pid {pid}, user {user})", self.comm)?,
        }
        self.unit.as_ref().map_or(Ok(()), |unit| write!(f, " of {unit}"))
    }
}

/// What is known of an address beside its flows.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Behind {
    /// Its link-layer address, where it is a neighbour, or a lease tells: `52:54:00:12:34:56`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mac: Option<String>,
    /// The interface it is a neighbour on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub interface: Option<String>,
    /// What it called itself when it asked for its address, where a lease tells.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host: Option<String>,
    /// Processes that hold sockets from or to it, and how many: first those of a container that has the address (0 sockets: it runs
    /// in that container, in which nobody holds one), then those of this host; most first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub processes: Vec<(Process, u32)>,
    /// What could not be looked at, and what it takes, in words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hidden: Option<String>,
}

impl Behind {
    /// Whether anything is known.
    pub const fn is_known(&self) -> bool {
        self.mac.is_some() || self.host.is_some() || !self.processes.is_empty()
    }
}

impl fmt::Display for Behind {
    /// `annas-laptop, 52:54:00:12:34:56 on lan0`; empty where nothing is known.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut parts: Vec<String> = self.host.iter().cloned().collect();
        let on = |mac: &String| self.interface.as_ref().map_or_else(|| mac.clone(), |interface| format!("{mac} on {interface}"));
        parts.extend(self.mac.as_ref().map(on));
        parts.extend(self.processes.first().map(|(process, _)| process.to_string()));
        f.write_str(&parts.join(", "))
    }
}

/// Longest part of a control group's path that is shown.
const SHOWN: usize = 80;

/// How many digits of a container's id are shown, as `docker ps` shows it.
const ID: usize = 12;

/// The unit or container of a process, by what `/proc/PID/cgroup` says; `None` in the root of all groups, or for anything else.
///
/// | a part of the path | is told as |
/// |---|---|
/// | `docker-ID.scope`, `/docker/ID` | `docker 3f2a9c0d1e2f` |
/// | `libpod-ID.scope`, `/libpod_parent/libpod-ID` | `podman 3f2a9c0d1e2f` |
/// | `cri-containerd-ID.scope`, `crio-ID.scope` | `containerd 3f2a9c0d1e2f`, `crio 3f2a9c0d1e2f` |
/// | `kubepods/.../ID` | `container 3f2a9c0d1e2f` |
/// | `lxc.payload.NAME`, `/lxc/NAME` | `lxc NAME` |
/// | `machine-NAME.scope` (systemd-nspawn, libvirt) | `machine NAME` |
/// | `user@UID.service/...` | `user@1000.service/app-firefox.scope` |
/// | the last `.service`, `.scope` or `.socket` | itself; behind the container's name and `/` where it is in one |
/// | none of these | the path |
///
/// Source: cgroups(7), systemd.unit(5), and the cgroup drivers of the container engines. Each line is `NUMBER:CONTROLLERS:PATH`; the one of
/// cgroup v2 (`0::`) counts, then systemd's own, then any, whichever is not the root.
pub fn unit(text: &str) -> Option<String> {
    let lines: Vec<(&str, &str)> = text.lines().take(64).filter_map(|line| line.split_once(':')?.1.split_once(':')).collect();
    let paths = |wanted: &'static str| lines.iter().filter(move |(name, _)| *name == wanted);
    let mut all = paths("").chain(paths("name=systemd")).chain(paths("memory")).chain(&lines);
    all.find_map(|(_, path)| unit_of_path(path))
}

/// The same of the path alone.
pub fn unit_of_path(path: &str) -> Option<String> {
    let parts: Vec<&str> = path.split('/').filter(|part| !part.is_empty() && *part != "..").collect();
    let container =
        parts.iter().enumerate().find_map(|(i, part)| Some((i, container(i.checked_sub(1).map_or("", |i| parts[i]), part, &parts)?)));
    let rest = container.as_ref().map_or(&parts[..], |(i, _)| &parts[i + 1..]);
    let is_unit = |part: &&&str| [".service", ".scope", ".socket"].iter().any(|kind| part.ends_with(kind));
    let units: Vec<&&str> = rest.iter().filter(is_unit).collect();
    let inner = match (units.first(), units.last()) {
        (Some(first), Some(last)) if units.len() > 1 && first.starts_with("user@") => Some(format!("{first}/{last}")),
        (_, last) => last.map(|last| (**last).to_owned()),
    };
    let shown = match (container, inner) {
        (Some((_, container)), Some(inner)) if inner != "init.scope" => format!("{container}/{inner}"),
        (Some((_, container)), _) => container,
        (None, Some(inner)) => inner,
        (None, None) if parts.is_empty() => return None,
        (None, None) => parts.join("/"),
    };
    Some(printable(&unescape(&shown), SHOWN))
}

/// The container a part of a path is of, by what stands before it.
fn container(parent: &str, part: &str, all: &[&str]) -> Option<String> {
    let scope = part.strip_suffix(".scope").unwrap_or(part);
    for (prefix, engine) in [("docker-", "docker"), ("libpod-", "podman"), ("cri-containerd-", "containerd"), ("crio-", "crio")] {
        if let Some(id) = scope.strip_prefix(prefix).and_then(short) {
            return Some(format!("{engine} {id}"));
        }
    }
    let name = part.strip_prefix("lxc.payload.").or_else(|| (parent == "lxc").then_some(part));
    let name = name.map(|name| format!("lxc {name}"));
    let machine = || Some(format!("machine {}", part.strip_prefix("machine-")?.strip_suffix(".scope")?));
    let by_id = || {
        let engine = if parent == "docker" { "docker" } else { "container" };
        let known = parent == "docker" || all.first().is_some_and(|first| first.starts_with("kubepods"));
        short(part).filter(|_| known).map(|id| format!("{engine} {id}"))
    };
    name.or_else(machine).or_else(by_id)
}

/// The beginning of a container's id, which is 64 digits of base 16.
fn short(id: &str) -> Option<&str> {
    (id.len() == 64 && id.bytes().all(|b| b.is_ascii_hexdigit())).then(|| &id[..ID])
}

/// `\x2d` of systemd's names back to `-` (systemd.unit(5)). What is no printable character stays as it was written.
fn unescape(text: &str) -> String {
    let mut parts = text.split("\\x");
    let mut out = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let byte = part.get(..2).and_then(|digits| u8::from_str_radix(digits, 16).ok()).filter(u8::is_ascii_graphic);
        match byte {
            Some(byte) => {
                out.push(char::from(byte));
                out.push_str(&part[2..]);
            }
            None => out.extend(["\\x", part]),
        }
    }
    out
}

/// What a program, a user or a file calls itself, of at most `most` characters and without any that could drive a terminal or turn the text
/// around: those are shown as `?`.
pub fn printable(text: &str, most: usize) -> String {
    let hostile = |c: char| {
        c.is_control()
            || matches!(c, '\u{61c}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fffd}')
    };
    let mut shown: String = text.chars().take(most).map(|c| if hostile(c) { '?' } else { c }).collect();
    if text.chars().nth(most).is_some() {
        shown.push_str("...");
    }
    shown
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const ID64: &str = "3f2a9c0d1e2f3f2a9c0d1e2f3f2a9c0d1e2f3f2a9c0d1e2f3f2a9c0d1e2f0123";

    #[test]
    fn units_and_containers_are_told_by_their_names() {
        for (path, told) in [
            ("/system.slice/nginx.service", Some("nginx.service")),
            ("/system.slice/nginx.service/sub", Some("nginx.service")),
            ("/system.slice/system-getty.slice/getty@tty1.service", Some("getty@tty1.service")),
            ("/system.slice/docker-ID.scope", Some("docker 3f2a9c0d1e2f")),
            ("/docker/ID", Some("docker 3f2a9c0d1e2f")),
            ("/system.slice/docker-ID.scope/system.slice/nginx.service", Some("docker 3f2a9c0d1e2f/nginx.service")),
            ("/machine.slice/libpod-ID.scope/container", Some("podman 3f2a9c0d1e2f")),
            ("/user.slice/user-1000.slice/user@1000.service/user.slice/libpod-ID.scope", Some("podman 3f2a9c0d1e2f")),
            ("/kubepods.slice/kubepods-pod1.slice/cri-containerd-ID.scope", Some("containerd 3f2a9c0d1e2f")),
            ("/kubepods/burstable/pod1/ID", Some("container 3f2a9c0d1e2f")),
            ("/lxc.payload.web/init.scope", Some("lxc web")),
            ("/lxc/web/system.slice/sshd.service", Some("lxc web/sshd.service")),
            ("/machine.slice/machine-qemu\\x2d1\\x2dvm.scope/libvirt", Some("machine qemu-1-vm")),
            (
                "/user.slice/user-1000.slice/user@1000.service/app.slice/app-firefox-12.scope",
                Some("user@1000.service/app-firefox-12.scope"),
            ),
            ("/user.slice/user-1000.slice/session-3.scope", Some("session-3.scope")),
            ("/init.scope", Some("init.scope")),
            ("/my/own/group", Some("my/own/group")),
            ("/docker/short", Some("docker/short")),
            ("/../../\u{1b}[2J", Some("?[2J")),
            ("/", None),
            ("", None),
        ] {
            assert_eq!(unit_of_path(&path.replace("ID", ID64)).as_deref(), told, "{path}");
        }
    }

    #[test]
    fn the_first_group_that_is_not_the_root_counts() {
        assert_eq!(unit("0::/system.slice/a.service\n").as_deref(), Some("a.service"));
        assert_eq!(unit("9:cpu:/x\n1:name=systemd:/system.slice/b.service\n0::/\n").as_deref(), Some("b.service"));
        assert_eq!(unit("9:cpu,cpuacct:/x\n4:memory:/y\n0::/\n").as_deref(), Some("y"));
        assert_eq!((unit("0::/\n"), unit(""), unit("noise")), (None, None, None));
    }

    proptest! {
        #[test]
        fn units_are_total_and_printable(text in "(0::|1:name=systemd:)?(/(docker|lxc|user@1.service|docker-|\\\\x2d|\\\\x|[0-9a-f]{64}|\\PC{0,5}|.{0,5})(.scope)?){0,6}") {
            if let Some(told) = unit(&text) {
                prop_assert!(!told.is_empty() && told.chars().count() <= SHOWN + 3 && !told.chars().any(char::is_control), "{told}");
            }
        }
    }
}
