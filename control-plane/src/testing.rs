//! Small rulesets, rows and subscribers for the tests of this crate.

use std::{fs, path::Path, sync::Arc};

use sekisho_abi::{
    flow::{ConversationKey, Decision, FlowKey, FlowTotals, LinkKey},
    image::{Image, ListSet},
    reason::Reason,
    record::{Address, Direction, FlagClass},
};
use sekisho_rules::{
    compile::{Compiled, FeedReport},
    demotion::Demotion,
    feed::Action,
    indicator::{Protocol, Traffic},
    moment::Moment,
    overlap::Overlap,
    policy::Trust,
    refusal::RefusalReason,
    table::{Claim, Entry, Table, TableFeed},
};

use crate::{
    dataplane::{
        FlowRow,
        tables::{self, Slots},
    },
    engine::Inputs,
    feeds::FeedStatus,
    hits::Generation,
    subscribers::Subscribers,
};

/// Network, feed, TCP port, malware.
pub(crate) type Row<'a> = (&'a str, &'a str, Option<u16>, Option<&'a str>);

/// The image of rows that are sorted by network.
pub(crate) fn image(number: u32, rows: &[Row<'_>]) -> Image {
    tables::build(&table(rows), &Slots::default(), number, 8 << 20).unwrap().image
}

/// A ruleset, and the list sets of its rules. Rows are sorted by network.
pub(crate) fn generation(number: u32, rows: &[Row<'_>]) -> (Generation, Vec<ListSet>) {
    let table = table(rows);
    let built = tables::build(&table, &Slots::default(), number, 8 << 20).unwrap();
    let rules = built.image.rules().iter().map(|lists| lists.all()).collect();
    let compiled = Compiled { table, ..Compiled::default() };
    (Generation::new(number, built.slots, Arc::new(compiled)), rules)
}

/// The table of rows that are sorted by network.
pub(crate) fn table(rows: &[Row<'_>]) -> Table {
    let mut table = Table::default();
    for &(network, feed, port, malware) in rows {
        let known = table.feeds.iter().position(|known| &*known.name == feed);
        let slot = known.unwrap_or_else(|| {
            table.feeds.push(TableFeed { name: feed.into(), action: Action::Drop });
            table.feeds.len() - 1
        });
        let claim = Claim {
            malware: malware.map(Into::into),
            ..Claim::new(
                slot as u8,
                Traffic { protocol: port.map(|_| Protocol::Tcp), port },
                Moment::MAX,
            )
        };
        let claims_at = table.claims.len() as u32;
        table.claims.push(claim);
        let network = network.parse().unwrap();
        match table.v4.last_mut().filter(|last| last.network == network) {
            Some(last) => last.claims_len += 1,
            None => table.v4.push(Entry { network, claims_at, claims_len: 1 }),
        }
    }
    table
}

/// The first rule of a feed: the canary's address comes before those that these tests list.
pub(crate) const FIRST_RULE: u16 = 2;

/// A flow of 2 packets and 120 bytes, from the first second to the second.
pub(crate) fn row(subscriber: &str, remote: &str, port: u16) -> FlowRow {
    let address = |text: &str| Address::from(text.parse::<std::net::IpAddr>().unwrap());
    FlowRow {
        key: FlowKey {
            subscriber: address(subscriber),
            remote: address(remote),
            link: LinkKey::default(),
            conversation: ConversationKey {
                remote_port: port,
                protocol: 6,
                class: FlagClass::Initiated as u8,
                direction: Direction::Outbound as u8,
                port: 0,
            },
            decision: Decision { generation: 1, rule: FIRST_RULE, reason: Reason::Dropped as u8 },
        },
        totals: FlowTotals {
            packets: 2,
            bytes: 120,
            first_ns: 1_000_000_000,
            last_ns: 2_000_000_000,
            subscriber_port: 40_000,
            tcp_flags: 2,
            inner_subscriber: Address::v6(0, 0),
            outer_remote: Address::v6(0, 0),
        },
    }
}

/// Subscribers from the rows of a CSV file.
pub(crate) fn subscribers(rows: &str) -> Subscribers {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("subscribers.csv");
    fs::write(&path, format!("prefix,subscriber,tenant,from,to\n{rows}")).unwrap();
    Subscribers::read(Path::new(&path)).unwrap()
}

/// The account of a feed of which one indicator was refused.
pub(crate) fn report(feed: &str) -> FeedReport {
    FeedReport {
        name: feed.parse().unwrap(),
        indicators: 1,
        accepted: 0,
        rejected: 0,
        refused: 1,
        refused_by_reason: [(RefusalReason::Reserved, 1)].into(),
        demoted_by_reason: [(Demotion::New, 1)].into(),
        overlap: Overlap { networks: 3, unique: 2, shared: [("two".into(), 1)].into() },
        trust: Trust { given: 100, weight: 91, false_positives: 1 },
        warned: 0,
        named: 0,
        skipped: 0,
        stamp: None,
        failure: None,
    }
}

/// Waits for a condition, for half a minute at most.
pub(crate) async fn until(mut condition: impl FnMut() -> bool) {
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(30);
    while !condition() {
        assert!(std::time::Instant::now() < deadline, "waited in vain");
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
}

/// Writes the files of a daemon with one feed, which is a file with this list, and reads them.
pub(crate) fn inputs(dir: &Path, list: &[&str]) -> Inputs {
    let write = |name: &str, text: &str| fs::write(dir.join(name), text).unwrap();
    write("one.txt", &format!("# one\n{}\n", list.join("\n")));
    write("feeds.yaml", "feeds:\n  - {name: one, source: one.txt, format: plain, refresh: 1s}\n");
    write("subscribers.csv", "prefix,subscriber,tenant,from,to\n100.64.0.7,alice,acme,,\n");
    // No list that ships: test networks must be listable whatever these say.
    let config = "interfaces: [{name: fake0, role: subscriber}]\nfeeds: feeds.yaml\n\
                  never_block: {shipped: false}\nstate_dir: .\nsubscribers: {csv: subscribers.csv}\n\
                  api: {listen: '127.0.0.1:0'}\n";
    write("sekisho.yaml", config);
    Inputs::read(&dir.join("sekisho.yaml")).unwrap()
}

/// A feed that was never asked.
pub(crate) fn status(feed: &str) -> FeedStatus {
    FeedStatus {
        name: feed.parse().unwrap(),
        source: String::new(),
        fetched_at: None,
        confirmed_at: None,
        stamp: None,
        content_from: None,
        max_content_age: None,
        bytes: 0,
        indicators: 0,
        named: 0,
        rejected: 0,
        trouble: None,
        failures: 0,
        successes: 0,
        failures_by_reason: Default::default(),
        next_at: None,
        held: None,
    }
}
