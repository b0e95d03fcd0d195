//! Every firewall of Linux: loading it beside its own tool, and what it costs each packet.

use std::fs::{self, File};
use std::io::{BufWriter, Write};
use std::net::{SocketAddr, UdpSocket};
use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use crate::guards::Place;
use crate::lab::{Lab, Netns, VICTIM, scattered};
use crate::process::measure;
use crate::report::{Line, Table};
use crate::stats::{Samples, grouped, mib, ratio, time};
use crate::{Bench, bans};

/// A firewall and the tool that loads it without us.
struct Wall {
    name: &'static str,
    config: &'static str,
    /// The native tool, and how its file is written.
    tool: &'static [&'static str],
    file: fn(&Path, u32) -> Result<()>,
    /// A rule for each ban: a million of them nobody has.
    linear: bool,
}

const WALLS: [Wall; 5] = [
    Wall { name: "nftables", config: "[ban]\nbackend = \"nftables\"\n", tool: &["nft", "-f"], file: bans::nft, linear: false },
    Wall {
        name: "ipset, iptables-nft",
        config: "[ban]\nbackend = \"ipset\"\n[backend.ipset]\nvariant = \"nft\"\n",
        tool: &["ipset", "restore", "-file"],
        file: bans::ipset,
        linear: false,
    },
    Wall {
        name: "ipset, iptables-legacy",
        config: "[ban]\nbackend = \"ipset\"\n[backend.ipset]\nvariant = \"legacy\"\n",
        tool: &["ipset", "restore", "-file"],
        file: bans::ipset,
        linear: false,
    },
    Wall {
        name: "iptables-nft",
        config: "[ban]\nbackend = \"iptables\"\n[backend.iptables]\nvariant = \"nft\"\n",
        tool: &["iptables-nft-restore"],
        file: rules,
        linear: true,
    },
    Wall {
        name: "iptables-legacy",
        config: "[ban]\nbackend = \"iptables\"\n[backend.iptables]\nvariant = \"legacy\"\n",
        tool: &["iptables-legacy-restore"],
        file: rules,
        linear: true,
    },
];

const SIZES: [u32; 2] = [20_000, 1_000_000];

/// A file for `iptables-restore`: a chain with a rule for each address, jumped to first.
fn rules(file: &Path, count: u32) -> Result<()> {
    let mut out = BufWriter::new(File::create(file).with_context(|| file.display().to_string())?);
    out.write_all(b"*filter\n:BENCH - [0:0]\n-I INPUT -j BENCH\n-I FORWARD -j BENCH\n")?;
    for n in 0..count {
        writeln!(out, "-A BENCH -s {}/32 -j DROP", scattered(n))?;
    }
    out.write_all(b"COMMIT\n")?;
    Ok(out.flush()?)
}

/// All bans into an empty kernel, on each.
pub(crate) fn loads(bench: &Bench) -> Result<Table> {
    let mut rows = Vec::new();
    for count in SIZES {
        for wall in WALLS.iter().filter(|wall| !wall.linear || count <= SIZES[0]) {
            let [ours, theirs] = load(bench, wall, count)?;
            for (what, (samples, peak)) in
                [(format!("palisade, {}", wall.name), &ours), (format!("`{} FILE`", wall.tool.join(" ")), &theirs)]
            {
                let mut row = vec![grouped(count.into()), what];
                row.extend([samples.at(0.0), samples.median(), samples.max()].map(time));
                row.extend([ratio(samples.at(0.0), ours.0.at(0.0)), mib(*peak)]);
                rows.push(row);
            }
        }
    }
    Ok(Table { id: "walls", head: &["bans", "", "fastest", "median", "slowest", "fastest to ours", "peak memory"], rows, aims: Vec::new() })
}

