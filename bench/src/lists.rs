//! Lists to load: seeded, so that every run of a machine measures the same.

use std::{
    collections::HashSet,
    net::{Ipv4Addr, Ipv6Addr},
    ops::Range,
    slice,
};

use anyhow::Result;
use sekisho_abi::image::{Action, Image, ImageBuilder, List, Port};

/// How the entries of a list lie in the address space.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    /// Anywhere.
    Uniform,
    /// As in a public list of 120,000 hosts (ipsum of August 2026): it fills 65,000 /24s, of which 86 %
    /// have one host and few have dozens, and 18,000 /16s.
    Clustered,
}

impl Shape {
    /// What follows the family in names of benchmarks.
    pub const fn suffix(self) -> &'static str {
        match self {
            Self::Uniform => "",
            Self::Clustered => "-clustered",
        }
    }
}

/// Entries of both families, all different, in random order: a shorter list is the beginning.
pub struct Entries {
    /// IPv4 hosts.
    pub v4: Vec<Ipv4Addr>,
    /// IPv6 hosts.
    pub v6: Vec<Ipv6Addr>,
    known_v4: HashSet<Ipv4Addr>,
    known_v6: HashSet<Ipv6Addr>,
}

/// A host of IPv6 takes several times the room of one of IPv4 in an image.
const MOST_V6: usize = 1_000_000;
const SEED: u64 = 0x5e_c1_50;

impl Entries {
    /// So many entries of either family, but of IPv6 no more than a million.
    pub fn new(shape: Shape, count: usize) -> Self {
        let mut random = fastrand::Rng::with_seed(SEED);
        let mut entries = Self {
            v4: Vec::with_capacity(count),
            v6: Vec::with_capacity(count),
            known_v4: HashSet::with_capacity(count),
            known_v6: HashSet::with_capacity(count),
        };
        while entries.v4.len() < count {
            for address in draw_v4(shape, &mut random) {
                if entries.v4.len() < count && entries.known_v4.insert(address) {
                    entries.v4.push(address);
                }
            }
        }
        while entries.v6.len() < count.min(MOST_V6) {
            let address = any_v6(&mut random);
            if entries.known_v6.insert(address) {
                entries.v6.push(address);
            }
        }
        random.shuffle(&mut entries.v4);
        entries
    }

    /// IPv4 addresses that none of these list.
    pub fn clean_v4(lists: &[&Self], count: usize) -> Vec<Ipv4Addr> {
        let mut random = fastrand::Rng::with_seed(SEED + 1);
        std::iter::repeat_with(|| any_v4(&mut random))
            .filter(|address| lists.iter().all(|list| !list.known_v4.contains(address)))
            .take(count)
            .collect()
    }

    /// IPv6 addresses that none of these list.
    pub fn clean_v6(lists: &[&Self], count: usize) -> Vec<Ipv6Addr> {
        let mut random = fastrand::Rng::with_seed(SEED + 1);
        std::iter::repeat_with(|| any_v6(&mut random))
            .filter(|address| lists.iter().all(|list| !list.known_v6.contains(address)))
            .take(count)
            .collect()
    }

    /// The image of the first `count` entries of both families that drops what they list, in at most
    /// `capacity` bytes.
    pub fn image(&self, count: usize, generation: u32, capacity: usize) -> Result<Image> {
        self.image_of(Action::Drop, slice::from_ref(&(0..count)), generation, capacity)
    }

    /// The same of these parts, and with another action.
    pub fn image_of(
        &self,
        action: Action,
        parts: &[Range<usize>],
        generation: u32,
        capacity: usize,
    ) -> Result<Image> {
        let mut builder = ImageBuilder::new(vec![List { name: "bench".to_owned(), action }]);
        for part in parts {
            for address in self.v4.iter().take(part.end).skip(part.start) {
                builder.list_v4(*address, 32, Port::Any, 1);
            }
            for address in self.v6.iter().take(part.end).skip(part.start) {
                builder.list_v6(*address, 128, Port::Any, 1);
            }
        }
        Ok(builder.build(generation, capacity)?)
    }
}

