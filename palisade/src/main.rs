//! The door: the command line in, an exit code out, errors told once with what to do next.
#![forbid(unsafe_code)]

use std::ffi::{OsStr, OsString};
use std::path::Path;
use std::process::ExitCode;

use palisade::cli;

fn main() -> ExitCode {
    let cli = cli::Cli::read(words());
    let exit = match cli::dispatch(cli) {
        Ok(exit) => exit,
        Err(error) => cli::print::failure(&error),
    };
    ExitCode::from(exit as u8)
}

/// The command line. A link called `fail2ban-client` is that verb: scripts go on as they are.
fn words() -> Vec<OsString> {
    let mut words: Vec<OsString> = std::env::args_os().collect();
    let called = words.first().map(|name| Path::new(name).file_name() == Some(OsStr::new("fail2ban-client")));
    if called == Some(true) {
        words.splice(1..1, ["fail2ban-client".into(), "--".into()]);
    }
    words
}
