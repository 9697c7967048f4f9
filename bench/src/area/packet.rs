//! packet/: nanoseconds that a packet costs in the live program.

use anyhow::Result;
use sekisho_abi::{image::Image, reason::Reason};
use sekisho_bench_prog::ROWS;

use super::{Run, layouts};
use crate::{
    lab::{Guard, RECEIVER_MAC},
    lists::{Entries, Shape, label},
    report::{Results, Row},
    sampling::Samples,
    trace::{Layout, Trace},
    tracer::{Options, Target, Tracer},
};

/// Which destinations the packets of a trace have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// Never the same twice, none listed.
    Clean,
    /// Every listed address in turn, each a flow of its own.
    Hit,
    /// One listed address again and again: a busy bot.
    Repeat,
}

impl Kind {
    const ALL: [Self; 3] = [Self::Clean, Self::Hit, Self::Repeat];

    const fn as_str(self) -> &'static str {
        match self {
            Self::Clean => "clean",
            Self::Hit => "hit",
            Self::Repeat => "repeat",
        }
    }

    const fn reason(self) -> Reason {
        match self {
            Self::Clean => Reason::NotListed,
            Self::Hit | Self::Repeat => Reason::Dropped,
        }
    }
}

/// One figure to be.
struct Case {
    name: String,
    count: usize,
    kind: Kind,
    trace: usize,
    layout: Layout,
    gross: Samples,
    empty: Samples,
}

/// Everything of one shape of list.
struct Bench<'a> {
    run: &'a Run,
    guard: &'a Guard,
    program: Target,
    tracers: Vec<(Layout, Tracer, Target)>,
    traces: Vec<Trace>,
    images: Vec<(usize, Image)>,
    cases: Vec<Case>,
}

/// Measures lists of all sizes, anywhere in the address space and in clusters.
pub fn measure(run: &Run, guard: &Guard, uniform: &Entries, results: &mut Results) -> Result<()> {
    Bench::new(run, guard, uniform, Shape::Uniform)?.measure(results)?;
    if run.clustered == 0 {
        return Ok(());
    }
    let clustered = Entries::new(Shape::Clustered, run.clustered);
    Bench::new(run, guard, &clustered, Shape::Clustered)?.measure(results)
}

impl<'a> Bench<'a> {
    fn new(run: &'a Run, guard: &'a Guard, entries: &Entries, shape: Shape) -> Result<Self> {
        let (_, capacity) = guard.ruleset();
        let sizes: Vec<usize> = match shape {
            Shape::Uniform => run.sizes.clone(),
            Shape::Clustered => vec![run.clustered],
        };
        let mut bench = Self {
            run,
            guard,
            program: guard.program()?,
            tracers: Vec::new(),
            traces: Vec::new(),
            images: Vec::new(),
            cases: Vec::new(),
        };
        for layout in layouts() {
            let options =
                Options { layout, to: RECEIVER_MAC, send_to: 0, entries: 1, ruleset: None };
            let mut tracer = Tracer::new(&options)?;
            let empty = tracer.program("empty_drop")?;
            bench.tracers.push((layout, tracer, empty));
        }
        for (at, count) in sizes.into_iter().enumerate() {
            bench.images.push((count, entries.image(count, at as u32 + 1, capacity)?));
            for is_v6 in [false, true] {
                for kind in Kind::ALL {
                    bench.add(entries, shape, count, is_v6, kind);
                }
            }
        }
        Ok(bench)
    }

    fn add(&mut self, entries: &Entries, shape: Shape, count: usize, is_v6: bool, kind: Kind) {
        // In IPv6 a list names one host of a network at most, so it has no clusters.
        if is_v6 && (shape == Shape::Clustered || entries.v6.len() < count) {
            return;
        }
        let trace = self.trace(entries, count, is_v6, kind);
        let family = match (is_v6, shape) {
            (false, Shape::Uniform) => "v4",
            (false, Shape::Clustered) => "v4-clustered",
            (true, _) => "v6",
        };
        for layout in layouts() {
            let is_measured = layout.is_v6 == is_v6
                && (kind != Kind::Repeat || !layout.is_qinq)
                && (shape == Shape::Uniform || !layout.is_qinq);
            if is_measured {
                let (kind_name, encapsulation) = (kind.as_str(), layout.encapsulation());
                self.cases.push(Case {
                    name: format!("packet/{kind_name}/{family}/{encapsulation}/{}", label(count)),
                    count,
                    kind,
                    trace,
                    layout,
                    gross: Samples::default(),
                    empty: Samples::default(),
                });
            }
        }
    }

    /// The place of a trace. What is clean for the longest list is clean for all.
    fn trace(&mut self, entries: &Entries, count: usize, is_v6: bool, kind: Kind) -> usize {
        let earlier = self
            .cases
            .iter()
            .find(|case| kind == Kind::Clean && case.kind == kind && case.layout.is_v6 == is_v6);
        if let Some(case) = earlier {
            return case.trace;
        }
        let listed = if kind == Kind::Repeat { 1 } else { count };
        self.traces.push(match (kind, is_v6) {
            (Kind::Clean, false) => Trace::v4(&entries.clean_v4(ROWS), 1),
            (Kind::Clean, true) => Trace::v6(&entries.clean_v6(ROWS), 1),
            (_, false) => Trace::v4(&entries.v4[..listed], 1),
            (_, true) => Trace::v6(&entries.v6[..listed], 1),
        });
        self.traces.len() - 1
    }

    fn measure(mut self, results: &mut Results) -> Result<()> {
        for _ in 0..self.run.rounds {
            for (count, image) in &self.images {
                self.guard.publish(image)?;
                for case in self.cases.iter_mut().filter(|case| case.count == *count) {
                    let tracer =
                        self.tracers.iter_mut().find(|(layout, ..)| *layout == case.layout);
                    let Some((_, tracer, empty)) = tracer else { continue };
                    tracer.load(&self.traces[case.trace])?;
                    case.sample(self.run, self.guard, tracer, empty, &self.program)?;
                }
            }
        }
        for case in self.cases {
            results.push(case.row());
        }
        Ok(())
    }
}

impl Case {
    /// The same packets once through the empty program and once through the live one.
    fn sample(
        &mut self,
        run: &Run,
        guard: &Guard,
        tracer: &mut Tracer,
        empty: &Target,
        program: &Target,
    ) -> Result<()> {
        let packets = match self.kind {
            Kind::Clean => run.packets,
            Kind::Hit | Kind::Repeat => run.packets_of_hits,
        };
        self.empty.push(tracer.run(empty, packets)?.0);
        guard.drain()?;
        tracer.rewind()?;
        tracer.run(program, packets / 16)?;
        guard.drain()?;
        let before = guard.counts()?;
        self.gross.push(tracer.run(program, packets)?.0);
        guard.expect(&before, self.kind.reason(), packets.into())
    }

    fn row(self) -> Row {
        let net = self.gross.less(&self.empty);
        Row::new(self.name, "ns", &net)
            .ratio("empty", self.empty.median())
            .with("gross", self.gross.median())
            .with("empty", self.empty.median())
    }
}
