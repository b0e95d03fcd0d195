//! `[backend]` and `[backend.NAME]`: what the firewalls are told beyond the bans. Section types,
//! keys, reader and writer in one place, as a key of a backend concerns nothing else.

use toml::de::DeTable;

use super::error::Problem;
use super::nearest::shown;
use super::raw::Raw;
use super::show::{line, list, quoted};
use super::values::{Bounds, Reading, Value};
use super::words::{Wrong, file};
use crate::bans::backend::Backend;

/// Keys of `[backend]` itself.
pub(super) const BACKEND_KEYS: &[&str] = &["path"];
/// Keys of `[backend.ipset]`.
pub(super) const IPSET_KEYS: &[&str] = &["variant", "name"];
/// Keys of `[backend.iptables]`.
pub(super) const IPTABLES_KEYS: &[&str] = &["variant", "ipv4_chain", "ipv6_chain"];
/// Keys of `[backend.pf]`.
pub(super) const PF_KEYS: &[&str] = &["anchor", "table"];
/// Keys of `[backend.ipfw]`.
pub(super) const IPFW_KEYS: &[&str] = &["table", "rule"];
/// Keys of `[backend.hosts]`.
pub(super) const HOSTS_KEYS: &[&str] = &["file"];
/// Keys of `[backend.nginx]`.
pub(super) const NGINX_KEYS: &[&str] = &["file", "reload"];
/// Keys of `[backend.command]`.
pub(super) const COMMAND_KEYS: &[&str] = &["run", "record"];
/// Words of `variant`.
pub(super) const VARIANTS: &[&str] = &["auto", "nft", "legacy"];

/// Chains and targets that iptables has without anybody's making them (iptables(8), iptables-extensions(8)).
const OWN_OF_IPTABLES: [&str; 17] = [
    "INPUT",
    "FORWARD",
    "OUTPUT",
    "PREROUTING",
    "POSTROUTING",
    "ACCEPT",
    "DROP",
    "QUEUE",
    "RETURN",
    "REJECT",
    "LOG",
    "MARK",
    "DNAT",
    "SNAT",
    "MASQUERADE",
    "REDIRECT",
    "NFQUEUE",
];

/// How many words a command may have, and how many folders a path.
const WORDS_MAX: usize = 64;
/// A word of a command is at most this long: far above what anyone writes.
const WORD_MAX: usize = 4096;
/// iptables(8) takes 28 characters (XT_EXTENSION_MAXNAMELEN is 29 with its NUL); ours for a list of ports
/// end in `-p` and up to five digits, and one character is spare.
const CHAIN_MAX: usize = 20;
/// IPSET_MAXNAMELEN is 32 with its NUL; family, prefix length, port list and generation follow the name.
const SET_MAX: usize = 12;
/// PF_TABLE_NAME_SIZE is 32 with its NUL (pfvar.h); what a table is for follows the name: `_f12345`.
const PF_TABLE_MAX: usize = 24;
/// ipfw's table names are 63 at most (ip_fw.h: `struct _ipfw_obj_ntlv`); two characters of ours follow.
const IPFW_TABLE_MAX: usize = 31;
/// An anchor's path is at most MAXPATHLEN (1024) less one component (64) and a slash (pfvar.h).
const ANCHOR_MAX: usize = 512;
/// PF_ANCHOR_NAME_SIZE is 64 with its NUL (pfvar.h).
const ANCHOR_NAME_MAX: usize = 63;
/// ipfw's last rule is 65535, the default one, which cannot be ours (ipfw(8)).
const RULE: Bounds = Bounds { low: 1, high: 65_533, why: "ipfw numbers its rules so, its last is its own, and two are ours" };

/// What the backends are told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BackendSection {
    /// Folders in which the backends' programs are looked for, absolute.
    pub path: Vec<String>,
    /// `[backend.ipset]`.
    pub ipset: IpsetSection,
    /// `[backend.iptables]`.
    pub iptables: IptablesSection,
    /// `[backend.pf]`.
    pub pf: PfSection,
    /// `[backend.ipfw]`.
    pub ipfw: IpfwSection,
    /// `[backend.hosts]`.
    pub hosts: HostsSection,
    /// `[backend.nginx]`.
    pub nginx: NginxSection,
    /// `[backend.command]`.
    pub command: CommandSection,
}

