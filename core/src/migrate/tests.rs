//! Configs as administrators write them, and what becomes of each line.

use std::collections::BTreeMap;

use super::values::{self, Action, Reach};
use super::*;
use crate::config::Config;
use crate::ini::Files;
use crate::time::{Span, Term};
use proptest::prelude::*;

/// Files that are texts.
struct Texts(BTreeMap<String, String>);

impl Files for Texts {
    fn read(&self, path: &str) -> Result<Option<Vec<u8>>, String> {
        Ok(self.0.get(path).map(|text| text.clone().into_bytes()))
    }

    fn list(&self, dir: &str, ending: &str) -> Vec<String> {
        let inside = |path: &&String| path.strip_prefix(dir).is_some_and(|rest| rest.starts_with('/') && !rest[1..].contains('/'));
        self.0.keys().filter(inside).filter(|path| path.ends_with(ending)).cloned().collect()
    }
}

/// A small copy of how fail2ban's own files are built: words in DEFAULT, jails that use them.
const STOCK: &str = "[INCLUDES]\nbefore = paths-test.conf\n[DEFAULT]\nbantime = 10m\nfindtime = 10m\nmaxretry = 5\nbackend = auto\nusedns = warn\n\
    enabled = false\nmode = normal\nfilter = %(__name__)s[mode=%(mode)s]\nport = 0:65535\nprotocol = tcp\nbanaction = iptables-multiport\n\
    action_ = %(banaction)s[port=\"%(port)s\"]\naction = %(action_)s\n\
    [sshd]\nport = ssh\nlogpath = %(sshd_log)s\nbackend = %(sshd_backend)s\n[web]\nport = http,https\nlogpath = /var/log/web/*error.log\n\
    [recidive]\nlogpath = /var/log/fail2ban.log\nbantime = 1w\n";

fn texts(local: &str) -> Texts {
    let files = [
        ("/f/jail.conf", STOCK),
        ("/f/paths-test.conf", "[DEFAULT]\nsshd_log = /var/log/auth.log\nsshd_backend = %(default_backend)s\ndefault_backend = auto\n"),
        ("/f/jail.local", local),
        ("/f/filter.d/sshd.conf", "[Definition]\nfailregex = x <HOST>\n"),
        ("/f/filter.d/web.conf", "[Definition]\nfailregex = x <HOST>\n"),
    ];
    Texts(files.into_iter().map(|(path, text)| (path.to_owned(), text.to_owned())).collect())
}

fn migrated(local: &str) -> Migration {
    fail2ban(&texts(local), "/f/").unwrap()
}

/// What became of a setting: the account's words.
fn fate(migration: &Migration, setting: &str) -> Vec<String> {
    let of = migration.lines.iter().filter(|line| line.setting.starts_with(setting));
    of.map(|line| match &line.outcome {
        Outcome::Became(what) => format!("+ {what}"),
        Outcome::Left(why) => format!("- {why}"),
    })
    .collect()
}

#[test]
fn enabled_jails_come_over_with_their_own_filters() {
    let migration = migrated(
        "[DEFAULT]\nbantime = 1h\nignoreip = 127.0.0.1/8 ::1, 198.51.100.0/24 admin.example.org\n[sshd]\nenabled = true\nmode = aggressive\nmaxretry = 3\n\
         [web]\nenabled = yes\nfindtime = 1d 2h\nbantime = -1\n",
    );
    let config = &migration.config;
    let value: toml::Value = toml::from_str(config).unwrap();
    assert_eq!(value["ban"]["ban_time"].as_str(), Some("1h"));
    assert_eq!(value["ban"]["max_retry"].as_integer(), Some(5));
    assert_eq!(value["allow"]["prefixes"].as_array().unwrap().len(), 3, "{config}");
    assert_eq!(value["allow"]["names"][0].as_str(), Some("admin.example.org"));
    let sshd = &value["jail"]["sshd"];
    assert_eq!(sshd["fail2ban"].as_str(), Some("/f/filter.d/sshd.conf"));
    assert_eq!(sshd["options"]["mode"].as_str(), Some("aggressive"));
    assert_eq!((sshd["files"][0].as_str(), sshd["ports"][0].as_str()), (Some("/var/log/auth.log"), Some("ssh")));
    assert_eq!(sshd["max_retry"].as_integer(), Some(3));
    assert!(sshd.get("ban_time").is_none(), "what [ban] says is not said again: {config}");
    let web = &value["jail"]["web"];
    assert_eq!((web["ban_time"].as_str(), web["find_time"].as_str()), (Some("permanent"), Some("1d2h")));
    assert_eq!(web["files"][0].as_str(), Some("/var/log/web/*error.log"));
    assert_eq!(fate(&migration, "[sshd] maxretry"), ["+ max_retry = 3"]);
    let line = migration.lines.iter().find(|line| line.setting == "[sshd] maxretry = 3").unwrap();
    assert_eq!((line.file.as_str(), line.line), ("/f/jail.local", 7));
}

