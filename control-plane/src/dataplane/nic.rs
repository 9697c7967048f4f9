//! What NICs do to frames, as the generic netlink family `ethtool` tells and changes it.

use std::{collections::HashSet, io};

use ethtool::{EthtoolAttr, EthtoolFeatureAttr, EthtoolHandle};
use futures_util::StreamExt as _;
use netlink_packet_core::{
    DecodeError, DefaultNla, Emitable, NLA_F_NESTED, NLM_F_ACK, NLM_F_REQUEST, NetlinkHeader,
    NetlinkMessage, NetlinkPayload, Nla as _, NlasIterator, ParseableParametrized,
};
use netlink_packet_generic::{GenlFamily, GenlHeader, GenlMessage};

/// What the kernel calls it that a NIC strips 802.1Q tags.
pub const STRIPS_VLAN: &str = "rx-vlan-hw-parse";
/// What the kernel calls it that a NIC strips 802.1ad tags.
pub const STRIPS_SERVICE_VLAN: &str = "rx-vlan-stag-hw-parse";

/// Names of all offloads that are on; `None` if the driver does not tell.
pub async fn offloads(ethtool: &EthtoolHandle, interface: &str) -> Option<HashSet<String>> {
    let mut handle = ethtool.clone();
    let mut replies = Box::pin(handle.feature().get(Some(interface)).execute().await.ok()?);
    let mut active = None;
    while let Some(Ok(reply)) = replies.next().await {
        for attribute in reply.payload.nlas {
            if let EthtoolAttr::Feature(EthtoolFeatureAttr::Active(bits)) = attribute {
                let on = bits.into_iter().filter(|bit| bit.value);
                active = Some(on.map(|bit| bit.name).collect());
            }
        }
    }
    active
}

/// Switches offloads off. That one can't be changed is no error to the kernel.
pub(super) async fn switch_off(
    ethtool: &EthtoolHandle,
    interface: &str,
    offloads: &[&str],
) -> io::Result<()> {
    let change = Message::offloads_off(interface, offloads);
    for answer in ask(ethtool, change, NLM_F_REQUEST | NLM_F_ACK).await? {
        if let NetlinkPayload::Error(told) = answer
            && told.code.is_some()
        {
            return Err(told.to_io());
        }
    }
    Ok(())
}

/// Whether a switch that only this driver has is on; `None` if it has none of this name.
pub async fn private_flag(ethtool: &EthtoolHandle, interface: &str, flag: &str) -> Option<bool> {
    let answers = ask(ethtool, Message::private_flags(interface), NLM_F_REQUEST).await.ok()?;
    answers.into_iter().find_map(|answer| match answer {
        NetlinkPayload::InnerMessage(told) => told.payload.private_flag(flag),
        _ => None,
    })
}

async fn ask(
    ethtool: &EthtoolHandle,
    question: Message,
    flags: u16,
) -> io::Result<Vec<NetlinkPayload<GenlMessage<Message>>>> {
    let mut header = NetlinkHeader::default();
    header.flags = flags;
    let payload = NetlinkPayload::from(GenlMessage::from_payload(question));
    let mut handle = ethtool.handle.clone();
    let request = handle.request(NetlinkMessage::new(header, payload)).await;
    let mut answers = request.map_err(io::Error::other)?;
    let mut told = Vec::new();
    while let Some(answer) = answers.next().await {
        told.push(answer.map_err(io::Error::other)?.payload);
    }
    Ok(told)
}

/// Numbers of linux/ethtool_netlink.h.
mod number {
    /// `ETHTOOL_MSG_FEATURES_SET`.
    pub(super) const SET_FEATURES: u8 = 12;
    /// `ETHTOOL_MSG_PRIVFLAGS_GET`.
    pub(super) const GET_PRIVATE_FLAGS: u8 = 13;
    /// `ETHTOOL_A_FEATURES_HEADER` and `ETHTOOL_A_PRIVFLAGS_HEADER`.
    pub(super) const HEADER: u16 = 1;
    /// `ETHTOOL_A_HEADER_DEV_NAME`.
    pub(super) const INTERFACE: u16 = 2;
    /// `ETHTOOL_A_HEADER_FLAGS`.
    pub(super) const HEADER_FLAGS: u16 = 3;
    /// `ETHTOOL_FLAG_OMIT_REPLY`.
    pub(super) const OMIT_REPLY: u32 = 1 << 1;
    /// `ETHTOOL_A_FEATURES_WANTED`.
    pub(super) const WANTED: u16 = 3;
    /// `ETHTOOL_A_PRIVFLAGS_FLAGS`.
    pub(super) const PRIVATE_FLAGS: u16 = 2;
    /// `ETHTOOL_A_BITSET_BITS`.
    pub(super) const BITS: u16 = 3;
    /// `ETHTOOL_A_BITSET_BITS_BIT`.
    pub(super) const BIT: u16 = 1;
    /// `ETHTOOL_A_BITSET_BIT_NAME`.
    pub(super) const BIT_NAME: u16 = 2;
    /// `ETHTOOL_A_BITSET_BIT_VALUE`.
    pub(super) const BIT_VALUE: u16 = 3;
}

/// One that the crate for ethtool does not know.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Message {
    command: u8,
    attributes: Vec<DefaultNla>,
}

