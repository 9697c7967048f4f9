use std::{fs, net::IpAddr};

use sekisho_rules::feed::Action;

use super::*;
use crate::{
    dataplane::fake::FakeDataplane,
    store::{Filter, StoredHit},
    testing::{self, until},
};

#[path = "rollout_tests.rs"]
mod rollout;

/// An engine on a fake kernel, with a folder of its own.
struct Bench {
    dir: tempfile::TempDir,
    kernel: Arc<FakeDataplane>,
    service: Arc<Service>,
    store: Store,
    stop: watch::Sender<bool>,
    reload: mpsc::Sender<()>,
    task: JoinHandle<Result<(), EngineError>>,
}

impl Bench {
    fn start(list: &[&str]) -> Self {
        let dir = tempfile::tempdir().unwrap();
        testing::inputs(dir.path(), list);
        Self::start_in(dir, Arc::new(FakeDataplane::new(64 << 20)))
    }

    fn start_in(dir: tempfile::TempDir, kernel: Arc<FakeDataplane>) -> Self {
        let config = dir.path().join("sekisho.yaml");
        let inputs = Inputs::read(&config).unwrap();
        let store = Store::open(dir.path()).unwrap();
        let dataplane: Arc<dyn Dataplane> = kernel.clone();
        let engine = Engine::new(inputs, Some(config), dataplane, store.clone());
        let service = engine.service();
        let (stop, shutdown) = watch::channel(false);
        let (reload, asked) = mpsc::channel(1);
        let task = tokio::spawn(engine.run(shutdown, asked));
        Self { dir, kernel, service, store, stop, reload, task }
    }

    fn write(&self, name: &str, text: &str) {
        fs::write(self.dir.path().join(name), text).unwrap();
    }

    fn drops(&self, remote: &str) -> bool {
        let remote: IpAddr = remote.parse().unwrap();
        self.kernel.ask(remote, 6, Some(443)).unwrap().all() != 0
    }

    fn hits(&self) -> Vec<StoredHit> {
        self.store.hits(&Filter { limit: 100, ..Filter::default() }).unwrap().hits
    }

