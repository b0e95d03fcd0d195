//! A pattern with a group around each field that a client may fill, and around nothing else.

use regex::bytes::{Regex, RegexBuilder};
use regex_syntax::hir::{Capture, Hir, HirKind, Repetition};

use super::shift::{self, LONG};

/// The pattern with such groups; `None` if it became too large by them.
pub(super) fn marked(hir: &Hir, owned: &dyn Fn(&str) -> bool) -> Option<Regex> {
    let mut count = 0;
    let marked = mark(hir, owned, &mut count);
    RegexBuilder::new(&marked.to_string()).unicode(false).size_limit(super::SIZE * 4).build().ok()
}

fn mark(hir: &Hir, owned: &dyn Fn(&str) -> bool, count: &mut u32) -> Hir {
    let mut all = |parts: &[Hir]| parts.iter().map(|part| mark(part, owned, count)).collect::<Vec<_>>();
    match hir.kind() {
        HirKind::Capture(group) if group.name.as_deref().is_some_and(|name| name == "addr" || owned(name)) => bare(hir),
        HirKind::Capture(group) => mark(&group.sub, owned, count),
        HirKind::Concat(parts) => Hir::concat(all(parts)),
        HirKind::Alternation(parts) => Hir::alternation(all(parts)),
        HirKind::Repetition(r) if r.max.is_none_or(|max| max >= LONG) && !shift::is_number(&r.sub) => {
            *count += 1;
            Hir::capture(Capture { index: *count, name: None, sub: Box::new(bare(hir)) })
        }
        HirKind::Repetition(r) => Hir::repetition(Repetition { sub: Box::new(mark(&r.sub, owned, count)), ..r.clone() }),
        _ => hir.clone(),
    }
}

/// The same without groups.
fn bare(hir: &Hir) -> Hir {
    match hir.kind() {
        HirKind::Capture(group) => bare(&group.sub),
        HirKind::Concat(parts) => Hir::concat(parts.iter().map(bare).collect()),
        HirKind::Alternation(parts) => Hir::alternation(parts.iter().map(bare).collect()),
        HirKind::Repetition(r) => Hir::repetition(Repetition { sub: Box::new(bare(&r.sub)), ..r.clone() }),
        _ => hir.clone(),
    }
}
