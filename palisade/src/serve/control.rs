//! The control thread: who may ask, what they may cost, and their answers.
//!
//! One thread polls all connections. Whoever connects costs at most a connection slot, a request of
//! [`REQUEST_MAX`] bytes and a while; a slow reader of events is dropped.

use std::collections::VecDeque;
use std::fs;
use std::io::{self, Read, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::sync::mpsc::SyncSender;

use palisade_core::brain::Event;
use palisade_core::control::conntrack::ConntrackRequest;
use palisade_core::control::{REQUEST_MAX, Reply, Request};
use palisade_core::event::Notice;
use palisade_core::net::Prefix;
use palisade_core::time::{Span, Stamp, Tick};
use palisade_os::wake::{Mailbox, Signal, Want, poll_for};
use palisade_os::{clock, privileges};

use super::Input;
use super::keeper::{Ask, Post as KeeperPost};

/// How many may be connected at once. The command line stays for milliseconds, followers for long.
const CONNECTIONS: usize = 64;

/// How long a connection may take to send a whole request, or to read any of its answer.
const PATIENCE: Span = Span::secs(30);

/// How many bytes of events may wait for a follower before it is dropped.
const FOLLOWER_BACKLOG: usize = 4 << 20;

/// How many events may wait to be handed to followers; the oldest are dropped first. As many may wait for a
/// follower's kept events.
const NOTICES: usize = 8192;

/// The control thread's mailbox.
#[derive(Debug, Default)]
pub(super) struct Post {
    replies: Vec<(u64, Reply)>,
    notices: VecDeque<Notice>,
    stop: bool,
}

impl Post {
    /// Answers the connection.
    pub(super) fn reply(&mut self, id: u64, reply: Reply) {
        self.replies.push((id, reply));
    }

    /// Tells the followers.
    pub(super) fn tell(&mut self, notice: Notice) {
        if self.notices.len() >= NOTICES {
            self.notices.pop_front();
        }
        self.notices.push_back(notice);
    }

    /// Ends the thread.
    pub(super) const fn stop(&mut self) {
        self.stop = true;
    }
}

/// Opens the socket: mode 0660, so that root and the socket's group may ask.
pub(super) fn listen(path: &Path) -> io::Result<UnixListener> {
    // The lock is ours, so a socket that is still there is of a daemon that was killed.
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let listener = UnixListener::bind(path)?;
    fs::set_permissions(path, fs::Permissions::from_mode(0o660))?;
    listener.set_nonblocking(true)?;
    Ok(listener)
}

struct Connection {
    id: u64,
    stream: UnixStream,
    who: String,
    input: Vec<u8>,
    output: VecDeque<u8>,
    /// A request is with the brain; the next is read when it is answered.
    waiting: bool,
    follows: Option<Follow>,
    deadline: Tick,
    closing: bool,
}

struct Follow {
    since: Option<Stamp>,
    about: Option<Prefix>,
    /// How many bytes of the kept events are still to be written: they are no backlog of the follower's.
    history: usize,
    /// What happened since it asked, until the kept events are handed out; of these some are kept by then.
    early: Option<Vec<Notice>>,
}

/// Where requests go.
pub(super) struct Outlets {
    pub(super) brain: SyncSender<Input>,
    pub(super) keeper: Mailbox<KeeperPost>,
    /// The control thread's own mailbox.
    pub(super) control: Mailbox<Post>,
    #[cfg(target_os = "linux")]
    pub(super) routing: Mailbox<super::routing::Post>,
}

impl Outlets {
    /// Hands a request to whom it is for.
    fn pass(&self, id: u64, who: &str, request: Request) {
        if request == Request::Reload {
            let _ = self.brain.send(Input::Signal(Signal::Hangup));
            return self.control.put(|post| post.reply(id, Reply::Reloading));
        }
        #[cfg(target_os = "linux")]
        if let Request::Route(request) = request {
            return self.routing.put(|post| post.ask(id, request));
        }
        // The brain only goes away when the whole process stops.
        let _ = self.brain.send(Input::Event(Event::Asked { id, who: who.to_owned(), request }));
    }
}

/// Runs until told to stop.
pub(super) fn run(listener: &UnixListener, inbox: &Mailbox<Post>, out: &Outlets) -> io::Result<()> {
    let mut connections: Vec<Connection> = Vec::new();
    let mut next_id = 0u64;
    loop {
        let now = clock::now().tick;
        let wait = connections.iter().filter(|c| c.hurried()).map(|c| c.deadline.since(now)).min();
        let ready = {
            let mut fds = vec![(listener.as_fd(), Want::Read)];
            fds.extend(connections.iter().map(|c| (c.stream.as_fd(), c.want())));
            poll_for(&fds, Some(inbox.waker()), wait)?
        };
        let now = clock::now().tick;
        let post = inbox.take();
        for (index, connection) in connections.iter_mut().enumerate() {
            if ready.at(index + 1) {
                connection.serve(ready.readable(index + 1), now, out);
            }
        }
        // Events first: what was kept was told before, so a follower's kept events never hold one still to come.
        for notice in &post.notices {
            connections.iter_mut().for_each(|c| c.tell(notice, now));
        }
        for (id, reply) in post.replies {
            if let Some(connection) = connections.iter_mut().find(|c| c.id == id) {
                connection.answer(&reply, now);
            }
        }
        connections.retain_mut(|c| c.flush(now) && !(c.hurried() && now >= c.deadline));
        if ready.at(0) {
            accept(listener, &mut connections, &mut next_id, now);
        }
        if post.stop {
            return Ok(());
        }
    }
}

fn accept(listener: &UnixListener, connections: &mut Vec<Connection>, next_id: &mut u64, now: Tick) {
    while let Ok((stream, _)) = listener.accept() {
        if connections.len() >= CONNECTIONS {
            tracing::warn!("more than {CONNECTIONS} connections to the control socket; the newest is refused");
            continue;
        }
        let who = match privileges::peer_credentials(&stream) {
            Ok(peer) => format!("uid {}", peer.uid),
            Err(error) => {
                tracing::warn!("a connection to the control socket without credentials is refused: {error}");
                continue;
            }
        };
        if stream.set_nonblocking(true).is_err() {
            continue;
        }
        *next_id += 1;
        connections.push(Connection {
            id: *next_id,
            stream,
            who,
            input: Vec::new(),
            output: VecDeque::new(),
            waiting: false,
            follows: None,
            deadline: now.plus(PATIENCE),
            closing: false,
        });
    }
}

impl Connection {
    /// Whether it is the connection's turn, so that its time runs. Not while the daemon works, and
    /// not while a follower has nothing to read.
    fn hurried(&self) -> bool {
        !self.output.is_empty() || (!self.waiting && self.follows.is_none())
    }

    fn want(&self) -> Want {
        if self.output.is_empty() { Want::Read } else { Want::Both }
    }

    /// Reads what came, and starts on a request when it is whole.
    fn serve(&mut self, readable: bool, now: Tick, out: &Outlets) {
        if readable && !self.read() {
            self.closing = true;
            return;
        }
        self.next_request(now, out);
    }

    /// Whether the connection is still good.
    fn read(&mut self) -> bool {
        let mut buffer = [0u8; 16 * 1024];
        loop {
            match self.stream.read(&mut buffer) {
                Ok(0) => return false,
                Ok(n) => self.input.extend_from_slice(&buffer[..n]),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return true,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => return false,
            }
            if self.input.len() > REQUEST_MAX {
                return false;
            }
        }
    }

    fn next_request(&mut self, now: Tick, out: &Outlets) {
        if self.waiting || self.follows.is_some() {
            return;
        }
        let Some(end) = self.input.iter().position(|b| *b == b'\n') else { return };
        let line: Vec<u8> = self.input.drain(..=end).collect();
        let request = match serde_json::from_slice::<Request>(&line) {
            Ok(request) => request,
            Err(error) => {
                let message = format!("the request is not understood ({error}); is the command line of another version than the daemon?");
                return self.answer(&Reply::Failed { exit: 70, message }, now);
            }
        };
        self.waiting = true;
        if let Request::Events { follow, since, about } = request {
            let ask = Ask::Events { id: self.id, since, about };
            if !follow {
                return out.keeper.put(|post| post.ask(ask));
            }
            self.follows = Some(Follow { since, about, history: 0, early: Some(Vec::new()) });
            // By way of the brain: what it told before now, and so is not seen here any more, is kept before the store is asked.
            let _ = out.brain.send(Input::Ask(ask));
            return;
        }
        if request == Request::Conntrack(ConntrackRequest::History) {
            let (id, now) = (self.id, clock::now().stamp);
            return out.keeper.put(|post| post.ask(Ask::History { id, now }));
        }
        out.pass(self.id, &self.who, request);
    }

    fn answer(&mut self, reply: &Reply, now: Tick) {
        self.waiting = false;
        self.write(reply, now);
        let Some(follow) = &mut self.follows else { return };
        follow.history = self.output.len();
        let early = follow.early.take().unwrap_or_default();
        let kept: &[Notice] = if let Reply::Events { notices } = reply { notices } else { &[] };
        for notice in unkept(early, kept) {
            self.write(&notice, now);
        }
    }

    fn tell(&mut self, notice: &Notice, now: Tick) {
        let Some(Follow { since, about, history, early }) = &mut self.follows else { return };
        if !about.is_none_or(|about| notice.prefix.is_some_and(|p| about.overlaps(&p))) {
            return;
        }
        let behind = if let Some(early) = early {
            if since.is_none_or(|since| notice.at >= since) {
                early.push(notice.clone());
            }
            early.len() > NOTICES
        } else {
            let backlog = self.output.len().saturating_sub(*history);
            self.write(notice, now);
            backlog > FOLLOWER_BACKLOG
        };
        if behind {
            tracing::info!("a follower of events reads too slowly and is let go");
            self.closing = true;
        }
    }

    fn write(&mut self, value: &impl serde::Serialize, now: Tick) {
        if serde_json::to_writer(&mut self.output, value).is_err() {
            self.closing = true;
        }
        self.output.push_back(b'\n');
        self.deadline = now.plus(PATIENCE);
    }

    /// Writes what the connection takes. Whether it is still good.
    fn flush(&mut self, now: Tick) -> bool {
        while !self.output.is_empty() {
            let (front, _) = self.output.as_slices();
            match self.stream.write(front) {
                Ok(0) => return false,
                Ok(n) => {
                    self.output.drain(..n);
                    if let Some(follow) = &mut self.follows {
                        follow.history = follow.history.saturating_sub(n);
                    }
                    self.deadline = now.plus(PATIENCE);
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => return false,
            }
        }
        !self.closing
    }
}

/// Of what happened while the kept events were read, in order, what is not among them. They end where they were read, so
/// only their last ones can be the same.
fn unkept(early: Vec<Notice>, kept: &[Notice]) -> Vec<Notice> {
    let mut last = &kept[kept.len().saturating_sub(early.len())..];
    let mut unkept = early;
    unkept.retain(|notice| match last.iter().position(|kept| kept == notice) {
        Some(at) => {
            last = &last[at + 1..];
            false
        }
        None => true,
    });
    unkept
}

#[cfg(test)]
mod tests {
    use palisade_core::event::What;

    use super::*;

    fn notices(at: &[i64]) -> Vec<Notice> {
        at.iter().map(|at| Notice { at: Stamp(*at), prefix: None, what: What::Expired }).collect()
    }

    #[test]
    fn a_follower_gets_each_event_once_however_its_asking_and_the_disk_fall_together() {
        for (early, kept, told) in [
            (&[][..], &[1, 2][..], &[][..]),
            (&[3, 4], &[], &[3, 4]),
            (&[3, 4], &[1, 2], &[3, 4]),
            (&[3, 4], &[1, 2, 3], &[4]),
            (&[3, 4], &[1, 2, 3, 4], &[]),
            (&[3, 4, 5], &[4], &[3, 5]),
            // Twice the same within a millisecond is two events.
            (&[3, 3, 3], &[1, 3], &[3, 3]),
        ] {
            assert_eq!(unkept(notices(early), &notices(kept)), notices(told), "{early:?} of {kept:?}");
        }
    }
}
