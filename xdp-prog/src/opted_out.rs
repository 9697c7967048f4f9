//! Whether a packet belongs to somebody who opted out.

use sekisho_abi::{
    image::{self, Bytes},
    opt_out::{self, BlockKey},
    record::Role,
};

use crate::{
    frame::Frame,
    lookup,
    parse::{self, Ip},
    site::Site,
};

/// Whether a subscriber's end of a packet opted out. Where either end may be the subscriber's, both
/// are asked.
#[inline(always)]
pub fn is_opted_out<F, S>(frame: &F, site: &S, ip: &Ip) -> bool
where
    F: Frame + ?Sized,
    S: Site,
{
    let Some(image) = site.opt_outs() else { return false };
    let source = site.role() != Role::Uplink && holds(frame, site, &image, ip, true);
    source || site.role() != Role::Subscriber && holds(frame, site, &image, ip, false)
}

#[inline(always)]
fn holds<F, S, I>(frame: &F, site: &S, image: &I, ip: &Ip, is_source: bool) -> bool
where
    F: Frame + ?Sized,
    S: Site,
    I: Bytes,
{
    let address = if is_source { ip.ends.source } else { ip.ends.destination };
    let lists = lists(image, address);
    if lists & opt_out::BLOCKS == 0 {
        return lists != 0;
    }
    let transport = parse::transport(frame, ip);
    if !transport.has_ports {
        // Nobody can say whose it is.
        return true;
    }
    let port = if is_source { transport.source_port } else { transport.destination_port };
    let (key, bit) = BlockKey::of(address.1 as u32, port);
    lists & opt_out::WHOLE != 0 || site.opted_out_ports(&key) & bit != 0
}

#[inline(always)]
fn lists<I: Bytes>(image: &I, address: (u64, u64)) -> u64 {
    lookup::find(image, address)
        .and_then(|selector| image::resolve(image, selector, 0, None))
        .and_then(|rule| image::lists_of(image, rule))
        .map_or(0, image::Lists::all)
}
