use proptest::prelude::*;

use super::write::{Form, Lost, Out, Sizes, Writer};
use super::*;

const NOW: Stamp = Stamp(1_795_366_800_000);

/// What a table says, given in pieces of so many bytes.
fn items(format: Format, table: &[u8], piece: usize) -> Vec<(u64, Item)> {
    let mut all = Vec::new();
    let mut reader = Reader::new(format, NOW);
    for bytes in table.chunks(piece.max(1)) {
        reader.push(bytes, &mut |line, item| all.push((line, item)));
    }
    reader.finish(&mut |line, item| all.push((line, item)));
    all
}

/// One line for each item: `1 203.0.113.7/32 +3600s reason`, `2 bad: expected ...`.
fn told(format: Format, table: &str) -> Vec<String> {
    let whole = items(format, table.as_bytes(), usize::MAX);
    for piece in [1, 2, 7] {
        assert_eq!(items(format, table.as_bytes(), piece), whole, "in pieces of {piece}");
    }
    whole.into_iter().map(|(line, item)| format!("{line} {}", sentence(&item))).collect()
}

fn sentence(item: &Item) -> String {
    match item {
        Item::Ban(row) => {
            let end = match row.end {
                None => String::new(),
                Some(End::Forever) => " for ever".to_owned(),
                Some(End::At(ms)) => format!(" {:+}s", (ms - NOW.0) / 1000),
            };
            let more = if row.offences > 1 { format!(" x{}", row.offences) } else { String::new() };
            let ports = if let Ports::Only(ports) = &row.ports { format!(" {ports:?}") } else { String::new() };
            let since = row.since.map(|since| format!(" since {since}")).unwrap_or_default();
            format!("{}{end}{more}{ports}{since} {}", row.prefix, row.reason).trim_end().to_owned()
        }
        Item::Name(name) => format!("name {name}"),
        Item::Passed(what) => format!("passed: {what}"),
        Item::Bad(what) => format!("bad: {}", what.rsplit(", found").next().unwrap_or_default()),
    }
}

#[test]
fn ban_hammer() {
    let table = "\u{feff}# by hand\r\n203.0.113.7=1795370400\r\n\n2001:db8:5::9/64 = permanent # scanners\n203.0.113.8=1d\n203.0.113.9\n\
                 203.0.113.300=1d\n203.0.113.1=0\n203.0.113.2=soon\n198.51.100.0-198.51.100.2=60";
    assert_eq!(
        told(Format::BanHammer, table),
        [
            "2 203.0.113.7/32 +3600s",
            "4 2001:db8:5::/64 for ever scanners",
            "5 203.0.113.8/32 +86400s",
            "6 203.0.113.9/32",
            "7 bad:  `203.0.113.300`",
            "8 bad:  `0`; 0 may mean for ever or at once: write `permanent` or leave it out",
            "9 bad:  `soon`",
            "10 198.51.100.0/31 +60s",
            "10 198.51.100.2/32 +60s",
        ]
    );
}

#[test]
fn plain_and_netset() {
    let table = "; a list\n203.0.113.7\n203.0.113.0/24 ; SBL1\n  2001:db8::/32\n192.0.2.1 - 192.0.2.2\n192.0.2.9-192.0.2.1\n10.0.0.1/33\nhost.example\n1.2.3\u{1b}[2J";
    assert_eq!(
        told(Format::Plain, table),
        [
            "2 203.0.113.7/32",
            "3 203.0.113.0/24 SBL1",
            "4 2001:db8::/32",
            "5 192.0.2.1/32",
            "5 192.0.2.2/32",
            "6 bad:  `192.0.2.9-192.0.2.1`",
            "7 bad:  `10.0.0.1/33`",
            "8 bad:  `host.example`",
            "9 bad:  `1.2.3\\u{1b}[2J`",
        ]
    );
    let table = "#\n# level_one\n#\n# ipv4 hash:net ipset\n#\n# other\n192.0.2.0/24\n198.51.100.7 # why\n";
    assert_eq!(told(Format::Netset, table), ["7 192.0.2.0/24 level_one", "8 198.51.100.7/32 why"]);
}

