//! Tables to bytes and back, and what changed between two.
#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests fail the test")]

use proptest::prelude::*;
use sekisho_rules::{
    catalogue::Catalogue,
    compile::{FeedInput, compile},
    demotion::Demotion,
    diff::{Listed, diff},
    feed::Action,
    moment::Moment,
    parse::{Limits, parse},
    policy::Policy,
    snapshot::{decode, encode, lists},
    table::Table,
};

const NOW: i64 = 1_795_000_000;

/// The table of a list of one or two feeds; the second one observes.
fn table(one: &str, two: Option<&str>) -> Table {
    let text = "feeds:\n  - {name: one, source: x, format: threatfox-csv, min_prefix_v4: 24}\n  \
                - {name: two, source: x, format: plain, action: observe, min_prefix_v4: 24, \
                min_prefix_v6: 48}\n";
    let specs = Catalogue::from_yaml(text, "feeds.yaml").unwrap().feeds;
    let now = Moment::nearest(NOW);
    let texts = [Some(one), two];
    let parsed: Vec<_> = specs
        .iter()
        .zip(texts)
        .filter_map(|(spec, text)| {
            Some((spec, parse(spec.format, text?.as_bytes(), &Limits::default()).unwrap()))
        })
        .collect();
    let inputs: Vec<_> = parsed
        .iter()
        .map(|(spec, parsed)| FeedInput { spec, parsed: Ok(parsed), fetched_at: now })
        .collect();
    compile(&inputs, &Policy::default(), &[], now).unwrap().table
}

fn threatfox(rows: &[(&str, &str)]) -> String {
    let header = "# \"first_seen_utc\",\"ioc_id\",\"ioc_value\",\"ioc_type\",\"threat_type\",\
                  \"fk_malware\",\"malware_alias\",\"malware_printable\",\"last_seen_utc\",\
                  \"confidence_level\",\"reference\",\"tags\",\"anonymous\",\"reporter\"\n";
    let rows = rows.iter().map(|(ioc, malware)| {
        format!(
            "\"2026-01-17 07:30:05\", \"1\", \"{ioc}\", \"ip:port\", \"botnet_cc\", \"x\", \"None\", \
             \"{malware}\", \"2026-08-08 01:02:03\", \"75\", \"None\", \"t\", \"0\", \"r\"\n"
        )
    });
    header.to_owned() + &rows.collect::<String>()
}

fn tables() -> [Table; 2] {
    let old = threatfox(&[("198.18.0.7:443", "Mirai"), ("198.18.0.8:23", "Gafgyt")]);
    let new = threatfox(&[("198.18.0.7:443", "Mirai"), ("198.18.0.9:23", "Mirai")]);
    let plain = "198.18.0.7:443\n198.18.1.0/24\n2001:2:4::/48\n[2001:2:4::1]:53/udp\n";
    [table(&old, Some("198.18.1.0/24\n")), table(&new, Some(plain))]
}

#[test]
fn a_table_comes_back_as_it_was() {
    for table in tables() {
        assert_eq!(decode(&encode(&table)).unwrap(), table);
    }
}

#[test]
fn what_the_policy_made_of_a_table_comes_back_too() {
    let [_, mut table] = tables();
    table.never_block = vec!["198.18.1.7/32".parse().unwrap(), "2001:2:4::53/128".parse().unwrap()];
    table.observed = vec!["198.18.1.8/31".parse().unwrap()];
    for (nth, claim) in table.claims.iter_mut().enumerate() {
        Demotion::ALL.into_iter().skip(nth).for_each(|demotion| claim.demotions.insert(demotion));
        claim.since = (nth % 2 == 0).then(|| Moment::nearest(NOW - 60 * nth as i64));
    }
    assert_eq!(decode(&encode(&table)).unwrap(), table);
}

