//! The seed's host and the two ISPs', sound and with one thing wrong.

use proptest::prelude::*;

use super::super::plan::{Ours, Step, plan};
use super::super::routes::Route;
use super::super::wanted::made::*;
use super::super::wanted::{Healths, wanted};
use super::*;

struct Case {
    spec: Spec,
    world: World,
    wanted: Wanted,
    chosen: Chosen,
}

impl Case {
    /// The spec applied to the world.
    fn applied(spec: Spec, mut world: World) -> Self {
        let chosen = all_chosen(&spec);
        let wanted = wanted(&spec, &world, &Healths::new(), &chosen);
        for step in plan(&wanted, &world, &Ours::of(&spec), true, &|_| None).steps {
            match step {
                Step::AddRoute(route) => world.routes.push(route),
                Step::AddRule(rule) => world.rules.push(rule),
                _ => {}
            }
        }
        Self { spec, world, wanted, chosen }
    }

    fn check(&self, facts: &Facts) -> Vec<Finding> {
        let subject = Subject { spec: &self.spec, world: &self.world, wanted: &self.wanted, chosen: &self.chosen };
        check(&subject, facts, None)
    }

    /// What our own reading of rules answers to the questions.
    fn answers(&self) -> Vec<(Asked, Answer)> {
        let elsewhere = |family| if family == Family::V4 { addr("203.0.113.200") } else { addr("2001:db8:ffff::1") };
        let answer = |asked: Asked| {
            let answer = match super::super::explain::explain(&self.world, &asked.question).end {
                super::super::explain::End::Route(route) => Answer::Route(route),
                _ => Answer::NoWay(113),
            };
            (asked, answer)
        };
        questions(&self.spec, &self.world, &elsewhere).into_iter().map(answer).collect()
    }
}

fn seed_case() -> Case {
    let addresses = vec![address(2, "2001::1", "2001::/64"), address(7, "2a02::1", "2a02::1"), address(8, "2a02::2", "2a02::2")];
    let case = Case::applied(seed(), world(&[(2, "net0"), (7, "sixxs0"), (8, "sixxs1")], addresses));
    let main = case.wanted.routes.iter().find(|route| !route.hops.is_empty()).unwrap();
    let mut main = Route { table: super::super::words::TableId::MAIN, prefsrc: None, ..main.clone() };
    main.hops[0].link = 2;
    let lookup = super::super::rule::Action::Lookup(main.table);
    let rule = super::super::rule::Rule::new(Family::V6, super::super::words::Priority(32766), Default::default(), lookup, main.protocol);
    let mut case = case;
    case.world.routes.push(main);
    case.world.rules.push(rule);
    case
}

fn worst(findings: &[Finding], what: &str) -> Verdict {
    findings.iter().filter(|finding| finding.what == what).map(|finding| finding.ok).max().unwrap()
}

#[test]
fn a_sound_host_has_nothing_to_mend() {
    let case = seed_case();
    let answered = Probe::Answered(addr("2001:db8:1::1"), Span::millis(12));
    let facts = Facts {
        answers: case.answers(),
        probes: [((Arc::from("sixxs0"), Family::V6), answered)].into(),
        leaks: [(Arc::from("sixxs0"), 0)].into(),
        ..Facts::default()
    };
    let findings = case.check(&facts);
    assert!(findings.iter().all(|finding| finding.ok <= Verdict::Skipped), "{findings:#?}");
    let lookups = findings.iter().filter(|finding| finding.what.starts_with("lookup")).count();
    assert_eq!(lookups, 6, "net0 by source; sixxs0 by source, interface, mark; sixxs1 by source, interface");
}

