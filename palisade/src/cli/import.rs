//! `palisade import`.

use std::fs::File;
use std::io::{self, Read};
use std::net::ToSocketAddrs;
use std::path::PathBuf;

use anyhow::{Context, Result};
use clap::{Args, ValueEnum};
use palisade_core::allow::AllowList;
use palisade_core::attack::excerpt;
use palisade_core::bans::ban::Origin;
use palisade_core::control::{Imported, KillCount, Member, PREFIXES_A_REQUEST, ROWS_A_REQUEST, Reply, Request};
use palisade_core::net::{Addr, Prefix};
use palisade_core::tables::{Format, Item, Reader, Row, Widest};
use palisade_core::time::{Stamp, Term, Until};
use palisade_os::clock;
use serde::Serialize;

use super::ask::{Session, ask, asker, unexpected, usage};
use super::ban::term;
use super::print;
use super::progress::Progress;
use super::{Exit, Global};
use crate::fail2ban::{self, Database};

/// How many bytes are read at once. A line of 40 bytes may name a range of 254 prefixes, so what is
/// read between two requests must be little.
const AT_ONCE: usize = 16 * 1024;

/// How many rows wait before they are handed over: without a daemon at once, as one transaction of the
/// store and two of the kernel. Of a table in no order each batch touches nearly every page of a large
/// store, so few large batches cost less than many small ones; these take some 50 MB.
const ROWS_ALONE: usize = 131_072;

/// How many lines that were not imported are told one by one.
const TOLD: usize = 20;

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
    after_help = "Examples:\n  palisade import ban-hammer /etc/firewall/ip4.ban\n  palisade import fail2ban /var/lib/fail2ban/fail2ban.sqlite3\n  palisade import sshguard /var/db/sshguard/blacklist.db\n  palisade import sshguard --allow /etc/sshguard/whitelist\n  cscli decisions list -o json | palisade import crowdsec -\n  palisade import netset --for 1d firehol_level1.netset\n  palisade import drop-json --for 2d --dry-run drop_v4.json\n\nWhat a table says goes before --for and --reason, which are for rows that do not say. A ban that stands longer keeps\nits end. Nobody on the allow list is banned by an import. docs/tables.md describes every format.\n\nExit code 0: all of it is imported (or over). 1: some rows were not understood or refused; each is named, up to 20."
)]
pub struct ImportArgs {
    /// Which
    #[arg(value_name = "FORMAT")]
    format: FormatArg,
    /// The table, or - for standard input
    #[arg(value_name = "FILE")]
    file: PathBuf,
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
    /// Say what would be done, and change nothing
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
        let mut job = Job::new(&self, global);
        match self.format.reads(self.allow) {
            Some(format) => self.read(format, &mut job)?,
            None => self.read_database(&mut job)?,
        }
        job.send()?;
        job.progress.end();
        job.notes.sort_by_key(|note| note.line);
        if global.json {
            print::json(&job.document(&self))?;
        } else {
            job.show(&self);
        }
        Ok(job.exit())
    }

    fn read(&self, format: Format, job: &mut Job<'_>) -> Result<()> {
        let (mut input, size): (Box<dyn Read>, _) = if self.file.as_os_str() == "-" {
            (Box::new(io::stdin().lock()), None)
        } else {
            let told = |error| usage(format_args!("cannot read {}: {error}", self.file.display()));
            let file = File::open(&self.file).map_err(told)?;
            let meta = file.metadata().map_err(told)?;
            if meta.is_dir() {
                return Err(usage(format_args!("{} is a folder", self.file.display())));
            }
            (Box::new(file), meta.is_file().then_some(meta.len()))
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
                Err(error) => return Err(error).with_context(|| format!("reading {}", self.file.display())),
            };
            reader.push(&buffer[..count], &mut |line, item| job.take(line, item));
            read += count as u64;
            job.send_if_full()?;
            job.progress.at(read, job.counts.rows);
        }
        reader.finish(&mut |line, item| job.take(line, item));
        Ok(())
    }

    fn read_database(&self, job: &mut Job<'_>) -> Result<()> {
        if self.file.as_os_str() == "-" {
            return Err(usage("a database is read from its file, not from standard input"));
        }
        let database = Database::open(&self.file).map_err(usage)?;
        database
            .each(&mut |row, item| {
                job.take(row, item);
                job.progress.at(0, job.counts.rows);
                job.send_if_full()
            })
            .map_err(|error: anyhow::Error| if error.is::<fail2ban::Error>() { usage(error) } else { error })
    }

    const fn term(&self) -> Option<Term> {
        if self.permanent { Some(Term::Forever) } else { self.term }
    }
}

