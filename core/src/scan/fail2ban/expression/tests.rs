//! What Python's `re` finds, both engines find.

use proptest::prelude::*;

use super::*;

impl Expression {
    /// The first match, by trying only.
    fn by_steps(&self, text: &str) -> Result<Option<Vec<Option<String>>>, TooMany> {
        let mut machine = Machine::default();
        machine.wind(STEPS);
        let found = machine.search(&self.program, text, 0, slot(self.groups) + 2)?;
        let group = |pair: &[Option<usize>]| text.get((*pair.first()?)?..(*pair.get(1)?)?).map(str::to_owned);
        Ok(found.then(|| machine.slots().chunks(2).map(group).collect()))
    }

    fn groups_of(&self, text: &str) -> Option<Vec<Option<String>>> {
        let (text, mut scratch) = (Text::new(text), Scratch::default());
        let verdict = self.linear_first(&text, &mut scratch);
        match verdict.map_or(Verdict::Limit, |found| if found { Verdict::Match } else { Verdict::No }) {
            Verdict::Match => Some((0..=self.groups as usize).map(|group| scratch.group(&text, group).map(str::to_owned)).collect()),
            Verdict::No => None,
            Verdict::Limit => panic!("the step limit"),
        }
    }
}

fn expression(text: &str) -> Expression {
    Expression::compile(text, true, false).unwrap_or_else(|error| panic!("{text}: {error}"))
}

