//! The figures as pictures.

use std::path::Path;

use anyhow::{Result, anyhow};
use plotters::prelude::*;

use crate::report::Results;

/// One line of a chart: its name, and the beginning of its benchmarks' names before the list size.
type Line = (&'static str, &'static str);

const SIZES: [(&str, f64); 5] = [("1", 1.0), ("1k", 1e3), ("10k", 1e4), ("100k", 1e5), ("1M", 1e6)];
const FLOWS: [(&str, f64); 4] =
    [("1-flow", 1.0), ("1k-flows", 1e3), ("100k-flows", 1e5), ("250k-flows", 2.5e5)];

const PACKET: [Line; 4] = [
    ("IPv4", "packet/clean/v4/untagged/"),
    ("IPv4 in QinQ", "packet/clean/v4/qinq/"),
    ("IPv6", "packet/clean/v6/untagged/"),
    ("IPv6 in QinQ", "packet/clean/v6/qinq/"),
];
const LOOKUP: [Line; 3] = [
    ("image", "lookup/clean/v4/image/"),
    ("hash", "lookup/clean/v4/hash/"),
    ("LPM trie", "lookup/clean/v4/lpm-trie/"),
];
const LIVE: [Line; 5] = [
    ("empty program", "live/drop/empty/"),
    ("Sekisho, 1,000,000 entries", "live/drop/sekisho/1M/"),
    ("xdp-filter, 10,000", "live/drop/xdp-filter/10k/"),
    ("nftables, 100,000", "live/drop/nftables/100k/"),
    ("ipset, 100,000", "live/drop/ipset/100k/"),
];

/// Writes every chart that the results have figures for; the names of the files.
pub fn draw(results: &Results, folder: &Path) -> Result<Vec<String>> {
    type Places<'a> = &'a [(&'a str, f64)];
    let charts: [(&str, [&str; 3], &[Line], Places<'_>); 3] = [
        (
            "packet.svg",
            ["A clean packet through the whole program", "entries", "ns"],
            &PACKET,
            &SIZES,
        ),
        ("lookup.svg", ["Looking up a clean IPv4 address", "entries", "ns"], &LOOKUP, &SIZES),
        ("live.svg", ["Dropping on one processor", "distinct flows", "Mpps"], &LIVE, &FLOWS),
    ];
    let mut drawn = Vec::new();
    for (file, [title, across, up], lines, places) in charts {
        let lines: Vec<(&str, Vec<(f64, f64)>)> = lines
            .iter()
            .map(|(name, prefix)| (*name, points(results, prefix, places)))
            .filter(|(_, points)| !points.is_empty())
            .collect();
        if lines.is_empty() {
            continue;
        }
        let labels = Labels { title, across, up };
        chart(&folder.join(file), &labels, &lines, places)
            .map_err(|error| anyhow!("{file}: {error}"))?;
        drawn.push(file.to_owned());
    }
    Ok(drawn)
}

fn points(results: &Results, prefix: &str, places: &[(&str, f64)]) -> Vec<(f64, f64)> {
    places
        .iter()
        .filter_map(|(name, at)| Some((*at, results.value(&format!("{prefix}{name}"))?)))
        .collect()
}

struct Labels<'a> {
    title: &'a str,
    across: &'a str,
    up: &'a str,
}

fn chart(
    path: &Path,
    labels: &Labels<'_>,
    lines: &[(&str, Vec<(f64, f64)>)],
    places: &[(&str, f64)],
) -> Result<(), Box<dyn std::error::Error>> {
    let root = SVGBackend::new(path, (840, 460)).into_drawing_area();
    root.fill(&WHITE)?;
    let highest = lines.iter().flat_map(|(_, points)| points).map(|(_, y)| *y).fold(0.0, f64::max);
    let right = places.last().map_or(1.0, |(_, at)| *at);
    let mut chart = ChartBuilder::on(&root)
        .caption(labels.title, ("sans-serif", 20))
        .margin(14)
        .x_label_area_size(44)
        .y_label_area_size(62)
        .build_cartesian_2d((1.0..right * 1.1).log_scale(), 0.0..highest * 1.1)?;
    chart
        .configure_mesh()
        .x_desc(labels.across)
        .y_desc(labels.up)
        .x_label_formatter(&|value| format!("{value:.0}"))
        .light_line_style(WHITE)
        .draw()?;
    for (at, (name, points)) in lines.iter().enumerate() {
        let colour = Palette99::pick(at).to_rgba();
        chart
            .draw_series(
                LineSeries::new(points.iter().copied(), colour.stroke_width(2)).point_size(4),
            )?
            .label(*name)
            .legend(move |(x, y)| PathElement::new([(x, y), (x + 18, y)], colour.stroke_width(3)));
    }
    chart
        .configure_series_labels()
        .position(SeriesLabelPosition::UpperLeft)
        .background_style(WHITE.mix(0.85))
        .border_style(BLACK.mix(0.3))
        .draw()?;
    root.present()?;
    Ok(())
}