#[test]
fn what_is_not_taken_over_is_told_with_its_line() {
    let migration = migrated(
        "[DEFAULT]\ndestemail = root@example.org\nignorecommand = /usr/bin/ask <ip>\n[sshd]\nenabled = true\nusedns = yes\nprotocol = udp\n\
         action = %(action_)s\n   sendmail-whois[name=x, dest=\"a b\"]\n   cloudflare[cftoken=\"secret\"]\n   mine\n[recidive]\nenabled = true\n\
         [gone]\nenabled = true\nlogpath = /x\n[nolog]\nenabled = true\nfilter = web\n",
    );
    for (setting, part) in [
        ("[DEFAULT] destemail", "no mail is sent"),
        ("[DEFAULT] ignorecommand", "no program is asked"),
        ("[sshd] usedns", "never resolved"),
        ("[sshd] protocol", "all protocols"),
        ("[recidive] enabled", "escalate"),
        ("[gone]", "there is no /f/filter.d/gone.conf"),
        ("[nolog] enabled", "no logpath"),
    ] {
        let found = fate(&migration, setting);
        assert!(found.iter().any(|said| said.starts_with("- ") && said.contains(part)), "{setting}: {found:?}");
    }
    let actions = fate(&migration, "[sshd] action");
    assert_eq!(actions.len(), 4, "{actions:?}");
    assert!(actions.iter().filter(|said| said.starts_with("+ iptables-multiport")).count() == 1, "{actions:?}");
    assert!(!migration.config.contains("recidive") && !migration.config.contains("gone") && !migration.config.contains("nolog"));
    assert!(migration.left() >= 9);
}

/// Our own reader takes it.
fn taken(migration: &Migration) -> Result<Config, String> {
    let known: Vec<&str> = crate::scan::shipped().iter().map(|(name, _)| *name).collect();
    Config::read(&[("made".to_owned(), migration.config.clone())], &known).map_err(|errors| format!("{}\n{errors}", migration.config))
}

#[test]
fn what_our_own_reader_refuses_is_told_and_the_rest_can_be_used() {
    let migration = migrated(
        "[DEFAULT]\nbantime = 99999999w\nignoreip = 192.0.2.0/24 bad..name office.example.org\n[sshd]\nenabled = true\nport = ssh,nonsense\nmaxretry = 4\n\
         logpath = /var/log/auth.log\n   /var/log/auth.log\n   /var/../log\nfilter = sshd[x=\"a\n  b\"]\n[SSHD]\nenabled = true\nfilter = web\nlogpath = /x\nmaxretry = 9999\n",
    );
    let config = taken(&migration).unwrap();
    assert_eq!((config.allow().names.as_slice(), config.allow().prefixes.len()), (&["office.example.org".to_owned()][..], 1));
    let jail = |name: &str| config.jail(&name.into()).unwrap();
    assert_eq!((jail("sshd").files.as_slice(), jail("sshd").policy.max_retry), (&["/var/log/auth.log".to_owned()][..], 4));
    assert_eq!(jail("sshd").fail2ban.as_ref().unwrap().options["x"], "a\nb");
    assert_eq!(jail("sshd-2").files, ["/x"]);
    for (setting, part) in [
        ("ban_time", "does not take it"),
        ("[sshd] port", "nonsense"),
        ("[SSHD] maxretry", "1000 is the most"),
        ("[DEFAULT] ignoreip", "bad..name"),
        ("[sshd] logpath", ".."),
    ] {
        let found = fate(&migration, setting);
        assert!(found.iter().any(|said| said.starts_with("- ") && said.contains(part)), "{setting}: {found:?}");
    }
    // Where it stood, to be mended by hand.
    assert!(migration.config.contains("\nports = [\"ssh\"]\n") && migration.config.contains("\n# ban_time = "), "{}", migration.config);
}

