//! VLAN tags stay in frames: what a NIC strips from one is not there when a program redirects it.
//!
//! The NIC stays so when the program is taken off: a network stack finds tags in either place.

use std::io;

use ethtool::EthtoolHandle;
use futures_util::TryStreamExt as _;
use rtnetlink::packet_route::link::LinkAttribute;
use tokio::task::JoinSet;
use tracing::{error, info};

use super::{
    netlink,
    nic::{self, STRIPS_SERVICE_VLAN, STRIPS_VLAN},
};

/// Has an interface, or all members of a bond, leave VLAN tags in the frames. A failure is told: what
/// comes without tags is better than nothing. Blocks.
pub(super) fn keep(interface: &str) {
    if let Err(error) = netlink::wait(keep_on_all(interface)) {
        tell(interface, &[STRIPS_VLAN], &error);
    }
}

fn tell(interface: &str, stripped: &[&str], error: &io::Error) {
    let off: String = stripped.iter().map(|offload| format!(" {offload} off")).collect();
    error!(
        interface,
        command = format!("ethtool -K {interface}{off}"),
        "strips VLAN tags from the frames of its wire: {error}"
    );
}

async fn keep_on_all(interface: &str) -> io::Result<()> {
    let (connection, ethtool, _) = ethtool::new_connection()?;
    let mut tasks = JoinSet::new();
    tasks.spawn(connection);
    for device in hardware(interface).await? {
        let stripped = stripped(&ethtool, &device).await;
        if stripped.is_empty() {
            continue;
        }
        match keep_on(&ethtool, &device, &stripped).await {
            Ok(()) => info!(interface = device, "leaves VLAN tags in the frames from now on"),
            Err(error) => tell(&device, &stripped, &error),
        }
    }
    Ok(())
}

/// Members if it is a bond, otherwise the interface itself.
async fn hardware(interface: &str) -> io::Result<Vec<String>> {
    let (netlink, _tasks) = netlink::interfaces()?;
    let bond = nix::net::if_::if_nametoindex(interface)?;
    let mut links = netlink.link().get().execute();
    let mut members = Vec::new();
    while let Some(link) = links.try_next().await.map_err(io::Error::other)? {
        if link.attributes.contains(&LinkAttribute::Controller(bond)) {
            members.extend(link.attributes.into_iter().find_map(|attribute| match attribute {
                LinkAttribute::IfName(name) => Some(name),
                _ => None,
            }));
        }
    }
    if members.is_empty() {
        members.push(interface.to_owned());
    }
    Ok(members)
}

async fn keep_on(ethtool: &EthtoolHandle, device: &str, offloads: &[&str]) -> io::Result<()> {
    nic::switch_off(ethtool, device, offloads).await?;
    if stripped(ethtool, device).await.is_empty() {
        Ok(())
    } else {
        Err(io::Error::other("its driver does not let that be changed"))
    }
}

/// What strips tags; nothing where the driver does not tell.
async fn stripped(ethtool: &EthtoolHandle, device: &str) -> Vec<&'static str> {
    let on = nic::offloads(ethtool, device).await.unwrap_or_default();
    [STRIPS_VLAN, STRIPS_SERVICE_VLAN].into_iter().filter(|name| on.contains(*name)).collect()
}