/// What became of the rows.
#[derive(Clone, Copy, Debug, Default, Serialize)]
struct Counts {
    /// How many there were.
    rows: u64,
    new: u64,
    longer: u64,
    unchanged: u64,
    /// Put on the allow list.
    allowed: u64,
    over: u64,
    /// Understood, and no bans.
    passed: u64,
    /// Protected by the allow list, or too wide.
    refused: u64,
    bad: u64,
    failed: u64,
    displaced: u64,
}

#[derive(Serialize)]
struct Note {
    line: u64,
    what: String,
}

#[derive(Serialize)]
struct ImportDoc<'a> {
    v: u8,
    format: String,
    dry_run: bool,
    #[serde(flatten)]
    counts: Counts,
    killed: KillCount,
    error: Option<&'a str>,
    /// The first lines that were not imported.
    notes: &'a [Note],
}

/// One table on its way in.
struct Job<'a> {
    args: &'a ImportArgs,
    global: &'a Global,
    now: Stamp,
    /// For rows that have none, of bounded length.
    reason: String,
    session: Session,
    /// Who is protected, where nothing is to be done and nobody else looks.
    guess: Option<Guess>,
    /// With the lines they stand on.
    rows: Vec<(u64, Row)>,
    bytes: usize,
    /// For the allow list.
    prefixes: Vec<Prefix>,
    counts: Counts,
    killed: KillCount,
    error: Option<String>,
    notes: Vec<Note>,
    progress: Progress,
}

/// The allow list as it was told.
struct Guess {
    list: AllowList,
    members: Vec<Member>,
}

impl Guess {
    /// Asks who is protected. Without the rights for that nothing is held against it, and that is said.
    fn ask(global: &Global) -> Option<Self> {
        let members = match ask(global, Request::AllowList) {
            Ok(Reply::Allow { members }) => members,
            Ok(other) => {
                print::say(format_args!("palisade: {:#}", unexpected(&other)));
                return None;
            }
            Err(error) => {
                print::say(format_args!("palisade: the allow list cannot be looked at, so nothing is held against it: {error:#}"));
                return None;
            }
        };
        let mut list = AllowList::new();
        for member in &members {
            let _ = list.add_by_hand(member.prefix, Until::Forever, "");
        }
        Some(Self { list, members })
    }

    fn protects(&self, prefix: Prefix, now: Stamp) -> Option<String> {
        let by = self.list.bannable(prefix, now).err()?.member;
        let why = self.members.iter().find(|member| member.prefix == by.prefix).map_or("loopback", |member| &member.why);
        Some(format!("{prefix} is protected by {} ({why})", by.prefix))
    }
}

impl<'a> Job<'a> {
    fn new(args: &'a ImportArgs, global: &'a Global) -> Self {
        Self {
            args,
            global,
            now: clock::now().stamp,
            reason: excerpt(args.reason.as_bytes()),
            session: Session::default(),
            guess: if args.dry_run && !args.allow { Guess::ask(global) } else { None },
            rows: Vec::new(),
            bytes: 0,
            prefixes: Vec::new(),
            counts: Counts::default(),
            killed: KillCount::default(),
            error: None,
            notes: Vec::new(),
            progress: Progress::begin(None),
        }
    }

    fn note(&mut self, line: u64, what: String) {
        if self.notes.len() < TOLD {
            self.notes.push(Note { line, what });
        }
    }

