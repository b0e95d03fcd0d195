//! What a user of either firewall must see.

use std::collections::{BTreeMap, BTreeSet};

use palisade_core::bans::backend::Backend;
use palisade_core::bans::wall::{Entry, Frame, Key, Refusal, Step};
use palisade_core::net::Prefix;
use palisade_core::time::{Span, Until};
use palisade_os::block::{self, Blocker, Drift, Read};
use palisade_os::flows::{self, Target};

use crate::world::{Packet, World, block, frame, hour, key, now};

/// A firewall under test: the world with a host in it whose sshd answers everybody, and both its hands.
pub(crate) struct House {
    pub(crate) world: World,
    pub(crate) backend: Backend,
    pub(crate) wall: Box<dyn Blocker>,
}

/// The host, and its sshd.
pub(crate) const US: (&str, u16) = ("192.0.2.1", 22);
pub(crate) const US6: (&str, u16) = ("2001:db8::1", 22);
/// Who attacks, and who does not.
pub(crate) const IT: (&str, u16) = ("203.0.113.7", 50_000);
pub(crate) const IT6: (&str, u16) = ("2001:db8:bad::7", 50_000);
const FRIEND: (&str, u16) = ("198.51.100.7", 50_000);

/// A host's pf.conf: everything that comes in is blocked but ssh; states are kept.
pub(crate) const PF_CONF: &str = "anchor \"palisade\"\nblock in all\npass in proto tcp from any to any port { 22, 80 }\npass out all\n";

/// A host's ipfw rules to the same end.
pub(crate) const IPFW_RULES: [&str; 5] = [
    "add 100 allow ip from any to any via lo0",
    "add 200 check-state",
    "add 300 allow tcp from any to any 22 in setup keep-state",
    "add 310 allow tcp from any to any 80 in setup keep-state",
    "add 400 allow ip from any to any out keep-state",
];

impl House {
    pub(crate) fn new(backend: Backend) -> Self {
        let world = World::new();
        match backend {
            Backend::Pf => _ = world.feed("world", &["pf-main"], PF_CONF),
            _ => _ = world.feed("ipfw", &["-q", "/dev/stdin"], &IPFW_RULES.join("\n")),
        }
        let wall = block::open(backend, &world.section()).unwrap();
        let mut house = Self { world, backend, wall };
        house.build(&Frame::default(), &[]);
        house
    }

    pub(crate) fn passes(&self, packet: Packet<'_>) -> bool {
        self.world.passes(self.backend.word(), packet)
    }

    /// Opens a connection and has a packet go each way.
    #[track_caller]
    pub(crate) fn connect(&self, opening: Packet<'_>) {
        assert!(self.passes(opening) && self.alive(opening), "{:?} cannot reach us", opening.from);
    }

    /// Whether packets of this connection pass in either direction.
    pub(crate) fn alive(&self, opening: Packet<'_>) -> bool {
        let (there, back) = (self.passes(opening.later()), self.passes(opening.later().answer()));
        there || back
    }

    #[track_caller]
    pub(crate) fn apply(&mut self, steps: &[Step]) {
        let report = self.wall.apply(steps, now());
        assert!(report.ok() && report.done == steps.len(), "{report:?}");
    }

    #[track_caller]
    pub(crate) fn build(&mut self, frame: &Frame, bans: &[Key]) {
        let mut entries = bans.iter().map(|key| Entry { key: key.clone(), until: hour() });
        let report = self.wall.replace(frame, &mut entries, now()).unwrap();
        assert!(report.ok() && report.done == bans.len(), "{report:?}");
    }

    pub(crate) fn kill(&self, key: &Key) -> flows::Killed {
        let target = Target { prefix: key.prefix, ports: key.ports.clone() };
        flows::open(self.backend, &self.world.section()).unwrap().kill(&[target]).unwrap()
    }

    /// What the house does for a ban.
    #[track_caller]
    pub(crate) fn ban(&mut self, key: &Key) {
        self.apply(&[block(key)]);
        let _ = self.kill(key);
    }

    /// Opens the wall as a new process would.
    pub(crate) fn restart(&mut self) {
        self.wall = block::open(self.backend, &self.world.section()).unwrap();
    }

    /// All bans of a wall that is whole.
    pub(crate) fn standing(&mut self) -> BTreeSet<Key> {
        let found = self.wall.read(Read::All).unwrap();
        assert!(found.whole, "it is not whole");
        found.bans.into_keys().collect()
    }
}

