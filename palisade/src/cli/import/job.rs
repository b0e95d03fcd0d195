//! One table on its way in: rows gathered, handed over in batches, and what became of them.

use std::net::ToSocketAddrs;

use std::path::Path;

use anyhow::{Context, Result};
use palisade_core::allow::AllowList;
use palisade_core::attack::excerpt;
use palisade_core::bans::ban::Origin;
use palisade_core::control::{Imported, KillCount, Member, PREFIXES_A_REQUEST, ROWS_A_REQUEST, Reply, Request};
use palisade_core::net::{Addr, Prefix};
use palisade_core::tables::{Item, Row, Widest};
use palisade_core::time::{Stamp, Term, Until};
use palisade_os::clock;
use serde::Serialize;

use super::{FormatArg, ImportArgs};
use crate::cli::ask::{Session, ask, asker, unexpected};
use crate::cli::print;
use crate::cli::progress::Progress;
use crate::cli::{Exit, Global};

/// How many rows wait before they are handed over: without a daemon at once, as one transaction of the
/// store and two of the kernel. Of a table in no order each batch touches nearly every page of a large
/// store, so few large batches cost less than many small ones; these take some 50 MB.
const ROWS_ALONE: usize = 131_072;

/// How many lines that were not imported are told one by one.
const TOLD: usize = 20;

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
pub(super) struct Job<'a> {
    args: &'a ImportArgs,
    global: &'a Global,
    pub(super) now: Stamp,
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
    pub(super) progress: Progress,
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
    pub(super) fn new(args: &'a ImportArgs, global: &'a Global) -> Self {
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

    /// How many rows there were so far.
    pub(super) const fn seen(&self) -> u64 {
        self.counts.rows
    }

    /// Has the notes in the order of their lines: refusals are told later than what is not understood.
    pub(super) fn sort(&mut self) {
        self.notes.sort_by_key(|note| note.line);
    }

    /// Takes what a line says.
    pub(super) fn take(&mut self, line: u64, item: Item) {
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

    pub(super) fn send_if_full(&mut self) -> Result<()> {
        if self.rows.len() >= ROWS_ALONE || self.prefixes.len() >= PREFIXES_A_REQUEST { self.send() } else { Ok(()) }
    }

    /// Hands over what waits.
    pub(super) fn send(&mut self) -> Result<()> {
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

    pub(super) fn document(&self, args: &ImportArgs) -> impl Serialize {
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

    pub(super) fn show(&self, args: &ImportArgs) {
        let place = if args.format == FormatArg::Fail2ban { "row " } else { "" };
        for Note { line, what } in &self.notes {
            print::say(format_args!("{}:{place}{line}: {what}", args.file.as_deref().unwrap_or(Path::new("-")).display()));
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

    pub(super) const fn exit(&self) -> Exit {
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
