//! Real services on the victim and their real clients.

use std::fs;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::thread::spawn;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use super::space::Space;
use super::{Lab, append, program, until};

/// A running process of the test, ended with it.
pub struct Running(pub Child);

impl Running {
    /// How much memory it has, in KiB (`VmRSS` of proc(5)).
    pub fn memory(&self) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.0.id())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
        line.trim().trim_end_matches(" kB").parse().unwrap()
    }

    /// Sends it a signal.
    pub fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.0), signal).unwrap();
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if matches!(self.0.try_wait(), Ok(None)) {
            // Servers end their children when they are asked to end.
            let _ = kill_process(Pid::from_child(&self.0), Signal::TERM);
            let start = Instant::now();
            while matches!(self.0.try_wait(), Ok(None)) && start.elapsed() < Duration::from_secs(2) {
                std::thread::sleep(Duration::from_millis(5));
            }
        }
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// How sshd's lines get into a file.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Via {
    /// `sshd -E FILE`: as sshd writes them.
    File,
    /// By way of syslog(3) and /dev/log, with the host's name added as a syslog daemon does.
    Syslog,
}

/// OpenSSH's server with keys and a config of its own.
pub struct Sshd {
    /// Where its lines are.
    pub log: PathBuf,
    /// When each line was written, for lines through [`Via::Syslog`].
    pub written: Arc<Mutex<Vec<(Instant, String)>>>,
    process: Running,
}

impl Sshd {
    /// Starts it on the victim's port 22.
    pub fn start(lab: &Lab, via: Via) -> Self {
        let (key, config, log) = (lab.path("host_key"), lab.path("sshd_config"), lab.path("auth.log"));
        let made = Command::new(program("ssh-keygen")).args(["-q", "-t", "ed25519", "-N", "", "-f"]).arg(&key).status().unwrap();
        assert!(made.success());
        let text = format!(
            "Port 22\nHostKey {}\nPidFile none\nUsePAM no\nPermitRootLogin yes\nPasswordAuthentication yes\n\
             KbdInteractiveAuthentication no\nStrictModes no\nUseDNS no\nLogLevel INFO\nMaxStartups 100:30:200\n",
            key.display()
        );
        fs::write(&config, text).unwrap();
        fs::write(&log, "").unwrap();
        let mut command = lab.victim.command(program("sshd"));
        command.arg("-D").arg("-f").arg(&config);
        let written = Arc::new(Mutex::new(Vec::new()));
        if via == Via::File {
            command.arg("-E").arg(&log);
        } else {
            let socket = lab.path("log");
            let lines = UnixDatagram::bind(&socket).unwrap();
            lab.victim.sh(&format!("{PRIVATE_DEV}; ln -s {} /dev/log", socket.display()));
            let (log, written) = (log.clone(), Arc::clone(&written));
            spawn(move || syslog(&lines, &log, &written));
        }
        let process = Running(command.spawn().unwrap());
        until("sshd listens", || lab.victim.sh("ss -Hltn sport = :22").contains(":22"));
        Self { log, written, process }
    }

    /// When the last line with `text` was written.
    pub fn wrote(&self, text: &str) -> Option<Instant> {
        self.written.lock().unwrap().iter().rev().find(|(_, line)| line.contains(text)).map(|(at, _)| *at)
    }
}

/// A /dev of the host's own, for a /dev/log of its own.
const PRIVATE_DEV: &str = "mount -t tmpfs tmpfs /mnt; mkdir /mnt/pts /mnt/shm; ln -s /proc/self/fd /mnt/fd; \
    for n in null zero full random urandom tty; do touch /mnt/$n; mount --bind /dev/$n /mnt/$n; done; mount --move /mnt /dev";