#[test]
fn sshguard() {
    let table = "# blacklist\n1795366740|100|4|203.0.113.7\n1795366740|110|6|2001:db8::1\nnonsense\n1|2|5|203.0.113.7\n1|2|4|203.0.113.7|x\n1|2|4|x\n";
    assert_eq!(
        told(Format::Sshguard, table),
        [
            "2 203.0.113.7/32 for ever since 2026-11-22T16:59:00Z sshguard blacklist, service 100",
            "3 2001:db8::1/128 for ever since 2026-11-22T16:59:00Z sshguard blacklist, service 110",
            "4 bad:  `nonsense`",
            "5 bad:  `1|2|5|203.0.113.7`",
            "6 bad:  `1|2|4|203.0.113.7|x`",
            "7 bad:  `x`",
        ]
    );
    let table = "# friends\n198.51.100.9 # office\n198.51.100.0/25\nfriend.example.org\n198.51.100.300\n-x\n";
    assert_eq!(
        told(Format::SshguardWhitelist, table),
        ["2 198.51.100.9/32", "3 198.51.100.0/25", "4 name friend.example.org", "5 bad:  `198.51.100.300`", "6 bad:  `-x`"]
    );
}

#[test]
fn csv_with_any_header_and_without() {
    let table = "Reason,IP,expires,other,count,ports\n\"one, \"\"two\"\"\",203.0.113.7,2026-11-22T18:00:00Z,x,3,22 80\n,203.0.113.8,,,,\n\"open,203.0.113.9\n,x,1d,,,\n,203.0.113.9,1d,,,70000\n";
    assert_eq!(
        told(Format::Csv, table),
        [
            "2 203.0.113.7/32 +3600s x3 [22, 80] one, \"two\"",
            "3 203.0.113.8/32",
            "4 bad:  `\"open,203.0.113.9`",
            "5 bad:  `x`",
            "6 bad:  `70000`",
        ]
    );
    assert_eq!(told(Format::Csv, "203.0.113.7,1h,why\n203.0.113.8\n"), ["1 203.0.113.7/32 +3600s why", "2 203.0.113.8/32"]);
}

#[test]
fn crowdsec_in_four_shapes() {
    let alerts = r#"[
 {
  "capacity": 0,
  "decisions": [
   {"duration": "3h59m58.5s", "id": 4, "origin": "crowdsec", "scenario": "crowdsecurity/ssh-bf", "scope": "Ip", "simulated": false, "type": "ban", "value": "203.0.113.7"},
   {"duration": "1h", "scope": "Country", "type": "ban", "value": "XX"},
   {"duration": "1h", "scope": "Range", "type": "captcha", "value": "203.0.113.0/24"}
  ],
  "events": [{"meta": [{"key": "ip", "value": "192.0.2.1"}]}],
  "source": {"scope": "Ip", "value": "192.0.2.2", "ip": "192.0.2.2"}
 },
 {"decisions": null, "events_count": 1, "source": {"value": "192.0.2.3"}},
 {"decisions": [{"duration": "-5m", "scope": "Range", "type": "ban", "value": "198.51.100.0/24"}], "id": 3}
]"#;
    assert_eq!(
        told(Format::Crowdsec, alerts),
        [
            "5 203.0.113.7/32 +14398s crowdsecurity/ssh-bf",
            "6 passed: a decision about a `Country`, not an address",
            "7 passed: a decision to `captcha`, not to ban",
            "12 passed: an alert without decisions",
            "13 198.51.100.0/24 -300s",
        ]
    );
    let list = "\n[{\"duration\" : \"4h\", \"scope\" : \"ip\", \"type\" : \"ban\", \"value\" : \"203.0.113.7\", \"reason\":\"r\"}, {\"value\":\"x\"},{\"x\":1}]";
    assert_eq!(told(Format::Crowdsec, list), ["2 203.0.113.7/32 +14400s r", "2 bad:  `x`", "2 bad:  `{\"x\":1}`"]);
    let raw = "id,source,ip,reason,action,country,as,events_count,expiration,simulated,alert_id\n\
               1,crowdsec,Ip:203.0.113.7,crowdsecurity/ssh-bf,ban,US,\"64496 EXAMPLE, INC\",7,3h59m,false,2\n\
               2,cscli,Range:2001:db8::/32,manual,ban,,,1,1h,false,3\n3,cscli,Ip:203.0.113.8,m,ban,,,1,1h,true,4\n4,cscli,Ip:203.0.113.8,m,ban,,,1,1x,false,4\n";
    assert_eq!(
        told(Format::Crowdsec, raw),
        [
            "2 203.0.113.7/32 +14340s crowdsecurity/ssh-bf",
            "3 2001:db8::/32 +3600s manual",
            "4 passed: a decision that is only simulated",
            "5 bad:  `1x`",
        ]
    );
    let import = "duration,scope,value\n24h,ip,203.0.113.7\n,,2001:db8::1\n";
    assert_eq!(told(Format::Crowdsec, import), ["2 203.0.113.7/32 +86400s", "3 2001:db8::1/128"]);
    assert_eq!(told(Format::Crowdsec, "1,2\n"), ["1 bad:  `1,2`"]);
    assert!(
        told(Format::Crowdsec, "null\n").is_empty() && told(Format::Crowdsec, "[]").is_empty() && told(Format::Crowdsec, " \n").is_empty()
    );
}

