//! Names of hosts, from what DHCP servers keep of their leases.
//!
//! | written by | an entry |
//! |---|---|
//! | dnsmasq (OpenWrt's too) | `EPOCH MAC IPV4 HOST CLIENT-ID`, `EPOCH IAID IPV6 HOST DUID`; epoch 0: for ever; `*`: unknown; a line `duid ...` is the server's own |
//! | ISC dhcpd | `lease IPV4 { ... }`, `iaaddr IPV6 { ... }`, one statement a line; appended to, so that the last of an address holds |
//! | Kea | CSV whose first line names the columns; `&#x2c` stands for a comma; appended to; lifetime 0: given back; state 0: in use |
//!
//! Source: dnsmasq's `lease_update_file()` (src/lease.c), dhcpd.leases(5), Kea's `CSVLeaseFile4` and `CSVLeaseFile6`.
//! What is what shows in each line, so no file has to be told by its name.
//!
//! A host chooses its own name, and so does an enemy on the LAN: a name is shown with nothing but the letters, digits,
//! dots, dashes and underscores that host names have, and cut. An expired lease still names who had the address last.

use std::collections::BTreeMap;

use jiff::civil::DateTime;
use jiff::tz::TimeZone;

use crate::net::Addr;

/// Where the files usually are: dnsmasq, ISC dhcpd, Kea, OpenWrt.
pub const USUAL: [&str; 6] = [
    "/var/lib/misc/dnsmasq.leases",
    "/var/lib/dhcp/dhcpd.leases",
    "/var/lib/dhcp/dhcpd6.leases",
    "/var/lib/kea/kea-leases4.csv",
    "/var/lib/kea/kea-leases6.csv",
    "/tmp/dhcp.leases",
];

/// Most bytes of a name that are shown: a label of DNS has no more (RFC 1035).
pub const NAME: usize = 63;

/// Most bytes of a line that are looked at. A Kea row's last column is free text without a limit; what is of interest stands before it.
pub const LINE: usize = 4096;

/// Most columns of a CSV that are looked at; Kea has 18.
const COLUMNS: usize = 64;

/// What a lease says of an address.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Lease {
    /// What the host called itself, fit to be shown.
    pub host: Option<String>,
    /// Its link-layer address: `52:54:00:12:34:56`.
    pub mac: Option<String>,
    /// Until when, in seconds since 1970; the largest there is for ever, 0 where it is not known.
    pub until: u64,
}

/// Looks for the lease of one address, line by line, file after file.
#[derive(Debug)]
pub struct Search {
    addr: Addr,
    /// The best of the files before.
    best: Option<Lease>,
    /// The best of this one.
    here: Option<Lease>,
    block: Option<Block>,
    columns: BTreeMap<String, usize>,
}

/// A lease of dhcpd, not yet at its closing brace.
#[derive(Debug)]
struct Block {
    lease: Lease,
    /// Given by the server's own naming, where the client said none.
    second: Option<String>,
    active: bool,
    /// How many braces are open.
    depth: u32,
}

impl Search {
    /// Looks for this address.
    pub const fn new(addr: Addr) -> Self {
        Self { addr, best: None, here: None, block: None, columns: BTreeMap::new() }
    }

    /// One line, without or with its end. Whatever it is: what is not understood says nothing.
    pub fn line(&mut self, line: &[u8]) {
        let line = line[..line.len().min(LINE)].trim_ascii();
        if line.starts_with(b"address,") {
            self.columns = line.split(|b| *b == b',').take(COLUMNS).map(text).zip(0..).collect();
        } else if !self.columns.is_empty() {
            self.row(line);
        } else if self.block.is_some() {
            self.statement(line);
        } else if let Some(addr) = opens(line) {
            if addr == self.addr {
                self.block = Some(Block { lease: Lease::default(), second: None, active: true, depth: 1 });
            }
        } else {
            self.entry(line);
        }
    }

    /// The file is at its end. Of several files, the lease that lasts longest holds.
    pub fn end_of_file(&mut self) {
        self.block = None;
        self.columns.clear();
        if let Some(here) = self.here.take()
            && self.best.as_ref().is_none_or(|best| best.until < here.until)
        {
            self.best = Some(here);
        }
    }

