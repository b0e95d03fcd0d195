//! Which jail hears which log.
//!
//! | a log | is heard by |
//! |---|---|
//! | any, with `--jail` | that jail alone |
//! | of a path that jails read | these jails |
//! | of the name that such a path gets when it is rotated or packed | these jails |
//! | of that name in another folder: a copy | these jails |
//! | of any other name | all jails that are enabled; whose signatures can tell will |
//! | a journal file | jails with journal matches, each what it would have been given |
//!
//! Names of rotated logs (logrotate(8) `dateext`, `extension`; newsyslog(8); savelog(8)):
//! `auth.log.1`, `auth.log.2.gz`, `auth.log-20261101`, `auth.log-20261101-1762000000.xz`, `access-20261101.log`,
//! `auth.log.20261101T000000`, `auth.log.old`.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Result;
use palisade_core::attack::JailName;
use palisade_core::config::{Config, Jail};
use palisade_core::judge::policy::Policy;
use palisade_core::scan::Scanner;
use palisade_os::logs::files::means;

use super::super::ask::usage;
use super::super::past::Kind;
use super::super::print;
use crate::library::{Library, Source};

/// What packed logs end in.
const PACKED: [&str; 6] = [".gz", ".xz", ".zst", ".bz2", ".lz4", ".Z"];

/// Who listens to a log.
#[derive(Clone)]
pub(super) struct Ear {
    /// Some jails of one config.
    pub(super) scanner: Arc<Scanner>,
    /// The zone of its jails.
    pub(super) zone: Option<String>,
    /// Whose jails, a bit for each config.
    pub(super) whose: u8,
    /// Which records of a journal; `None` for all.
    pub(super) wants: Option<Vec<String>>,
}

/// Some jails' scanner, and what they want of a journal.
#[derive(Clone)]
struct Heard {
    scanner: Arc<Scanner>,
    wants: Option<Vec<String>>,
}

/// Who listens to which log, by the configs.
pub(super) struct Wiring<'a> {
    configs: Vec<&'a (Config, Library)>,
    chosen: Option<JailName>,
    /// What was built, for logs that the same jails hear: of which config, by which jails, whether of a journal.
    built: Vec<(usize, Vec<Jail>, bool, Option<Heard>)>,
    left_out: Vec<LeftOut>,
}

/// A jail that hears nothing, as its filter cannot be used.
pub(super) struct LeftOut {
    /// Of which config.
    pub(super) config: usize,
    pub(super) jail: JailName,
    pub(super) why: String,
}

/// Who listens to one log.
pub(super) struct Listeners {
    /// In no order.
    pub(super) ears: Vec<Ear>,
    /// The jails, where none reads a log of this name, and all are tried.
    pub(super) guessed: Option<String>,
}

impl<'a> Wiring<'a> {
    /// By these configs, or by the chosen jail of each.
    pub(super) fn new(configs: Vec<&'a (Config, Library)>, chosen: Option<&str>) -> Result<Self> {
        let chosen: Option<JailName> = chosen.map(JailName::from);
        for (config, _) in &configs {
            if let Some(name) = &chosen
                && config.jail(name).is_none()
            {
                let names: Vec<&str> = config.jails().keys().map(|name| name.0.as_ref()).collect();
                return Err(usage(format_args!("there is no jail `{name}`; there are {}", names.join(", "))));
            }
        }
        Ok(Self { configs, chosen, built: Vec::new(), left_out: Vec::new() })
    }

    /// The jails that some log should have gone to, and that hear nothing.
    pub(super) fn left_out(self) -> Vec<LeftOut> {
        self.left_out
    }