/// What each expression matches of a text, by both engines; `None` is no match.
#[test]
fn both_engines_read_python_as_python_does() {
    for (regex, text, wanted) in [
        (r"a{,2}b", "aaab", Some("aab")),
        (r"a{,}b", "aaab", Some("aaab")),
        (r"a{b", "a{b", Some("a{b")),
        (r"a{}", "a{}", Some("a{}")),
        (r"a{1,x}", "a{1,x}", Some("a{1,x}")),
        (r"x{2}{", "xx{", Some("xx{")),
        (r"[[]a", "[a", Some("[a")),
        (r"[^[]a", "[aba", Some("ba")),
        (r"[]a]+", "]a", Some("]a")),
        (r"[a&&b]+", "&&", Some("&&")),
        (r"[a~~b-]+", "~-", Some("~-")),
        (r"[+--]+", "a+,-", Some("+,-")),
        (r"[\w.-]+", "a.b-c ", Some("a.b-c")),
        (r"[\b]", "\u{8}", Some("\u{8}")),
        (r"\x41\101\0", "AA\0", Some("AA\0")),
        // `$` is also before the newline at the end, `\Z` is not.
        (r"a$", "a\n", Some("a")),
        (r"a\Z", "a\n", None),
        (r"a$", "a\nb\n", None),
        (r"a\n$", "a\n", Some("a\n")),
        (r"(?m)a$", "a\nb\n", Some("a")),
        (r"(?m)^b", "a\nb\n", Some("b")),
        (r"a.b", "a\nb", None),
        (r"(?s)a.b", "a\nb", Some("a\nb")),
        (r"(?i)straße", "STRAßE", Some("STRAßE")),
        (r"a(?i:b)c", "aBc", Some("aBc")),
        (r"a(?i:b)c", "aBC", None),
        (r"(?x) a b # c", "ab", Some("ab")),
        (r"(a|ab)(c|bcd)?", "abcd", Some("abcd")),
        (r"(a|ab)(?:c|$)", "ab\n", Some("ab")),
        // Words, digits and blanks by Unicode; marks make no word, halves do.
        (r"\w+", "-n\u{303}\u{bd}", Some("n")),
        (r"\w+", "-\u{bd}\u{661}_", Some("\u{bd}\u{661}_")),
        (r"\d+", "\u{661}2", Some("\u{661}2")),
        (r"(?a)\d+", "\u{661}2", Some("2")),
        (r"a\sb", "a\u{1c}b", Some("a\u{1c}b")),
        (r"n\b.", "n\u{303}", Some("n\u{303}")),
        (r"n\B.", "n\u{bd}", Some("n\u{bd}")),
        // Looks.
        (r"a(?!b)\w", "abac", Some("ac")),
        (r"a(?=(b))\w", "ab", Some("ab")),
        (r"(?<=ab)c", "abc", Some("c")),
        (r"(?<!ab)c", "abc c", Some("c")),
        (r"^(?:(?! from ).)*? from (\S+)$", "a from b\n", Some("a from b")),
        (r"^(?:(?! from ).)*? from (\S+)$", "a from b from c\n", None),
        (r"(?:,(?!x=)\w=\w)+$", ",y=1,z=2", Some(",y=1,z=2")),
        (r"(?:,(?!x=)\w=\w)+$", ",y=1,x=2", None),
        // Back references and conditions.
        (r#"(["']).*?\1"#, r#"'a"b'"#, Some(r#"'a"b'"#)),
        (r"(?P<q>a|b)-(?P=q)", "a-b-b", Some("b-b")),
        (r"(?i)(a)\1", "aA", Some("aA")),
        (r"(a)?b(?(1)c|d)", "abdbc", Some("bd")),
        (r"(a)?b(?(1)c|d)", "abc", Some("abc")),
        (r"(a)?b(?(1)c)", "abd", Some("b")),
        (r"^(?P<x>\S+)|(?:.*?) y", "a b y", Some("a")),
        (r"^(?:(?P<x>a)|b)+(?(x)c|d)$", "bac", Some("bac")),
        (r"^(?:(?P<x>a)|b)+(?(x)c|d)$", "bbc", None),
        // What is taken once and for all.
        (r"(?>a+)ab", "aaab", None),
        (r"a++b", "aaab", Some("aaab")),
        (r"a?+a", "a", None),
        (r"(a*)*b", "aab", Some("aab")),
        (r"(?:a?){3}b", "aab", Some("aab")),
        (r"(?:a|ab){2}$", "aba", Some("aba")),
    ] {
        let expression = expression(regex);
        let whole = |groups: Option<Vec<Option<String>>>| groups.and_then(|groups| groups.into_iter().next().flatten());
        assert_eq!(whole(expression.groups_of(text)).as_deref(), wanted, "{regex} on {text:?}");
        assert_eq!(whole(expression.by_steps(text).unwrap_or_default()).as_deref(), wanted, "by steps: {regex} on {text:?}");
    }
}

#[test]
fn what_python_refuses_is_refused() {
    for text in [
        "",
        "  ",
        "(",
        ")",
        "a)",
        "[a",
        "*a",
        "a**",
        "^*",
        "(?P<a>x)(?P<a>y)",
        "(?P<1>x)",
        "(?P<a-b>x)",
        "<F-A-B>x</F-A-B>",
        r"\q",
        r"\1",
        r"(a\1)",
        "(?P=x)",
        "(?(2)a|b)",
        "(?(1)a|b|c)(x)",
        "(?<=a+)b",
        "a{2,1}",
        "[b-a]",
        r"[\w-x]",
        r"[a-\d]",
        "(?z)",
        "a\\",
        "(?P<a",
        "(?#",
        "(?:a",
    ] {
        assert!(Expression::compile(text, true, false).is_err(), "{text:?}");
    }
    assert!(matches!(Expression::compile(&"a".repeat(100_000), true, false), Err(ExpressionError::TooLong(_))));
    let deep = format!("{}{}", "(".repeat(5000), ")".repeat(5000));
    assert!(Expression::compile(&deep, true, false).is_err());
}

#[test]
fn sshd_like_expressions_need_no_steps_for_ordinary_lines() {
    let regex = r"^Failed (?:<F-NOFAIL>publickey</F-NOFAIL>|\S+) for (?P<inv>invalid user )?<F-USER>(?P<cond>\S+)|(?(inv)(?:(?! from ).)*?|[^:]+)</F-USER> from <HOST>(?: port \d+)?(?(cond): |(?:(?:(?! from ).)*)$)";
    let expression = expression(regex);
    let engine = expression.engine(true).expect("a linear engine");
    assert!(engine.decides);
    let (mut scratch, text) = (Scratch::default(), "Failed password for invalid user admin from 192.0.2.7 port 22 ssh2\n");
    assert!(engine.search(text, &mut scratch));
    assert_eq!(engine.passes(text, &mut scratch), Ok(true));
    assert_eq!(expression.groups_of(text), expression.by_steps(text).unwrap_or_default());
    // Who writes ` from ` into his name does not become somebody else; that takes trying.
    let injected = "Failed password for invalid user a from 198.51.100.9 port 22 from 192.0.2.7 port 22 ssh2\n";
    assert!(engine.search(injected, &mut scratch));
    assert_eq!(engine.passes(injected, &mut scratch), Ok(false));
    let text = Text::new(injected);
    assert_eq!(expression.search(&text, &mut scratch), Verdict::Match);
    let ip4 = expression.names().iter().find(|(name, _)| name == "ip4").and_then(|(_, group)| scratch.group(&text, *group));
    assert_eq!(ip4, Some("192.0.2.7"));
}

#[test]
fn what_would_run_for_ever_ends_at_the_step_limit() {
    let text = format!("{}!\n", "a".repeat(5000));
    let text = Text::new(&text);
    for regex in [r"^(?P<fid>(a+)+)\1$", r"^(?P<fid>(?:a|a)*)(?!b)\1\1$"] {
        assert_eq!(expression(regex).search(&text, &mut Scratch::default()), Verdict::Limit, "{regex}");
    }
}

#[test]
fn literals_stand_in_every_match() {
    for (regex, wanted) in [
        (r"^Failed \S+ for (?:x|y)", Some(vec!["failed "])),
        (r"(?:accepted|refused) by", Some(vec!["accepted by", "refused by"])),
        (r"^[iI](?:llegal|nvalid) user <F-USER>.*?</F-USER> from x", Some(vec!["illegal user ", "invalid user "])),
        (r"(?:(?:error|fatal): )?(?:PAM: )?Denied", Some(vec!["denied"])),
        (r"[0-9a-f]x(?:ab|cd)?efgh[^ ]", Some(vec!["xabefgh", "xcdefgh", "xefgh"])),
        ("refus\u{fffd}ed to", Some(vec!["refus"])),
        (r"(?i)refused", Some(vec!["refu"])),
        (r"(?:abc)?d*", None),
        (r"\S+: (?:long one|long two)?", None),
        ("abc\ndefg", Some(vec!["defg"])),
    ] {
        let mut found = expression(regex).literals().map(<[String]>::to_vec);
        found.iter_mut().for_each(|texts| texts.sort());
        assert_eq!(found, wanted.map(|texts| texts.into_iter().map(str::to_owned).collect()), "{regex}");
    }
}

/// Expressions of all kinds of pieces.
fn regex() -> impl Strategy<Value = String> {
    let leaf = prop::sample::select(vec![
        "a",
        "b",
        "ab",
        ".",
        r"\w",
        r"\s",
        "[^a]",
        r"\b",
        "^",
        "$",
        "(?!b)",
        "(?=a)",
        "(?<!a)",
        "(?<=b)",
        "(?:(?!ab).)*",
        "(?:(?!a).)*?",
    ])
    .prop_map(str::to_owned);
    leaf.prop_recursive(4, 24, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 1..4).prop_map(|all| all.concat()),
            prop::collection::vec(inner.clone(), 2..4).prop_map(|all| format!("(?:{})", all.join("|"))),
            (inner.clone(), prop::sample::select(vec!["*", "+?", "?", "??", "{1,2}", "{2}"]))
                .prop_map(|(node, times)| format!("(?:{node}){times}")),
            inner.prop_map(|node| format!("({node})")),
        ]
    })
}

