//! A real fail2ban of the test's own, which watches an empty file and touches no firewall.

use std::fs;
use std::path::PathBuf;
use std::process::Stdio;

use super::service::Running;
use super::space::Space;
use super::{Lab, program, until};

/// The server; it is gone with this.
pub struct Fail2ban<'a> {
    space: &'a Space,
    dir: PathBuf,
    _server: Running,
}

impl<'a> Fail2ban<'a> {
    /// Starts one with these jails and ban times, as fail2ban writes them.
    pub fn start(lab: &'a Lab, jails: &[(&str, &str)]) -> Self {
        let dir = lab.path("fail2ban");
        fs::create_dir_all(dir.join("filter.d")).unwrap();
        let at = |name: &str| dir.join(name).display().to_string();
        let common =
            format!("syslogsocket = auto\nsocket = {}\npidfile = {}\ndbfile = {}\n", at("sock"), at("pid"), at("fail2ban.sqlite3"));
        let definition = format!(
            "[Definition]\nloglevel = INFO\nlogtarget = {}\n{common}dbpurgeage = 1d\ndbmaxmatches = 10\n[Thread]\nstacksize = 0\n",
            at("log")
        );
        fs::write(dir.join("fail2ban.conf"), definition).unwrap();
        fs::write(dir.join("watched"), "").unwrap();
        fs::write(dir.join("filter.d/none.conf"), "[Definition]\nfailregex = ^failure from <HOST>$\n").unwrap();
        let jail = |(name, time): &(&str, &str)| {
            format!("[{name}]\nenabled = true\nfilter = none\nbackend = polling\nlogpath = {}\nbantime = {time}\naction =\n", at("watched"))
        };
        fs::write(dir.join("jail.conf"), jails.iter().map(jail).collect::<String>()).unwrap();
        let mut command = lab.victim.command(program("fail2ban-server"));
        let server = Running(command.arg("-c").arg(&dir).args(["-f", "start"]).stdout(Stdio::null()).spawn().unwrap());
        let fail2ban = Self { space: &lab.victim, dir, _server: server };
        let up = || fail2ban.ask("ping").is_some() && jails.iter().all(|(name, _)| fail2ban.ask(&format!("status {name}")).is_some());
        until("fail2ban answers", up);
        fail2ban
    }

    /// What its client prints on standard output; `None` where it says no.
    pub fn ask(&self, words: &str) -> Option<String> {
        let (code, out) = self.answer(words);
        (code == 0).then_some(out)
    }

    /// How its client ends, and what it prints on standard output.
    pub fn answer(&self, words: &str) -> (i32, String) {
        let mut command = self.space.command(program("fail2ban-client"));
        command.arg("-c").arg(&self.dir).args(words.split_whitespace()).stderr(Stdio::null());
        let output = command.output().unwrap();
        (output.status.code().unwrap(), String::from_utf8_lossy(&output.stdout).into_owned())
    }

    /// Its client with its options, as a shell's word list.
    pub fn client(&self) -> String {
        format!("{} -c {}", program("fail2ban-client").display(), self.dir.display())
    }

    /// What its client prints; it must not say no.
    #[track_caller]
    pub fn expect(&self, words: &str) -> String {
        self.ask(words).unwrap_or_else(|| panic!("fail2ban-client {words}"))
    }

    /// The file that its jails watch.
    pub fn watched(&self) -> PathBuf {
        self.dir.join("watched")
    }

    /// Its database.
    pub fn database(&self) -> PathBuf {
        self.dir.join("fail2ban.sqlite3")
    }
}
