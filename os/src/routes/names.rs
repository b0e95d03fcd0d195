//! What `ip` calls our tables and our protocol.
//!
//! ```text
//!  /etc/iproute2/rt_tables.d/palisade.conf   ID NAME, a line each; # begins a comment
//!  /etc/iproute2/rt_protos.d/palisade.conf   the same
//! ```
//! Source: ip-route(8); iproute2 reads `*.conf` of these folders, whether or not there is more beside them.

use std::fs::{self, File, Permissions};
use std::io::{self, Read};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use palisade_core::route::{Names, Protocol};

/// Where iproute2 looks by default.
pub const FOLDER: &str = "/etc/iproute2";

const FILE: &str = "palisade.conf";
const TABLES: &str = "rt_tables.d";
const PROTOCOLS: &str = "rt_protos.d";
/// How our files begin: one that does not is somebody else's.
const OURS: &str = "# Written by Palisade, which replaces and removes it: change [uplink] and [routing] of its config instead.\n";
/// Behind it, how many of the folders above the file were made for it and go with it.
const MADE: &str = "# Folders made for it: ";
/// Far more than our files ever have: tables are counted in hundreds, and names are short.
const MOST_BYTES: u64 = 1 << 20;
/// Everybody may ask `ip`.
const MODE: u32 = 0o644;

/// Makes the files say this, and no more than that; tells whether they had to be changed. `folder` is [`FOLDER`] but in
/// tests.
///
/// # Errors
/// Also for a name that would be read as something else, and where a file of that name is somebody else's.
pub fn write(folder: &Path, tables: &Names, protocol: Protocol) -> io::Result<bool> {
    let tables: Vec<(u32, &str)> = tables.0.iter().map(|(id, name)| (id.0, &**name)).collect();
    // Without a table there is an empty file: it remembers that the folder above both was made for them.
    let tables = put(folder, TABLES, &tables)?;
    let protocols = put(folder, PROTOCOLS, &[(protocol.0.into(), "palisade")])?;
    Ok(tables || protocols)
}

/// Removes them, and the folders that were made for them where nothing else is in them. Tells whether there was any.
pub fn remove(folder: &Path) -> io::Result<bool> {
    // In the order opposite to that of their making, so that the folder that both are in goes with the last.
    let protocols = take_away(folder, PROTOCOLS)?;
    let tables = take_away(folder, TABLES)?;
    Ok(tables || protocols)
}

fn put(folder: &Path, below: &str, lines: &[(u32, &str)]) -> io::Result<bool> {
    if let Some((_, name)) = lines.iter().find(|(_, name)| !plain(name)) {
        let why = format!(
            "`{}` is no name that ip could read: letters, digits, `-`, `_` and `.`, not beginning with a digit",
            name.escape_debug()
        );
        return Err(io::Error::new(io::ErrorKind::InvalidInput, why));
    }
    let (dir, path) = (folder.join(below), folder.join(below).join(FILE));
    let standing = ours(&path)?;
    let made = match &standing {
        Some(text) => made(text),
        None => make(&dir)?,
    };
    let mut text = format!("{OURS}{MADE}{made}\n");
    for (id, name) in lines {
        text.push_str(&format!("{id}\t{name}\n"));
    }
    let right = standing.as_deref() == Some(text.as_str()) && fs::metadata(&path)?.permissions().mode() & 0o777 == MODE;
    if !right {
        replace(&path, &text)?;
    }
    Ok(!right)
}

fn take_away(folder: &Path, below: &str) -> io::Result<bool> {
    let path = folder.join(below).join(FILE);
    let Some(text) = ours(&path)? else { return Ok(false) };
    match fs::remove_file(&path) {
        // In a folder that is not ours to change, what was made for us stays, and says nothing.
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => return fs::write(&path, "").map(|()| !text.is_empty()),
        other => other?,
    }
    for dir in path.ancestors().skip(1).take(made(&text)) {
        // Somebody else's file may be in it by now.
        if fs::remove_dir(dir).is_err() {
            break;
        }
    }
    Ok(true)
}

/// A file in its place whole. Whoever may change the file and not its folder (the daemon as a user of its own, for whom
/// it was made) writes into it.
fn replace(path: &Path, text: &str) -> io::Result<()> {
    let whole = crate::files::replace(path, text.as_bytes()).and_then(|()| fs::set_permissions(path, Permissions::from_mode(MODE)));
    match whole {
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied && path.exists() => fs::write(path, text),
        other => other,
    }
}

/// Whether a file is ours: it begins so, or it is as it was made for the daemon, with our protocol's name or nothing.
fn is_ours(text: &str) -> bool {
    text.starts_with(OURS) || text.lines().all(|line| line.split_whitespace().eq(["80", "palisade"]) || line.trim().is_empty())
}

