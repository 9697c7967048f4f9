//! hits/: every packet of a million flows is found again.

use std::time::Instant;

use anyhow::{Result, ensure};
use sekisho::dataplane::{Dataplane as _, kernel::KernelDataplane};
use sekisho_abi::reason::Reason;

use super::Run;
use crate::{
    lab::{Guard, RECEIVER_MAC},
    lists::{Entries, label},
    report::{Results, Row},
    sampling::Samples,
    trace::{Layout, Trace},
    tracer::{Options, Tracer},
};

/// Every flow of a trace is another one.
const FLOWS: usize = 1_000_000;

/// Sends one packet of each flow and drains the ledger.
pub fn measure(run: &Run, guard: &Guard, entries: &Entries, results: &mut Results) -> Result<()> {
    ensure!(entries.v4.len() >= FLOWS, "too few entries for a million flows");
    let (_, capacity) = guard.ruleset();
    guard.publish(&entries.image(FLOWS, 1, capacity)?)?;
    let options = Options {
        layout: Layout::PLAIN_V4,
        to: RECEIVER_MAC,
        send_to: 0,
        entries: 1,
        ruleset: None,
    };
    let mut tracer = Tracer::new(&options)?;
    tracer.load(&Trace::v4(&entries.v4[..FLOWS], FLOWS))?;
    let program = guard.program()?;
    let dataplane = guard.dataplane();
    let [mut send, mut drain, mut rows, mut overflowed, mut unaccounted] =
        [(); 5].map(|()| Samples::default());
    for _ in 0..run.rounds {
        guard.drain()?;
        tracer.rewind()?;
        let (before, overflow) = (guard.counts()?, overflow(dataplane)?);
        let begin = Instant::now();
        tracer.run(&program, FLOWS as u32)?;
        send.push(begin.elapsed().as_secs_f64() * 1e3);
        guard.expect(&before, Reason::Dropped, FLOWS as u64)?;
        let begin = Instant::now();
        let drained = guard.drain()?;
        drain.push(begin.elapsed().as_secs_f64() * 1e3);
        let in_rows: u64 = drained.iter().map(|row| row.totals.packets).sum();
        let beyond = self::overflow(dataplane)? - overflow;
        rows.push(drained.len() as f64);
        overflowed.push(beyond as f64);
        unaccounted.push((FLOWS as f64 - in_rows as f64 - beyond as f64).abs());
    }
    let flows = format!("{}-flows", label(FLOWS));
    for (what, unit, samples) in [
        ("send", "ms", &send),
        ("drain", "ms", &drain),
        ("rows", "rows", &rows),
        ("overflow", "packets", &overflowed),
    ] {
        results.push(Row::new(format!("hits/{what}/{flows}"), unit, samples));
    }
    // One run that loses a packet is one too many, whatever the middle of the runs says.
    let mut row = Row::new(format!("hits/unaccounted/{flows}"), "packets", &unaccounted);
    row.value = row.max;
    results.push(row);
    Ok(())
}

/// Packets that no row holds, so far.
fn overflow(dataplane: &KernelDataplane) -> Result<u64> {
    Ok(dataplane.rule_totals()?.iter().map(|(_, totals)| totals.overflow.packets).sum())
}
