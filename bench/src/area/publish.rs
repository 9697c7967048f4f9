//! publish/: from a changed list on disk to live in the kernel, stage by stage, in a process of its
//! own; and whether any packet is misjudged meanwhile.

use std::{
    fs,
    io::{BufWriter, Write as _},
    net::Ipv4Addr,
    ops::Range,
    path::{Path, PathBuf},
    process::Command,
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::{Instant, SystemTime, UNIX_EPOCH},
};

use anyhow::{Context as _, Result, ensure};
use sekisho::dataplane::{
    Dataplane as _,
    kernel::KernelDataplane,
    tables::{self, Slots},
};
use sekisho_abi::{
    image::{Action, Image},
    reason::Reason,
};
use sekisho_bench_prog::ROWS;
use sekisho_rules::{
    catalogue::Catalogue,
    compile::{FeedInput, compile},
    moment::Moment,
    parse::{Limits, parse},
    policy::stage,
    seen::Seen,
    shipped,
};
use serde::{Deserialize, Serialize};

use super::Run;
use crate::{
    lab::{Cable, Guard, Room, use_all_processors},
    lists::{Entries, label, uniform_v4},
    report::{Results, Row},
    sampling::Samples,
    trace::{Layout, Trace},
    tracer::{Options, Tracer},
};

/// Lists up to this length are measured whatever the run.
const USUAL: [usize; 4] = [10_000, 100_000, 1_000_000, 2_000_000];
/// What a full run measures beyond, in more room.
const FAR: usize = 10_000_000;
/// Entries that others are set in relation to.
const REFERENCE: usize = 1_000_000;
/// Entries of one list: longer ones are refused as a whole, so that more come as several feeds.
const LIST: usize = 3_500_000;
/// Most rounds: ten million take ten seconds each.
const ROUNDS: usize = 5;
/// Swaps while packets of one kind are judged.
const SWAPS: usize = 20;

/// What one publication took, in milliseconds.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct Stages {
    read: f64,
    parse: f64,
    policy_and_merge: f64,
    rollout: f64,
    image: f64,
    swap: f64,
    total: f64,
    /// Entries that the policy let stand.
    entries: usize,
    /// The most memory that the process had, in MB.
    peak_memory: f64,
}

/// A list, and what its publications took.
struct Size {
    count: usize,
    lists: Vec<PathBuf>,
    stages: Vec<Stages>,
}

/// Measures lists of all sizes, in more room where that is needed, then swaps under fire.
pub fn measure(
    run: &Run,
    guard: &Guard,
    entries: &Entries,
    more_room: Room,
    results: &mut Results,
) -> Result<()> {
    let far = if run.is_quick { None } else { Some(Guard::start(more_room, &Cable::lay(1)?)?) };
    let folder = tempfile::tempdir()?;
    let longest = if run.is_quick { USUAL.into_iter().max().unwrap_or(0) } else { FAR };
    let addresses = uniform_v4(longest);
    let mut sizes = Vec::new();
    for count in USUAL.into_iter().chain(far.as_ref().map(|_| FAR)) {
        let guard = far.as_ref().filter(|_| count == FAR).unwrap_or(guard);
        let lists = write_lists(folder.path(), &addresses[..count])?;
        sizes.push((Size { count, lists, stages: Vec::new() }, guard));
    }
    drop(addresses);
    for _ in 0..run.rounds.min(ROUNDS) {
        for (size, guard) in &mut sizes {
            size.stages.push(in_child(guard, &size.lists)?);
        }
    }
    let sizes: Vec<Size> = sizes.into_iter().map(|(size, _)| size).collect();
    report(&sizes, results);
    if far.is_none() {
        let name = |what: &str| format!("publish/{what}/{}", label(FAR));
        for what in ["total", "peak-memory"] {
            results.push(Row::absent(name(what), "left out by --quick"));
        }
    }
    misjudged(guard, entries, results)
}

/// One list, or as many as that takes.
fn write_lists(folder: &Path, addresses: &[Ipv4Addr]) -> Result<Vec<PathBuf>> {
    let mut lists = Vec::new();
    for (at, part) in addresses.chunks(LIST).enumerate() {
        let path = folder.join(format!("{}-{at}.txt", addresses.len()));
        let mut file = BufWriter::new(fs::File::create(&path)?);
        for address in part {
            writeln!(file, "{address}")?;
        }
        file.flush()?;
        lists.push(path);
    }
    Ok(lists)
}

