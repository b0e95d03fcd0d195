//! The signatures that ship inside the binary: every file in `signatures/`, listed by `build.rs`.

use std::sync::{Arc, LazyLock};

use super::signature::{Places, Signature};

/// File stem and text.
const SHIPPED: &[(&str, &str)] = include!(concat!(env!("OUT_DIR"), "/signatures.rs"));

/// Names and texts of all shipped signatures, sorted by name.
pub fn shipped() -> &'static [(&'static str, &'static str)] {
    SHIPPED
}

/// One shipped signature, compiled; `None` where none is called so.
pub fn load(name: &str) -> Option<Arc<Signature>> {
    let (_, text) = SHIPPED.iter().find(|(stem, _)| *stem == name)?;
    Some(Arc::new(compile(name, text)))
}

/// Where the service of a shipped signature usually logs and listens; `None` where none is called so.
pub fn places(name: &str) -> Option<Places> {
    let (_, text) = SHIPPED.iter().find(|(stem, _)| *stem == name)?;
    Places::of(text)
}

/// All shipped signatures, sorted by name; compiled once, at the first call.
pub fn builtin() -> &'static [Arc<Signature>] {
    static ALL: LazyLock<Vec<Arc<Signature>>> =
        LazyLock::new(|| SHIPPED.iter().map(|(name, text)| Arc::new(compile(name, text))).collect());
    &ALL
}

fn compile(name: &str, text: &str) -> Signature {
    let compiled = Signature::compile(name, text);
    compiled.expect("a shipped signature compiles: tests/signatures.rs compiles every one of this same table")
}
