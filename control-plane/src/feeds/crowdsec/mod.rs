//! A bouncer of a CrowdSec LAPI: all its bans at first, then what came and went, and now and then all
//! of them again, because an answer that is lost on the way is gone for good.
//!
//! - [`duration`]: lengths of time as Go prints them

pub mod duration;
mod stream;

use std::{collections::BTreeMap, mem};

use jiff::{SignedDuration, Timestamp};
use reqwest::{Url, header::HeaderMap};
use sekisho_rules::{access::CrowdsecSpec, feed::FeedSpec, parse::Limits};
use serde::{Deserialize, Serialize};
use tracing::warn;

use self::stream::{MOST_DECISIONS, Stream, too_many};
use super::{
    fetch::{FetchError, FetchErrorKind, Fetched, Validators},
    http::Session,
};

/// The time of a decision that is known may differ by this much from one answer to the next.
const SAME_TIME: SignedDuration = SignedDuration::from_secs(10);

/// The bans in force, as far as the LAPI told.
#[derive(Debug, Default)]
pub struct Decisions {
    by_id: BTreeMap<i64, Decision>,
    /// When all of them were last read; `None` if the next request has to ask for all.
    full_at: Option<Timestamp>,
    /// Whether what was kept of an earlier daemon is in it.
    is_loaded: bool,
}

/// A ban.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Decision {
    id: i64,
    origin: String,
    scope: String,
    value: String,
    scenario: String,
    /// When it ends.
    until: Timestamp,
}

#[derive(Deserialize)]
struct Kept {
    decisions: Vec<Decision>,
}

type ById = BTreeMap<i64, Decision>;

impl Decisions {
    /// Asks for what is new. `kept` is the list that was made of an earlier answer.
    pub async fn fetch(
        &mut self,
        session: &Session,
        spec: &FeedSpec,
        url: &str,
        kept: &[u8],
        limits: &Limits,
        now: Timestamp,
    ) -> Result<Fetched, FetchError> {
        let crowdsec = spec.crowdsec.clone().unwrap_or_default();
        let lapi = Lapi { session, base: session.url(url)?, crowdsec: &crowdsec, limits, now };
        if !mem::replace(&mut self.is_loaded, true) {
            self.load(kept);
        }
        // Whatever goes wrong from here on, the LAPI may count as told what we did not take.
        let full_at = self.full_at.take().filter(|at| {
            let age = now.duration_since(*at);
            !age.is_negative() && age < crowdsec.resync.signed()
        });
        let changed = match full_at {
            Some(_) => self.apply(lapi.ask(false).await?)?,
            None => self.replace(&lapi).await?,
        };
        let standing = self.by_id.len();
        self.by_id.retain(|_, decision| decision.until > now);
        self.full_at = full_at.or(Some(now));
        if !changed && standing == self.by_id.len() {
            return Ok(Fetched::NotModified);
        }
        let bytes = self.list(limits)?;
        Ok(Fetched::List { bytes, validators: Validators::default(), withdrawn: true })
    }

    /// Whether it does not know yet what an earlier daemon kept.
    pub const fn is_new(&self) -> bool {
        !self.is_loaded
    }

    /// What came was not taken: the next request asks for everything.
    pub const fn distrust(&mut self) {
        self.full_at = None;
    }

    fn load(&mut self, kept: &[u8]) {
        if let Ok(Kept { decisions }) = serde_json::from_slice(kept) {
            self.by_id = decisions.into_iter().map(|decision| (decision.id, decision)).collect();
        }
    }

    fn apply(&mut self, stream: Stream) -> Result<bool, FetchError> {
        let mut changed = false;
        for id in &stream.deleted {
            changed |= self.by_id.remove(id).is_some();
        }
        changed |= !stream.new.is_empty();
        for decision in stream.new {
            let decision = self.steady(decision);
            self.by_id.insert(decision.id, decision);
        }
        if self.by_id.len() > MOST_DECISIONS {
            return Err(too_many());
        }
        Ok(changed)
    }

