//! live/: packets a second over a cable, ours beside what a user would pick instead.

mod peers;

use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use aya::programs::XdpMode;
use sekisho_abi::{reason::Reason, record::Mode};

use self::peers::{Ipset, Nftables, Peer, XdpFilter};
use super::Run;
use crate::{
    lab::{self, Guard, RECEIVER, RECEIVER_MAC, SENDER},
    lists::{Entries, label},
    report::{Results, Row},
    sampling::Samples,
    trace::{Layout, Trace},
    tracer::{Options, Tracer},
};

/// Distinct flows of a trace.
const FLOWS: [usize; 4] = [1, 1_000, 100_000, 250_000];
/// How long one sample takes, about.
const SAMPLE: Duration = Duration::from_millis(150);
const MOST_PACKETS: f64 = 4e6;

/// A program or rule on the receiving end, with a list.
struct Contender {
    /// As results name it, list included.
    name: String,
    action: &'static str,
    entries: usize,
    kind: Kind,
}

enum Kind {
    EmptyDrop,
    EmptyPass,
    Sekisho(Mode),
    Peer(Box<dyn Peer>),
}

/// What one contender reached with each trace.
struct Rates {
    name: String,
    action: &'static str,
    rates: [Samples; FLOWS.len()],
    /// Packets that the cable lost because the receiving end was too slow for it.
    lost: u64,
    absent: Option<String>,
}

/// Measures every contender with every trace, in turn.
pub fn measure(
    run: &Run,
    start_guard: impl Fn() -> Result<Guard>,
    entries: &Entries,
    results: &mut Results,
) -> Result<()> {
    let options = Options {
        layout: Layout::PLAIN_V4,
        to: RECEIVER_MAC,
        send_to: lab::index(SENDER)?,
        entries: 1,
        ruleset: None,
    };
    let mut tracer = Tracer::new(&options)?;
    let contenders = contenders(run);
    let mut all: Vec<Rates> = contenders
        .iter()
        .map(|contender| Rates {
            name: contender.name.clone(),
            action: contender.action,
            rates: Default::default(),
            lost: 0,
            absent: None,
        })
        .collect();
    for _ in 0..run.rounds {
        for (contender, rates) in contenders.iter().zip(&mut all) {
            if rates.absent.is_some() {
                continue;
            }
            if let Err(error) = contender.sample(&mut tracer, &start_guard, entries, rates) {
                if matches!(contender.kind, Kind::Peer(_)) {
                    rates.absent = Some(format!("{error:#}"));
                } else {
                    return Err(error.context(rates.name.clone()));
                }
            }
        }
    }
    report(&all, results);
    Ok(())
}

fn contenders(run: &Run) -> Vec<Contender> {
    let mut contenders = vec![
        Contender { name: "empty".into(), action: "drop", entries: 1, kind: Kind::EmptyDrop },
        Contender { name: "empty".into(), action: "pass", entries: 1, kind: Kind::EmptyPass },
    ];
    for &entries in run.sizes.iter().filter(|entries| **entries <= 1_000_000) {
        for (action, mode) in [("drop", Mode::Enforce), ("observe", Mode::Observe)] {
            if mode == Mode::Enforce || entries == 1_000_000 {
                let name = format!("sekisho/{}", label(entries));
                contenders.push(Contender { name, action, entries, kind: Kind::Sekisho(mode) });
            }
        }
    }
    let peers: [Box<dyn Peer>; 3] = [Box::new(XdpFilter), Box::new(Nftables), Box::new(Ipset)];
    for peer in peers {
        let entries = peer.most_entries();
        let name = format!("{}/{}", peer.name(), label(entries));
        contenders.push(Contender { name, action: "drop", entries, kind: Kind::Peer(peer) });
    }
    contenders
}

impl Contender {
    fn sample(
        &self,
        tracer: &mut Tracer,
        start_guard: &impl Fn() -> Result<Guard>,
        entries: &Entries,
        rates: &mut Rates,
    ) -> Result<()> {
        let listed = &entries.v4[..self.entries];
        match &self.kind {
            Kind::EmptyDrop | Kind::EmptyPass => {
                let is_drop = matches!(self.kind, Kind::EmptyDrop);
                let name = if is_drop { "empty_drop" } else { "empty_pass" };
                tracer.program(name)?;
                let link = tracer.xdp(name)?.attach(RECEIVER, XdpMode::Driver)?;
                let sampled = each_trace(tracer, listed, rates, is_drop, |_, _| Ok(()));
                tracer.xdp(name)?.detach(link)?;
                sampled
            }
            Kind::Sekisho(mode) => {
                let guard = start_guard()?;
                let (_, capacity) = guard.ruleset();
                guard.publish(&entries.image(self.entries, 1, capacity)?)?;
                guard.set_mode(*mode)?;
                let (reason, is_drop) = match mode {
                    Mode::Enforce => (Reason::Dropped, true),
                    _ => (Reason::ModeObserved, false),
                };
                let mut counted = guard.counts()?;
                each_trace(tracer, listed, rates, is_drop, |arrived, _| {
                    guard.expect(&counted, reason, arrived)?;
                    guard.drain()?;
                    counted = guard.counts()?;
                    Ok(())
                })
            }
            Kind::Peer(peer) => {
                // A cable takes frames from a program only towards an end that has one, too.
                let link = if peer.needs_program() {
                    tracer.program("empty_pass")?;
                    Some(tracer.xdp("empty_pass")?.attach(RECEIVER, XdpMode::Driver)?)
                } else {
                    None
                };
                let sampled = peer.load(listed).and_then(|()| {
                    each_trace(tracer, listed, rates, peer.drops_early(), |sent, stack| {
                        peer.check(sent, stack)
                    })
                });
                let unloaded = peer.unload();
                if let Some(link) = link {
                    tracer.xdp("empty_pass")?.detach(link)?;
                }
                sampled.and(unloaded)
            }
        }
    }
}

