use std::sync::atomic::{AtomicU32, Ordering};

use super::*;
use crate::subscribers::Certainty;

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_second(1_800_000_000 + seconds).unwrap()
}

fn hit(subscriber: &str, remote: &str, seconds: i64) -> Hit {
    Hit {
        subscriber: subscriber.into(),
        tenant: "acme".into(),
        attribution: Certainty::Exact,
        subscriber_address: "100.64.0.7".parse().unwrap(),
        subscriber_port: 40_000,
        remote: remote.parse().unwrap(),
        remote_port: 443,
        protocol: 6,
        class: "initiated",
        direction: "outbound",
        reason: "dropped",
        interface: "eth0".into(),
        vlans: vec![100, 7],
        vlan_tags: 2,
        encapsulation: vec!["pppoe", "ipv4-in-ipv6"],
        pppoe_session: 7,
        inner_subscriber: Some("192.0.0.2".parse().unwrap()),
        outer_remote: Some("2001:db8::1".parse().unwrap()),
        feeds: vec!["a".to_owned(), "b".to_owned()],
        malware: "Mirai".into(),
        generation: 3,
        rule: 2,
        tcp_flags: 2,
        packets: 2,
        bytes: 120,
        first_seen: at(seconds - 1),
        last_seen: at(seconds),
    }
}

fn all() -> Filter {
    Filter { limit: 100, ..Filter::default() }
}

fn remotes(page: &Page) -> Vec<&str> {
    page.hits.iter().map(|hit| hit.remote.as_str()).collect()
}

#[tokio::test]
async fn a_hit_comes_back_with_all_its_fields() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).unwrap();
    record(&store, vec![hit("alice", "198.18.0.1", 10)]).await;
    let page = store.hits(&all()).unwrap();
    let json = serde_json::to_value(&page.hits[0]).unwrap();
    let expected = serde_json::json!({
        "subscriber": "alice", "tenant": "acme", "attribution": "exact",
        "subscriber_address": "100.64.0.7", "subscriber_port": 40_000,
        "remote": "198.18.0.1", "remote_port": 443, "protocol": "tcp", "class": "initiated",
        "direction": "outbound", "action": "drop", "reason": "dropped", "interface": "eth0",
        "vlans": [100, 7], "vlan_tags": 2, "encapsulation": ["pppoe", "ipv4-in-ipv6"],
        "pppoe_session": 7, "inner_subscriber": "192.0.0.2", "outer_remote": "2001:db8::1", "feed": "a,b", "malware": "Mirai", "generation": 3,
        "rule": 2, "tcp_flags": 2, "packets": 2, "bytes": 120,
        "first_seen": "2027-01-15T08:00:09Z", "last_seen": "2027-01-15T08:00:10Z",
    });
    assert_eq!(json, expected);
}

#[tokio::test]
async fn hits_of_one_flow_within_an_hour_are_one_row() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).unwrap();
    let mut later = hit("alice", "198.18.0.1", 50);
    later.generation = 9;
    later.subscriber_port = 1;
    record(&store, vec![hit("alice", "198.18.0.1", 10)]).await;
    record(&store, vec![later]).await;
    record(&store, vec![hit("alice", "198.18.0.1", 3610)]).await;
    let page = store.hits(&all()).unwrap();
    assert_eq!(page.hits.len(), 2, "one row an hour");
    let first = &page.hits[1];
    assert_eq!((first.packets, first.bytes, first.generation), (4, 240, 9));
    assert_eq!((first.first_seen, first.last_seen), (at(9), at(50)));
    assert_eq!(first.subscriber_port, 40_000, "the first packet's");
}

#[tokio::test]
async fn what_differs_in_who_or_what_stays_apart() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).unwrap();
    let mut by_other_list = hit("alice", "198.18.0.1", 10);
    by_other_list.feeds.pop();
    let mut observed = hit("alice", "198.18.0.1", 10);
    observed.reason = "mode_observed";
    let hits =
        vec![hit("alice", "198.18.0.1", 10), hit("bob", "198.18.0.1", 10), by_other_list, observed];
    record(&store, hits).await;
    let page = store.hits(&all()).unwrap();
    assert_eq!(page.hits.len(), 4);
    assert_eq!(page.hits.iter().filter(|hit| hit.action == "observe").count(), 1);
}

