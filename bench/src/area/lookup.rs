//! lookup/: the image beside what the kernel offers for the same entries.

use anyhow::{Result, ensure};
use sekisho_abi::image::Image;
use sekisho_bench_prog::ROWS;

use super::Run;
use crate::{
    lab::{Guard, RECEIVER_MAC},
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

/// The tables, by the program that asks them and the name in results.
const TABLES: [(&str, &str); 3] =
    [("lookup_image", "image"), ("lookup_lpm", "lpm-trie"), ("lookup_hash", "hash")];

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
    let clean = [Trace::v4(&entries.clean_v4(ROWS), 1), Trace::v6(&entries.clean_v6(ROWS), 1)];
    let mut cases = Vec::new();
    for &count in &run.sizes {
        for is_v6 in [false, true] {
            let clean = clean[usize::from(is_v6)].clone();
            cases.push(Case::new(guard, entries, count, is_v6, clean, results)?);
        }
    }
    for _ in 0..run.rounds {
        for case in &mut cases {
            case.sample(run, guard)?;
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
        let layout = Layout { is_v6, is_qinq: false };
        let options = Options {
            layout,
            to: RECEIVER_MAC,
            send_to: 0,
            entries: count,
            ruleset: Some((&pin, capacity)),
        };
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
            TABLES.iter().map(|(program, _)| tracer.program(program)).collect::<Result<_>>()?;
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
            for (target, (_, table)) in self.targets.iter().zip(TABLES) {
                let verdicts = self.tracer.verdicts(target, PROBES)?;
                let is_right = verdicts.iter().all(|verdict| *verdict == kind.verdict);
                ensure!(is_right, "{table} gives wrong answers about {} addresses", kind.name);
            }
        }
        Ok(())
    }

    fn sample(&mut self, run: &Run, guard: &Guard) -> Result<()> {
        guard.publish(&self.image)?;
        for kind in &mut self.kinds {
            self.tracer.load(&kind.trace)?;
            kind.empty.push(self.tracer.run(&self.empty, run.packets)?.0);
            for ((target, gross), (_, table)) in
                self.targets.iter().zip(&mut kind.gross).zip(TABLES)
            {
                let packets = if table == "image" { run.packets } else { run.packets_of_peer };
                self.tracer.rewind()?;
                self.tracer.run(target, packets / 16)?;
                gross.push(self.tracer.run(target, packets)?.0);
            }
        }
        Ok(())
    }

    fn report(self, results: &mut Results) {
        for kind in self.kinds {
            let net = kind.gross.each_ref().map(|gross| gross.less(&kind.empty));
            for (((_, table), samples), gross) in TABLES.iter().zip(&net).zip(&kind.gross) {
                let name =
                    format!("lookup/{}/{}/{table}/{}", kind.name, self.family, label(self.count));
                let mut row = Row::new(name, "ns", samples)
                    .with("gross", gross.median())
                    .with("empty", kind.empty.median());
                for ((_, peer), other) in TABLES.iter().zip(&net) {
                    if peer != table {
                        row = row.ratio(*peer, other.median());
                    }
                }
                results.push(row);
            }
        }
    }
}
