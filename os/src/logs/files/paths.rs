//! Which paths are followed, and which files stand at them.

use std::collections::{BTreeMap, HashMap};
use std::ffi::OsStr;
use std::io;
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use palisade_core::time::{Span, Tick};

use super::follow::{Follow, OLD_MAX, Trouble};
use super::glob;
use super::position::FileId;
use super::tail::{self, Opened, Refused, Tail};
use super::watcher::{LIMITS, NAME, limit_reached};
use super::{Files, LOOK, LOOK_BLIND, Notice};

/// A replaced file that has not grown for so long is let go. Daemons that are slow to reopen their
/// log do it within seconds.
const QUIET: Span = Span::secs(60);

/// A file may be away for so long during a rotation before it is worth a word.
const GRACE: Span = Span::secs(5);

/// So many files at once, each an open descriptor: half of what a process usually may have.
const FILES_MAX: usize = 512;

impl Files {
    /// Looks at everything: paths that came, files that grew or were replaced, files to let go.
    pub(super) fn look(&mut self, now: Tick) {
        self.next_look = now.plus(if self.blind { LOOK_BLIND } else { LOOK });
        self.expand();
        let keys: Vec<u64> = self.follows.keys().copied().collect();
        for key in keys {
            self.recheck(key, now);
            self.retire(key, now);
            let tails = self.follows.get_mut(&key).map(|follow| follow.tails.iter_mut());
            tails.into_iter().flatten().for_each(|tail| tail.dirty = true);
        }
    }

    /// Expands all patterns and watches the directories that matter.
    pub(super) fn expand(&mut self) {
        let mut dirs: HashMap<i32, Vec<PathBuf>> = HashMap::new();
        let mut limit = self.watcher.is_none();
        let mut wanted: BTreeMap<PathBuf, bool> = BTreeMap::new();
        let mut notices = Vec::new();
        for spec in &mut self.specs {
            let mut found = spec.pattern.expand(&mut |dir| match self.watcher.as_mut().map(|watcher| watcher.dir(dir)) {
                Some(Ok(watch)) => {
                    let names = dirs.entry(watch).or_default();
                    if !names.iter().any(|name| name == dir) {
                        names.push(dir.to_owned());
                    }
                }
                Some(Err(error)) => limit |= limit_reached(&error),
                None => {}
            });
            let literal = spec.pattern.literal();
            let trouble = literal.is_none().then(|| glob_trouble(found.len())).flatten();
            // Each reader sees it; one says it.
            if spec.trouble != trouble && self.share.is_first() {
                spec.trouble.clone_from(&trouble);
                notices.push(Notice { source: spec.source, about: spec.pattern.text().to_owned(), trouble });
            }
            let plain = literal.is_some();
            if let Some(path) = literal {
                found = vec![path];
            }
            for path in found.into_iter().take(FILES_MAX).filter(|path| self.share.has(path)) {
                *wanted.entry(path).or_default() |= plain;
            }
        }
        self.notices.extend(notices);
        self.watch_only(dirs);
        self.limits_reached(limit);
        self.follow_new(wanted);
    }

    fn watch_only(&mut self, dirs: HashMap<i32, Vec<PathBuf>>) {
        let old = std::mem::replace(&mut self.dirs, dirs);
        if let Some(watcher) = &mut self.watcher {
            old.keys().filter(|watch| !self.dirs.contains_key(watch)).for_each(|watch| watcher.remove(*watch));
        }
    }

    fn limits_reached(&mut self, limit: bool) {
        // Told once, at the start or when it happens; solved only by a restart.
        if limit && (!self.blind || self.opening) {
            self.blind = true;
            let trouble = Some(Trouble { what: LIMITS.to_owned(), soft: true });
            let source = self.specs.first().map_or(0, |spec| spec.source);
            self.notices.push(Notice { source, about: NAME.to_owned(), trouble });
        }
    }

    fn follow_new(&mut self, wanted: BTreeMap<PathBuf, bool>) {
        for (path, literal) in wanted {
            if self.paths.contains_key(&path) || (self.follows.len() >= self.share.part(FILES_MAX) && !literal) {
                continue;
            }
            let mut sources: Vec<usize> = self.specs.iter().filter(|spec| spec.pattern.means(&path)).map(|spec| spec.source).collect();
            sources.sort_unstable();
            sources.dedup();
            self.paths.insert(path.clone(), self.next_key);
            self.follows.insert(self.next_key, Follow::new(path, sources, literal));
            self.next_key += 1;
        }
    }

    /// Sees whether another file stands at the path than the one followed, and follows that one.
    pub(super) fn recheck(&mut self, key: u64, now: Tick) {
        let Some(follow) = self.follows.get(&key) else { return };
        let current = follow.tails.back().map(|tail| tail.id);
        let path = follow.path.clone();
        let opened = match tail::look(&path) {
            Ok((id, _)) if Some(id) == current => {
                self.stands(key);
                return;
            }
            Ok(_) => tail::open(&path),
            Err(refused) => Err(refused),
        };
        match opened {
            Ok(opened) => self.stand(key, opened, now),
            Err(refused) => self.refuse(key, refused, now),
        }
    }