/// Which of the two programs called iptables.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Variant {
    /// The one in whose tables the host's rules are, or else the one that `iptables` runs.
    #[default]
    Auto,
    /// iptables-nft.
    Nft,
    /// iptables-legacy.
    Legacy,
}

/// `[backend.ipset]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IpsetSection {
    /// Which iptables holds the rules that match the sets.
    pub variant: Variant,
    /// What the names of our sets and our chain begin with.
    pub name: String,
}

/// `[backend.iptables]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IptablesSection {
    /// Which iptables.
    pub variant: Variant,
    /// The chain of IPv4 bans.
    pub ipv4_chain: String,
    /// The chain of IPv6 bans.
    pub ipv6_chain: String,
}

/// `[backend.pf]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PfSection {
    /// The anchor that pf.conf has for us.
    pub anchor: String,
    /// The table in it.
    pub table: String,
}

/// `[backend.ipfw]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IpfwSection {
    /// Our table.
    pub table: String,
    /// The number of the first of our two rules.
    pub rule: u16,
}

/// `[backend.hosts]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostsSection {
    /// The file with our block in it.
    pub file: String,
}

/// `[backend.nginx]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NginxSection {
    /// The file that is all ours and that nginx includes.
    pub file: String,
    /// The command that has nginx read it, program first.
    pub reload: Vec<String>,
}

/// `[backend.command]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CommandSection {
    /// The program, absolute, and its arguments. Empty where none was named.
    pub run: Vec<String>,
    /// The file in which stands what the program was told. It must live as long as what the program
    /// made of it: until the next boot.
    pub record: String,
}

impl Default for BackendSection {
    fn default() -> Self {
        let texts = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect();
        Self {
            path: texts(&["/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin"]),
            ipset: IpsetSection { variant: Variant::Auto, name: "palisade".into() },
            iptables: IptablesSection { variant: Variant::Auto, ipv4_chain: "IP4BAN".into(), ipv6_chain: "IP6BAN".into() },
            pf: PfSection { anchor: "palisade".into(), table: "palisade".into() },
            ipfw: IpfwSection { table: "palisade".into(), rule: 40 },
            hosts: HostsSection { file: "/etc/hosts.deny".into() },
            nginx: NginxSection {
                file: "/etc/nginx/conf.d/palisade-deny.conf".into(),
                reload: texts(&["/usr/sbin/nginx", "-s", "reload"]),
            },
            command: CommandSection { run: Vec::new(), record: "/run/palisade/command.record".into() },
        }
    }
}

/// One key that was typed. Later ones win, so a list of them in their order is the raw section.
#[derive(Clone, Debug)]
pub(super) enum Setting {
    Path(Vec<String>),
    IpsetVariant(Variant),
    IpsetName(String),
    IptablesVariant(Variant),
    Ipv4Chain(String),
    Ipv6Chain(String),
    PfAnchor(String),
    PfTable(String),
    IpfwTable(String),
    IpfwRule(u16),
    HostsFile(String),
    NginxFile(String),
    NginxReload(Vec<String>),
    CommandRun(Vec<String>),
    CommandRecord(String),
}

impl BackendSection {
    /// The defaults with what was typed over them.
    pub(super) fn of(typed: Vec<Setting>) -> Self {
        let mut section = Self::default();
        for setting in typed {
            match setting {
                Setting::Path(path) => section.path = path,
                Setting::IpsetVariant(variant) => section.ipset.variant = variant,
                Setting::IpsetName(name) => section.ipset.name = name,
                Setting::IptablesVariant(variant) => section.iptables.variant = variant,
                Setting::Ipv4Chain(chain) => section.iptables.ipv4_chain = chain,
                Setting::Ipv6Chain(chain) => section.iptables.ipv6_chain = chain,
                Setting::PfAnchor(anchor) => section.pf.anchor = anchor,
                Setting::PfTable(table) => section.pf.table = table,
                Setting::IpfwTable(table) => section.ipfw.table = table,
                Setting::IpfwRule(rule) => section.ipfw.rule = rule,
                Setting::HostsFile(file) => section.hosts.file = file,
                Setting::NginxFile(file) => section.nginx.file = file,
                Setting::NginxReload(reload) => section.nginx.reload = reload,
                Setting::CommandRun(run) => section.command.run = run,
                Setting::CommandRecord(record) => section.command.record = record,
            }
        }
        section
    }
}

