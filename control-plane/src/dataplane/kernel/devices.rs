//! Where redirected frames go: the other ends of wires, and the sinkhole.

use std::io;

use aya::maps::{Array, Map, MapData, xdp::DevMap};
use nix::ifaddrs::{InterfaceAddress, getifaddrs};
use sekisho_abi::{
    names,
    record::{SINKHOLE_DEVICE, Sinkhole},
};

use super::{
    Guarded, attach,
    ledger::{open_map, typed},
    map_error, unfit,
};
use crate::dataplane::{
    DataplaneError,
    pins::{Pins, system},
};

/// The way to the sinkhole.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SinkholeWay {
    /// The interface that leads there.
    pub interface: String,
    /// What a packet is sent in.
    pub sinkhole: Sinkhole,
}

/// Names the guarded interfaces by port slot. One that is not there is named when it comes.
pub(super) fn fill<'a>(
    pins: &Pins,
    guarded: impl Iterator<Item = (&'a Guarded, &'a u8)>,
) -> Result<(), DataplaneError> {
    let mut devices = open(pins)?;
    for (port, slot) in guarded {
        if attach::interface_index(&port.interface).is_some() {
            put(&mut devices, u32::from(*slot), &port.interface)?;
        }
    }
    Ok(())
}

/// Names the way to the sinkhole, or that there is none.
pub(super) fn fill_sinkhole(
    pins: &Pins,
    sinkhole: Option<&SinkholeWay>,
) -> Result<(), DataplaneError> {
    if let Some(SinkholeWay { interface, .. }) = sinkhole {
        if attach::interface_index(interface).is_some() {
            put(&mut open(pins)?, SINKHOLE_DEVICE, interface)?;
        } else {
            tracing::error!(
                interface,
                command = "ip -brief link",
                "there is no interface '{interface}', which leads to the sinkhole: nothing is sent \
                 there until there is"
            );
        }
    }
    set_way(&mut open_ways(pins)?, sinkhole)
}

/// The map with the only way to the sinkhole.
pub(super) type Ways = Array<MapData, Sinkhole>;

/// Opens it.
pub(super) fn open_ways(pins: &Pins) -> Result<Ways, DataplaneError> {
    typed(pins, names::SINKHOLE, Map::Array, size_of::<Sinkhole>())
}

/// Writes the way to the sinkhole, or that there is none.
pub(super) fn set_way(
    ways: &mut Ways,
    sinkhole: Option<&SinkholeWay>,
) -> Result<(), DataplaneError> {
    ways.set(0, as_it_is_now(sinkhole), 0).map_err(|error| map_error("write SINKHOLE", error))
}

/// Whether the way is the one that is to be there.
pub(super) fn is_way(ways: &Ways, sinkhole: Option<&SinkholeWay>) -> Result<bool, DataplaneError> {
    let found = ways.get(&0, 0).map_err(|error| map_error("read SINKHOLE", error))?;
    Ok(found == as_it_is_now(sinkhole))
}

/// The way, from the hardware address that its interface has now: one that comes back may have
/// another.
fn as_it_is_now(sinkhole: Option<&SinkholeWay>) -> Sinkhole {
    let Some(way) = sinkhole else { return zerocopy::FromZeros::new_zeroed() };
    let Some(own) = hardware_address(&way.interface) else { return way.sinkhole };
    let mut ethernet: [u8; 12] = zerocopy::transmute!(way.sinkhole.ethernet);
    let (_, source) = ethernet.split_at_mut(6);
    source.copy_from_slice(&own);
    Sinkhole { ethernet: zerocopy::transmute!(ethernet), ..way.sinkhole }
}

/// The Ethernet address of an interface of this network namespace; the loopback has none.
pub fn hardware_address(interface: &str) -> Option<[u8; 6]> {
    let of_interface = |entry: InterfaceAddress| {
        (entry.interface_name == interface).then(|| entry.address?.as_link_addr()?.addr()).flatten()
    };
    getifaddrs().ok()?.find_map(of_interface).filter(|address| *address != [0; 6])
}

/// The map of devices.
pub(super) fn open(pins: &Pins) -> Result<DevMap<MapData>, DataplaneError> {
    let map = open_map(pins, names::DEVICES, Map::DevMap)?;
    DevMap::try_from(map).map_err(|error| unfit(&pins.map(names::DEVICES), &error))
}

/// Names an interface.
pub(super) fn put(
    devices: &mut DevMap<MapData>,
    key: u32,
    interface: &str,
) -> Result<(), DataplaneError> {
    let index = attach::interface_index(interface)
        .ok_or_else(|| DataplaneError::NoInterface { name: interface.to_owned() })?;
    devices
        .set(key, index, None, 0)
        .map_err(|error| system("write DEVICES", io::Error::other(error)))
}

/// Whether an interface that exists has no device there, or another one's; the kernel takes a device
/// out when its interface goes.
pub(super) fn is_lost(devices: &DevMap<MapData>, key: u32, interface: &str) -> bool {
    let named = devices.get(key, 0).map(|device| device.if_index).ok();
    attach::interface_index(interface).is_some_and(|index| named != Some(index))
}
