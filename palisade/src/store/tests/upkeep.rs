use palisade_core::event::{Allowed, Notice, Record, Sentence, What};
use palisade_core::time::Span;

use super::super::{Keep, Tidied};
use super::*;

const KEEP: Keep = Keep { failures: Span::secs(600), sentences: Span::secs(3600) };
const NOW: Stamp = Stamp(1_800_000_000_000);

fn ago(seconds: u64) -> Stamp {
    NOW.minus(Span::secs(seconds))
}

fn count(store: &Store, table: &str) -> i64 {
    store.db.query_row(&format!("SELECT count(*) FROM {table}"), [], |row| row.get(0)).unwrap()
}

#[test]
fn what_is_over_goes_and_the_rest_stays() {
    let (_dir, mut store) = fresh();
    let failure = |at| Record::Failure { unit: p("203.0.113.7"), counted: at, attack: attack("203.0.113.7", "sshd") };
    let sentence = |prefix: &str, started, ends| Record::Sentence(Sentence { prefix: p(prefix), started, ends });
    let notice = |at| Record::Notice(Notice { at, prefix: None, what: What::Expired });
    let allow = |prefix: &str, until| Record::Allow(Allowed { prefix: p(prefix), since: ago(9), until, comment: String::new() });
    let mut standing = ban("203.0.113.9", 0);
    standing.until = Until::Forever;
    store
        .write(&[
            failure(ago(601)),
            failure(ago(599)),
            sentence("203.0.113.7", ago(8000), Until::At(ago(3601))),
            sentence("203.0.113.7", ago(7000), Until::At(ago(3599))),
            sentence("203.0.113.8", ago(7000), Until::Forever),
            sentence("203.0.113.9", ago(7000), Until::Forever),
            sentence("203.0.113.10", ago(100), Until::Forever),
            notice(ago(91 * 86_400)),
            notice(ago(89 * 86_400)),
            allow("192.0.2.1", Until::At(ago(1))),
            allow("192.0.2.2", Until::Forever),
            Record::Ban(ban("198.51.100.1", ago(0).0)),
            Record::Ban(ban("198.51.100.2", NOW.0 + 1)),
            Record::Ban(standing),
        ])
        .unwrap();
    let tidied = store.tidy(NOW, KEEP).unwrap();
    assert_eq!(tidied, Tidied { failures: 1, notices: 1, sentences: 2, allowed: 1, history: 0, bans: 1, more: false });
    let left: Vec<_> = bans(&store).iter().map(|b| b.key.prefix).collect();
    assert_eq!(left, [p("198.51.100.2"), p("203.0.113.9")]);
    assert_eq!((count(&store, "failures"), count(&store, "sentences"), count(&store, "notices"), count(&store, "allowed")), (1, 3, 1, 1));
    assert_eq!(store.tidy(NOW, KEEP).unwrap(), Tidied::default());
}

#[test]
fn too_much_goes_in_bites_the_oldest_first() {
    let (_dir, mut store) = fresh();
    let notices: Vec<Record> = (0..108_000).map(|_| Record::Notice(Notice { at: NOW, prefix: None, what: What::Expired })).collect();
    store.write(&notices).unwrap();
    let first = store.tidy(NOW, KEEP).unwrap();
    assert!(first.more && first.notices == 5000, "{first:?}");
    let second = store.tidy(NOW, KEEP).unwrap();
    assert!(!second.more && second.notices == 3000, "{second:?}");
    let oldest: i64 = store.db.query_row("SELECT min(id) FROM notices", [], |row| row.get(0)).unwrap();
    assert_eq!((count(&store, "notices"), oldest), (100_000, 8001));
}

#[test]
fn a_sweep_over_many_bans_reaches_the_last_and_gives_the_space_back() {
    let (dir, mut store) = fresh();
    let prefix = |n: u32| Prefix::host(Addr::from(std::net::Ipv4Addr::from_bits(0xc612_0000 + n)));
    let records: Vec<Record> = (0..130_000u32)
        .map(|n| {
            let mut one = ban("::/0", if n % 1000 == 999 { i64::MAX } else { NOW.0 });
            one.key.prefix = prefix(n);
            Record::Ban(one)
        })
        .collect();
    store.write(&records).unwrap();
    let mut rounds = 0;
    while store.ban_count().unwrap() > 130 {
        let tidied = store.tidy(NOW, KEEP).unwrap();
        assert!(tidied.bans <= 20_000);
        rounds += 1;
        assert!(rounds < 20, "the sweep does not end");
    }
    assert!(rounds >= 6);
    assert_eq!(bans(&store).first().unwrap().key.prefix, prefix(999));
    for _ in 0..8 {
        store.tidy(NOW, KEEP).unwrap();
    }
    drop(store);
    let size = std::fs::metadata(dir.path().join(super::super::FILE)).unwrap().len();
    assert!(size < 9 << 20, "{size} bytes for 130 bans");
}