#[test]
fn json_as_a_document_and_by_the_line() {
    let document = r#"{"v":1,"bans":[{"prefix":"203.0.113.7/32","since":"2026-11-22T16:00:00Z","until":"2026-11-22T18:00:00Z","origin":"manual","reason":"a \"b\" {","offences":2},
{"prefix":"2001:db8::/32","until":null,"ports":[22,80]},{"prefix":"203.0.113.9"} , {"until":5},
{"cidr":"203.0.113.0/24","duration":60,"extra":{"bans":[{"prefix":"192.0.2.1"}]}}],"more":[{"prefix":"192.0.2.2"}]}"#;
    assert_eq!(
        told(Format::Json, document),
        [
            "1 203.0.113.7/32 +3600s x2 since 2026-11-22T16:00:00Z a \"b\" {",
            "2 2001:db8::/32 for ever [22, 80]",
            "2 203.0.113.9/32",
            "2 bad: expected a row with `prefix`, and `until` if it has an end: missing field `prefix` at line 1 column 11",
            "3 203.0.113.0/24 +60s",
        ]
    );
    let lines = "\u{feff}{\"prefix\":\"203.0.113.1\",\"until\":1795370400}\nnonsense\n{\"prefix\":\"203.0.113.2\"\n{\"prefix\":\"203.0.113.3\n{\"prefix\":\"203.0.113.4\",\"until\":-1}\n]\n{\"prefix\":\"203.0.113.5\"";
    assert_eq!(
        told(Format::Json, lines),
        [
            "1 203.0.113.1/32 +3600s",
            "2 bad:  a value",
            "3 bad: expected `,` or the end of the object or list before `{`",
            "4 bad: expected the end of the text on its line",
            "5 203.0.113.4/32 for ever",
            "6 bad: expected no `]` here",
            "7 bad:  the end of the table",
        ]
    );
    let deep = "[".repeat(300) + "\n" + &"{\"bans\":[\n".repeat(40) + "\n{\"prefix\":\"203.0.113.1\"}";
    assert!(told(Format::Json, &deep).iter().any(|line| line.contains("levels")));
}

#[test]
fn drop_lists() {
    let table = "{\"cidr\":\"192.0.2.0/24\",\"sblid\":\"SBL1\",\"rir\":\"arin\"}\n{\"cidr\":\"2001:db8::\\/32\",\"sblid\":\"SBL2\"}\n{\"sblid\":\"SBL3\"}\nno\n{\"type\":\"metadata\",\"timestamp\":1795366800,\"size\":2}\n";
    assert_eq!(
        told(Format::DropJson, table),
        [
            "1 192.0.2.0/24 Spamhaus DROP SBL1",
            "2 2001:db8::/32 Spamhaus DROP SBL2",
            "3 bad:  `{\"sblid\":\"SBL3\"}`",
            "4 bad: expected an object like {\"cidr\":\"192.0.2.0/24\",\"sblid\":\"SBL1\"}: expected ident at line 1 column 2",
        ]
    );
}

#[test]
fn a_line_that_is_too_long_is_one_error_and_never_two_lines() {
    let long = "203.0.113.1 ".repeat(LINE_MAX);
    for format in [Format::Plain, Format::BanHammer, Format::DropJson] {
        let good = if format == Format::DropJson { "{\"cidr\":\"203.0.113.9/32\"}" } else { "203.0.113.9" };
        let table = format!("{long}\n{good}\n{long}");
        for piece in [1000, usize::MAX] {
            let said = items(format, table.as_bytes(), piece);
            assert_eq!(said.iter().map(|(line, _)| *line).collect::<Vec<_>>(), [1, 2, 3], "{format} {piece}");
            assert!(matches!(said[1].1, Item::Ban(_)));
        }
    }
    let table = format!("{{\"prefix\":\"203.0.113.1\",\"x\":\"{long}\"}}\n{{\"prefix\":\"203.0.113.2\"}}");
    for piece in [1000, usize::MAX] {
        let said = items(Format::Json, table.as_bytes(), piece);
        assert!(matches!(&said[..], [(1, Item::Bad(_)), (2, Item::Ban(_))]), "{said:?}");
    }
}

