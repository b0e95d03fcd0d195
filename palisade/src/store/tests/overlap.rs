use proptest::prelude::*;

use palisade_core::event::Record;

use super::*;

/// Prefixes that often cover one another: few distinct bits, every length.
fn prefix() -> impl Strategy<Value = Prefix> {
    let v4 = (proptest::sample::select(vec![0u32, 0xcb00_7100, 0xcb00_7107, 0xcb00_71ff, u32::MAX]), 0u8..=32)
        .prop_map(|(bits, len)| Prefix::new(Addr::from(std::net::Ipv4Addr::from_bits(bits)), len).unwrap());
    let v6 = (proptest::sample::select(vec![0u128, 0x2001_0db8 << 96, (0x2001_0db8 << 96) | 7, u128::MAX]), 0u8..=128)
        .prop_map(|(bits, len)| Prefix::new(Addr::from(std::net::Ipv6Addr::from_bits(bits)), len).unwrap());
    prop_oneof![v4, v6]
}

fn key() -> impl Strategy<Value = Key> {
    let ports =
        prop_oneof![Just(Ports::All), proptest::collection::vec(any::<u16>(), 1..=Ports::MOST).prop_map(|p| Ports::only(p).unwrap())];
    (prefix(), ports, any::<bool>()).prop_map(|(prefix, ports, forced)| Key { prefix, ports, forced })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]
    #[test]
    fn overlapping_finds_what_a_full_look_finds(keys in proptest::collection::vec(key(), 0..80), asked in proptest::collection::vec(prefix(), 1..12)) {
        let (_dir, mut store) = fresh();
        let records: Vec<Record> = keys.iter().map(|key| Record::Ban(Ban { key: key.clone(), ..ban("::/0", 1) })).collect();
        store.write(&records).unwrap();
        let all = bans(&store);
        let mut distinct = keys.clone();
        distinct.sort();
        distinct.dedup();
        prop_assert_eq!(all.iter().map(|b| b.key.clone()).collect::<Vec<_>>(), distinct);
        for prefix in asked {
            let want: Vec<Ban> = all.iter().filter(|b| b.key.prefix.overlaps(&prefix)).cloned().collect();
            prop_assert_eq!(store.overlapping(&prefix).unwrap(), want);
        }
    }
}
