//! lookup/: the image beside what the kernel offers for the same entries.

use anyhow::{Result, ensure};
use sekisho_abi::image::Image;
use sekisho_bench_prog::ROWS;

use super::Run;
use crate::{
    lab::Guard,
    lists::{Entries, label},
    report::{Results, Row},
    sampling::Samples,
    trace::{Layout, Trace},
    tracer::{Options, Target, Tracer},
};

const XDP_DROP: u32 = 1;
const XDP_PASS: u32 = 2;
/// Packets of a trace whose verdicts are looked at one by one before anything is timed.
const PROBES: usize = 64;
/// Packets through the empty program.
const EMPTY_PACKETS: u32 = 1 << 16;
/// Filling takes most of the time here, and so do the peers' samples: so many turns make a round.
const TURNS_PER_ROUND: usize = 3;

/// A table, and how much of a trace it is asked.
struct Table {
    /// The program that asks it.
    program: &'static str,
    /// As results name it.
    name: &'static str,
    /// Packets before a sample.
    warm_up: u32,
    /// Packets of one sample.
    packets: u32,
}

/// The peers are tens of times slower, and get fewer packets for that.
const TABLES: [Table; 3] = [
    Table { program: "lookup_image", name: "image", warm_up: 1 << 15, packets: 1 << 16 },
    Table { program: "lookup_lpm", name: "lpm-trie", warm_up: 1 << 12, packets: 1 << 14 },
    Table { program: "lookup_hash", name: "hash", warm_up: 1 << 13, packets: 1 << 15 },
];

/// One list of one family in all three tables.
struct Case {
    image: Image,
    tracer: Tracer,
    empty: Target,
    targets: Vec<Target>,
    /// Not listed, then listed.
    kinds: [Kind; 2],
    family: &'static str,
    count: usize,
}

/// One trace, and what each table took for it.
struct Kind {
    name: &'static str,
    trace: Trace,
    verdict: u32,
    gross: [Samples; 3],
    empty: Samples,
}

/// Measures lists of all sizes.
pub fn measure(run: &Run, guard: &Guard, entries: &Entries, results: &mut Results) -> Result<()> {
    let lists = &[entries];
    let clean = [
        Trace::v4(&Entries::clean_v4(lists, ROWS), 1),
        Trace::v6(&Entries::clean_v6(lists, ROWS), 1),
    ];
    let mut cases = Vec::new();
    for &count in &run.sizes {
        for is_v6 in [false, true] {
            let clean = clean[usize::from(is_v6)].clone();
            cases.push(Case::new(guard, entries, count, is_v6, clean, results)?);
        }
    }
    for _ in 0..run.turns.div_ceil(TURNS_PER_ROUND) {
        for case in &mut cases {
            case.sample(guard)?;
        }
    }
    for case in cases {
        case.report(results);
    }
    Ok(())
}

impl Case {
    fn new(
        guard: &Guard,
        entries: &Entries,
        count: usize,
        is_v6: bool,
        clean: Trace,
        results: &mut Results,
    ) -> Result<Self> {
        let (pin, capacity) = guard.ruleset();
        let layout = Layout { is_v6, ..Layout::PLAIN_V4 };
        let options =
            Options { entries: count, ruleset: Some((&pin, capacity)), ..Options::of(layout) };
        let mut tracer = Tracer::new(&options)?;
        let addresses: Vec<Vec<u8>> = if is_v6 {
            entries.v6[..count].iter().map(|address| address.octets().to_vec()).collect()
        } else {
            entries.v4[..count].iter().map(|address| address.octets().to_vec()).collect()
        };
        let (lpm, hash) = tracer.fill_tables(&addresses)?;
        for (table, time) in [("lpm-trie", lpm), ("hash", hash)] {
            let mut samples = Samples::default();
            samples.push(time.as_secs_f64() * 1e3);
            let name = format!("lookup/fill/{table}/{}/{}", layout.family(), label(count));
            results.push(Row::new(name, "ms", &samples));
        }
        let listed = if is_v6 {
            Trace::v6(&entries.v6[..count], 1)
        } else {
            Trace::v4(&entries.v4[..count], 1)
        };
        let empty = tracer.program("empty_drop")?;
        let targets =
            TABLES.iter().map(|table| tracer.program(table.program)).collect::<Result<_>>()?;
        let kind = |name, trace, verdict| Kind {
            name,
            trace,
            verdict,
            gross: Default::default(),
            empty: Samples::default(),
        };
        let mut case = Self {
            image: entries.image(count, 1, capacity)?,
            tracer,
            empty,
            targets,
            kinds: [kind("clean", clean, XDP_PASS), kind("hit", listed, XDP_DROP)],
            family: layout.family(),
            count,
        };
        case.check(guard)?;
        Ok(case)
    }

    /// All tables give the right answer, so that none is timed for a wrong one.
    fn check(&mut self, guard: &Guard) -> Result<()> {
        guard.publish(&self.image)?;
        for kind in &self.kinds {
            self.tracer.load(&kind.trace)?;
            for (target, Table { name, .. }) in self.targets.iter().zip(TABLES) {
                let verdicts = self.tracer.verdicts(target, PROBES)?;
                let is_right = verdicts.iter().all(|verdict| *verdict == kind.verdict);
                ensure!(is_right, "{name} gives wrong answers about {} addresses", kind.name);
            }
        }
        Ok(())
    }

    fn sample(&mut self, guard: &Guard) -> Result<()> {
        guard.publish(&self.image)?;
        for kind in &mut self.kinds {
            self.tracer.load(&kind.trace)?;
            kind.empty.push(self.tracer.run(&self.empty, EMPTY_PACKETS)?.0);
            for ((target, gross), table) in self.targets.iter().zip(&mut kind.gross).zip(&TABLES) {
                self.tracer.rewind()?;
                self.tracer.run(target, table.warm_up)?;
                gross.push(self.tracer.run(target, table.packets)?.0);
            }
        }
        Ok(())
    }

    fn report(self, results: &mut Results) {
        for kind in self.kinds {
            let net = kind.gross.each_ref().map(|gross| gross.less(&kind.empty));
            for ((table, samples), gross) in TABLES.iter().zip(&net).zip(&kind.gross) {
                let (kind_name, count) = (kind.name, label(self.count));
                let name = format!("lookup/{kind_name}/{}/{}/{count}", self.family, table.name);
                let mut row = Row::new(name, "ns", samples)
                    .ratio("empty", &kind.empty)
                    .with("gross", gross.median())
                    .with("empty", kind.empty.median());
                for (peer, other) in TABLES.iter().zip(&net) {
                    if peer.name != table.name {
                        row = row.ratio(peer.name, other);
                    }
                }
                results.push(row);
            }
        }
    }
}
