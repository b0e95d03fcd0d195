//! nginx: a file of `deny` lines that it includes, for services behind it.
//!
//! ```text
//! # BEGIN palisade: ...
//! # by rule
//! deny 192.0.2.7/32;
//! deny 2001:db8::/64;
//! # END palisade
//! ```
//! Source: ngx_http_access_module's documentation. Its default place, `/etc/nginx/conf.d/`, is
//! included at `http` level by the packages' nginx.conf. A `server` or `location` with an `allow` or
//! `deny` of its own inherits none: there the file must be included again, before them, as the first
//! line that matches decides:
//!
//! ```text
//! location /admin { include /etc/nginx/conf.d/palisade-deny.conf; allow 198.51.100.0/24; deny all; }
//! ```
//!
//! The allow list is left out: an `allow` of ours would come before the owner's own `deny` and open
//! what he closed. Forced bans are so like the rest; they stand first.
//!
//! A change is one rewrite and one reload, however many bans it holds, and there is at least
//! [`EVERY`] between reloads: the caller is kept waiting so long, and what it gets to do meanwhile
//! comes as one change. nginx answers the reload before its new workers are there (some
//! milliseconds), and old workers end what they are at: ending connections is for whoever ends those
//! of a ban. Behind a proxy nginx needs its realip module set up to see who a client is.
//!
//! Where nginx does not take the file, it goes on with what it had; the file stays as it should be,
//! and the reload is tried again with the next change.

use std::os::fd::BorrowedFd;

use palisade_core::bans::wall::{Entry, Found, Frame, Limits, Report, Step};
use palisade_core::config::NginxSection;
use palisade_core::net::Prefix;
use palisade_core::time::{Span, Stamp, Tick};

use super::listed::{Listed, Syntax};
use super::{BlockError, Blocker, Drift, Read};
use crate::clock;
use crate::process::Tool;
use crate::wake::poll;

/// The least time between reloads. Each starts new workers and leaves the old ones to finish: in a
/// storm of bans one a second is what nginx bears without noticing.
const EVERY: Span = Span::secs(1);

/// How nginx spells bans.
#[derive(Debug)]
pub(super) struct Denies;

impl Syntax for Denies {
    /// `deny` takes one.
    const A_LINE: usize = 1;

    fn write(&self, bans: &[Prefix], out: &mut String) {
        bans.iter().for_each(|prefix| out.push_str(&format!("deny {prefix};\n")));
    }

    fn read(&self, line: &str) -> Option<Vec<Prefix>> {
        let word = line.strip_prefix("deny ")?.strip_suffix(';')?;
        let prefix: Prefix = word.parse().ok()?;
        (prefix.to_string() == word).then(|| vec![prefix])
    }
}

/// The file of the config, and who is told to read it.
#[derive(Debug)]
pub struct Nginx {
    listed: Listed<Denies>,
    reload: Tool,
    arguments: Vec<String>,
    /// Whether nginx has read the file as it is.
    current: bool,
    reloaded: Option<Tick>,
}

impl Nginx {
    /// Opens it. What stands in the file goes on standing.
    ///
    /// # Errors
    /// [`BlockError::Unusable`] where the file cannot be rewritten or is somebody else's.
    pub fn open(section: &NginxSection) -> Result<Self, BlockError> {
        let listed = Listed::open("nginx", &section.file, Denies)?;
        if !listed.foreign()?.is_empty() {
            return Err(BlockError::Unusable {
                what: format!("nginx: {} holds lines that are not ours", section.file),
                hint: "name a file that is not there yet, as `file` in [backend.nginx], and include it".to_owned(),
            });
        }
        let Some((program, arguments)) = section.reload.split_first() else {
            return Err(BlockError::Unusable {
                what: "nginx: no command has it read the file".to_owned(),
                hint: "set `reload` in [backend.nginx]".to_owned(),
            });
        };
        Ok(Self { listed, reload: Tool::at(program), arguments: arguments.to_vec(), current: false, reloaded: None })
    }

    /// Has nginx read the file, if it `changed` or was not read as it is yet.
    fn have_read(&mut self, changed: bool) -> Result<(), BlockError> {
        self.current &= !changed;
        if self.current {
            return Ok(());
        }
        if let Some(reloaded) = self.reloaded {
            let left = EVERY.as_millis().saturating_sub(clock::now().tick.since(reloaded).as_millis());
            let wait = poll(&[], None, Some(Span::millis(left)));
            let _ = wait.map_err(|source| BlockError::Kernel { what: "nginx: waiting for the next reload".to_owned(), source })?;
        }
        self.reloaded = Some(clock::now().tick);
        let ran = self.reload.run(&self.arguments);
        ran.map_err(|source| BlockError::Tool {
            what: format!("nginx was not made to read {}", self.listed.path().display()),
            hint: "it goes on with the bans it had; see that it runs and that `nginx -t` is content".to_owned(),
            source,
        })?;
        self.current = true;
        Ok(())
    }
}

impl Blocker for Nginx {
    fn name(&self) -> &'static str {
        "nginx"
    }

    fn limits(&self) -> Limits {
        Listed::<Denies>::limits()
    }

    /// What the file says. Whether nginx has read it is told by every change of ours, not by this.
    fn read(&mut self, what: Read<'_>) -> Result<Found, BlockError> {
        self.listed.read(what)
    }

    fn apply(&mut self, steps: &[Step], now: Stamp) -> Report {
        let result = self.listed.apply(steps, now).and_then(|changed| self.have_read(changed));
        result.map_or_else(|error| error.all_failed(steps.len()), |()| Report::all_done(steps.len()))
    }

    fn replace(&mut self, _: &Frame, entries: &mut dyn Iterator<Item = Entry>, now: Stamp) -> Result<Report, BlockError> {
        let (count, changed) = self.listed.replace(entries, now)?;
        self.have_read(changed)?;
        Ok(Report::all_done(count))
    }

    /// Leaves the file, empty: an nginx that includes it by its name would not start without it.
    fn remove(&mut self) -> Result<(), BlockError> {
        let changed = self.listed.remove()?;
        if changed { self.have_read(changed) } else { Ok(()) }
    }

    fn notices(&self) -> Option<BorrowedFd<'_>> {
        None
    }

    fn drift(&mut self) -> Result<Drift, BlockError> {
        let drift = self.listed.drift()?;
        // Somebody may have had nginx read it so.
        self.current &= drift == Drift::None;
        Ok(drift)
    }
}

#[cfg(test)]
mod tests;