/// So many IPv4 hosts anywhere, all different.
pub fn uniform_v4(count: usize) -> Vec<Ipv4Addr> {
    let mut random = fastrand::Rng::with_seed(SEED + 2);
    let mut known = HashSet::with_capacity(count);
    while known.len() < count {
        known.insert(any_v4(&mut random));
    }
    // The set's own order changes from run to run.
    let mut addresses: Vec<Ipv4Addr> = known.into_iter().collect();
    addresses.sort_unstable();
    random.shuffle(&mut addresses);
    addresses
}

fn draw_v4(shape: Shape, random: &mut fastrand::Rng) -> Vec<Ipv4Addr> {
    match shape {
        Shape::Uniform => vec![any_v4(random)],
        Shape::Clustered => {
            let [first, second, ..] = any_v4(random).octets();
            let networks = random.usize(1..=32);
            let network = |random: &mut fastrand::Rng| {
                let third = random.u8(..);
                // Where there is more than one, it halves as often as it doubles.
                let is_alone = random.u8(0..7) > 0;
                let hosts = if is_alone { 1 } else { 2 << random.u32(..).leading_ones().min(6) };
                (0..hosts)
                    .map(|_| Ipv4Addr::new(first, second, third, random.u8(..)))
                    .collect::<Vec<_>>()
            };
            (0..networks).flat_map(|_| network(random)).collect()
        }
    }
}

/// Any unicast address that a host of the Internet can have; 100.64.0.0/10 is the subscribers'.
fn any_v4(random: &mut fastrand::Rng) -> Ipv4Addr {
    loop {
        let address = Ipv4Addr::from(random.u32(..));
        let [first, second, ..] = address.octets();
        let is_special = first == 0
            || first >= 224
            || address.is_private()
            || address.is_loopback()
            || address.is_link_local()
            || (first == 100 && (64..128).contains(&second));
        if !is_special {
            return address;
        }
    }
}

/// Any address in 2000::/3, the global unicast space.
fn any_v6(random: &mut fastrand::Rng) -> Ipv6Addr {
    Ipv6Addr::from((random.u128(..) >> 3) | 1 << 125)
}

/// A count as names of benchmarks spell it: 1, 10k, 1M.
pub fn label(count: usize) -> String {
    match count {
        0..1_000 => count.to_string(),
        1_000..1_000_000 => format!("{}k", count / 1_000),
        _ => format!("{}M", count / 1_000_000),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clean_addresses_are_not_listed_and_listed_ones_are() {
        for shape in [Shape::Uniform, Shape::Clustered] {
            let entries = Entries::new(shape, 5_000);
            let image = entries.image(5_000, 1, 64 << 20).unwrap();
            let ask = |address| sekisho_abi::image::ask(image.bytes(), address, 17, Some(53)).all();
            assert!(entries.v4.iter().all(|address| ask((*address).into()) == 1));
            assert!(entries.v6.iter().all(|address| ask((*address).into()) == 1));
            assert!(
                Entries::clean_v4(&[&entries], 5_000)
                    .iter()
                    .all(|address| ask((*address).into()) == 0)
            );
            assert!(
                Entries::clean_v6(&[&entries], 5_000)
                    .iter()
                    .all(|address| ask((*address).into()) == 0)
            );
        }
    }

    #[test]
    fn a_clustered_list_fills_far_fewer_networks() {
        let networks = |shape| {
            let entries = Entries::new(shape, 20_000);
            entries.v4.iter().map(|address| u32::from(*address) >> 8).collect::<HashSet<_>>().len()
        };
        let share = networks(Shape::Clustered) as f64 / networks(Shape::Uniform) as f64;
        assert!((0.45..0.65).contains(&share), "{share}");
    }
}
