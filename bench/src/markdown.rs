//! The figures as tables to read.

use std::fmt::Write as _;

use crate::{
    machine::Machine,
    report::{Results, Row},
    requirements::Verdict,
};

/// The whole page.
pub fn page(machine: &Machine, results: &Results, verdicts: &[Verdict]) -> String {
    let mut page = String::from(
        "# Results of the last run\n\nWritten by `make bench`. What the figures mean, and what they do not, stands in \
         [docs/performance.md](../../docs/performance.md).\n\n",
    );
    machine_table(&mut page, machine);
    requirements_table(&mut page, verdicts);
    for area in areas(results) {
        area_table(&mut page, &area, results);
    }
    page
}

fn machine_table(page: &mut String, machine: &Machine) {
    let known = |text: &Option<String>| text.clone().unwrap_or_else(|| "unknown".to_owned());
    let load = |load: Option<f64>| load.map_or_else(|| "unknown".to_owned(), |l| format!("{l:.1}"));
    let modified = if machine.is_modified == Some(true) { ", with changes" } else { "" };
    let virtual_machine = if machine.is_virtual { ", virtual" } else { "" };
    for (what, value) in [
        ("processor", format!("{}, {} in use{virtual_machine}", machine.cpu, machine.cores)),
        ("caches", machine.caches.join(", ")),
        ("memory", format!("{} MiB", machine.memory_mib)),
        ("kernel", machine.kernel.clone()),
        ("governor", machine.governor.clone().unwrap_or_else(|| "none to read".to_owned())),
        ("load before and after", {
            format!("{} and {}", load(machine.load_at_start), load(machine.load_at_end))
        }),
        ("commit", format!("{}{modified}", known(&machine.commit))),
        ("date", known(&machine.date)),
        ("command", format!("`{}`", machine.command)),
        ("took", format!("{:.0} s", machine.seconds)),
    ] {
        let _ = writeln!(page, "- {what}: {value}");
    }
    page.push('\n');
}

fn requirements_table(page: &mut String, verdicts: &[Verdict]) {
    page.push_str(
        "## Promises\n\n| promise | wanted | measured (quartiles) | holds |\n| --- | --- | ---: | --- |\n",
    );
    for verdict in verdicts {
        let mut measured = verdict.measured.map_or_else(|| "–".to_owned(), number);
        if let Some([lower, upper]) = verdict.quartiles {
            let _ = write!(measured, " ({} to {})", number(lower), number(upper));
        }
        let holds = match (verdict.holds, &verdict.absent) {
            (Some(true), _) => "yes".to_owned(),
            (Some(false), None) => "**no**".to_owned(),
            (Some(false), Some(why)) => format!("**no**: {}", escaped(why)),
            (None, why) => {
                let why = why.as_deref().unwrap_or("no figure");
                format!("not measured: {}", escaped(why))
            }
        };
        let _ = writeln!(page, "| {} | {} | {measured} | {holds} |", verdict.id, verdict.wanted);
    }
    page.push('\n');
}

/// Areas, in the order in which they were measured.
fn areas(results: &Results) -> Vec<String> {
    let mut areas: Vec<String> = Vec::new();
    for row in results.rows() {
        let area = row.bench.split('/').next().unwrap_or_default();
        if !areas.iter().any(|known| known == area) {
            areas.push(area.to_owned());
        }
    }
    areas
}

fn area_table(page: &mut String, area: &str, results: &Results) {
    let _ = writeln!(
        page,
        "## {area}\n\n| bench | median | min | max | runs | ratio to |\n| --- | ---: | ---: | ---: | ---: | --- |"
    );
    let of_area = |row: &&Row| row.bench.split('/').next() == Some(area);
    for row in results.rows().iter().filter(of_area) {
        if let Some(why) = &row.absent {
            let _ = writeln!(page, "| {} | absent: {} | | | | |", row.bench, escaped(why));
            continue;
        }
        let cell = |value: Option<f64>| value.map_or_else(String::new, number);
        let ratios: Vec<String> =
            row.ratio_to.iter().map(|(peer, ratio)| format!("{peer} {}", number(*ratio))).collect();
        let _ = writeln!(
            page,
            "| {} | {} {} | {} | {} | {} | {} |",
            row.bench,
            cell(row.value),
            row.unit,
            cell(row.min),
            cell(row.max),
            row.runs,
            ratios.join(", ")
        );
    }
    page.push('\n');
}

/// Text that ends no cell of a table.
fn escaped(text: &str) -> String {
    text.replace('|', "/")
}

fn number(value: f64) -> String {
    if value.abs() >= 1_000.0 { format!("{value:.0}") } else { format!("{value}") }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{requirements, sampling::Samples};

    #[test]
    fn a_peer_that_is_absent_stands_in_the_table_with_its_reason() {
        let mut results = Results::default();
        let mut samples = Samples::default();
        samples.push(2.5);
        let mut peer = Samples::default();
        peer.push(2.0);
        results.push(Row::new("live/drop/empty", "Mpps", &samples).ratio("peer", &peer));
        results.push(Row::absent("live/drop/peer", "a|b"));
        let mut page = String::new();
        area_table(&mut page, "live", &results);
        assert!(
            page.contains("| live/drop/empty | 2.5 Mpps | 2.5 | 2.5 | 1 | peer 1.25 |"),
            "{page}"
        );
        assert!(page.contains("| live/drop/peer | absent: a/b |"), "{page}");
        requirements_table(&mut page, &requirements::judge(&results));
        assert!(page.contains("| not measured: not part of this run |"), "{page}");
    }
}
