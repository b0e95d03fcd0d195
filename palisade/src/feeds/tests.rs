//! One feed over its life, with a list in a file.

use palisade_core::config::Config;

use super::*;

struct Lab {
    dir: tempfile::TempDir,
}

impl Lab {
    fn new() -> Self {
        Self { dir: tempfile::tempdir().unwrap() }
    }

    fn list(&self) -> PathBuf {
        self.dir.path().join("list")
    }

    fn feed(&self, more: &str) -> Feed {
        let text = format!("[feed.a]\npath = \"{}\"\n{more}", self.list().display());
        let config = Config::read(&[("test.toml".to_owned(), text)], &[]).unwrap();
        config.feed("a").unwrap().clone()
    }

    /// Puts a list in place of the former, as one should.
    fn put(&self, text: impl AsRef<[u8]>) {
        let fresh = self.dir.path().join("fresh");
        fs::write(&fresh, text).unwrap();
        fs::rename(fresh, self.list()).unwrap();
    }

    fn take_up(&self, feed: &Feed) -> (Follower, Option<Fed>) {
        Follower::take_up(feed, self.dir.path(), clock::now())
    }

    fn kept(&self) -> PathBuf {
        self.dir.path().join("feeds/a")
    }
}

fn members(fed: &Fed) -> Vec<String> {
    fed.members.iter().flatten().map(ToString::to_string).collect()
}

#[test]
fn a_file_is_followed_and_what_was_good_last_is_there_after_a_restart() {
    let lab = Lab::new();
    let feed = lab.feed("");
    let (mut follower, before) = lab.take_up(&feed);
    assert!(before.is_none() && follower.look(false).report.error.unwrap().contains("No such file"));
    lab.put("# a list\n192.0.2.7\n198.51.100.0/24 ; why\n203.0.113.1 - 203.0.113.2\n0.0.0.0/0\n");
    let fed = follower.look(false);
    assert_eq!(members(&fed), ["192.0.2.7/32", "198.51.100.0/24", "203.0.113.1/32", "203.0.113.2/32"]);
    assert_eq!((fed.report.added, fed.report.left_out.wide, &fed.report.error), (4, 1, &None));
    // The same file: nothing new. One in its place: that one.
    let fed = follower.look(false);
    assert!(fed.members.is_none() && fed.report.error.is_none() && fed.report.added == 0);
    lab.put("192.0.2.7\n198.51.100.0/24\n203.0.113.1\n");
    let fed = follower.look(false);
    assert_eq!((members(&fed).len(), fed.report.removed), (3, 1));
    // A sharp change, an empty list, an error page, a lost file: refused, and the last good one stays.
    for (text, why) in [("192.0.2.7\n", "--accept"), ("", "empty"), ("<html>\n<p>no\n", "format")] {
        lab.put(text);
        let fed = follower.look(false);
        assert!(fed.members.is_none() && fed.report.error.as_ref().unwrap().contains(why), "{text}: {:?}", fed.report.error);
    }
    fs::remove_file(lab.list()).unwrap();
    let (mut follower, before) = lab.take_up(&feed);
    assert_eq!(members(&before.unwrap()), ["192.0.2.7/32", "198.51.100.0/24", "203.0.113.1/32"]);
    assert!(follower.look(false).report.error.is_some());
    lab.put("192.0.2.7\n");
    assert!(follower.look(false).members.is_none());
    assert_eq!(members(&follower.look(true)), ["192.0.2.7/32"]);
}

#[test]
fn another_source_is_not_compared_with_the_former() {
    let lab = Lab::new();
    lab.put("192.0.2.1\n192.0.2.2\n");
    let (mut follower, _) = lab.take_up(&lab.feed(""));
    assert_eq!(members(&follower.look(false)).len(), 2);
    lab.put("{\"cidr\":\"203.0.113.0/24\",\"sblid\":\"SBL1\",\"rir\":\"x\"}\n");
    let (mut follower, before) = lab.take_up(&lab.feed("format = \"drop-json\"\n"));
    // Until the new one is good, the former stands.
    assert_eq!(members(&before.unwrap()).len(), 2);
    assert_eq!(members(&follower.look(false)), ["203.0.113.0/24"]);
}

