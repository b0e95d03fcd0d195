//! A connect budget on disk: `STATE/budget/NAME.json`, written before what it allows is done.
//!
//! Daemon and verbs use the same file, each for as long as a lock beside it is held, and each reads it anew: none knows
//! what the other spent.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use palisade_core::route::budget::{Account, Ask, BootId, BudgetStatus, FILE_MAX, Grant, Ledger, Ticket};
use palisade_core::route::tunnels::Budget;
use palisade_core::time::Now;
use palisade_os::{files, privileges};

/// Why a budget cannot be used. Nothing is started then.
#[derive(Debug, thiserror::Error)]
pub enum PurseError {
    /// The disk.
    #[error("{}: {source}; nothing that costs of budget {name} is started until it can be read and written", path.display())]
    Disk {
        /// The budget.
        name: Arc<str>,
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// What it holds.
    #[error("{}: {source}", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        source: palisade_core::route::budget::AccountError,
    },
}

/// One budget and its file.
#[derive(Debug)]
pub struct Purse {
    ledger: Ledger,
    path: PathBuf,
}

impl Purse {
    /// The budget whose file is in the state folder. Reads nothing yet.
    pub fn new(budget: Budget, state: &Path, now: Now, boot: &BootId) -> Self {
        let path = state.join("budget").join(format!("{}.json", budget.name));
        Self { ledger: Ledger::new(budget, Account::new(now, boot), boot.clone()), path }
    }

    /// Takes the words of a new config.
    pub fn set(&mut self, budget: Budget) {
        if self.ledger.budget() != &budget {
            self.ledger.set_budget(budget);
        }
    }

    /// Asks, and spends what is granted. Once it says so that is on the disk, and the connect may be made.
    ///
    /// # Errors
    /// Where the file cannot be used: then nothing is granted.
    pub fn ask(&mut self, ask: &Ask, now: Now) -> Result<(Grant, Option<Ticket>), PurseError> {
        self.with(now, |ledger| {
            let grant = ledger.grant(ask, now);
            let ticket = matches!(grant, Grant::Granted { .. }).then(|| ledger.spend(ask, now));
            (grant, ticket)
        })
    }

    /// Gives back what provably never left this host.
    ///
    /// # Errors
    /// Where the file cannot be used: then it stays spent.
    pub fn give_back(&mut self, ticket: Ticket, now: Now) -> Result<bool, PurseError> {
        self.with(now, |ledger| ledger.give_back(ticket))
    }

    /// The provider refused.
    ///
    /// # Errors
    /// Where the file cannot be used.
    pub fn refused(&mut self, now: Now) -> Result<(), PurseError> {
        self.with(now, |ledger| ledger.refused(now))
    }

    /// Gives up a place among those who wait.
    pub fn leave(&mut self, who: &str) {
        self.ledger.leave(who);
    }

    /// What is to be told.
    ///
    /// # Errors
    /// Where the file cannot be used.
    pub fn status(&mut self, now: Now) -> Result<BudgetStatus, PurseError> {
        self.with(now, |ledger| ledger.status(now))
    }

    /// Looks at the clocks: one that was set is noted before the next reboot makes it matter.
    ///
    /// # Errors
    /// Where the file cannot be used.
    pub fn observe(&mut self, now: Now) -> Result<(), PurseError> {
        // Looked at here first: most of the time there is nothing to be read or written.
        if self.ledger.observe(now) { self.with(now, |_| ()) } else { Ok(()) }
    }

    /// Forgets all, whatever the file holds.
    ///
    /// # Errors
    /// Where it cannot be written.
    pub fn reset(&mut self, now: Now) -> Result<(), PurseError> {
        let _lock = self.lock()?;
        self.ledger.reset(now);
        self.write()
    }

    /// Does something with what the file holds now, and writes it where that changed.
    fn with<T>(&mut self, now: Now, work: impl FnOnce(&mut Ledger) -> T) -> Result<T, PurseError> {
        let _lock = self.lock()?;
        let kept = self.read()?;
        if let Some(kept) = kept.clone() {
            self.ledger.load(kept);
        }
        self.ledger.observe(now);
        let done = work(&mut self.ledger);
        if kept.as_ref() != Some(self.ledger.account()) {
            self.write()?;
        }
        Ok(done)
    }

