//! Logs to read: what a busy host writes in a day, and what attackers leave in it.
//!
//! Nothing is copied from anywhere: programs, users, addresses, paths and sizes are drawn from lists
//! by a generator that always draws the same, so that each run reads the same bytes. One line in
//! [`HOSTILE`] is an attack.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::Path;

use anyhow::Result;

/// One line of so many is hostile.
pub(crate) const HOSTILE: u32 = 100;

/// What a log is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// syslog's auth.log.
    Auth,
    /// A web server's access log, combined format.
    Access,
}

/// Draws numbers: xorshift64 (Marsaglia).
#[derive(Debug)]
struct Draw(u64, Enemy);

/// Who attacks now: one goes on for a while before the next one comes.
#[derive(Debug, Default)]
struct Enemy {
    addr: String,
    left: u32,
}

impl Draw {
    fn below(&mut self, n: u32) -> u32 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        u32::try_from(((self.0 >> 32) * u64::from(n)) >> 32).unwrap_or(0)
    }

    fn of<'a>(&mut self, all: &[&'a str]) -> &'a str {
        let at = self.below(u32::try_from(all.len()).unwrap_or(1));
        all.get(at as usize).copied().unwrap_or_default()
    }

    fn friend(&mut self) -> String {
        match self.below(8) {
            0 => format!("2001:db8:{:x}::{:x}", self.below(4096), self.below(65_536)),
            _ => format!("198.51.100.{}", self.below(256)),
        }
    }

    fn enemy(&mut self) -> String {
        if self.1.left == 0 {
            let addr = match self.below(10) {
                0 => format!("2001:db8:ffff:{:x}::{:x}", self.below(65_536), self.below(65_536)),
                n if n < 6 => format!("192.0.2.{}", self.below(256)),
                _ => format!("203.0.113.{}", self.below(256)),
            };
            self.1 = Enemy { addr, left: 1 + self.below(20) };
        }
        self.1.left -= 1;
        self.1.addr.clone()
    }

    fn hex(&mut self, digits: usize) -> String {
        (0..digits).map(|_| char::from_digit(self.below(16), 16).unwrap_or('0')).collect()
    }
}

const USERS: [&str; 24] = [
    "root", "admin", "deploy", "git", "backup", "www-data", "anna", "bertrand", "chidi", "dagmar", "eleni", "farid", "postgres", "jenkins",
    "ansible", "monitor", "gunnar", "hiroko", "ines", "jorge", "nagios", "ubuntu", "test", "oracle",
];

const PATHS: [&str; 24] = [
    "/",
    "/index.html",
    "/assets/app.4f2c.js",
    "/assets/site.css",
    "/favicon.ico",
    "/robots.txt",
    "/images/header/logo.svg",
    "/blog/",
    "/blog/2026/11/a-day-at-the-lake/",
    "/blog/feed.xml",
    "/api/v2/items",
    "/api/v2/items/4711/comments",
    "/api/v2/session",
    "/search",
    "/shop/basket",
    "/shop/category/shoes",
    "/media/clips/intro.mp4",
    "/fonts/inter-regular.woff2",
    "/sitemap.xml",
    "/about/team/",
    "/docs/guide/first-steps.html",
    "/docs/reference/options.html",
    "/static/vendor/jquery.min.js",
    "/contact",
];

const AGENTS: [&str; 8] = [
    "Mozilla/5.0 (X11; Linux x86_64; rv:133.0) Gecko/20100101 Firefox/133.0",
    "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/131.0.0.0 Safari/537.36",
    "Mozilla/5.0 (Macintosh; Intel Mac OS X 14_7) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/18.1 Safari/605.1.15",
    "Mozilla/5.0 (iPhone; CPU iPhone OS 18_1 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/18.1 Mobile/15E148 Safari/604.1",
    "Mozilla/5.0 (compatible; examplebot/2.1; +https://bot.example.org/about)",
    "curl/8.11.0",
    "feedreader/3.2 (poll; 12 subscribers)",
    "-",
];

