//! From the lists in force to the ruleset in the kernel.

use std::{
    borrow::Cow,
    collections::{HashMap, HashSet},
    mem,
    sync::Arc,
};

use jiff::Timestamp;
use sekisho_abi::{image::Header, record::Modes};
use sekisho_rules::{
    compile::{CompileError, Compiled, Decided, FeedReport},
    feed::{Action, FeedName, FeedSpec},
    policy::{Policy, Staged, demote},
};
use tracing::{info, warn};

use super::{arrivals::Arrivals, rollback::Pinned, service::Service, told};
use crate::{
    dataplane::{
        DataplaneError, Installed,
        tables::{self, Built, Slots, Unfit},
    },
    history::{Cause, FeedCount, History, Version, What},
    hits::Generation,
    rulebook::{ReadList, Rulebook},
    store::StoreError,
};

/// Most causes that a version tells.
const MOST_CAUSES: usize = 50;

/// Why the ruleset that is live stays.
#[derive(Debug, thiserror::Error)]
pub(super) enum PublishError {
    /// The operator's own entries can't be read.
    #[error("the operator's own entries can't be read: {0}")]
    Store(#[from] StoreError),
    /// The version that somebody went back to can't be read.
    #[error("version {0} is pinned and can't be read: {1}; `sekisho resume` goes on without it")]
    Pinned(u32, String),
    /// The rules refused the lists.
    #[error(transparent)]
    Compile(#[from] CompileError),
    /// The table does not fit an image.
    #[error(transparent)]
    Build(#[from] Unfit),
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
    /// Feeds whose source was asked since the start.
    pub(super) asked: HashSet<FeedName>,
    /// Why the next ruleset is made.
    pub(super) causes: Vec<Cause>,
    pub(super) history: History,
    /// The version that somebody went back to.
    pub(super) pinned: Option<Pinned>,
    pub(super) service: Arc<Service>,
    arrivals: Arrivals,
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
        arrivals: Arrivals,
        history: History,
        capacity: usize,
        installed: Installed,
    ) -> Self {
        let slots = Slots::installed(installed.lists, installed.rules);
        if let Some(live) = installed.generation {
            service.remember(Generation::without_table(live, slots.clone()));
            history.reconcile(live);
        }
        let pinned = Pinned::of_history(&history);
        service.set_pin(pinned.as_ref().map(|pinned| pinned.pin.clone()));
        Self {
            rulebook,
            lists: HashMap::new(),
            asked: HashSet::new(),
            causes: vec![Cause::own(What::Start)],
            // A number is never used twice, although the kernel may have been emptied.
            generation: installed.generation.unwrap_or(0).max(history.newest()),
            history,
            pinned,
            service,
            arrivals,
            capacity,
            slots,
            adopted: installed.generation.is_some(),
            live: None,
        }
    }

    /// Compiles what is in force and makes it live if it differs from what is; gives the time when
    /// the next claim lapses.
    pub(super) fn publish(&mut self, now: Timestamp) -> Result<Option<Timestamp>, PublishError> {
        if let Some(missing) = self.waits_for() {
            info!(%missing, "not all lists yet: the ruleset that was found stays live");
            return Ok(None);
        }
        let policy = self.policy_alone();
        let (lists, entries) = self.material(now)?;
        let silent = lists.iter().filter(|list| list.is_silent).map(|list| list.spec.name.clone());
        self.service.set_silent(silent.collect());
        let pairs: Vec<_> = lists.iter().map(|list| (&*list.spec, list.read)).collect();
        let false_positives = self.service.store().false_positives()?;
        let decided = Decided { entries: &entries, false_positives: &false_positives };
        let mut compiled = self.rulebook.compile_decided(&pairs, decided, now)?;
        self.service.keep_found(&compiled.found);
        let rollout = &self.rulebook.policy.rollout;
        let Staged { seen, next: promotion } =
            self.arrivals.stage(&mut compiled, &pairs, rollout, now);
        demote(&mut compiled, self.service.breaker().demoted().into_iter());
        let compiled = Arc::new(compiled);
        let sources = told::sources(policy, &pairs);
        let falls_silent = lists.iter().filter(|list| !list.is_silent).map(|list| list.until).min();
        let next = self.generation.checked_add(1).unwrap_or(1);
        let built = tables::build(&compiled.table, &self.slots, next, self.capacity)
            .map_err(|fault| Unfit::new(fault, &compiled.feeds))?;
        let promotion = promotion.map(Into::into);
        let lapses = next_lapse(&compiled).into_iter().chain(falls_silent).chain(promotion).min();
        let checksum = built.image.header().checksum;
        if self.live == Some(checksum) && self.slots.names() == built.slots.names() {
            self.service.went_live(self.generation, None, self.slots.clone(), compiled, now);
            self.service.set_sources(sources);
            self.arrivals.keep(seen);
            self.causes.clear();
            return Ok(lapses);
        }
        let version = self.version(&built.image.header(), &compiled, now);
        let recorded = self.history.record(&version, &compiled.table);
        self.service.history_outcome(recorded.err().map(|failure| failure.to_string()));
        self.make_live(next, built, compiled, now)?;
        self.live = Some(checksum);
        self.service.set_sources(sources);
        self.arrivals.keep(seen);
        self.causes.clear();
        let spare = self.pinned.as_ref().map(|pinned| pinned.pin.version);
        if let Err(failure) = self.history.prune(spare.as_slice()) {
            warn!("old versions can't be removed: {failure}");
        }
        Ok(lapses)
    }

    /// Notes why the next ruleset is made.
    pub(super) fn because(&mut self, what: What, by: Option<&str>) {
        let by = by.unwrap_or("daemon").to_owned();
        self.take_causes([Cause { what, by }]);
    }

    /// The same, of several causes.
    pub(super) fn take_causes(&mut self, causes: impl IntoIterator<Item = Cause>) {
        for cause in causes {
            if !self.causes.contains(&cause) && self.causes.len() < MOST_CAUSES {
                self.causes.push(cause);
            }
        }
    }

    fn version(&self, header: &Header, compiled: &Compiled, now: Timestamp) -> Version {
        let count = |report: &FeedReport| FeedCount {
            feed: report.name.clone(),
            accepted: report.accepted,
        };
        Version {
            number: header.generation,
            made_at: now,
            causes: self.causes.clone(),
            entries_v4: header.prefixes_v4,
            entries_v6: header.prefixes_v6,
            checksum: header.checksum,
            feeds: compiled.feeds.iter().map(count).collect(),
            operator: compiled.operator.iter().map(|entry| entry.id).collect(),
            pinned_to: self.pinned.as_ref().map(|pinned| pinned.pin.version),
        }
    }

    /// The policy without the operator's networks, which may be many and are in the guards.
    fn policy_alone(&mut self) -> Policy {
        let own = mem::take(&mut self.rulebook.policy.own_prefixes);
        let alone = self.rulebook.policy.clone();
        self.rulebook.policy.own_prefixes = own;
        alone
    }

    /// What is live is not what it should be: the next publication makes it live anew, even if
    /// nothing changed.
    pub(super) fn distrust_live(&mut self) {
        if self.live.take().is_some() {
            // It was this daemon's own.
            self.adopted = false;
        }
    }

    /// The feed without which an earlier daemon's ruleset is not replaced: that feed's entries are
    /// in it, and neither a list of it is there nor was its source asked.
    pub(super) fn waits_for(&self) -> Option<&FeedName> {
        if !self.adopted || self.live.is_some() || self.pinned.is_some() {
            return None;
        }
        let mut enabled = self.rulebook.catalogue.enabled().map(|spec| &spec.name);
        if self.lists.is_empty() {
            return enabled.next();
        }
        enabled.find(|name| {
            let was_in = self.slots.names().iter().any(|held| *held == *name.to_string());
            was_in && !self.lists.contains_key(*name) && !self.asked.contains(*name)
        })
    }

    /// The lists of the enabled feeds. One that its source has not confirmed for too long only
    /// observes, however fresh the others are.
    pub(super) fn in_force(&self, now: Timestamp) -> Vec<InForce<'_>> {
        let enabled = self.rulebook.catalogue.enabled();
        let in_force = enabled.filter_map(|spec| {
            let read = self.lists.get(&spec.name)?;
            let until = self.until(spec, read.confirmed_at);
            let is_silent = until <= now;
            let mut spec = Cow::Borrowed(spec);
            if is_silent {
                spec.to_mut().action = Action::Observe;
            }
            Some(InForce { spec, read, until, is_silent })
        });
        in_force.collect()
    }

    /// When the confirmation of a feed is too old.
    pub(super) fn until(&self, spec: &FeedSpec, confirmed_at: Timestamp) -> Timestamp {
        let lifetime = self.service.list_lifetime().max(2 * spec.refresh.unsigned());
        confirmed_at.checked_add(lifetime).unwrap_or(Timestamp::MAX)
    }

    fn make_live(
        &mut self,
        generation: u32,
        built: Built,
        compiled: Arc<Compiled>,
        now: Timestamp,
    ) -> Result<(), PublishError> {
        // Its first hit may be drained before this function returns.
        self.service.remember(Generation::new(
            generation,
            built.slots.clone(),
            Arc::clone(&compiled),
        ));
        // Whatever comes of it: rows of the flow table are known by this number, and must not be taken for
        // rows of another ruleset.
        self.generation = generation;
        let dataplane = self.service.dataplane();
        if let Err(error) = dataplane.publish(&built.image) {
            self.service.forget(generation);
            self.history.forget(generation);
            return Err(error.into());
        }
        // Only now: until the new ruleset is live, the switches are those of the feeds that left.
        self.release(built.taken_over)?;
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
        let mut clear = |modes: &mut Modes| {
            modes.observed_lists &= !slots;
            modes.bypassed_lists &= !slots;
        };
        self.service.dataplane().change_modes(&mut clear).map(drop)
    }
}

/// A list, and how its feed stands.
pub(super) struct InForce<'a> {
    pub(super) spec: Cow<'a, FeedSpec>,
    pub(super) read: &'a ReadList,
    /// When its confirmation is too old.
    pub(super) until: Timestamp,
    pub(super) is_silent: bool,
}

/// When the first claim lapses, or the first entry of the operator's own.
fn next_lapse(compiled: &Compiled) -> Option<Timestamp> {
    let claims = compiled.table.claims.iter().map(|claim| claim.expires);
    let entries = compiled.operator.iter().filter_map(|entry| entry.until);
    claims.chain(entries).min().map(Into::into)
}