    /// Who listens to this log.
    pub(super) fn listeners(&mut self, path: &Path, kind: Kind) -> Result<Listeners> {
        let mut listeners = Listeners { ears: Vec::new(), guessed: None };
        let mut before: Vec<(Vec<Jail>, usize)> = Vec::new();
        for (at, (config, library)) in self.configs.clone().into_iter().enumerate() {
            let whose = 1 << at;
            let journal = kind == Kind::Journal;
            let parts = if journal { self.of_journal(config) } else { by_zone(self.of_lines(config, path, &mut listeners)) };
            if parts.iter().all(Vec::is_empty) {
                let what = if journal { "reads the journal" } else { "is enabled" };
                return Err(usage(format_args!("{}: no jail {what} in this config; --jail NAME chooses one", path.display())));
            }
            for jails in parts {
                // Signatures of one's own may differ under the same name.
                let shipped = jails.iter().flat_map(|jail| &jail.signatures).all(|name| !library.is_own(name));
                let looks: Vec<Jail> = if shipped { jails.iter().map(|jail| look(jail)).collect() } else { Vec::new() };
                if let Some((_, ear)) = before.iter().find(|(known, _)| shipped && *known == looks) {
                    listeners.ears.get_mut(*ear).into_iter().for_each(|ear| ear.whose |= whose);
                    continue;
                }
                let zone = jails.first().and_then(|jail| jail.timezone.clone());
                let Some(Heard { scanner, wants }) = self.heard(at, library, &jails, journal)? else { continue };
                before.push((looks, listeners.ears.len()));
                listeners.ears.push(Ear { scanner, zone, whose, wants });
            }
        }
        Ok(listeners)
    }

    /// Each for itself, as each has matches of its own.
    fn of_journal(&self, config: &'a Config) -> Vec<Vec<&'a Jail>> {
        match &self.chosen {
            Some(name) => vec![config.jail(name).into_iter().collect()],
            None => enabled(config).filter(|jail| !jail.journal.is_empty() || jail.fail2ban.is_some()).map(|jail| vec![jail]).collect(),
        }
    }

    fn of_lines(&self, config: &'a Config, path: &Path, listeners: &mut Listeners) -> Vec<&'a Jail> {
        if let Some(name) = &self.chosen {
            return config.jail(name).into_iter().collect();
        }
        let claimed = claimed(config, path);
        if !claimed.is_empty() {
            return claimed;
        }
        let all: Vec<&Jail> = enabled(config).collect();
        let names: Vec<&str> = all.iter().map(|jail| jail.name.0.as_ref()).collect();
        listeners.guessed.get_or_insert_with(|| names.join(", "));
        all
    }

    /// The scanner of some jails. One whose filter cannot be used is told once, and not heard, as in the daemon.
    fn heard(&mut self, config: usize, library: &Library, jails: &[&Jail], journal: bool) -> Result<Option<Heard>> {
        let key: Vec<Jail> = jails.iter().map(|jail| (*jail).clone()).collect();
        if let Some((.., heard)) = self.built.iter().find(|(at, known, kind, _)| *at == config && *known == key && *kind == journal) {
            return Ok(heard.clone());
        }
        let (mut scans, mut wants) = (Vec::new(), Vec::new());
        for jail in jails {
            let heard = if journal {
                library.listening(jail, true).map(|listening| {
                    wants.extend(if let Source::Journal(matches) = listening.source { matches } else { Vec::new() });
                    vec![listening.scan]
                })
            } else {
                library.scanner([*jail]).map(|scanner| scanner.jails().to_vec())
            };
            match heard {
                Ok(more) => scans.extend(more),
                Err(fault) if self.chosen.is_some() => return Err(usage(format_args!("jail `{}`: {fault}", jail.name))),
                Err(fault) => self.leave_out(config, jail, fault.to_string()),
            }
        }
        let wants = Some(wants).filter(|wants| !wants.is_empty());
        let heard = (!scans.is_empty()).then(|| Heard { scanner: Arc::new(Scanner::new(&scans)), wants });
        self.built.push((config, key, journal, heard.clone()));
        Ok(heard)
    }

    fn leave_out(&mut self, config: usize, jail: &Jail, why: String) {
        if !self.left_out.iter().any(|out| out.config == config && out.jail == jail.name && out.why == why) {
            print::say(format_args!("palisade: jail `{}` is left out: {why}", jail.name));
            self.left_out.push(LeftOut { config, jail: jail.name.clone(), why });
        }
    }
}

/// Jails of the same zone together.
fn by_zone(jails: Vec<&Jail>) -> Vec<Vec<&Jail>> {
    let mut zones: BTreeMap<Option<&str>, Vec<&Jail>> = BTreeMap::new();
    for jail in jails {
        zones.entry(jail.timezone.as_deref()).or_default().push(jail);
    }
    zones.into_values().collect()
}

fn enabled(config: &Config) -> impl Iterator<Item = &Jail> {
    config.jails().values().filter(|jail| jail.enabled)
}

/// All of a jail that decides what it hears and finds, without what it makes of that.
fn look(jail: &Jail) -> Jail {
    Jail { policy: Policy::default(), enabled: true, files: Vec::new(), ..jail.clone() }
}

/// The jails that read a log of this path, or of one that it may have had.
fn claimed<'a>(config: &'a Config, path: &Path) -> Vec<&'a Jail> {
    let paths = former(&absolute(path));
    let by_path = paths.iter().map(|path| jails_that(config, |pattern| means(pattern, path)));
    let by_name = paths.iter().map(|path| jails_that(config, |pattern| Path::new(pattern).file_name() == path.file_name()));
    by_path.chain(by_name).find(|jails| !jails.is_empty()).unwrap_or_default()
}

