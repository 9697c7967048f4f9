//! host/: what runs in user space: parsers, the builder of images, and the lookup on a slice. Criterion
//! measures them, for `cargo bench` and for `make bench` alike.

use std::{fs, hint::black_box, net::Ipv4Addr, path::Path, time::Duration};

use anyhow::{Context as _, Result, ensure};
use criterion::{
    Criterion, Throughput,
    measurement::{Measurement, ValueFormatter, WallTime},
};
use sekisho_abi::image::find_v4;
use sekisho_rules::{
    feed::Format,
    parse::{Limits, parse},
};
use serde::Deserialize;

use super::Run;
use crate::{
    lists::{Entries, label},
    report::{Results, Row},
    sampling::{Samples, process_time},
    texts::text,
};

/// Lines of the lists that are parsed.
const LINES: usize = 20_000;
/// Lookups of one call.
const LOOKUPS: usize = 1 << 16;
/// Fewest samples that criterion takes.
const SAMPLES: usize = 10;
/// What the smallest benchmarks measure for, in a quick run.
const QUICK: Duration = Duration::from_millis(100);

/// Processor time of this process: what else the machine does meanwhile does not count.
pub struct ProcessorTime;

impl Measurement for ProcessorTime {
    type Intermediate = Duration;
    type Value = Duration;

    fn start(&self) -> Duration {
        process_time()
    }

    fn end(&self, begin: Duration) -> Duration {
        process_time().saturating_sub(begin)
    }

    fn add(&self, one: &Duration, other: &Duration) -> Duration {
        *one + *other
    }

    fn zero(&self) -> Duration {
        Duration::ZERO
    }

    fn to_f64(&self, value: &Duration) -> f64 {
        WallTime.to_f64(value)
    }

    fn formatter(&self) -> &dyn ValueFormatter {
        const { &WallTime }.formatter()
    }
}

/// Registers all of them; `sizes` are those of the lists that are built and asked.
pub fn benches(
    criterion: &mut Criterion<ProcessorTime>,
    entries: &Entries,
    sizes: &[usize],
    capacity: usize,
) -> Result<()> {
    parsers(criterion, &entries.v4[..LINES.min(entries.v4.len())])?;
    images(criterion, entries, sizes, capacity)
}

fn parsers(criterion: &mut Criterion<ProcessorTime>, hosts: &[Ipv4Addr]) -> Result<()> {
    let mut group = criterion.benchmark_group("host/parse");
    group.throughput(Throughput::Elements(hosts.len() as u64));
    for format in Format::ALL {
        let text = text(format, hosts);
        let read = || parse(format, black_box(text.as_bytes()), &Limits::default());
        let parsed = read().with_context(|| format!("a {format} list is refused"))?;
        // URLs are kept as names.
        let count = parsed.indicators.len() + parsed.named.len();
        ensure!(count == hosts.len(), "{count} of {} {format} lines were read", hosts.len());
        group.bench_function(format.as_str(), |bencher| bencher.iter(read));
    }
    group.finish();
    Ok(())
}

fn images(
    criterion: &mut Criterion<ProcessorTime>,
    entries: &Entries,
    sizes: &[usize],
    capacity: usize,
) -> Result<()> {
    let clean = Entries::clean_v4(&[entries], LOOKUPS);
    for &count in sizes {
        let image = entries.image(count, 1, capacity)?;
        let label = label(count);
        let mut group = criterion.benchmark_group("host/build/both-families");
        group.bench_function(&label, |bencher| {
            bencher.iter(|| entries.image(count, 1, capacity).map(|image| image.bytes().len()));
        });
        group.finish();
        for (kind, addresses, expected) in
            [("clean", &clean[..], 0), ("hit", &entries.v4[..count], LOOKUPS)]
        {
            let found = || {
                let addresses = addresses.iter().cycle().take(LOOKUPS);
                let is_listed = |address: &&Ipv4Addr| {
                    find_v4(black_box(image.bytes()), u32::from(**address)).is_some()
                };
                addresses.filter(is_listed).count()
            };
            ensure!(found() == expected, "{} of {LOOKUPS} addresses were found", found());
            let mut group = criterion.benchmark_group(format!("host/lookup/{kind}/v4"));
            group.throughput(Throughput::Elements(LOOKUPS as u64));
            group.bench_function(&label, |bencher| bencher.iter(found));
            group.finish();
        }
    }
    Ok(())
}

