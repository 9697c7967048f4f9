//! Who opted out, and what the kernel gets to know of it.

use std::{collections::BTreeMap, net::Ipv4Addr};

use ipnet::IpNet;
use sekisho_abi::{
    image::{Action, BuildError, Image, ImageBuilder, List, Port},
    opt_out::{self, BlockKey, BlockPorts},
};

/// Bytes of the image of opted-out addresses: room for some 400,000 of them.
pub(super) const CAPACITY: usize = 16 << 20;

/// Addresses whose traffic passes unseen.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OptOuts {
    /// Addresses and prefixes, with all their ports.
    pub networks: Vec<IpNet>,
    /// Port blocks of shared public addresses.
    pub blocks: Vec<PortBlock>,
}

/// Ports of a public address that one subscriber has (RFC 6431).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PortBlock {
    /// The public address.
    pub address: Ipv4Addr,
    /// First port.
    pub first: u16,
    /// Last port, not below the first.
    pub last: u16,
}

impl OptOuts {
    /// Whether nobody opted out.
    pub fn is_empty(&self) -> bool {
        self.networks.is_empty() && self.blocks.is_empty()
    }

    /// Whether the kernel can hold them, with so many rows for port blocks.
    pub fn check(&self, rows: u32) -> Result<(), String> {
        self.image(CAPACITY).map_err(|error| error.to_string())?;
        let needed = self.rows().len();
        if needed > rows as usize {
            return Err(format!(
                "the port blocks take {needed} rows of sixteen ports and dataplane.opt_out_rows is \
                 {rows}"
            ));
        }
        Ok(())
    }

    /// The image of the addresses, in at most `capacity` bytes.
    pub fn image(&self, capacity: usize) -> Result<Image, BuildError> {
        let list = |name: &str| List { name: name.to_owned(), action: Action::Observe };
        let mut builder = ImageBuilder::new(vec![list("opted-out"), list("port-blocks")]);
        for network in &self.networks {
            match network {
                IpNet::V4(v4) => {
                    builder.list_v4(v4.network(), v4.prefix_len(), Port::Any, opt_out::WHOLE);
                }
                IpNet::V6(v6) => {
                    builder.list_v6(v6.network(), v6.prefix_len(), Port::Any, opt_out::WHOLE);
                }
            }
        }
        for block in &self.blocks {
            builder.list_v4(block.address, 32, Port::Any, opt_out::BLOCKS);
        }
        builder.build(0, capacity)
    }

    /// The rows of the table of ports, each once.
    pub fn rows(&self) -> Vec<(BlockKey, BlockPorts)> {
        let mut rows: BTreeMap<(u32, u32), BlockPorts> = BTreeMap::new();
        for block in &self.blocks {
            let (first, _) = BlockKey::of(block.address.into(), block.first);
            let (last, _) = BlockKey::of(block.address.into(), block.last);
            for ports in first.ports..=last.ports {
                let from = if ports == first.ports { block.first & 15 } else { 0 };
                let to = if ports == last.ports { block.last & 15 } else { 15 };
                let bits = (0xffff_u64 >> (15 - to)) & (0xffff << from);
                *rows.entry((first.address, ports)).or_default() |= bits;
            }
        }
        rows.into_iter()
            .map(|((address, ports), bits)| (BlockKey { address, ports }, bits))
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use sekisho_abi::image;

    use super::*;

    fn listed_in(image: &Image, address: std::net::IpAddr) -> u64 {
        image::ask(image.bytes(), address, 0, None).all()
    }

    #[test]
    fn a_port_block_becomes_rows_of_sixteen_ports() {
        let block = PortBlock { address: Ipv4Addr::new(198, 51, 100, 7), first: 1030, last: 1041 };
        let opt_outs = OptOuts { networks: Vec::new(), blocks: vec![block] };
        let address = u32::from(block.address);
        assert_eq!(
            opt_outs.rows(),
            [
                (BlockKey { address, ports: 64 }, 0b1111_1111_1100_0000),
                (BlockKey { address, ports: 65 }, 0b11),
            ]
        );
        let image = opt_outs.image(8 << 20).unwrap();
        assert_eq!(listed_in(&image, block.address.into()), opt_out::BLOCKS);
    }

    #[test]
    fn networks_opt_out_whole() {
        let networks = ["100.64.7.0/24", "2001:db8:7::/48"].map(|text| text.parse().unwrap());
        let opt_outs = OptOuts { networks: networks.to_vec(), blocks: Vec::new() };
        let image = opt_outs.image(8 << 20).unwrap();
        for (text, lists) in [("100.64.7.9", 1), ("100.64.8.9", 0), ("2001:db8:7::9", 1)] {
            assert_eq!(listed_in(&image, text.parse().unwrap()), lists, "{text}");
        }
    }
}
