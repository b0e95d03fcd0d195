//! `/etc/fail2ban` becomes a config: its jails with their own filters, run as they stand there.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;

use super::accept::{accept, takes_all};
use super::jail::{self, Jail};
use super::values::{self, Action};
use super::{Line, Migration, Outcome, list, shown};
use crate::attack::excerpt;
use crate::config::host_name;
use crate::ini::{DEFAULT, Fault, Files, Ini, Value};
use crate::net::Prefix;
use crate::time::{Span, Term};

/// Options that every jail inherits and that mean something to us.
const INHERITED: &[&str] = &["bantime", "findtime", "maxretry"];

/// Options of `[DEFAULT]` that are told of wherever they stand; others only where the administrator's own files say
/// them: the shipped ones define words for later use.
const TOLD: &[&str] = &["bantime", "findtime", "maxretry", "ignoreip", "ignoreself", "ignorecommand", "banaction", "action", "usedns"];

/// Most jails that are looked at; fail2ban ships 98.
const JAILS: usize = 2000;

/// All of one reading.
pub(super) struct Job<'f> {
    pub(super) ini: Ini,
    pub(super) files: &'f dyn Files,
    /// Where the files are, without a slash at the end.
    pub(super) dir: &'f str,
    pub(super) out: Migration,
    /// Addresses that may not be banned.
    pub(super) prefixes: BTreeSet<Prefix>,
    pub(super) names: BTreeSet<String>,
    /// What our jails are called already.
    pub(super) taken: BTreeSet<String>,
    /// In which firewalls jails block there.
    pub(super) backends: BTreeSet<&'static str>,
}

/// Reads `DIR/jail.conf` and what overrides it.
///
/// # Errors
/// There are no such files, or they are no ini files.
pub fn fail2ban(files: &dyn Files, dir: &str) -> Result<Migration, Fault> {
    let dir = dir.trim_end_matches('/');
    let mut ini = Ini::load(files, &format!("{dir}/jail"))?;
    if ini.files().is_empty() {
        let what = format!("there is no jail.conf or jail.local in {dir}; name fail2ban's folder with --config");
        return Err(Fault { file: String::new(), line: 0, what });
    }
    ini.set_default("fail2ban_confpath", dir);
    ini.set_default("fail2ban_version", "1.0.2");
    let (prefixes, names, backends) = (BTreeSet::new(), BTreeSet::new(), BTreeSet::new());
    let mut job = Job { ini, files, dir, out: Migration::default(), prefixes, names, taken: BTreeSet::new(), backends };
    for note in job.ini.notes().to_vec() {
        job.out.lines.push(Line { file: note.file, line: note.line, setting: "include".to_owned(), outcome: Outcome::Left(note.what) });
    }
    let ban = job.defaults();
    let jails = job.jails();
    job.write(&ban, &jails);
    job.next();
    accept(&mut job.out);
    Ok(job.out)
}