    /// The path is as it should be.
    fn stands(&mut self, key: u64) {
        if let Some(follow) = self.follows.get_mut(&key) {
            follow.missing_from = None;
        }
        self.trouble(key, None);
    }

    fn refuse(&mut self, key: u64, refused: Refused, now: Tick) {
        let opening = self.opening;
        let Some(follow) = self.follows.get_mut(&key) else { return };
        let path = &follow.path;
        let hard = |what: String| Some(Trouble { what, soft: false });
        let trouble = match refused {
            Refused::Missing => {
                let since = *follow.missing_from.get_or_insert(now);
                // While a rotation is under way nothing is missing.
                if !follow.tails.is_empty() && now.since(since) < GRACE || !follow.literal {
                    return;
                }
                Some(Trouble { what: "not there yet; read from its first line when it appears".to_owned(), soft: true })
            }
            Refused::DirDenied => {
                let dir = path.parent().unwrap_or(path).display();
                hard(format!("permission denied on the way to it; `setfacl -m u:palisade:x {dir}` gives the right"))
            }
            Refused::Denied(id, size) => {
                if opening {
                    follow.history = Some((id, size));
                }
                let file = path.display();
                hard(format!("permission denied; `setfacl -m u:palisade:r {file}` or membership in group adm gives the right"))
            }
            Refused::Kind(kind) => hard(format!("it is {kind}; only regular files are read, give the path of the log itself")),
            Refused::System(error) => hard(format!("cannot be opened: {error}")),
        };
        self.trouble(key, trouble);
    }

    /// Another file than before stands at the path.
    fn stand(&mut self, key: u64, opened: Opened, now: Tick) {
        let id = opened.id;
        if let Some(follow) = self.follows.get_mut(&key)
            && let Some(at) = follow.tails.iter().position(|tail| tail.id == id)
        {
            // One of the old ones is back.
            let back = follow.tails.remove(at).into_iter();
            follow.tails.extend(back);
            follow.moved = true;
            return self.stands(key);
        }
        if self.read_elsewhere(key, id) {
            return;
        }
        let tails = match self.tails_for(key, opened) {
            Ok(tails) => tails,
            Err(error) => {
                return self.trouble(key, Some(Trouble { what: format!("cannot be read: {error}"), soft: false }));
            }
        };
        for tail in tails {
            self.push(key, tail, now, true);
        }
        self.stands(key);
    }

    /// Whether another path already reads this file: under its old name until it is quiet, or as a
    /// hard link. No line may count twice.
    fn read_elsewhere(&mut self, key: u64, id: FileId) -> bool {
        let other = self.follows.iter().find(|(other, follow)| **other != key && follow.has(id));
        let Some((_, other)) = other else {
            if self.share.read_by_another(id) {
                self.stands(key);
                return true;
            }
            return false;
        };
        let hard_link = tail::look(&other.path).is_ok_and(|(there, _)| there == id);
        if hard_link {
            let what = format!("the same file as {}, which is read already", other.path.display());
            self.trouble(key, Some(Trouble { what, soft: false }));
        }
        true
    }

    /// What to read now that this file stands at the path: it, and before it the rest of what stood
    /// there when the position was kept.
    fn tails_for(&mut self, key: u64, opened: Opened) -> io::Result<Vec<Tail>> {
        let max = self.line_max;
        let Some(follow) = self.follows.get(&key) else { return Ok(Vec::new()) };
        let path = follow.path.clone();
        if let Some(marks) = self.stored.remove(&path) {
            return Ok(self.resume(key, &path, marks, opened));
        }
        if let Some((_, size)) = follow.history.filter(|(id, _)| *id == opened.id) {
            return Tail::history(opened, size, max).map(|tail| vec![tail]);
        }
        if self.opening {
            let size = opened.size;
            return Tail::history(opened, size, max).map(|tail| vec![tail]);
        }
        let known = self.share.retired(opened.id);
        Ok(vec![match known {
            Some(mark) => Tail::resume(opened, mark, max).unwrap_or_else(|opened| Tail::begin(opened, max)),
            None => Tail::begin(opened, max),
        }])
    }

    fn resume(&mut self, key: u64, path: &Path, marks: Vec<super::Mark>, opened: Opened) -> Vec<Tail> {
        let max = self.line_max;
        let dir = path.parent().unwrap_or(Path::new("/"));
        let newest = marks.len() - 1;
        let mut tails = Vec::new();
        let mut current = Some(opened);
        for (at, mark) in marks.into_iter().enumerate() {
            if let Some(opened) = current.take_if(|opened| opened.id.ino == mark.id.ino) {
                tails.push(Tail::resume(opened, mark, max).unwrap_or_else(|opened| Tail::begin(opened, max)));
                continue;
            }
            let found = tail::find(dir, mark.id.ino).filter(|(found, _)| !self.follows.values().any(|follow| follow.has(found.id)));
            let resumed = found.and_then(|(opened, name)| match Tail::resume(opened, mark, max) {
                Ok(tail) => Some(tail),
                // The number of the file but other content: emptied and written anew before it was
                // rotated, if it looks like a rotated one; else the number was given to a stranger.
                Err(opened) => rotated_name(path, &name).then(|| Tail::begin(opened, max)),
            });
            match resumed {
                Some(tail) => tails.push(tail),
                None if at == newest => self.rest_lost(key),
                None => {}
            }
        }
        tails.extend(current.map(|opened| Tail::begin(opened, max)));
        tails
    }

