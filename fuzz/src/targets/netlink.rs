//! Any bytes as answers of the kernel: attributes, nf_tables objects, connections, sockets.
use palisade_os::netlink::wire::Messages;
use palisade_os::netlink::{conntrack, nft, sock_diag};

/// Tries one input.
pub fn run(bytes: &[u8]) {
    for message in Messages(bytes) {
        let _ = message.errno();
        let _ = conntrack::Entry::parse(&message);
        let _ = conntrack::brief::flow(&message);
        let _ = sock_diag::Sock::parse(&message, sock_diag::Protocol::Tcp);
    }
    let _ = nft::parse_table(bytes);
    let _ = nft::parse_chain(bytes);
    let _ = nft::parse_rule(bytes);
    let _ = nft::parse_set(bytes);
    let _ = nft::parse_generation(bytes);
    if let Some(list) = nft::parse_elements(bytes) {
        list.elements.for_each(drop);
    }
}
