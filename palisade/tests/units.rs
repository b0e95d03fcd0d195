//! The files under etc/ that systemd reads, held against systemd's own tools.
//!
//! Whether the units really run is for `make vm-test`, which has a systemd as process 1; these tests need only its
//! tools, and are skipped, loudly, where there are none.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

type Result = std::result::Result<(), Box<dyn std::error::Error>>;

/// The exposure that no unit of ours may pass, times ten as systemd-analyze wants it. The services this one stands
/// beside are at 9.6.
const EXPOSURE_MAX: &str = "--threshold=23";

const UNITS: [&str; 2] = ["palisade.service", "palisade-restore.service"];

fn etc(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../etc").join(path)
}

fn unit(name: &str) -> std::io::Result<String> {
    fs::read_to_string(etc("systemd").join(name))
}

/// Runs a tool of systemd; `None`, said aloud, where it is not installed.
fn tool(name: &str, arguments: &[&str]) -> std::io::Result<Option<Output>> {
    match Command::new(name).args(arguments).output() {
        Ok(output) => Ok(Some(output)),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            eprintln!("SKIPPED: {name} is not installed, this test checked nothing (tests/deps installs it)");
            Ok(None)
        }
        Err(error) => Err(error),
    }
}

fn said(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

/// Every value a unit gives to `key`, in order.
fn values<'a>(text: &'a str, key: &str) -> Vec<&'a str> {
    text.lines().filter_map(|line| line.strip_prefix(key)?.strip_prefix('=')).collect()
}

fn exposure(file: &Path) -> std::io::Result<Option<Output>> {
    tool("systemd-analyze", &["security", "--no-pager", "--offline=true", EXPOSURE_MAX, &file.to_string_lossy()])
}

#[test]
fn exposure_is_at_most_2_3() -> Result {
    for name in UNITS {
        let Some(output) = exposure(&etc("systemd").join(name))? else { return Ok(()) };
        assert!(output.status.success(), "{name} is too exposed:\n{}", said(&output));
    }
    Ok(())
}

/// The gate itself: without its own user the same unit must not get through.
#[test]
fn the_gate_stops_a_unit_that_runs_as_root() -> Result {
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("palisade.service");
    let open: String = unit("palisade.service")?
        .lines()
        .filter(|line| !["User=", "CapabilityBoundingSet=", "SystemCallFilter="].iter().any(|key| line.starts_with(key)))
        .flat_map(|line| [line, "\n"])
        .collect();
    fs::write(&file, open)?;
    let Some(output) = exposure(&file)? else { return Ok(()) };
    assert!(!output.status.success(), "the gate let an open unit through:\n{}", said(&output));
    Ok(())
}

/// Keys, sections, values and dependencies, as the installed systemd understands them.
#[test]
fn systemd_understands_every_line() -> Result {
    let folder = tempfile::tempdir()?;
    let mut files = Vec::new();
    for name in UNITS {
        // The binary is not in /usr/bin on a machine that only tests.
        let text = unit(name)?.replace("/usr/bin/palisade", env!("CARGO_BIN_EXE_palisade"));
        let file = folder.path().join(name);
        fs::write(&file, text)?;
        files.push(file.to_string_lossy().into_owned());
    }
    let mut arguments = vec!["verify", "--man=no"];
    arguments.extend(files.iter().map(String::as_str));
    let Some(output) = tool("systemd-analyze", &arguments)? else { return Ok(()) };
    let about_ours: Vec<String> = said(&output).lines().filter(|line| line.contains("palisade")).map(str::to_owned).collect();
    assert!(about_ours.is_empty(), "{about_ours:#?}");
    assert!(output.status.success(), "{}", said(&output));
    Ok(())
}

