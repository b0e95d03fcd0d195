//! A file's text with a block of ours in it, taken apart and put together. Pure.
//!
//! | line | what it is |
//! |---|---|
//! | `# BEGIN palisade: ...` | the first line of the block, and of the file |
//! | `# by force` | bans made with `--force` follow |
//! | lines of bans | as the [`Syntax`] spells them |
//! | `# by rule` | all other bans follow |
//! | lines of bans | |
//! | `# END palisade` | the last line of the block |
//! | anything | somebody else's, byte for byte |
//!
//! The block stands first because of whatever reads such files the first match counts.

use std::collections::BTreeSet;

use palisade_core::bans::wall::Key;
use palisade_core::net::Prefix;

const BEGIN: &str = "# BEGIN palisade: written by a program, what you change up to END is undone";
/// What the first line is known by.
const BEGIN_MARK: &[u8] = b"# BEGIN palisade";
const END: &str = "# END palisade";
const FORCED: &str = "# by force";
const RULED: &str = "# by rule";

/// How one kind of file spells bans.
pub(in super::super) trait Syntax: Send {
    /// How many bans a line may hold.
    const A_LINE: usize;

    /// Adds a line, with its end, that bans these: 1 to [`Self::A_LINE`].
    fn write(&self, bans: &[Prefix], out: &mut String);

    /// The bans of a line as [`Self::write`] makes them, without its end; `None` for any other.
    fn read(&self, line: &str) -> Option<Vec<Prefix>>;
}

/// A file's text, taken apart.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Text {
    /// What is not ours, in its order.
    pub(super) foreign: Vec<u8>,
    /// What our block bans; `None` where there is no block.
    pub(super) bans: Option<BTreeSet<Key>>,
    /// What is wrong with the block beyond what it bans.
    pub(super) wrong: Option<&'static str>,
}

impl Text {
    /// Takes a text apart. What is in the block but not as we write it is somebody else's.
    pub(super) fn parse(bytes: &[u8], syntax: &impl Syntax) -> Self {
        let mut text = Self::default();
        // Whether we are in the block, and of which sort the bans that follow are.
        let mut within = None;
        for (at, line) in bytes.split_inclusive(|byte| *byte == b'\n').enumerate() {
            let bare = line.strip_suffix(b"\n").unwrap_or(line);
            match within {
                None if bare.starts_with(BEGIN_MARK) => {
                    if text.bans.is_some() {
                        text.wrong = Some("there is more than one block of ours");
                    } else if at > 0 {
                        text.wrong = Some("lines were put before our block");
                    }
                    text.bans.get_or_insert_default();
                    within = Some(false);
                }
                None => text.foreign.extend_from_slice(line),
                Some(_) if bare.starts_with(BEGIN_MARK) => text.wrong = Some("our block begins twice"),
                Some(_) if bare == END.as_bytes() => within = None,
                Some(_) if bare == FORCED.as_bytes() => within = Some(true),
                Some(_) if bare == RULED.as_bytes() => within = Some(false),
                Some(forced) => match std::str::from_utf8(bare).ok().and_then(|line| syntax.read(line)) {
                    Some(bans) => {
                        let keys = bans.into_iter().map(|prefix| Key { forced, ..Key::all(prefix) });
                        text.bans.get_or_insert_default().extend(keys);
                    }
                    None => {
                        text.wrong = Some("lines in our block are not ours");
                        text.foreign.extend_from_slice(line);
                    }
                },
            }
        }
        if within.is_some() {
            text.wrong = Some("the end of our block is missing");
        }
        text
    }

    /// Puts a text together: a block with these bans, where there is to be one, and what is not ours.
    pub(super) fn render(foreign: &[u8], bans: Option<&BTreeSet<Key>>, syntax: &impl Syntax) -> Vec<u8> {
        let mut block = String::new();
        if let Some(bans) = bans {
            block.push_str(BEGIN);
            block.push('\n');
            for (title, forced) in [(FORCED, true), (RULED, false)] {
                let of_it: Vec<Prefix> = bans.iter().filter(|key| key.forced == forced).map(|key| key.prefix).collect();
                if !of_it.is_empty() {
                    block.push_str(title);
                    block.push('\n');
                    of_it.chunks(syntax_line(syntax)).for_each(|some| syntax.write(some, &mut block));
                }
            }
            block.push_str(END);
            block.push('\n');
        }
        let mut bytes = block.into_bytes();
        bytes.extend_from_slice(foreign);
        bytes
    }
}

const fn syntax_line<S: Syntax>(_: &S) -> usize {
    S::A_LINE
}

