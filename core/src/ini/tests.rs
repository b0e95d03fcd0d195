//! Ini files by fail2ban's rules: each expectation was read off Python's `configparser` documentation
//! or jail.conf(5).

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;

/// Files that stand in a map.
struct Fake(BTreeMap<String, Vec<u8>>);

impl Files for Fake {
    fn read(&self, path: &str) -> Result<Option<Vec<u8>>, String> {
        // As the kernel walks a path.
        let mut parts: Vec<&str> = Vec::new();
        for part in path.split('/').filter(|part| !matches!(*part, "" | ".")) {
            if part == ".." {
                parts.pop();
            } else {
                parts.push(part);
            }
        }
        Ok(self.0.get(&format!("/{}", parts.join("/"))).cloned())
    }

    fn list(&self, dir: &str, ending: &str) -> Vec<String> {
        self.0.keys().filter(|path| path.rsplit_once('/').is_some_and(|(of, name)| of == dir && name.ends_with(ending))).cloned().collect()
    }
}

fn fake(files: &[(&str, &str)]) -> Fake {
    Fake(files.iter().map(|(path, text)| ((*path).to_owned(), text.as_bytes().to_vec())).collect())
}

fn load(files: &[(&str, &str)]) -> Result<Ini, Fault> {
    Ini::load(&fake(files), "/f/a")
}

fn one(text: &str) -> Ini {
    load(&[("/f/a.conf", text)]).unwrap()
}

fn get(ini: &Ini, section: &str, option: &str) -> Option<String> {
    ini.get(section, option, &BTreeMap::new()).unwrap()
}

fn wrong(text: &str) -> String {
    load(&[("/f/a.conf", text)]).unwrap_err().to_string()
}

#[test]
fn a_file_is_sections_and_options_with_their_lines() {
    let ini = one("# first\n[Main]\nName = a\nother: b = c\n[second] \nurl = http://x\n");
    assert_eq!(ini.sections().collect::<Vec<_>>(), ["Main", "second"]);
    let options: Vec<(&str, &str, u32)> = ini.options("Main").map(|(name, value)| (name, value.text.as_str(), value.line)).collect();
    assert_eq!(options, [("name", "a", 3), ("other", "b = c", 4)]);
    assert_eq!(ini.raw("second", "URL").map(|value| (&*value.file, value.text.as_str())), Some(("/f/a.conf", "http://x")));
    assert!(ini.raw("main", "name").is_none(), "names of sections are as written");
}

#[test]
fn a_value_goes_on_over_lines_that_stand_further_in() {
    let text = "[s]\nx = one\n    two\n\n\tthree # stays\n  # gone\n    four ; gone\n\n\ny =\n  only\n z = of y\n";
    let ini = one(text);
    assert_eq!(get(&ini, "s", "x").as_deref(), Some("one\ntwo\n\nthree # stays\nfour"));
    assert_eq!(get(&ini, "s", "y").as_deref(), Some("\nonly\nz = of y"));
    // A carriage return ends a line too, as Python's text files have it.
    assert_eq!(get(&one("[s]\r\nx = a\r\n  b\ry = c\n"), "s", "x").as_deref(), Some("a\nb"));
}

#[test]
fn a_semicolon_begins_a_comment_after_a_blank_only() {
    let ini = one("[s] ; a comment\nx = a;b ;c\n;y = 1\n  ;z = 1\nw = a;\u{a0};b\n");
    assert_eq!((get(&ini, "s", "x").as_deref(), get(&ini, "s", "w").as_deref()), (Some("a;b"), Some("a;")));
    assert_eq!(ini.options("s").count(), 2);
}

#[test]
fn what_is_no_ini_file_is_told_with_its_line() {
    assert!(wrong("x = 1\n").starts_with("/f/a.conf:1: text before the first section"));
    assert!(wrong("[s]\nx\n").starts_with("/f/a.conf:2: this is neither a section nor"));
    assert!(wrong("[s]\n= 1\n").starts_with("/f/a.conf:2: there is no name"));
    assert!(wrong("[s]\nx=1\nX=2\n").starts_with("/f/a.conf:3: `x` is there twice"));
    assert!(wrong("[s]\n[t]\n[s]\n").starts_with("/f/a.conf:3: the section [s] is there twice"));
    assert!(wrong("[DEFAULT]\nx=1\n[s]\n[DEFAULT]\nx=2\n").starts_with("/f/a.conf:5: `x` is there twice"));
    assert!(wrong("[]\n").starts_with("/f/a.conf:1: text before"));
    // The same option in another section is another option; DEFAULT may come back.
    assert!(load(&[("/f/a.conf", "[DEFAULT]\nx=1\n[s]\nx=2\n[DEFAULT]\ny=1\n")]).is_ok());
}

