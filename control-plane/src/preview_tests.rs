use std::sync::Arc;

use super::*;
use crate::{
    dataplane::DrainId,
    hits::{ClockOffset, Generation, Names},
    store::Store,
    subscribers::Subscribers,
    testing,
};

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(1_800_000_000 + second).unwrap()
}

fn generations(rows: &[testing::Row<'_>]) -> Generations {
    let mut generations = Generations::default();
    let (generation, _): (Generation, _) = testing::generation(1, rows);
    generations.push(Arc::new(generation));
    generations
}

/// A record in which subscribers met the remotes, by port and whether they were stopped.
async fn record(dir: &Path, feeds: &str, met: &[(&str, u16, bool, u32)]) -> Store {
    let store = Store::open(dir).unwrap();
    let (generations, nobody) = (Generations::default(), Subscribers::default());
    let clock = ClockOffset::from_boot(at(0));
    let names = Names { generations: &generations, subscribers: &nobody, ports: &[], clock };
    let mut hits = Vec::new();
    for &(remote, port, stopped, subscribers) in met {
        for number in 0..subscribers {
            let mut hit = names.hit(&testing::row(&format!("100.64.0.{number}"), remote, port));
            hit.reason = if stopped { "dropped" } else { "list_observed" };
            hit.feeds = feeds.split(',').map(str::to_owned).collect();
            hits.push(hit);
        }
    }
    store.record(Arc::new(hits), DrainId::default()).await.unwrap();
    store
}

#[tokio::test]
async fn a_candidate_is_judged_by_what_was_recorded_and_says_what_was_not() {
    let dir = tempfile::tempdir().unwrap();
    let met = [
        ("198.18.0.7", 443, false, 9),
        ("198.18.0.7", 80, false, 2),
        ("198.18.0.8", 443, true, 3),
        ("198.18.0.9", 443, false, 5),
    ];
    let store = record(dir.path(), "other", &met).await;
    let candidate = generations(&[
        ("198.18.0.7/32", "candidate", Some(443), None),
        ("198.18.0.8/32", "candidate", None, None),
        ("198.18.0.10/32", "candidate", None, None),
    ]);
    let live = generations(&[
        ("198.18.0.7/32", "other", None, None),
        ("198.18.0.8/32", "other", None, None),
        ("198.18.0.9/32", "other", None, None),
    ]);
    let live = live.newest_table().unwrap();
    let ask = |since| {
        let candidate = Candidate { name: "candidate", generations: &candidate, feed: 0 };
        preview(store.path(), since, candidate, |entry| names(live, entry)).unwrap()
    };
    let answer = ask(at(0));
    assert_eq!((answer.entries, answer.unrecorded, answer.omitted), (3, 1, 0));
    let ListReport { stopped, would_have_stopped } = &answer.report;
    assert_eq!((stopped.flows, stopped.subscribers), (3, 3));
    assert_eq!((would_have_stopped.flows, would_have_stopped.subscribers), (9, 9));
    let met: Vec<_> = answer.entries_met.iter().map(|met| met.entry.as_str()).collect();
    assert_eq!(met, ["198.18.0.7:443/tcp", "198.18.0.8"]);
    assert!(answer.covers.contains("2 of the 3 entries are listed now; of the others nothing"));
    assert_eq!(ask(at(3600)).report, ListReport::default(), "nothing is that new");
}

#[tokio::test]
async fn the_report_has_each_list_and_the_whole() {
    let dir = tempfile::tempdir().unwrap();
    let met = [("198.18.0.7", 443, false, 4), ("198.18.0.8", 443, true, 6)];
    let store = record(dir.path(), "one,two", &met).await;
    let report = report(store.path(), at(0)).unwrap();
    assert_eq!(report.feeds.keys().collect::<Vec<_>>(), ["one", "two"]);
    for list in report.feeds.values().chain([&report.total]) {
        assert_eq!((list.stopped.flows, list.stopped.subscribers), (6, 6));
        assert_eq!((list.would_have_stopped.flows, list.would_have_stopped.initiated), (4, 4));
    }
    let often = store.often("198.18.0.8".parse().unwrap(), at(0)).unwrap();
    assert_eq!((often.flows, often.stopped, often.initiated, often.subscribers), (6, 6, 6, 6));
    assert_eq!((often.first, often.last), (Some(at(1)), Some(at(2))));
    assert_eq!(store.often("198.18.0.9".parse().unwrap(), at(0)).unwrap(), Default::default());
}
