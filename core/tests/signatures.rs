//! The shipped signatures: their own examples, a peer's corpus, any bytes. What is injected is in `trust`.
#![expect(clippy::disallowed_methods, reason = "a test reads the corpus, which is no part of the repository")]

use std::path::PathBuf;
use std::str;
use std::sync::Arc;

use palisade_core::attack::{Attack, Sign};
use palisade_core::scan::{JailScan, Line, LogClock, Reason, Scanner, Signature, SignatureError, builtin, load, shipped};
use palisade_core::time::Stamp;
use proptest::prelude::*;

fn scanner(signatures: &[Arc<Signature>]) -> Scanner {
    Scanner::new(&[JailScan::of("test".into(), signatures.to_vec())])
}

fn attacks(scanner: &Scanner, line: &[u8]) -> Vec<Attack> {
    heard(scanner, Line::raw(line))
}

fn heard(scanner: &Scanner, line: Line<'_>) -> Vec<Attack> {
    let mut all = Vec::new();
    let mut state = scanner.state(LogClock::utc(Stamp(0)));
    scanner.scan(&mut state, line, &mut |sign| match sign {
        Sign::Attack(attack) => all.push(attack),
        Sign::Login(_) => {}
    });
    all
}

/// Compiling proves each hit and miss, so this is the test of all of them.
#[test]
fn every_shipped_signature_compiles_and_proves_its_examples() {
    let mut wrong = Vec::new();
    for (name, text) in shipped() {
        match Signature::compile(name, text) {
            Ok(signature) => assert_eq!(signature.name(), *name, "a signature is called as its file"),
            Err(error) => wrong.push(error.to_string()),
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(shipped().len() >= 5);
}

/// Services whose own way to write a date is not read: their lines count when they are read. So says `docs/known-issues.md`.
const OWN_DATES: &[&str] = &["counter-strike", "directadmin", "immich", "mysql", "openhab", "webmin"];

/// A line of a file counts at the time that stands in it, whatever the form.
#[test]
fn a_date_in_a_line_is_read() {
    let mut unread = Vec::new();
    for signature in builtin() {
        if OWN_DATES.contains(&signature.name()) {
            continue;
        }
        let scanner = scanner(std::slice::from_ref(signature));
        let hits = signature.rules().iter().filter(|rule| !rule.is_login()).flat_map(|rule| rule.hits());
        for hit in hits.filter(|hit| hit.line.chars().take(60).collect::<String>().contains("2026")) {
            if attacks(&scanner, hit.line.as_bytes()).iter().any(|attack| attack.at.is_none()) {
                unread.push(format!("{}: {}", signature.name(), hit.line));
            }
        }
    }
    assert!(unread.is_empty(), "{}", unread.join("\n"));
}

/// Signatures that hear every program by their nature: what PAM says, whoever asked it.
const ANY_PROGRAM: &[&str] = &["pam-generic"];

/// Each signature's hits go unnoticed by all others, where a program is named.
#[test]
fn a_named_program_is_heard_by_its_own_signature_only() {
    for other in builtin().iter().filter(|s| !ANY_PROGRAM.contains(&s.name())) {
        for signature in builtin().iter().filter(|s| s.service() != other.service()) {
            for hit in signature.rules().iter().flat_map(|r| r.hits()).filter(|h| h.line.starts_with("Nov 22")) {
                assert!(other.find(Line::raw(hit.line.as_bytes())).is_none(), "{} took {}", other.name(), hit.line);
            }
        }
    }
}

/// sshguard's service numbers and the signatures that know them.
const SERVICES: &[(&str, &[&str])] = &[
    ("100", &["sshd"]),
    ("101", &["dropbear"]),
    ("110", &["sshguard"]),
    ("120", &["named"]),
    ("200", &["uwimap"]),
    ("210", &["dovecot"]),
    ("220", &["cyrus"]),
    ("230", &["cucipop"]),
    ("240", &["exim"]),
    ("250", &["sendmail"]),
    ("260", &["postfix"]),
    ("270", &["opensmtpd"]),
    ("280", &["courier"]),
    ("300", &["ftpd"]),
    ("310", &["proftpd"]),
    ("320", &["pure-ftpd"]),
    ("330", &["vsftpd"]),
    ("340", &["cockpit"]),
    ("350", &["access-auth"]),
    ("360", &["access-probes"]),
    ("370", &["access-cms"]),
    ("380", &["pfsense"]),
    ("400", &["openvpn"]),
    ("410", &["openvpn"]),
    ("500", &["gitea"]),
    ("600", &["mssql"]),
    ("601", &["mysql"]),
    ("700", &["proxmox"]),
];

/// How many there are, and all of them pass.
const PASSED: usize = 216;

fn corpus(file: &str) -> Option<String> {
    let root = std::env::var_os("PALISADE_CORPORA").map_or_else(|| PathBuf::from("../../../shared/corpora"), PathBuf::from);
    let text = std::fs::read_to_string(root.join(file)).ok();
    if text.is_none() {
        eprintln!("SKIPPED: no {file} under $PALISADE_CORPORA or beside the workspace");
    }
    text
}

/// One line of the corpus: what it wants and whether it came out so.
fn judge(line: &str, wanted: &str) -> Option<String> {
    if wanted == "*" {
        let found = attacks(&scanner(builtin()), line.as_bytes());
        return found.first().map(|attack| format!("a miss, but {} found {}", attack.signature, attack.addr));
    }
    let mut words = wanted.split(' ');
    let (service, addr, score) = (words.next()?, words.next()?, words.next_back()?);
    let Some((_, names)) = SERVICES.iter().find(|(code, _)| *code == service) else {
        return Some(format!("no signature for service {service}"));
    };
    let signatures: Vec<_> = names.iter().filter_map(|name| load(name)).collect();
    let found = attacks(&scanner(&signatures), line.as_bytes());
    let good = found.len() == 1 && addr.parse() == Ok(found[0].addr) && found[0].score.to_string() == score;
    (!good).then(|| format!("wanted {wanted}, found {:?}", found.iter().map(|a| (&a.signature, a.addr, a.score)).collect::<Vec<_>>()))
}

#[test]
fn sshguards_corpus() {
    let Some(text) = corpus("sshguard/tests.txt") else { return };
    let lines: Vec<&str> = text.lines().filter(|l| !l.trim().is_empty() && !l.starts_with('#')).collect();
    let (mut good, mut wrong) = (0, Vec::new());
    for case in lines.chunks_exact(3) {
        let Some(why) = judge(case[0], case[1]) else {
            good += 1;
            continue;
        };
        let service = case[1].split(' ').next().unwrap();
        wrong.push(format!("{service}: {why}: {}", case[0]));
    }
    eprintln!("sshguard corpus: {good} of {}", lines.len() / 3);
    assert_eq!(lines.len() / 3, PASSED);
    assert!(wrong.is_empty(), "{wrong:#?}");
    assert_eq!(good, PASSED);
}

/// Real lines of a peer, many with injected addresses: whoever is blamed is the one that peer names.
#[test]
fn fail2bans_samples_blame_nobody_else() {
    const FILES: &[(&str, &str)] = &[
        ("sshd", "sshd"),
        ("dovecot", "dovecot"),
        ("postfix", "postfix"),
        ("exim", "exim"),
        ("proftpd", "proftpd"),
        ("pure-ftpd", "pure-ftpd"),
        ("vsftpd", "vsftpd"),
        ("mssql-auth", "mssql"),
        ("nginx-http-auth", "nginx"),
        ("named-refused", "named"),
        ("courier-auth", "courier"),
    ];
    for (file, signature) in FILES {
        let Some(text) = corpus(&format!("fail2ban/logs/{file}")) else { continue };
        let scanner = scanner(&[load(signature).unwrap()]);
        let (mut host, mut wanted, mut found) = (None, 0, 0);
        for line in text.lines() {
            if line.starts_with('#') || line.trim().is_empty() {
                if let Some((_, rest)) = line.split_once("\"host\": \"") {
                    host = rest.split('"').next();
                }
                continue;
            }
            let named = host.take();
            wanted += u32::from(named.is_some());
            let Some(attack) = attacks(&scanner, line.as_bytes()).pop() else { continue };
            found += u32::from(named.is_some());
            // Read as sshd writes it (auth.c, auth_log): behind `ssh2: ` a password login has nothing, so
            // this is a user name, where fail2ban believes the other half.
            let disputed = line.contains(" ssh2: from ");
            if let Some(addr) = named.and_then(|h| h.parse().ok()).filter(|_| !disputed) {
                assert_eq!(attack.addr, addr, "{} blamed the wrong one: {line}", attack.signature);
            }
        }
        eprintln!("fail2ban's {file}: {found} of {wanted} failures found");
    }
}

#[test]
fn at_most_one_attack_a_jail_and_the_heaviest() {
    let heavy = "name = 'h'\nservice = 'h'\nsummary = ''\nkind = 'plain'\n[[rule]]\nid = 'a'\nscore = 10\npattern = '^x <addr>$'\nhits = [{ line = 'x 192.0.2.7', addr = '192.0.2.7' }]";
    let light = heavy.replace("'h'", "'l'").replace("10", "1");
    let both = [Arc::new(Signature::compile("l", &light).unwrap()), Arc::new(Signature::compile("h", heavy).unwrap())];
    let two = Scanner::new(&["a", "b"].map(|jail| JailScan::of(jail.into(), both.to_vec())));
    let found = attacks(&two, b"x 192.0.2.7");
    let found: Vec<_> = found.iter().map(|a| (a.jail.to_string(), a.signature.to_string(), a.score)).collect();
    assert_eq!(found, [("a".into(), "h/a".into(), 10), ("b".into(), "h/a".into(), 10)]);
}

#[test]
fn a_journal_record_is_not_taken_apart_again() {
    let sshd = scanner(&[load("sshd").unwrap()]);
    let mut found = Vec::new();
    let message = b"Failed password for root from 192.0.2.7 port 50022 ssh2";
    found.extend(heard(&sshd, Line::journal(Some(b"sshd"), None, message, None)));
    found.extend(heard(&sshd, Line::journal(Some(b"nginx"), None, message, None)));
    found.extend(heard(&sshd, Line::journal(Some(b"sshd"), None, b"Nov 22 17:00:00 host sshd[1]: Invalid user x from 203.0.113.9", None)));
    found.extend(heard(&sshd, Line::journal(Some(b"sshd"), None, b"x\nInvalid user x from 203.0.113.9", None)));
    assert_eq!(found.len(), 1);
    assert_eq!((found[0].addr.to_string(), found[0].user.as_deref()), ("192.0.2.7".into(), Some("root")));
}

#[test]
fn what_is_found_is_told() {
    let sshd = scanner(&[load("sshd").unwrap()]);
    let line =
        b"2026-11-22T17:00:00.5+01:00 host sshd-session[7]: Failed password for invalid user a\x1b[2J from 2001:db8::7%eth0 port 9 ssh2";
    let found = attacks(&sshd, line);
    assert_eq!(found[0].signature.as_ref(), "sshd/failed-password");
    assert_eq!(found[0].at.unwrap().0 % 1000, 500);
    assert_eq!(found[0].user.as_deref(), Some("a\\u{1b}[2J"));
    let access = scanner(&[load("access-auth").unwrap()]);
    let found = attacks(&access, br#"192.0.2.7 - - [22/Nov/2026:17:00:00 +0100] "GET / HTTP/1.1" 401 1"#);
    assert_eq!(found[0].at.unwrap().to_string(), "2026-11-22T16:00:00Z");
}

#[test]
fn a_line_explains_itself() {
    let sshd = scanner(&[load("sshd").unwrap()]);
    let reason = |line: &str| sshd.explain(Line::raw(line.as_bytes())).trials.remove(0).reason;
    assert!(
        matches!(reason("Invalid user x from 192.0.2.7"), Reason::Match { score: 10, spans, .. } if spans.contains(&("addr".into(), 20, 29)))
    );
    assert!(matches!(reason("Nov 22 17:00:00 host nginx[1]: Invalid user x from 192.0.2.7"), Reason::Program { .. }));
    assert!(matches!(reason("Invalid user x from 999.0.2.7"), Reason::NoAddress { text, .. } if text == "999.0.2.7"));
    assert!(matches!(reason("Invalid user x from somewhere"), Reason::Nearest { .. } | Reason::Nothing));
    assert!(matches!(reason("Disconnected from user x"), Reason::Nearest { rule, .. } if rule == "sshd/disconnected-user"));
    let access = scanner(&[load("access-cms").unwrap()]);
    let reason = |line: &str| access.explain(Line::raw(line.as_bytes())).trials.remove(0).reason;
    assert_eq!(reason("not an access log"), Reason::NoAccessLog);
    let line = r#"192.0.2.7 - - [22/Nov/2026:17:00:00 +0100] "GET /wp-login.php HTTP/1.1" 200 1"#;
    assert!(matches!(reason(line), Reason::Nearest { rule, .. } if rule == "access-cms/wordpress"));
}

#[test]
fn a_wrong_file_says_where_and_what() {
    let good = "name = 'x'\nservice = 'x'\nsummary = ''\nkind = 'plain'\n[[rule]]\nid = 'a'\nscore = 10\npattern = '^x <addr>$'\nhits = [{ line = 'x 192.0.2.7', addr = '192.0.2.7' }]\n";
    assert!(Signature::compile("x", good).is_ok());
    let error = |from: &str, to: &str| Signature::compile("x.toml", &good.replacen(from, to, 1)).unwrap_err();
    assert_eq!(error("pattern", "patern").to_string(), "signature x.toml:8: unknown key `patern`; did you mean `pattern`?");
    assert!(error("score = 10", "score = 'ten'").to_string().contains("line 7"));
    assert!(matches!(error("<addr>$", "<addr>"), SignatureError::Pattern { .. }));
    assert!(matches!(error("addr = '192.0.2.7'", "addr = '192.0.2.8'"), SignatureError::Example { .. }));
    assert!(matches!(error("hits = [{ line = 'x 192.0.2.7', addr = '192.0.2.7' }]", ""), SignatureError::Rule { .. }));
    assert!(matches!(error("hits", "misses = ['x 192.0.2.9']\nhits"), SignatureError::Example { .. }));
    assert!(matches!(error("plain", "access-log"), SignatureError::Rule { .. }));
    assert!(matches!(error("score = 10", "score = 0"), SignatureError::Rule { .. }));
    assert!(matches!(error("hits", "open_end = ''\nhits"), SignatureError::Rule { .. }));
}

/// 1 MiB a line, of the worst kinds: an answer, not a hang. The bound is a hundred times what it takes.
#[test]
fn a_line_of_a_mebibyte_is_only_a_long_line() {
    let all = scanner(builtin());
    let mib = 1 << 20;
    let started = std::time::Instant::now();
    for line in [
        vec![b'a'; mib],
        b"from 203.0.113.9 ".repeat(mib / 17),
        [b"Failed password for ".to_vec(), b"x from 203.0.113.9 port 1 ".repeat(mib / 26)].concat(),
        [
            b"192.0.2.7 - - [22/Nov/2026:17:00:00 +0100] \"GET /".to_vec(),
            b"\\\" ".repeat(mib / 3),
            b"wp-login.php HTTP/1.1\" 404 1".to_vec(),
        ]
        .concat(),
        b"\"".repeat(mib),
        vec![0; mib],
        b"<34>1 - - a - - [a b=\"".repeat(mib / 22),
    ] {
        let _ = attacks(&all, &line);
    }
    let line = [b"Failed password for ".to_vec(), vec![b'x'; mib], b" from 192.0.2.7 port 1 ssh2".to_vec()].concat();
    assert_eq!(attacks(&all, &line)[0].addr.to_string(), "192.0.2.7");
    assert!(started.elapsed().as_secs() < 60, "{:?}", started.elapsed());
}

proptest! {
    // No file of failures: an integration test has no place for it.
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn total_on_any_bytes(line: Vec<u8>) {
        attacks(&scanner(builtin()), &line);
    }

    #[test]
    fn total_on_broken_hits(which: prop::sample::Index, at: prop::sample::Index, cut: prop::sample::Index, junk: Vec<u8>) {
        let hits: Vec<&str> = builtin().iter().flat_map(|s| s.rules()).flat_map(|r| r.hits()).map(|h| h.line.as_str()).collect();
        let line = which.get(&hits).as_bytes();
        let (a, b) = (at.index(line.len()), cut.index(line.len()));
        let broken = [&line[..a.min(b)], &junk, &line[a.max(b)..]].concat();
        attacks(&scanner(builtin()), &broken);
    }
}