#[test]
fn of_what_sshguard_is_told_twice_the_last_counts() {
    let conf = "FILES=/a\nTHRESHOLD=10\nFILES=\"/b relative /b\"\nTHRESHOLD=20\n";
    let migration = sshguard(&Texts([("/s".to_owned(), conf.to_owned())].into()), "/s").unwrap();
    let config = taken(&migration).unwrap();
    assert_eq!(config.jail(&"sshguard".into()).unwrap().files, ["/b"]);
    assert_eq!(config.ban().policy.max_retry, 2);
    assert!(fate(&migration, "FILES = /a")[0].contains("a later line") && fate(&migration, "FILES = /b")[0].contains("relative"));
}

#[test]
fn systemd_jails_read_the_journal_of_their_filter() {
    let migration = migrated(
        "[sshd]\nenabled = true\nbackend = systemd\n[web]\nenabled = true\nbackend = systemd[journalflags=1]\njournalmatch = _SYSTEMD_UNIT=a.service + _COMM=b\n",
    );
    let value: toml::Value = toml::from_str(&migration.config).unwrap();
    assert!(value["jail"]["sshd"].get("files").is_none() && value["jail"]["sshd"].get("journal").is_none());
    let journal: Vec<&str> = value["jail"]["web"]["journal"].as_array().unwrap().iter().filter_map(toml::Value::as_str).collect();
    assert_eq!(journal, ["_SYSTEMD_UNIT=a.service", "_COMM=b"]);
}

#[test]
fn jails_that_shut_nobody_out_are_left() {
    let migration = migrated("[sshd]\nenabled = true\naction = sendmail-whois[name=x]\n[web]\nenabled = true\nblocktype = RETURN\n");
    assert!(!migration.config.contains("[jail."), "{}", migration.config);
    assert!(fate(&migration, "[sshd] action")[0].contains("shut nobody out") && fate(&migration, "[web] blocktype")[0].contains("lets in"));
}

#[test]
fn a_jail_that_fail2ban_bans_nobody_with_bans_nobody_here() {
    let sshd = |more: &str| migrated(&format!("[sshd]\nenabled = true\n{more}\n"));
    for (more, setting, why) in [
        ("action =", "[sshd] action", "no action"),
        ("action = dummy[name=x]", "[sshd] action", "shut nobody out"),
        ("ignoreip = 192.0.2.1 0.0.0.0/0", "[sshd] ignoreip", "ignores everybody (0.0.0.0/0)"),
        ("ignorecommand = /bin/true <ip>", "[sshd] ignorecommand", "a program decides"),
    ] {
        let migration = sshd(more);
        assert!(!migration.config.contains("[jail."), "{more}: {}", migration.config);
        assert!(fate(&migration, setting)[0].contains(why), "{more}: {:?}", fate(&migration, setting));
    }
    let all = migrated("[DEFAULT]\nignorecommand = /x <ip>\n[sshd]\nenabled = true\n");
    assert!(all.config.contains("[jail.sshd]") && fate(&all, "[DEFAULT] ignorecommand")[0].starts_with("- "));
}

