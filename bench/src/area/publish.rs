//! publish/: from a changed list on disk to live in the kernel, stage by stage, in a process of its
//! own; and whether any packet is misjudged meanwhile.

use std::{
    fs,
    io::Write as _,
    net::Ipv4Addr,
    path::Path,
    process::Command,
    sync::atomic::{AtomicBool, Ordering},
    time::Instant,
};

use anyhow::{Context as _, Result, ensure};
use sekisho::dataplane::{
    Dataplane as _,
    kernel::KernelDataplane,
    tables::{self, Slots},
};
use sekisho_abi::{image::Image, reason::Reason};
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
    lab::{Guard, RECEIVER_MAC},
    lists::{Entries, label},
    report::{Results, Row},
    sampling::Samples,
    trace::{Layout, Trace},
    tracer::{Options, Tracer},
};

/// Entries of the rulesets that are swapped while packets are judged.
const SWAPPED: usize = 100_000;
const SWAPS: u32 = 40;

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

/// Measures lists of all sizes, then swaps under fire.
pub fn measure(run: &Run, guard: &Guard, entries: &Entries, results: &mut Results) -> Result<()> {
    let folder = tempfile::tempdir()?;
    let mut sizes = Vec::new();
    for &count in run.sizes.iter().filter(|count| **count >= 10_000) {
        let path = folder.path().join(label(count));
        write_list(&path, &entries.v4[..count])?;
        sizes.push((count, path, Vec::new()));
    }
    for _ in 0..run.rounds {
        for (_, path, stages) in &mut sizes {
            stages.push(in_child(guard, path)?);
        }
    }
    for (count, _, stages) in sizes {
        report(count, &stages, results);
    }
    misjudged(guard, entries, results)
}

fn write_list(path: &Path, addresses: &[Ipv4Addr]) -> Result<()> {
    let mut file = std::io::BufWriter::new(fs::File::create(path)?);
    for address in addresses {
        writeln!(file, "{address}")?;
    }
    Ok(file.flush()?)
}

/// A process of its own, so that its memory is that of one publication.
fn in_child(guard: &Guard, list: &Path) -> Result<Stages> {
    let (pin, capacity) = guard.ruleset();
    let pin_dir = pin.parent().and_then(Path::parent).context("a pin without a folder")?;
    let output = Command::new(std::env::current_exe()?)
        .arg("publish-once")
        .args([list, pin_dir])
        .arg(capacity.to_string())
        .output()?;
    let errors = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "publishing failed: {}", errors.trim());
    Ok(serde_json::from_slice(&output.stdout)?)
}

/// Publishes a list into the dataplane under a pin folder: the life of the child process.
pub fn once(list: &Path, pin_dir: &Path, capacity: usize) -> Result<Stages> {
    let policy = shipped::policy()?;
    let never_block = shipped::never_block()?;
    let source = format!("feeds: [{{name: bench, source: {}, format: plain}}]", list.display());
    let catalogue = Catalogue::from_yaml(&source, "bench")?;
    let spec = catalogue.feeds.first().context("no feed")?;
    let dataplane = KernelDataplane::open(pin_dir)?;
    let since_1970 = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH)?;
    let now = Moment::nearest(i64::try_from(since_1970.as_secs())?);

    let mut clock = Clock::start();
    let bytes = fs::read(list)?;
    let read = clock.lap();
    let parsed = parse(spec.format, &bytes, &Limits::default()).context("the list is refused")?;
    let parse = clock.lap();
    let input = FeedInput { spec, parsed: Ok(&parsed), fetched_at: now };
    let mut compiled = compile(&[input], &policy, &never_block, now)?;
    let policy_and_merge = clock.lap();
    let staged = stage(&mut compiled, &[(spec, true)], &policy.rollout, &Seen::default(), now);
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

