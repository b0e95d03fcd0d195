//! A kernel small enough to see through: rules and routes with the identities of the real one.

use super::super::routes::Route;
use super::super::rule::Rule;
use super::super::world::World;
use super::Step;

/// What the real one would say to a step, done to `world`.
///
/// Rules: added behind those of the same priority; one that is the same in everything, protocol included, is refused.
/// Removed is the first that has all that was sent; we send all. Routes: one of the same table, prefix, type of service and
/// metric is refused, whoever made it; removed is the first of that key with the same kind, hops and protocol.
pub(crate) fn apply(world: &mut World, step: &Step) -> Result<(), &'static str> {
    match step {
        Step::AddRoute(route) if world.routes.iter().any(|other| key(other) == key(route)) => Err("File exists"),
        Step::AddRoute(route) => {
            world.routes.push(route.clone());
            Ok(())
        }
        Step::DelRoute(route) => {
            let found = world.routes.iter().position(|other| other == route).ok_or("No such process")?;
            world.routes.remove(found);
            Ok(())
        }
        Step::AddRule(rule) if world.rules.contains(rule) => Err("File exists"),
        Step::AddRule(rule) => {
            let place = world.rules.iter().position(|other| after(other, rule)).unwrap_or(world.rules.len());
            world.rules.insert(place, rule.clone());
            Ok(())
        }
        Step::DelRule(rule) => {
            let found = world.rules.iter().position(|other| other == rule).ok_or("No such file or directory")?;
            world.rules.remove(found);
            Ok(())
        }
        Step::Marks(_) | Step::Sysctl(_) => Ok(()),
    }
}

/// Families have lists of their own; here IPv4's comes first.
fn after(other: &Rule, rule: &Rule) -> bool {
    (other.family, other.priority) > (rule.family, rule.priority)
}

fn key(route: &Route) -> impl PartialEq {
    (route.table, route.to, route.from, route.tos, route.metric)
}
