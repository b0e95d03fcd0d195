//! An error with everything below it, on one line, for logs and answers.

use std::error::Error;

/// `what failed: because of this: because of that`.
pub fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut below = error.source();
    while let Some(error) = below {
        text.push_str(&format!(": {error}"));
        below = error.source();
    }
    text
}
