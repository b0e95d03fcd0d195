//! All switches `nf_conntrack_*` of Linux 5.10 to 6.18, as far as they are timeouts, sizes and habits of connection
//! tracking.
//!
//! Sources: Documentation/networking/nf_conntrack-sysctl.rst; net/netfilter/nf_conntrack_standalone.c (names, who may
//! set what), nf_conntrack_proto_{tcp,udp,icmp,icmpv6,generic,gre,sctp,dccp}.c (the kernel's own values), and
//! net/ipv6/netfilter/nf_conntrack_reasm.c (fragments). Where the document and the code disagree (fragments, SCTP), the
//! code is right.

/// What every switch's name begins with.
pub const PREFIX: &str = "nf_conntrack_";

/// The folder they are in, below `/proc/sys`.
pub const FOLDER: &str = "net/netfilter";

/// The longest timeout the kernel takes at any of its clock rates, in seconds: `INT_MAX` ticks at 1000 Hz
/// (kernel/sysctl.c, `proc_dointvec_jiffies`).
pub const LONGEST: u64 = 2_147_483;

/// One switch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Switch {
    /// Its name, without [`PREFIX`].
    pub name: &'static str,
    /// What its number counts.
    pub unit: Unit,
    /// What it is for, in one sentence.
    pub what: &'static str,
    /// What the kernel sets it to by itself.
    pub default: &'static str,
    /// Who may set it.
    pub scope: Scope,
}

/// What a switch's number counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    /// Seconds until a state ends that sees no packet.
    Seconds,
    /// Tracked flows.
    Flows,
    /// Buckets of the hash table.
    Buckets,
    /// Expected flows (a helper saw them announced).
    Expectations,
    /// Bytes.
    Bytes,
    /// Packets.
    Packets,
    /// Off (0) or on.
    Bool,
    /// One of some numbers, each with its meaning.
    Choice,
}

impl Unit {
    /// As it stands after a number; empty where that is none.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Seconds => "s",
            Self::Flows => "flows",
            Self::Buckets => "buckets",
            Self::Expectations => "expectations",
            Self::Bytes => "bytes",
            Self::Packets => "packets",
            Self::Bool | Self::Choice => "",
        }
    }
}

/// Who may set a switch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// Each network namespace its own.
    Namespace,
    /// The initial network namespace, for all.
    Initial,
    /// Nobody.
    ReadOnly,
}

impl Switch {
    /// Its whole name.
    pub fn full(&self) -> String {
        format!("{PREFIX}{}", self.name)
    }

    /// How the config calls a timeout: without `timeout`, so `tcp_established`, `udp`, `udp_stream`. `None` for what is
    /// no timeout.
    pub fn short(&self) -> Option<String> {
        (self.unit == Unit::Seconds).then(|| self.name.replacen("_timeout", "", 1))
    }
}

/// The switch of that whole name, `nf_conntrack_udp_timeout`.
pub fn switch(full: &str) -> Option<&'static Switch> {
    let name = full.strip_prefix(PREFIX)?;
    ALL.iter().find(|switch| switch.name == name)
}

/// The timeout that the config calls so, `udp_stream`.
pub fn timeout(short: &str) -> Option<&'static Switch> {
    ALL.iter().find(|switch| switch.short().is_some_and(|name| name == short))
}

const fn time(name: &'static str, default: &'static str, what: &'static str) -> Switch {
    Switch { name, unit: Unit::Seconds, what, default, scope: Scope::Namespace }
}

const fn flag(name: &'static str, default: &'static str, what: &'static str) -> Switch {
    Switch { name, unit: Unit::Bool, what, default, scope: Scope::Namespace }
}

const fn other(name: &'static str, unit: Unit, scope: Scope, default: &'static str, what: &'static str) -> Switch {
    Switch { name, unit, what, default, scope }
}

