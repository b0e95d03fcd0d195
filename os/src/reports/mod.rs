//! The socket on which programs report attackers themselves, in the protocol of blocklistd.
//!
//! A program that has just refused somebody passes the *socket* of that connection: who is at its
//! other end is asked of the kernel, and no text that an attacker wrote comes near it. Programs
//! without a connection (named over UDP) write the address into the message instead.
//!
//! What is in a message: [`wire`]. Who sent it: the kernel tells (SCM_CREDENTIALS, unix(7)) on
//! Linux; on FreeBSD, where this library knows no such message, the socket is its owner's alone.

mod wire;

use std::fs;
use std::io::{self, IoSliceMut};
use std::mem::MaybeUninit;
use std::net::SocketAddr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::os::unix::net::UnixDatagram;
use std::path::Path;

use rustix::net::sockopt::set_socket_linger;
use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, getpeername, getsockname, recvmsg};

pub use wire::Kind;

/// The longest message that is taken: libblocklist sends at most 144 bytes and 128 of text.
const MESSAGE: usize = 512;

/// Room for the most descriptors that one message can pass (Linux: 253, `SCM_MAX_FD`) and credentials: more than one
/// is no report, but what the kernel closed for want of room it would close in this thread, as its sender has it
/// linger (socket(7), `SO_LINGER`).
const CONTROL: usize = 1280;

/// What was reported.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// What somebody did.
    pub kind: Kind,
    /// Who says so, as the kernel knows it; `None` where only one user can.
    pub uid: Option<u32>,
    /// Who is at the other end of the passed socket.
    pub peer: Option<SocketAddr>,
    /// Our end of it.
    pub local: Option<SocketAddr>,
    /// The address written in the message, to be believed as far as the sender.
    pub named: Option<SocketAddr>,
    /// The sender's words.
    pub text: Vec<u8>,
}

/// One received datagram.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Received {
    /// A report.
    Report(Report),
    /// Something else, and who sent it.
    Garbage {
        /// What is wrong with it.
        why: &'static str,
        /// The sender, where known.
        uid: Option<u32>,
    },
}

/// The socket. Its file goes when this does.
#[derive(Debug)]
pub struct Reports {
    socket: UnixDatagram,
    path: std::path::PathBuf,
}

