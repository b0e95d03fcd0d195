//! What lines of one session say together: `F-MLFID` and what goes with it.
//!
//! A port of fail2ban's `Filter._mergeFailure` (`server/filter.py`):
//!
//! | group | what it does |
//! |---|---|
//! | `mlfid` | names the session: a later line of it takes over what earlier ones said |
//! | `nofail` | the line is no failure, it only says something; it counts with the next failure |
//! | `mlfgained` | access was gained: as `nofail`, and nothing is pending any more |
//! | `mlfforget` | the session is over |
//! | `mlfpending` | a failure whose address is still to come |
//! | `user` | a second user in one session is a failure, whatever the line says |

use std::collections::BTreeSet;
use std::collections::VecDeque;

use crate::time::Stamp;

/// How many sessions are remembered (fail2ban's `maxCount`).
const SESSIONS: usize = 100;

/// For how long, from their first line on (fail2ban's `maxTime`).
const KEPT: i64 = 5 * 60 * 1000;

/// A longer id is no id: nothing is remembered by it.
const LONGEST_ID: usize = 1024;

/// Of what a line said, so much is kept for later lines, in bytes.
const LONGEST_TEXT: usize = 1024;

/// How many different users of a session are told apart; two make a failure.
const USERS: usize = 64;

/// What a line can say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Field {
    Fid,
    Ip4,
    Ip6,
    Dns,
    Cidr,
    User,
    NoFail,
    Gained,
    Forget,
    Pending,
    Id,
}

/// How many fields there are.
const FIELDS: usize = 11;

impl Field {
    /// The field of a group's name.
    pub(super) fn of(name: &str) -> Option<Self> {
        Some(match name {
            "fid" => Self::Fid,
            "ip4" => Self::Ip4,
            "ip6" => Self::Ip6,
            "dns" => Self::Dns,
            "cidr" => Self::Cidr,
            "user" => Self::User,
            "nofail" => Self::NoFail,
            "mlfgained" => Self::Gained,
            "mlfforget" => Self::Forget,
            "mlfpending" => Self::Pending,
            "mlfid" => Self::Id,
            _ => return None,
        })
    }
}

/// What a line, or all lines of a session so far, said.
#[derive(Clone, Debug, Default)]
pub(super) struct Record {
    fields: [Option<Box<str>>; FIELDS],
    pub(super) users: BTreeSet<Box<str>>,
    /// Lines that make up the failure.
    pub(super) matches: u32,
    /// Lines that will, when it comes to one.
    waiting: u32,
}

impl Record {
    pub(super) fn get(&self, field: Field) -> Option<&str> {
        self.fields.get(field as usize)?.as_deref()
    }

    pub(super) fn set(&mut self, field: Field, value: Option<&str>) {
        if let Some(place) = self.fields.get_mut(field as usize) {
            *place = value.map(Into::into);
        }
    }

    /// Whether it says anything there: an empty text is nothing.
    pub(super) fn says(&self, field: Field) -> bool {
        self.get(field).is_some_and(|text| !text.is_empty())
    }

    fn take(&mut self, field: Field) -> bool {
        let said = self.says(field);
        self.set(field, None);
        said
    }

    fn note_user(&mut self, user: Option<&str>) {
        if let Some(user) = user.filter(|user| !user.is_empty())
            && self.users.len() < USERS
        {
            self.users.insert(head(user).into());
        }
    }

    /// What `later` says, and where it says nothing, what is said already.
    pub(super) fn take_over(&mut self, later: Self) {
        for (field, value) in self.fields.iter_mut().zip(later.fields) {
            if value.is_some() {
                *field = value;
            }
        }
    }

    /// The same, with long texts cut.
    fn shortened(mut self) -> Self {
        for field in self.fields.iter_mut().flatten() {
            if field.len() > LONGEST_TEXT {
                *field = head(field).into();
            }
        }
        self
    }
}

/// The first part of a text.
fn head(text: &str) -> &str {
    text.get(..text.floor_char_boundary(LONGEST_TEXT)).unwrap_or(text)
}

/// FNV-1a: what it is for needs no secret, as ids that collide are compared.
fn hash(id: &str) -> u64 {
    id.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3))
}

/// The sessions of one source. Bounded: at most [`SESSIONS`] records of some texts of [`LONGEST_TEXT`].
#[derive(Clone, Debug, Default)]
pub(super) struct Sessions {
    /// Oldest first.
    known: VecDeque<Kept>,
    count: u64,
}

#[derive(Clone, Debug)]
struct Kept {
    /// Tells ids apart that differ in their last letters only, as those of one host do.
    hash: u64,
    id: Box<str>,
    began: Began,
    record: Record,
}

/// When a session began.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Began {
    /// Which one it is.
    number: u64,
    at: Stamp,
}

/// What a line said, together with what its session did.
pub(super) struct Merged {
    pub(super) record: Record,
    /// When the session began, where it is to be remembered.
    began: Option<Began>,
}

impl Sessions {
    /// Takes the session's record out, if there is one still.
    fn take(&mut self, id: &str, now: Stamp) -> Option<(Began, Record)> {
        let hash = hash(id);
        let at = self.known.iter().position(|kept| kept.hash == hash && *kept.id == *id)?;
        let Kept { began, record, .. } = self.known.remove(at)?;
        (now.0.saturating_sub(began.at.0) < KEPT).then_some((began, record))
    }

    /// Remembers the record of a session.
    pub(super) fn keep(&mut self, id: &str, merged: &Merged) {
        let Some(began) = merged.began.filter(|_| id.len() <= LONGEST_ID) else { return };
        let at = self.known.iter().rposition(|kept| kept.began.number < began.number).map_or(0, |at| at + 1);
        self.known.insert(at, Kept { hash: hash(id), id: id.into(), began, record: merged.record.clone().shortened() });
        while self.known.len() > SESSIONS {
            self.known.pop_front();
        }
    }

    /// Puts together what a line says and what its session said before. `lines` is how many lines the
    /// expression matched.
    pub(super) fn merge(&mut self, id: &str, mut said: Record, lines: u32, now: Stamp) -> Merged {
        let mut gained = said.says(Field::Gained);
        if gained && !said.says(Field::NoFail) {
            let value = said.get(Field::Gained).map(str::to_owned);
            said.set(Field::NoFail, value.as_deref());
        }
        let mut no_fail = said.says(Field::NoFail);
        let forget = said.take(Field::Forget);
        let (mut record, began) = match self.take(id, now) {
            Some((began, mut known)) => {
                known.note_user(said.get(Field::User));
                let no_fail_before = known.take(Field::NoFail) | known.take(Field::Gained);
                if gained {
                    known.set(Field::Pending, None);
                }
                // What counted already does not count again.
                if !no_fail_before && !known.says(Field::Pending) {
                    known.matches = 0;
                }
                known.take_over(said);
                (known, (!forget).then_some(began))
            }
            None if forget => (said, None),
            None => {
                let user = said.get(Field::User).map(str::to_owned);
                said.note_user(user.as_deref());
                self.count = self.count.saturating_add(1);
                (said, Some(Began { number: self.count, at: now }))
            }
        };
        if record.take(Field::Pending) || record.users.len() > 1 {
            record.set(Field::NoFail, None);
            record.set(Field::Gained, None);
            (no_fail, gained) = (false, false);
        }
        if !no_fail {
            record.matches = record.matches.saturating_add(record.waiting);
            record.waiting = 0;
            if !gained {
                record.matches = record.matches.saturating_add(lines);
            }
        } else if !forget {
            record.waiting = record.waiting.saturating_add(lines);
        }
        Merged { record, began }
    }
}