#[test]
fn wide_prefixes_are_not_admitted() {
    let admits = |text: &str| Widest::DEFAULT.admits(&text.parse().unwrap());
    assert!(admits("10.0.0.0/8") && admits("2001::/19") && admits("203.0.113.7"));
    assert!(!admits("0.0.0.0/0") && !admits("10.0.0.0/7") && !admits("2000::/3") && !admits("::/0"));
}

/// A table of these bans.
fn written(form: Form, bans: &[(Prefix, Until, Ports, String, u32)]) -> (String, Lost) {
    let mut sizes = Sizes::default();
    bans.iter().for_each(|(prefix, ..)| sizes.count(prefix.family()));
    let mut writer = Writer::new(form, sizes, NOW);
    let mut out = Vec::new();
    writer.begin(&mut out);
    for (prefix, until, ports, reason, offences) in bans {
        let (since, until, offences) = (Stamp(NOW.0 - 1500), *until, *offences);
        writer.write(&Out { prefix: *prefix, ports, forced: false, since, until, origin: "jail:sshd", reason, offences }, &mut out);
    }
    writer.finish(&mut out);
    (String::from_utf8(out).unwrap(), writer.lost())
}

#[test]
fn every_form_is_written_as_it_is_told() {
    let ban = |prefix: &str, left: Option<i64>, ports: &[u16], reason: &str| {
        let until = left.map_or(Until::Forever, |left| Until::At(Stamp(NOW.0 + left)));
        (prefix.parse().unwrap(), until, Ports::only(ports.iter().copied()).unwrap(), reason.to_owned(), 1)
    };
    let bans = [
        ban("192.0.2.0/24", Some(-1), &[], "over"),
        ban("198.51.100.0/24", None, &[], ""),
        ban("203.0.113.7/32", Some(3_599_001), &[], "a, \"b\""),
        ban("203.0.113.7/32", Some(7_200_000), &[], "a forced one"),
        ban("203.0.113.7/32", Some(7_200_000), &[22, 80], "web"),
        ban("2001:db8:5::/64", Some(5_000_000_000), &[], ""),
    ];
    let none = Lost::default();
    let one = Lost { ports: 1, ..none };
    assert_eq!(
        written(Form::BanHammer, &bans),
        ("198.51.100.0/24=permanent\n203.0.113.7=1795374000\n2001:db8:5::/64=1800366800\n".to_owned(), one)
    );
    assert_eq!(written(Form::Plain, &bans), ("198.51.100.0/24\n203.0.113.7/32\n2001:db8:5::/64\n".to_owned(), one));
    assert_eq!(written(Form::Pf, &bans), written(Form::Plain, &bans));
    let (csv, lost) = written(Form::Csv, &bans);
    assert_eq!(lost, none);
    assert_eq!(
        csv.lines().collect::<Vec<_>>(),
        [
            "prefix,since,until,origin,reason,offences,ports",
            "198.51.100.0/24,2026-11-22T16:59:58.5Z,permanent,jail:sshd,,1,",
            "203.0.113.7/32,2026-11-22T16:59:58.5Z,2026-11-22T17:59:59.001Z,jail:sshd,\"a, \"\"b\"\"\",1,",
            "203.0.113.7/32,2026-11-22T16:59:58.5Z,2026-11-22T19:00:00Z,jail:sshd,\"a forced one\",1,",
            "203.0.113.7/32,2026-11-22T16:59:58.5Z,2026-11-22T19:00:00Z,jail:sshd,web,1,22 80",
            "2001:db8:5::/64,2026-11-22T16:59:58.5Z,2027-01-19T13:53:20Z,jail:sshd,,1,",
        ]
    );
    let (ipset, lost) = written(Form::Ipset, &bans);
    assert_eq!(lost, Lost { long: 1, ..one });
    assert!(ipset.ends_with("add palisade-export4 198.51.100.0/24\nadd palisade-export4 203.0.113.7 timeout 7200\nadd palisade-export6 2001:db8:5::/64 timeout 2147483\n"), "{ipset}");
    let (nft, _) = written(Form::Nft, &bans);
    assert!(nft.contains("banned ip saddr & 255.255.255.0 @v4_24 drop\n") && nft.contains("banned ip saddr @v4_32 drop\n"), "{nft}");
    assert!(nft.ends_with("add element inet palisade_export v4_24 { 198.51.100.0 }\nadd element inet palisade_export v4_32 { 203.0.113.7 timeout 7200s }\nadd element inet palisade_export v6_64 { 2001:db8:5:: timeout 5000000s }\n"), "{nft}");
    assert_eq!(written(Form::Json, &[]).0, "{\"v\":1,\"bans\":[]}\n");
}