fn jails_that(config: &Config, reads: impl Fn(&str) -> bool) -> Vec<&Jail> {
    enabled(config).filter(|jail| jail.files.iter().any(|pattern| reads(pattern))).collect()
}

/// The path with its folder as it really is; the file itself may be a link, and then its name counts.
fn absolute(path: &Path) -> PathBuf {
    let plain = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    let folder = plain.parent().and_then(|folder| folder.canonicalize().ok());
    match (folder, plain.file_name()) {
        (Some(folder), Some(name)) => folder.join(name),
        _ => plain,
    }
}

/// A path and those that the log may have had before it was packed and rotated, the likeliest first.
fn former(path: &Path) -> Vec<PathBuf> {
    let Some(name) = path.file_name().and_then(|name| name.to_str()) else { return vec![path.to_owned()] };
    let unpacked = PACKED.iter().find_map(|end| name.strip_suffix(end)).unwrap_or(name);
    let mut names = vec![name.to_owned(), unpacked.to_owned()];
    names.extend(unrotated(unpacked).map(str::to_owned));
    if let Some((stem, ext)) = unpacked.rsplit_once('.') {
        names.extend(unrotated(stem).map(|stem| format!("{stem}.{ext}")));
    }
    names.retain(|name| !name.is_empty());
    names.dedup();
    names.into_iter().map(|name| path.with_file_name(name)).collect()
}

