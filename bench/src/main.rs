//! One command that measures Sekisho beside what a user would pick instead.

use std::{fs, path::PathBuf, time::Instant};

use anyhow::{Context as _, Result};
use clap::{Parser, Subcommand, ValueEnum};

use sekisho_bench::{
    area::{self, Run},
    chart,
    lab::{self, Guard},
    lists::{Entries, Shape},
    machine::{self, Machine},
    markdown,
    report::{self, Results, Row},
    requirements,
};

/// Room for the ruleset, the product's default.
const CAPACITY: usize = 64 << 20;
/// The most room that the product can be given.
const LARGEST_CAPACITY: usize = 512 << 20;
/// Rows of a flow table, the product's default.
const FLOW_TABLE_ENTRIES: u32 = 262_144;

/// Measures Sekisho beside what a user would pick instead.
#[derive(Debug, Parser)]
struct Arguments {
    /// Fewer runs and no 10,000,000 entries: under three minutes on two processors.
    #[arg(long)]
    quick: bool,
    /// Only these areas.
    #[arg(long, value_enum, value_delimiter = ',')]
    only: Vec<Area>,
    /// How often everything is measured.
    #[arg(long)]
    rounds: Option<usize>,
    #[command(subcommand)]
    child: Option<Child>,
    /// Where results go.
    #[arg(long, default_value = "bench/results")]
    output: PathBuf,
}

#[derive(Debug, Subcommand)]
enum Child {
    /// Publishes one list: what the benchmark of publishing runs as a process of its own.
    #[command(hide = true)]
    PublishOnce { list: PathBuf, pin_dir: PathBuf, capacity: usize },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Area {
    Packet,
    Lookup,
    Hits,
    Publish,
    Live,
    Host,
}

fn main() -> Result<()> {
    let arguments = Arguments::parse();
    if let Some(Child::PublishOnce { list, pin_dir, capacity }) = &arguments.child {
        let stages = area::publish::once(list, pin_dir, *capacity)?;
        println!("{}", serde_json::to_string(&stages)?);
        return Ok(());
    }
    let command = std::env::args().skip(1).collect::<Vec<_>>().join(" ");
    let mut machine = Machine::look(format!("make bench BENCH_ARGS=\"{command}\""));
    let begin = Instant::now();
    lab::enter()?;
    lab::stay_on_one_processor()?;
    let mut results = Results::default();
    measure(&arguments, &mut results)?;
    machine.seconds = begin.elapsed().as_secs_f64();
    machine.load_at_end = machine::load();
    let verdicts = requirements::judge(&results);
    let document = report::document(&machine, &results, &verdicts);
    fs::create_dir_all(&arguments.output)?;
    let path = arguments.output.join("latest.json");
    fs::write(&path, serde_json::to_string_pretty(&document)?)
        .with_context(|| path.display().to_string())?;
    let page = markdown::page(&machine, &results, &verdicts);
    fs::write(arguments.output.join("latest.md"), page)?;
    chart::draw(&results, &arguments.output)?;
    for verdict in verdicts {
        let mark =
            verdict.holds.map_or("not measured", |holds| if holds { "holds" } else { "FAILS" });
        eprintln!("{:<12} {mark}: {} ({:?})", verdict.id, verdict.wanted, verdict.measured);
    }
    Ok(())
}

fn measure(arguments: &Arguments, results: &mut Results) -> Result<()> {
    let run = plan(arguments);
    let is_wanted = |area| arguments.only.is_empty() || arguments.only.contains(&area);
    let largest = run.sizes.iter().copied().max().unwrap_or(1);
    let entries = Entries::new(Shape::Uniform, largest);
    let start_guard = || Guard::start(CAPACITY, FLOW_TABLE_ENTRIES);
    if is_wanted(Area::Live) {
        area::live::measure(&run, start_guard, &entries, results)?;
    }
    let guard = start_guard()?;
    if is_wanted(Area::Packet) {
        area::packet::measure(&run, &guard, &entries, results)?;
    }
    if is_wanted(Area::Lookup) {
        area::lookup::measure(&run, &guard, &entries, results)?;
    }
    if is_wanted(Area::Hits) {
        area::hits::measure(&run, &guard, &entries, results)?;
    }
    if is_wanted(Area::Publish) {
        area::publish::measure(&run, &guard, &entries, results)?;
    }
    drop(guard);
    if is_wanted(Area::Host) {
        area::host::measure(&run, &entries, CAPACITY, results)?;
    }
    if is_wanted(Area::Packet) {
        ten_million(arguments, &run, results)?;
    }
    results
        .push(Row::absent("publish/total/10M", "a list of more than 4,000,000 lines is refused"));
    Ok(())
}

/// Ten times what is promised: the same packets with a list that no cache holds.
fn ten_million(arguments: &Arguments, run: &Run, results: &mut Results) -> Result<()> {
    if arguments.quick {
        let why = "left out by --quick";
        results.push(Row::absent("packet/clean/v4/untagged/10M", why));
        return Ok(());
    }
    let run = Run { sizes: vec![10_000_000], clustered: 0, ..run.clone() };
    let entries = Entries::new(Shape::Uniform, 10_000_000);
    let guard = Guard::start(LARGEST_CAPACITY, FLOW_TABLE_ENTRIES)?;
    area::packet::measure(&run, &guard, &entries, results)
}

fn plan(arguments: &Arguments) -> Run {
    let rounds = if arguments.quick { 3 } else { 11 };
    Run {
        rounds: arguments.rounds.unwrap_or(rounds),
        packets: 1 << 19,
        packets_of_hits: 1 << 17,
        packets_of_peer: 1 << 16,
        sizes: vec![1, 1_000, 10_000, 100_000, 1_000_000],
        clustered: 1_000_000,
    }
}
