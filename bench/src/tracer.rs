//! The bench's own BPF programs, loaded: they put one address after the other into a frame and run
//! a program on it, or send it.

use std::{
    num::NonZeroUsize,
    os::fd::AsFd,
    path::Path,
    ptr::NonNull,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail, ensure};
use aya::{
    Ebpf, EbpfLoader,
    maps::{
        Array, HashMap, LpmTrie, Map, MapData, PerCpuArray, ProgramArray, lpm_trie::Key,
        xdp::DevMap,
    },
    programs::{ProgramFd, TestRun as _, TestRunAttrs, TestRunOptions, Xdp, XdpMode},
};
use nix::sys::mman::{MapFlags, ProtFlags, mmap, munmap};
use sekisho_abi::names;
use sekisho_bench_prog::{ROWS, TRACE_WORDS};

use crate::{
    lab::{Cable, RECEIVER_MAC},
    sampling::thread_time,
    trace::{Layout, Trace},
};

static OBJECT: &[u8] = aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/sekisho-bench-prog"));

/// The program that puts packets through another one.
const TRACE: &str = "trace";
/// The program that sends them.
const GENERATE: &str = "generate";
const XDP_ABORTED: u32 = 0;
/// Frames that the kernel hands to the generator at a time.
const BATCH: u32 = 64;

/// A program that [`Tracer::run`] can be pointed at.
pub type Target = ProgramFd;

/// The maps and programs for frames of one layout.
pub struct Tracer {
    ebpf: Ebpf,
    rows: Rows,
    cursor: Array<MapData, u32>,
    target: ProgramArray<MapData>,
    send_to: Array<MapData, u32>,
    frame: Vec<u8>,
    layout: Layout,
}

/// What a tracer is loaded with.
#[derive(Clone, Copy, Debug)]
pub struct Options<'a> {
    /// The frames.
    pub layout: Layout,
    /// Hardware address of whoever receives them.
    pub to: [u8; 6],
    /// Entries that the tables of the kernel have room for.
    pub entries: usize,
    /// Pin of the live ruleset and its capacity, for lookups in the image.
    pub ruleset: Option<(&'a Path, usize)>,
}

impl Options<'_> {
    /// Frames of a layout, for programs that need no table of the bench's.
    pub const fn of(layout: Layout) -> Self {
        Self { layout, to: RECEIVER_MAC, entries: 1, ruleset: None }
    }
}

impl Tracer {
    /// Loads the programs that need no other one.
    pub fn new(options: &Options<'_>) -> Result<Self> {
        let layout = options.layout;
        let entries = u32::try_from(options.entries)?.max(1);
        let (row_at, is_v6) = (layout.row_at(), u32::from(layout.is_v6));
        let image_bytes = options.ruleset.map_or(0, |(_, capacity)| capacity as u64);
        let mut loader = EbpfLoader::new();
        loader
            .override_global("ROW_AT", &row_at, true)
            .override_global("IS_V6", &is_v6, true)
            .override_global("IMAGE_BYTES", &image_bytes, true);
        let (lpm, hash) = tables(layout);
        loader.map_max_entries(lpm, entries).map_max_entries(hash, entries);
        if let Some((pin, _)) = options.ruleset {
            loader.map_pin_path(names::RULESET, pin);
        }
        let mut ebpf = loader.load(OBJECT).context("load the bench's programs")?;
        let Some(Map::Array(trace)) = ebpf.map("TRACE") else { bail!("no array TRACE") };
        let rows = Rows::new(trace.fd().as_fd())?;
        let mut take = |name| ebpf.take_map(name).with_context(|| format!("no map {name}"));
        let (cursor, target) = (take("CURSOR")?.try_into()?, take("TARGET")?.try_into()?);
        let send_to = take("SEND_TO")?.try_into()?;
        Ok(Self { ebpf, rows, cursor, target, send_to, frame: layout.frame(options.to), layout })
    }

    /// Loads one of the bench's programs.
    ///
    /// What is run gets a berth, an interface that carries nothing: for a program that sits nowhere,
    /// each test run would rewrite the kernel's dispatcher of programs, which takes some thirty
    /// milliseconds.
    pub fn program(&mut self, name: &str) -> Result<Target> {
        let program = self.xdp(name)?;
        if program.fd().is_err() {
            program.load().with_context(|| format!("load {name}"))?;
            if [TRACE, GENERATE].contains(&name) {
                program.attach(&Cable::berth()?.near, XdpMode::Driver)?;
            }
        }
        Ok(program.fd()?.try_clone()?)
    }

    /// One of the bench's programs, to attach it.
    pub fn xdp(&mut self, name: &str) -> Result<&mut Xdp> {
        let program = self.ebpf.program_mut(name).with_context(|| format!("no program {name}"))?;
        Ok(program.try_into()?)
    }

    /// Makes these the packets to come, from the first on.
    pub fn load(&mut self, trace: &Trace) -> Result<()> {
        ensure!(trace.is_v6 == self.layout.is_v6, "a trace of the other family");
        self.rows.fill(&trace.words)?;
        self.rewind()
    }

    /// Starts the trace again.
    pub fn rewind(&mut self) -> Result<()> {
        Ok(self.cursor.set(0, 0, 0)?)
    }