/// A process of its own, so that its memory is that of one publication.
fn in_child(guard: &Guard, lists: &[PathBuf]) -> Result<Stages> {
    let (_, capacity) = guard.ruleset();
    let output = Command::new(std::env::current_exe()?)
        .arg("publish-once")
        .arg(guard.pin_dir())
        .arg(capacity.to_string())
        .args(lists)
        .output()?;
    let errors = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "publishing failed: {}", errors.trim());
    Ok(serde_json::from_slice(&output.stdout)?)
}

/// Publishes lists into the dataplane under a pin folder: the life of the child process.
///
/// On all processors, as the daemon does it; the process that started this one keeps to one.
pub fn once(lists: &[PathBuf], pin_dir: &Path, capacity: usize) -> Result<Stages> {
    use_all_processors()?;
    let policy = shipped::policy()?;
    let never_block = shipped::never_block()?;
    let feed = |(at, list): (usize, &PathBuf)| {
        format!("{{name: bench-{at}, source: {}, format: plain}}", list.display())
    };
    let feeds: Vec<String> = lists.iter().enumerate().map(feed).collect();
    let catalogue = Catalogue::from_yaml(&format!("feeds: [{}]", feeds.join(", ")), "bench")?;
    let dataplane = KernelDataplane::open(pin_dir)?;
    let since_1970 = SystemTime::now().duration_since(UNIX_EPOCH)?;
    let now = Moment::nearest(i64::try_from(since_1970.as_secs())?);

    let mut clock = Clock::start();
    let bytes = lists.iter().map(fs::read).collect::<Result<Vec<_>, _>>()?;
    let read = clock.lap();
    let specs = catalogue.feeds.iter();
    let parsed: Vec<_> = specs
        .clone()
        .zip(&bytes)
        .map(|(spec, bytes)| parse(spec.format, bytes, &Limits::default()))
        .collect();
    let parse = clock.lap();
    let inputs: Vec<FeedInput<'_>> = specs
        .clone()
        .zip(&parsed)
        .map(|(spec, parsed)| FeedInput { spec, parsed: parsed.as_ref(), fetched_at: now })
        .collect();
    let mut compiled = compile(&inputs, &policy, &never_block, now)?;
    let policy_and_merge = clock.lap();
    let new: Vec<_> = specs.map(|spec| (spec, true)).collect();
    let staged = stage(&mut compiled, &new, &policy.rollout, &Seen::default(), now);
    let rollout = clock.lap();
    let built = tables::build(&compiled.table, &Slots::default(), 1, capacity)?;
    let image = clock.lap();
    dataplane.publish(&built.image)?;
    let swap = clock.lap();
    ensure!(staged.seen.len() == compiled.table.v4.len(), "not every entry has its time");
    Ok(Stages {
        read,
        parse,
        policy_and_merge,
        rollout,
        image,
        swap,
        total: clock.total(),
        entries: compiled.table.v4.len(),
        peak_memory: peak_memory()?,
    })
}

struct Clock {
    begin: Instant,
    lap: Instant,
}

impl Clock {
    fn start() -> Self {
        let now = Instant::now();
        Self { begin: now, lap: now }
    }

    /// Milliseconds since the last call.
    fn lap(&mut self) -> f64 {
        let now = Instant::now();
        let passed = now - self.lap;
        self.lap = now;
        passed.as_secs_f64() * 1e3
    }

    /// Milliseconds up to the last lap.
    fn total(&self) -> f64 {
        (self.lap - self.begin).as_secs_f64() * 1e3
    }
}

/// The most memory that this process ever had, in MB.
fn peak_memory() -> Result<f64> {
    let status = fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find(|line| line.starts_with("VmHWM:")).context("no VmHWM")?;
    let kib: f64 = line.split_whitespace().nth(1).context("an odd VmHWM")?.parse()?;
    Ok(kib * 1024.0 / 1e6)
}

