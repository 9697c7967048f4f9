//! The breaker at work: hits in, demotions and decisions into the record and into the next ruleset.

use jiff::Timestamp;
use tracing::{error, info};

use super::service::Service;
use crate::{
    breaker::{Breaker, Broken, Decision, MOST_BROKEN, Trip},
    history::{Cause, What},
    hits::{Generations, Hit},
    store::StoreError,
    subscribers::Subscribers,
};

/// Entries that health names one by one.
const NAMED: usize = 3;

impl Service {
    pub(crate) const fn breaker(&self) -> &Breaker {
        &self.breaker
    }

    /// Takes what the record knows of entries that were demoted before; blocks.
    pub(super) fn load_breaker(&self) {
        match self.store().broken() {
            Ok(broken) => self.breaker.load(broken),
            Err(failure) => error!("what the breaker demoted before is not known: {failure}"),
        }
    }

    /// Demotes what these hits show too many subscribers to meet; blocks.
    pub(super) fn watch_breaker(
        &self,
        hits: &[Hit],
        generations: &Generations,
        subscribers: &Subscribers,
    ) {
        let trips = self.breaker.watch(hits, generations, subscribers, Timestamp::now());
        if trips.is_empty() {
            return;
        }
        for trip in trips {
            let broken = self.recorded(trip);
            let Broken { id, trip, .. } = &broken;
            error!(
                id,
                entry = trip.entry.to_string(),
                subscribers = trip.subscribers,
                limit = trip.limit,
                feeds = trip.feeds.join(","),
                "too many subscribers met it within a minute: it only observes until somebody decides \
                 (`sekisho breaker`)"
            );
            let cause = Cause::own(What::Breaker { entry: trip.entry.to_string() });
            self.breaker.hold(broken);
            self.wake(cause);
        }
    }

    /// A trip in the record. If that fails it holds until the next start.
    fn recorded(&self, trip: Trip) -> Broken {
        self.store().add_broken(&trip).unwrap_or_else(|failure| {
            error!("what the breaker demotes can't be recorded: {failure}");
            let unrecorded = self.breaker.all().iter().map(|broken| broken.id).min();
            let id = unrecorded.unwrap_or(0).min(0) - 1;
            Broken { id, trip, decision: None, decided_at: None }
        })
    }

    /// Takes a decision about an entry that was demoted, or forgets it, so that it counts anew; gives
    /// the entry, or `None` if there is no such one. Blocks.
    pub fn decide(
        &self,
        id: i64,
        decision: Option<Decision>,
        by: &str,
    ) -> Result<Option<Broken>, StoreError> {
        let known = match decision {
            Some(decision) => self.store().decide_broken(id, decision, Timestamp::now())?,
            None => self.store().forget_broken(id)?,
        };
        let known = match known {
            Some(known) => known,
            // One that could not be recorded.
            None => match self.breaker.all().into_iter().find(|broken| broken.id == id) {
                Some(held) => Broken { decision, decided_at: Some(Timestamp::now()), ..held },
                None => return Ok(None),
            },
        };
        self.breaker.decided(id, decision.map(|_| known.clone()));
        let decision = decision.map_or("forget", Decision::as_str);
        let entry = known.trip.entry.to_string();
        info!(id, entry, decision, by, "decided about a demoted entry");
        self.wake(Cause { what: What::Breaker { entry }, by: by.to_owned() });
        Ok(Some(known))
    }

    /// What health says of the breaker.
    pub(super) fn breaker_alarm(&self) -> Option<String> {
        let all = self.breaker.all();
        let mut open = all.iter().filter(|broken| broken.decision.is_none());
        let named: Vec<_> =
            open.by_ref().take(NAMED).map(|broken| broken.trip.entry.to_string()).collect();
        let more = open.count();
        if named.is_empty() {
            return None;
        }
        let more = if more > 0 { format!(" and {more} more") } else { String::new() };
        let full = if all.len() >= MOST_BROKEN { "; no more can be demoted" } else { "" };
        Some(format!(
            "too many subscribers met {}{more} within a minute: only observed until somebody decides \
             (`sekisho breaker`){full}",
            named.join(", ")
        ))
    }
}
