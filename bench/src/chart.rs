//! The figures as pictures.

use std::path::Path;

use anyhow::{Result, anyhow};
use plotters::{
    coord::{combinators::LogCoord, ranged1d::ValueFormatter},
    prelude::*,
};

use crate::{lists::label, report::Results};

/// One line of a chart: its name, and the beginning of its benchmarks' names before what is across.
type Line = (&'static str, &'static str);

/// Colours that people with any colour vision tell apart on white (Okabe and Ito), without yellow.
const COLOURS: [RGBColor; 7] = [
    RGBColor(0, 0, 0),
    RGBColor(0, 114, 178),
    RGBColor(213, 94, 0),
    RGBColor(0, 158, 115),
    RGBColor(204, 121, 167),
    RGBColor(86, 180, 233),
    RGBColor(230, 159, 0),
];
/// Room for names to the right of the lines.
const NAMES: u32 = 210;

const SIZES: [(&str, f64); 6] =
    [("1", 1.0), ("1k", 1e3), ("10k", 1e4), ("100k", 1e5), ("1M", 1e6), ("10M", 1e7)];
const FLOWS: [(&str, f64); 5] = [
    ("1-flow", 1.0),
    ("1k-flows", 1e3),
    ("100k-flows", 1e5),
    ("250k-flows", 2.5e5),
    ("1M-flows", 1e6),
];

const PACKET: [Line; 7] = [
    ("IPv4", "packet/clean/v4/untagged/"),
    ("IPv4 in QinQ", "packet/clean/v4/qinq/"),
    ("IPv4 in PPPoE and QinQ", "packet/clean/v4/pppoe-qinq/"),
    ("IPv4 in DS-Lite", "packet/clean/v4/ds-lite/"),
    ("IPv6", "packet/clean/v6/untagged/"),
    ("IPv6 in QinQ", "packet/clean/v6/qinq/"),
    ("IPv6 in PPPoE and QinQ", "packet/clean/v6/pppoe-qinq/"),
];
const LOOKUP: [Line; 3] = [
    ("LPM trie", "lookup/clean/v4/lpm-trie/"),
    ("image (ours)", "lookup/clean/v4/image/"),
    ("hash table", "lookup/clean/v4/hash/"),
];
const LIVE: [Line; 5] = [
    ("empty program", "live/drop/empty/"),
    ("Sekisho, 1,000,000 entries", "live/drop/sekisho/1M/"),
    ("xdp-filter, 10,000", "live/drop/xdp-filter/10k/"),
    ("nftables, 100,000", "live/drop/nftables/100k/"),
    ("ipset, 100,000", "live/drop/ipset/100k/"),
];

/// What a chart shows.
struct Chart {
    file: &'static str,
    title: &'static str,
    across: &'static str,
    up: &'static str,
    /// Whether what is up spans orders of magnitude.
    is_log: bool,
    lines: &'static [Line],
    places: &'static [(&'static str, f64)],
}

const CHARTS: [Chart; 3] = [
    Chart {
        file: "packet.svg",
        title: "A clean packet through the whole program",
        across: "entries in the list (logarithmic)",
        up: "ns a packet, tracer subtracted",
        is_log: false,
        lines: &PACKET,
        places: &SIZES,
    },
    Chart {
        file: "lookup.svg",
        title: "Looking up a clean IPv4 address",
        across: "entries in the table (logarithmic)",
        up: "ns a lookup (logarithmic)",
        is_log: true,
        lines: &LOOKUP,
        places: &SIZES,
    },
    Chart {
        file: "live.svg",
        title: "Dropping listed packets on one processor",
        across: "distinct flows (logarithmic)",
        up: "million packets a second",
        is_log: false,
        lines: &LIVE,
        places: &FLOWS,
    },
];

/// Writes every chart that the results have figures for; the names of the files.
pub fn draw(results: &Results, folder: &Path) -> Result<Vec<String>> {
    let mut drawn = Vec::new();
    for chart in &CHARTS {
        let lines = chart.lines.iter().map(|(name, prefix)| {
            let points = points(results, prefix, chart.places);
            (*name, points)
        });
        let lines: Vec<_> = lines.filter(|(_, points)| !points.is_empty()).collect();
        if lines.is_empty() {
            continue;
        }
        chart
            .draw(&folder.join(chart.file), &lines)
            .map_err(|why| anyhow!("{}: {why}", chart.file))?;
        drawn.push(chart.file.to_owned());
    }
    Ok(drawn)
}