    /// What was found.
    pub fn finish(mut self) -> Option<Lease> {
        self.end_of_file();
        self.best
    }

    /// A line of dnsmasq.
    fn entry(&mut self, line: &[u8]) {
        let mut fields = line.split(|b| *b == b' ').filter(|field| !field.is_empty());
        let Some(until) = fields.next().and_then(number) else { return };
        let (Some(mac), Some(addr), Some(host)) = (fields.next(), fields.next(), fields.next()) else { return };
        if address(addr) == Some(self.addr) {
            // The type of hardware stands before it, where that is not Ethernet.
            let mac = mac.iter().position(|b| *b == b'-').map_or(mac, |dash| &mac[dash + 1..]);
            let until = if until == 0 { u64::MAX } else { until };
            self.here = Some(Lease { host: name(host), mac: hardware(mac), until });
        }
    }

    /// A line within a lease of dhcpd.
    fn statement(&mut self, line: &[u8]) {
        let Some(block) = &mut self.block else { return };
        let words = text(line);
        let value = |key: &str| words.strip_prefix(key).map(|rest| rest.trim_end_matches(';').trim());
        if block.depth == 1 {
            if let Some(host) = value("client-hostname ") {
                block.lease.host = name(&unquote(host));
            } else if let Some(host) = value("set ddns-client-fqdn = ").or_else(|| value("set ddns-fwd-name = ")) {
                block.second = name(&unquote(host)).or(block.second.take());
            } else if let Some(mac) = value("hardware ").and_then(|rest| rest.split_once(' ')) {
                block.lease.mac = hardware(mac.1.trim().as_bytes());
            } else if let Some(state) = value("binding state ") {
                block.active = state == "active";
            } else if let Some(ends) = value("ends ") {
                block.lease.until = moment(ends);
            }
        }
        let mut quoted = false;
        for (i, byte) in line.iter().enumerate() {
            match byte {
                b'"' if !quoted || !escaped(&line[..i]) => quoted = !quoted,
                b'{' if !quoted => block.depth = block.depth.saturating_add(1),
                b'}' if !quoted => block.depth = block.depth.saturating_sub(1),
                _ => {}
            }
        }
        if block.depth == 0
            && let Some(mut block) = self.block.take()
        {
            block.lease.host = block.lease.host.or(block.second);
            // One given back is forgotten by the server, not by whoever asks who had it.
            if block.active || self.here.is_none() {
                self.here = Some(block.lease);
            }
        }
    }

    /// A row of Kea.
    fn row(&mut self, line: &[u8]) {
        let fields: Vec<&[u8]> = line.split(|b| *b == b',').take(COLUMNS).collect();
        let field = |column: &str| fields.get(*self.columns.get(column)?).copied();
        if field("address").and_then(address) != Some(self.addr) || field("valid_lifetime").and_then(number) == Some(0) {
            return;
        }
        if field("state").and_then(number).unwrap_or(0) == 0 {
            let host = field("hostname").and_then(|host| name(&commas(host)));
            let mac = field("hwaddr").and_then(hardware);
            self.here = Some(Lease { host, mac, until: field("expire").and_then(number).unwrap_or(0) });
        }
    }
}