    /// Takes all decisions in place of those that are known. An answer of the LAPI that a fault of its
    /// database cuts off looks whole: one that lacks most of what should stand is asked for again,
    /// and believed if it comes again.
    async fn replace(&mut self, lapi: &Lapi<'_>) -> Result<bool, FetchError> {
        let mut all = self.steadied(lapi.ask(true).await?);
        if self.lost_in(&all, lapi.now) {
            let again = self.steadied(lapi.ask(true).await?);
            if self.lost_in(&again, lapi.now) && !again.keys().eq(all.keys()) {
                let detail = format!(
                    "the LAPI sends {} decisions and then {}, and lacks most of the {} that should \
                     stand",
                    all.len(),
                    again.len(),
                    self.by_id.len()
                );
                return Err(FetchError::new(FetchErrorKind::Interrupted, detail));
            }
            all = again;
        }
        self.by_id = all;
        Ok(true)
    }

    /// Whether most of what should stand is missing.
    fn lost_in(&self, all: &ById, now: Timestamp) -> bool {
        let standing = || self.by_id.values().filter(|decision| decision.until > now);
        let lost = standing().filter(|decision| !all.contains_key(&decision.id)).count();
        lost * 2 > standing().count()
    }

    fn steadied(&self, stream: Stream) -> ById {
        let steady = |decision| self.steady(decision);
        stream.new.into_iter().map(steady).map(|decision| (decision.id, decision)).collect()
    }

    /// A LAPI tells how long a decision still lasts, so that its end varies with each answer.
    fn steady(&self, mut decision: Decision) -> Decision {
        if let Some(known) = self.by_id.get(&decision.id)
            && known.until.duration_since(decision.until).abs() <= SAME_TIME
        {
            decision.until = known.until;
        }
        decision
    }

    /// The list that the format `crowdsec` reads.
    fn list(&self, limits: &Limits) -> Result<Vec<u8>, FetchError> {
        let mut list = b"{\"decisions\":[".to_vec();
        for (nth, decision) in self.by_id.values().enumerate() {
            list.extend_from_slice(if nth == 0 { b"\n" } else { b",\n" });
            // Strings and numbers can always be written.
            list.extend(serde_json::to_vec(decision).unwrap_or_default());
            if list.len() > limits.max_bytes {
                let detail = format!("the decisions have more than {} bytes", limits.max_bytes);
                return Err(FetchError::new(FetchErrorKind::TooLarge, detail));
            }
        }
        list.extend_from_slice(b"\n]}\n");
        Ok(list)
    }
}

/// Where to ask.
struct Lapi<'l> {
    session: &'l Session,
    base: Url,
    crowdsec: &'l CrowdsecSpec,
    limits: &'l Limits,
    now: Timestamp,
}

impl Lapi<'_> {
    async fn ask(&self, startup: bool) -> Result<Stream, FetchError> {
        let url = self.stream_url(startup);
        let most = self.limits.max_bytes;
        let answer = self.session.get(&url, &HeaderMap::new(), most, self.now).await?;
        let bytes = answer.map(|answer| answer.bytes).unwrap_or_default();
        let stream = Stream::read(&bytes, self.crowdsec, self.now)?;
        if stream.unread > 0 {
            warn!(decisions = stream.unread, "decisions of the LAPI can't be read");
        }
        Ok(stream)
    }

    fn stream_url(&self, startup: bool) -> Url {
        let mut url = self.base.clone();
        if let Ok(mut segments) = url.path_segments_mut() {
            segments.pop_if_empty().extend(["v1", "decisions", "stream"]);
        }
        let mut query = url.query_pairs_mut();
        query.append_pair("startup", if startup { "true" } else { "false" });
        query.append_pair("scopes", "ip,range");
        // Without this a LAPI keeps the shorter of two decisions to itself, and so its end.
        query.append_pair("dedup", "false");
        let origins = self.crowdsec.origins.join(",");
        if !origins.is_empty() {
            query.append_pair("origins", &origins);
        }
        drop(query);
        url
    }
}

#[cfg(test)]
#[path = "crowdsec_tests.rs"]
mod tests;