fn load(bench: &Bench, wall: &Wall, count: u32) -> Result<[(Samples, u64); 2]> {
    let dir = bench.scratch.join(format!("walls-{count}"));
    let place = Place::new(&bench.palisade, &dir, wall.config)?;
    let (file, told) = (dir.join("native"), dir.join("told"));
    bans::store(&place.state(), count)?;
    (wall.file)(&file, count)?;
    let native: Vec<String> = wall.tool.iter().map(|word| (*word).to_owned()).chain([file.display().to_string()]).collect();
    let commands = [place.args(&["restore"]), native];
    let mut outcomes = [(Samples::default(), 0), (Samples::default(), 0)];
    for _ in 0..bench.rounds {
        for (n, (command, outcome)) in commands.iter().zip(&mut outcomes).enumerate() {
            let args: Vec<&str> = command.iter().map(String::as_str).collect();
            let ns = Netns::fresh()?;
            let output = File::create(&told)?;
            let cost = ns.within(|| measure(&args, Stdio::from(output)))?;
            outcome.0.push(cost.wall);
            outcome.1 = outcome.1.max(cost.peak_kib);
            bench.say(&format!(
                "{} {}: {}",
                grouped(count.into()),
                args.first().copied().unwrap_or_default(),
                time(cost.wall.as_secs_f64())
            ));
            if n == 0 {
                let said = fs::read_to_string(&told)?;
                ensure!(said.starts_with(&format!("{count} bans stand")), "{}: {said}", wall.name);
            }
        }
    }
    fs::remove_dir_all(&dir)?;
    Ok(outcomes)
}

/// How many bans stand while packets are timed.
const STANDING: u32 = 10_000;
/// How many packets are timed at once: the slowest way takes some 60 µs for each.
const PACKETS: u32 = 20_000;
/// How many times they are.
const TIMES: usize = 7;
/// Where they go: the discard port.
const PORT: u16 = 9;

/// What a packet of somebody who is not banned takes longer for the bans that stand.
pub(crate) fn packets(bench: &Bench) -> Result<Table> {
    let mut rows = Vec::new();
    let mut aims = Vec::new();
    let bare = cost(bench, None)?;
    rows.push(vec!["nothing".to_owned(), nanos(bare), "-".to_owned(), "-".to_owned()]);
    let mut first = None;
    for wall in &WALLS {
        let added = (cost(bench, Some(wall))? - bare).max(0.0);
        let ours = *first.get_or_insert(added);
        rows.push(vec![wall.name.to_owned(), nanos(bare + added), nanos(added), ratio(added, ours)]);
        if wall.linear {
            aims.push(Line::aim(&format!("{}: doctor warns of it, with a number of this size", wall.name), &nanos(added), added > 1e-6));
        }
    }
    Ok(Table { id: "packets", head: &["10,000 bans in", "a packet", "for the bans", "to nftables"], rows, aims })
}

fn nanos(seconds: f64) -> String {
    format!("{:.0} ns", seconds * 1e9)
}

/// Seconds a packet takes from one namespace into another, the fastest of some thousands in a row.
fn cost(bench: &Bench, wall: Option<&Wall>) -> Result<f64> {
    let lab = Lab::build()?;
    if let Some(wall) = wall {
        let dir = bench.scratch.join("packets");
        let place = Place::new(&bench.palisade, &dir, wall.config)?;
        bans::store(&place.state(), STANDING)?;
        let told = dir.join("told");
        let command = place.args(&["restore"]);
        let args: Vec<&str> = command.iter().map(String::as_str).collect();
        let output = File::create(&told)?;
        lab.victim.within(|| measure(&args, Stdio::from(output)))?;
        fs::remove_dir_all(&dir)?;
    }
    let to = SocketAddr::from((VICTIM, PORT));
    let ears = lab.victim.within(|| Ok(UdpSocket::bind(to)?))?;
    let mouth = lab.attacker.within(|| Ok(UdpSocket::bind("0.0.0.0:0")?))?;
    mouth.connect(to)?;
    let mut fastest = Duration::MAX;
    for _ in 0..TIMES {
        let began = Instant::now();
        for _ in 0..PACKETS {
            mouth.send(b"bench")?;
        }
        fastest = fastest.min(began.elapsed());
        let mut buffer = [0; 16];
        ears.set_read_timeout(Some(Duration::from_millis(200)))?;
        ensure!(ears.recv(&mut buffer).is_ok(), "no packet arrives");
    }
    let each = fastest.as_secs_f64() / f64::from(PACKETS);
    bench.say(&format!("{}: {} a packet", wall.map_or("nothing", |wall| wall.name), nanos(each)));
    Ok(each)
}
