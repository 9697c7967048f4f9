//! packet/: nanoseconds that a packet costs in the live program.

mod hit;

use anyhow::{Context as _, Result};
use ipnet::Ipv4Net;
use sekisho::dataplane::{Dataplane as _, OptOuts};
use sekisho_abi::{image::Image, reason::Reason};
use sekisho_bench_prog::ROWS;

use super::Run;
use crate::{
    lab::{Cable, Guard, Room},
    lists::{Entries, Shape, label},
    report::{Results, Row},
    sampling::Samples,
    trace::{Layout, Trace, Transport, Wrap, opted_out},
    tracer::{Options, Target, Tracer},
};

/// Packets that run before a sample, so that its caches are warm.
const WARM_UP: u32 = 1 << 15;
/// Packets of one sample: some milliseconds.
const PACKETS: u32 = 1 << 16;
/// Senders of clean packets.
const SUBSCRIBERS: usize = 100_000;
/// Lines that opted out, where any did.
const OPTED_OUT: usize = 100_000;
/// Turns after which every list moves on to the next program, as code and memory may lie luckily.
const TURNS_IN_PLACE: usize = 5;
/// Rows of the flow tables of programs that only get clean packets, of which no row is made.
const UNUSED_ROWS: u32 = 1024;

/// What a program is loaded with.
struct Load {
    shape: Shape,
    count: usize,
    image: Image,
    has_opt_outs: bool,
}

impl Load {
    /// What follows the encapsulation in names of benchmarks.
    fn name(&self) -> String {
        let count = label(self.count);
        if self.has_opt_outs { format!("{count}/{}-opt-outs", label(OPTED_OUT)) } else { count }
    }

    fn is(&self, shape: Shape, count: usize, has_opt_outs: bool) -> bool {
        (self.shape, self.count, self.has_opt_outs) == (shape, count, has_opt_outs)
    }

    /// Makes it what a program is loaded with.
    fn put(&self, guard: &Guard) -> Result<()> {
        let mut opt_outs = OptOuts::default();
        if self.has_opt_outs {
            opt_outs.networks =
                opted_out(OPTED_OUT).map(|line| Ipv4Net::from(line).into()).collect();
        }
        guard.dataplane().set_opt_outs(&opt_outs)?;
        guard.publish(&self.image)
    }
}

/// Packets that go through every program in turn.
struct Lane {
    kind: &'static str,
    layout: Layout,
    reason: Reason,
    tracer: Tracer,
    empty: Target,
}

/// One figure to be.
#[derive(Clone, Debug, Default)]
struct Case {
    gross: Samples,
    empty: Samples,
}

impl Case {
    fn net(&self) -> Samples {
        self.gross.less(&self.empty)
    }

    fn row(&self, name: String) -> Row {
        Row::new(name, "ns", &self.net())
            .ratio("empty", &self.empty)
            .with("gross", self.gross.median())
            .with("empty", self.empty.median())
    }
}

/// Measures lists of all sizes, anywhere in the address space and in clusters, without and with
/// lines that opted out; then hits.
pub fn measure(run: &Run, room: Room, uniform: &Entries, results: &mut Results) -> Result<()> {
    let largest = *run.sizes.last().context("no sizes")?;
    let clustered = Entries::new(Shape::Clustered, largest);
    let load = |entries: &Entries, shape, count, has_opt_outs| -> Result<Load> {
        let image = entries.image(count, 1, room.capacity)?;
        Ok(Load { shape, count, image, has_opt_outs })
    };
    let mut loads = Vec::new();
    for &count in &run.sizes {
        loads.push(load(uniform, Shape::Uniform, count, false)?);
    }
    loads.push(load(uniform, Shape::Uniform, largest, true)?);
    loads.push(load(&clustered, Shape::Clustered, largest, false)?);
    let clean = clean_traces(&[uniform, &clustered]);
    clean_packets(run, room, &loads, &clean, &Layout::ALL, results)?;
    drop(loads);
    drop(clean);
    hit::measure(run, room, [uniform, &clustered], results)
}

/// Ten times the longest list, beside a list of one: what no cache holds.
pub fn ten_times(run: &Run, room: Room, count: usize, results: &mut Results) -> Result<()> {
    let entries = Entries::new(Shape::Uniform, count);
    let mut loads = Vec::new();
    for count in [1, count] {
        let image = entries.image(count, 1, room.capacity)?;
        loads.push(Load { shape: Shape::Uniform, count, image, has_opt_outs: false });
    }
    let clean = clean_traces(&[&entries]);
    drop(entries);
    let is_v4 = |layout: &Layout| !layout.is_v6;
    let layouts: Vec<Layout> = Layout::ALL.into_iter().filter(is_v4).collect();
    let mut pair = Results::default();
    clean_packets(run, room, &loads, &clean, &layouts, &mut pair)?;
    // The list of one has its figures from the run with all the others.
    let longest = format!("/{}", label(count));
    pair.into_rows()
        .into_iter()
        .filter(|row| row.bench.ends_with(&longest))
        .for_each(|row| results.push(row));
    Ok(())
}

