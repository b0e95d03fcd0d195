mod flood;
mod jails;
mod routing;

use proptest::prelude::*;

use super::*;
use crate::bans::wall::Ports;
use crate::judge::policy::{Escalate, Spread, f64Eq};
use crate::scan;
use crate::time::Span;

const EXAMPLE: &str = include_str!("../../../etc/palisade.toml");
const MAN_PAGE: &str = include_str!("../../../docs/palisade.toml.5.md");

fn read_all(texts: &[&str]) -> Result<Config, ConfigErrors> {
    let name = |n: usize| if n == 0 { "palisade.toml".to_owned() } else { format!("conf.d/{n}0.toml") };
    let files: Vec<(String, String)> = texts.iter().enumerate().map(|(n, text)| (name(n), (*text).to_owned())).collect();
    Config::read(&files, &signature::ALL)
}

fn read(text: &str) -> Result<Config, ConfigErrors> {
    read_all(&[text])
}

fn good(text: &str) -> Config {
    read(text).unwrap_or_else(|errors| panic!("{errors}"))
}

fn sshd(config: &Config) -> &Jail {
    config.jail(&"sshd".into()).unwrap()
}

fn days(n: u64) -> Span {
    Span::secs(n * 86_400)
}

/// `line:column kind message [hint]` of every error.
fn told(text: &str) -> Vec<String> {
    let line = |e: &ConfigError| {
        let hint = e.hint.as_ref().map_or(String::new(), |hint| format!(" [{hint}]"));
        format!("{}:{} {}{hint}", e.line, e.column, e.problem)
    };
    read(text).unwrap_err().errors.iter().map(line).collect()
}

#[test]
fn an_error_is_quoted_with_a_mark_and_a_hint() {
    let text = "[jail.sshd]\nsignatures = [\"sshd\"]\n\nmaxretries = 5\n";
    let wanted = "\
palisade.toml:4:1: unknown key `maxretries` in [jail.sshd]
  4 | maxretries = 5
    | ^^^^^^^^^^ did you mean `max_retry`?";
    assert_eq!(read(text).unwrap_err().to_string(), wanted);
}

#[test]
fn the_later_file_is_named_and_counted_by_characters() {
    let errors = read_all(&["", "# ä\n[ban]\n\"é\" = 1\tx\n"]).unwrap_err();
    assert_eq!((errors.errors[0].file.as_str(), errors.errors[0].line), ("conf.d/10.toml", 3));
    let errors = read_all(&["", "[allow]\nnames = [\"ä\", \"é x\"]\r\n"]).unwrap_err();
    let columns: Vec<usize> = errors.errors.iter().map(|e| e.column).collect();
    assert_eq!(columns, [10, 15]);
    assert!(errors.to_string().ends_with("  2 | names = [\"ä\", \"é x\"]\n    |               ^^^^^"), "{errors}");
}

