//! `palisade import`.

mod config;
mod job;

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use clap::{Args, ValueEnum};
use palisade_core::tables::{Format, Reader, Widest};
use palisade_core::time::Term;

use super::ask::usage;
use super::ban::term;
use super::print;
use super::progress::Progress;
use super::{Exit, Global};
use crate::fail2ban::{self, Database};
use job::Job;

/// How many bytes are read at once. A line of 40 bytes may name a range of 254 prefixes, so what is
/// read between two requests must be little.
const AT_ONCE: usize = 16 * 1024;

/// The formats, as they are typed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum FormatArg {
    /// ADDR=TIME a line: the tables of a hand-made script
    BanHammer,
    /// An address, prefix or range a line
    Plain,
    /// FireHOL's .netset and .ipset files
    Netset,
    /// Comma-separated values, with a header or without
    Csv,
    /// The document of `palisade list --json`, or an object a line
    Json,
    /// sshguard's blacklist; with --allow its whitelist
    Sshguard,
    /// fail2ban's database, fail2ban.sqlite3
    #[value(alias = "fail2ban.sqlite3")]
    Fail2ban,
    /// What `cscli decisions` lists or imports, in JSON or CSV
    Crowdsec,
    /// Spamhaus' DROP lists
    DropJson,
}

impl FormatArg {
    /// How the bytes are read; `None` for a database.
    const fn reads(self, allow: bool) -> Option<Format> {
        Some(match self {
            Self::BanHammer => Format::BanHammer,
            Self::Plain => Format::Plain,
            Self::Netset => Format::Netset,
            Self::Csv => Format::Csv,
            Self::Json => Format::Json,
            Self::Sshguard if allow => Format::SshguardWhitelist,
            Self::Sshguard => Format::Sshguard,
            Self::Fail2ban => return None,
            Self::Crowdsec => Format::Crowdsec,
            Self::DropJson => Format::DropJson,
        })
    }

    fn name(self) -> String {
        self.reads(false).map_or_else(|| "fail2ban".to_owned(), |format| format.to_string())
    }
}

/// Ban whom a table lists.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  palisade import ban-hammer /etc/firewall/ip4.ban\n  palisade import fail2ban /var/lib/fail2ban/fail2ban.sqlite3\n  palisade import sshguard /var/db/sshguard/blacklist.db\n  palisade import sshguard --allow /etc/sshguard/whitelist\n  cscli decisions list -o json | palisade import crowdsec -\n  palisade import netset --for 1d firehol_level1.netset\n  palisade import drop-json --for 2d --dry-run drop_v4.json\n  palisade import fail2ban --config /etc/fail2ban --write /etc/palisade/conf.d/fail2ban.toml\n  palisade import sshguard --config /etc/sshguard/sshguard.conf\n\nWhat a table says goes before --for and --reason, which are for rows that do not say. A ban that stands longer keeps\nits end. Nobody on the allow list is banned by an import. docs/tables.md describes every format.\n\nExit code 0: all of it is imported (or over), or all of a config was taken over. 1: some rows were not understood or refused;\neach is named, up to 20. Of a config: some lines were not taken over; each is named, with the reason."
)]
pub struct ImportArgs {
    /// Which
    #[arg(value_name = "FORMAT")]
    format: FormatArg,
    /// The table, or - for standard input. Left out, `--config PATH` names fail2ban's folder or sshguard.conf: not bans
    /// but the config is taken over; ours goes to standard output, what became of each line to standard error
    #[arg(value_name = "FILE")]
    file: Option<PathBuf>,
    /// Write the new config into this file, which must not be there yet
    #[arg(long, value_name = "FILE", conflicts_with = "file")]
    write: Option<PathBuf>,
    /// How long those last whose end the table does not say (the config's manual_time): 90s, 1h30m, 2d, 1w
    #[arg(long = "for", short = 'd', value_name = "DURATION", visible_alias = "duration", conflicts_with = "permanent", value_parser = term)]
    term: Option<Term>,
    /// Those until they are taken back
    #[arg(long)]
    permanent: bool,
    /// Why those are banned of which the table does not say
    #[arg(long, short, value_name = "TEXT", default_value = "")]
    reason: String,
    /// It lists who can never be banned: put them on the allow list (plain, netset, sshguard)
    #[arg(long)]
    allow: bool,
    /// Say what would be done, and change nothing: with --write, no file is written
    #[arg(long)]
    dry_run: bool,
    /// Refuse IPv4 prefixes that are wider than this
    #[arg(long, value_name = "LEN", default_value_t = Widest::DEFAULT.v4, value_parser = clap::value_parser!(u8).range(0..=32))]
    widest_ipv4: u8,
    /// Refuse IPv6 prefixes that are wider than this
    #[arg(long, value_name = "LEN", default_value_t = Widest::DEFAULT.v6, value_parser = clap::value_parser!(u8).range(0..=128))]
    widest_ipv6: u8,
}

