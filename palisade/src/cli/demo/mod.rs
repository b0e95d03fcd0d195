//! `palisade demo`: the main job, live, in a small network that exists only inside this process.
//!
//! | file | what is in it |
//! |---|---|
//! | here | the story, step by step |
//! | `lab` | victim, attacker and bystander, joined by cables |
//! | `service` | the victim's login service, which writes the log |
//! | `guard` | the real daemon, a child of ours in the victim's namespace |
//! | `witness` | listens to what the kernel tells of its rule set |
//! | `tale` | how it is told, and what was not seen |
//!
//! Nothing is faked: connections, packets, log lines, the daemon, the firewall and the times are
//! real. Nothing is left either: networks, mounts, tables and files are in namespaces that the kernel
//! takes away with this process, however it ends.

mod guard;
mod lab;
mod service;
mod tale;
mod witness;

use std::net::TcpStream;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::Result;
use palisade_core::control::{Reply, Request, Whom};
use palisade_core::net::Prefix;
use palisade_core::time::Span;
use palisade_os::netns::{self, NetnsError};
use serde_json::json;

use crate::cli::{Exit, print};
use guard::Guard;
use lab::Lab;
use service::{Line, Service};
use tale::{Tale, ms};
use witness::Witness;

/// Log, config, store and control socket are in here: hidden behind an empty file system of our own.
const DIR: &str = "/tmp";

/// So many wrong passwords are a ban, as the guard is told.
const MAX_RETRY: usize = 3;

/// Between two tries of the attacker, so that people can follow, and so that the kernel has made an
/// IPv6 address ready that the attacker has just taken: it does that later, in a work queue.
const PAUSE: Duration = Duration::from_millis(150);

/// How long anything that should happen may take before it counts as not seen. All of it happens
/// within milliseconds; this is for machines that are busy with something else.
const WITHIN: Duration = Duration::from_secs(5);

/// Tells the story. [`Exit::Done`] when every step was seen.
pub fn run(json: bool) -> Result<Exit> {
    // First of all: only a process with one thread can move into a user namespace.
    let lab = match leave_host() {
        Ok(lab) => lab,
        Err(error) => {
            print::say(format_args!("palisade: {:#}", anyhow::Error::new(error)));
            return Ok(Exit::No);
        }
    };
    let mut tale = Tale::begin(json)?;
    if let Err(error) = tell(lab, &mut tale) {
        tale.step("the rest", false, format!("the story broke off: {error:#}"), json!({}))?;
    }
    tale.end()
}

fn tell(lab: Lab, tale: &mut Tale) -> Result<()> {
    let mut guard = Guard::start(Path::new(DIR), MAX_RETRY)?;
    let told = Stage::set(lab, tale, &guard).and_then(|mut stage| stage.play());
    if told.is_err() || tale.something_missing() {
        print::say(format_args!("the guard's log:\n{}", guard.log()));
    }
    told?;
    tale.step("cleaned up", guard.stop()?, "the guard has stopped; networks, tables and files go with this process", json!({}))
}

fn leave_host() -> Result<Lab, NetnsError> {
    netns::leave_host()?;
    netns::hide(Path::new(DIR))?;
    Lab::build()
}

/// Everything the story needs, and the story.
struct Stage<'a> {
    lab: Lab,
    tale: &'a mut Tale,
    guard: &'a Guard,
    service: Service,
    witness: Witness,
    attacker: TcpStream,
    bystander: TcpStream,
}

impl<'a> Stage<'a> {
    /// Steps 1 and 2: who is there, and that they can talk.
    fn set(lab: Lab, tale: &'a mut Tale, guard: &'a Guard) -> Result<Self> {
        let service = Service::start(Path::new(DIR))?;
        let witness = Witness::start()?;
        tale.step(
            "network",
            true,
            lab::PICTURE,
            json!({ "victim": [lab::VICTIM, lab::VICTIM6], "attacker": lab::ATTACKER, "bystander": lab::BYSTANDER }),
        )?;
        let mut attacker = lab.attacker.within(|| lab::connect(lab::VICTIM, WITHIN))??;
        let mut bystander = lab.bystander.within(|| lab::connect(lab::VICTIM, WITHIN))??;
        let seen = lab::echoes(&mut attacker, WITHIN) && lab::echoes(&mut bystander, WITHIN);
        tale.step("connections", seen, "attacker and bystander each hold an open connection to the victim, which echoes", json!({}))?;
        Ok(Self { lab, tale, guard, service, witness, attacker, bystander })
    }

    fn play(&mut self) -> Result<()> {
        let attacker: Prefix = lab::ATTACKER.parse()?;
        let attackers: Prefix = lab::ATTACKERS6.parse()?;
        let last = self.passwords()?;
        self.ban(attacker, last)?;
        self.cut_off(attacker)?;
        self.bystander("bystander", "the bystander's connection, open all the time, still echoes")?;
        self.hop(attackers)?;
        self.table_deleted([attacker, attackers])?;
        self.unban(attacker)
    }

