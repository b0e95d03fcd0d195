//! An expression of a filter and what its groups say.

use super::expression::{Expression, ExpressionError, Scratch, Text};
use super::session::{Field, Record};

/// An expression and what its groups say.
#[derive(Debug)]
pub(super) struct Rule {
    pub(super) expression: Expression,
    /// Groups that fill a field.
    fields: Vec<(Field, usize)>,
    /// Groups that fill it where nothing else has, in order.
    instead: Vec<(Field, usize)>,
    /// Groups that are added to it.
    parts: Vec<(Field, usize)>,
    pub(super) content: Option<usize>,
    pub(super) skips: Vec<usize>,
}

impl Rule {
    pub(super) fn compile(text: &str, names_too: bool, multiline: bool) -> Result<Self, ExpressionError> {
        let expression = Expression::compile(text, names_too, multiline)?;
        let (mut fields, mut instead, mut parts, mut skips) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        for (name, group) in expression.names() {
            if let Some(field) = Field::of(name) {
                fields.push((field, *group));
            } else if let Some(field) = stands_for(name, "alt_") {
                instead.push((field, *group));
            } else if let Some(field) = stands_for(name, "tuple_") {
                parts.push((field, *group));
            } else if name.starts_with("skiplines") {
                skips.push(*group);
            }
        }
        let content = expression.names().iter().find(|(name, _)| name == "content").map(|(_, group)| *group);
        Ok(Self { expression, fields, instead, parts, content, skips })
    }

    pub(super) fn names_somebody(&self) -> bool {
        ["fid", "ip4", "ip6", "dns", "mlfid"].iter().any(|name| self.expression.has(name))
    }

    /// What its groups say, put over what is said already. A group that took no part says nothing, as since
    /// fail2ban 1.1.1: Dovecot's `prefregex` names who it was, and a `failregex` may name them once more.
    pub(super) fn said(&self, text: &Text<'_>, scratch: &Scratch, record: &mut Record) {
        let mut own = Record::default();
        for (field, group) in &self.fields {
            own.set(*field, scratch.group(text, *group));
        }
        for (field, group) in &self.instead {
            let value = scratch.group(text, *group).filter(|value| !value.is_empty());
            if value.is_some() && !own.says(*field) {
                own.set(*field, value);
            }
        }
        for (field, group) in &self.parts {
            if let Some(part) = scratch.group(text, *group) {
                let joined = own.get(*field).map_or_else(|| part.to_owned(), |before| format!("{before}, {part}"));
                own.set(*field, Some(&joined));
            }
        }
        record.take_over(own);
    }
}

/// `alt_user_1` stands for `user`.
fn stands_for(name: &str, prefix: &str) -> Option<Field> {
    let rest = name.strip_prefix(prefix)?;
    let base = rest.rsplit_once('_').filter(|(_, number)| !number.is_empty() && number.bytes().all(|b| b.is_ascii_digit()));
    Field::of(match base.map_or(rest, |(base, _)| base) {
        "id" => "fid",
        name => name,
    })
}
