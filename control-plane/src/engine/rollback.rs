//! Back to an earlier version, and on again.
//!
//! What goes live is what that version was made of, judged anew: the guards, the operator's allows
//! and the ends of claims are those of now. New lists are fetched and wait.

use std::{borrow::Cow, collections::HashMap, sync::Arc};

use jiff::Timestamp;
use sekisho_rules::{
    feed::{Action, FeedName},
    operator::{Decision, OperatorEntry, is_reserved},
    snapshot,
    table::Table,
};
use tracing::{error, info};

use super::{
    orders::OrderError,
    publish::{InForce, PublishError, Publisher},
};
use crate::{
    history::{Pin, Version},
    rulebook::ReadList,
    store::StoredEntry,
};

/// A version that is pinned, ready to be made live.
pub(super) struct Pinned {
    pub(super) pin: Pin,
    /// Its lists, or why they can't be read.
    made_of: Result<MadeOf, String>,
}

/// What a version was made of.
struct MadeOf {
    /// Each feed's list, and its action then.
    lists: HashMap<FeedName, (Action, ReadList)>,
    /// The operator's own entries that were in force.
    operator: Vec<u32>,
}

impl MadeOf {
    fn new(version: &Version, table: &Table) -> Self {
        let lists = snapshot::lists(table).into_iter().filter(|(feed, _)| !is_reserved(&feed.name));
        let list = |(feed, parsed): (sekisho_rules::table::TableFeed, _)| {
            let name = feed.name.parse().ok()?;
            let read = ReadList { parsed: Ok(Arc::new(parsed)), confirmed_at: version.made_at };
            Some((name, (feed.action, read)))
        };
        Self { lists: lists.filter_map(list).collect(), operator: version.operator.clone() }
    }
}

impl Pinned {
    /// The pin that an earlier daemon left, with what it names.
    pub(super) fn of_history(history: &crate::history::History) -> Option<Self> {
        let pin = match history.pin() {
            Ok(pin) => pin?,
            Err(failure) => {
                error!("whether a version is pinned is unknown: {failure}");
                let pin = Pin {
                    version: 0,
                    since: Timestamp::now(),
                    by: "unknown".to_owned(),
                    last_entry: 0,
                    revived: Vec::new(),
                };
                return Some(Self {
                    pin,
                    made_of: Err(format!("the pin can't be read: {failure}")),
                });
            }
        };
        let made_of = match history.load(pin.version) {
            Ok(Some((version, table))) => Ok(MadeOf::new(&version, &table)),
            Ok(None) => Err("it is not kept".to_owned()),
            Err(failure) => Err(failure.to_string()),
        };
        Some(Self { pin, made_of })
    }

    /// Whether the operator's entry counts: an allow as it is now; a block or suppression as it was in
    /// the version, and what was done since the rollback on top.
    fn has(&self, made_of: &MadeOf, StoredEntry { entry, ended_at, .. }: &StoredEntry) -> bool {
        let is_older = entry.id <= self.pin.last_entry && entry.decision != Decision::Allow;
        if is_older && !made_of.operator.contains(&entry.id) {
            return false;
        }
        ended_at.is_none() || is_older && self.pin.revived.contains(&entry.id)
    }
}

impl Publisher {
    /// Goes back to a version: from the next publication on, it is what is published. Gives what was
    /// pinned before.
    pub(super) fn pin(
        &mut self,
        number: u32,
        by: &str,
        now: Timestamp,
    ) -> Result<Option<Pinned>, OrderError> {
        let failed = |failure: &dyn std::fmt::Display| OrderError::History(failure.to_string());
        let loaded = self.history.load(number).map_err(|failure| failed(&failure))?;
        let (version, table) = loaded.ok_or(OrderError::NoVersion(number))?;
        let entries = self.service.entries(true).map_err(|failure| failed(&failure))?;
        let ended = entries.iter().filter(|row| row.ended_at.is_some()).map(|row| row.entry.id);
        let pin = Pin {
            version: number,
            since: now,
            by: by.to_owned(),
            last_entry: entries.iter().map(|row| row.entry.id).max().unwrap_or(0),
            revived: ended.filter(|id| version.operator.contains(id)).collect(),
        };
        self.history.set_pin(Some(&pin)).map_err(|failure| failed(&failure))?;
        info!(version = number, by, "pinned: new lists wait for `sekisho resume`");
        let pinned = Pinned { pin, made_of: Ok(MadeOf::new(&version, &table)) };
        self.service.set_pin(Some(pinned.pin.clone()));
        Ok(self.pinned.replace(pinned))
    }

    /// Sets the pin as it was before.
    pub(super) fn restore_pin(&mut self, before: Option<Pinned>) -> Result<(), OrderError> {
        let pin = before.as_ref().map(|pinned| pinned.pin.clone());
        let kept = self.history.set_pin(pin.as_ref());
        kept.map_err(|failure| OrderError::History(failure.to_string()))?;
        self.service.set_pin(pin);
        self.pinned = before;
        Ok(())
    }

    /// The lists and the operator's entries that the next ruleset is made of.
    pub(super) fn material(
        &self,
        now: Timestamp,
    ) -> Result<(Vec<InForce<'_>>, Vec<OperatorEntry>), PublishError> {
        let Some(pinned) = &self.pinned else {
            let entries = self.service.entries(false)?.into_iter().map(|row| row.entry);
            return Ok((self.in_force(now), entries.collect()));
        };
        let unreadable = |why: &String| PublishError::Pinned(pinned.pin.version, why.clone());
        let made_of = pinned.made_of.as_ref().map_err(unreadable)?;
        let entries = self.service.entries(true)?;
        let entries = entries.into_iter().filter(|row| pinned.has(made_of, row));
        let lists = self.rulebook.catalogue.enabled().filter_map(|spec| {
            let (action, read) = made_of.lists.get(&spec.name)?;
            let confirmed_at = self.lists.get(&spec.name).map(|list| list.confirmed_at);
            let until = self.until(spec, confirmed_at.unwrap_or(pinned.pin.since));
            let is_silent = until <= now;
            let mut spec = Cow::Borrowed(spec);
            // Never stricter than it was, and never stricter than it is meant to be now.
            let milder = if is_silent { Action::Observe } else { spec.action.min(*action) };
            if milder != spec.action {
                spec.to_mut().action = milder;
            }
            Some(InForce { spec, read, until, is_silent })
        });
        Ok((lists.collect(), entries.map(|row| row.entry).collect()))
    }
}

#[cfg(test)]
#[path = "rollback_tests.rs"]
mod tests;
