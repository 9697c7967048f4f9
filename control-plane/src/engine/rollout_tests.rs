//! Staged roll-out and breaker, from a list to what the kernel is told.

use std::{fs, net::Ipv4Addr, sync::Arc};

use jiff::Timestamp;
use sekisho_abi::record::Address;

use super::{Bench, give, two_feeds};
use crate::{
    breaker::Decision,
    dataplane::{Dataplane as _, fake::FakeDataplane},
    testing::{self, until},
};

impl Bench {
    fn start_with_policy(list: &[&str], policy: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        testing::inputs(dir.path(), list);
        let config = dir.path().join("sekisho.yaml");
        let text = fs::read_to_string(&config).unwrap();
        fs::write(&config, format!("{text}policy: policy.yaml\n")).unwrap();
        fs::write(dir.path().join("policy.yaml"), policy).unwrap();
        Self::start_in(dir, Arc::new(FakeDataplane::new(64 << 20)))
    }

    fn stops(&self, remote: &str) -> bool {
        self.kernel.ask(remote.parse().unwrap(), 6, Some(443)).unwrap().drop != 0
    }

    fn observes(&self, remote: &str) -> bool {
        let lists = self.kernel.ask(remote.parse().unwrap(), 6, Some(443)).unwrap();
        lists.drop == 0 && lists.observe != 0
    }

