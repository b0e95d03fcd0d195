//! Connections that exist only in memory: the peer of the real kind for tests and dry runs.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use palisade_core::net::Addr;

use super::targets::Targets;
use super::{FlowError, Flows, Killed, Target};

/// One pretended connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Connection {
    /// The other end.
    pub remote: Addr,
    /// Our TCP or UDP port; `None` for another protocol.
    pub port: Option<u16>,
    /// Whether it is a local socket; a state otherwise.
    pub local: bool,
}

/// What is there and what was asked for.
#[derive(Debug, Default)]
pub struct Record {
    /// What is left of the connections.
    pub connections: Vec<Connection>,
    /// The targets of each call of [`Flows::kill`], in order.
    pub kills: Vec<Vec<Target>>,
    /// Where set, the next call ends nothing and fails with this text.
    pub fail: Option<String>,
}

/// The peer. Clones share one record, so that a test can look while a thread kills.
#[derive(Clone, Debug, Default)]
pub struct Memory(Arc<Mutex<Record>>);

impl Memory {
    /// One with these connections.
    pub fn new(connections: Vec<Connection>) -> Self {
        Self(Arc::new(Mutex::new(Record { connections, ..Record::default() })))
    }

    /// The record, to read or to change. Locked while the guard lives: hold one at a time.
    pub fn record(&self) -> MutexGuard<'_, Record> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Flows for Memory {
    fn kill(&mut self, targets: &[Target]) -> Result<Killed, FlowError> {
        let mut record = self.record();
        record.kills.push(targets.to_vec());
        if let Some(what) = record.fail.take() {
            return Err(FlowError { what, killed: Killed::default(), source: std::io::ErrorKind::Other.into() });
        }
        let wanted = Targets::new(targets);
        let mut killed = Killed::default();
        record.connections.retain(|connection| {
            let taken = wanted.take(connection.remote, connection.port);
            let count = if connection.local { &mut killed.sockets } else { &mut killed.states };
            *count += u64::from(taken);
            !taken
        });
        Ok(killed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use palisade_core::bans::wall::Ports;

    #[test]
    fn it_ends_counts_and_records() {
        let connection = |remote: &str, port, local| Connection { remote: remote.parse().unwrap(), port, local };
        let bystander = connection("198.51.100.1", Some(22), false);
        let all = vec![connection("203.0.113.1", Some(22), true), connection("203.0.113.2", None, false), bystander];
        let mut flows = Memory::new(all);
        let peer = flows.clone();
        let target = Target { prefix: "203.0.113.0/24".parse().unwrap(), ports: Ports::All };
        assert_eq!(flows.kill(std::slice::from_ref(&target)).unwrap(), Killed { sockets: 1, states: 1 });
        {
            let record = peer.record();
            assert_eq!((record.connections.as_slice(), record.kills.len()), (&[bystander][..], 1));
        }
        peer.record().fail = Some("broken".into());
        assert!(flows.kill(std::slice::from_ref(&target)).is_err());
        assert_eq!(flows.kill(&[target]).unwrap(), Killed::default());
    }
}
