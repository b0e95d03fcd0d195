//! Routing carried out: the pure steering, and the hands that do what it says.
//!
//! | file | what |
//! |---|---|
//! | `disk` | the journal on the disk |
//! | [`desk`] | one steering and its hands: an event in, everything that follows from it done |
//! | `alone` | the same without a daemon, for one question |
//! | `probes` | the sockets that probes go out by |

mod alone;
mod desk;
pub(crate) mod disk;
mod probes;

pub(crate) use alone::Alone;
pub(crate) use desk::{Desk, Hands, Out};
