//! `palisade fail2ban-client`: the commands of fail2ban's own client that scripts use, in its words.
//!
//! | command | answer |
//! |---|---|
//! | `ping` | `Server replied: pong` |
//! | `status`, `status JAIL [basic\|short]` | the tree fail2ban prints |
//! | `banned`, `banned IP...` | `[{'sshd': ['192.0.2.7']}]`, `[['sshd'], []]` |
//! | `set JAIL banip IP...`, `set JAIL unbanip [--report-absent] IP...` | how many changed |
//! | `unban IP...`, `unban --all` | how many changed |
//! | `get JAIL banip [SEP\|--with-time]`, `get JAIL banned [IP...]` | addresses |
//! | `get JAIL bantime\|findtime\|maxretry\|logpath\|journalmatch\|ignoreip` | the config's |
//! | `set JAIL attempt IP [FAILURE...]` | `1`: the address failed once, or once for each text |
//! | `reload [...]`, `-t`, `version` | `OK`, `OK: configuration test is successful`, our version |
//!
//! The shapes are those of fail2ban 1.0.2, `client/beautifier.py`. What is not among these is refused in
//! fail2ban's words on standard output, where scripts look for them; what to do instead is on standard
//! error. All that is not done ends with exit code 255, also where no daemon runs: who asks whether
//! fail2ban is up asks for its status.

mod answers;

use std::collections::BTreeMap;

use anyhow::Result;
use clap::{Args, CommandFactory};
use palisade_core::attack::{FULL_FAILURE, JailName};
use palisade_core::bans::ban::{Ban, Origin};
use palisade_core::config::{Config, Jail};
use palisade_core::control::report::{ReportOutcome, Reported, ReportedAs};
use palisade_core::control::{BanOutcome, Reply, Request, Status, Whom};
use palisade_core::net::{Addr, Prefix};
use palisade_os::clock;

use super::ask::{ask, asker, nobody_listens, served, unexpected, unreachable};
use super::{Exit, Global, print, reload};
use crate::serve::client::Client;

/// The commands of fail2ban's client, for scripts that use them.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  palisade fail2ban-client status sshd\n  palisade fail2ban-client set sshd banip 203.0.113.7\n  ln -s /usr/bin/palisade /usr/local/bin/fail2ban-client    scripts go on as they are\n\nCommands: ping, status [JAIL], banned [IP...], set JAIL banip|unbanip IP..., unban IP...|--all,\nset JAIL attempt IP, get JAIL banip|banned|bantime|findtime|maxretry|logpath|journalmatch|ignoreip, reload [JAIL], -t, version.\n\nExit code 255: it is not done, as there; so ends everything but -t and version where no daemon runs."
)]
pub struct Fail2banClient {
    /// A command of fail2ban-client; its options -c, -s, -p and so on are taken and ignored
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, value_name = "COMMAND")]
    words: Vec<String>,
}

/// fail2ban's client ends so where the server says no.
const NO: u8 = 255;

/// What is not done: in fail2ban's words, and then in ours. Either may be empty.
struct No {
    theirs: String,
    ours: String,
}

type Answer = Result<Result<String, No>>;

impl Fail2banClient {
    /// Does it.
    pub fn run(self, global: &Global) -> Result<Exit> {
        let words = commands(&self.words);
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        if matches!(words.as_slice(), ["-h" | "--help" | "help"]) {
            print::line(help())?;
            return Ok(Exit::Done);
        }
        match (Shim { global }).answer(&words) {
            Ok(Ok(text)) => {
                print::line(text)?;
                return Ok(Exit::Done);
            }
            Ok(Err(No { theirs, ours })) => {
                if !theirs.is_empty() {
                    print::line(theirs)?;
                }
                if !ours.is_empty() {
                    print::say(ours);
                }
            }
            Err(error) => {
                print::failure(&error);
            }
        }
        // Nothing of ours ends so, hence no `Exit`.
        std::process::exit(NO.into());
    }
}

