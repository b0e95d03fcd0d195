//! Signatures over named fields: JSON and `key=value`, alone, behind syslog, in the journal.
#![expect(clippy::unwrap_used, reason = "a test: what is not there is a failure")]

use std::sync::Arc;

use palisade_core::attack::Sign;
use palisade_core::scan::{JailScan, Line, LogClock, Reason, Scanner, Signature, SignatureError};
use palisade_core::time::Stamp;

const SIGNATURE: &str = r#"
name = "web"
service = "http"
summary = "A web server that writes JSON"
kind = "fields"
programs = ["web"]
addr = ["request.client_ip", "request.remote_ip"]
addr_from = "the server, from the connection"
user = "user_id"
time = ["ts", "time"]

[[rule]]
id = "unauthorized"
score = 10
where = { status = [401, 403], msg = '^handled request$', request.uri = '^/login(?:\?.*)?$' }
hits = [
  { line = '{"ts":1795366800.5,"msg":"handled request","request":{"remote_ip":"192.0.2.7","uri":"/login?a=1\u00262"},"user_id":"bo\"b","status":401}', addr = '192.0.2.7', user = 'bo"b' },
  { line = 'time="2026-11-22T17:00:00Z" msg="handled request" request.client_ip=2001:db8::7 request.remote_ip=198.51.100.1 request.uri=/login status=403 user_id=bob', addr = '2001:db8::7', user = 'bob' },
  { line = 'Nov 22 17:00:00 host web[7]: {"msg":"handled request","request":{"remote_ip":"192.0.2.7:50022","uri":"/login"},"status":401}', addr = '192.0.2.7' },
]
misses = [
  '{"msg":"handled request","request":{"remote_ip":"192.0.2.7","uri":"/login"},"status":200}',
  '{"msg":"handled request","request":{"remote_ip":"192.0.2.7","uri":"/login"},"status":4010}',
  '{"msg":"handled request\n","request":{"remote_ip":"192.0.2.7","uri":"/login"},"status":401}',
  '{"msg":"handled request","request":{"remote_ip":"192.0.2.7","uri":"/login"},"status":401,"request":{"remote_ip":"203.0.113.9"}}',
  '{"msg":"handled request","request":{"remote_ip":"203.0.113.9, 192.0.2.7","uri":"/login"},"status":401}',
  '{"msg":"handled request","request":{"uri":"/login","headers":{"request.remote_ip":"203.0.113.9"}},"status":401}',
  'Nov 22 17:00:00 host other[7]: {"msg":"handled request","request":{"remote_ip":"192.0.2.7","uri":"/login"},"status":401}',
]

[[rule]]
id = "text"
score = 2
addr = []
where = { msg = '^bad token of <user> from <host>\[<addr>\]$' }
addr_from = "the server"
hits = [{ line = '{"msg":"bad token of bob from mail.example.org[192.0.2.7]"}', addr = '192.0.2.7', user = 'bob' }]
"#;

fn without_the_text_rule() -> String {
    SIGNATURE.split("[[rule]]\nid = \"text\"").next().unwrap().to_owned()
}

fn scanner(text: &str) -> Scanner {
    Scanner::new(&[JailScan::of("test".into(), vec![Arc::new(Signature::compile("web", text).unwrap())])])
}

#[test]
fn fields_are_found_whatever_stands_around_them() {
    let scanner = scanner(&without_the_text_rule());
    let mut state = scanner.state(LogClock::utc(Stamp(0)));
    let mut signs = Vec::new();
    let record = br#"{"ts":1795366800.5,"msg":"handled request","request":{"remote_ip":"192.0.2.7","uri":"/login"},"status":401}"#;
    scanner.scan(&mut state, Line::raw(record), &mut |sign| signs.push(sign));
    scanner.scan(&mut state, Line::journal(Some(b"web"), None, record, Some(Stamp(5))), &mut |sign| signs.push(sign));
    scanner.scan(&mut state, Line::journal(Some(b"other"), None, record, None), &mut |sign| signs.push(sign));
    let found: Vec<_> = signs
        .iter()
        .map(|sign| match sign {
            Sign::Attack(attack) => (attack.addr.to_string(), attack.at.unwrap().0),
            Sign::Login(_) => panic!("a failure is no login"),
        })
        .collect();
    assert_eq!(found, [("192.0.2.7".to_owned(), 1_795_366_800_500), ("192.0.2.7".to_owned(), 5)]);
}

#[test]
fn the_address_may_stand_in_a_text() {
    let head = SIGNATURE.split("[[rule]]").next().unwrap();
    let head = head.lines().filter(|line| !line.starts_with("addr")).collect::<Vec<_>>().join("\n");
    let rule = SIGNATURE.split("[[rule]]").nth(2).unwrap().lines().filter(|line| !line.starts_with("addr")).collect::<Vec<_>>().join("\n");
    let signature = Signature::compile("web", &format!("{head}\n[[rule]]{rule}")).unwrap();
    let line = r#"{"msg":"bad token of x from [203.0.113.9] from h[192.0.2.7]"}"#;
    assert_eq!(signature.find(Line::raw(line.as_bytes())).unwrap().addr.to_string(), "192.0.2.7");
}

#[test]
fn why_a_record_does_not_match() {
    let scanner = scanner(&without_the_text_rule());
    let reason = |line: &str| scanner.explain(Line::raw(line.as_bytes())).trials.remove(0).reason;
    assert_eq!(reason("no fields here"), Reason::NoFields);
    assert_eq!(reason("{}"), Reason::Nothing);
    assert!(matches!(reason(r#"{"msg":"handled request","status":401}"#), Reason::Nearest { .. }));
    assert!(matches!(reason("Nov 22 17:00:00 host other[7]: status=401"), Reason::Program { .. }));
}

#[test]
fn what_is_refused_and_why() {
    let good = without_the_text_rule();
    assert!(Signature::compile("x", &good).is_ok());
    let error = |from: &str, to: &str| {
        assert!(good.contains(from), "{from}");
        Signature::compile("x", &good.replacen(from, to, 1)).unwrap_err()
    };
    for (from, to, says) in [
        ("\"request.client_ip\", ", "\"request.headers.X-Forwarded-For\", ", "what a client sends"),
        ("addr_from = \"the server, from the connection\"", "", "addr_from"),
        ("addr = [\"request.client_ip\", \"request.remote_ip\"]", "", "names the address"),
        ("msg = '^handled request$'", "msg = 'handled request$'", "`^`"),
        ("status = [401, 403]", "status = [[401]]", "held against"),
        ("where = {", "pattern = '^<addr>$'\nwhere = {", "where"),
        ("kind = \"fields\"", "kind = \"plain\"", "fields"),
        ("where = {", "were = {", "did you mean `where`"),
    ] {
        let error = error(from, to);
        assert!(error.to_string().contains(says), "{error}");
        assert!(!matches!(error, SignatureError::Example { .. }), "{error}");
    }
}
