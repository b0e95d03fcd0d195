use std::cell::{Cell, RefCell};
use std::io;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::path::Path;
use std::rc::Rc;

use palisade_core::flood::settings::Settings;
use palisade_core::flood::timeouts::{Facts, Profile, Values, persist};
use palisade_core::time::Span;
use palisade_os::netns::Netns;
use proptest::prelude::*;
use serde_json::json;

use super::disk::Which;
use super::switches::{Proc, Switches};
use super::{Applied, Desk, Hold};

/// A kernel that refuses some switches, rounds buckets as Linux does, and may see its caller killed.
#[derive(Clone, Default)]
struct Fake {
    values: Rc<RefCell<Values>>,
    refuses: Rc<RefCell<Vec<(&'static str, io::ErrorKind)>>>,
    /// After so many sets the caller is killed.
    left: Rc<Cell<Option<u32>>>,
}

impl Switches for Fake {
    fn list(&self) -> io::Result<Values> {
        Ok(self.values.borrow().clone())
    }

    fn set(&mut self, name: &str, value: &str) -> io::Result<()> {
        if let Some(left) = self.left.get() {
            if left == 0 {
                self.left.set(None);
                resume_unwind(Box::new("killed"));
            }
            self.left.set(Some(left - 1));
        }
        if let Some((_, kind)) = self.refuses.borrow().iter().find(|(refused, _)| name.contains(refused)) {
            return Err(io::Error::new(*kind, format!("{name}: no")));
        }
        let rounded = match name {
            "nf_conntrack_buckets" => value.parse::<u64>().unwrap().next_multiple_of(512).to_string(),
            _ => value.to_owned(),
        };
        self.values.borrow_mut().insert(name.to_owned(), rounded).map(drop).ok_or_else(|| io::ErrorKind::NotFound.into())
    }
}

const FACTS: Facts = Facts { ram: 24 << 30, initial: true, forwards: false };

fn fake() -> Fake {
    let fake = Fake::default();
    let all = [
        ("acct", "0"),
        ("buckets", "65536"),
        ("count", "12"),
        ("generic_timeout", "600"),
        ("max", "65536"),
        ("tcp_timeout_established", "432000"),
        ("tcp_timeout_syn_sent", "120"),
        ("udp_timeout", "30"),
        ("udp_timeout_stream", "120"),
        ("unheard_of", "1 2\t3"),
    ];
    fake.values.borrow_mut().extend(all.map(|(name, value)| (format!("nf_conntrack_{name}"), value.to_owned())));
    fake
}

impl Fake {
    fn desk(&self, state: &Path, settings: Settings) -> Desk<Self> {
        Desk::on(state, self.clone(), FACTS, settings, Some(state.join("sysctl.d")))
    }

    fn apply(&self, state: &Path) -> Applied {
        self.desk(state, Settings::default()).apply().unwrap()
    }

    fn revert(&self, state: &Path) -> Applied {
        self.desk(state, Settings::default()).revert().unwrap()
    }

    fn hold(&self, state: &Path, profile: Profile) -> Option<String> {
        Hold::on(state, self.clone(), || FACTS).set(profile, &Settings::default()).unwrap()
    }

    fn get(&self, name: &str) -> String {
        self.values.borrow()[&format!("nf_conntrack_{name}")].clone()
    }

    fn put(&self, name: &str, value: &str) {
        self.values.borrow_mut().insert(format!("nf_conntrack_{name}"), value.to_owned());
    }

