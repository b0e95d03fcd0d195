//! `palisade config`.

use anyhow::Result;
use clap::{Args, Subcommand};
use palisade_core::config::show;
use serde_json::json;

use super::print;
use super::{Exit, Global};

/// Check or show the config.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  palisade config check\n  palisade --config ./new.toml config check && systemctl reload palisade\n  palisade config show\n\nExit code 4: invalid, with file:line:column for each error."
)]
pub struct ConfigArgs {
    #[command(subcommand)]
    verb: ConfigVerb,
}

#[derive(Debug, Subcommand)]
enum ConfigVerb {
    /// Parse and validate; says nothing but errors with --quiet
    Check {
        /// Only errors
        #[arg(long, short)]
        quiet: bool,
    },
    /// The effective config, defaults included, as a config file
    Show,
}

impl ConfigArgs {
    /// Does it.
    pub fn run(self, global: &Global) -> Result<Exit> {
        let places = global.places();
        let texts = places.config_texts()?;
        let config = places.config()?;
        match self.verb {
            ConfigVerb::Check { quiet: true } => {}
            ConfigVerb::Check { quiet: false } if global.json => {
                let files: Vec<&String> = texts.iter().map(|(name, _)| name).collect();
                print::json(&json!({ "v": 1, "valid": true, "files": files }))?;
            }
            ConfigVerb::Check { quiet: false } => {
                let jails = config.jails().values().filter(|jail| jail.enabled).count();
                let names: Vec<&str> = texts.iter().map(|(name, _)| name.as_str()).collect();
                let from = if names.is_empty() { "built-in defaults".to_owned() } else { names.join(", ") };
                print::line(format_args!("valid: {from}; {jails} jails"))?;
            }
            ConfigVerb::Show if global.json => print::json(&json!({ "v": 1, "config": show(&config) }))?,
            ConfigVerb::Show => print::line(show(&config).trim_end())?,
        }
        Ok(Exit::Done)
    }
}
