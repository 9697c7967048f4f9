//! From the configuration to what the kernel side is loaded with.

use sekisho_abi::record::{Sinkhole, SinkholeKind};

use crate::{
    config::{Attach, Config, SinkholeConfig},
    dataplane::kernel::{self, Guarded, Settings, SinkholeWay},
};

/// The settings, and the interfaces to guard.
pub fn of(config: &Config) -> (Settings, Vec<Guarded>) {
    let dataplane = &config.dataplane;
    let (pins, capacity) = (dataplane.pin_dir.clone(), dataplane.image_capacity_bytes());
    let settings = Settings {
        flow_table_entries: dataplane.flow_table_entries,
        attach: match dataplane.attach {
            Attach::Auto => kernel::Attach::Auto,
            Attach::Native => kernel::Attach::Native,
            Attach::Generic => kernel::Attach::Generic,
        },
        initial_mode: config.mode.into(),
        unwrapped: dataplane.unwrapped(),
        embedding: dataplane.embedding(),
        infrastructure: dataplane.own_infrastructure(),
        sinkhole: dataplane.sinkhole.as_ref().and_then(reachable),
        opt_out_rows: dataplane.opt_out_rows,
        ..Settings::new(pins, capacity)
    };
    let guarded = config.interfaces.iter().map(|interface| Guarded {
        interface: interface.name.clone(),
        role: interface.role.into(),
        forwarding: interface.forwarding.into(),
        peer: interface.peer.clone(),
    });
    (settings, guarded.collect())
}

/// The way to the sinkhole, if there is one now. Without it everything else is guarded all the same.
fn reachable(config: &SinkholeConfig) -> Option<SinkholeWay> {
    way(config)
        .inspect_err(|fault| {
            tracing::error!(
                "what should go to the sinkhole is dropped until the next start: {fault}"
            );
        })
        .ok()
}

fn way(config: &SinkholeConfig) -> Result<SinkholeWay, String> {
    let interface = config.interface.clone();
    let own = kernel::hardware_address(&interface).ok_or_else(|| {
        format!("dataplane.sinkhole.interface '{interface}' is not there or no Ethernet")
    })?;
    let mut ethernet = [0; 12];
    let (destination, source) = ethernet.split_at_mut(6);
    destination.copy_from_slice(&config.next_hop.0);
    source.copy_from_slice(&own);
    let tunnel = config.tunnel.clone().unwrap_or_default();
    let halves = |address: std::net::Ipv6Addr| {
        let bits = address.to_bits();
        [(bits >> 64) as u64, bits as u64]
    };
    let kind = if config.tunnel.is_some() { SinkholeKind::Tunnel } else { SinkholeKind::NextHop };
    let sinkhole = Sinkhole {
        ethernet: zerocopy::transmute!(ethernet),
        kind: kind as u8,
        flow_bits: tunnel.flow_bits(),
        mtu: config.mtu,
        source_v4: tunnel.source_v4.map_or(0, |net| net.network().to_bits()),
        destination_v4: tunnel.destination_v4.map_or(0, std::net::Ipv4Addr::to_bits),
        source_v6: tunnel.source_v6.map_or([0; 2], |net| halves(net.network())),
        destination_v6: tunnel.destination_v6.map_or([0; 2], halves),
    };
    Ok(SinkholeWay { interface, sinkhole })
}
