//! One tunnel's programs: what the machine says is done, and what becomes of it is told to the machine.

use std::io;
use std::os::fd::BorrowedFd;
use std::path::Path;
use std::process::ExitStatus;
use std::sync::Arc;

use palisade_core::route::budget::{Ask, Grant, Ticket};
use palisade_core::route::tunnel::{Action, Answer, DISK_AGAIN, Event, Machine, Memory, State, Waits};
use palisade_core::route::tunnels::{Exec, Ready, Tunnel};
use palisade_core::route::world::World;
use palisade_core::time::{Now, Span, Tick};
use palisade_os::files;
use palisade_os::process::client::{Identity, Process, Run, from_pidfile};
use serde::{Deserialize, Serialize};

use super::Told;
use super::purse::Purse;

/// Between two looks for a pidfile that is to come.
const LOOK_EVERY: Span = Span::millis(200);

/// How long one that talked too much is not listened to.
const DEAF: Span = Span::millis(250);

/// The largest file of what is remembered.
const FILE_MAX: u64 = 64 * 1024;

/// What of a tunnel is kept on disk: `STATE/tunnel/NAME.json`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Kept {
    v: u32,
    memory: Memory,
    process: Option<Identity>,
}

const VERSION: u32 = 1;

/// One tunnel with a client program.
#[derive(Debug)]
pub(super) struct Keeper {
    pub(super) spec: Tunnel,
    pub(super) exec: Exec,
    pub(super) machine: Machine,
    /// The config does not name it any more: it goes once it has stopped.
    pub(super) leaving: bool,
    pub(super) last_line: Option<String>,
    start: Option<Run>,
    stop: Option<Run>,
    pub(super) process: Option<Process>,
    ticket: Option<Ticket>,
    kept: Kept,
    /// Whom `kept` is read and written for.
    path: std::path::PathBuf,
    deaf_until: Option<Tick>,
    looked: Tick,
}

/// What a turn is given.
pub(super) struct Turn<'a> {
    pub(super) now: Now,
    pub(super) purse: Option<&'a mut Purse>,
    pub(super) told: &'a mut Vec<Told>,
    pub(super) chance: u32,
    /// What the budget said to the last ask of this turn.
    pub(super) grant: Option<Grant>,
}

impl Keeper {
    pub(super) fn new(spec: Tunnel, exec: Exec, state: &Path) -> Self {
        let path = state.join("tunnel").join(format!("{}.json", spec.name));
        let kept = read(&path).unwrap_or_default();
        let machine = Machine::new(Arc::clone(&spec.name), exec.clone(), spec.ready.clone(), spec.backoff, kept.memory.clone());
        Self {
            spec,
            exec,
            machine,
            leaving: false,
            last_line: None,
            start: None,
            stop: None,
            process: None,
            ticket: None,
            kept,
            path,
            deaf_until: None,
            looked: Tick(0),
        }
    }

    /// Looks for its client, as the daemon begins. Before anything else is told: what is remembered of it is needed here.
    pub(super) fn look(&mut self, turn: &mut Turn<'_>) {
        self.process = self.find(turn);
    }

    /// Begins, with what was found.
    pub(super) fn begin(&mut self, turn: &mut Turn<'_>) {
        self.tell(Event::Found(self.process.is_some()), turn);
    }

    /// The client, if it lives: by its pidfile, or by what was remembered of it.
    fn find(&self, turn: &mut Turn<'_>) -> Option<Process> {
        let known = self.kept.process.as_ref();
        let found = match &self.exec.pidfile {
            Some(path) => from_pidfile(Path::new(path), known).map_err(|error| format!("{path}: {error}")),
            None => known.map_or(Ok(None), Process::known).map_err(|error| error.to_string()),
        };
        found.unwrap_or_else(|error| {
            turn.told.push(Told::say(&self.spec.name, format!("tunnel {}: its client cannot be looked for: {error}", self.spec.name)));
            None
        })
    }

    /// Hands an event to the machine and does what it says.
    pub(super) fn tell(&mut self, event: Event, turn: &mut Turn<'_>) {
        let mut events = vec![event];
        while let Some(event) = events.pop() {
            for action in self.machine.handle(event, turn.now.tick, turn.chance) {
                events.extend(self.act(action, turn));
            }
        }
        self.keep(turn);
    }

    fn act(&mut self, action: Action, turn: &mut Turn<'_>) -> Option<Event> {
        match action {
            Action::Ask { cost, kind } => return Some(self.ask(&Ask { who: Arc::clone(&self.spec.name), kind, cost }, turn)),
            Action::Start => return self.started(turn),
            Action::Stop => {
                let call = self.exec.stop.clone().unwrap_or_default();
                match Run::spawn(&call) {
                    Ok(run) => self.stop = Some(run),
                    Err(error) => return Some(self.not_run(&error, turn)),
                }
            }
            Action::Terminate => self.signal(libc_signal::TERM, turn),
            Action::Kill => self.signal(libc_signal::KILL, turn),
            Action::Leave => {
                if let Some(purse) = &mut turn.purse {
                    purse.leave(&self.spec.name);
                }
            }
            Action::Refused => {
                if let Some(Err(error)) = turn.purse.as_mut().map(|purse| purse.refused(turn.now)) {
                    turn.told.push(Told::say(&self.spec.name, error.to_string()));
                }
            }
            Action::Tell(text) => turn.told.push(Told::say(&self.spec.name, text)),
        }
        None
    }

