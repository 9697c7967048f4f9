//! The ICMP error that reached a socket, as the kernel hands it over (ip(7), `IP_RECVERR`).

use std::{
    io,
    net::{IpAddr, UdpSocket},
    os::fd::AsRawFd as _,
};

/// An ICMP or ICMPv6 error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IcmpError {
    /// Its type.
    pub kind: u8,
    /// Its code.
    pub code: u8,
    /// Who sent it.
    pub from: IpAddr,
}

/// Has errors kept for [`error_of`].
pub fn keep_errors(socket: &UdpSocket) -> io::Result<()> {
    let (level, name) = match socket.local_addr()?.ip() {
        IpAddr::V4(_) => (libc::IPPROTO_IP, libc::IP_RECVERR),
        IpAddr::V6(_) => (libc::IPPROTO_IPV6, libc::IPV6_RECVERR),
    };
    let (on, fd): (libc::c_int, _) = (1, socket.as_raw_fd());
    let length = size_of_val(&on) as libc::socklen_t;
    // SAFETY: both options read one int; pointer and length describe one.
    let set = unsafe { libc::setsockopt(fd, level, name, (&raw const on).cast(), length) };
    if set < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// The first error that was kept, without waiting; `None` for one that is no ICMP error.
pub fn error_of(socket: &UdpSocket) -> io::Result<Option<IcmpError>> {
    let mut control = [0_u64; 64];
    // SAFETY: it is made of integers and pointers, for which zero is valid.
    let mut message: libc::msghdr = unsafe { std::mem::zeroed() };
    message.msg_control = control.as_mut_ptr().cast();
    message.msg_controllen = size_of_val(&control);
    // SAFETY: the header describes a buffer that outlives the call.
    let received =
        unsafe { libc::recvmsg(socket.as_raw_fd(), &raw mut message, libc::MSG_ERRQUEUE) };
    if received < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the kernel has filled in the message: its first header, if any, is whole, and one of
    // these types is followed by a sock_extended_err and the address of who sent the error.
    unsafe {
        let Some(header) = libc::CMSG_FIRSTHDR(&message).as_ref() else { return Ok(None) };
        let data = libc::CMSG_DATA(header).cast::<libc::sock_extended_err>();
        let error = data.read_unaligned();
        let offender = data.add(1);
        let from = match (header.cmsg_level, header.cmsg_type, error.ee_origin) {
            (libc::IPPROTO_IP, libc::IP_RECVERR, libc::SO_EE_ORIGIN_ICMP) => {
                let address = offender.cast::<libc::sockaddr_in>().read_unaligned();
                IpAddr::from(address.sin_addr.s_addr.to_ne_bytes())
            }
            (libc::IPPROTO_IPV6, libc::IPV6_RECVERR, libc::SO_EE_ORIGIN_ICMP6) => {
                let address = offender.cast::<libc::sockaddr_in6>().read_unaligned();
                IpAddr::from(address.sin6_addr.s6_addr)
            }
            _ => return Ok(None),
        };
        Ok(Some(IcmpError { kind: error.ee_type, code: error.ee_code, from }))
    }
}