impl Reports {
    /// Opens the socket in the place of one that nobody listens on any more. Who may write to it: root and its owner,
    /// or, with `anybody`, every user of the system (on Linux alone, where the kernel tells who it was).
    ///
    /// # Errors
    /// Somebody listens there, something else than a socket stands there, or the system said no.
    pub fn open(path: &Path, anybody: bool) -> io::Result<Self> {
        match fs::symlink_metadata(path) {
            Ok(meta) if !meta.file_type().is_socket() => {
                return Err(io::Error::new(io::ErrorKind::AlreadyExists, "something else than a socket stands there"));
            }
            Ok(_) if UnixDatagram::unbound()?.connect(path).is_ok() => {
                return Err(io::Error::new(io::ErrorKind::AddrInUse, "another program listens there; is blocklistd running?"));
            }
            Ok(_) => fs::remove_file(path)?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
        let socket = UnixDatagram::bind(path)?;
        socket.set_nonblocking(true)?;
        #[cfg(target_os = "linux")]
        rustix::net::sockopt::set_socket_passcred(&socket, true)?;
        // A user who is not believed anyway has no business here: he could only keep others from being heard.
        let mode = if anybody && cfg!(target_os = "linux") { 0o666 } else { 0o600 };
        fs::set_permissions(path, fs::Permissions::from_mode(mode))?;
        Ok(Self { socket, path: path.to_owned() })
    }

    /// The next message; `None` when there is none right now.
    ///
    /// # Errors
    /// The socket is broken.
    pub fn next(&self) -> io::Result<Option<Received>> {
        let mut bytes = [0u8; MESSAGE];
        let mut space = [const { MaybeUninit::uninit() }; CONTROL];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let flags = RecvFlags::CMSG_CLOEXEC | RecvFlags::DONTWAIT;
        let got = match recvmsg(&self.socket, &mut [IoSliceMut::new(&mut bytes)], &mut control, flags) {
            Ok(got) => got,
            Err(rustix::io::Errno::AGAIN | rustix::io::Errno::INTR) => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        let mut passed: Vec<OwnedFd> = Vec::new();
        #[cfg_attr(not(target_os = "linux"), expect(unused_mut, reason = "only Linux tells who sends"))]
        let mut uid = None;
        for message in control.drain() {
            match message {
                RecvAncillaryMessage::ScmRights(fds) => passed.extend(fds),
                #[cfg(target_os = "linux")]
                RecvAncillaryMessage::ScmCredentials(who) => uid = Some(who.uid.as_raw()),
                _ => {}
            }
        }
        // A connection that is to linger would be closed as slowly as its sender likes.
        for fd in &passed {
            let _ = set_socket_linger(fd, None);
        }
        if got.flags.contains(ReturnFlags::TRUNC) || got.flags.contains(ReturnFlags::CTRUNC) {
            return Ok(Some(Received::Garbage { why: "it is too long", uid }));
        }
        Ok(Some(understood(bytes.get(..got.bytes).unwrap_or_default(), &passed, uid)))
    }
}

fn understood(bytes: &[u8], passed: &[OwnedFd], uid: Option<u32>) -> Received {
    if cfg!(target_os = "linux") && uid.is_none() {
        return Received::Garbage { why: "the kernel does not tell who sent it", uid };
    }
    let [socket] = passed else { return Received::Garbage { why: "it passes no socket, or more than one", uid } };
    let message = match wire::read(bytes) {
        Ok(message) => message,
        Err(why) => return Received::Garbage { why, uid },
    };
    let peer = getpeername(socket).ok().flatten().and_then(|addr| addr.try_into().ok());
    let local = getsockname(socket).ok().and_then(|addr| addr.try_into().ok());
    let (kind, named, text) = (message.kind, message.named, message.text.to_vec());
    Received::Report(Report { kind, uid, peer, local, named, text })
}

impl AsFd for Reports {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

impl Drop for Reports {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.path);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};
    use std::io::IoSlice;
    use std::net::{TcpListener, TcpStream};

    fn send(path: &Path, bytes: &[u8], fds: &[BorrowedFd<'_>]) {
        let socket = UnixDatagram::unbound().unwrap();
        socket.connect(path).unwrap();
        let mut space = [MaybeUninit::uninit(); CONTROL];
        let mut control = SendAncillaryBuffer::new(&mut space);
        if !fds.is_empty() {
            assert!(control.push(SendAncillaryMessage::ScmRights(fds)));
        }
        sendmsg(&socket, &[IoSlice::new(bytes)], &mut control, SendFlags::empty()).unwrap();
    }

    #[test]
    fn the_address_is_that_of_the_passed_socket() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("s");
        let reports = Reports::open(&path, false).unwrap();
        assert!(reports.next().unwrap().is_none());
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (served, _) = listener.accept().unwrap();
        send(&path, &wire::message(3, None, b"203.0.113.9 did it"), &[served.as_fd()]);
        let Some(Received::Report(report)) = reports.next().unwrap() else { panic!("no report") };
        assert_eq!(report.peer, Some(client.local_addr().unwrap()));
        assert_eq!(report.local, Some(listener.local_addr().unwrap()));
        assert_eq!((report.kind, report.named, report.text.as_slice()), (Kind::Abuse, None, &b"203.0.113.9 did it"[..]));
        #[cfg(target_os = "linux")]
        assert_eq!(report.uid, Some(rustix::process::getuid().as_raw()));
    }

    #[test]
    fn what_is_no_report_is_told_and_leaks_no_descriptor() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("s");
        let reports = Reports::open(&path, false).unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let file = fs::File::open("/dev/null").unwrap();
        // Descriptors of what is passed: other tests of this process open others.
        let inode = fs::read_link(format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&listener))).unwrap();
        let open = || {
            let links = fs::read_dir("/proc/self/fd").unwrap().flatten().filter_map(|entry| fs::read_link(entry.path()).ok());
            links.filter(|link| *link == inode).count()
        };
        let message = wire::message(1, None, b"");
        let many = |count: usize| vec![listener.as_fd(); count];
        let long = [message.clone(), vec![b'x'; 100_000]].concat();
        let cases: [(&[u8], Vec<BorrowedFd<'_>>); 9] = [
            (&message, Vec::new()),
            (&message, many(2)),
            (&message, many(100)),
            (&message, many(253)),
            (b"short", many(1)),
            (b"", many(1)),
            (&long, many(1)),
            (&long, many(253)),
            (&message, vec![file.as_fd(), listener.as_fd()]),
        ];
        for (bytes, fds) in &cases {
            send(&path, bytes, fds);
            assert!(matches!(reports.next().unwrap(), Some(Received::Garbage { .. })), "{} bytes, {} descriptors", bytes.len(), fds.len());
            assert_eq!(open(), 1, "{} bytes, {} descriptors", bytes.len(), fds.len());
        }
        // What is no socket has no peer.
        send(&path, &message, &[file.as_fd()]);
        assert!(matches!(reports.next().unwrap(), Some(Received::Report(Report { peer: None, local: None, .. }))));
    }

    /// Whoever passes the last descriptor of a connection that is to linger does not hold up those after him.
    #[test]
    fn a_passed_connection_that_is_to_linger_is_closed_at_once() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("s");
        let reports = Reports::open(&path, false).unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (served, _) = listener.accept().unwrap();
        // More than the other end takes, for it never reads: closing waits for it an hour.
        client.set_nonblocking(true).unwrap();
        while io::Write::write(&mut client, &[0; 65536]).is_ok() {}
        set_socket_linger(&client, Some(std::time::Duration::from_secs(3600))).unwrap();
        send(&path, &wire::message(1, None, b""), &[client.as_fd()]);
        drop(client);
        let (done, waiting) = std::sync::mpsc::channel();
        std::thread::spawn(move || done.send(matches!(reports.next(), Ok(Some(Received::Report(_))))));
        // Not how fast, but that at all: it would be an hour.
        assert_eq!(waiting.recv_timeout(std::time::Duration::from_secs(60)), Ok(true));
        drop(served);
    }

    #[test]
    fn only_where_others_are_believed_may_others_write() {
        let dir = tempfile::tempdir().unwrap();
        for (anybody, mode) in [(false, 0o600), (true, if cfg!(target_os = "linux") { 0o666 } else { 0o600 })] {
            let path = dir.path().join("s");
            let _reports = Reports::open(&path, anybody).unwrap();
            assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, mode);
        }
    }

    #[test]
    fn a_socket_in_use_or_a_file_is_not_replaced() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("s");
        let first = Reports::open(&path, false).unwrap();
        assert_eq!(Reports::open(&path, false).unwrap_err().kind(), io::ErrorKind::AddrInUse);
        drop(first);
        assert!(!path.exists());
        drop(UnixDatagram::bind(&path).unwrap());
        drop(Reports::open(&path, false).unwrap());
        fs::write(&path, "a file").unwrap();
        assert_eq!(Reports::open(&path, false).unwrap_err().kind(), io::ErrorKind::AlreadyExists);
    }
}