fn prefixes() -> impl Strategy<Value = Prefix> {
    let v4 = (any::<u32>(), 1u8..=32).prop_map(|(bits, len)| Prefix::new(std::net::Ipv4Addr::from_bits(bits).into(), len).unwrap());
    let v6 = (any::<u128>(), 1u8..=128).prop_filter_map("hidden IPv4", |(bits, len)| {
        let addr = crate::net::Addr::from(std::net::Ipv6Addr::from_bits(bits));
        Prefix::new(addr, len).filter(|prefix| prefix.family() == Family::V6 && crate::net::Addr::from(prefix.addr().ip()) == prefix.addr())
    });
    prop_oneof![v4, v6]
}

/// Bans one a prefix, in order, none of which is over.
fn bans() -> impl Strategy<Value = Vec<(Prefix, Until, Ports, String, u32)>> {
    let until = prop_oneof![Just(Until::Forever), (1i64..1 << 40).prop_map(|left| Until::At(Stamp(NOW.0 + left)))];
    let ports = prop_oneof![4 => Just(Ports::All), 1 => proptest::collection::btree_set(1u16.., 1..4).prop_map(|ports| Ports::only(ports).unwrap())];
    let reason = "[ -~äß]{0,30}".prop_map(|text| text.trim().to_owned());
    proptest::collection::btree_map(prefixes(), (until, ports, reason, 1u32..9), 0..12)
        .prop_map(|bans| bans.into_iter().map(|(prefix, (until, ports, reason, n))| (prefix, until, ports, reason, n)).collect())
}

proptest! {
    #[test]
    fn any_bytes_are_read_the_same_in_any_pieces(table in proptest::collection::vec(any::<u8>(), 0..300), piece in 1usize..20) {
        for format in Format::ALL {
            prop_assert_eq!(items(format, &table, piece), items(format, &table, usize::MAX), "{}", format);
        }
    }

    /// Bytes that mean something to the cutters.
    #[test]
    fn any_marks_are_read_the_same_in_any_pieces(table in "([\\[\\]{},:|=#;\"\\\\\n \\-/1a.]|\"bans\":|\"decisions\":|\"prefix\":|203\\.0\\.113\\.7|\u{feff}){0,80}", piece in 1usize..20) {
        for format in Format::ALL {
            prop_assert_eq!(items(format, table.as_bytes(), piece), items(format, table.as_bytes(), usize::MAX), "{}", format);
        }
    }

    #[test]
    fn what_tells_all_comes_back_as_it_was(bans in bans()) {
        for (form, format) in [(Form::Csv, Format::Csv), (Form::Json, Format::Json)] {
            let (table, lost) = written(form, &bans);
            prop_assert_eq!(lost, Lost::default());
            let back: Vec<_> = items(format, table.as_bytes(), usize::MAX).into_iter().map(|(_, item)| item).collect();
            let expected: Vec<_> = bans.iter().map(|(prefix, until, ports, reason, offences)| Item::Ban(Row {
                prefix: *prefix,
                end: Some((*until).into()),
                since: Some(Stamp(NOW.0 - 1500)),
                ports: ports.clone(),
                offences: *offences,
                reason: reason.clone(),
            })).collect();
            prop_assert_eq!(back, expected, "{}", table);
        }
    }

    #[test]
    fn what_tells_who_and_when_comes_back_to_the_second(bans in bans()) {
        let whole: Vec<_> = bans.iter().filter(|(_, _, ports, ..)| *ports == Ports::All).collect();
        let back = |form, format| -> Vec<(Prefix, Option<End>)> {
            items(format, written(form, &bans).0.as_bytes(), usize::MAX).into_iter().map(|(_, item)| match item {
                Item::Ban(row) => (row.prefix, row.end),
                other => panic!("{other:?}"),
            }).collect()
        };
        let up = |until: Until| match until { Until::At(at) => End::At((at.0 + 999) / 1000 * 1000), Until::Forever => End::Forever };
        prop_assert_eq!(back(Form::BanHammer, Format::BanHammer), whole.iter().map(|(p, until, ..)| (*p, Some(up(*until)))).collect::<Vec<_>>());
        for format in [Format::Plain, Format::Netset] {
            prop_assert_eq!(back(Form::Plain, format), whole.iter().map(|(p, ..)| (*p, None)).collect::<Vec<_>>());
        }
    }
}