#[test]
fn each_kind_of_error_has_its_place_and_hint() {
    let jail = "[jail.x]\nsignatures = [\"sshd\"]\nfiles = [\"/a\"]\n";
    let cases: Vec<(String, &str)> = [
        // Keys and tables.
        ("[bann]\n", "1:2 unknown table [bann] [did you mean [ban]?]"),
        ("[jial.sshd]\n", "1:2 unknown table [jial] [did you mean [jail]?]"),
        ("max_retry = 5\n", "1:1 unknown key `max_retry` outside any table [it belongs in [ban]]"),
        ("[ban]\nbantime = 5\n", "2:1 unknown key `bantime` in [ban] [did you mean `ban_time`?]"),
        ("[ban]\nignoreip = []\n", "2:1 unknown key `ignoreip` in [ban] [here it is `prefixes` in [allow]]"),
        ("[ban]\n  files = []\n", "2:3 unknown key `files` in [ban] [it belongs in [jail.NAME]]"),
        ("[ban]\nwhatever_this_is = 1\n", "2:1 unknown key `whatever_this_is` in [ban]"),
        ("[ban]\nescalate = { facto = 2 }\n", "2:14 unknown key `facto` in [ban.escalate] [did you mean `factor`?]"),
        ("[ban.spread]\nhost = 2\nipv4 = 24\n", "2:1 unknown key `host` in [ban.spread] [did you mean `hosts`?]"),
        ("[allow]\nprefix = []\n", "2:1 unknown key `prefix` in [allow] [did you mean `prefixes`?]"),
        ("[limits]\nban = 1\n", "2:1 unknown key `ban` in [limits] [did you mean `bans`?]"),
        ("[jail]\nenabled = true\n", "2:1 unknown key `enabled` in [jail] [it belongs in [jail.NAME]]"),
        // Single firewalls.
        (
            "[ban]\nbackend = \"command\"\n",
            "2:11 `backend = \"command\"` needs a program to tell the bans to [write `run = [\"/usr/libexec/sshguard/sshg-fw-nft-sets\"]` in [backend.command]]",
        ),
        ("[backend]\npaths = []\n", "2:1 unknown key `paths` in [backend] [did you mean `path`?]"),
        ("[backend.ipset]\nvariant = \"nf\"\n", "2:11 `nf` is not a word for `variant`: it is one of auto, nft, legacy [did you mean `nft`?]"),
        ("[backend.iptables]\nchain = \"x\"\n", "2:1 unknown key `chain` in [backend.iptables]"),
        (
            "[backend.iptables]\nipv4_chain = \"INPUT\"\n",
            "2:14 `INPUT` is a name of iptables' own: a chain of ours is emptied and filled by us alone",
        ),
        ("[backend.memory]\n", "1:10 there is nothing to set for the backend `memory`"),
        (
            "[backend.ipset]\nname = \"-flush\"\n",
            "2:8 `-flush` is no name for it: a letter, then letters, digits, `_` and `-`, 12 at most",
        ),
        ("[backend.pf]\nanchor = \"a//b\"\n", "2:10 `a//b` is no anchor: names with `/` between, without one at its ends"),
        (
            "[backend.command]\nrun = [\"sshg-fw\"]\n",
            "2:7 `sshg-fw` is not absolute: paths begin with / [no shell runs it: name the program by its whole path]",
        ),
        ("[backend.nginx]\nreload = []\n", "2:10 `reload` has 0 entries; it takes 1 to 64"),
        ("[backend.hosts]\nfile = \"/etc/hosts.*\"\n", "2:8 `/etc/hosts.*` must be one path, without wildcards"),
        // Feeds.
        ("[feed.a]\n", "1:7 feed `a` has no list: write `url = \"https://...\"` or `path = \"/...\"`"),
        ("[feed.a]\npath = \"/a\"\nurl = \"https://example.org/\"\n", "3:1 feed `a` has both a `path` and a `url`: write one"),
        ("[feed.a]\npath = \"https://example.org/\"\n", "2:8 `https://example.org/` is not absolute: paths begin with / [write it as `url`]"),
        ("[feed.a]\nurl = \"/a\"\n", "2:7 `/a` is no URL: it begins with https:// [a file is written as `path`]"),
        (
            "[feed.a]\nurl = \"http://example.org/\"\n",
            "2:7 `http://example.org/` is not encrypted: anybody on the way could shut out whom he likes [write https://]",
        ),
        (
            "[feed.a]\nurl = \"https://example.org/\"\nevery = \"5m\"\n",
            "3:9 `every` is 5m, but must be 10m to 4w: of a `url`: the server is somebody else's, and throws out who asks too often",
        ),
        ("[feed.a]\npath = \"/a\"\nformat = \"jsn\"\n", "3:10 `jsn` is not a word for `format`: it is one of plain, netset, csv, json, crowdsec, drop-json [did you mean `json`?]"),
        ("[feed.a]\npath = \"/a\"\nevry = 1\n", "3:1 unknown key `evry` in [feed.a] [did you mean `every`?]"),
        ("[feed.A]\npath = \"/a\"\n", "1:7 `A` cannot be a feed's name: a letter or digit, then a-z, 0-9, `.`, `_` and `-`, 64 at most [did you mean `a`?]"),
        ("[feed]\npath = \"/a\"\n", "2:1 unknown key `path` in [feed] [it belongs in [feed.NAME]]"),
        ("[[feed]]\n", "1:1 `feed` must be a table of feeds, each written [feed.NAME], not a list"),
        // Filters of fail2ban.
        ("[jail.sshd]\nfail2ban = \"/x\"\n", "2:12 `/x` is no filter of fail2ban [write the filter's .conf file; its .local is read with it]"),
        ("[jail.sshd]\nfail2ban = \"sshd.conf\"\n", "2:12 `sshd.conf` is not absolute: paths begin with /"),
        ("[jail.sshd]\nfail2ban = [\"/a.conf\"]\n", "2:12 `fail2ban` must be a text, not a list"),
        (
            "[jail.sshd]\noptions = { mode = \"ddos\" }\n",
            "2:11 jail `sshd` has `options`, but no filter they are for [write fail2ban = \"/etc/fail2ban/filter.d/NAME.conf\"]",
        ),
        (
            "[jail.sshd]\nfail2ban = \"/a.conf\"\noptions = \"mode=ddos\"\n",
            "3:11 `options` must be a table like { mode = \"aggressive\" }, not a string",
        ),
        (
            "[jail.sshd]\nfail2ban = \"/a.conf\"\noptions = { mode = true }\n",
            "3:20 `mode` must be a text like \"aggressive\", or a number, not a boolean",
        ),
        (
            "[jail.sshd]\nfail2ban = \"/a.conf\"\noptions = { \"a b\" = \"\" }\n",
            "3:13 `a b` is no option of a filter: letters, digits, `_`, `-`, `.`",
        ),
        // Types.
        ("ban = 1\n", "1:7 `ban` must be a table, written [ban], not an integer"),
        ("[[jail]]\n", "1:1 `jail` must be a table of jails, each written [jail.NAME], not a list"),
        ("[ban]\nkill_states = \"yes\"\n", "2:15 `kill_states` must be true or false, not a string"),
        ("[ban]\nmax_retry = 2.5\n", "2:13 `max_retry` must be a whole number, not a float"),
        ("[ban]\nban_time = true\n", "2:12 `ban_time` must be a duration like \"10m\" or a number of seconds, not a boolean"),
        ("[ban]\nescalate = 2\n", "2:12 `escalate` must be a table like { factor = 2, max = \"1w\", forget = \"30d\" }, not an integer"),
        ("[allow]\nprefixes = \"::1\"\n", "2:12 `prefixes` must be a list of texts like \"198.51.100.0/24\", not a string"),
        ("[allow]\nnames = [1]\n", "2:10 `names` must be a list of host names, not an integer"),
        ("[limits]\nline = false\n", "2:8 `line` must be a size like \"16KiB\" or a number of bytes, not a boolean"),
        // Words.
        ("[ban]\nbackend = \"nftable\"\n", "2:11 `nftable` is not a word for `backend`: it is one of auto, nftables, ipset, iptables, pf, ipfw, hosts, nginx, command, memory [did you mean `nftables`?]"),
        ("[ban]\naction = \"rejct\"\n", "2:10 `rejct` is not a word for `action`: it is one of drop, reject [did you mean `reject`?]"),
        (
            "[allow]\nauto = [\"self\", \"admin_session\"]\n",
            "2:17 `admin_session` is not a word for `auto`: it is one of loopback, self, gateways, resolvers, admin-sessions [did you mean `admin-sessions`?]",
        ),
        ("[jail.sshd]\nsignatures = [\"ssdh\"]\n", "2:15 there is no signature `ssdh` [did you mean `sshd`?]"),
        ("[jail.sshd]\nsignatures = [\"postfix\"]\n", "2:15 there is no signature `postfix` [`palisade signatures` lists what there is]"),
        // Values.
        ("[ban]\nban_time = \"ten\"\n", "2:12 `ten` is not a duration: write it like 90s, 10m, 1h30m, 2d, 1w or permanent"),
        ("[ban]\nban_time = -5\n", "2:12 `-5` is not a duration: write it like 90s, 10m, 1h30m, 2d, 1w or permanent"),
        ("[allow]\nprefixes = [\"0.0.0.0/0\"]\n", "2:13 `0.0.0.0/0` is everyone: with it nobody could ever be banned"),
        ("[allow]\nprefixes = [\"::/0\"]\n", "2:13 `::/0` is everyone: with it nobody could ever be banned"),
        ("[allow]\nprefixes = [\"192.0.2.0/33\"]\n", "2:13 `192.0.2.0/33`: a prefix length of this family is 0 to 32"),
        (
            "[allow]\nprefixes = [\"example.org\"]\n",
            "2:13 `example.org` is not an IPv4 or IPv6 address or prefix [host names belong in `names`]",
        ),
        ("[allow]\nnames = [\"192.0.2.1\"]\n", "2:10 `192.0.2.1` is not a host name [addresses belong in `prefixes`]"),
        ("[jail.SSHD]\n", "1:7 `SSHD` cannot be a jail's name: 1 to 64 of a-z, 0-9, `.`, `_` and `-` [did you mean `sshd`?]"),
        ("[jail.sshd]\nfiles = [\"auth.log\"]\n", "2:10 `auth.log` is not absolute: paths begin with /"),
        ("[jail.sshd]\njournal = [\"ssh\"]\n", "2:12 `ssh` is not a journal match: write it like _SYSTEMD_UNIT=ssh.service"),
        (
            "[jail.sshd]\nports = [\"shh\"]\n",
            "2:10 `shh` is not a port: write a number, a range like 6000-6007, or a service's name [did you mean `ssh`?]",
        ),
        ("[jail.sshd]\nports = [\"1-40\"]\n", "2:10 `1-40` is more than 32 ports: leave `ports` out to mean all of them"),
        ("[jail.sshd]\nports = [\"1-20\", \"40-60\"]\n", "2:9 these are more than 32 ports: leave `ports` out to mean all of them"),
        ("[jail.sshd]\nports = 22\n", "2:9 `ports` must be \"all\" or a list like [\"ssh\", 2222, \"6000-6007\"], not an integer"),
        // Duplicates.
        ("[allow]\nprefixes = [\"192.0.2.9/24\", \"192.0.2.0/24\"]\n", "2:29 `192.0.2.0/24` is listed twice"),
        ("[ban]\nmax_retry = 1\nmax_retry = 2\n", "3:1 not valid TOML: duplicate key"),
        ("[ban]\n[allow]\n[ban]\n", "3:2 not valid TOML: duplicate key"),
        // What does not go together.
        (
            "[ban]\nescalate = { factor = 2, steps = [\"1h\"], within = \"1d\" }\n",
            "2:12 `escalate` grows either by `factor`, `max` and `forget` or by `steps` and `within`, not by both",
        ),
        ("[ban]\nescalate = { steps = [\"1h\"] }\n", "2:12 a ladder of bans needs `within`, like \"24h\""),
        ("[ban]\nescalate = { steps = [\"1h\", \"1m\"], within = 60 }\n", "2:29 a later step cannot be shorter than the one before it"),
        ("[ban]\nban_time = \"2w\"\nescalate = { max = \"1w\" }\n", "3:20 `max` = 1w is shorter than the `ban_time` of 2w it is to limit"),
        (
            "[ban]\nspread = { hosts = 3 }\n",
            "2:10 `spread` has `hosts` but neither `ipv4` nor `ipv6`: hosts within what? [write it like { ipv4 = 24, hosts = 4 }]",
        ),
        (
            "[ban]\nspread = { ipv6 = 64 }\n",
            "2:10 `spread` has ipv6 = 64, which is no wider than `ipv6_prefix` = 64 [a wider prefix has a length below 64]",
        ),
        (
            "[ban]\nspread = { ipv4 = 24 }\n[jail.sshd]\nipv4_prefix = 24\n",
            "4:15 `spread` has ipv4 = 24, which is no wider than `ipv4_prefix` = 24 [a wider prefix has a length below 24]",
        ),
        // What is missing.
        ("[jail.x]\nsignatures = [\"sshd\"]\nfiles = []\n", "1:7 jail `x` has no source: write `files` or `journal`, or `enabled = false`"),
        ("[jail.sshd]\nfiles = []\n", "1:7 jail `sshd` has no source: write `files` or `journal`, or `enabled = false`"),
        ("[jail.shd]\nfiles = [\"/a\"]\n", "1:7 jail `shd` has no signatures: nothing would ever match [did you mean `sshd`?]"),
        ("[jail.sshd]\nsignatures = []\n", "2:14 jail `sshd` has no signatures: nothing would ever match"),
    ]
    .into_iter()
    .map(|(text, wanted)| (text.to_owned(), wanted))
    .chain([(format!("{jail}ipv6_prefix = 129\n"), "4:15 `ipv6_prefix` is 129, but must be 16 to 128: a wider ban would shut out a large part of the Internet")])
    .collect();
    for (text, wanted) in cases {
        assert_eq!(told(&text), [wanted], "{text}");
    }
}

