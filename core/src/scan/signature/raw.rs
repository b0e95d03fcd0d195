//! A signature file as it is written.

use std::collections::{BTreeMap, BTreeSet};

use serde::Deserialize;

use super::{Hit, Kind};

#[derive(Deserialize)]
pub(super) struct RawSignature {
    pub(super) name: String,
    pub(super) service: String,
    pub(super) summary: String,
    pub(super) kind: Kind,
    #[serde(default)]
    pub(super) programs: Vec<String>,
    #[serde(default)]
    pub(super) files: Vec<String>,
    #[serde(default)]
    pub(super) journal: Vec<String>,
    #[serde(default)]
    pub(super) ports: Vec<Port>,
    #[serde(flatten)]
    pub(super) fields: RawFields,
    #[serde(default)]
    pub(super) rule: Vec<RawRule>,
}

/// `443`, `"https"`, `"6000-6007"`.
#[derive(Deserialize)]
#[serde(untagged)]
pub(super) enum Port {
    Number(u16),
    Name(String),
}

/// Which fields tell what, for `kind = "fields"`; a rule's own stand before its signature's.
#[derive(Clone, Default, Deserialize)]
pub(super) struct RawFields {
    #[serde(default)]
    pub(super) addr: Names,
    #[serde(default)]
    pub(super) user: Names,
    #[serde(default)]
    pub(super) time: Names,
    pub(super) addr_from: Option<String>,
}

impl RawFields {
    pub(super) fn is_empty(&self) -> bool {
        [&self.addr, &self.user, &self.time].iter().all(|names| names.0.is_empty()) && self.addr_from.is_none()
    }
}

/// One field's name or several, the first that holds something counts.
#[derive(Clone, Default, Deserialize)]
#[serde(from = "OneOrMore")]
pub(super) struct Names(pub(super) Vec<String>);

#[derive(Deserialize)]
#[serde(untagged)]
enum OneOrMore {
    One(String),
    More(Vec<String>),
}

impl From<OneOrMore> for Names {
    fn from(written: OneOrMore) -> Self {
        match written {
            OneOrMore::One(name) => Self(vec![name]),
            OneOrMore::More(names) => Self(names),
        }
    }
}

#[derive(Deserialize)]
pub(super) struct RawRule {
    pub(super) id: String,
    pub(super) score: Option<u16>,
    #[serde(default)]
    pub(super) outcome: Outcome,
    pub(super) note: Option<String>,
    pub(super) pattern: Option<String>,
    pub(super) open_end: Option<String>,
    #[serde(default)]
    pub(super) owned: BTreeMap<String, String>,
    #[serde(default)]
    pub(super) methods: Vec<String>,
    pub(super) path: Option<String>,
    pub(super) agent: Option<String>,
    pub(super) referer: Option<String>,
    #[serde(default)]
    pub(super) status: BTreeSet<u16>,
    #[serde(default, rename = "where")]
    pub(super) conditions: BTreeMap<String, toml::Value>,
    #[serde(flatten)]
    pub(super) fields: RawFields,
    #[serde(default)]
    pub(super) hits: Vec<Hit>,
    #[serde(default)]
    pub(super) misses: Vec<String>,
}

/// What a rule's lines tell of.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Outcome {
    /// Somebody failed.
    #[default]
    Failure,
    /// Somebody got in.
    Login,
}
