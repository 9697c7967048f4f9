use std::{fs, net::IpAddr};

use sekisho_rules::operator::OperatorEntry;

use super::*;
use crate::{
    config::HistoryConfig,
    dataplane::{Dataplane as _, fake::FakeDataplane},
    engine::{Inputs, arrivals::Arrivals, service::Service},
    history::{History, What},
    store::Store,
    testing,
};

/// A publisher with two feeds and a folder, whose daemon may die at any moment.
struct Stage {
    dir: tempfile::TempDir,
    kernel: Arc<FakeDataplane>,
    store: Store,
    publisher: Publisher,
    now: Timestamp,
}

fn service_of(kernel: &Arc<FakeDataplane>, store: &Store, inputs: &Inputs) -> Arc<Service> {
    let now = Timestamp::now();
    let service = Arc::new(Service::new(kernel.clone(), store.clone(), now));
    service.set_policy(&inputs.rulebook.policy);
    service.set_list_lifetime(std::time::Duration::from_secs(86_400));
    service
}

impl Stage {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        testing::inputs(dir.path(), &[]);
        let feed = |name| format!("  - {{name: {name}, source: {name}.txt, format: plain}}\n");
        let catalogue = format!("feeds:\n{}{}", feed("one"), feed("two"));
        fs::write(dir.path().join("feeds.yaml"), catalogue).unwrap();
        let kernel = Arc::new(FakeDataplane::new(64 << 20));
        let store = Store::open(dir.path()).unwrap();
        let publisher = Self::publisher(&dir, &kernel, &store);
        Self { dir, kernel, store, publisher, now: Timestamp::now() }
    }

    fn publisher(dir: &tempfile::TempDir, kernel: &Arc<FakeDataplane>, store: &Store) -> Publisher {
        let inputs = Inputs::read(&dir.path().join("sekisho.yaml")).unwrap();
        let service = service_of(kernel, store, &inputs);
        let history = History::new(dir.path(), &HistoryConfig::default());
        let installed = kernel.installed().unwrap();
        let arrivals = Arrivals::load(dir.path());
        Publisher::new(inputs.rulebook, service, arrivals, history, 64 << 20, installed)
    }

    /// The daemon is killed, and the next one begins on the same kernel and files.
    fn die(&mut self) {
        self.publisher = Self::publisher(&self.dir, &self.kernel, &self.store);
    }

    fn give(&mut self, feed: &str, list: &str) {
        let feeds = &self.publisher.rulebook.catalogue.feeds;
        let spec = feeds.iter().find(|spec| spec.name.to_string() == feed).unwrap();
        let list = ReadList::new(spec, list.as_bytes(), self.now);
        self.publisher.lists.insert(feed.parse().unwrap(), list);
        self.publisher.because(What::Feed { feed: feed.parse().unwrap() }, None);
    }

    fn publish(&mut self) {
        self.publisher.publish(self.now).unwrap();
    }

    fn blocked(&self, address: &str) -> bool {
        let address: IpAddr = address.parse().unwrap();
        self.kernel.ask(address, 6, Some(443)).unwrap().all() != 0
    }

    fn live(&self) -> u32 {
        self.kernel.installed().unwrap().generation.unwrap_or(0)
    }

    fn numbers(&self) -> Vec<u32> {
        let versions = self.publisher.history.versions().unwrap();
        versions.iter().map(|version| version.number).collect()
    }

    /// Keeps an entry of the operator's own.
    fn entry(&self, decision: Decision, network: &str) -> u32 {
        let entry = OperatorEntry {
            id: 0,
            decision,
            action: Action::Drop,
            network: network.parse().unwrap(),
            protocol: None,
            ports: Vec::new(),
            feed: None,
            reason: "a test".to_owned(),
            owner: "alice".to_owned(),
            since: self.now.into(),
            until: Some((self.now + std::time::Duration::from_secs(3_600)).into()),
        };
        self.store.add_entry(entry, "alice".to_owned()).unwrap()
    }

    fn end(&self, id: u32) {
        self.store.end_entry(id, "bob".to_owned(), self.now).unwrap().unwrap();
    }
}

