//! A line through a whole filter.

use std::sync::Arc;

use super::super::scanner::Line;
use super::super::times::LogClock;
use super::{Definition, Failure};

/// A compiled filter. Immutable: share it in an `Arc`.
#[derive(Debug)]
pub struct Filter {
    full: Arc<str>,
    service: Arc<str>,
}

/// What a filter remembers from one line to the next.
#[derive(Debug, Default)]
pub struct Session {}

impl Filter {
    /// Compiles what was read.
    pub fn compile(definition: &Definition) -> Self {
        Self { full: format!("fail2ban/{}", definition.name).into(), service: definition.name.as_str().into() }
    }

    /// `fail2ban/sshd`, as attacks name it.
    pub fn full_name(&self) -> &Arc<str> {
        &self.full
    }

    /// The filter's own name.
    pub fn service(&self) -> &Arc<str> {
        &self.service
    }

    /// What to begin with.
    pub fn session(&self) -> Session {
        Session::default()
    }

    /// Looks at the next line of a source.
    pub fn look(&self, _session: &mut Session, _line: Line<'_>, _clock: &LogClock) -> Option<Failure> {
        None
    }
}
