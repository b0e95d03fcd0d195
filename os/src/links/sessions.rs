//! Who administers this host over ssh right now.
//!
//! A connection to sshd proves nothing: an attacker has one too while he guesses, and must not get
//! onto the allow list by it. A peer counts when it has an *established* connection to one of sshd's
//! ports **and** one of these says that somebody at that address has logged in:
//!
//! 1. logind has a remote session of that host, not closing, whose leader is a live sshd. It is
//!    opened by PAM after authentication. (Sessions without a terminal are there too.)
//! 2. utmp has a login record of that address, made by a live sshd. It is written when the terminal
//!    of a session is made. A record that a killed sshd left behind is stale, hence "live".
//! 3. The connection's socket is held by an sshd process that only exists after authentication:
//!    * one whose **real, effective and saved** user are all the same ordinary user, which is not the
//!      one of sshd's unprivileged pre-authentication process. The effective one alone would
//!      not do: before authentication the monitor takes on the *tried* user's effective id while it reads
//!      that user's keys, as often as an attacker offers one. Where that unprivileged user is
//!      not known this rule is not used. (A helper that sshd runs before login, `AuthorizedKeysCommand`,
//!      has closed the connection before it changes its user.)
//!    * one of root whose title is `sshd: NAME@TERMINAL`, as it is set when a session opens. Before that it
//!      is `sshd: NAME [priv]`, `[net]`, `[accepted]` or a command line; a name is only shown once known to exist.
//!      A tunnel of root without session (`ssh -N`) is left to 1: its title is a bare name, which sshd without
//!      privilege separation (before 7.5) also shows before login.
//!
//! 1 and 2 can be read by anybody; 3 needs `CAP_SYS_PTRACE` or root, and is silently empty without.
//! A port on which somebody but root listens is no port of sshd: a user's `ssh -R` forward is
//! accepted by that user's own sshd process, and its visitors are anybody.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::fs;
use std::io;
use std::path::Path;

use palisade_core::net::{Addr, Family};

use super::sshd::{SERVERS, is_session_title, privsep};
use super::{LinkError, Paths, lenient_addr, read_some, utmp};
use crate::netlink::sock_diag::{self, Protocol, Sock, state};
use crate::netlink::socket::Socket;

/// Most entries read of a directory: of /proc the limit is the kernel's (pid_max), of sessions and
/// of a server's descriptors a few are usual.
const MOST_PROCESSES: usize = 1 << 22;
const MOST_SESSIONS: usize = 4096;
const MOST_DESCRIPTORS: usize = 1024;

/// Most bytes of one file in /proc or of logind.
const MOST_BYTES: u64 = 64 * 1024;

pub(super) fn admins(diag: &mut Socket, paths: &Paths, ports: &[u16]) -> Result<BTreeSet<Addr>, LinkError> {
    let open = connections(diag, ports).map_err(|e| LinkError::new("list connections to sshd", e))?;
    if open.is_empty() {
        return Ok(BTreeSet::new());
    }
    let mut proven = logind(paths);
    proven.extend(utmp_logins(paths)?);
    let (mut admins, rest): (BTreeSet<Addr>, Vec<&Sock>) = open.iter().fold((BTreeSet::new(), Vec::new()), |(mut yes, mut rest), sock| {
        if proven.contains(&sock.remote) {
            yes.insert(sock.remote);
        } else {
            rest.push(sock);
        }
        (yes, rest)
    });
    if !rest.is_empty() {
        admins.extend(holders(paths, &rest)?);
    }
    Ok(admins)
}

