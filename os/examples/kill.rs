//! How long one search for an attacker's connections takes here: `cargo run --release --example kill`.

use std::time::Instant;

use palisade_core::ports::Ports;
use palisade_os::flows::linux::Linux;
use palisade_os::flows::{Flows, Target};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut flows = Linux::open()?;
    let target = [Target { prefix: "203.0.113.7".parse()?, ports: Ports::All }];
    for _ in 0..10 {
        let start = Instant::now();
        let killed = flows.kill(&target)?;
        eprintln!("{killed:?} in {:?}", start.elapsed());
    }
    Ok(())
}