#[test]
fn a_kept_list_that_was_tampered_with_is_none() {
    let lab = Lab::new();
    lab.put("192.0.2.0/24\n203.0.113.7\n");
    let feed = lab.feed("");
    let (mut follower, _) = lab.take_up(&feed);
    let _ = follower.look(false);
    let good = fs::read_to_string(lab.kept()).unwrap();
    assert!(kept::read(&lab.kept()).is_some());
    let first = good.lines().next().unwrap();
    for bad in [
        String::new(),
        first.to_owned(),
        good.replace(FIRST_WORDS, "# "),
        good.replace("203.0.113.7/32", "203.0.113"),
        format!("{first}\n203.0.113.7/32\n192.0.2.0/24\n"),
        format!("{first}\n192.0.2.0/24\n192.0.2.1/32\n"),
        "# palisade feed {\n192.0.2.0/24\n".to_owned(),
    ] {
        fs::write(lab.kept(), &bad).unwrap();
        assert!(kept::read(&lab.kept()).is_none(), "{bad}");
        let (mut follower, before) = lab.take_up(&feed);
        assert!(before.is_none());
        assert_eq!(members(&follower.look(false)).len(), 2, "it is read anew");
    }
    fs::remove_file(lab.kept()).unwrap();
    fs::create_dir(lab.kept()).unwrap();
    assert!(kept::read(&lab.kept()).is_none());
}

const FIRST_WORDS: &str = "# palisade feed ";

#[test]
fn a_list_that_was_looked_at_lately_is_not_looked_at_again_for_a_restart() {
    let lab = Lab::new();
    lab.put("192.0.2.0/24\n");
    let feed = lab.feed("every = \"1h\"\n");
    let (mut follower, _) = lab.take_up(&feed);
    let now = clock::now();
    assert!(follower.next() <= now.tick);
    let _ = follower.look(false);
    let (low, high) = (Span::secs(3590), Span::secs(3970));
    let within = |follower: &Follower, low, high| (low..=high).contains(&follower.next().since(now.tick));
    assert!(within(&follower, low, high));
    let (follower, _) = lab.take_up(&feed);
    assert!(within(&follower, low, Span::secs(3610)), "{:?}", follower.next().since(now.tick));
    // Looked at in the future, by a clock that was wrong: within an hour all the same.
    fs::File::options()
        .append(true)
        .open(lab.kept())
        .unwrap()
        .set_modified(std::time::SystemTime::now() + std::time::Duration::from_secs(86_400))
        .unwrap();
    assert!(within(&lab.take_up(&feed).0, low, Span::secs(3610)));
}

#[test]
fn kept_lists_of_feeds_that_are_no_more_are_swept_out() {
    let lab = Lab::new();
    lab.put("192.0.2.0/24\n");
    let (mut follower, _) = lab.take_up(&lab.feed(""));
    let _ = follower.look(false);
    fs::write(lab.dir.path().join("feeds/.b.new"), "").unwrap();
    let config = |text: &str| Config::read(&[("test.toml".to_owned(), text.to_owned())], &[]).unwrap();
    sweep(lab.dir.path(), &config("[feed.a]\npath = \"/a\"\nenabled = false\n"));
    assert!(lab.kept().exists() && !lab.dir.path().join("feeds/.b.new").exists());
    sweep(lab.dir.path(), &config(""));
    assert!(!lab.kept().exists());
}

#[test]
fn an_endless_list_is_not_read_to_its_end() {
    let sieve = |most: &str| Sieve::new(&Lab::new().feed(most), Stamp(0));
    let mut few = sieve("most = 3\n");
    pour(std::io::repeat(b'\n').take(1 << 20), &mut few).unwrap();
    let lines = "192.0.2.1\n".repeat(100_000);
    let mut endless = lines.as_bytes().chain(std::io::repeat(b'x'));
    pour(&mut endless, &mut few).unwrap();
    assert!(feeds::weigh(None, few.finish(), Lab::new().feed("most = 3\n").guard, true).unwrap_err().to_string().contains("more than 3"));
    let error = pour(std::io::repeat(b'\n'), &mut sieve("")).unwrap_err();
    assert!(error.to_string().contains("64 MiB"), "{error}");
}
