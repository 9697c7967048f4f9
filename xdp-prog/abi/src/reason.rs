//! Why a packet went the way it went: one reason a packet, one counter a reason.

/// What the program tells the driver to do with a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Forward it as if the program were not there.
    Pass,
    /// Discard it.
    Drop,
    /// Discard it and answer the subscriber: TCP RST, or ICMP "administratively prohibited".
    Reject,
    /// Send it to the sinkhole instead.
    Sinkhole,
}

macro_rules! reasons {
    ($($(#[$doc:meta])+ $name:ident = $text:literal => $verdict:ident,)+) => {
        /// Why a packet was passed or dropped. Every packet has exactly one.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        #[repr(u8)]
        pub enum Reason {
            $($(#[$doc])+ $name,)+
        }

        impl Reason {
            /// Every reason, in the order of its discriminant.
            pub const ALL: [Self; Self::COUNT] = [$(Self::$name,)+];
            /// How many reasons there are.
            pub const COUNT: usize = [$(Self::$name as u8,)+].len();

            /// The name used as a metric label and in reports.
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$name => $text,)+ }
            }

            /// What becomes of the packet. All that pass come first, so that the program asks with one
            /// comparison whether one does.
            #[inline(always)]
            pub const fn verdict(self) -> Verdict {
                match self { $(Self::$name => Verdict::$verdict,)+ }
            }
        }
    };
}

reasons! {
    /// The remote address is on no list.
    NotListed = "not_listed" => Pass,
    /// Neither IPv4 nor IPv6, nor anything that the program unwraps: ARP, LACP, IS-IS, LLDP, PPPoE
    /// discovery and whatever else a link carries.
    NotIp = "not_ip" => Pass,
    /// Shorter than an Ethernet header.
    TruncatedEthernet = "truncated_ethernet" => Pass,
    /// Ends inside a VLAN tag.
    TruncatedVlan = "truncated_vlan" => Pass,
    /// More VLAN tags than the program walks.
    TooManyVlans = "too_many_vlans" => Pass,
    /// Ends inside the PPPoE header.
    TruncatedPppoe = "truncated_pppoe" => Pass,
    /// A PPPoE session frame with another version, type or code than RFC 2516 gives it.
    MalformedPppoe = "malformed_pppoe" => Pass,
    /// PPP control in a PPPoE session: LCP, authentication, IPCP, IPv6CP and what else is not IP.
    PppControl = "ppp_control" => Pass,
    /// Ends inside the MPLS label stack.
    TruncatedMpls = "truncated_mpls" => Pass,
    /// More MPLS labels than the program walks.
    TooManyLabels = "too_many_labels" => Pass,
    /// The MPLS payload is not IP, as in a pseudowire.
    MplsNotIp = "mpls_not_ip" => Pass,
    /// Ends inside the IPv4 header.
    TruncatedIpv4 = "truncated_ipv4" => Pass,
    /// The IPv4 header contradicts itself (version, header length, total length).
    MalformedIpv4 = "malformed_ipv4" => Pass,
    /// Ends inside the IPv6 header.
    TruncatedIpv6 = "truncated_ipv6" => Pass,
    /// The version field of the IPv6 header is not 6.
    MalformedIpv6 = "malformed_ipv6" => Pass,
    /// Ends inside the GRE header.
    TruncatedGre = "truncated_gre" => Pass,
    /// GRE that carries something else than IP, or of another version (PPTP).
    GreNotIp = "gre_not_ip" => Pass,
    /// A later fragment of a tunnel packet: the inner header is not in it.
    LaterTunnelFragment = "later_tunnel_fragment" => Pass,
    /// A tunnel inside a tunnel; neither the outer nor the inner addresses are listed.
    NestedTunnel = "nested_tunnel" => Pass,
    /// The address is listed for certain ports and the packet ends before its ports.
    TruncatedTransport = "truncated_transport" => Pass,
    /// The address is listed for certain ports and a fragment without ports came.
    LaterFragment = "later_fragment" => Pass,
    /// The address is listed for certain ports and too many extension headers hide them.
    TooManyExtensionHeaders = "too_many_extension_headers" => Pass,
    /// The address is listed, but for other ports or another protocol.
    PortNotListed = "port_not_listed" => Pass,
    /// The subscriber opted out: nothing was looked up.
    OptedOut = "opted_out" => Pass,
    /// Listed, but of a protocol that networks cannot live without (routing, neighbour discovery,
    /// DHCP, RADIUS, ICMP errors and so on).
    Protected = "protected" => Pass,
    /// Listed, but every list that names it is switched to bypass.
    ListBypassed = "list_bypassed" => Pass,
    /// The kill switch is in `bypass`: nothing is looked up.
    ModeBypass = "mode_bypass" => Pass,
    /// No ruleset has been published yet.
    NoRuleset = "no_ruleset" => Pass,
    /// The canary entry, while it would not be dropped. Nothing but our own probes gets here.
    CanaryPassed = "canary_passed" => Pass,
    /// Listed; the list only observes.
    ListObserved = "list_observed" => Pass,
    /// Listed and would have been stopped, but the mode is `observe`.
    ModeObserved = "mode_observed" => Pass,
    /// Listed and would have been stopped, but the ruleset outlived its lifetime.
    LifetimeOver = "lifetime_over" => Pass,
    /// The canary entry, dropped as every listed address would be.
    CanaryDropped = "canary_dropped" => Drop,
    /// Listed and dropped.
    Dropped = "dropped" => Drop,
    /// Listed, dropped and answered towards the subscriber.
    Rejected = "rejected" => Reject,
    /// Listed by a list that rejects, and dropped without an answer: there is none for such packets,
    /// or the limit for answers was reached.
    RejectedSilently = "rejected_silently" => Drop,
    /// Listed and sent to the sinkhole.
    Sinkholed = "sinkholed" => Sinkhole,
    /// Listed by a list that sinkholes, and dropped: it came from the remote, in a tunnel, or is too
    /// long for the tunnel to the sinkhole.
    SinkholeUnfit = "sinkhole_unfit" => Drop,
}

impl Reason {
    /// The reason with this discriminant.
    #[inline(always)]
    pub const fn from_u8(value: u8) -> Option<Self> {
        if value as usize >= Self::COUNT {
            return None;
        }
        // SAFETY: discriminants are bytes, and all below `COUNT` are there. Without a table, as the
        // verifier does not see that the comparison keeps the index inside of it.
        Some(unsafe { core::mem::transmute::<u8, Self>(value) })
    }

    /// Whether a packet with this reason is a hit: it matched an entry of the ruleset and is
    /// accounted in the flow ledger.
    pub const fn is_hit(self) -> bool {
        matches!(
            self,
            Self::ListObserved
                | Self::ModeObserved
                | Self::LifetimeOver
                | Self::Dropped
                | Self::Rejected
                | Self::RejectedSilently
                | Self::Sinkholed
                | Self::SinkholeUnfit
        )
    }

    /// Whether it was no traffic but a probe of the [`crate::canary`].
    pub const fn is_probe(self) -> bool {
        matches!(self, Self::CanaryPassed | Self::CanaryDropped)
    }

    /// Whether the program could not read the packet far enough to judge it.
    pub const fn is_unparsed(self) -> bool {
        matches!(
            self,
            Self::TruncatedEthernet
                | Self::TruncatedVlan
                | Self::TooManyVlans
                | Self::TruncatedPppoe
                | Self::MalformedPppoe
                | Self::TruncatedMpls
                | Self::TooManyLabels
                | Self::TruncatedGre
                | Self::TruncatedIpv4
                | Self::MalformedIpv4
                | Self::TruncatedIpv6
                | Self::MalformedIpv6
                | Self::TruncatedTransport
                | Self::TooManyExtensionHeaders
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_reason_comes_back_from_its_discriminant() {
        for reason in Reason::ALL {
            assert_eq!(Reason::from_u8(reason as u8), Some(reason));
        }
        assert_eq!(Reason::from_u8(Reason::COUNT as u8), None);
    }

    #[test]
    fn names_are_unique_and_fit_a_metric_label() {
        for (at, reason) in Reason::ALL.iter().enumerate() {
            assert!(reason.as_str().bytes().all(|b| matches!(b, b'_' | b'a'..=b'z' | b'0'..=b'9')));
            assert!(Reason::ALL[..at].iter().all(|other| other.as_str() != reason.as_str()));
        }
    }

    #[test]
    fn all_that_pass_come_first() {
        let passes = Reason::ALL.map(|reason| reason.verdict() == Verdict::Pass);
        assert!(passes.is_sorted_by(|before, after| before >= after), "{passes:?}");
    }

    #[test]
    fn only_a_hit_or_the_canary_can_be_stopped() {
        for reason in Reason::ALL {
            let stoppable = reason.is_hit() || reason == Reason::CanaryDropped;
            assert!(stoppable || reason.verdict() == Verdict::Pass, "{reason:?}");
        }
    }
}