/// Our file, if it is there.
fn ours(path: &Path) -> io::Result<Option<String>> {
    let mut text = Vec::new();
    match crate::files::open_regular(path).and_then(|file: File| file.take(MOST_BYTES).read_to_end(&mut text)) {
        Ok(_) => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    }
    let text = String::from_utf8_lossy(&text).into_owned();
    if is_ours(&text) {
        return Ok(Some(text));
    }
    let why = format!("{} does not begin as Palisade's own: it is left alone; move it away", path.display());
    Err(io::Error::new(io::ErrorKind::AlreadyExists, why))
}

fn made(text: &str) -> usize {
    text.lines().nth(1).and_then(|line| line.strip_prefix(MADE)?.parse().ok()).unwrap_or(0).min(2)
}

/// Makes a folder and the one above it, where they are absent: how many.
fn make(dir: &Path) -> io::Result<usize> {
    let absent: Vec<PathBuf> =
        dir.ancestors().take(2).take_while(|dir| !dir.as_os_str().is_empty() && !dir.exists()).map(Path::to_owned).collect();
    for dir in absent.iter().rev() {
        fs::create_dir(dir)?;
        fs::set_permissions(dir, Permissions::from_mode(0o755))?;
    }
    Ok(absent.len())
}

fn plain(name: &str) -> bool {
    name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_') && name.chars().all(|c| c.is_ascii_alphanumeric() || "-_.".contains(c))
}

#[cfg(test)]
mod tests {
    use super::*;
    use palisade_core::route::TableId;
    use std::os::unix::fs::MetadataExt;

    fn names(list: &[(u32, &str)]) -> Names {
        Names(list.iter().map(|(id, name)| (TableId(*id), (*name).into())).collect())
    }

    #[test]
    fn files_are_written_when_they_differ_and_go_with_their_folders() {
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path().join("iproute2");
        let path = folder.join(TABLES).join(FILE);
        let two = names(&[(200, "sixxs0"), (201, "sixxs1")]);
        assert!(write(&folder, &two, Protocol::OURS).unwrap());
        let text = fs::read_to_string(&path).unwrap();
        assert_eq!(text.lines().filter(|line| !line.starts_with('#')).collect::<Vec<_>>(), ["200\tsixxs0", "201\tsixxs1"]);
        assert!(text.starts_with("# Written by Palisade"));
        let inode = path.metadata().unwrap().ino();
        assert!(!write(&folder, &two, Protocol::OURS).unwrap());
        assert_eq!(path.metadata().unwrap().ino(), inode);
        fs::set_permissions(&path, Permissions::from_mode(0o600)).unwrap();
        assert!(write(&folder, &two, Protocol::OURS).unwrap());
        assert_eq!(path.metadata().unwrap().mode() & 0o777, 0o644);
        assert!(write(&folder, &names(&[]), Protocol::OURS).unwrap(), "no tables, no lines");
        assert!(fs::read_to_string(&path).unwrap().lines().all(|line| line.starts_with('#')));
        write(&folder, &two, Protocol::OURS).unwrap();
        assert!(remove(&folder).unwrap() && !remove(&folder).unwrap());
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
    }

    #[test]
    fn what_is_somebody_elses_stays() {
        let dir = tempfile::tempdir().unwrap();
        let there = dir.path().join(PROTOCOLS);
        fs::create_dir(&there).unwrap();
        let two = names(&[(200, "sixxs0")]);
        write(dir.path(), &two, Protocol::OURS).unwrap();
        fs::write(dir.path().join(TABLES).join("other.conf"), "9 other\n").unwrap();
        remove(dir.path()).unwrap();
        assert!(there.is_dir() && fs::read_dir(&there).unwrap().count() == 0, "it was there before us");
        assert_eq!(fs::read_dir(dir.path().join(TABLES)).unwrap().count(), 1);
        fs::write(there.join(FILE), "80 mine\n").unwrap();
        assert!(write(dir.path(), &two, Protocol::OURS).unwrap_err().to_string().contains("move it away"));
        assert!(remove(dir.path()).is_err());
        assert_eq!(fs::read_to_string(there.join(FILE)).unwrap(), "80 mine\n");
        for bad in ["", "a b", "9lives", "a\n1 b", "x#y", "ü"] {
            assert!(write(dir.path(), &names(&[(5, bad)]), Protocol::OURS).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn who_may_not_change_the_folder_writes_into_the_file_that_was_made_for_him() {
        let dir = tempfile::tempdir().unwrap();
        let (tables, protocols) = (dir.path().join(TABLES).join(FILE), dir.path().join(PROTOCOLS).join(FILE));
        for (file, text) in [(&tables, ""), (&protocols, "80 palisade\n")] {
            fs::create_dir(file.parent().unwrap()).unwrap();
            fs::write(file, text).unwrap();
            assert!(is_ours(&fs::read_to_string(file).unwrap()));
        }
        let names = Names([(TableId(200), "sixxs0".into())].into());
        assert!(write(dir.path(), &names, Protocol::OURS).unwrap());
        assert!(fs::read_to_string(&tables).unwrap().ends_with("200\tsixxs0\n"));
        assert!(!write(dir.path(), &names, Protocol::OURS).unwrap());
        assert!(!is_ours("80 palisade\n200 mine\n") && !is_ours("# by hand\n"));
    }
}