/// Both firewalls go through the same.
fn both(test: impl Fn(House)) {
    for backend in [Backend::Pf, Backend::Ipfw] {
        test(House::new(backend));
    }
}

#[test]
fn a_ban_ends_an_established_connection_and_an_unban_lets_pass_at_once() {
    both(|mut house| {
        for (it, us, prefix) in [(IT, US, "203.0.113.7"), (IT6, US6, "2001:db8:bad::/64"), (IT, US, "203.0.113.0/24")] {
            let (ssh, bystander) = (Packet::syn(it, us), Packet::syn(FRIEND, US));
            house.connect(ssh);
            house.connect(bystander);
            house.ban(&key(prefix));
            assert!(!house.alive(ssh), "{prefix}: the connection goes on");
            assert!(!house.passes(ssh), "{prefix}: a new one can be opened");
            assert!(!house.passes(ssh.later().answer()), "{prefix}: we answer");
            assert!(house.alive(bystander));
            house.apply(&[Step::Release(key(prefix).clone())]);
            assert!(house.passes(ssh), "{prefix}: still shut out");
        }
    });
}

#[test]
fn what_we_began_to_it_ends_too() {
    both(|mut house| {
        let ours = Packet::syn((US.0, 40_000), (IT.0, 80)).out();
        house.connect(ours);
        house.ban(&key(IT.0));
        assert!(!house.alive(ours) && !house.passes(ours));
    });
}

#[test]
fn the_daemon_lets_go_when_a_ban_is_over() {
    both(|mut house| {
        assert!(!house.wall.limits().timeouts);
        let over = Step::Block(Entry { key: key(IT.0), until: Until::At(now().minus(Span::secs(1))) });
        house.apply(&[block(&key(IT.0)), block(&key("203.0.113.8"))]);
        assert!(!house.passes(Packet::syn(IT, US)));
        house.apply(&[over]);
        assert!(house.passes(Packet::syn(IT, US)));
        assert_eq!(house.standing(), [key("203.0.113.8")].into());
    });
}

#[test]
fn a_restart_leaves_no_gap() {
    both(|mut house| {
        house.ban(&key(IT.0));
        house.restart();
        assert!(!house.passes(Packet::syn(IT, US)), "opening let it through");
        assert_eq!(house.standing(), [key(IT.0)].into());
        house.build(&frame(&["198.51.100.0/24"]), &[key(IT.0), key("2001:db8:bad::/48")]);
        assert!(!house.passes(Packet::syn(IT, US)) && !house.passes(Packet::syn(IT6, US6)));
        assert_eq!(house.standing(), [key(IT.0), key("2001:db8:bad::/48")].into());
        house.build(&frame(&[]), &[]);
        assert!(house.passes(Packet::syn(IT, US)));
    });
}

#[test]
fn what_others_take_away_is_seen_and_comes_back() {
    let strangers: [(Backend, &str, &[&[&str]]); 2] = [
        (
            Backend::Pf,
            "pfctl",
            &[
                &["-a", "palisade", "-F", "rules"],
                &["-a", "palisade", "-F", "Tables"],
                &["-a", "palisade", "-t", "palisade", "-T", "flush"],
                &["-a", "palisade", "-t", "palisade", "-T", "delete", "203.0.113.7"],
                &["-a", "palisade", "-t", "palisade", "-T", "add", "203.0.113.9"],
            ],
        ),
        (
            Backend::Ipfw,
            "ipfw",
            &[
                &["delete", "40"],
                &["delete", "41"],
                &["table", "palisade", "flush"],
                &["table", "palisade", "delete", "203.0.113.7"],
                &["table", "palisade", "add", "203.0.113.9"],
            ],
        ),
    ];
    for (backend, program, deeds) in strangers {
        let mut house = House::new(backend);
        let mut wall = patient(&house);
        for deed in deeds {
            assert_eq!(wall.built(), Drift::None, "our own work");
            house.world.run(program, deed);
            let seen = wall.look();
            assert!(matches!(seen, Drift::Everything(_)), "{deed:?}: {seen:?}");
            assert_eq!(wall.built(), Drift::None, "{deed:?}");
            assert_eq!(house.standing(), [key(IT.0), key(IT6.0)].into(), "{deed:?}");
            assert!(!house.passes(Packet::syn(IT, US)), "{deed:?}");
        }
    }
}