fn report(sizes: &[Size], results: &mut Results) {
    let of = |size: &Size, figure: fn(&Stages) -> f64| {
        let mut samples = Samples::default();
        size.stages.iter().map(figure).for_each(|value| samples.push(value));
        samples
    };
    let reference = sizes.iter().find(|size| size.count == REFERENCE);
    for size in sizes {
        let row = |what: &str, unit, figure| {
            let name = format!("publish/{what}/{}", label(size.count));
            let row = Row::new(name, unit, &of(size, figure));
            match reference.filter(|reference| reference.count != size.count) {
                Some(reference) => row.ratio(label(REFERENCE), &of(reference, figure)),
                None => row,
            }
        };
        let entries = size.stages.first().map_or(0, |stages| stages.entries);
        results.push(row("read", "ms", |stages| stages.read));
        results.push(row("parse", "ms", |stages| stages.parse));
        results.push(row("policy-and-merge", "ms", |stages| stages.policy_and_merge));
        results.push(row("roll-out", "ms", |stages| stages.rollout));
        results.push(row("image", "ms", |stages| stages.image));
        results.push(row("swap", "ms", |stages| stages.swap));
        results.push(row("total", "ms", |stages| stages.total).with("entries", entries));
        results.push(row("peak-memory", "MB", |stages| stages.peak_memory));
    }
}

/// Two rulesets, each with addresses of its own and a common half, take turns while packets to the
/// common half and to what neither lists are judged on another processor, in both families.
fn misjudged(guard: &Guard, entries: &Entries, results: &mut Results) -> Result<()> {
    let (_, capacity) = guard.ruleset();
    let quarter = entries.v4.len().min(entries.v6.len()) / 4;
    let image = |own: Range<usize>, generation| {
        entries.image_of(Action::Drop, &[0..2 * quarter, own], generation, capacity)
    };
    let images = [image(2 * quarter..3 * quarter, 1)?, image(3 * quarter..4 * quarter, 2)?];
    guard.publish(&images[0])?;
    let program = guard.program()?;
    let lists = &[entries];
    let (common_v4, common_v6) = (&entries.v4[..2 * quarter], &entries.v6[..2 * quarter]);
    let (mut wrong, mut judged) = (0, 0);
    for (trace, reason) in [
        (Trace::v4(common_v4, 1), Reason::Dropped),
        (Trace::v4(&Entries::clean_v4(lists, ROWS), 1), Reason::NotListed),
        (Trace::v6(common_v6, 1), Reason::Dropped),
        (Trace::v6(&Entries::clean_v6(lists, ROWS), 1), Reason::NotListed),
    ] {
        let layout = Layout { is_v6: trace.is_v6, ..Layout::PLAIN_V4 };
        let mut tracer = Tracer::new(&Options::of(layout))?;
        tracer.load(&trace)?;
        let before = guard.counts()?;
        under_fire(guard, &images, || tracer.run(&program, 1 << 14).map(drop))?;
        for (counted_as, packets) in guard.counted_since(&before)? {
            judged += packets;
            if counted_as != reason {
                wrong += packets;
            }
        }
        guard.settle()?;
    }
    ensure!(judged > 0, "no packet was judged");
    let mut samples = Samples::default();
    samples.push(wrong as f64);
    let row = Row::new("publish/misjudged", "packets", &samples);
    let row = row.with("judged", judged).with("swaps", SWAPS * 4);
    results.push(row.with("entries", label(3 * quarter)));
    Ok(())
}

/// Swaps rulesets on any processor while this thread goes on with `judge`.
fn under_fire(
    guard: &Guard,
    images: &[Image; 2],
    mut judge: impl FnMut() -> Result<()>,
) -> Result<()> {
    let is_done = AtomicBool::new(false);
    thread::scope(|scope| {
        let swaps = scope.spawn(|| {
            let swapped = swap(guard, images);
            is_done.store(true, Ordering::Relaxed);
            swapped
        });
        while !is_done.load(Ordering::Relaxed) {
            judge()?;
        }
        swaps.join().map_err(|_| anyhow::anyhow!("the swapping thread died"))?
    })
}

fn swap(guard: &Guard, images: &[Image; 2]) -> Result<()> {
    use_all_processors()?;
    for image in images.iter().cycle().take(SWAPS) {
        guard.publish(image)?;
    }
    Ok(())
}
