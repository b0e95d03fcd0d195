//! One supervised tunnel.
