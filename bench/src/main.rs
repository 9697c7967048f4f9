//! One command that measures Sekisho beside what a user would pick instead.

use std::{fs, path::PathBuf, time::Instant};

use anyhow::{Context as _, Result};
use clap::{Parser, Subcommand, ValueEnum};

use sekisho_bench::{
    area::{self, Run},
    chart,
    lab::{self, Cable, Guard, Room},
    lists::{Entries, Shape},
    machine::{self, Machine},
    markdown,
    records::Record,
    report::{self, Results, Row},
    requirements,
};

/// The product's defaults.
const ROOM: Room = Room { capacity: 64 << 20, flow_table_entries: 1_048_576 };
/// The same with the longest ruleset that the product can be given room for.
const LARGEST_ROOM: Room = Room { capacity: 512 << 20, ..ROOM };

/// Measures Sekisho beside what a user would pick instead.
#[derive(Debug, Parser)]
struct Arguments {
    /// Fewer runs and no 10,000,000 entries: under three minutes on two processors.
    #[arg(long)]
    quick: bool,
    /// Only these areas.
    #[arg(long, value_enum, value_delimiter = ',')]
    only: Vec<Area>,
    /// How often everything is measured that takes long.
    #[arg(long)]
    rounds: Option<usize>,
    /// How often everything is measured that takes moments.
    #[arg(long)]
    turns: Option<usize>,
    #[command(subcommand)]
    child: Option<Child>,
    /// Where results go.
    #[arg(long, default_value = "bench/results")]
    output: PathBuf,
}

#[derive(Debug, Subcommand)]
enum Child {
    /// Publishes lists: what the benchmark of publishing runs as a process of its own.
    #[command(hide = true)]
    PublishOnce { pin_dir: PathBuf, capacity: usize, lists: Vec<PathBuf> },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Area {
    Packet,
    Lookup,
    Hits,
    Publish,
    Live,
    Host,
    Store,
    Api,
}

fn main() -> Result<()> {
    let arguments = Arguments::parse();
    if let Some(Child::PublishOnce { pin_dir, capacity, lists }) = &arguments.child {
        let stages = area::publish::once(lists, pin_dir, *capacity)?;
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
    let largest = run.sizes.last().copied().unwrap_or(1);
    let entries = Entries::new(Shape::Uniform, largest);
    if is_wanted(Area::Live) {
        area::live::measure(&run, ROOM, &entries, results)?;
    }
    if is_wanted(Area::Packet) {
        area::packet::measure(&run, ROOM, &entries, results)?;
        ten_million(arguments, &run, results)?;
    }
    let guard = Guard::start(ROOM, &Cable::lay(0)?)?;
    if is_wanted(Area::Lookup) {
        area::lookup::measure(&run, &guard, &entries, results)?;
    }
    if is_wanted(Area::Hits) {
        area::hits::measure(&run, &guard, &entries, results)?;
    }
    if is_wanted(Area::Publish) {
        area::publish::measure(&run, &guard, &entries, LARGEST_ROOM, results)?;
    }
    drop(guard);
    if is_wanted(Area::Host) {
        area::host::measure(&run, &entries, ROOM.capacity, results)?;
    }
    if is_wanted(Area::Store) || is_wanted(Area::Api) {
        let rows: &[usize] = if run.is_quick { &[1_000_000] } else { &[1_000_000, 10_000_000] };
        for rows in rows {
            after_a_month(*rows, &entries, &is_wanted, results)?;
        }
    }
    Ok(())
}

/// What is kept and what is asked for, with so many rows of hits; on all processors, as a daemon runs.
fn after_a_month(
    rows: usize,
    entries: &Entries,
    is_wanted: &impl Fn(Area) -> bool,
    results: &mut Results,
) -> Result<()> {
    lab::use_all_processors()?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let folder = tempfile::tempdir()?;
    let record = Record::write(folder.path(), rows, &runtime)?;
    if is_wanted(Area::Store) {
        area::store::measure(&record, results)?;
    }
    if is_wanted(Area::Api) {
        area::api::measure(folder.path(), &record, &runtime, entries, results)?;
    }
    drop(runtime);
    lab::stay_on_one_processor().map(drop)
}

/// Ten times what is promised: the same packets with a list that no cache holds.
fn ten_million(arguments: &Arguments, run: &Run, results: &mut Results) -> Result<()> {
    if arguments.quick {
        let why = "left out by --quick";
        results.push(Row::absent("packet/clean/v4/untagged/10M", why));
        return Ok(());
    }
    area::packet::ten_times(run, LARGEST_ROOM, 10_000_000, results)
}

fn plan(arguments: &Arguments) -> Run {
    let (rounds, turns) = if arguments.quick { (3, 20) } else { (11, 60) };
    Run {
        is_quick: arguments.quick,
        rounds: arguments.rounds.unwrap_or(rounds),
        turns: arguments.turns.unwrap_or(turns),
        sizes: vec![1, 1_000, 10_000, 100_000, 1_000_000],
    }
}
