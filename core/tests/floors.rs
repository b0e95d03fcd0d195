//! Holds the rooms of this crate to their floors: imports go down only, and organs never import one
//! another. Between crates cargo sees to it; inside this one, this test does.
#![expect(clippy::disallowed_methods, reason = "reads the crate's own sources")]
#![expect(clippy::unwrap_used, reason = "a test: what is not there is a failure")]

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

/// Every room and its floor. A new room is entered here, or the test fails.
const FLOORS: &[(&str, u8)] = &[
    // words: may use one another, without going in circles
    ("allow", 0),
    ("attack", 0),
    ("cover", 0),
    ("diff", 0),
    ("ini", 0),
    ("net", 0),
    ("ours", 0),
    ("ports", 0),
    ("time", 0),
    // organs: never import one another
    ("bans", 1),
    ("feeds", 1),
    ("flood", 1),
    ("judge", 1),
    ("route", 1),
    ("scan", 1),
    ("tables", 1),
    // papers: may use one another, without going in circles
    ("config", 2),
    ("control", 2),
    ("event", 2),
    ("migrate", 2),
    // brain
    ("brain", 3),
    ("replay", 3),
    ("steering", 3),
];

/// The floor whose rooms must not even import their neighbours.
const ORGANS: u8 = 1;

/// Imports that the floors forbid and that stand all the same: from, to, why.
const EXCEPTIONS: &[(&str, &str, &str)] = &[];

fn floor(room: &str) -> Option<u8> {
    FLOORS.iter().find(|(name, _)| *name == room).map(|(_, floor)| *floor)
}

fn sources(dir: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
    let all = entries.flat_map(|path| if path.is_dir() { sources(&path) } else { vec![path] });
    all.filter(|path| path.extension().is_some_and(|e| e == "rs")).collect()
}

/// The first name of a path: `bans` of `bans::wall::Key`.
fn head(path: &str) -> String {
    path.trim_start().chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect()
}

/// The first names of a braced list, whatever is nested in it.
fn heads(list: &str) -> Vec<String> {
    let (mut depth, mut items) = (0, vec![String::new()]);
    for c in list.chars() {
        match c {
            '{' => depth += 1,
            '}' if depth == 0 => break,
            '}' => depth -= 1,
            ',' if depth == 0 => items.push(String::new()),
            c if depth == 0 => items.last_mut().unwrap().push(c),
            _ => {}
        }
    }
    items.iter().map(|item| head(item)).filter(|name| !name.is_empty()).collect()
}

/// Which rooms a source text names: after `crate::`, and after a `super::` that leads out of its own.
fn named(text: &str) -> BTreeSet<String> {
    let code: String = text.lines().filter(|line| !line.trim_start().starts_with("//")).flat_map(|line| [line, "\n"]).collect();
    let mut rooms = BTreeSet::new();
    for rest in code.split("crate::").skip(1) {
        match rest.strip_prefix('{') {
            Some(list) => rooms.extend(heads(list)),
            None => drop(rooms.insert(head(rest))),
        }
    }
    rooms.extend(code.split("super::").skip(1).map(head).filter(|name| floor(name).is_some()));
    rooms
}

/// What each room of this crate imports.
fn imports() -> BTreeMap<String, BTreeSet<String>> {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut rooms: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for path in sources(&src) {
        let inside = path.strip_prefix(&src).unwrap();
        let room = inside.components().next().unwrap().as_os_str().to_str().unwrap().trim_end_matches(".rs").to_owned();
        if room != "lib" {
            let names = named(&std::fs::read_to_string(&path).unwrap());
            rooms.entry(room.clone()).or_default().extend(names.into_iter().filter(|name| *name != room));
        }
    }
    rooms
}

/// What is wrong with `from` importing `to`.
fn fault(from: &str, to: &str) -> Option<String> {
    if EXCEPTIONS.iter().any(|(a, b, _)| (*a, *b) == (from, to)) {
        return None;
    }
    let (Some(high), Some(low)) = (floor(from), floor(to)) else {
        return Some(format!("{from} imports {to}: one of them has no floor; enter it in FLOORS"));
    };
    match high.cmp(&low) {
        std::cmp::Ordering::Less => Some(format!("{from} (floor {high}) imports {to} (floor {low}): imports go down only")),
        std::cmp::Ordering::Equal if high == ORGANS => Some(format!("{from} imports {to}: organs never import one another")),
        _ => None,
    }
}

#[test]
fn imports_go_down_only() {
    let rooms = imports();
    assert!(rooms.len() >= 10, "the sources were not found");
    let unknown = rooms.keys().filter(|room| floor(room).is_none()).map(|room| format!("{room} has no floor; enter it in FLOORS"));
    let faults = rooms.iter().flat_map(|(from, to)| to.iter().filter_map(move |to| fault(from, to)));
    let all: Vec<String> = unknown.chain(faults).collect();
    assert!(all.is_empty(), "\n{}", all.join("\n"));
}

#[test]
fn no_room_goes_in_circles() {
    let mut rooms = imports();
    while let Some(leaf) = rooms.iter().find(|(_, to)| to.is_empty()).map(|(room, _)| room.clone()) {
        rooms.remove(&leaf);
        rooms.values_mut().for_each(|to| {
            to.remove(&leaf);
        });
    }
    assert!(rooms.is_empty(), "these import one another in a circle: {rooms:#?}");
}

#[test]
fn exceptions_are_needed() {
    let rooms = imports();
    for (from, to, why) in EXCEPTIONS {
        assert!(rooms.get(*from).is_some_and(|imported| imported.contains(*to)), "{from} does not import {to} any more ({why})");
    }
}

#[test]
fn imports_are_read_from_all_shapes_of_use() {
    let text = "use crate::{net::{Addr, Prefix}, bans, judge::policy::Policy};\nlet x = crate::time::Stamp(0);\n// use crate::brain::X;\nuse super::super::scan::Y;";
    let expected = ["bans", "judge", "net", "scan", "time"].map(String::from);
    assert_eq!(named(text), BTreeSet::from(expected));
    assert!(fault("net", "bans").is_some() && fault("judge", "bans").is_some() && fault("nowhere", "net").is_some());
    assert!(fault("event", "bans").is_none() && fault("attack", "net").is_none());
}