/// All, by name.
pub const ALL: &[Switch] = &[
    flag("acct", "0", "Counts the bytes and packets of each flow."),
    other(
        "buckets",
        Unit::Buckets,
        Scope::Initial,
        "memory / 16 KiB, 1024 to 262144",
        "How many chains the hash table has; each flow is in two of them, and long chains make each packet slower.",
    ),
    flag("checksum", "1", "Packets with a wrong checksum are invalid, and not tracked."),
    other("count", Unit::Flows, Scope::ReadOnly, "", "How many flows are tracked now."),
    flag("dccp_loose", "1", "Takes up DCCP connections whose beginning was not seen (up to Linux 6.15)."),
    time("dccp_timeout_closereq", "64", "DCCP: the server asked the client to close."),
    time("dccp_timeout_closing", "64", "DCCP: one side has closed."),
    time("dccp_timeout_open", "43200", "DCCP: open."),
    time("dccp_timeout_partopen", "480", "DCCP: the client has its answer and has not heard more."),
    time("dccp_timeout_request", "240", "DCCP: asked for, not answered."),
    time("dccp_timeout_respond", "480", "DCCP: answered, not acknowledged."),
    time("dccp_timeout_timewait", "240", "DCCP: both sides have closed."),
    other(
        "events",
        Unit::Choice,
        Scope::Namespace,
        "2 (1 before Linux 5.19)",
        "Tells listeners of flows that begin and end: 0 never, 1 always, 2 while somebody listens.",
    ),
    other("expect_max", Unit::Expectations, Scope::Initial, "buckets / 256", "How many announced flows (FTP, SIP) are waited for at once."),
    other("frag6_high_thresh", Unit::Bytes, Scope::Namespace, "4194304", "Memory for IPv6 fragments that wait for the rest."),
    other("frag6_low_thresh", Unit::Bytes, Scope::Namespace, "3145728", "Down to here fragments are dropped when that memory is full."),
    time("frag6_timeout", "60", "How long IPv6 fragments wait for the rest."),
    time("generic_timeout", "600", "Protocols that are not known better (ESP, OSPF, 6in4): how long without a packet."),
    time("gre_timeout", "30", "GRE: packets in one direction only."),
    time("gre_timeout_stream", "180", "GRE: packets in both directions."),
    flag("helper", "0", "Helpers (FTP, SIP) are put on flows by port alone, which forged packets abuse (up to Linux 5.19)."),
    time("icmp_timeout", "30", "ICMP: how long an answer is waited for."),
    time("icmpv6_timeout", "30", "ICMPv6: how long an answer is waited for."),
    other(
        "log_invalid",
        Unit::Choice,
        Scope::Namespace,
        "0",
        "Logs packets that fit no flow: of one protocol by its number, 255 of all, 0 none.",
    ),
    other(
        "max",
        Unit::Flows,
        Scope::Initial,
        "buckets",
        "How many flows there can be; when there are as many, packets that would begin one more are dropped.",
    ),
    time("sctp_timeout_closed", "10", "SCTP: closed."),
    time("sctp_timeout_cookie_echoed", "3", "SCTP: the cookie came back, not acknowledged."),
    time("sctp_timeout_cookie_wait", "3", "SCTP: asked for, not answered."),
    time("sctp_timeout_established", "210 (432000 before Linux 6.2)", "SCTP: open."),
    time("sctp_timeout_heartbeat_acked", "210", "SCTP: a further path, answered (up to Linux 6.1)."),
    time("sctp_timeout_heartbeat_sent", "30", "SCTP: a further path, asked and not answered."),
    time("sctp_timeout_shutdown_ack_sent", "3", "SCTP: the end was acknowledged, the last word is missing."),
    time("sctp_timeout_shutdown_recd", "3 (0 before Linux 6.2)", "SCTP: the server has closed."),
    time("sctp_timeout_shutdown_sent", "3 (0 before Linux 6.2)", "SCTP: the client has closed."),
    flag("tcp_be_liberal", "0", "Packets outside of the window are not invalid, resets excepted."),
    flag("tcp_ignore_invalid_rst", "0", "Resets outside of the window are not invalid (since Linux 5.14)."),
    flag("tcp_loose", "1", "Takes up TCP connections whose beginning was not seen, as after a reboot or a changed route."),
    other(
        "tcp_max_retrans",
        Unit::Packets,
        Scope::Namespace,
        "3",
        "So many packets sent again without an answer, and tcp_timeout_max_retrans holds for the connection.",
    ),
    time("tcp_timeout_close", "10", "TCP: reset."),
    time("tcp_timeout_close_wait", "60", "TCP: one side has closed, and that is acknowledged."),
    time("tcp_timeout_established", "432000", "TCP: open, and nothing is sent."),
    time("tcp_timeout_fin_wait", "120", "TCP: one side has closed."),
    time("tcp_timeout_last_ack", "30", "TCP: both sides have closed, the last acknowledgement is missing."),
    time("tcp_timeout_max_retrans", "300", "TCP: packets are sent again and again, and nobody answers."),
    time("tcp_timeout_syn_recv", "60", "TCP: asked for and answered, not acknowledged."),
    time("tcp_timeout_syn_sent", "120", "TCP: asked for, not answered."),
    time("tcp_timeout_time_wait", "120", "TCP: over; late packets may still come."),
    time("tcp_timeout_unacknowledged", "300", "TCP: open, and what was sent is not acknowledged."),
    flag("timestamp", "0", "Keeps when each flow began and ended."),
    time("udp_timeout", "30", "UDP: packets in one direction only."),
    time("udp_timeout_stream", "120", "UDP: packets in both directions, for a while."),
];
