//! Captures that others made: pcap and pcapng, as Ethernet frames.

use std::{fs::File, path::Path};

use anyhow::{Context as _, anyhow, bail};
use pcap_parser::{Block, Linktype, PcapBlockOwned, PcapError, create_reader};

use crate::packet;

/// Room for the largest block, a packet of 256 KiB.
const BUFFER: usize = 512 << 10;

/// Every packet of a capture as an Ethernet frame: what was captured behind Ethernet gets a header.
pub fn frames(path: &Path) -> anyhow::Result<Vec<Vec<u8>>> {
    let file = File::open(path).with_context(|| path.display().to_string())?;
    let mut reader = create_reader(BUFFER, file).map_err(|error| failed(path, &error))?;
    let (mut links, mut frames) = (Vec::new(), Vec::new());
    loop {
        let length = match reader.next() {
            Ok((length, block)) => {
                if let Some((link, data)) = packet(&mut links, &block) {
                    let frame = ethernet(link?, data);
                    frames.push(frame.with_context(|| path.display().to_string())?);
                }
                length
            }
            Err(PcapError::Eof) => return Ok(frames),
            // Ends inside a packet, as a capture that was cut off does.
            Err(PcapError::UnexpectedEof) => return Ok(frames),
            Err(PcapError::Incomplete(_)) => {
                reader.refill().map_err(|error| failed(path, &error))?;
                continue;
            }
            Err(error) => return Err(failed(path, &error)),
        };
        reader.consume(length);
    }
}

fn failed(path: &Path, error: &dyn std::fmt::Debug) -> anyhow::Error {
    anyhow!("{}: {error:?}", path.display())
}

/// The packet of a block, with the link type that it was captured on; headers are remembered.
fn packet<'a>(
    links: &mut Vec<Linktype>,
    block: &'a PcapBlockOwned<'_>,
) -> Option<(anyhow::Result<Linktype>, &'a [u8])> {
    let (interface, data) = match block {
        PcapBlockOwned::LegacyHeader(header) => {
            links.push(header.network);
            return None;
        }
        PcapBlockOwned::Legacy(packet) => (0, packet.data),
        PcapBlockOwned::NG(Block::SectionHeader(_)) => {
            links.clear();
            return None;
        }
        PcapBlockOwned::NG(Block::InterfaceDescription(interface)) => {
            links.push(interface.linktype);
            return None;
        }
        // The data is padded to whole words.
        PcapBlockOwned::NG(Block::EnhancedPacket(packet)) => {
            (packet.if_id as usize, packet.data.get(..packet.caplen as usize)?)
        }
        PcapBlockOwned::NG(Block::SimplePacket(packet)) => {
            (0, packet.data.get(..packet.data.len().min(packet.origlen as usize))?)
        }
        PcapBlockOwned::NG(_) => return None,
    };
    let link = links.get(interface).copied();
    Some((link.ok_or_else(|| anyhow!("a packet of an interface that was not described")), data))
}

fn ethernet(link: Linktype, data: &[u8]) -> anyhow::Result<Vec<u8>> {
    let (ethertype, payload) = match link {
        Linktype::ETHERNET => return Ok(data.to_vec()),
        Linktype::RAW | Linktype::IPV4 | Linktype::IPV6 | Linktype(12 | 14) => {
            let is_ipv6 = data.first().is_some_and(|first| first >> 4 == 6);
            (if is_ipv6 { [0x86, 0xdd] } else { [0x08, 0x00] }, Some(data))
        }
        // Linux "cooked": the protocol at the end of 16 bytes, or at the beginning of 20.
        Linktype::LINUX_SLL => (pair(data, 14), data.get(16..)),
        Linktype(276) => (pair(data, 0), data.get(20..)),
        // PPP without and with its HDLC framing (RFC 1662): a session over Ethernet carries the former.
        Linktype(9 | 50) => {
            let ppp = data.strip_prefix(&[0xff, 0x03]).unwrap_or(data);
            let length = (ppp.len() as u16).to_be_bytes();
            return Ok(packet::ethernet(
                &[],
                0x8864,
                &[&[0x11, 0, 0, 1][..], &length, ppp].concat(),
            ));
        }
        other => bail!("link type {} is not read", other.0),
    };
    let header = [&[0x02, 0, 0, 0, 0, 1, 0x02, 0, 0, 0, 0, 2][..], &ethertype].concat();
    Ok([&header, payload.unwrap_or_default()].concat())
}

fn pair(data: &[u8], at: usize) -> [u8; 2] {
    data.get(at..).and_then(|rest| rest.first_chunk()).copied().unwrap_or_default()
}
