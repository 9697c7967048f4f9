//! Whether this run's figures hold what was promised.

use serde::Serialize;

use crate::report::{Results, Row};

/// One promise, beside what this run measured.
#[derive(Clone, Debug, Serialize)]
pub struct Verdict {
    /// Number of the requirement, and which part of it.
    pub id: &'static str,
    /// The promise in words.
    pub wanted: &'static str,
    /// The figure that decides.
    pub measured: Option<f64>,
    /// Of a ratio, the quartiles of what neighbouring runs gave.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub quartiles: Option<[f64; 2]>,
    /// Whether the promise holds; nothing where the figure is missing.
    pub holds: Option<bool>,
    /// Why the figure is missing.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub absent: Option<String>,
    /// The benchmark that it is a figure of, and the peer that this is set in relation to.
    pub from: Vec<&'static str>,
}

/// A promise about the value of one benchmark, or about its ratio to a peer.
struct Promise {
    id: &'static str,
    wanted: &'static str,
    bench: &'static str,
    peer: Option<&'static str>,
    holds: fn(f64) -> bool,
}

const PROMISES: &[Promise] = &[
    Promise {
        id: "B1 flat",
        wanted: "a clean IPv4 packet with 1,000,000 entries costs at most 1.5 times what it costs with 1",
        bench: "packet/clean/v4/untagged/1M",
        peer: Some("list-of-1"),
        holds: |ratio| ratio <= 1.5,
    },
    Promise {
        id: "B1 trie",
        wanted: "looking up clean addresses among 1,000,000 takes at least 15 times less than in the LPM trie",
        bench: "lookup/clean/v4/lpm-trie/1M",
        peer: Some("image"),
        holds: |ratio| ratio >= 15.0,
    },
    Promise {
        id: "B2 drop",
        wanted: "dropping with 1,000,000 entries and exact accounting reaches 85 % of the empty program's rate",
        bench: "live/drop/sekisho/1M/1-flow",
        peer: Some("empty"),
        holds: |ratio| ratio >= 0.85,
    },
    Promise {
        id: "B2 peer",
        wanted: "dropping with 1,000,000 entries is not below xdp-filter, which accounts for nothing",
        bench: "live/drop/sekisho/1M/1-flow",
        peer: Some("xdp-filter"),
        holds: |ratio| ratio >= 1.0,
    },
    Promise {
        id: "B2 flows",
        wanted: "with 250,000 distinct listed flows dropping reaches 40 % of the empty program's rate",
        bench: "live/drop/sekisho/1M/250k-flows",
        peer: Some("empty"),
        holds: |ratio| ratio >= 0.4,
    },
    Promise {
        id: "B2 wire",
        wanted: "clean packets of one flow pass a wire at 90 % of an empty redirect's rate",
        bench: "live/wire/sekisho/1M/1-flow",
        peer: Some("empty-redirect"),
        holds: |ratio| ratio >= 0.9,
    },
    Promise {
        id: "B2 wire, many",
        wanted: "clean packets of 250,000 flows pass a wire at 90 % of an empty redirect's rate",
        bench: "live/wire/sekisho/1M/250k-flows",
        peer: Some("empty-redirect"),
        holds: |ratio| ratio >= 0.9,
    },
    Promise {
        id: "B3 IPv6",
        wanted: "a clean IPv6 packet costs at most 1.5 times the IPv4 one",
        bench: "packet/clean/v6/untagged/1M",
        peer: Some("v4"),
        holds: |ratio| ratio <= 1.5,
    },
    Promise {
        id: "B3 PPPoE",
        wanted: "a clean packet in PPPoE and QinQ costs at most 1.5 times the untagged one",
        bench: "packet/clean/v4/pppoe-qinq/1M",
        peer: Some("untagged"),
        holds: |ratio| ratio <= 1.5,
    },
    Promise {
        id: "B4 time",
        wanted: "from a changed 1,000,000-entry list on disk to live takes under 1,000 ms",
        bench: "publish/total/1M",
        peer: None,
        holds: |milliseconds| milliseconds < 1_000.0,
    },
    Promise {
        id: "B4 memory",
        wanted: "publishing 1,000,000 indicators takes under 400 MB at its peak",
        bench: "publish/peak-memory/1M",
        peer: None,
        holds: |megabytes| megabytes < 400.0,
    },
    Promise {
        id: "B4 linear",
        wanted: "publishing 2,000,000 takes at most 2.2 times the memory of 1,000,000",
        bench: "publish/peak-memory/2M",
        peer: Some("1M"),
        holds: |ratio| ratio <= 2.2,
    },
    Promise {
        id: "B4 linear, far",
        wanted: "publishing 10,000,000 takes at most 11 times the memory of 1,000,000",
        bench: "publish/peak-memory/10M",
        peer: Some("1M"),
        holds: |ratio| ratio <= 11.0,
    },
    Promise {
        id: "B4 atomic",
        wanted: "no packet is misjudged while rulesets are replaced",
        bench: "publish/misjudged",
        peer: None,
        holds: |packets| packets == 0.0,
    },
    Promise {
        id: "B5 exact",
        wanted: "of 1,000,000 distinct flows no packet is unaccounted for",
        bench: "hits/unaccounted/1M-flows",
        peer: None,
        holds: |packets| packets == 0.0,
    },
    Promise {
        id: "B5 second",
        wanted: "1,000,000 distinct flows hit within 1,000 ms",
        bench: "hits/send/1M-flows",
        peer: None,
        holds: |milliseconds| milliseconds <= 1_000.0,
    },
    Promise {
        id: "B6 flat",
        wanted: "a clean IPv4 packet with 10,000,000 entries costs at most 1.5 times what it costs with 1",
        bench: "packet/clean/v4/untagged/10M",
        peer: Some("list-of-1"),
        holds: |ratio| ratio <= 1.5,
    },
    Promise {
        id: "B7 subscriber",
        wanted: "a usual subscriber's hits of 30 days, all of them, in under 20 ms among 1,000,000 rows",
        bench: "store/subscriber-30-days/usual/1M",
        peer: None,
        holds: |milliseconds| milliseconds < 20.0,
    },
    Promise {
        id: "B7 busiest",
        wanted: "the first page of the busiest subscriber's in under 20 ms",
        bench: "store/subscriber-30-days/busiest-page/1M",
        peer: None,
        holds: |milliseconds| milliseconds < 20.0,
    },
    Promise {
        id: "B7 overview",
        wanted: "the overview of 30 days in under 200 ms among 1,000,000 rows",
        bench: "store/overview-30-days/1M",
        peer: None,
        holds: |milliseconds| milliseconds < 200.0,
    },
];

