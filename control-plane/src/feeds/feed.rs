//! One feed through its life: it asks, checks, keeps and tells.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use jiff::Timestamp;
use sekisho_rules::{
    feed::{FeedName, FeedSpec, Source},
    period::Period,
};
use serde::Serialize;
use tokio::{
    sync::{Semaphore, mpsc, watch},
    task::spawn_blocking,
    time::{Instant, sleep},
};
use tracing::{info, warn};

use super::{
    backoff,
    check::{self, Checked, Good, Refused},
    fetch::{FetchErrorKind, shown_source},
    hold::{Held, HeldStatus, Word, WordError, WordOutcome},
    http::Fetcher,
    last_good::{LastGood, Meta},
    transport::Transport,
};
use crate::{rulebook::ReadList, shutdown::stopped};

/// How often a feed whose key, proxy or certificates were missing, or whose key was refused, looks
/// for others.
const KEY_INTERVAL: Duration = Duration::from_secs(60);
/// A LAPI is the operator's own and may be asked as often as its other bouncers ask.
const CROWDSEC_FLOOR: Duration = Duration::from_secs(10);
/// Nor does it mind being asked every five minutes while it is down: further failures count no more.
const MOST_CROWDSEC_FAILURES: u32 = 6;

/// How a feed is asked.
#[derive(Clone, Debug)]
pub struct FeedConfig {
    /// The row of the catalogue.
    pub spec: FeedSpec,
    /// Shortest time between two requests.
    pub floor: Duration,
}

/// One feed.
#[derive(Debug)]
pub struct Feed {
    config: FeedConfig,
    transport: Transport,
    last_good: LastGood,
    /// How many feeds may be read at a time.
    permits: Arc<Semaphore>,
    meta: Option<Meta>,
    list: Option<ReadList>,
    held: Option<Held>,
    /// When the source was last asked, by this daemon or the one before.
    asked_at: Option<Timestamp>,
    status: FeedStatus,
}

/// What a feed tells after it asked its source.
#[derive(Clone, Debug)]
pub struct News {
    /// Whose news.
    pub feed: FeedName,
    /// The list in force, if there is one.
    pub list: Option<ReadList>,
    /// How the feed is.
    pub status: FeedStatus,
    /// What came of somebody's word on a held list.
    pub word: Option<WordOutcome>,
}

/// How a feed is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct FeedStatus {
    /// The feed.
    pub name: FeedName,
    /// Where its list is, without credentials.
    pub source: String,
    /// When the list in force came.
    pub fetched_at: Option<Timestamp>,
    /// When the source last said that it is still its list.
    pub confirmed_at: Option<Timestamp>,
    /// When the publisher says the list was made.
    pub stamp: Option<Timestamp>,
    /// Since when its claims are what they are, by our clock or the publisher's, whichever is
    /// earlier.
    pub content_from: Option<Timestamp>,
    /// How long they may stay so before the feed counts as stale.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_content_age: Option<Period>,
    /// Bytes of the list in force.
    pub bytes: u64,
    /// Indicators with an address in the list in force.
    pub indicators: u64,
    /// Names, URLs and AS numbers in the list in force, which block nothing.
    pub named: u64,
    /// Lines of it that could not be read.
    pub rejected: u64,
    /// Why the last request brought nothing; `None` if it did.
    pub trouble: Option<Trouble>,
    /// Failures in a row.
    pub failures: u32,
    /// Requests since the daemon started that were answered well.
    pub successes: u64,
    /// Failures since the daemon started, by reason.
    pub failures_by_reason: BTreeMap<&'static str, u64>,
    /// When the source is asked next.
    pub next_at: Option<Timestamp>,
    /// The list that waits for somebody's word.
    pub held: Option<HeldStatus>,
}

impl FeedStatus {
    /// Whether its claims have not changed for longer than they may.
    pub fn is_stale(&self, now: Timestamp) -> bool {
        let content = self.content_from.zip(self.max_content_age);
        content.is_some_and(|(from, most)| now.duration_since(from) > most.signed())
    }
}

