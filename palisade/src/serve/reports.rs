//! Programs that know an attacker themselves tell of him on a socket (blocklistd's protocol).

use std::collections::BTreeSet;
use std::io;
use std::net::SocketAddr;
use std::os::fd::AsFd;
use std::path::Path;

use palisade_core::attack::FULL_FAILURE;
use palisade_core::brain::Batch;
use palisade_core::config::Config;
use palisade_core::control::report::{Reported, ReportedAs};
use palisade_core::net::Addr;
use palisade_core::time::Span;
use palisade_os::privileges;
use palisade_os::reports::{Kind, Received, Report, Reports};
use palisade_os::wake::{Waker, poll};

/// What the inputs and the problems are called.
pub(super) const NAME: &str = "blocklistd";

/// How long after a socket that cannot be opened it is tried again.
const RETRY: Span = Span::secs(10);

/// So many messages at most before what they mean is handed over: a ban does not wait behind a flood of them.
const TURN: usize = 256;

/// Half a failure. blocklistd counts a wrong user name 1 where it counts a failed login 2.
const BAD_USER: u16 = FULL_FAILURE / 2;

/// What comes of listening.
pub(super) enum Told {
    /// Somebody reported.
    Heard(Batch),
    /// A problem with the socket, or (`None`) that there is none any more.
    Trouble(Option<String>),
}

/// Takes reports until told to stop; problems are told when they change.
pub(super) fn run(config: &Config, stop: &Waker, tell: &mut dyn FnMut(Told)) -> io::Result<()> {
    let Some(path) = config.blocklistd().socket.as_deref() else { return Ok(()) };
    let believed = believed(config);
    let others = believed.iter().any(|uid| *uid != 0);
    let reports = loop {
        match Reports::open(Path::new(path), others) {
            Ok(reports) => break reports,
            Err(error) => {
                let what = format!("cannot listen on {path}: {error}; nobody can report there until that is mended; tried again by itself");
                tell(Told::Trouble(Some(what)));
            }
        }
        if poll(&[], Some(stop), Some(RETRY))?.woken() {
            return Ok(());
        }
    };
    tell(Told::Trouble(None));
    let mut told = false;
    loop {
        let (batch, dropped) = turn(&reports, config, &believed)?;
        if batch.lines > 0 {
            tell(Told::Heard(batch));
        }
        if let Some(what) = dropped.filter(|_| !told) {
            told = true;
            tell(Told::Trouble(Some(what)));
        }
        if poll(&[reports.as_fd()], Some(stop), None)?.woken() {
            return Ok(());
        }
    }
}

/// The users whose reports are believed. Names nobody has are told of and believe nobody.
fn believed(config: &Config) -> BTreeSet<u32> {
    let number = |name: &String| match privileges::user(name) {
        Ok(Some(account)) => Some(account.uid),
        Ok(None) => {
            tracing::warn!("[blocklistd] users: there is no user {name} in /etc/passwd");
            None
        }
        Err(error) => {
            tracing::warn!("[blocklistd] users: /etc/passwd cannot be read: {error}");
            None
        }
    };
    config.blocklistd().users.iter().filter_map(number).collect()
}

/// What came, and why some of it was not taken.
fn turn(reports: &Reports, config: &Config, believed: &BTreeSet<u32>) -> io::Result<(Batch, Option<String>)> {
    let (mut batch, mut dropped) = (Batch { source: NAME.to_owned(), ..Batch::default() }, None);
    for _ in 0..TURN {
        let Some(received) = reports.next()? else { break };
        batch.lines += 1;
        let why = match received {
            Received::Garbage { why, uid } => Err(format!("a message{} was dropped: {why}", from(uid))),
            Received::Report(report) if report.uid.is_some_and(|uid| !believed.contains(&uid)) => Err(format!(
                "a report{} was dropped: add the user to `users` of [blocklistd] if it may have others banned",
                from(report.uid)
            )),
            Received::Report(report) => take(&report, config, &mut batch),
        };
        dropped = why.err().or(dropped);
    }
    Ok((batch, dropped))
}

fn from(uid: Option<u32>) -> String {
    uid.map(|uid| format!(" of uid {uid}")).unwrap_or_default()
}

fn take(report: &Report, config: &Config, batch: &mut Batch) -> Result<(), String> {
    // What the kernel knows comes before what is written; a socket without a peer is one of UDP.
    let Some(addr) = report.peer.or(report.named) else {
        return Err(format!("a report{} was dropped: the passed socket has no peer, and no address is written", from(report.uid)));
    };
    let port = report.local.as_ref().map(SocketAddr::port);
    let name = config.blocklistd().jail_for(config.jails(), port);
    let Some(jail) = name.and_then(|name| config.jail(name)).filter(|jail| jail.enabled) else {
        let port = port.map_or("an unknown port".to_owned(), |port| format!("port {port}"));
        return Err(format!("a report about {port} was dropped: no jail with `reports = true` has it; write `jail` in [blocklistd]"));
    };
    let what = match report.kind {
        Kind::Failure => ReportedAs::Failure(FULL_FAILURE),
        Kind::BadUser => ReportedAs::Failure(BAD_USER),
        Kind::Abuse => ReportedAs::Abuse,
        Kind::Success => ReportedAs::Login,
    };
    let reason = String::from_utf8_lossy(&report.text).into_owned();
    let reported = Reported { addrs: Vec::new(), jail: jail.name.clone(), what, user: None, reason };
    batch.signs.push(reported.sign(Addr::from(addr.ip()), &jail.policy));
    Ok(())
}