#[test]
fn ranges_are_told_with_their_reason() {
    for (key, wrong, right) in [
        ("max_retry", ["0", "1001", "-1", "99999999999999999999"], ["1", "1000", "0x10", "1_0"]),
        ("find_time", ["0", "\"53w\"", "\"permanent\"", "\"1ms\""], ["1", "\"365d\"", "60", "\"1h\""]),
        ("ban_time", ["0", "\"0s\"", "\"9999999999w\"", "\"36501d\""], ["\"1s\"", "\"permanent\"", "-1", "\"36500d\""]),
        ("manual_time", ["0", "\"999ms\"", "\"9999999999w\"", "\"36501d\""], ["\"1s\"", "\"permanent\"", "-1", "3600"]),
        ("ipv4_prefix", ["7", "33", "0", "256"], ["8", "32", "24", "16"]),
        ("ipv6_prefix", ["15", "129", "0", "-64"], ["16", "128", "48", "64"]),
        ("escalate.factor", ["0.5", "nan", "inf", "1000.5"], ["1", "1000", "1.5", "2.0"]),
        ("spread.ipv4", ["7", "33", "64", "-1"], ["8", "24", "31", "16"]),
    ] {
        for value in wrong {
            let errors = read(&format!("[ban]\n{key} = {value}\n")).unwrap_err();
            assert_eq!(errors.errors.len(), 1, "{errors}");
            assert!(matches!(errors.errors[0].problem, Problem::Range { .. }), "{errors}");
            assert_eq!((errors.errors[0].line, errors.errors[0].column), (2, key.len() + 4), "{errors}");
        }
        for value in right {
            good(&format!("[ban]\n{key} = {value}\n"));
        }
    }
    for (key, value) in [("line", "\"2MiB\""), ("line", "255"), ("bans", "0"), ("tracked_sources", "16777217")] {
        assert_eq!(told(&format!("[limits]\n{key} = {value}\n")).len(), 1);
    }
}