/// Established connections to those of `ports` on which nobody but root listens.
fn connections(diag: &mut Socket, ports: &[u16]) -> io::Result<Vec<Sock>> {
    let ports: HashSet<u16> = ports.iter().copied().collect();
    let mut socks = Vec::new();
    for family in [Family::V4, Family::V6] {
        let states = 1 << state::ESTABLISHED | 1 << state::LISTEN;
        match sock_diag::list(diag, family, Protocol::Tcp, states, |sock| ports.contains(&sock.local_port)) {
            Ok(found) => socks.extend(found),
            // A kernel without IPv6.
            Err(error) if family == Family::V6 && error.raw_os_error() == Some(libc::ENOENT) => {}
            Err(error) => return Err(error),
        }
    }
    let foreign: HashSet<u16> = socks.iter().filter(|s| s.state == state::LISTEN && s.uid != 0).map(|s| s.local_port).collect();
    socks.retain(|sock| sock.state == state::ESTABLISHED && !foreign.contains(&sock.local_port));
    Ok(socks)
}

fn is_server(paths: &Paths, pid: u32) -> bool {
    let comm = read_some(&paths.proc.join(pid.to_string()).join("comm"), MOST_BYTES).unwrap_or_default();
    SERVERS.iter().any(|name| comm.trim_ascii_end() == name.as_bytes())
}

/// The hosts of live remote sessions of logind. No folder, no sessions; one that cannot be read is passed over.
fn logind(paths: &Paths) -> HashSet<Addr> {
    let Ok(entries) = fs::read_dir(&paths.sessions) else { return HashSet::new() };
    let mut hosts = HashSet::new();
    for entry in entries.take(MOST_SESSIONS).flatten() {
        // Beside each session stands a FIFO: to open one would block.
        if !entry.file_type().is_ok_and(|kind| kind.is_file()) {
            continue;
        }
        let bytes = read_some(&entry.path(), MOST_BYTES).unwrap_or_default();
        if let Some((leader, host)) = session(&bytes)
            && is_server(paths, leader)
        {
            hosts.insert(host);
        }
    }
    hosts
}

/// Leader and host of a session file: lines `KEY=VALUE`, values perhaps in quotes (logind-session.c).
/// `None` for one that is local, closing, or names its host by name.
fn session(bytes: &[u8]) -> Option<(u32, Addr)> {
    let text = std::str::from_utf8(bytes).ok()?;
    let fields: HashMap<&str, &str> =
        text.lines().filter_map(|line| line.split_once('=')).map(|(key, value)| (key.trim(), value.trim().trim_matches('"'))).collect();
    let live = matches!(*fields.get("STATE")?, "active" | "online");
    let remote = *fields.get("REMOTE")? == "1";
    let leader = fields.get("LEADER")?.parse().ok()?;
    (live && remote).then_some((leader, lenient_addr(fields.get("REMOTE_HOST")?)?))
}

fn utmp_logins(paths: &Paths) -> Result<HashSet<Addr>, LinkError> {
    let bytes = read_some(&paths.utmp, utmp::MOST_BYTES)?;
    Ok(utmp::logins(&bytes).filter(|login| is_server(paths, login.pid)).map(|login| login.remote).collect())
}

/// The peers of those connections that a post-authentication process holds.
fn holders(paths: &Paths, open: &[&Sock]) -> Result<BTreeSet<Addr>, LinkError> {
    let by_inode: HashMap<u32, Addr> = open.iter().filter(|s| s.inode != 0).map(|s| (s.inode, s.remote)).collect();
    let privsep = privsep(&paths.passwd)?;
    let processes = fs::read_dir(&paths.proc).map_err(|e| LinkError::new(format!("read {}", paths.proc.display()), e))?;
    let mut peers = BTreeSet::new();
    for process in processes.take(MOST_PROCESSES).flatten() {
        let Some(pid) = process.file_name().to_str().and_then(|name| name.parse().ok()) else { continue };
        if is_server(paths, pid) && is_after_login(&process.path(), privsep) {
            peers.extend(sockets(&process.path()).filter_map(|inode| by_inode.get(&inode)));
        }
    }
    Ok(peers)
}