    fn ask(&mut self, ask: &Ask, turn: &mut Turn<'_>) -> Event {
        let starts = !matches!(self.machine.state(), State::Stopping { .. }) || self.process.is_none();
        // Somebody else may have started it: then it costs nothing.
        if starts && let Some(process) = self.find(turn) {
            self.process = Some(process);
            return Event::Running;
        }
        if ask.cost == 0 {
            return Event::Answer(Answer::Granted);
        }
        let Some(purse) = &mut turn.purse else { return Event::Answer(Answer::Granted) };
        let answer = match purse.ask(ask, turn.now) {
            Ok((grant, ticket)) => {
                self.ticket = ticket;
                let answer = match &grant {
                    Grant::Granted { .. } => Answer::Granted,
                    Grant::Wait { until, why, .. } => Answer::Wait(until.tick, Waits::Budget(*why)),
                    Grant::Denied { why } => Answer::Denied(why.clone()),
                };
                turn.grant = Some(grant);
                answer
            }
            Err(error) => {
                turn.told.push(Told::say(&self.spec.name, format!("tunnel {}: {error}", self.spec.name)));
                Answer::Wait(turn.now.tick.plus(DISK_AGAIN), Waits::Disk)
            }
        };
        Event::Answer(answer)
    }

    fn started(&mut self, turn: &mut Turn<'_>) -> Option<Event> {
        let run = match Run::spawn(&self.exec.start) {
            Ok(run) => run,
            Err(error) => return Some(self.not_run(&error, turn)),
        };
        self.ticket = None;
        self.looked = turn.now.tick;
        let simple = self.exec.pidfile.is_none();
        self.process = if simple { Process::open(run.pid()).ok().flatten() } else { None };
        self.start = Some(run);
        simple.then_some(Event::Running)
    }

