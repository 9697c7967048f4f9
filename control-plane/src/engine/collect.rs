//! From the kernel's flow tables and ring to the record of hits and the log.

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
    hits::{ClockOffset, Hit, Names, add_up},
    shutdown::stopped,
    store::{NotRecorded, Store},
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
/// Hits kept in memory while the store refuses them; more are lost, and counted.
const MOST_PENDING: usize = 1 << 20;

/// Moves hits until `shutdown`, and then what is left.
pub(super) struct Collector {
    pub(super) service: Arc<Service>,
    pub(super) store: Store,
    pub(super) drain_interval: Duration,
    pub(super) retention: watch::Receiver<Period>,
    pub(super) pending: Vec<Hit>,
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

    /// Takes the flows out of the kernel and into the record.
    async fn drain(&mut self) {
        let service = Arc::clone(&self.service);
        match spawn_blocking(move || take(&service)).await {
            Ok(Ok(hits)) => {
                self.service.drain_outcome(None);
                self.pending.extend(hits);
            }
            Ok(Err(error)) => self.service.drain_outcome(Some(error)),
            Err(_) => self.service.drain_outcome(Some("the drain was stopped".to_owned())),
        }
        if !self.pending.is_empty() && self.pause.is_over(Instant::now()) {
            self.record().await;
        }
        let lost = self.pending.len().saturating_sub(MOST_PENDING);
        if lost > 0 {
            self.pending.drain(..lost);
            self.service.lost(lost as u64);
        }
    }

    /// Hands the pending hits to the store, which gives them back if it can't keep them.
    async fn record(&mut self) {
        let pending = self.pending.len();
        match self.store.record(std::mem::take(&mut self.pending)).await {
            Ok(()) => {
                self.service.store_outcome(None);
                self.pause = Pause::default();
            }
            Err(NotRecorded { error, hits }) => {
                error!(pending, "hits can't be recorded: {error}");
                self.service.store_outcome(Some(error.to_string()));
                self.service.lost(pending.saturating_sub(hits.len()) as u64);
                self.pending = hits;
                self.pause.lengthen(Instant::now());
            }
        }
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
                remote_port = u16::from_be_bytes(event.key.remote_port),
                protocol = event.key.protocol,
                rule = event.key.rule,
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
fn take(service: &Service) -> Result<Vec<Hit>, String> {
    let dataplane = service.dataplane();
    let drained = dataplane.drain().map_err(|error| error.to_string())?;
    if drained.rows.is_empty() {
        return Ok(Vec::new());
    }
    let clock = ClockOffset::now().map_err(|error| format!("clock_gettime: {error}"))?;
    let installed = dataplane.installed().map_err(|error| error.to_string());
    let ports = installed.map(|installed| installed.ports).unwrap_or_default();
    let (generations, subscribers) = (service.generations(), service.subscribers());
    let names =
        Names { generations: &generations, subscribers: &subscribers, ports: &ports, clock };
    let rows = add_up(drained.rows);
    let hits: Vec<Hit> = rows.iter().map(|row| names.hit(row)).collect();
    service.count_hits(&hits);
    service.watch_breaker(&hits, &generations, &subscribers);
    Ok(hits)
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