    async fn end(self) -> (tempfile::TempDir, Arc<FakeDataplane>) {
        self.stop.send_replace(true);
        self.task.await.unwrap().unwrap();
        (self.dir, self.kernel)
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_list_becomes_a_ruleset_and_news_another() {
    let bench = Bench::start(&["198.18.0.7"]);
    until(|| bench.drops("198.18.0.7")).await;
    assert!(bench.kernel.installed().unwrap().lease > Duration::from_secs(23 * 3600));
    bench.write("one.txt", "198.18.0.8\n");
    until(|| bench.drops("198.18.0.8")).await;
    assert!(!bench.drops("198.18.0.7"));
    bench.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_running_daemon_puts_right_what_others_change() {
    let bench = Bench::start(&["198.18.0.7"]);
    until(|| bench.drops("198.18.0.7")).await;
    // The worker hears of the next confirmation when it is done with publishing.
    let confirmed = |service: &Service| service.feeds()[0].successes;
    let before = confirmed(&bench.service);
    until(|| confirmed(&bench.service) > before).await;
    bench.kernel.swap_image(None);
    until(|| bench.drops("198.18.0.7")).await;
    let published = bench.kernel.published();
    bench.kernel.swap_image(Some(testing::image(9, &[("198.18.0.9/32", "x", None, None)])));
    until(|| bench.drops("198.18.0.7")).await;
    assert_eq!(bench.kernel.published(), published, "the one that was live is put back");
    bench.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_ruleset_that_can_not_be_put_back_is_built_anew_although_no_list_changed() {
    let bench = Bench::start(&["198.18.0.7"]);
    until(|| bench.drops("198.18.0.7")).await;
    let published = bench.kernel.published();
    bench.kernel.refuse_repairs(true);
    bench.kernel.swap_image(None);
    until(|| bench.kernel.published() > published).await;
    assert!(bench.drops("198.18.0.7"));
    until(|| bench.service.check_health().ok).await;
    bench.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_list_that_stays_the_same_publishes_nothing() {
    let bench = Bench::start(&["198.18.0.7"]);
    until(|| bench.drops("198.18.0.7")).await;
    let published = bench.kernel.published();
    let confirmed = |service: &Service| service.feeds()[0].successes;
    let before = confirmed(&bench.service);
    until(|| confirmed(&bench.service) > before + 1).await;
    assert_eq!(bench.kernel.published(), published);
    bench.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restart_without_its_source_goes_on_with_the_last_good_list() {
    let bench = Bench::start(&["198.18.0.7"]);
    until(|| bench.drops("198.18.0.7")).await;
    let generation = bench.kernel.installed().unwrap().generation;
    let (dir, _) = bench.end().await;
    fs::remove_file(dir.path().join("one.txt")).unwrap();
    let bench = Bench::start_in(dir, Arc::new(FakeDataplane::new(64 << 20)));
    until(|| bench.drops("198.18.0.7")).await;
    until(|| bench.service.feeds()[0].trouble.is_some()).await;
    assert!(bench.drops("198.18.0.7"));
    assert_eq!(generation, Some(2), "an empty ruleset came before the list");
    bench.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_any_list_an_adopted_ruleset_stays() {
    let dir = tempfile::tempdir().unwrap();
    testing::inputs(dir.path(), &[]);
    fs::remove_file(dir.path().join("one.txt")).unwrap();
    let kernel = Arc::new(FakeDataplane::new(64 << 20));
    kernel.publish(&testing::image(41, &[("198.18.0.7/32", "one", None, None)])).unwrap();
    let bench = Bench::start_in(dir, kernel);
    until(|| bench.service.feeds().first().is_some_and(|feed| feed.trouble.is_some())).await;
    assert!(bench.drops("198.18.0.7"));
    bench.write("one.txt", "198.18.0.8\n");
    until(|| bench.drops("198.18.0.8")).await;
    assert_eq!(bench.kernel.installed().unwrap().generation, Some(42));
    bench.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn hits_are_recorded_with_names_and_the_last_ones_at_the_end() {
    let bench = Bench::start(&["198.18.0.7"]);
    until(|| bench.drops("198.18.0.7")).await;
    let mut row = testing::row("100.64.0.7", "198.18.0.7", 443);
    row.key.decision.generation = bench.kernel.installed().unwrap().generation.unwrap();
    bench.kernel.push_row(row);
    until(|| !bench.hits().is_empty()).await;
    let hit = bench.hits().remove(0);
    assert_eq!((hit.subscriber.as_str(), hit.feed.as_str()), ("alice", "one"));
    assert_eq!(hit.interface, "fake0");
    let store = bench.store.clone();
    let mut late = row;
    late.key.conversation.remote_port = 80;
    bench.kernel.push_row(late);
    let _kept = bench.end().await;
    assert_eq!(store.hits(&Filter { limit: 9, ..Filter::default() }).unwrap().hits.len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reload_takes_new_files_and_a_broken_one_changes_nothing() {
    let bench = Bench::start(&["198.18.0.7"]);
    until(|| bench.drops("198.18.0.7")).await;
    bench.write("feeds.yaml", "feeds:\n  - {name: one, colour: red}\n");
    bench.reload.send(()).await.unwrap();
    bench.write("two.txt", "198.18.0.9\n");
    // The second message is taken after the first one was worked off.
    bench.reload.send(()).await.unwrap();
    until(|| bench.reload.capacity() == 1).await;
    assert!(bench.drops("198.18.0.7"), "the broken catalogue changed nothing");
    let catalogue = "feeds:\n  - {name: two, source: two.txt, format: plain, refresh: 1s}\n";
    bench.write("feeds.yaml", catalogue);
    bench.reload.send(()).await.unwrap();
    until(|| bench.drops("198.18.0.9")).await;
    assert!(!bench.drops("198.18.0.7"));
    let names: Vec<_> =
        bench.service.feeds().into_iter().map(|feed| feed.name.to_string()).collect();
    assert_eq!(names, ["two"]);
    assert_eq!(bench.kernel.installed().unwrap().lists, ["one", "two"], "slots stay");
    bench.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_kernel_that_refuses_is_told_in_health_and_tried_again() {
    let dir = tempfile::tempdir().unwrap();
    testing::inputs(dir.path(), &["198.18.0.7"]);
    let kernel = Arc::new(FakeDataplane::new(64 << 20));
    kernel.refuse(true);
    let bench = Bench::start_in(dir, kernel);
    until(|| !bench.service.check_health().ok).await;
    until(|| bench.service.check_health().reasons.iter().any(|r| r.contains("BPF_MAP"))).await;
    bench.kernel.refuse(false);
    bench.write("one.txt", "198.18.0.8\n");
    until(|| bench.drops("198.18.0.8")).await;
    until(|| bench.service.check_health().ok).await;
    bench.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_lease_ends_a_lifetime_after_the_last_confirmation() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).unwrap();
    let now = Timestamp::from_second(1_800_000_000).unwrap();
    let service = Service::new(Arc::new(FakeDataplane::new(8 << 20)), store, now);
    service.set_list_lifetime(Duration::from_secs(100));
    assert_eq!(service.lease(now), None, "nothing was ever confirmed");
    let mut status = testing::status("one");
    status.confirmed_at = Some(now);
    service.set_feed(status.clone());
    status.name = "two".parse().unwrap();
    status.confirmed_at = None;
    service.set_feed(status);
    assert_eq!(service.lease(now + Duration::from_secs(30)), Some(Duration::from_secs(70)));
    assert_eq!(service.lease(now + Duration::from_secs(101)), Some(Duration::ZERO));
}

/// Two feeds on a fake kernel that holds a ruleset of both, and nothing that runs.
fn two_feeds(dir: &tempfile::TempDir) -> (Publisher, Arc<FakeDataplane>, Arc<Service>) {
    testing::inputs(dir.path(), &[]);
    let feed = |name| format!("  - {{name: {name}, source: {name}.txt, format: plain}}\n");
    let catalogue = format!("feeds:\n{}{}", feed("one"), feed("two"));
    fs::write(dir.path().join("feeds.yaml"), catalogue).unwrap();
    let inputs = Inputs::read(&dir.path().join("sekisho.yaml")).unwrap();
    let kernel = Arc::new(FakeDataplane::new(64 << 20));
    let rows = [("198.18.0.1/32", "one", None, None), ("198.18.0.2/32", "two", None, None)];
    kernel.publish(&testing::image(41, &rows)).unwrap();
    let store = Store::open(dir.path()).unwrap();
    let rulebook = inputs.rulebook.clone();
    let engine = Engine::new(inputs, None, kernel.clone(), store);
    let installed = kernel.installed().unwrap();
    let history = History::new(dir.path(), &crate::config::HistoryConfig::default());
    let arrivals = Arrivals::load(dir.path());
    let publisher =
        Publisher::new(rulebook, engine.service(), arrivals, history, 64 << 20, installed);
    (publisher, kernel, engine.service())
}

fn give(publisher: &mut Publisher, feed: &str, list: &str, at: Timestamp) {
    let feeds = &publisher.rulebook.catalogue.feeds;
    let spec = feeds.iter().find(|spec| spec.name.to_string() == feed).unwrap();
    let list = ReadList::new(spec, list.as_bytes(), at);
    publisher.lists.insert(feed.parse().unwrap(), list);
}

#[test]
fn a_feed_whose_source_is_silent_only_observes_however_fresh_others_are() {
    let dir = tempfile::tempdir().unwrap();
    let (mut publisher, _, service) = two_feeds(&dir);
    let start = Timestamp::from_second(1_800_000_000).unwrap();
    let hours = |n: u64| start + Duration::from_secs(n * 3600);
    let actions = || {
        let ruleset = service.ruleset().unwrap();
        let feeds = ruleset.compiled.table.feeds.iter();
        feeds.map(|feed| feed.action.as_str()).collect::<Vec<_>>()
    };
    give(&mut publisher, "one", "198.18.0.1\n", start);
    give(&mut publisher, "two", "198.18.0.2\n", hours(20));
    let next = publisher.publish(hours(20)).unwrap();
    assert_eq!(actions(), ["drop", "drop"]);
    assert_eq!(next, Some(hours(24)), "then it is compiled again");
    let next = publisher.publish(hours(24)).unwrap();
    assert_eq!(actions(), ["observe", "drop"]);
    assert_eq!(next, Some(hours(44)));
    let degraded = service.check_health().degraded;
    assert!(
        degraded.iter().any(|told| told.starts_with("feed 'one' only observes")),
        "{degraded:?}"
    );
    give(&mut publisher, "one", "198.18.0.1\n", hours(25));
    publisher.publish(hours(25)).unwrap();
    assert_eq!(actions(), ["drop", "drop"]);
    assert_eq!(service.check_health().degraded, [""; 0]);
}

#[test]
fn an_adopted_ruleset_is_replaced_once_all_feeds_in_it_have_a_list_or_were_asked() {
    let dir = tempfile::tempdir().unwrap();
    let (mut publisher, kernel, _) = two_feeds(&dir);
    let now = Timestamp::from_second(1_800_000_000).unwrap();
    let generation = |kernel: &FakeDataplane| kernel.installed().unwrap().generation;
    give(&mut publisher, "one", "198.18.0.9\n", now);
    assert_eq!(publisher.publish(now).unwrap(), None);
    assert_eq!(generation(&kernel), Some(41), "the other feed may yet have a list");
    publisher.asked.insert("two".parse().unwrap());
    publisher.publish(now).unwrap();
    assert_eq!(generation(&kernel), Some(42));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_feed_that_fails_does_not_hold_back_the_others_for_good() {
    let dir = tempfile::tempdir().unwrap();
    let (_, kernel, _) = two_feeds(&dir);
    fs::write(dir.path().join("one.txt"), "198.18.0.9\n").unwrap();
    let bench = Bench::start_in(dir, kernel);
    until(|| bench.drops("198.18.0.9")).await;
    assert!(!bench.drops("198.18.0.2"), "its source was asked and had nothing");
    bench.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn networks_of_subscribers_are_never_listed() {
    let bench = Bench::start(&["198.18.0.7", "198.18.0.8"]);
    until(|| bench.drops("198.18.0.7")).await;
    bench.write("subscribers.csv", "prefix,subscriber,tenant,from,to\n198.18.0.7,bob,,,\n");
    bench.reload.send(()).await.unwrap();
    until(|| !bench.drops("198.18.0.7")).await;
    assert!(bench.drops("198.18.0.8"));
    // The kernel has it a moment before the daemon says so.
    until(|| bench.service.ruleset_report().is_some_and(|report| !report.refused.is_empty())).await;
    let report = bench.service.ruleset_report().unwrap();
    let refused = serde_json::to_value(&report.refused[0]).unwrap().to_string();
    assert!(refused.contains("own_prefix") && refused.contains("subscribers"), "{refused}");
    bench.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reload_reaches_feeds_that_run() {
    use crate::feeds::web::{Web, page};

    let web = Web::start(|_| page("200 OK", "", b"198.18.0.7\n"));
    let dir = tempfile::tempdir().unwrap();
    testing::inputs(dir.path(), &[]);
    let row = format!("feeds:\n  - {{name: one, source: '{}', format: plain}}\n", web.url("/"));
    fs::write(dir.path().join("feeds.yaml"), row).unwrap();
    let config = fs::read_to_string(dir.path().join("sekisho.yaml")).unwrap();
    let with = |contact: &str| format!("{config}fetch: {{floor: 1s, contact: {contact}}}\n");
    fs::write(dir.path().join("sekisho.yaml"), with("first")).unwrap();
    let bench = Bench::start_in(dir, Arc::new(FakeDataplane::new(64 << 20)));
    let asked_by = |who: &str| web.asked().iter().any(|request| request.head.contains(who));
    until(|| asked_by("(first)")).await;
    bench.write("sekisho.yaml", &with("second"));
    bench.reload.send(()).await.unwrap();
    until(|| asked_by("(second)")).await;
    bench.end().await;
}

#[test]
fn health_names_a_feed_whose_claims_have_not_changed_for_too_long() {
    let dir = tempfile::tempdir().unwrap();
    let (_, _, service) = two_feeds(&dir);
    let days = |n: u64| Timestamp::now() - Duration::from_secs(n * 86_400);
    for (from, told) in [
        (days(29), &[][..]),
        (
            days(40),
            &["feed 'one' is stale: its claims have not changed for 40 days, more than its \
               max_content_age (30d)"],
        ),
    ] {
        let mut status = testing::status("one");
        (status.content_from, status.max_content_age) = (Some(from), Some(Period::days(30)));
        service.set_feed(status);
        assert_eq!(service.check_health().degraded, told);
    }
}

#[test]
fn health_names_the_switch_and_packets_that_cannot_be_read() {
    use sekisho_abi::{
        reason::Reason,
        record::{Count, Mode},
    };
    let dir = tempfile::tempdir().unwrap();
    let (_, kernel, service) = two_feeds(&dir);
    assert_eq!(service.check_health().degraded, [""; 0]);
    kernel.change_modes(&mut |modes| modes.global = Mode::Bypass as u8).unwrap();
    assert_eq!(service.check_health().degraded, ["the mode is bypass: nothing is dropped"]);
    let counts = |read, unread| {
        let mut by_reason = [Count::default(); Reason::COUNT];
        by_reason[Reason::NotListed as usize].packets = read;
        by_reason[Reason::TruncatedIpv4 as usize].packets = unread;
        [crate::dataplane::PortCounts { slot: 0, by_reason }]
    };
    let told = || service.check_health().reasons.iter().any(|reason| reason.contains("1.5%"));
    service.watch_parsing(&counts(10_000, 9_000));
    assert!(!told(), "what was before the start does not count");
    service.watch_parsing(&counts(10_985, 9_015));
    assert!(told(), "{:?}", service.check_health());
    service.watch_parsing(&counts(20_000, 9_016));
    assert!(!told());
    service.watch_parsing(&counts(20_010, 9_026));
    assert!(!told(), "twenty packets tell nothing");
}

fn own_entry(decision: &str, network: &str, lasts: &str) -> entries::NewEntry {
    let text = format!(
        "{{\"decision\": \"{decision}\", \"network\": \"{network}\", \"reason\": \"a test\",
          \"lasts\": \"{lasts}\"}}"
    );
    serde_json::from_str(&text).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_operators_entries_outlive_the_daemon() {
    let bench = Bench::start(&["198.18.0.7", "198.18.0.8"]);
    until(|| bench.drops("198.18.0.7")).await;
    until(|| bench.service.ruleset().is_some()).await;
    bench.service.add_entry(own_entry("allow", "198.18.0.7", "1h"), "alice").await.unwrap();
    bench.service.add_entry(own_entry("block", "198.18.0.9", "1h"), "alice").await.unwrap();
    assert!(!bench.drops("198.18.0.7") && bench.drops("198.18.0.9"));
    let mut unknown = own_entry("suppress", "198.18.0.8", "1h");
    unknown.feed = Some("onee".parse().unwrap());
    let refusal = bench.service.add_entry(unknown, "alice").await.unwrap_err().to_string();
    assert_eq!(refusal, "feed: no feed 'onee' is enabled");
    let (dir, kernel) = bench.end().await;
    let bench = Bench::start_in(dir, kernel);
    until(|| bench.service.ruleset().is_some()).await;
    assert!(!bench.drops("198.18.0.7") && bench.drops("198.18.0.8") && bench.drops("198.18.0.9"));
    bench.end().await;
}

#[test]
fn an_entry_ends_by_itself_and_says_when_to_compile_again() {
    let dir = tempfile::tempdir().unwrap();
    let (mut publisher, kernel, service) = two_feeds(&dir);
    let now = Timestamp::now();
    give(&mut publisher, "one", "198.18.0.1\n", now);
    give(&mut publisher, "two", "198.18.0.2\n", now);
    publisher.publish(now).unwrap();
    let mut allow = sekisho_rules::operator::OperatorEntry {
        id: 0,
        decision: sekisho_rules::operator::Decision::Allow,
        action: Action::Drop,
        network: "198.18.0.1/32".parse().unwrap(),
        protocol: None,
        ports: Vec::new(),
        feed: None,
        reason: "a test".to_owned(),
        owner: "alice".to_owned(),
        since: now.into(),
        until: Some((now + Duration::from_secs(600)).into()),
    };
    service.store().add_entry(allow.clone(), "alice".to_owned()).unwrap();
    let lapses = publisher.publish(now).unwrap().unwrap();
    assert_eq!(lapses.as_second(), now.as_second() + 600);
    let asked = |address: &str| kernel.ask(address.parse().unwrap(), 6, Some(443)).unwrap().all();
    assert_eq!(asked("198.18.0.1"), 0);
    publisher.publish(now + Duration::from_secs(601)).unwrap();
    assert_ne!(asked("198.18.0.1"), 0);
    // The same number is never given again.
    allow.until = None;
    allow.decision = sekisho_rules::operator::Decision::Suppress;
    let id = service.store().add_entry(allow, "alice".to_owned()).unwrap();
    assert_eq!(id, 2);
}
