//! From the kernel's flow table and ring to the record of hits and the log.

use std::{sync::Arc, time::Duration};

use jiff::Timestamp;
use sekisho_rules::period::Period;
use tokio::{
    sync::watch,
    task::spawn_blocking,
    time::{Instant, MissedTickBehavior, interval},
};
use tracing::{debug, error, trace, warn};

use super::service::Service;
use crate::{
    dataplane::{DrainId, Drained},
    hits::{ClockOffset, Hit, Names, add_up},
    shutdown::stopped,
    store::Store,
};

/// How often the ring of first packets is read.
const EVENTS_INTERVAL: Duration = Duration::from_millis(250);
/// How often old hits are deleted.
const FORGET_INTERVAL: Duration = Duration::from_secs(600);
/// How long the store is left alone after it refused for the first time, and at most.
const SHORTEST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(60);
/// How often the share of packets that can't be read is taken.
const PARSING_INTERVAL: Duration = Duration::from_secs(60);

/// Moves hits until `shutdown`, and then what is left.
pub(super) struct Collector {
    pub(super) service: Arc<Service>,
    pub(super) store: Store,
    pub(super) drain_interval: Duration,
    pub(super) retention: watch::Receiver<Period>,
    pub(super) pause: Pause,
}

/// How long a store that refuses is left alone: twice as long each time.
#[derive(Debug, Default)]
pub(super) struct Pause {
    length: Duration,
    until: Option<Instant>,
}

impl Pause {
    fn is_over(&self, now: Instant) -> bool {
        self.until.is_none_or(|until| until <= now)
    }

    fn lengthen(&mut self, now: Instant) {
        self.length = (2 * self.length).clamp(SHORTEST_PAUSE, LONGEST_PAUSE);
        self.until = now.checked_add(self.length);
    }
}

impl Collector {
    pub(super) async fn run(mut self, mut shutdown: watch::Receiver<bool>) {
        let periods = [self.drain_interval, EVENTS_INTERVAL, FORGET_INTERVAL, PARSING_INTERVAL];
        let [mut drain, mut events, mut forget, mut parsing] = periods.map(|period| {
            let mut ticks = interval(period);
            ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
            ticks
        });
        loop {
            tokio::select! {
                _ = drain.tick() => self.drain().await,
                _ = events.tick() => self.watch_events().await,
                _ = forget.tick() => self.forget().await,
                _ = parsing.tick() => self.watch_parsing().await,
                () = stopped(&mut shutdown) => break,
            }
        }
        self.pause = Pause::default();
        self.drain().await;
    }

    /// Takes the flows out of the kernel and into the record. While the record refuses them they stay
    /// in the kernel, which counts what it has no place for.
    async fn drain(&mut self) {
        if !self.pause.is_over(Instant::now()) {
            return;
        }
        let service = Arc::clone(&self.service);
        let (id, hits) = match spawn_blocking(move || take(&service)).await {
            Ok(Ok(taken)) => taken,
            Ok(Err(error)) => return self.service.drain_outcome(Some(error)),
            Err(_) => return self.service.drain_outcome(Some("the drain was stopped".to_owned())),
        };
        if hits.is_empty() {
            return self.service.drain_outcome(None);
        }
        let hits = Arc::new(hits);
        if let Err(error) = self.store.record(Arc::clone(&hits), id).await {
            error!(hits = hits.len(), "hits can't be recorded: {error}");
            self.service.store_outcome(Some(error.to_string()));
            return self.pause.lengthen(Instant::now());
        }
        self.service.store_outcome(None);
        self.service.count_hits(&hits);
        self.pause = Pause::default();
        let service = Arc::clone(&self.service);
        let settled = spawn_blocking(move || service.dataplane().settle(id)).await;
        self.service.drain_outcome(match settled {
            Ok(Ok(())) => None,
            Ok(Err(error)) => Some(error.to_string()),
            Err(_) => Some("the drain was stopped".to_owned()),
        });
    }

    async fn watch_parsing(&self) {
        let service = Arc::clone(&self.service);
        let watch =
            move || service.dataplane().counts().map(|counts| service.watch_parsing(&counts));
        if let Ok(Err(failure)) = spawn_blocking(watch).await {
            warn!("the counters can't be read: {failure}");
        }
    }

    /// Shows the first packets of flows to whoever follows the log.
    async fn watch_events(&self) {
        let service = Arc::clone(&self.service);
        let Ok(Ok(events)) = spawn_blocking(move || service.dataplane().events()).await else {
            return;
        };
        for event in events {
            trace!(
                subscriber = ?event.key.subscriber,
                remote = ?event.key.remote,
                remote_port = event.key.conversation.remote_port,
                protocol = event.key.conversation.protocol,
                rule = event.key.decision.rule,
                "first packet"
            );
        }
    }

    async fn forget(&self) {
        let retention = self.retention.borrow().signed();
        let Ok(before) = Timestamp::now().checked_sub(retention) else { return };
        match self.store.forget(before).await {
            Ok(0) => {}
            Ok(rows) => debug!(rows, "old hits deleted"),
            Err(failure) => {
                warn!("old hits can't be deleted: {failure}");
                self.service.store_outcome(Some(failure.to_string()));
            }
        }
    }
}

/// The flows in the kernel as hits; blocks.
fn take(service: &Service) -> Result<(DrainId, Vec<Hit>), String> {
    let dataplane = service.dataplane();
    let Drained { id, rows } = dataplane.drain().map_err(|error| error.to_string())?;
    if rows.is_empty() {
        return Ok((id, Vec::new()));
    }
    let clock = ClockOffset::now().map_err(|error| format!("clock_gettime: {error}"))?;
    let installed = dataplane.installed().map_err(|error| error.to_string());
    let ports = installed.map(|installed| installed.ports).unwrap_or_default();
    let (generations, subscribers) = (service.generations(), service.subscribers());
    let names =
        Names { generations: &generations, subscribers: &subscribers, ports: &ports, clock };
    let hits: Vec<Hit> = add_up(rows).iter().map(|row| names.hit(row)).collect();
    service.watch_breaker(&hits, &generations, &subscribers);
    Ok((id, hits))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_store_that_refuses_is_left_alone_for_longer_and_longer() {
        let now = Instant::now();
        let mut pause = Pause::default();
        assert!(pause.is_over(now));
        for seconds in [1, 2, 4, 8, 16, 32, 60, 60] {
            pause.lengthen(now);
            assert!(!pause.is_over(now + Duration::from_secs(seconds) - Duration::from_millis(1)));
            assert!(pause.is_over(now + Duration::from_secs(seconds)));
        }
    }
}
