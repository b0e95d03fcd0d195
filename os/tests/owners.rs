//! Who is behind an address, for real: processes with real sockets in network namespaces of their own, found by sockets, by
//! control group, by another namespace, by the neighbour table and by a lease.
//!
//! ```text
//!  host  192.0.2.1, 2001:db8::1      <- cable ->      guest  192.0.2.77, 2001:db8::77
//! ```
//! Needs root and `ip`.
#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a test that cannot go on fails; the child says that it is ready")]

use std::io::{BufRead, BufReader, Read};
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use palisade_core::flood::census::Held;
use palisade_core::flood::flow::{Flow, TCP, TcpState, UDP};
use palisade_core::net::{Addr, Prefix};
use palisade_core::time::Span;
use palisade_os::netlink::sock_diag::{self, Protocol, state};
use palisade_os::netlink::socket::{SOCK_DIAG, Socket};
use palisade_os::netns::Netns;
use palisade_os::owners;

const HOST: [&str; 2] = ["192.0.2.1", "2001:db8::1"];
const GUEST: [&str; 2] = ["192.0.2.77", "2001:db8::77"];
/// As long as a process name may be.
const NAME: &str = "pal-owners-test";
const SOCKETS: &str = "PALISADE_TEST_SOCKETS";

/// What the other tests run as a process with a name of its own: opens sockets as it is told, says their ports, and holds them until its
/// input ends.
#[test]
#[ignore = "the others run it as a process of its own"]
fn sockets_of_a_child() {
    let wanted = std::env::var(SOCKETS).expect("run by the other tests");
    let (mut ports, mut streams, mut datagrams) = (Vec::new(), Vec::new(), Vec::new());
    for (kind, to) in wanted.split(' ').filter_map(|word| word.split_once('=')) {
        let to: SocketAddr = to.parse().unwrap();
        match kind {
            "tcp" => streams.push(TcpStream::connect_timeout(&to, Duration::from_secs(10)).unwrap()),
            "syn" => _ = std::thread::spawn(move || TcpStream::connect_timeout(&to, Duration::from_secs(300))),
            "bound" => datagrams.push(UdpSocket::bind(to).unwrap()),
            _ => {
                let any = if to.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
                datagrams.push(UdpSocket::bind(any).unwrap());
                datagrams.last().unwrap().connect(to).unwrap();
            }
        }
        let port = if kind == "tcp" { streams.last().map(|s| s.local_addr()) } else { datagrams.last().map(|s| s.local_addr()) };
        ports.push(port.map_or(0, |addr| addr.unwrap().port()).to_string());
    }
    println!("\nports {}", ports.join(" "));
    let _ = std::io::stdin().read(&mut [0]);
}

struct Running {
    child: Child,
    ports: Vec<u16>,
    _dir: tempfile::TempDir,
}

impl Running {
    fn start(space: &Netns, sockets: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let program = dir.path().join(NAME);
        std::os::unix::fs::symlink(std::env::current_exe().unwrap(), &program).unwrap();
        let spawn = || {
            let mut command = Command::new(&program);
            command.args(["--exact", "sockets_of_a_child", "--ignored", "--nocapture"]).env(SOCKETS, sockets);
            command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap()
        };
        let mut child = space.within(spawn).unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let ports = lines.map_while(Result::ok).find_map(|line| Some(line.strip_prefix("ports ")?.to_owned()));
        let ports = ports.expect("the child opened its sockets").split(' ').map(|port| port.parse().unwrap()).collect();
        Self { child, ports, _dir: dir }
    }

