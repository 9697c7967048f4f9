//! IPv4 addresses embedded in IPv6 addresses (RFC 6052, 2.2).

use sekisho_abi::prefix::Prefix;

/// The IPv4 address behind a prefix of 32, 40, 48, 56, 64 or 96 bits, host byte order.
///
/// But for the longest prefix, bits 64 to 71 (the "u" octet) are left out.
#[inline(always)]
pub fn behind(prefix: Prefix, high: u64, low: u64) -> u32 {
    if prefix.length >= 96 {
        return low as u32;
    }
    // How many bits of the IPv4 address are in the lower half.
    let below = prefix.length.wrapping_sub(32) & 63;
    let above = (high << below) as u32;
    let rest = low << 8 >> 32;
    above | (rest >> (32_u64.wrapping_sub(below) & 63)) as u32
}

#[cfg(test)]
mod tests {
    use std::net::Ipv6Addr;

    use super::*;

    /// RFC 6052, 2.4, table 3.
    #[test]
    fn the_examples_of_the_rfc_hold() {
        for (length, text) in [
            (32, "2001:db8:c000:221::"),
            (40, "2001:db8:1c0:2:21::"),
            (48, "2001:db8:122:c000:2:2100::"),
            (56, "2001:db8:122:3c0:0:221::"),
            (64, "2001:db8:122:344:c0:2:2100::"),
            (96, "2001:db8:122:344::192.0.2.33"),
        ] {
            let bits = text.parse::<Ipv6Addr>().unwrap().to_bits();
            let (high, low) = ((bits >> 64) as u64, bits as u64);
            let found = behind(Prefix::new(high, low, length), high, low);
            assert_eq!(std::net::Ipv4Addr::from(found).to_string(), "192.0.2.33", "/{length}");
        }
    }
}
