//! Tables of other tools in and out: what they list stands in the kernel, and what stands comes out as they read it.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod lab;

use std::collections::BTreeMap;
use std::fs;
use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};

use lab::fail2ban::Fail2ban;
use lab::house::{Answer, House};
use lab::service::Running;
use lab::traffic::{Counter, Flood};
use lab::{ATTACKER, Lab, until};
use palisade_core::time::Stamp;
use serde_json::{Value, json};

/// Seconds since 1970.
fn now() -> i64 {
    palisade_os::clock::now().stamp.0 / 1000
}

fn file(lab: &Lab, name: &str, text: &str) -> String {
    let path = lab.path(name);
    fs::write(&path, text).unwrap();
    path.display().to_string()
}

/// Imports and expects this exit code; nothing is on standard output, and nothing drives a terminal.
#[track_caller]
fn import(house: &House<'_>, code: i32, words: &str) -> Answer {
    let answer = house.expect(code, &format!("import {words}"));
    assert!(answer.out.is_empty() && !answer.err.contains(['\r', '\x1b']), "{answer:?}");
    answer
}

/// The bans without moments that depend on when they were made.
fn bans(house: &House<'_>) -> Vec<Value> {
    house.json("list")["bans"].as_array().unwrap().clone()
}

/// The tables of the hand-made script, 200 entries: of each five one is over, one is for ever.
fn notes(lab: &Lab) -> (String, String, BTreeMap<String, Option<i64>>) {
    let (mut ip4, mut ip6, mut standing) = ("# ip4.ban\n\n".to_owned(), "; ip6.ban\r\n".to_owned(), BTreeMap::new());
    for n in 1..=200i64 {
        let (table, addr, len) =
            if n <= 150 { (&mut ip4, format!("203.0.113.{n}"), 32) } else { (&mut ip6, format!("2001:db8:7::{n:x}"), 128) };
        let end = now() + 600 + n;
        let (time, until) = match n % 5 {
            0 => ((now() - n).to_string(), None),
            1 => ("permanent".to_owned(), Some(None)),
            2 => ("2h".to_owned(), Some(Some(now() + 7200))),
            3 => (Stamp(end * 1000).to_string(), Some(Some(end))),
            _ => (end.to_string(), Some(Some(end))),
        };
        table.push_str(&format!("{addr}={time}\n"));
        if let Some(until) = until {
            standing.insert(format!("{addr}/{len}"), until);
        }
    }
    (file(lab, "ip4.ban", &ip4), file(lab, "ip6.ban", &ip6), standing)
}

/// Both tables come in, and what is not over stands in list and kernel with what is left of it.
fn notes_stand(lab: &Lab, house: &House<'_>) {
    let (ip4, ip6, standing) = notes(lab);
    let said = import(house, 0, &format!("ban-hammer {ip4}")).err;
    assert_eq!(said, "imported 120 of 150 rows; 120 new; 30 over\n");
    import(house, 0, &format!("ban-hammer {ip6}"));
    assert!(house.list().keys().eq(standing.keys()), "{:?}", house.list());
    let kernel = house.kernel();
    assert!(kernel.keys().eq(standing.keys()), "{kernel:?}");
    for (prefix, until) in &standing {
        let left = until.map(|until| until - now());
        let close = match (left, kernel[prefix].left) {
            (Some(left), Some(stands)) => left.abs_diff(i64::try_from(stands).unwrap()) < 30,
            (None, None) => true,
            _ => false,
        };
        assert!(close, "{prefix}: {left:?} should be left, and the kernel has {:?}", kernel[prefix].left);
    }
    assert!(bans(house).iter().all(|ban| ban["origin"] == "import:ban-hammer"));
    // Once more: they stand as long already.
    let said = house.expect(0, &format!("--json import ban-hammer {ip6}")).json();
    assert_eq!((&said["new"], &said["over"], &said["v"]), (&json!(0), &json!(10), &json!(1)), "{said}");
    let events = house.events("imported");
    assert!(events.len() >= 2 && events[0]["bans"] == 120, "{events:?}");
}

