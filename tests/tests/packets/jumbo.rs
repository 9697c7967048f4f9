//! Frames that XDP hands over in several buffers.

use sekisho::dataplane::{Dataplane, kernel::Guarded};
use sekisho_abi::{reason::Reason, record::Role};
use sekisho_tests::packet::{Carrier, UDP, ip};

use crate::{
    lab::{Lab, XDP_DROP, XDP_PASS, XDP_TX},
    world::{CLEAN, LISTED, REJECTED, SINKHOLED, SUBSCRIBER, Setup},
};

/// More than a page, so that it takes a second buffer.
const DATAGRAM: usize = 8_972;

fn frame(carrier: Carrier, remote: &str) -> Vec<u8> {
    let mut datagram = vec![0; 8 + DATAGRAM];
    let length = (8 + DATAGRAM) as u16;
    for (at, field) in [40_000_u16, 443, length, 0].into_iter().enumerate() {
        datagram[at * 2..at * 2 + 2].copy_from_slice(&field.to_be_bytes());
    }
    carrier.frame(&[(0x8100, 7)], &ip(SUBSCRIBER, remote, UDP, &datagram))
}

#[test]
fn a_frame_of_several_buffers_is_judged_counted_whole_and_answered() {
    let ports = vec![Guarded::routed("lo", Role::Subscriber)];
    let lab = Lab::of("jumbo", &Setup { ports, ..Setup::everything() });
    let bytes_of = |reason: Reason| {
        let counts = lab.dataplane.counts().expect("counters can be read");
        counts.first().map_or(0, |port| port.by_reason[reason as usize].bytes)
    };
    for (remote, action, reason) in [
        (CLEAN, XDP_PASS, Reason::NotListed),
        (LISTED, XDP_DROP, Reason::Dropped),
        (SINKHOLED, XDP_DROP, Reason::SinkholeUnfit),
    ] {
        let frame = frame(Carrier::Plain, remote);
        let (done, left) = lab.dataplane.rewrite("lo", &frame).expect("the program runs");
        assert_eq!(done, action, "{remote}");
        assert_eq!(left, frame, "{remote}: the frame stays as it is");
        assert_eq!(bytes_of(reason), frame.len() as u64, "{remote}: all buffers are counted");
    }
    let labels = Carrier::Mpls { ethertype: 0x8847, labels: 2 };
    let (done, _) = lab.dataplane.rewrite("lo", &frame(labels, LISTED)).expect("it runs");
    assert_eq!(done, XDP_DROP, "behind labels a packet has to be whole, all buffers together");
    let asked = frame(Carrier::Plain, REJECTED);
    let (done, answer) = lab.dataplane.rewrite("lo", &asked).expect("the program runs");
    assert_eq!(done, XDP_TX);
    assert_eq!(bytes_of(Reason::Rejected), asked.len() as u64);
    // Ethernet, one tag, IPv4, ICMP, and the first 28 bytes of the packet.
    assert_eq!(answer.len(), 18 + 20 + 8 + 28);
    assert_eq!(answer[38..40], [3, 13], "communication administratively prohibited");
    assert_eq!(answer[46..], asked[18..46], "what is quoted");
}