#[test]
fn all_errors_are_told_in_order_up_to_fifty() {
    let told_all = told("[limits]\nx = 1\nline = 0\n[ban]\nzzz = 1\nmax_retry = 0\n[conntrak]\n");
    let lines: Vec<&str> = told_all.iter().map(|line| line.split(' ').next().unwrap()).collect();
    assert_eq!(lines, ["2:1", "3:8", "5:1", "6:13", "7:2"]);

    let many: String = (0..70).map(|n| format!("wrong{n} = 1\n")).collect();
    let errors = read(&many).unwrap_err();
    assert_eq!((errors.errors.len(), errors.more), (MOST_TOLD, 20));
    assert!(errors.to_string().ends_with("\nand 20 more"));
}

#[test]
fn no_toml_is_told_with_its_place() {
    for (text, place) in
        [("[ban\nmax_retry = 1\n", "1:5"), ("[ban]\nmax_retry 1\n", "2:11"), ("[ban]\naction = \"dro\n", "2:14"), ("a = \u{1}", "1:5")]
    {
        let first = told(text).remove(0);
        assert!(first.starts_with(&format!("{place} not valid TOML: ")), "{text:?}: {first}");
    }
    // A file that is no TOML does not hide what is wrong in the others.
    let errors = read_all(&["[ban\n", "[bann]\n"]).unwrap_err();
    assert_eq!(errors.errors.last().unwrap().problem, Problem::UnknownTable("bann".into()));
}

#[test]
fn what_is_too_large_is_refused() {
    let errors = read(&" ".repeat(4 * 1024 * 1024 + 1)).unwrap_err();
    assert!(errors.to_string().starts_with("palisade.toml:1:1: the file has 4194305 bytes"), "{errors}");
    let jails =
        |from: usize, to: usize| (from..to).map(|n| format!("[jail.j{n}]\nenabled=false\nsignatures=[\"sshd\"]\n")).collect::<String>();
    let errors = read(&jails(0, 10_001)).unwrap_err();
    assert!(matches!(errors.errors[0].problem, Problem::TooLarge(_)), "{errors}");
    let errors = read_all(&[&jails(0, 6_000), &jails(6_000, 12_000)]).unwrap_err();
    assert!(matches!(errors.errors[0].problem, Problem::TooLarge(_)), "{errors}");
    assert_eq!(good(&jails(0, 10_000)).jails().len(), 10_005);
    let names: Vec<String> = (0..300).map(|n| format!("\"h{n}.example\"")).collect();
    assert_eq!(told(&format!("[allow]\nnames = [{}]\n", names.join(","))).len(), 1);
}

#[test]
fn an_error_cannot_drive_a_terminal() {
    let errors = read("[ban]\n\"a\\u001b[2J\u{202e}\" = \t1 # \u{202e}\n\"b\" = \"\u{1b}[2J\"\n").unwrap_err();
    assert!(!errors.to_string().chars().any(|c| (c.is_control() && c != '\n') || c == '\u{202e}'), "{errors:?}");
    let errors = read("[ban]\n\"a\\u001b[2J\u{202e}\" = 1 # \u{202e}\n").unwrap_err();
    assert!(!errors.to_string().chars().any(|c| (c.is_control() && c != '\n') || c == '\u{202e}'), "{errors}");
    let far = format!("[allow]\nnames = [{} \"a b\"]\n", " ".repeat(10_000));
    let text = read(&far).unwrap_err().to_string();
    assert!(text.contains("2:10011: ") && text.contains("^^^^^") && text.len() < 600, "{text}");
}

