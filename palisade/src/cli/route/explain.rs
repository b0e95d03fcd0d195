//! `palisade route explain`.

use anyhow::{Context, Result};
use clap::Args;
use palisade_core::net::Addr;
use palisade_core::route::explain::{End, Found, Refusal, Trace, TraceStep, explain};
use palisade_core::route::lookup::{Answer, Question};
use palisade_core::route::rule::IPPROTOS;
use palisade_core::route::{Mark, Names, Protocol, Route, World};
use palisade_os::routes::{self, Read};
use palisade_os::{errors, privileges};
use serde_json::json;

use crate::cli::ask::usage;
use crate::cli::print::{self, Painted};
use crate::cli::{Exit, Global};

/// Trace a packet through all rules.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  palisade route explain 2a02::1 2001:db8::1            what this host answers with that source\n  palisade route explain any 2001:db8::1                a socket that is not bound\n  palisade route explain 192.0.2.10 198.51.100.7 --iif lan2 --proto tcp --dport 25\n\nThe rules are followed here, one by one; then the kernel is asked, and it is said if it disagrees."
)]
pub(super) struct Explain {
    /// The packet's source, or `any` for a socket that has chosen none yet
    #[arg(value_name = "SRC")]
    from: String,
    /// Its destination
    #[arg(value_name = "DST")]
    to: Addr,
    /// The interface it came in by (without: this host sends it)
    #[arg(long, value_name = "NAME")]
    iif: Option<String>,
    /// The interface its socket is bound to
    #[arg(long, value_name = "NAME")]
    oif: Option<String>,
    /// Its mark, like 0x1000000
    #[arg(long, value_name = "MARK")]
    mark: Option<String>,
    /// Whose socket: a user's name or number
    #[arg(long, value_name = "USER")]
    uid: Option<String>,
    /// Its protocol: tcp, udp, icmp, ..., or a number
    #[arg(long, value_name = "NAME")]
    proto: Option<String>,
    /// Its source port
    #[arg(long, value_name = "PORT")]
    sport: Option<u16>,
    /// Its destination port
    #[arg(long, value_name = "PORT")]
    dport: Option<u16>,
}

impl Explain {
    /// Does it.
    pub(super) fn run(self, global: &Global) -> Result<Exit> {
        let mut router = routes::open()?;
        let world = router.read(&Read::All).context("reading rules and routes")?;
        let question = self.question(&world)?;
        let trace = explain(&world, &question);
        let names = super::declared(global).map(|(spec, _)| spec.names()).unwrap_or_default();
        let kernel = router.lookup(&question);
        let agrees = kernel.as_ref().ok().map(|answer| same(&trace.end, answer));
        if global.json {
            print::json(&as_json(&trace, &world, &names, agrees))?;
        } else {
            show(&trace, &world, &names)?;
            match (&kernel, agrees) {
                (Err(error), _) => print::say(format_args!("palisade: the kernel could not be asked: {}", errors::chain(error))),
                (Ok(answer), Some(false)) => {
                    print::line(format_args!("{} the kernel says otherwise: {}", Painted(31, "!"), said(answer, &world, &names)))?
                }
                _ => print::line("the kernel says the same")?,
            }
        }
        Ok(if matches!(trace.end, End::Route(_)) { Exit::Done } else { Exit::No })
    }

    fn question(&self, world: &World) -> Result<Question> {
        let from = match self.from.as_str() {
            "any" | "-" => None,
            text => Some(text.parse::<Addr>().map_err(|error| usage(format_args!("SRC `{text}`: {error}; `any` for none")))?),
        };
        if from.is_some_and(|from| from.family() != self.to.family()) {
            return Err(usage("SRC and DST are of different families"));
        }
        let link = |name: &Option<String>| match name {
            None => Ok(None),
            Some(name) => {
                world.link(name).map(|link| Some(link.index)).ok_or_else(|| usage(format_args!("there is no interface `{name}`")))
            }
        };
        Ok(Question {
            to: self.to,
            from,
            iif: link(&self.iif)?,
            oif: link(&self.oif)?,
            mark: self.mark.as_deref().map(mark).transpose()?,
            uid: self.uid.as_deref().map(user).transpose()?,
            ipproto: self.proto.as_deref().map(protocol).transpose()?,
            sport: self.sport,
            dport: self.dport,
        })
    }
}

fn mark(text: &str) -> Result<Mark> {
    let number = match text.strip_prefix("0x") {
        Some(hex) => u32::from_str_radix(hex, 16),
        None => text.parse(),
    };
    number.map(Mark).map_err(|_| usage(format_args!("`{text}` is no mark: a number like 7 or 0x1000000")))
}