impl Message {
    /// Leaves other offloads as they are: a bit that is named without a value is switched off.
    fn offloads_off(interface: &str, names: &[&str]) -> Self {
        let bit =
            |name: &&str| nest(number::BIT, &[DefaultNla::new(number::BIT_NAME, terminated(name))]);
        let bits: Vec<DefaultNla> = names.iter().map(bit).collect();
        let attributes = vec![
            nest(
                number::HEADER,
                &[
                    DefaultNla::new(number::INTERFACE, terminated(interface)),
                    DefaultNla::new(
                        number::HEADER_FLAGS,
                        number::OMIT_REPLY.to_ne_bytes().to_vec(),
                    ),
                ],
            ),
            nest(number::WANTED, &[nest(number::BITS, &bits)]),
        ];
        Self { command: number::SET_FEATURES, attributes }
    }

    fn private_flags(interface: &str) -> Self {
        let interface = DefaultNla::new(number::INTERFACE, terminated(interface));
        let attributes = vec![nest(number::HEADER, &[interface])];
        Self { command: number::GET_PRIVATE_FLAGS, attributes }
    }

    fn private_flag(&self, wanted: &str) -> Option<bool> {
        let flags = inside(&self.attributes, number::PRIVATE_FLAGS)?;
        let bits = inside(&flags, number::BITS)?;
        let bits = bits.iter().filter(|attribute| attribute.kind() == number::BIT);
        bits.filter_map(|bit| nested(&value(bit))).find_map(|bit| {
            let name = bit.iter().find(|part| part.kind() == number::BIT_NAME)?;
            (value(name) == terminated(wanted))
                .then(|| bit.iter().any(|part| part.kind() == number::BIT_VALUE))
        })
    }
}

fn terminated(text: &str) -> Vec<u8> {
    [text.as_bytes(), &[0]].concat()
}

fn nest(kind: u16, inside: &[DefaultNla]) -> DefaultNla {
    let mut bytes = vec![0; inside.buffer_len()];
    inside.emit(&mut bytes);
    DefaultNla::new(kind | NLA_F_NESTED, bytes)
}

/// What the attribute of this kind consists of.
fn inside(attributes: &[DefaultNla], kind: u16) -> Option<Vec<DefaultNla>> {
    nested(&value(attributes.iter().find(|attribute| attribute.kind() == kind)?))
}

fn nested(bytes: &[u8]) -> Option<Vec<DefaultNla>> {
    attributes(bytes).ok()
}

fn value(attribute: &DefaultNla) -> Vec<u8> {
    let mut bytes = vec![0; attribute.value_len()];
    attribute.emit_value(&mut bytes);
    bytes
}

fn attributes(bytes: &[u8]) -> Result<Vec<DefaultNla>, DecodeError> {
    let attributes = NlasIterator::new(bytes).map(|attribute| {
        let attribute = attribute?;
        Ok(DefaultNla::new(attribute.kind(), attribute.value().to_vec()))
    });
    attributes.collect()
}

impl GenlFamily for Message {
    fn family_name() -> &'static str {
        "ethtool"
    }

    fn command(&self) -> u8 {
        self.command
    }

    fn version(&self) -> u8 {
        1
    }
}

impl Emitable for Message {
    fn buffer_len(&self) -> usize {
        self.attributes.as_slice().buffer_len()
    }

    fn emit(&self, buffer: &mut [u8]) {
        self.attributes.as_slice().emit(buffer);
    }
}

impl ParseableParametrized<[u8], GenlHeader> for Message {
    fn parse_with_param(bytes: &[u8], header: GenlHeader) -> Result<Self, DecodeError> {
        Ok(Self { command: header.cmd, attributes: attributes(bytes)? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A flag as the kernel tells it.
    fn flag(name: &str, is_on: bool) -> DefaultNla {
        let mut parts = vec![
            DefaultNla::new(1, 3_u32.to_ne_bytes().to_vec()),
            DefaultNla::new(number::BIT_NAME, terminated(name)),
        ];
        if is_on {
            parts.push(DefaultNla::new(number::BIT_VALUE, Vec::new()));
        }
        nest(number::BIT, &parts)
    }

    fn answer(flags: &[DefaultNla]) -> Vec<u8> {
        let bits = nest(number::BITS, flags);
        let size = DefaultNla::new(2, 2_u32.to_ne_bytes().to_vec());
        let header =
            nest(number::HEADER, &[DefaultNla::new(number::INTERFACE, terminated("eth0"))]);
        let attributes = vec![header, nest(number::PRIVATE_FLAGS, &[size, bits])];
        let message = Message { command: 14, attributes };
        let mut bytes = vec![0; message.buffer_len()];
        message.emit(&mut bytes);
        bytes
    }

    fn parsed(bytes: &[u8]) -> Option<Message> {
        let header = GenlHeader { cmd: 14, version: 1 };
        Message::parse_with_param(bytes, header).ok()
    }

    #[test]
    fn a_drivers_own_switch_is_on_off_or_not_there() {
        let bytes = answer(&[flag("rx_cqe_moder", true), flag("rx_striding_rq", false)]);
        let message = parsed(&bytes).expect("it is whole");
        assert_eq!(message.private_flag("rx_cqe_moder"), Some(true));
        assert_eq!(message.private_flag("rx_striding_rq"), Some(false));
        assert_eq!(message.private_flag("rx_striding"), None);
        assert_eq!(parsed(&[]).expect("nothing is whole").private_flag("rx_striding_rq"), None);
    }

    #[test]
    fn an_answer_that_is_cut_names_no_switch_or_the_right_one() {
        let bytes = answer(&[flag("rx_striding_rq", true)]);
        for length in 0..bytes.len() {
            let told = parsed(&bytes[..length]);
            assert_eq!(told.and_then(|told| told.private_flag("rx_striding_rq")), None, "{length}");
        }
    }
}
