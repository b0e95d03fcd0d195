//! `palisade man`, `completions`: made from the table of verbs.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use clap::{Args, CommandFactory};
use clap_complete::Shell;

use super::{Cli, Exit, print};

/// Completions for a shell.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  palisade completions bash > /usr/share/bash-completion/completions/palisade")]
pub struct Completions {
    /// bash, zsh, fish, elvish or powershell
    shell: Shell,
}

impl Completions {
    /// Does it.
    pub fn run(self) -> Result<Exit> {
        // Made whole before it is written: the generator knows no other answer to a closed pipe than a panic.
        let mut script = Vec::new();
        clap_complete::generate(self.shell, &mut Cli::command(), "palisade", &mut script);
        print::out(|out| out.write_all(&script))?;
        Ok(Exit::Done)
    }
}

/// The man pages.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  palisade man | man -l -\n  palisade man /usr/share/man/man1")]
pub struct Man {
    /// Write palisade.1 and a page for each verb there
    dir: Option<PathBuf>,
}

impl Man {
    /// Does it.
    pub fn run(self) -> Result<Exit> {
        let command = Cli::command();
        match self.dir {
            None => {
                let mut page = Vec::new();
                clap_mangen::Man::new(command).render(&mut page)?;
                print::out(|out| out.write_all(&page))?;
            }
            Some(dir) => {
                fs::create_dir_all(&dir).with_context(|| format!("cannot make {}", dir.display()))?;
                pages(command, "palisade", &dir)?;
            }
        }
        Ok(Exit::Done)
    }
}

/// A page for the command and one for each verb below it: `palisade-config-check.1`.
fn pages(command: clap::Command, name: &str, dir: &Path) -> Result<()> {
    for sub in command.get_subcommands().filter(|c| !c.is_hide_set() && c.get_name() != "help") {
        pages(sub.clone(), &format!("{name}-{}", sub.get_name()), dir)?;
    }
    let path = dir.join(format!("{name}.1"));
    let mut page = Vec::new();
    clap_mangen::Man::new(command.display_name(name)).title(name).render(&mut page)?;
    fs::write(&path, page).with_context(|| format!("cannot write {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The verbs that do something, by the words that one types.
    fn leaves(command: &clap::Command, words: &str, found: &mut Vec<(String, String)>) {
        let below: Vec<&clap::Command> = command.get_subcommands().filter(|c| c.get_name() != "help").collect();
        if below.is_empty() {
            found.push((words.to_owned(), command.get_after_help().map(ToString::to_string).unwrap_or_default()));
        }
        below.iter().for_each(|sub| leaves(sub, &format!("{words} {}", sub.get_name()), found));
    }

    #[test]
    fn each_verb_shows_how_it_is_typed() {
        let mut found = Vec::new();
        leaves(&Cli::command(), "palisade", &mut found);
        assert!(found.len() > 40, "{found:?}");
        for (words, help) in found {
            // `palisade --json list` is an example of `palisade list` too.
            let verb = words.trim_start_matches("palisade");
            let typed = help.lines().any(|line| line.starts_with("  ") && line.contains("palisade") && line.contains(verb));
            assert!(help.contains("Example") && typed, "`{words} --help` has no example of it: {help}");
        }
    }
}