fn user(text: &str) -> Result<u32> {
    let known = text.parse().ok().or_else(|| privileges::user(text).ok().flatten().map(|account| account.uid));
    known.ok_or_else(|| usage(format_args!("`{text}` is no user of this host")))
}

fn protocol(text: &str) -> Result<u8> {
    let named = IPPROTOS.iter().find(|(name, _)| *name == text).map(|(_, number)| *number);
    named.or_else(|| text.parse().ok()).ok_or_else(|| usage(format_args!("`{text}` is no protocol: a name like tcp, or a number")))
}

/// Whether the kernel's answer is where the trace ended.
fn same(end: &End, answer: &Answer) -> bool {
    match (end, answer) {
        (End::Route(ours), Answer::Route(theirs)) => ours.table == theirs.table && ours.to == theirs.to && ours.kind == theirs.kind,
        (End::Refused { .. } | End::NoWay, Answer::NoWay(_)) => true,
        // Asked for the route itself, the kernel may tell one that refuses instead of the error.
        (End::Refused { route: Some(ours), .. }, Answer::Route(theirs)) => ours.kind == theirs.kind && ours.table == theirs.table,
        _ => false,
    }
}

fn text(route: &Route, world: &World, names: &Names) -> String {
    route.text(names, |index| world.name_of(index))
}

fn said(answer: &Answer, world: &World, names: &Names) -> String {
    match answer {
        Answer::Route(route) => text(route, world, names),
        Answer::NoWay(errno) => std::io::Error::from_raw_os_error(*errno).to_string(),
    }
}

fn ended(end: &End, world: &World, names: &Names) -> String {
    let how = |how: &Refusal| match how {
        Refusal::Unreachable => "refused as unreachable",
        Refusal::Prohibit => "forbidden",
        Refusal::Blackhole => "dropped without a word",
        Refusal::Unknown => "refused in a way that is not understood",
    };
    match end {
        End::Route(route) => match route.hops.first().and_then(|hop| world.name_of(hop.link)) {
            _ if route.table == palisade_core::route::TableId::LOCAL => format!("stays here: {}", text(route, world, names)),
            Some(link) if route.hops.len() == 1 => format!("leaves by {link}: {}", text(route, world, names)),
            _ => format!("leaves by: {}", text(route, world, names)),
        },
        End::Refused { how: why, route: Some(route) } => format!("{} by: {}", how(why), text(route, world, names)),
        End::Refused { how: why, route: None } => how(why).to_owned(),
        End::NoWay => "no way: no rule is left".to_owned(),
    }
}

fn show(trace: &Trace, world: &World, names: &Names) -> Result<()> {
    for step in &trace.steps {
        let (sign, color) = if step.matched { ('>', 1) } else { (' ', 2) };
        print::line(format_args!("{sign} {}", Painted(color, format_args!("{:<58} {}", rule(step, names), why(step, world, names)))))?;
    }
    print::line(ended(&trace.end, world, names))
}

fn rule(step: &TraceStep, names: &Names) -> String {
    let whose = if step.rule.protocol == Protocol::OURS { "" } else { " (not ours)" };
    let usual = matches!(step.rule.priority.0, 0 | 32766 | 32767);
    format!("{}{}", step.rule.text(names), if usual { "" } else { whose })
}

fn why(step: &TraceStep, world: &World, names: &Names) -> String {
    match &step.result {
        Found::Route(route) | Found::Suppressed(route) => format!("{}: {}", step.why, text(route, world, names)),
        Found::Nothing | Found::Unasked => step.why.clone(),
    }
}

fn as_json(trace: &Trace, world: &World, names: &Names, agrees: Option<bool>) -> serde_json::Value {
    let step = |step: &TraceStep| {
        let (word, route) = match &step.result {
            Found::Unasked => ("unasked", None),
            Found::Nothing => ("nothing", None),
            Found::Suppressed(route) => ("suppressed", Some(route)),
            Found::Route(route) => ("route", Some(route)),
        };
        json!({
            "rule": step.rule.text(names),
            "priority": step.rule.priority.0,
            "protocol": step.rule.protocol.to_string(),
            "matched": step.matched,
            "why": step.why,
            "found": word,
            "route": route.map(|route| text(route, world, names)),
        })
    };
    let (end, route) = match &trace.end {
        End::Route(route) => ("route", Some(route)),
        End::Refused { route, .. } => ("refused", route.as_ref()),
        End::NoWay => ("no-way", None),
    };
    json!({
        "v": 1,
        "steps": trace.steps.iter().map(step).collect::<Vec<_>>(),
        "end": end,
        "route": route.map(|route| text(route, world, names)),
        "device": route.and_then(|route| route.hops.first()).and_then(|hop| world.name_of(hop.link)),
        "kernel_agrees": agrees,
    })
}
