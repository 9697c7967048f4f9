//! Building an image: sort, cut out what is allowed, share what is alike.
//!
//! - [`prefix`]: prefixes as sortable keys
//! - [`selectors`]: what is said of them, each set of conditions kept once
//! - [`tree`]: the words of the slots and what is below them
//! - [`mod@write`]: the bytes

mod prefix;
mod selectors;
mod tree;
mod write;

use std::{
    fmt,
    net::{Ipv4Addr, Ipv6Addr},
};

use self::{
    prefix::{ALLOW, GLOBAL_UNICAST, Item, SHARED_BITS, part_around},
    selectors::{Claims, Selectors},
    tree::Trees,
    write::Parts,
};
use super::{
    layout::{DYNAMIC, LIST_NAME_BYTES, SHORTEST_V4, SHORTEST_V6, port, rule},
    lookup::{self, Header, Lists},
    named::{Asked, Named},
};
use crate::{ABI_VERSION, MAX_LISTS, canary};

/// A set of lists, as bits by their slot.
pub type ListSet = u64;

/// What a list asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Action {
    /// Count the packet, let it pass.
    Observe,
    /// Count the packet, drop it.
    Drop,
    /// Count the packet, drop it, and tell the subscriber.
    Reject,
    /// Count the packet, send it to the sinkhole.
    Sinkhole,
}

/// A list as the image knows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct List {
    /// At most [`LIST_NAME_BYTES`] bytes; empty marks a slot that is not in use.
    pub name: String,
    /// What its entries ask for.
    pub action: Action,
}

/// Which packets of a network an entry means.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Port {
    /// Every packet.
    #[default]
    Any,
    /// Every packet of the protocol (IANA number).
    Protocol(u8),
    /// One port of the protocol (IANA number). Port 0 is the same as [`Port::Protocol`].
    One(u8, u16),
}

impl Port {
    /// 0 for any packet, which no protocol and port can have: protocol 0 has no ports.
    const fn key(self) -> u32 {
        match self {
            Self::Any => 0,
            Self::Protocol(protocol) => port::key(protocol, 0),
            Self::One(protocol, number) => port::key(protocol, number),
        }
    }
}

/// A size of the image that cannot be exceeded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Limit {
    /// Bytes of the image, set by the dataplane's capacity.
    Bytes,
    /// Different combinations of lists.
    Rules,
    /// Different combinations of rules and port conditions.
    Selectors,
    /// Port conditions on one network.
    PortsOfOneNetwork,
    /// Lists.
    Lists,
}

impl fmt::Display for Limit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Bytes => "bytes of the ruleset image",
            Self::Rules => "combinations of lists",
            Self::Selectors => "combinations of rules and port conditions",
            Self::PortsOfOneNetwork => "port conditions on one network",
            Self::Lists => "lists",
        })
    }
}

/// Why there is no image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BuildError {
    /// More of something than an image can hold.
    Full {
        /// What there is too much of.
        limit: Limit,
        /// How much there is, as far as it was counted.
        needed: u64,
        /// How much fits.
        allowed: u64,
    },
    /// A prefix shorter than any allocation: no list can mean that.
    TooWide {
        /// The prefix.
        network: String,
        /// The shortest length that can be listed.
        shortest: u8,
    },
    /// An IPv6 prefix outside of 2000::/3.
    NotGlobalUnicast {
        /// The prefix.
        network: String,
    },
    /// A list's name is longer than the image has room for.
    NameTooLong {
        /// The name.
        name: String,
    },
    /// An entry names a list that was not declared.
    UnknownList {
        /// The set with the undeclared bit.
        lists: ListSet,
    },
}

