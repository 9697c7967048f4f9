//! How much of a feed other feeds say as well.

use std::{collections::BTreeMap, sync::Arc};

use serde::Serialize;

use crate::{compile::FeedReport, table::Claim};

/// How the networks of one feed and those of the others overlap: the same network, whatever the
/// traffic.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Overlap {
    /// Networks that the feed lists.
    pub networks: u64,
    /// Those of them that no other feed lists.
    pub unique: u64,
    /// How many of them each other feed lists, if any.
    pub shared: BTreeMap<Arc<str>, u64>,
}

/// Counts networks by the feeds that list them.
pub(crate) struct Overlaps {
    feeds: usize,
    unique: Vec<u64>,
    /// Networks that two feeds list, by both; on the diagonal those that a feed shares with any.
    pairs: Vec<u64>,
}

impl Overlaps {
    pub(crate) fn new(feeds: usize) -> Self {
        Self { feeds, unique: vec![0; feeds], pairs: vec![0; feeds * feeds] }
    }

    /// Counts a network by its claims, which are sorted by feed.
    pub(crate) fn count(&mut self, claims: &[Claim]) {
        let by_feed = || claims.chunk_by(|one, next| one.feed == next.feed);
        let feeds = || by_feed().filter_map(|group| group.first()).map(|c| usize::from(c.feed));
        let is_shared = feeds().nth(1).is_some();
        for feed in feeds() {
            if !is_shared {
                self.unique.get_mut(feed).into_iter().for_each(|unique| *unique += 1);
                return;
            }
            for other in feeds() {
                let pair = self.pairs.get_mut(feed * self.feeds + other);
                pair.into_iter().for_each(|pair| *pair += 1);
            }
        }
    }

    /// Adds the counts of other networks of the same feeds.
    pub(crate) fn add(&mut self, others: &Self) {
        self.unique.iter_mut().zip(&others.unique).for_each(|(sum, count)| *sum += count);
        self.pairs.iter_mut().zip(&others.pairs).for_each(|(sum, count)| *sum += count);
    }

    /// Writes the counts into the accounts of the feeds.
    pub(crate) fn tell(&self, reports: &mut [FeedReport]) {
        let names: Vec<_> = reports.iter().map(|report| report.name.shared()).collect();
        for ((at, report), &unique) in reports.iter_mut().enumerate().zip(&self.unique) {
            let pairs = self.pairs.get(at * self.feeds..).unwrap_or_default().iter().copied();
            let others = names.iter().cloned().zip(pairs.clone()).enumerate();
            report.overlap = Overlap {
                networks: unique + pairs.clone().nth(at).unwrap_or(0),
                unique,
                shared: others
                    .filter(|(other, (_, count))| *other != at && *count > 0)
                    .map(|(_, shared)| shared)
                    .collect(),
            };
        }
    }
}