/// Why a request brought nothing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Trouble {
    /// When.
    pub at: Timestamp,
    /// One of a closed set; the metric label.
    pub reason: &'static str,
    /// In words, without credentials.
    pub text: String,
}

impl Feed {
    /// One that has not asked yet.
    pub fn new(
        config: FeedConfig,
        fetcher: Fetcher,
        last_good: LastGood,
        permits: Arc<Semaphore>,
    ) -> Self {
        let status = FeedStatus {
            name: config.spec.name.clone(),
            source: shown_source(&config.spec.source),
            fetched_at: None,
            confirmed_at: None,
            stamp: None,
            content_from: None,
            max_content_age: config.spec.content_lifetime(),
            bytes: 0,
            indicators: 0,
            named: 0,
            rejected: 0,
            trouble: None,
            failures: 0,
            successes: 0,
            failures_by_reason: BTreeMap::new(),
            next_at: None,
            held: None,
        };
        let transport = Transport::new(fetcher, last_good.clone());
        Self {
            config,
            transport,
            last_good,
            permits,
            meta: None,
            list: None,
            held: None,
            asked_at: None,
            status,
        }
    }

    /// The row of the catalogue.
    pub fn spec(&self) -> &FeedSpec {
        &self.config.spec
    }

    /// Takes the last good copy; blocks.
    pub fn load(&mut self, now: Timestamp) {
        let spec = &self.config.spec;
        self.asked_at = self.last_good.last_request(&spec.name);
        match self.last_good.load(&spec.name) {
            Ok(Some((bytes, mut meta))) => {
                // A clock that was wrong once must not vouch for a list for years.
                meta.confirmed_at = meta.confirmed_at.min(now);
                let list = ReadList::new(spec, &bytes, meta.confirmed_at);
                if let Err(failure) = &list.parsed {
                    warn!(feed = %spec.name, %failure, "the last good copy is not used");
                } else {
                    self.take(Good { list, meta });
                }
            }
            Ok(None) => {}
            Err(error) => warn!(feed = %spec.name, %error, "the last good copy can't be read"),
        }
        let spec = &self.config.spec;
        match self.last_good.load_held(&spec.name, &spec.source) {
            Ok(held) => self.set_held(held),
            Err(error) => warn!(feed = %spec.name, %error, "the held list can't be read"),
        }
    }

    /// What there is to tell now.
    pub fn news(&self) -> News {
        News {
            feed: self.config.spec.name.clone(),
            list: self.list.clone(),
            status: self.status.clone(),
            word: None,
        }
    }

    /// Asks again and again, and tells each time, until `shutdown` or nobody listens; hears in between
    /// what somebody says of a held list.
    pub async fn run(
        mut self,
        news: mpsc::Sender<News>,
        mut words: mpsc::Receiver<Word>,
        mut shutdown: watch::Receiver<bool>,
    ) {
        let (mut began, mut wait) = (Instant::now(), self.first_wait(Timestamp::now()));
        loop {
            tokio::select! {
                () = self.rest(began, wait, KEY_INTERVAL) => {}
                () = stopped(&mut shutdown) => return,
                Some(word) = words.recv() => {
                    let word = Some(self.obey(word).await);
                    if news.send(News { word, ..self.news() }).await.is_err() {
                        return;
                    }
                    continue;
                }
            }
            let retry_after = tokio::select! {
                retry_after = self.poll() => retry_after,
                () = stopped(&mut shutdown) => return,
            };
            wait = self.next_wait(retry_after);
            began = Instant::now();
            self.status.next_at = Timestamp::now().checked_add(wait).ok();
            if news.send(self.news()).await.is_err() {
                return;
            }
        }
    }

    /// Asks once; gives how long the server wants us to wait.
    pub async fn poll(&mut self) -> Option<Duration> {
        self.poll_at(Timestamp::now()).await
    }