#[test]
fn the_units_make_the_user_and_folders_they_name() -> Result {
    let root = tempfile::tempdir()?;
    let into = format!("--root={}", root.path().display());
    fs::create_dir(root.path().join("etc"))?;
    let file = etc("sysusers.d/palisade.conf");
    let Some(output) = tool("systemd-sysusers", &[&into, &file.to_string_lossy()])? else { return Ok(()) };
    assert!(output.status.success(), "{}", said(&output));
    let users = fs::read_to_string(root.path().join("etc/passwd"))?;
    assert!(users.lines().any(|line| line.starts_with("palisade:") && line.ends_with("/nologin")), "{users}");
    let groups = fs::read_to_string(root.path().join("etc/group"))?;
    for group in values(&unit("palisade.service")?, "SupplementaryGroups").iter().flat_map(|value| value.split(' ')) {
        assert!(groups.lines().any(|line| line.starts_with(&format!("{group}:"))), "no group {group} in:\n{groups}");
    }

    let file = etc("tmpfiles.d/palisade.conf");
    let Some(output) = tool("systemd-tmpfiles", &["--create", &into, &file.to_string_lossy()])? else { return Ok(()) };
    assert!(output.status.success(), "{}", said(&output));
    for folder in ["run/palisade", "var/lib/palisade", "etc/palisade/conf.d"] {
        assert!(root.path().join(folder).is_dir(), "{folder} was not made");
    }
    assert_eq!(fs::read_to_string(root.path().join("etc/iproute2/rt_protos.d/palisade.conf"))?, "80 palisade\n");
    Ok(())
}

/// The daemon cannot make files in other packages' folders: what it may write there is made for it.
#[test]
fn what_the_daemon_writes_in_etc_is_made_for_it() -> Result {
    let daemon = unit("palisade.service")?;
    let made = fs::read_to_string(etc("tmpfiles.d/palisade.conf"))?;
    let own: Vec<&str> = made.lines().filter(|line| line.starts_with("f ")).filter_map(|line| line.split_whitespace().nth(1)).collect();
    let written: Vec<&str> = values(&daemon, "ReadWritePaths").iter().flat_map(|value| value.split(' ')).collect();
    let in_etc: Vec<&str> = written.iter().filter_map(|path| path.strip_prefix('-')).filter(|path| path.starts_with("/etc/")).collect();
    assert_eq!(own, in_etc, "and a file that is missing must not keep the daemon from starting");
    assert_eq!(own.len(), 2);
    Ok(())
}

/// Tunnels outlive a restart of the daemon.
#[test]
fn a_stop_ends_the_daemon_alone() -> Result {
    assert_eq!(values(&unit("palisade.service")?, "KillMode"), ["process"]);
    Ok(())
}

/// Bans outlive the daemon: no unit may say how to take the wall down.
#[test]
fn nothing_takes_the_wall_down() -> Result {
    for name in UNITS {
        let text = unit(name)?;
        for key in ["ExecStop", "ExecStopPost"] {
            assert_eq!(values(&text, key), Vec::<&str>::new(), "{name}");
        }
        assert!(!values(&text, "ExecStart").iter().any(|command| command.contains("flush")), "{name}");
    }
    let restore = unit("palisade-restore.service")?;
    assert!(values(&restore, "Before").iter().any(|units| units.contains("network-pre.target")), "{restore}");
    assert_eq!(values(&restore, "Wants"), ["network-pre.target"], "the target is passive: somebody has to pull it in");
    Ok(())
}

/// Both units live in the same folders, so they must agree on who owns them and on what they may do there.
#[test]
fn both_units_are_the_same_user_and_only_the_daemon_probes() -> Result {
    let (daemon, restore) = (unit("palisade.service")?, unit("palisade-restore.service")?);
    for key in ["User", "Group", "StateDirectory", "StateDirectoryMode", "RuntimeDirectory", "RuntimeDirectoryMode", "UMask"] {
        assert_eq!(values(&daemon, key), values(&restore, key), "{key}");
        assert_eq!(values(&daemon, key).len(), 1, "{key}");
    }
    for key in ["AmbientCapabilities", "CapabilityBoundingSet"] {
        assert_eq!(values(&daemon, key), ["CAP_NET_ADMIN CAP_NET_RAW"], "{key}");
        assert_eq!(values(&restore, key), ["CAP_NET_ADMIN"], "{key}");
    }
    Ok(())
}
