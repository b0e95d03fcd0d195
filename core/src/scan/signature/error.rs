//! Why a signature is refused, in words that say what to do.

use super::super::pattern::PatternError;

/// Why a signature does not load.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SignatureError {
    /// Not TOML, or a value of the wrong type.
    #[error("signature {file}: {what}")]
    Toml {
        /// Which file.
        file: String,
        /// The parser's words, with line and column.
        what: String,
    },
    /// A key nobody knows.
    #[error("signature {file}:{line}: unknown key `{key}`; did you mean `{nearest}`?")]
    UnknownKey {
        /// Which file.
        file: String,
        /// Which line, from 1.
        line: usize,
        /// The key.
        key: String,
        /// The known key that looks most like it.
        nearest: &'static str,
    },
    /// A pattern that is refused.
    #[error("signature {file}, rule `{rule}`: {error}")]
    Pattern {
        /// Which file.
        file: String,
        /// Which rule.
        rule: String,
        /// Why.
        error: PatternError,
    },
    /// Something that does not fit together.
    #[error("signature {file}, rule `{rule}`: {what}")]
    Rule {
        /// Which file.
        file: String,
        /// Which rule; empty for the file as a whole.
        rule: String,
        /// What, and what to do.
        what: String,
    },
    /// A hit or miss that does not come out as written.
    #[error("signature {file}, rule `{rule}`: expected {expected}, but {found}: {line}")]
    Example {
        /// Which file.
        file: String,
        /// Which rule.
        rule: String,
        /// What the file says.
        expected: String,
        /// What came out.
        found: String,
        /// The line.
        line: String,
    },
}

impl SignatureError {
    /// The file, and its line where that is known.
    pub fn place(&self) -> (&str, Option<usize>) {
        match self {
            Self::UnknownKey { file, line, .. } => (file, Some(*line)),
            Self::Toml { file, .. } | Self::Pattern { file, .. } | Self::Rule { file, .. } | Self::Example { file, .. } => (file, None),
        }
    }
}
