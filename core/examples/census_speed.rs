//! Nanoseconds a flow on one core: `cargo run --release -p palisade-core --example census_speed`.
#![expect(clippy::disallowed_methods, reason = "a benchmark reads the clock; the crate itself never does")]
#![expect(clippy::print_stdout, reason = "the numbers are what it is for")]

use std::net::{Ipv4Addr, Ipv6Addr};
use std::time::{Duration, Instant};

use palisade_core::flood::census::Fold;
use palisade_core::flood::flow::{Flow, TCP, TcpState};
use palisade_core::net::Addr;
use palisade_core::time::Span;

/// Flows a fold is fed in one go.
const FLOWS: u32 = 1_000_000;

/// Spreads numbers without a pattern (the finalizer of MurmurHash3).
const fn mixed(n: u32) -> u32 {
    let n = (n ^ (n >> 16)).wrapping_mul(0x85eb_ca6b);
    let n = (n ^ (n >> 13)).wrapping_mul(0xc2b2_ae35);
    n ^ (n >> 16)
}

fn four(n: u32) -> Addr {
    Ipv4Addr::from_bits(0x0a00_0000 | n).into()
}

/// 32 hosts in each /64 of 2001:db8::/32.
fn six(n: u32) -> Addr {
    Ipv6Addr::from_bits(0x2001_0db8 << 96 | u128::from(n >> 5) << 64 | u128::from(n & 31)).into()
}

/// The `n`th flow: of one of `sources`, to one of `goals`.
fn flow(n: u32, sources: u32, goals: u32, addr: impl Fn(u32) -> Addr) -> Flow {
    let (from, to) = (mixed(n) % sources, mixed(n ^ 0x5555_5555) % goals);
    let port = if to.is_multiple_of(4) { 80 } else { 443 };
    Flow {
        source: addr(from),
        destination: addr(to | 0x0080_0000),
        protocol: TCP,
        source_port: 50_000,
        port,
        tcp: Some(TcpState::Established),
        replied: !n.is_multiple_of(8),
        assured: !n.is_multiple_of(4),
        source_nat: false,
        destination_nat: false,
        left: Span::secs(60),
    }
}

/// How long this thread has run on a processor, which a busy machine does not lengthen much; where that cannot be told, the time
/// since `began` (proc(5), /proc/thread-self/schedstat: the first number, in nanoseconds).
fn ran(began: Instant) -> f64 {
    let told = std::fs::read_to_string("/proc/thread-self/schedstat").ok();
    let ran = told.and_then(|text| text.split_whitespace().next()?.parse().ok()).map(Duration::from_nanos);
    ran.unwrap_or_else(|| began.elapsed()).as_secs_f64()
}

fn run(name: &str, flows: &[Flow]) {
    let began = Instant::now();
    let (mut best, mut last) = ((f64::MAX, f64::MAX), None);
    for _ in 0..5 {
        let started = ran(began);
        let mut fold = Fold::new(65_536);
        flows.iter().for_each(|flow| fold.add(flow));
        let folded = ran(began) - started;
        last = Some(fold.finish(1024, None));
        best = (best.0.min(folded), best.1.min(ran(began) - started - folded));
    }
    #[expect(clippy::cast_precision_loss, reason = "a benchmark's rate")]
    let each = best.0 / flows.len() as f64 * 1e9;
    let census = last.unwrap_or_default();
    println!("{name:<52} {each:>6.1} ns a flow, {:>5.1} ms to finish  {} sources, error {}", best.1 * 1e3, census.sources, census.error);
}

fn main() {
    let all = |sources, goals, addr: fn(u32) -> Addr| (0..FLOWS).map(|n| flow(n, sources, goals, addr)).collect::<Vec<_>>();
    run("IPv4, 250 sources, 1,000 endpoints", &all(250, 1000, four));
    run("IPv4, 60,000 sources, 1,000 endpoints", &all(60_000, 1000, four));
    run("IPv4, 60,000 sources, 60,000 endpoints", &all(60_000, 60_000, four));
    run("IPv4, 60,000 sources, 60,000 endpoints, 65,536 flows", &all(60_000, 60_000, four)[..65_536]);
    run("IPv4, a million sources, one endpoint", &all(u32::MAX >> 9, 1, four));
    run("IPv6, 60,000 sources in 1,875 /64s, 60,000 endpoints", &all(60_000, 60_000, six));
    run("IPv6, a million sources and endpoints", &all(u32::MAX >> 9, u32::MAX >> 9, six));
}
