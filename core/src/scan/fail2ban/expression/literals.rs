//! Which texts a line must hold for an expression to match at all.

use regex_syntax::hir::ClassUnicode;

use super::syntax::Node;

/// Texts are worth looking for from this length on: shorter ones stand in every line.
const WORTH: usize = 3;

/// More alternatives than this say little.
const MANY: usize = 40;

/// Above this length a text is as rare as it will be.
const RARE: usize = 12;

/// Texts of which each match holds at least one, in lower case; `None` where nothing is known. ASCII case
/// is not told apart: a line that holds one of them need not match, but one that holds none does not.
pub(super) fn required(node: &Node) -> Option<Vec<String>> {
    let found = of(node).required?;
    (found.len() <= MANY).then_some(found)
}

/// What is known of a piece.
struct Known {
    /// The very text, if it is always the same but for case.
    exact: Option<String>,
    /// Texts of which it holds at least one.
    required: Option<Vec<String>>,
}

impl Known {
    const NOTHING: Self = Self { exact: None, required: None };

    fn text(text: String) -> Self {
        Self { required: worth(&text), exact: Some(text) }
    }
}

fn worth(text: &str) -> Option<Vec<String>> {
    (text.len() >= WORTH).then(|| vec![text.to_owned()])
}

fn of(node: &Node) -> Known {
    match node {
        Node::Empty | Node::Look(_) | Node::Assert(_) => Known::text(String::new()),
        // Lines are put together with newlines, and taken apart at them.
        Node::Char('\n') => Known::NOTHING,
        Node::Char(c) => Known::text(c.to_ascii_lowercase().into()),
        Node::Set(class) => one_letter(class).map_or(Known::NOTHING, |c| Known::text(c.into())),
        Node::Group(_, node) | Node::Atomic(node) => of(node),
        Node::Repeat(node, times) => {
            let known = if times.min > 0 { of(node) } else { Known::NOTHING };
            let once = times.min == 1 && times.max == Some(1);
            Known { exact: known.exact.filter(|_| once), ..known }
        }
        Node::Alt(nodes) => either(nodes.iter()),
        Node::Cond { yes, no, .. } => either([yes.as_ref(), no.as_ref()].into_iter()),
        Node::Concat(nodes) => sequence(nodes),
        Node::Again { .. } => Known::NOTHING,
    }
}

fn either<'a>(nodes: impl Iterator<Item = &'a Node>) -> Known {
    let mut all = Vec::new();
    for node in nodes {
        let Some(mut texts) = of(node).required else { return Known::NOTHING };
        all.append(&mut texts);
    }
    all.sort();
    all.dedup();
    Known { exact: None, required: Some(all) }
}

/// The best of a sequence: neighbouring texts are joined; few and long ones are better.
fn sequence(nodes: &[Node]) -> Known {
    let mut best: Option<Vec<String>> = None;
    let mut run = String::new();
    let mut whole = true;
    for node in nodes {
        let known = of(node);
        if let Some(text) = known.exact {
            run.push_str(&text);
            continue;
        }
        whole = false;
        best = better(best, worth(&run));
        run.clear();
        best = better(best, known.required);
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

/// The letter, in lower case, of a set that holds but its two cases. `k` and `s` have a third.
fn one_letter(class: &ClassUnicode) -> Option<char> {
    let [upper, lower] = class.ranges() else { return None };
    let (upper, lower) =
        ((upper.start() == upper.end()).then_some(upper.start())?, (lower.start() == lower.end()).then_some(lower.start())?);
    (upper.is_ascii_uppercase() && upper.to_ascii_lowercase() == lower).then_some(lower)
}
