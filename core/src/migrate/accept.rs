//! A config that was made is read as the daemon would read it. What is refused there is taken out
//! again, so that the rest can be used, and told like all that is not taken over.

use std::collections::BTreeMap;

use super::{Line, Migration, Outcome, shown};
use crate::config::Config;
use crate::scan;

/// What a line begins with that is there to be read by somebody only.
const COMMENT: &str = "# ";

/// Takes out what our own reader refuses: a line, or a table whose name or whole it refuses.
pub(super) fn accept(migration: &mut Migration) {
    let known: Vec<&str> = scan::shipped().iter().map(|(name, _)| *name).collect();
    let mut lines: Vec<String> = migration.config.lines().map(str::to_owned).collect();
    // Each round takes out a line at least, as the reader finds nothing wrong with comments.
    for _ in 0..=lines.len() {
        let errors = match Config::read(&[(String::new(), migration.config.clone())], &known) {
            Ok(_) => return,
            Err(errors) => errors.errors,
        };
        let refused: BTreeMap<usize, String> =
            errors.iter().map(|error| (error.line.saturating_sub(1), error.problem.to_string())).collect();
        let taken = refused.iter().filter(|(index, why)| take_out(&mut lines, **index, why, &mut migration.lines)).count();
        if taken == 0 {
            return;
        }
        migration.config = lines.iter().flat_map(|line| [line.as_str(), "\n"]).collect();
    }
}

/// Whether our own reader takes a line in a jail: `ports = ["ssh"]`; why not.
pub(super) fn takes(line: &str) -> Result<(), String> {
    takes_all(&format!("[jail.x]\nsignatures = [\"sshd\"]\n{line}\n"))
}

/// Whether our own reader takes a whole config; why not.
pub(super) fn takes_all(config: &str) -> Result<(), String> {
    match Config::read(&[(String::new(), config.to_owned())], &["sshd"]) {
        Ok(_) => Ok(()),
        Err(errors) => Err(errors.errors.first().map(|error| error.problem.to_string()).unwrap_or_default()),
    }
}

/// Whether there was something to take out.
fn take_out(lines: &mut [String], index: usize, why: &str, told: &mut Vec<Line>) -> bool {
    let Some(rest) = lines.get_mut(index..).filter(|rest| rest.first().is_some_and(|line| !line.starts_with(COMMENT))) else {
        return false;
    };
    let table = rest.first().is_some_and(|line| line.starts_with('['));
    let end = rest.iter().skip(1).position(|line| line.starts_with('[')).map_or(rest.len(), |at| at + 1);
    for (line, number) in rest.iter_mut().take(if table { end } else { 1 }).zip(index + 1..) {
        if line.is_empty() || line.starts_with(COMMENT) {
            continue;
        }
        let (name, value) = line.split_once(" = ").unwrap_or((line, ""));
        let outcome = Outcome::Left(format!("our config does not take it: {why}"));
        let (file, number) = ("the new config".to_owned(), u32::try_from(number).unwrap_or_default());
        told.push(Line { file, line: number, setting: shown("", name, value), outcome });
        line.insert_str(0, COMMENT);
    }
    true
}