/// Runs them, and takes over what criterion writes.
pub fn measure(run: &Run, entries: &Entries, capacity: usize, results: &mut Results) -> Result<()> {
    let folder = tempfile::tempdir()?;
    let (samples, time) = if run.is_quick { (SAMPLES, QUICK) } else { (5 * SAMPLES, 10 * QUICK) };
    let mut criterion = Criterion::default()
        .with_measurement(ProcessorTime)
        .output_directory(folder.path())
        .without_plots()
        .nresamples(1_000)
        .sample_size(samples)
        .warm_up_time(time / 2)
        .measurement_time(time);
    benches(&mut criterion, entries, &run.sizes, capacity)?;
    let mut written = Vec::new();
    read(folder.path(), &mut written)?;
    for format in Format::ALL {
        push(&written, &format!("host/parse/{format}"), "million lines/s", results)?;
    }
    for count in run.sizes.iter().copied().map(label) {
        push(&written, &format!("host/build/both-families/{count}"), "ms", results)?;
        for kind in ["clean", "hit"] {
            push(&written, &format!("host/lookup/{kind}/v4/{count}"), "ns", results)?;
        }
    }
    Ok(())
}

/// What criterion wrote of one benchmark.
struct Written {
    full_id: String,
    /// Elements of one call; 1 if none were declared.
    elements: f64,
    /// Nanoseconds of one call, by sample.
    calls: Vec<f64>,
}

/// `benchmark.json` of criterion 0.8.
#[derive(Deserialize)]
struct Benchmark {
    full_id: String,
    throughput: Option<Elements>,
}

#[derive(Deserialize)]
struct Elements {
    #[serde(rename = "Elements")]
    elements: u64,
}

/// `sample.json` of criterion 0.8: calls of each sample, and nanoseconds of all of them.
#[derive(Deserialize)]
struct Sample {
    iters: Vec<f64>,
    times: Vec<f64>,
}

fn read(folder: &Path, written: &mut Vec<Written>) -> Result<()> {
    if folder.ends_with("new") {
        let text = |name| fs::read(folder.join(name)).with_context(|| folder.display().to_string());
        let benchmark: Benchmark = serde_json::from_slice(&text("benchmark.json")?)?;
        let Sample { iters, times } = serde_json::from_slice(&text("sample.json")?)?;
        written.push(Written {
            full_id: benchmark.full_id,
            elements: benchmark.throughput.map_or(1.0, |all| all.elements as f64),
            calls: times.iter().zip(&iters).map(|(time, calls)| time / calls).collect(),
        });
        return Ok(());
    }
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            read(&entry.path(), written)?;
        }
    }
    Ok(())
}

fn push(written: &[Written], name: &str, unit: &'static str, results: &mut Results) -> Result<()> {
    let found = written.iter().find(|written| written.full_id == name);
    let Written { elements, calls, .. } =
        found.with_context(|| format!("criterion wrote nothing of {name}"))?;
    let mut samples = Samples::default();
    for call in calls {
        samples.push(match unit {
            "ms" => call / 1e6,
            "ns" => call / elements,
            _ => elements / call * 1e3,
        });
    }
    results.push(Row::new(name, unit, &samples));
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lists::Shape;

    #[test]
    fn every_benchmark_has_a_figure_in_what_criterion_writes() {
        let run = Run { is_quick: true, rounds: 1, turns: 1, sizes: vec![1, 100] };
        let mut results = Results::default();
        measure(&run, &Entries::new(Shape::Uniform, 100), 64 << 20, &mut results).unwrap();
        assert_eq!(results.rows().len(), Format::ALL.len() + 3 * run.sizes.len());
        for row in results.rows() {
            assert!(row.value.is_some_and(|value| value > 0.0), "{}", row.bench);
        }
    }
}
