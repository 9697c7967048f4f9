//! Where redirected frames go: the other ends of wires, and the sinkhole.

use std::io;

use aya::maps::{Array, Map, MapData, xdp::DevMap};
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

/// Names the guarded interfaces by port slot, and the way to the sinkhole.
pub(super) fn fill<'a>(
    pins: &Pins,
    guarded: impl Iterator<Item = (&'a Guarded, &'a u8)>,
    sinkhole: Option<&SinkholeWay>,
) -> Result<(), DataplaneError> {
    let mut devices = open(pins)?;
    for (port, slot) in guarded {
        put(&mut devices, u32::from(*slot), &port.interface)?;
    }
    if let Some(way) = sinkhole {
        put(&mut devices, SINKHOLE_DEVICE, &way.interface)?;
    }
    let mut ways: Array<MapData, Sinkhole> =
        typed(pins, names::SINKHOLE, Map::Array, size_of::<Sinkhole>())?;
    let none = zerocopy::FromZeros::new_zeroed();
    ways.set(0, sinkhole.map_or(none, |way| way.sinkhole), 0)
        .map_err(|error| map_error("write SINKHOLE", error))
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
