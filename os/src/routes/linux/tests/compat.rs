//! What `ip` says of what we made.

use std::collections::BTreeMap;

use palisade_core::route::Names;
use serde_json::Value;

use super::*;

fn ip(args: &[&str]) -> String {
    let out = Command::new("ip").args(args).output().unwrap();
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    String::from_utf8(out.stdout).unwrap()
}

/// A rule as `ip -j -N rule` has it (iproute2's iprule.c), less what this iproute2 does not know.
fn as_ip_has_it(rule: &Rule) -> BTreeMap<String, String> {
    let s = &rule.selector;
    let mut map = BTreeMap::new();
    let mut put = |key: &str, value: String| _ = map.insert(key.to_owned(), value);
    put("priority", rule.priority.0.to_string());
    put("protocol", rule.protocol.0.to_string());
    put("src", s.from.map_or("all".into(), |from| from.addr().to_string()));
    for (prefix, name, len) in [(s.from, "", "srclen"), (s.to, "dst", "dstlen")] {
        let Some(prefix) = prefix else { continue };
        if !name.is_empty() {
            put(name, prefix.addr().to_string());
        }
        if !prefix.is_host() {
            put(len, prefix.len().to_string());
        }
    }
    if s.not {
        put("not", "null".into());
    }
    if s.tos != 0 {
        put("tos", format!("{:#04x}", s.tos));
    }
    if let Some((mark, mask)) = s.fwmark {
        put("fwmark", if mark.0 == 0 { "0".into() } else { format!("{:#x}", mark.0) });
        if mask.0 != u32::MAX {
            put("fwmask", format!("{:#x}", mask.0));
        }
    }
    for (key, name) in [("iif", &s.iif), ("oif", &s.oif)] {
        if let Some(name) = name {
            put(key, name.clone());
            if name != "lo" {
                put(&format!("{key}_detached"), "null".into());
            }
        }
    }
    if let Some((first, last)) = s.uid {
        put("uid_start", first.to_string());
        put("uid_end", last.to_string());
    }
    if let Some(number) = s.ipproto {
        put("ipproto", format!("ipproto-{number}"));
    }
    for (key, ports) in [("sport", s.sport), ("dport", s.dport)] {
        match ports {
            Some((first, last)) if first == last => put(key, first.to_string()),
            Some((first, last)) => {
                put(&format!("{key}_start"), first.to_string());
                put(&format!("{key}_end"), last.to_string());
            }
            None => {}
        }
    }
    if let Some(id) = s.tun_id {
        put("tun_id", id.to_string());
    }
    match rule.action {
        Action::Lookup(_) if s.l3mdev => put("l3mdev", "null".into()),
        Action::Lookup(table) => {
            put("table", table.0.to_string());
            if let Some(length) = rule.suppress_prefixlength {
                put("suppress_prefixlen", length.to_string());
            }
            if let Some(group) = rule.suppress_ifgroup {
                put("suppress_ifgroup", group.to_string());
            }
        }
        Action::Goto(Priority(to)) => {
            put("goto", to.to_string());
            if to == 9999 {
                put("unresolved", "null".into());
            }
        }
        Action::Nop => put("nop", "null".into()),
        Action::Blackhole => put("action", "6".into()),
        Action::Unreachable => put("action", "7".into()),
        Action::Prohibit => put("action", "8".into()),
        Action::Other(_) => {}
    }
    map
}

#[test]
fn ip_reads_our_rules_as_we_meant_them() {
    alone(|| {
        sh("ip link set lo up");
        let mut router = Linux::open().unwrap();
        for (family, option) in [(Family::V4, "-4"), (Family::V6, "-6")] {
            let mut rules = rules::every(family);
            // Younger than Debian 12's iproute2.
            rules.retain(|rule| rule.selector.dscp.is_none());
            done(&mut router, &rules.iter().cloned().map(Step::AddRule).collect::<Vec<_>>());
            let told: Vec<BTreeMap<String, Value>> = serde_json::from_str(&ip(&[option, "-j", "-N", "rule"])).unwrap();
            let plain = |value: Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
            let told: Vec<BTreeMap<String, String>> = told
                .into_iter()
                .map(|map| map.into_iter().map(|(key, value)| (key, plain(value))).collect::<BTreeMap<_, _>>())
                .filter(|map| map.get("protocol").is_some_and(|protocol| protocol == "80"))
                .collect();
            for (told, rule) in told.iter().zip(&rules) {
                assert_eq!(told, &as_ip_has_it(rule), "{rule:?}");
            }
            assert_eq!(told.len(), rules.len());
        }
    });
}

#[test]
fn ip_calls_our_tables_and_protocol_by_name() {
    alone(|| {
        let dir = tempfile::tempdir().unwrap();
        let names = Names([(TableId(200), "sixxs0".into())].into());
        crate::routes::names::write(dir.path(), &names, Protocol::OURS).unwrap();
        // In a child's own view of the files.
        let named = |args: &str| {
            let script = format!("mount --bind {} {}; ip {args}", dir.path().display(), crate::routes::names::FOLDER);
            let out = Command::new("unshare").args(["--mount", "sh", "-ec", &script]).output().unwrap();
            assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
            String::from_utf8(out.stdout).unwrap()
        };
        cables();
        let mut router = Linux::open().unwrap();
        let tun0 = index(&mut router, "tun0");
        let rule = rule(Family::V6, 4200, from("2a02::1"));
        let routes = [route("::/0", 1024, vec![hop(tun0, None)]), route("::/0", u32::MAX, vec![])];
        done(&mut router, &[Step::AddRule(rule.clone()), Step::AddRoute(routes[0].clone()), Step::AddRoute(routes[1].clone())]);
        let told = named("-6 rule");
        let line = told.lines().find(|line| line.contains("2a02")).unwrap();
        assert_eq!(line.split_whitespace().collect::<Vec<_>>().join(" "), format!("{} proto palisade", rule.text(&names)));
        let told = named("-6 route show table sixxs0");
        assert!(told.contains("default dev tun0 proto palisade") && told.contains("unreachable default dev lo proto palisade"), "{told}");
    });
}