#[test]
fn the_tables_of_a_hand_made_script_stand_without_a_daemon() {
    let Some(lab) = Lab::new() else { return };
    notes_stand(&lab, &House::new(&lab, ""));
}

#[test]
fn the_tables_of_a_hand_made_script_stand_with_the_daemon_and_outlive_it() {
    let Some(lab) = Lab::new() else { return };
    let mut house = House::new(&lab, "");
    house.start();
    notes_stand(&lab, &house);
    let before = house.list();
    house.kill();
    house.start();
    assert_eq!((house.list(), house.kernel().len()), (before.clone(), before.len()));
}

#[test]
fn an_import_ends_the_connections_of_whom_it_bans() {
    let Some(lab) = Lab::new() else { return };
    let counter = Counter::start(&lab.victim, "198.51.100.1:9");
    let mut house = House::new(&lab, "");
    house.start();
    let flood = Flood::start(&lab.outside, ATTACKER, "198.51.100.1:9");
    until("the flood arrives", || counter.of(ATTACKER) > 100);
    let table = file(&lab, "table", &format!("{ATTACKER}\n"));
    import(&house, 0, &format!("plain {table} --for 1h"));
    let passed = counter.of(ATTACKER);
    flood.go_on(100);
    assert!(counter.of(ATTACKER) <= passed + 5, "packets of a banned source pass");
}

#[test]
fn what_cannot_be_imported_is_named_by_its_line_and_stops_nothing() {
    let Some(lab) = Lab::new() else { return };
    let other = Lab::new().unwrap();
    let config = "[allow]\nprefixes = [\"198.51.100.128/25\"]\n";
    let alone = House::new(&lab, config);
    let mut served = House::new(&other, config);
    served.start();
    let table = "203.0.113.1\nnonsense\n198.51.100.200\n127.0.0.1\n10.0.0.0/7\n::/0\n198.51.100.1\n203.0.113.2 - 203.0.113.3\n";
    for (lab, house) in [(&lab, &alone), (&other, &served)] {
        let path = file(lab, "list", table);
        let said = import(house, 1, &format!("plain {path} --for 1h")).err;
        let lines: Vec<&str> = said.lines().collect();
        let told = |line: usize, words: &[&str]| {
            let start = format!("{path}:{line}: ");
            lines.iter().any(|said| said.starts_with(&start) && words.iter().all(|word| said.contains(word)))
        };
        assert!(told(2, &["expected an address", "`nonsense`"]), "{said}");
        assert!(told(3, &["198.51.100.128/25", "allowed by the config"]), "{said}");
        assert!(told(4, &["127.0.0.0/8", "loopback"]), "{said}");
        assert!(told(5, &["wider than /8", "--widest-ipv4 7"]), "{said}");
        assert!(told(6, &["wider than /19", "--widest-ipv6 0"]), "{said}");
        assert!(told(7, &["an address of this host"]), "{said}");
        assert_eq!(lines.last(), Some(&"imported 2 of 8 rows; 2 new; 5 refused; 1 not understood"), "{said}");
        assert_eq!(house.list().into_keys().collect::<Vec<_>>(), ["203.0.113.1/32", "203.0.113.2/31"]);
        // Who is protected stays so however wide the table may be; what is only wide does not.
        let path = file(lab, "list", "0.0.0.0/0\n192.0.0.0/7\n");
        let said = import(house, 1, &format!("plain {path} --for 1h --widest-ipv4 0")).err;
        assert!(said.contains(":1: 0.0.0.0/0 is protected by") && said.contains("1 new; 1 refused"), "{said}");
        // A hundred wrong lines are not a hundred messages.
        let path = file(lab, "list", &"wrong\n".repeat(100));
        let said = import(house, 1, &format!("plain {path}")).err;
        assert_eq!((said.lines().count(), said.contains("and 80 more")), (22, true), "{said}");
    }
    let house = alone;
    for words in [
        "plain /nosuch",
        "plain /",
        "frob x",
        "plain",
        "fail2ban -",
        "ban-hammer --allow x",
        "plain x --widest-ipv4 33",
        "fail2ban /nosuch",
    ] {
        import(&house, 2, words);
    }
    let not = file(&lab, "not", "no database\n");
    import(&house, 2, &format!("fail2ban {not}"));
}