    /// Step 3: as many wrong passwords as it takes. When the last line of the log was about to be written.
    fn passwords(&mut self) -> Result<Option<Instant>> {
        let mut lines = Vec::new();
        for _ in 0..MAX_RETRY {
            thread::sleep(PAUSE);
            lines.extend(self.try_password(lab::VICTIM)?);
        }
        let text = format!("{MAX_RETRY} wrong passwords; the service logs them as sshd would, the guard reads the log");
        let texts: Vec<&str> = lines.iter().map(|line| line.text.as_str()).collect();
        self.tale.step("wrong passwords", lines.len() == MAX_RETRY, text, json!({ "lines": texts }))?;
        Ok(lines.last().map(|line| line.written))
    }

    /// The attacker tries one; what the victim logged.
    fn try_password(&mut self, victim: &str) -> Result<Option<Line>> {
        self.lab.attacker.within(|| lab::try_password(victim, WITHIN))?;
        let line = self.service.line(WITHIN);
        if let Some(line) = &line {
            self.tale.detail(&line.text)?;
        }
        Ok(line)
    }

    /// Step 4: what the kernel holds now, and how soon it did.
    fn ban(&mut self, who: Prefix, last: Option<Instant>) -> Result<()> {
        let since = |at: Option<Instant>| Some(at?.duration_since(last?));
        let stood = since(self.witness.stands(&[who], WITHIN));
        let died = since(self.service.end_of(self.attacker.local_addr()?, WITHIN));
        let standing = self.guard.standing(who)?;
        let left = standing.and_then(|s| s.left);
        let text = format!(
            "{who} is banned: the kernel holds it for {}\n\
             last line written -> packets dropped:        {}\n\
             last line written -> open connection ended:  {}",
            left.map_or_else(|| "no time at all".to_owned(), print::rough),
            ms(stood),
            ms(died)
        );
        let (stood_ms, died_ms) = (tale::millis(stood), tale::millis(died));
        let facts = json!({
            "prefix": who, "left": left.map(Span::as_secs_ceil), "line_to_kernel_ms": stood_ms, "line_to_dead_ms": died_ms
        });
        self.tale.step("ban", standing.is_some() && stood.is_some() && died.is_some(), text, facts)
    }

    /// Step 5: nothing of the attacker's gets through, old or new.
    fn cut_off(&mut self, who: Prefix) -> Result<()> {
        let dead = !lab::echoes(&mut self.attacker, lab::SILENCE);
        let refused = self.lab.attacker.within(|| lab::times_out(lab::VICTIM))?;
        let packets = self.guard.standing(who)?.and_then(|s| s.packets).unwrap_or(0);
        let text = format!("the attacker's open connection is dead, new ones time out; the kernel has dropped {packets} packets");
        self.tale.step("cut off", dead && refused && packets > 0, text, json!({ "dropped_packets": packets }))
    }

    /// Step 6, and 9 after the repair: who did nothing notices nothing.
    fn bystander(&mut self, name: &'static str, text: &str) -> Result<()> {
        let seen = lab::echoes(&mut self.bystander, WITHIN);
        self.tale.step(name, seen, text, json!({}))
    }

    /// Step 7: an IPv6 attacker has 2^64 addresses, and they count as one.
    fn hop(&mut self, net: Prefix) -> Result<()> {
        for address in lab::HOPS.iter().take(MAX_RETRY) {
            self.lab.hop_to(address)?;
            thread::sleep(PAUSE);
            self.try_password(lab::VICTIM6)?;
        }
        let stood = self.witness.stands(&[net], WITHIN).is_some() && self.guard.standing(net)?.is_some();
        let fresh = lab::HOPS[MAX_RETRY];
        self.lab.hop_to(fresh)?;
        thread::sleep(PAUSE);
        let refused = self.lab.attacker.within(|| lab::times_out(lab::VICTIM6))?;
        let text =
            format!("over IPv6 each try came from another address of {net}: all of it is banned, {fresh} too, which did nothing yet");
        self.tale.step("hopping", stood && refused, text, json!({ "prefix": net, "fresh": fresh }))
    }

    /// Step 8: the wall comes back by itself.
    fn table_deleted(&mut self, banned: [Prefix; 2]) -> Result<()> {
        let deleted = self.witness.delete_table()?;
        let repaired = self.witness.rebuilt(&banned, WITHIN).map(|at| at.duration_since(deleted));
        let refused = self.lab.attacker.within(|| lab::times_out(lab::VICTIM))?;
        let text =
            format!("somebody deletes the whole table (`nft delete table inet palisade`): every ban stands again after {}", ms(repaired));
        self.tale.step("repair", repaired.is_some() && refused, text, json!({ "repaired_ms": tale::millis(repaired) }))?;
        self.bystander("bystander again", "the bystander has noticed nothing of all this")
    }

    /// Step 10: and a ban can be taken back.
    fn unban(&mut self, who: Prefix) -> Result<()> {
        let reply = self.guard.ask(&Request::Unban { whom: Whom::Prefixes(vec![who]) })?;
        let removed = matches!(&reply, Reply::Unbans { removed, .. } if removed.len() == 1);
        let back = self.lab.attacker.within(|| lab::connect(lab::VICTIM, WITHIN))?.is_ok_and(|mut stream| lab::echoes(&mut stream, WITHIN));
        self.tale.step(
            "unban",
            removed && back,
            format!("`palisade unban {who}`: the attacker can connect again"),
            json!({ "prefix": who }),
        )
    }
}
