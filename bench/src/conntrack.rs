//! A full connection table: who holds how many, and one host's flows taken out of it, beside conntrack(8).

use std::net::UdpSocket;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use palisade_core::bans::wall::Ports;
use palisade_core::flood::census::Fold;
use palisade_core::flood::flow::{TCP, TcpState, UDP};
use palisade_core::net::{Addr, Prefix};
use palisade_os::flows::census::Table as Connections;
use palisade_os::flows::linux::Linux;
use palisade_os::flows::{Flows, Target};
use palisade_os::netlink::conntrack::plant::{Seed, plant};
use palisade_os::netlink::conntrack::{self, status};
use palisade_os::netlink::socket::{NETFILTER, Next, Socket};

use crate::Bench;
use crate::guards::Place;
use crate::lab::{Lab, Netns, VICTIM, attackers, scattered};
use crate::process::Running;
use crate::report::{Line, Table};
use crate::stats::{Samples, grouped, ratio, time};

/// How many flows there are, where the machine's bound lets them in.
const FLOWS: u32 = 500_000;
/// Room left below the bound: at the bound the kernel throws flows out.
const SPARE: u32 = 4_096;
/// How many sources hold them.
const SOURCES: u32 = 62_500;
/// Whose are taken out, and how many he has.
const CULPRIT: [u8; 4] = [203, 0, 113, 9];
const HIS: u16 = 1_000;

/// What the daemon folds with (`palisade/src/serve/census.rs`).
const ROOM: usize = 65_536;
const ROWS: usize = 512;

/// Finds the source in a line of `conntrack -L`.
const AWK: &str = "match($0, /src=[^ ]+/) { print substr($0, RSTART + 4, RLENGTH - 4) }";

/// A namespace with so many flows, and how many it took.
fn ground() -> Result<(Netns, u32)> {
    let ns = Netns::fresh()?;
    let count = ns.within(|| {
        let max = Connections::open()?.gauge()?.max;
        let count = FLOWS.min(max.saturating_sub(SPARE));
        let planted = plant(&mut Socket::open(NETFILTER)?, (0..count).map(seed)).context("planting flows")?;
        ensure!(planted == u64::from(count), "{planted} of {count} flows stand");
        Ok(count)
    })?;
    Ok((ns, count))
}

/// The `n`-th flow: three in four are open TCP connections, the others UDP, some without an answer.
fn seed(n: u32) -> Seed {
    let source = Addr::from(scattered(n % SOURCES));
    let port = u16::try_from(1024 + n / SOURCES).unwrap_or(u16::MAX);
    let (protocol, to) = if n.is_multiple_of(4) { (UDP, 53) } else { (TCP, 443) };
    let mut seed = Seed::new(protocol, (source, port), (VICTIM.into(), to));
    seed.timeout = 36_000;
    if n.is_multiple_of(16) {
        seed.status = 0;
    } else if n.is_multiple_of(7) && protocol == TCP {
        seed.tcp = Some(TcpState::TimeWait);
    }
    debug_assert!(seed.status & status::CONFIRMED == 0);
    seed
}

/// Runs programs that each read what the one before writes, and waits for all.
fn piped(programs: &[&[&str]]) -> Result<Duration> {
    let began = Instant::now();
    let mut children: Vec<Child> = Vec::new();
    for (n, args) in programs.iter().enumerate() {
        let input = children.last_mut().and_then(|child| child.stdout.take()).map_or_else(Stdio::null, Stdio::from);
        let output = if n + 1 < programs.len() { Stdio::piped() } else { Stdio::null() };
        let (program, args) = args.split_first().context("a program")?;
        let mut command = Command::new(program);
        command.args(args).env("LC_ALL", "C").stdin(input).stdout(output).stderr(Stdio::null());
        children.push(command.spawn().with_context(|| (*program).to_owned())?);
    }
    for (mut child, args) in children.into_iter().zip(programs) {
        let status = child.wait()?;
        ensure!(status.success(), "{}: {status}", args.join(" "));
    }
    Ok(began.elapsed())
}

/// Runs something and tells how long it took.
fn timed<T>(work: impl FnOnce() -> Result<T>) -> Result<(Duration, T)> {
    let began = Instant::now();
    let done = work()?;
    Ok((began.elapsed(), done))
}

fn row(what: &str, samples: &Samples, ours: &Samples) -> Vec<String> {
    let times = [samples.at(0.0), samples.median(), samples.max()].map(time);
    [vec![what.to_owned()], times.to_vec(), vec![ratio(samples.median(), ours.median())]].concat()
}

