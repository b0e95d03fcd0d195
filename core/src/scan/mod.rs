//! From lines to attacks.