#[test]
fn later_files_override_and_earlier_values_stay_known() {
    let ini = load(&[
        ("/f/a.conf", "[s]\nx = 1\ny = 1\n"),
        ("/f/a.d/20.conf", "[s]\nx = 3\n"),
        ("/f/a.d/10.conf", "[s]\nx = 2\n"),
        ("/f/a.d/.10.conf", "[s]\nx = hidden\n"),
        ("/f/a.d/note.txt", "no ini file"),
        ("/f/a.d/10.local", "[s]\nx = 5 after %(known/x)s, %(known/y)s\n"),
        ("/f/a.local", "[s]\nx = 4\n[DEFAULT]\ny = default\n"),
    ])
    .unwrap();
    assert_eq!(ini.files(), ["/f/a.conf", "/f/a.d/10.conf", "/f/a.d/20.conf", "/f/a.local", "/f/a.d/10.local"]);
    // `y` was never set anew, so what is known of it is the default.
    assert_eq!(get(&ini, "s", "x").as_deref(), Some("5 after 4, default"));
    assert_eq!(ini.known("s", "x").map(|value| (value.text.as_str(), value.line)), Some(("4", 2)));
    assert_eq!(ini.sections().collect::<Vec<_>>(), ["s"]);
    let none = BTreeMap::new();
    assert_eq!(ini.get_from("s", "known/x", &none).unwrap().as_deref(), Some("4"));
    assert_eq!(ini.get_from("s", "known/y", &none).unwrap().as_deref(), Some("default"), "as `%(known/y)s`");
    assert_eq!(ini.get_from("nowhere", "s/y", &none).unwrap().as_deref(), Some("1"));
    assert_eq!(ini.get_from("s", "default/y", &none).unwrap().as_deref(), Some("default"));
    assert_eq!(ini.get_from("s", "t/y", &none).unwrap(), None);
}

#[test]
fn includes_come_before_and_after_with_their_locals() {
    let ini = load(&[
        ("/f/a.conf", "[INCLUDES]\nbefore = b.conf\n  sub/c.conf\nafter = d.local\n  %(where)s/e.conf\nwhere = /g\n[s]\nx = a\nz = a\n"),
        ("/f/b.conf", "[s]\nx = b\ny = b\n"),
        ("/f/b.local", "[s]\ny = b.local\n"),
        ("/f/sub/c.conf", "[INCLUDES]\nbefore = ../b.conf\n[s]\nw = c, then %(x)s\n"),
        ("/g/e.conf", "[s]\nz = e\n"),
    ])
    .unwrap();
    let order = ["/f/b.conf", "/f/b.local", "/f/sub/../b.conf", "/f/sub/../b.local", "/f/sub/c.conf", "/f/a.conf", "/g/e.conf"];
    assert_eq!(ini.files(), order);
    let said = |option| get(&ini, "s", option).unwrap();
    assert_eq!((said("x"), said("y"), said("z"), said("w")), ("a".into(), "b.local".into(), "e".into(), "c, then a".into()));
    assert!(ini.notes().is_empty(), "{:?}", ini.notes());
}

#[test]
fn an_include_that_is_not_there_or_not_utf8_is_noted() {
    let mut files = fake(&[("/f/a.conf", "[INCLUDES]\nbefore = gone.conf\n  latin.conf\n[s]\nx = 1\n")]);
    files.0.insert("/f/latin.conf".to_owned(), b"[s]\nx = \xe9\n".to_vec());
    let ini = Ini::load(&files, "/f/a").unwrap();
    let notes: Vec<String> = ini.notes().iter().map(ToString::to_string).collect();
    assert!(notes[0].starts_with("/f/a.conf:2: includes /f/gone.conf, which cannot be read"), "{notes:?}");
    assert!(notes[1].starts_with("/f/latin.conf: passed over"), "{notes:?}");
    assert_eq!(get(&ini, "s", "x").as_deref(), Some("1"));
}