#[cfg(test)]
mod tests {
    use proptest::collection::{btree_set, vec};
    use proptest::prelude::*;

    use super::super::super::hosts::Wrappers;
    use super::super::super::nginx::Denies;
    use super::*;

    fn any_key() -> impl Strategy<Value = Key> {
        let v4 = (0u32..8, 8u8..=32).prop_map(|(n, len)| Prefix::new(std::net::Ipv4Addr::from_bits(0xc000_0200 + n).into(), len));
        let v6 = (0u128..8, 16u8..=128)
            .prop_map(|(n, len)| Prefix::new(std::net::Ipv6Addr::from_bits((0x2001_0db8 << 96) + (n << 64) + n).into(), len));
        (prop_oneof![v4, v6], any::<bool>()).prop_map(|(prefix, forced)| Key { forced, ..Key::all(prefix.unwrap()) })
    }

    /// Anybody's bytes; pieces that look like ours are among them. Only whoever writes our very first line or leaves
    /// half of our block makes something ours.
    fn any_foreign() -> impl Strategy<Value = Vec<u8>> {
        let piece = prop_oneof![
            vec(any::<u8>(), 0..20),
            Just(b"\n".to_vec()),
            Just(b"ALL : 192.0.2.7\n".to_vec()),
            Just(b"sshd : .example.org \\\n  EXCEPT 192.0.2.9 : deny\n".to_vec()),
            Just(b"deny 192.0.2.7/32;\n# END palisade\n# by force\n".to_vec()),
            Just(b"#  BEGIN palisade\r\n".to_vec()),
        ];
        vec(piece, 0..6).prop_map(|pieces| pieces.concat())
    }

    fn there_and_back(syntax: &impl Syntax, foreign: &[u8], states: &[BTreeSet<Key>]) {
        let mut bytes = foreign.to_vec();
        for bans in states {
            let text = Text::parse(&bytes, syntax);
            assert_eq!(text.foreign, foreign);
            bytes = Text::render(&text.foreign, Some(bans), syntax);
            let text = Text::parse(&bytes, syntax);
            assert_eq!(text, Text { foreign: foreign.to_vec(), bans: Some(bans.clone()), wrong: None });
        }
        let text = Text::parse(&bytes, syntax);
        assert_eq!(Text::render(&text.foreign, None, syntax), foreign);
    }

    proptest! {
        #[test]
        fn foreign_bytes_stay_and_bans_are_read_back(foreign in any_foreign(), states in vec(btree_set(any_key(), 0..30), 1..4)) {
            for deny_word in [false, true] {
                there_and_back(&Wrappers { deny_word }, &foreign, &states);
            }
            there_and_back(&Denies, &foreign, &states);
        }

        #[test]
        fn any_bytes_are_taken_apart_and_nothing_of_somebody_elses_is_lost(pieces in vec(prop_oneof![
            any_foreign(),
            Just(BEGIN.as_bytes().to_vec()),
            Just(b"\n# END palisade\n".to_vec()),
            Just(b"\nALL : 192.0.2.1 [2001:db8::]/64\n".to_vec()),
        ], 0..8)) {
            let syntax = Wrappers { deny_word: false };
            let bytes = pieces.concat();
            let text = Text::parse(&bytes, &syntax);
            // Read again it is the same, now whole.
            let again = Text::render(&text.foreign, text.bans.as_ref(), &syntax);
            let reread = Text::parse(&again, &syntax);
            prop_assert_eq!(&reread.bans, &text.bans);
            prop_assert_eq!(&reread.foreign, &text.foreign);
        }
    }

    #[test]
    fn what_is_wrong_with_a_block_is_told() {
        let syntax = Denies;
        let one = BTreeSet::from([Key::all("192.0.2.7/32".parse().unwrap())]);
        let block = Text::render(b"", Some(&one), &syntax);
        let wrong = |bytes: &[u8]| Text::parse(bytes, &syntax).wrong;
        assert_eq!(wrong(&block), None);
        assert_eq!(wrong(&[b"allow all;\n", &block[..]].concat()), Some("lines were put before our block"));
        assert_eq!(wrong(&[&block[..], &block].concat()), Some("there is more than one block of ours"));
        assert_eq!(wrong(&block[..block.len() - 5]), Some("the end of our block is missing"));
        let inside = String::from_utf8(block).unwrap().replace("deny", "allow 198.51.100.0/24;\ndeny");
        let text = Text::parse(inside.as_bytes(), &syntax);
        assert_eq!((text.wrong, &*text.foreign), (Some("lines in our block are not ours"), &b"allow 198.51.100.0/24;\n"[..]));
        assert_eq!(text.bans, Some(one));
    }
}
