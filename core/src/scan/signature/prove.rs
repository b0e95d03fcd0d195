//! A signature proves its own examples: each hit is found as written, each miss is not.

use super::super::line::Line;
use super::rule::Rule;
use super::{Found, Hit, Signature, SignatureError};

/// Holds every hit and miss of the signature against the signature.
pub(super) fn prove(signature: &Signature, file: &str) -> Result<(), SignatureError> {
    for rule in signature.rules() {
        if rule.hits().is_empty() {
            let what = "it has no `hits`: a rule starts with a line that it matches".to_owned();
            return Err(SignatureError::Rule { file: file.to_owned(), rule: rule.id().to_owned(), what });
        }
        let wrong = |expected: String, found: String, line: &str| SignatureError::Example {
            file: file.to_owned(),
            rule: rule.id().to_owned(),
            expected,
            found,
            line: line.to_owned(),
        };
        for hit in rule.hits() {
            let expected = expectation(rule, hit);
            let found = signature.find(Line::raw(hit.line.as_bytes()));
            let found = found.map_or("nothing".to_owned(), |found| describe(&found, hit.user.is_some()));
            if found != expected {
                return Err(wrong(expected, format!("found {found}"), &hit.line));
            }
        }
        for miss in rule.misses() {
            if let Some(found) = signature.find(Line::raw(miss.as_bytes())) {
                return Err(wrong("a miss".to_owned(), format!("found {}", describe(&found, true)), miss));
            }
        }
    }
    Ok(())
}

fn weight(rule: &Rule, score: u16) -> String {
    if rule.is_login() { "a login".to_owned() } else { score.to_string() }
}

fn expectation(rule: &Rule, hit: &Hit) -> String {
    let user = hit.user.as_ref().map(|u| format!(" as `{u}`")).unwrap_or_default();
    format!("{} ({}) from {}{user}", rule.id(), weight(rule, hit.score.unwrap_or(rule.score())), hit.addr)
}

fn describe(found: &Found<'_, '_>, with_user: bool) -> String {
    let user = found.user.as_deref().filter(|_| with_user);
    let user = user.map(|u| format!(" as `{}`", String::from_utf8_lossy(u))).unwrap_or_default();
    format!("{} ({}) from {}{user}", found.rule.id(), weight(found.rule, found.rule.score()), found.addr)
}
