use super::{Store, read_false_positives};
use crate::breaker::{Decision, Trip};

use jiff::Timestamp;
use sekisho_rules::{
    feed::Action,
    indicator::Traffic,
    moment::Moment,
    operator::{self, OperatorEntry},
    policy::{EntryKey, FalsePositive},
};

fn found(feed: &str, network: &str, at: i64) -> FalsePositive {
    FalsePositive {
        feed: feed.parse().unwrap(),
        network: network.parse().unwrap(),
        at: Moment::nearest(at),
    }
}

fn allow(network: &str, feed: Option<&str>) -> OperatorEntry {
    OperatorEntry {
        id: 0,
        decision: operator::Decision::Suppress,
        action: Action::Drop,
        network: network.parse().unwrap(),
        protocol: None,
        ports: Vec::new(),
        feed: feed.map(|feed| feed.parse().unwrap()),
        reason: "a test".to_owned(),
        owner: "alice".to_owned(),
        since: Timestamp::now().into(),
        until: None,
    }
}

#[test]
fn findings_outlive_the_daemon_and_keep_their_first_date() {
    let dir = tempfile::tempdir().unwrap();
    assert_eq!(read_false_positives(dir.path()).unwrap(), []);
    let store = Store::open(dir.path()).unwrap();
    let now = Timestamp::now().as_second();
    store.add_false_positives(vec![found("a", "198.18.0.1/32", now)]).unwrap();
    let again = vec![found("a", "198.18.0.1/32", now + 9), found("b", "2001:2::/48", now + 9)];
    store.add_false_positives(again).unwrap();
    drop(store);
    let expected = [found("a", "198.18.0.1/32", now), found("b", "2001:2::/48", now + 9)];
    assert_eq!(read_false_positives(dir.path()).unwrap(), expected);
}

#[test]
fn a_decision_that_is_ended_by_hand_takes_its_findings_back() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).unwrap();
    let now = Timestamp::now();
    let at = now.as_second();
    let id = store.add_entry(allow("198.18.0.1/32", Some("a")), "alice".to_owned()).unwrap();
    let rows = ["a", "b"].map(|feed| found(feed, "198.18.0.1/32", at));
    store.add_false_positives(rows.to_vec()).unwrap();
    assert!(store.end_entry(id + 1, "bob".to_owned(), now).unwrap().is_none());
    assert_eq!(store.false_positives().unwrap().len(), 2, "there is no such entry");
    assert!(store.end_entry(id, "bob".to_owned(), now).unwrap().is_some());
    assert_eq!(store.false_positives().unwrap(), [found("b", "198.18.0.1/32", at)]);
}

#[test]
fn what_the_breaker_demoted_counts_once_somebody_keeps_it_so() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).unwrap();
    let network = "198.18.0.7/32".parse().unwrap();
    let trip = Trip {
        entry: EntryKey { network, traffic: Traffic::ANY },
        at: Timestamp::now(),
        subscribers: 40,
        limit: 30,
        feeds: vec!["a".to_owned(), "b".to_owned()],
    };
    let id = store.add_broken(&trip).unwrap().id;
    assert_eq!(store.false_positives().unwrap(), [], "nobody has decided");
    let at = Timestamp::from_second(1_800_000_000).unwrap();
    store.decide_broken(id, Decision::Keep, at).unwrap();
    let rows = ["a", "b"].map(|feed| found(feed, "198.18.0.7/32", 1_800_000_000));
    assert_eq!(store.false_positives().unwrap(), rows);
    store.decide_broken(id, Decision::Release, at).unwrap();
    assert_eq!(store.false_positives().unwrap(), [], "it was right");
}
