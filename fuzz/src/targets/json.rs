//! Any text in JSON and `key=value` lines, alone and in a container's wrapping: whoever is blamed does
//! not depend on what is around the line, nor on what else stands in it.

use std::sync::{Arc, LazyLock};

use palisade_core::attack::Sign;
use palisade_core::net::Addr;
use palisade_core::scan::{JailScan, Kind, Line, LogClock, Scanner, Signature, builtin};
use palisade_core::time::Stamp;

struct Fields {
    signatures: Vec<Arc<Signature>>,
    scanner: Scanner,
}

static FIELDS: LazyLock<Fields> = LazyLock::new(|| {
    let mut signatures: Vec<Arc<Signature>> = builtin().iter().filter(|s| s.kind() == Kind::Fields).cloned().collect();
    let own = Signature::compile("own.toml", OWN).expect("the target's own signature compiles");
    signatures.push(Arc::new(own));
    Fields { scanner: scanner(&signatures), signatures }
});

const OWN: &str = r#"
name = "own"
service = "own"
summary = "so that there is one"
kind = "fields"
addr = "peer.ip"
addr_from = "nobody: a test"
user = "user"

[[rule]]
id = "own"
score = 10
where = { status = 401 }
hits = [{ line = '{"user":"bob","peer":{"ip":"192.0.2.7"},"status":401}', addr = '192.0.2.7' }]
"#;

fn scanner(signatures: &[Arc<Signature>]) -> Scanner {
    Scanner::new(&[JailScan::of("fuzz".into(), signatures.to_vec())])
}

fn blamed(scanner: &Scanner, line: &[u8]) -> Vec<Addr> {
    let mut state = scanner.state(LogClock::utc(Stamp(0)));
    let mut all = Vec::new();
    scanner.scan(&mut state, Line::raw(line), &mut |sign| {
        all.push(match sign {
            Sign::Attack(attack) => attack.addr,
            Sign::Login(login) => login.addr,
        });
    });
    all
}

/// Tries one input.
pub fn run(bytes: &[u8]) {
    let Fields { signatures, scanner: all } = &*FIELDS;
    let plain = blamed(all, bytes);
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let quoted = serde_json::to_string(text).expect("any text is a JSON string");
    let inside = &quoted[1..quoted.len() - 1];
    // Colours, ends of lines, and what is a wrapping itself, are not the same inside of one.
    let wrapped = text.starts_with("{\"log\"") || text.contains(" stdout ") || text.contains(" stderr ");
    if !text.contains(['\n', '\r', '\u{1b}']) && !wrapped {
        let docker = format!("{{\"log\":\"{inside}\\n\",\"stream\":\"stdout\",\"time\":\"2026-11-22T17:00:00Z\"}}");
        assert_eq!(blamed(all, docker.as_bytes()), plain, "in Docker's wrapping");
        assert_eq!(blamed(all, format!("2026-11-22T17:00:00Z stdout F {text}").as_bytes()), plain, "in a pod's");
    }
    let Some(signature) = bytes.first().and_then(|b| signatures.get(usize::from(*b) % signatures.len())) else { return };
    let one = scanner(std::slice::from_ref(signature));
    let hits = signature.rules().iter().flat_map(|rule| rule.hits());
    for hit in hits.filter(|hit| hit.line.starts_with('{')) {
        for line in [
            format!("{{\"zz\":\"{inside}\",{}", &hit.line[1..]),
            format!("{{\"{inside}\":{{\"{inside}\":\"{inside}\"}},{}", &hit.line[1..]),
            format!("{{\"zz\":[{{\"{inside}\":\"203.0.113.9\"}}],{}", &hit.line[1..]),
        ] {
            assert!(blamed(&one, line.as_bytes()).iter().all(|found| *found == hit.addr), "{line}");
        }
    }
}
