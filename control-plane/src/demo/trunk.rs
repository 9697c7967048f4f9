//! 802.1Q between two hosts, in user space.
//!
//! A tap device stands for the VLAN sub-interface; tags are put on and taken off here, so that
//! kernels without the VLAN driver can run the lab. What goes over the cable is the same.
#![allow(unsafe_code, reason = "a tap device is made by an ioctl that no crate here has")]

use std::{
    fs::{File, OpenOptions},
    io,
    os::{
        fd::{AsFd, AsRawFd},
        unix::fs::OpenOptionsExt as _,
    },
    sync::Arc,
};

use anyhow::Context as _;
use nix::unistd;
use socket2::SockFilter;
use tokio::io::unix::AsyncFd;

use super::{
    link,
    netns::{Netns, Resident},
    sniffer::{Socket, bind},
};

/// Tag protocol identifier of IEEE 802.1Q.
const TPID: [u8; 2] = [0x81, 0x00];
/// Destination and source address come before the tag.
const ADDRESSES: usize = 12;
const LONGEST_FRAME: usize = 2_048;

/// Carries one VLAN between a tap device and a cable for as long as this value lives.
#[derive(Debug)]
pub struct Trunk {
    _shuttle: Resident,
}

impl Trunk {
    /// Makes the tap device `name` in a namespace and joins it to the VLAN on an interface.
    pub fn start(
        namespace: &Netns,
        interface: &'static str,
        name: &str,
        vlan: u16,
    ) -> anyhow::Result<Self> {
        let (tap, cable) = namespace.inside(|| {
            let tap = open_tap(name).with_context(|| format!("cannot make the tap {name}"))?;
            Ok((tap, open_cable(interface, vlan)?))
        })?;
        let shuttle = Resident::start(namespace, "vlan")?;
        shuttle.run(async move {
            // SAFETY: both own their descriptors, which stay open until the AsyncFd is dropped.
            let (tap, cable) = unsafe { (AsyncFd::register(tap)?, AsyncFd::register(cable)?) };
            let (tap, cable) = (Arc::new(tap), Arc::new(cable));
            tokio::spawn(tag(Arc::clone(&tap), Arc::clone(&cable), vlan));
            tokio::spawn(untag(cable, tap));
            Ok(())
        })?;
        Ok(Self { _shuttle: shuttle })
    }
}

fn open_tap(name: &str) -> anyhow::Result<File> {
    let tap = OpenOptions::new()
        .read(true)
        .write(true)
        .custom_flags(libc::O_NONBLOCK)
        .open("/dev/net/tun")
        .context("/dev/net/tun")?;
    let mut request = link::request(name, |flags| {
        flags.ifru_flags = (libc::IFF_TAP | libc::IFF_NO_PI) as libc::c_short;
    })?;
    // SAFETY: TUNSETIFF reads an ifreq whose name ends in a zero byte and whose flags are set; it
    // outlives the call.
    let result = unsafe { libc::ioctl(tap.as_raw_fd(), libc::TUNSETIFF as _, &mut request) };
    if result == 0 { Ok(tap) } else { Err(io::Error::last_os_error()).context("TUNSETIFF") }
}

/// A socket that receives the packets of one VLAN. The kernel takes the tag off and keeps it beside
/// the packet, where the filter finds it.
fn open_cable(interface: &str, vlan: u16) -> anyhow::Result<Socket> {
    // Opcodes of linux/filter.h: load byte or word from the absolute offset, compare, return.
    const LOAD_WORD: u16 = 0x20;
    const AND: u16 = 0x54;
    const JUMP_IF_EQUAL: u16 = 0x15;
    const RETURN: u16 = 0x06;
    let ancillary = |field: i32| (libc::SKF_AD_OFF + field).cast_unsigned();
    let filter = [
        SockFilter::new(LOAD_WORD, 0, 0, ancillary(libc::SKF_AD_VLAN_TAG_PRESENT)),
        SockFilter::new(JUMP_IF_EQUAL, 0, 4, 1),
        SockFilter::new(LOAD_WORD, 0, 0, ancillary(libc::SKF_AD_VLAN_TAG)),
        SockFilter::new(AND, 0, 0, 0x0fff),
        SockFilter::new(JUMP_IF_EQUAL, 0, 1, vlan.into()),
        SockFilter::new(RETURN, 0, 0, u32::MAX),
        SockFilter::new(RETURN, 0, 0, 0),
    ];
    let socket = Socket::new(socket2::Domain::PACKET, socket2::Type::RAW, None)?;
    socket.attach_filter(&filter).context("SO_ATTACH_FILTER")?;
    socket.set_nonblocking(true)?;
    bind(&socket, interface)?;
    Ok(socket)
}

async fn tag(from: Arc<AsyncFd<File>>, to: Arc<AsyncFd<Socket>>, vlan: u16) -> io::Result<()> {
    let mut frame = [0; LONGEST_FRAME];
    loop {
        let frame = next_frame(&from, &mut frame).await?;
        let Some((addresses, rest)) = frame.split_at_checked(ADDRESSES) else { continue };
        let tagged = [addresses, &TPID, &vlan.to_be_bytes(), rest].concat();
        // A frame that the cable does not take is lost, as on any other cable.
        let _ = unistd::write(to.as_fd(), &tagged);
    }
}

async fn untag(from: Arc<AsyncFd<Socket>>, to: Arc<AsyncFd<File>>) -> io::Result<()> {
    let mut frame = [0; LONGEST_FRAME];
    loop {
        let frame = next_frame(&from, &mut frame).await?;
        let _ = unistd::write(to.as_fd(), frame);
    }
}

/// The next frame that comes. That the interface is or was down, of which a packet socket tells
/// once in place of a frame, ends nothing: it may come up.
async fn next_frame<'a, T: AsFd + AsRawFd>(
    from: &AsyncFd<T>,
    into: &'a mut [u8],
) -> io::Result<&'a [u8]> {
    loop {
        let mut ready = from.readable().await?;
        match ready.try_io(|end| Ok(unistd::read(end.as_fd(), &mut *into)?)) {
            Ok(Ok(length)) => return Ok(into.get(..length).unwrap_or_default()),
            Ok(Err(error)) if error.raw_os_error() != Some(libc::ENETDOWN) => return Err(error),
            _ => {}
        }
    }
}