impl Reading<'_> {
    /// Reads `[backend]` and the tables in it.
    pub(super) fn backends(&mut self, table: &DeTable<'_>, raw: &mut Raw) {
        for (key, value) in table {
            let name: &str = key.get_ref();
            let settings = &mut raw.backends;
            match Backend::of_word(name).map(|backend| (backend, keys_of(backend))) {
                Some((_, [])) => {
                    self.tell(&key.span(), Problem::Value(format!("there is nothing to set for the backend `{name}`")), None);
                }
                Some((backend, known)) => {
                    let Some(table) = self.table(name, value, &format!("a table, written [backend.{name}]")) else { continue };
                    for (key, value) in table {
                        let typed: &str = key.get_ref();
                        if known.contains(&typed) {
                            settings.extend(self.setting(backend, typed, value));
                        } else {
                            self.unknown(key, &format!("in [backend.{name}]"), known);
                        }
                    }
                }
                None if name == "path" => {
                    let path = self.words("path", value, "a list of folders like [\"/usr/sbin\", \"/sbin\"]", folder);
                    settings.extend(path.map(Setting::Path));
                }
                None => {
                    let tables: Vec<&str> = TABLES.iter().map(|(backend, _)| backend.word()).chain(BACKEND_KEYS.iter().copied()).collect();
                    self.unknown(key, "in [backend]", &tables);
                }
            }
        }
    }

    fn setting(&mut self, backend: Backend, key: &str, value: &Value<'_>) -> Option<Setting> {
        Some(match (backend, key) {
            (Backend::Ipset, "variant") => Setting::IpsetVariant(self.variant(value)?),
            (Backend::Ipset, _) => Setting::IpsetName(self.name(key, value, SET_MAX)?),
            (Backend::Iptables, "variant") => Setting::IptablesVariant(self.variant(value)?),
            (Backend::Iptables, "ipv4_chain") => Setting::Ipv4Chain(self.chain(key, value)?),
            (Backend::Iptables, _) => Setting::Ipv6Chain(self.chain(key, value)?),
            (Backend::Pf, "anchor") => Setting::PfAnchor(self.parsed(key, value, anchor)?),
            (Backend::Pf, _) => Setting::PfTable(self.name(key, value, PF_TABLE_MAX)?),
            (Backend::Ipfw, "rule") => Setting::IpfwRule(self.number::<u16>(key, value, RULE)?.value),
            (Backend::Ipfw, _) => Setting::IpfwTable(self.name(key, value, IPFW_TABLE_MAX)?),
            (Backend::Hosts, _) => Setting::HostsFile(self.parsed(key, value, file)?),
            (Backend::Nginx, "file") => Setting::NginxFile(self.parsed(key, value, file)?),
            (Backend::Nginx, _) => Setting::NginxReload(self.command(key, value)?),
            (Backend::Command, "record") => Setting::CommandRecord(self.parsed(key, value, file)?),
            _ => Setting::CommandRun(self.command(key, value)?),
        })
    }

    fn variant(&mut self, value: &Value<'_>) -> Option<Variant> {
        let word = self.word("variant", value, VARIANTS, &[])?.value;
        Some(match word {
            "nft" => Variant::Nft,
            "legacy" => Variant::Legacy,
            _ => Variant::Auto,
        })
    }

    /// A chain's name: none of those that are iptables' own, as chains or as what becomes of a packet.
    fn chain(&mut self, key: &str, value: &Value<'_>) -> Option<String> {
        self.parsed(key, value, |text| match OWN_OF_IPTABLES.iter().find(|own| **own == text) {
            Some(own) => Err((format!("`{own}` is a name of iptables' own: a chain of ours is emptied and filled by us alone"), None)),
            None => object_name(text, CHAIN_MAX),
        })
    }

    fn name(&mut self, key: &str, value: &Value<'_>, most: usize) -> Option<String> {
        self.parsed(key, value, |text| object_name(text, most))
    }

    /// A program, absolute, and its arguments. No shell sees it.
    fn command(&mut self, key: &str, value: &Value<'_>) -> Option<Vec<String>> {
        let words = self.words(key, value, "a list of words like [\"/usr/sbin/nginx\", \"-s\", \"reload\"]", |word| {
            if word.len() <= WORD_MAX && !word.contains('\0') {
                Ok(word.to_owned())
            } else {
                Err(("a word of a command is longer than a command's may be, or holds a NUL".to_owned(), None))
            }
        })?;
        let program = words.first()?;
        if let Err((message, hint)) = file(program) {
            let hint = hint.or_else(|| Some("no shell runs it: name the program by its whole path".to_owned()));
            self.tell(&value.span(), Problem::Value(message), hint);
            return None;
        }
        Some(words)
    }

    /// A list that is not empty and in which a word may come twice.
    fn words(&mut self, key: &str, value: &Value<'_>, want: &str, read: impl Fn(&str) -> Result<String, Wrong>) -> Option<Vec<String>> {
        let array = value.get_ref().as_array().or_else(|| self.wrong_type(key, value, want))?;
        if array.is_empty() || array.len() > WORDS_MAX {
            let message = format!("`{key}` has {} entries; it takes 1 to {WORDS_MAX}", array.len());
            self.tell(&value.span(), Problem::Value(message), None);
            return None;
        }
        let mut words = Vec::with_capacity(array.len());
        for element in array {
            let text = self.text(key, element, want)?;
            match read(text) {
                Ok(word) => words.push(word),
                Err((message, hint)) => {
                    self.tell(&element.span(), Problem::Value(message), hint);
                    return None;
                }
            }
        }
        Some(words)
    }
}

