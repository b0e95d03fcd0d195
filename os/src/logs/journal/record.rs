//! One record of `journalctl -o json`: an object on a line of its own.
//!
//! | value | meaning |
//! |---|---|
//! | string | the field, UTF-8 |
//! | array of numbers | the field's bytes, not UTF-8 or not printable |
//! | array of these | the field's values, when it stands more than once |
//! | null | too long: never with `--all` |
//!
//! Source: systemd, JOURNAL_EXPORT_FORMATS, "Journal JSON Format".

use std::fmt;

use serde::Deserialize;
use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, Visitor};

/// The wanted fields of a record and their values.
#[derive(Clone, Debug, Default)]
pub(super) struct Fields {
    names: Vec<String>,
    values: Vec<Vec<Vec<u8>>>,
}

impl Fields {
    /// Nothing read yet; these are wanted.
    pub(super) fn new(names: Vec<String>) -> Self {
        Self { values: vec![Vec::new(); names.len()], names }
    }

    /// Reads one object; what stood here before is forgotten, also when it fails.
    pub(super) fn read(&mut self, json: &[u8]) -> Result<(), serde_json::Error> {
        self.values.iter_mut().for_each(Vec::clear);
        let mut from = serde_json::Deserializer::from_slice(json);
        from.deserialize_map(&mut *self)?;
        from.end()
    }

    /// All values of a field.
    pub(super) fn all(&self, name: &str) -> &[Vec<u8>] {
        self.names.iter().position(|n| n == name).map_or(&[], |at| &self.values[at])
    }

    /// The first value of a field.
    pub(super) fn first(&self, name: &str) -> Option<&[u8]> {
        self.all(name).first().map(Vec::as_slice)
    }

    /// The first value of a field as a number.
    pub(super) fn number<T: std::str::FromStr>(&self, name: &str) -> Option<T> {
        std::str::from_utf8(self.first(name)?).ok()?.parse().ok()
    }
}

impl<'de> Visitor<'de> for &mut Fields {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a journal record")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        while let Some(wanted) = map.next_key_seed(Wanted(&self.names))? {
            match wanted {
                Some(at) => {
                    let value: Value = map.next_value()?;
                    value.add_to(&mut self.values[at]);
                }
                None => {
                    map.next_value::<IgnoredAny>()?;
                }
            }
        }
        Ok(())
    }
}

/// Which of the wanted names a key is.
struct Wanted<'a>(&'a [String]);

impl<'de> DeserializeSeed<'de> for Wanted<'_> {
    type Value = Option<usize>;
    fn deserialize<D: Deserializer<'de>>(self, from: D) -> Result<Option<usize>, D::Error> {
        from.deserialize_str(self)
    }
}

impl Visitor<'_> for Wanted<'_> {
    type Value = Option<usize>;
    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a field name")
    }
    fn visit_str<E>(self, key: &str) -> Result<Option<usize>, E> {
        Ok(self.0.iter().position(|name| name == key))
    }
}

/// Any value a field can have.
#[derive(Deserialize)]
#[serde(untagged)]
enum Value {
    Text(String),
    Bytes(Vec<u8>),
    Many(Vec<One>),
    Nothing(()),
}

/// One of several values.
#[derive(Deserialize)]
#[serde(untagged)]
enum One {
    Text(String),
    Bytes(Vec<u8>),
    Nothing(()),
}

impl Value {
    fn add_to(self, values: &mut Vec<Vec<u8>>) {
        match self {
            Self::Text(text) => values.push(text.into_bytes()),
            Self::Bytes(bytes) => values.push(bytes),
            Self::Many(many) => values.extend(many.into_iter().filter_map(|one| match one {
                One::Text(text) => Some(text.into_bytes()),
                One::Bytes(bytes) => Some(bytes),
                One::Nothing(()) => None,
            })),
            Self::Nothing(()) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fields() -> Fields {
        Fields::new(["MESSAGE", "_PID", "X"].map(str::to_owned).to_vec())
    }

    #[test]
    fn every_shape_of_a_value() {
        let mut f = fields();
        f.read(br#"{"__X":{"a":[1]},"MESSAGE":"a\nb \u00e4","_PID":"42","X":["one",[116,119,255],null],"Y":1e9}"#).unwrap();
        assert_eq!(f.first("MESSAGE"), Some("a\nb \u{e4}".as_bytes()));
        assert_eq!(f.number::<u32>("_PID"), Some(42));
        assert_eq!(f.all("X"), [b"one".to_vec(), vec![116, 119, 255]]);
        assert_eq!(f.first("Y"), None);
        f.read(br#"{"MESSAGE":[0,255,10],"X":null}"#).unwrap();
        assert_eq!((f.first("MESSAGE"), f.first("_PID"), f.all("X").len()), (Some(&[0u8, 255, 10][..]), None, 0));
    }

    #[test]
    fn garbage_is_an_error_and_leaves_nothing() {
        let mut f = fields();
        f.read(br#"{"MESSAGE":"good"}"#).unwrap();
        for wrong in [&b""[..], b"[]", b"{", b"null", br#"{"MESSAGE":"x"} y"#, br#"{"MESSAGE":[256]}"#, br#"{"MESSAGE":{}}"#, b"\xff"] {
            assert!(f.read(wrong).is_err(), "{wrong:?}");
        }
        assert!(f.read(&b"[".repeat(100_000)).is_err());
        let deep = [br#"{"Y":"#.repeat(10_000), b"1".to_vec()].concat();
        assert!(f.read(&deep).is_err() && f.first("MESSAGE").is_none());
    }
}