#[test]
fn errors_as_json() {
    let json = read("[ban]\nbantime = 5\n").unwrap_err().to_json();
    let wanted = serde_json::json!([{
        "file": "palisade.toml", "line": 2, "column": 1, "kind": "unknown-key",
        "message": "unknown key `bantime` in [ban]", "hint": "did you mean `ban_time`?",
    }]);
    assert_eq!(json, wanted);
}

#[test]
fn a_whole_sample_is_read() {
    let config = good(
        r#"
        [ban]
        backend = "auto"
        ban_time = "10m"
        find_time = "10m"
        max_retry = 5
        escalate = { factor = 2, max = "1w", forget = "30d" }
        manual_time = "1d"
        ipv4_prefix = 32
        ipv6_prefix = 64
        spread = { ipv4 = 24, hosts = 4 }
        kill_states = true
        forgive = true
        [allow]
        prefixes = ["198.51.100.0/24"]
        names = []
        auto = ["loopback", "self", "gateways", "resolvers", "admin-sessions"]
        [jail.sshd]
        signatures = ["sshd"]
        files = ["/var/log/auth.log"]
        journal = ["_SYSTEMD_UNIT=ssh.service"]
        max_retry = 3
        ban_time = "1h"
        ports = ["ssh"]
        "#,
    );
    let jail = sshd(&config);
    assert_eq!((jail.policy.max_retry, jail.policy.ban_time), (3, Term::For(Span::secs(3600))));
    assert_eq!((config.ban().policy.max_retry, jail.policy.find_time), (5, Span::secs(600)));
    assert_eq!(jail.policy.spread, Spread { ipv4: Some((24, 4)), ipv6: None });
    assert_eq!(jail.policy.ports, Ports::only([22]).unwrap());
    assert_eq!(config.allow().prefixes, ["198.51.100.0/24".parse().unwrap()]);
    assert_eq!(jail.reads(true), Reads::Journal(&["_SYSTEMD_UNIT=ssh.service".to_owned()]));
    assert_eq!(jail.reads(false), Reads::Files(&["/var/log/auth.log".to_owned()]));
}

#[test]
fn later_files_win_key_by_key() {
    let config = read_all(&[
        "[ban]\nmax_retry = 3\nban_time = 60\n[jail.sshd]\nmax_retry = 2\nports = [22]\n[allow]\nauto = [\"self\"]\n",
        "[ban]\nban_time = \"2m\"\n[jail.sshd]\nports = [\"2222\"]\n[limits]\nbans = 7\n",
        "[jail.sshd]\nfind_time = \"1m\"\n[jail.\"my.app\"]\nsignatures = [\"sshd\"]\nfiles = [\"/a\"]\n",
    ])
    .unwrap();
    let (ban, jail) = (config.ban(), sshd(&config));
    assert_eq!((ban.policy.max_retry, ban.policy.ban_time), (3, Term::For(Span::secs(120))));
    assert_eq!((jail.policy.max_retry, jail.policy.find_time, &jail.policy.ports), (2, Span::secs(60), &Ports::only([2222]).unwrap()));
    assert_eq!(config.allow().auto, AutoAllow { own: true, ..AutoAllow::NONE });
    assert_eq!(config.limits().bans, 7);
    assert_eq!(config.jail(&"my.app".into()).unwrap().policy.ban_time, Term::For(Span::secs(120)));
    // What is missing may come from another file.
    assert!(read_all(&["[jail.x]\nfiles = [\"/a\"]\n", "[jail.x]\nsignatures = [\"sshd\"]\n"]).is_ok());
}

#[test]
fn a_feed_is_followed_as_it_says() {
    let config = good(
        "[feed.drop]\nurl = \"https://example.org/drop.json\"\nformat = \"drop-json\"\n[feed.own]\npath = \"/srv/own\"\nenabled = false\n",
    );
    let drop = config.feed("drop").unwrap();
    assert_eq!(
        (drop.format, drop.every, drop.guard.most, drop.guard.change),
        (crate::tables::Format::DropJson, Span::secs(21_600), 500_000, 0.5)
    );
    assert!(config.feed("own").is_none() && config.feeds()["own"].every == Span::secs(300));
    // A later file may put one kind of source in place of the other.
    let config = read_all(&["[feed.a]\nurl = \"https://example.org/\"\nmost = 7\n", "[feed.a]\npath = \"/a\"\n"]).unwrap();
    let feed = &config.feeds()["a"];
    assert_eq!((&feed.source, feed.guard.most), (&FeedSource::Path("/a".to_owned()), 7));
    assert!(Config::builtin().feeds().is_empty());
}

#[test]
fn escalation_and_neighbourhoods_are_single_values() {
    let config = good("[ban]\nescalate = { factor = 4 }\nspread = { ipv6 = 48 }\n[jail.sshd]\nescalate = { max = \"2d\" }\nspread = {}\n");
    let factor = |factor, max| Escalate::Factor { factor: f64Eq(factor), max: Term::For(max), forget: days(30) };
    assert_eq!(config.ban().policy.escalate, factor(4.0, days(7)));
    assert_eq!(sshd(&config).policy.escalate, factor(2.0, days(2)));
    assert_eq!(config.ban().policy.spread, Spread { ipv4: None, ipv6: Some((48, 4)) });
    assert_eq!(sshd(&config).policy.spread, Spread::default());
    let config = good("[jail.sshd]\nescalate = { steps = [\"5m\", 600, \"permanent\"], within = \"24h\" }\n");
    let steps = vec![Term::For(Span::secs(300)), Term::For(Span::secs(600)), Term::Forever];
    assert_eq!(sshd(&config).policy.escalate, Escalate::Ladder { steps, within: days(1) });
    // A default `max` never cuts a longer ban_time.
    let config = good("[jail.sshd]\nban_time = \"permanent\"\n");
    assert!(matches!(sshd(&config).policy.escalate, Escalate::Factor { max: Term::Forever, .. }));
}