    /// So many subscribers call a remote.
    fn call(&self, remote: &str, subscribers: u32) {
        let generation = self.kernel.installed().unwrap().generation.unwrap();
        for number in 0..subscribers {
            let mut row = testing::row("100.64.0.7", remote, 443);
            row.key.decision.generation = generation;
            let address = Ipv4Addr::from_bits(0x6441_0000 + number);
            row.key.subscriber = Address::from(std::net::IpAddr::from(address));
            self.kernel.push_row(row);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_entry_observes_and_a_restart_does_not_forget_what_is_old() {
    let bench = Bench::start_with_policy(&["198.18.0.7"], "{}");
    until(|| bench.stops("198.18.0.7")).await;
    bench.write("one.txt", "198.18.0.7\n198.18.0.8\n");
    until(|| bench.observes("198.18.0.8")).await;
    assert!(bench.stops("198.18.0.7"));
    let (dir, _) = bench.end().await;
    let bench = Bench::start_in(dir, Arc::new(FakeDataplane::new(64 << 20)));
    until(|| bench.observes("198.18.0.8")).await;
    assert!(bench.stops("198.18.0.7"), "the list is nobody's first");
    bench.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_policy_without_a_wait_enforces_what_is_new_after_a_reload() {
    let bench = Bench::start_with_policy(&["198.18.0.7"], "{}");
    until(|| bench.stops("198.18.0.7")).await;
    bench.write("one.txt", "198.18.0.7\n198.18.0.8\n");
    until(|| bench.observes("198.18.0.8")).await;
    bench.write("policy.yaml", "rollout: {observe_for: 0}\n");
    bench.reload.send(()).await.unwrap();
    until(|| bench.stops("198.18.0.8")).await;
    bench.end().await;
}

const BREAKER: &str = "breaker: {subscribers_per_minute: 30, percent_per_minute: 100}\n";

#[tokio::test(flavor = "multi_thread")]
async fn a_popular_address_is_let_go_and_stays_so_until_somebody_decides() {
    let bench = Bench::start_with_policy(&["198.18.0.7", "198.18.0.8"], BREAKER);
    until(|| bench.stops("198.18.0.7")).await;
    bench.call("198.18.0.8", 5);
    bench.call("198.18.0.7", 40);
    until(|| bench.observes("198.18.0.7")).await;
    assert!(bench.stops("198.18.0.8"), "few call it");
    let alarm = |bench: &Bench| bench.service.check_health().degraded.join("; ");
    assert!(
        alarm(&bench).contains("too many subscribers met 198.18.0.7 within"),
        "{}",
        alarm(&bench)
    );
    let (dir, _) = bench.end().await;

    let bench = Bench::start_in(dir, Arc::new(FakeDataplane::new(64 << 20)));
    until(|| bench.observes("198.18.0.7")).await;
    assert!(!alarm(&bench).is_empty(), "a restart decides nothing");
    let id = bench.service.breaker().all()[0].id;
    let decide = |decision| {
        let service = bench.service.clone();
        tokio::task::spawn_blocking(move || service.decide(id, decision, "alice").unwrap())
    };
    assert!(decide(Some(Decision::Release)).await.unwrap().is_some());
    until(|| bench.stops("198.18.0.7")).await;
    assert_eq!(alarm(&bench), "");
    bench.call("198.18.0.7", 50);
    until(|| bench.hits().len() > 45).await;
    assert!(bench.stops("198.18.0.7"), "somebody said that this is right");
    decide(Some(Decision::Keep)).await.unwrap().unwrap();
    until(|| bench.observes("198.18.0.7")).await;
    decide(None).await.unwrap().unwrap();
    until(|| bench.stops("198.18.0.7")).await;
    assert!(decide(None).await.unwrap().is_none(), "it is forgotten");
    bench.end().await;
}

#[test]
fn the_publisher_is_woken_when_the_first_claim_is_promoted() {
    let dir = tempfile::tempdir().unwrap();
    let (mut publisher, kernel, _) = two_feeds(&dir);
    let at = |second: i64| Timestamp::from_second(1_800_000_000 + second).unwrap();
    let drops = |remote: &str| kernel.ask(remote.parse().unwrap(), 6, Some(443)).unwrap().drop != 0;
    give(&mut publisher, "one", "198.18.0.1\n", at(0));
    give(&mut publisher, "two", "198.18.0.2\n", at(0));
    publisher.publish(at(0)).unwrap();
    give(&mut publisher, "one", "198.18.0.1\n198.18.0.3\n", at(10));
    assert_eq!(publisher.publish(at(10)).unwrap(), Some(at(10 + 3600)));
    assert!(drops("198.18.0.1") && !drops("198.18.0.3"));
    let next = publisher.publish(at(10 + 3600)).unwrap();
    assert!(drops("198.18.0.3"));
    assert!(next > Some(at(10 + 3600)), "nothing waits any more");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_people_decide_against_a_feed_lowers_its_weight_also_after_it_mended_its_list() {
    let bench = Bench::start_with_policy(&["198.18.0.7", "198.18.0.8"], BREAKER);
    until(|| bench.stops("198.18.0.7")).await;
    until(|| bench.service.ruleset().is_some()).await;
    let allow = "{\"decision\": \"allow\", \"network\": \"198.18.0.7\", \"reason\": \"a partner\", \
                 \"lasts\": \"1h\"}";
    let allow = serde_json::from_str(allow).unwrap();
    let made = bench.service.add_entry(allow, "alice").await.unwrap();
    let trust = |bench: &Bench| {
        let worth = bench.service.feeds_worth(1).unwrap();
        let trust = worth.feeds.first().and_then(|feed| feed.trust);
        trust.map(|trust| (trust.weight, trust.false_positives))
    };
    assert_eq!(trust(&bench), Some((91, 1)));
    bench.call("198.18.0.8", 40);
    until(|| bench.observes("198.18.0.8")).await;
    assert_eq!(trust(&bench), Some((91, 1)), "nobody has decided");
    let (id, service) = (bench.service.breaker().all()[0].id, bench.service.clone());
    let keep = move || service.decide(id, Some(Decision::Keep), "alice").unwrap();
    tokio::task::spawn_blocking(keep).await.unwrap().unwrap();
    until(|| trust(&bench) == Some((83, 2))).await;
    bench.write("one.txt", "198.18.0.9\n");
    until(|| bench.observes("198.18.0.9")).await;
    let (dir, _) = bench.end().await;

    let bench = Bench::start_in(dir, Arc::new(FakeDataplane::new(64 << 20)));
    until(|| trust(&bench) == Some((83, 2))).await;
    until(|| bench.service.ruleset().is_some()).await;
    bench.service.end_entry(made.entry.entry.id, "alice").await.unwrap();
    assert_eq!(trust(&bench), Some((91, 1)), "the allow was taken back");
    bench.end().await;
}