/// What stands before a number or a date, the longest first.
fn unrotated(name: &str) -> impl Iterator<Item = &str> {
    let date = |rest: &str| {
        let ends = |byte: Option<&u8>| byte.is_some_and(u8::is_ascii_digit);
        let bytes = rest.as_bytes();
        ends(bytes.first()) && ends(bytes.last()) && bytes.iter().all(|byte| byte.is_ascii_digit() || b"-_.T:".contains(byte))
    };
    let places = name.char_indices().rev().filter(|(_, c)| matches!(c, '.' | '-' | '_'));
    places.filter(move |(at, _)| name.get(at + 1..).is_some_and(|rest| rest == "old" || date(rest))).filter_map(|(at, _)| name.get(..at))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(text: &str) -> Config {
        Config::read(&[("test.toml".to_owned(), text.to_owned())], &["sshd", "dropbear", "access-auth", "access-probes", "access-cms"])
            .unwrap()
    }

    fn with(text: &str) -> (Config, Library) {
        (config(text), Library::default())
    }

    fn names(config: &Config, path: &str) -> Vec<String> {
        claimed(config, Path::new(path)).into_iter().map(|jail| jail.name.to_string()).collect()
    }

    #[test]
    fn rotated_and_packed_logs_are_those_they_were() {
        let config = config("[jail.mine]\nsignatures = [\"sshd\"]\nfiles = [\"/var/log/mine/access.log\", \"/srv/*/auth*.log\"]\n");
        for name in [
            "access.log",
            "access.log.1",
            "access.log.12.gz",
            "access.log.gz",
            "access.log-20261101",
            "access.log-20261101.xz",
            "access.log-2026110113-1762000000.zst",
            "access-20261101.log",
            "access-2026-11-01.log.gz",
            "access.log.20261101T000000.bz2",
            "access.log.old",
            "access.log.2026-11-01",
        ] {
            assert_eq!(names(&config, &format!("/var/log/mine/{name}")), ["mine"], "{name}");
        }
        assert_eq!(names(&config, "/srv/web/auth-9.log.3.gz"), ["mine"]);
        for name in ["access.logs", "access.log.tar", "xaccess.log", "access.log.1a", "access.log-", "other.log"] {
            assert_eq!(names(&config, &format!("/var/log/mine/{name}")), [""; 0], "{name}");
        }
    }

    #[test]
    fn a_copy_elsewhere_is_known_by_its_name() {
        let config = config("");
        assert_eq!(names(&config, "/nosuch/place/auth.log.2.gz"), ["dropbear", "sshd"]);
        assert_eq!(names(&config, "/nosuch/place/access.log"), [""; 0], "the built-in web jails name no file, but patterns");
        assert_eq!(names(&config, "/var/log/nginx/shop-access.log.14.gz"), ["web-auth", "web-cms", "web-probes"]);
    }

    #[test]
    fn one_scanner_serves_both_configs_where_they_listen_alike() {
        let (mine, harder) = (with(""), with("[jail.sshd]\nmax_retry = 1\nports = [22]\n"));
        let other = with("[jail.sshd]\nsignatures = [\"sshd\", \"dropbear\"]\n");
        let path = Path::new("/var/log/auth.log");
        let whose = |configs: Vec<&(Config, Library)>, kind| {
            let listeners = Wiring::new(configs, None).unwrap().listeners(path, kind).unwrap();
            assert_eq!(listeners.guessed, None);
            listeners.ears.iter().map(|ear| ear.whose).collect::<Vec<_>>()
        };
        assert_eq!(whose(vec![&mine], Kind::Plain), [1]);
        assert_eq!(whose(vec![&mine, &harder], Kind::Gzip), [3]);
        assert_eq!(whose(vec![&mine, &other], Kind::Plain), [1, 2]);
        assert_eq!(whose(vec![&mine, &other], Kind::Journal), [3, 1, 2], "dropbear is the same in both");
    }

    #[test]
    fn unknown_names_are_heard_by_all_and_jails_can_be_chosen() {
        let mine = with("");
        let path = Path::new("/nosuch/x");
        let all = Wiring::new(vec![&mine], None).unwrap().listeners(path, Kind::Plain).unwrap();
        assert_eq!(all.guessed.as_deref(), Some("dropbear, sshd, web-auth, web-cms, web-probes"));
        let one = Wiring::new(vec![&mine], Some("sshd")).unwrap().listeners(path, Kind::Plain).unwrap();
        assert!(one.guessed.is_none() && one.ears[0].scanner.jails().len() == 1);
        assert!(Wiring::new(vec![&mine], Some("nosuch")).is_err());
        let web = Wiring::new(vec![&mine], Some("web-auth")).unwrap().listeners(path, Kind::Journal).unwrap();
        assert_eq!(web.ears[0].wants, None, "a chosen jail without matches hears all of a journal");
    }
}
