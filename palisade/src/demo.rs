//! demo placeholder
use anyhow::Result;
use crate::cli::Exit;
/// x
pub fn run(_json: bool) -> Result<Exit> { Ok(Exit::Done) }
