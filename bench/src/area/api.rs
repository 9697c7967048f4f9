//! api/: the daemon's HTTP interface on the loopback, in front of a record of hits and a live
//! ruleset.

use std::{
    fs,
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::{Ipv4Addr, SocketAddr, TcpStream},
    path::Path,
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail, ensure};
use sekisho::{
    api::Api,
    dataplane::kernel::KernelDataplane,
    engine::{Engine, Inputs},
    settings,
};
use tokio::{
    runtime::Runtime,
    sync::{mpsc, watch},
};

use crate::{
    lab::{Cable, Pins},
    lists::{Entries, label},
    records::Record,
    report::{Results, Row, rounded},
    sampling::Samples,
};

/// Addresses in the ruleset that is live.
const LISTED: usize = 100_000;
/// Longest that the daemon may take to compile them.
const PATIENCE: Duration = Duration::from_secs(60);
/// How long an endpoint is asked over one connection, and then over several at a time.
const SAMPLE: Duration = Duration::from_millis(400);
/// Connections that ask at a time.
const CONNECTIONS: usize = 4;

/// Measures what programs and people ask most.
pub fn measure(
    folder: &Path,
    record: &Record,
    runtime: &Runtime,
    entries: &Entries,
    results: &mut Results,
) -> Result<()> {
    let cable = Cable::lay(0)?;
    let listed = &entries.v4[..LISTED.min(entries.v4.len())];
    // Dropped last, when the daemon has let go of them.
    let pins = Pins::below("api");
    let inputs = inputs(folder, &pins, &cable, listed)?;
    let (settings, guarded) = settings::of(&inputs.config);
    let dataplane = Arc::new(KernelDataplane::start(&settings, &guarded)?);
    let config = inputs.config.api.clone();
    let engine = Engine::new(inputs, None, dataplane, record.store.clone());
    let service = engine.service();
    let api = runtime.block_on(Api::new(config, Arc::clone(&service)).bind())?;
    let address = api.address();
    let (stop, shutdown) = watch::channel(false);
    let (_reload, reloads) = mpsc::channel(1);
    let answering = runtime.spawn(api.run(shutdown.clone()));
    let working = runtime.spawn(engine.run(shutdown, reloads));
    let begin = Instant::now();
    while service.ruleset().is_none() {
        ensure!(begin.elapsed() < PATIENCE, "no ruleset after {PATIENCE:?}");
        thread::sleep(Duration::from_millis(10));
    }
    let (busiest, _) = record.subscribers().into_iter().next().context("nobody was hit")?;
    let clean = Entries::clean_v4(&[entries], 1);
    let clean = clean.first().context("no clean address")?;
    let first = listed.first().context("an empty list")?;
    for (name, path) in [
        ("status", "/api/v1/status".to_owned()),
        ("explain/listed", format!("/api/v1/explain?address={first}:443/tcp")),
        ("explain/clean", format!("/api/v1/explain?address={clean}")),
        ("hits/latest", "/api/v1/hits".to_owned()),
        ("hits/subscriber", format!("/api/v1/hits?subscriber={busiest}")),
        ("metrics", "/metrics".to_owned()),
        ("healthz", "/healthz".to_owned()),
    ] {
        endpoint(name, address, &path, &label(record.rows), results).context(path)?;
    }
    stop.send_replace(true);
    let (answered, worked) = runtime.block_on(async { (answering.await, working.await) });
    answered?;
    Ok(worked??)
}

/// A configuration as an operator writes it, with a list in a file.
fn inputs(folder: &Path, pins: &Pins, cable: &Cable, listed: &[Ipv4Addr]) -> Result<Inputs> {
    let list: String = listed.iter().map(|address| format!("{address}\n")).collect();
    fs::write(folder.join("list.txt"), list)?;
    fs::write(
        folder.join("feeds.yaml"),
        "feeds:\n  - {name: bench, source: list.txt, format: plain}\n",
    )?;
    let config = folder.join("sekisho.yaml");
    let text = format!(
        "interfaces: [{{name: {}, role: subscriber}}]\nfeeds: feeds.yaml\nstate_dir: .\n\
         dataplane: {{pin_dir: {}}}\napi: {{listen: '127.0.0.1:0'}}\n",
        cable.far,
        pins.path().display()
    );
    fs::write(&config, text)?;
    Inputs::read(&config).map_err(anyhow::Error::msg)
}

/// Asks one path, first over one connection and then over several.
fn endpoint(
    name: &str,
    address: SocketAddr,
    path: &str,
    rows: &str,
    results: &mut Results,
) -> Result<()> {
    let latencies = ask(address, path)?;
    let row = Row::new(format!("api/latency/{name}/{rows}"), "ms", &latencies);
    results.push(row.with("p99", latencies.quantile(0.99).map(rounded)));
    let begin = Instant::now();
    let answers = thread::scope(|scope| {
        let clients: Vec<_> =
            (0..CONNECTIONS).map(|_| scope.spawn(|| Ok(ask(address, path)?.runs()))).collect();
        let answers = clients.into_iter().map(thread::ScopedJoinHandle::join);
        answers
            .map(|answer| answer.unwrap_or_else(|_| bail!("a client died")))
            .sum::<Result<usize>>()
    })?;
    let mut rate = Samples::default();
    rate.push(answers as f64 / begin.elapsed().as_secs_f64());
    let row = Row::new(format!("api/requests/{name}/{rows}"), "requests/s", &rate);
    results.push(row.with("connections", CONNECTIONS));
    Ok(())
}

/// Asks again and again over one connection, for as long as a sample takes: milliseconds an answer.
fn ask(address: SocketAddr, path: &str) -> Result<Samples> {
    let stream = TcpStream::connect(address)?;
    stream.set_nodelay(true)?;
    let mut connection = BufReader::new(stream);
    let request = format!("GET {path} HTTP/1.1\r\nHost: {address}\r\n\r\n");
    let mut samples = Samples::default();
    let begin = Instant::now();
    while begin.elapsed() < SAMPLE {
        let asked = Instant::now();
        connection.get_mut().write_all(request.as_bytes())?;
        let status = answer(&mut connection)?;
        samples.push(asked.elapsed().as_secs_f64() * 1e3);
        ensure!(status == 200, "status {status}");
    }
    Ok(samples)
}

/// Reads one answer to its end; its status.
fn answer(connection: &mut BufReader<TcpStream>) -> Result<u16> {
    let mut line = String::new();
    connection.read_line(&mut line)?;
    let status = line.split(' ').nth(1).and_then(|status| status.parse().ok());
    let mut length = 0;
    loop {
        line.clear();
        ensure!(connection.read_line(&mut line)? > 0, "the connection ended");
        let Some((name, value)) = line.split_once(':') else { break };
        if name.eq_ignore_ascii_case("content-length") {
            length = value.trim().parse()?;
        }
    }
    ensure!(length > 0, "an answer without a length");
    let read = std::io::copy(&mut connection.take(length), &mut std::io::sink())?;
    ensure!(read == length, "{read} of {length} bytes came");
    status.context("an answer without a status")
}
