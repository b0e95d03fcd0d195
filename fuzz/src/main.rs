//! Fuzzing without libFuzzer: seeds, changed at random, for a while. It does not see which code an
//! input reaches, so it finds less in the same time; it runs with any compiler.
//!
//! `drive [--seconds N] [--seed N] [--corpus DIR] [TARGET...]`. With `--corpus` the seeds are written
//! to `DIR/TARGET`, for cargo-fuzz, and nothing is run.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant, SystemTime};
use std::{env, fs};

use palisade_fuzz::{TARGETS, Target};

/// Longest input: a line is at most 16 KiB by default.
const LONGEST: usize = 16 * 1024;
/// An input that takes longer than this is a finding: what is read from outside takes a hundredth.
const SLOW: Duration = Duration::from_secs(2);
/// How many inputs are kept to be changed further.
const POOL: usize = 4096;

/// Texts that matter to some reader.
const WORDS: &[&[u8]] = &[
    b"203.0.113.9",
    b"2001:db8::9",
    b"::",
    b" from ",
    b": ",
    b"[",
    b"]",
    b"{",
    b"}",
    b"\"",
    b"\\",
    b"\\u",
    b"\\x22",
    b"=",
    b",",
    b"\n",
    b"\r",
    b"\0",
    b"\x1b[0m",
    b"\x1b[",
    b"<34>1 ",
    b"Nov 22 17:00:00 host x[1]: ",
    b"2026-11-22T17:00:00Z stdout P ",
    b"{\"log\":\"",
    b"@4000000065a1b2c3075bcd15 ",
    b"\xff",
    b"\xf0\x9f\x98\x80",
    b"(?P<x>",
    b".*",
    b"{999}",
    b"<addr>",
    b"<user>",
    b"<time>",
    b"'",
    b"[[rule]]\n",
    b"999999999999999999999",
    b"-1",
];

/// xorshift64*: no more is needed.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    fn below(&mut self, n: usize) -> usize {
        (self.next() % n.max(1) as u64) as usize
    }

    /// A part of a text.
    fn part<'t>(&mut self, text: &'t [u8]) -> &'t [u8] {
        let (a, b) = (self.below(text.len() + 1), self.below(text.len() + 1));
        &text[a.min(b)..a.max(b)]
    }
}

fn change(input: &mut Vec<u8>, other: &[u8], random: &mut Random) {
    let at = random.below(input.len() + 1);
    let end = (at + random.below(32)).min(input.len());
    match random.below(8) {
        0 => input.truncate(at),
        1 => drop(input.drain(at..end)),
        2 => drop(input.splice(at..at, WORDS[random.below(WORDS.len())].iter().copied())),
        3 => drop(input.splice(at..end, WORDS[random.below(WORDS.len())].iter().copied())),
        4 => drop(input.splice(at..end, random.part(other).to_vec())),
        5 => {
            let piece = random.part(&input.clone()).to_vec();
            let times = 1 + random.below(8);
            input.splice(at..at, piece.repeat(times));
        }
        6 if at < input.len() => input[at] ^= 1 << random.below(8),
        _ if at < input.len() => input[at] = random.below(256) as u8,
        _ => input.push(random.below(256) as u8),
    }
    input.truncate(LONGEST);
}

/// Runs one target; false where something was found.
fn drive(target: &Target, time: Duration, seed: u64) -> bool {
    let seeds = (target.seeds)();
    let (mut pool, mut random) = (seeds.clone(), Random(seed | 1));
    let (started, mut tried, mut worst) = (Instant::now(), 0usize, Duration::ZERO);
    while started.elapsed() < time {
        let mut input = seeds.get(tried).cloned().unwrap_or_else(|| pool[random.below(pool.len())].clone());
        if tried >= seeds.len() {
            let other = pool[random.below(pool.len())].clone();
            (0..=random.below(6)).for_each(|_| change(&mut input, &other, &mut random));
        }
        tried += 1;
        let before = Instant::now();
        let fine = catch_unwind(AssertUnwindSafe(|| (target.run)(&input))).is_ok();
        let mut took = before.elapsed();
        // On a busy machine another may have had the time: then it is fast when tried again.
        for _ in 0..3 {
            if fine && took > SLOW {
                let before = Instant::now();
                (target.run)(&input);
                took = took.min(before.elapsed());
            }
        }
        worst = worst.max(took);
        if !fine || took > SLOW {
            let what = if fine { "is slow" } else { "panics" };
            println!("{}: an input {what}: {}", target.name, keep(target, &input).display());
            return false;
        }
        // Some are changed further, so that inputs can get far from the seeds.
        if random.below(64) == 0 {
            let at = random.below(POOL);
            if pool.len() < POOL {
                pool.push(input);
            } else if at >= seeds.len() {
                pool[at] = input;
            }
        }
    }
    println!("{}: {tried} inputs in {} s, the slowest took {worst:?}; nothing found", target.name, time.as_secs());
    true
}

/// Writes an input to where cargo-fuzz would.
fn keep(target: &Target, input: &[u8]) -> PathBuf {
    let sum = input.iter().fold(0xcbf2_9ce4_8422_2325u64, |sum, b| (sum ^ u64::from(*b)).wrapping_mul(0x100_0000_01b3));
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("artifacts").join(target.name);
    let path = dir.join(format!("drive-{sum:016x}"));
    if let Err(error) = fs::create_dir_all(&dir).and_then(|()| fs::write(&path, input)) {
        println!("{}: cannot keep it: {error}", target.name);
    }
    path
}

fn write_corpus(dir: &Path, targets: &[Target]) -> std::io::Result<()> {
    for target in targets {
        let dir = dir.join(target.name);
        fs::create_dir_all(&dir)?;
        for (n, seed) in (target.seeds)().iter().enumerate() {
            fs::write(dir.join(format!("seed-{n}")), seed)?;
        }
    }
    Ok(())
}

fn main() -> ExitCode {
    let (mut seconds, mut seed, mut corpus, mut names) = (60, None, None, Vec::new());
    let mut words = env::args().skip(1);
    while let Some(word) = words.next() {
        match word.as_str() {
            "--seconds" => seconds = words.next().and_then(|n| n.parse().ok()).unwrap_or(seconds),
            "--seed" => seed = words.next().and_then(|n| n.parse().ok()),
            "--corpus" => corpus = words.next().map(PathBuf::from),
            _ => names.push(word),
        }
    }
    if let Some(unknown) = names.iter().find(|name| TARGETS.iter().all(|target| target.name != **name)) {
        let known: Vec<&str> = TARGETS.iter().map(|target| target.name).collect();
        println!("there is no target `{unknown}`; there are {}", known.join(", "));
        return ExitCode::from(2);
    }
    let targets: Vec<Target> = TARGETS.iter().filter(|t| names.is_empty() || names.iter().any(|name| name == t.name)).copied().collect();
    if let Some(dir) = corpus {
        return write_corpus(&dir, &targets).map_or(ExitCode::FAILURE, |()| ExitCode::SUCCESS);
    }
    let seed = seed.unwrap_or_else(|| SystemTime::UNIX_EPOCH.elapsed().map_or(1, |since| since.as_nanos() as u64));
    println!("seed {seed}");
    let fine = targets.iter().filter(|target| drive(target, Duration::from_secs(seconds), seed)).count();
    if fine == targets.len() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