#[test]
fn a_jail_closes_the_ports_that_its_action_closes() {
    let ports = |more: &str| {
        let migration = migrated(&format!("[sshd]\nenabled = true\n{more}\n"));
        let value: toml::Value = toml::from_str(&migration.config).unwrap();
        (value["jail"]["sshd"].get("ports").map(ToString::to_string), fate(&migration, "[sshd] port"))
    };
    for (more, wanted) in [
        ("port = 22", Some("[22]")),
        ("port = 22\nbanaction = iptables-allports", None),
        ("port = 22\naction = %(banaction)s[type=allports, port=22]", None),
        ("port = 22\naction = %(action_)s[port=\"2222\"]", Some("[2222]")),
        ("port = 22\naction = hostsdeny\n   iptables-multiport[port=\"80,443\"]", None),
        ("port = 22\naction = iptables-multiport[port=\"80,443\"]\n   sendmail[name=x]", Some("[80, 443]")),
        ("port = 22\naction = my-own", Some("[22]")),
        ("port = 5060,10000:20000", None),
    ] {
        assert_eq!(ports(more).0.as_deref(), wanted, "{more}");
    }
    let told = ports("port = 22\nbanaction = iptables-allports").1;
    assert_eq!(told, ["+ ports = \"all\", as its action shuts out of all"]);
    let told = ports("port = 5060,10000:20000").1;
    assert!(told[0].contains("more than 32 ports") && told[1] == "+ ports = \"all\"", "{told:?}");
}

#[test]
fn what_cannot_be_allowed_leaves_the_rest_of_the_list() {
    let migration = migrated("[DEFAULT]\nignoreip = 198.51.100.0/24 192.0.2.0/255.255.255.0 ::/0 192.0.2.9/255.0.255.0\n");
    let value: toml::Value = toml::from_str(&migration.config).unwrap();
    let prefixes: Vec<&str> = value["allow"]["prefixes"].as_array().unwrap().iter().filter_map(toml::Value::as_str).collect();
    assert_eq!(prefixes, ["192.0.2.0/24", "198.51.100.0/24"]);
    let told = fate(&migration, "[DEFAULT] ignoreip");
    assert!(told.iter().any(|told| told.starts_with("- ") && told.contains("is everyone")), "{told:?}");
    assert!(told.iter().any(|told| told.starts_with("- ") && told.contains("192.0.2.9/255.0.255.0")), "{told:?}");
}

#[test]
fn a_jail_without_a_filters_file_says_which_to_write() {
    let migration = migrated("[web]\nenabled = true\nfilter =\nfailregex = x <HOST>\n");
    let told = fate(&migration, "[web] failregex");
    assert!(told[0].starts_with("- ") && told[0].contains("write /f/filter.d/web.conf"), "{told:?}");
}

#[test]
fn growing_bans_become_a_factor_or_a_ladder() {
    let migration = migrated("[DEFAULT]\nbantime.increment = true\nbantime.maxtime = 5w\nbantime.rndtime = 30m\n[sshd]\nenabled = true\n");
    let value: toml::Value = toml::from_str(&migration.config).unwrap();
    assert_eq!(value["ban"]["escalate"]["factor"].as_integer(), Some(2));
    assert_eq!(value["ban"]["escalate"]["max"].as_str(), Some("5w"));
    assert!(fate(&migration, "[DEFAULT] bantime.rndtime")[0].starts_with("- "));
    let endless = migrated("[DEFAULT]\nbantime.increment = true\n[sshd]\nenabled = true\n");
    assert!(endless.config.contains("max = \"permanent\""), "{}", endless.config);
    let ladder =
        migrated("[sshd]\nenabled = true\nbantime = 10m\nbantime.increment = yes\nbantime.multipliers = 1 6 144\nbantime.maxtime = 12h\n");
    let value: toml::Value = toml::from_str(&ladder.config).unwrap();
    let steps: Vec<&str> = value["jail"]["sshd"]["escalate"]["steps"].as_array().unwrap().iter().filter_map(toml::Value::as_str).collect();
    assert_eq!(steps, ["10m", "1h", "12h"]);
}

#[test]
fn a_folder_without_jails_and_a_broken_file_are_errors() {
    assert!(fail2ban(&Texts(BTreeMap::new()), "/f").unwrap_err().what.contains("--config"));
    let mut broken = texts("");
    broken.0.insert("/f/jail.local".to_owned(), "no section here\n".to_owned());
    let fault = fail2ban(&broken, "/f").unwrap_err();
    assert_eq!((fault.file.as_str(), fault.line), ("/f/jail.local", 1));
}

