//! That nothing gets lost between packets, totals and rows; and the swap of a ruleset.

use sekisho::dataplane::Dataplane;
use sekisho_abi::{image::ImageBuilder, reason::Reason, record::Role};
use sekisho_tests::packet::{Carrier, Ipv4, TCP, UDP, ip, udp};

use crate::{
    lab::{GENERATION, Lab, XDP_PASS},
    world::{BY_PORT, CAPACITY, DROPS, LISTED, OBSERVED, OBSERVES, SUBSCRIBER, Setup},
};

#[test]
fn flow_rows_and_overflow_are_all_hits_whatever_the_number_of_flows() {
    let lab = Lab::of("ledger", &Setup::everything());
    let (mut sent, mut rows) = (0_u64, 0_u64);
    for round in 0..3 {
        // More flows than the table (1024) can hold.
        for flow in 0..6_000_u32 {
            let source = std::net::Ipv4Addr::from(0x6460_0000 + flow).to_string();
            let frame = Ipv4::new(&source, LISTED, UDP).frame(&[], &udp(40_000, 443));
            let repeat = 1 + flow % 3;
            lab.dataplane.test_run("lo", &frame, repeat).expect("the program runs");
            sent += u64::from(repeat);
        }
        rows += lab.drained().iter().map(|row| row.totals.packets).sum::<u64>();
        let totals = lab.dataplane.rule_totals().expect("totals can be read");
        let hits: u64 = totals.iter().map(|(_, totals)| totals.hits.packets).sum();
        let overflow: u64 = totals.iter().map(|(_, totals)| totals.overflow.packets).sum();
        assert_eq!(hits, sent, "round {round}: every hit is counted by rule");
        assert!(overflow > 0, "round {round}: the table is meant to overflow");
        assert_eq!(rows + overflow, sent, "round {round}: rows and overflow are all hits");
    }
}

#[test]
fn the_live_ruleset_answers_as_the_image_does_and_a_swap_changes_all_at_once() {
    let lab = Lab::of("swap", &Setup::everything());
    let ask = |remote: &str, protocol, port| {
        lab.dataplane
            .ask(remote.parse().expect("an address"), protocol, port)
            .expect("an answer")
            .all()
    };
    assert_eq!(ask(LISTED, TCP, Some(1)), DROPS);
    assert_eq!(ask(BY_PORT, TCP, Some(23)), DROPS);
    assert_eq!(ask(BY_PORT, TCP, Some(24)), 0);
    assert_eq!(ask(OBSERVED, UDP, None), OBSERVES);
    let installed = lab.dataplane.installed().expect("what is installed can be read");
    assert_eq!(installed.generation, Some(GENERATION));
    assert!(installed.intact, "the image in the kernel is the one that was built");
    let next = GENERATION + 1;
    let empty = ImageBuilder::new(Vec::new()).build(next, CAPACITY).expect("nothing fits");
    lab.dataplane.publish(&empty).expect("the image is published");
    let frame = Carrier::Plain.frame(&[], &ip(SUBSCRIBER, LISTED, UDP, &udp(1, 2)));
    lab.newly_counted();
    let (action, _, reason) = lab.judge(Role::Subscriber, &frame);
    assert_eq!((action, reason), (XDP_PASS, Reason::NotListed));
    assert_eq!(lab.dataplane.installed().expect("readable").generation, Some(next));
}
