//! What a daemon with another layout of records left: its programs go on until this layout's take
//! their places in the same links, so that a wire carries every frame meanwhile.
//!
//! The kill switch is taken over, and what makes interfaces promiscuous is noted on. Maps are not:
//! until the daemon publishes a ruleset of this layout, packets pass.

use std::{
    fs,
    os::fd::{AsFd as _, OwnedFd},
    path::PathBuf,
};

use nix::fcntl::Flock;
use sekisho_abi::{
    image, names,
    record::{Mode, Modes},
};

use super::{Guarded, attach, ruleset};
use crate::dataplane::{
    DataplaneError, objects,
    pins::{LinkPin, Pins, system},
    sys::{self, OnlyValue},
};

/// Folders of other layouts, each locked as its own daemon locks it.
#[derive(Default)]
pub(super) struct Legacy {
    folders: Vec<(Pins, Flock<OwnedFd>)>,
    heirs: Vec<Heir>,
    moved: Vec<Moved>,
}

/// A guarded interface that had a program of another layout.
struct Heir {
    interface: String,
    folder: Pins,
    link: LinkPin,
    /// Whether the link sits on the interface that has this name now.
    is_live: bool,
}

/// A link that is pinned in this layout's folder from now on.
struct Moved {
    from: PathBuf,
    to: PathBuf,
    /// The program that it had.
    program: OwnedFd,
}

impl Legacy {
    /// Takes hold of what there is; refuses while a daemon of another layout runs.
    pub(super) fn find(&mut self, pins: &Pins, guarded: &[Guarded]) -> Result<(), DataplaneError> {
        for folder in pins.others()? {
            let lock = folder.lock()?;
            for link in folder.links()? {
                if let Some(heir) = Heir::of(&folder, link, guarded) {
                    self.name(heir);
                }
            }
            tracing::info!(folder = folder.display(), "there are links of another layout");
            self.folders.push((folder, lock));
        }
        Ok(())
    }

    /// Of several links for one name at most one is on it.
    fn name(&mut self, heir: Heir) {
        match self.heirs.iter_mut().find(|other| other.interface == heir.interface) {
            Some(other) if heir.is_live => *other = heir,
            Some(_) => {}
            None => self.heirs.push(heir),
        }
    }

    /// The links of this layout, and those that are taken over under the slots that they have, as far
    /// as these are free.
    pub(super) fn known(&self, own: &[LinkPin]) -> Vec<LinkPin> {
        let mut known = own.to_vec();
        for heir in &self.heirs {
            let link = LinkPin { interface: heir.interface.clone(), ..heir.link.clone() };
            if known.iter().all(|it| it.interface != link.interface && it.slot != link.slot) {
                known.push(link);
            }
        }
        known
    }

    /// The switch of the newest folder that has links.
    pub(super) fn modes(&self) -> Option<Modes> {
        let mut folders = self.folders.iter().map(|(folder, _)| folder);
        let has_links = |folder: &&Pins| folder.links().is_ok_and(|links| !links.is_empty());
        folders.find(has_links).and_then(modes_of)
    }

    /// Names by slot of the lists that the switch speaks of: those of the ruleset that was live.
    pub(super) fn lists(&self) -> Vec<String> {
        let each = self.folders.iter().map(|(folder, _)| {
            lists_of(folder).unwrap_or_else(|error| {
                tracing::warn!(%error, "the names of lists in another layout can't be read");
                Vec::new()
            })
        });
        each.into_iter().find(|lists| !lists.is_empty()).unwrap_or_default()
    }

    /// The switch of an interface's own, where it is taken over.
    pub(super) fn mode_of(&self, interface: &str) -> Option<Mode> {
        let heir = self.heirs.iter().find(|heir| heir.interface == interface)?;
        let modes = modes_of(&heir.folder)?;
        modes.ports.get(usize::from(heir.link.slot)).map(|mode| Mode::from_u8(*mode))
    }

    /// Whether another layout's program runs on an interface.
    pub(super) fn runs_on(&self, interface: &str) -> bool {
        self.heirs.iter().any(|heir| heir.interface == interface && heir.is_live)
    }

