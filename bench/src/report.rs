//! The figures of a run, as they are written to disk.

use std::collections::BTreeMap;

use serde::Serialize;
use serde_json::{Value, json};

use crate::{machine::Machine, requirements::Verdict, sampling::Samples};

/// One figure, or why there is none.
#[derive(Clone, Debug, Serialize)]
pub struct Row {
    /// area/case/…
    pub bench: String,
    /// The median.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub value: Option<f64>,
    /// What the value counts.
    #[serde(skip_serializing_if = "str::is_empty")]
    pub unit: &'static str,
    /// The least of the runs.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub min: Option<f64>,
    /// The greatest of the runs.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max: Option<f64>,
    /// How many runs there were.
    #[serde(skip_serializing_if = "is_zero")]
    pub runs: usize,
    /// This divided by each peer, by the peer's name: the median of the ratios of runs that were
    /// neighbours in time.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub ratio_to: BTreeMap<String, f64>,
    /// The quartiles of the same ratios.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub ratio_quartiles: BTreeMap<String, [f64; 2]>,
    /// What else was counted in the same runs.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub with: BTreeMap<&'static str, Value>,
    /// Why there is no figure.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub absent: Option<String>,
    #[serde(skip)]
    samples: Samples,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde hands over a reference")]
const fn is_zero(runs: &usize) -> bool {
    *runs == 0
}

impl Row {
    /// The middle of these runs.
    pub fn new(bench: impl Into<String>, unit: &'static str, samples: &Samples) -> Self {
        Self {
            bench: bench.into(),
            value: samples.median().map(rounded),
            unit,
            min: samples.min().map(rounded),
            max: samples.max().map(rounded),
            runs: samples.runs(),
            ratio_to: BTreeMap::new(),
            ratio_quartiles: BTreeMap::new(),
            with: BTreeMap::new(),
            absent: None,
            samples: samples.clone(),
        }
    }

    /// No figure, and the reason.
    pub fn absent(bench: impl Into<String>, why: impl Into<String>) -> Self {
        let row = Self::new(bench, "", &Samples::default());
        Self { absent: Some(why.into()), ..row }
    }

    /// Sets this in relation to a peer that was measured in turn with it, if it was.
    pub fn ratio(mut self, peer: impl Into<String>, other: &Samples) -> Self {
        let ratios = self.samples.over(other);
        if let (Some(median), Some(lower), Some(upper)) =
            (ratios.median(), ratios.quantile(0.25), ratios.quantile(0.75))
        {
            let peer = peer.into();
            self.ratio_to.insert(peer.clone(), rounded(median));
            self.ratio_quartiles.insert(peer, [rounded(lower), rounded(upper)]);
        }
        self
    }

    /// Lets the greatest of the runs stand for all of them: whoever asks waits for the slowest answer,
    /// and one run that loses a packet is one too many.
    pub fn by_worst(self) -> Self {
        let median = self.value;
        Self { value: self.max, ..self }.with("median", median)
    }

    /// Adds what else was counted.
    pub fn with(mut self, name: &'static str, value: impl Into<Value>) -> Self {
        self.with.insert(name, value.into());
        self
    }
}

/// Four digits that count: more would pretend.
pub fn rounded(value: f64) -> f64 {
    if value == 0.0 {
        return 0.0;
    }
    let scale = 10_f64.powi(3 - value.abs().log10().floor() as i32);
    (value * scale).round() / scale
}

/// All figures of a run.
#[derive(Debug, Default)]
pub struct Results(Vec<Row>);

impl Results {
    /// Adds a figure and says it.
    pub fn push(&mut self, row: Row) {
        match (&row.value, &row.absent) {
            (Some(value), _) => eprintln!("{:<44} {value:>10} {}", row.bench, row.unit),
            (None, Some(why)) => eprintln!("{:<44}     absent: {why}", row.bench),
            (None, None) => {}
        }
        self.0.push(row);
    }

    /// Every figure.
    pub fn rows(&self) -> &[Row] {
        &self.0
    }

    /// Every figure, to keep some of them.
    pub fn into_rows(self) -> Vec<Row> {
        self.0
    }

    /// The figure of this name.
    pub fn row(&self, bench: &str) -> Option<&Row> {
        self.0.iter().find(|row| row.bench == bench)
    }

    /// The value of this name.
    pub fn value(&self, bench: &str) -> Option<f64> {
        self.row(bench)?.value
    }

    /// Why there is no figure of a benchmark in whose name this occurs.
    pub fn why_absent(&self, part: &str) -> Option<String> {
        let of_it = |row: &&Row| row.absent.is_some() && row.bench.contains(part);
        self.0.iter().find(of_it)?.absent.clone()
    }
}

/// The whole file.
pub fn document(machine: &Machine, results: &Results, verdicts: &[Verdict]) -> Value {
    json!({
        "machine": machine,
        "requirements": verdicts,
        "results": results.rows(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_keep_four_digits_that_count() {
        assert_eq!(rounded(12.345_67), 12.35);
        assert_eq!(rounded(0.001_234_56), 0.001_235);
        assert_eq!(rounded(123_456.0), 123_500.0);
        assert_eq!(rounded(-1.999_99), -2.0);
    }

    #[test]
    fn a_ratio_is_the_middle_of_the_ratios_of_runs() {
        let samples = |values: &[f64]| {
            let mut samples = Samples::default();
            values.iter().for_each(|value| samples.push(*value));
            samples
        };
        let row = Row::new("x", "ns", &samples(&[8.0, 30.0, 9.0]))
            .ratio("a", &samples(&[4.0, 10.0, 3.0]))
            .ratio("b", &Samples::default());
        assert_eq!(row.ratio_to, BTreeMap::from([("a".to_owned(), 3.0)]));
        assert_eq!(row.ratio_quartiles["a"], [2.5, 3.0]);
    }
}
