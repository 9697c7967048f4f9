//! IPv6 networks that stand for IPv4 ones, so that what is refused as `8.8.8.8` is not let in as
//! `2002:808:808::`.
//!
//! IPv4-mapped addresses are read as IPv4, and those of translators (`64:ff9b::/96`) are on the
//! built-in list; what is left are the transition mechanisms inside 2000::/3.

use std::fmt;

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

/// How an IPv6 network stands for an IPv4 one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Form {
    /// A site of 6to4 (RFC 3056).
    SixToFour,
    /// The server of a Teredo client (RFC 4380).
    TeredoServer,
    /// A Teredo client, whose address is inverted.
    TeredoClient,
}

impl fmt::Display for Form {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::SixToFour => "the 6to4 form of",
            Self::TeredoServer => "a Teredo address with the server",
            Self::TeredoClient => "a Teredo address of the client",
        })
    }
}

const SIX_TO_FOUR: u128 = 0x2002 << 112;
const TEREDO: u128 = 0x2001_0000 << 96;

/// The IPv4 networks that an IPv6 network stands for; those of a network that is wider than what
/// tells them are all of IPv4.
pub(super) fn embedded(network: IpNet) -> impl Iterator<Item = (Form, Ipv4Net)> {
    let forms = match network {
        IpNet::V4(_) => [None; 2],
        IpNet::V6(v6) if overlaps(v6, SIX_TO_FOUR, 16) => {
            [Some((Form::SixToFour, bits(v6, 16, false))), None]
        }
        IpNet::V6(v6) if overlaps(v6, TEREDO, 32) => [
            Some((Form::TeredoServer, bits(v6, 32, false))),
            Some((Form::TeredoClient, bits(v6, 96, true))),
        ],
        IpNet::V6(_) => [None; 2],
    };
    forms.into_iter().flatten()
}

fn overlaps(network: Ipv6Net, prefix: u128, length: u8) -> bool {
    let common = length.min(network.prefix_len());
    let mask = u128::MAX.checked_shl(128 - u32::from(common)).unwrap_or(0);
    (u128::from(network.network()) ^ prefix) & mask == 0
}

/// The IPv4 network in the 32 bits from `at` on.
fn bits(network: Ipv6Net, at: u8, is_inverted: bool) -> Ipv4Net {
    let shift = 128 - 32 - u32::from(at);
    let address = (u128::from(network.network()) >> shift) as u32;
    let address = if is_inverted { !address } else { address };
    let length = network.prefix_len().saturating_sub(at).min(32);
    Ipv4Net::new(address.into(), length).map_or_else(|_| Ipv4Net::default(), |net| net.trunc())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(network: &str) -> Vec<String> {
        let each = embedded(network.parse().unwrap());
        each.map(|(form, net)| format!("{form} {net}")).collect()
    }

    #[test]
    fn the_address_inside_is_found_whole_and_in_part() {
        assert_eq!(found("2002:808:808::/48"), ["the 6to4 form of 8.8.8.8/32"]);
        assert_eq!(found("2002:808:808:1::9/128"), ["the 6to4 form of 8.8.8.8/32"]);
        assert_eq!(found("2002:a00::/24"), ["the 6to4 form of 10.0.0.0/8"]);
        assert_eq!(found("2002::/16"), ["the 6to4 form of 0.0.0.0/0"]);
        assert_eq!(
            found("2001:0:c612:1:8000:f227:f7f7:f7f7/128"),
            [
                "a Teredo address with the server 198.18.0.1/32",
                "a Teredo address of the client 8.8.8.8/32"
            ]
        );
        assert_eq!(
            found("2001:0:808:808::/64"),
            [
                "a Teredo address with the server 8.8.8.8/32",
                "a Teredo address of the client 0.0.0.0/0"
            ]
        );
    }

    #[test]
    fn what_lies_around_is_found_and_what_lies_beside_is_not() {
        assert_eq!(found("2000::/8"), ["the 6to4 form of 0.0.0.0/0"]);
        assert_eq!(found("2001::/16").len(), 2);
        for network in ["2003::/16", "2001:1::/32", "2001:2::1/128", "2a00::/12", "8.8.8.8/32"] {
            assert!(found(network).is_empty(), "{network}");
        }
    }
}