/// Writes what syslog(3) sends, `<38>Nov 22 17:00:00 sshd[7]: message`, as rsyslog does in its
/// traditional format: without priority, with the host's name. (Control characters sshd has
/// escaped itself, as it does not where it writes a file.)
fn syslog(socket: &UnixDatagram, log: &Path, written: &Mutex<Vec<(Instant, String)>>) {
    const DATE: usize = "Nov 22 17:00:00 ".len();
    let mut buffer = [0; 8192];
    while let Ok(n) = socket.recv(&mut buffer) {
        let text = String::from_utf8_lossy(&buffer[..n]);
        let line = text.split_once('>').map_or(&*text, |(_, rest)| rest).trim_end_matches(['\n', '\0']);
        let line = format!("{}victim {}", &line[..DATE], &line[DATE..]);
        append(log, format!("{line}\n"));
        written.lock().unwrap().push((Instant::now(), line));
    }
}

/// Somebody who tries to log in with a wrong password, once, and gives up at the latest after a few
/// seconds (for who is banned meanwhile gets no answer any more).
pub fn wrong_password(space: &Space, from: &str, user: &str, host: &str) {
    let mut client = space
        .command(program("timeout"))
        .args(["--signal=KILL", "5"])
        .arg(program("sshpass"))
        .args(["-p", "wrong"])
        .arg(program("ssh"))
        .args(["-F", "/dev/null", "-b", from, "-l", user])
        .args(["-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null", "-o", "GlobalKnownHostsFile=/dev/null"])
        .args(["-o", "PreferredAuthentications=password", "-o", "PubkeyAuthentication=no", "-o", "NumberOfPasswordPrompts=1"])
        .args(["-o", "ConnectTimeout=2", "-o", "LogLevel=ERROR", "-o", "ServerAliveInterval=1", "-o", "ServerAliveCountMax=1"])
        .args([host, "true"])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let status = client.wait().unwrap();
    assert!(!status.success(), "a wrong password was accepted");
}

/// nginx with an access log of its own.
pub struct Nginx {
    /// The access log, in the combined format.
    pub log: PathBuf,
    process: Running,
}

impl Nginx {
    /// Starts it on the victim's port 80, with nothing to serve but one page.
    pub fn start(lab: &Lab) -> Self {
        let (config, root, log) = (lab.path("nginx.conf"), lab.path("www"), lab.path("access.log"));
        fs::create_dir(&root).unwrap();
        fs::write(root.join("index.html"), "at home\n").unwrap();
        let dir = lab.dir.path().display();
        let text = format!(
            "daemon off; worker_processes 1; user root; pid {dir}/nginx.pid; error_log {dir}/error.log;\n\
             events {{ worker_connections 256; }}\n\
             http {{ access_log {}; client_body_temp_path {dir}/body; proxy_temp_path {dir}/proxy; fastcgi_temp_path {dir}/fastcgi;\n\
             uwsgi_temp_path {dir}/uwsgi; scgi_temp_path {dir}/scgi;\n\
             server {{ listen 80; listen [::]:80; root {}; error_page 405 =404 /nothing; }} }}\n",
            log.display(),
            root.display()
        );
        fs::write(&config, text).unwrap();
        let process = Running(lab.victim.command(program("nginx")).arg("-p").arg(lab.dir.path()).arg("-c").arg(&config).spawn().unwrap());
        until("nginx listens", || lab.victim.sh("ss -Hltn sport = :80").contains(":80"));
        Self { log, process }
    }
}

/// Asks nginx for something with curl; the status code it answered, 0 for none.
pub fn http(space: &Space, from: &str, arguments: &[&str]) -> u16 {
    let output = space
        .command(program("curl"))
        .args([
            "--silent",
            "--globoff",
            "--path-as-is",
            "--max-time",
            "2",
            "--interface",
            from,
            "--output",
            "/dev/null",
            "--write-out",
            "%{http_code}",
        ])
        .args(arguments)
        .output()
        .unwrap();
    String::from_utf8_lossy(&output.stdout).trim().parse().unwrap_or(0)
}
