//! From the return of the write of a log line to the last packet that arrives.
//!
//! The attacker sends numbered datagrams, one about every 60 µs, each noted with its time of
//! sending; the victim notes the highest number that arrived, and when. One line is appended to the
//! log. The drop happened after the last packet that arrived was sent and before the one after it
//! was; mostly that is one interval, but where the sender itself was kept from running it is more.
//! So two times are told: when the last packet arrived, and when the first was sent that did not.

use std::fs::{self, File};
use std::io::Write;
use std::net::{Ipv4Addr, SocketAddrV4, UdpSocket};
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};

use crate::guards::Guard;
use crate::lab::{Lab, VICTIM, attackers};
use crate::report::{Line, Table};
use crate::stats::{Samples, ratio, time};
use crate::{Bench, process};

/// The counted service: "discard".
const PORT: u16 = 9;
/// The sender's pause. With the timer slack set low it sends every 55 to 65 µs: fine enough to see
/// single milliseconds well, coarse enough to leave the machine idle.
const PAUSE: Duration = Duration::from_micros(50);
/// So many packets must have arrived before the line is written.
const FLOWING: u64 = 100;
/// So many packets in a row must be missing, over at least so long, to be a drop and not a delay.
const MISSING: u64 = 200;
const SILENCE: Duration = Duration::from_millis(30);
/// A ban that takes longer is a failure of the measurement.
const BAN_WITHIN: Duration = Duration::from_secs(20);
/// Between two bans: a length that no tick of a guard is likely to be in step with, made different
/// each time.
const REST: Duration = Duration::from_millis(97);

/// How many bans of each guard in each of the rounds.
const fn bans(guard: Guard) -> usize {
    match guard {
        Guard::Palisade => 100,
        Guard::Fail2ban => 20,
        Guard::Sshguard => 50,
    }
}

pub(crate) fn run(bench: &Bench) -> Result<Table> {
    let mut times = Guard::ALL.map(|_| Times::default());
    for round in 0..bench.rounds {
        for (guard, samples) in Guard::ALL.into_iter().zip(&mut times) {
            let dir = bench.scratch.join(format!("line-{}-{round}", guard.name()));
            one_guard(bench, guard, &dir, samples).with_context(|| guard.name())?;
            bench.say(&format!("{}: {} bans, median {}", guard.name(), samples.last.len(), time(samples.last.median())));
        }
    }
    Ok(table(&times))
}

/// When the last packet arrived, and when the first was sent that did not.
#[derive(Debug, Default)]
struct Times {
    last: Samples,
    missing: Samples,
}

fn table(times: &[Times; 3]) -> Table {
    let [ours, fail2ban, _] = times.each_ref().map(|times| &times.last);
    let rows = Guard::ALL.into_iter().zip(times).map(|(guard, Times { last, missing })| {
        let mut row = vec![guard.name().to_owned(), last.len().to_string()];
        row.extend([0.5, 0.9, 0.99, 1.0].map(|share| time(last.at(share))));
        row.extend([0.5, 0.99].map(|share| ratio(last.at(share), ours.at(share))));
        row.extend([0.5, 0.99].map(|share| time(missing.at(share))));
        row
    });
    let p99 = ours.at(0.99);
    Table {
        id: "line-to-drop",
        head: &["", "bans", "p50", "p90", "p99", "max", "p50 to ours", "p99 to ours", "first missing: p50", "p99"],
        rows: rows.collect(),
        aims: vec![
            Line::aim("palisade's p99 under 5 ms", &time(p99), p99 < 0.005),
            Line::aim(
                "100 times faster than fail2ban (p50)",
                &ratio(fail2ban.median(), ours.median()),
                fail2ban.median() >= 100.0 * ours.median(),
            ),
        ],
    }
}

fn one_guard(bench: &Bench, guard: Guard, dir: &Path, times: &mut Times) -> Result<()> {
    fs::create_dir_all(dir)?;
    let path = dir.join("auth.log");
    let mut log = File::options().create(true).append(true).open(&path)?;
    let lab = Lab::build()?;
    let mut running = guard.start(&lab.victim, &bench.palisade, dir, &path)?;
    let counter = Counter::open(&lab)?;
    let mut sources = attackers();
    thread::scope(|scope| {
        scope.spawn(|| counter.count());
        let result = (|| {
            // The first makes sure that the file is watched, and pays for what a guard does only once.
            counter.ban(&lab, next(&mut sources)?, &mut log, true)?;
            for n in 0..bans(guard) {
                running.must_live()?;
                thread::sleep(REST + Duration::from_micros(1_237 * n as u64));
                let (last, missing) = counter.ban(&lab, next(&mut sources)?, &mut log, false)?;
                times.last.push(last);
                times.missing.push(missing);
            }
            Ok(())
        })();
        counter.over.store(true, Ordering::Relaxed);
        result
    })
}

fn next(sources: &mut impl Iterator<Item = Ipv4Addr>) -> Result<Ipv4Addr> {
    sources.next().context("the lab has no more attackers")
}

