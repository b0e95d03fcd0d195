//! The table as a whole: building, comparing, healing, removing, and what nft(8) says of it.

use palisade_core::route::spec::Guard;
use palisade_core::route::wanted::Marks;
use palisade_core::route::words::Mask;

use super::{FIBRE, both, sh, uplink};
use crate::netns::Netns;
use crate::routes::marks::{leaks, set, stands};

fn alone() -> Netns {
    Netns::new().unwrap()
}

fn put(netns: &Netns, marks: Option<&Marks>) {
    netns.within(|| set(marks)).unwrap().unwrap();
}

fn is(netns: &Netns, marks: Option<&Marks>) -> bool {
    netns.within(|| stands(marks)).unwrap().unwrap()
}

#[test]
fn nft_prints_what_was_meant_and_can_read_it_back() {
    let netns = alone();
    let marks = both(Guard::Drop);
    put(&netns, Some(&marks));
    let text = sh(&netns, "nft list table inet palisade_route");
    for line in [
        "type filter hook prerouting priority mangle; policy accept;",
        "type route hook output priority mangle; policy accept;",
        "type filter hook postrouting priority 150; policy accept;",
        "iifname \"wan2\" meta mark & 0x7f000000 != 0x00000000 meta mark set meta mark & 0x80ffffff",
        "ct mark & 0x7f000000 == 0x42000000 meta mark set meta mark & 0xc2ffffff | 0x42000000 accept",
        "ct state new iifname \"wan2\" ct mark & 0x7f000000 == 0x00000000 ct mark set ct mark & 0xc2ffffff | 0x42000000 meta mark set",
        "ct state established,related ct mark & 0x7f000000 == 0x41000000 meta mark set",
        "ct state new oifname \"wan1\" ct mark & 0x7f000000 == 0x00000000 meta mark & 0x7f000000 == 0x00000000 ct mark set",
        "oifname \"wan1\" jump leaks",
        "ip daddr 224.0.0.0/4 return",
        "ip6 daddr fe80::/10 return",
        "oifname != \"wan2\" ip saddr 203.0.113.2 counter name \"leak_lte\" drop",
        "oifname != \"wan2\" ip6 saddr 2001:db8:2::2 counter name \"leak_lte\" drop",
    ] {
        assert!(text.contains(line), "no `{line}` in\n{text}");
    }
    assert!(!text.contains("leak_fibre"), "a guard that is off counts nothing");
    sh(&netns, "f=$(mktemp); nft list ruleset > $f; nft flush ruleset; nft -f $f; rm $f");
    put(&netns, Some(&marks));
    assert!(is(&netns, Some(&marks)));
}

#[test]
fn every_change_of_others_is_seen_and_healed() {
    let netns = alone();
    let marks = both(Guard::Count);
    assert!(is(&netns, None) && !is(&netns, Some(&marks)));
    for change in [
        "nft flush ruleset",
        "nft flush table inet palisade_route",
        "nft insert rule inet palisade_route out meta mark set 0",
        "nft add rule inet palisade_route pre counter",
        "nft delete rule inet palisade_route post handle $(nft -a list chain inet palisade_route post | sed -n 's/.*jump.* handle //p' | head -1)",
        "nft replace rule inet palisade_route leaks handle $(nft -a list chain inet palisade_route leaks | sed -n 's/.*counter.* handle //p' | head -1) ip saddr 203.0.113.2 drop",
        "nft 'add chain inet palisade_route pre { type filter hook prerouting priority mangle; policy drop; }'",
        "nft add chain inet palisade_route more; nft add rule inet palisade_route pre jump more",
        "nft 'add set inet palisade_route s { type ipv4_addr; }'",
        "nft 'add map inet palisade_route m { type ipv4_addr : verdict; elements = { 192.0.2.1 : jump leaks }; }'",
        "nft add counter inet palisade_route leak_nobody",
        "nft 'add quota inet palisade_route leak_quota { over 5 bytes; }'",
        "nft 'add table inet palisade_route { flags dormant; }'",
        "nft 'add table inet palisade_route { flags dormant; }'; nft flush table inet palisade_route; nft delete chain inet palisade_route pre",
    ] {
        put(&netns, Some(&marks));
        assert!(is(&netns, Some(&marks)), "before {change}");
        sh(&netns, change);
        assert!(!is(&netns, Some(&marks)), "{change}");
        put(&netns, Some(&marks));
        assert!(is(&netns, Some(&marks)), "healed of {change}");
    }
    assert!(!is(&netns, Some(&both(Guard::Drop))), "another guard is another table");
}