impl fmt::Display for BuildError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Full { limit, needed, allowed } => {
                write!(f, "too many {limit}: {needed} needed, {allowed} fit")
            }
            Self::TooWide { network, shortest } => {
                write!(
                    f,
                    "{network} is too wide: the shortest prefix that can be listed is /{shortest}"
                )
            }
            Self::NotGlobalUnicast { network } => {
                write!(f, "{network} is outside 2000::/3, where no host of the Internet lives")
            }
            Self::NameTooLong { name } => {
                write!(f, "list name '{name}' is longer than {LIST_NAME_BYTES} bytes")
            }
            Self::UnknownList { lists } => {
                write!(f, "list set {lists:#x} names an undeclared list")
            }
        }
    }
}

impl std::error::Error for BuildError {}

/// A finished image.
#[derive(Clone)]
pub struct Image {
    bytes: Vec<u8>,
    rules: Vec<Lists>,
}

impl Image {
    /// The bytes, as they go into the map.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// The lists behind each rule, by rule; rule 0 has none.
    pub fn rules(&self) -> &[Lists] {
        &self.rules
    }

    /// What the image says of itself.
    pub fn header(&self) -> Header {
        // An image that was just built has a header.
        lookup::header(self.bytes.as_slice()).unwrap_or(Header {
            abi: ABI_VERSION,
            generation: 0,
            bytes: 0,
            checksum: 0,
            prefixes_v4: 0,
            prefixes_v6: 0,
            rules: 0,
        })
    }
}

impl fmt::Debug for Image {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Image").field(&self.header()).finish()
    }
}

/// Collects entries and builds an image of them.
#[derive(Debug)]
pub struct ImageBuilder {
    lists: Vec<List>,
    v4: Vec<Item<u32>>,
    v6: Vec<Item<u128>>,
    claims: Claims,
    rules: Vec<Lists>,
    canary: bool,
    error: Option<BuildError>,
}

impl ImageBuilder {
    /// `lists` are declared in the order of their slots.
    pub fn new(lists: Vec<List>) -> Self {
        let error = if lists.len() > MAX_LISTS {
            Some(full(Limit::Lists, lists.len(), MAX_LISTS))
        } else {
            lists
                .iter()
                .find(|list| list.name.len() > LIST_NAME_BYTES)
                .map(|list| BuildError::NameTooLong { name: list.name.clone() })
        };
        Self {
            lists,
            v4: Vec::new(),
            v6: Vec::new(),
            claims: Claims::default(),
            rules: vec![Lists::default()],
            canary: false,
            error,
        }
    }

    /// Lists the [`canary`] as well, alone and whatever is allowed; it does not count as a prefix. Its
    /// list takes the last slot.
    pub fn with_canary(mut self) -> Self {
        self.canary = true;
        self
    }

    /// Keeps the rule numbers of an earlier image, so that totals by rule go on.
    pub fn keep_rules(&mut self, rules: &[Lists]) {
        if rules.first() == Some(&Lists::default()) && rules.len() <= rule::MAX {
            self.rules = rules.to_vec();
        }
    }

    /// Lists an IPv4 prefix. Host bits are ignored.
    pub fn list_v4(&mut self, address: Ipv4Addr, length: u8, port: Port, lists: impl Into<Named>) {
        if !(SHORTEST_V4..=32).contains(&length) {
            return self.fail(BuildError::TooWide {
                network: format!("{address}/{length}"),
                shortest: SHORTEST_V4,
            });
        }
        let claim = self.claim(port, lists.into());
        self.v4.push(Item::new(u32::from(address), length, claim));
    }

    /// Lists an IPv6 prefix. Host bits are ignored.
    pub fn list_v6(&mut self, address: Ipv6Addr, length: u8, port: Port, lists: impl Into<Named>) {
        if !(SHORTEST_V6..=128).contains(&length) {
            return self.fail(BuildError::TooWide {
                network: format!("{address}/{length}"),
                shortest: SHORTEST_V6,
            });
        }
        let bits = u128::from(address);
        if (bits ^ GLOBAL_UNICAST) >> (128 - SHARED_BITS) != 0 {
            return self
                .fail(BuildError::NotGlobalUnicast { network: format!("{address}/{length}") });
        }
        let claim = self.claim(port, lists.into());
        self.v6.push(Item::new(bits << SHARED_BITS, length - SHARED_BITS, claim));
    }

