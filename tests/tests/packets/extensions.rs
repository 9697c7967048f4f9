//! IPv6 extension headers, and fragments.

use sekisho_abi::reason::Reason;
use sekisho_tests::packet::{
    Carrier, Ipv4, Ipv6, TCP, UDP, extension, flag, fragment, ip, tcp, udp,
};

use crate::{
    lab::Case,
    world::{BY_PORT, BY_PORT_V6, CLEAN, CLEAN_V6, LISTED, LISTED_V6, SUBSCRIBER, SUBSCRIBER_V6},
};

pub(crate) fn cases() -> Vec<Case> {
    [headers(), fragments()].concat()
}

fn to_port(first: u8, headers: &[u8], port: u16) -> Vec<u8> {
    let payload = [headers, &tcp(40_000, port, flag::SYN)].concat();
    Ipv6::new(SUBSCRIBER_V6, BY_PORT_V6, first).frame(&[(0x8100, 5)], &payload)
}

/// Headers are walked to the ports.
fn headers() -> Vec<Case> {
    let mut cases = Vec::new();
    for (kind, name) in [
        (0, "hop-by-hop"),
        (43, "routing"),
        (60, "destination options"),
        (135, "mobility"),
        (139, "host identity"),
        (140, "shim6"),
    ] {
        for units in [0, 1, 31, 255] {
            let header = extension(TCP, units);
            let sentence = format!("{name} header with {units} more units");
            cases.push(Case::outbound(&sentence, to_port(kind, &header, 23), Reason::Dropped));
            let other = to_port(kind, &header, 24);
            let sentence = format!("{sentence}, another port");
            cases.push(Case::outbound(sentence, other, Reason::PortNotListed));
        }
    }
    let mut add = |sentence: &str, frame, reason| {
        cases.push(Case::outbound(sentence, frame, reason));
    };
    let authentication = [&[TCP, 4, 0, 0][..], &[0; 20]].concat();
    add("authentication header", to_port(51, &authentication, 23), Reason::Dropped);
    let chain = |length: usize| {
        let last = extension(TCP, 0);
        [extension(60, 0).repeat(length - 1), last].concat()
    };
    add("eight headers", to_port(60, &chain(8), 23), Reason::Dropped);
    add("nine headers", to_port(60, &chain(9), 23), Reason::TooManyExtensionHeaders);
    add(
        "nine headers to an address that is listed for every packet",
        Ipv6::new(SUBSCRIBER_V6, LISTED_V6, 60).frame(&[], &chain(9)),
        Reason::Dropped,
    );
    add("no next header", to_port(59, &[], 23), Reason::PortNotListed);
    add("an encrypted packet", to_port(50, &[], 23), Reason::PortNotListed);
    cases
}

/// A destination matches in every fragment, a port in the first one.
fn fragments() -> Vec<Case> {
    let mut cases = Vec::new();
    let mut add = |sentence: &str, frame, reason| {
        cases.push(Case::outbound(sentence, frame, reason));
    };
    let first = |remote| Ipv4 { more: true, ..Ipv4::new(SUBSCRIBER, remote, TCP) };
    let later = |remote| Ipv4 { fragment: 64, ..Ipv4::new(SUBSCRIBER, remote, TCP) };
    let payload = tcp(40_000, 23, flag::SYN);
    add("first to a listed port", first(BY_PORT).frame(&[], &payload), Reason::Dropped);
    add("later to a listed port", later(BY_PORT).frame(&[], &payload), Reason::LaterFragment);
    let last = Ipv4 { fragment: 0x1fff, ..later(BY_PORT) };
    add("the last that can be", last.frame(&[], &payload), Reason::LaterFragment);
    add("later to a listed address", later(LISTED).frame(&[], &payload), Reason::Dropped);
    add("later to a clean address", later(CLEAN).frame(&[], &payload), Reason::NotListed);

    let v6 = |remote: &str, header: &[u8]| {
        let packet = ip(SUBSCRIBER_V6, remote, 44, &[header, &payload].concat());
        Carrier::Plain.frame(&[], &packet)
    };
    let (first, later) = (fragment(TCP, 0, true), fragment(TCP, 5, true));
    add("IPv6: the first shows its ports", v6(BY_PORT_V6, &first), Reason::Dropped);
    add("IPv6: a later one shows none", v6(BY_PORT_V6, &later), Reason::LaterFragment);
    let atomic = fragment(TCP, 0, false);
    add("IPv6: an atomic fragment", v6(BY_PORT_V6, &atomic), Reason::Dropped);
    add("IPv6: later to a listed address", v6(LISTED_V6, &later), Reason::Dropped);
    add("IPv6: later to a clean address", v6(CLEAN_V6, &later), Reason::NotListed);
    let hop = [extension(44, 0), fragment(UDP, 0, true), udp(1, 2)].concat();
    let packet = ip(SUBSCRIBER_V6, LISTED_V6, 0, &hop);
    add("IPv6: behind hop-by-hop", Carrier::Plain.frame(&[], &packet), Reason::Dropped);
    cases
}
