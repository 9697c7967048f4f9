//! An interface as the host sees it, for the same judgement as in the kernel.

use std::collections::HashMap;

use sekisho_abi::{
    encapsulation::Encapsulation,
    image::{Bytes, Image},
    opt_out::BlockKey,
    prefix::Prefixes,
    reason::Reason,
    record::{Direction, Forwarding, Mode, Modes, Role, Sinkhole, SinkholeKind},
};
use sekisho_xdp::{
    decide::{self, First, Flows, Known, Match, Matches, Sighting},
    flow::Words,
    site::{PrefixSet, Site},
};

use crate::packet::{ICMP, ICMPV6, TCP, flag};

/// What a program would have as constants and in maps.
#[derive(Clone, Debug)]
pub struct HostSite {
    /// Which end of a packet is the subscriber's.
    pub role: Role,
    /// What becomes of packets that pass.
    pub forwarding: Forwarding,
    /// What is unwrapped.
    pub unwrapped: Encapsulation,
    /// Prefixes in which IPv4 addresses are embedded.
    pub embedding: Prefixes,
    /// The network's own infrastructure.
    pub infrastructure: Prefixes,
    /// The way to the sinkhole.
    pub sinkhole: Option<Sinkhole>,
    /// Those who opted out.
    pub opt_outs: Option<Image>,
    /// Their port blocks.
    pub opted_out_ports: HashMap<BlockKey, u64>,
}

impl HostSite {
    /// A site where everything is unwrapped and nobody opted out.
    pub fn new(role: Role) -> Self {
        Self {
            role,
            forwarding: Forwarding::Kernel,
            unwrapped: Encapsulation::ALL,
            embedding: Prefixes::NONE,
            infrastructure: Prefixes::NONE,
            sinkhole: None,
            opt_outs: None,
            opted_out_ports: HashMap::new(),
        }
    }

    /// The reason of a frame while these lists are enforced, and what matched. The limit for
    /// answers is never reached here.
    pub fn judge(&self, frame: &[u8], image: &Image) -> (Reason, Option<Match>) {
        let mut enforced = Enforced { site: self, frame, matched: None };
        let unmatched = decide::whole_way(frame, image.bytes(), self, &mut enforced);
        match enforced.matched {
            Some((reason, found)) => (reason, Some(found)),
            None => (unmatched.unwrap_or(Reason::NoRuleset), None),
        }
    }

    /// The reason of a frame by the short way, where that says one, while no flow is known: the same whether
    /// flows are expected or not, and whether there is room for one.
    pub fn judge_in_short(&self, frame: &[u8], image: &Image) -> Option<Reason> {
        let direction = match self.role {
            Role::Subscriber => Direction::Outbound,
            Role::Uplink => Direction::Inbound,
            Role::Both => return None,
        };
        let cases = [(false, Known::Not), (true, Known::Not), (true, Known::Elsewhere)];
        let reasons = cases.map(|(are_expected, known)| {
            let mut flows = NoFlows { are_expected, known, was_asked: false };
            let reason = decide::shortcut(frame, image.bytes(), self, direction, &mut flows);
            if reason == Some(Reason::NotListed) && flows.was_asked {
                assert!(!flows.are_expected, "what is clean leaves flows expected");
            }
            reason
        });
        let mut said = reasons.into_iter().flatten();
        let reason = said.next();
        assert!(said.all(|other| Some(other) == reason), "reasons differ by flows: {reasons:?}");
        reason
    }