    /// Takes what a line says.
    fn take(&mut self, line: u64, item: Item) {
        self.counts.rows += 1;
        match item {
            Item::Ban(row) => self.row(line, row),
            Item::Name(name) => self.name(line, &name),
            Item::Passed(what) => {
                self.counts.passed += 1;
                self.note(line, format!("passed over: {what}"));
            }
            Item::Bad(what) => {
                self.counts.bad += 1;
                self.note(line, what);
            }
        }
    }

    fn row(&mut self, line: u64, row: Row) {
        let widest = Widest { v4: self.args.widest_ipv4, v6: self.args.widest_ipv6 };
        if !widest.admits(&row.prefix) {
            self.counts.refused += 1;
            let (len, family) = (widest.of(row.prefix.family()), row.prefix.family());
            let option = format!("--widest-ip{}", format!("{family:?}").to_lowercase());
            return self.note(line, format!("{} is wider than /{len}; if that is meant, say {option} {}", row.prefix, row.prefix.len()));
        }
        if self.args.allow {
            return self.allow(line, row.prefix);
        }
        if row.end.is_some_and(|end| Until::from(end).over(self.now)) {
            self.counts.over += 1;
            return;
        }
        if self.args.dry_run {
            return match self.guess.as_ref().and_then(|guess| guess.protects(row.prefix, self.now)) {
                Some(why) => {
                    self.counts.refused += 1;
                    self.note(line, why);
                }
                None => self.counts.new += 1,
            };
        }
        self.bytes += row.bytes();
        self.rows.push((line, row));
    }

    fn allow(&mut self, line: u64, prefix: Prefix) {
        if prefix.len() == 0 {
            self.counts.refused += 1;
            return self.note(line, format!("{prefix} would switch every ban off"));
        }
        self.counts.allowed += 1;
        if !self.args.dry_run {
            self.prefixes.push(prefix);
        }
    }

    /// A name of a whitelist is resolved now, once, as sshguard does when it starts.
    fn name(&mut self, line: u64, name: &str) {
        if self.args.dry_run {
            self.counts.allowed += 1;
            return;
        }
        match (name, 0).to_socket_addrs() {
            Ok(addrs) => addrs.for_each(|addr| self.allow(line, Addr::from(addr.ip()).into())),
            Err(error) => {
                self.counts.bad += 1;
                self.note(line, format!("{name} does not resolve: {error}; `[allow] names` in the config is tried again and again"));
            }
        }
    }

    fn send_if_full(&mut self) -> Result<()> {
        if self.rows.len() >= ROWS_ALONE || self.prefixes.len() >= PREFIXES_A_REQUEST { self.send() } else { Ok(()) }
    }

    /// Hands over what waits.
    fn send(&mut self) -> Result<()> {
        for prefixes in std::mem::take(&mut self.prefixes).chunks(PREFIXES_A_REQUEST) {
            let comment =
                if self.args.reason.is_empty() { format!("import:{}", self.args.format.name()) } else { self.args.reason.clone() };
            let term = self.args.term().unwrap_or(Term::Forever);
            match self.session.ask(self.global, Request::AllowAdd { prefixes: prefixes.to_vec(), term, comment })? {
                Reply::Allowed { .. } => {}
                other => return Err(unexpected(&other)),
            }
        }
        let (mut rows, whole) = (std::mem::take(&mut self.rows), std::mem::take(&mut self.bytes));
        // The store and the ban table are in this order: neighbours come together.
        rows.sort_by_key(|(_, row)| row.prefix);
        while !rows.is_empty() {
            // Alone, all of them at once; a daemon is asked in requests of the size it reads.
            let count = if self.session.alone() { rows.len() } else { fitting(&rows, whole) };
            let later = rows.split_off(count);
            let (lines, now): (Vec<u64>, Vec<Row>) = rows.into_iter().unzip();
            self.hand_over(now, &lines).with_context(|| format!("{} rows are imported; the rest is not", self.done()))?;
            rows = later;
        }
        Ok(())
    }