#[test]
fn includes_that_go_round_end() {
    let files = [
        ("/f/a.conf", "[INCLUDES]\nbefore = b.conf\n[s]\nx = a\n"),
        ("/f/b.conf", "[INCLUDES]\nbefore = a.conf\nafter = b.conf\n[s]\nx = b\n"),
    ];
    assert_eq!(get(&load(&files).unwrap(), "s", "x").as_deref(), Some("a"));
    // A .local that includes its own .conf goes round for ever with fail2ban.
    let round = load(&[("/f/a.conf", "[s]\nx = 1\n"), ("/f/a.local", "[INCLUDES]\nbefore = a.conf\n")]);
    assert!(round.unwrap_err().what.contains("go round in a circle"));
    // Twice two at each step: more files than count.
    let names: Vec<(String, String)> = (0..20)
        .map(|n| {
            let (text, name) = (format!("[INCLUDES]\nbefore = {0}.conf\n  ./{0}.conf\n", n + 1), format!("/f/{n}.conf"));
            (name, text)
        })
        .collect();
    let mut files = fake(&[("/f/a.conf", "[INCLUDES]\nbefore = 0.conf\n"), ("/f/20.conf", "[s]\n")]);
    files.0.extend(names.into_iter().map(|(name, text)| (name, text.into_bytes())));
    assert!(Ini::load(&files, "/f/a").is_err());
}

#[test]
fn references_are_filled_in_from_the_section_then_the_default() {
    let ini = one(
        "[DEFAULT]\nd = default\nx = of default\n[s]\nx = of s\nall = %(x)s, %(d)s, %(D)s, 100%%, %(__name__)s\n[t]\nx = %(s/x)s %(default/x)s %(s/d)s %(t/d)s\n",
    );
    assert_eq!(get(&ini, "s", "all").as_deref(), Some("of s, default, default, 100%, s"));
    assert_eq!(get(&ini, "t", "x").as_deref(), Some("of s of default default default"));
    let vars = BTreeMap::from([("x".to_owned(), "given".to_owned())]);
    assert_eq!(ini.get("s", "all", &vars).unwrap().as_deref(), Some("given, default, default, 100%, s"));
    assert_eq!(ini.get("s", "x", &vars).unwrap().as_deref(), Some("given"));
    assert_eq!((get(&ini, "s", "nothing"), get(&ini, "nowhere", "d")), (None, None));
    let mut ini = ini;
    ini.set_default("Confpath", "/etc/x");
    assert_eq!(get(&ini, "s", "confpath").as_deref(), Some("/etc/x"));
}

#[test]
fn a_reference_that_means_nothing_is_told_with_its_line() {
    let ini = one("[s]\na = %(b)s\nc = 5%\nd = %(e\nf = %(f)s\n");
    let told = |option| ini.get("s", option, &BTreeMap::new()).unwrap_err().to_string();
    assert!(told("a").starts_with("/f/a.conf:2: `%(b)s` means nothing"));
    assert!(told("c").starts_with("/f/a.conf:3: `%` is no reference"));
    assert!(told("d").starts_with("/f/a.conf:4: `%(e` is no reference"));
    assert!(told("f").starts_with("/f/a.conf:5: references go round"));
}

#[test]
fn ten_references_deep_is_the_most() {
    let chain = |n: usize| (0..n).fold("[s]\n".to_owned(), |text, i| format!("{text}x{i} = %(x{})s\n", i + 1)) + &format!("x{n} = end%%\n");
    assert_eq!(get(&one(&chain(9)), "s", "x0").as_deref(), Some("end%"));
    assert!(one(&chain(10)).get("s", "x0", &BTreeMap::new()).is_err());
}

#[test]
fn values_that_multiply_end_in_an_error() {
    let ten = |name: &str| format!("%({name})s").repeat(40);
    let mut text = "[s]\n".to_owned();
    for n in 0..8 {
        text += &format!("x{n} = {}\n", ten(&format!("x{}", n + 1)));
    }
    // Empty at the end: it is the work that is bounded, not only the length.
    for end in ["x8 =\n", "x8 = %%\n", "x8 = long enough\n"] {
        let fault = one(&format!("{text}{end}")).get("s", "x0", &BTreeMap::new()).unwrap_err();
        assert!(fault.what.contains("ever more") || fault.what.contains("grows longer"), "{fault}");
    }
    let large = "x".repeat((1 << 20) + 1);
    assert!(wrong(&large).contains("too large"));
}

#[test]
fn a_conditional_section_is_its_section_with_the_condition_on_each_option() {
    let ini = one("[Init]\nx = 4\n[Init?family=inet6]\nx = 6\n");
    let options: Vec<(&str, &str)> = ini.options("Init").map(|(name, value)| (name, value.text.as_str())).collect();
    assert_eq!(options, [("x", "4"), ("x?family=inet6", "6")]);
    assert_eq!(condition("x?family=inet6"), Some(("x", "?family=inet6")));
    assert_eq!((condition("x"), condition("?a"), condition("known/x?a"), condition("x?")), (None, None, None, None));
}