    /// Lets an interface's link be pinned in this layout's folder; there is no moment without a pin.
    pub(super) fn move_link(
        &mut self,
        pins: &Pins,
        interface: &str,
        slot: u8,
    ) -> Result<(), DataplaneError> {
        let heir = self.heirs.iter().find(|heir| heir.interface == interface && heir.is_live);
        let Some(heir) = heir else { return Ok(()) };
        let from = heir.folder.link(&heir.link);
        let program = objects::open(&from)
            .and_then(|link| objects::link(link.as_fd()))
            .and_then(|facts| objects::program(facts.program))
            .map_err(|error| system(format!("inspect {}", from.display()), error))?;
        // An interface has one link; others that are pinned for it are dead.
        attach::forget(pins, interface)?;
        let link = LinkPin { interface: interface.to_owned(), slot, ..heir.link.clone() };
        pins.rename_link(&from, &link)?;
        self.moved.push(Moved { from, to: pins.link(&link), program });
        Ok(())
    }

    /// After a start that failed: links are where they were, with the programs that they had.
    pub(super) fn give_back(self) -> Result<(), DataplaneError> {
        self.moved.into_iter().rev().try_for_each(|Moved { from, to, program }| {
            objects::open(&to)
                .and_then(|link| objects::update_link(link.as_fd(), program.as_fd()))
                .and_then(|()| fs::rename(&to, &from))
                .map_err(|error| system(format!("give back {}", from.display()), error))
        })
    }

    /// Removes what is left of the folders: maps, and links of interfaces that are no longer guarded.
    /// What can't be removed is told; it is tried again by the next start.
    pub(super) fn retire(self, pins: &Pins) {
        for (folder, _lock) in self.folders {
            let is_left = |link: &LinkPin| !self.heirs.iter().any(|heir| heir.link == *link);
            let links = folder.links().unwrap_or_default();
            for LinkPin { interface, .. } in links.iter().filter(|link| is_left(link)) {
                tracing::warn!(interface, "no longer guarded: the program is detached");
            }
            let removed = promote_notes(&folder, pins).and_then(|()| folder.remove_layout());
            if let Err(error) = removed {
                tracing::warn!(%error, "the folder of another layout stays for now");
            }
        }
    }
}

impl Heir {
    /// Who a link is taken over for: the interface that it sits on, whatever its name was, or that has
    /// its name.
    fn of(folder: &Pins, link: LinkPin, guarded: &[Guarded]) -> Option<Self> {
        let sits_on = sys::interface_of_link(&folder.link(&link)).ok().filter(|index| *index != 0);
        let live = guarded
            .iter()
            .find(|port| sits_on.is_some() && attach::interface_index(&port.interface) == sits_on);
        let named = || guarded.iter().find(|port| port.interface == link.interface);
        let interface = live.or_else(named)?.interface.clone();
        Some(Self { interface, folder: folder.clone(), link, is_live: live.is_some() })
    }
}

fn modes_of(folder: &Pins) -> Option<Modes> {
    match OnlyValue::open(&folder.map(names::MODES)).and_then(|switch| switch.read()) {
        Ok(value) => Modes::of_other_layout(&value),
        Err(error) => {
            tracing::error!(
                folder = folder.display(),
                %error,
                command = "sekisho mode enforce",
                "the kill switch of another layout can't be read: nothing is enforced until you say so"
            );
            Some(Modes::all(Mode::Observe))
        }
    }
}

/// Sets the mode for everything in another layout's folder, for the programs that run there.
pub(super) fn set_global_mode(folder: &Pins, mode: Mode) -> Result<(), DataplaneError> {
    let path = folder.map(names::MODES);
    let set = || {
        let switch = OnlyValue::open(&path)?;
        // Twice, as `ledger::write_modes` does.
        for _ in 0..2 {
            let mut value = switch.read()?;
            Modes::set_in_other_layout(&mut value, mode);
            switch.write(&value)?;
        }
        Ok(())
    };
    set().map_err(|error| system(format!("switch {}", path.display()), error))
}

/// Names of the lists by slot, in the ruleset that is live in a folder.
fn lists_of(folder: &Pins) -> Result<Vec<String>, DataplaneError> {
    let Some((capacity, slot)) = ruleset::newest(folder.rulesets()?)? else {
        return Ok(Vec::new());
    };
    let live = ruleset::live_image(&slot, capacity)?;
    let live = live.filter(|live| image::header(live.bytes()).is_some());
    Ok(live.map(|live| image::list_names(live.bytes())).unwrap_or_default())
}

/// Notes in this layout's folder which interfaces were made promiscuous.
fn promote_notes(folder: &Pins, pins: &Pins) -> Result<(), DataplaneError> {
    folder.all_promiscuous()?.iter().try_for_each(|interface| {
        let note = folder.promiscuous(interface);
        fs::rename(&note, pins.promiscuous(interface))
            .map_err(|error| system(format!("rename {}", note.display()), error))
    })
}