/// Whose lease a line of dhcpd begins.
fn opens(line: &[u8]) -> Option<Addr> {
    let rest = line.strip_prefix(b"lease ").or_else(|| line.strip_prefix(b"iaaddr "))?;
    address(rest.strip_suffix(b"{")?.trim_ascii())
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn number(bytes: &[u8]) -> Option<u64> {
    std::str::from_utf8(bytes).ok()?.trim().parse().ok()
}

fn address(bytes: &[u8]) -> Option<Addr> {
    std::str::from_utf8(bytes).ok()?.trim().parse().ok()
}

/// A link-layer address of 6 to 20 bytes (Ethernet, InfiniBand) that is not all zero.
fn hardware(bytes: &[u8]) -> Option<String> {
    let bytes: Vec<u8> = bytes
        .split(|b| *b == b':')
        .take(21)
        .map(|pair| {
            let digits =
                std::str::from_utf8(pair).ok().filter(|t| (1..=2).contains(&t.len()) && t.bytes().all(|b| b.is_ascii_hexdigit()))?;
            u8::from_str_radix(digits, 16).ok()
        })
        .collect::<Option<_>>()?;
    ((6..=20).contains(&bytes.len())).then(|| mac(&bytes)).flatten()
}

/// A link-layer address as it is written: `52:54:00:12:34:56`. `None` for one without a bit set.
pub fn mac(bytes: &[u8]) -> Option<String> {
    let pairs: Vec<String> = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    bytes.iter().any(|byte| *byte != 0).then(|| pairs.join(":"))
}

/// A host's name, fit to be shown: see above.
pub fn name(bytes: &[u8]) -> Option<String> {
    let bytes = bytes.trim_ascii();
    let bytes = bytes.strip_suffix(b".").unwrap_or(bytes);
    if bytes.is_empty() || bytes == b"*" {
        return None;
    }
    let fit = |c: char| if c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_') { c } else { '?' };
    let mut shown: String = text(&bytes[..bytes.len().min(4 * NAME)]).chars().take(NAME).map(fit).collect();
    if bytes.len() > 4 * NAME || text(bytes).chars().count() > NAME {
        shown.push_str("...");
    }
    Some(shown)
}

/// The bytes of a string of dhcpd: in quotes, with `\"`, `\\` and `\ooo` in octal.
fn unquote(quoted: &str) -> Vec<u8> {
    let inner = quoted.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')).unwrap_or(quoted).as_bytes();
    let (mut out, mut i) = (Vec::with_capacity(inner.len()), 0);
    while let Some(byte) = inner.get(i) {
        let octal = inner.get(i + 1..i + 4).and_then(|d| u8::from_str_radix(std::str::from_utf8(d).ok()?, 8).ok());
        let (byte, len) = match (byte, octal, inner.get(i + 1)) {
            (b'\\', Some(byte), _) => (byte, 4),
            (b'\\', None, Some(byte)) => (*byte, 2),
            (byte, ..) => (*byte, 1),
        };
        out.push(byte);
        i += len;
    }
    out
}

/// Whether what follows is escaped: an odd number of backslashes stands before it.
fn escaped(before: &[u8]) -> bool {
    before.iter().rev().take_while(|byte| **byte == b'\\').count() % 2 == 1
}

/// The bytes of a field of Kea, in which `&#xHH` stands for one.
fn commas(field: &[u8]) -> Vec<u8> {
    let (mut out, mut i) = (Vec::with_capacity(field.len()), 0);
    while let Some(byte) = field.get(i) {
        let code = field[i..].strip_prefix(b"&#x").and_then(|rest| u8::from_str_radix(std::str::from_utf8(rest.get(..2)?).ok()?, 16).ok());
        out.push(code.unwrap_or(*byte));
        i += if code.is_some() { 5 } else { 1 };
    }
    out
}

/// When a lease of dhcpd ends: `4 2026/11/26 14:00:00` (day of the week, then UTC), `epoch 1795700000`, `never`. 0 for anything else.
fn moment(text: &str) -> u64 {
    if text == "never" {
        return u64::MAX;
    }
    // A comment may follow.
    let mut words = text.split([' ', ';']);
    let parsed = match (words.next(), words.next(), words.next()) {
        (Some("epoch"), Some(epoch), _) => epoch.parse().ok(),
        (Some(_), Some(date), Some(time)) => civil(date, time),
        _ => None,
    };
    parsed.unwrap_or(0)
}

fn civil(date: &str, time: &str) -> Option<u64> {
    let at = DateTime::strptime("%Y/%m/%d %H:%M:%S", format!("{date} {time}")).ok()?;
    u64::try_from(at.to_zoned(TimeZone::UTC).ok()?.timestamp().as_second()).ok()
}

#[cfg(test)]
mod tests;
