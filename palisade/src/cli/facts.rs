//! What the machine knows of an address beside its bans: its tracked flows, and who is behind it. Looked up by whoever asks, who is
//! root as a rule, and not by the daemon, which has few rights.

use std::path::PathBuf;

use palisade_core::flood::owner::Behind;
use palisade_core::net::Prefix;
use palisade_os::flows::tracked::{Tracked, tracked};
use palisade_os::owners;
use serde_json::{Value, json};

use super::Global;

/// Most processes shown to people; `--json` has them all.
const SHOWN: usize = 8;

/// Where leases are read: as the config says, or in the usual files. A config that cannot be read says nothing.
pub(super) fn leases(global: &Global) -> Vec<PathBuf> {
    let typed = global.places().config().ok().and_then(|config| config.conntrack().leases.clone());
    typed.map_or_else(owners::usual_leases, |paths| paths.into_iter().map(PathBuf::from).collect())
}

/// Facts, and what could not be found out.
#[derive(Debug, Default)]
pub(super) struct Facts {
    tracked: Option<Tracked>,
    behind: Option<Behind>,
    hidden: Vec<String>,
}

impl Facts {
    /// Looks. Of a prefix that is no host only its flows.
    pub(super) fn of(prefix: Prefix, leases: &[PathBuf]) -> Self {
        let mut facts = Self::default();
        match tracked(prefix) {
            Ok(tracked) => facts.tracked = Some(tracked),
            Err(error) => facts.hidden.push(format!("tracked flows cannot be listed ({error}): it takes root (CAP_NET_ADMIN)")),
        }
        if prefix.is_host() {
            match owners::behind(prefix.addr(), leases) {
                Ok(mut behind) => {
                    facts.hidden.extend(behind.hidden.take());
                    facts.behind = Some(behind);
                }
                Err(error) => facts.hidden.push(format!("who is behind it cannot be found out: {error}")),
            }
        }
        facts
    }

    /// Whether anything is known.
    pub(super) fn any(&self) -> bool {
        self.tracked.as_ref().is_some_and(|tracked| tracked.flows > 0) || self.behind.as_ref().is_some_and(Behind::is_known)
    }

    /// Adds them to a document: `flows`, `began`, `unreplied`, `top_dst` are null where they cannot be listed, `behind` of what is no host.
    pub(super) fn add_to(&self, document: &mut Value) {
        let tracked = self.tracked.as_ref();
        document["flows"] = json!(tracked.map(|tracked| tracked.flows));
        document["began"] = json!(tracked.map(|tracked| tracked.began));
        document["unreplied"] = json!(tracked.map(|tracked| tracked.unreplied));
        document["top_dst"] = json!(tracked.and_then(|tracked| tracked.top).map(|(end, _)| end));
        document["behind"] = self.behind.as_ref().map_or(Value::Null, |behind| {
            let processes: Vec<Value> = behind
                .processes
                .iter()
                .map(|(process, sockets)| {
                    json!({ "pid": process.pid, "comm": process.comm, "uid": process.uid, "user": process.user, "unit": process.unit, "sockets": sockets })
                })
                .collect();
            json!({ "mac": behind.mac, "interface": behind.interface, "host": behind.host, "processes": processes })
        });
        document["hidden"] = json!(self.hidden);
    }

    /// Adds them to a table for people.
    pub(super) fn rows(&self, rows: &mut Vec<Vec<String>>) {
        let mut row = |name: &str, text: String| rows.push(vec![format!("  {name}"), text]);
        if let Some(tracked) = self.tracked.as_ref().filter(|tracked| tracked.flows > 0) {
            row("flows", told(tracked));
        }
        if let Some(behind) = &self.behind {
            if let Some(host) = &behind.host {
                row("host", format!("{host} (its own words, by its lease)"));
            }
            if let Some(mac) = &behind.mac {
                row(
                    "neighbour",
                    behind.interface.as_ref().map_or_else(|| format!("{mac} (by its lease)"), |link| format!("{mac} on {link}")),
                );
            }
            for (process, sockets) in behind.processes.iter().take(SHOWN) {
                row("process", format!("{process}, {sockets} socket{}", if *sockets == 1 { "" } else { "s" }));
            }
            if let Some(more) = behind.processes.len().checked_sub(SHOWN + 1) {
                row("process", format!("and {} more (--json has them)", more + 1));
            }
        }
        if !self.hidden.is_empty() {
            row("not seen", self.hidden.join("; "));
        }
    }
}

/// `4120 tracked, 4100 begun by it, 4000 never answered, most to 192.0.2.1:443/tcp (3900)`.
fn told(tracked: &Tracked) -> String {
    let mut text = format!("{} tracked, {} begun by it, {} never answered", tracked.flows, tracked.began, tracked.unreplied);
    if let Some((end, count)) = tracked.top {
        text.push_str(&format!(", most to {end} ({count})"));
    }
    text
}

#[cfg(test)]
mod tests {
    use palisade_core::flood::owner::Process;

    use super::*;

    #[test]
    fn facts_are_told_in_rows_and_in_a_document() {
        let process = Process { pid: 7, comm: "nginx".into(), uid: 33, user: None, unit: Some("nginx.service".into()) };
        let facts = Facts {
            tracked: Some(Tracked { flows: 5, began: 4, unreplied: 3, top: Some(("192.0.2.1:443/tcp".parse().unwrap(), 2)) }),
            behind: Some(Behind {
                mac: Some("52:54:00:12:34:56".into()),
                interface: Some("lan0".into()),
                host: Some("annas-laptop".into()),
                processes: vec![(process, 1); 10],
                hidden: None,
            }),
            hidden: vec!["something".into()],
        };
        let mut rows = Vec::new();
        facts.rows(&mut rows);
        let text: Vec<String> = rows.iter().map(|row| row.join(" ")).collect();
        assert_eq!(text[0], "  flows 5 tracked, 4 begun by it, 3 never answered, most to 192.0.2.1:443/tcp (2)");
        assert_eq!(text[2], "  neighbour 52:54:00:12:34:56 on lan0");
        assert_eq!(text[3], "  process nginx (pid 7, user 33) of nginx.service, 1 socket");
        assert_eq!(
            (text[11].as_str(), text[12].as_str(), text.len()),
            ("  process and 2 more (--json has them)", "  not seen something", 13)
        );
        let mut document = json!({});
        facts.add_to(&mut document);
        assert_eq!(
            (&document["flows"], &document["top_dst"], &document["behind"]["mac"]),
            (&json!(5), &json!("192.0.2.1:443/tcp"), &json!("52:54:00:12:34:56"))
        );
        assert_eq!(document["behind"]["processes"].as_array().map(Vec::len), Some(10));
        assert!(facts.any() && !Facts::default().any());
    }
}