    /// The program's rule for answers, in the tests' own words: only a subscriber's whole, untunnelled
    /// packet has one, and it needs what the answer is made of.
    fn answers(&self, frame: &[u8], found: &Sighting) -> bool {
        let one_way = [
            Encapsulation::MPLS,
            Encapsulation::IPV4_IN_IPV6,
            Encapsulation::IPV6_IN_IPV4,
            Encapsulation::IPIP,
            Encapsulation::IP6IP6,
            Encapsulation::GRE,
        ];
        let header = if found.ip.is_ipv6 { 40 } else { 20 };
        let behind = frame.len().saturating_sub(found.ip.payload);
        let has_answer = match found.ip.protocol {
            TCP => behind >= 20 && frame[found.ip.payload + 13] & flag::RST == 0,
            ICMP | ICMPV6 => false,
            _ => behind >= 8 && found.ip.payload - found.ip.offset == header,
        };
        has_answer
            && found.direction == Direction::Outbound
            && !one_way.iter().any(|kind| found.encapsulation.has(*kind))
            && found.ip.hidden == Reason::PortNotListed
            && self.forwarding != Forwarding::Tap
    }

    /// The program's rule for the sinkhole, in the tests' own words.
    fn diverts(&self, frame: &[u8], found: &Sighting) -> bool {
        let Some(sinkhole) = &self.sinkhole else { return false };
        let tunnels = [
            Encapsulation::IPV4_IN_IPV6,
            Encapsulation::IPV6_IN_IPV4,
            Encapsulation::IPIP,
            Encapsulation::IP6IP6,
            Encapsulation::GRE,
        ];
        let is_tunnel = sinkhole.kind == SinkholeKind::Tunnel as u8;
        let (outer, has_end) = match (is_tunnel, found.ip.is_ipv6) {
            (false, _) => (0, sinkhole.kind == SinkholeKind::NextHop as u8),
            (true, false) => (20, sinkhole.destination_v4 != 0),
            (true, true) => (40, sinkhole.destination_v6 != [0, 0]),
        };
        has_end
            && found.direction == Direction::Outbound
            && !tunnels.iter().any(|kind| found.encapsulation.has(*kind))
            && frame.len() - found.ip.offset + outer <= usize::from(sinkhole.mtu)
            && self.forwarding != Forwarding::Tap
    }
}

/// A flow table that knows no flow, and notes whether it was asked.
struct NoFlows {
    are_expected: bool,
    known: Known,
    was_asked: bool,
}

impl Flows for NoFlows {
    fn port(&self) -> u8 {
        0
    }

    fn are_expected(&self) -> bool {
        self.are_expected
    }

    fn expect(&mut self, are_expected: bool) {
        self.are_expected = are_expected;
    }

    fn known(&mut self, _: Words) -> Known {
        self.was_asked = true;
        self.known
    }

    fn begin(&mut self, first: &First) -> Option<Reason> {
        let modes = Modes::all(Mode::Enforce);
        decide::is_dropped(first.dropping, &modes, Mode::Enforce).then_some(Reason::Dropped)
    }
}

/// What the program does with matches while everything is enforced.
struct Enforced<'a> {
    site: &'a HostSite,
    frame: &'a [u8],
    matched: Option<(Reason, Match)>,
}

impl Matches for Enforced<'_> {
    fn take(&mut self, found: &Match) {
        let Self { site, frame, .. } = self;
        let modes = Modes::all(Mode::Enforce);
        let reason = decide::decide(found.lists, &modes, Mode::Enforce, || true);
        let reason = match reason {
            _ if found.is_canary() => decide::of_canary(reason),
            Reason::Rejected if !site.answers(frame, &found.packet) => Reason::RejectedSilently,
            Reason::Sinkholed if !site.diverts(frame, &found.packet) => Reason::SinkholeUnfit,
            other => other,
        };
        self.matched = Some((reason, *found));
    }
}

impl Site for HostSite {
    fn role(&self) -> Role {
        self.role
    }

    fn unwrapped(&self) -> Encapsulation {
        self.unwrapped
    }

    fn embedding(&self) -> impl PrefixSet {
        &self.embedding
    }

    fn infrastructure(&self) -> impl PrefixSet {
        &self.infrastructure
    }

    fn opt_outs(&self) -> Option<impl Bytes> {
        self.opt_outs.as_ref().map(Image::bytes)
    }

    fn opted_out_ports(&self, key: &BlockKey) -> u64 {
        self.opted_out_ports.get(key).copied().unwrap_or(0)
    }
}