#[test]
fn every_ruleset_is_a_version_and_what_did_not_change_is_none() {
    let mut stage = Stage::new();
    stage.give("one", "198.18.0.1\n");
    stage.publish();
    stage.publish();
    assert_eq!(stage.numbers(), [1]);
    stage.give("two", "198.18.0.2\n");
    stage.publish();
    let versions = stage.publisher.history.versions().unwrap();
    assert_eq!((versions[0].number, versions[0].entries_v4), (2, 2));
    let causes: Vec<_> = versions.iter().map(|version| version.causes[0].to_string()).collect();
    assert_eq!(causes, ["list of feed 'two'", "start"]);
    assert_eq!(versions[0].feeds[1].accepted, 1);
    let diff = stage.publisher.service.diff(1, 2, 10);
    assert!(diff.is_err(), "this service was given no history");
}

#[test]
fn a_rollback_goes_back_pins_and_outlives_the_daemon_until_it_is_ended() {
    let mut stage = Stage::new();
    stage.give("one", "198.18.0.1\n198.18.0.3\n");
    stage.publish();
    stage.give("one", "198.18.0.9\n");
    stage.publish();
    assert!(stage.blocked("198.18.0.9") && !stage.blocked("198.18.0.1"));
    let before = stage.publisher.pin(1, "alice", stage.now).unwrap();
    assert!(before.is_none());
    stage.publish();
    assert_eq!(stage.live(), 3, "it is a new version");
    assert!(stage.blocked("198.18.0.1") && !stage.blocked("198.18.0.9"));
    stage.give("one", "198.18.0.10\n");
    stage.publish();
    assert_eq!(stage.live(), 3, "new lists wait");
    let told = stage.publisher.service.check_health().degraded;
    assert!(told.iter().any(|text| text.starts_with("version 1 is pinned by alice")), "{told:?}");

    stage.die();
    stage.give("one", "198.18.0.10\n");
    stage.publish();
    assert!(stage.blocked("198.18.0.1") && !stage.blocked("198.18.0.10"), "after a restart, too");
    let newest = stage.publisher.history.versions().unwrap().remove(0);
    assert_eq!(newest.pinned_to, Some(1));
    stage.publisher.restore_pin(None).unwrap();
    stage.publish();
    assert!(stage.blocked("198.18.0.10") && !stage.blocked("198.18.0.1"));
    stage.die();
    assert!(stage.publisher.pinned.is_none());
}

#[test]
fn what_is_refused_today_stays_out_of_an_old_version() {
    let mut stage = Stage::new();
    stage.give("one", "198.18.0.1\n198.18.0.3\n198.18.0.5\n");
    stage.give("two", "198.18.0.7\n");
    stage.publish();
    let own = sekisho_rules::policy::OwnPrefix {
        network: "198.18.0.3/32".parse().unwrap(),
        name: "a new router".to_owned(),
    };
    stage.publisher.rulebook.policy.own_prefixes.push(own);
    stage.entry(Decision::Allow, "198.18.0.5/32");
    for feed in &mut stage.publisher.rulebook.catalogue.feeds {
        if *feed.name == *"two" {
            feed.action = Action::Observe;
        }
    }
    stage.publisher.pin(1, "alice", stage.now).unwrap();
    stage.publish();
    assert!(stage.blocked("198.18.0.1"));
    assert!(!stage.blocked("198.18.0.3") && !stage.blocked("198.18.0.5"));
    let ruleset = stage.publisher.service.ruleset().unwrap();
    let action = |name: &str| {
        let feeds = &ruleset.compiled.table.feeds;
        feeds.iter().find(|feed| &*feed.name == name).unwrap().action
    };
    assert_eq!((action("one"), action("two")), (Action::Drop, Action::Observe));
    // A feed that is off now stays off.
    stage.publisher.rulebook.catalogue.feeds[0].enabled = false;
    stage.publish();
    assert!(!stage.blocked("198.18.0.1"));
    // Claims end when they would have ended.
    stage.publisher.rulebook.catalogue.feeds[0].enabled = true;
    stage.now += std::time::Duration::from_secs(8 * 86_400);
    stage.publish();
    assert!(!stage.blocked("198.18.0.1"));
}