#[test]
fn each_fault_is_found_by_its_name() {
    let sound = seed_case().answers();
    let mut case = seed_case();
    case.world.rules.retain(|rule| rule.priority.0 != 4200);
    let found = case.check(&Facts { answers: case.answers(), ..Facts::default() });
    assert_eq!((worst(&found, "rules"), worst(&found, "lookup by source")), (Verdict::Fail, Verdict::Fail));
    let source = found.iter().find(|finding| finding.what == "lookup by source" && finding.ok == Verdict::Fail).unwrap();
    assert_eq!(source.fix.as_deref(), Some("palisade route explain 2a02::1 2001:db8:1::1"));

    let mut case = seed_case();
    case.world.routes.retain(|route| route.hops.iter().all(|hop| hop.link != 7));
    assert_eq!(worst(&case.check(&Facts::default()), "default route"), Verdict::Fail);

    let mut case = seed_case();
    case.world.links.get_mut(&7).unwrap().up = false;
    let found = case.check(&Facts::default());
    let link = found.iter().find(|finding| finding.what == "link" && finding.ok == Verdict::Fail).unwrap();
    assert_eq!((link.detail.as_str(), link.fix.as_deref()), ("sixxs0: interface down", Some("ip link set sixxs0 up")));

    let case = seed_case();
    let shadow = Shadow {
        family: Family::V6,
        rule: "4200: from 2a02::1 lookup sixxs0".into(),
        by: "7: from all lookup 9".into(),
        why: "drops it; move it".into(),
    };
    let silent = Probe::Silent(vec![addr("2001:db8:1::1")]);
    let facts = Facts {
        answers: sound,
        shadows: vec![shadow],
        probes: [((Arc::from("sixxs0"), Family::V6), silent)].into(),
        leaks: [(Arc::from("sixxs0"), 7)].into(),
        listeners: vec![
            Listener { family: Family::V6, port: 1194, program: Some("openvpn".into()) },
            Listener { family: Family::V6, port: 123, program: Some("chronyd".into()) },
            Listener { family: Family::V6, port: 40_000, program: None },
        ],
        ..Facts::default()
    };
    let found = case.check(&facts);
    assert_eq!((worst(&found, "shadowed"), worst(&found, "probe"), worst(&found, "leaks")), (Verdict::Warn, Verdict::Fail, Verdict::Fail));
    let servers: Vec<&Finding> = found.iter().filter(|finding| finding.what == "udp server").collect();
    assert_eq!(servers.len(), 1);
    assert!(servers[0].fix.as_deref().unwrap().contains("multihome"));
}

#[test]
fn the_reverse_path_filters_matrix() {
    let paths = |forwards, marked| Paths { own_table: true, main_default: false, marked, forwards };
    let ok = |filter, valid, paths| rp_verdict(filter, valid, paths, "wan2").0;
    for filter in [0, 2] {
        assert_eq!(ok(filter, false, paths(true, true)), Verdict::Ok);
    }
    assert_eq!(ok(1, false, paths(false, false)), Verdict::Ok, "local traffic, source rules");
    assert_eq!(ok(1, false, paths(true, true)), Verdict::Fail, "DNAT, src_valid_mark=0");
    assert_eq!(ok(1, true, paths(true, true)), Verdict::Ok, "DNAT, src_valid_mark=1");
    assert_eq!(ok(1, true, paths(true, false)), Verdict::Warn, "DNAT without marks");
    assert_eq!(ok(1, false, Paths { own_table: false, ..paths(false, false) }), Verdict::Warn);
    assert_eq!(ok(1, false, Paths { main_default: true, ..paths(true, true) }), Verdict::Ok);
    assert_eq!((effective_rp_filter(1, 0), effective_rp_filter(1, 2), effective_rp_filter(0, 0)), (1, 2, 0));

    let case = Case::applied(two_isps(), isps_world());
    let interfaces = [("wan1".to_owned(), 0), ("wwan0".to_owned(), 2)].into();
    let rp = RpFilters { all: 1, interfaces, src_valid_mark: false, forwards: true };
    let found = case.check(&Facts { rp: Some(rp), ..Facts::default() });
    let verdicts: Vec<Verdict> = found.iter().filter(|finding| finding.what == "rp_filter").map(|finding| finding.ok).collect();
    assert_eq!(verdicts, [Verdict::Fail, Verdict::Ok]);
}

proptest! {
    #[test]
    fn every_failure_says_what_to_type(spec in specs(), world in worlds(), applied: bool, filter in 0u8..4) {
        let chosen = all_chosen(&spec);
        let case = if applied { Case::applied(spec, world) } else {
            let wanted = wanted(&spec, &world, &Healths::new(), &chosen);
            Case { spec, world, wanted, chosen }
        };
        let interfaces = (1..4).map(|n| (format!("if{n}"), filter)).collect();
        let rp = RpFilters { all: 1, interfaces, src_valid_mark: false, forwards: true };
        let leaks = case.spec.uplinks.iter().map(|uplink| (Arc::clone(&uplink.name), 3)).collect();
        let found = case.check(&Facts { answers: case.answers(), rp: Some(rp), leaks, ..Facts::default() });
        for finding in &found {
            prop_assert!(finding.ok != Verdict::Fail || finding.fix.as_deref().is_some_and(|fix| !fix.is_empty()), "{:?}", finding);
            prop_assert!(!finding.detail.is_empty());
        }
    }
}
