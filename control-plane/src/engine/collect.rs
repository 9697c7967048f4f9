//! From the kernel's flow tables and ring to the record of hits and the log.

use std::{sync::Arc, time::Duration};

use jiff::Timestamp;
use sekisho_rules::period::Period;
use tokio::{
    sync::watch,
    task::spawn_blocking,
    time::{MissedTickBehavior, interval},
};
use tracing::{debug, error, trace, warn};

use super::service::Service;
use crate::{
    hits::{ClockOffset, Hit, Names, add_up},
    shutdown::stopped,
    store::Store,
};

/// How often the ring of first packets is read.
const EVENTS_INTERVAL: Duration = Duration::from_millis(250);
/// How often old hits are deleted.
const FORGET_INTERVAL: Duration = Duration::from_secs(600);
/// Hits kept in memory while the store refuses them; more are lost, and counted.
const MOST_PENDING: usize = 1 << 20;

/// Moves hits until `shutdown`, and then what is left.
pub(super) struct Collector {
    pub(super) service: Arc<Service>,
    pub(super) store: Store,
    pub(super) drain_interval: Duration,
    pub(super) retention: watch::Receiver<Period>,
    pub(super) pending: Vec<Hit>,
}

impl Collector {
    pub(super) async fn run(mut self, mut shutdown: watch::Receiver<bool>) {
        let [mut drain, mut events, mut forget] =
            [self.drain_interval, EVENTS_INTERVAL, FORGET_INTERVAL].map(|period| {
                let mut ticks = interval(period);
                ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
                ticks
            });
        loop {
            tokio::select! {
                _ = drain.tick() => self.drain().await,
                _ = events.tick() => self.watch_events().await,
                _ = forget.tick() => self.forget().await,
                () = stopped(&mut shutdown) => break,
            }
        }
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
        if self.pending.is_empty() {
            return;
        }
        match self.store.record(self.pending.clone()).await {
            Ok(()) => {
                self.service.store_outcome(None);
                self.pending.clear();
            }
            Err(failure) => {
                error!(pending = self.pending.len(), "hits can't be recorded: {failure}");
                self.service.store_outcome(Some(failure.to_string()));
                if let Some(lost) = self.pending.len().checked_sub(MOST_PENDING) {
                    self.pending.drain(..lost);
                    self.service.lost(lost as u64);
                }
            }
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
    Ok(hits)
}
