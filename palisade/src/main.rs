//! The door: the command line in, an exit code out, errors told once with what to do next.
#![forbid(unsafe_code)]

use std::process::ExitCode;

use clap::Parser;
use palisade::cli;

fn main() -> ExitCode {
    let cli = cli::Cli::parse();
    let exit = match cli::dispatch(cli) {
        Ok(exit) => exit,
        Err(error) => cli::print::failure(&error),
    };
    ExitCode::from(exit as u8)
}
