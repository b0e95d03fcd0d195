//! demo placeholder
use crate::cli::Exit;
use anyhow::Result;
/// x
pub fn run(_json: bool) -> Result<Exit> {
    Ok(Exit::Done)
}
