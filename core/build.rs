//! Lists `../signatures/*.toml` into a table of names and texts, so that a new signature is one new file.
#![expect(clippy::disallowed_methods, reason = "a build script reads the source tree; the crate itself never does")]

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::{env, fs};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let here = env::var("CARGO_MANIFEST_DIR")?;
    let dir = Path::new(&here).join("../signatures").canonicalize()?;
    println!("cargo:rerun-if-changed={}", dir.display());
    let mut files: Vec<PathBuf> = fs::read_dir(&dir)?.map(|entry| Ok(entry?.path())).collect::<Result<_, std::io::Error>>()?;
    files.retain(|path| path.extension().is_some_and(|e| e == "toml"));
    files.sort();
    let mut table = String::from("&[\n");
    for file in &files {
        let name = file.file_stem().and_then(|n| n.to_str()).ok_or("a signature's file name is not UTF-8")?;
        println!("cargo:rerun-if-changed={}", file.display());
        writeln!(table, "    ({name:?}, include_str!({file:?})),")?;
    }
    table.push(']');
    fs::write(Path::new(&env::var("OUT_DIR")?).join("signatures.rs"), table)?;
    Ok(())
}
