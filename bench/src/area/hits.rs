//! hits/: every packet of a million flows is found again.

use std::time::Instant;

use anyhow::{Result, ensure};
use sekisho_abi::reason::Reason;

use super::Run;
use crate::{
    lab::Guard,
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
    let mut tracer = Tracer::new(&Options::of(Layout::PLAIN_V4))?;
    tracer.load(&Trace::v4(&entries.v4[..FLOWS], FLOWS))?;
    let program = guard.program()?;
    let [mut send, mut drain, mut rows, mut overflowed, mut unaccounted] =
        [(); 5].map(|()| Samples::default());
    for _ in 0..run.rounds {
        let overflow = guard.settle()?.overflow;
        tracer.rewind()?;
        let before = guard.counts()?;
        let begin = Instant::now();
        tracer.run(&program, FLOWS as u32)?;
        send.push(begin.elapsed().as_secs_f64() * 1e3);
        guard.expect(&before, Reason::Dropped, FLOWS as u64)?;
        let begin = Instant::now();
        let settled = guard.settle()?;
        drain.push(begin.elapsed().as_secs_f64() * 1e3);
        let beyond = settled.overflow - overflow;
        rows.push(settled.rows as f64);
        overflowed.push(beyond as f64);
        unaccounted.push((FLOWS as f64 - settled.in_rows as f64 - beyond as f64).abs());
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
    let row = Row::new(format!("hits/unaccounted/{flows}"), "packets", &unaccounted);
    results.push(row.by_worst());
    Ok(())
}