#[test]
fn times_are_read_as_fail2ban_reads_them() {
    let minutes = |n: u64| Some(Term::For(Span::secs(n * 60)));
    for (text, term) in [
        ("600", minutes(10)),
        ("10m", minutes(10)),
        ("1h 30m", minutes(90)),
        ("1d12h", minutes(36 * 60)),
        ("60*60", minutes(60)),
        ("1 week", minutes(7 * 24 * 60)),
        ("2 hours", minutes(120)),
        ("-1", Some(Term::Forever)),
        ("", None),
        ("soon", None),
        ("1x", None),
        ("__import__('os')", None),
    ] {
        assert_eq!(values::term(text), term, "{text}");
    }
    assert_eq!(values::span("-1"), None);
}

#[test]
fn ports_and_actions_in_our_words() {
    for (text, ports) in [
        ("ssh", Some("[\"ssh\"]")),
        ("http,https", Some("[\"http\", \"https\"]")),
        ("0:65535", None),
        ("22, 6000:6007", Some("[22, \"6000-6007\"]")),
        ("", None),
    ] {
        let found = values::ports(text).map(|items| format!("[{}]", items.join(", ")));
        assert_eq!(found.as_deref(), ports, "{text}");
    }
    assert_eq!(values::action("nftables-multiport"), Action::Blocks("nftables", false));
    assert_eq!(values::action("iptables-ipset-proto6-allports"), Action::Blocks("ipset", true));
    assert_eq!(values::action("sendmail-whois"), Action::Tells);
    assert_eq!(values::action("ufw"), Action::BlocksElsewhere);
    assert_eq!(values::action("my-own"), Action::Unknown);
    let calls = values::actions("nftables[port=\"a, b\", name='x]']\n  mail-whois[dest=x]\nplain, odd[x");
    let names: Vec<&str> = calls.iter().map(|call| call.name.as_str()).collect();
    assert_eq!(names, ["nftables", "mail-whois", "plain", "odd"]);
    assert_eq!((calls[0].options["port"].as_str(), calls[0].options["name"].as_str()), ("a, b", "x]"));
    for (text, reach) in [
        ("iptables-multiport[name=x]", Some(Reach::OfJail)),
        ("iptables-multiport[port=\"80,443\"]", Some(Reach::Ports("80,443".to_owned()))),
        ("iptables-allports[port=80]", Some(Reach::All)),
        ("nftables[type=allports][port=80]", Some(Reach::All)),
        ("pf[actiontype=<allports>]", Some(Reach::All)),
        ("pf", Some(Reach::OfJail)),
        ("hostsdeny", Some(Reach::All)),
        ("ufw", Some(Reach::All)),
        ("ufw[application=OpenSSH]", Some(Reach::OfJail)),
        ("bsd-ipfw", Some(Reach::All)),
        ("bsd-ipfw[port=22]", Some(Reach::Ports("22".to_owned()))),
        ("cloudflare", Some(Reach::OfJail)),
        ("sendmail", None),
        ("my-own", None),
    ] {
        assert_eq!(values::actions(text)[0].reach(), reach, "{text}");
    }
}