const PROBES: [&str; 10] = [
    "/wp-login.php",
    "/.env",
    "/xmlrpc.php",
    "/blog/wp-login.php",
    "/phpmyadmin/",
    "/.git/config",
    "/wp-config.php.bak",
    "/boaform/admin/formLogin",
    "/cgi-bin/luci",
    "/actuator/env",
];

const MONTHS: [&str; 12] = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];

/// A moment that goes on from line to line, in seconds of a year of equal months.
fn clock(second: u32) -> (usize, u32, u32, u32, u32) {
    let day = second / 86_400;
    ((day / 28 % 12) as usize, day % 28 + 1, second / 3600 % 24, second / 60 % 60, second % 60)
}

/// Writes a log of about so many MiB; tells how many lines it has.
pub(crate) fn write(file: &Path, kind: Kind, mib: u64) -> Result<u32> {
    let mut out = BufWriter::with_capacity(1 << 20, File::create(file)?);
    let mut draw = Draw(0x9e37_79b9_7f4a_7c15, Enemy::default());
    let (mut written, mut lines, mut second) = (0, 0, 0);
    while written < mib << 20 {
        // Bursts and pauses.
        second += u32::from(draw.below(3) == 0);
        let hostile = draw.below(HOSTILE) == 0;
        let line = match kind {
            Kind::Auth => auth(&mut draw, second, hostile),
            Kind::Access => access(&mut draw, second, hostile),
        };
        out.write_all(line.as_bytes())?;
        out.write_all(b"\n")?;
        written += line.len() as u64 + 1;
        lines += 1;
    }
    out.flush()?;
    Ok(lines)
}

fn auth(draw: &mut Draw, second: u32, hostile: bool) -> String {
    let (month, day, hour, minute, second) = clock(second);
    let month = MONTHS.get(month).copied().unwrap_or("Jan");
    let pid = 400 + draw.below(60_000);
    let message = if hostile { attack(draw, pid) } else { ordinary(draw, pid) };
    format!("{month} {day:2} {hour:02}:{minute:02}:{second:02} victim {message}")
}

fn attack(draw: &mut Draw, pid: u32) -> String {
    let (addr, port, user) = (draw.enemy(), 1024 + draw.below(64_000), draw.of(&USERS));
    match draw.below(6) {
        0 | 1 => format!("sshd[{pid}]: Failed password for invalid user {user} from {addr} port {port} ssh2"),
        2 => format!("sshd[{pid}]: Failed password for root from {addr} port {port} ssh2"),
        3 => format!("sshd[{pid}]: Invalid user {user} from {addr} port {port}"),
        4 => format!("sshd[{pid}]: Connection closed by authenticating user {user} {addr} port {port} [preauth]"),
        _ => format!(
            "sshd[{pid}]: Unable to negotiate with {addr} port {port}: no matching key exchange method found. Their offer: diffie-hellman-group1-sha1 [preauth]"
        ),
    }
}