    /// Runs a program on the next packets; nanoseconds of processor time a packet, the trace's own
    /// cost included, and the verdict on the last one.
    pub fn run(&mut self, target: &Target, packets: u32) -> Result<(f64, u32)> {
        self.target.set(0, target, 0)?;
        self.program(TRACE)?;
        let frame = self.frame.clone();
        let options =
            TestRunOptions { data_in: Some(&frame), repeat: packets, ..TestRunOptions::default() };
        let program = self.xdp(TRACE)?;
        let before = thread_time();
        let result = program.test_run(options)?;
        let spent = thread_time().saturating_sub(before);
        if result.return_value == XDP_ABORTED {
            bail!("the tracer could not run the program under test");
        }
        Ok((spent.as_nanos() as f64 / f64::from(packets), result.return_value))
    }

    /// Runs a program on so many packets one by one, from the first on: their verdicts.
    pub fn verdicts(&mut self, target: &Target, packets: usize) -> Result<Vec<u32>> {
        self.rewind()?;
        (0..packets).map(|_| self.run(target, 1).map(|(_, verdict)| verdict)).collect()
    }

    /// Sends the next packets to an interface, and says how long that took by the wall clock.
    pub fn send(&mut self, interface: u32, packets: u32) -> Result<Duration> {
        self.send_to.set(0, interface, 0)?;
        self.program(GENERATE)?;
        let frame = self.frame.clone();
        let attrs = TestRunAttrs::new().xdp_live_frames(BATCH);
        let options = TestRunOptions {
            data_in: Some(&frame),
            repeat: packets,
            attrs,
            ..TestRunOptions::default()
        };
        let program = self.xdp(GENERATE)?;
        let begin = Instant::now();
        program.test_run(options).context("send live frames")?;
        Ok(begin.elapsed())
    }

    /// Enters addresses into the kernel's own tables of this family: the time for trie and hash.
    pub fn fill_tables(&mut self, addresses: &[Vec<u8>]) -> Result<(Duration, Duration)> {
        let (lpm, hash) = tables(self.layout);
        if self.layout.is_v6 {
            Ok((
                fill_lpm::<16>(self.map(lpm)?, addresses)?,
                fill_hash::<16>(self.map(hash)?, addresses)?,
            ))
        } else {
            Ok((
                fill_lpm::<4>(self.map(lpm)?, addresses)?,
                fill_hash::<4>(self.map(hash)?, addresses)?,
            ))
        }
    }

    /// Where `empty_redirect` sends frames.
    pub fn set_way_out(&mut self, interface: u32) -> Result<()> {
        let mut devices = DevMap::try_from(self.map("WAY_OUT")?)?;
        Ok(devices.set(0, interface, None, 0)?)
    }

    /// What `count_drop` has counted so far.
    pub fn counted(&self) -> Result<u64> {
        let map = self.ebpf.map("COUNTED").context("no map COUNTED")?;
        let counts = PerCpuArray::<_, u64>::try_from(map)?;
        Ok(counts.get(&0, 0)?.iter().sum())
    }

    fn map(&mut self, name: &str) -> Result<&mut Map> {
        self.ebpf.map_mut(name).with_context(|| format!("no map {name}"))
    }
}

fn fill_lpm<const N: usize>(map: &mut Map, addresses: &[Vec<u8>]) -> Result<Duration>
where
    [u8; N]: aya::Pod,
{
    let mut lpm = LpmTrie::<_, [u8; N], u32>::try_from(map)?;
    let begin = Instant::now();
    for address in addresses {
        lpm.insert(&Key::new(N as u32 * 8, address.as_slice().try_into()?), 1, 0)?;
    }
    Ok(begin.elapsed())
}

fn fill_hash<const N: usize>(map: &mut Map, addresses: &[Vec<u8>]) -> Result<Duration>
where
    [u8; N]: aya::Pod,
{
    let mut hash = HashMap::<_, [u8; N], u32>::try_from(map)?;
    let begin = Instant::now();
    for address in addresses {
        hash.insert(<[u8; N]>::try_from(address.as_slice())?, 1, 0)?;
    }
    Ok(begin.elapsed())
}

fn tables(layout: Layout) -> (&'static str, &'static str) {
    if layout.is_v6 { ("LPM_V6", "HASH_V6") } else { ("LPM_V4", "HASH_V4") }
}

/// The value of the trace map in this process's memory.
struct Rows {
    start: NonNull<libc::c_void>,
    bytes: NonZeroUsize,
}

impl Rows {
    fn new(map: impl AsFd) -> Result<Self> {
        let bytes = NonZeroUsize::new(TRACE_WORDS * 8).context("a trace without rows")?;
        let access = ProtFlags::PROT_READ | ProtFlags::PROT_WRITE;
        // SAFETY: a fresh mapping at an address of the kernel's choice aliases nothing of ours.
        let start = unsafe { mmap(None, bytes, access, MapFlags::MAP_SHARED, map, 0) };
        Ok(Self { start: start.context("map the trace")?, bytes })
    }

    fn fill(&mut self, words: &[u64]) -> Result<()> {
        ensure!(words.len() <= TRACE_WORDS && words.len() >= ROWS, "a trace of another size");
        // SAFETY: the mapping has room for `TRACE_WORDS` words, and is ours alone.
        unsafe {
            std::ptr::copy_nonoverlapping(words.as_ptr(), self.start.as_ptr().cast(), words.len());
        }
        Ok(())
    }
}

impl Drop for Rows {
    fn drop(&mut self) {
        // SAFETY: start and length are those of the mapping, and no reference outlives `self`.
        let unmapped = unsafe { munmap(self.start, self.bytes.get()) };
        debug_assert!(unmapped.is_ok());
    }
}