#[test]
fn what_our_reader_would_refuse_is_left_out_and_told() {
    let mut files = texts(
        "[DEFAULT]\nbantime = 2628000 # 1 month\n[sshd]\nenabled = true\nport = ssh,nonsense\nmaxretry = 25000\nfindtime = 3y\n\
         [SSHD]\nenabled = true\nlogpath = /x\nfilter = sshd\nport = nonsense\n\
         [broken]\nenabled = true\nlogpath = /x\nmaxretry = 3\n[silent]\nenabled = true\nbackend = systemd\n\
         [local]\nenabled = true\nlogpath = /x\n",
    );
    for (name, regex) in [("broken.conf", "x"), ("silent.conf", "x <HOST>"), ("local.local", "x <HOST>")] {
        files.0.insert(format!("/f/filter.d/{name}"), format!("[Definition]\nfailregex = {regex}\n"));
    }
    let migration = fail2ban(&files, "/f").unwrap();
    let value: toml::Value = toml::from_str(&migration.config).unwrap();
    let jails: Vec<&str> = value["jail"].as_table().unwrap().keys().map(String::as_str).collect();
    assert_eq!(jails, ["local", "sshd", "sshd-2"]);
    assert_eq!(value["ban"]["ban_time"].as_str(), Some("4w2d10h"));
    assert_eq!(value["jail"]["sshd"]["ports"].as_array().unwrap().len(), 1);
    assert_eq!((value["jail"]["sshd"]["max_retry"].as_integer(), value["jail"]["sshd"]["find_time"].as_str()), (Some(1000), Some("52w1d")));
    assert!(value["jail"]["sshd-2"].get("ports").is_none());
    assert_eq!(value["jail"]["local"]["fail2ban"].as_str(), Some("/f/filter.d/local.conf"));
    for (setting, wanted) in [
        ("[sshd] port", "nonsense"),
        ("[sshd] maxretry", "max_retry = 1000 is the most"),
        ("[SSHD] port", "all ports are closed"),
        ("[broken] enabled", "names nobody"),
        ("[broken] maxretry", "its jail is not taken over"),
        ("[silent] enabled", "does not say what to read of the journal"),
    ] {
        assert!(
            fate(&migration, setting).iter().any(|told| told.starts_with("- ") && told.contains(wanted)),
            "{setting}: {:?}",
            fate(&migration, setting)
        );
    }
}

#[test]
fn a_jail_says_what_its_filter_says_and_more() {
    let migration = migrated("[sshd]\nenabled = true\nfailregex = %(known/failregex)s\n    y <HOST>\ndatepattern = ^%%Y\n");
    let value: toml::Value = toml::from_str(&migration.config).unwrap();
    assert_eq!(value["jail"]["sshd"]["options"]["failregex"].as_str(), Some("x <HOST>\ny <HOST>"));
    assert_eq!(value["jail"]["sshd"]["options"]["datepattern"].as_str(), Some("^%Y"));
    assert!(fate(&migration, "[sshd] failregex")[0].starts_with("+ options"));
}

#[test]
fn each_line_of_an_administrator_is_told_of() {
    let local = "[DEFAULT]\nbackend = auto\nmode = normal\nport = 0:65535\nenabled = false\naction_x = y\nignorecommand =\n\
        [sshd]\nenabled = true\nmode = normal\nskip_if_nologs = true\nprotocol = tcp\n[recidive]\nenabled = true\nbantime = 1w\n";
    let migration = migrated(local);
    for (number, line) in local.lines().enumerate().filter(|(_, line)| !line.starts_with('[')) {
        let of_line = |told: &&Line| told.file == "/f/jail.local" && told.line as usize == number + 1;
        assert!(migration.lines.iter().any(|told| of_line(&told)), "{line}: {:?}", migration.lines);
    }
}

#[test]
fn sshguards_settings_come_over() {
    let conf = "#### comment\nBACKEND=\"/usr/libexec/sshguard/sshg-fw-nft-sets\"\nFILES=\"/var/log/auth.log /var/log/maillog\"  # logs\nTHRESHOLD=35\n\
        DETECTION_TIME=long\nBLOCK_TIME=300\nBLACKLIST_FILE=90:/var/db/sshguard/blacklist.db\nIPV6_SUBNET=64\nWHITELIST_FILE=/etc/sshguard/whitelist\nMYSTERY=1\n";
    let files = [("/s.conf", conf), ("/etc/sshguard/whitelist", "# ours\n192.0.2.0/24\n2001:db8::1 # one\nhome.example.org\n*.example\n")];
    let files = Texts(files.into_iter().map(|(path, text)| (path.to_owned(), text.to_owned())).collect());
    let migration = sshguard(&files, "/s.conf").unwrap();
    let value: toml::Value = toml::from_str(&migration.config).unwrap();
    assert_eq!(value["ban"]["max_retry"].as_integer(), Some(4));
    assert_eq!((value["ban"]["ban_time"].as_str(), value["ban"]["find_time"].as_str()), (Some("300s"), Some("1800s")));
    assert_eq!(value["ban"]["ipv6_prefix"].as_integer(), Some(64));
    assert_eq!(value["allow"]["prefixes"].as_array().unwrap().len(), 2);
    assert_eq!(value["jail"]["sshguard"]["files"].as_array().unwrap().len(), 2);
    assert!(fate(&migration, "BLACKLIST_FILE")[0].contains("palisade import sshguard /var/db/sshguard/blacklist.db"));
    assert!(fate(&migration, "MYSTERY")[0].starts_with("- "));
    assert!(fate(&migration, "DETECTION_TIME")[0].starts_with("- "), "no number: the default is written, and told");
    assert_eq!(value["allow"]["names"].as_array().unwrap().len(), 1);
    assert!(fate(&migration, "WHITELIST_FILE")[0].contains("3 members") && fate(&migration, "WHITELIST_FILE")[0].contains("*.example"));
    assert!(migration.next.iter().any(|next| next.contains("import sshguard /var/db/sshguard/blacklist.db")));
    assert!(sshguard(&files, "/none").is_err());
}