/// The tables in `[backend]` and their keys.
pub(super) const TABLES: [(Backend, &[&str]); 7] = [
    (Backend::Ipset, IPSET_KEYS),
    (Backend::Iptables, IPTABLES_KEYS),
    (Backend::Pf, PF_KEYS),
    (Backend::Ipfw, IPFW_KEYS),
    (Backend::Hosts, HOSTS_KEYS),
    (Backend::Nginx, NGINX_KEYS),
    (Backend::Command, COMMAND_KEYS),
];

fn keys_of(backend: Backend) -> &'static [&'static str] {
    TABLES.iter().find(|(one, _)| *one == backend).map_or(&[], |(_, keys)| keys)
}

/// A name that every firewall takes for a chain, a set or a table.
fn object_name(text: &str, most: usize) -> Result<String, Wrong> {
    let letter = |b: u8| b.is_ascii_alphanumeric() || b == b'_' || b == b'-';
    if text.starts_with(|c: char| c.is_ascii_alphabetic()) && text.len() <= most && text.bytes().all(letter) {
        return Ok(text.to_owned());
    }
    Err((format!("`{}` is no name for it: a letter, then letters, digits, `_` and `-`, {most} at most", shown(text)), None))
}

/// Components like [`object_name`]s, with `/` between.
fn anchor(text: &str) -> Result<String, Wrong> {
    if text.len() <= ANCHOR_MAX && text.split('/').all(|part| object_name(part, ANCHOR_NAME_MAX).is_ok()) {
        return Ok(text.to_owned());
    }
    Err((format!("`{}` is no anchor: names with `/` between, without one at its ends", shown(text)), None))
}

fn folder(text: &str) -> Result<String, Wrong> {
    file(text.strip_suffix('/').filter(|rest| !rest.is_empty()).unwrap_or(text))
}

/// The section as TOML again.
pub(super) fn show(out: &mut String, section: &BackendSection) {
    let variant = |variant| quoted(VARIANTS[variant as usize]);
    out.push_str("\n[backend]\n");
    line(out, "path", list(&section.path));
    out.push_str("\n[backend.ipset]\n");
    line(out, "variant", variant(section.ipset.variant));
    line(out, "name", quoted(&section.ipset.name));
    out.push_str("\n[backend.iptables]\n");
    line(out, "variant", variant(section.iptables.variant));
    line(out, "ipv4_chain", quoted(&section.iptables.ipv4_chain));
    line(out, "ipv6_chain", quoted(&section.iptables.ipv6_chain));
    out.push_str("\n[backend.pf]\n");
    line(out, "anchor", quoted(&section.pf.anchor));
    line(out, "table", quoted(&section.pf.table));
    out.push_str("\n[backend.ipfw]\n");
    line(out, "table", quoted(&section.ipfw.table));
    line(out, "rule", section.ipfw.rule);
    out.push_str("\n[backend.hosts]\n");
    line(out, "file", quoted(&section.hosts.file));
    out.push_str("\n[backend.nginx]\n");
    line(out, "file", quoted(&section.nginx.file));
    line(out, "reload", list(&section.nginx.reload));
    if !section.command.run.is_empty() {
        out.push_str("\n[backend.command]\n");
        line(out, "run", list(&section.command.run));
        line(out, "record", quoted(&section.command.record));
    }
}