/// Sends every trace and checks where its packets went; `check` gets those that arrived and those that
/// came as far as the network stack.
fn each_trace(
    tracer: &mut Tracer,
    listed: &[std::net::Ipv4Addr],
    rates: &mut Rates,
    is_drop: bool,
    mut check: impl FnMut(u64, u64) -> Result<()>,
) -> Result<()> {
    let Rates { rates, lost: losses, .. } = rates;
    for (flows, samples) in FLOWS.into_iter().zip(rates) {
        tracer.load(&trace(listed, flows))?;
        let warm_up = 1 << 16;
        let before = (received()?, reached_stack()?);
        let time = tracer.send(warm_up)?;
        let packets = (f64::from(warm_up) * SAMPLE.as_secs_f64() / time.as_secs_f64())
            .clamp(f64::from(warm_up), MOST_PACKETS) as u32;
        // Whole batches: the generator sends no other.
        let packets = packets / 64 * 64;
        let time = tracer.send(packets)?;
        let sent = u64::from(warm_up) + u64::from(packets);
        let after = wait_for(before.0.packets + sent)?;
        let arrived = after.packets - before.0.packets;
        let lost = after.dropped - before.0.dropped;
        ensure!(arrived + lost == sent, "of {sent} packets {arrived} arrived, {lost} were lost");
        let in_stack = reached_stack()? - before.1;
        ensure!(!is_drop || in_stack == 0, "{in_stack} packets passed that should be dropped");
        check(arrived, in_stack)?;
        let rate = f64::from(packets) / time.as_secs_f64() / 1e6;
        samples.push(rate * arrived as f64 / sent as f64);
        *losses += lost;
    }
    Ok(())
}

/// So many flows to listed addresses, from as many subscribers as that takes.
fn trace(listed: &[std::net::Ipv4Addr], flows: usize) -> Trace {
    let used = &listed[..listed.len().min(flows)];
    Trace::v4(used, flows)
}

/// What the receiving end says of itself.
#[derive(Clone, Copy, Debug)]
struct Received {
    packets: u64,
    dropped: u64,
}

fn received() -> Result<Received> {
    let text = lab::run("ip", &["-json", "-statistics", "link", "show", "dev", RECEIVER])?;
    let links: serde_json::Value = serde_json::from_str(&text)?;
    let field = |name: &str| {
        links.pointer(&format!("/0/stats64/rx/{name}")).and_then(serde_json::Value::as_u64)
    };
    let (packets, dropped) = field("packets").zip(field("dropped")).context("no statistics")?;
    Ok(Received { packets, dropped })
}

/// The last packets may still be on their way when the generator is done.
fn wait_for(packets: u64) -> Result<Received> {
    let deadline = std::time::Instant::now() + Duration::from_secs(2);
    loop {
        let now = received()?;
        if now.packets >= packets || std::time::Instant::now() > deadline {
            return Ok(now);
        }
    }
}

/// Packets that the IPv4 layer of the namespace has seen.
fn reached_stack() -> Result<u64> {
    let text = std::fs::read_to_string("/proc/thread-self/net/snmp")?;
    let mut lines = text.lines().filter(|line| line.starts_with("Ip:"));
    let (Some(names), Some(values)) = (lines.next(), lines.next()) else {
        bail!("no Ip: counters")
    };
    names
        .split_whitespace()
        .zip(values.split_whitespace())
        .find(|(name, _)| *name == "InReceives")
        .and_then(|(_, value)| value.parse().ok())
        .context("no InReceives")
}

fn report(all: &[Rates], results: &mut Results) {
    let median = |name: &str, action: &str, at: usize| {
        all.iter()
            .find(|rates| rates.name.starts_with(name) && rates.action == action)
            .filter(|rates| rates.absent.is_none())
            .and_then(|rates| rates.rates[at].median())
    };
    for rates in all {
        for (at, flows) in FLOWS.into_iter().enumerate() {
            let plural = if flows == 1 { "flow" } else { "flows" };
            let name = format!("live/{}/{}/{}-{plural}", rates.action, rates.name, label(flows));
            if let Some(why) = &rates.absent {
                results.push(Row::absent(name, why));
                continue;
            }
            let empty = if rates.action == "drop" { "drop" } else { "pass" };
            let mut row = Row::new(name, "Mpps", &rates.rates[at]).with("lost", rates.lost);
            if rates.name != "empty" {
                row = row.ratio("empty", median("empty", empty, at));
            }
            if rates.name.starts_with("sekisho") && rates.action == "drop" {
                for peer in ["xdp-filter", "nftables", "ipset"] {
                    row = row.ratio(peer, median(peer, "drop", at));
                }
            }
            results.push(row);
        }
    }
    for action in ["wire", "reject"] {
        let why =
            "left out: the receiving end has one cable, and what it sends back is not counted";
        results.push(Row::absent(format!("live/{action}/sekisho"), why));
    }
}
