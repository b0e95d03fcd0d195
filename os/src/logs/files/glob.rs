//! Absolute paths with `*`, `?` and `[...]` in any component.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use super::super::LogError;

/// What a rotated log ends in once it is compressed: bytes that are no lines.
const COMPRESSED: [&[u8]; 5] = [b".gz", b".xz", b".bz2", b".zst", b".lz4"];

/// How many files or directories one component may match. A directory of an enemy's making must not
/// take all memory.
const MATCHES_MAX: usize = 4096;

/// Whether a file of this absolute path is one that the pattern means. `false` for a pattern that makes no sense.
pub fn means(pattern: &str, path: &Path) -> bool {
    Pattern::parse(pattern).is_ok_and(|pattern| pattern.means(path))
}

/// A pattern, component by component.
#[derive(Clone, Debug)]
pub(super) struct Pattern {
    text: String,
    parts: Vec<String>,
}

impl Pattern {
    pub(super) fn parse(text: &str) -> Result<Self, LogError> {
        let wrong = |why| LogError::Pattern { pattern: text.to_owned(), why };
        let Some(rest) = text.strip_prefix('/') else {
            return Err(wrong("the path must begin with /"));
        };
        if text.contains('\0') || rest.ends_with('/') {
            return Err(wrong("it must name a file"));
        }
        let parts: Vec<String> = rest.split('/').filter(|part| !part.is_empty() && *part != ".").map(str::to_owned).collect();
        if parts.is_empty() {
            return Err(wrong("it must name a file"));
        }
        if parts.iter().any(|part| part == "..") {
            return Err(wrong("`..` is not allowed in it"));
        }
        Ok(Self { text: text.to_owned(), parts })
    }

    pub(super) fn text(&self) -> &str {
        &self.text
    }

    /// The one path it means, where it has no wildcard.
    pub(super) fn literal(&self) -> Option<PathBuf> {
        let plain = !self.parts.iter().any(|part| is_glob(part));
        plain.then(|| self.parts.iter().fold(PathBuf::from("/"), |path, part| path.join(part)))
    }

    /// Whether something new at `path` may be, or may lead to, a file it means.
    pub(super) fn touches(&self, path: &Path) -> bool {
        let Ok(rest) = path.strip_prefix("/") else { return false };
        let mut parts = self.parts.iter();
        rest.iter().all(|name| parts.next().is_some_and(|part| part_matches(part, name)))
    }

    /// Whether `path` is a file it means.
    pub(super) fn means(&self, path: &Path) -> bool {
        path.iter().count() == self.parts.len() + 1 && self.touches(path)
    }

    /// All paths it means now (a literal last component is taken as there), sorted. Each directory
    /// looked into is given to `visit` before the look, so that what appears after it is noticed.
    pub(super) fn expand(&self, visit: &mut dyn FnMut(&Path)) -> Vec<PathBuf> {
        let mut found = vec![PathBuf::from("/")];
        for (depth, part) in self.parts.iter().enumerate() {
            let last = depth + 1 == self.parts.len();
            let mut next = Vec::new();
            for dir in found {
                visit(&dir);
                if is_glob(part) {
                    next.extend(matching(&dir, part, last));
                } else {
                    let path = dir.join(part);
                    if last || path.is_dir() {
                        next.push(path);
                    }
                }
            }
            next.truncate(MATCHES_MAX);
            found = next;
        }
        found
    }
}

/// Whether a file of this name holds no lines.
pub(super) fn compressed(name: &[u8]) -> bool {
    COMPRESSED.iter().any(|end| name.ends_with(end))
}

/// Whether a path, or a part of one, is a pattern: `*`, `?` or `[...]` stands in it.
pub fn is_glob(part: &str) -> bool {
    part.contains(['*', '?', '['])
}

fn matching(dir: &Path, part: &str, last: bool) -> Vec<PathBuf> {
    let Ok(entries) = std::fs::read_dir(dir) else { return Vec::new() };
    let entries = entries.flatten().filter(|entry| part_matches(part, &entry.file_name()));
    let mut paths: Vec<PathBuf> = entries.map(|entry| entry.path()).filter(|path| last || path.is_dir()).take(MATCHES_MAX).collect();
    paths.sort_unstable();
    paths
}

fn part_matches(part: &str, name: &OsStr) -> bool {
    let name = name.as_bytes();
    if !is_glob(part) {
        return part.as_bytes() == name;
    }
    // As in a shell, a wildcard at the start does not find hidden files.
    if name.starts_with(b".") && !part.starts_with('.') {
        return false;
    }
    !compressed(name) && glob(part.as_bytes(), name)
}

