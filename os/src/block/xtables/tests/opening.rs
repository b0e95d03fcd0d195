//! Which programs are taken, and what is said where something is missing.

use std::os::unix::fs::symlink;

use palisade_core::bans::backend::Backend;
use palisade_core::config::{BackendSection, Variant};
use tempfile::TempDir;

use super::{Which, block, did, key, over_all};
use crate::block::nftables::tests::namespace::{alone, sh};
use crate::block::xtables::{Kind, Xtables};
use crate::block::{BlockError, open};
use crate::errors::chain;

/// A folder with these programs, each under a name of its own.
fn folder(programs: &[(&str, &str)]) -> (TempDir, Vec<String>) {
    let dir = tempfile::tempdir().unwrap();
    for (name, program) in programs {
        symlink(format!("/usr/sbin/{program}"), dir.path().join(name)).unwrap();
    }
    let path = vec![dir.path().to_str().unwrap().to_owned()];
    (dir, path)
}

/// Those of both families under their plain names.
fn plain(kind: &str) -> (TempDir, Vec<String>) {
    let ends = ["", "-restore", "-save"];
    let names: Vec<_> = ["iptables", "ip6tables"]
        .iter()
        .flat_map(|stem| ends.map(|end| (format!("{stem}{end}"), format!("{stem}-{kind}{end}"))))
        .chain([("ipset".to_owned(), "ipset".to_owned())])
        .collect();
    folder(&names.iter().map(|(name, program)| (name.as_str(), program.as_str())).collect::<Vec<_>>())
}

fn plain_names_do_where_they_are_of_the_kind(which: Which) {
    alone(move || {
        let (nft, legacy) = (plain("nft"), plain("legacy"));
        let (its, other) = if which.kind == Kind::Nft { (nft, legacy) } else { (legacy, nft) };
        for variant in [which.section().ipset.variant, Variant::Auto] {
            let mut section = BackendSection { path: its.1.clone(), ..which.section() };
            (section.ipset.variant, section.iptables.variant) = (variant, variant);
            let mut wall = open(which.backend, &section).unwrap();
            did(wall.as_mut(), &[block(key("192.0.2.1/32"), None), block(key("2001:db8::/64"), None)]);
            assert!(which.rules().contains(which.chain()), "it is in the tables of its kind");
            wall.remove().unwrap();
        }
        let Err(error) = open(which.backend, &BackendSection { path: other.1, ..which.section() }) else { panic!("of the other kind") };
        assert!(matches!(error, BlockError::Tool { .. }) && error.to_string().contains("package `iptables`"), "{error}");
        let word = if which.kind == Kind::Nft { "`iptables-nft-restore`" } else { "`iptables-legacy-restore`" };
        assert!(chain(&error).contains(word), "{}", chain(&error));
    });
}

fn ipv6_that_cannot_be_filtered_is_an_error_where_there_is_ipv6(which: Which) {
    alone(move || {
        let word = if which.kind == Kind::Nft { "nft" } else { "legacy" };
        let names = ["restore", "save"].map(|end| format!("iptables-{word}-{end}"));
        let (_dir, path) = folder(&[(&names[0], &names[0]), (&names[1], &names[1]), ("ipset", "ipset")]);
        let section = BackendSection { path, ..which.section() };
        let Err(error) = open(which.backend, &section) else { panic!("without ip6tables") };
        assert!(error.to_string().contains("this host has IPv6, which would stay open"), "{error}");
        sh("echo 1 > /proc/sys/net/ipv6/conf/all/disable_ipv6; echo 1 > /proc/sys/net/ipv6/conf/default/disable_ipv6");
        let mut wall = open(which.backend, &section).unwrap();
        did(wall.as_mut(), &[block(key("192.0.2.1/32"), None), block(key("2001:db8::/64"), None)]);
        assert!(which.sh("save4").contains("192.0.2.1") || which.is_ipset());
        wall.drift().unwrap();
        sh("echo 0 > /proc/sys/net/ipv6/conf/all/disable_ipv6; echo 0 > /proc/sys/net/ipv6/conf/default/disable_ipv6");
        which.sh("t4 -I INPUT -j ACCEPT; t4 -D INPUT -j ACCEPT");
        let began = std::time::Instant::now();
        while wall.drift().is_ok() {
            assert!(began.elapsed() < std::time::Duration::from_secs(30), "it was not noticed that IPv6 came");
            std::thread::sleep(std::time::Duration::from_millis(100));
        }
    });
}

over_all!(
    without_the_right_it_says_which_one,
    plain_names_do_where_they_are_of_the_kind,
    auto_stays_where_our_chains_are,
    ipv6_that_cannot_be_filtered_is_an_error_where_there_is_ipv6
);

#[test]
fn a_missing_program_is_named_with_its_package() {
    for (backend, package) in [(Backend::Ipset, "`ipset`"), (Backend::Iptables, "`iptables`")] {
        let section = BackendSection { path: vec!["/nonexistent".to_owned()], ..BackendSection::default() };
        let Err(error) = open(backend, &section) else { panic!("nothing there") };
        assert!(error.to_string().contains(package) && chain(&error).contains("/nonexistent"), "{}", chain(&error));
    }
}

#[test]
fn auto_follows_the_rules_that_are_there() {
    let kind = || Xtables::open("iptables", Variant::Auto, &BackendSection::default().path, &|_| false).unwrap().kind();
    alone(move || {
        let plain = if sh("iptables -V").contains("nf_tables") { Kind::Nft } else { Kind::Legacy };
        assert_eq!(kind(), plain);
        sh("iptables-legacy -t nat -A PREROUTING -j ACCEPT");
        assert_eq!(kind(), Kind::Legacy);
        sh("iptables-nft -A INPUT -j ACCEPT");
        assert_eq!(kind(), plain);
        sh("iptables-legacy -t nat -F; ip6tables-nft -A INPUT -j ACCEPT");
        assert_eq!(kind(), Kind::Nft);
    });
}

fn auto_stays_where_our_chains_are(which: Which) {
    alone(move || {
        let mut wall = which.open();
        did(wall.as_mut(), &[block(key("192.0.2.1/32"), None)]);
        let other = if which.kind == Kind::Nft { "legacy" } else { "nft" };
        which.sh("t6 -F; t6 -X; t4 -t nat -A PREROUTING -j ACCEPT");
        sh(&format!("iptables-{other} -A INPUT -j ACCEPT; ip6tables-{other} -A INPUT -j ACCEPT"));
        let mut next = open(which.backend, &BackendSection::default()).unwrap();
        next.remove().unwrap();
        assert!(!which.rules().contains(which.chain()), "it is the same wall that the next one found");
    });
}

#[test]
fn a_table_that_only_nft_can_write_is_said_to_be_so() {
    alone(|| {
        sh("nft 'table ip filter { chain INPUT { type filter hook input priority 50; }; }'");
        let section = Which { backend: Backend::Iptables, kind: Kind::Nft }.section();
        let Err(error) = open(Backend::Iptables, &section) else { panic!("it cannot be written") };
        assert!(error.to_string().contains("only nft(8) can write"), "{}", chain(&error));
    });
}

fn without_the_right_it_says_which_one(which: Which) {
    alone(move || {
        // SAFETY: plain system call without pointers. Made directly it changes the calling thread only, and what it starts.
        assert_eq!(unsafe { libc::syscall(libc::SYS_setresuid, 65_534, 65_534, 65_534) }, 0);
        let Err(error) = open(which.backend, &which.section()) else { panic!("nobody may do it") };
        assert!(error.to_string().contains("run as root"), "{}", chain(&error));
    });
}
