//! What the daemon knows, for the API, the metrics and the command line.

use std::{
    collections::BTreeMap,
    mem,
    sync::{
        Arc, Mutex, MutexGuard, OnceLock, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use jiff::Timestamp;
use sekisho_abi::{image::Header, record::FlagClass};
use sekisho_rules::{compile::Compiled, feed::FeedName, policy::Policy};
use tokio::sync::{Notify, mpsc};

mod cables;
mod health;

use self::{cables::Cable, health::Parsing};
use super::{
    orders::Order,
    status::{
        InterfaceStatus, ModeStatus, ProofStatus, PutRight, RulesetReport, RulesetStatus, Status,
    },
    told::Sources,
};
use crate::{
    breaker::Breaker,
    dataplane::{
        Dataplane, DataplaneError,
        canary::CanaryEvidence,
        evidence::{Drift, DriftKind},
        tables::Slots,
    },
    feeds::FeedStatus,
    history::{Cause, History, Pin},
    hits::{Generation, Generations, Hit},
    metrics::{self, Sample},
    store::{Filter, Overview, Page, Store, StoreError},
    subscribers::{Certainty, Subscribers},
};

/// What the daemon knows.
pub struct Service {
    dataplane: Arc<dyn Dataplane>,
    store: Store,
    pub(super) breaker: Breaker,
    /// Something changed that is no news of a feed.
    changed: Notify,
    started_at: Timestamp,
    state: Mutex<State>,
    orders: OnceLock<mpsc::Sender<Order>>,
    history: OnceLock<History>,
    rows_drained: AtomicU64,
    store_errors: AtomicU64,
    drain_errors: AtomicU64,
    publish_errors: AtomicU64,
    attributions: [AtomicU64; Certainty::ALL.len()],
    drifts: [AtomicU64; DriftKind::ALL.len()],
}

#[derive(Default)]
struct State {
    ruleset: Option<Arc<Ruleset>>,
    generations: Generations,
    subscribers: Arc<Subscribers>,
    policy: Arc<Policy>,
    feeds: BTreeMap<FeedName, FeedStatus>,
    confirmed_at: Option<Timestamp>,
    list_lifetime: Duration,
    heartbeat_lifetime: Option<Duration>,
    opt_out_error: Option<String>,
    /// Feeds that only observe because their sources have not confirmed them for too long.
    silent: Vec<FeedName>,
    /// What the packets of the last interval were.
    parsing: Parsing,
    cables: Vec<Cable>,
    cable_error: Option<String>,
    drain_error: Option<String>,
    store_error: Option<String>,
    publish_error: Option<String>,
    history_error: Option<String>,
    /// Why the ruleset is to be compiled again, beyond news of feeds.
    causes: Vec<Cause>,
    pin: Option<Pin>,
    proof: ProofStatus,
    standing: Vec<Drift>,
    /// What the ruleset was compiled of.
    sources: Option<Arc<Sources>>,
    /// Flows by feed: those that subscribers began, and the others.
    feed_flows: BTreeMap<String, [u64; 2]>,
}

/// The ruleset that is live.
#[derive(Clone, Debug)]
pub struct Ruleset {
    /// Its number.
    pub generation: u32,
    /// What the image says of itself.
    pub header: Header,
    /// Which list sits in which slot.
    pub slots: Slots,
    /// The table, and what became of every indicator.
    pub compiled: Arc<Compiled>,
    /// When this generation went live.
    pub live_since: Timestamp,
    /// When the lists were last compiled to it.
    pub compiled_at: Timestamp,
}

/// Refusals that are given at a time.
const SHOWN_REFUSALS: usize = 1000;
/// Most such differences that are kept.
const REMEMBERED_DRIFTS: usize = 20;

impl Service {
    /// Knows nothing yet.
    pub fn new(dataplane: Arc<dyn Dataplane>, store: Store, now: Timestamp) -> Self {
        Self {
            dataplane,
            store,
            breaker: Breaker::default(),
            changed: Notify::new(),
            started_at: now,
            state: Mutex::default(),
            orders: OnceLock::new(),
            history: OnceLock::new(),
            rows_drained: AtomicU64::new(0),
            store_errors: AtomicU64::new(0),
            drain_errors: AtomicU64::new(0),
            publish_errors: AtomicU64::new(0),
            attributions: [const { AtomicU64::new(0) }; Certainty::ALL.len()],
            drifts: [const { AtomicU64::new(0) }; DriftKind::ALL.len()],
        }
    }

    /// How the daemon and the kernel are; blocks.
    pub fn status(&self) -> Result<Status, DataplaneError> {
        let installed = self.dataplane.installed()?;
        let modes = self.dataplane.modes()?;
        let (confirmed_at, proof, pinned) = {
            let state = self.state();
            (state.confirmed_at, state.proof.clone(), state.pin.clone())
        };
        Ok(Status {
            version: env!("CARGO_PKG_VERSION"),
            started_at: self.started_at,
            health: self.health(&installed, &modes),
            mode: ModeStatus::of(&modes, &installed.lists),
            lease_seconds: installed.lease.as_secs(),
            confirmed_at,
            ruleset: RulesetStatus::of(&installed),
            pinned,
            proof,
            interfaces: InterfaceStatus::all(&installed, &modes),
            feeds: self.feeds(),
            rows_drained: self.rows_drained.load(Ordering::Relaxed),
        })
    }

    /// How the feeds are, by name.
    pub fn feeds(&self) -> Vec<FeedStatus> {
        self.state().feeds.values().cloned().collect()
    }

    /// The ruleset that is live; `None` before the first one.
    pub fn ruleset(&self) -> Option<Arc<Ruleset>> {
        self.state().ruleset.clone()
    }

    /// The ruleset that is live, as a report.
    pub fn ruleset_report(&self) -> Option<RulesetReport> {
        let ruleset = self.ruleset()?;
        let refusals = &ruleset.compiled.refusals;
        let (entries_v4, entries_v6) = ruleset.compiled.table.len();
        Some(RulesetReport {
            generation: ruleset.generation,
            live_since: ruleset.live_since,
            compiled_at: ruleset.compiled_at,
            entries_v4,
            entries_v6,
            feeds: ruleset.compiled.feeds.clone(),
            refused_by_reason: refusals.by_reason.clone(),
            refused: refusals.kept.iter().take(SHOWN_REFUSALS).cloned().collect(),
        })
    }

    /// Recorded hits; blocks.
    pub fn hits(&self, filter: &Filter) -> Result<Page, StoreError> {
        self.store.hits(filter)
    }

    /// What the recorded hits of the last so many days come to; blocks.
    pub fn overview(&self, days: u32, now: Timestamp) -> Result<Overview, StoreError> {
        self.store.overview(now, days)
    }

    /// Everything that is counted, in Prometheus' text format; blocks.
    pub fn metrics(&self, now: Timestamp) -> Result<String, DataplaneError> {
        let installed = self.dataplane.installed()?;
        let modes = self.dataplane.modes()?;
        let (unparsed_lately, standing, compared_at, is_pinned, carriers) = {
            let state = self.state();
            let standing = state.standing.iter().map(Drift::kind).collect();
            let carriers = state.cables.iter().filter_map(Cable::sample).collect();
            (state.parsing.share, standing, state.proof.compared_at, state.pin.is_some(), carriers)
        };
        let load = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let sample = Sample {
            now,
            healthy: self.health(&installed, &modes).ok,
            is_pinned,
            unparsed_lately,
            carriers,
            modes,
            counts: self.dataplane.counts()?,
            rule_totals: self.dataplane.rule_totals()?,
            ledger: self.dataplane.ledger_counts()?,
            installed,
            feed_flows: self.feed_flows(),
            breaker: self.breaker.counts(),
            feeds: self.feeds(),
            ruleset: self.ruleset(),
            rows_drained: load(&self.rows_drained),
            store_errors: load(&self.store_errors),
            drain_errors: load(&self.drain_errors),
            publish_errors: load(&self.publish_errors),
            attributions: Certainty::ALL
                .map(|certainty| (certainty, load(&self.attributions[certainty as usize]))),
            drifts: DriftKind::ALL.map(|kind| (kind, load(&self.drifts[kind as usize]))),
            standing,
            compared_at,
        };
        Ok(metrics::render(&sample))
    }

    /// Notes a difference between what was installed and what is.
    pub(super) fn drifted(&self, kind: DriftKind) {
        self.drifts[kind as usize].fetch_add(1, Ordering::Relaxed);
    }

    /// Notes that a difference is gone.
    pub(super) fn put_right(&self, at: Timestamp, drift: &Drift) {
        let put_right = &mut self.state().proof.put_right;
        put_right.insert(0, PutRight { at, what: drift.to_string() });
        put_right.truncate(REMEMBERED_DRIFTS);
    }

    /// Notes a comparison, with what still differs.
    pub(super) fn proven(
        &self,
        at: Timestamp,
        standing: Vec<Drift>,
        canaries: Vec<CanaryEvidence>,
    ) {
        let mut state = self.state();
        state.proof.compared_at = Some(at);
        state.proof.failure = None;
        state.proof.canaries = canaries;
        state.proof.standing = standing.iter().map(Drift::to_string).collect();
        state.standing = standing;
    }

    /// Notes that there could be no comparison.
    pub(super) fn not_proven(&self, failure: &str) {
        let mut state = self.state();
        if state.proof.failure.as_deref() != Some(failure) {
            tracing::error!("what is installed can't be compared: {failure}");
        }
        state.proof.failure = Some(failure.to_owned());
    }

    pub(super) fn set_silent(&self, silent: Vec<FeedName>) {
        let mut state = self.state();
        for feed in silent.iter().filter(|feed| !state.silent.contains(feed)) {
            tracing::warn!(%feed, "its source is silent for too long: the feed only observes");
        }
        state.silent = silent;
    }

    pub(super) fn list_lifetime(&self) -> Duration {
        self.state().list_lifetime
    }

    pub(super) const fn store(&self) -> &Store {
        &self.store
    }

    /// Has the ruleset compiled again.
    pub(super) fn wake(&self, cause: Cause) {
        self.state().causes.push(cause);
        self.changed.notify_one();
    }

    /// Why the ruleset was to be compiled again since this was last asked.
    pub(super) fn take_causes(&self) -> Vec<Cause> {
        mem::take(&mut self.state().causes)
    }

    /// Waits until the ruleset is to be compiled again.
    pub(super) async fn woken(&self) {
        self.changed.notified().await;
    }

    pub(crate) fn dataplane(&self) -> &dyn Dataplane {
        &*self.dataplane
    }

    pub(super) fn sources(&self) -> Option<Arc<Sources>> {
        self.state().sources.clone()
    }

    pub(super) fn set_sources(&self, sources: Arc<Sources>) {
        self.state().sources = Some(sources);
    }

    pub(super) fn generations(&self) -> Generations {
        self.state().generations.clone()
    }

    pub(super) fn subscribers(&self) -> Arc<Subscribers> {
        Arc::clone(&self.state().subscribers)
    }

    pub(super) fn set_subscribers(&self, subscribers: Subscribers) {
        self.state().subscribers = Arc::new(subscribers);
    }

    pub(super) fn policy(&self) -> Arc<Policy> {
        Arc::clone(&self.state().policy)
    }

    pub(super) fn set_policy(&self, policy: &Policy) {
        self.state().policy = Arc::new(policy.clone());
    }

    pub(super) fn orders(&self) -> Option<&mpsc::Sender<Order>> {
        self.orders.get()
    }

    pub(super) fn take_orders(&self, orders: mpsc::Sender<Order>) {
        // A service belongs to one engine.
        let _ = self.orders.set(orders);
    }

    pub(super) fn set_history(&self, history: History) {
        // A service belongs to one engine.
        let _ = self.history.set(history);
    }

    pub(super) fn history(&self) -> Option<&History> {
        self.history.get()
    }

    pub(super) fn history_outcome(&self, error: Option<String>) {
        if let Some(error) = &error {
            tracing::error!("a version can't be kept: {error}");
        }
        self.state().history_error = error;
    }

    pub(super) fn set_pin(&self, pin: Option<Pin>) {
        self.state().pin = pin;
    }

    pub(super) fn publish_error(&self) -> Option<String> {
        self.state().publish_error.clone()
    }

    pub(super) fn set_list_lifetime(&self, lifetime: Duration) {
        self.state().list_lifetime = lifetime;
    }

    pub(super) fn set_heartbeat_lifetime(&self, lifetime: Duration) {
        self.state().heartbeat_lifetime = Some(lifetime);
    }

    pub(crate) fn opt_out_error(&self) -> Option<String> {
        self.state().opt_out_error.clone()
    }

    /// Whether those who opted out are as their file says.
    pub(crate) fn opt_out_outcome(&self, error: Option<String>) {
        self.state().opt_out_error = error;
    }

    pub(super) fn set_feed(&self, status: FeedStatus) {
        let mut state = self.state();
        state.confirmed_at = state.confirmed_at.max(status.confirmed_at);
        state.feeds.insert(status.name.clone(), status);
    }

    pub(super) fn keep_feeds(&self, keep: impl Fn(&FeedName) -> bool) {
        let mut state = self.state();
        state.feeds.retain(|name, _| keep(name));
        let State { feeds, feed_flows, .. } = &mut *state;
        feed_flows.retain(|name, _| feeds.keys().any(|feed| **feed == **name));
    }

    /// For how long lists are still to be enforced, should the daemon fall silent now: until the
    /// lifetime after any enabled feed was last confirmed is over, and no longer than a heartbeat
    /// lasts. `None` before anything was confirmed.
    pub(super) fn lease(&self, now: Timestamp) -> Option<Duration> {
        let state = self.state();
        let age = Duration::try_from(now.duration_since(state.confirmed_at?)).unwrap_or_default();
        Some(
            state
                .list_lifetime
                .saturating_sub(age)
                .min(state.heartbeat_lifetime.unwrap_or(Duration::MAX)),
        )
    }

    pub(super) fn remember(&self, generation: Generation) {
        self.state().generations.push(Arc::new(generation));
    }

    pub(super) fn forget(&self, generation: u32) {
        self.state().generations.remove(generation);
    }

    /// Notes the ruleset that is live; without a header it is the one that was.
    pub(super) fn went_live(
        &self,
        generation: u32,
        header: Option<Header>,
        slots: Slots,
        compiled: Arc<Compiled>,
        now: Timestamp,
    ) {
        let named = Generation::new(generation, slots.clone(), Arc::clone(&compiled));
        let mut state = self.state();
        state.generations.push(Arc::new(named));
        state.generations.keep_table_of(generation);
        let before = state.ruleset.take();
        let known = match (header, &before) {
            (Some(header), _) => Some((header, now)),
            (None, Some(before)) => Some((before.header, before.live_since)),
            (None, None) => None,
        };
        if let Some((header, live_since)) = known {
            let ruleset =
                Ruleset { generation, header, slots, compiled, live_since, compiled_at: now };
            state.ruleset = Some(Arc::new(ruleset));
        }
    }

    pub(super) fn publish_outcome(&self, error: Option<String>) {
        self.publish_errors.fetch_add(u64::from(error.is_some()), Ordering::Relaxed);
        self.state().publish_error = error;
    }

    pub(super) fn drain_outcome(&self, error: Option<String>) {
        if let Some(error) = &error {
            tracing::error!("hits can't be taken out of the kernel: {error}");
        }
        self.drain_errors.fetch_add(u64::from(error.is_some()), Ordering::Relaxed);
        self.state().drain_error = error;
    }

    pub(super) fn store_outcome(&self, error: Option<String>) {
        self.store_errors.fetch_add(u64::from(error.is_some()), Ordering::Relaxed);
        self.state().store_error = error;
    }

    pub(super) fn count_hits(&self, hits: &[Hit]) {
        self.rows_drained.fetch_add(hits.len() as u64, Ordering::Relaxed);
        for hit in hits {
            self.attributions[hit.attribution as usize].fetch_add(1, Ordering::Relaxed);
        }
        let mut state = self.state();
        for hit in hits {
            let began = usize::from(hit.class != FlagClass::Initiated.as_str());
            for feed in &hit.feeds {
                match state.feed_flows.get_mut(feed) {
                    Some(flows) => flows[began] += 1,
                    None => {
                        let mut flows = [0; 2];
                        flows[began] = 1;
                        state.feed_flows.insert(feed.clone(), flows);
                    }
                }
            }
        }
    }

    fn feed_flows(&self) -> Vec<(String, [u64; 2])> {
        let flows = self.state().feed_flows.clone();
        flows.into_iter().collect()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
