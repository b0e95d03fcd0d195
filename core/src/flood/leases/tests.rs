use proptest::prelude::*;

use super::*;

fn found(files: &[&str], addr: &str) -> Option<(String, String)> {
    let mut search = Search::new(addr.parse().unwrap());
    for file in files {
        file.lines().for_each(|line| search.line(line.as_bytes()));
        search.end_of_file();
    }
    search.finish().map(|lease| (lease.host.unwrap_or_default(), lease.mac.unwrap_or_default()))
}

fn pair(host: &str, mac: &str) -> Option<(String, String)> {
    Some((host.to_owned(), mac.to_owned()))
}

const DNSMASQ: &str = "1795700000 52:54:00:12:34:56 192.0.2.10 annas-laptop 01:52:54:00:12:34:56
1795700000 06-52:54:00:AB:34:57 192.0.2.11 * *
0 52:54:00:12:34:58 192.0.2.12 printer.lan *
broken
x 52:54:00:12:34:59 192.0.2.13 nobody *
duid 00:01:00:01:2a:2b:2c:2d:52:54:00:12:34:56
1795700000 305419896 2001:db8::10 annas-laptop 00:01:00:01:2a:2b
1795700000 T5 2001:db8::11 * 00:01:00:01
";

const DHCPD: &str = r#"# The format of this file is documented in the dhcpd.leases(5) manual page.
authoring-byte-order little-endian;

