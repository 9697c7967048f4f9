//! Whether this run's figures hold what was promised.

use serde::Serialize;

use crate::report::Results;

/// One promise, beside what this run measured.
#[derive(Clone, Debug, Serialize)]
pub struct Verdict {
    /// Number of the requirement, and which part of it.
    pub id: &'static str,
    /// The promise in words.
    pub wanted: &'static str,
    /// The figure that decides.
    pub measured: Option<f64>,
    /// Whether the promise holds; nothing where the figure is missing.
    pub holds: Option<bool>,
    /// The figures that it was computed from.
    pub from: Vec<String>,
}

/// A promise about one figure divided by another.
struct Promise {
    id: &'static str,
    wanted: &'static str,
    value: &'static str,
    over: Option<&'static str>,
    holds: fn(f64) -> bool,
}

const PROMISES: &[Promise] = &[
    Promise {
        id: "B1 flat",
        wanted: "a clean IPv4 packet with 1,000,000 entries costs at most 1.5 times what it costs with 1",
        value: "packet/clean/v4/untagged/1M",
        over: Some("packet/clean/v4/untagged/1"),
        holds: |ratio| ratio <= 1.5,
    },
    Promise {
        id: "B1 trie",
        wanted: "looking up clean addresses among 1,000,000 takes at least 15 times less than in the LPM trie",
        value: "lookup/clean/v4/lpm-trie/1M",
        over: Some("lookup/clean/v4/image/1M"),
        holds: |ratio| ratio >= 15.0,
    },
    Promise {
        id: "B3 IPv6",
        wanted: "a clean IPv6 packet costs at most 1.5 times the IPv4 one",
        value: "packet/clean/v6/untagged/1M",
        over: Some("packet/clean/v4/untagged/1M"),
        holds: |ratio| ratio <= 1.5,
    },
    Promise {
        id: "B3 QinQ",
        wanted: "a clean packet in QinQ costs at most 1.5 times the untagged one",
        value: "packet/clean/v4/qinq/1M",
        over: Some("packet/clean/v4/untagged/1M"),
        holds: |ratio| ratio <= 1.5,
    },
    Promise {
        id: "B6 flat",
        wanted: "a clean IPv4 packet with 10,000,000 entries costs at most 1.5 times what it costs with 1",
        value: "packet/clean/v4/untagged/10M",
        over: Some("packet/clean/v4/untagged/1"),
        holds: |ratio| ratio <= 1.5,
    },
    Promise {
        id: "B2 drop",
        wanted: "dropping with 1,000,000 entries and exact accounting reaches 85 % of the empty program's rate",
        value: "live/drop/sekisho/1M/1-flow",
        over: Some("live/drop/empty/1-flow"),
        holds: |ratio| ratio >= 0.85,
    },
    Promise {
        id: "B2 peer",
        wanted: "dropping with 1,000,000 entries is not below xdp-filter, which accounts for nothing",
        value: "live/drop/sekisho/1M/1-flow",
        over: Some("live/drop/xdp-filter/10k/1-flow"),
        holds: |ratio| ratio >= 1.0,
    },
    Promise {
        id: "B2 flows",
        wanted: "with 250,000 distinct listed flows dropping reaches 40 % of the empty program's rate",
        value: "live/drop/sekisho/1M/250k-flows",
        over: Some("live/drop/empty/250k-flows"),
        holds: |ratio| ratio >= 0.4,
    },
    Promise {
        id: "B4 time",
        wanted: "from a changed 1,000,000-entry list on disk to live takes under 1,000 ms",
        value: "publish/total/1M",
        over: None,
        holds: |milliseconds| milliseconds < 1_000.0,
    },
    Promise {
        id: "B4 memory",
        wanted: "publishing 1,000,000 indicators takes under 400 MB at its peak",
        value: "publish/peak-memory/1M",
        over: None,
        holds: |megabytes| megabytes < 400.0,
    },
    Promise {
        id: "B4 atomic",
        wanted: "no packet is misjudged while rulesets are replaced",
        value: "publish/misjudged",
        over: None,
        holds: |packets| packets == 0.0,
    },
    Promise {
        id: "B5 exact",
        wanted: "of 1,000,000 distinct flows no packet is unaccounted for",
        value: "hits/unaccounted/1M-flows",
        over: None,
        holds: |packets| packets == 0.0,
    },
    Promise {
        id: "B5 second",
        wanted: "1,000,000 distinct flows hit within 1,000 ms",
        value: "hits/send/1M-flows",
        over: None,
        holds: |milliseconds| milliseconds <= 1_000.0,
    },
];

/// Every promise, as far as this run can tell.
pub fn judge(results: &Results) -> Vec<Verdict> {
    PROMISES.iter().map(|promise| promise.judge(results)).collect()
}

impl Promise {
    fn judge(&self, results: &Results) -> Verdict {
        let value = results.value(self.value);
        let measured = match self.over {
            None => value,
            Some(over) => value.zip(results.value(over)).map(|(value, over)| value / over),
        };
        let from = std::iter::once(self.value).chain(self.over).map(str::to_owned).collect();
        Verdict {
            id: self.id,
            wanted: self.wanted,
            measured,
            holds: measured.map(self.holds),
            from,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{report::Row, sampling::Samples};

    fn results(figures: &[(&str, f64)]) -> Results {
        let mut results = Results::default();
        for (name, value) in figures {
            let mut samples = Samples::default();
            samples.push(*value);
            results.push(Row::new(*name, "ns", &samples));
        }
        results
    }

    fn holds(id: &str, figures: &[(&str, f64)]) -> Option<bool> {
        judge(&results(figures)).into_iter().find(|verdict| verdict.id == id)?.holds
    }

    #[test]
    fn a_promise_stands_or_falls_with_the_figures() {
        let (one, million) = ("packet/clean/v4/untagged/1", "packet/clean/v4/untagged/1M");
        assert_eq!(holds("B1 flat", &[(one, 10.0), (million, 15.0)]), Some(true));
        assert_eq!(holds("B1 flat", &[(one, 10.0), (million, 15.1)]), Some(false));
    }

    #[test]
    fn without_a_figure_nothing_is_claimed() {
        assert_eq!(holds("B1 flat", &[("packet/clean/v4/untagged/1", 10.0)]), None);
    }
}
