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
    time::{Instant, sleep_until},
};
use tracing::{info, warn};

use super::{
    backoff,
    check::{self, Came, Checked, Good, Refused},
    fetch::{FetchError, FetchErrorKind, Fetched, Fetcher, Validators, redacted},
    hold::{Held, HeldStatus, Word, WordError, WordOutcome},
    last_good::{LastGood, Meta},
    misp::{self, MispError},
};
use crate::{
    rulebook::{ReadList, limits, read_list_file},
    shutdown::stopped,
};

/// After how long content that comes over HTTP and does not change is stale, unless the feed says.
const STALE_AFTER: Period = Period::days(30);

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
    fetcher: Fetcher,
    last_good: LastGood,
    /// How many feeds may be read at a time.
    permits: Arc<Semaphore>,
    meta: Option<Meta>,
    list: Option<ReadList>,
    held: Option<Held>,
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
    /// When the content last changed, to something that is not empty.
    pub content_at: Option<Timestamp>,
    /// From when on the content is stale, if it does not change before.
    pub stale_at: Option<Timestamp>,
}

impl FeedStatus {
    /// Whether the content has not changed, or has been empty, for longer than it may.
    pub fn is_stale(&self, now: Timestamp) -> bool {
        self.stale_at.is_some_and(|at| at <= now)
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
            source: match &config.spec.source {
                Source::Url(url) => redacted(url),
                Source::File(path) => path.display().to_string(),
            },
            fetched_at: None,
            confirmed_at: None,
            stamp: None,
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
            content_at: None,
            stale_at: None,
        };
        Self { config, fetcher, last_good, permits, meta: None, list: None, held: None, status }
    }

    /// The row of the catalogue.
    pub fn spec(&self) -> &FeedSpec {
        &self.config.spec
    }

    /// Takes the last good copy; blocks.
    pub fn load(&mut self, now: Timestamp) {
        let spec = &self.config.spec;
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
        let mut next = Instant::now() + self.first_wait(Timestamp::now());
        loop {
            tokio::select! {
                () = sleep_until(next) => {}
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
            let wait = backoff::wait(
                self.config.spec.refresh.unsigned(),
                self.floor(),
                self.status.failures,
                retry_after,
                backoff::chance(),
            );
            self.status.next_at = Timestamp::now().checked_add(wait).ok();
            next = Instant::now() + wait;
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
                None
            }
            Err(refused) => {
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
        let meta = self.meta.clone();
        let work = move || match accepts {
            true => check::accept(&spec, &held, meta.as_ref(), &last_good).map(Ok),
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

    /// A feed that was confirmed just before a restart is not asked at once.
    fn first_wait(&self, now: Timestamp) -> Duration {
        let Some(meta) = self.meta.as_ref().filter(|_| self.config.spec.source.is_http()) else {
            return Duration::ZERO;
        };
        let age = Duration::try_from(now.duration_since(meta.confirmed_at)).unwrap_or_default();
        self.floor().saturating_sub(age)
    }

    /// Files cost nobody anything to be looked at.
    fn floor(&self) -> Duration {
        let FeedConfig { spec, floor } = &self.config;
        if !spec.source.is_http() {
            return Duration::from_secs(1);
        }
        // An impatient retry would break the publisher's rule as well.
        spec.min_refresh.map_or(*floor, |least| least.unsigned().max(*floor))
    }

    async fn ask(&self, now: Timestamp) -> Result<Checked, Refused> {
        let spec = self.config.spec.clone();
        let have = self.list.clone().zip(self.meta.clone());
        let have = have.filter(|(_, meta)| meta.is_from(&spec.source));
        let held = self.held.clone();
        let (bytes, validators) = match &spec.source {
            Source::Url(url) => {
                // What is held need not come again and again.
                let known = held.as_ref().map(|held| &held.validators);
                let known = known.or(have.as_ref().map(|(_, meta)| &meta.validators));
                let known = known.cloned().unwrap_or_default();
                let fetched = if misp::is_feed(&spec) {
                    self.ask_misp(&spec, url, &known, now).await?
                } else {
                    let most = limits(&spec).max_bytes;
                    self.fetcher.fetch(url, &known, most, now).await.map_err(Refused::Fetch)?
                };
                match fetched {
                    Fetched::List { bytes, validators } => (Some(bytes), validators),
                    Fetched::NotModified => (None, Validators::default()),
                }
            }
            Source::File(path) => {
                let (spec, path) = (spec.clone(), path.clone());
                let read = spawn_blocking(move || {
                    read_list_file(&spec, &path).map_err(|error| {
                        let detail = format!("{}: {error}", path.display());
                        Refused::Fetch(FetchError::new(FetchErrorKind::Unreadable, detail))
                    })
                });
                (Some(read.await.map_err(|_| Refused::Stopped)??), Validators::default())
            }
        };
        let last_good = self.last_good.clone();
        let came = Came { bytes, validators, now };
        spawn_blocking(move || check::check(&spec, came, have.as_ref(), held.as_ref(), &last_good))
            .await
            .map_err(|_| Refused::Stopped)?
    }

    /// Asks for a manifest and for those of its events that the last good copy lacks.
    async fn ask_misp(
        &self,
        spec: &FeedSpec,
        url: &str,
        known: &Validators,
        now: Timestamp,
    ) -> Result<Fetched, Refused> {
        let (last_good, name) = (self.last_good.clone(), spec.name.clone());
        let kept = spawn_blocking(move || last_good.load(&name));
        let kept = kept.await.map_err(|_| Refused::Stopped)?.map_err(Refused::Disk)?;
        let kept = kept.filter(|(_, meta)| meta.is_from(&spec.source));
        let bytes = kept.map_or_else(Vec::new, |(bytes, _)| bytes);
        let have = (known, &bytes[..]);
        misp::fetch(&self.fetcher, spec, url, have, &limits(spec), now).await.map_err(|error| {
            match error {
                MispError::Fetch(error) => Refused::Fetch(error),
                MispError::Parse(failure) => Refused::Parse(failure),
            }
        })
    }

    fn take(&mut self, Good { list, meta }: Good) {
        self.status.fetched_at = Some(meta.fetched_at);
        self.status.confirmed_at = Some(meta.confirmed_at);
        let content_at = meta.filled_at.unwrap_or(meta.fetched_at);
        let spec = &self.config.spec;
        let usual = spec.source.is_http().then_some(STALE_AFTER);
        let stale_after = spec.stale_after.or(usual);
        self.status.content_at = Some(content_at);
        self.status.stale_at =
            stale_after.and_then(|after| content_at.checked_add(after.signed()).ok());
        self.status.bytes = meta.bytes;
        if let Ok(parsed) = &list.parsed {
            self.status.stamp = parsed.stamp.map(Into::into);
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
