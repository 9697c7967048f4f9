//! From the lists in force to the ruleset in the kernel.

use std::{collections::HashMap, sync::Arc};

use jiff::Timestamp;
use sekisho_abi::image::BuildError;
use sekisho_rules::{
    compile::{CompileError, Compiled},
    feed::FeedName,
};
use tracing::{info, warn};

use super::service::Service;
use crate::{
    dataplane::{
        DataplaneError, Installed,
        tables::{self, Built, Slots},
    },
    hits::Generation,
    rulebook::{ReadList, Rulebook},
};

/// Why the ruleset that is live stays.
#[derive(Debug, thiserror::Error)]
pub(super) enum PublishError {
    /// The rules refused the lists.
    #[error(transparent)]
    Compile(#[from] CompileError),
    /// The table does not fit an image.
    #[error("the ruleset does not fit: {0}")]
    Build(#[from] BuildError),
    /// The kernel refused.
    #[error(transparent)]
    Dataplane(#[from] DataplaneError),
    /// The kernel holds something else than was published.
    #[error("the kernel says generation {found:?} with {entries} entries, expected {expected}")]
    Drifted {
        /// Generation that is live.
        found: Option<u32>,
        /// Entries that are live.
        entries: u64,
        /// What was published.
        expected: String,
    },
}

/// Compiles and publishes. All of it blocks.
pub(super) struct Publisher {
    pub(super) rulebook: Rulebook,
    pub(super) lists: HashMap<FeedName, ReadList>,
    service: Arc<Service>,
    capacity: usize,
    slots: Slots,
    generation: u32,
    /// A ruleset of an earlier daemon is live.
    adopted: bool,
    /// Checksum of the image that is live.
    live: Option<u32>,
}

impl Publisher {
    pub(super) fn new(
        rulebook: Rulebook,
        service: Arc<Service>,
        capacity: usize,
        installed: Installed,
    ) -> Self {
        let slots = Slots::installed(installed.lists, installed.rules);
        let generation = installed.generation.unwrap_or(0);
        let adopted = installed.generation.is_some();
        if adopted {
            let nothing = Arc::new(Compiled::default());
            service.remember(Generation::new(generation, slots.clone(), nothing));
        }
        let lists = HashMap::new();
        Self { rulebook, lists, service, capacity, slots, generation, adopted, live: None }
    }

    /// Compiles what is in force and makes it live if it differs from what is; gives the time when
    /// the next claim lapses.
    pub(super) fn publish(&mut self, now: Timestamp) -> Result<Option<Timestamp>, PublishError> {
        let lists: Vec<_> = self
            .rulebook
            .catalogue
            .enabled()
            .filter_map(|spec| Some((spec, self.lists.get(&spec.name)?)))
            .collect();
        if lists.is_empty() && self.adopted && self.live.is_none() {
            info!("no list yet: the ruleset that was found stays live");
            return Ok(None);
        }
        let compiled = Arc::new(self.rulebook.compile(&lists, now)?);
        let next = self.generation.checked_add(1).unwrap_or(1);
        let built = tables::build(&compiled.table, &self.slots, next, self.capacity)?;
        let lapses = next_lapse(&compiled);
        let checksum = built.image.header().checksum;
        if self.live == Some(checksum) && self.slots.names() == built.slots.names() {
            self.service.went_live(self.generation, None, self.slots.clone(), compiled, now);
            return Ok(lapses);
        }
        self.make_live(next, built, compiled, now)?;
        self.live = Some(checksum);
        Ok(lapses)
    }

    fn make_live(
        &mut self,
        generation: u32,
        built: Built,
        compiled: Arc<Compiled>,
        now: Timestamp,
    ) -> Result<(), PublishError> {
        if self.live.is_none() && self.adopted {
            // What the earlier daemon's ruleset said of malware is best told by today's lists.
            let earlier =
                Generation::new(self.generation, self.slots.clone(), Arc::clone(&compiled));
            self.service.remember(earlier);
        }
        self.release(built.taken_over)?;
        // Its first hit may be drained before this function returns.
        self.service.remember(Generation::new(
            generation,
            built.slots.clone(),
            Arc::clone(&compiled),
        ));
        let dataplane = self.service.dataplane();
        if let Err(error) = dataplane.publish(&built.image) {
            self.service.forget(generation);
            return Err(error.into());
        }
        self.generation = generation;
        self.slots = built.slots.clone();
        let header = built.image.header();
        if built.left_out > 0 {
            warn!(entries = built.left_out, "IPv6 entries outside 2000::/3 are left out");
        }
        info!(
            generation,
            entries_v4 = header.prefixes_v4,
            entries_v6 = header.prefixes_v6,
            bytes = header.bytes,
            "ruleset live"
        );
        self.service.went_live(generation, Some(header), built.slots, compiled, now);
        let installed = dataplane.installed()?;
        let found = (installed.generation, installed.entries_v4, installed.entries_v6);
        let expected = (Some(generation), header.prefixes_v4, header.prefixes_v6);
        if found != expected || !installed.intact {
            return Err(PublishError::Drifted {
                found: installed.generation,
                entries: u64::from(installed.entries_v4) + u64::from(installed.entries_v6),
                expected: format!(
                    "{generation} with {}",
                    u64::from(header.prefixes_v4) + u64::from(header.prefixes_v6)
                ),
            });
        }
        Ok(())
    }

    /// A switch that was set for a feed that is gone must not hold for the one in its place.
    fn release(&self, slots: u64) -> Result<(), DataplaneError> {
        if slots == 0 {
            return Ok(());
        }
        let dataplane = self.service.dataplane();
        let mut modes = dataplane.modes()?;
        modes.observed_lists &= !slots;
        modes.bypassed_lists &= !slots;
        dataplane.set_modes(&modes)
    }
}

/// When the first claim lapses.
fn next_lapse(compiled: &Compiled) -> Option<Timestamp> {
    compiled.table.claims.iter().map(|claim| claim.expires).min().map(Into::into)
}
