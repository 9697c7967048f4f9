//! `sekisho run`: the daemon.

use std::{path::PathBuf, process, slice, sync::Arc, time::Duration};

use nix::sys::stat::{Mode, umask};
use tokio::{
    signal::unix::{SignalKind, signal},
    sync::{mpsc, watch},
    time::timeout,
};
use tracing::{error, info, warn};

use super::{Failure, log};
use crate::{
    api::Api,
    dataplane::{
        Dataplane, DataplaneError,
        kernel::{Guarded, KernelDataplane},
    },
    engine::{Engine, Inputs},
    preflight::{self, Outcome, Row, Topic},
    settings,
    store::Store,
};

/// Arguments of `sekisho run`.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Configuration file
    #[arg(short, long, value_name = "FILE", env = "SEKISHO_CONFIG")]
    config: PathBuf,
}

/// Longest wait for clients, and then for threads that are blocked, once the daemon is to end.
const PATIENCE: Duration = Duration::from_secs(5);
/// Exit status after a second signal: that of a process which SIGTERM ended.
const SIGNALLED_TWICE: i32 = 128 + 15;

/// Runs until SIGTERM or SIGINT; what is blocked stays blocked. SIGHUP reads the files again.
pub(super) fn run(args: &Args) -> Result<(), Failure> {
    // What it keeps says who called whom: nobody else's to read.
    umask(Mode::S_IRWXG | Mode::S_IRWXO);
    let inputs = Inputs::read(&args.config).map_err(Failure::usage)?;
    log::start(&inputs.config.log);
    let store = Store::open(&inputs.config.state_dir).map_err(Failure::failed)?;
    let (settings, guarded) = settings::of(&inputs.config);
    let sinkhole = settings.sinkhole.as_ref().map(|way| way.interface.as_str());
    let before = faults(&guarded, sinkhole);
    if let Some(member) = before.iter().find(|fault| fault.check == Topic::Master) {
        return Err(Failure::failed(&member.text));
    }
    let dataplane = KernelDataplane::start(&settings, &guarded).map_err(refused)?;
    // Once it is attached: what a wire's ends need was set, and a driver tells what it sends.
    let standing = faults(&guarded, sinkhole);
    let was_tried = |fault: &&Row| matches!(fault.check, Topic::Wire | Topic::VlanOffload);
    for Row { text, command, .. } in standing.iter().filter(|fault| !was_tried(fault)) {
        warn!(command = command.as_deref(), "{text}");
    }
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(Failure::failed)?;
    let outcome = runtime.block_on(serve(inputs, args.config.clone(), Arc::new(dataplane), store));
    // A file that hangs must not hold the process.
    runtime.shutdown_timeout(PATIENCE);
    outcome
}

/// What is known to be wrong with interfaces, without putting anything more on them.
fn faults(guarded: &[Guarded], sinkhole: Option<&str>) -> Vec<Row> {
    let names: Vec<String> = guarded.iter().map(|port| port.interface.clone()).collect();
    let far_end = |port: &Guarded| Some((port.interface.clone(), port.peer.clone()?));
    let wires = guarded.iter().filter_map(far_end).filter(|(one, other)| one < other);
    match preflight::gather(&names, &wires.collect::<Vec<_>>(), sinkhole, false) {
        Ok(facts) => preflight::faults(&facts),
        Err(error) => {
            warn!(%error, "the interfaces can't be looked at");
            Vec::new()
        }
    }
}

/// A refusal with its reason, as far as it can be found out.
fn refused(error: DataplaneError) -> Failure {
    let DataplaneError::NoXdp { name, .. } = &error else { return Failure::failed(error) };
    let rows = preflight::gather(slice::from_ref(name), &[], None, true)
        .map(|facts| preflight::check(&facts))
        .unwrap_or_default();
    let fault = rows.iter().find(|row| row.about == *name && row.outcome == Outcome::Fail);
    let reason = fault.map(|fault| format!("; {}", fault.text)).unwrap_or_default();
    Failure::failed(format!("{error}{reason}; `sekisho preflight {name}` tells what to do"))
}

async fn serve(
    inputs: Inputs,
    path: PathBuf,
    dataplane: Arc<dyn Dataplane>,
    store: Store,
) -> Result<(), Failure> {
    let api = inputs.config.api.clone();
    let engine = Engine::new(inputs, Some(path), dataplane, store);
    let api = Api::new(api, engine.service()).bind().await.map_err(Failure::failed)?;
    let (stop, shutdown) = watch::channel(false);
    let (ask, reload) = mpsc::channel(1);
    let answering = tokio::spawn(api.run(shutdown.clone()));
    let signals = tokio::spawn(obey_signals(stop.clone(), ask)?);
    let outcome = engine.run(shutdown, reload).await;
    stop.send_replace(true);
    match timeout(PATIENCE, answering).await {
        Ok(Ok(())) => {}
        Ok(Err(failure)) => error!("the API stopped: {failure}"),
        Err(_) => info!("a client that left its request unfinished is not waited for"),
    }
    signals.abort();
    info!("stopped; what was blocked stays blocked until `sekisho detach`");
    outcome.map_err(Failure::failed)
}

/// Turns signals into words for the engine.
fn obey_signals(
    stop: watch::Sender<bool>,
    reload: mpsc::Sender<()>,
) -> Result<impl Future<Output = ()>, Failure> {
    let mut terminate = signal(SignalKind::terminate()).map_err(Failure::failed)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(Failure::failed)?;
    let mut hangup = signal(SignalKind::hangup()).map_err(Failure::failed)?;
    Ok(async move {
        loop {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
                _ = hangup.recv() => {
                    // A reload that still waits serves this signal as well.
                    let _ = reload.try_send(());
                    continue;
                }
            }
            if stop.send_replace(true) {
                error!(
                    "a second signal: stopped at once; hits of the last moments stay in the kernel"
                );
                process::exit(SIGNALLED_TWICE);
            }
        }
    })
}