#[test]
fn nothing_is_left_and_strangers_are_untouched() {
    let netns = alone();
    let others = "nft 'table inet other { counter leak_x { packets 7 bytes 9 }; set s { type ipv4_addr; elements = { 192.0.2.1 }; }
        chain c { type filter hook input priority 0; ip saddr @s counter name leak_x; }; }
        table ip palisade_route { counter leak_y { }; chain c { }; }; table inet palisade { chain pre { }; }'";
    sh(&netns, others);
    let before = sh(&netns, "nft list ruleset");
    put(&netns, None);
    for marks in [both(Guard::Count), Marks { mask: Mask::OURS, uplinks: Vec::new() }, both(Guard::Drop)] {
        put(&netns, Some(&marks));
        assert!(is(&netns, Some(&marks)));
        let names: Vec<String> = netns.within(leaks).unwrap().unwrap().into_keys().collect();
        assert_eq!(names, if marks.uplinks.is_empty() { vec![] } else { vec!["lte".to_owned()] }, "only our own counters");
    }
    put(&netns, None);
    assert!(is(&netns, None));
    assert_eq!(sh(&netns, "nft list ruleset"), before);
    assert!(netns.within(leaks).unwrap().unwrap().is_empty());
}

#[test]
fn what_stands_already_is_not_written() {
    let netns = alone();
    let marks = both(Guard::Count);
    put(&netns, Some(&marks));
    let handles = sh(&netns, "nft -a list table inet palisade_route");
    put(&netns, Some(&marks));
    assert_eq!(sh(&netns, "nft -a list table inet palisade_route"), handles);
}

#[test]
fn a_hundred_uplinks_and_odd_names() {
    let netns = alone();
    let mut uplinks: Vec<_> = (1..64u32)
        .map(|n| {
            let source = format!("2001:db8:{n:x}::/48");
            uplink(&format!("up-{n}"), &format!("tun{n}"), Some(super::Mark(0x4000_0000 | n << 24)), &[&source], Guard::Count)
        })
        .collect();
    uplinks.push(uplink("6 \"in\" 4", "fifteen-letters", Some(FIBRE), &["198.51.100.0/24", "2001:db8::/29"], Guard::Drop));
    let marks = Marks { mask: Mask::OURS, uplinks };
    put(&netns, Some(&marks));
    assert!(is(&netns, Some(&marks)));
    assert_eq!(netns.within(leaks).unwrap().unwrap().len(), 64);
}

#[test]
fn without_the_right_it_says_so() {
    let netns = alone();
    let error = netns
        .within(|| {
            // SAFETY: plain system call; as such, other than through libc, it changes the calling thread alone.
            assert_eq!(unsafe { libc::syscall(libc::SYS_setresuid, 65534, 65534, 65534) }, 0);
            set(Some(&both(Guard::Count))).unwrap_err()
        })
        .unwrap();
    assert_eq!(error.kind(), std::io::ErrorKind::PermissionDenied);
    assert!(error.to_string().contains("palisade_route") && error.to_string().contains("CAP_NET_ADMIN"), "{error}");
}

#[test]
fn a_kernel_without_nf_tables_is_enough_for_nothing() {
    let errno = |errno| std::io::Error::from_raw_os_error(errno);
    assert!(crate::routes::marks::absent_is(true, true, errno(libc::EPROTONOSUPPORT)).unwrap());
    let error = crate::routes::marks::absent_is((), false, errno(libc::EINVAL)).unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::Unsupported);
    assert!(error.to_string().contains("modprobe"), "{error}");
}
