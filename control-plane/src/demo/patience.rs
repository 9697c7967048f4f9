//! Waiting for conditions, never for time alone, and never longer than allowed.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, bail};
use tokio::signal::unix::{SignalKind, signal};

const POLL: Duration = Duration::from_millis(20);

/// Whether somebody wants us to stop.
#[derive(Clone, Debug, Default)]
pub struct Interrupt(Arc<AtomicBool>);

impl Interrupt {
    /// Turns SIGINT, SIGTERM and SIGHUP into a flag, so that everything can be cleaned up.
    pub fn on_signals() -> anyhow::Result<Self> {
        let interrupt = Self::default();
        let flag = interrupt.clone();
        let (ready, installed) = std::sync::mpsc::sync_channel(1);
        thread::Builder::new().name("signals".into()).spawn(move || {
            let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
                Ok(runtime) => runtime,
                Err(error) => return ready.send(Err(error)).unwrap_or_default(),
            };
            runtime.block_on(async {
                let kinds =
                    [SignalKind::interrupt(), SignalKind::terminate(), SignalKind::hangup()];
                let [mut interrupt, mut terminate, mut hangup] = match kinds.map(signal) {
                    [Ok(a), Ok(b), Ok(c)] => [a, b, c],
                    [Err(error), ..] | [_, Err(error), _] | [.., Err(error)] => {
                        return ready.send(Err(error)).unwrap_or_default();
                    }
                };
                let _ = ready.send(Ok(()));
                tokio::select! {
                    _ = interrupt.recv() => {}
                    _ = terminate.recv() => {}
                    _ = hangup.recv() => {}
                }
                flag.raise();
            });
        })?;
        installed.recv().context("the signal thread died")?.context("cannot watch signals")?;
        Ok(interrupt)
    }

    /// Asks everybody to stop.
    pub fn raise(&self) {
        self.0.store(true, Ordering::Release);
    }

    /// Whether to stop.
    pub fn is_raised(&self) -> bool {
        self.0.load(Ordering::Acquire)
    }

    /// An error if somebody wants us to stop.
    pub fn check(&self) -> anyhow::Result<()> {
        if self.is_raised() {
            bail!("interrupted");
        }
        Ok(())
    }

    /// Asks again and again until there is an answer. `what` completes "waited ... for".
    pub fn wait_for<T>(
        &self,
        what: &str,
        longest: Duration,
        mut ask: impl FnMut() -> anyhow::Result<Option<T>>,
    ) -> anyhow::Result<T> {
        let deadline = Instant::now() + longest;
        loop {
            self.check()?;
            if let Some(answer) = ask()? {
                return Ok(answer);
            }
            if Instant::now() >= deadline {
                bail!("waited {} s in vain for {what}", longest.as_secs());
            }
            thread::sleep(POLL);
        }
    }

    /// Waits until a number has stood still for a while.
    pub fn wait_for_quiet(
        &self,
        what: &str,
        quiet: Duration,
        longest: Duration,
        mut number: impl FnMut() -> u64,
    ) -> anyhow::Result<()> {
        let mut last = number();
        let mut since = Instant::now();
        self.wait_for(what, longest, || {
            let now = number();
            if now != last {
                last = now;
                since = Instant::now();
            }
            Ok((since.elapsed() >= quiet).then_some(()))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_raised_interrupt_ends_a_wait_at_once() {
        let interrupt = Interrupt::default();
        interrupt.raise();
        let error =
            interrupt.wait_for("ever", Duration::from_secs(3_600), || Ok(None::<()>)).unwrap_err();
        assert_eq!(error.to_string(), "interrupted");
    }

    #[test]
    fn a_wait_in_vain_says_for_what() {
        let error =
            Interrupt::default().wait_for("a sign", Duration::ZERO, || Ok(None::<()>)).unwrap_err();
        assert!(error.to_string().contains("a sign"));
    }

    #[test]
    fn quiet_is_only_when_nothing_has_moved_for_the_whole_time() {
        let mut moves = 5;
        let interrupt = Interrupt::default();
        let started = Instant::now();
        interrupt
            .wait_for_quiet("quiet", Duration::from_millis(60), Duration::from_secs(5), || {
                moves = u64::max(moves, 1) - 1;
                moves
            })
            .unwrap();
        assert_eq!(moves, 0);
        assert!(started.elapsed() >= Duration::from_millis(60));
    }
}
