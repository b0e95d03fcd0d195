//! How fast lines are held against signatures: whole processes over the same auth.log.

use std::fs::{self, File};
use std::io::{BufWriter, Write};
use std::path::Path;
use std::process::Stdio;

use anyhow::{Context, Result};

use crate::Bench;
use crate::lab::scattered;
use crate::line_to_drop::auth_line;
use crate::process::measure;
use crate::report::Table;
use crate::stats::{Samples, grouped, mib, ratio, time};

/// So many lines for the fast ones, and for fail2ban-regex, which needs a minute for all.
const LINES: u32 = 200_000;
const FEW: u32 = 20_000;

pub(crate) fn run(bench: &Bench) -> Result<Table> {
    let dir = bench.scratch.join("reading");
    fs::create_dir_all(&dir)?;
    let (many, few) = (dir.join("auth.log"), dir.join("few.log"));
    log(&many, LINES)?;
    log(&few, FEW)?;
    let palisade = bench.palisade.display().to_string();
    let (many, few) = (many.display().to_string(), few.display().to_string());
    let parser = format!("exec /usr/libexec/sshguard/sshg-parser < {many}");
    let ways = [
        ("`palisade test --json`, every signature", LINES, vec![palisade.as_str(), "test", "--json", &many]),
        ("`palisade test --json --signature sshd`", LINES, vec![palisade.as_str(), "test", "--json", "--signature", "sshd", &many]),
        ("`sshg-parser`", LINES, vec!["sh", "-c", &parser]),
        ("`fail2ban-regex`, filter sshd", FEW, vec!["fail2ban-regex", &few, "sshd"]),
    ];
    let mut outcomes = ways.each_ref().map(|_| (Samples::default(), 0));
    for _ in 0..bench.rounds {
        for ((name, lines, args), (samples, peak)) in ways.iter().zip(&mut outcomes) {
            let cost = measure(args, Stdio::null()).with_context(|| (*name).to_owned())?;
            bench.say(&format!("{name}: {} (CPU {}) for {lines} lines", time(cost.wall.as_secs_f64()), time(cost.cpu.as_secs_f64())));
            samples.push(cost.cpu);
            *peak = cost.peak_kib.max(*peak);
        }
    }
    let speed = |at: usize| f64::from(ways[at].1) / outcomes[at].0.median();
    let rows = (0..ways.len()).map(|at| {
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "lines a second")]
        let rounded = speed(at) as u64;
        let (name, lines, _) = &ways[at];
        vec![
            (*name).to_owned(),
            grouped((*lines).into()),
            time(outcomes[at].0.median()),
            grouped(rounded),
            ratio(speed(0), speed(at)),
            mib(outcomes[at].1),
        ]
    });
    let table = Table {
        id: "reading",
        head: &["", "lines", "CPU, median", "lines a CPU second", "first to it", "peak memory"],
        rows: rows.collect(),
        aims: Vec::new(),
    };
    fs::remove_dir_all(&dir)?;
    Ok(table)
}

/// An auth.log of a host under attack: of ten lines four are failures, six the rest of the day.
fn log(file: &Path, lines: u32) -> Result<()> {
    let mut out = BufWriter::new(File::create(file)?);
    let stamp = auth_line(scattered(0))?;
    let stamp = stamp.get(..15).context("a time")?;
    for n in 0..lines {
        let addr = scattered(n / 4);
        match n % 10 {
            0 | 5 => writeln!(out, "{stamp} victim sshd[{n}]: Failed password for invalid user admin from {addr} port 40022 ssh2")?,
            1 => writeln!(out, "{stamp} victim sshd[{n}]: Invalid user oracle from {addr} port 40023")?,
            2 => writeln!(out, "{stamp} victim sshd[{n}]: Connection closed by authenticating user root {addr} port 40024 [preauth]")?,
            3 => writeln!(out, "{stamp} victim sshd[{n}]: pam_unix(sshd:auth): check pass; user unknown")?,
            4 => writeln!(
                out,
                "{stamp} victim sshd[{n}]: Accepted publickey for deploy from 192.0.2.7 port 40025 ssh2: ED25519 SHA256:{n:043}"
            )?,
            6 => writeln!(out, "{stamp} victim sshd[{n}]: pam_unix(sshd:session): session opened for user deploy(uid=1000) by (uid=0)")?,
            7 => writeln!(out, "{stamp} victim CRON[{n}]: pam_unix(cron:session): session closed for user root")?,
            8 => {
                writeln!(out, "{stamp} victim sudo:   deploy : TTY=pts/0 ; PWD=/srv ; USER=root ; COMMAND=/usr/bin/systemctl reload nginx")?
            }
            _ => writeln!(out, "{stamp} victim systemd-logind[417]: New session {n} of user deploy.")?,
        }
    }
    Ok(out.flush()?)
}