    async fn poll_at(&mut self, now: Timestamp) -> Option<Duration> {
        let permits = Arc::clone(&self.permits);
        let Ok(_permit) = permits.acquire().await else { return None };
        let name = self.config.spec.name.clone();
        let was_stale = self.status.is_stale(now);
        match self.ask(now).await {
            Ok(checked) => {
                if self.status.failures > 0 {
                    info!(feed = %name, "the feed is back");
                }
                self.status.failures = 0;
                self.status.trouble = None;
                self.status.successes += 1;
                match checked {
                    Checked::Good(good) => {
                        self.set_held(None);
                        self.take(*good);
                    }
                    Checked::Held(held, confirmed) => {
                        self.tell_held(&held);
                        self.set_held(Some(*held));
                        if let Some(good) = confirmed {
                            self.take(*good);
                        }
                    }
                }
                if self.status.is_stale(now) && !was_stale {
                    warn!(feed = %name, "it answers, and its claims have not changed for long");
                }
                None
            }
            Err(refused) => {
                self.transport.distrust();
                let (reason, text) = (refused.reason(), refused.text());
                // Once a feed is broken, each further failure is no news.
                if self.status.failures == 0 {
                    let left = if self.list.is_some() {
                        "the last good list stays"
                    } else {
                        "it has no list"
                    };
                    warn!(feed = %name, reason, "{left}: {text}");
                } else {
                    info!(feed = %name, reason, "still broken: {text}");
                }
                self.status.failures = self.status.failures.saturating_add(1);
                *self.status.failures_by_reason.entry(reason).or_default() += 1;
                self.status.trouble = Some(Trouble { at: now, reason, text });
                match refused {
                    Refused::Fetch(error) => error.retry_after,
                    Refused::Older(_, meta) => {
                        self.meta = Some(*meta);
                        None
                    }
                    _ => None,
                }
            }
        }
    }

    /// A list that is newly held is counted and logged.
    fn tell_held(&mut self, held: &Held) {
        if self.held.as_ref().is_some_and(|before| before.id() == held.id()) {
            return;
        }
        let (name, reason) = (&self.config.spec.name, held.reason.as_str());
        *self.status.failures_by_reason.entry(reason).or_default() += 1;
        warn!(
            feed = %name,
            reason,
            "the list is held and the last good one stays: {}; `sekisho accept {name}` takes it",
            held.status().text
        );
    }

    fn set_held(&mut self, held: Option<Held>) {
        self.status.held = held.as_ref().map(Held::status);
        self.held = held;
    }

    /// Does what somebody says of the held list.
    pub async fn obey(&mut self, word: Word) -> WordOutcome {
        let Word { accepts, list, by } = word;
        let name = self.config.spec.name.clone();
        let Some(held) = self.held.clone() else {
            return WordOutcome { by, outcome: Err(WordError::NothingHeld(name)) };
        };
        if list.is_some_and(|list| list != held.id()) {
            return WordOutcome { by, outcome: Err(WordError::Another { held: held.id() }) };
        }
        let (spec, last_good) = (self.config.spec.clone(), self.last_good.clone());
        let (have, meta) = (self.list.clone().zip(self.meta.clone()), self.meta.clone());
        let work = move || match accepts {
            true => check::accept(&spec, &held, have.as_ref(), &last_good).map(Ok),
            false => check::reject(&spec, &held, meta, &last_good).map(Err),
        };
        let done = spawn_blocking(work).await.unwrap_or_else(|_| Err("it was stopped".to_owned()));
        let outcome = done.map_err(WordError::Broken).map(|good| {
            let list = self.held.as_ref().map(Held::id).unwrap_or_default();
            let what = if accepts { "accepted" } else { "rejected" };
            info!(feed = %name, by, list, "the held list is {what}");
            self.set_held(None);
            match good {
                Ok(good) => self.take(good),
                Err(meta) => self.meta = meta,
            }
        });
        WordOutcome { by, outcome }
    }

    fn next_wait(&self, retry_after: Option<Duration>) -> Duration {
        let spec = &self.config.spec;
        let failures = match &spec.source {
            Source::Crowdsec(_) => self.status.failures.min(MOST_CROWDSEC_FAILURES),
            _ => self.status.failures,
        };
        let refresh = spec.refresh.unsigned();
        backoff::wait(refresh, self.floor(), failures, retry_after, backoff::chance())
    }

