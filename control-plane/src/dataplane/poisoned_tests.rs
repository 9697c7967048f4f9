//! Poisoned lists all the way into the image: what the program in the kernel would be asked.

use std::net::IpAddr;

use jiff::Timestamp;
use sekisho_abi::image;
use sekisho_rules::{catalogue::Catalogue, policy::Policy, shipped};

use super::tables::{Slots, build};
use crate::rulebook::{ReadList, Rulebook};

/// Whether the image of this list does anything to packets of an address.
fn touched(list: &str, queries: &[&str]) -> Vec<bool> {
    let text = "feeds: [{name: a, source: x, format: plain, min_prefix_v4: 8, min_prefix_v6: 16}]";
    let own = "own_prefixes: [{network: 198.19.64.0/20, name: us}]";
    let rulebook = Rulebook {
        catalogue: Catalogue::from_yaml(text, "feeds.yaml").unwrap(),
        policy: Policy::from_yaml(own, "policy.yaml").unwrap(),
        never_block: shipped::never_block().unwrap(),
    };
    let spec = &rulebook.catalogue.feeds[0];
    let now = Timestamp::now();
    let read = ReadList::new(spec, list.as_bytes(), now);
    let compiled = rulebook.compile(&[(spec, &read)], now).unwrap();
    let built = build(&compiled.table, &Slots::default(), 1, 64 << 20).unwrap();
    let ask = |query: &&str| {
        let (address, port) = query
            .rsplit_once('@')
            .map_or((*query, 443), |(address, port)| (address, port.parse().unwrap()));
        let address: IpAddr = address.parse().unwrap();
        image::ask(built.image.bytes(), address, 6, Some(port)).all() != 0
    };
    queries.iter().map(ask).collect()
}

#[test]
fn services_inside_wide_entries_are_out_of_the_image_and_their_neighbours_are_in() {
    let list = "8.0.0.0/8\n1.0.0.0/8\n104.0.0.0/8\n198.40.0.0/15\n2606:4700::/32\n2620::/16\n\
                198.18.0.0/16\n17.0.0.0/8\n";
    let services = [
        "8.8.8.8",
        "8.8.8.8@53",
        "8.8.4.4",
        "1.1.1.1",
        "1.0.0.1@853",
        "104.16.0.1",
        "104.31.255.255",
        "198.41.0.4@53",
        "2606:4700:4700::1111",
        "2620:fe::fe@53",
        "17.1.2.3",
    ];
    assert_eq!(touched(list, &services), [false; 11]);
    let list = "8.8.8.0/22\n1.1.0.0/20\n198.41.0.0/24\n198.18.0.0/16\n2620:fe::/40\n";
    assert_eq!(touched(list, &services[..4]), [false; 4]);
    let neighbours = ["8.8.9.1", "1.1.2.1", "198.41.0.5", "198.18.4.4", "2620:fe:1::1"];
    assert_eq!(touched(list, &neighbours), [true; 5]);
}

#[test]
fn what_is_refused_leaves_nothing_in_the_image() {
    let list = "8.8.8.8\n8.8.8.0/25\n8.8.8.128/25\n104.16.1.1:443\n104.16.1.2:8443\n198.19.64.0/21\n\
                198.19.72.0/21\n10.0.0.0/8\n2002:808:808::/48\n2001:0:c612:1::f7f7:f7f7\n52.94.76.0/24\n\
                52.94.77.9\n::ffff:1.1.1.1\n";
    let refused = [
        "8.8.8.8",
        "8.8.8.200",
        "104.16.1.1",
        "104.16.1.2",
        "198.19.64.1",
        "198.19.79.1",
        "10.9.9.9",
        "2002:808:808::1",
        "2001:0:c612:1::f7f7:f7f7",
        "52.94.76.9",
        "1.1.1.1",
    ];
    assert_eq!(touched(list, &refused), [false; 11]);
    assert_eq!(touched(list, &["104.16.1.2@8443", "52.94.77.9"]), [true; 2]);
}