#[test]
fn the_defaults_guard_a_host_with_and_without_log_files() {
    let config = read("").unwrap();
    assert_eq!(config, Config::builtin());
    assert_eq!(config.ban().policy, Policy::default());
    assert_eq!(config.allow().auto, AutoAllow::ALL);
    let names: Vec<&str> = config.jails().keys().map(|name| &*name.0).collect();
    assert_eq!(names, ["dropbear", "sshd", "web-auth", "web-cms", "web-probes"]);
    for jail in config.jails().values() {
        assert!(jail.enabled && jail.policy == Policy::default() && jail.reads(false) != Reads::Nothing, "{}", jail.name);
        assert!(jail.signatures.iter().all(|name| signature::ALL.contains(&name.as_str())));
        // Only fields that no process can forge; what it can choose, its name, only from root.
        for entry in &jail.journal {
            assert!(entry.split(' ').all(|term| term.starts_with('_')), "{entry}");
            assert!(!entry.contains("_COMM=") || entry.ends_with(" _UID=0"), "{entry}");
        }
    }
    // The defaults themselves pass the reader.
    assert_eq!(good(&show(&config)), config);
}

#[test]
fn the_sample_for_freebsd_is_a_good_config() {
    let config = good(include_str!("../../../etc/freebsd/palisade.toml"));
    assert_eq!((config.ban().backend, config.backends()), (Some(Backend::Pf), &BackendSection::default()));
}

#[test]
fn the_example_holds_every_key_with_its_default() {
    assert_eq!(good(EXAMPLE), Config::builtin());
    for (place, text) in [("the example", EXAMPLE), ("the man page", MAN_PAGE)] {
        let keys = [
            blocklistd::BLOCKLISTD_KEYS,
            raw::POLICY_KEYS,
            raw::BAN_KEYS,
            raw::ALLOW_KEYS,
            raw::LIMITS_KEYS,
            raw::JAIL_KEYS,
            raw::ESCALATE_KEYS,
            raw::SPREAD_KEYS,
        ];
        let backends = backends::TABLES.iter().flat_map(|(_, keys)| *keys).chain(backends::BACKEND_KEYS);
        let feeds = feeds::FEED_KEYS.iter().chain(feeds::FORMATS.iter().map(|(word, _)| word));
        use super::routing as r;
        let routing = [
            r::SETTINGS_KEYS,
            r::UPLINK_KEYS,
            r::TABLE_KEYS,
            r::TRACK_KEYS,
            r::LINES_KEYS,
            r::RULE_KEYS,
            r::POLICY_KEYS,
            r::MEMBER_KEYS,
            r::FAILOVER_KEYS,
            r::FAILBACK_KEYS,
            r::TUNNEL_KEYS,
            r::READY_KEYS,
            r::BACKOFF_KEYS,
            r::FATAL_KEYS,
            r::BUDGET_KEYS,
            r::LIMIT_KEYS,
            r::LOCKOUT_KEYS,
        ];
        let routing = routing.concat();
        use conntrack as c;
        let flood = [c::CONNTRACK_KEYS, c::LIMIT_KEYS, c::SERVICE_KEYS, c::TCP_STATES, c::UDP_STATES, c::TIMEOUTS].concat();
        for key in keys
            .concat()
            .iter()
            .chain(&routing)
            .chain(&flood)
            .chain(c::ACTIONS.iter().map(|(word, _)| word))
            .chain(backends)
            .chain(feeds)
            .chain(raw::AUTO_WORDS)
            .chain(raw::BACKENDS)
            .chain(raw::ACTIONS)
        {
            assert!(text.contains(key), "{place} does not tell of {key}");
        }
    }
    for (name, _) in defaults::SERVICES {
        assert!(MAN_PAGE.contains(name), "the man page does not tell of the port name {name}");
    }
}

#[test]
fn the_man_pages_examples_are_read() {
    let blocks: Vec<&str> = MAN_PAGE.split("```toml\n").skip(1).map(|rest| rest.split("```").next().unwrap()).collect();
    assert!(!blocks.is_empty());
    for block in blocks {
        good(block);
    }
}