#[test]
fn sshguards_shell_is_read_as_far_as_it_is_plain() {
    let conf = "FILES=\"/var/log/auth.log \\\n /var/log/maillog\"\nexport THRESHOLD=20\nTHRESHOLD=50\nBLOCK_TIME=$((60*60))\n\
        DETECTION_TIME=99999999999\nBLOCK_TIME_MULTIPLIER=1.5\n# x=\\\nIPV4_SUBNET=24\nLOGREADER=\"journalctl -t sshd\"\nLOGREADER=\"journalctl -u exim4\"\n";
    let files = Texts([("/s.conf".to_owned(), conf.to_owned())].into());
    let migration = sshguard(&files, "/s.conf").unwrap();
    let value: toml::Value = toml::from_str(&migration.config).unwrap();
    let (ban, jail) = (&value["ban"], &value["jail"]["sshguard"]);
    assert_eq!(
        (ban["max_retry"].as_integer(), ban["ban_time"].as_str(), ban["find_time"].as_str()),
        (Some(5), Some("120s"), Some("31536000s"))
    );
    assert_eq!((ban["escalate"]["factor"].as_float(), ban["ipv4_prefix"].as_integer()), (Some(1.5), Some(24)));
    assert_eq!((jail["files"].as_array().unwrap().len(), jail["journal"].as_array().unwrap().len()), (2, 1));
    for (setting, wanted) in [("BLOCK_TIME =", "no plain number"), ("DETECTION_TIME", "a year"), ("THRESHOLD = 20", "a later line")] {
        assert!(fate(&migration, setting).iter().any(|told| told.starts_with("- ") && told.contains(wanted)), "{setting}");
    }
}

#[test]
fn sshguards_journal_reader_becomes_matches_nobody_can_forge() {
    let conf = "LOGREADER=\"LANG=C journalctl -afb -p info -n1 -t sshd -u postfix -o cat\"\n";
    let files = Texts([("/s.conf".to_owned(), conf.to_owned())].into());
    let value: toml::Value = toml::from_str(&sshguard(&files, "/s.conf").unwrap().config).unwrap();
    let journal: Vec<&str> = value["jail"]["sshguard"]["journal"].as_array().unwrap().iter().filter_map(toml::Value::as_str).collect();
    assert_eq!(journal, ["_COMM=sshd _UID=0", "_COMM=sshd-session _UID=0", "_SYSTEMD_UNIT=postfix.service"]);
}

proptest! {
    #[test]
    fn any_text_comes_out_as_a_config_or_an_error(local in "(\\[[a-z DEFAULT]{0,9}\\]\n|[a-z.]{1,12} ?= ?[ -~]{0,40}\n|[ -~]{0,30}\n){0,30}") {
        if let Ok(migration) = fail2ban(&texts(&local), "/f") {
            prop_assert!(taken(&migration).is_ok(), "{:?}", taken(&migration));
        }
    }

    #[test]
    fn any_shell_comes_out_as_a_config(conf in "([A-Z_]{1,14}=[ -~]{0,40}\n){0,20}") {
        let migration = sshguard(&Texts([("/s".to_owned(), conf)].into()), "/s").unwrap();
        prop_assert!(taken(&migration).is_ok(), "{:?}", taken(&migration));
    }
}