    fn all(&self) -> Values {
        self.values.borrow().clone()
    }
}

fn typed(name: &str, secs: u64) -> Settings {
    Settings { timeouts: [(name.to_owned(), Span::secs(secs))].into(), ..Settings::default() }
}

/// Does it, and lives on where it was killed.
fn survive(work: impl FnOnce()) {
    if let Err(payload) = catch_unwind(AssertUnwindSafe(work))
        && payload.downcast_ref::<&str>() != Some(&"killed")
    {
        resume_unwind(payload);
    }
}

/// Whether nothing of ours is left on the disk but the lock.
fn clean(state: &Path) -> bool {
    !Which::Applied.path(state).exists() && !Which::Profile.path(state).exists() && !state.join("sysctl.d").join(persist::FILE).exists()
}

#[test]
fn applied_there_is_nothing_to_plan_and_reverted_it_is_as_before() {
    let (dir, fake) = (tempfile::tempdir().unwrap(), fake());
    let before = fake.all();
    let applied = fake.apply(dir.path());
    assert!(applied.failed.is_empty() && applied.told.is_empty(), "{applied:?}");
    assert_eq!(fake.get("tcp_timeout_established"), "86400");
    assert!(fake.desk(dir.path(), Settings::default()).show().unwrap().changes.is_empty());
    let text = std::fs::read_to_string(applied.file.unwrap()).unwrap();
    let set = persist::read(&text);
    assert_eq!(set.len(), applied.done.len());
    assert!(set.iter().all(|(name, value)| fake.all()[name] == *value), "{text}");
    assert_eq!(fake.apply(dir.path()).done, [], "said again it changes nothing");
    let reverted = fake.revert(dir.path());
    assert!(reverted.failed.is_empty() && reverted.told.is_empty(), "{reverted:?}");
    assert_eq!(fake.all(), before);
    assert!(clean(dir.path()));
    assert_eq!(fake.revert(dir.path()).told.len(), 1);
}

#[test]
fn the_first_former_values_are_kept_however_often_it_is_applied() {
    let (dir, fake) = (tempfile::tempdir().unwrap(), fake());
    let before = fake.all();
    fake.apply(dir.path());
    fake.desk(dir.path(), typed("tcp_established", 1000)).apply().unwrap();
    assert_eq!(fake.get("tcp_timeout_established"), "1000");
    let text = std::fs::read_to_string(dir.path().join("sysctl.d").join(persist::FILE)).unwrap();
    assert_eq!(persist::read(&text)["nf_conntrack_tcp_timeout_established"], "1000");
    assert_eq!(persist::read(&text)["nf_conntrack_generic_timeout"], "120", "what stood already is set at boot too");
    fake.revert(dir.path());
    assert_eq!(fake.all(), before);
}

#[test]
fn one_that_fails_does_not_stop_the_rest_and_each_reason_is_told_once() {
    let (dir, fake) = (tempfile::tempdir().unwrap(), fake());
    let before = fake.all();
    *fake.refuses.borrow_mut() = vec![("max", io::ErrorKind::PermissionDenied), ("buckets", io::ErrorKind::PermissionDenied)];
    let applied = fake.apply(dir.path());
    assert_eq!(applied.failed.len(), 1, "{applied:?}");
    assert!(applied.failed[0].contains("nf_conntrack_buckets: no; and so for 1 more: nf_conntrack_max"), "{applied:?}");
    assert_eq!((fake.get("tcp_timeout_established"), fake.get("max")), ("86400".to_owned(), "65536".to_owned()));
    let text = std::fs::read_to_string(applied.file.unwrap()).unwrap();
    assert!(!text.contains("nf_conntrack_max"), "{text}");
    fake.revert(dir.path());
    assert_eq!(fake.all(), before);

    *fake.refuses.borrow_mut() = vec![("nf_", io::ErrorKind::ReadOnlyFilesystem)];
    let applied = fake.apply(dir.path());
    assert!(applied.failed.len() == 1 && applied.done.is_empty() && applied.file.is_none(), "{applied:?}");
    assert!(clean(dir.path()), "what was not changed is not kept");
    let error = Hold::on(dir.path(), fake.clone(), || FACTS).set(Profile::Attack, &Settings::default()).unwrap_err();
    assert!(error.to_string().contains("stay as they are"), "{error}");
    assert!(clean(dir.path()));
    assert_eq!(fake.all(), before);
}

#[test]
fn what_somebody_changed_since_is_left_and_told() {
    let (dir, fake) = (tempfile::tempdir().unwrap(), fake());
    fake.apply(dir.path());
    fake.put("tcp_timeout_syn_sent", "45");
    assert!(fake.apply(dir.path()).told[0].contains("nf_conntrack_tcp_timeout_syn_sent to 45"));
    let file = dir.path().join("sysctl.d").join(persist::FILE);
    std::fs::write(&file, "net.netfilter.nf_conntrack_max = 5\n").unwrap();
    let reverted = fake.revert(dir.path());
    assert_eq!(reverted.told.len(), 2, "{reverted:?}");
    assert_eq!((fake.get("tcp_timeout_syn_sent"), fake.get("tcp_timeout_established")), ("45".to_owned(), "432000".to_owned()));
    assert!(file.exists() && !Which::Applied.path(dir.path()).exists());
}

#[test]
fn killed_between_any_two_sets_it_heals() {
    for last in [Profile::Calm, Profile::Pressure, Profile::Attack] {
        for step in 0..12 {
            let (dir, fake) = (tempfile::tempdir().unwrap(), fake());
            let before = fake.all();
            fake.hold(dir.path(), last);
            fake.left.set(Some(step));
            survive(|| drop(fake.apply(dir.path())));
            fake.left.set(None);
            fake.hold(dir.path(), Profile::Calm);
            fake.apply(dir.path());
            assert!(fake.desk(dir.path(), Settings::default()).show().unwrap().changes.is_empty());
            fake.left.set(Some(step));
            survive(|| drop(fake.revert(dir.path())));
            fake.left.set(None);
            let told = fake.revert(dir.path());
            assert_eq!(fake.all(), before, "{last:?} {step} {told:?}");
            assert!(clean(dir.path()));
        }
    }
}

#[test]
fn a_profile_tightens_and_calm_puts_back_what_there_was() {
    let (dir, fake) = (tempfile::tempdir().unwrap(), fake());
    let before = fake.all();
    assert_eq!(fake.hold(dir.path(), Profile::Calm), None);
    assert!(fake.hold(dir.path(), Profile::Pressure).unwrap().contains("pressure"));
    assert_eq!(fake.get("tcp_timeout_established"), "7440");
    assert_eq!(fake.hold(dir.path(), Profile::Pressure), None, "said again there is nothing to do");
    fake.hold(dir.path(), Profile::Attack);
    assert_eq!((fake.get("tcp_timeout_established"), fake.get("udp_timeout_stream")), ("3600".to_owned(), "30".to_owned()));
    let shown = fake.desk(dir.path(), Settings::default()).show().unwrap();
    assert_eq!(shown.profile, Some(Profile::Attack));
    assert_eq!(shown.base, before);
    fake.hold(dir.path(), Profile::Pressure);
    assert_eq!(fake.get("udp_timeout_stream"), "60");
    assert!(fake.hold(dir.path(), Profile::Calm).unwrap().contains("put back"));
    assert_eq!(fake.all(), before);
    assert!(clean(dir.path()));
}

#[test]
fn what_somebody_sets_under_attack_is_theirs_until_calm_and_after() {
    let (dir, fake) = (tempfile::tempdir().unwrap(), fake());
    fake.hold(dir.path(), Profile::Pressure);
    fake.put("tcp_timeout_established", "1800");
    assert!(fake.hold(dir.path(), Profile::Pressure).unwrap().contains("nf_conntrack_tcp_timeout_established to 1800"));
    fake.put("tcp_timeout_established", "9000");
    fake.hold(dir.path(), Profile::Attack);
    assert_eq!(fake.get("tcp_timeout_established"), "9000");
    fake.hold(dir.path(), Profile::Calm);
    assert_eq!((fake.get("tcp_timeout_established"), fake.get("tcp_timeout_syn_sent")), ("9000".to_owned(), "120".to_owned()));
    assert!(clean(dir.path()));
}

#[test]
fn what_is_applied_under_attack_holds_after() {
    let (dir, fake) = (tempfile::tempdir().unwrap(), fake());
    let before = fake.all();
    fake.hold(dir.path(), Profile::Attack);
    fake.desk(dir.path(), typed("tcp_syn_sent", 5)).apply().unwrap();
    assert_eq!(fake.get("tcp_timeout_established"), "3600", "the profile still holds");
    assert_eq!(fake.get("tcp_timeout_syn_sent"), "5", "what is shorter still holds at once");
    fake.hold(dir.path(), Profile::Calm);
    assert_eq!((fake.get("tcp_timeout_established"), fake.get("tcp_timeout_syn_sent")), ("86400".to_owned(), "5".to_owned()));
    fake.hold(dir.path(), Profile::Attack);
    fake.revert(dir.path());
    assert_eq!(fake.get("tcp_timeout_established"), "3600");
    fake.hold(dir.path(), Profile::Calm);
    assert_eq!(fake.all(), before);
}

#[test]
fn another_boot_has_none_of_a_profile_and_all_that_is_applied() {
    let (dir, fake) = (tempfile::tempdir().unwrap(), fake());
    let before = fake.all();
    fake.apply(dir.path());
    let applied = fake.all();
    fake.hold(dir.path(), Profile::Attack);
    for which in [Which::Applied, Which::Profile] {
        let mut journal = which.read(dir.path()).unwrap().unwrap();
        journal.boot = "another".to_owned();
        journal.net = "net:[1]".to_owned();
        which.write(dir.path(), &journal).unwrap();
    }
    // The machine has booted, and the file was read before connection tracking was loaded.
    fake.values.borrow_mut().clone_from(&before);
    assert_eq!(fake.hold(dir.path(), Profile::Calm), None);
    assert!(fake.desk(dir.path(), Settings::default()).booted().unwrap().unwrap().contains("as applied"));
    assert_eq!(fake.all(), applied);
    assert_eq!(fake.desk(dir.path(), Settings::default()).booted().unwrap(), None, "once a boot");
    fake.revert(dir.path());
    assert_eq!(fake.all(), before);
    assert!(clean(dir.path()));
}

#[test]
fn another_namespace_and_a_damaged_journal_are_told() {
    let (dir, fake) = (tempfile::tempdir().unwrap(), fake());
    fake.apply(dir.path());
    let mut journal = Which::Applied.read(dir.path()).unwrap().unwrap();
    journal.net = "net:[1]".to_owned();
    Which::Applied.write(dir.path(), &journal).unwrap();
    for error in
        [fake.desk(dir.path(), Settings::default()).revert().unwrap_err(), fake.desk(dir.path(), Settings::default()).apply().unwrap_err()]
    {
        assert!(error.to_string().contains("another network namespace"), "{error}");
    }
    for bad in ["", "{}", "[1]", r#"{"v":2,"boot":"","net":"","values":{}}"#] {
        std::fs::write(Which::Applied.path(dir.path()), bad).unwrap();
        assert!(fake.desk(dir.path(), Settings::default()).revert().unwrap_err().to_string().contains("is damaged"), "{bad}");
        std::fs::write(Which::Profile.path(dir.path()), bad).unwrap();
        assert!(fake.hold(dir.path(), Profile::Calm).unwrap().contains("is damaged"), "{bad}");
        assert!(!Which::Profile.path(dir.path()).exists(), "it is kept beside");
    }
}

/// Has the owner of the state folder write his own words over what was applied.
fn forge(state: &Path, change: impl FnOnce(&mut serde_json::Value)) {
    let path = Which::Applied.path(state);
    let mut journal = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
    change(&mut journal);
    std::fs::write(path, serde_json::to_vec(&journal).unwrap()).unwrap();
}

#[test]
fn names_and_values_that_are_not_ours_are_damage_to_every_verb() {
    let kept = |former: &str, ours: &str| json!({ "former": former, "ours": [ours] });
    let evil = [
        ("nf_conntrack_max", kept("65536", "8\nkernel.core_pattern=|/x")),
        ("nf_conntrack_max", kept("8\nkernel.core_pattern=|/x", "8")),
        ("nf_conntrack_max", kept("", "8")),
        ("nf_conntrack_max", kept("-1", "8")),
        ("nf_conntrack_helper", kept("0", "1")),
        ("nf_conntrack_unheard_of", kept("0", "1")),
        ("../../kernel/core_pattern", kept("0", "1")),
        ("nf_conntrack_max = 1\nkernel.core_pattern", kept("0", "1")),
    ];
    for (name, value) in evil {
        let (dir, fake) = (tempfile::tempdir().unwrap(), fake());
        let file = fake.apply(dir.path()).file.unwrap();
        let (text, stood) = (std::fs::read(&file).unwrap(), fake.all());
        forge(dir.path(), |journal| journal["values"][name] = value);
        let mut desk = fake.desk(dir.path(), typed("tcp_established", 1000));
        for error in [desk.apply().unwrap_err(), desk.revert().unwrap_err(), desk.booted().unwrap_err()] {
            let error = error.to_string();
            assert!(error.contains("is damaged") && !error.contains(char::is_control), "{name}: {error}");
        }
        assert_eq!((std::fs::read(&file).unwrap(), fake.all()), (text, stood), "{name}");
        std::fs::rename(Which::Applied.path(dir.path()), Which::Profile.path(dir.path())).unwrap();
        assert!(desk.apply().unwrap_err().to_string().contains("is damaged"), "{name}");
    }
}

#[test]
fn what_the_journal_alone_says_is_not_set_at_boot() {
    let (dir, fake) = (tempfile::tempdir().unwrap(), fake());
    fake.apply(dir.path());
    forge(dir.path(), |journal| {
        journal["values"]["nf_conntrack_tcp_timeout_syn_sent"]["ours"] = json!(["1"]);
        journal["values"]["nf_conntrack_udp_timeout"] = json!({ "former": "30", "ours": ["1"], "why": "x\nkernel.core_pattern=|/x" });
    });
    let applied = fake.apply(dir.path());
    let text = std::fs::read_to_string(applied.file.unwrap()).unwrap();
    assert!(!text.contains("udp_timeout =") && !text.contains("syn_sent"), "{text}");
    assert!(text.contains("nf_conntrack_generic_timeout = 120"), "{text}");
    assert!(applied.told.iter().filter(|told| told.contains("no boot sets it")).count() == 2, "{:?}", applied.told);
}

#[test]
fn no_path_of_the_journal_is_followed() {
    let (dir, fake) = (tempfile::tempdir().unwrap(), fake());
    let elsewhere = tempfile::tempdir().unwrap();
    let file = fake.apply(dir.path()).file.unwrap();
    let copy = elsewhere.path().join(persist::FILE);
    std::fs::copy(&file, &copy).unwrap();
    let stood = fake.all();
    let shadow = elsewhere.path().join("shadow");
    std::fs::write(&shadow, "root:*:1::::::\n").unwrap();
    for (path, says) in [(&shadow, "is damaged"), (&copy, "--sysctl-dir")] {
        forge(dir.path(), |journal| journal["file"] = json!(path));
        let error = fake.desk(dir.path(), Settings::default()).revert().unwrap_err().to_string();
        assert!(error.contains(says), "{error}");
        assert!(path.exists() && file.exists());
        assert_eq!(fake.all(), stood);
    }
    forge(dir.path(), |journal| journal["file"] = serde_json::Value::Null);
    assert_eq!(fake.revert(dir.path()).file, Some(file), "the folder's own file is taken away all the same");
    assert!(copy.exists() && shadow.exists());
}

#[test]
fn links_in_place_of_files_are_not_followed() {
    let (dir, fake) = (tempfile::tempdir().unwrap(), fake());
    let before = fake.all();
    let file = fake.apply(dir.path()).file.unwrap();
    assert_eq!(file.metadata().unwrap().permissions().mode() & 0o777, 0o644);
    // At the file of sysctl.d: neither written through nor taken away.
    let precious = dir.path().join("precious");
    std::fs::rename(&file, &precious).unwrap();
    let text = std::fs::read(&precious).unwrap();
    symlink(&precious, &file).unwrap();
    fake.desk(dir.path(), typed("tcp_established", 1000)).apply().unwrap();
    assert!(file.symlink_metadata().unwrap().is_file(), "the link is replaced");
    assert_eq!(std::fs::read(&precious).unwrap(), text);
    assert_eq!(precious.metadata().unwrap().permissions().mode() & 0o777, 0o644);
    std::fs::remove_file(&file).unwrap();
    symlink(&precious, &file).unwrap();
    // At the journal: it is not read.
    let journal = Which::Applied.path(dir.path());
    let moved = dir.path().join("moved");
    std::fs::rename(&journal, &moved).unwrap();
    symlink(&moved, &journal).unwrap();
    let error = fake.desk(dir.path(), Settings::default()).revert().unwrap_err().to_string();
    assert!(error.contains("no regular file"), "{error}");
    std::fs::rename(&moved, &journal).unwrap();
    let reverted = fake.revert(dir.path());
    assert!(reverted.failed[0].contains("no regular file"), "{reverted:?}");
    assert!(precious.exists() && file.symlink_metadata().is_ok());
    assert_eq!(fake.all(), before);
}

#[test]
fn what_is_another_namespaces_is_not_set_after_a_boot() {
    let (dir, fake) = (tempfile::tempdir().unwrap(), fake());
    let before = fake.all();
    fake.apply(dir.path());
    forge(dir.path(), |journal| {
        journal["boot"] = json!("another");
        journal["net"] = json!("net:[1]");
    });
    fake.values.borrow_mut().clone_from(&before);
    let told = Desk::on(dir.path(), fake.clone(), FACTS, Settings::default(), None).booted().unwrap().unwrap();
    assert!(told.contains("another network namespace"), "{told}");
    assert_eq!(fake.all(), before);
    assert_eq!(Which::Applied.read(dir.path()).unwrap().unwrap().net, "net:[1]", "the journal is not taken over");
}

#[test]
fn calm_is_not_done_while_anything_stays_shortened() {
    let (dir, fake) = (tempfile::tempdir().unwrap(), fake());
    let before = fake.all();
    fake.hold(dir.path(), Profile::Attack);
    *fake.refuses.borrow_mut() = vec![("syn_sent", io::ErrorKind::PermissionDenied)];
    let calm = || Hold::on(dir.path(), fake.clone(), || FACTS).set(Profile::Calm, &Settings::default());
    let error = calm().unwrap_err().to_string();
    assert!(error.contains("1 of 5 timeouts") && error.contains("syn_sent: no") && error.contains("4 timeouts"), "{error}");
    assert_eq!((fake.get("tcp_timeout_syn_sent"), fake.get("tcp_timeout_established")), ("8".to_owned(), "432000".to_owned()));
    fake.refuses.borrow_mut().clear();
    assert_eq!(calm().unwrap().unwrap(), "1 timeout of connection tracking put back as before");
    assert_eq!(fake.all(), before);
    assert!(clean(dir.path()));
}

#[test]
fn a_real_kernel_gets_back_what_a_dead_daemon_shortened() {
    let dir = tempfile::tempdir().unwrap();
    let work = || {
        let mut before = Proc.list().unwrap();
        before.remove("nf_conntrack_count");
        let settings = Settings::default();
        let told = Hold::open(dir.path()).set(Profile::Attack, &settings).unwrap().unwrap();
        assert!(told.contains("attack"), "{told}");
        let tight = Proc.list().unwrap();
        assert_eq!(tight["nf_conntrack_tcp_timeout_syn_sent"], "8");
        assert_eq!(tight["nf_conntrack_udp_timeout_stream"], "30");
        assert_eq!(tight["nf_conntrack_max"], before["nf_conntrack_max"]);
        // That daemon is dead; the next one starts.
        Hold::open(dir.path()).set(Profile::Calm, &settings).unwrap().unwrap();
        let mut after = Proc.list().unwrap();
        after.remove("nf_conntrack_count");
        assert_eq!(after, before);
        assert!(clean(dir.path()));
    };
    Netns::new().unwrap().within(work).unwrap();
}

#[derive(Clone, Copy, Debug)]
enum Deed {
    Apply,
    Revert,
    Hold(Profile),
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    /// Whatever is done in whatever order, and wherever it is killed: in the end there is what there was.
    #[test]
    fn nothing_is_lost(
        deeds in proptest::collection::vec(
            (
                prop_oneof![
                    Just(Deed::Apply),
                    Just(Deed::Revert),
                    prop_oneof![Just(Profile::Calm), Just(Profile::Pressure), Just(Profile::Attack)].prop_map(Deed::Hold),
                ],
                proptest::option::of(0_u32..6),
                proptest::option::of(1_u64..10_000),
            ),
            0..8,
        ),
        calm_first: bool,
    ) {
        let (dir, fake) = (tempfile::tempdir().unwrap(), fake());
        let before = fake.all();
        for (deed, killed, established) in deeds {
            fake.left.set(killed);
            let settings = established.map_or_else(Settings::default, |secs| typed("tcp_established", secs));
            survive(|| match deed {
                Deed::Apply => drop(fake.desk(dir.path(), settings).apply().unwrap()),
                Deed::Revert => drop(fake.desk(dir.path(), settings).revert().unwrap()),
                Deed::Hold(profile) => drop(Hold::on(dir.path(), fake.clone(), || FACTS).set(profile, &settings).unwrap()),
            });
            fake.left.set(None);
        }
        if calm_first {
            fake.hold(dir.path(), Profile::Calm);
            fake.revert(dir.path());
        } else {
            fake.revert(dir.path());
            fake.hold(dir.path(), Profile::Calm);
        }
        prop_assert_eq!(fake.all(), before);
        prop_assert!(clean(dir.path()));
    }
}
