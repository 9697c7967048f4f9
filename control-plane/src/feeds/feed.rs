//! One feed through its life: it asks, checks, keeps and tells.

use std::{collections::BTreeMap, io, sync::Arc, time::Duration};

use jiff::{SignedDuration, Timestamp};
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
    fetch::{FetchError, FetchErrorKind, Fetched, Validators, shown_source},
    http::Fetcher,
    last_good::{LastGood, Meta},
    transport::Transport,
};
use crate::{rulebook::ReadList, shutdown::stopped};

/// A list whose own date is older than that of the last good copy is held back for as long as that
/// copy is younger than this. Spamhaus DROP went back in time 26 times in 447 days, at most 2.7
/// days.
const OLDER_LIST_HELD: SignedDuration = SignedDuration::from_hours(72);

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

/// Why a list is not taken.
#[derive(Debug)]
pub(crate) enum Refused {
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

impl From<FetchError> for Refused {
    fn from(error: FetchError) -> Self {
        Self::Fetch(error)
    }
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

    /// In words, without credentials.
    pub(crate) fn text(&self) -> String {
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
            source: shown_source(&config.spec.source),
            fetched_at: None,
            confirmed_at: None,
            stamp: None,
            content_from: None,
            max_content_age: config.spec.max_content_age,
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
        let transport = Transport::new(fetcher, last_good.clone());
        Self {
            config,
            transport,
            last_good,
            permits,
            meta: None,
            list: None,
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
                () = self.rest(wait, KEY_INTERVAL) => {}
                () = stopped(&mut shutdown) => return,
            }
            let retry_after = tokio::select! {
                retry_after = self.poll() => retry_after,
                () = stopped(&mut shutdown) => return,
            };
            wait = self.next_wait(retry_after);
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
        let was_stale = self.status.is_stale(now);
        match self.ask(now).await {
            Ok(good) => {
                if self.status.failures > 0 {
                    info!(feed = %name, "the feed is back");
                }
                self.status.failures = 0;
                self.status.trouble = None;
                self.status.successes += 1;
                self.take(good);
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
                    _ => None,
                }
            }
        }
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

    /// Sleeps. A feed that could not ask for want of its key, proxy or certificates wakes as soon as
    /// they are there; one whose key was refused as soon as another one is, and its floor is over.
    async fn rest(&self, wait: Duration, interval: Duration) {
        let reason = self.status.trouble.as_ref().map(|trouble| trouble.reason);
        let is = |kind: FetchErrorKind| reason == Some(kind.as_str());
        let could_not_ask = is(FetchErrorKind::Secret) || is(FetchErrorKind::Setup);
        if !could_not_ask && !is(FetchErrorKind::Denied) {
            return sleep(wait).await;
        }
        let (began, spec) = (Instant::now(), &self.config.spec);
        loop {
            sleep(interval.min(wait.saturating_sub(began.elapsed()))).await;
            let slept = began.elapsed();
            let is_mended = match could_not_ask {
                true => self.transport.can_ask(spec).await,
                false => slept >= self.floor() && self.transport.has_new_key(spec).await,
            };
            if slept >= wait || is_mended {
                return;
            }
        }
    }

    async fn ask(&mut self, now: Timestamp) -> Result<Good, Refused> {
        let spec = self.config.spec.clone();
        let have = self.list.clone().zip(self.meta.clone());
        let have = have.filter(|(_, meta)| meta.is_from(&spec.source));
        let known = have.as_ref().map(|(_, meta)| meta.validators.clone()).unwrap_or_default();
        let fetched = self.transport.ask(&spec, &known, now).await?;
        let last_good = self.last_good.clone();
        spawn_blocking(move || check(&spec, fetched, have.as_ref(), &last_good, now))
            .await
            .map_err(|_| Refused::Stopped)?
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

/// Whether what came may replace what we have; if so it is kept. Blocks.
fn check(
    spec: &FeedSpec,
    fetched: Fetched,
    have: Option<&(ReadList, Meta)>,
    last_good: &LastGood,
    now: Timestamp,
) -> Result<Good, Refused> {
    let (bytes, validators, withdrawn) = match fetched {
        Fetched::List { bytes, validators, withdrawn } => (Some(bytes), validators, withdrawn),
        Fetched::NotModified => (None, Validators::default(), false),
    };
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
        if parsed.is_empty() && !old.is_empty() && !withdrawn {
            return Err(Refused::Emptied);
        }
        if let (Some(stamp), Some(known)) = (parsed.stamp, old.stamp)
            && stamp < known
            && now.duration_since(meta.fetched_at) < OLDER_LIST_HELD
        {
            return Err(Refused::Older(stamp.into()));
        }
    }
    let since = have.and_then(|(old, meta)| {
        let old = old.parsed.as_ref().ok()?;
        old.claims_the_same(parsed).then(|| meta.claims_since())
    });
    let kept = last_good.keep(&spec.name, &bytes, &spec.source, validators, since, now);
    Ok(Good { meta: kept.map_err(Refused::Disk)?, list })
}

#[cfg(test)]
#[path = "feed_tests.rs"]
mod tests;

#[cfg(test)]
#[path = "hostile_tests.rs"]
mod hostile_tests;

#[cfg(test)]
#[path = "key_tests.rs"]
mod key_tests;