/// The victim's service, and the numbers that attacker and victim share.
struct Counter {
    service: UdpSocket,
    /// One more than the highest number that arrived.
    arrived: AtomicU64,
    /// When it did, in nanoseconds since `began`.
    at: AtomicU64,
    began: Instant,
    /// The next number to send.
    next: AtomicU64,
    over: AtomicBool,
}

impl Counter {
    fn open(lab: &Lab) -> Result<Self> {
        let service = lab.victim.within(|| Ok(UdpSocket::bind(SocketAddrV4::new(VICTIM, PORT))?))?;
        service.set_read_timeout(Some(Duration::from_millis(50)))?;
        Ok(Self {
            service,
            arrived: AtomicU64::new(0),
            at: AtomicU64::new(0),
            began: Instant::now(),
            next: AtomicU64::new(0),
            over: AtomicBool::new(false),
        })
    }

    fn count(&self) {
        let _ = process::precise();
        let mut number = [0; 8];
        while !self.over.load(Ordering::Relaxed) {
            if matches!(self.service.recv(&mut number), Ok(8)) {
                let now = u64::try_from(self.began.elapsed().as_nanos()).unwrap_or(u64::MAX);
                self.at.store(now, Ordering::Relaxed);
                self.arrived.fetch_max(u64::from_be_bytes(number) + 1, Ordering::Relaxed);
            }
        }
    }

    /// Sends from `source` until told to stop; gives back when each packet was sent.
    fn send(&self, from: &UdpSocket, stop: &AtomicBool) -> Vec<Instant> {
        let _ = process::precise();
        let mut sent = Vec::with_capacity(1 << 16);
        while !stop.load(Ordering::Relaxed) {
            let number = self.next.load(Ordering::Relaxed);
            sent.push(Instant::now());
            // An error is the guard's answer to an earlier packet (fail2ban rejects).
            let _ = from.send_to(&number.to_be_bytes(), SocketAddrV4::new(VICTIM, PORT));
            self.next.store(number + 1, Ordering::Relaxed);
            thread::sleep(PAUSE);
        }
        sent
    }

    /// One ban. With `insist` the line is written again each second until the drop.
    fn ban(&self, lab: &Lab, source: Ipv4Addr, log: &mut File, insist: bool) -> Result<(Duration, Duration)> {
        let from = lab.attacker.within(|| Ok(UdpSocket::bind(SocketAddrV4::new(source, 0))?))?;
        let first = self.next.load(Ordering::Relaxed);
        let stop = AtomicBool::new(false);
        let (written, sent) = thread::scope(|scope| {
            let sender = scope.spawn(|| self.send(&from, &stop));
            let written = self.until_dropped(first, source, log, insist);
            stop.store(true, Ordering::Relaxed);
            let sent = sender.join().map_err(|_| anyhow::anyhow!("the sender panicked"));
            written.and_then(|written| Ok((written, sent?)))
        })?;
        thread::sleep(Duration::from_millis(5));
        let lost = usize::try_from(self.arrived.load(Ordering::Relaxed) - first)?;
        let missing = sent.get(lost).context("no packet was dropped")?;
        let last = self.began + Duration::from_nanos(self.at.load(Ordering::Relaxed));
        Ok((last.saturating_duration_since(written), missing.saturating_duration_since(written)))
    }

    fn until_dropped(&self, first: u64, source: Ipv4Addr, log: &mut File, insist: bool) -> Result<Instant> {
        let began = Instant::now();
        while self.arrived.load(Ordering::Relaxed) < first + FLOWING {
            ensure!(began.elapsed() < BAN_WITHIN, "the packets of {source} do not arrive at all");
            thread::sleep(Duration::from_millis(1));
        }
        let line = auth_line(source)?;
        log.write_all(line.as_bytes())?;
        let written = Instant::now();
        let mut again = written;
        let mut seen = (self.arrived.load(Ordering::Relaxed), Instant::now());
        loop {
            thread::sleep(Duration::from_millis(1));
            let arrived = self.arrived.load(Ordering::Relaxed);
            if arrived != seen.0 {
                seen = (arrived, Instant::now());
            } else if self.next.load(Ordering::Relaxed) > arrived + MISSING && seen.1.elapsed() > SILENCE {
                return Ok(written);
            }
            if written.elapsed() > BAN_WITHIN {
                bail!("{source} was not banned within {} s", BAN_WITHIN.as_secs());
            }
            if insist && again.elapsed() > Duration::from_secs(1) {
                log.write_all(line.as_bytes())?;
                again = Instant::now();
            }
        }
    }
}

/// What sshd writes for one wrong password.
pub(crate) fn auth_line(source: Ipv4Addr) -> Result<String> {
    let now = jiff::Timestamp::now().to_zoned(jiff::tz::TimeZone::UTC);
    let stamp = jiff::fmt::strtime::format("%b %e %H:%M:%S", &now)?;
    Ok(format!("{stamp} victim sshd[4711]: Failed password for invalid user admin from {source} port 40022 ssh2\n"))
}
