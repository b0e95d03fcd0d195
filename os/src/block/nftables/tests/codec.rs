//! Our bytes, read and written by somebody else's codec.

use std::collections::BTreeSet;

use netlink_packet_core::{NetlinkMessage, NetlinkPayload};
use netlink_packet_netfilter::nftables::{
    DataAttribute, ListAttribute, NfTablesMessage, SetAttribute, SetElementAttribute, SetElementList, SetFlags, TableAttribute, TableFlags,
};
use netlink_packet_netfilter::{NetfilterMessage, NetfilterMessageInner, NetfilterProtoFamily};
use palisade_core::bans::wall::Refusal;

use crate::block::nftables::layout::{Kind, Layout};
use crate::netlink::nft::{Batch, Element, set_flag};
use crate::netlink::wire::Messages;

/// Every message of a batch as the other codec reads it; each must come out of it again byte for byte.
fn understood(bytes: &[u8]) -> Vec<NetlinkMessage<NetfilterMessage>> {
    let mut rest = bytes;
    let mut all = Vec::new();
    for message in Messages(bytes) {
        let (one, after) = rest.split_at(16 + message.payload.len());
        rest = after;
        let read = NetlinkMessage::<NetfilterMessage>::deserialize(one).unwrap();
        let mut written = vec![0; read.buffer_len()];
        read.serialize(&mut written);
        assert_eq!(written, one, "{read:?}");
        all.push(read);
    }
    assert!(rest.is_empty());
    all
}

fn nftables(message: &NetlinkMessage<NetfilterMessage>) -> Option<&NfTablesMessage> {
    match &message.payload {
        NetlinkPayload::InnerMessage(NetfilterMessage { header, inner: NetfilterMessageInner::NfTables(inner), .. }) => {
            assert_eq!(header.family, NetfilterProtoFamily::Inet);
            Some(inner)
        }
        _ => None,
    }
}

#[test]
fn tables_sets_and_elements_read_as_meant() {
    let mut batch = Batch::new("palisade");
    let set = Kind::parse("ban6_64").unwrap().0.set(1, true);
    let elements = [
        Element { key: vec![7; 16], timeout: Some(90_000), restart: true },
        Element { key: vec![8; 16], timeout: Some(1), restart: false },
        Element::bare(vec![9; 16]),
    ];
    batch
        .begin(5)
        .add_table()
        .add_set(&set)
        .add_elements(&set.name, elements.into_iter())
        .delete_elements(&set.name, [vec![9; 16]].into_iter());
    let all = understood(batch.finish());
    assert!(all.iter().all(|message| message.header.sequence_number == 5));
    let [begin, table, set, add, delete, end] = &all[..] else { panic!("{all:?}") };
    assert!(format!("{begin:?}").contains("BatchBegin") && format!("{end:?}").contains("BatchEnd"), "{begin:?} {end:?}");

    let Some(NfTablesMessage::NewTable(table)) = nftables(table) else { panic!("{table:?}") };
    assert_eq!(table.attributes, [TableAttribute::Name("palisade".into()), TableAttribute::Flags(TableFlags::empty())]);

    let Some(NfTablesMessage::NewSet(set)) = nftables(set) else { panic!("{set:?}") };
    for wanted in [
        SetAttribute::Table("palisade".into()),
        SetAttribute::Name("ban6_64".into()),
        SetAttribute::Flags(SetFlags::from_bits_retain(set_flag::TIMEOUT)),
        SetAttribute::KeyType(8),
        SetAttribute::KeyLen(16),
    ] {
        assert!(set.attributes.contains(&wanted), "no {wanted:?} in {set:?}");
    }
    assert!(format!("{set:?}").contains("counter"), "{set:?}");

    let key = |byte| SetElementAttribute::Key(DataAttribute::Value(vec![byte; 16]));
    let wanted = |elements: Vec<Vec<SetElementAttribute>>| {
        let elements = elements.into_iter().map(ListAttribute::Element).collect();
        vec![SetElementList::Table("palisade".into()), SetElementList::Set("ban6_64".into()), SetElementList::Elements(elements)]
    };
    let Some(NfTablesMessage::NewSetElement(add)) = nftables(add) else { panic!("{add:?}") };
    let with_both = vec![key(7), SetElementAttribute::Timeout(90_000), SetElementAttribute::Expiration(90_000)];
    assert_eq!(add.attributes, wanted(vec![with_both, vec![key(8), SetElementAttribute::Timeout(1)], vec![key(9)]]));
    let Some(NfTablesMessage::DeleteSetElement(delete)) = nftables(delete) else { panic!("{delete:?}") };
    assert_eq!(delete.attributes, wanted(vec![vec![key(9)]]));
}

#[test]
fn every_chain_and_rule_is_understood() {
    let names = ["ban4_24", "allow4_32", "forced4_16", "ban6_64_p22_80", "ban6_128"];
    let kinds = names.map(|name| (Kind::parse(name).unwrap().0, true)).into();
    let layout = Layout { generation: 2, refusal: Refusal::Reject, kinds };
    let mut batch = Batch::new("palisade");
    batch.begin(1).delete_rules();
    layout.sets().iter().for_each(|set| _ = batch.add_set(set));
    layout.chains().iter().for_each(|chain| _ = batch.add_chain(chain));
    layout.rules().iter().for_each(|rule| _ = batch.add_rule(rule));
    batch.delete_chain("x").delete_set("y").delete_table();
    let all = understood(batch.finish());
    assert_eq!(all.len(), 2 + 1 + layout.sets().len() + layout.chains().len() + layout.rules().len() + 3);
    let text = format!("{all:?}");
    for wanted in ["ban4_24.2", "PreRouting", "Goto", "Lookup", "Bitwise", "reject"] {
        assert!(text.contains(wanted), "no {wanted} in {text}");
    }
}

#[test]
fn long_lists_are_cut_into_messages() {
    let mut batch = Batch::new("palisade");
    let keys = (0..5000u32).map(|i| Element { key: i.to_be_bytes().to_vec(), timeout: Some(5), restart: false });
    batch.begin(1).add_elements("ban4_32", keys);
    let all = understood(batch.finish());
    assert!(all.len() > 3, "more than one message besides the ends");
    let mut seen = Vec::new();
    for message in all.iter().filter_map(nftables) {
        let NfTablesMessage::NewSetElement(message) = message else { panic!("{message:?}") };
        for attribute in &message.attributes {
            let SetElementList::Elements(elements) = attribute else { continue };
            seen.extend(elements.iter().map(|element| format!("{element:?}")));
        }
    }
    assert_eq!(seen.iter().collect::<BTreeSet<_>>().len(), 5000);
}