#[test]
fn a_call_is_a_name_with_options() {
    let good = |text: &str| call(text).unwrap_or_else(|why| panic!("{text}: {why}"));
    let pairs = |pairs: &[(&str, &str)]| pairs.iter().map(|(a, b)| ((*a).to_owned(), (*b).to_owned())).collect::<Vec<_>>();
    assert_eq!(good("sshd"), ("sshd".to_owned(), vec![]));
    assert_eq!(good(" sshd[] "), ("sshd".to_owned(), vec![]));
    let text = "sshd[mode=aggressive, x=\"a, b]['\", y='\"q\"',\n  z = no]";
    assert!(call(text).is_err(), "blanks around `=`");
    assert_eq!(
        good("sshd[mode=aggressive, x=\"a, b]['\", y='\"q\"',\n  z-1.a= c d ][w=1] [v=]"),
        ("sshd".to_owned(), pairs(&[("mode", "aggressive"), ("x", "a, b]['"), ("y", "\"q\""), ("z-1.a", "c d"), ("w", "1"), ("v", "")]))
    );
    assert_eq!(good("a[x=1, x=2,]").1, pairs(&[("x", "2")]));
    assert_eq!(good("a[x?family=inet6=\"::\"]").1, pairs(&[("x?family=inet6", "::")]));
    assert_eq!(good("a[x=\"open, y=1]").1, pairs(&[("x", "\"open"), ("y", "1")]));
    for bad in ["", "[x=1]", "a[x=1", "a[x]", "a[x=\"1\" y=2]", "a[=1]", "a[x=1]b[y=1]", "a[x=\"1\" , y=2]", "a[,,]"] {
        assert!(call(bad).is_err(), "{bad}");
    }
}

#[test]
fn words_are_split_as_a_shell_splits_them() {
    let split = |text: &str| words(text).unwrap();
    assert_eq!(split("_COMM=sshd + _UNIT=\"a b\"\t_X='a\\'\\'b"), ["_COMM=sshd", "+", "_UNIT=a b", "_X=a\\'b"]);
    assert_eq!(split("a\\ b \"c\\\"d\\e\" ''"), ["a b", "c\"d\\e", ""]);
    assert!(split("  ").is_empty());
    assert!(words("'a").is_err() && words("a\\").is_err() && words("\"a\\").is_err());
}

proptest! {
    #[test]
    fn any_bytes_are_read_or_refused(main in any::<Vec<u8>>(), local in "[\\[\\]a-c=%()s/ \n;#]{0,80}", name in "\\PC{0,9}") {
        let files = Fake([("/f/a.conf".to_owned(), main), ("/f/a.local".to_owned(), local.into_bytes())].into());
        if let Ok(ini) = Ini::load(&files, "/f/a") {
            let sections: Vec<String> = ini.sections().map(str::to_owned).collect();
            for section in &sections {
                let options: Vec<String> = ini.options(section).map(|(option, _)| option.to_owned()).collect();
                for option in options {
                    let _ = ini.get(section, &option, &BTreeMap::new());
                    let _ = ini.get_from(section, &name, &BTreeMap::new());
                }
            }
        }
    }

    #[test]
    fn any_text_is_a_call_and_words_or_not(text in "[a-c\\[\\]=\"', \\\\?\n]{0,40}|\\PC{0,40}") {
        let _ = (call(&text), words(&text));
    }

    #[test]
    fn what_was_written_is_read_back(options in prop::collection::btree_map("[a-z]{1,6}", "[a-z<>^%()$.*]([a-z<>^%()$.* ]{0,10}[a-z<>])?", 1..6)) {
        let lines: String = options.iter().map(|(name, value)| format!("{name} = {}\n", value.replace('%', "%%"))).collect();
        let ini = one(&format!("[s]\n{lines}"));
        for (name, value) in &options {
            prop_assert_eq!(&get(&ini, "s", name), &Some(value.clone()));
        }
        let inside: Vec<String> = options.iter().map(|(name, value)| format!("{name}=\"{value}\"")).collect();
        let (_, read) = call(&format!("f[{}]", inside.join(", "))).unwrap();
        prop_assert_eq!(read, options.into_iter().collect::<Vec<_>>());
    }
}
