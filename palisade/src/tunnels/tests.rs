//! Real programs under a supervisor, on the machine's real clock, without a network: the world is made up.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::time::{Duration, Instant};

use palisade_core::net::{Addr, Prefix};
use palisade_core::route::tunnels::{Backoff, Ready, Restart};
use palisade_core::route::world::{Address, Link};
use palisade_os::process::client::Process;
use palisade_os::{clock, wake};

use super::*;

/// A state folder, a client script and what it leaves there.
struct House {
    dir: tempfile::TempDir,
    world: World,
}

/// Goes into the background as tunnel clients do: `starts` and `log` tell of it, a line in `say` is printed, and it ends
/// when the file `end` is there, with the status in it.
const FORKING: &str = r#"
echo "$1" >>log
case "$1" in
start)
    [ -e refuse ] && { echo "TIC: Login failed"; exit 1; }
    [ -e fail ] && exit 1
    sh -c 'trap "" TERM; [ -e mild ] && trap - TERM; sleep 0.2; echo $$ >pid.new; mv pid.new pid; while [ ! -e end ]; do sleep 0.02; done; s=$(cat end); rm end; exit $s' &
    exit 0 ;;
stop) kill -9 "$(cat pid)" ;;
esac
"#;

impl House {
    fn new(script: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let text = format!("#!/bin/sh\ncd {}\n{script}", dir.path().display());
        fs::write(dir.path().join("new"), text).unwrap();
        fs::set_permissions(dir.path().join("new"), fs::Permissions::from_mode(0o755)).unwrap();
        // A copy made by another program: no child that another test forks can have it open for writing.
        let copied = std::process::Command::new("cp").arg(dir.path().join("new")).arg(dir.path().join("client")).status().unwrap();
        assert!(copied.success());
        Self { dir, world: World::default() }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn put(&self, name: &str, text: &str) {
        fs::write(self.path("put.new"), text).unwrap();
        fs::rename(self.path("put.new"), self.path(name)).unwrap();
    }

    /// How often it was started.
    fn starts(&self) -> usize {
        fs::read_to_string(self.path("log")).unwrap_or_default().lines().filter(|line| *line == "start").count()
    }

    fn tunnel(&self) -> Tunnel {
        let call = |word: &str| vec![self.path("client").display().to_string(), word.to_owned()];
        Tunnel {
            name: "sixxs0".into(),
            enabled: true,
            kind: TunnelKind::Exec(Exec {
                start: call("start"),
                stop: Some(call("stop")),
                pidfile: Some(self.path("pid").display().to_string()),
                restart: Restart::OnFailure,
                restart_on_probe: false,
                budget: Some("sixxs".into()),
                cost: 1,
                stop_cost: 0,
                fatal: vec!["Login failed".into()],
                min_uptime: Span::ZERO,
            }),
            ready: Ready { interface: "sixxs0".into(), address: Some("2a02::1".parse::<Prefix>().unwrap()), within: Span::secs(20) },
            backoff: Backoff { min: Span::millis(50), max: Span::millis(50), factor: 100, jitter: 0, reset_after: Span::secs(60) },
            underlay: None,
        }
    }

    fn budget(connects: u32) -> Budget {
        Budget {
            name: "sixxs".into(),
            connects,
            within: Span::secs(1000),
            penalty: Span::secs(5000),
            breaches: 2,
            breach_within: Span::secs(86_400),
            lockout: Span::secs(604_800),
            reserve: 1,
            margin: Span::secs(5),
        }
    }

    fn supervisor(&self, tunnel: Tunnel, connects: u32) -> Supervisor {
        Supervisor::new(&[tunnel], &[Self::budget(connects)], &self.path("state"), &clock::boot_id().unwrap(), clock::now())
    }

    /// The interface comes with its address, or goes.
    fn interface(&mut self, there: bool) {
        self.world = World::default();
        if there {
            let link = Link { index: 7, name: "sixxs0".into(), up: true, carrier: true, kind: Some("tun".into()) };
            self.world.links.insert(7, link);
            let addr: Addr = "2a02::1".parse().unwrap();
            let network = "2a02::/64".parse().unwrap();
            let flags = (true, false);
            self.world.addresses.push(Address {
                link: 7,
                addr,
                network,
                global: flags.0,
                tentative: flags.1,
                dad_failed: flags.1,
                deprecated: flags.1,
                temporary: flags.1,
            });
        }
    }

    fn turn(&self, supervisor: &mut Supervisor) -> Vec<Told> {
        let (healths, carries) = (Healths::default(), BTreeMap::new());
        supervisor.turn(clock::now(), &Facts { world: &self.world, healths: &healths, carries: &carries })
    }

    /// Turns as a daemon's loop does, until it is so.
    #[track_caller]
    fn until(&self, supervisor: &mut Supervisor, what: &str, mut so: impl FnMut(&TunnelStatus) -> bool) -> Vec<Told> {
        let (end, mut told) = (Instant::now() + Duration::from_secs(20), Vec::new());
        loop {
            told.extend(self.turn(supervisor));
            let status = supervisor.status();
            if status.first().is_some_and(&mut so) {
                return told;
            }
            assert!(Instant::now() < end, "waited in vain: {what}: {status:?} {told:?}");
            let deadline = supervisor.next_deadline().map_or(Span::millis(50), |at| at.since(clock::now().tick));
            let _ = wake::poll(&supervisor.fds(), None, Some(deadline.min(Span::millis(50)))).unwrap();
        }
    }
}

impl Drop for House {
    /// Clients outlive who supervised them; not the test.
    fn drop(&mut self) {
        let pid = fs::read_to_string(self.path("pid")).ok().and_then(|pid| pid.trim().parse().ok());
        if let Some(client) = pid.and_then(|pid| Process::open(pid).ok().flatten()) {
            let _ = client.signal(9);
        }
    }
}

fn is_up(status: &TunnelStatus) -> bool {
    matches!(status.state, State::Up { .. })
}

fn text(told: &[Told]) -> String {
    told.iter().map(|told| format!("{}\n", told.text)).collect()
}

#[test]
fn it_comes_up_when_its_late_interface_does_and_back_after_a_crash_within_its_budget() {
    let mut house = House::new(FORKING);
    let mut supervisor = house.supervisor(house.tunnel(), 4);
    house.until(&mut supervisor, "its pidfile", |status| status.pid.is_some());
    assert!(matches!(supervisor.status()[0].state, State::Starting { .. }), "its interface is not there yet");
    house.interface(true);
    house.until(&mut supervisor, "it is up", is_up);
    for n in 2..=3 {
        house.put("end", "1");
        let told = house.until(&mut supervisor, "it crashed", |status| !is_up(status));
        assert!(text(&told).contains("exit status: 1"), "{told:?}");
        house.until(&mut supervisor, "it is back", is_up);
        assert_eq!(house.starts(), n);
    }
    // Three of four were used; the fourth is a human's.
    house.put("end", "1");
    house.until(&mut supervisor, "it waits", |status| matches!(status.state, State::Waiting { why: Waits::Budget(_), .. }));
    let status = supervisor.budgets(clock::now()).remove(0).unwrap();
    assert_eq!((status.used, status.waiting.len()), (3, 1));
    let Reply::Done(said) = supervisor.command("sixxs0", Order::Start(Kind::Manual), clock::now()) else { panic!() };
    assert!(said.contains("0 connects are left"), "{said}");
    house.until(&mut supervisor, "it is up by hand", is_up);
    let Reply::Refused(said) = supervisor.command("sixxs1", Order::Stop, clock::now()) else { return };
    panic!("there is no such tunnel: {said}");
}

#[test]
fn a_new_daemon_leaves_a_running_client_alone() {
    let mut house = House::new(FORKING);
    house.interface(true);
    let mut supervisor = house.supervisor(house.tunnel(), 4);
    house.until(&mut supervisor, "it is up", is_up);
    let pid = supervisor.status()[0].pid;
    for _ in 0..5 {
        drop(supervisor);
        supervisor = house.supervisor(house.tunnel(), 4);
        house.until(&mut supervisor, "it is up", is_up);
        assert_eq!(supervisor.status()[0].pid, pid);
    }
    assert_eq!((house.starts(), supervisor.budgets(clock::now())[0].as_ref().unwrap().used), (1, 1), "that cost nothing");
    // What was stopped by hand stays so, and one without its client's end in sight is killed.
    fs::remove_file(house.path("client")).unwrap();
    assert!(matches!(supervisor.command("sixxs0", Order::Stop, clock::now()), Reply::Done(_)));
    house.put("end", "0");
    house.until(&mut supervisor, "it is down", |status| status.state == State::Down);
    let mut next = house.supervisor(house.tunnel(), 4);
    house.turn(&mut next);
    assert_eq!(next.status()[0].state, State::Down);
}

#[test]
fn a_refusal_is_latched_and_told_to_the_budget() {
    let house = House::new(FORKING);
    house.put("refuse", "");
    let mut supervisor = house.supervisor(house.tunnel(), 4);
    let told = house.until(&mut supervisor, "it is given up", |status| matches!(status.state, State::Failed { .. }));
    assert!(text(&told).contains("TIC: Login failed") && text(&told).contains("palisade tunnel start sixxs0"), "{told:?}");
    let status = supervisor.budgets(clock::now()).remove(0).unwrap();
    assert_eq!((status.breaches.len(), status.hold.is_some(), house.starts()), (1, true, 1));
    let mut next = house.supervisor(house.tunnel(), 4);
    house.turn(&mut next);
    assert!(matches!(next.status()[0].state, State::Failed { .. }), "a new daemon knows it too");
}

#[test]
fn a_missing_program_costs_nothing_and_says_so() {
    let house = House::new(FORKING);
    fs::remove_file(house.path("client")).unwrap();
    let mut supervisor = house.supervisor(house.tunnel(), 4);
    let told = house.until(&mut supervisor, "it is given up", |status| matches!(status.state, State::Failed { .. }));
    assert!(text(&told).contains("there is no program"), "{told:?}");
    assert_eq!(supervisor.budgets(clock::now())[0].as_ref().unwrap().used, 0);
}

#[test]
fn without_a_disk_for_its_budget_nothing_is_started() {
    let house = House::new(FORKING);
    fs::create_dir(house.path("state")).unwrap();
    fs::write(house.path("state/budget"), "no folder").unwrap();
    let mut supervisor = house.supervisor(house.tunnel(), 4);
    let told = house.until(&mut supervisor, "it waits", |status| matches!(status.state, State::Waiting { why: Waits::Disk, .. }));
    assert!(text(&told).contains("nothing that costs of budget sixxs is started"), "{told:?}");
    assert_eq!(house.starts(), 0);
}

#[test]
fn a_simple_client_is_adopted_by_what_is_remembered_of_it() {
    let mut house = House::new("echo start >>log; while [ ! -e end ]; do sleep 0.02; done; exit 3");
    house.interface(true);
    let mut tunnel = house.tunnel();
    let TunnelKind::Exec(exec) = &mut tunnel.kind else { panic!() };
    (exec.pidfile, exec.stop) = (None, None);
    let mut supervisor = house.supervisor(tunnel.clone(), 4);
    house.until(&mut supervisor, "it is up", is_up);
    let pid = supervisor.status()[0].pid.unwrap();
    drop(supervisor);
    let mut supervisor = house.supervisor(tunnel.clone(), 4);
    house.until(&mut supervisor, "it is up", |status| is_up(status) && status.pid == Some(pid));
    // Its words change: it is stopped by a signal, and started anew.
    let TunnelKind::Exec(exec) = &mut tunnel.kind else { panic!() };
    exec.start.push("more".into());
    supervisor.reload(&[tunnel], &[House::budget(4)], clock::now());
    house.until(&mut supervisor, "it is another", |status| is_up(status) && status.pid != Some(pid));
    assert_eq!(house.starts(), 2);
    // A config without it has it stopped.
    supervisor.reload(&[], &[House::budget(4)], clock::now());
    let end = Instant::now() + Duration::from_secs(20);
    while !supervisor.status().is_empty() {
        house.turn(&mut supervisor);
        assert!(Instant::now() < end, "it is no longer wanted: {:?}", supervisor.status());
        std::thread::sleep(Duration::from_millis(5));
    }
}
