//! Which texts a line must hold for an expression to match at all.
//!
//! Neighbouring pieces that can each be but a few texts are multiplied: `[iI](?:llegal|nvalid) user` asks for
//! `illegal user` or `invalid user`, which few lines hold, and not for ` user `, which many do.

use regex_syntax::hir::ClassUnicode;

use super::syntax::Node;

/// Texts are worth looking for from this length on: shorter ones stand in every line.
const WORTH: usize = 3;

/// More alternatives than this say little.
const MANY: usize = 40;

/// Above this length a text is as rare as it will be: `authentication ` is not, `authentication failure for ` is.
const RARE: usize = 20;

/// How many texts a run of pieces may be: what fail2ban's filters multiply stays below.
const RUN: usize = 16;

/// Texts of which each match holds at least one, in lower case; `None` where nothing is known. ASCII case
/// is not told apart: a line that holds one of them need not match, but one that holds none does not.
pub(super) fn required(node: &Node) -> Option<Vec<String>> {
    let found = of(node).required?;
    (found.len() <= MANY).then_some(found)
}

/// What is known of a piece.
struct Known {
    /// All texts it can be, but for case, where they are few.
    exact: Option<Vec<String>>,
    /// Texts of which it holds at least one.
    required: Option<Vec<String>>,
}

impl Known {
    const NOTHING: Self = Self { exact: None, required: None };

    fn texts(texts: Vec<String>) -> Self {
        Self { required: worth(&texts), exact: Some(texts) }
    }
}

/// The texts without those that hold another one; `None` where one of them is too short.
fn worth(texts: &[String]) -> Option<Vec<String>> {
    if texts.iter().any(|text| text.len() < WORTH) {
        return None;
    }
    let idle = |text: &String| texts.iter().any(|other| other != text && text.contains(other.as_str()));
    let mut rest: Vec<String> = texts.iter().filter(|text| !idle(text)).cloned().collect();
    rest.sort();
    rest.dedup();
    Some(rest)
}

fn of(node: &Node) -> Known {
    match node {
        Node::Empty | Node::Look(_) | Node::Assert(_) => Known::texts(vec![String::new()]),
        Node::Char(c) => letters([*c]),
        Node::Set(class) => few(class).map_or(Known::NOTHING, letters),
        Node::Group(_, node) | Node::Atomic(node) => of(node),
        Node::Repeat(node, times) => {
            let known = of(node);
            match (times.min, times.max) {
                (0, Some(1)) => {
                    let exact = known.exact.filter(|texts| texts.len() < RUN).map(|mut texts| {
                        texts.push(String::new());
                        texts
                    });
                    Known { exact, required: None }
                }
                (0, _) => Known::NOTHING,
                (1, Some(1)) => known,
                _ => Known { exact: None, ..known },
            }
        }
        Node::Alt(nodes) => either(nodes.iter()),
        Node::Cond { yes, no, .. } => either([yes.as_ref(), no.as_ref()].into_iter()),
        Node::Concat(nodes) => sequence(nodes),
        Node::Again { .. } => Known::NOTHING,
    }
}

fn either<'a>(nodes: impl Iterator<Item = &'a Node>) -> Known {
    let (mut exact, mut required) = (Some(Vec::new()), Some(Vec::new()));
    for known in nodes.map(of) {
        exact = both(exact, known.exact).filter(|texts| texts.len() <= RUN);
        required = both(required, known.required);
    }
    Known { required: required.and_then(|texts| worth(&texts)), exact }
}

fn both(a: Option<Vec<String>>, b: Option<Vec<String>>) -> Option<Vec<String>> {
    let (mut all, b) = (a?, b?);
    all.extend(b);
    Some(all)
}

/// The best of a sequence: neighbouring texts are joined; few and long ones are better.
fn sequence(nodes: &[Node]) -> Known {
    let mut best: Option<Vec<String>> = None;
    let mut run = vec![String::new()];
    let mut whole = true;
    for node in nodes {
        let known = of(node);
        if let Some(texts) = &known.exact
            && texts.len() * run.len() <= RUN
        {
            if texts.len() > 1 {
                best = better(best, worth(&run));
            }
            run = run.iter().flat_map(|head| texts.iter().map(move |text| format!("{head}{text}"))).collect();
            continue;
        }
        whole = false;
        best = better(best, worth(&run));
        best = better(best, known.required);
        run = known.exact.unwrap_or_else(|| vec![String::new()]);
    }
    best = better(best, worth(&run));
    Known { exact: whole.then_some(run), required: best }
}

fn better(a: Option<Vec<String>>, b: Option<Vec<String>>) -> Option<Vec<String>> {
    let (Some(first), Some(second)) = (a.as_ref(), b.as_ref()) else { return a.or(b) };
    if weight(second) > weight(first) { b } else { a }
}

fn weight(texts: &[String]) -> usize {
    let shortest = texts.iter().map(String::len).min().unwrap_or(0).min(RARE);
    // One letter more is worth four alternatives.
    (shortest * 4).saturating_sub(texts.len())
}

/// One of these characters.
fn letters(chars: impl IntoIterator<Item = char>) -> Known {
    let mut texts = Vec::new();
    for c in chars {
        match c {
            // Lines are put together with newlines, and taken apart at them; what is no text in a line stands
            // as U+FFFD where expressions look at it.
            '\n' | char::REPLACEMENT_CHARACTER => return Known::NOTHING,
            c => texts.push(c.to_ascii_lowercase().to_string()),
        }
    }
    texts.dedup();
    Known::texts(texts)
}

/// The characters of a set of few; `k` and `s` of any case have one outside ASCII each.
fn few(class: &ClassUnicode) -> Option<Vec<char>> {
    let mut chars = Vec::new();
    for range in class.ranges() {
        if !range.end().is_ascii() || range.len() > RUN {
            return None;
        }
        chars.extend(range.start()..=range.end());
    }
    chars.iter_mut().for_each(|c| *c = c.to_ascii_lowercase());
    chars.sort_unstable();
    chars.dedup();
    (!chars.is_empty() && chars.len() <= 4).then_some(chars)
}
