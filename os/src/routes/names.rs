//! What our tables and our protocol are called, for `ip` to read (iproute2's rt_tables.d and rt_protos.d).

use std::fmt::Write;
use std::fs;
use std::io::{self, ErrorKind};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use palisade_core::route::{Protocol, Table};

use crate::files;

/// Where iproute2 looks.
pub const FOLDER: &str = "/etc/iproute2";

/// What a file of ours begins with: another one is somebody's, and left alone.
const HEAD: &str = "# Written by palisade for the uplinks that are applied; `palisade route release` removes it.\n";

fn paths(folder: &Path) -> [PathBuf; 2] {
    ["rt_tables.d", "rt_protos.d"].map(|part| folder.join(part).join("palisade.conf"))
}

/// Makes these names, and no others of ours, known; with no tables, none.
///
/// # Errors
/// Where a file cannot be written, or is not ours.
pub fn write(folder: &Path, tables: &[Table], protocol: Protocol) -> io::Result<()> {
    let [for_tables, for_protocols] = paths(folder);
    if tables.is_empty() {
        return [for_tables, for_protocols].iter().try_for_each(|path| remove(path));
    }
    let mut text = HEAD.to_owned();
    for table in tables {
        let _ = writeln!(text, "{}\t{}", table.id.0, table.name);
    }
    put(&for_tables, &text)?;
    put(&for_protocols, &format!("{HEAD}{}\tpalisade\n", protocol.0))
}

/// What stands in a file of ours; `None` where there is none.
fn ours(path: &Path) -> io::Result<Option<String>> {
    match fs::read_to_string(path) {
        Ok(text) if text.starts_with(HEAD) => Ok(Some(text)),
        Ok(_) => Err(io::Error::other(format!("{} is somebody else's; names of our tables stay unknown to `ip`", path.display()))),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

fn put(path: &Path, text: &str) -> io::Result<()> {
    if ours(path)?.as_deref() == Some(text) {
        return Ok(());
    }
    if let Some(folder) = path.parent()
        && !folder.is_dir()
    {
        fs::create_dir_all(folder)?;
    }
    files::replace(path, text.as_bytes())?;
    // Everybody may know.
    fs::set_permissions(path, fs::Permissions::from_mode(0o644))
}

/// Removes a file of ours, and its folder if nobody else has anything there.
fn remove(path: &Path) -> io::Result<()> {
    if ours(path)?.is_some() {
        fs::remove_file(path)?;
        if let Some(folder) = path.parent() {
            let _ = fs::remove_dir(folder);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use palisade_core::route::TableId;

    fn table(name: &str, id: u32) -> Table {
        Table { name: name.into(), id: TableId(id) }
    }

    #[test]
    fn names_come_and_go_and_others_files_stay() {
        let dir = tempfile::tempdir().unwrap();
        write(dir.path(), &[table("sixxs0", 200), table("sixxs1", 201)], Protocol::OURS).unwrap();
        let [tables, protocols] = paths(dir.path());
        assert!(fs::read_to_string(&tables).unwrap().ends_with("200\tsixxs0\n201\tsixxs1\n"));
        assert!(fs::read_to_string(&protocols).unwrap().ends_with("\n80\tpalisade\n"));
        fs::write(tables.with_file_name("other.conf"), "7 seven\n").unwrap();
        write(dir.path(), &[], Protocol::OURS).unwrap();
        assert!(!tables.exists() && !protocols.parent().unwrap().exists());
        assert!(tables.with_file_name("other.conf").exists());
        fs::write(&tables, "200 mine\n").unwrap();
        assert!(write(dir.path(), &[table("sixxs0", 200)], Protocol::OURS).is_err());
        assert!(write(dir.path(), &[], Protocol::OURS).is_err());
        assert_eq!(fs::read_to_string(&tables).unwrap(), "200 mine\n");
    }
}
