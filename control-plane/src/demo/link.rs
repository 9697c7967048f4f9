//! Links, addresses and routes, set up through `ip`; all functions act on the caller's namespace.
#![allow(unsafe_code, reason = "offloads are turned off by an ioctl that no crate here has")]

use std::{
    fs,
    io::{self, Write as _},
    os::fd::AsRawFd as _,
    process::{Command, Stdio},
};

use anyhow::{Context as _, anyhow, bail};
use socket2::{Domain, Socket, Type};

/// Runs `ip` commands, one a line, in one go; the first that fails ends it.
pub fn ip(commands: &str) -> anyhow::Result<()> {
    batch(&["-batch", "-"], commands)
}

/// The same for commands that don't show by an address that IPv6 is meant.
pub fn ip_v6(commands: &str) -> anyhow::Result<()> {
    batch(&["-6", "-batch", "-"], commands)
}

fn batch(arguments: &[&str], commands: &str) -> anyhow::Result<()> {
    let mut child = Command::new("ip")
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => anyhow!("`ip` is not installed (package iproute2)"),
            _ => anyhow!("cannot run `ip`: {error}"),
        })?;
    if let Some(mut stdin) = child.stdin.take() {
        stdin.write_all(commands.as_bytes()).context("`ip -batch` stopped reading")?;
    }
    let output = child.wait_with_output()?;
    if !output.status.success() {
        bail!("`ip` refused a command: {}", String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(())
}

/// Sets a kernel setting below `/proc/sys/net`.
pub fn set(key: &str, value: &str) -> anyhow::Result<()> {
    let path = format!("/proc/sys/net/{key}");
    fs::write(&path, value).with_context(|| format!("cannot write {path}"))
}

/// Makes a veth end behave like a wire: the VLAN tag is in the frame, checksums are complete, and
/// one frame is one packet.
pub fn turn_off_offloads(interface: &str) -> anyhow::Result<()> {
    let socket = Socket::new(Domain::IPV4, Type::DGRAM, None)?;
    let mut flags = EthtoolValue { command: GET_FLAGS, value: 0 };
    ethtool(&socket, interface, &mut flags)
        .with_context(|| format!("cannot read the offloads of {interface}"))?;
    let settings = [
        ("tx checksums", SET_TX_CHECKSUM, 0),
        ("tso", SET_TSO, 0),
        ("gso", SET_GSO, 0),
        ("gro", SET_GRO, 0),
        ("VLAN offloads", SET_FLAGS, flags.value & !(FLAG_TX_VLAN | FLAG_RX_VLAN)),
    ];
    for (name, command, value) in settings {
        ethtool(&socket, interface, &mut EthtoolValue { command, value })
            .with_context(|| format!("cannot turn off {name} of {interface}"))?;
    }
    Ok(())
}

// Commands and flags of linux/ethtool.h.
const SET_TX_CHECKSUM: u32 = 0x17;
const SET_TSO: u32 = 0x1f;
const SET_GSO: u32 = 0x24;
const GET_FLAGS: u32 = 0x25;
const SET_FLAGS: u32 = 0x26;
const SET_GRO: u32 = 0x2c;
const FLAG_TX_VLAN: u32 = 1 << 7;
const FLAG_RX_VLAN: u32 = 1 << 8;

/// `struct ethtool_value` of linux/ethtool.h.
#[repr(C)]
struct EthtoolValue {
    command: u32,
    value: u32,
}

fn ethtool(socket: &Socket, interface: &str, value: &mut EthtoolValue) -> io::Result<()> {
    let mut request = request(interface, |data| data.ifru_data = (&raw mut *value).cast())?;
    // SAFETY: SIOCETHTOOL reads an ifreq whose name ends in a zero byte and whose data points to
    // an ethtool_value, which all commands used here take; both outlive the call.
    let result = unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCETHTOOL as _, &mut request) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// A request about an interface, as the kernel takes it.
pub(super) fn request(
    interface: &str,
    fill: impl FnOnce(&mut libc::__c_anonymous_ifr_ifru),
) -> io::Result<libc::ifreq> {
    let mut name = [0; libc::IFNAMSIZ];
    if interface.len() >= name.len() {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    for (to, from) in name.iter_mut().zip(interface.bytes()) {
        *to = from as libc::c_char;
    }
    let mut request =
        libc::ifreq { ifr_name: name, ifr_ifru: libc::__c_anonymous_ifr_ifru { ifru_mtu: 0 } };
    fill(&mut request.ifr_ifru);
    Ok(request)
}
