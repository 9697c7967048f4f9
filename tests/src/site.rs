//! An interface as the host sees it, for the same judgement as in the kernel.

use std::collections::HashMap;

use sekisho_abi::{
    encapsulation::Encapsulation,
    image::{Bytes, Image},
    opt_out::BlockKey,
    prefix::Prefixes,
    record::Role,
};
use sekisho_xdp::site::{PrefixSet, Site};

/// What a program would have as constants and in maps.
#[derive(Clone, Debug)]
pub struct HostSite {
    /// Which end of a packet is the subscriber's.
    pub role: Role,
    /// What is unwrapped.
    pub unwrapped: Encapsulation,
    /// Prefixes in which IPv4 addresses are embedded.
    pub embedding: Prefixes,
    /// The network's own infrastructure.
    pub infrastructure: Prefixes,
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
            unwrapped: Encapsulation::ALL,
            embedding: Prefixes::NONE,
            infrastructure: Prefixes::NONE,
            opt_outs: None,
            opted_out_ports: HashMap::new(),
        }
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