#[test]
fn a_dry_run_says_the_same_and_changes_nothing() {
    let Some(lab) = Lab::new() else { return };
    let mut house = House::new(&lab, "[allow]\nprefixes = [\"198.51.100.128/25\"]\n");
    let path = file(&lab, "list", "203.0.113.1=1d\n198.51.100.200=1d\n203.0.113.2=1\n203.0.113.3=1700000000\nx\n");
    let dry = |house: &House<'_>| {
        let said = import(house, 1, &format!("ban-hammer {path} --dry-run")).err;
        assert!(said.contains(":2: 198.51.100.200/32 is protected by 198.51.100.128/25 (allowed by the config)"), "{said}");
        assert!(said.ends_with("would import 2 of 5 rows; 2 new; 1 over; 1 refused; 1 not understood\n"), "{said}");
        assert!(house.list().is_empty());
    };
    dry(&house);
    assert_eq!(lab.victim.sh("nft list tables"), "", "a wall was put up");
    house.start();
    let wall = lab.victim.sh("nft list ruleset");
    dry(&house);
    assert_eq!(lab.victim.sh("nft list ruleset"), wall);
    assert!(house.events("imported").is_empty());
}

#[test]
fn a_running_fail2bans_bans_come_over_with_what_is_left_of_them() {
    let Some(lab) = Lab::new() else { return };
    let server = Fail2ban::start(&lab, &[("hour", "1h"), ("ever", "-1")]);
    let database = server.database();
    let client = |words: &str| drop(server.expect(words));
    client("set hour banip 203.0.113.7 2001:db8:9::1");
    client("set ever banip 203.0.113.8");
    client("set hour banip 203.0.113.8");
    client("set hour banip 198.51.100.1");
    // It may be writing at this moment, and then the file is locked.
    let rows =
        || rusqlite::Connection::open(&database).and_then(|db| db.query_row("SELECT count(*) FROM bips", [], |row| row.get::<_, i64>(0)));
    until("fail2ban has written them", || rows() == Ok(5));
    let path = database.display().to_string();
    let house = House::new(&lab, "");
    let said = import(&house, 1, &format!("fail2ban {path}")).err;
    assert!(said.contains("198.51.100.1/32 is protected by 198.51.100.1/32 (an address of this host)"), "{said}");
    let list = house.list();
    assert_eq!(list.keys().collect::<Vec<_>>(), ["2001:db8:9::1/128", "203.0.113.7/32", "203.0.113.8/32"]);
    assert_eq!(list["203.0.113.8/32"], Value::Null, "the longest of several jails counts");
    let left = Stamp::parse(list["203.0.113.7/32"].as_str().unwrap()).unwrap().0 / 1000 - now();
    // fail2ban keeps whole seconds, rounded.
    assert!((3500..=3601).contains(&left), "{left} s are left");
    let ban = bans(&house)[0].clone();
    assert_eq!((&ban["origin"], &ban["reason"]), (&json!("import:fail2ban"), &json!("fail2ban jail hour")), "{ban}");
    assert_eq!(house.kernel().len(), 3);

    // An unban and one that is over, in a copy, as of a fail2ban that is gone; nobody may write it.
    client("set hour unbanip 203.0.113.7");
    until("fail2ban has written that too", || rows() == Ok(4));
    drop(server);
    let copy = lab.path("copy.sqlite3");
    fs::copy(&database, &copy).unwrap();
    rusqlite::Connection::open(&copy).unwrap().execute("UPDATE bips SET timeofban = timeofban - 4000", []).unwrap();
    house.expect(0, "unban --all");
    lab.victim.sh(&format!(
        "mkdir {0}/ro; cp {1} {0}/ro/; mount --bind -o ro {0}/ro {0}/ro; mount -o remount,bind,ro {0}/ro",
        lab.dir.path().display(),
        copy.display()
    ));
    let said = import(&house, 0, &format!("fail2ban {}/ro/copy.sqlite3", lab.dir.path().display())).err;
    assert!(said.contains("1 new") && said.contains("over"), "{said}");
    assert_eq!(house.list().into_iter().collect::<Vec<_>>(), [("203.0.113.8/32".to_owned(), Value::Null)]);
}

