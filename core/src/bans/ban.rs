//! One ban, with everything that is known about it.

use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::wall::Key;
use crate::attack::JailName;
use crate::time::{Stamp, Until};

/// Who asked for a ban. Printed as `manual`, `jail:sshd`, `flood`, `import:plain`, `feed:drop`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Origin {
    /// `palisade ban`.
    Manual,
    /// Lines in a jail.
    Jail(JailName),
    /// The flood guard.
    Flood,
    /// So many banned neighbours that the whole prefix was banned.
    Spread,
    /// Read from a table, in this format.
    Import(Arc<str>),
    /// A member of this feed, banned until the feed drops it.
    Feed(Arc<str>),
    /// Found standing in the kernel when the store was lost.
    Recovered,
}

impl Origin {
    /// Whether it is a feed.
    pub const fn is_feed(&self) -> bool {
        matches!(self, Self::Feed(_))
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Manual => f.write_str("manual"),
            Self::Jail(name) => write!(f, "jail:{name}"),
            Self::Flood => f.write_str("flood"),
            Self::Spread => f.write_str("spread"),
            Self::Import(format) => write!(f, "import:{format}"),
            Self::Feed(name) => write!(f, "feed:{name}"),
            Self::Recovered => f.write_str("recovered"),
        }
    }
}

impl From<&str> for Origin {
    /// Reads what [`fmt::Display`] wrote; anything unknown is an import of that name.
    fn from(text: &str) -> Self {
        match text.split_once(':') {
            Some(("jail", name)) => Self::Jail(name.into()),
            Some(("import", format)) => Self::Import(format.into()),
            Some(("feed", name)) => Self::Feed(name.into()),
            _ => match text {
                "manual" => Self::Manual,
                "flood" => Self::Flood,
                "spread" => Self::Spread,
                "recovered" => Self::Recovered,
                other => Self::Import(other.into()),
            },
        }
    }
}

impl Serialize for Origin {
    fn serialize<S: serde::Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Origin {
    fn deserialize<D: serde::Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        Ok(Self::from(String::deserialize(d)?.as_str()))
    }
}

/// A ban as the ban table and the store hold it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ban {
    /// Who and from what; one ban a key.
    pub key: Key,
    /// When it began.
    pub since: Stamp,
    /// When it ends.
    pub until: Until,
    /// Who asked for it (of several: who asked for the longest).
    pub origin: Origin,
    /// Why, in a few printable words.
    pub reason: String,
    /// The how manieth ban of this source it is, from 1.
    pub offences: u32,
}
