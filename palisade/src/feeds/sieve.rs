//! A list's bytes to its members, whatever its form.

use palisade_core::config::Feed;
use palisade_core::feeds::{Fresh, Gather};
use palisade_core::ports::Ports;
use palisade_core::tables::{Item, Reader, Widest};
use palisade_core::time::{Stamp, Until};

/// Reads one list.
#[derive(Debug)]
pub(super) struct Sieve {
    reader: Reader,
    gather: Gather,
    now: Stamp,
}

impl Sieve {
    /// For a list of this feed.
    pub(super) fn new(feed: &Feed, now: Stamp) -> Self {
        Self { reader: Reader::new(feed.format, now), gather: Gather::new(feed.guard), now }
    }

    /// Takes the next bytes. Whether more are wanted.
    pub(super) fn push(&mut self, bytes: &[u8]) -> bool {
        let (gather, now) = (&mut self.gather, self.now);
        self.reader.push(bytes, &mut |_, item| take(gather, item, now));
        !self.gather.too_many()
    }

    /// The list is over.
    pub(super) fn finish(mut self) -> Fresh {
        let (gather, now) = (&mut self.gather, self.now);
        self.reader.finish(&mut |_, item| take(gather, item, now));
        self.gather.finish()
    }
}

fn take(gather: &mut Gather, item: Item, now: Stamp) {
    match item {
        Item::Ban(row) if row.end.is_some_and(|end| Until::from(end).over(now)) => {}
        // Shutting out of all ports whom the list shuts out of one would be more than it says.
        Item::Ban(row) if row.ports != Ports::All => gather.bad("expected an entry without ports"),
        Item::Ban(row) if !Widest::DEFAULT.admits(&row.prefix) => gather.wide(),
        Item::Ban(row) => gather.add(row.prefix),
        Item::Passed(_) => {}
        Item::Name(name) => gather.bad(&format!("expected an address, found the name {name}")),
        Item::Bad(why) => gather.bad(&why),
    }
}