/// Who holds how many, of a table of half a million.
pub(crate) fn census(bench: &Bench) -> Result<Table> {
    let (ns, count) = ground()?;
    let [mut ours, mut floor, mut list, mut pipe, mut gauge, mut sample] = std::array::from_fn(|_| Samples::default());
    let sources = u64::from(SOURCES.min(count));
    ns.within(|| {
        let mut table = Connections::open()?;
        for _ in 0..bench.rounds {
            ours.push(timed(|| counted(&mut table, count, sources))?.0);
            list.push(piped(&[&["conntrack", "-L"]])?);
            pipe.push(piped(&[&["conntrack", "-L"], &["awk", AWK], &["sort"], &["uniq", "-c"]])?);
            floor.push(timed(|| unread(count))?.0);
            sample.push(timed(|| sampled(&mut table))?.0);
            gauge.push(timed(|| Ok(table.gauge()?))?.0);
            bench.say(&format!("{} flows: {} and {}", grouped(count.into()), time(ours.at(1.0)), time(pipe.at(1.0))));
        }
        Ok(())
    })?;
    let rows = vec![
        row("palisade: listed, read and counted by source", &ours, &ours),
        row("`conntrack -L \\| awk \\| sort \\| uniq -c`", &pipe, &ours),
        row("`conntrack -L`", &list, &ours),
        row("listed by the kernel, not even read", &floor, &ours),
        row("palisade: a fair sample of 25,000 counted by source", &sample, &ours),
        row("palisade: only how full it is", &gauge, &ours),
        vec![
            format!("{} flows of {} sources", grouped(count.into()), grouped(sources)),
            String::new(),
            String::new(),
            String::new(),
            String::new(),
        ],
    ];
    let aim = |what: &str, least: f64, rival: &Samples| {
        let times = rival.median() / ours.median();
        Line::aim(what, &ratio(rival.median(), ours.median()), times >= least)
    };
    let aims = vec![
        aim("ten times faster than counting what `conntrack -L` prints", 10.0, &pipe),
        aim("twice as fast as `conntrack -L` alone", 2.0, &list),
    ];
    Ok(Table { id: "census", head: &["", "fastest", "median", "slowest", "median to ours"], rows, aims })
}

fn counted(table: &mut Connections, count: u32, sources: u64) -> Result<()> {
    let mut fold = Fold::new(ROOM);
    let pass = table.each(|flow| fold.add(flow))?;
    let census = fold.finish(ROWS, None);
    ensure!(pass.flows == u64::from(count) && census.sources == sources, "{} flows of {} sources", pass.flows, census.sources);
    Ok(())
}

/// Enough that who holds a fiftieth is told within a tenth of it.
fn sampled(table: &mut Connections) -> Result<()> {
    let mut fold = Fold::new(ROOM);
    let pass = table.first(25_000, |flow| fold.add(flow))?;
    ensure!(pass.flows == 25_000 && fold.finish(ROWS, None).sources > 0, "{} flows", pass.flows);
    Ok(())
}

/// What the kernel alone takes.
fn unread(count: u32) -> Result<()> {
    let mut messages = 0;
    conntrack::dump_messages(&mut Socket::open(NETFILTER)?, None, |_| {
        messages += 1;
        Next::More
    })?;
    ensure!(messages >= count, "{messages} states");
    Ok(())
}

/// A thousand flows of one host among half a million.
pub(crate) fn kill(bench: &Bench) -> Result<Table> {
    let (ns, count) = ground()?;
    let [mut ours, mut theirs, mut all_four] = std::array::from_fn(|_| Samples::default());
    let text = Addr::from(std::net::Ipv4Addr::from(CULPRIT)).to_string();
    ns.within(|| {
        let native = |option: &'static str| {
            let began = Instant::now();
            // It fails where nothing matches.
            let status = Command::new("conntrack").args(["-D", option, &text]).stdout(Stdio::null()).stderr(Stdio::null()).status()?;
            Ok::<_, anyhow::Error>((began.elapsed(), status.success()))
        };
        for _ in 0..bench.rounds {
            let (took, killed) = among(count, || timed(|| end(CULPRIT)))?;
            ensure!(killed == u64::from(HIS), "{killed} were ended");
            ours.push(took);
            theirs.push(among(count, || native("-s"))?.0);
            let directions = || ["-s", "-d", "-r", "-q"].into_iter().map(|option| Ok(native(option)?.0)).sum::<Result<Duration>>();
            all_four.push(among(count, directions)?);
            bench.say(&format!("{HIS} of {}: {} and {}", grouped(count.into()), time(ours.at(1.0)), time(theirs.at(1.0))));
        }
        Ok(())
    })?;
    let rows = vec![
        row("palisade, wherever his address stands", &ours, &ours),
        row("`conntrack -D -s`, where he came first", &theirs, &ours),
        row("`conntrack -D` with `-s`, `-d`, `-r` and `-q`", &all_four, &ours),
        vec![
            format!("{} of {} flows", grouped(HIS.into()), grouped(count.into())),
            String::new(),
            String::new(),
            String::new(),
            String::new(),
        ],
    ];
    let met = theirs.median() / ours.median() >= 8.0;
    let aims = vec![Line::aim("eight times faster than `conntrack -D -s`", &ratio(theirs.median(), ours.median()), met)];
    Ok(Table { id: "kill", head: &["", "fastest", "median", "slowest", "median to ours"], rows, aims })
}

