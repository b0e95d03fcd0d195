//! What one look at the kernel's connection table gives, and who looks.

use std::collections::BTreeMap;
use std::io;

use palisade_core::flood::census::Census;
use palisade_core::flood::gauge::Gauge;
use palisade_core::flood::owner::{Behind, Process};
use palisade_core::net::Prefix;
use palisade_core::time::{Now, Span};

/// The table at one instant.
#[derive(Clone, Debug, Default)]
pub(super) struct Look {
    /// When.
    pub(super) at: Now,
    /// The table as a whole.
    pub(super) gauge: Gauge,
    /// Who holds how many.
    pub(super) census: Census,
    /// New flows a second since the look before, of everybody together; `None` where nobody listened.
    pub(super) new: Option<f32>,
    /// Which process is behind a source, where one of this host, or of a container on it, is.
    pub(super) processes: BTreeMap<Prefix, Process>,
    /// How long the look took.
    pub(super) took: Span,
    /// What is not as exact as it should be, in words.
    pub(super) notes: Vec<String>,
}

/// All that is known of one source.
#[derive(Clone, Debug, Default)]
pub(super) struct Detail {
    /// Its flows alone.
    pub(super) census: Census,
    /// Who it is.
    pub(super) behind: Behind,
}

/// Looks at the table. The kernel's is [`super::feed::Kernel`].
pub(super) trait Feed: Send {
    /// Looks at all of it.
    fn look(&mut self) -> io::Result<Look>;
    /// Looks at one source.
    fn detail(&mut self, of: Prefix) -> io::Result<Detail>;
    /// Hears what the kernel tells meanwhile, so that its buffer does not run over. Called some times a second.
    fn listen(&mut self) -> io::Result<()>;
}