/// Whether a server's process is one that only exists once somebody has logged in. What has gone since is not.
fn is_after_login(process: &Path, privsep: Option<u32>) -> bool {
    let read = |name: &str| read_some(&process.join(name), MOST_BYTES).unwrap_or_default();
    match user(&read("status")) {
        Some(0) => is_session_title(&read("cmdline")),
        Some(uid) => privsep.is_some_and(|privsep| uid != privsep),
        None => false,
    }
}

/// The user of `/proc/PID/status`, where real, effective, saved and file system user are the same.
fn user(status: &[u8]) -> Option<u32> {
    let line = std::str::from_utf8(status).ok()?.lines().find_map(|line| line.strip_prefix("Uid:"))?;
    let ids: Vec<u32> = line.split_ascii_whitespace().map(str::parse).collect::<Result<_, _>>().ok()?;
    ids.split_first().filter(|(first, rest)| rest.len() == 3 && rest.iter().all(|id| id == *first)).map(|(first, _)| *first)
}

/// The inodes of the sockets a process holds.
pub(crate) fn sockets(process: &Path) -> impl Iterator<Item = u32> {
    fs::read_dir(process.join("fd")).into_iter().flatten().take(MOST_DESCRIPTORS).flatten().filter_map(|fd| {
        let link = fs::read_link(fd.path()).ok()?;
        link.to_str()?.strip_prefix("socket:[")?.strip_suffix(']')?.parse().ok()
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::links::utmp::tests::record;
    use proptest::prelude::*;
    use std::net::{TcpListener, TcpStream};
    use std::os::unix::fs::symlink;

    #[test]
    fn a_session_file_is_live_and_remote_or_nothing() {
        let file = |state: &str, remote: &str, host: &str| {
            format!("# private\nUID=0\nACTIVE=1\nSTATE={state}\nREMOTE={remote}\nREMOTE_HOST={host}\nLEADER=77\n")
        };
        let host = |text: String| session(text.as_bytes()).map(|(pid, host)| (pid, host.to_string()));
        assert_eq!(host(file("active", "1", "198.51.100.20")), Some((77, "198.51.100.20".into())));
        assert_eq!(host(file("online", "1", "\"fe80::2%eth0\"")), Some((77, "fe80::2".into())));
        for (state, remote, name) in
            [("closing", "1", "198.51.100.20"), ("active", "0", "198.51.100.20"), ("active", "1", "admin.example.org")]
        {
            assert_eq!(host(file(state, remote, name)), None);
        }
    }

    #[test]
    fn all_four_users_must_be_the_same() {
        assert_eq!(user(b"Name:\tsshd\nUid:\t1000\t1000\t1000\t1000\nGid:\t0\t0\t0\t0\n"), Some(1000));
        assert_eq!(user(b"Uid:\t0\t1000\t0\t1000\n"), None, "the monitor reading the tried user's keys");
        assert_eq!(user(b"Uid:\t0\t0\t0\n"), None);
    }

    /// A made-up /proc and login databases around one real loopback connection.
    struct Host {
        dir: tempfile::TempDir,
        paths: Paths,
        diag: Socket,
        port: u16,
        inode: u32,
        _held: (TcpListener, TcpStream, TcpStream),
    }

    impl Host {
        fn new() -> Self {
            let dir = tempfile::tempdir().unwrap();
            let at = |name: &str| dir.path().join(name);
            let paths = Paths {
                resolv_conf: Vec::new(),
                proc: at("proc"),
                utmp: at("utmp"),
                sessions: at("sessions"),
                passwd: at("passwd"),
                sshd_config: at("sshd_config"),
            };
            fs::create_dir(&paths.proc).unwrap();
            fs::write(&paths.passwd, "sshd:x:103:1::/:\n").unwrap();
            let listener = TcpListener::bind("127.0.0.1:0").unwrap();
            let port = listener.local_addr().unwrap().port();
            let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
            let server = listener.accept().unwrap().0;
            let mut diag = Socket::open(crate::netlink::socket::SOCK_DIAG).unwrap();
            let inode = connections(&mut diag, &[port]).unwrap()[0].inode;
            Self { dir, paths, diag, port, inode, _held: (listener, client, server) }
        }

        fn process(&self, pid: u32, comm: &str, uids: &str, title: &str) {
            let dir = self.dir.path().join(format!("proc/{pid}"));
            fs::create_dir_all(dir.join("fd")).unwrap();
            fs::write(dir.join("comm"), format!("{comm}\n")).unwrap();
            fs::write(dir.join("status"), format!("Name:\t{comm}\nUid:\t{uids}\n")).unwrap();
            fs::write(dir.join("cmdline"), title).unwrap();
            let _ = fs::remove_file(dir.join("fd/3"));
            symlink(format!("socket:[{}]", self.inode), dir.join("fd/3")).unwrap();
        }

        fn admits(&mut self) -> bool {
            !admins(&mut self.diag, &self.paths, &[self.port]).unwrap().is_empty()
        }
    }

    #[test]
    fn processes_before_login_do_not_count() {
        let mut host = Host::new();
        assert!(!host.admits());
        for (comm, uids, title) in [
            ("sshd", "0 0 0 0", "sshd: [accepted]"),
            ("sshd", "0 0 0 0", "sshd: root [priv]"),
            ("sshd", "103 103 103 103", "sshd: root [net]"),
            ("sshd", "103 103 103 103", "sshd: root@notty"),
            ("sshd", "0 1000 0 1000", "sshd: alice [priv]"),
            ("nc", "1000 1000 1000 1000", "sshd: alice@pts/0"),
        ] {
            host.process(50, comm, uids, title);
            assert!(!host.admits(), "{comm} {uids} {title}");
        }
        for (comm, uids, title) in
            [("sshd", "0 0 0 0", "sshd: root@notty"), ("sshd-session", "1000 1000 1000 1000", "sshd-session: alice@pts/0")]
        {
            host.process(50, comm, uids, title);
            assert!(host.admits(), "{comm} {uids} {title}");
        }
        fs::write(&host.paths.passwd, "").unwrap();
        assert!(!host.admits(), "without knowing the unprivileged user, an ordinary one proves nothing");
        host.port = 1;
        assert!(!host.admits());
    }

    #[test]
    fn login_databases_count_while_their_sshd_lives() {
        let mut host = Host::new();
        fs::write(&host.paths.utmp, record(7, 60, "127.0.0.1", &[127, 0, 0, 1])).unwrap();
        assert!(!host.admits(), "a record left behind");
        host.process(60, "cron", "0 0 0 0", "cron");
        assert!(!host.admits(), "its pid is used anew");
        host.process(60, "sshd", "0 0 0 0", "sshd: alice [priv]");
        assert!(host.admits());
        fs::remove_file(&host.paths.utmp).unwrap();
        assert!(!host.admits());
        fs::create_dir(&host.paths.sessions).unwrap();
        fs::write(host.paths.sessions.join("3"), "STATE=active\nREMOTE=1\nREMOTE_HOST=127.0.0.1\nLEADER=60\n").unwrap();
        assert!(host.admits());
        fs::write(host.paths.sessions.join("3"), "STATE=active\nREMOTE=1\nREMOTE_HOST=127.0.0.2\nLEADER=60\n").unwrap();
        assert!(!host.admits(), "somebody else's session");
    }

    proptest! {
        #[test]
        fn reading_is_total(bytes in proptest::collection::vec(any::<u8>(), 0..300), lines in "(STATE=active\n|REMOTE=1\n|LEADER=[0-9]{0,12}\n|REMOTE_HOST=.{0,20}\n|Uid:.{0,40}\n|sshd:.{0,20}\n){0,8}") {
            for text in [&bytes[..], lines.as_bytes()] {
                let _ = (session(text), user(text), is_session_title(text));
            }
        }
    }
}
