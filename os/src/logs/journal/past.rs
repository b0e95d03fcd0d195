//! Journal files, read to their end.

use std::ffi::OsString;
use std::io::{self, Read};
use std::os::fd::AsFd;
use std::path::Path;

use super::super::LogError;
use super::super::cutter::{Cut, Cutter};
use super::matches::Match;
use super::record::Fields;
use super::{CHUNK, COMPLAINT_MAX, CURSOR, FIELDS, Options, REALTIME, RECORD_MAX, Record, program, record_of};
use crate::process::Piped;
use crate::wake;
use palisade_core::time::Span;

/// What a journal file begins with (systemd, JOURNAL_FILE_FORMAT, "Header").
pub const MAGIC: &[u8; 8] = b"LPKSHHRH";

/// How long a `journalctl` that has closed its output may take to end.
const ENDING: Span = Span::secs(5);

/// One record or message of a journal file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Take<'a> {
    /// A record that these sources want, in the order of their numbers.
    Record {
        /// Who wants it: at least one.
        sources: &'a [usize],
        /// The record.
        record: Record<'a>,
    },
    /// A message over the cap went by and was dropped whole.
    Oversize,
}

/// Reads a journal file to its end, by its absolute path. Each source wants the records of its matches; one without
/// (`None`) wants all. Blocks until all is read, or until `take` says that it is enough (`false`).
///
/// # Errors
/// A match that makes no sense, no `journalctl`, or what `journalctl` says of the file.
pub fn read(
    file: &Path,
    wanted: &[(usize, Option<String>)],
    options: &Options,
    take: &mut dyn FnMut(Take<'_>) -> bool,
) -> Result<(), LogError> {
    let all = wanted.iter().map(|(source, text)| match text {
        Some(text) => Match::parse(*source, text).map(|parsed| (*source, Some(parsed))),
        None => Ok((*source, None)),
    });
    let wanted: Vec<(usize, Option<Match>)> = all.collect::<Result<_, _>>()?;
    let names = names(&wanted);
    let program = options.program.clone().or_else(program).ok_or(LogError::NoJournalctl)?;
    let mut arguments = options.extra.clone();
    arguments.extend(arguments_for(file, &names));
    let mut fields = names;
    fields.extend([CURSOR, REALTIME].map(str::to_owned));
    let mut reading = Reading {
        wanted,
        fields: Fields::new(fields),
        cutter: Cutter::new(RECORD_MAX),
        message_max: options.message_max,
        sources: Vec::new(),
        bad: None,
    };
    let system = |source| LogError::System { what: "reading a journal file with journalctl", source };
    let mut child = Piped::spawn(&program, &arguments).map_err(system)?;
    reading.all_of(&mut child, take).map_err(system)
}

/// The fields a record must have with it, without those that are printed anyhow.
fn names(wanted: &[(usize, Option<Match>)]) -> Vec<String> {
    let groups = wanted.iter().filter_map(|(_, one)| one.as_ref()).flat_map(|one| one.groups.iter().flatten());
    let mut names: Vec<String> = FIELDS.into_iter().map(str::to_owned).chain(groups.map(|(field, _)| field.clone())).collect();
    names.sort_unstable();
    names.dedup();
    names
}

/// Nothing is left to `journalctl` to match: what is not wanted is counted too.
fn arguments_for(file: &Path, names: &[String]) -> Vec<OsString> {
    let mut path = OsString::from("--file=");
    path.push(file);
    // `--file` takes patterns; what is named here is one file.
    let path = escaped(&path);
    let fixed = ["--output=json", "--all", "--quiet", "--no-pager"].map(OsString::from);
    fixed.into_iter().chain([format!("--output-fields={}", names.join(",")).into(), path]).collect()
}

/// With a backslash before what glob(3) takes for more than itself.
fn escaped(path: &OsString) -> OsString {
    use std::os::unix::ffi::{OsStrExt, OsStringExt};
    let special = |byte: &u8| b"*?[]\\{}".contains(byte);
    OsString::from_vec(path.as_bytes().iter().flat_map(|byte| special(byte).then_some(b'\\').into_iter().chain([*byte])).collect())
}

struct Reading {
    wanted: Vec<(usize, Option<Match>)>,
    fields: Fields,
    cutter: Cutter,
    message_max: usize,
    /// Room for the sources of one record.
    sources: Vec<usize>,
    bad: Option<String>,
}

impl Reading {
    fn all_of(&mut self, child: &mut Piped, take: &mut dyn FnMut(Take<'_>) -> bool) -> io::Result<()> {
        let mut buffer = vec![0; CHUNK];
        let mut complaint = Vec::new();
        loop {
            let _ = wake::poll(&[child.stdout.as_fd(), child.stderr.as_fd()], None, None)?;
            hear(child, &mut complaint);
            match child.stdout.read(&mut buffer) {
                Ok(0) => break,
                Ok(count) => {
                    if !self.feed(buffer.get(..count).unwrap_or_default(), take) {
                        return Ok(());
                    }
                }
                Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => {}
                Err(error) => return Err(error),
            }
        }
        // Its output is closed: it ends by itself, and is made to if it does not.
        let status = child.wait(ENDING)?;
        hear(child, &mut complaint);
        match self.bad.take() {
            Some(bad) => Err(io::Error::other(format!("it printed what is no record: {bad}"))),
            None if status.success() => Ok(()),
            None => Err(io::Error::other(format!("it ended with {status}: {}", String::from_utf8_lossy(&complaint).trim()))),
        }
    }

    /// Whether more is wanted.
    fn feed(&mut self, bytes: &[u8], take: &mut dyn FnMut(Take<'_>) -> bool) -> bool {
        let Self { wanted, fields, cutter, message_max, sources, bad } = self;
        let mut more = true;
        cutter.feed(bytes, &mut |cut| match cut {
            _ if !more => {}
            Cut::Line([]) => {}
            Cut::Line(json) => match fields.read(json) {
                Ok(()) => more = hand_out(fields, wanted, *message_max, sources, take),
                Err(error) => *bad = Some(error.to_string()),
            },
            Cut::Oversize(_) => more = take(Take::Oversize),
        });
        more
    }
}

fn hand_out(
    fields: &Fields,
    wanted: &[(usize, Option<Match>)],
    message_max: usize,
    sources: &mut Vec<usize>,
    take: &mut dyn FnMut(Take<'_>) -> bool,
) -> bool {
    let Some(record) = record_of(fields) else { return true };
    sources.clear();
    let holds = |one: &Option<Match>| one.as_ref().is_none_or(|one| one.holds(&|name| fields.all(name)));
    sources.extend(wanted.iter().filter(|(_, one)| holds(one)).map(|(source, _)| *source));
    sources.sort_unstable();
    sources.dedup();
    match record.message.len() > message_max {
        true => take(Take::Oversize),
        false => take(Take::Record { sources, record }),
    }
}

fn hear(child: &mut Piped, complaint: &mut Vec<u8>) {
    let mut piece = [0; 512];
    while let Ok(count @ 1..) = child.stderr.read(&mut piece) {
        let room = COMPLAINT_MAX.saturating_sub(complaint.len());
        complaint.extend_from_slice(piece.get(..count.min(room)).unwrap_or_default());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::PathBuf;

    /// A stand-in that prints this and ends with this status.
    fn stand_in(dir: &Path, prints: &str, status: u8) -> Options {
        let path = dir.join("journalctl");
        std::fs::write(dir.join("records"), prints).unwrap();
        let script = format!("#!/bin/sh\ncat {}/records\necho words >&2\nexit {status}\n", dir.display());
        std::fs::write(&path, script).unwrap();
        std::fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
        Options { program: Some(path), extra: Vec::new(), message_max: 10 }
    }

    fn all(options: &Options, wanted: &[(usize, Option<String>)]) -> (Vec<String>, Result<(), LogError>) {
        let mut told = Vec::new();
        let result = read(&PathBuf::from("/nosuch.journal"), wanted, options, &mut |take| {
            told.push(match take {
                Take::Record { sources, record } => {
                    format!("{sources:?} {} {:?}", String::from_utf8_lossy(record.message), record.realtime.map(|at| at.0))
                }
                Take::Oversize => "over".to_owned(),
            });
            true
        });
        (told, result)
    }

    #[test]
    fn a_file_is_read_to_its_end_and_each_source_gets_its_own() {
        let dir = tempfile::tempdir().unwrap();
        let records = "{\"MESSAGE\":\"one\",\"_COMM\":\"sshd\",\"__REALTIME_TIMESTAMP\":\"1000\"}\n{\"MESSAGE\":\"two\",\"_COMM\":\"x\"}\n\
                       {\"MESSAGE\":\"far too long\",\"_COMM\":\"x\"}\n{\"_COMM\":\"no message\"}\n";
        let options = stand_in(dir.path(), records, 0);
        let (told, result) = all(&options, &[(3, None), (1, Some("_COMM=sshd".to_owned())), (1, Some("_COMM=x".to_owned()))]);
        result.unwrap();
        assert_eq!(told, ["[1, 3] one Some(1)", "[1, 3] two None", "over"]);
        let (told, _) = all(&options, &[(1, Some("_COMM=sshd".to_owned()))]);
        assert_eq!(told, ["[1] one Some(1)", "[] two None", "over"], "what nobody wants is told too, to be counted");
    }

    #[test]
    fn failures_are_told_with_what_was_said() {
        let dir = tempfile::tempdir().unwrap();
        let (told, result) = all(&stand_in(dir.path(), "{\"MESSAGE\":\"one\"}\n", 1), &[(0, None)]);
        let error = std::error::Error::source(&result.unwrap_err()).unwrap().to_string();
        assert!(told.len() == 1 && error.contains("words"), "{error}");
        let (_, result) = all(&stand_in(dir.path(), "no json\n", 0), &[(0, None)]);
        assert!(result.is_err());
        assert!(matches!(
            all(&Options { program: Some("/nosuch".into()), ..Options::default() }, &[(0, None)]).1,
            Err(LogError::System { .. })
        ));
        assert!(matches!(all(&Options::default(), &[(0, Some("x".to_owned()))]).1, Err(LogError::Match { .. })));
    }

    #[test]
    fn a_name_with_wildcards_means_one_file() {
        assert_eq!(escaped(&"--file=/a[1]*.journal".into()), "--file=/a\\[1\\]\\*.journal");
    }
}
