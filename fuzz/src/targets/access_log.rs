//! Whatever a client writes into its fields: the address stays its own.
use palisade_core::scan::formats::access;

/// Tries one input.
pub fn run(data: &[u8]) {
    access::read(data);
    // A server never writes a bare quote into a field.
    let client: Vec<u8> = data.iter().copied().filter(|b| *b != b'"' && *b != b'\\').collect();
    let (user, path) = client.split_at(client.len() / 2);
    let mut line = b"192.0.2.7 - ".to_vec();
    line.extend(user);
    line.extend(b" [22/Nov/2026:17:00:00 +0100] \"GET ");
    line.extend(path);
    line.extend(b" HTTP/1.1\" 404 1 \"-\" \"-\"");
    if let Some(request) = access::read(&line) {
        assert_eq!(request.addr.to_string(), "192.0.2.7");
    }
}