#[test]
fn every_listed_key_is_taken() {
    // A key in the tables that hints are made of, but not in the reader, would be hinted at in vain.
    for (table, keys) in [
        ("ban", [raw::POLICY_KEYS, raw::BAN_KEYS].concat()),
        ("allow", raw::ALLOW_KEYS.to_vec()),
        ("limits", raw::LIMITS_KEYS.to_vec()),
        ("jail.sshd", [raw::POLICY_KEYS, raw::JAIL_KEYS].concat()),
        ("ban.escalate", raw::ESCALATE_KEYS.to_vec()),
        ("ban.spread", raw::SPREAD_KEYS.to_vec()),
        ("backend", backends::BACKEND_KEYS.to_vec()),
        ("backend.ipset", backends::IPSET_KEYS.to_vec()),
        ("backend.iptables", backends::IPTABLES_KEYS.to_vec()),
        ("backend.pf", backends::PF_KEYS.to_vec()),
        ("backend.ipfw", backends::IPFW_KEYS.to_vec()),
        ("backend.hosts", backends::HOSTS_KEYS.to_vec()),
        ("backend.nginx", backends::NGINX_KEYS.to_vec()),
        ("backend.command", backends::COMMAND_KEYS.to_vec()),
        ("feed.a", feeds::FEED_KEYS.to_vec()),
        ("blocklistd", blocklistd::BLOCKLISTD_KEYS.to_vec()),
        ("conntrack", conntrack::CONNTRACK_KEYS.to_vec()),
        ("conntrack.limit", conntrack::LIMIT_KEYS.to_vec()),
        ("conntrack.timeouts", conntrack::TIMEOUTS.to_vec()),
        ("conntrack.service.a", conntrack::SERVICE_KEYS.to_vec()),
        ("conntrack.service.a.timeouts", [conntrack::TCP_STATES, conntrack::UDP_STATES].concat()),
        ("routing", super::routing::SETTINGS_KEYS.to_vec()),
        ("uplink.a", super::routing::UPLINK_KEYS.to_vec()),
        ("uplink.a.table", super::routing::TABLE_KEYS.to_vec()),
        ("uplink.a.track", super::routing::TRACK_KEYS.to_vec()),
        ("uplink.a.track.loss", super::routing::LINES_KEYS.to_vec()),
        ("uplink.a.track.latency", super::routing::LINES_KEYS.to_vec()),
        ("[rule]", super::routing::RULE_KEYS.to_vec()),
        ("policy.a", super::routing::POLICY_KEYS.to_vec()),
        ("[policy.a.members]", super::routing::MEMBER_KEYS.to_vec()),
        ("policy.a.on_failover", super::routing::FAILOVER_KEYS.to_vec()),
        ("policy.a.on_failback", super::routing::FAILBACK_KEYS.to_vec()),
        ("tunnel.a", super::routing::TUNNEL_KEYS.to_vec()),
        ("tunnel.a.ready", super::routing::READY_KEYS.to_vec()),
        ("tunnel.a.backoff", super::routing::BACKOFF_KEYS.to_vec()),
        ("tunnel.a.fatal", super::routing::FATAL_KEYS.to_vec()),
        ("budget.a", super::routing::BUDGET_KEYS.to_vec()),
        ("budget.a.limit", super::routing::LIMIT_KEYS.to_vec()),
        ("budget.a.lockout", super::routing::LOCKOUT_KEYS.to_vec()),
    ] {
        for key in keys {
            let errors = read(&format!("[{table}]\n{key} = 1979-05-27\n")).unwrap_err();
            assert!(errors.errors.iter().any(|e| matches!(e.problem, Problem::Type { .. })), "{errors}");
            assert!(!errors.errors.iter().any(|e| matches!(e.problem, Problem::UnknownKey { .. })), "{errors}");
        }
    }
}

#[test]
fn hostile_shapes_are_refused_without_harm() {
    // Deep enough to run off a stack that follows it, small enough for a test.
    let large = 200_000;
    for text in [
        "[".repeat(large),
        format!("a = {}", "[".repeat(large - 4)),
        format!("a = {}", "{b=".repeat(large / 4)),
        "=\n".repeat(large / 2),
        "=\n".repeat(20_000),
        format!("{}a = 1\n", "a.".repeat(large)),
        format!("[{}a]\n", "a.".repeat(large)),
        (0..20_000).map(|n| format!("k{n} = 1\n")).collect(),
        format!("[allow]\nprefixes = [{}]\n", "\"::1\",".repeat(20_000)),
    ] {
        let errors = read(&text).unwrap_err();
        assert!(errors.errors.len() <= MOST_TOLD && errors.to_string().len() < 100_000);
    }
}