    /// A feed that was confirmed just before a restart is not asked at once.
    fn first_wait(&self, now: Timestamp) -> Duration {
        let confirmed_at = self.meta.as_ref().map(|meta| meta.confirmed_at);
        let last = confirmed_at.max(self.asked_at).filter(|_| self.config.spec.source.is_http());
        let Some(last) = last else { return Duration::ZERO };
        let age = Duration::try_from(now.duration_since(last)).unwrap_or_default();
        self.floor().saturating_sub(age)
    }

    /// Files cost nobody anything to be looked at.
    fn floor(&self) -> Duration {
        let FeedConfig { spec, floor } = &self.config;
        let floor = match &spec.source {
            Source::File(_) => return Duration::from_secs(1),
            Source::Crowdsec(_) => &CROWDSEC_FLOOR,
            Source::Url(_) | Source::Taxii(_) => floor,
        };
        // An impatient retry would break the publisher's rule as well.
        spec.min_refresh.map_or(*floor, |least| least.unsigned().max(*floor))
    }

    /// Sleeps until `wait` is over since `began`. A feed that could not ask for want of its key, proxy
    /// or certificates wakes as soon as they are there; one whose key was refused as soon as another one
    /// is, and its floor is over.
    async fn rest(&self, began: Instant, wait: Duration, interval: Duration) {
        let reason = self.status.trouble.as_ref().map(|trouble| trouble.reason);
        let is = |kind: FetchErrorKind| reason == Some(kind.as_str());
        let could_not_ask = is(FetchErrorKind::Secret) || is(FetchErrorKind::Setup);
        let left = || wait.saturating_sub(began.elapsed());
        if !could_not_ask && !is(FetchErrorKind::Denied) {
            return sleep(left()).await;
        }
        let spec = &self.config.spec;
        loop {
            sleep(interval.min(left())).await;
            let is_mended = match could_not_ask {
                true => self.transport.can_ask(spec).await,
                false => began.elapsed() >= self.floor() && self.transport.has_new_key(spec).await,
            };
            if left().is_zero() || is_mended {
                return;
            }
        }
    }

    async fn ask(&mut self, now: Timestamp) -> Result<Checked, Refused> {
        let spec = self.config.spec.clone();
        let have = self.list.clone().zip(self.meta.clone());
        let have = have.filter(|(_, meta)| meta.is_from(&spec.source));
        let held = self.held.clone();
        // What is held need not come again and again. A TAXII server tells what is new since a list,
        // which has to be the one that it is put over.
        let of_held = held.as_ref().filter(|_| !matches!(spec.source, Source::Taxii(_)));
        let known = of_held.map(|held| &held.validators);
        let known = known.or(have.as_ref().map(|(_, meta)| &meta.validators));
        let known = known.cloned().unwrap_or_default();
        let fetched = self.transport.ask(&spec, &known, now).await?;
        let last_good = self.last_good.clone();
        let work =
            move || check::check(&spec, fetched, have.as_ref(), held.as_ref(), &last_good, now);
        spawn_blocking(work).await.map_err(|_| Refused::Stopped)?
    }

    fn take(&mut self, Good { list, meta }: Good) {
        self.status.fetched_at = Some(meta.fetched_at);
        self.status.confirmed_at = Some(meta.confirmed_at);
        self.status.bytes = meta.bytes;
        if let Ok(parsed) = &list.parsed {
            self.status.stamp = parsed.stamp.map(Into::into);
            self.status.content_from = Some(meta.content_from(self.status.stamp));
            self.status.indicators = parsed.indicators.len() as u64;
            self.status.named = parsed.named.len() as u64;
            self.status.rejected = parsed.rejects.total();
        }
        self.list = Some(list);
        self.meta = Some(meta);
    }
}

#[cfg(test)]
#[path = "replay_tests.rs"]
mod replay;

#[cfg(test)]
#[path = "feed_tests.rs"]
mod tests;

#[cfg(test)]
#[path = "hostile_tests.rs"]
mod hostile_tests;

#[cfg(test)]
#[path = "key_tests.rs"]
mod key_tests;
