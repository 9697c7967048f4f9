//! What packets are wrapped in.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// What a packet is wrapped in, as a set of bits.
#[derive(
    Clone,
    Copy,
    Debug,
    Default,
    PartialEq,
    Eq,
    Hash,
    PartialOrd,
    Ord,
    FromBytes,
    IntoBytes,
    Immutable,
    KnownLayout,
)]
#[repr(transparent)]
pub struct Encapsulation(pub u8);

impl Encapsulation {
    /// PPPoE session, RFC 2516.
    pub const PPPOE: Self = Self(1);
    /// MPLS, RFC 3032.
    pub const MPLS: Self = Self(1 << 1);
    /// IPv4 in IPv6: DS-Lite (RFC 6333), MAP-E (RFC 7597), lw4o6 (RFC 7596).
    pub const IPV4_IN_IPV6: Self = Self(1 << 2);
    /// IPv6 in IPv4: 6in4 (RFC 4213), 6rd (RFC 5969).
    pub const IPV6_IN_IPV4: Self = Self(1 << 3);
    /// IPv4 in IPv4, RFC 2003.
    pub const IPIP: Self = Self(1 << 4);
    /// IPv6 in IPv6, RFC 2473.
    pub const IP6IP6: Self = Self(1 << 5);
    /// GRE, RFC 2784 and RFC 2890.
    pub const GRE: Self = Self(1 << 6);
    /// The listed IPv4 address is embedded in an IPv6 address: NAT64, 464XLAT, MAP-T (RFC 6052).
    pub const EMBEDDED: Self = Self(1 << 7);
    /// Everything that can be switched off.
    pub const ALL: Self = Self(0x7f);

    /// Each kind with its name in configuration and reports.
    pub const NAMES: [(Self, &'static str); 8] = [
        (Self::PPPOE, "pppoe"),
        (Self::MPLS, "mpls"),
        (Self::IPV4_IN_IPV6, "ipv4-in-ipv6"),
        (Self::IPV6_IN_IPV4, "ipv6-in-ipv4"),
        (Self::IPIP, "ipip"),
        (Self::IP6IP6, "ip6ip6"),
        (Self::GRE, "gre"),
        (Self::EMBEDDED, "embedded-ipv4"),
    ];

    /// Whether all of these are among them.
    #[inline(always)]
    pub const fn has(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    /// These and those.
    #[inline(always)]
    #[must_use]
    pub const fn with(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// The names of those that are in it.
    pub fn names(self) -> impl Iterator<Item = &'static str> {
        Self::NAMES.into_iter().filter(move |(kind, _)| self.has(*kind)).map(|(_, name)| name)
    }
}