#[test]
fn older_and_hostile_databases_are_read_or_refused() {
    let Some(lab) = Lab::new() else { return };
    let house = House::new(&lab, "");
    let make = |name: &str, sql: &str| -> String {
        let path = lab.path(name);
        rusqlite::Connection::open(&path).unwrap().execute_batch(sql).unwrap();
        path.display().to_string()
    };
    let old = make(
        "v2",
        "CREATE TABLE bans(jail TEXT NOT NULL, ip TEXT, timeofban INTEGER NOT NULL, data JSON);
        INSERT INTO bans VALUES ('ssh', '203.0.113.1', 1, NULL), ('ssh', '203.0.113.1', 2, NULL), ('ssh', NULL, 2, NULL);",
    );
    let said = import(&house, 1, &format!("fail2ban {old} --for 1h")).err;
    assert!(said.contains("expected an address") && said.contains("imported 1 of 2 rows"), "{said}");
    let newer = make("v3", &format!("CREATE TABLE bans(jail TEXT, ip TEXT, timeofban INTEGER, bantime INTEGER, bancount INTEGER, data JSON);
        INSERT INTO bans VALUES ('ssh', '203.0.113.2', 1, -1, 1, NULL), ('ssh', '203.0.113.2', {}, 600, 4, NULL), ('ssh', '203.0.113.3', {}, -2, 1, NULL);", now(), now()));
    import(&house, 0, &format!("fail2ban {newer} --for 1h"));
    let all = bans(&house);
    assert_eq!((all.len(), &all[1]["offences"]), (3, &json!(4)), "{all:?}");
    assert!(all.iter().all(|ban| ban["until"].is_string()), "only the latest of a jail's bans of an address counts: {all:?}");
    let wrong = [
        make("empty", "CREATE TABLE other(x);"),
        make("view", "CREATE TABLE t(x); CREATE VIEW bips AS SELECT 'x' AS ip, 'x' AS jail, 1 AS timeofban, -1 AS bantime, 1 AS bancount;"),
    ];
    for path in wrong {
        let said = import(&house, 2, &format!("fail2ban {path}")).err;
        assert!(said.contains("no table `bips`"), "{said}");
    }
    let strange = make("strange", "CREATE TABLE bips(ip, jail, timeofban, bantime, bancount);
        INSERT INTO bips VALUES (1, 2, 3, 4, 5), (x'00ff', x'ff', 'a', 'b', 'c'), ('203.0.113.9', 'j', 9e99, 9e99, -5), ('203.0.113.8', 'j', NULL, NULL, NULL);");
    import(&house, 1, &format!("fail2ban {strange}"));
    assert!(house.banned("203.0.113.9") && !house.banned("203.0.113.8"));
}

#[test]
fn an_export_comes_back_as_the_bans_it_was_made_of() {
    let Some(lab) = Lab::new() else { return };
    let mut house = House::new(&lab, "");
    house.expect(0, "ban 203.0.113.7 192.0.2.0/25 --for 1h --reason told");
    house.expect(0, "ban 2001:db8:5::/64 192.0.2.7 --permanent");
    for served in [false, true] {
        if served {
            house.start();
        }
        let before = bans(&house);
        assert_eq!(house.expect(0, "export json").json()["bans"], json!(before), "the document of `list`");
        for format in ["json", "csv", "ban-hammer", "plain"] {
            let table = file(&lab, "table", &house.expect(0, &format!("export {format}")).out);
            house.expect(0, "unban --all");
            import(&house, 0, &format!("{format} {table}"));
            let after = bans(&house);
            let of = |all: &[Value], key: &str| all.iter().map(|ban| ban[key].clone()).collect::<Vec<_>>();
            assert_eq!(of(&after, "prefix"), of(&before, "prefix"), "{format}");
            if matches!(format, "json" | "csv") {
                for key in ["since", "until", "reason", "offences"] {
                    assert_eq!(of(&after, key), of(&before, key), "{format} {key}");
                }
            }
            if format == "ban-hammer" {
                for (after, before) in of(&after, "until").iter().zip(of(&before, "until")) {
                    let seconds = |value: &Value| value.as_str().map(|text| (Stamp::parse(text).unwrap().0 + 999) / 1000);
                    assert_eq!(seconds(after), seconds(&before));
                }
            }
            // As it was, for the next.
            house.expect(0, "unban --all");
            let document = file(&lab, "before", &json!({ "bans": before }).to_string());
            import(&house, 0, &format!("json {document}"));
        }
        let four = house.expect(0, "export ban-hammer --family 4").out;
        let six = house.expect(0, "export ban-hammer --family 6").out;
        assert_eq!((four.lines().count(), six.as_str()), (3, "2001:db8:5::/64=permanent\n"));
    }
}

#[test]
fn nft_and_ipset_load_what_is_exported_for_them() {
    let Some(lab) = Lab::new() else { return };
    let house = House::new(&lab, "");
    let many: String = (0..3000).map(|n| format!("10.{}.{}.0/24,{}s\n", n / 250, n % 250, 600 + n)).collect();
    let table = file(&lab, "table", &many);
    import(&house, 0, &format!("csv {table}"));
    house.expect(0, &format!("ban {ATTACKER} 10.0.0.0/16 2001:db8:5::/64 2001:db8:5::1 --for 40d"));
    house.expect(0, "ban 2001:db8:6::/48 203.0.113.9 --permanent");
    let (nft, ipset) = (lab.path("bans.nft"), lab.path("bans.ipset"));
    let answer = house.expect(0, "export nft");
    assert!(answer.err.is_empty(), "{answer:?}");
    fs::write(&nft, answer.out).unwrap();
    let answer = house.expect(0, "export ipset");
    assert!(answer.err.contains("4 bans last longer"), "{}", answer.err);
    fs::write(&ipset, answer.out).unwrap();
    assert_eq!(house.expect(0, "export pf").out.lines().count(), 3006);

    // Another host, which knows nothing of Palisade.
    let other = Lab::new().unwrap();
    let load = |text: String| other.victim.sh(&text);
    load(format!("nft -c -f {}", nft.display()));
    let counter = Counter::start(&other.victim, "198.51.100.1:9");
    let flood = Flood::start(&other.outside, ATTACKER, "198.51.100.1:9");
    until("the flood arrives", || counter.of(ATTACKER) > 100);
    load(format!("nft -f {}", nft.display()));
    let passed = counter.of(ATTACKER);
    flood.go_on(100);
    assert!(counter.of(ATTACKER) <= passed + 5, "who is listed passes");
    // A newer file in the place of the older.
    load(format!("nft -f {}", nft.display()));
    let listed: Value = serde_json::from_str(&load("nft -j list table inet palisade_export".to_owned())).unwrap();
    let sets = listed["nftables"].as_array().unwrap().iter().filter_map(|object| object.get("set"));
    let elements: BTreeMap<&str, usize> = sets.map(|set| (set["name"].as_str().unwrap(), set["elem"].as_array().unwrap().len())).collect();
    assert_eq!(elements, BTreeMap::from([("v4_16", 1), ("v4_24", 3000), ("v4_32", 2), ("v6_128", 1), ("v6_48", 1), ("v6_64", 1)]));

    load(format!("ipset restore -file {}", ipset.display()));
    let listed = load("ipset list -terse".to_owned());
    let counts: Vec<&str> = listed.lines().filter_map(|line| line.strip_prefix("Number of entries: ")).collect();
    assert_eq!(counts, ["3003", "3"], "{listed}");
    let members = load("ipset list palisade-export6".to_owned());
    assert!(members.contains("2001:db8:6::/48 timeout 0") && members.contains("2001:db8:5::1 timeout 21474"), "{members}");
}

/// What sshguard itself writes when two attackers are bad enough.
fn blacklist(lab: &Lab) -> String {
    let path = lab.path("blacklist.db");
    let mut blocker = lab.victim.command("/usr/libexec/sshguard/sshg-blocker");
    blocker.args(["-a", "30", "-b"]).arg(format!("90:{}", path.display())).stdin(Stdio::piped()).stdout(Stdio::null());
    let mut blocker = Running(blocker.spawn().unwrap());
    blocker.0.stdin.as_mut().unwrap().write_all(b"100 203.0.113.7 4 100\n100 192.0.2.9 4 100\n").unwrap();
    let read = || fs::read_to_string(&path).unwrap_or_default();
    until("sshguard has written both", || read().lines().count() == 2);
    read()
}

#[test]
fn sshguards_lists_and_a_table_from_a_pipe() {
    let Some(lab) = Lab::new() else { return };
    let mut house = House::new(&lab, "");
    house.start();
    let friends = file(&lab, "friends", "# friends\n198.51.100.66\n192.0.2.0/24\nlocalhost\n::/0\nnosuch.invalid\n");
    let said = import(&house, 1, &format!("sshguard --allow {friends}")).err;
    assert!(said.contains(":5: ::/0 ") && said.contains(":6: nosuch.invalid does not resolve"), "{said}");
    let members = house.json("allow list")["members"].as_array().unwrap().clone();
    let by_hand: Vec<&str> =
        members.iter().filter(|m| m["why"] == "allowed by hand: import:sshguard").map(|m| m["prefix"].as_str().unwrap()).collect();
    assert!(by_hand.contains(&"192.0.2.0/24") && by_hand.contains(&"198.51.100.66/32"), "{members:?}");

    let table = blacklist(&lab);
    let mut child = house.command(["import", "sshguard", "-"]).stdin(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(table.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.code() == Some(1) && said.contains("-:2: 192.0.2.9/32 is protected by 192.0.2.0/24"), "{said}");
    let ban = &bans(&house)[0];
    assert_eq!(
        (&ban["prefix"], &ban["until"], &ban["reason"]),
        (&json!("203.0.113.7/32"), &Value::Null, &json!("sshguard blacklist, service 100")),
        "{ban}"
    );
}

#[test]
fn more_rows_than_a_request_takes_come_in_through_the_daemon_and_alone() {
    let Some(lab) = Lab::new() else { return };
    let other = Lab::new().unwrap();
    let mut served = House::new(&lab, "");
    served.start();
    let alone = House::new(&other, "");
    let text: String = (0..12_000).map(|n| format!("10.{}.{}.{}={}\n", n / 65_536, n / 256 % 256, n % 256, now() + 7200)).collect();
    let path = file(&lab, "many", &text);
    for house in [&served, &alone] {
        let said = import(house, 0, &format!("ban-hammer {path}")).err;
        assert_eq!(said, "imported 12000 of 12000 rows; 12000 new\n");
        assert_eq!(house.json("list")["bans"].as_array().unwrap().len(), 12_000);
        assert_eq!(exported(house, &lab.path("again")), 12_000);
    }
    for house in [&served, &alone] {
        assert_eq!(house.kernel().len(), 12_000);
    }
}

/// How many lines an export has.
fn exported(house: &House<'_>, to: &Path) -> usize {
    let mut command: Command = house.command(["export", "plain"]);
    assert!(command.stdout(fs::File::create(to).unwrap()).status().unwrap().success());
    fs::read_to_string(to).unwrap().lines().count()
}
