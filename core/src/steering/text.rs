//! Steps and what is pending, in the words of `ip`.

use crate::control::route::{PlanReply, StepText};
use crate::net::Family;
use crate::route::plan::{Plan, Step};
use crate::route::{Names, Wanted, World};

/// 4 or 6.
pub(super) const fn number(family: Family) -> u8 {
    match family {
        Family::V4 => 4,
        Family::V6 => 6,
    }
}

/// One step in words.
pub(super) fn step(step: &Step, names: &Names, world: &World) -> StepText {
    let link = |index| world.name_of(index);
    let (op, object, family, text) = match step {
        Step::AddRule(rule) => ("add", "rule", Some(rule.family), rule.text(names)),
        Step::DelRule(rule) => ("del", "rule", Some(rule.family), rule.text(names)),
        Step::AddRoute(route) => ("add", "route", Some(route.family()), route.text(names, link)),
        Step::DelRoute(route) => ("del", "route", Some(route.family()), route.text(names, link)),
        Step::Marks(Some(marks)) => ("set", "nft", None, format!("table inet {}: {} uplinks", crate::ours::NFT_ROUTE_TABLE, marks.uplinks.len())),
        Step::Marks(None) => ("del", "nft", None, format!("table inet {}", crate::ours::NFT_ROUTE_TABLE)),
        Step::Sysctl(switch) => ("set", "sysctl", None, format!("{} = {}", switch.path.replace('/', "."), switch.value)),
    };
    StepText { op: op.to_owned(), object: object.to_owned(), family: family.map(number), text, pending: None }
}

/// What a plan would do, with what is pending where the routes are.
pub(super) fn reply(plan: &Plan, wanted: &Wanted, world: &World, names: &Names) -> PlanReply {
    let mut steps: Vec<StepText> = plan.steps.iter().map(|one| step(one, names, world)).collect();
    let routes = steps.iter().take_while(|step| step.object == "route" && step.op == "add").count();
    let pending = wanted.pending.iter().filter_map(|pending| {
        let text = pending.route.clone()?;
        let family = pending.family.map(number);
        Some(StepText { op: "add".to_owned(), object: "route".to_owned(), family, text, pending: Some(pending.why.clone()) })
    });
    let pending: Vec<StepText> = pending.collect();
    let count = pending.len();
    steps.splice(routes..routes, pending);
    PlanReply { steps, pending: count, unchanged: plan.unchanged, ..PlanReply::default() }
}
