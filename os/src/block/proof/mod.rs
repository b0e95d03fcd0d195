//! The proof that a ban blocks: packets of a banned address, sent through a copy of this host's rules
//! in throw-away network namespaces.
//!
//! | file | what is in it |
//! |---|---|
//! | here | the order of things |
//! | `copy` | what others' rules are here, and the same in the namespace |
//! | `probe` | the cables, the packets, what arrived |
//!
//! Our own rules are not copied but made by the backend itself, by the same code as on the host: what
//! is proven is that they block among the rules of the others. Whether they stand on the host as they
//! should is a question for [`super::Blocker::read`].
//!
//! The process leaves the host for good and sees all files read-only, so this is for a child that
//! does nothing else.

mod copy;
mod probe;

use std::path::Path;

use palisade_core::bans::backend::Backend;
use palisade_core::bans::proof::{Proof, judge};
use palisade_core::config::BackendSection;
use palisade_core::ours::{NFT_PRIORITY, NFT_TABLE};

use self::copy::Copy;
use super::neighbours;
use crate::errors::chain;
use crate::netns::{self, NetnsError};

/// What came of it.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// What was proven.
    pub proof: Proof,
    /// What the operator should know besides: what could not be copied, who sees packets before us.
    pub notes: Vec<String>,
}

/// Where programs keep what is gone at the next boot (hier(7)).
const RUN: &str = "/run";

/// Proves it, or says why that is not possible here.
pub fn prove(backend: Backend, section: &BackendSection) -> Outcome {
    if !backend.filters_packets() {
        let why = format!("{backend} filters no packets; what it wrote is read back");
        return Outcome { proof: Proof::Untried { why }, notes: Vec::new() };
    }
    if matches!(backend, Backend::Pf | Backend::Ipfw) {
        let why = format!("{backend} is none of this kernel's, and where it is there are no network namespaces; it is read back");
        return Outcome { proof: Proof::Untried { why }, notes: Vec::new() };
    }
    let copy = Copy::take(section);
    let mut notes = copy.missing.clone();
    if backend == Backend::Nftables {
        notes.extend(neighbours::look(NFT_TABLE, NFT_PRIORITY).earlier.into_iter().map(|chain| {
            format!(
                "{chain} sees packets before our rules do; what it accepts meets them all the same, as accepting ends its own chain only"
            )
        }));
    }
    match apart(backend, section, &copy) {
        Ok((proof, refused)) => {
            let whole = copy.missing.is_empty() && refused.is_empty();
            notes.extend(refused);
            let proof = match proof {
                Proof::Proven { how } if !whole => {
                    Proof::Proven { how: format!("{how}; not all of this host's other rules are in the copy (palisade prove)") }
                }
                proof => proof,
            };
            Outcome { proof, notes }
        }
        Err(error) => Outcome { proof: Proof::Untried { why: chain(&error) }, notes },
    }
}

/// In namespaces of our own: what is proven there, and what of the copy could not be put there.
fn apart(backend: Backend, section: &BackendSection, copy: &Copy) -> Result<(Proof, Vec<String>), NetnsError> {
    let links = copy::links();
    netns::leave_host()?;
    let ground = probe::Ground::lay()?;
    // Nothing that runs from here on can change a file. A kernel that cannot do that tries no foreign program.
    let frozen = netns::freeze_files();
    if let (Err(error), Backend::Command) = (&frozen, backend) {
        let why = format!("the program would be run here with your files in its reach ({error})");
        return Ok((Proof::Untried { why }, Vec::new()));
    }
    // Locks and sockets are made there, and those of the host are not for us.
    netns::hide(Path::new(RUN))?;
    let mut section = section.clone();
    section.command.record = format!("{RUN}/palisade-proof");
    let lab = probe::Lab::build(&links, ground)?;
    let refused = copy.lay();
    let proof = match lab.trials(backend, &section) {
        Ok(trials) => judge(backend, &trials),
        Err(error) => Proof::Failed { what: error },
    };
    Ok((proof, refused))
}