fn report(count: usize, stages: &[Stages], results: &mut Results) {
    let of = |figure: fn(&Stages) -> f64| {
        let mut samples = Samples::default();
        stages.iter().map(figure).for_each(|value| samples.push(value));
        samples
    };
    let name = |what: &str| format!("publish/{what}/{}", label(count));
    for (what, samples) in [
        ("read", of(|stages| stages.read)),
        ("parse", of(|stages| stages.parse)),
        ("policy-and-merge", of(|stages| stages.policy_and_merge)),
        ("roll-out", of(|stages| stages.rollout)),
        ("image", of(|stages| stages.image)),
        ("swap", of(|stages| stages.swap)),
    ] {
        results.push(Row::new(name(what), "ms", &samples));
    }
    let entries = stages.first().map_or(0, |stages| stages.entries);
    let total = Row::new(name("total"), "ms", &of(|stages| stages.total));
    results.push(total.with("entries", entries));
    let memory = of(|stages| stages.peak_memory);
    results.push(Row::new(name("peak-memory"), "MB", &memory));
}

/// Two rulesets, each with addresses of its own and a common part, take turns while packets to the
/// common part and to what neither lists are judged on another processor.
fn misjudged(guard: &Guard, entries: &Entries, results: &mut Results) -> Result<()> {
    let (_, capacity) = guard.ruleset();
    ensure!(entries.v4.len() >= 3 * SWAPPED, "too few entries to swap");
    let (common, own) = entries.v4.split_at(SWAPPED);
    let images = [&own[..SWAPPED], &own[SWAPPED..2 * SWAPPED]]
        .map(|own| image(common.iter().chain(own), capacity));
    let [first, second] = images;
    let images = [first?, second?];
    guard.publish(&images[0])?;
    let options = Options {
        layout: Layout::PLAIN_V4,
        to: RECEIVER_MAC,
        send_to: 0,
        entries: 1,
        ruleset: None,
    };
    let mut tracer = Tracer::new(&options)?;
    let program = guard.program()?;
    let mut wrong = 0;
    let mut judged = 0;
    let traces = [
        (Trace::v4(common, 1), Reason::Dropped),
        (Trace::v4(&entries.clean_v4(sekisho_bench_prog::ROWS), 1), Reason::NotListed),
    ];
    for (trace, reason) in traces {
        tracer.load(&trace)?;
        let before = guard.counts()?;
        let is_done = AtomicBool::new(false);
        std::thread::scope(|scope| -> Result<()> {
            let swaps = scope.spawn(|| {
                let swapped = swap(guard, &images);
                is_done.store(true, Ordering::Relaxed);
                swapped
            });
            while !is_done.load(Ordering::Relaxed) {
                tracer.run(&program, 1 << 14)?;
            }
            swaps.join().map_err(|_| anyhow::anyhow!("the swapping thread died"))?
        })?;
        let after = guard.counts()?;
        for other in Reason::ALL {
            let counted =
                after.by_reason[other as usize].packets - before.by_reason[other as usize].packets;
            judged += counted;
            if other != reason {
                wrong += counted;
            }
        }
        guard.dataplane().drain()?;
    }
    let mut samples = Samples::default();
    samples.push(wrong as f64);
    let row = Row::new("publish/misjudged", "packets", &samples);
    results.push(row.with("judged", judged).with("swaps", SWAPS * 2));
    Ok(())
}

fn image<'a>(addresses: impl Iterator<Item = &'a Ipv4Addr>, capacity: usize) -> Result<Image> {
    use sekisho_abi::image::{Action, ImageBuilder, List, Port};
    let mut builder =
        ImageBuilder::new(vec![List { name: "bench".to_owned(), action: Action::Drop }]);
    for address in addresses {
        builder.list_v4(*address, 32, Port::Any, 1);
    }
    Ok(builder.build(1, capacity)?)
}

fn swap(guard: &Guard, images: &[Image; 2]) -> Result<()> {
    crate::lab::use_all_processors()?;
    for image in images.iter().cycle().take(SWAPS as usize) {
        guard.publish(image)?;
    }
    Ok(())
}
