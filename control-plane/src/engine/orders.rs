//! What somebody wants of the daemon while it runs, and how it answers.

use std::time::Duration;

use jiff::Timestamp;
use serde::Serialize;
use tokio::{
    sync::{mpsc, oneshot},
    task::spawn_blocking,
    time::timeout,
};

use sekisho_rules::feed::FeedName;

use super::{EngineError, Worker, publish::Publisher, service::Service};
use crate::{
    feeds::hold::{Word, WordError, WordOutcome},
    history::What,
};

/// Longest wait for the daemon to have done what is wanted.
const LONGEST: Duration = Duration::from_secs(15);
/// Orders that may wait for the daemon.
pub(super) const QUEUE: usize = 16;

/// What is wanted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Change {
    /// An entry of the operator's own was made or ended.
    Entry(u32),
    /// A held list is to take the place of the one in force, or is to be dropped.
    Word {
        /// The feed.
        feed: FeedName,
        /// Whether it is to take its place.
        accepts: bool,
        /// The list that is meant; `None` is whichever is held.
        list: Option<String>,
    },
    /// An earlier version is to be live.
    Rollback(u32),
    /// New lists are to be live again.
    Resume,
}

/// What is wanted, who wants it, and where the answer goes.
#[derive(Debug)]
pub(crate) struct Order {
    change: Change,
    by: String,
    done: oneshot::Sender<Result<Done, OrderError>>,
}

/// What came of an order.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Done {
    /// The ruleset that is live.
    pub generation: Option<u32>,
    /// Whether it has what was wanted in it.
    pub live: bool,
    /// Why not yet.
    pub detail: Option<String>,
}

/// Why nothing came of an order.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OrderError {
    /// The daemon has not begun, or is at its end.
    #[error("the daemon is starting or stopping; try again")]
    Away,
    /// It did not answer in time.
    #[error("the daemon is at work for longer than {} seconds; ask for the status", LONGEST.as_secs())]
    Busy,
    /// There is no such feed, or it is off.
    #[error("no feed '{0}' is enabled")]
    NoFeed(FeedName),
    /// There is no such version.
    #[error("version {0} is not kept: `sekisho history` tells which are")]
    NoVersion(u32),
    /// No version is pinned.
    #[error("no version is pinned")]
    NotPinned,
    /// The history can't be read or written.
    #[error("the history can't be read or written: {0}")]
    History(String),
    /// It could not be made live, and everything is as it was.
    #[error("it can't be made live, and everything is as it was: {0}")]
    NotLive(String),
    /// Nothing came of a word on a held list.
    #[error(transparent)]
    Word(#[from] WordError),
}

/// Words on held lists that their feeds have not answered yet, or whose answer waits for the next
/// publication.
#[derive(Debug, Default)]
pub(super) struct Words {
    asked: Vec<(FeedName, Answer)>,
    answered: Vec<(Answer, WordOutcome)>,
}

type Outcome = Result<Done, OrderError>;
type Answer = oneshot::Sender<Outcome>;

impl Words {
    /// A feed did as it was told, or not.
    pub(super) fn heard(&mut self, feed: &FeedName, outcome: WordOutcome) {
        if let Some(at) = self.asked.iter().position(|(asked, _)| asked == feed) {
            let (_, answer) = self.asked.remove(at);
            self.answered.push((answer, outcome));
        }
    }
}

impl Service {
    /// Gives an order and waits for what comes of it.
    pub(crate) async fn order(&self, change: Change, by: String) -> Result<Done, OrderError> {
        let orders = self.orders().ok_or(OrderError::Away)?;
        let (done, outcome) = oneshot::channel();
        orders.try_send(Order { change, by, done }).map_err(|error| match error {
            mpsc::error::TrySendError::Full(_) => OrderError::Busy,
            mpsc::error::TrySendError::Closed(_) => OrderError::Away,
        })?;
        match timeout(LONGEST, outcome).await {
            Ok(Ok(outcome)) => outcome,
            Ok(Err(_)) => Err(OrderError::Away),
            Err(_) => Err(OrderError::Busy),
        }
    }
}