lease 192.0.2.20 {
  starts 4 2026/11/26 12:00:00;
  ends 4 2026/11/26 14:00:00;
  cltt 4 2026/11/26 12:00:00;
  binding state active;
  next binding state free;
  hardware ethernet 52:54:00:aa:00:01;
  uid "\001RT\000\252\000\001";
  client-hostname "first";
}
lease 192.0.2.21 {
  binding state active;
  hardware ethernet 52:54:00:aa:00:02;
  set ddns-fwd-name = "named.example.org";
  on expiry {
    client-hostname "inside";
  }
}
lease 192.0.2.20 {
  starts 4 2026/11/26 13:00:00;
  ends 4 2026/11/26 15:00:00;
  binding state active;
  hardware ethernet 52:54:00:aa:00:03;
  client-hostname "se}c\"ond\033[2J";
}
lease 192.0.2.20 {
  binding state free;
}
server-duid "\000\001";
ia-na "\001\000\000\000\000\001" {
  cltt 4 2026/11/26 12:00:00;
  iaaddr 2001:db8::20 {
    binding state active;
    ends never;
    set ddns-fwd-name = "six.example.org.";
  }
}
lease 192.0.2.22 {
  binding state active;
  client-hostname "unfinished";
"#;

const KEA4: &str = "address,hwaddr,client_id,valid_lifetime,expire,subnet_id,fqdn_fwd,fqdn_rev,hostname,state,user_context,pool_id
192.0.2.30,52:54:00:bb:00:01,01:52,3600,1795700000,1,0,0,old.lan,0,,0
192.0.2.30,52:54:00:bb:00:02,01:53,3600,1795703600,1,0,0,a&#x2cb,0,{ \"x\": 1 },0
192.0.2.30,52:54:00:bb:00:03,,3600,1795703600,1,0,0,declined,1,,0
192.0.2.30,52:54:00:bb:00:02,01:53,0,1795703600,1,0,0,,0,,0
192.0.2.31,,,3600,1795700000,1,0,0,,0,,0
";

const KEA6: &str = "address,duid,valid_lifetime,expire,subnet_id,pref_lifetime,lease_type,iaid,prefix_len,fqdn_fwd,fqdn_rev,hostname,hwaddr,state,user_context,hwtype,hwaddr_source,pool_id
2001:db8::30,00:01:00:01,4000,1795700000,1,3000,0,5,128,0,0,six.lan.,52:54:00:cc:00:01,0,,1,2,0
";

#[test]
fn dnsmasq_names_by_address() {
    assert_eq!(found(&[DNSMASQ], "192.0.2.10"), pair("annas-laptop", "52:54:00:12:34:56"));
    assert_eq!(found(&[DNSMASQ], "192.0.2.11"), pair("", "52:54:00:ab:34:57"));
    assert_eq!(found(&[DNSMASQ], "192.0.2.12"), pair("printer.lan", "52:54:00:12:34:58"));
    assert_eq!(found(&[DNSMASQ], "2001:db8::10"), pair("annas-laptop", ""));
    assert_eq!(found(&[DNSMASQ], "2001:db8::11"), pair("", ""));
    for nobody in ["192.0.2.13", "192.0.2.1", "2001:db8::1"] {
        assert_eq!(found(&[DNSMASQ], nobody), None, "{nobody}");
    }
}

#[test]
fn the_last_lease_of_dhcpd_in_use_holds() {
    assert_eq!(found(&[DHCPD], "192.0.2.20"), pair("se?c?ond??2J", "52:54:00:aa:00:03"));
    assert_eq!(found(&[DHCPD], "192.0.2.21"), pair("named.example.org", "52:54:00:aa:00:02"));
    assert_eq!(found(&[DHCPD], "2001:db8::20"), pair("six.example.org", ""));
    assert_eq!(found(&[DHCPD], "192.0.2.22"), None, "it may have been cut anywhere");
}

#[test]
fn kea_is_read_by_the_names_of_its_columns() {
    assert_eq!(found(&[KEA4], "192.0.2.30"), pair("a?b", "52:54:00:bb:00:02"));
    assert_eq!(found(&[KEA4], "192.0.2.31"), pair("", ""));
    assert_eq!(found(&[KEA6], "2001:db8::30"), pair("six.lan", "52:54:00:cc:00:01"));
    assert_eq!(found(&[KEA4, KEA6], "192.0.2.32"), None);
}

#[test]
fn of_several_files_the_longest_lease_holds() {
    let early = "1795700000 52:54:00:12:34:56 192.0.2.30 early *\n";
    let never = "0 52:54:00:12:34:56 192.0.2.30 never *\n";
    for files in [[early, KEA4], [KEA4, early]] {
        assert_eq!(found(&files, "192.0.2.30"), pair("a?b", "52:54:00:bb:00:02"));
    }
    assert_eq!(found(&[never, KEA4, early], "192.0.2.30"), pair("never", "52:54:00:12:34:56"));
}

#[test]
fn the_ends_of_leases_are_dates_of_utc() {
    assert_eq!(moment("4 2026/11/26 14:10:29"), 1_795_702_229);
    assert_eq!(moment("0 2000/02/29 00:00:00"), 951_782_400);
    assert_eq!(moment("epoch 1795700000; # Thu"), 1_795_700_000);
    assert_eq!((moment("never"), moment("4 2026/13/26 14:10:29"), moment("")), (u64::MAX, 0, 0));
}

#[test]
fn names_are_fit_to_be_shown() {
    assert_eq!(name(b"M\xc3\xbcller, root").as_deref(), Some("M?ller??root"));
    assert_eq!(name("\u{202e}gnp.\u{1b}]0;x\u{7}".as_bytes()).as_deref(), Some("?gnp.??0?x?"));
    assert_eq!(name(&[b'a'; 64]).map(|n| n.len()), Some(66));
    assert_eq!(name(&[b'a'; 63]).map(|n| n.len()), Some(63));
    assert_eq!((name(b"*"), name(b"."), name(b" ")), (None, None, None));
}

proptest! {
    #[test]
    fn reading_is_total_and_what_is_shown_is_printable(
        lines in proptest::collection::vec(
            prop_oneof![
                proptest::collection::vec(any::<u8>(), 0..120),
                "(client-hostname|hardware ethernet|ends|binding state|set ddns-fwd-name =) [\"\\\\0-9a-z{};:]{0,20}".prop_map(String::into_bytes),
                "(lease|iaaddr) 192.0.2.1 \\{|\\}|address,hostname,hwaddr,state|192.0.2.1,[&#x0-9a-z,]{0,30}".prop_map(String::into_bytes),
                "[0-9]{1,22} [0-9a-f:-]{0,20} 192.0.2.1 \\PC{0,80}".prop_map(String::into_bytes),
            ],
            0..12,
        )
    ) {
        let mut search = Search::new("192.0.2.1".parse().unwrap());
        lines.iter().for_each(|line| search.line(line));
        if let Some(lease) = search.finish() {
            for shown in [lease.host, lease.mac].into_iter().flatten() {
                prop_assert!(!shown.is_empty() && shown.len() <= NAME + 3, "{shown}");
                prop_assert!(shown.bytes().all(|b| b.is_ascii_alphanumeric() || b".-_?:".contains(&b)), "{shown}");
            }
        }
    }
}
