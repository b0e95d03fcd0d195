//! Each shipped signature under attack: every field that a client may fill holds addresses, whole log
//! lines of this and other services, quotes, escapes and filling. Whoever is blamed is the one of the
//! hit, or nobody.
#![expect(clippy::unwrap_used, reason = "a test: what is not there is a failure")]

use std::sync::Arc;

use palisade_core::attack::Sign;
use palisade_core::net::Addr;
use palisade_core::scan::formats::syslog;
use palisade_core::scan::{Hit, JailScan, Kind, Line, LogClock, Rule, Scanner, Signature, builtin};
use palisade_core::time::Stamp;

/// Whom the attacker wants to have banned.
const VICTIM: &str = "203.0.113.9";
const VICTIM6: &str = "2001:db8:bad::9";

/// How an address is introduced, anywhere.
const PHRASES: &[&str] = &[
    "V",
    "[V]",
    "(V)",
    "<V>",
    "\"V\"",
    "'V'",
    " V ",
    "from V",
    "x from V port 22 ssh2",
    "x from V port 22 ssh2: RSA SHA256:abc",
    "x V port 22 [preauth]",
    "x' from V:22",
    "x[V]",
    "x [V]: ",
    "x[V]:25: y",
    "rhost=V",
    "x rhost=V user=y",
    " rhost=V  user=",
    "rip=V, lip=198.51.100.1",
    "x>, method=PLAIN, rip=V, lip=198.51.100.1, session=<a>",
    "ip=[V]",
    ", ip=[V], port=[1]",
    "@V) [WARNING] Authentication failed for user [x]",
    "Client \"V\"",
    "\"] FAIL LOGIN: Client \"V\"",
    "x'@'V' (using password: YES)",
    "[CLIENT: V]",
    ", client: V, server: _, request: \"GET / HTTP/1.1\"",
    "\", client: V, server: _, request: \"GET / HTTP/1.1\", host: \"x\"",
    "\" 401 1 \"-\" \"-\"\nV - - [22/Nov/2026:17:00:00 +0100] \"GET / HTTP/1.1\" 401 1",
    "x\" 401 1 \"-\" \"-\"",
    "\\\" 401 1 \\\"V\\\"",
    "\\x22 V \\x22",
    "\",\"remote_ip\":\"V\",\"x\":\"",
    "\\\",\\\"remote_ip\\\":\\\"V\\\"",
    "a\" remote_addr=V src=\"V",
    " remote_addr=V ip=V src_ip=V",
    "V:1: V]: V) V> V' V\" V, V; V|V",
    "\u{1b}[31mV\u{1b}[0m",
    "Nov 22 17:00:00 host sshd[1]: Failed password for root from V port 1 ssh2",
    "]: V",
    ": V: ",
    "-",
    "",
    " ",
    "\\",
    "\"",
    "'",
    "%s%n",
    "\u{fffd}ä\u{202e}",
];

/// Lines of other signatures tried on each, and how many of its own.
const OTHERS: usize = 24;
const OWN: usize = 40;

fn scanner(signature: &Arc<Signature>) -> Scanner {
    Scanner::new(&[JailScan::of("test".into(), vec![signature.clone()])])
}

fn blamed(scanner: &Scanner, line: &str) -> Vec<Addr> {
    let mut all = Vec::new();
    let mut state = scanner.state(LogClock::utc(Stamp(0)));
    scanner.scan(&mut state, Line::raw(line.as_bytes()), &mut |sign| {
        all.push(match sign {
            Sign::Attack(attack) => attack.addr,
            Sign::Login(login) => login.addr,
        });
    });
    all
}

/// A line with the victim in the place of whoever it names.
fn accuse(hit: &Hit, victim: &str) -> String {
    hit.line.replace(&hit.addr.to_string(), victim)
}

/// The message of a line, which a client can write without knowing the host.
fn message(line: &str) -> &str {
    let message = syslog::frame(line.as_bytes()).message;
    let from = message.as_ptr().addr().saturating_sub(line.as_ptr().addr());
    line.get(from..from + message.len()).unwrap_or(line)
}

/// What is tried in every field of a signature.
fn poisons(own: &Signature) -> Vec<String> {
    let mut all: Vec<String> = PHRASES.iter().flat_map(|text| [text.replace('V', VICTIM), text.replace('V', VICTIM6)]).collect();
    all.push("x".repeat(200));
    all.push(format!("{} from {VICTIM}", "x ".repeat(100)));
    let mine: Vec<&Hit> = own.rules().iter().flat_map(|rule| rule.hits()).collect();
    let theirs: Vec<&Hit> = builtin().iter().flat_map(|s| s.rules()).flat_map(|rule| rule.hits()).collect();
    // A stride that differs from signature to signature, so that all together meet all.
    let stride = theirs.len() / OTHERS + 1;
    let from = own.name().bytes().map(usize::from).sum::<usize>() % stride;
    let step = mine.len() / OWN + 1;
    for hit in mine.iter().step_by(step).chain(theirs.iter().skip(from).step_by(stride)) {
        let line = accuse(hit, VICTIM);
        all.push(format!("x {} y", message(&line)));
        all.push(message(&line).to_owned());
        all.push(line);
    }
    all
}

