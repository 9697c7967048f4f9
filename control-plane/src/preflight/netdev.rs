//! What drivers do for XDP, as the generic netlink family `netdev` tells it (since kernel 6.3).

use std::io;

use futures_util::StreamExt as _;
use genetlink::GenetlinkHandle;
use netlink_packet_core::{
    DecodeError, DefaultNla, Emitable, NLM_F_REQUEST, NetlinkHeader, NetlinkMessage,
    NetlinkPayload, Nla as _, NlasIterator, ParseableParametrized,
};
use netlink_packet_generic::{GenlFamily, GenlHeader, GenlMessage};
use tokio::task::JoinSet;

use super::facts::Sends;

/// `NETDEV_CMD_DEV_GET` of linux/netdev.h.
const GET_DEVICE: u8 = 1;
/// `NETDEV_A_DEV_IFINDEX` of linux/netdev.h, of four bytes.
const INDEX: u16 = 1;
/// `NETDEV_A_DEV_XDP_FEATURES` of linux/netdev.h, of eight bytes.
const XDP_FEATURES: u16 = 3;
/// `NETDEV_XDP_ACT_NDO_XMIT` of linux/netdev.h.
const SENDS_REDIRECTED: u64 = 1 << 2;
/// `NETDEV_XDP_ACT_NDO_XMIT_SG` of linux/netdev.h.
const SENDS_SEVERAL_BUFFERS: u64 = 1 << 6;

/// A connection to the family, which ends with this value.
pub(super) struct Netdev {
    handle: GenetlinkHandle,
    _connection: JoinSet<()>,
}

impl Netdev {
    pub(super) fn open() -> io::Result<Self> {
        let (connection, handle, _) = genetlink::new_connection()?;
        let mut tasks = JoinSet::new();
        tasks.spawn(connection);
        Ok(Self { handle, _connection: tasks })
    }

    /// What an interface now sends of the frames that programs redirect to it (`ndo_xdp_xmit`);
    /// `None` where the kernel does not tell.
    pub(super) async fn redirected(&self, interface: u32) -> Option<Sends> {
        let question = Device(vec![DefaultNla::new(INDEX, interface.to_ne_bytes().to_vec())]);
        let mut header = NetlinkHeader::default();
        header.flags = NLM_F_REQUEST;
        let payload = NetlinkPayload::from(GenlMessage::from_payload(question));
        let mut handle = self.handle.clone();
        let mut answers = handle.request(NetlinkMessage::new(header, payload)).await.ok()?;
        let answer = answers.next().await?.ok()?;
        let NetlinkPayload::InnerMessage(message) = answer.payload else { return None };
        message.payload.xdp_features().map(sends)
    }
}

const fn sends(features: u64) -> Sends {
    match (features & SENDS_REDIRECTED, features & SENDS_SEVERAL_BUFFERS) {
        (0, _) => Sends::Nothing,
        (_, 0) => Sends::OneBuffer,
        _ => Sends::Everything,
    }
}

/// A device's attributes.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Device(Vec<DefaultNla>);

impl Device {
    fn xdp_features(&self) -> Option<u64> {
        let features = self.0.iter().find(|attribute| attribute.kind() == XDP_FEATURES)?;
        let mut bytes = vec![0; features.value_len()];
        features.emit_value(&mut bytes);
        bytes.try_into().ok().map(u64::from_ne_bytes)
    }
}

impl GenlFamily for Device {
    fn family_name() -> &'static str {
        "netdev"
    }

    fn command(&self) -> u8 {
        GET_DEVICE
    }

    fn version(&self) -> u8 {
        1
    }
}

impl Emitable for Device {
    fn buffer_len(&self) -> usize {
        self.0.as_slice().buffer_len()
    }

    fn emit(&self, buffer: &mut [u8]) {
        self.0.as_slice().emit(buffer);
    }
}

impl ParseableParametrized<[u8], GenlHeader> for Device {
    fn parse_with_param(bytes: &[u8], _: GenlHeader) -> Result<Self, DecodeError> {
        let attributes = NlasIterator::new(bytes).map(|attribute| {
            let attribute = attribute?;
            Ok(DefaultNla::new(attribute.kind(), attribute.value().to_vec()))
        });
        attributes.collect::<Result<_, _>>().map(Self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn several_buffers_are_sent_by_who_sends_at_all() {
        assert_eq!(sends(0), Sends::Nothing);
        assert_eq!(sends(SENDS_SEVERAL_BUFFERS), Sends::Nothing);
        assert_eq!(sends(SENDS_REDIRECTED), Sends::OneBuffer);
        assert_eq!(sends(SENDS_REDIRECTED | SENDS_SEVERAL_BUFFERS), Sends::Everything);
    }
}