/// Packets to a million addresses that none of these list, in IPv4 and IPv6.
fn clean_traces(lists: &[&Entries]) -> [Trace; 2] {
    [
        Trace::v4(&Entries::clean_v4(lists, ROWS), SUBSCRIBERS),
        Trace::v6(&Entries::clean_v6(lists, ROWS), SUBSCRIBERS),
    ]
}

fn clean_packets(
    run: &Run,
    room: Room,
    loads: &[Load],
    clean: &[Trace; 2],
    layouts: &[Layout],
    results: &mut Results,
) -> Result<()> {
    let mut lanes = Vec::new();
    for &layout in layouts {
        let trace = &clean[usize::from(layout.is_v6)];
        lanes.push(Lane::new("clean", layout, Reason::NotListed, trace)?);
    }
    if loads.iter().any(|load| load.has_opt_outs) {
        let destinations = clean[0].destinations_v4();
        let trace = Trace::v4_of(Transport::Udp, &destinations, opted_out(OPTED_OUT));
        lanes.push(Lane::new("opted-out", Layout::PLAIN_V4, Reason::OptedOut, &trace)?);
    }
    let room = Room { flow_table_entries: UNUSED_ROWS, ..room };
    let mut guards = Vec::new();
    for number in 0..loads.len() {
        let guard = Guard::start(room, &Cable::lay(number)?)?;
        let program = guard.program()?;
        guards.push((guard, program));
    }
    let mut cases = vec![vec![Case::default(); loads.len()]; lanes.len()];
    for turn in 0..run.turns {
        if turn % TURNS_IN_PLACE == 0 {
            for (load, (guard, _)) in loads.iter().zip(&guards) {
                load.put(guard)?;
            }
        }
        for (lane, cases) in lanes.iter_mut().zip(&mut cases) {
            for ((load, case), (guard, program)) in loads.iter().zip(cases).zip(&guards) {
                if lane.is_for(load) {
                    lane.sample(guard, program, case)?;
                }
            }
        }
        if (turn + 1) % TURNS_IN_PLACE == 0 {
            guards.rotate_right(1);
        }
    }
    report(loads, &lanes, &cases, results);
    Ok(())
}

impl Lane {
    fn new(kind: &'static str, layout: Layout, reason: Reason, trace: &Trace) -> Result<Self> {
        let mut tracer = Tracer::new(&Options::of(layout))?;
        let empty = tracer.program("empty_drop")?;
        tracer.load(trace)?;
        Ok(Self { kind, layout, reason, tracer, empty })
    }

    /// In IPv6 a list names one host of a network at most, so it has no clusters; and all packets
    /// come from one network, so that looking for lines that opted out there would tell nothing.
    fn is_for(&self, load: &Load) -> bool {
        let is_plain = load.shape == Shape::Uniform && !load.has_opt_outs;
        match self.reason {
            Reason::OptedOut => load.has_opt_outs,
            _ => is_plain || !self.layout.is_v6,
        }
    }

    /// The next packets once through the empty program and once through the live one.
    fn sample(&mut self, guard: &Guard, program: &Target, case: &mut Case) -> Result<()> {
        self.tracer.run(&self.empty, WARM_UP)?;
        case.empty.push(self.tracer.run(&self.empty, PACKETS)?.0);
        let before = guard.counts()?;
        self.tracer.run(program, WARM_UP)?;
        case.gross.push(self.tracer.run(program, PACKETS)?.0);
        guard.expect(&before, self.reason, (WARM_UP + PACKETS).into())
    }
}

fn report(loads: &[Load], lanes: &[Lane], cases: &[Vec<Case>], results: &mut Results) {
    // What clean packets of a layout cost with a load: nothing if that was not measured.
    let net = |layout: Layout, shape: Shape, count: usize, has_opt_outs: bool| {
        let lane = lanes.iter().position(|lane| lane.kind == "clean" && lane.layout == layout);
        let load = loads.iter().position(|load| load.is(shape, count, has_opt_outs));
        lane.zip(load).map_or_else(Samples::default, |(lane, load)| cases[lane][load].net())
    };
    for (lane, cases) in lanes.iter().zip(cases) {
        for (load, case) in loads.iter().zip(cases).filter(|(load, _)| lane.is_for(load)) {
            let (layout, count) = (lane.layout, load.count);
            let (family, shape) = (layout.family(), load.shape.suffix());
            let wrap = layout.wrap.as_str();
            let name = format!("packet/{}/{family}{shape}/{wrap}/{}", lane.kind, load.name());
            let of = |layout| net(layout, load.shape, count, load.has_opt_outs);
            let mut row = case.row(name);
            if load.shape == Shape::Clustered {
                row = row.ratio("uniform", &net(layout, Shape::Uniform, count, false));
            } else if load.has_opt_outs {
                row = row.ratio("no-opt-outs", &net(layout, Shape::Uniform, count, false));
            } else if count > 1 {
                row = row.ratio("list-of-1", &net(layout, Shape::Uniform, 1, false));
            }
            if layout.wrap != Wrap::Untagged {
                row = row.ratio("untagged", &of(Layout { wrap: Wrap::Untagged, ..layout }));
            }
            if layout.is_v6 {
                row = row.ratio("v4", &of(Layout { is_v6: false, ..layout }));
            }
            results.push(row);
        }
    }
}
