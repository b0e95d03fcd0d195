//! What `route check` found about each uplink, and what to do about it.
//!
//! [`questions`] are put to the kernel, the answers and what else was measured are [`Facts`], and [`check`] says what they
//! mean. Every failure comes with something that can be typed.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::lookup::{Answer, Question};
use super::shadow::Shadow;
use super::spec::{Spec, Uplink};
use super::wanted::way::Way;
use super::wanted::{Chosen, Wanted, connection_mark, probe_mark};
use super::world::World;
use crate::net::{Addr, Family};
use crate::time::Span;

mod rp;
mod sockets;
mod verdicts;

#[cfg(test)]
mod tests;

pub use rp::{Paths, effective_rp_filter, rp_verdict};
pub use sockets::Listener;

/// Whether something is as it should be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Verdict {
    /// It is.
    Ok,
    /// It was not looked at, and why stands in the detail.
    Skipped,
    /// It may do harm.
    Warn,
    /// It is not.
    Fail,
}

/// One thing that was looked at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// Which uplink; none: the whole host.
    pub uplink: Option<Arc<str>>,
    /// Of which family, if of one.
    pub family: Option<Family>,
    /// What was looked at: `link`, `source`, `default route`, ...
    pub what: &'static str,
    /// Whether it is as it should be.
    pub ok: Verdict,
    /// What was found.
    pub detail: String,
    /// What to type; none only where nothing failed.
    pub fix: Option<String>,
}

/// How a packet that the kernel is asked about is bound.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Bound {
    /// To the uplink's source.
    Source,
    /// To its interface.
    Interface,
    /// By its probes' mark.
    ProbeMark,
    /// By its connections' mark.
    ConnectionMark,
    /// Not at all.
    Not,
}

/// What is asked of the kernel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Asked {
    /// About which uplink; of [`Bound::Not`] none.
    pub uplink: Option<Arc<str>>,
    /// Of which family.
    pub family: Family,
    /// How the packet is bound.
    pub bound: Bound,
    /// The question.
    pub question: Question,
}

/// What became of a probe from an uplink's own source.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Probe {
    /// Somebody answered, after so long.
    Answered(Addr, Span),
    /// None of these did.
    Silent(Vec<Addr>),
    /// It could not be sent.
    NotSent(String),
}

/// The reverse path filter's switches (`net.ipv4.conf.*.rp_filter`), and what goes with them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RpFilters {
    /// Of `all`.
    pub all: u8,
    /// Of each interface.
    pub interfaces: BTreeMap<String, u8>,
    /// `net.ipv4.conf.all.src_valid_mark`
    pub src_valid_mark: bool,
    /// `net.ipv4.ip_forward`
    pub forwards: bool,
}

/// What was measured.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Facts {
    /// The kernel's answers.
    pub answers: Vec<(Asked, Answer)>,
    /// By uplink and family.
    pub probes: BTreeMap<(Arc<str>, Family), Probe>,
    /// Packets that left elsewhere, by uplink.
    pub leaks: BTreeMap<Arc<str>, u64>,
    /// Rules of others before ours.
    pub shadows: Vec<Shadow>,
    /// What the reverse path filter does; none where there is none.
    pub rp: Option<RpFilters>,
    /// UDP sockets bound to no address.
    pub listeners: Vec<Listener>,
}

/// What the facts are compared with.
#[derive(Clone, Copy, Debug)]
pub struct Subject<'a> {
    /// What is declared.
    pub spec: &'a Spec,
    /// What is found, all tables of ours and main in it.
    pub world: &'a World,
    /// What should stand.
    pub wanted: &'a Wanted,
    /// What the policies use.
    pub chosen: &'a Chosen,
}

/// What to ask the kernel. `elsewhere` is an address somewhere out there, for uplinks that have no target of the family.
pub fn questions(spec: &Spec, world: &World, elsewhere: &dyn Fn(Family) -> Addr) -> Vec<Asked> {
    let mut all = Vec::new();
    for uplink in &spec.uplinks {
        let way = Way::of(uplink, world);
        for family in way.families() {
            let to = Question::to(target(uplink, family).unwrap_or_else(|| elsewhere(family)));
            let mut ask = |bound, question| all.push(Asked { uplink: Some(Arc::clone(&uplink.name)), family, bound, question });
            let source = way.prefsrc(family);
            if source.is_some() {
                ask(Bound::Source, Question { from: source, ..to.clone() });
            }
            if let Some(link) = world.link(&uplink.interface).filter(|_| uplink.table.is_some()) {
                ask(Bound::Interface, Question { oif: Some(link.index), ..to.clone() });
            }
            for (bound, mark) in
                [(Bound::ProbeMark, probe_mark(spec, &uplink.name)), (Bound::ConnectionMark, connection_mark(spec, &uplink.name))]
            {
                if mark.is_some() {
                    ask(bound, Question { mark, ..to.clone() });
                }
            }
        }
    }
    let families = [Family::V4, Family::V6].into_iter().filter(|family| world.has(*family));
    all.extend(families.map(|family| Asked { uplink: None, family, bound: Bound::Not, question: Question::to(elsewhere(family)) }));
    all
}

fn target(uplink: &Uplink, family: Family) -> Option<Addr> {
    uplink.track.as_ref()?.targets.iter().copied().find(|target| target.family() == family)
}

/// What the facts mean. Of one uplink, or of all and the host.
pub fn check(subject: &Subject<'_>, facts: &Facts, only: Option<&str>) -> Vec<Finding> {
    let mut findings = Vec::new();
    for uplink in subject.spec.uplinks.iter().filter(|uplink| only.is_none_or(|name| name == &*uplink.name)) {
        let mut verdicts = verdicts::Verdicts::of(subject, uplink, facts);
        verdicts.all();
        findings.append(&mut verdicts.findings);
    }
    if only.is_none() {
        findings.extend(verdicts::unbound(subject, facts));
        findings.extend(sockets::verdicts(subject, &facts.listeners));
    }
    findings
}