fn ordinary(draw: &mut Draw, pid: u32) -> String {
    let (addr, port, user) = (draw.friend(), 1024 + draw.below(64_000), draw.of(&USERS));
    let session = draw.below(90_000);
    match draw.below(16) {
        0 => format!("sshd[{pid}]: pam_unix(sshd:session): session opened for user {user}(uid={}) by {user}(uid=0)", 1000 + draw.below(40)),
        1 => format!("sshd[{pid}]: pam_unix(sshd:session): session closed for user {user}"),
        2 => format!("sshd[{pid}]: Received disconnect from {addr} port {port}:11: disconnected by user"),
        3 => format!("sshd[{pid}]: Starting session: command for {user} from {addr} port {port} id 0"),
        4 | 5 => format!("CRON[{pid}]: pam_unix(cron:session): session opened for user {user}(uid=0) by (uid=0)"),
        6 | 7 => format!("CRON[{pid}]: pam_unix(cron:session): session closed for user {user}"),
        8 => format!("sudo:   {user} : TTY=pts/{} ; PWD=/home/{user} ; USER=root ; COMMAND=/usr/bin/systemctl reload nginx", draw.below(9)),
        9 => format!("sudo: pam_unix(sudo:session): session opened for user root(uid=0) by {user}(uid={})", 1000 + draw.below(40)),
        10 => format!("systemd-logind[417]: New session {session} of user {user}."),
        11 => format!("systemd-logind[417]: Session {session} logged out. Waiting for processes to exit."),
        12 => format!("systemd-logind[417]: Removed session {session}."),
        13 => format!(
            "dbus-daemon[398]: [system] Activating via systemd: service name='org.freedesktop.hostname1' unit='dbus-org.freedesktop.hostname1.service' requested by ':1.{session}' (uid=0 pid={pid} comm=\"hostnamectl\")"
        ),
        14 => format!(
            "polkitd[611]: Registered Authentication Agent for unix-process:{pid}:{session} (system bus name :1.{} [/usr/bin/pkttyagent --notify-fd 5 --fallback])",
            draw.below(500)
        ),
        _ => format!("su[{pid}]: (to {user}) root on pts/{}", draw.below(9)),
    }
}

fn access(draw: &mut Draw, second: u32, hostile: bool) -> String {
    let (month, day, hour, minute, second) = clock(second);
    let month = MONTHS.get(month).copied().unwrap_or("Jan");
    let time = format!("[{day:02}/{month}/2026:{hour:02}:{minute:02}:{second:02} +0000]");
    let agent = draw.of(&AGENTS);
    if hostile {
        let (addr, path) = (draw.enemy(), draw.of(&PROBES));
        return match draw.below(4) {
            0 => format!("{addr} - - {time} \"POST /wp-login.php HTTP/1.1\" 200 {} \"-\" \"{agent}\"", draw.below(9000)),
            1 => format!("{addr} - {} {time} \"GET /admin/ HTTP/1.1\" 401 381 \"-\" \"{agent}\"", draw.of(&USERS)),
            _ => format!("{addr} - - {time} \"GET {path} HTTP/1.1\" 404 153 \"-\" \"{agent}\""),
        };
    }
    let addr = draw.friend();
    let path = match draw.below(4) {
        0 => format!("{}?page={}&ref={}", draw.of(&PATHS), draw.below(300), draw.hex(16)),
        1 => format!("/media/photos/{}/{}.jpg", draw.below(2000), draw.hex(24)),
        _ => draw.of(&PATHS).to_owned(),
    };
    let method = draw.of(&["GET", "GET", "GET", "GET", "GET", "GET", "POST", "HEAD"]);
    let status = draw.of(&["200", "200", "200", "200", "200", "200", "200", "304", "304", "301", "206", "404"]);
    let referer = if draw.below(3) == 0 { "-".to_owned() } else { format!("https://www.example.org{}", draw.of(&PATHS)) };
    let most = 1 << draw.below(21);
    let size = draw.below(most);
    format!("{addr} - - {time} \"{method} {path} HTTP/1.1\" {status} {size} \"{referer}\" \"{agent}\"")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_line_is_of_its_kind_and_one_of_a_hundred_is_hostile() {
        let mut draw = Draw(1, Enemy::default());
        for hostile in [false, true] {
            for second in 0..2000 {
                let auth = auth(&mut draw, second, hostile);
                let access = access(&mut draw, second, hostile);
                let signs = |line: &str| {
                    palisade_core::scan::builtin()
                        .iter()
                        .filter_map(|s| s.find(palisade_core::scan::Line::raw(line.as_bytes())))
                        .filter(|found| !found.rule.is_login())
                        .count()
                };
                assert_eq!(signs(&auth) > 0, hostile, "{auth}");
                assert_eq!(signs(&access) > 0, hostile, "{access}");
            }
        }
    }
}
