//! Filters of fail2ban are read as fail2ban reads them: every rule by files of our own, and, where
//! fail2ban's config is on this machine, that each filter in it can be read and compiled.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]
#![expect(clippy::disallowed_methods, reason = "reads what stands on this machine")]

mod disk;

use std::collections::BTreeMap;

use disk::Disk;
use palisade_core::ini::Files;
use palisade_core::scan::fail2ban::{Definition, FilterError, define, known, load};
use proptest::prelude::*;

/// Files that stand in a map.
struct Fake(BTreeMap<String, String>);

impl Files for Fake {
    fn read(&self, path: &str) -> Result<Option<Vec<u8>>, String> {
        Ok(self.0.get(path).map(|text| text.clone().into_bytes()))
    }

    fn list(&self, dir: &str, ending: &str) -> Vec<String> {
        self.0.keys().filter(|path| path.rsplit_once('/').is_some_and(|(of, name)| of == dir && name.ends_with(ending))).cloned().collect()
    }
}

const PATH: &str = "/filter.d/door.conf";

fn fake(files: &[(&str, &str)]) -> Fake {
    Fake(files.iter().map(|(name, text)| (format!("/filter.d/{name}"), (*text).to_owned())).collect())
}

fn options(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

fn read(files: &[(&str, &str)], given: &[(&str, &str)], journal: bool) -> Result<Definition, FilterError> {
    define(&fake(files), PATH, &options(given), journal)
}

fn one(text: &str, given: &[(&str, &str)]) -> Definition {
    read(&[("door.conf", text)], given, false).unwrap_or_else(|fault| panic!("{fault}"))
}

fn wrong(text: &str, given: &[(&str, &str)]) -> String {
    read(&[("door.conf", text)], given, false).unwrap_err().to_string()
}

/// What filters share.
const COMMON: &str = "\
[INCLUDES]
after = common.local
[DEFAULT]
_daemon = \\S*
host = none
[lt_file]
prefix = ^at <_daemon>:
datepattern = {^LN-BEG}
[lt_journal]
prefix = ^<_daemon>
[lt_]
prefix = ^nothing
";

const DOOR: &str = "\
[INCLUDES]
before = common.conf
[Definition]
_daemon = doord
prefix = <lt_<logtype>/prefix>
datepattern = <lt_<logtype>/datepattern>
why-normal = wrong key
why-all = (?:<why-normal>|no key)
failregex = <prefix> <why-<mode>> from <HOST>$
            %(prefix)s second

            third <F-USER>\\S+</F-USER> (?P<host>x) <nothing> 100%%
ignoreregex =
journalmatch = _SYSTEMD_UNIT=door.service + _COMM=doord _UID=0
               '_EXE=/sbin/doord'
[Init]
mode = normal
maxlines = 2
";

#[test]
fn options_defaults_sections_and_tags_make_a_definition() {
    let files = [("common.conf", COMMON), ("door.conf", DOOR)];
    let expected = Definition {
        name: "door".to_owned(),
        failregex: vec![
            "^at doord: wrong key from none$".to_owned(),
            "^at doord: second".to_owned(),
            "third <F-USER>\\S+</F-USER> (?Pnonex) <nothing> 100%".to_owned(),
        ],
        ignoreregex: vec![],
        prefregex: None,
        maxlines: 2,
        datepattern: Some("{^LN-BEG}".to_owned()),
        journalmatch: ["_SYSTEMD_UNIT=door.service", "_COMM=doord _UID=0", "_EXE=/sbin/doord"].map(String::from).to_vec(),
        usedns: None,
    };
    // A tag is looked for in the ini's lower case too, so an option called `host` shadows fail2ban's own.
    assert_eq!(read(&files, &[], false).unwrap(), expected);
    let files = files.map(|(name, text)| (name, text));
    let plain = COMMON.replace("host = none\n", "");
    let files = [("common.conf", plain.as_str()), files[1]];
    let found = read(&files, &[], false).unwrap();
    assert_eq!(found.failregex[0], "^at doord: wrong key from <HOST>$");
    assert_eq!(found.failregex[2], "third <F-USER>\\S+</F-USER> (?P<host>x) <nothing> 100%");
}

#[test]
fn what_the_jail_gives_comes_before_what_the_filter_says() {
    let common = COMMON.replace("host = none\n", "");
    let files = [("common.conf", common.as_str()), ("door.conf", DOOR)];
    let with = |given: &[(&str, &str)], journal| read(&files, given, journal).unwrap();
    assert_eq!(with(&[("mode", "all")], false).failregex[0], "^at doord: (?:wrong key|no key) from <HOST>$");
    // A jail that reads the journal has another prefix, and no date pattern of that section.
    let journal = with(&[], true);
    assert_eq!(
        (journal.failregex[0].as_str(), journal.datepattern.as_deref()),
        ("^doord wrong key from <HOST>$", Some("<lt_journal/datepattern>"))
    );
    assert_eq!(with(&[("logtype", "file")], true).failregex[0], "^at doord: wrong key from <HOST>$");
    assert_eq!(with(&[("logtype", "")], true).failregex[0], "^doord wrong key from <HOST>$");
    // An unknown mode names an option that is not there: the tag stays as it is.
    assert_eq!(with(&[("mode", "odd")], false).failregex[0], "^at doord: <why-odd> from <HOST>$");
    let given =
        with(&[("failregex", "a <HOST>\nb <mode> <HOST>"), ("maxlines", " 7 "), ("usedns", "no"), ("datepattern", "{NONE}")], false);
    assert_eq!(given.failregex, ["a <HOST>", "b normal <HOST>"]);
    assert_eq!((given.maxlines, given.usedns.as_deref(), given.datepattern.as_deref()), (7, Some("no"), Some("{NONE}")));
}

#[test]
fn a_local_file_adds_to_what_is_known() {
    let local = "[Definition]\nfailregex = %(known/failregex)s\n            own <HOST> <known/mode> <mode>\n[Init]\nmode = all\n";
    let common = COMMON.replace("host = none\n", "");
    let files =
        [("common.conf", common.as_str()), ("door.conf", DOOR), ("door.local", local), ("common.local", "[DEFAULT]\n_daemon = never\n")];
    let found = read(&files, &[], false).unwrap();
    assert_eq!(found.failregex.len(), 4);
    assert_eq!(found.failregex[0], "^at doord: (?:wrong key|no key) from <HOST>$");
    assert_eq!(found.failregex[3], "own <HOST> all all");
    // To the jail, what the filter says is known.
    let found = read(&files, &[("mode", "normal")], false).unwrap();
    assert_eq!(found.failregex[3], "own <HOST> all normal");
    let found = known(&fake(&files), PATH, &options(&[]), false).unwrap();
    assert_eq!(found["why-all"], "(?:wrong key|no key)");
    assert!(found["failregex"].starts_with("^at doord: (?:wrong key|no key) from <HOST>$\n"));
}

#[test]
fn definition_sections_and_defaults_are_looked_at_in_their_order() {
    let text = "[DEFAULT]\na = default\nb = default\n[Definition]\nb = definition\nc = definition\nfailregex = <a> <b> <c> <default/b> <other/b> <other/a> <gone/a> <HOST>\n[Init]\nc = init\n[other]\nb = other\n";
    assert_eq!(one(text, &[]).failregex, ["default definition init default other default <gone/a> <HOST>"]);
    assert_eq!(one(text, &[("a", "given")]).failregex, ["given definition init default other default <gone/a> <HOST>"]);
    // Between percents [Init] is seen too, at the second reading.
    let text = "[Definition]\nc = definition\nfailregex = %(c)s <HOST>\n[Init]\nc = init\n";
    assert_eq!(one(text, &[]).failregex, ["init <HOST>"]);
    // What the jail gives is not looked for in lower case by tags, but by percents.
    let text = "[Definition]\nfailregex = <Mode> %(Mode)s <mode> <HOST>\n";
    assert_eq!(one(text, &[("Mode", "x")]).failregex, ["x x x <HOST>"]);
}

#[test]
fn conditional_options_leave_their_tag_alone() {
    let text = "[Definition]\nfailregex = <net> <mode> <HOST>\n[Init]\nnet = 4\nmode = m\n[Init?family=inet6]\nnet = 6\n";
    assert_eq!(one(text, &[]).failregex, ["<net> m <HOST>"]);
}

#[test]
fn what_goes_round_is_an_error_with_its_place() {
    let told = wrong("[Definition]\na = <b>\nb = <a>\nfailregex = <a> <HOST>\n", &[]);
    assert!(
        told.starts_with("/filter.d/door.conf:4: `<a>` in it leads round")
            || told.starts_with("/filter.d/door.conf:4: `<b>` in it leads round"),
        "{told}"
    );
    let told = wrong("[Definition]\n\nfailregex = <failregex> <HOST>\n", &[]);
    assert!(told.starts_with("/filter.d/door.conf:3: `<failregex>` in it leads round"), "{told}");
    let told = wrong("[Definition]\nfailregex = <mode> <HOST>\n[Init]\nmode = <mode>\n", &[]);
    assert!(told.contains("leads round"), "{told}");
    let told = wrong("[Definition]\nfailregex = %(gone)s <HOST>\n", &[]);
    assert!(told.starts_with("/filter.d/door.conf:2: `%(gone)s` means nothing"), "{told}");
    // A tag may stand 25 times and once more in one option, one after the other.
    let nested = |n: usize| format!("[Definition]\na = x\nfailregex = {}<HOST>\n", "<a> ".repeat(n));
    assert_eq!(one(&nested(100), &[]).failregex, [format!("{}<HOST>", "x ".repeat(100))]);
}

#[test]
fn tags_that_multiply_end_in_an_error() {
    let mut text = "[Definition]\n".to_owned();
    for n in 0..30 {
        text += &format!("a{n} = {}\n", format!("<a{}>", n + 1).repeat(10));
    }
    for end in ["a30 = x", "a30 ="] {
        let told = wrong(&format!("{text}{end}\nfailregex = <a0> <HOST>\n"), &[]);
        assert!(told.contains("grows longer") || told.contains("ever more"), "{told}");
    }
}

#[test]
fn a_filter_that_says_nothing_is_an_error_that_says_what_next() {
    assert!(read(&[], &[], false).unwrap_err().to_string().starts_with("/filter.d/door.conf: there is no such filter"));
    assert!(wrong("[other]\nx = 1\n", &[]).contains("no section [Definition]"));
    assert!(wrong("[Definition]\nx = 1\n", &[]).contains("no `failregex` is left"));
    let told = wrong("[Definition]\nx = 1\nfailregex = <x<mode>>\nx-off =\n", &[("mode", "-off")]);
    assert!(told.starts_with("/filter.d/door.conf:3: no `failregex` is left"), "{told}");
    assert!(wrong("[Definition]\nfailregex = <HOST>\nmaxlines = 0\n", &[]).starts_with("/filter.d/door.conf:3: `maxlines` is 0"));
    assert!(
        wrong("[Definition]\nfailregex = <HOST>\njournalmatch = 'a\n", &[]).starts_with("/filter.d/door.conf:3: `'a` is no journal match")
    );
    assert!(wrong("failregex = <HOST>\n", &[]).starts_with("/filter.d/door.conf:1: text before the first section"));
    // What is no number does not count.
    assert_eq!(one("[Definition]\nfailregex = <HOST>\nmaxlines = many\n", &[]).maxlines, 1);
}

#[test]
fn a_regex_that_is_none_is_told_with_the_line_of_its_option() {
    let compiled = |text: &str, given: &[(&str, &str)]| {
        let fault = load(&fake(&[("door.conf", text)]), PATH, &options(given), false).map(|_| ()).unwrap_err();
        fault.to_string()
    };
    let told = compiled("[Definition]\n\nfailregex = ^a <HOST>$\n            ^b ( <HOST>$\n", &[]);
    assert!(told.starts_with("/filter.d/door.conf:3: ") && told.contains("failregex 2"), "{told}");
    let told = compiled("[Definition]\nfailregex = ^a <HOST>$\n", &[("failregex", "^( <HOST>")]);
    assert!(told.starts_with("/filter.d/door.conf: ") && told.contains("the jail's `options` say so"), "{told}");
    assert!(load(&fake(&[("door.conf", "[Definition]\nfailregex = ^a <HOST>$\n")]), PATH, &options(&[]), false).is_ok());
}

#[test]
fn the_path_may_name_any_file_of_the_filter() {
    let files = fake(&[("door.conf", "[Definition]\nfailregex = a <HOST>\n"), ("door.local", "[Definition]\nfailregex = b <HOST>\n")]);
    for path in ["/filter.d/door.conf", "/filter.d/door.local", "/filter.d/door"] {
        let found = define(&files, path, &options(&[]), false).unwrap();
        assert_eq!((found.name.as_str(), found.failregex), ("door", vec!["b <HOST>".to_owned()]), "{path}");
    }
}

#[test]
fn every_filter_on_this_machine_is_read_and_compiled() {
    let config = std::env::var("PALISADE_FAIL2BAN").unwrap_or_else(|_| "/etc/fail2ban".to_owned());
    let filters = Disk.list(&format!("{config}/filter.d"), ".conf");
    if filters.is_empty() {
        eprintln!("SKIPPED: no filters of fail2ban in {config}; set PALISADE_FAIL2BAN to a config folder of fail2ban");
        return;
    }
    let mut faults = Vec::new();
    // Files that others include are no filters.
    for path in filters.iter().filter(|path| !path.ends_with("common.conf")) {
        let knows_mode = std::fs::read_to_string(path).unwrap().contains("-aggressive");
        for journal in [false, true] {
            for given in [options(&[]), options(&[("mode", "aggressive")])].into_iter().take(1 + usize::from(knows_mode)) {
                faults.extend(load(&Disk, path, &given, journal).err().map(|fault| fault.to_string()));
            }
        }
    }
    assert!(faults.is_empty(), "\n{}", faults.join("\n"));
}

proptest! {
    #[test]
    fn any_filter_is_read_or_refused(
        main in "[\\[\\]\n]{0,3}\\[Definition\\]\n([a-c]|failregex) = [<>a-c%()s/\\\\ \n]{0,60}",
        lines in prop::collection::vec(("failregex|[a-c]|maxlines|journalmatch|datepattern", "(<[a-c]>|%\\([a-c]\\)s|<HOST>|<known/a>|x|\n | '|3){0,6}"), 0..8),
        mode in "[<>a-c%()s]{0,8}",
        journal: bool,
    ) {
        let init: String = lines.iter().map(|(name, value)| format!("{name} = {value}\n")).collect();
        let files = fake(&[("door.conf", &main), ("door.local", &format!("[Definition]\n{init}[Init]\n")), ("door.d/1.conf", &format!("[Init]\n{init}"))]);
        let given = options(&[("mode", &mode), ("a", &mode)]);
        if let Ok(found) = define(&files, PATH, &given, journal) {
            prop_assert!(!found.failregex.is_empty() && found.maxlines > 0);
        }
        let _ = known(&files, PATH, &given, journal);
    }
}
