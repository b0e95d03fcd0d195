//! What to begin with: what the project has anyway.

use palisade_core::scan::{builtin, shipped};

/// Every hit and miss of every shipped signature.
pub fn lines() -> Vec<Vec<u8>> {
    let rules = builtin().iter().flat_map(|signature| signature.rules());
    let lines = rules.flat_map(|rule| rule.hits().iter().map(|hit| &hit.line).chain(rule.misses()));
    lines.map(|line| line.clone().into_bytes()).collect()
}

/// Those with fields, and what wraps them.
pub fn records() -> Vec<Vec<u8>> {
    let mut all: Vec<Vec<u8>> = lines().into_iter().filter(|line| line.contains(&b'{') || line.contains(&b'=')).collect();
    all.extend([
        br#"{"log":"x\n","stream":"stdout","time":"2026-11-22T17:00:00Z"}"#.to_vec(),
        b"2026-11-22T17:00:00.123456789Z stdout F x".to_vec(),
        br#"{"peer":{"ip":"192.0.2.7"},"status":401,"user":"\u0041"}"#.to_vec(),
        br#"level=info peer.ip=192.0.2.7 status=401 user="a b""#.to_vec(),
        br#"{"@timestamp":"2026-11-22T17:00:00Z","programname":"sshd","message":"x"}"#.to_vec(),
    ]);
    all
}

/// Every shipped signature, and a small one.
pub fn signatures() -> Vec<Vec<u8>> {
    let small = "name='x'\nservice='x'\nsummary=''\nkind='plain'\n[[rule]]\nid='a'\nscore=10\npattern='^x <user> <addr>$'\nhits=[{line='x y 192.0.2.7',addr='192.0.2.7'}]\n";
    shipped().iter().map(|(_, text)| *text).chain([small]).map(|text| text.as_bytes().to_vec()).collect()
}

/// The sample config, and a small one.
pub fn configs() -> Vec<Vec<u8>> {
    vec![include_bytes!("../../etc/palisade.toml").to_vec(), b"[jail.sshd]\nmax_retry = 3\n".to_vec()]
}

/// Requests on the control socket.
pub fn requests() -> Vec<Vec<u8>> {
    ["status", "bans", "reload", "ping", "unban"].iter().map(|verb| format!("{{\"{verb}\":{{}}}}\n\"{verb}\"").into_bytes()).collect()
}

/// Tables of a few formats, behind the two bytes that choose one.
pub fn tables() -> Vec<Vec<u8>> {
    ["192.0.2.7\n", "192.0.2.0/24 ; comment\n", "{\"cidr\":\"192.0.2.0/24\"}\n", "ip,reason\n192.0.2.7,\"a, b\"\n"]
        .iter()
        .zip(0u8..)
        .map(|(text, format)| [&[format, 3], text.as_bytes()].concat())
        .collect()
}

/// No more than four zeros.
pub fn nothing() -> Vec<Vec<u8>> {
    vec![vec![0; 4]]
}
