//! Which texts a line must hold for an expression to match at all.

use regex_syntax::hir::{Class, Hir, HirKind};

/// Texts are worth looking for from this length on: shorter ones stand in every line.
const WORTH: usize = 3;

/// More alternatives than this say little.
const MANY: usize = 40;

/// Texts of which each match holds at least one, in lower case; `None` where nothing is known. Case is
/// not told apart: what is found may be less than it seems, never more.
pub(super) fn required(hir: &Hir) -> Option<Vec<String>> {
    let found = of(hir).required?;
    (found.len() <= MANY).then_some(found)
}

/// What is known of a piece.
struct Known {
    /// The very text, if it is always the same.
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

fn of(hir: &Hir) -> Known {
    match hir.kind() {
        HirKind::Empty | HirKind::Look(_) => Known::text(String::new()),
        HirKind::Literal(literal) => match std::str::from_utf8(&literal.0) {
            Ok(text) if text.is_ascii() => Known::text(text.to_ascii_lowercase()),
            _ => Known::NOTHING,
        },
        HirKind::Class(class) => one_letter(class).map_or(Known::NOTHING, |c| Known::text(c.into())),
        HirKind::Capture(capture) => of(&capture.sub),
        HirKind::Repetition(repetition) => {
            let known = if repetition.min > 0 { of(&repetition.sub) } else { Known::NOTHING };
            let once = repetition.min == 1 && repetition.max == Some(1);
            Known { exact: known.exact.filter(|_| once), ..known }
        }
        HirKind::Alternation(subs) => {
            let mut all = Vec::new();
            for sub in subs {
                let Some(mut texts) = of(sub).required else { return Known::NOTHING };
                all.append(&mut texts);
            }
            all.sort();
            all.dedup();
            Known { exact: None, required: Some(all) }
        }
        HirKind::Concat(subs) => concat(subs),
    }
}

/// The best of a sequence: neighbouring texts are joined; few and long ones are better.
fn concat(subs: &[Hir]) -> Known {
    let mut best: Option<Vec<String>> = None;
    let mut run = String::new();
    let mut whole = true;
    for sub in subs {
        let known = of(sub);
        match known.exact {
            Some(text) => run.push_str(&text),
            None => {
                whole = false;
                best = better(best, worth(&run));
                run.clear();
                best = better(best, known.required);
            }
        }
    }
    best = better(best, worth(&run));
    Known { exact: whole.then_some(run), required: best }
}

fn better(a: Option<Vec<String>>, b: Option<Vec<String>>) -> Option<Vec<String>> {
    let (Some(a), Some(b)) = (a.as_ref(), b.as_ref()) else { return a.or(b) };
    let weight = |texts: &[String]| {
        let shortest = texts.iter().map(String::len).min().unwrap_or(0).min(12);
        (shortest * 4).saturating_sub(texts.len())
    };
    Some(if weight(b) > weight(a) { b.clone() } else { a.clone() })
}

/// The letter, in lower case, of a class that holds but its two cases.
fn one_letter(class: &Class) -> Option<char> {
    let Class::Unicode(class) = class else { return None };
    let mut chars = class.ranges().iter().flat_map(|range| range.start()..=range.end()).take(3);
    let first = chars.next()?.to_ascii_lowercase();
    let rest: Vec<char> = chars.collect();
    (rest.len() <= 1 && first.is_ascii() && rest.iter().all(|c| c.to_ascii_lowercase() == first)).then_some(first)
}
