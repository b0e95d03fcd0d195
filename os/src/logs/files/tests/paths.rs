//! What stands at a path: late, by pattern, no file at all, not ours to read.

use std::collections::HashMap;
use std::fs::{self, OpenOptions};
use std::io::Write;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;

use palisade_core::time::{Span, Tick};

use super::super::{FileSpec, Files};
use super::{LINE_MAX, Scene};

#[test]
pub(super) fn late_files_late_directories_and_returns() {
    let mut scene = Scene::new(&["a/b/log"]);
    scene.start();
    let missing = "0 soft a/b/log: not there yet; read from its first line when it appears";
    assert_eq!(scene.other(), [missing]);
    fs::create_dir(scene.path("a")).unwrap();
    scene.settle();
    fs::create_dir(scene.path("a/b")).unwrap();
    scene.write("a/b/log", "1\n");
    assert_eq!(scene.lines(), ["1"]);
    assert_eq!(scene.other(), ["0 solved a/b/log"]);
    fs::remove_file(scene.path("a/b/log")).unwrap();
    scene.settle();
    scene.write("a/b/log", "2\n");
    assert_eq!(scene.lines(), ["2"]);
    assert!(scene.other().is_empty(), "a rotation is not worth a word");
    fs::remove_dir_all(scene.path("a")).unwrap();
    scene.settle();
    scene.later(Span::secs(60));
    assert_eq!(scene.other(), [missing]);
    fs::create_dir_all(scene.path("a/b")).unwrap();
    scene.write("a/b/log", "3\n");
    assert_eq!(scene.lines(), ["3"]);
    assert_eq!(scene.other(), ["0 solved a/b/log"]);
    // The directory itself is exchanged.
    scene.rename("a", "z");
    fs::create_dir_all(scene.path("a/b")).unwrap();
    scene.write("a/b/log", "4\n");
    assert_eq!(scene.lines(), ["4"]);
}

#[test]
pub(super) fn patterns_are_expanded_live() {
    let mut scene = Scene::new(&["*/access*.log", "one/access.log"]);
    fs::create_dir(scene.path("one")).unwrap();
    scene.start();
    let other = scene.other();
    assert!(other[0].starts_with("0 soft */access*.log: no file matches yet"), "{other:?}");
    scene.write("one/access.log", "1\n");
    scene.write("one/error.log", "no\n");
    assert_eq!(scene.lines(), ["1", "1: 1"]);
    fs::create_dir(scene.path("two")).unwrap();
    scene.settle();
    scene.write("two/access-x.log", "2\n");
    assert_eq!(scene.lines(), ["2"]);
    let mut other = scene.other();
    other.sort();
    assert_eq!(other, ["0 solved */access*.log", "0 solved one/access.log", "1 solved one/access.log"]);
    fs::create_dir(scene.path("three")).unwrap();
    scene.write("three/access.log", "3\n");
    assert_eq!(scene.lines(), ["3"]);
    // Gone for good: forgotten after a minute.
    fs::remove_file(scene.path("two/access-x.log")).unwrap();
    (0..3).for_each(|_| scene.later(Span::secs(61)));
    assert_eq!(scene.files.as_ref().unwrap().follows.len(), 2);
}

#[test]
fn what_is_no_file_is_refused_and_the_others_go_on() {
    let mut scene = Scene::new(&["link", "fifo", "zero", "dir", "socket", "log"]);
    symlink("/etc/shadow", scene.path("link")).unwrap();
    assert!(std::process::Command::new("mkfifo").arg(scene.path("fifo")).status().unwrap().success());
    let zero = std::process::Command::new("mknod").arg(scene.path("zero")).args(["c", "1", "5"]).status().unwrap();
    assert!(zero.success());
    fs::create_dir(scene.path("dir")).unwrap();
    let _socket = std::os::unix::net::UnixListener::bind(scene.path("socket")).unwrap();
    scene.write("log", "");
    scene.start();
    let refused = |source: usize, name: &str, kind: &str| {
        format!("{source} hard {name}: it is {kind}; only regular files are read, give the path of the log itself")
    };
    let mut other = scene.other();
    other.sort();
    let expect = [
        refused(0, "link", "a symbolic link"),
        refused(1, "fifo", "a FIFO"),
        refused(2, "zero", "a device"),
        refused(3, "dir", "a directory"),
        refused(4, "socket", "a socket"),
    ];
    assert_eq!(other, expect);
    scene.write("log", "on\n");
    assert_eq!(scene.lines(), ["5: on"]);
    // Told once, and picked up when it becomes a file.
    scene.later(Span::secs(20));
    assert!(scene.other().is_empty());
    fs::remove_file(scene.path("link")).unwrap();
    scene.write("link", "now a file\n");
    assert_eq!(scene.lines(), ["now a file"]);
    assert_eq!(scene.other(), ["0 solved link"]);
}

#[test]
pub(super) fn a_followed_log_replaced_by_a_link_is_refused() {
    let mut scene = Scene::simple();
    scene.write("secret", "secret\n");
    fs::remove_file(scene.path("log")).unwrap();
    symlink(scene.path("secret"), scene.path("log")).unwrap();
    scene.write("secret", "more\n");
    assert!(scene.lines().is_empty());
    assert!(scene.other()[0].contains("a symbolic link"));
}

#[test]
pub(super) fn a_linked_directory_above_is_fine() {
    let mut scene = Scene::new(&["var/log"]);
    fs::create_dir(scene.path("data")).unwrap();
    scene.write("data/log", "");
    symlink(scene.path("data"), scene.path("var")).unwrap();
    scene.start();
    scene.write("data/log", "1\n");
    assert_eq!(scene.lines(), ["1"]);
    assert!(scene.other().is_empty());
}

/// Root reads everything, so the denial itself is tried in a child without rights.
#[test]
fn denied_files_are_named_with_the_fix() {
    const CHILD: &str = "PALISADE_TEST_DENIED";
    if let Some(dir) = std::env::var_os(CHILD) {
        let log = Path::new(&dir).join("log");
        let spec = FileSpec { source: 0, pattern: log.display().to_string() };
        let mut files = Files::open(vec![spec], HashMap::new(), LINE_MAX).unwrap();
        let mut said = String::new();
        let mut pump = |files: &mut Files, now| {
            said.clear();
            files.pump(Tick(now), 1000, &mut |take| said.push_str(&format!("{take:?}\n")));
            said.clone()
        };
        let denied = pump(&mut files, 0);
        assert!(denied.contains("Problem") && denied.contains(&format!("setfacl -m u:palisade:r {}", log.display())), "{denied}");
        // We own it: granting is what setfacl would do. What was in it before we began is history.
        fs::set_permissions(&log, fs::Permissions::from_mode(0o600)).unwrap();
        let mut file = OpenOptions::new().append(true).open(&log).unwrap();
        file.write_all(b"new\n").unwrap();
        let granted = pump(&mut files, 1);
        assert!(
            granted.contains("Solved") && granted.contains(&format!("{:?}", b"new\n")) && !granted.contains(&format!("{:?}", b"old")),
            "{granted}"
        );
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let log = dir.path().join("log");
    fs::write(&log, "old\n").unwrap();
    fs::set_permissions(&log, fs::Permissions::from_mode(0o000)).unwrap();
    let nobody = (65534, 65534);
    std::os::unix::fs::chown(dir.path(), Some(nobody.0), Some(nobody.1)).unwrap();
    std::os::unix::fs::chown(&log, Some(nobody.0), Some(nobody.1)).unwrap();
    crate::privileges::run_test_as_nobody("logs::files::tests::paths::denied_files_are_named_with_the_fix", CHILD, dir.path());
}