/// The same, with back references and conditions on its first group.
fn whole() -> impl Strategy<Value = String> {
    (regex(), regex(), prop::sample::select(vec!["", r"\1", "(?(1)a|b)", "(?(1)b)"]), regex())
        .prop_map(|(first, second, last, end)| format!("({first})?{second}{last}{end}"))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    /// Both find the same, in all groups. An empty round of a loop is the one thing they may see
    /// differently: Python has its own rule there, which only the machine has.
    #[test]
    fn linear_and_stepped_engines_agree(regex in whole(), text in "[ab é\n]{0,12}") {
        let expression = expression(&regex);
        let text = format!("{text}\n");
        if let Ok(wanted) = expression.by_steps(&text) {
            let found = expression.groups_of(&text);
            prop_assert_eq!(found.is_some(), wanted.is_some(), "{} on {:?}", &regex, &text);
            if !expression.has_empty_rounds() {
                prop_assert_eq!(found, wanted, "{} on {:?}", &regex, &text);
            }
        }
    }

    #[test]
    fn any_text_is_an_expression_or_none(regex in "\\PC{0,40}", text in "\\PC{0,40}") {
        if let Ok(expression) = Expression::compile(&regex, true, false) {
            expression.search(&Text::new(&text), &mut Scratch::default());
        }
    }
}

impl Expression {
    /// Whether a repetition can repeat nothing.
    fn has_empty_rounds(&self) -> bool {
        fn empty(node: &Node) -> bool {
            match node {
                Node::Char(_) | Node::Set(_) => false,
                Node::Group(_, node) | Node::Atomic(node) => empty(node),
                Node::Concat(nodes) => nodes.iter().all(empty),
                Node::Alt(nodes) => nodes.iter().any(empty),
                Node::Repeat(node, times) => times.min == 0 || empty(node),
                Node::Cond { yes, no, .. } => empty(yes) || empty(no),
                Node::Empty | Node::Assert(_) | Node::Look(_) | Node::Again { .. } => true,
            }
        }
        self.linear.any(&|node| matches!(node, Node::Repeat(node, _) if empty(node)))
    }
}