#[tokio::test]
async fn filters_narrow_down() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).unwrap();
    let hits = vec![
        hit("alice", "198.18.0.1", 10),
        hit("bob", "2a00:1450::1", 4000),
        hit("bob", "198.18.0.2", 9000),
    ];
    record(&store, hits).await;
    let bob = Filter { subscriber: Some("bob".to_owned()), ..all() };
    assert_eq!(remotes(&store.hits(&bob).unwrap()), ["198.18.0.2", "2a00:1450::1"]);
    let remote = Filter { remote: "2a00:1450::1".parse().ok(), ..all() };
    assert_eq!(remotes(&store.hits(&remote).unwrap()), ["2a00:1450::1"]);
    let since = Filter { since: Some(at(4000)), ..all() };
    assert_eq!(remotes(&store.hits(&since).unwrap()), ["198.18.0.2", "2a00:1450::1"]);
    let until = Filter { until: Some(at(3999)), ..all() };
    assert_eq!(remotes(&store.hits(&until).unwrap()), ["198.18.0.1"]);
    let nobody = Filter { subscriber: Some("' OR 1 --".to_owned()), ..all() };
    assert_eq!(store.hits(&nobody).unwrap(), Page::default());
    let address = Filter { subscriber_address: "100.64.0.8".parse().ok(), ..all() };
    assert_eq!(store.hits(&address).unwrap(), Page::default());
}

#[tokio::test]
async fn pages_give_every_hit_once() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).unwrap();
    let hits = (0..25).map(|n| hit("alice", &format!("198.18.0.{n}"), n * 1000)).collect();
    record(&store, hits).await;
    let mut seen = Vec::new();
    let mut filter = Filter { limit: 10, ..Filter::default() };
    loop {
        let page = store.hits(&filter).unwrap();
        seen.extend(page.hits.iter().map(|hit| hit.remote.clone()));
        let Some(next) = page.next else { break };
        filter.after = Some(next.to_string().parse().unwrap());
    }
    let expected: Vec<_> = (0..25).rev().map(|n| format!("198.18.0.{n}")).collect();
    assert_eq!(seen, expected);
}

#[tokio::test]
async fn old_hits_are_forgotten_by_their_last_packet() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).unwrap();
    let hits = vec![hit("alice", "198.18.0.1", 10), hit("alice", "198.18.0.2", 20)];
    record(&store, hits).await;
    assert_eq!(store.forget(at(20)).await.unwrap(), 1);
    assert_eq!(remotes(&store.hits(&all()).unwrap()), ["198.18.0.2"]);
}

#[tokio::test]
async fn the_record_goes_on_after_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).unwrap();
    record(&store, vec![hit("alice", "198.18.0.1", 10)]).await;
    drop(store);
    let store = Store::open(dir.path()).unwrap();
    record(&store, vec![hit("alice", "198.18.0.1", 20)]).await;
    assert_eq!(read_hits(dir.path(), &all()).unwrap().hits[0].packets, 4);
}

#[test]
fn a_file_of_a_newer_program_is_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join(FILE);
    Connection::open(&path).unwrap().pragma_update(None, "user_version", 999).unwrap();
    let error = Store::open(dir.path()).unwrap_err().to_string();
    assert!(error.ends_with("version 999, and this program knows up to 7"), "{error}");
}

#[test]
fn a_missing_record_is_an_error_and_is_not_made() {
    let dir = tempfile::tempdir().unwrap();
    assert!(read_hits(dir.path(), &all()).is_err());
    assert!(!dir.path().join(FILE).exists());
}

/// Hits exist for listed indicators only, and hold no payload: whoever adds a column here has to
/// justify it.
#[test]
fn the_columns_are_these_and_no_others() {
    let dir = tempfile::tempdir().unwrap();
    let connection = schema::open(&dir.path().join(FILE)).unwrap();
    let mut statement = connection.prepare("SELECT name FROM pragma_table_info('hits')").unwrap();
    let columns: Vec<String> =
        statement.query_map([], |row| row.get(0)).unwrap().collect::<Result<_, _>>().unwrap();
    let expected = [
        "id",
        "hour",
        "subscriber_address",
        "remote",
        "remote_port",
        "protocol",
        "class",
        "direction",
        "reason",
        "interface",
        "vlans",
        "vlan_tags",
        "feeds",
        "malware",
        "subscriber",
        "tenant",
        "attribution",
        "generation",
        "rule",
        "subscriber_port",
        "tcp_flags",
        "packets",
        "bytes",
        "first_seen",
        "last_seen",
        "encapsulation",
        "pppoe_session",
        "inner_subscriber",
        "outer_remote",
    ];
    assert_eq!(columns, expected);
    let names = |sql: &str| -> Vec<String> {
        let mut statement = connection.prepare(sql).unwrap();
        let names = statement.query_map([], |row| row.get(0)).unwrap();
        names.map(Result::unwrap).collect()
    };
    let tables = names("SELECT name FROM sqlite_master WHERE type = 'table' ORDER BY name");
    assert_eq!(
        tables,
        [
            "breaker",
            "callers",
            "daily_callers",
            "daily_kinds",
            "daily_remotes",
            "daily_sets",
            "false_positives",
            "hits",
            "last_drain",
            "operator_entries",
            "sqlite_sequence"
        ],
        "there is no other record of traffic"
    );
    let whose =
        names("SELECT name FROM pragma_table_info('breaker') WHERE name LIKE 'subscriber_%'");
    assert_eq!(whose, ["subscribers"], "how many they were, and not who");
}