    fn hand_over(&mut self, rows: Vec<Row>, lines: &[u64]) -> Result<()> {
        let request = Request::Import {
            rows,
            term: self.args.term(),
            reason: self.reason.clone(),
            origin: Origin::Import(self.args.format.name().into()),
            asker: asker(),
        };
        match self.session.ask(self.global, request)? {
            Reply::Imported(imported) => self.add(imported, lines),
            other => return Err(unexpected(&other)),
        }
        Ok(())
    }

    fn add(&mut self, imported: Imported, lines: &[u64]) {
        let Imported { new, longer, unchanged, over, refused, failed, error, displaced, killed } = imported;
        let counts = &mut self.counts;
        for (sum, more) in [
            (&mut counts.new, new),
            (&mut counts.longer, longer),
            (&mut counts.unchanged, unchanged),
            (&mut counts.over, over),
            (&mut counts.refused, refused.len()),
            (&mut counts.failed, failed),
            (&mut counts.displaced, displaced),
        ] {
            *sum += more as u64;
        }
        self.killed.sockets += killed.sockets;
        self.killed.states += killed.states;
        self.error = self.error.take().or(error);
        for (at, why) in refused {
            self.note(lines.get(at).copied().unwrap_or_default(), why);
        }
    }

    const fn done(&self) -> u64 {
        self.counts.new + self.counts.longer + self.counts.unchanged + self.counts.allowed
    }

    fn document(&self, args: &ImportArgs) -> ImportDoc<'_> {
        ImportDoc {
            v: 1,
            format: args.format.name(),
            dry_run: args.dry_run,
            counts: self.counts,
            killed: self.killed,
            error: self.error.as_deref(),
            notes: &self.notes,
        }
    }

    fn show(&self, args: &ImportArgs) {
        let place = if args.format == FormatArg::Fail2ban { "row " } else { "" };
        for Note { line, what } in &self.notes {
            print::say(format_args!("{}:{place}{line}: {what}", args.file.display()));
        }
        let Counts { rows, new, longer, unchanged, allowed, over, passed, refused, bad, failed, displaced } = self.counts;
        let more = (passed + refused + bad).saturating_sub(self.notes.len() as u64);
        if more > 0 {
            print::say(format_args!("and {more} more"));
        }
        if let Some(error) = &self.error {
            print::say(format_args!("not enforced: {error}"));
        }
        let verb = if args.dry_run { "would import" } else { "imported" };
        let mut text = format!("{verb} {} of {rows} rows", self.done());
        for (count, what) in [
            (new, "new"),
            (longer, "longer than before"),
            (unchanged, "banned as long already"),
            (allowed, "on the allow list"),
            (over, "over"),
            (passed, "passed over"),
            (refused, "refused"),
            (bad, "not understood"),
            (failed, "not enforced"),
            (displaced, "displaced, as the ban table is full"),
        ] {
            if count > 0 {
                text.push_str(&format!("; {count} {what}"));
            }
        }
        if self.killed != KillCount::default() {
            text.push_str(&format!("; ended {} local sockets and {} connection states", self.killed.sockets, self.killed.states));
        }
        print::say(text);
    }

    const fn exit(&self) -> Exit {
        if self.counts.failed > 0 {
            Exit::Degraded
        } else if self.counts.refused + self.counts.bad > 0 {
            Exit::No
        } else {
            Exit::Done
        }
    }
}

/// How many of the rows fit into one request.
fn fitting(rows: &[(u64, Row)], whole: usize) -> usize {
    if rows.len() <= PREFIXES_A_REQUEST && whole <= ROWS_A_REQUEST {
        return rows.len();
    }
    let mut bytes = 0;
    let fit = rows.iter().take(PREFIXES_A_REQUEST).take_while(|(_, row)| {
        bytes += row.bytes();
        bytes <= ROWS_A_REQUEST
    });
    fit.count().max(1)
}