/// A wall whose looks are not paced.
enum Patient {
    Pf(block::pf::Pf),
    Ipfw(block::ipfw::Ipfw),
}

fn patient(house: &House) -> Patient {
    match house.backend {
        Backend::Pf => Patient::Pf(block::pf::Pf::open(&house.world.section()).unwrap()),
        _ => Patient::Ipfw(block::ipfw::Ipfw::open(&house.world.section()).unwrap()),
    }
}

impl Patient {
    fn wall(&mut self) -> &mut dyn Blocker {
        match self {
            Self::Pf(wall) => wall,
            Self::Ipfw(wall) => wall,
        }
    }

    fn look(&mut self) -> Drift {
        self.try_look().unwrap()
    }

    fn try_look(&mut self) -> Result<Drift, block::BlockError> {
        match self {
            Self::Pf(wall) => wall.look_now(),
            Self::Ipfw(wall) => wall.look_now(),
        }
        self.wall().drift()
    }

    /// Builds the wall and looks.
    fn built(&mut self) -> Drift {
        let bans = [key(IT.0), key(IT6.0)].map(|key| Entry { key, until: hour() });
        assert!(self.wall().replace(&frame(&["198.51.100.0/24"]), &mut bans.into_iter(), now()).unwrap().ok());
        self.look()
    }
}

#[test]
fn our_own_changes_are_nobody_elses() {
    both(|house| {
        let mut wall = patient(&house);
        let steps: [&[Step]; 6] = [
            &[block(&key(IT.0)), block(&key("203.0.113.0/24")), block(&key(IT6.0))],
            &[block(&key(IT.0))],
            &[Step::Frame(frame(&["198.51.100.0/24", "192.0.2.0/24"]))],
            &[Step::Release(key(IT.0)), Step::Release(key("203.0.113.99"))],
            &[Step::Frame(Frame { refusal: Refusal::Reject, ..frame(&["198.51.100.7"]) })],
            &[block(&key("203.0.113.8")), Step::Release(key("203.0.113.8")), block(&key("203.0.113.8"))],
        ];
        for steps in steps {
            let report = wall.wall().apply(steps, now());
            assert!(report.ok(), "{report:?}");
            assert_eq!(wall.look(), Drift::None, "{steps:?}");
        }
    });
}

#[test]
fn a_wall_that_is_not_asked_takes_no_bans_and_is_built_anew_once_it_is() {
    both(|house| {
        let mut wall = patient(&house);
        assert_eq!(wall.built(), Drift::None);
        let (path, off, on) = match house.backend {
            Backend::Pf => ("pf.enabled", "false", "true"),
            _ => ("ipfw.enable", "0", "1"),
        };
        house.world.set(path, off);
        assert!(wall.try_look().unwrap_err().to_string().contains("not enabled"));
        let steps = [block(&key("203.0.113.8"))];
        let report = wall.wall().apply(&steps, now());
        assert!(report.done == 0 && report.failed[0].1.contains("not enabled"), "{report:?}");
        house.world.set(path, on);
        assert!(wall.wall().apply(&steps, now()).ok());
        // Who turned it off may have done more.
        assert!(matches!(wall.look(), Drift::Everything(_)));
        assert_eq!(wall.built(), Drift::None);
    });
}

#[test]
fn allow_listed_hosts_pass_our_rules_and_no_others() {
    both(|mut house| {
        house.build(&frame(&["198.51.100.7"]), &[key("198.51.100.0/24")]);
        assert!(house.passes(Packet::syn(FRIEND, US)), "it is allowed");
        assert!(!house.passes(Packet::syn(("198.51.100.8", 1), US)), "its neighbour is banned");
        assert!(!house.passes(Packet::syn(FRIEND, (US.0, 8080))), "the host's own rules hold for it too");
        house.apply(&[Step::Frame(frame(&[]))]);
        assert!(!house.passes(Packet::syn(("198.51.100.7", 2), US)), "it is allowed no more");
        house.apply(&[Step::Frame(frame(&["198.51.100.7"]))]);
        assert!(house.passes(Packet::syn(("198.51.100.7", 3), US)));
        house.ban(&Key { forced: true, ..key("198.51.100.7") });
        assert!(!house.passes(Packet::syn(("198.51.100.7", 4), US)), "banned by force");
        assert!(!house.alive(Packet::syn(FRIEND, US)));
    });
}