#[test]
fn the_last_days_of_one_subscriber_come_from_an_index() {
    let dir = tempfile::tempdir().unwrap();
    let connection = schema::open(&dir.path().join(FILE)).unwrap();
    let plan = query::plan(
        &connection,
        &Filter { subscriber: Some("alice".to_owned()), since: Some(at(0)), ..all() },
    );
    assert!(plan.contains("hits_subscriber (subscriber=? AND hour>?)"), "{plan}");
    assert!(!plan.contains("TEMP B-TREE"), "{plan}");
}

#[tokio::test]
async fn only_the_owner_may_read_the_record() {
    use std::os::unix::fs::PermissionsExt as _;
    let dir = tempfile::tempdir().unwrap();
    let state_dir = dir.path().join("state/below");
    let store = Store::open(&state_dir).unwrap();
    record(&store, vec![hit("alice", "198.18.0.1", 10)]).await;
    let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&state_dir), 0o700);
    let files: Vec<_> = std::fs::read_dir(&state_dir).unwrap().map(|f| f.unwrap().path()).collect();
    assert_eq!(files.len(), 3, "the file, its log and the index of that: {files:?}");
    for file in files {
        assert_eq!(mode(&file), 0o600, "{}", file.display());
    }
}

#[tokio::test]
async fn the_room_of_deleted_hits_is_given_back() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).unwrap();
    let many = (0..5_000).map(|n| Hit { remote_port: n, ..hit("alice", "198.18.0.1", 10) });
    record(&store, many.collect()).await;
    let connection = Connection::open(dir.path().join(FILE)).unwrap();
    let pragma = |name| connection.pragma_query_value(None, name, |row| row.get(0)).unwrap();
    let (mode, before): (i64, i64) = (pragma("auto_vacuum"), pragma("page_count"));
    assert_eq!(mode, 2, "incremental");
    assert_eq!(store.forget(at(60)).await.unwrap(), 5_000);
    assert_eq!(pragma("freelist_count"), 0);
    assert!(pragma("page_count") < before / 4, "{before} pages before");
}

#[tokio::test]
async fn what_the_store_refused_can_be_recorded_later() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).unwrap();
    let connection = Connection::open(dir.path().join(FILE)).unwrap();
    connection.execute_batch("ALTER TABLE hits RENAME TO gone").unwrap();
    let (hits, drain) = (Arc::new(vec![hit("alice", "198.18.0.1", 10)]), another_drain());
    store.record(Arc::clone(&hits), drain).await.unwrap_err();
    connection.execute_batch("ALTER TABLE gone RENAME TO hits").unwrap();
    store.record(hits, drain).await.unwrap();
    assert_eq!(store.hits(&all()).unwrap().hits.len(), 1);
}

#[tokio::test]
async fn a_drain_is_recorded_once_however_often_it_is_given() {
    let dir = tempfile::tempdir().unwrap();
    let (hits, drain) = (Arc::new(vec![hit("alice", "198.18.0.1", 10)]), another_drain());
    for _ in 0..3 {
        let store = Store::open(dir.path()).unwrap();
        store.record(Arc::clone(&hits), drain).await.unwrap();
    }
    let store = Store::open(dir.path()).unwrap();
    assert_eq!(store.hits(&all()).unwrap().hits[0].packets, hits[0].packets);
    // The same number of another flow table is another drain.
    let other = DrainId { ledger: drain.ledger + 1, ..drain };
    store.record(Arc::clone(&hits), other).await.unwrap();
    assert_eq!(store.hits(&all()).unwrap().hits[0].packets, 2 * hits[0].packets);
}

/// A drain that was not recorded before.
fn another_drain() -> DrainId {
    static EPOCH: AtomicU32 = AtomicU32::new(0);
    DrainId { ledger: 1, epoch: EPOCH.fetch_add(1, Ordering::Relaxed) }
}

async fn record(store: &Store, hits: Vec<Hit>) {
    store.record(Arc::new(hits), another_drain()).await.unwrap();
}
