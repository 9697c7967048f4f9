use std::collections::{BTreeMap, BTreeSet};

use fastrand::Rng;
use jiff::{SignedDuration, civil::Date, tz::TimeZone};

use super::*;
use crate::subscribers::Certainty;

/// Late on a day.
fn now() -> Timestamp {
    "2027-01-15T21:30:00Z".parse().unwrap()
}

fn hit(rng: &mut Rng, hours_ago: i64) -> Hit {
    let line = rng.u32(..9_000);
    let is_known = !line.is_multiple_of(5);
    let last_seen = now() - SignedDuration::from_secs(hours_ago * 3_600 + rng.i64(0..3_600));
    let lists = [&["a"][..], &["b"], &["a", "b"]];
    Hit {
        subscriber: if is_known { format!("line-{line}").into() } else { "".into() },
        tenant: ["acme", "north"][line as usize % 2].into(),
        attribution: if is_known { Certainty::Exact } else { Certainty::Unknown },
        subscriber_address: std::net::Ipv4Addr::from(0x6440_0000 + line).into(),
        subscriber_port: 40_000,
        remote: std::net::Ipv4Addr::from(0xc612_0000 + rng.u32(..40)).into(),
        remote_port: 443,
        protocol: 6,
        class: ["initiated", "response", "other"][rng.usize(..3)],
        direction: ["outbound", "inbound"][rng.usize(..2)],
        reason: ["dropped", "observed", "rejected"][rng.usize(..3)],
        interface: "eth0".into(),
        vlans: Vec::new(),
        vlan_tags: 0,
        encapsulation: Vec::new(),
        pppoe_session: 0,
        inner_subscriber: None,
        outer_remote: None,
        feeds: lists[rng.usize(..3)].iter().map(|&list| list.to_owned()).collect(),
        malware: "".into(),
        generation: 1,
        rule: 2,
        tcp_flags: 2,
        packets: rng.u64(1..9),
        bytes: rng.u64(60..900),
        first_seen: last_seen - SignedDuration::from_secs(rng.i64(0..1_800)),
        last_seen,
    }
}

/// Some days of hits, many of the same flows, in the order of time and some late.
async fn write(store: &Store) {
    let mut rng = Rng::with_seed(7);
    for (drain, hours_ago) in (0..80).rev().enumerate() {
        let mut hits: Vec<Hit> = (0..100).map(|_| hit(&mut rng, hours_ago)).collect();
        let again: Vec<Hit> = hits.iter().take(20).cloned().collect();
        hits.extend(again);
        hits.push(hit(&mut rng, hours_ago + 30));
        let id = DrainId { ledger: 1, epoch: drain as u32 + 1 };
        store.record(Arc::new(hits), id).await.unwrap();
    }
}

#[derive(Default)]
struct Naive {
    counts: Counts,
    who: BTreeSet<(String, String)>,
}

impl Naive {
    fn add(&mut self, hit: &StoredHit) {
        self.counts.flows += 1;
        self.counts.packets += hit.packets;
        self.counts.bytes += hit.bytes;
        self.who.insert(who(hit));
        self.counts.subscribers = self.who.len() as u64;
    }
}

fn who(hit: &StoredHit) -> (String, String) {
    let name = if hit.subscriber.is_empty() { &hit.subscriber_address } else { &hit.subscriber };
    (name.clone(), hit.tenant.clone())
}

fn date(time: Timestamp) -> Date {
    time.to_zoned(TimeZone::UTC).date()
}

fn sorted<K: Ord + Clone>(
    hits: &[StoredHit],
    keys: impl Fn(&StoredHit) -> Vec<K>,
) -> Vec<(K, Counts)> {
    let mut all: BTreeMap<K, Naive> = BTreeMap::new();
    for hit in hits {
        keys(hit).into_iter().for_each(|key| all.entry(key).or_default().add(hit));
    }
    let mut all: Vec<_> = all.into_iter().map(|(key, naive)| (key, naive.counts)).collect();
    all.sort_by_key(|(_, counts)| std::cmp::Reverse((counts.flows, counts.packets)));
    all
}

