//! What carries our mark in the kernel. Nothing else there is ever changed.

/// The nftables table (family `inet`) that holds everything of ours.
pub const NFT_TABLE: &str = "palisade";

/// The nftables table (family `inet`) in which is tried what the kernel can do: it stands for a moment only.
pub const NFT_PROBE_TABLE: &str = "palisade_probe";

/// Priority of our base chains. Before raw (-300) and connection tracking (-200), so that a banned
/// source never makes a conntrack entry; after defragmentation (-400), so that ports can be seen
/// (linux/netfilter_ipv4.h, `enum nf_ip_hook_priorities`).
pub const NFT_PRIORITY: i32 = -310;

/// The nftables table (family `inet`) that holds connection marks and leak counters of uplinks.
pub const NFT_ROUTE_TABLE: &str = "palisade_route";

/// The nftables table (family `inet`) that holds limits of culprits and timeouts of services.
pub const NFT_FLOOD_TABLE: &str = "palisade_flood";
