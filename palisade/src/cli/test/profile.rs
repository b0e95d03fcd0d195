//! What each rule costs: every signature, and each of its rules as if it were alone, over the same lines.
//!
//! Each time includes taking the line apart, which all of them share otherwise; so they do not add up to what all cost
//! together, which is told too.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use palisade_core::scan::{self, JailScan, LogClock, ScanState, Scanner, Signature};
use serde_json::json;

use super::super::past::{Blocks, Kind, Opened, When, unread};
use super::super::replay::listen::scan_block;
use super::super::{Exit, print};

/// What begins a rule in a signature's text.
const RULE: &str = "[[rule]]";

/// Something to be timed.
struct Cost {
    /// A signature's name, or a rule's.
    name: String,
    rule: bool,
    scanner: Scanner,
    time: Duration,
    matches: u64,
}

impl Cost {
    fn new(name: &str, rule: bool, signatures: Vec<Arc<Signature>>) -> Self {
        let scanner = Scanner::new(&[JailScan::of("profile".into(), signatures)]);
        Self { name: name.to_owned(), rule, scanner, time: Duration::ZERO, matches: 0 }
    }

    fn ms(&self) -> f64 {
        self.time.as_secs_f64() * 1000.0
    }
}

/// Times all of it.
pub(super) fn run(files: &[PathBuf], when: &When, all: &Scanner, line_max: usize, as_json: bool) -> Result<Exit> {
    let mut signatures: Vec<&Arc<Signature>> = all.jails().iter().flat_map(|jail| &jail.signatures).collect();
    signatures.sort_by_key(|signature| signature.name());
    signatures.dedup_by_key(|signature| signature.name());
    let mut costs: Vec<Cost> = signatures.into_iter().flat_map(parts).collect();
    let mut whole = Cost { name: "all together".to_owned(), rule: false, scanner: all.clone(), time: Duration::ZERO, matches: 0 };
    let mut lines = 0;
    for path in files {
        let opened = Opened::open(path)?;
        if opened.kind == Kind::Journal {
            bail!(super::usage(format_args!(
                "{}: a journal file; print its lines with `journalctl --file` and profile those",
                path.display()
            )));
        }
        let clock = when.clock(&opened, None)?;
        lines += measure(opened, &clock, &mut whole, &mut costs, line_max).map_err(unread(path))?;
    }
    costs.sort_by_key(|cost| std::cmp::Reverse(cost.time));
    if as_json { document(lines, &whole, &costs) } else { table(lines, &whole, &costs) }?;
    Ok(if whole.matches > 0 { Exit::Done } else { Exit::No })
}

fn measure(opened: Opened, clock: &LogClock, whole: &mut Cost, costs: &mut [Cost], line_max: usize) -> io::Result<u64> {
    let pipe = opened.is_pipe();
    let mut blocks = Blocks::new(opened.reader(Arc::default())?, line_max, pipe);
    let mut timed: Vec<(&mut Cost, ScanState)> = std::iter::once(whole)
        .chain(costs)
        .map(|cost| {
            let state = cost.scanner.state(clock.clone());
            (cost, state)
        })
        .collect();
    let mut lines = 0;
    while let Some(block) = blocks.next()? {
        let mut counted = 0;
        for (cost, state) in &mut timed {
            let start = Instant::now();
            let Cost { scanner, matches, .. } = &mut **cost;
            counted = scan_block(scanner, state, block.lines, line_max, &mut |_, _| *matches += 1).lines;
            cost.time += start.elapsed();
        }
        lines += counted + block.dropped;
    }
    Ok(lines)
}

/// A signature, and where it ships each of its rules.
fn parts(signature: &Arc<Signature>) -> Vec<Cost> {
    let name = signature.name();
    let text = scan::shipped().iter().find(|(shipped, _)| *shipped == name).map_or("", |(_, text)| *text);
    let mut pieces = text.split(RULE);
    let head = pieces.next().unwrap_or_default();
    // One that does not stand alone is timed with its signature only.
    let alone = pieces.filter_map(|rule| Signature::compile(name, &format!("{head}{RULE}{rule}")).ok());
    let rules: Vec<Cost> = alone
        .filter_map(|one| {
            let name = Arc::clone(one.rules().first()?.full_name());
            Some(Cost::new(&name, true, vec![Arc::new(one)]))
        })
        .collect();
    std::iter::once(Cost::new(name, false, vec![Arc::clone(signature)])).chain(rules).collect()
}

fn table(lines: u64, whole: &Cost, costs: &[Cost]) -> Result<()> {
    #[expect(clippy::cast_precision_loss, reason = "nobody counts so many lines that a double does not hold them")]
    let each = |cost: &Cost| cost.time.as_secs_f64() * 1e9 / lines.max(1) as f64;
    let row = |cost: &Cost| {
        let kind = if cost.rule { "rule" } else { "signature" };
        vec![format!("{:.1}", cost.ms()), format!("{:.0}", each(cost)), cost.matches.to_string(), kind.to_owned(), cost.name.clone()]
    };
    let heads = ["ms", "ns a line", "matches", "", ""].map(str::to_owned).to_vec();
    let mut rows = vec![heads];
    rows.extend(costs.iter().map(row));
    rows.push(vec![
        format!("{:.1}", whole.ms()),
        format!("{:.0}", each(whole)),
        whole.matches.to_string(),
        String::new(),
        whole.name.clone(),
    ]);
    print::table(&rows)?;
    print::say(format_args!("{lines} lines; each time includes taking the lines apart"));
    Ok(())
}

fn document(lines: u64, whole: &Cost, costs: &[Cost]) -> Result<()> {
    let one = |cost: &Cost| json!({ "name": cost.name, "kind": if cost.rule { "rule" } else { "signature" }, "ms": cost.ms(), "matches": cost.matches });
    let costs: Vec<_> = costs.iter().map(one).collect();
    print::json(&json!({ "v": 1, "lines": lines, "ms": whole.ms(), "matches": whole.matches, "costs": costs }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_rule_that_ships_can_be_timed_alone() {
        for signature in scan::builtin() {
            let parts = parts(signature);
            let rules: Vec<&str> = parts.iter().filter(|cost| cost.rule).map(|cost| cost.name.as_str()).collect();
            let mut missing: Vec<&str> = signature.rules().iter().map(|rule| rule.full_name().as_ref()).collect();
            missing.retain(|name| !rules.contains(name));
            assert!(missing.is_empty(), "these need others of their signature: {missing:?}");
        }
    }
}
