//! Questions to the kernel over netlink.

use std::{
    io,
    os::fd::{AsFd as _, AsRawFd as _},
};

use ethtool::{EthtoolAttr, EthtoolChannelAttr, EthtoolHandle};
use futures_util::{StreamExt as _, TryStreamExt as _};
use rtnetlink::{
    Error, Handle, LinkUnspec,
    packet_route::link::{LinkAttribute, LinkMessage, LinkXdp},
    sys::AsyncSocket as _,
};
use tokio::task::JoinSet;

use super::facts::Offloads;
use crate::dataplane::{
    nic::{self, STRIPS_SERVICE_VLAN, STRIPS_VLAN},
    trial::PassProgram,
};

/// `XDP_FLAGS_UPDATE_IF_NOEXIST` of linux/if_link.h.
const ONLY_IF_NONE: u32 = 1;
/// `XDP_FLAGS_DRV_MODE` of linux/if_link.h.
const DRIVER_MODE: u32 = 1 << 2;

/// Connections to the kernel, which end with this value.
pub(super) struct Netlink {
    route: Handle,
    ethtool: EthtoolHandle,
    _connections: JoinSet<()>,
}

/// Receive queues.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Channels {
    pub(super) rx: u32,
    pub(super) combined: u32,
    pub(super) most_rx: u32,
    pub(super) most_combined: u32,
}

impl Netlink {
    pub(super) fn open() -> io::Result<Self> {
        let mut connections = JoinSet::new();
        let (mut connection, route, _) = rtnetlink::new_connection()?;
        // Only for the kernel's reasons; without them there is still the number.
        let _ = connection.socket_mut().socket_mut().set_ext_ack(true);
        connections.spawn(connection);
        let (connection, ethtool, _) = ethtool::new_connection()?;
        connections.spawn(connection);
        Ok(Self { route, ethtool, _connections: connections })
    }

    /// Every interface of this namespace.
    pub(super) async fn links(&self) -> Result<Vec<LinkMessage>, Error> {
        self.route.link().get().execute().try_collect().await
    }

    /// The offloads that matter; `None` if the driver does not tell.
    pub(super) async fn offloads(&self, interface: &str) -> Option<Offloads> {
        let on = nic::offloads(&self.ethtool, interface).await?;
        Some(Offloads {
            strips_vlan: on.contains(STRIPS_VLAN),
            strips_service_vlan: on.contains(STRIPS_SERVICE_VLAN),
            lro: on.contains("rx-lro"),
            hardware_gro: on.contains("rx-gro-hw"),
        })
    }

    /// Whether the receive queues of a ConnectX are striding; `None` if the driver has no such switch.
    pub(super) async fn striding_queues(&self, interface: &str) -> Option<bool> {
        nic::private_flag(&self.ethtool, interface, "rx_striding_rq").await
    }

    /// Queues; `None` if the driver does not tell.
    pub(super) async fn channels(&self, interface: &str) -> Option<Channels> {
        let mut handle = self.ethtool.clone();
        let mut replies = Box::pin(handle.channel().get(Some(interface)).execute().await.ok()?);
        let reply = replies.next().await?.ok()?;
        let mut channels = Channels::default();
        for attribute in reply.payload.nlas {
            let EthtoolAttr::Channel(attribute) = attribute else { continue };
            match attribute {
                EthtoolChannelAttr::RxCount(count) => channels.rx = count,
                EthtoolChannelAttr::CombinedCount(count) => channels.combined = count,
                EthtoolChannelAttr::RxMax(most) => channels.most_rx = most,
                EthtoolChannelAttr::CombinedMax(most) => channels.most_combined = most,
                _ => {}
            }
        }
        Some(channels)
    }

    /// Why an interface takes no program in its driver, in the kernel's words, which only netlink
    /// brings; `None` if it gives none.
    pub(super) async fn refusal(&self, interface: u32, program: &PassProgram) -> Option<String> {
        let attach = |fd, flags| {
            let message = LinkUnspec::new_with_index(interface)
                .append_extra_attribute(LinkAttribute::Xdp(vec![
                    LinkXdp::Fd(fd),
                    LinkXdp::Flags(flags),
                ]))
                .build();
            self.route.link().set(message).execute()
        };
        match attach(program.as_fd().as_raw_fd(), DRIVER_MODE | ONLY_IF_NONE).await {
            Err(Error::NetlinkError(error)) => reason(&error.header),
            Err(_) => None,
            Ok(()) => {
                // The way in between was cleared: nothing may stay behind.
                if let Err(error) = attach(-1, DRIVER_MODE).await {
                    tracing::warn!(interface, %error, "a program that passes everything stays");
                }
                None
            }
        }
    }
}

/// The text that the kernel adds to an error, behind the request that it repeats (struct nlmsgerr
/// and NLMSGERR_ATTR_MSG of linux/netlink.h).
fn reason(repeated: &[u8]) -> Option<String> {
    const TEXT: u16 = 1;
    let length = u32::from_ne_bytes(*repeated.first_chunk()?) as usize;
    let mut rest = repeated.get(length.next_multiple_of(4)..)?;
    while let Some((head, _)) = rest.split_first_chunk::<4>() {
        let [a, b, c, d] = *head;
        let length = usize::from(u16::from_ne_bytes([a, b]));
        let value = rest.get(4..length)?;
        if u16::from_ne_bytes([c, d]) == TEXT {
            let text = String::from_utf8_lossy(value);
            return Some(text.trim_end_matches('\0').to_owned());
        }
        rest = rest.get(length.next_multiple_of(4)..)?;
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn attribute(kind: u16, value: &[u8]) -> Vec<u8> {
        let mut bytes = (4 + value.len() as u16).to_ne_bytes().to_vec();
        bytes.extend(kind.to_ne_bytes());
        bytes.extend(value);
        bytes.resize(bytes.len().next_multiple_of(4), 0);
        bytes
    }

    #[test]
    fn the_kernels_reason_stands_behind_the_request() {
        let mut repeated = vec![0; 20];
        repeated[..4].copy_from_slice(&18_u32.to_ne_bytes());
        repeated.extend(attribute(2, &[0, 0, 0, 0]));
        repeated.extend(attribute(1, b"MTU too large\0"));
        assert_eq!(reason(&repeated).as_deref(), Some("MTU too large"));
        assert_eq!(reason(&repeated[..20]), None, "no reason given");
    }

    #[test]
    fn a_reason_that_is_cut_is_none() {
        let mut repeated = 16_u32.to_ne_bytes().to_vec();
        repeated.resize(16, 0);
        repeated.extend(attribute(1, b"too large"));
        for length in 0..repeated.len() - 3 {
            assert_eq!(reason(&repeated[..length]), None, "{length}");
        }
        assert_eq!(reason(&[0xff; 64]), None);
        let mut endless = vec![0; 4];
        endless.extend([0; 32]);
        assert_eq!(reason(&endless), None, "attributes without a length end");
    }
}
