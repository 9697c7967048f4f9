//! Why a packet went the way it went: one reason a packet, one counter a reason.

/// What the program tells the driver to do with a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Forward it as if the program were not there.
    Pass,
    /// Discard it.
    Drop,
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

            /// What becomes of the packet.
            pub const fn verdict(self) -> Verdict {
                match self { $(Self::$name => Verdict::$verdict,)+ }
            }
        }
    };
}

reasons! {
    /// The remote address is on no list.
    NotListed = "not_listed" => Pass,
    /// Neither IPv4 nor IPv6: ARP, LACP, PPPoE and whatever else a link carries.
    NotIp = "not_ip" => Pass,
    /// Shorter than an Ethernet header.
    TruncatedEthernet = "truncated_ethernet" => Pass,
    /// Ends inside a VLAN tag.
    TruncatedVlan = "truncated_vlan" => Pass,
    /// More VLAN tags than the program walks.
    TooManyVlans = "too_many_vlans" => Pass,
    /// Ends inside the IPv4 header.
    TruncatedIpv4 = "truncated_ipv4" => Pass,
    /// The IPv4 header contradicts itself (version or header length).
    MalformedIpv4 = "malformed_ipv4" => Pass,
    /// Ends inside the IPv6 header.
    TruncatedIpv6 = "truncated_ipv6" => Pass,
    /// The version field of the IPv6 header is not 6.
    MalformedIpv6 = "malformed_ipv6" => Pass,
    /// The address is listed for certain ports and the packet ends before its ports.
    TruncatedTransport = "truncated_transport" => Pass,
    /// The address is listed for certain ports and a fragment without ports came.
    LaterFragment = "later_fragment" => Pass,
    /// The address is listed for certain ports and too many extension headers hide them.
    TooManyExtensionHeaders = "too_many_extension_headers" => Pass,
    /// The address is listed, but for other ports or another protocol.
    PortNotListed = "port_not_listed" => Pass,
    /// Listed, but every list that names it is switched to bypass.
    ListBypassed = "list_bypassed" => Pass,
    /// The kill switch is in `bypass`: nothing is looked up.
    ModeBypass = "mode_bypass" => Pass,
    /// No ruleset has been published yet.
    NoRuleset = "no_ruleset" => Pass,
    /// Listed; the list only observes.
    ListObserved = "list_observed" => Pass,
    /// Listed and would have been dropped, but the mode is `observe`.
    ModeObserved = "mode_observed" => Pass,
    /// Listed and would have been dropped, but the ruleset outlived its lifetime.
    LifetimeOver = "lifetime_over" => Pass,
    /// Listed and dropped.
    Dropped = "dropped" => Drop,
}

impl Reason {
    /// The reason with this discriminant.
    pub const fn from_u8(value: u8) -> Option<Self> {
        if (value as usize) < Self::COUNT { Some(Self::ALL[value as usize]) } else { None }
    }

    /// Whether a packet with this reason is a hit: it matched an entry of the ruleset and is
    /// accounted in the flow ledger.
    pub const fn is_hit(self) -> bool {
        matches!(self, Self::ListObserved | Self::ModeObserved | Self::LifetimeOver | Self::Dropped)
    }

    /// Whether the program could not read the packet far enough to judge it.
    pub const fn is_unparsed(self) -> bool {
        matches!(
            self,
            Self::TruncatedEthernet
                | Self::TruncatedVlan
                | Self::TooManyVlans
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
            assert!(reason.as_str().bytes().all(|b| b == b'_' || b.is_ascii_lowercase()));
            assert!(Reason::ALL[..at].iter().all(|other| other.as_str() != reason.as_str()));
        }
    }

    #[test]
    fn only_a_hit_can_be_dropped() {
        for reason in Reason::ALL {
            assert!(reason.is_hit() || reason.verdict() == Verdict::Pass, "{reason:?}");
        }
    }
}