/// What `palisade fail2ban-client --help` says: through a link of that name nobody else is asked.
fn help() -> clap::builder::StyledStr {
    let mut all = super::Cli::command();
    all.build();
    let mut own = all.find_subcommand("fail2ban-client").expect("it is in the table of verbs").clone();
    own.render_help()
}

/// The words without the options of fail2ban-client that say where its own files are.
fn commands(words: &[String]) -> Vec<String> {
    let mut rest = words.iter();
    let mut found = Vec::new();
    while let Some(word) = rest.next() {
        match word.as_str() {
            "-c" | "-s" | "-p" | "--pname" | "--loglevel" | "--logtarget" | "--syslogsocket" | "--conf" | "--socket" | "--pidfile" => {
                rest.next();
            }
            "-V" => found.push("version".to_owned()),
            "--test" => found.push("-t".to_owned()),
            "-v" | "-vv" | "-vvv" | "-vvvv" | "-q" | "-x" | "-b" | "-f" | "-i" if found.is_empty() => {}
            _ => found.push(word.clone()),
        }
    }
    found
}

struct Shim<'g> {
    global: &'g Global,
}

impl Shim<'_> {
    fn answer(&self, words: &[&str]) -> Answer {
        match words {
            ["version"] => Ok(Ok(env!("CARGO_PKG_VERSION").to_owned())),
            // For people, as there; scripts ask with -V.
            ["--version"] => Ok(Ok(format!("Palisade v{}", env!("CARGO_PKG_VERSION")))),
            ["-t"] => self.test(),
            ["start" | "stop", ..] => Ok(Err(not_known(words))),
            _ if !self.is_up()? => Ok(Err(self.down())),
            ["ping"] => {
                // Whoever only listens is not alive yet.
                let served = served(&self.global.places(), &Request::Status)?.is_some();
                Ok(if served { Ok("Server replied: pong".to_owned()) } else { Err(self.down()) })
            }
            ["status"] => self.jails(),
            ["status", jail, "short"] => self.with(jail, |jail, config| self.status(jail, config, false)),
            // There, too, a flavour that is not known is the basic one.
            ["status", jail] | ["status", jail, _] => self.with(jail, |jail, config| self.status(jail, config, true)),
            ["banned"] => self.banned_by_jail(),
            ["banned", ips @ ..] => self.banned_where(ips),
            ["set", jail, "banip", ips @ ..] => self.with(jail, |jail, _| self.ban(jail, ips)),
            ["set", jail, "unbanip", "--report-absent", ips @ ..] => self.with(jail, |jail, _| self.unban(Some(&jail.name), ips, true)),
            ["set", jail, "unbanip", ips @ ..] => self.with(jail, |jail, _| self.unban(Some(&jail.name), ips, false)),
            ["set", jail, "attempt", ip, failures @ ..] => self.with(jail, |jail, _| self.attempt(jail, ip, failures)),
            ["unban"] => Ok(Err(not_known(words))),
            ["unban", "--all"] => self.unban_all(),
            ["unban", ips @ ..] => self.unban(None, ips, false),
            ["get", jail, "banned", ips @ ..] => self.with(jail, |jail, _| self.get_banned(jail, ips)),
            ["get", jail, "banip", how @ ..] => self.with(jail, |jail, _| self.get_banip(jail, how)),
            ["get", jail, what] => self.with(jail, |jail, config| Ok(answers::setting(jail, config, what).ok_or_else(|| not_known(words)))),
            ["reload" | "restart", what @ ..] => self.reload(what),
            _ => Ok(Err(not_known(words))),
        }
    }

    /// Whether the daemon listens.
    fn is_up(&self) -> Result<bool> {
        let socket = self.global.places().socket();
        match Client::connect(&socket) {
            Ok(_) => Ok(true),
            Err(error) if nobody_listens(&error) => Ok(false),
            Err(error) => Err(unreachable(&socket, &error)),
        }
    }

    fn down(&self) -> No {
        ours(format!("Failed to access socket path: {}: is palisade running?", self.global.places().socket().display()))
    }

    /// Says what `palisade config check` says: filters that cannot be used keep their jails from running.
    fn test(&self) -> Answer {
        let (config, library) = self.global.places().config_and_library()?;
        let faults = library.faults(&config);
        if faults.is_empty() {
            return Ok(Ok("OK: configuration test is successful".to_owned()));
        }
        faults.iter().for_each(|(jail, fault)| print::say(format_args!("{fault} (jail `{jail}`)")));
        Ok(Err(ours("ERROR: test configuration failed")))
    }

    /// All jails are read anew, whichever is named; but it must be there.
    fn reload(&self, what: &[&str]) -> Answer {
        let is_option = |word: &&str| matches!(*word, "--restart" | "--unban" | "--if-exists" | "--all");
        let jails: Vec<&str> = what.iter().copied().filter(|word| !is_option(word)).collect();
        match jails.as_slice() {
            [] => {}
            [name] if self.config()?.jail(&(*name).into()).is_some() => {}
            [name] => return Ok(Err(ours(format!("Failed during configuration: No section: '{name}'")))),
            several => {
                let names: Vec<String> = several.iter().map(|name| (*name).to_owned()).collect();
                return Ok(Err(ours(format!("Unexpected argument(s) for reload: {}", answers::list(&names)))));
            }
        }
        reload::reload(self.global).map(|()| Ok("OK".to_owned()))
    }

    fn config(&self) -> Result<Config> {
        self.global.places().config()
    }

    /// Answers for a jail that exists.
    fn with(&self, name: &str, answer: impl FnOnce(&Jail, &Config) -> Answer) -> Answer {
        let config = self.config()?;
        match config.jail(&name.into()).filter(|jail| jail.enabled) {
            Some(jail) => answer(jail, &config),
            None => Ok(no(format!("Sorry but the jail '{name}' does not exist"))),
        }
    }

    fn bans(&self) -> Result<Vec<Ban>> {
        let now = clock::now().stamp;
        match ask(self.global, Request::List)? {
            Reply::List { bans } => Ok(bans.into_iter().filter(|ban| !ban.until.over(now)).collect()),
            other => Err(unexpected(&other)),
        }
    }

    fn bans_of(&self, jail: &JailName) -> Result<Vec<Ban>> {
        let of = |ban: &Ban| matches!(&ban.origin, Origin::Jail(name) if name == jail);
        Ok(self.bans()?.into_iter().filter(of).collect())
    }

    fn jails(&self) -> Answer {
        let config = self.config()?;
        let names: Vec<&str> = config.jails().values().filter(|jail| jail.enabled).map(|jail| jail.name.0.as_ref()).collect();
        Ok(Ok(answers::jails(&names)))
    }

    fn status(&self, jail: &Jail, _config: &Config, long: bool) -> Answer {
        let status: Box<Status> = match ask(self.global, Request::Status)? {
            Reply::Status(status) => status,
            other => return Err(unexpected(&other)),
        };
        let tally = status.tallies.get(&jail.name).cloned().unwrap_or_default();
        Ok(Ok(answers::status(jail, &tally, &self.bans_of(&jail.name)?, long)))
    }

    fn banned_by_jail(&self) -> Answer {
        let config = self.config()?;
        let names = config.jails().values().filter(|jail| jail.enabled).map(|jail| jail.name.clone());
        let mut by_jail: BTreeMap<JailName, Vec<Prefix>> = names.map(|name| (name, Vec::new())).collect();
        for ban in self.bans()? {
            if let Origin::Jail(name) = ban.origin {
                by_jail.entry(name).or_default().push(ban.key.prefix);
            }
        }
        Ok(Ok(answers::by_jail(&by_jail)))
    }

    fn banned_where(&self, ips: &[&str]) -> Answer {
        let bans = self.bans()?;
        let mut found = Vec::new();
        for ip in ips {
            let Some(addr) = address(ip) else { return Ok(no(format!("'{ip}' is no address"))) };
            let jails = bans.iter().filter(|ban| ban.key.prefix.contains(addr)).filter_map(|ban| match &ban.origin {
                Origin::Jail(name) => Some(name.clone()),
                _ => None,
            });
            found.push(jails.collect());
        }
        Ok(Ok(answers::jails_of(&found)))
    }

    fn ban(&self, jail: &Jail, ips: &[&str]) -> Answer {
        let mut prefixes = Vec::new();
        for ip in ips {
            match ip.parse::<Prefix>() {
                // What a jail bans is as wide as its policy says, whoever asks.
                Ok(prefix) => prefixes.push(address(ip).map_or(prefix, |addr| jail.policy.unit(addr))),
                Err(error) => return Ok(no(error.to_string())),
            }
        }
        if prefixes.is_empty() {
            return Ok(no("set JAIL banip needs an address"));
        }
        let before = self.bans()?;
        let request = Request::Ban {
            prefixes,
            term: Some(jail.policy.ban_time),
            reason: "fail2ban-client banip".to_owned(),
            force: false,
            origin: Origin::Jail(jail.name.clone()),
            asker: asker(),
        };
        let results = match ask(self.global, request)? {
            Reply::Bans { results, .. } => results,
            other => return Err(unexpected(&other)),
        };
        let (mut banned, mut new, mut not) = (false, 0, Vec::new());
        for result in results {
            match result.what {
                BanOutcome::Banned { .. } => {
                    banned = true;
                    new += usize::from(!before.iter().any(|ban| ban.key.prefix == result.prefix));
                }
                BanOutcome::Refused { protected_by: why } | BanOutcome::Failed { error: why } => {
                    not.push(format!("{} is not banned: {why}", answers::shown(result.prefix)));
                }
            }
        }
        if not.is_empty() {
            return Ok(Ok(new.to_string()));
        }
        // What was done of it is told all the same, before what was not.
        not.splice(..0, banned.then(|| new.to_string()));
        Ok(no(not.join("\n")))
    }

    /// Failures that a program tells of: one, or as many as it has words for.
    fn attempt(&self, jail: &Jail, ip: &str, failures: &[&str]) -> Answer {
        let Some(addr) = address(ip) else { return Ok(no(format!("'{ip}' is no address"))) };
        let times = u16::try_from(failures.len().max(1)).unwrap_or(u16::MAX);
        let reason = if failures.is_empty() { "fail2ban-client attempt".to_owned() } else { failures.join("; ") };
        let what = ReportedAs::Failure(FULL_FAILURE.saturating_mul(times));
        let report = Reported { addrs: vec![addr], jail: jail.name.clone(), what, user: None, reason };
        let results = match ask(self.global, Request::Report(report))? {
            Reply::Reported { results } => results,
            other => return Err(unexpected(&other)),
        };
        let refused = results.iter().find_map(|result| match &result.what {
            ReportOutcome::Refused { protected_by } => Some(no(format!("{ip} is not counted: protected by {protected_by}"))),
            _ => None,
        });
        Ok(refused.unwrap_or_else(|| Ok("1".to_owned())))
    }

    /// Unbans what of a jail, or of any, shuts out one of the addresses.
    fn unban(&self, jail: Option<&JailName>, ips: &[&str], report_absent: bool) -> Answer {
        let bans = match jail {
            Some(jail) => self.bans_of(jail)?,
            None => self.bans()?,
        };
        let (mut prefixes, mut absent) = (Vec::new(), Vec::new());
        for ip in ips {
            let Ok(prefix) = ip.parse::<Prefix>() else { return Ok(no(format!("'{ip}' is no address"))) };
            let standing =
                bans.iter().map(|ban| ban.key.prefix).filter(|banned| banned.covers(&prefix) && address(ip).is_some() || *banned == prefix);
            let found: Vec<Prefix> = standing.collect();
            if found.is_empty() {
                absent.push((*ip).to_owned());
            }
            prefixes.extend(found);
        }
        if report_absent && !absent.is_empty() {
            return Ok(no(format!("not banned: {}", answers::list(&absent))));
        }
        if prefixes.is_empty() {
            return Ok(Ok("0".to_owned()));
        }
        self.unban_whom(Whom::Prefixes(prefixes))
    }

    fn unban_all(&self) -> Answer {
        // As there: what the jails banned. What was banned by hand or by a list stays.
        let prefixes: Vec<Prefix> =
            self.bans()?.into_iter().filter(|ban| matches!(ban.origin, Origin::Jail(_))).map(|ban| ban.key.prefix).collect();
        if prefixes.is_empty() { Ok(Ok("0".to_owned())) } else { self.unban_whom(Whom::Prefixes(prefixes)) }
    }

    fn unban_whom(&self, whom: Whom) -> Answer {
        match ask(self.global, Request::Unban { whom })? {
            Reply::Unbans { removed, .. } => Ok(Ok(removed.len().to_string())),
            other => Err(unexpected(&other)),
        }
    }

    fn get_banned(&self, jail: &Jail, ips: &[&str]) -> Answer {
        let bans = self.bans_of(&jail.name)?;
        if ips.is_empty() {
            let shown: Vec<String> = bans.iter().map(|ban| answers::shown(ban.key.prefix)).collect();
            return Ok(Ok(answers::list(&shown)));
        }
        let stands = |ip: &&str| address(ip).is_some_and(|addr| bans.iter().any(|ban| ban.key.prefix.contains(addr)));
        let flags: Vec<&str> = ips.iter().map(|ip| if stands(ip) { "1" } else { "0" }).collect();
        // One is answered alone, several as a list.
        Ok(Ok(if let [flag] = flags.as_slice() { (*flag).to_owned() } else { format!("[{}]", flags.join(", ")) }))
    }

    fn get_banip(&self, jail: &Jail, how: &[&str]) -> Answer {
        let mut bans = self.bans_of(&jail.name)?;
        // Ordered by end of ban, as there.
        bans.sort_by_key(|ban| ban.until);
        Ok(match how {
            ["--with-time"] => Ok(answers::with_time(&bans, &crate::zone::system())),
            [] => Ok(answers::joined(&bans, " ")),
            [separator] => Ok(answers::joined(&bans, separator)),
            _ => no("get JAIL banip takes a separator or --with-time"),
        })
    }
}

fn address(text: &str) -> Option<Addr> {
    text.parse().ok()
}

fn no(theirs: impl Into<String>) -> Result<String, No> {
    Err(No { theirs: theirs.into(), ours: String::new() })
}

/// What there goes to its log, on standard error.
fn ours(ours: impl Into<String>) -> No {
    No { theirs: String::new(), ours: ours.into() }
}

fn not_known(words: &[&str]) -> No {
    let theirs = match words {
        ["get", ..] => "Invalid command (no get action or not yet implemented)",
        _ => "Invalid command",
    };
    let ours = match words {
        ["set", _, "addignoreip" | "delignoreip", ..] => {
            "`palisade allow add` and `palisade allow del` protect addresses, of all jails at once"
        }
        ["set", ..] | ["add", ..] => "what a jail does is written in the config: change it and `palisade reload`",
        ["start" | "stop", ..] => "the service manager starts and stops the daemon: `systemctl start palisade`",
        ["status", "--all"] => "`palisade status` shows all of it",
        _ => "`palisade fail2ban-client --help` lists what is understood",
    };
    No { theirs: theirs.to_owned(), ours: ours.to_owned() }
}
