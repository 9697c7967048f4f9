//! Which end of a packet is the remote.

use sekisho_abi::{reason::Reason, record::Role};
use sekisho_tests::packet::{Carrier, TCP, flag, ip, tcp};

use crate::{
    lab::Case,
    world::{BY_PORT, CLEAN, LISTED, LISTED_V6, SUBSCRIBER, SUBSCRIBER_V6},
};

pub(crate) const ROLES: [Role; 3] = [Role::Subscriber, Role::Uplink, Role::Both];

/// What becomes of a packet between a subscriber and a remote that drops, or that is clean.
pub(crate) fn reason_by_role(role: Role, is_outbound: bool, is_listed: bool) -> Reason {
    let is_seen = match role {
        Role::Subscriber => is_outbound,
        Role::Uplink => !is_outbound,
        Role::Both => true,
    };
    if is_seen && is_listed { Reason::Dropped } else { Reason::NotListed }
}

pub(crate) fn cases() -> Vec<Case> {
    let frame = |source: &str, destination: &str, source_port, destination_port| {
        let payload = tcp(source_port, destination_port, flag::SYN);
        Carrier::Plain.frame(&[(0x8100, 7)], &ip(source, destination, TCP, &payload))
    };
    let mut cases = Vec::new();
    let mut add = |sentence: &str, frame: Vec<u8>, reasons: [Reason; 3]| {
        for (role, reason) in ROLES.into_iter().zip(reasons) {
            cases.push(Case::new(role, sentence, frame.clone(), reason));
        }
    };
    let (dropped, clean) = (Reason::Dropped, Reason::NotListed);
    let by_port = frame(SUBSCRIBER, BY_PORT, 40_000, 23);
    add("to a listed port", by_port, [dropped, clean, dropped]);
    let from_port = frame(BY_PORT, SUBSCRIBER, 23, 40_000);
    add("from a listed port", from_port, [clean, dropped, dropped]);
    let other = Reason::PortNotListed;
    let to_own = frame(BY_PORT, SUBSCRIBER, 40_000, 23);
    add("from a listed address, to that port of a subscriber", to_own, [clean, other, other]);
    let v6 = frame(LISTED_V6, SUBSCRIBER_V6, 53, 40_000);
    add("from a listed IPv6 address", v6, [clean, dropped, dropped]);
    let neither = frame(SUBSCRIBER, CLEAN, 1, 2);
    add("between clean ends", neither, [clean; 3]);
    let both = frame(LISTED, BY_PORT, 1, 24);
    add("of two listed ends the destination is the remote", both, [other, dropped, other]);
    cases
}