    fn disk(&self, source: io::Error) -> PurseError {
        PurseError::Disk { name: Arc::clone(&self.ledger.budget().name), path: self.path.clone(), source }
    }

    /// Held until it is dropped, and by nobody for longer than a write takes.
    fn lock(&self) -> Result<File, PurseError> {
        let open = || {
            if let Some(dir) = self.path.parent() {
                fs::create_dir_all(dir)?;
                privileges::own_like_dir(dir)?;
            }
            let lock = self.path.with_extension("lock");
            let file = OpenOptions::new().write(true).create(true).truncate(false).open(&lock)?;
            // Whom root asks for must not keep the daemon, as a user of its own, from spending.
            privileges::own_like_dir(&lock)?;
            file.lock()?;
            Ok(file)
        };
        open().map_err(|error| self.disk(error))
    }

    fn read(&self) -> Result<Option<Account>, PurseError> {
        let file = match files::open_regular(&self.path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(self.disk(error)),
        };
        let mut bytes = Vec::new();
        file.take(FILE_MAX as u64 + 1).read_to_end(&mut bytes).map_err(|error| self.disk(error))?;
        let account = Account::read(&self.ledger.budget().name, &bytes);
        account.map(Some).map_err(|source| PurseError::Damaged { path: self.path.clone(), source })
    }

    fn write(&self) -> Result<(), PurseError> {
        files::replace(&self.path, &self.ledger.account().write()).map_err(|error| self.disk(error))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use palisade_core::route::budget::Kind;
    use palisade_core::time::{Span, Stamp, Tick};

    fn now(s: u64) -> Now {
        Now { stamp: Stamp(1_795_000_000_000).plus(Span::secs(s)), tick: Tick(s * 1000) }
    }

    fn purse(dir: &Path) -> Purse {
        let budget = Budget {
            name: "sixxs".into(),
            connects: 4,
            within: Span::secs(60),
            penalty: Span::secs(300),
            breaches: 2,
            breach_within: Span::secs(86_400),
            lockout: Span::secs(604_800),
            reserve: 1,
            margin: Span::secs(5),
        };
        Purse::new(budget, dir, now(0), &BootId::from("one"))
    }

    fn ask() -> Ask {
        Ask { who: "sixxs0".into(), kind: Kind::Automatic, cost: 1 }
    }

    #[test]
    fn daemon_and_verb_spend_from_one_purse() {
        let dir = tempfile::tempdir().unwrap();
        let (mut daemon, mut verb) = (purse(dir.path()), purse(dir.path()));
        for s in 0..3 {
            let purse = if s == 1 { &mut verb } else { &mut daemon };
            assert!(matches!(purse.ask(&ask(), now(s)).unwrap(), (Grant::Granted { .. }, Some(_))));
        }
        for purse in [&mut daemon, &mut verb] {
            assert!(matches!(purse.ask(&ask(), now(3)).unwrap(), (Grant::Wait { .. }, None)));
            assert_eq!(purse.status(now(3)).unwrap().used, 3);
        }
        daemon.refused(now(4)).unwrap();
        assert!(verb.status(now(4)).unwrap().hold.is_some());
    }

    #[test]
    fn without_its_disk_or_with_a_damaged_file_nothing_is_granted() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("budget"), "a file where the folder should be").unwrap();
        let error = purse(dir.path()).ask(&ask(), now(0)).unwrap_err().to_string();
        assert!(error.contains("budget/sixxs.json") && error.contains("nothing that costs"), "{error}");
        fs::remove_file(dir.path().join("budget")).unwrap();
        fs::create_dir(dir.path().join("budget")).unwrap();
        fs::write(dir.path().join("budget/sixxs.json"), "{\"v\":1").unwrap();
        let error = purse(dir.path()).ask(&ask(), now(0)).unwrap_err().to_string();
        assert!(error.contains("damaged") && error.contains("palisade budget sixxs --reset --i-know"), "{error}");
        purse(dir.path()).reset(now(0)).unwrap();
        assert!(purse(dir.path()).ask(&ask(), now(0)).is_ok());
    }
}