/// Wildcard matching with one point of return: at most `pattern x name` steps.
fn glob(pattern: &[u8], name: &[u8]) -> bool {
    let (mut p, mut n) = (0, 0);
    let mut star: Option<(usize, usize)> = None;
    while n < name.len() {
        let step = match pattern.get(p) {
            Some(b'*') => {
                star = Some((p + 1, n));
                p += 1;
                continue;
            }
            Some(b'?') => Some(1),
            Some(b'[') => class(&pattern[p..], name[n]),
            Some(byte) => (*byte == name[n]).then_some(1),
            None => None,
        };
        match (step, star) {
            (Some(width), _) => {
                p += width;
                n += 1;
            }
            (None, Some((after, from))) => {
                star = Some((after, from + 1));
                (p, n) = (after, from + 1);
            }
            (None, None) => return false,
        }
    }
    pattern[p..].iter().all(|byte| *byte == b'*')
}

/// The width of the class `[...]` at the start of `pattern`, if `byte` is in it. A `[` without its
/// `]` stands for itself.
fn class(pattern: &[u8], byte: u8) -> Option<usize> {
    let negated = matches!(pattern.get(1), Some(b'!' | b'^'));
    let start = if negated { 2 } else { 1 };
    // A `]` right at the start is a member.
    let Some(end) = pattern.iter().skip(start + 1).position(|b| *b == b']').map(|at| at + start + 1) else {
        return (byte == b'[').then_some(1);
    };
    let members = &pattern[start..end];
    let mut at = 0;
    let mut found = false;
    while at < members.len() {
        if members.get(at + 1) == Some(&b'-') && at + 2 < members.len() {
            found |= (members[at]..=members[at + 2]).contains(&byte);
            at += 3;
        } else {
            found |= members[at] == byte;
            at += 1;
        }
    }
    (found != negated).then_some(end + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wildcards() {
        for (pattern, yes, no) in [
            ("*.log", vec!["a.log", ".log.log", "x.y.log"], vec!["log", "a.logs", ".log"]),
            ("a?c", vec!["abc", "a?c"], vec!["ac", "abbc"]),
            ("[a-c]x[!0-9]", vec!["axz", "cx]"], vec!["dxz", "ax1", "ax"]),
            ("[]x]", vec!["]", "x"], vec!["[", ""]),
            ("a[b", vec!["a[b"], vec!["ab"]),
            ("*a*b*", vec!["ab", "xaxbx"], vec!["ba", ""]),
            ("access*", vec!["access.log"], vec!["access.log.2.gz", "axcess"]),
        ] {
            // A dot file is found only by name, so ".log.log" is checked against the bare matcher.
            for name in yes {
                assert!(glob(pattern.as_bytes(), name.as_bytes()), "{pattern} {name}");
            }
            for name in no {
                assert!(!part_matches(pattern, OsStr::new(name)), "{pattern} {name}");
            }
        }
        let hostile = "*a".repeat(50);
        assert!(!glob(hostile.as_bytes(), "a".repeat(40).as_bytes()));
    }

    #[test]
    fn patterns_are_checked() {
        for wrong in ["", "var/log/x", "/", "/var/log/", "/var/../etc/shadow", "/a\0b"] {
            assert!(Pattern::parse(wrong).is_err(), "{wrong:?}");
        }
        let pattern = Pattern::parse("/var/*/x.log").unwrap();
        assert!(pattern.touches(Path::new("/var")) && pattern.touches(Path::new("/var/a")) && pattern.touches(Path::new("/var/a/x.log")));
        assert!(!pattern.touches(Path::new("/var/a/y")) && !pattern.touches(Path::new("/var/a/x.log/z")));
        assert_eq!(Pattern::parse("//var/./x").unwrap().literal(), Some("/var/x".into()));
        assert_eq!(pattern.literal(), None);
    }

    #[test]
    fn expansion_visits_where_things_may_appear() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path();
        std::fs::create_dir_all(root.join("one")).unwrap();
        std::fs::create_dir_all(root.join("two")).unwrap();
        std::fs::write(root.join("one/a.log"), "").unwrap();
        let mut visited = Vec::new();
        let pattern = Pattern::parse(&format!("{}/*/*.log", root.display())).unwrap();
        assert_eq!(pattern.expand(&mut |d| visited.extend(d.starts_with(root).then(|| d.to_owned()))), [root.join("one/a.log")]);
        assert_eq!(visited, [root.to_owned(), root.join("one"), root.join("two")]);
        visited.clear();
        let pattern = Pattern::parse(&format!("{}/three/four/x", root.display())).unwrap();
        assert!(pattern.expand(&mut |d| visited.push(d.to_owned())).is_empty());
        assert_eq!((visited.first(), visited.last()), (Some(&PathBuf::from("/")), Some(&root.to_owned())));
    }
}