impl Job<'_> {
    /// An option with all filled in; an error is told and counts as not set.
    pub(super) fn get(&mut self, section: &str, option: &str) -> Option<String> {
        // What only a jail has, and options that all inherit speak of.
        let alone = [("logpath", ""), ("__name__", DEFAULT)].map(|(name, text)| (name.to_owned(), text.to_owned()));
        let vars = if section == DEFAULT { BTreeMap::from(alone) } else { BTreeMap::new() };
        match self.ini.get(section, option, &vars) {
            Ok(value) => value,
            Err(fault) => {
                let setting = shown(section, option, "");
                self.out.lines.push(Line { file: fault.file, line: fault.line, setting, outcome: Outcome::Left(fault.what) });
                None
            }
        }
    }

    /// Whether a jail says this itself, and does not only inherit it.
    pub(super) fn has_own(&self, section: &str, option: &str) -> bool {
        self.ini.options(section).any(|(name, _)| name == option)
    }

    /// Tells what became of an option, where it was written.
    pub(super) fn tell(&mut self, section: &str, option: &str, outcome: Outcome) {
        let empty = Value { text: String::new(), file: "".into(), line: 0 };
        let value = self.ini.raw(section, option).cloned().unwrap_or(empty);
        let setting = shown(section, option, &value.text);
        self.out.lines.push(Line { file: value.file.to_string(), line: value.line, setting, outcome });
    }

    /// `[DEFAULT]` becomes `[ban]`: keys and values.
    fn defaults(&mut self) -> Vec<(&'static str, String)> {
        let mut ban = Vec::new();
        for option in INHERITED {
            let Some(text) = self.get(DEFAULT, option) else { continue };
            match jail::policy(option, &text) {
                Some(policy) => {
                    self.tell(DEFAULT, option, policy.outcome("[ban] "));
                    ban.push((policy.key, policy.value));
                }
                None => self.tell(DEFAULT, option, Outcome::Left(jail::not_a_value(option, &text))),
            }
        }
        self.ignored(DEFAULT);
        if let Some(escalate) = self.escalate(DEFAULT) {
            ban.push(("escalate", escalate));
        }
        let own: Vec<String> = self
            .ini
            .options(DEFAULT)
            .filter(|(_, value)| !value.file.is_empty())
            .filter(|(name, value)| !INHERITED.contains(name) && (TOLD.contains(name) || is_own(&value.file)))
            .map(|(name, _)| name.to_owned())
            .collect();
        for option in own {
            self.other(DEFAULT, &option);
        }
        ban
    }

    /// `ignoreip` of a section goes to the allow list, which holds for all jails.
    pub(super) fn ignored(&mut self, section: &str) {
        let Some(text) = self.get(section, "ignoreip").filter(|text| !text.trim().is_empty()) else { return };
        let (mut taken, mut left) = (0, Vec::new());
        for item in values::items(&text) {
            if let Some(prefix) = values::prefix(item) {
                match takes_all(&format!("[allow]\nprefixes = [\"{prefix}\"]\n")) {
                    Ok(()) => {
                        self.prefixes.insert(prefix);
                        taken += 1;
                    }
                    Err(why) => self.tell(section, "ignoreip", Outcome::Left(why)),
                }
            } else if let Some(name) = host_name(item).ok().filter(|name| name.contains('.')) {
                self.names.insert(name);
                taken += 1;
            } else if item != "localhost" {
                left.push(item.to_owned());
            }
        }
        let mut became = format!("[allow] ({taken} members)");
        if section != DEFAULT {
            became.push_str(", which hold for all jails");
        }
        self.tell(section, "ignoreip", Outcome::Became(became));
        if !left.is_empty() {
            let why = format!("{} cannot be read as addresses or names; put them into [allow] yourself", left.join(", "));
            self.tell(section, "ignoreip", Outcome::Left(why));
        }
    }

    /// `bantime.increment` and what belongs to it, as our `escalate`.
    pub(super) fn escalate(&mut self, section: &str) -> Option<String> {
        let on = self.get(section, "bantime.increment").is_some_and(|text| is_true(&text));
        if !on {
            return None;
        }
        let mut parts = Vec::new();
        let longest = self.get(section, "bantime.maxtime").and_then(|text| values::term(&text));
        if let Some(multipliers) = self.get(section, "bantime.multipliers").filter(|text| !text.trim().is_empty()) {
            let first = self.get(section, "bantime").and_then(|text| values::span(&text))?;
            let steps = multipliers.split_whitespace().filter_map(|m| m.parse::<f64>().ok());
            let steps: Vec<String> =
                steps.map(|m| first.times(m)).map(|span| longest.map_or(span.to_string(), |max| shorter(span, max))).collect();
            parts.push(format!("steps = {}", list(&steps)));
            parts.push("within = \"30d\"".to_owned());
            self.tell(section, "bantime.multipliers", Outcome::Became("escalate.steps".to_owned()));
        } else {
            let factor = self.get(section, "bantime.factor").and_then(|text| text.trim().parse::<f64>().ok()).unwrap_or(1.0);
            // Its formula is Time * 2^n * factor: the factor shifts all but the first ban, the growth is always 2.
            parts.push("factor = 2".to_owned());
            if (factor - 1.0).abs() > f64::EPSILON {
                let why = format!("there it makes each ban but the first {factor} times as long; here bans grow by escalate.factor alone");
                self.tell(section, "bantime.factor", Outcome::Left(why));
            }
            // Without one there is no end to it there.
            parts.push(format!("max = \"{}\"", longest.unwrap_or(Term::Forever)));
        }
        let value = format!("{{ {} }}", parts.join(", "));
        self.tell(section, "bantime.increment", Outcome::Became(format!("escalate = {value}")));
        Some(value)
    }

    /// An option that is not ours to take over, or is taken over without a key of its own.
    pub(super) fn other(&mut self, section: &str, option: &str) {
        let outcome = match option {
            "banaction" | "banaction_allports" | "action" => {
                let Some(text) = self.get(section, option) else { return };
                return self.action(section, option, &text);
            }
            "ignoreself" => match self.get(section, option) {
                Some(text) if is_true(&text) => Outcome::Became("[allow] auto has \"self\", as the default is".to_owned()),
                _ => Outcome::Left("this host's own addresses are never banned by a log here".to_owned()),
            },
            "ignorecommand" if self.get(section, option).is_none_or(|text| text.trim().is_empty()) => {
                Outcome::Became("no program is asked here".to_owned())
            }
            "ignorecommand" => Outcome::Left("no program is asked here; write who is never banned into [allow]".to_owned()),
            "usedns" if self.ini.raw(section, option).is_some_and(|value| !is_own(&value.file)) => {
                Outcome::Became("\"no\", always: a line that holds a name in place of an address counts nobody".to_owned())
            }
            "usedns" => {
                Outcome::Left("names in logs are never resolved here: they would let whoever owns a name choose who is banned".to_owned())
            }
            "maxmatches" | "dbmaxmatches" => {
                Outcome::Left("the evidence of each ban is kept by age and number; see `palisade why`".to_owned())
            }
            "logencoding" => Outcome::Left("lines are bytes here; what is no UTF-8 is matched all the same".to_owned()),
            "logtimezone" => return,
            "protocol" | "chain" | "blocktype" | "returntype" => {
                Outcome::Left("a ban here holds for all protocols, on input and forwarding, before any other rule".to_owned())
            }
            "destemail" | "sender" | "sendername" | "mta" => {
                Outcome::Left("no mail is sent; `palisade events --follow` is what to send from".to_owned())
            }
            "mode" | "filter" | "enabled" | "backend" | "logpath" | "port" | "journalmatch" if section == DEFAULT => {
                Outcome::Became("each jail has its own, or what this says".to_owned())
            }
            "filter" | "enabled" | "backend" | "logpath" | "port" | "journalmatch" | "ignoreip" => return,
            "mode" => match self.get(section, option).as_deref() {
                Some("normal") => Outcome::Became("normal, as the filter's default is".to_owned()),
                _ => return,
            },
            "skip_if_nologs" | "systemd_if_nologs" => {
                Outcome::Left("a jail here waits for files that are not there yet; one for the journal names it with `journal`".to_owned())
            }
            "failregex" | "ignoreregex" | "prefregex" | "maxlines" | "datepattern" if section != DEFAULT => return,
            _ if option.starts_with("bantime.") => match option {
                "bantime.increment" | "bantime.maxtime" | "bantime.multipliers" | "bantime.factor" => return,
                "bantime.rndtime" => Outcome::Left("ends of bans are not shaken here: they stand in the kernel to the second".to_owned()),
                "bantime.overalljails" => Outcome::Became("offences count over all jails, always".to_owned()),
                _ => Outcome::Left("bans grow by `escalate`: a factor, or steps".to_owned()),
            },
            _ if INHERITED.contains(&option) => return,
            _ if option.starts_with("action_") => {
                Outcome::Became("a word that `action` is made of: what it comes to is told there".to_owned())
            }
            _ => {
                Outcome::Left("it is a word for other options there, or unknown; what they say with it is taken over with them".to_owned())
            }
        };
        self.tell(section, option, outcome);
    }

    /// What an action does is done by our own wall, and what else it does is told.
    fn action(&mut self, section: &str, option: &str, text: &str) {
        let names: BTreeSet<String> = values::actions(text).into_iter().map(|call| call.name).collect();
        for name in names {
            let outcome = match values::action(&name) {
                Action::Blocks(backend, _) => {
                    if section != DEFAULT || option != "banaction_allports" {
                        self.backends.insert(backend);
                    }
                    Outcome::Became(format!("{name}: [ban] backend = \"auto\", which finds and proves the best firewall here"))
                }
                Action::BlocksElsewhere => Outcome::Left(format!(
                    "{name} blocks where Palisade does not; its [ban] backend blocks on this host, or a program: [backend.command]"
                )),
                Action::Tells => {
                    Outcome::Left(format!("{name} tells others; nothing is sent here: read `palisade events --follow` and send that"))
                }
                Action::Unknown => Outcome::Left(format!(
                    "{name} is an action nobody here knows; if it blocks, [backend.command] may run a program for it"
                )),
            };
            self.tell(section, option, outcome);
        }
    }

    fn jails(&mut self) -> Vec<Jail> {
        let sections: Vec<String> = self.ini.sections().filter(|name| *name != "INCLUDES").take(JAILS).map(str::to_owned).collect();
        let mut jails = Vec::new();
        for section in sections {
            if self.get(&section, "enabled").is_some_and(|text| is_true(&text)) {
                let jail = jail::read(self, &section);
                let (known, without) = (self.out.lines.len(), jail.is_none());
                jails.extend(jail);
                if without {
                    self.left_with_it(&section, known);
                }
            }
        }
        jails
    }

    /// All else that an administrator wrote of a jail which is not taken over.
    fn left_with_it(&mut self, section: &str, known: usize) {
        let told: BTreeSet<(String, u32)> = self.out.lines.iter().take(known).map(|line| (line.file.clone(), line.line)).collect();
        let own: Vec<String> = self
            .ini
            .options(section)
            .filter(|(_, value)| is_own(&value.file) && !told.contains(&(value.file.to_string(), value.line)))
            .map(|(name, _)| name.to_owned())
            .collect();
        for option in own {
            self.tell(section, &option, Outcome::Left("its jail is not taken over".to_owned()));
        }
    }

    fn write(&mut self, ban: &[(&'static str, String)], jails: &[Jail]) {
        let dir = excerpt(self.dir.as_bytes());
        let mut out = format!("# Made from {dir}/jail.conf and what overrides it. Read it before you use it.\n");
        // One firewall there may be meant; several, or fail2ban's default, say nothing about this host.
        let only = self.backends.iter().next().filter(|_| self.backends.len() == 1);
        out.push_str("\n[ban]\n");
        if let Some(backend) = only.filter(|backend| **backend != "iptables") {
            let _ = writeln!(out, "# fail2ban blocked with {backend}; \"auto\" takes the best one that is proven to work here.");
        }
        for (key, value) in ban {
            let _ = writeln!(out, "{key} = {value}");
        }
        if !ban.iter().any(|(key, _)| *key == "escalate") {
            out.push_str("# Each further ban of a source is twice as long, up to a week, also without fail2ban's bantime.increment;\n");
            out.push_str("# escalate = { factor = 1 } has all of them equally long.\n");
        }
        if !self.prefixes.is_empty() || !self.names.is_empty() {
            out.push_str("\n[allow]\n");
            let prefixes = self.prefixes.iter().map(ToString::to_string);
            let _ = writeln!(out, "prefixes = {}", list(prefixes));
            if !self.names.is_empty() {
                let _ = writeln!(out, "names = {}", list(&self.names));
            }
        }
        for jail in jails {
            jail.write(ban, &mut out);
        }
        self.out.config = out;
    }

    fn next(&mut self) {
        let dir = self.dir;
        self.out.next = vec![
            "see what it would have banned: `palisade replay` with your logs".to_owned(),
            "take over the bans that stand, before fail2ban stops: `palisade import fail2ban /var/lib/fail2ban/fail2ban.sqlite3`"
                .to_owned(),
            "stop fail2ban once palisade runs, so that both do not ban: `systemctl disable --now fail2ban`".to_owned(),
            format!("keep {dir}/filter.d, as the jails use their filters where they are: removing the package keeps it, purging does not"),
            "scripts that call fail2ban-client go on with a link: `ln -s /usr/bin/palisade /usr/local/bin/fail2ban-client`".to_owned(),
        ];
    }
}

/// Whether an administrator wrote the file, and not fail2ban's makers.
fn is_own(file: &str) -> bool {
    let name = file.rsplit('/').next().unwrap_or(file);
    !(name == "jail.conf" || name.starts_with("paths-") && name.ends_with(".conf"))
}

/// As Python's config reader has it (`getboolean`).
fn is_true(text: &str) -> bool {
    matches!(text.trim().to_lowercase().as_str(), "1" | "yes" | "true" | "on")
}

fn shorter(span: Span, max: Term) -> String {
    match max {
        Term::For(max) if max < span => max.to_string(),
        _ => span.to_string(),
    }
}
