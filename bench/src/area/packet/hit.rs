//! Packets to listed addresses: each is accounted, so the ledger is emptied between samples.

use std::{collections::HashMap, rc::Rc};

use anyhow::{Context as _, Result};
use sekisho_abi::{image::Image, reason::Reason};

use super::Case;
use crate::{
    area::Run,
    lab::{Cable, Guard, Room},
    lists::{Entries, Shape, label},
    report::Results,
    trace::{Layout, Trace, Wrap},
    tracer::{Options, Target, Tracer},
};

/// Packets that run before a sample.
const WARM_UP: u32 = 1 << 12;
/// Packets of one sample.
const PACKETS: u32 = 1 << 16;

/// Which listed addresses the packets of a trace have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// Every one in turn, each a flow of its own.
    Hit,
    /// One again and again: a busy bot.
    Repeat,
}

impl Kind {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Hit => "hit",
            Self::Repeat => "repeat",
        }
    }
}

/// A list, and the packets that hit it.
struct Listed {
    image: Image,
    figures: Vec<Figure>,
}

struct Figure {
    name: String,
    layout: Layout,
    trace: Rc<Trace>,
    case: Case,
}

/// Traces by family, clustering and listed addresses: sixteen megabytes each, so none is made twice.
type Traces = HashMap<(bool, bool, usize), Rc<Trace>>;

/// Measures every list in IPv4 and IPv6; encapsulations with the longest alone in a quick run.
pub(super) fn measure(
    run: &Run,
    room: Room,
    [uniform, clustered]: [&Entries; 2],
    results: &mut Results,
) -> Result<()> {
    let largest = *run.sizes.last().context("no sizes")?;
    let sizes = run.sizes.iter().map(|count| (uniform, Shape::Uniform, *count));
    let (mut lists, mut traces) = (Vec::new(), Traces::new());
    for (entries, shape, count) in sizes.chain([(clustered, Shape::Clustered, largest)]) {
        let is_wanted = |layout: &Layout| match shape {
            Shape::Uniform => layout.wrap == Wrap::Untagged || !run.is_quick || count == largest,
            Shape::Clustered => *layout == Layout::PLAIN_V4,
        };
        let mut figures = Vec::new();
        for layout in Layout::ALL.into_iter().filter(is_wanted) {
            figures.push(Figure::new(&mut traces, Kind::Hit, entries, shape, count, layout));
            if layout.wrap == Wrap::Untagged {
                figures.push(Figure::new(&mut traces, Kind::Repeat, entries, shape, count, layout));
            }
        }
        lists.push(Listed { image: entries.image(count, 1, room.capacity)?, figures });
    }
    let mut lanes = Vec::new();
    for layout in Layout::ALL {
        let mut tracer = Tracer::new(&Options::of(layout))?;
        let empty = tracer.program("empty_drop")?;
        lanes.push((layout, tracer, empty));
    }
    let guard = Guard::start(room, &Cable::lay(0)?)?;
    let program = guard.program()?;
    for _ in 0..run.rounds {
        for Listed { image, figures } in &mut lists {
            guard.publish(image)?;
            for figure in figures {
                let lane = lanes.iter_mut().find(|(layout, ..)| *layout == figure.layout);
                let (_, tracer, empty) = lane.context("a layout without a tracer")?;
                figure.sample(&guard, &program, tracer, empty)?;
            }
        }
    }
    for figure in lists.into_iter().flat_map(|list| list.figures) {
        results.push(figure.case.row(figure.name));
    }
    Ok(())
}

impl Figure {
    fn new(
        traces: &mut Traces,
        kind: Kind,
        entries: &Entries,
        shape: Shape,
        count: usize,
        layout: Layout,
    ) -> Self {
        let used = if kind == Kind::Repeat { 1 } else { count };
        let key = (layout.is_v6, shape == Shape::Clustered, used);
        let make = || match layout.is_v6 {
            true => Rc::new(Trace::v6(&entries.v6[..used], 1)),
            false => Rc::new(Trace::v4(&entries.v4[..used], 1)),
        };
        let trace = Rc::clone(traces.entry(key).or_insert_with(make));
        let (kind, family) = (kind.as_str(), layout.family());
        let (shape, wrap) = (shape.suffix(), layout.wrap.as_str());
        let name = format!("packet/{kind}/{family}{shape}/{wrap}/{}", label(count));
        Self { name, layout, trace, case: Case::default() }
    }

    /// The same packets once through the empty program and once through the live one.
    fn sample(
        &mut self,
        guard: &Guard,
        program: &Target,
        tracer: &mut Tracer,
        empty: &Target,
    ) -> Result<()> {
        tracer.load(&self.trace)?;
        tracer.run(empty, WARM_UP)?;
        self.case.empty.push(tracer.run(empty, PACKETS)?.0);
        guard.settle()?;
        tracer.rewind()?;
        let before = guard.counts()?;
        tracer.run(program, WARM_UP)?;
        self.case.gross.push(tracer.run(program, PACKETS)?.0);
        guard.expect(&before, Reason::Dropped, (WARM_UP + PACKETS).into())
    }
}