#[test]
fn the_operators_entries_are_those_of_the_version_and_those_made_since() {
    let mut stage = Stage::new();
    let (kept, ended_later) = ("198.18.1.1/32", "198.18.1.2/32");
    stage.give("one", "198.18.0.1\n");
    stage.entry(Decision::Block, kept);
    let second = stage.entry(Decision::Block, ended_later);
    stage.publish();
    stage.end(second);
    let wrong = stage.entry(Decision::Block, "198.18.1.3/32");
    stage.publish();
    assert!(!stage.blocked("198.18.1.2") && stage.blocked("198.18.1.3"));
    stage.publisher.pin(1, "alice", stage.now).unwrap();
    stage.publish();
    assert!(stage.blocked("198.18.1.1") && stage.blocked("198.18.1.2"), "as it was");
    assert!(!stage.blocked("198.18.1.3"), "which was made later");
    let fresh = stage.entry(Decision::Block, "198.18.1.4/32");
    stage.publish();
    assert!(stage.blocked("198.18.1.4"), "what is decided now counts now");
    stage.end(fresh);
    stage.end(1);
    stage.publish();
    assert!(!stage.blocked("198.18.1.4") && !stage.blocked("198.18.1.1"));
    assert!(wrong > second);
}

#[test]
fn a_rollback_that_the_kernel_refuses_leaves_everything_as_it_was() {
    let mut stage = Stage::new();
    stage.give("one", "198.18.0.1\n");
    stage.publish();
    stage.give("one", "198.18.0.2\n");
    stage.publish();
    let missing = stage.publisher.pin(7, "alice", stage.now).err().unwrap();
    assert_eq!(missing, OrderError::NoVersion(7));
    let before = stage.publisher.pin(1, "alice", stage.now).unwrap();
    stage.kernel.refuse(true);
    stage.publisher.publish(stage.now).unwrap_err();
    stage.publisher.restore_pin(before).unwrap();
    assert_eq!((stage.live(), stage.numbers()), (2, vec![2, 1]), "no version that never was live");
    stage.kernel.refuse(false);
    stage.give("one", "198.18.0.3\n");
    stage.publish();
    assert!(stage.blocked("198.18.0.3"));
}

#[test]
fn a_daemon_that_dies_at_any_step_of_a_publication_leaves_a_history_of_what_was_live() {
    let mut stage = Stage::new();
    stage.give("one", "198.18.0.1\n");
    stage.publish();
    // In the middle of writing the next version.
    fs::write(stage.dir.path().join("history/.tmpXyz"), b"half a version").unwrap();
    stage.die();
    assert_eq!((stage.live(), stage.numbers()), (1, vec![1]));
    assert!(!stage.dir.path().join("history/.tmpXyz").exists());
    // Between the version and the kernel.
    stage.give("one", "198.18.0.2\n");
    stage.publish();
    let mut never_live = stage.publisher.history.versions().unwrap().remove(0);
    never_live.number = 3;
    let table = stage.publisher.history.load(2).unwrap().unwrap().1;
    stage.publisher.history.record(&never_live, &table).unwrap();
    stage.die();
    assert_eq!((stage.live(), stage.numbers()), (2, vec![2, 1]), "3 never was live");
    // Between the kernel and what follows: the next daemon goes on from there.
    stage.give("one", "198.18.0.4\n");
    stage.publisher.asked.insert("two".parse().unwrap());
    stage.publish();
    stage.die();
    assert_eq!((stage.live(), stage.numbers()), (3, vec![3, 2, 1]));
    assert!(stage.blocked("198.18.0.4"));
    // Between the pin and the kernel: the rollback is finished.
    stage.publisher.pin(1, "alice", stage.now).unwrap();
    stage.die();
    stage.publish();
    assert!(stage.blocked("198.18.0.1") && !stage.blocked("198.18.0.4"));
    // A number is never used again, although the kernel was emptied.
    let live = stage.live();
    stage.kernel = Arc::new(FakeDataplane::new(64 << 20));
    stage.die();
    stage.publish();
    assert_eq!(stage.live(), live + 1);
}

#[test]
fn a_pinned_version_that_is_damaged_lets_no_new_list_in() {
    let mut stage = Stage::new();
    stage.give("one", "198.18.0.1\n");
    stage.publish();
    stage.give("one", "198.18.0.2\n");
    stage.publish();
    stage.publisher.pin(1, "alice", stage.now).unwrap();
    stage.publish();
    let path = stage.dir.path().join("history/0000000001.version");
    fs::write(&path, b"damage").unwrap();
    stage.die();
    stage.give("one", "198.18.0.2\n");
    let error = stage.publisher.publish(stage.now).unwrap_err().to_string();
    assert!(error.contains("version 1 is pinned and can't be read"), "{error}");
    assert!(stage.blocked("198.18.0.1"), "what is live stays");
    stage.publisher.restore_pin(None).unwrap();
    stage.publisher.asked.insert("two".parse().unwrap());
    stage.publish();
    assert!(stage.blocked("198.18.0.2"));
}