    /// It never ran, so it never connected.
    fn not_run(&mut self, error: &io::Error, turn: &mut Turn<'_>) -> Event {
        if let (Some(ticket), Some(purse)) = (self.ticket.take(), &mut turn.purse)
            && let Err(error) = purse.give_back(ticket, turn.now)
        {
            turn.told.push(Told::say(&self.spec.name, error.to_string()));
        }
        let lasts = matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::PermissionDenied | io::ErrorKind::Unsupported);
        Event::NotRun { why: error.to_string(), lasts }
    }

    fn signal(&mut self, signal: i32, turn: &mut Turn<'_>) {
        let runs = [&mut self.start, &mut self.stop].into_iter().flatten().map(|run| run.signal(signal));
        let all: Vec<io::Result<()>> = runs.chain(self.process.iter().map(|process| process.signal(signal))).collect();
        for error in all.into_iter().filter_map(Result::err) {
            turn.told.push(Told::say(&self.spec.name, format!("tunnel {}: its client cannot be told to stop: {error}", self.spec.name)));
        }
    }

    /// Looks at all that may have happened since. Never blocks.
    pub(super) fn turn(&mut self, world: &World, turn: &mut Turn<'_>) {
        self.listen(turn);
        self.look_at_commands(turn);
        self.look_at_process(turn);
        if matches!(self.machine.state(), State::Stopping { .. }) && self.start.is_none() && self.stop.is_none() && self.process.is_none() {
            // It may have gone into the background after all.
            self.process = self.find(turn);
            let event = if self.process.is_some() { Event::Running } else { Event::Stopped };
            self.tell(event, turn);
        }
        let (yes, proof) = ready(&self.spec.ready, world);
        self.tell(Event::Ready(yes, proof), turn);
        self.tell(Event::Passed, turn);
    }

    fn listen(&mut self, turn: &mut Turn<'_>) {
        if self.deaf_until.is_some_and(|until| turn.now.tick < until) {
            return;
        }
        self.deaf_until = None;
        let (mut fatal, mut last, mut more) = (None, None, false);
        for run in [&mut self.start, &mut self.stop].into_iter().flatten() {
            let read = run.lines(|line| {
                if fatal.is_none() && self.exec.fatal.iter().any(|text| line.contains(text)) {
                    fatal = Some(line.to_owned());
                }
                last = Some(line.to_owned());
            });
            more |= read.unwrap_or(false);
        }
        if more {
            self.deaf_until = Some(turn.now.tick.plus(DEAF));
        }
        self.last_line = last.or(self.last_line.take());
        if let Some(line) = fatal {
            self.tell(Event::Fatal(line), turn);
        }
    }

    fn look_at_commands(&mut self, turn: &mut Turn<'_>) {
        if let Some(Ok(Some(_))) = self.stop.as_mut().map(Run::ended) {
            self.stop = None;
        }
        // A simple client's end is its process' end. A forking one's start goes on talking through its pipe: kept till its process ends.
        let ended = self.start.as_mut().and_then(|run| run.ended().ok().flatten());
        let Some(status) = ended else { return };
        if self.exec.pidfile.is_none() {
            self.listen(turn);
            let lived = self.process.take().map_or(Span::ZERO, |process| process.age());
            self.start = None;
            self.tell(Event::Died { lived, clean: status.success(), how: status.to_string() }, turn);
        } else if !status.success() && self.process.is_none() {
            self.listen(turn);
            self.start = None;
            self.tell(Event::StartFailed(status.to_string()), turn);
        } else if matches!(self.machine.state(), State::Stopping { .. } | State::Failed { .. } | State::Down | State::Backoff { .. }) {
            self.start = None;
        }
    }

    fn look_at_process(&mut self, turn: &mut Turn<'_>) {
        if let Some(process) = &self.process {
            // A simple client that we started is reaped by its `Run`.
            if self.exec.pidfile.is_none() && self.start.is_some() {
                return;
            }
            if let Ok(Some(end)) = process.ended() {
                let (lived, how) = (process.age(), how(end.status));
                self.listen(turn);
                self.process = None;
                self.start = None;
                self.tell(Event::Died { lived, clean: end.status.is_some_and(|status| status.success()), how }, turn);
            }
        } else if self.awaits_pidfile() && turn.now.tick.since(self.looked) >= LOOK_EVERY {
            self.looked = turn.now.tick;
            self.process = self.find(turn);
            if self.process.is_some() {
                self.tell(Event::Running, turn);
            }
        }
    }

    fn awaits_pidfile(&self) -> bool {
        let waits = matches!(self.machine.state(), State::Starting { .. } | State::Lost { .. });
        self.exec.pidfile.is_some() && self.process.is_none() && waits
    }

    pub(super) fn fds(&self) -> Vec<BorrowedFd<'_>> {
        let deaf = self.deaf_until.is_some();
        let runs = [&self.start, &self.stop].into_iter().flatten();
        let runs = runs.flat_map(|run| if deaf { run.end_fd().into_iter().collect::<Vec<_>>() } else { run.fds().collect() });
        runs.chain(self.process.iter().map(Process::fd)).collect()
    }

    pub(super) fn next_deadline(&self) -> Option<Tick> {
        let look = self.awaits_pidfile().then(|| self.looked.plus(LOOK_EVERY));
        [self.machine.next_deadline(), look, self.deaf_until].into_iter().flatten().min()
    }

    /// Children of ours that nobody else may reap.
    pub(super) fn children(&self) -> impl Iterator<Item = u32> {
        let process = self.process.iter().map(|process| process.identity().pid);
        [&self.start, &self.stop].into_iter().flatten().map(Run::pid).chain(process)
    }

    pub(super) fn is_gone(&self) -> bool {
        self.leaving && self.process.is_none() && self.start.is_none() && self.stop.is_none()
    }

    /// Writes what is to outlive us, where it changed.
    fn keep(&mut self, turn: &mut Turn<'_>) {
        if self.leaving {
            // A config that names it again begins anew. That it is not there is what is wanted.
            let _ = std::fs::remove_file(&self.path);
            return;
        }
        let process = self.process.as_ref().map(|process| process.identity().clone());
        let kept = Kept { v: VERSION, memory: self.machine.memory().clone(), process };
        if kept == self.kept {
            return;
        }
        self.kept = kept;
        if let Err(error) = write(&self.path, &self.kept) {
            let text = format!("{}: {error}; after a restart this tunnel's client may not be known again", self.path.display());
            turn.told.push(Told::say(&self.spec.name, text));
        }
    }
}

/// Signal numbers, the same on all systems (POSIX kill(1)).
mod libc_signal {
    pub(super) const TERM: i32 = 15;
    pub(super) const KILL: i32 = 9;
}

fn how(status: Option<ExitStatus>) -> String {
    status.map_or_else(|| "its status is not known".to_owned(), |status| status.to_string())
}

/// Whether the interface is up and has its address.
fn ready(ready: &Ready, world: &World) -> (bool, String) {
    let name = &ready.interface;
    let Some(link) = world.link(name) else { return (false, format!("there is no interface {name}")) };
    if !link.works() {
        return (false, format!("{name} is not up"));
    }
    let Some(wanted) = &ready.address else { return (true, format!("{name} is up")) };
    let mut usable = world.addresses_of(link.index).filter(|address| address.usable());
    match usable.find(|address| wanted.contains(address.addr)) {
        Some(address) => (true, format!("{name} has {}", address.addr)),
        None => (false, format!("{name} has no address of {wanted} that can be used")),
    }
}

fn read(path: &Path) -> Option<Kept> {
    use io::Read;
    let mut bytes = Vec::new();
    files::open_regular(path).ok()?.take(FILE_MAX).read_to_end(&mut bytes).ok()?;
    serde_json::from_slice(&bytes).ok().filter(|kept: &Kept| kept.v == VERSION)
}

fn write(path: &Path, kept: &Kept) -> io::Result<()> {
    if let Some(dir) = path.parent() {
        std::fs::create_dir_all(dir)?;
    }
    files::replace(path, &serde_json::to_vec(kept).map_err(io::Error::other)?)
}