#[test]
fn what_was_new_and_is_enforced_has_changed() {
    let [_, after] = tables();
    let mut before = after.clone();
    let claim = before.claims.iter_mut().find(|claim| claim.traffic.port == Some(23)).unwrap();
    claim.demotions.insert(Demotion::New);
    let found = diff(&before, &after, 100);
    assert_eq!((found.added, found.removed, found.changed), (0, 0, 1));
    let actions = |listed: &Option<Listed>| listed.as_ref().unwrap().action;
    let [change] = &found.changes[..] else { panic!("{found:?}") };
    assert_eq!(actions(&change.before), Some(Action::Observe));
    assert_eq!(actions(&change.after), Some(Action::Drop));
}

#[test]
fn lists_of_a_table_compile_to_the_table() {
    let [_, table] = tables();
    let text = "feeds:\n  - {name: one, source: x, format: plain, min_prefix_v4: 24}\n  \
                - {name: two, source: x, format: plain, action: observe, min_prefix_v4: 24, \
                min_prefix_v6: 48}\n";
    let specs = Catalogue::from_yaml(text, "feeds.yaml").unwrap().feeds;
    let lists = lists(&table);
    // Later, so that an end that came from the time of reading would differ.
    let later = Moment::nearest(NOW + 3_600);
    let inputs: Vec<_> = specs
        .iter()
        .zip(&lists)
        .map(|(spec, (_, parsed))| FeedInput { spec, parsed: Ok(parsed), fetched_at: later })
        .collect();
    let again = compile(&inputs, &Policy::default(), &[], later).unwrap().table;
    assert_eq!(again, table);
}

#[test]
fn what_changed_is_added_removed_or_listed_by_others() {
    let [old, new] = tables();
    let found = diff(&old, &new, 100);
    assert_eq!((found.added, found.removed, found.changed), (3, 1, 1));
    let [changed, removed, added, ..] = &found.changes[..] else { panic!("{found:?}") };
    assert_eq!(changed.indicator, "198.18.0.7:443");
    let listed = |feeds: &[&str]| {
        let feeds = feeds.iter().map(|feed| (*feed).to_owned()).collect();
        Some(Listed { feeds, action: Some(Action::Drop) })
    };
    assert_eq!(changed.before, listed(&["one"]));
    assert_eq!(changed.after, listed(&["one", "two"]));
    assert_eq!((removed.indicator.as_str(), &removed.after), ("198.18.0.8:23", &None));
    assert_eq!((added.indicator.as_str(), &added.before), ("198.18.0.9:23", &None));
    assert_eq!(diff(&old, &old, 100), diff(&Table::default(), &Table::default(), 100));
    let capped = diff(&old, &new, 2);
    assert_eq!((capped.added, capped.changes.len()), (3, 2), "all are counted");
    assert_eq!(diff(&new, &old, 0).removed, 3);
}

proptest! {
    #[test]
    fn any_bytes_are_a_table_or_nothing(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
        if let Some(table) = decode(&bytes) {
            prop_assert!(table.len().0 + table.len().1 <= bytes.len());
        }
    }

    #[test]
    fn changed_bytes_of_a_table_are_a_table_or_nothing(at in 0_usize..400, byte in any::<u8>(), cut in 0_usize..400) {
        let [_, table] = tables();
        let mut bytes = encode(&table);
        if let Some(place) = bytes.get_mut(at) {
            *place = byte;
        }
        bytes.truncate(bytes.len() - cut.min(bytes.len()));
        let _ = decode(&bytes).map(|table| lists(&table));
    }

    #[test]
    fn hosts_of_any_order_come_back(hosts in prop::collection::btree_set(0_u32..65_536, 1..60)) {
        let text: String = hosts
            .iter()
            .rev()
            .map(|host| format!("{}\n", std::net::Ipv4Addr::from(0xc612_0000 + host)))
            .collect();
        let table = table(&threatfox(&[("198.51.101.1:1", "x")]), Some(&text));
        prop_assert_eq!(decode(&encode(&table)).unwrap(), table);
    }
}