/// A random valid config.
fn config_text() -> impl Strategy<Value = String> {
    let term = prop_oneof![(1u64..1_000_000).prop_map(|s| format!("\"{}\"", Span::millis(s * 1013))), Just("\"permanent\"".into())];
    let escalate = prop_oneof![
        (1.0f64..1000.0, 1u64..99).prop_map(|(factor, d)| format!("{{ factor = {factor}, forget = \"{d}d\" }}")),
        (1u64..99, 99u64..999).prop_map(|(a, b)| format!("{{ steps = [{a}, \"{b}m\", \"permanent\"], within = {b} }}")),
    ];
    let spread = prop_oneof![
        Just("{}".to_owned()),
        (8u8..24, 16u8..48, 2u32..99).prop_map(|(a, b, n)| format!("{{ ipv4 = {a}, ipv6 = {b}, hosts = {n} }}")),
    ];
    let policy = (term, 1u64..100_000, 1u16..1000, escalate, 24u8..=32, 48u8..=128, spread, any::<bool>()).prop_map(
        |(ban, find, retry, escalate, v4, v6, spread, kill)| {
            format!(
                "ban_time = {ban}\nfind_time = {find}\nmax_retry = {retry}\nescalate = {escalate}\nipv4_prefix = {v4}\n\
                 ipv6_prefix = {v6}\nspread = {spread}\nkill_states = {kill}\n"
            )
        },
    );
    let sources = ("[a-z*?\"'# \\[äé]{0,20}", "_?[A-Z][A-Z_]{0,8}=[a-z\"'#=äé\\\\]{1,9}", any::<bool>());
    let jail = ("[a-z0-9._-]{1,12}", sources, prop::collection::vec(1u16..=65535, 0..32), policy.clone()).prop_map(
        |(name, (file, entry, enabled), ports, policy)| {
            let text = |s: &str| toml::Value::String(s.to_owned()).to_string();
            let file = text(&format!("/{}x", file.replace('[', "[a]")));
            let ports: Vec<u16> = ports.into_iter().collect::<BTreeSet<_>>().into_iter().collect();
            let filter = if enabled { String::new() } else { format!("fail2ban = \"/x.conf\"\noptions = {{ \"{name}\" = {file} }}\n") };
            format!(
                "[jail.\"{name}\"]\nenabled = {enabled}\nsignatures = [\"sshd\", \"dropbear\"]\nfiles = [{file}]\njournal = [{}]\nports = {ports:?}\n{filter}{policy}",
                text(&entry)
            )
        },
    );
    let allow = (any::<u32>(), 1u8..=32, any::<u128>(), 1u8..=128, any::<bool>()).prop_map(|(a, al, b, bl, all)| {
        let (a, b) = (std::net::Ipv4Addr::from_bits(a), std::net::Ipv6Addr::from_bits(b));
        let bl = if b.to_ipv4_mapped().is_some() { 128 } else { bl };
        let auto = if all { "[\"self\", \"resolvers\"]" } else { "[]" };
        format!("[allow]\nprefixes = [\"{a}/{al}\", \"{b}/{bl}\"]\nnames = [\"a.example\"]\nauto = {auto}\n")
    });
    let limits = (1usize..9_999_999, 256usize..1_048_576).prop_map(|(n, line)| format!("[limits]\nbans = {n}\nline = {line}\n"));
    let backends =
        ("[a-zA-Z][a-zA-Z0-9_-]{0,11}", "[a-z/]{0,9}[^\\p{C}*?\\[/.]", 0usize..3, 1u16..=65_533).prop_map(|(name, path, n, rule)| {
            let (variant, path) = (backends::VARIANTS[n], toml::Value::String(format!("/{path}")));
            format!(
                "[backend]\npath = [\"/a/\", \"/b\"]\n[backend.ipset]\nvariant = \"{variant}\"\nname = \"{name}\"\n\
             [backend.iptables]\nvariant = \"{variant}\"\nipv4_chain = \"{name}\"\nipv6_chain = \"{name}\"\n\
             [backend.pf]\nanchor = \"{name}/{name}\"\ntable = \"{name}\"\n[backend.ipfw]\ntable = \"{name}\"\nrule = {rule}\n\
             [backend.hosts]\nfile = {path}\n[backend.nginx]\nfile = {path}\nreload = [{path}, \"-x\", \"-x\"]\n\
             [backend.command]\nrun = [{path}, {path}]\n"
            )
        });
    let feed = ("[a-z0-9][a-z0-9._-]{0,9}", "[a-z/]{0,9}[^\\p{C}*?\\[/.]", any::<bool>(), 0usize..6, 600u64..99_999, 1usize..9_999, 0.0f64..9.0)
        .prop_map(|(name, file, remote, format, every, most, change)| {
            let (path, word) = (toml::Value::String(format!("/{file}")), feeds::FORMATS[format].0);
            let source = if remote { "url = \"https://example.org/x?y=z\"".to_owned() } else { format!("path = {path}") };
            format!("[feed.\"{name}\"]\nenabled = {remote}\n{source}\nformat = \"{word}\"\nevery = {every}\nmost = {most}\nchange = {change}\nca = {path}\n")
        });
    let backend = prop::sample::select(raw::BACKENDS.to_vec());
    let named = (prop::option::of(jail), prop::option::of(feed));
    let flood = prop::option::of(flood::section());
    (policy, backends, allow, limits, named, backend, flood).prop_map(|(policy, backends, allow, limits, (jail, feed), backend, flood)| {
        let (jail, feed, flood) = (jail.unwrap_or_default(), feed.unwrap_or_default(), flood.unwrap_or_default());
        format!("[ban]\nbackend = \"{backend}\"\n{policy}{backends}{allow}{limits}{jail}{feed}{flood}")
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn what_is_shown_reads_back(text in config_text()) {
        let config = good(&text);
        let shown = show(&config);
        let again = read(&shown).map_err(|e| TestCaseError::fail(format!("{e}\n{shown}")))?;
        prop_assert_eq!(&again, &config);
        prop_assert_eq!(show(&again), shown);
    }

    #[test]
    fn any_text_is_read_or_refused(text in any::<String>()) {
        if let Err(errors) = read(&text) {
            let _ = (errors.to_string(), errors.to_json());
        }
    }

    #[test]
    fn toml_like_text_is_read_or_refused(parts in prop::collection::vec(prop::sample::select(vec![
        "[", "]", "[[", "]]", "{", "}", "=", "\n", "\"", "'", ",", ".", "#", "\\", " ", "jail", "ban", "allow", "limits", "sshd", "escalate",
        "steps", "within", "factor", "spread", "ipv4", "hosts", "files", "ports", "1", "-1", "0x", "1e9", "inf", "true", "\"22-\"", "\"\"", "ä",
        "conntrack", "engage", "release", "limit", "rate", "service", "timeouts", "tcp_established", "\"70%\"", "\"5/second\"",
    ]), 0..60)) {
        if let Err(errors) = read(&parts.concat()) {
            let _ = (errors.to_string(), errors.to_json());
        }
    }

    #[test]
    fn a_damaged_config_is_read_or_refused_with_a_place(cut in 0..EXAMPLE.len(), drop in 0usize..40, put in "[\\PC\n]{0,12}") {
        let (mut start, mut end) = (cut, (cut + drop).min(EXAMPLE.len()));
        while !EXAMPLE.is_char_boundary(start) { start -= 1; }
        while !EXAMPLE.is_char_boundary(end) { end += 1; }
        let text = format!("{}{put}{}", &EXAMPLE[..start], &EXAMPLE[end..]);
        if let Err(errors) = read(&text) {
            for error in &errors.errors {
                let line = text.split('\n').nth(error.line - 1);
                prop_assert!(line.is_some_and(|line| error.column <= line.chars().count() + 1), "{}", error);
            }
        }
    }
}
