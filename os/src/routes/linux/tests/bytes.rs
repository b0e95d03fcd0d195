//! Whatever the kernel or who plays it sends: reading ends, and never panics.

use proptest::prelude::*;

use super::super::{links, route, rule, watch};
use super::*;
use crate::netlink::wire::{Builder, Messages};
use crate::routes::{Changes, Own};

fn attributes() -> impl Strategy<Value = Vec<(u16, Vec<u8>)>> {
    proptest::collection::vec((0u16..40, proptest::collection::vec(any::<u8>(), 0..24)), 0..12)
}

proptest! {
    #[test]
    fn reading_is_total(
        kind in 14u16..36, flags in any::<u16>(), head in proptest::collection::vec(any::<u8>(), 0..20), v6 in any::<bool>(),
        attrs in attributes(), cut in 0usize..400,
    ) {
        let mut head = head;
        if let Some(first) = head.first_mut() {
            *first = if v6 { 10 } else { 2 };
        }
        let mut b = Builder::new();
        b.message(kind, flags, 1, &head);
        for (kind, payload) in &attrs {
            b.attr(*kind, payload);
        }
        let own = Own { protocol: Protocol::OURS, tables: [TableId(7)].into(), port: None };
        for bytes in [b.bytes(), &b.bytes()[..cut.min(b.bytes().len())]] {
            for message in Messages(bytes) {
                let mut changes = Changes::default();
                watch::take(&own, &message, &mut changes);
                let _ = (links::link(&message), links::address(&message), route::read(&message), changes.any());
                if let Some(rule) = rule::read(&message) {
                    let _ = rule::flaw(&rule);
                    // Nor does writing what was read.
                    rule::write(Builder::new().message(33, 0, 1, &rule::head(&rule)), &rule);
                }
            }
        }
    }

    #[test]
    fn any_bytes_are_read(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        let mut b = Builder::new();
        for kind in 16..36 {
            b.message(kind, 0, 1, &bytes);
        }
        for message in Messages(b.bytes()) {
            let _ = (links::link(&message), links::address(&message), route::read(&message), rule::read(&message));
        }
    }
}

#[test]
fn what_is_not_known_is_kept_apart() {
    let ours = rule(Family::V4, 4200, from("192.0.2.1"));
    let read = |more: &[(u16, &[u8])], flags: u8| {
        let mut head = rule::head(&ours);
        head[10] = flags;
        let mut b = Builder::new();
        b.message(rule::NEWRULE, 0, 1, &head);
        rule::write(&mut b, &ours);
        for (kind, payload) in more {
            b.attr(*kind, payload);
        }
        rule::read(&Messages(b.bytes()).next().unwrap()).unwrap()
    };
    assert_eq!(read(&[], 0), ours);
    assert_eq!(read(&[(14, &[255; 4]), (13, &[255; 4]), (28, &[255; 2]), (30, &[0x3f])], 0), ours, "these say nothing");
    let kept = [read(&[(99, &[1])], 0), read(&[(99, &[2])], 0), read(&[(26, &[0, 0, 0, 1])], 0), read(&[(28, &[255, 0])], 0), read(&[], 1)];
    for (at, one) in kept.iter().enumerate() {
        assert!(!one.other.is_empty() && kept.iter().filter(|other| *other == one).count() == 1, "{at}");
        let mut b = Builder::new();
        rule::write(b.message(rule::NEWRULE, 0, 1, &rule::head(one)), one);
        assert_eq!(rule::read(&Messages(b.bytes()).next().unwrap()).as_ref(), Some(one), "and written back as it came");
    }
}