#[test]
fn a_host_that_was_banned_is_free_once_it_is_allowed() {
    both(|mut house| {
        house.ban(&key(FRIEND.0));
        house.apply(&[Step::Frame(frame(&[FRIEND.0])), Step::Release(key(FRIEND.0))]);
        assert!(house.passes(Packet::syn(FRIEND, US)));
        assert_eq!(house.wall.read(Read::Frame).unwrap().frame, Some(frame(&[FRIEND.0])));
        assert_eq!(house.standing(), BTreeSet::new());
    });
}

#[test]
fn nothing_is_left_and_nothing_of_others_is_touched() {
    both(|mut house| {
        let rules = |house: &House| match house.backend {
            Backend::Pf => house.world.run("pfctl", &["-sr"]),
            _ => house.world.run("ipfw", &["list"]).lines().filter(|line| !line.contains("palisade")).collect(),
        };
        let before = rules(&house);
        house.ban(&key(IT.0));
        house.wall.remove().unwrap();
        house.wall.remove().unwrap();
        assert!(house.passes(Packet::syn(IT, US)));
        assert_eq!(rules(&house), before);
        let left = match house.backend {
            Backend::Pf => house.world.get("pf.anchors"),
            _ => house.world.get("ipfw.tables"),
        };
        assert_eq!(left, serde_json::json!({}));
        assert!(!house.wall.read(Read::Frame).unwrap().whole);
        house.apply(&[Step::Release(key(IT.0))]);
        house.restart();
        house.apply(&[Step::Release(key(IT.0))]);
        assert!(!house.wall.read(Read::Frame).unwrap().whole, "letting go puts no wall up");
        house.ban(&key(IT.0));
        assert!(!house.passes(Packet::syn(IT, US)), "a step alone builds what it needs");
    });
}

#[test]
fn thousands_of_bans_are_loaded_and_read_back() {
    both(|mut house| {
        let host = |n: u32| Key::all(Prefix::host(std::net::Ipv4Addr::from_bits(0x0a00_0000 + n).into()));
        let bans: Vec<Key> = (0..20_000).map(host).collect();
        house.build(&Frame::default(), &bans);
        assert_eq!(house.standing().len(), bans.len());
        let steps: Vec<Step> =
            bans.iter().take(10_000).map(|key| Step::Release(key.clone())).chain((20_000..40_000).map(|n| block(&host(n)))).collect();
        house.apply(&steps);
        let found = house.wall.read(Read::Keys(&[host(5), host(15_000), host(39_999)])).unwrap();
        assert_eq!(found.bans.into_keys().collect::<Vec<_>>(), [host(15_000), host(39_999)]);
    });
}

#[test]
fn whatever_stood_before_what_is_wanted_stands_after() {
    both(|mut house| {
        let mut random = 0x9e37_79b9_u32;
        let mut draw = |below: u32| {
            random = random.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (random >> 8) % below
        };
        for round in 0..6 {
            let mut wanted: BTreeMap<Key, Until> = BTreeMap::new();
            for _ in 0..draw(8) {
                let addr = if draw(3) == 0 {
                    format!("2001:db8:{}::/{}", draw(3), 48 + draw(17))
                } else {
                    format!("203.0.113.{}/{}", draw(4) * 64, 26 + draw(7))
                };
                wanted.insert(Key { forced: draw(4) == 0, ..key(&addr) }, hour());
            }
            let mut frame = frame(&[]);
            frame.refusal = if draw(3) == 0 { Refusal::Reject } else { Refusal::Drop };
            (0..draw(3)).for_each(|_| _ = frame.allow.insert(format!("198.51.100.{}/30", draw(60) * 4).parse().unwrap()));
            let keys: Vec<Key> = wanted.keys().cloned().collect();
            if draw(2) == 0 {
                house.build(&frame, &keys);
            } else {
                if draw(3) == 0 {
                    house.restart();
                }
                let stands = house.standing();
                let gone = stands.iter().filter(|key| !wanted.contains_key(*key)).map(|key| Step::Release(key.clone()));
                let steps: Vec<Step> = [Step::Frame(frame.clone())].into_iter().chain(keys.iter().map(block)).chain(gone).collect();
                house.apply(&steps);
            }
            assert_eq!(house.standing(), keys.into_iter().collect(), "{:?}, round {round}", house.backend);
            assert_eq!(house.wall.read(Read::Frame).unwrap().frame, Some(frame));
        }
    });
}