    /// Never lists this IPv4 prefix, whatever else is said. Host bits are ignored.
    pub fn allow_v4(&mut self, address: Ipv4Addr, length: u8) {
        self.v4.push(Item::new(u32::from(address), length.min(32), ALLOW));
    }

    /// Never lists this IPv6 prefix, whatever else is said. Host bits are ignored, and so is a prefix
    /// without an address in 2000::/3.
    pub fn allow_v6(&mut self, address: Ipv6Addr, length: u8) {
        let bits = u128::from(address);
        let differs = (bits ^ GLOBAL_UNICAST) >> (128 - SHARED_BITS);
        if differs >> (SHARED_BITS - length.min(SHARED_BITS)) == 0 {
            let length = length.clamp(SHARED_BITS, 128) - SHARED_BITS;
            self.v6.push(Item::new(bits << SHARED_BITS, length, ALLOW));
        }
    }

    /// Builds the image of at most `capacity` bytes.
    pub fn build(mut self, generation: u32, capacity: usize) -> Result<Image, BuildError> {
        if self.canary {
            self.add_canary();
        }
        if let Some(error) = self.error {
            return Err(error);
        }
        let unlisted = u32::from(self.canary);
        let room = (capacity.min(1 << 29)).saturating_sub(DYNAMIC) / 4;
        let mut trees =
            Trees { pool: Vec::new(), selectors: Selectors::new(room), room, error: None };
        let prefixes_v4 = self.claims.gather(&mut self.v4, &mut trees.selectors) - unlisted;
        let slots_v4 = trees.slots(&self.v4);
        drop(self.v4);
        let prefixes_v6 = self.claims.gather(&mut self.v6, &mut trees.selectors) - unlisted;
        let slots_v6 = trees.slots(&self.v6);
        drop(self.v6);
        let Trees { pool, selectors, error, .. } = trees;
        if let Some(error) = error.or(selectors.error()) {
            return Err(error);
        }
        let tables = selectors.into_tables(self.rules, &Asked::of(&self.lists))?;
        Parts { generation, lists: &self.lists, prefixes_v4, prefixes_v6, slots_v4, slots_v6, pool }
            .write(tables, capacity)
    }

    fn add_canary(&mut self) {
        let feeds = self.lists.len();
        if feeds > canary::LIST {
            return self.fail(full(Limit::Lists, feeds, canary::LIST));
        }
        let unused = List { name: String::new(), action: Action::Observe };
        self.lists.resize(canary::LIST, unused);
        self.lists.push(List { name: canary::NAME.to_owned(), action: Action::Drop });
        part_around(&mut self.v4, canary::V4.to_bits());
        part_around(&mut self.v6, canary::V6.to_bits() << SHARED_BITS);
        self.list_v4(canary::V4, 32, Port::Any, CANARY);
        self.list_v6(canary::V6, 128, Port::Any, CANARY);
    }

    fn claim(&mut self, port: Port, lists: Named) -> u32 {
        let declared = u64::MAX.checked_shr(64 - self.lists.len().min(64) as u32).unwrap_or(0);
        if lists.is_empty() || lists.all() & !declared != 0 {
            self.fail(BuildError::UnknownList { lists: lists.all() });
            return 0;
        }
        self.claims.number((port.key(), Named::default().with(lists)))
    }

    fn fail(&mut self, error: BuildError) {
        self.error.get_or_insert(error);
    }
}

const CANARY: ListSet = 1 << canary::LIST;

fn full(limit: Limit, needed: usize, allowed: usize) -> BuildError {
    BuildError::Full { limit, needed: needed as u64, allowed: allowed as u64 }
}
