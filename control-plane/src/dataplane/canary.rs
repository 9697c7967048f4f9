//! The canary: what a program should make of a probe, and the probe.
//!
//! A probe is a frame that is given to the program as if its interface had received it; it is never
//! sent, and leaves no trace but its own count.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use sekisho_abi::{
    canary,
    image::ListSet,
    reason::Reason,
    record::{Mode, Modes, Role},
};
use serde::Serialize;

/// The addresses that every ruleset lists.
pub const ADDRESSES: [IpAddr; 2] = [IpAddr::V4(canary::V4), IpAddr::V6(canary::V6)];

/// The subscriber of an IPv4 probe: of TEST-NET-2, which nobody has (RFC 5737).
const SUBSCRIBER_V4: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 202);
/// The subscriber of an IPv6 probe: of the discard prefix (RFC 6666), which no ruleset and no opt-out
/// can name.
const SUBSCRIBER_V6: Ipv6Addr = Ipv6Addr::new(0x100, 0, 0, 0, 0, 0, 0, 0x202);

/// What became of a probe.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Answer {
    /// It was dropped.
    Dropped,
    /// It was found and passed.
    Passed,
    /// It was not found.
    NotFound,
    /// There was no probe: in this mode nothing is looked up.
    NotAsked,
    /// The kernel refused to run the program.
    Failed,
}

/// What a program made of a probe, beside what it should have.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct CanaryEvidence {
    /// The interface that it guards.
    pub interface: String,
    /// The address that was asked for.
    pub address: IpAddr,
    /// What should have become of the probe.
    pub expected: Answer,
    /// What became of it.
    pub answer: Answer,
}

impl Answer {
    /// What the program does to the canary.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Dropped => "drops",
            Self::Passed => "passes",
            Self::NotFound => "does not find",
            Self::NotAsked => "does not look up",
            Self::Failed => "can't be asked for",
        }
    }

    /// The reason that such a probe is counted under.
    pub(super) const fn reason(self) -> Option<Reason> {
        match self {
            Self::Dropped => Some(Reason::CanaryDropped),
            Self::Passed => Some(Reason::CanaryPassed),
            Self::NotFound | Self::NotAsked | Self::Failed => None,
        }
    }
}

/// What should become of a probe.
pub(super) fn expected(modes: &Modes, slot: u8, lease_holds: bool) -> Answer {
    const LIST: ListSet = 1 << canary::LIST;
    match modes.of_port(usize::from(slot)) {
        Mode::Bypass => Answer::NotAsked,
        Mode::Observe => Answer::Passed,
        Mode::Enforce if (modes.observed_lists | modes.bypassed_lists) & LIST != 0 => {
            Answer::Passed
        }
        Mode::Enforce if lease_holds => Answer::Dropped,
        Mode::Enforce => Answer::Passed,
    }
}

/// A UDP packet between the canary and a subscriber that nobody is, as an interface of this role
/// receives it. It has no checksums: nobody but the program sees it.
pub(super) fn probe(address: IpAddr, role: Role) -> Vec<u8> {
    /// The discard service (RFC 863).
    const PORT: [u8; 2] = [0, 9];
    const UDP: u8 = 17;
    const UDP_BYTES: u8 = 8;
    const HOPS: u8 = 64;
    let ends = |subscriber: &[u8], remote: &[u8]| match role {
        Role::Subscriber | Role::Both => [subscriber, remote].concat(),
        Role::Uplink => [remote, subscriber].concat(),
    };
    let mut frame = vec![0x02, 0, 0, 0, 0, 1, 0x02, 0, 0, 0, 0, 2];
    match address {
        IpAddr::V4(remote) => {
            frame.extend([0x08, 0x00]);
            frame.extend([0x45, 0, 0, 20 + UDP_BYTES, 0, 0, 0, 0, HOPS, UDP, 0, 0]);
            frame.extend(ends(&SUBSCRIBER_V4.octets(), &remote.octets()));
        }
        IpAddr::V6(remote) => {
            frame.extend([0x86, 0xdd]);
            frame.extend([0x60, 0, 0, 0, 0, UDP_BYTES, UDP, HOPS]);
            frame.extend(ends(&SUBSCRIBER_V6.octets(), &remote.octets()));
        }
    }
    frame.extend([PORT, PORT, [0, UDP_BYTES], [0, 0]].concat());
    frame
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_expected_follows_the_switch_and_the_lease() {
        let enforce = Modes::all(Mode::Enforce);
        assert_eq!(expected(&enforce, 3, true), Answer::Dropped);
        assert_eq!(expected(&enforce, 3, false), Answer::Passed);
        let mut own = enforce;
        own.ports[3] = Mode::Observe as u8;
        assert_eq!(expected(&own, 3, true), Answer::Passed);
        assert_eq!(expected(&own, 4, true), Answer::Dropped);
        assert_eq!(expected(&Modes::all(Mode::Bypass), 3, true), Answer::NotAsked);
        let (own_list, another) = (1 << canary::LIST, 1);
        for (lists, answer) in [(own_list, Answer::Passed), (another, Answer::Dropped)] {
            let (mut observed, mut bypassed) = (enforce, enforce);
            observed.observed_lists = lists;
            bypassed.bypassed_lists = lists;
            assert_eq!(expected(&observed, 0, true), answer);
            assert_eq!(expected(&bypassed, 0, true), answer);
        }
    }

    #[test]
    fn the_canary_is_at_the_end_that_the_role_looks_up() {
        for (address, source, bytes) in [(ADDRESSES[0], 26, 4), (ADDRESSES[1], 22, 16)] {
            let octets = match address {
                IpAddr::V4(v4) => v4.octets().to_vec(),
                IpAddr::V6(v6) => v6.octets().to_vec(),
            };
            for (role, at) in [
                (Role::Uplink, source),
                (Role::Subscriber, source + bytes),
                (Role::Both, source + bytes),
            ] {
                let frame = probe(address, role);
                assert_eq!(frame[at..at + bytes], octets, "{role:?}");
                assert_eq!(frame.len(), source + 2 * bytes + 8);
            }
        }
    }
}
