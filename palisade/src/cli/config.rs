//! `palisade config`.

use anyhow::Result;
use clap::{Args, Subcommand};
use palisade_core::attack::JailName;
use palisade_core::config::show;
use palisade_core::scan::fail2ban::FilterError;
use serde_json::json;

use super::print;
use super::{Exit, Global};
use crate::settings::BadConfig;

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
    #[command(
        after_help = "Examples:\n  palisade config check\n  palisade --config ./new.toml config check && systemctl reload palisade\n\nExit code 4: invalid, with file:line:column for each error."
    )]
    Check {
        /// Only errors
        #[arg(long, short)]
        quiet: bool,
    },
    /// The effective config, defaults included, as a config file
    #[command(
        after_help = "Examples:\n  palisade config show\n  palisade config show > /etc/palisade/palisade.toml    to begin with all of it"
    )]
    Show,
}

impl ConfigArgs {
    /// Does it.
    pub fn run(self, global: &Global) -> Result<Exit> {
        let places = global.places();
        let read = || {
            let (config, library) = places.config_and_library()?;
            Ok((places.config_texts()?, config, library))
        };
        let (texts, config, library) = match read() {
            Ok(read) => read,
            Err(error) if global.json && matches!(self.verb, ConfigVerb::Check { .. }) => return invalid(error),
            Err(error) => return Err(error),
        };
        if matches!(self.verb, ConfigVerb::Check { .. }) {
            let faults = library.faults(&config);
            if !faults.is_empty() {
                return unusable(global, &faults);
            }
        }
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

/// Filters that cannot be used: their jails would not run.
fn unusable(global: &Global, faults: &[(JailName, FilterError)]) -> Result<Exit> {
    if global.json {
        let one = |(jail, fault): &(JailName, FilterError)| {
            let line = Some(fault.line).filter(|line| *line > 0);
            json!({ "file": fault.file, "line": line, "column": null, "kind": "filter", "message": format!("jail `{jail}`: {}", fault.what), "hint": null })
        };
        print::json(&json!({ "v": 1, "valid": false, "errors": faults.iter().map(one).collect::<Vec<_>>(), "more": 0 }))?;
        return Ok(Exit::Config);
    }
    for (jail, fault) in faults {
        print::say(format_args!("{fault} (jail `{jail}`)"));
    }
    Ok(Exit::Config)
}

/// `{"v":1,"valid":false,"errors":[{"file","line","column","kind","message","hint"}],"more":N}`.
fn invalid(error: anyhow::Error) -> Result<Exit> {
    let document = match error.downcast_ref::<BadConfig>() {
        Some(BadConfig::Invalid(errors)) => json!({ "v": 1, "valid": false, "errors": errors.to_json(), "more": errors.more }),
        Some(BadConfig::Signature(error)) => {
            let (file, line) = error.place();
            let one =
                json!({ "file": file, "line": line, "column": null, "kind": "signature", "message": error.to_string(), "hint": null });
            json!({ "v": 1, "valid": false, "errors": [one], "more": 0 })
        }
        Some(bad @ BadConfig::Unreadable { path, .. }) => {
            let one = json!({ "file": path, "line": null, "column": null, "kind": "unreadable", "message": bad.to_string(), "hint": null });
            json!({ "v": 1, "valid": false, "errors": [one], "more": 0 })
        }
        Some(bad @ BadConfig::Zone { .. }) => {
            let one = json!({ "file": null, "line": null, "column": null, "kind": "value", "message": bad.to_string(), "hint": null });
            json!({ "v": 1, "valid": false, "errors": [one], "more": 0 })
        }
        None => return Err(error),
    };
    print::json(&document)?;
    Ok(Exit::Config)
}