    /// Says that lines may have been lost, which stays true: told and closed at once.
    fn rest_lost(&mut self, key: u64) {
        let Some(follow) = self.follows.get(&key) else { return };
        let about = format!("{} (rotated)", follow.path.display());
        let what =
            "it was rotated while not followed and the old file is not in its directory any more: what was not yet read of it is lost";
        for &source in &follow.sources {
            let trouble = Some(Trouble { what: what.to_owned(), soft: false });
            self.notices.push(Notice { source, about: about.clone(), trouble });
            self.notices.push(Notice { source, about: about.clone(), trouble: None });
        }
    }

    /// Reads a file that stood at the path for a moment and is at `at` now.
    pub(super) fn adopt(&mut self, key: u64, at: &Path, now: Tick) {
        let Ok(opened) = tail::open(at) else { return };
        let id = opened.id;
        if self.follows.values().any(|follow| follow.has(id)) || self.share.retired(id).is_some() {
            return;
        }
        let tail = Tail::begin(opened, self.line_max);
        // The newest known file may be the one that stands there now: this one was before it.
        let newest = self.follows.get(&key).and_then(|follow| Some((follow.tails.back()?.id, tail::look(&follow.path).ok()?.0)));
        self.push(key, tail, now, newest.is_none_or(|(last, there)| last != there));
    }

    fn push(&mut self, key: u64, mut tail: Tail, now: Tick, newest: bool) {
        if !self.share.take(tail.id) {
            return;
        }
        let Some(follow) = self.follows.get_mut(&key) else { return };
        match self.watcher.as_mut().map(|watcher| watcher.file(tail.file().as_fd())) {
            Some(Ok(watch)) => {
                tail.watch = Some(watch);
                self.tails.insert(watch, key);
            }
            Some(Err(_)) => self.blind = true,
            None => {}
        }
        tail.quiet_from = now;
        for old in &mut follow.tails {
            old.dirty = true;
            old.quiet_from = now;
        }
        let at = follow.tails.len() - usize::from(!newest);
        follow.tails.insert(at, tail);
        follow.moved = true;
        if follow.tails.len() > OLD_MAX + 1 {
            self.let_go(key, 0);
        }
    }

    /// Lets go of files that no longer stand at the path and are quiet, and of paths nobody names.
    fn retire(&mut self, key: u64, now: Tick) {
        let Some(follow) = self.follows.get(&key) else { return };
        let last = follow.tails.len().saturating_sub(1);
        let gone = |(at, tail): (usize, &Tail)| {
            let replaced = at < last || tail.unlinked() || (!follow.literal && follow.missing_from.is_some());
            (replaced && !tail.dirty && now.since(tail.quiet_from) >= QUIET).then_some(at)
        };
        let gone: Vec<usize> = follow.tails.iter().enumerate().filter_map(gone).collect();
        for at in gone.into_iter().rev() {
            self.let_go(key, at);
        }
        let over = |follow: &Follow| follow.tails.is_empty() && !follow.literal && follow.missing_from.is_some();
        if self.follows.get(&key).is_some_and(over)
            && let Some(follow) = self.follows.remove(&key)
        {
            self.paths.remove(&follow.path);
        }
    }

    fn let_go(&mut self, key: u64, at: usize) {
        let Some(follow) = self.follows.get_mut(&key) else { return };
        let Some(tail) = follow.tails.remove(at) else { return };
        follow.moved = true;
        if let Some(watch) = tail.watch {
            self.tails.remove(&watch);
            if let Some(watcher) = &mut self.watcher {
                watcher.remove(watch);
            }
        }
        let last = !self.follows.values().any(|follow| follow.has(tail.id));
        self.share.retire(tail.mark(), last);
    }
}

/// Whether a file of this name can be what once stood at `path`: `auth.log` becomes `auth.log.1` or
/// `auth.log-20261122`.
fn rotated_name(path: &Path, name: &OsStr) -> bool {
    let base = path.file_name().unwrap_or_default().as_bytes();
    !base.is_empty() && name.as_bytes().starts_with(base) && !glob::compressed(name.as_bytes())
}

fn glob_trouble(found: usize) -> Option<Trouble> {
    let trouble = |what: String| Some(Trouble { what, soft: found == 0 });
    match found {
        0 => trouble("no file matches yet".to_owned()),
        n if n > FILES_MAX => trouble(format!("{n} files match, only the first {FILES_MAX} are read; name them more closely")),
        _ => None,
    }
}