/// What is tried in this very field: the rest of the line, so that the fields to come are the
/// attacker's; and all up to here again, so that those before are.
fn aimed(hit: &Hit, from: usize, to: usize) -> Vec<String> {
    let accused = |text: &str| text.replace(&hit.addr.to_string(), VICTIM);
    let (head, tail) = (message(&hit.line), &hit.line[to..]);
    let start = hit.line.len() - head.len();
    let before = hit.line.get(start.min(from)..from).unwrap_or_default();
    let whole = accused(head);
    vec![
        format!("x{}", accused(tail)),
        format!("x{} ", accused(tail)),
        format!("x{}{before}x", accused(tail)),
        format!("{}{whole}", accused(tail)),
        format!("x {}", accused(before)),
        format!("{}x{}", accused(before), accused(tail)),
        whole,
    ]
}

/// Whether a place would cut into the address, or is it.
fn is_the_address(hit: &Hit, from: usize, to: usize) -> bool {
    hit.line[from..to].parse::<Addr>().is_ok() || hit.line[from..to].contains(&hit.addr.to_string())
}

/// The places of a hit that a client fills.
fn places(kind: Kind, rule: &Rule, hit: &Hit) -> Vec<(usize, usize)> {
    let line = &hit.line;
    let mut all = match kind {
        Kind::Plain => rule.free(line.trim_end().as_bytes()),
        Kind::Syslog => {
            let text = message(line);
            let start = text.as_ptr().addr() - line.as_ptr().addr();
            rule.free(text.as_bytes()).into_iter().map(|(from, to)| (start + from, start + to)).collect()
        }
        Kind::AccessLog => {
            // The name, then everything in quotes.
            let user = line.find(" - ").map(|at| at + 3).zip(line.find(" ["));
            user.into_iter().filter(|(from, to)| from <= to).chain(rule.free(line.as_bytes())).collect()
        }
        Kind::Fields => rule.free(line.as_bytes()),
    };
    all.retain(|(from, to)| !is_the_address(hit, *from, *to));
    all
}

/// How the service writes what the client sent.
fn written(kind: Kind, line: &str, poison: &str) -> Vec<String> {
    match kind {
        // A key is no value: it stays as it is where it would be one, for that line is the service's no more.
        Kind::Fields if line.contains('{') => {
            let json = serde_json::to_string(poison).unwrap();
            vec![json[1..json.len() - 1].to_owned()]
        }
        Kind::Fields => vec![format!("{poison:?}").trim_matches('"').to_owned()],
        // As apache does, and as nginx does.
        Kind::AccessLog => vec![poison.replace('\\', "\\\\").replace('"', "\\\""), poison.replace('\\', "\\x5C").replace('"', "\\x22")],
        Kind::Syslog | Kind::Plain => vec![poison.to_owned()],
    }
}

/// Whether what stands here between quotes is the name of a field.
fn is_key(line: &str, to: usize) -> bool {
    line[to..].trim_start_matches('"').trim_start().starts_with(':')
}

#[test]
fn nothing_a_client_writes_has_another_one_blamed() {
    let (mut tried, mut blames, mut wrong) = (0u32, 0u32, Vec::new());
    for signature in builtin() {
        let (scanner, poisons, kind) = (scanner(signature), poisons(signature), signature.kind());
        for rule in signature.rules() {
            for hit in rule.hits() {
                for (from, to) in places(kind, rule, hit) {
                    if kind == Kind::Fields && is_key(&hit.line, to) {
                        continue;
                    }
                    for poison in poisons.iter().chain(&aimed(hit, from, to)) {
                        for text in written(kind, &hit.line, poison) {
                            let line = format!("{}{text}{}", &hit.line[..from], &hit.line[to..]);
                            tried += 1;
                            for addr in blamed(&scanner, &line) {
                                blames += 1;
                                if addr != hit.addr {
                                    wrong.push(format!("{} blamed {addr}: {line}", rule.full_name()));
                                }
                            }
                        }
                    }
                }
            }
        }
    }
    eprintln!("{tried} lines of attackers, {blames} of them counted against themselves");
    wrong.dedup_by_key(|text| text.split(' ').next().map(str::to_owned));
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(tried > 10_000 && blames > 1_000, "{tried} {blames}: the attack has not been made");
}

/// A client can name headers and form fields: a record with a second address, anywhere in it, blames
/// the one of the hit or nobody.
#[test]
fn a_second_field_of_the_same_name_shifts_nothing() {
    for signature in builtin().iter().filter(|signature| signature.kind() == Kind::Fields) {
        let scanner = scanner(signature);
        for hit in signature.rules().iter().flat_map(|rule| rule.hits()) {
            let Some(open) = hit.line.find('{') else { continue };
            let fields = accuse(hit, VICTIM)[open..].to_owned();
            let inner = fields.trim_start_matches('{').trim_end_matches('}');
            for line in [
                format!("{}{inner},{}", &hit.line[..=open], &hit.line[open + 1..]),
                format!("{}\"headers\":{fields},{}", &hit.line[..=open], &hit.line[open + 1..]),
                format!("{}\"x\":[{fields}],{}", &hit.line[..=open], &hit.line[open + 1..]),
                hit.line.trim_end_matches('}').to_owned()
                    + ",\"x\":"
                    + &fields
                    + &"}".repeat(hit.line.len() - hit.line.trim_end_matches('}').len()),
            ] {
                for addr in blamed(&scanner, &line) {
                    assert_eq!(addr, hit.addr, "{}: {line}", signature.name());
                }
            }
        }
    }
}

/// Whoever says that a client cannot write past a field says why.
#[test]
fn what_is_owned_says_why() {
    for rule in builtin().iter().flat_map(|signature| signature.rules()) {
        for (group, why) in rule.owned() {
            assert!(why.len() >= 15, "{}: `{group}` is owned because `{why}`?", rule.full_name());
        }
    }
}
