//! Against a real nginx in a network namespace of its own. They need root.

use std::fs;
use std::io::{self, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use palisade_core::bans::wall::Key;
use palisade_core::time::Until;

use super::*;
use crate::errors::chain;
use crate::netns::Netns;

const A4: &str = "192.0.2.1";
const B4: &str = "198.51.100.7";
const A6: &str = "2001:db8::1";
const B6: &str = "2001:db8:0:0:1::1";

fn now() -> Stamp {
    clock::now().stamp
}

fn key(text: &str) -> Key {
    Key::all(text.parse().unwrap())
}

fn entry(text: &str) -> Entry {
    Entry { key: key(text), until: Until::Forever }
}

fn block(text: &str) -> Step {
    Step::Block(entry(text))
}

#[track_caller]
fn did(wall: &mut Nginx, steps: &[Step]) {
    let report = wall.apply(steps, now());
    assert!(report.ok() && report.done == steps.len(), "{report:?}");
}

fn replace(wall: &mut Nginx, prefixes: &[&str]) -> Result<Report, BlockError> {
    wall.replace(&Frame::default(), &mut prefixes.iter().map(|p| entry(p)), now())
}

/// nginx with files of its own, ended with the test.
struct Server {
    dir: tempfile::TempDir,
    child: Option<Child>,
}

impl Server {
    /// Its files; our deny file is included at `http` level. It does not run yet.
    fn new() -> Self {
        let server = Self { dir: tempfile::tempdir().unwrap(), child: None };
        fs::create_dir(server.path("www")).unwrap();
        fs::write(server.path("www/index.html"), "at home\n").unwrap();
        let dir = server.dir.path().display();
        let text = format!(
            "daemon off; worker_processes 1; user root; pid {dir}/nginx.pid; error_log {dir}/error.log;\n\
             events {{ worker_connections 64; }}\n\
             http {{ access_log {dir}/access.log; client_body_temp_path {dir}/body; proxy_temp_path {dir}/proxy;\n\
             fastcgi_temp_path {dir}/fastcgi; uwsgi_temp_path {dir}/uwsgi; scgi_temp_path {dir}/scgi;\n\
             include {dir}/deny*.conf; server {{ listen 80; listen [::]:80; root {dir}/www; }} }}\n"
        );
        fs::write(server.path("nginx.conf"), text).unwrap();
        server
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn arguments(&self) -> Vec<String> {
        let text = |path: &Path| path.to_str().unwrap().to_owned();
        vec!["-p".into(), text(self.dir.path()), "-c".into(), text(&self.path("nginx.conf"))]
    }

    fn section(&self) -> NginxSection {
        let reload = ["/usr/sbin/nginx".to_owned()].into_iter().chain(self.arguments()).chain(["-s".into(), "reload".into()]);
        NginxSection { file: self.path("deny.conf").to_str().unwrap().to_owned(), reload: reload.collect() }
    }

    fn start(&mut self) {
        self.child = Some(Command::new("/usr/sbin/nginx").args(self.arguments()).stderr(Stdio::null()).spawn().unwrap());
        until("nginx answers", || get("127.0.0.1").is_ok());
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let Some(mut child) = self.child.take() else { return };
        // SAFETY: plain system call without pointers, to a child that was not reaped. Its workers end with it.
        unsafe { libc::kill(child.id().try_into().unwrap(), libc::SIGTERM) };
        let _ = child.wait();
    }
}

/// Looks every 10 ms, for 20 s.
#[track_caller]
fn until(what: &str, is: impl Fn() -> bool) {
    for _ in 0..2000 {
        if is() {
            return;
        }
        let _ = poll(&[], None, Some(Span::millis(10))).unwrap();
    }
    panic!("{what}: not within 20 s");
}

/// Asks for the page at an address of this host, which a host does from that same address. The status code.
fn get(host: &str) -> io::Result<u16> {
    let mut stream = TcpStream::connect_timeout(&SocketAddr::new(host.parse().unwrap(), 80), Duration::from_secs(2))?;
    stream.set_read_timeout(Some(Duration::from_secs(2)))?;
    stream.write_all(b"GET / HTTP/1.0\r\n\r\n")?;
    let mut text = String::new();
    stream.read_to_string(&mut text)?;
    text.get(9..12).and_then(|code| code.parse().ok()).ok_or_else(|| io::Error::other(text))
}

/// Who gets 403 in the end; all others get the page. New workers take over a moment after the reload.
#[track_caller]
fn shut(out: &[&str]) {
    for host in [A4, B4, A6, B6] {
        let code = if out.contains(&host) { 403 } else { 200 };
        until(&format!("{host} gets {code}"), || get(host).is_ok_and(|got| got == code));
    }
}

fn in_a_network_of_its_own(test: impl FnOnce() + Send) {
    let space = Netns::new().unwrap();
    let mut wiring = space.wiring().unwrap();
    wiring.up("lo").unwrap();
    for address in [A4, B4, A6, B6] {
        wiring.add_address("lo", address.parse().unwrap()).unwrap();
    }
    space.within(test).unwrap();
}

#[test]
fn nginx_answers_the_banned_with_403_and_the_others_with_the_page() {
    in_a_network_of_its_own(|| {
        let mut server = Server::new();
        server.start();
        let mut wall = Nginx::open(&server.section()).unwrap();
        assert!(replace(&mut wall, &["192.0.2.0/24", "2001:db8::/80"]).unwrap().ok());
        shut(&[A4, A6]);
        assert_eq!(wall.drift().unwrap(), Drift::None);
        did(&mut wall, &[Step::Release(key("192.0.2.0/24")), block("198.51.100.7/32"), block("2001:db8:0:0:1::/80")]);
        shut(&[B4, A6, B6]);
        let found = wall.read(Read::Keys(&[key("192.0.2.0/24"), key("198.51.100.7/32")])).unwrap();
        assert!(found.whole && found.bans.into_keys().eq([key("198.51.100.7/32")]));

        // Somebody edits it: seen, and put right.
        let file = server.path("deny.conf");
        fs::write(&file, fs::read_to_string(&file).unwrap().replace("deny 198.51.100.7/32;\n", "")).unwrap();
        assert_eq!(wall.drift().unwrap(), Drift::Bans(vec![key("198.51.100.7/32")]));
        did(&mut wall, &[block("198.51.100.7/32")]);
        shut(&[B4, A6, B6]);

        wall.remove().unwrap();
        shut(&[]);
        assert!(file.exists() && !wall.read(Read::Frame).unwrap().whole);
    });
}

#[test]
fn what_nginx_says_when_it_does_not_read_the_file_is_told_and_it_is_tried_again() {
    in_a_network_of_its_own(|| {
        let mut server = Server::new();
        let mut wall = Nginx::open(&server.section()).unwrap();
        // It does not run: the file is there for when it starts, and that it was not read is told.
        let error = chain(&replace(&mut wall, &["192.0.2.1/32"]).unwrap_err());
        assert!(error.contains("nginx.pid") && error.contains("nginx -t"), "{error}");
        server.start();
        shut(&[A4]);
        assert!(replace(&mut wall, &["192.0.2.1/32"]).unwrap().ok());

        // Somebody else's config is broken: it goes on with what it had.
        fs::write(server.path("deny-theirs.conf"), "denny all;\n").unwrap();
        let report = wall.apply(&[block("198.51.100.7/32"), Step::Release(key("192.0.2.9/32"))], now());
        assert!(report.done == 0 && report.failed.len() == 2 && report.failed[0].1.contains("unknown directive \"denny\""), "{report:?}");
        shut(&[A4]);
        fs::remove_file(server.path("deny-theirs.conf")).unwrap();
        // The file is as it should be already; the reload is what was missing.
        did(&mut wall, &[block("198.51.100.7/32")]);
        shut(&[A4, B4]);
    });
}

#[test]
fn reloads_are_few_however_many_bans() {
    let dir = tempfile::tempdir().unwrap();
    let count = dir.path().join("count");
    let script = format!("echo x >>{}", count.display());
    let file = dir.path().join("deny.conf").to_str().unwrap().to_owned();
    let mut wall = Nginx::open(&NginxSection { file, reload: ["/bin/sh", "-c", &script].map(str::to_owned).to_vec() }).unwrap();
    let reloads = || fs::read_to_string(&count).unwrap_or_default().lines().count();
    let many: Vec<Step> = (0..500).map(|n| block(&format!("10.0.{}.{}/32", n / 250, n % 250))).collect();
    did(&mut wall, &many);
    assert_eq!(reloads(), 1);
    let first = wall.reloaded.unwrap();
    did(&mut wall, &many);
    assert_eq!(reloads(), 1, "nothing changed");
    did(&mut wall, &[Step::Release(key("10.0.0.0/32"))]);
    assert_eq!(reloads(), 2);
    assert!(wall.reloaded.unwrap().since(first) >= EVERY, "it waited its turn");
}

#[test]
fn a_file_of_somebody_elses_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("access.conf");
    fs::write(&file, "allow 192.0.2.0/24;\ndeny all;\n").unwrap();
    let section = NginxSection { file: file.to_str().unwrap().to_owned(), reload: vec!["/bin/true".into()] };
    let error = chain(&Nginx::open(&section).unwrap_err());
    assert!(error.contains("access.conf holds lines that are not ours") && error.contains("[backend.nginx]"), "{error}");
    assert_eq!(fs::read_to_string(&file).unwrap(), "allow 192.0.2.0/24;\ndeny all;\n");
}