impl Worker {
    /// Does what is wanted.
    pub(super) async fn obey(&mut self, order: Order) -> Result<(), EngineError> {
        let Order { change, by, done } = order;
        tracing::info!(?change, by, "ordered");
        let outcome = match change {
            Change::Entry(entry) => {
                self.because(What::Entry { entry }, Some(&by));
                self.publish().await?;
                Ok(self.done())
            }
            Change::Rollback(to) => self.roll_back(to, &by).await?,
            Change::Resume => self.resume(&by).await?,
            Change::Word { feed, accepts, list } => {
                let word = Word { accepts, list, by };
                let told = match self.feeds.running.get(&feed) {
                    Some(running) => running.words.try_send(word).map_err(|_| OrderError::Busy),
                    None => Err(OrderError::NoFeed(feed.clone())),
                };
                match told {
                    Ok(()) => {
                        // A feed that was stopped answers nobody.
                        self.words.asked.retain(|(_, answer)| !answer.is_closed());
                        self.words.asked.push((feed, done));
                        return Ok(());
                    }
                    Err(error) => Err(error),
                }
            }
        };
        // Whoever asked may have stopped waiting.
        let _ = done.send(outcome);
        Ok(())
    }

    /// Answers those whose word a feed has heard, once what came of it is live.
    pub(super) fn answer_words(&mut self) {
        for (answer, WordOutcome { outcome, .. }) in std::mem::take(&mut self.words.answered) {
            let outcome = outcome.map(|()| self.done()).map_err(OrderError::from);
            let _ = answer.send(outcome);
        }
    }

    /// Makes an earlier version live; if that fails, everything is as it was.
    async fn roll_back(&mut self, to: u32, by: &str) -> Result<Outcome, EngineError> {
        let who = by.to_owned();
        let pinned =
            self.with_publisher(move |publisher| publisher.pin(to, &who, Timestamp::now()));
        let before = match pinned.await? {
            Ok(before) => before,
            Err(error) => return Ok(Err(error)),
        };
        self.because(What::Rollback { to }, Some(by));
        self.publish().await?;
        let Some(failure) = self.service.publish_error() else { return Ok(Ok(self.done())) };
        let restored = self.with_publisher(move |publisher| publisher.restore_pin(before)).await?;
        Ok(restored.and(Err(OrderError::NotLive(failure))))
    }

    async fn resume(&mut self, by: &str) -> Result<Outcome, EngineError> {
        if self.publisher.as_ref().is_none_or(|publisher| publisher.pinned.is_none()) {
            return Ok(Err(OrderError::NotPinned));
        }
        if let Err(error) = self.with_publisher(|publisher| publisher.restore_pin(None)).await? {
            return Ok(Err(error));
        }
        self.because(What::Resume, Some(by));
        self.publish().await?;
        Ok(Ok(self.done()))
    }

    /// Has the publisher work on a thread that may block.
    async fn with_publisher<T: Send + 'static>(
        &mut self,
        work: impl FnOnce(&mut Publisher) -> T + Send + 'static,
    ) -> Result<T, EngineError> {
        let Some(mut publisher) = self.publisher.take() else { return Err(EngineError::Stopped) };
        let work = spawn_blocking(move || {
            let outcome = work(&mut publisher);
            (publisher, outcome)
        });
        let (publisher, outcome) = work.await.map_err(|_| EngineError::Stopped)?;
        self.publisher = Some(publisher);
        Ok(outcome)
    }

    /// What is live after an order.
    fn done(&self) -> Done {
        let waits_for = self.publisher.as_ref().and_then(|publisher| publisher.waits_for());
        let waits = waits_for.map(|feed| format!("the ruleset waits for feed '{feed}'"));
        let detail = self.service.publish_error().or(waits);
        let generation = self.service.ruleset().map(|ruleset| ruleset.generation);
        Done { generation, live: detail.is_none(), detail }
    }
}
