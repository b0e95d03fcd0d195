use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::sync::RwLock;
use std::time::{Duration, Instant};

use super::*;

/// Reaping is of the whole process, and so of all tests: that one runs alone.
static REAPING: RwLock<()> = RwLock::new(());

/// A script in a folder of its own, run directly.
struct Client {
    dir: tempfile::TempDir,
    call: Vec<String>,
}

impl Client {
    fn new(script: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let (at, path) = (dir.path().display().to_string(), dir.path().join("client"));
        // Made beside and moved in: another test's fork may still have the file open for writing.
        fs::write(dir.path().join("new"), format!("#!/bin/sh\ncd {at}\n{script}\n")).unwrap();
        fs::set_permissions(dir.path().join("new"), fs::Permissions::from_mode(0o755)).unwrap();
        fs::copy(dir.path().join("new"), &path).unwrap();
        Self { call: vec![path.display().to_string(), "start".into()], dir }
    }

    fn run(&self) -> Run {
        // "Text file busy": a child that another test has just forked has our file open until its exec.
        let end = Instant::now() + Duration::from_secs(10);
        loop {
            match Run::spawn(&self.call) {
                Err(error) if error.kind() == io::ErrorKind::ExecutableFileBusy && Instant::now() < end => {}
                run => return run.unwrap(),
            }
        }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }
}

fn until<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let end = Instant::now() + Duration::from_secs(20);
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(Instant::now() < end, "waited in vain: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn ended(run: &mut Run) -> ExitStatus {
    until("it ends", || run.ended().unwrap())
}

fn all_lines(run: &mut Run) -> Vec<String> {
    let mut all = Vec::new();
    while run.lines(|line| all.push(line.to_owned())).unwrap() {}
    all
}

#[test]
fn it_runs_alone_with_little_and_its_lines_come_cut_and_printable() {
    let _others = REAPING.read().unwrap();
    let client = Client::new(
        "env | grep -v -e ^PWD= -e ^_= -e ^SHLVL= -e ^OLDPWD= | sort; echo \"$1\"; printf 'a\\033[2Jb\\n' >&2; printf 'half'; exit 3",
    );
    let mut run = client.run();
    assert_eq!(ended(&mut run).code(), Some(3));
    assert_eq!(all_lines(&mut run), ["LC_ALL=C", &format!("PATH={FOLDERS}"), "start", "a\u{fffd}[2Jb", "half"]);
    let missing = Run::spawn(&["/nonexistent/aiccu".into()]).unwrap_err();
    assert_eq!((missing.kind(), missing.to_string().contains("/nonexistent/aiccu")), (io::ErrorKind::NotFound, true));
    assert_eq!(Run::spawn(&["aiccu-that-is-not".into()]).unwrap_err().kind(), io::ErrorKind::NotFound);
    assert_eq!(Run::spawn(&["/etc/passwd".into()]).unwrap_err().kind(), io::ErrorKind::PermissionDenied);
    assert_eq!(Run::spawn(&[]).unwrap_err().kind(), io::ErrorKind::NotFound);
}

#[test]
fn one_that_floods_is_read_in_pieces_and_one_that_nobody_reads_goes_on() {
    let _others = REAPING.read().unwrap();
    let client = Client::new("while :; do echo 0123456789abcdef; done 2>/dev/null");
    let mut run = client.run();
    let mut most = 0;
    for _ in 0..20 {
        let mut bytes = 0;
        let _ = run.lines(|line| bytes += line.len() + 1).unwrap();
        most = most.max(bytes);
    }
    assert!(most <= 64 * 1024 + 1024, "{most}");
    run.signal(libc::SIGKILL).unwrap();
    assert!(!ended(&mut run).success());

    // Its reader is gone and the pipe is full: neither SIGPIPE nor waiting stops it.
    let client = Client::new("i=0; while [ $i -lt 9000 ]; do echo 0123456789abcdef; i=$((i+1)); done 2>/dev/null; : >done");
    let run = client.run();
    drop(run);
    until("it goes on without a reader", || client.path("done").exists().then_some(()));
}