/// What B8 wants beside us, by the beginning of its benchmarks' names.
const PEERS: [&str; 6] = [
    "live/drop/empty/",
    "live/drop/xdp-filter/",
    "live/drop/nftables/",
    "live/drop/ipset/",
    "lookup/clean/v4/lpm-trie/",
    "lookup/clean/v4/hash/",
];

/// Every promise, as far as this run can tell.
pub fn judge(results: &Results) -> Vec<Verdict> {
    let verdicts = PROMISES.iter().map(|promise| promise.judge(results));
    verdicts.chain([peers(results)]).collect()
}

impl Promise {
    fn judge(&self, results: &Results) -> Verdict {
        let row = results.row(self.bench);
        let of_peer = |row: &Row| match self.peer {
            Some(peer) => row.ratio_to.get(peer).copied(),
            None => row.value,
        };
        let measured = row.and_then(of_peer);
        let quartiles = row.and_then(|row| row.ratio_quartiles.get(self.peer?).copied());
        Verdict {
            id: self.id,
            wanted: self.wanted,
            measured,
            quartiles,
            holds: measured.map(self.holds),
            absent: measured.is_none().then(|| self.why_absent(results)),
            from: std::iter::once(self.bench).chain(self.peer).collect(),
        }
    }

    fn why_absent(&self, results: &Results) -> String {
        let own = results.row(self.bench).and_then(|row| row.absent.clone());
        let of_peer = || results.why_absent(&format!("/{}/", self.peer?));
        own.or_else(of_peer).unwrap_or_else(|| "not part of this run".to_owned())
    }
}

/// B8: how many peers have figures, and why the others have none.
fn peers(results: &Results) -> Verdict {
    let is_there = |peer: &&'static str| {
        results.rows().iter().any(|row| row.bench.starts_with(*peer) && row.value.is_some())
    };
    let (there, missing): (Vec<&str>, Vec<&str>) = PEERS.into_iter().partition(is_there);
    let why = |peer: &&str| {
        let why = results.why_absent(peer);
        format!("{peer}: {}", why.unwrap_or_else(|| "not part of this run".to_owned()))
    };
    Verdict {
        id: "B8 peers",
        wanted: "six peers measured in the same run",
        measured: Some(there.len() as f64),
        quartiles: None,
        holds: Some(missing.is_empty()),
        absent: (!missing.is_empty())
            .then(|| missing.iter().map(why).collect::<Vec<_>>().join("; ")),
        from: PEERS.to_vec(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{report::Row, sampling::Samples};

    fn samples(value: f64) -> Samples {
        let mut samples = Samples::default();
        samples.push(value);
        samples
    }

    fn verdict(results: &Results, id: &str) -> Verdict {
        judge(results).into_iter().find(|verdict| verdict.id == id).unwrap()
    }

    #[test]
    fn a_promise_stands_or_falls_with_the_ratio_of_neighbours() {
        for (million, holds) in [(15.0, true), (15.1, false)] {
            let mut results = Results::default();
            let row = Row::new("packet/clean/v4/untagged/1M", "ns", &samples(million));
            results.push(row.ratio("list-of-1", &samples(10.0)));
            let verdict = verdict(&results, "B1 flat");
            assert_eq!((verdict.measured, verdict.holds), (Some(million / 10.0), Some(holds)));
        }
    }

    #[test]
    fn without_a_figure_nothing_is_claimed_and_the_reason_is_told() {
        let mut results = Results::default();
        results.push(Row::new("live/drop/sekisho/1M/1-flow", "Mpps", &samples(3.0)));
        results.push(Row::absent("live/drop/xdp-filter/10k/1-flow", "not installed"));
        let missing = verdict(&results, "B2 peer");
        assert_eq!((missing.holds, missing.absent.as_deref()), (None, Some("not installed")));
        let missing = verdict(&results, "B1 flat");
        assert_eq!(
            (missing.holds, missing.absent.as_deref()),
            (None, Some("not part of this run"))
        );
    }

    #[test]
    fn a_peer_that_is_missing_is_named() {
        let mut results = Results::default();
        for peer in PEERS.into_iter().filter(|peer| !peer.contains("ipset")) {
            results.push(Row::new(format!("{peer}1M"), "Mpps", &samples(1.0)));
        }
        results.push(Row::absent("live/drop/ipset/100k/1-flow", "no such module"));
        let verdict = verdict(&results, "B8 peers");
        assert_eq!((verdict.measured, verdict.holds), (Some(5.0), Some(false)));
        assert_eq!(verdict.absent.as_deref(), Some("live/drop/ipset/: no such module"));
    }

    #[test]
    fn every_promise_has_a_name_of_its_own() {
        let ids: std::collections::BTreeSet<_> =
            PROMISES.iter().map(|promise| promise.id).collect();
        assert_eq!(ids.len(), PROMISES.len());
    }
}
