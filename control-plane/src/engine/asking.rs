//! The feeds that ask for news.

use std::{collections::HashMap, sync::Arc};

use jiff::Timestamp;
use sekisho_rules::feed::{FeedName, FeedSpec};
use tokio::{
    sync::{Semaphore, mpsc, watch},
    task::{JoinHandle, JoinSet},
};

use crate::{
    config::Config,
    feeds::{Feed, FeedConfig, News, hold::Word, http::Fetcher, last_good::LastGood},
};

/// A feed that asks for news, and hears words on its held list.
pub(super) struct Running {
    pub(super) spec: FeedSpec,
    pub(super) task: JoinHandle<()>,
    pub(super) words: mpsc::Sender<Word>,
}

/// The feeds that ask for news.
pub(super) struct Feeds {
    pub(super) config: Config,
    pub(super) fetcher: Fetcher,
    pub(super) permits: Arc<Semaphore>,
    pub(super) running: HashMap<FeedName, Running>,
    pub(super) news: mpsc::Sender<News>,
    pub(super) shutdown: watch::Receiver<bool>,
}

impl Feeds {
    /// Starts the feeds that don't run yet; gives what their last good lists say.
    pub(super) async fn start(&mut self, specs: Vec<FeedSpec>) -> Vec<News> {
        let mut loading = JoinSet::new();
        for spec in specs {
            if self.running.contains_key(&spec.name) {
                continue;
            }
            let config = FeedConfig { spec, floor: self.config.fetch.floor.unsigned() };
            let last_good = LastGood::new(&self.config.state_dir);
            let permits = Arc::clone(&self.permits);
            let mut feed = Feed::new(config, self.fetcher.clone(), last_good, permits);
            loading.spawn_blocking(move || {
                feed.load(Timestamp::now());
                feed
            });
        }
        let mut news = Vec::new();
        while let Some(Ok(feed)) = loading.join_next().await {
            news.push(feed.news());
            let spec = feed.spec().clone();
            let (words, heard) = mpsc::channel(1);
            let task = tokio::spawn(feed.run(self.news.clone(), heard, self.shutdown.clone()));
            self.running.insert(spec.name.clone(), Running { spec, task, words });
        }
        news
    }

    /// Stops the feeds that are gone or described otherwise.
    pub(super) fn stop_unless(&mut self, wanted: &HashMap<FeedName, FeedSpec>) {
        self.running.retain(|name, Running { spec, task, .. }| {
            let stays = wanted.get(name) == Some(&*spec);
            if !stays {
                task.abort();
            }
            stays
        });
    }

    pub(super) fn stop_all(&mut self) {
        self.stop_unless(&HashMap::new());
    }
}
