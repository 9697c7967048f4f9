//! The daemon: lists in, rulesets into the kernel, hits out.

mod arrivals;
mod asking;
mod breaking;
mod collect;
pub mod diff;
pub mod entries;
mod links;
pub mod live_answer;
pub mod orders;
mod proof;
mod publish;
mod rollback;
pub mod service;
pub mod status;
pub mod told;

use std::{
    collections::HashMap,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use jiff::Timestamp;
use sekisho_rules::{
    feed::{FeedName, FeedSpec},
    period::Period,
};
use tokio::{
    sync::{Semaphore, mpsc, watch},
    task::{JoinHandle, spawn_blocking},
    time::{Instant, MissedTickBehavior, sleep_until},
};
use tracing::{error, info, warn};

use self::{
    arrivals::Arrivals,
    asking::Feeds,
    collect::{Collector, Pause},
    links::LinkChanges,
    orders::{Order, Words},
    proof::{Proof, Remedy},
    publish::Publisher,
    service::Service,
};
use crate::{
    config::Config,
    dataplane::{Dataplane, DataplaneError, OptOuts},
    feeds::{News, http::Fetcher},
    history::{History, What},
    opt_out_file::{self, Follower},
    rulebook::{ReadList, Rulebook},
    shutdown::stopped,
    store::Store,
    subscribers::Subscribers,
    tokens,
};

/// Feeds that are read at a time: each may hold its whole list in memory twice.
const FEEDS_AT_ONCE: usize = 4;
/// Shortest time between two compilations for claims that lapse.
const LAPSE_GRANULARITY: Duration = Duration::from_secs(60);
/// How often the lease is written although nothing was confirmed.
const LEASE_INTERVAL: Duration = Duration::from_secs(30);
/// The shortest time between two writes of the lease.
const SHORTEST_BEAT: Duration = Duration::from_millis(300);
/// How long a publication that failed waits for the next try.
const RETRY: Duration = Duration::from_secs(30);

/// Everything that the operator's files say.
#[derive(Debug)]
pub struct Inputs {
    /// The configuration.
    pub config: Config,
    /// Catalogue, policy, never-block lists.
    pub rulebook: Rulebook,
    /// Who uses which address.
    pub subscribers: Subscribers,
    /// Who opted out when the file was read; it is followed from then on.
    pub opt_outs: OptOuts,
}

impl Inputs {
    /// Reads a configuration file and all that it names. The error says file, line and column.
    pub fn read(path: &Path) -> Result<Self, String> {
        let config = Config::read(path).map_err(|error| error.to_string())?;
        let (rulebook, subscribers) = Rulebook::with_subscribers(&config)?;
        let opt_outs = match &config.opt_outs.csv {
            Some(csv) => {
                let opt_outs = opt_out_file::read(csv).map_err(|error| error.to_string())?;
                opt_outs
                    .check(config.dataplane.opt_out_rows)
                    .map_err(|fault| format!("{}: {fault}", csv.display()))?;
                opt_outs
            }
            None => OptOuts::default(),
        };
        if let Some(file) = &config.api.token_file {
            let named = |error| format!("api.token_file {}: {error}", file.display());
            tokens::read(file).map_err(named)?;
        }
        Ok(Self { config, rulebook, subscribers, opt_outs })
    }
}

/// Why the daemon can't run.
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    /// The kernel side refused.
    #[error(transparent)]
    Dataplane(#[from] DataplaneError),
    /// Nobody would be let out who opted out.
    #[error("the opt-outs can't be put into force, so nothing is enforced: {0}")]
    OptOuts(String),
    /// Lists can't be fetched at all.
    #[error("the HTTP client can't be set up: {0}")]
    Http(String),
    /// A part of it was stopped from outside.
    #[error("the daemon was stopped in the middle of its work")]
    Stopped,
}

/// The daemon; inert until it runs.
pub struct Engine {
    config: Config,
    /// Where a reload reads from; `None` if there is nothing to reload.
    config_path: Option<PathBuf>,
    rulebook: Rulebook,
    service: Arc<Service>,
    dataplane: Arc<dyn Dataplane>,
    store: Store,
}

impl Engine {
    /// One that has not begun.
    pub fn new(
        inputs: Inputs,
        config_path: Option<PathBuf>,
        dataplane: Arc<dyn Dataplane>,
        store: Store,
    ) -> Self {
        let Inputs { config, rulebook, subscribers, .. } = inputs;
        let service =
            Arc::new(Service::new(Arc::clone(&dataplane), store.clone(), Timestamp::now()));
        service.set_subscribers(subscribers);
        service.set_policy(&rulebook.policy);
        service.set_list_lifetime(config.list_lifetime.unsigned());
        service.set_heartbeat_lifetime(config.heartbeat_lifetime.unsigned());
        service.set_cables(&config.interfaces);
        service.set_unparsed_limit(config.alerts.unparsed_share);
        service.breaker().set_limits(rulebook.policy.breaker);
        let history = History::new(&config.state_dir, &config.history);
        // The API answers before the publisher is there.
        service.set_pin(history.pin().ok().flatten());
        service.set_history(history);
        Self { config, config_path, rulebook, service, dataplane, store }
    }

    /// What it knows; for the API.
    pub fn service(&self) -> Arc<Service> {
        Arc::clone(&self.service)
    }

    /// Works until `shutdown`, then takes the last hits out of the kernel. What is blocked stays
    /// blocked. Each message on `reload` makes it read its files again.
    pub async fn run(
        self,
        shutdown: watch::Receiver<bool>,
        mut reload: mpsc::Receiver<()>,
    ) -> Result<(), EngineError> {
        // Who gives one before the first ruleset is live waits for that.
        let (orders, mut ordered) = mpsc::channel(orders::QUEUE);
        self.service.take_orders(orders);
        let fetcher =
            Fetcher::new(&self.config.fetch).map_err(|error| EngineError::Http(error.detail))?;
        let publisher = self.prepare().await?;
        let follower = self.follow_opt_outs(&shutdown).await?;
        let (retention, kept_for) = watch::channel(self.config.hits.retention);
        let collector = Collector {
            service: self.service(),
            store: self.store.clone(),
            drain_interval: self.config.drain_interval.unsigned(),
            retention: kept_for,
            pause: Pause::default(),
        };
        let (news, mut heard) = mpsc::channel(64);
        let mut worker = Worker {
            service: self.service(),
            publisher: Some(publisher),
            feeds: Feeds {
                config: self.config.clone(),
                fetcher,
                permits: Arc::new(Semaphore::new(FEEDS_AT_ONCE)),
                running: HashMap::new(),
                news,
                shutdown: shutdown.clone(),
            },
            config: self.config,
            config_path: self.config_path,
            retention,
            proof: Proof::default(),
            words: Words::default(),
            next: None,
        };
        worker.start_feeds().await;
        worker.publish().await?;
        let collector = tokio::spawn(collector.run(shutdown.clone()));
        worker.work(&mut heard, &mut reload, &mut ordered, shutdown).await?;
        worker.feeds.stop_all();
        if let Some(follower) = follower {
            follower.await.map_err(|_| EngineError::Stopped)?;
        }
        collector.await.map_err(|_| EngineError::Stopped)
    }

    /// Lets those out who opted out, before the first ruleset is live, and goes on following their
    /// file.
    async fn follow_opt_outs(
        &self,
        shutdown: &watch::Receiver<bool>,
    ) -> Result<Option<JoinHandle<()>>, EngineError> {
        let Some(path) = self.config.opt_outs.csv.clone() else {
            let service = self.service();
            let nobody =
                spawn_blocking(move || service.dataplane().set_opt_outs(&OptOuts::default()));
            nobody.await.map_err(|_| EngineError::Stopped)??;
            return Ok(None);
        };
        let mut follower = Follower::new(path, self.service());
        let follower = spawn_blocking(move || {
            follower.look();
            follower
        });
        let follower = follower.await.map_err(|_| EngineError::Stopped)?;
        // With an earlier set in force nobody is exposed; without one, nothing may be enforced.
        if let Some(fault) = self.service.opt_out_error() {
            let modes = self.dataplane.modes()?;
            if modes.opt_outs == 0 {
                return Err(EngineError::OptOuts(fault));
            }
        }
        Ok(Some(tokio::spawn(follower.run(shutdown.clone()))))
    }

    /// Looks at what is installed.
    async fn prepare(&self) -> Result<Publisher, EngineError> {
        let (dataplane, service) = (Arc::clone(&self.dataplane), self.service());
        let rulebook = self.rulebook.clone();
        let capacity = self.config.dataplane.image_capacity_bytes();
        let state_dir = self.config.state_dir.clone();
        let history = History::new(&state_dir, &self.config.history);
        let prepare = move || {
            let installed = dataplane.installed()?;
            if let Some(generation) = installed.generation {
                info!(generation, "the ruleset in the kernel is adopted");
            }
            service.load_breaker();
            let arrivals = Arrivals::load(&state_dir);
            Ok(Publisher::new(rulebook, service, arrivals, history, capacity, installed))
        };
        spawn_blocking(prepare).await.map_err(|_| EngineError::Stopped)?
    }
}

/// The part that owns the rules and decides what is live.
struct Worker {
    service: Arc<Service>,
    /// Away while it works on a thread of its own.
    publisher: Option<Publisher>,
    feeds: Feeds,
    config: Config,
    config_path: Option<PathBuf>,
    retention: watch::Sender<Period>,
    proof: Proof,
    words: Words,
    /// When to compile again although nothing came.
    next: Option<Instant>,
}

impl Worker {
    async fn work(
        &mut self,
        heard: &mut mpsc::Receiver<News>,
        reload: &mut mpsc::Receiver<()>,
        ordered: &mut mpsc::Receiver<Order>,
        mut shutdown: watch::Receiver<bool>,
    ) -> Result<(), EngineError> {
        let beat = self.config.heartbeat_lifetime.unsigned() / 3;
        let mut lease = tokio::time::interval(beat.clamp(SHORTEST_BEAT, LEASE_INTERVAL));
        let mut proof = tokio::time::interval(proof::INTERVAL);
        proof.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut links = LinkChanges::listen();
        let service = Arc::clone(&self.service);
        loop {
            let lapse = self.next.unwrap_or_else(|| Instant::now() + 60 * LAPSE_GRANULARITY);
            tokio::select! {
                biased;
                () = stopped(&mut shutdown) => return Ok(()),
                Some(()) = reload.recv() => {
                    self.because(What::Reload, None);
                    self.reload().await;
                    self.publish().await?;
                }
                Some(order) = ordered.recv() => self.obey(order).await?,
                Some(news) = heard.recv() => {
                    let mut changed = self.hear(news);
                    while let Ok(news) = heard.try_recv() {
                        changed |= self.hear(news);
                    }
                    if changed {
                        self.publish().await?;
                    } else {
                        self.renew_lease().await;
                    }
                    self.answer_words();
                }
                () = sleep_until(lapse) => {
                    self.because(What::Lapse, None);
                    self.publish().await?;
                }
                () = service.woken() => {
                    if let Some(publisher) = &mut self.publisher {
                        publisher.take_causes(service.take_causes());
                    }
                    self.publish().await?;
                }
                _ = lease.tick() => self.renew_lease().await,
                () = links.next() => self.prove().await?,
                _ = proof.tick() => self.prove().await?,
            }
        }
    }

    /// Loads the last good list of every enabled feed and starts to ask for news.
    async fn start_feeds(&mut self) {
        let specs: Vec<FeedSpec> = match &self.publisher {
            Some(publisher) => publisher.rulebook.catalogue.enabled().cloned().collect(),
            None => return,
        };
        for news in self.feeds.start(specs).await {
            self.hear(news);
        }
    }

    /// Whether that changes anything for the ruleset.
    fn hear(&mut self, News { feed, list, status, word }: News) -> bool {
        if let Some(word) = word {
            if word.outcome.is_ok() {
                self.because(What::Accepted { feed: feed.clone() }, Some(&word.by));
            }
            self.words.heard(&feed, word);
        }
        let Some(publisher) = &mut self.publisher else { return false };
        if !publisher.rulebook.catalogue.enabled().any(|spec| spec.name == feed) {
            return false;
        }
        let waited = publisher.waits_for().is_some();
        if status.successes > 0 || status.failures > 0 {
            publisher.asked.insert(feed.clone());
        }
        self.service.set_feed(status);
        let changed = list.is_some_and(|list| {
            let before = publisher.lists.insert(feed.clone(), list.clone());
            let same = |before: &ReadList| match (&before.parsed, &list.parsed) {
                (Ok(before), Ok(list)) => Arc::ptr_eq(before, list),
                _ => false,
            };
            if !before.as_ref().is_some_and(same) {
                publisher.because(What::Feed { feed }, None);
            }
            before.is_none_or(|before| before != list)
        });
        changed || waited && publisher.waits_for().is_none()
    }

    fn because(&mut self, what: What, by: Option<&str>) {
        if let Some(publisher) = &mut self.publisher {
            publisher.because(what, by);
        }
    }

    async fn publish(&mut self) -> Result<(), EngineError> {
        // A new ruleset is vouched for from its first packet on.
        self.renew_lease().await;
        let Some(mut publisher) = self.publisher.take() else { return Err(EngineError::Stopped) };
        let work = spawn_blocking(move || {
            let outcome = publisher.publish(Timestamp::now());
            (publisher, outcome)
        });
        let (publisher, outcome) = work.await.map_err(|_| EngineError::Stopped)?;
        self.publisher = Some(publisher);
        match outcome {
            Ok(lapse) => {
                self.service.publish_outcome(None);
                let wait = lapse.map(|lapse| {
                    let until = lapse.duration_since(Timestamp::now());
                    Duration::try_from(until).unwrap_or_default().max(LAPSE_GRANULARITY)
                });
                self.next = wait.and_then(|wait| Instant::now().checked_add(wait));
            }
            Err(failure) => {
                error!("the ruleset that is live stays: {failure}");
                self.service.publish_outcome(Some(failure.to_string()));
                self.next = Some(Instant::now() + RETRY);
            }
        }
        Ok(())
    }

    /// Looks at the cables, compares what is installed with what was, and puts it right.
    async fn prove(&mut self) -> Result<(), EngineError> {
        let (service, mut proof) = (Arc::clone(&self.service), std::mem::take(&mut self.proof));
        let work = spawn_blocking(move || {
            service.watch_cables();
            let remedy = proof.run(&service, std::time::Instant::now());
            (proof, remedy)
        });
        let (proof, remedy) = work.await.map_err(|_| EngineError::Stopped)?;
        self.proof = proof;
        if remedy == Remedy::Rebuild {
            if let Some(publisher) = &mut self.publisher {
                publisher.distrust_live();
                publisher.because(What::Repair, None);
            }
            self.publish().await?;
        }
        Ok(())
    }

    async fn renew_lease(&self) {
        let Some(lease) = self.service.lease(Timestamp::now()) else { return };
        let service = Arc::clone(&self.service);
        let renewal = spawn_blocking(move || service.dataplane().renew_lease(lease)).await;
        match renewal {
            Ok(Ok(())) => {}
            Ok(Err(failure)) => error!("the lease can't be renewed: {failure}"),
            Err(_) => error!("the lease can't be renewed: the work was stopped"),
        }
    }

    /// Reads all files again; a broken one leaves everything as it is.
    async fn reload(&mut self) {
        let Some(path) = self.config_path.clone() else { return };
        let Ok(read) = spawn_blocking(move || Inputs::read(&path)).await else { return };
        let Inputs { config, rulebook, subscribers, .. } = match read {
            Ok(inputs) => inputs,
            Err(fault) => return error!("nothing is reloaded: {fault}"),
        };
        for field in needs_restart(&self.config, &config) {
            warn!(field, "takes effect at the next start");
        }
        self.service.set_subscribers(subscribers);
        self.service.set_policy(&rulebook.policy);
        self.service.set_list_lifetime(config.list_lifetime.unsigned());
        self.service.set_heartbeat_lifetime(config.heartbeat_lifetime.unsigned());
        self.service.set_unparsed_limit(config.alerts.unparsed_share);
        self.service.breaker().set_limits(rulebook.policy.breaker);
        self.retention.send_replace(config.hits.retention);
        let Some(publisher) = &mut self.publisher else { return };
        let enabled: HashMap<FeedName, FeedSpec> =
            rulebook.catalogue.enabled().map(|spec| (spec.name.clone(), spec.clone())).collect();
        publisher.rulebook = rulebook;
        publisher.lists.retain(|name, _| enabled.contains_key(name));
        self.service.keep_feeds(|name| enabled.contains_key(name));
        if self.config.fetch != config.fetch {
            self.feeds.stop_all();
        }
        self.feeds.config.fetch = config.fetch.clone();
        match Fetcher::new(&config.fetch) {
            Ok(fetcher) => self.feeds.fetcher = fetcher,
            Err(failure) => error!("fetch settings are not reloaded: {failure}"),
        }
        self.config = Config {
            list_lifetime: config.list_lifetime,
            heartbeat_lifetime: config.heartbeat_lifetime,
            hits: config.hits,
            alerts: config.alerts,
            fetch: config.fetch,
            subscribers: config.subscribers,
            feeds: config.feeds,
            policy: config.policy,
            never_block: config.never_block,
            ..self.config.clone()
        };
        self.feeds.stop_unless(&enabled);
        self.start_feeds().await;
        info!(feeds = enabled.len(), "configuration reloaded");
    }
}

/// Fields that a running daemon can't change.
fn needs_restart(old: &Config, new: &Config) -> Vec<&'static str> {
    let fields = [
        ("interfaces", old.interfaces == new.interfaces),
        ("dataplane", old.dataplane == new.dataplane),
        ("state_dir", old.state_dir == new.state_dir),
        ("history", old.history == new.history),
        ("opt_outs", old.opt_outs == new.opt_outs),
        ("drain_interval", old.drain_interval == new.drain_interval),
        ("api", old.api == new.api),
        ("log", old.log == new.log),
    ];
    fields.into_iter().filter(|(_, same)| !same).map(|(field, _)| field).collect()
}

#[cfg(test)]
#[path = "engine_tests.rs"]
mod tests;
