//! Steps and what is pending, in the words of `ip`.

use crate::control::route::{PlanReply, StepText};
use crate::net::Family;
use crate::route::plan::{Conflict, Plan, Step};
use crate::route::policy::Switched;
use crate::route::shadow::Shadow;
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
        Step::Marks(Some(marks)) => {
            ("set", "nft", None, format!("table inet {}: {} uplinks", crate::ours::NFT_ROUTE_TABLE, marks.uplinks.len()))
        }
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

/// `policy default: lte in place of fibre`.
pub(super) fn switched(switched: &Switched) -> String {
    let list = |names: &[std::sync::Arc<str>]| names.iter().map(|name| &**name).collect::<Vec<_>>().join(", ");
    let Switched { policy, left, taken, .. } = switched;
    match (left.is_empty(), taken.is_empty()) {
        (true, _) => format!("policy {policy}: now by {}", list(taken)),
        (false, true) => format!("policy {policy}: no longer by {}", list(left)),
        (false, false) => format!("policy {policy}: now by {} in place of {}", list(taken), list(left)),
    }
}

/// Whose route stands where ours should.
pub(super) fn conflict(conflict: &Conflict, names: &Names, world: &World) -> String {
    let link = |index| world.name_of(index);
    format!(
        "`{}` stands in the place of ours (`{}`): remove it, or give the uplink another table",
        conflict.whose.text(names, link),
        conflict.what.text(names, link)
    )
}

/// Who removes ours again and again, as far as can be said, and what to do.
pub(super) fn contested(what: &[String]) -> String {
    let first = what.first().map_or("rules of ours", String::as_str);
    format!(
        "somebody else removes `{first}` again and again ({} of ours): it is put back, but more and more seldom; see `palisade doctor` for \
         who may do that (networkd: ManageForeignRoutingPolicyRules=no; wg-quick; a script in a loop)",
        what.len()
    )
}

/// A rule of somebody else before ours.
pub(super) fn shadow(shadow: &Shadow) -> String {
    format!("`{}` comes before `{}`: {}", shadow.by, shadow.rule, shadow.why)
}
