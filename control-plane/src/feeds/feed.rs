//! One feed through its life: it asks, checks, keeps and tells.

use std::{collections::BTreeMap, io, sync::Arc, time::Duration};

use jiff::{SignedDuration, Timestamp};
use sekisho_rules::feed::{FeedName, FeedSpec, Source};
use serde::Serialize;
use tokio::{
    sync::{Semaphore, mpsc, watch},
    task::spawn_blocking,
    time::sleep,
};
use tracing::{info, warn};

use super::{
    backoff,
    fetch::{FetchError, FetchErrorKind, Fetched, Fetcher, Validators, redacted},
    last_good::{LastGood, Meta},
    misp::{self, MispError},
};
use crate::{
    rulebook::{ReadList, limits, read_list_file},
    shutdown::stopped,
};

/// A list whose own date is older than that of the last good copy is held back for as long as that
/// copy is younger than this. Spamhaus DROP went back in time 26 times in 447 days, at most 2.7
/// days.
const OLDER_LIST_HELD: SignedDuration = SignedDuration::from_hours(72);

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

/// Why a list is not taken.
#[derive(Debug)]
enum Refused {
    Fetch(FetchError),
    Parse(sekisho_rules::parse::ParseFailure),
    /// Nothing is in it, and something was.
    Emptied,
    /// The publisher's date is older than that of the last good copy.
    Older(Timestamp),
    Disk(io::Error),
    /// The work on it was stopped.
    Stopped,
}

impl Refused {
    const fn reason(&self) -> &'static str {
        match self {
            Self::Fetch(error) => error.kind.as_str(),
            Self::Parse(failure) => failure.as_str(),
            Self::Emptied => "emptied",
            Self::Older(_) => "older",
            Self::Disk(_) => "disk",
            Self::Stopped => "stopped",
        }
    }

    fn text(&self) -> String {
        match self {
            Self::Fetch(error) => error.detail.clone(),
            Self::Parse(failure) => failure.to_string(),
            Self::Emptied => "the list is empty and was not before; its claims stand until they \
                              lapse"
                .to_owned(),
            Self::Older(stamp) => format!("the list is older ({stamp}) than the one we have"),
            Self::Disk(error) => format!("the last good copy can't be written: {error}"),
            Self::Stopped => "reading it was stopped".to_owned(),
        }
    }
}

/// A list that passed all checks.
struct Good {
    list: ReadList,
    meta: Meta,
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
        };
        Self { config, fetcher, last_good, permits, meta: None, list: None, status }
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
    }

    /// What there is to tell now.
    pub fn news(&self) -> News {
        News {
            feed: self.config.spec.name.clone(),
            list: self.list.clone(),
            status: self.status.clone(),
        }
    }

    /// Asks again and again, and tells each time, until `shutdown` or nobody listens.
    pub async fn run(mut self, news: mpsc::Sender<News>, mut shutdown: watch::Receiver<bool>) {
        let mut wait = self.first_wait(Timestamp::now());
        loop {
            tokio::select! {
                () = sleep(wait) => {}
                () = stopped(&mut shutdown) => return,
            }
            let retry_after = tokio::select! {
                retry_after = self.poll() => retry_after,
                () = stopped(&mut shutdown) => return,
            };
            wait = backoff::wait(
                self.config.spec.refresh.unsigned(),
                self.floor(),
                self.status.failures,
                retry_after,
                backoff::chance(),
            );
            self.status.next_at = Timestamp::now().checked_add(wait).ok();
            if news.send(self.news()).await.is_err() {
                return;
            }
        }
    }

    /// Asks once; gives how long the server wants us to wait.
    pub async fn poll(&mut self) -> Option<Duration> {
        let permits = Arc::clone(&self.permits);
        let Ok(_permit) = permits.acquire().await else { return None };
        let now = Timestamp::now();
        let name = self.config.spec.name.clone();
        match self.ask(now).await {
            Ok(good) => {
                if self.status.failures > 0 {
                    info!(feed = %name, "the feed is back");
                }
                self.status.failures = 0;
                self.status.trouble = None;
                self.status.successes += 1;
                self.take(good);
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
                    _ => None,
                }
            }
        }
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

    async fn ask(&self, now: Timestamp) -> Result<Good, Refused> {
        let spec = self.config.spec.clone();
        let have = self.list.clone().zip(self.meta.clone());
        let have = have.filter(|(_, meta)| meta.is_from(&spec.source));
        let (bytes, validators) = match &spec.source {
            Source::Url(url) => {
                let known = have.as_ref().map(|(_, meta)| meta.validators.clone());
                let known = known.unwrap_or_default();
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
        spawn_blocking(move || check(&spec, bytes, validators, have.as_ref(), &last_good, now))
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

/// Whether what came may replace what we have; if so it is kept. Blocks.
fn check(
    spec: &FeedSpec,
    bytes: Option<Vec<u8>>,
    validators: Validators,
    have: Option<&(ReadList, Meta)>,
    last_good: &LastGood,
    now: Timestamp,
) -> Result<Good, Refused> {
    let same = |meta: &Meta| bytes.as_ref().is_none_or(|bytes| meta.is_of(bytes));
    if let Some((list, mut meta)) = have.filter(|(_, meta)| same(meta)).cloned() {
        if bytes.is_some() {
            meta.validators = validators;
        }
        last_good.confirm(&spec.name, &mut meta, now).map_err(Refused::Disk)?;
        return Ok(Good { list: ReadList { confirmed_at: now, ..list }, meta });
    }
    let Some(bytes) = bytes else {
        // We sent nothing to compare with, so the server can't know that nothing changed.
        let detail = "the server answers 304 to a request without conditions";
        return Err(Refused::Fetch(FetchError::new(FetchErrorKind::Status, detail)));
    };
    let list = ReadList::new(spec, &bytes, now);
    let parsed = list.parsed.as_ref().map_err(|failure| Refused::Parse(failure.clone()))?;
    if let Some((ReadList { parsed: Ok(old), .. }, meta)) = have {
        if parsed.is_empty() && !old.is_empty() {
            return Err(Refused::Emptied);
        }
        if let (Some(stamp), Some(known)) = (parsed.stamp, old.stamp)
            && stamp < known
            && now.duration_since(meta.fetched_at) < OLDER_LIST_HELD
        {
            return Err(Refused::Older(stamp.into()));
        }
    }
    let meta =
        last_good.keep(&spec.name, &bytes, &spec.source, validators, now).map_err(Refused::Disk)?;
    Ok(Good { list, meta })
}

#[cfg(test)]
#[path = "feed_tests.rs"]
mod tests;