/// What an overview says, by going through all hits.
fn naive(store: &Store, days: u32) -> Overview {
    let first = date(now() - SignedDuration::from_hours(24 * i64::from(days - 1)));
    let all = Filter { limit: LARGEST_PAGE, ..Filter::default() };
    let page = store.hits(&all).unwrap();
    assert_eq!(page.next, None);
    let of_window = |hit: &StoredHit| (first..=date(now())).contains(&date(hit.last_seen));
    let hits: Vec<StoredHit> = page.hits.into_iter().filter(of_window).collect();
    let shares = |keys: fn(&StoredHit) -> Vec<String>| {
        sorted(&hits, keys).into_iter().map(|(name, counts)| Share { name, counts }).collect()
    };
    let by_day: BTreeMap<Date, Counts> =
        sorted(&hits, |hit| vec![date(hit.last_seen)]).into_iter().collect();
    let day = |day: Date| Day { day, counts: by_day.get(&day).copied().unwrap_or_default() };
    let outcome = |((action, reason), counts)| Outcome { action, reason, counts };
    let remote = |(remote, Counts { flows, packets, .. })| OftenMet { remote, flows, packets };
    let busy = |((subscriber, tenant), Counts { flows, packets, .. })| Busy {
        subscriber,
        tenant,
        flows,
        packets,
    };
    let remotes = sorted(&hits, |hit| vec![hit.remote.clone()]).into_iter().map(remote);
    let subscribers = sorted(&hits, |hit| vec![who(hit)]).into_iter().map(busy);
    let outcomes = sorted(&hits, |hit| vec![(hit.action, hit.reason.clone())]);
    Overview {
        total: sorted(&hits, |_| vec![()]).first().map_or(Counts::default(), |(_, all)| *all),
        days: first.series(jiff::Span::new().days(1)).take(days as usize).map(day).collect(),
        lists: shares(|hit| hit.feed.split(',').map(str::to_owned).collect()),
        outcomes: outcomes.into_iter().map(outcome).collect(),
        classes: shares(|hit| vec![hit.class.clone()]),
        directions: shares(|hit| vec![hit.direction.clone()]),
        remotes: remotes.take(MOST_NAMED).collect(),
        subscribers: subscribers.take(MOST_NAMED).collect(),
    }
}

fn assert_exact(store: &Store) {
    for days in [1, 2, 4, 30] {
        assert_eq!(store.overview(now(), days).unwrap(), naive(store, days), "{days} days");
    }
}

#[tokio::test]
async fn an_overview_says_what_going_through_all_hits_says() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).unwrap();
    assert_exact(&store);
    write(&store).await;
    assert_exact(&store);
    let Overview { total, days, lists, .. } = store.overview(now(), 30).unwrap();
    assert!(total.subscribers > rollup::PART as u64 && days.len() == 30, "{total:?}");
    assert!(lists.iter().map(|list| list.counts.flows).sum::<u64>() > total.flows);
}

#[tokio::test]
async fn an_overview_forgets_what_the_record_forgets() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).unwrap();
    write(&store).await;
    let callers = || {
        let connection = Connection::open(dir.path().join(FILE)).unwrap();
        let count = "SELECT count(*) FROM callers";
        connection.query_row(count, [], |row| row.get::<_, i64>(0)).unwrap().unsigned_abs()
    };
    for hours in [70, 40, 37, 3] {
        let before = store.overview(now(), 30).unwrap().total.flows;
        assert!(store.forget(now() - SignedDuration::from_hours(hours)).await.unwrap() > 0);
        assert_exact(&store);
        let total = store.overview(now(), 30).unwrap().total;
        assert!(total.flows < before);
        assert_eq!(callers(), total.subscribers, "nobody is remembered without a hit");
    }
    store.forget(now() + SignedDuration::from_hours(1)).await.unwrap();
    assert_eq!(callers(), 0);
    assert_exact(&store);
}

#[tokio::test]
async fn hits_of_before_there_were_overviews_are_in_them() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).unwrap();
    write(&store).await;
    drop(store);
    let connection = Connection::open(dir.path().join(FILE)).unwrap();
    for table in ["daily_kinds", "daily_remotes", "daily_callers", "daily_sets", "callers"] {
        connection.execute_batch(&format!("DROP TABLE {table}")).unwrap();
    }
    connection.pragma_update(None, "user_version", 6).unwrap();
    drop(connection);
    let error = read_overview(dir.path(), now(), 30).unwrap_err().to_string();
    assert!(error.ends_with("the daemon makes them when it starts next"), "{error}");
    assert_exact(&Store::open(dir.path()).unwrap());
}

#[tokio::test]
async fn an_overview_does_not_read_the_hits() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).unwrap();
    write(&store).await;
    let overview = store.overview(now(), 30).unwrap();
    let connection = Connection::open(dir.path().join(FILE)).unwrap();
    connection.execute_batch("ALTER TABLE hits RENAME TO gone").unwrap();
    assert_eq!(store.overview(now(), 30).unwrap(), overview);
}