impl ImportArgs {
    /// Does it.
    pub fn run(self, global: &Global) -> Result<Exit> {
        if self.allow && !matches!(self.format, FormatArg::Plain | FormatArg::Netset | FormatArg::Sshguard) {
            return Err(usage("--allow reads tables of the formats plain, netset and sshguard"));
        }
        let Some(file) = self.file.clone() else { return self.config(global) };
        let mut job = Job::new(&self, global);
        match self.format.reads(self.allow) {
            Some(format) => self.read(format, &file, &mut job)?,
            None => self.read_database(&file, &mut job)?,
        }
        job.send()?;
        job.progress.end();
        job.sort();
        if global.json {
            print::json(&job.document(&self))?;
        } else {
            job.show(&self);
        }
        Ok(job.exit())
    }

    /// Without a table it is the config that is meant: the flag that names ours names theirs here.
    fn config(&self, global: &Global) -> Result<Exit> {
        let whose = match self.format {
            FormatArg::Fail2ban => config::Whose::Fail2ban,
            FormatArg::Sshguard => config::Whose::Sshguard,
            _ => return Err(usage("a FILE is needed, or - for standard input")),
        };
        // What the environment names is ours.
        let Some(from) = global.config.as_ref().filter(|_| global.config_typed) else {
            return Err(usage("name a FILE to import bans from, or `--config PATH` to take over the config"));
        };
        config::run(whose, from, self.write.as_deref(), self.dry_run, global)
    }

    fn read(&self, format: Format, file: &Path, job: &mut Job<'_>) -> Result<()> {
        let (mut input, size): (Box<dyn Read>, _) = if file.as_os_str() == "-" {
            (Box::new(io::stdin().lock()), None)
        } else {
            let told = |error| usage(format_args!("cannot read {}: {error}", file.display()));
            let open = File::open(file).map_err(told)?;
            let meta = open.metadata().map_err(told)?;
            if meta.is_dir() {
                return Err(usage(format_args!("{} is a folder", file.display())));
            }
            (Box::new(open), meta.is_file().then_some(meta.len()))
        };
        job.progress = Progress::begin(size);
        let mut reader = Reader::new(format, job.now);
        let mut buffer = vec![0; AT_ONCE];
        let mut read = 0;
        loop {
            let count = match input.read(&mut buffer) {
                Ok(0) => break,
                Ok(count) => count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(error).with_context(|| format!("reading {}", file.display())),
            };
            reader.push(&buffer[..count], &mut |line, item| job.take(line, item));
            read += count as u64;
            job.send_if_full()?;
            job.progress.at(read, job.seen());
        }
        reader.finish(&mut |line, item| job.take(line, item));
        Ok(())
    }

    fn read_database(&self, file: &Path, job: &mut Job<'_>) -> Result<()> {
        if file.as_os_str() == "-" {
            return Err(usage("a database is read from its file, not from standard input"));
        }
        if file.is_dir() {
            return Err(usage(format_args!(
                "{0} is a folder; the bans are in fail2ban's database, usually /var/lib/fail2ban/fail2ban.sqlite3, and `palisade import fail2ban --config {0}` takes over the config in a folder",
                file.display()
            )));
        }
        let database = Database::open(file).map_err(usage)?;
        database
            .each(&mut |row, item| {
                job.take(row, item);
                job.progress.at(0, job.seen());
                job.send_if_full()
            })
            .map_err(|error: anyhow::Error| if error.is::<fail2ban::Error>() { usage(error) } else { error })
    }

    const fn term(&self) -> Option<Term> {
        if self.permanent { Some(Term::Forever) } else { self.term }
    }
}
