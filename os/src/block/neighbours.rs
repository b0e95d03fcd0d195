//! Who else filters in this network namespace.

use std::collections::BTreeSet;
use std::fs;

use palisade_core::bans::backend::owner_of;

use crate::netlink::nft::survey::{self, Placed, family_name};

/// Where the kernel names the tables of legacy iptables that are in use (net/netfilter/x_tables.c).
const LEGACY: [(&str, &str); 2] =
    [("/proc/thread-self/net/ip_tables_names", "iptables-legacy"), ("/proc/thread-self/net/ip6_tables_names", "ip6tables-legacy")];

/// `NF_INET_PRE_ROUTING`, and `NF_INET_INGRESS` of the family inet (linux/netfilter.h). In the family netdev, 0 is ingress.
const PREROUTING: u32 = 0;
const INET_INGRESS: u32 = 5;
const NETDEV: u8 = 5;

/// Those beside us.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Neighbours {
    /// By name: `docker`, `ufw`, `iptables-legacy (filter, nat)`.
    pub names: Vec<String>,
    /// Base chains that see a packet before prerouting at `-310`, where ours is: `table inet x, chain y (prerouting, priority -400)`.
    pub earlier: Vec<String>,
}

/// Looks. Where something cannot be looked at, it is not named.
pub fn look(our_table: &str, our_priority: i32) -> Neighbours {
    let chains = survey::chains().unwrap_or_default();
    let foreign = || chains.iter().filter(|placed| placed.table != our_table);
    let owners = foreign().filter_map(|placed| owner_of(&placed.table).or_else(|| owner_of(&placed.chain.name)));
    let mut names: Vec<String> = owners.collect::<BTreeSet<_>>().into_iter().map(str::to_owned).collect();
    for (path, program) in LEGACY {
        let tables: Vec<String> = fs::read_to_string(path).unwrap_or_default().lines().take(8).map(str::to_owned).collect();
        if !tables.is_empty() {
            names.push(format!("{program} ({})", tables.join(", ")));
        }
    }
    Neighbours { names, earlier: foreign().filter_map(|placed| earlier(placed, our_priority)).collect() }
}

fn earlier(placed: &Placed, than: i32) -> Option<String> {
    let base = placed.chain.base.as_ref()?;
    let place = match base.hook {
        0 if placed.family == NETDEV => "ingress",
        INET_INGRESS => "ingress",
        PREROUTING if base.priority < than => "prerouting",
        _ => return None,
    };
    let (family, table, chain) = (family_name(placed.family), &placed.table, &placed.chain.name);
    Some(format!("table {family} {table}, chain {chain} ({place}, priority {})", base.priority))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::netns::Netns;
    use crate::process::Tool;

    #[test]
    fn neighbours_and_chains_before_ours_are_named() {
        let rules = "table inet early { chain c { type filter hook prerouting priority -400; accept; }; }\n\
             table inet late { chain c { type filter hook prerouting priority 0; }; }\n\
             table ip filter { chain DOCKER-USER { }; chain f2b-sshd { }; }\n\
             table inet palisade { chain pre { type filter hook prerouting priority -500; }; }\n";
        let found = Netns::new().unwrap().within(|| {
            let nft = Tool::find("nft", &["/usr/sbin".into()]).unwrap();
            nft.feed(&["-f", "-"], |input| input.write_all(rules.as_bytes())).unwrap();
            look("palisade", -310)
        });
        let found = found.unwrap();
        assert_eq!(found.names, ["docker", "fail2ban"]);
        assert_eq!(found.earlier, ["table inet early, chain c (prerouting, priority -400)"]);
    }
}