/// Plants the culprit's flows among the others, has them ended, and sees that his are gone and theirs are not.
fn among<T>(count: u32, ending: impl FnOnce() -> Result<T>) -> Result<T> {
    let his = |n| Seed::new(TCP, (std::net::Ipv4Addr::from(CULPRIT).into(), 1024 + n), (VICTIM.into(), 443));
    plant(&mut Socket::open(NETFILTER)?, (0..HIS).map(his)).context("planting the culprit's flows")?;
    let done = ending()?;
    let left = Connections::open()?.gauge()?.count;
    ensure!(left == count, "{left} flows are left of {count} that should be");
    Ok(done)
}

fn end(addr: [u8; 4]) -> Result<u64> {
    let target = Target { prefix: Prefix::host(std::net::Ipv4Addr::from(addr).into()), ports: Ports::All };
    Ok(Linux::open()?.kill(&[target])?.states)
}

/// New flows a second of the measurement of the guard.
const RATE: u64 = 20_000;
/// How long they come before it is measured, and while it is.
const WARM: Duration = Duration::from_secs(15);
const MEASURED: Duration = Duration::from_secs(30);

/// What watching costs while flows come and go.
pub(crate) fn guard(bench: &Bench) -> Result<Table> {
    let lab = Lab::build()?;
    // Unanswered datagrams last 5 s, so that a hundred thousand flows stand and the table does not fill.
    lab.victim.feed("nft", &["-f", "-"], "table inet seen { chain in { type filter hook input priority 0; ct state new counter; }; }\n")?;
    lab.victim.ask("sysctl", &["-qw", "net.netfilter.nf_conntrack_udp_timeout=5"])?;
    let _sink = lab.victim.within(|| Ok(UdpSocket::bind((VICTIM, 9))?))?;
    let config = "[conntrack]\naction = \"watch\"\nadapt = false\n[jail.sshd]\nenabled = false\n";
    let place = Place::new(&bench.palisade, &bench.scratch.join("guard"), config)?;
    let mut running = place.run(&lab.victim)?;
    place.wait(&mut running)?;
    let idle = share(&running, Duration::from_secs(10))?;
    let (stop, opened) = (AtomicBool::new(false), AtomicU64::new(0));
    let measured = thread::scope(|scope| {
        let sender = scope.spawn(|| lab.attacker.within(|| open_flows(&stop, &opened)));
        let work = || -> Result<_> {
            thread::sleep(WARM);
            let before = opened.load(Ordering::Relaxed);
            let ours = share(&running, MEASURED)?;
            let rate = (opened.load(Ordering::Relaxed) - before) as f64 / MEASURED.as_secs_f64();
            let status = place.status()?.conntrack.context("the table is not watched")?;
            let events = lab.victim.within(|| {
                Running::start(Command::new("conntrack").args(["-E", "-e", "NEW"]).stdout(Stdio::null()).stderr(Stdio::null()))
            })?;
            let theirs = share(&events, MEASURED / 2)?;
            Ok((ours, rate, status, theirs))
        };
        let measured = work();
        stop.store(true, Ordering::Relaxed);
        sender.join().map_err(|_| anyhow::anyhow!("the sender panicked"))??;
        measured
    });
    let (ours, rate, status, theirs) = measured?;
    bench.say(&format!("{rate:.0} flows a second, {} tracked, {:?}: {ours:.1} % of a core", grouped(status.count.into()), status.state));
    ensure!(rate > RATE as f64 * 0.8, "only {rate:.0} flows a second were opened");
    let row = |what: String, share: f64| vec![what, format!("{share:.2} %"), format!("{:.2}x", share / ours)];
    let rows = vec![
        row(format!("palisade, {rate:.0} new flows a second, {} tracked", grouped(status.count.into())), ours),
        row("palisade, nothing new".to_owned(), idle),
        row("`conntrack -E -e NEW` meanwhile, which only prints them".to_owned(), theirs),
    ];
    let aims = vec![Line::aim("under 10 % of a core", &format!("{ours:.2} %"), ours < 10.0)];
    Ok(Table { id: "guard", head: &["", "of a core", "to ours"], rows, aims })
}

/// Opens flows at the rate until told to stop: a socket, a datagram, and no more of it.
fn open_flows(stop: &AtomicBool, opened: &AtomicU64) -> Result<()> {
    let sources: Vec<_> = attackers().collect();
    let began = Instant::now();
    for n in 0u64.. {
        if stop.load(Ordering::Relaxed) {
            break;
        }
        let source = sources[usize::try_from(n).unwrap_or(0) % sources.len()];
        UdpSocket::bind((source, 0))?.send_to(b"x", (VICTIM, 9))?;
        opened.fetch_add(1, Ordering::Relaxed);
        if n.is_multiple_of(20) {
            thread::sleep(Duration::from_secs_f64(n as f64 / RATE as f64).saturating_sub(began.elapsed()));
        }
    }
    Ok(())
}

/// Processor time of a program, in percent of one core.
fn share(running: &Running, during: Duration) -> Result<f64> {
    let (before, began) = (running.used()?, Instant::now());
    thread::sleep(during);
    Ok((running.used()? - before) / began.elapsed().as_secs_f64() * 100.0)
}