    fn pid(&self) -> u32 {
        self.child.id()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn addr(text: &str) -> Addr {
    text.parse().unwrap()
}

/// Two hosts on one cable. `None`, loudly, where no namespaces can be made.
fn pair() -> Option<(Netns, Netns)> {
    // SAFETY: takes no pointer and cannot fail.
    if unsafe { libc::geteuid() } != 0 {
        eprintln!("SKIPPED, NOT PROVEN: this test makes network namespaces and needs root");
        return None;
    }
    let (host, guest) = (Netns::new().unwrap(), Netns::new().unwrap());
    let (mut a, mut b) = (host.wiring().unwrap(), guest.wiring().unwrap());
    a.cable("to-guest", &guest, "to-host").unwrap();
    for (wiring, link, own, others) in [(&mut a, "to-guest", HOST, GUEST), (&mut b, "to-host", GUEST, HOST)] {
        wiring.up("lo").unwrap();
        wiring.up(link).unwrap();
        for (own, other) in own.iter().zip(others) {
            wiring.add_address(link, addr(own)).unwrap();
            wiring.add_route(Prefix::host(addr(other)), link).unwrap();
        }
    }
    Some((host, guest))
}

fn flow(protocol: u8, from: &str, from_port: u16, to: &str, port: u16) -> Flow {
    Flow {
        source: addr(from),
        destination: addr(to),
        protocol,
        source_port: from_port,
        port,
        tcp: (protocol == TCP).then_some(TcpState::Established),
        replied: true,
        assured: false,
        source_nat: false,
        destination_nat: false,
        left: Span::secs(60),
    }
}

/// Listens in a namespace and lets every connection wait.
fn listen(space: &Netns, at: &str) -> TcpListener {
    space.within(|| TcpListener::bind(at).unwrap()).unwrap()
}

fn row(rows: &[Held], pid: u32) -> &Held {
    rows.iter().find(|row| row.process.pid == pid).unwrap_or_else(|| panic!("no row of process {pid}: {rows:?}"))
}

#[test]
fn flows_of_this_host_are_told_by_the_process_of_their_socket() {
    let Some((host, guest)) = pair() else { return };
    let (_four, _six) = (listen(&guest, "192.0.2.77:7000"), listen(&guest, "[2001:db8::77]:7000"));
    let wanted = "tcp=192.0.2.77:7000 tcp=[2001:db8::77]:7000 udp=192.0.2.77:7001 udp=[2001:db8::77]:7001 bound=0.0.0.0:7100 bound=[::]:7101 bound=192.0.2.1:7102";
    let child = Running::start(&host, wanted);
    let ours = host.within(|| TcpStream::connect_timeout(&"192.0.2.77:7000".parse().unwrap(), Duration::from_secs(10)).unwrap()).unwrap();
    let p = &child.ports;
    let sample = [
        flow(TCP, HOST[0], p[0], GUEST[0], 7000),
        flow(TCP, HOST[1], p[1], GUEST[1], 7000),
        flow(UDP, HOST[0], p[2], GUEST[0], 7001),
        flow(UDP, HOST[1], p[3], GUEST[1], 7001),
        // Unconnected ones may send to anybody; one of IPv6 also over IPv4.
        flow(UDP, HOST[0], 7100, "198.51.100.1", 53),
        flow(UDP, HOST[0], 7101, "198.51.100.2", 53),
        flow(UDP, HOST[1], 7101, GUEST[1], 53),
        flow(UDP, HOST[0], 7102, "198.51.100.2", 53),
        // Its socket is gone: it was to where the child has one still.
        flow(UDP, HOST[0], 5, GUEST[0], 7001),
        flow(TCP, HOST[0], ours.local_addr().unwrap().port(), GUEST[0], 7000),
        // Of nobody: gone, not from here, without ports, and a TCP flow from the port of a UDP socket.
        flow(TCP, HOST[0], 6, GUEST[0], 7999),
        flow(TCP, GUEST[0], p[0], HOST[0], 7000),
        flow(1, HOST[0], 0, GUEST[0], 0),
        flow(TCP, HOST[0], 7100, "198.51.100.3", 53),
    ];
    let rows = host.within(|| owners::holders(&sample, 28_000).unwrap()).unwrap();
    assert_eq!(rows.len(), 2, "{rows:?}");
    let (first, second) = (row(&rows, child.pid()), row(&rows, std::process::id()));
    assert_eq!((first.process.comm.as_str(), first.process.uid, first.process.user.as_deref()), (NAME, 0, Some("root")));
    assert_eq!((first.flows, second.flows, rows[0].process.pid), (9 * 2000, 2000, child.pid()));
    let (end, count) = first.top.unwrap();
    assert!(matches!(end.to_string().as_str(), "192.0.2.77:7001/udp" | "198.51.100.2:53/udp") && count == 4000, "{end} {count}");
    assert_eq!(second.top.unwrap().0.to_string(), "192.0.2.77:7000/tcp");
    assert!(host.within(|| owners::holders(&[], 5).unwrap()).unwrap().is_empty());
}

#[test]
fn a_handshake_that_nobody_answers_has_its_process_too() {
    let Some((host, guest)) = pair() else { return };
    // There is somebody, but the way back is missing.
    let silent = "198.51.100.9";
    guest.wiring().unwrap().add_address("to-host", addr(silent)).unwrap();
    host.wiring().unwrap().add_route(Prefix::host(addr(silent)), "to-guest").unwrap();
    host.wiring().unwrap().add_address("to-guest", addr("203.0.113.5")).unwrap();
    let _ = host.wiring().unwrap().remove_address("to-guest", addr(HOST[0]));
    let child = Running::start(&host, &format!("syn={silent}:80"));
    let sent = host
        .within(|| {
            let mut diag = Socket::open(SOCK_DIAG).unwrap();
            let deadline = Instant::now() + Duration::from_secs(30);
            loop {
                let wanted = 1 << state::SYN_SENT;
                let found = sock_diag::list(&mut diag, palisade_core::net::Family::V4, Protocol::Tcp, wanted, |_| true).unwrap();
                if let Some(sock) = found.first() {
                    return *sock;
                }
                assert!(Instant::now() < deadline, "the child does not connect");
            }
        })
        .unwrap();
    let sample = [flow(TCP, &sent.local.to_string(), sent.local_port, silent, 80)];
    let rows = host.within(|| owners::holders(&sample, 1).unwrap()).unwrap();
    assert_eq!((row(&rows, child.pid()).flows, row(&rows, child.pid()).process.comm.as_str()), (1, NAME));
}

/// A control group of version 2 with this process alone in it, gone with the test.
struct Group(PathBuf);

impl Group {
    fn new(pid: u32) -> Option<Self> {
        let root = ["/sys/fs/cgroup", "/sys/fs/cgroup/unified"]
            .map(Path::new)
            .into_iter()
            .find(|root| root.join("cgroup.controllers").exists())?;
        let group = root.join(format!("palisade-test-{pid}.scope"));
        std::fs::create_dir(&group).ok()?;
        let group = Self(group);
        std::fs::write(group.0.join("cgroup.procs"), pid.to_string()).ok()?;
        Some(group)
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        if let Some(root) = self.0.parent() {
            for pid in std::fs::read_to_string(self.0.join("cgroup.procs")).unwrap_or_default().lines() {
                let _ = std::fs::write(root.join("cgroup.procs"), pid);
            }
        }
        let _ = std::fs::remove_dir(&self.0);
    }
}

/// Does something as a user who may not look into the processes of others; only the calling thread changes.
fn as_nobody<T>(work: impl FnOnce() -> T) -> T {
    // SAFETY: plain system call without pointers; unlike libc's setresuid it changes the calling thread alone, which ends with `within`.
    let rc = unsafe { libc::syscall(libc::SYS_setresuid, 65534, 65534, 65534) };
    assert_eq!(rc, 0);
    work()
}

#[test]
fn without_rights_it_is_the_user_and_the_unit() {
    let Some((host, guest)) = pair() else { return };
    let _four = listen(&guest, "192.0.2.77:7000");
    // The group a socket is made in is that of the process, so it has to be there before.
    let child = Running::start(&host, "tcp=192.0.2.77:7000");
    let sample = [flow(TCP, HOST[0], child.ports[0], GUEST[0], 7000)];
    let rows = host.within(|| as_nobody(|| owners::holders(&sample, 10).unwrap())).unwrap();
    assert_eq!(rows.len(), 1);
    assert_eq!((rows[0].process.pid, rows[0].process.uid, rows[0].flows), (0, 0, 10), "{rows:?}");
    let behind = host.within(|| as_nobody(|| owners::behind(addr(GUEST[0]), &[]).unwrap())).unwrap();
    assert!(behind.hidden.is_some_and(|told| told.contains("CAP_SYS_PTRACE")));
    drop(child);

    let shell = host.within(|| {
        Command::new("sh")
            .args(["-ec", &script()])
            .env(SOCKETS, "tcp=192.0.2.77:7000")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap()
    });
    let mut child = Running { child: shell.unwrap(), ports: Vec::new(), _dir: tempfile::tempdir().unwrap() };
    let Some(group) = Group::new(child.pid()) else {
        eprintln!("SKIPPED, NOT PROVEN: no control group of version 2 can be made here");
        return;
    };
    std::io::Write::write_all(child.child.stdin.as_mut().unwrap(), b"go\n").unwrap();
    let mut lines = BufReader::new(child.child.stdout.take().unwrap()).lines().map_while(Result::ok);
    let port = lines.find_map(|line| line.strip_prefix("ports ")?.parse().ok()).unwrap();
    let sample = [flow(TCP, HOST[0], port, GUEST[0], 7000)];
    let rows = host.within(|| as_nobody(|| owners::holders(&sample, 10).unwrap())).unwrap();
    let unit = group.0.file_name().unwrap().to_str().unwrap();
    assert_eq!(
        (rows[0].process.pid, rows[0].process.unit.as_deref()),
        (child.pid(), Some(unit)),
        "the only process of its group: {rows:?}"
    );
    let rows = host.within(|| owners::holders(&sample, 10).unwrap()).unwrap();
    assert_eq!((rows[0].process.pid, rows[0].process.unit.as_deref()), (child.pid(), Some(unit)));
}

/// Takes the right to look into other processes from the calling thread alone, which ends with `within`.
fn without_ptrace() {
    const SYS_PTRACE: u32 = 19;
    // linux/capability.h: version 3, this thread; effective, permitted and inheritable, twice 32 bits.
    let mut header = [0x2008_0522_u32, 0];
    let mut sets = [0_u32; 6];
    // SAFETY: plain system call; both point to as much as version 3 has.
    assert_eq!(unsafe { libc::syscall(libc::SYS_capget, header.as_mut_ptr(), sets.as_mut_ptr()) }, 0);
    sets[0] &= !(1 << SYS_PTRACE);
    sets[1] &= !(1 << SYS_PTRACE);
    // SAFETY: as above.
    assert_eq!(unsafe { libc::syscall(libc::SYS_capset, header.as_mut_ptr(), sets.as_mut_ptr()) }, 0);
}

#[test]
fn root_that_may_not_look_into_processes_says_so() {
    let Some((host, guest)) = pair() else { return };
    let _four = listen(&guest, "192.0.2.77:7000");
    let child = Running::start(&host, "tcp=192.0.2.77:7000");
    let ours = host.within(|| TcpStream::connect_timeout(&"192.0.2.77:7000".parse().unwrap(), Duration::from_secs(10)).unwrap()).unwrap();
    let sample =
        [flow(TCP, HOST[0], child.ports[0], GUEST[0], 7000), flow(TCP, HOST[0], ours.local_addr().unwrap().port(), GUEST[0], 7000)];
    let barred = |work: &(dyn Fn() + Sync)| {
        host.within(|| {
            without_ptrace();
            work();
        })
        .unwrap();
    };
    barred(&|| {
        let rows = owners::holders(&sample, 2).unwrap();
        assert!(rows.iter().all(|row| row.process.pid != child.pid()), "{rows:?}");
        let behind = owners::behind(addr(GUEST[0]), &[]).unwrap();
        assert!(behind.hidden.as_ref().is_some_and(|told| told.contains("CAP_SYS_PTRACE")), "{behind:?}");
    });
    let rows = host.within(|| owners::holders(&sample, 2).unwrap()).unwrap();
    assert_eq!(row(&rows, child.pid()).flows, 1);
}

/// Waits until it is told to go on, and becomes the child.
fn script() -> String {
    let program = std::env::current_exe().unwrap();
    format!("read go; exec {} --exact sockets_of_a_child --ignored --nocapture", program.display())
}

fn mac(space: &Netns, link: &str) -> String {
    let output = space.within(|| Command::new("ip").args(["-o", "link", "show", "dev", link]).output().unwrap()).unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    text.split_ascii_whitespace().skip_while(|word| *word != "link/ether").nth(1).unwrap().to_owned()
}

#[test]
fn a_container_and_a_neighbour_are_told_by_their_address() {
    let Some((host, guest)) = pair() else { return };
    let (_four, _six) = (listen(&host, "192.0.2.1:7000"), listen(&host, "[2001:db8::1]:7000"));
    let child = Running::start(&guest, "tcp=192.0.2.1:7000 tcp=192.0.2.1:7000 tcp=[2001:db8::1]:7000 bound=0.0.0.0:7100");
    let dir = tempfile::tempdir().unwrap();
    let leases = dir.path().join("leases");
    std::fs::write(&leases, "1795700000 02:00:00:00:00:09 192.0.2.77 annas-laptop *\n").unwrap();
    let there = mac(&guest, "to-host");
    // The two of its address and the one without: of IPv6 one and one.
    for (address, sockets, name) in [(GUEST[0], 3, Some("annas-laptop")), (GUEST[1], 2, None)] {
        let behind = host.within(|| owners::behind(addr(address), std::slice::from_ref(&leases)).unwrap()).unwrap();
        assert_eq!((behind.mac.as_deref(), behind.interface.as_deref()), (Some(there.as_str()), Some("to-guest")), "{behind:?}");
        assert_eq!(behind.host.as_deref(), name);
        let (process, count) = behind.processes.iter().find(|(process, _)| process.pid == child.pid()).unwrap();
        assert_eq!((process.comm.as_str(), *count), (NAME, sockets), "{behind:?}");
        assert_eq!(behind.hidden, None);
    }
    // Of the child's side, our own address is a neighbour's, and the child holds the sockets to it.
    let behind = guest.within(|| owners::behind(addr(HOST[0]), &[]).unwrap()).unwrap();
    assert_eq!(behind.mac, Some(mac(&host, "to-guest")));
    assert!(behind.processes.iter().any(|(process, count)| process.pid == child.pid() && *count == 2), "{behind:?}");
    // Its own address there is nobody else's.
    let behind = guest.within(|| owners::behind(addr(GUEST[0]), &[]).unwrap()).unwrap();
    assert_eq!((behind.mac.as_deref(), behind.processes.len()), (None, 1), "{behind:?}");
}

#[test]
fn a_container_without_sockets_still_names_its_first_process() {
    let Some((host, guest)) = pair() else { return };
    let sleeper = guest.within(|| Command::new("sleep").arg("600").spawn().unwrap()).unwrap();
    let sleeper = Running { child: sleeper, ports: Vec::new(), _dir: tempfile::tempdir().unwrap() };
    guest.wiring().unwrap().add_address("to-host", addr("203.0.113.77")).unwrap();
    let behind = host.within(|| owners::behind(addr("203.0.113.77"), &[]).unwrap()).unwrap();
    assert!(behind.processes.iter().any(|(process, count)| (process.pid, *count) == (sleeper.pid(), 0)), "{behind:?}");
    let nobody = host.within(|| owners::behind(addr("203.0.113.78"), &[]).unwrap()).unwrap();
    assert!(!nobody.is_known(), "{nobody:?}");
}

#[test]
fn tracked_flows_are_counted_with_where_they_lead() {
    let Some((host, guest)) = pair() else { return };
    // Connections are tracked where a rule asks for it.
    let rules = "table inet t { chain c { type filter hook output priority 0; ct state new counter; }; chain i { type filter hook input priority 0; ct state new counter; }; }";
    let loaded = host.within(|| Command::new("nft").arg(rules).status().unwrap()).unwrap();
    assert!(loaded.success());
    let _four = listen(&host, "192.0.2.1:7000");
    let child = Running::start(&guest, "tcp=192.0.2.1:7000 tcp=192.0.2.1:7000 tcp=192.0.2.1:7000");
    assert_eq!(child.ports.len(), 3);
    // Nobody listens there: tracked, and never answered but by an error.
    host.within(|| UdpSocket::bind("192.0.2.1:0").unwrap().send_to(b"x", "192.0.2.77:9").unwrap()).unwrap();
    let told = host.within(|| palisade_os::flows::tracked::tracked(Prefix::host(addr(GUEST[0]))).unwrap()).unwrap();
    assert_eq!((told.flows, told.began, told.unreplied), (4, 3, 1), "{told:?}");
    assert_eq!(told.top.map(|(end, count)| (end.to_string(), count)), Some(("192.0.2.1:7000/tcp".to_owned(), 3)));
    let ours = host.within(|| palisade_os::flows::tracked::tracked("192.0.2.0/28".parse().unwrap()).unwrap()).unwrap();
    assert_eq!((ours.flows, ours.began, ours.top.map(|(end, _)| end.to_string())), (4, 1, Some("192.0.2.77:9/udp".to_owned())));
    let none = host.within(|| palisade_os::flows::tracked::tracked(Prefix::host(addr("203.0.113.1"))).unwrap()).unwrap();
    assert_eq!(none, palisade_os::flows::tracked::Tracked::default());
}