type Named = (&'static str, Vec<(f64, f64)>);

impl Chart {
    fn draw(&self, path: &Path, lines: &[Named]) -> Result<(), Box<dyn std::error::Error>> {
        let root = SVGBackend::new(path, (900, 460)).into_drawing_area();
        root.fill(&WHITE)?;
        let all = || lines.iter().flat_map(|(_, points)| points);
        let right = all().map(|(x, _)| *x).fold(1.0, f64::max);
        let highest = all().map(|(_, y)| *y).fold(0.0, f64::max) * 1.1;
        let lowest = all().map(|(_, y)| *y).fold(f64::INFINITY, f64::min).max(1.0);
        let (plot, names) = root.split_horizontally(900 - NAMES);
        let across = (0.9..right * 1.1).log_scale();
        let mut builder = ChartBuilder::on(&plot);
        builder
            .caption(self.title, ("sans-serif", 20))
            .margin(14)
            .x_label_area_size(48)
            .y_label_area_size(66);
        if self.is_log {
            let up = (lowest * 0.8..highest).log_scale();
            self.plot(builder.build_cartesian_2d(across, up)?, lines)?;
        } else {
            self.plot(builder.build_cartesian_2d(across, 0.0..highest)?, lines)?;
        }
        for (at, (name, _)) in lines.iter().enumerate() {
            let y = 60 + 24 * at as i32;
            let colour = COLOURS[at % COLOURS.len()];
            names.draw(&PathElement::new([(4, y), (30, y)], colour.stroke_width(3)))?;
            names.draw(&Circle::new((17, y), 4, colour.filled()))?;
            names.draw(&Text::new(*name, (38, y - 7), ("sans-serif", 14)))?;
        }
        root.present()?;
        Ok(())
    }

    fn plot<'a, Y>(
        &self,
        mut chart: ChartContext<'a, SVGBackend<'a>, Cartesian2d<LogCoord<f64>, Y>>,
        lines: &[Named],
    ) -> Result<(), Box<dyn std::error::Error>>
    where
        Y: Ranged<ValueType = f64> + ValueFormatter<f64>,
    {
        chart
            .configure_mesh()
            .x_desc(self.across)
            .y_desc(self.up)
            .x_label_formatter(&|value| label(value.round() as usize))
            .y_label_formatter(&|value| format!("{value}"))
            .label_style(("sans-serif", 13))
            .axis_desc_style(("sans-serif", 14))
            .light_line_style(WHITE)
            .draw()?;
        for (at, (_, points)) in lines.iter().enumerate() {
            let colour = COLOURS[at % COLOURS.len()];
            let line = LineSeries::new(points.iter().copied(), colour.stroke_width(2));
            chart.draw_series(line.point_size(4))?;
        }
        Ok(())
    }
}

fn points(results: &Results, prefix: &str, places: &[(&str, f64)]) -> Vec<(f64, f64)> {
    places
        .iter()
        .filter_map(|(name, at)| Some((*at, results.value(&format!("{prefix}{name}"))?)))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{report::Row, sampling::Samples};

    #[test]
    fn a_chart_names_its_axes_and_every_line_that_has_figures() {
        let mut results = Results::default();
        for (table, value) in [("image", 20.0), ("lpm-trie", 1_400.0)] {
            for (size, _) in SIZES {
                let mut samples = Samples::default();
                samples.push(value);
                results.push(Row::new(format!("lookup/clean/v4/{table}/{size}"), "ns", &samples));
            }
        }
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(draw(&results, folder.path()).unwrap(), ["lookup.svg"]);
        let picture = std::fs::read_to_string(folder.path().join("lookup.svg")).unwrap();
        for text in ["LPM trie", "image (ours)", "entries in the table (logarithmic)", "100k"] {
            assert!(picture.contains(text), "{text}");
        }
        assert!(!picture.contains("hash table"));
    }
}