#[test]
fn one_in_the_background_is_found_by_its_late_pidfile_and_its_end_is_noticed() {
    let _others = REAPING.read().unwrap();
    adopt_orphans().unwrap();
    let client = Client::new("(sleep 0.3; echo $$ >/dev/null; sh -c 'echo $PPID' >pid; read -r word <fifo; exit 7) & exit 0");
    let fifo = client.path("fifo");
    assert!(std::process::Command::new("mkfifo").arg(&fifo).status().unwrap().success());
    let mut run = client.run();
    assert!(ended(&mut run).success());
    let process = until("its pidfile", || from_pidfile(&client.path("pid"), None).unwrap());
    assert!(process.ended().unwrap().is_none());
    let again = from_pidfile(&client.path("pid"), Some(process.identity())).unwrap().unwrap();
    assert_eq!((again.identity(), Process::known(process.identity()).unwrap().is_some()), (process.identity(), true));
    fs::write(&fifo, "end\n").unwrap();
    let end = until("its end", || process.ended().unwrap());
    assert_eq!(end.status.and_then(|status| status.code()), Some(7), "its parent has ended, so it is our child");
    process.signal(libc::SIGTERM).unwrap();
    assert!(from_pidfile(&client.path("pid"), Some(process.identity())).unwrap().is_none());
}

#[test]
fn a_used_number_is_not_taken_for_the_client() {
    let _others = REAPING.read().unwrap();
    let client = Client::new("exec sleep 600");
    let mut run = client.run();
    let pidfile = client.path("pid");
    fs::write(&pidfile, format!("  {}\n", run.pid())).unwrap();
    let process = from_pidfile(&pidfile, None).unwrap().unwrap();
    let other = |change: fn(&mut Identity)| {
        let mut identity = process.identity().clone();
        change(&mut identity);
        identity
    };
    let earlier = other(|identity| identity.started -= 1);
    assert!(Process::known(&earlier).unwrap().is_none() && from_pidfile(&pidfile, Some(&earlier)).unwrap().is_none());
    assert!(Process::known(&other(|identity| identity.boot.push('x'))).unwrap().is_none());
    // A pidfile from long before the process began: somebody else has the number now.
    let file = fs::File::options().write(true).open(&pidfile).unwrap();
    file.set_modified(std::time::SystemTime::now() - Duration::from_secs(3600)).unwrap();
    assert!(from_pidfile(&pidfile, None).unwrap().is_none());
    assert!(from_pidfile(&pidfile, Some(process.identity())).unwrap().is_some(), "one that is known stays known");
    run.signal(libc::SIGKILL).unwrap();
    ended(&mut run);
    assert!(Process::known(process.identity()).unwrap().is_none());
}

#[test]
fn a_pidfile_may_hold_anything() {
    let _others = REAPING.read().unwrap();
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("pid");
    assert!(from_pidfile(&path, None).unwrap().is_none(), "not there yet");
    for text in ["", "\n", "4194999\n"] {
        fs::write(&path, text).unwrap();
        assert!(from_pidfile(&path, None).unwrap().is_none(), "{text:?}");
    }
    for text in ["0", "1", "-5", "x", "99999999999", "12 13", &"7".repeat(5000), &std::process::id().to_string()] {
        fs::write(&path, text).unwrap();
        assert!(from_pidfile(&path, None).is_err(), "{text:.20}");
    }
    assert!(from_pidfile(dir.path(), None).is_err());
}

#[test]
fn one_that_ignores_sigterm_is_killed_by_its_descriptor() {
    let _others = REAPING.read().unwrap();
    let client = Client::new("trap '' TERM; echo ready; while :; do sleep 0.05; done");
    let mut run = client.run();
    until("it is ready", || all_lines(&mut run).contains(&"ready".to_owned()).then_some(()));
    let process = Process::open(run.pid()).unwrap().unwrap();
    process.signal(libc::SIGTERM).unwrap();
    std::thread::sleep(Duration::from_millis(100));
    assert!(process.ended().unwrap().is_none());
    process.signal(libc::SIGKILL).unwrap();
    assert_eq!(std::os::unix::process::ExitStatusExt::signal(&ended(&mut run)), Some(libc::SIGKILL));
}

#[test]
fn what_clients_leave_behind_is_reaped_and_others_children_are_not() {
    let _others = REAPING.write().unwrap();
    adopt_orphans().unwrap();
    let client = Client::new("(exec sh -c 'echo $$ >pid; exit 0') & wait $!; (sleep 0.1; exit 0) & echo $! >orphan; exit 0");
    let mut run = client.run();
    let mut others = std::process::Command::new("true").spawn().unwrap();
    assert!(ended(&mut run).success());
    let orphan: u32 = until("its child", || fs::read_to_string(client.path("orphan")).ok()?.trim().parse().ok());
    until("it is reaped", || {
        reap_orphans(&[others.id()]);
        (!Path::new(&format!("/proc/{orphan}")).exists()).then_some(())
    });
    reap_orphans(&[]);
    assert!(others.wait().unwrap().success(), "a child of our session is left to who waits for it");
}
