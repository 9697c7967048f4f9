//! Whole frames, as they come out of a cable, or go into it.

use std::{
    io,
    os::fd::AsRawFd as _,
    time::{Duration, Instant},
};

use socket2::{Domain, Socket, Type};

/// Frames that arrive at one interface.
#[derive(Debug)]
pub struct Capture {
    socket: Socket,
}

/// `ETH_P_ALL` of linux/if_ether.h.
const EVERYTHING: u16 = 0x0003;
const TICK: Duration = Duration::from_millis(10);

impl Capture {
    /// Everything that arrives at an interface of the caller's namespace from now on.
    pub fn start(interface: &str) -> io::Result<Self> {
        let socket = Socket::new(Domain::PACKET, Type::RAW, None)?;
        socket.set_read_timeout(Some(TICK))?;
        let on: libc::c_int = 1;
        // SAFETY: PACKET_AUXDATA reads one int; pointer and length describe one.
        let set = unsafe {
            libc::setsockopt(
                socket.as_raw_fd(),
                libc::SOL_PACKET,
                libc::PACKET_AUXDATA,
                (&raw const on).cast(),
                size_of_val(&on) as libc::socklen_t,
            )
        };
        if set < 0 {
            return Err(io::Error::last_os_error());
        }
        let address = libc::sockaddr_ll {
            sll_family: libc::AF_PACKET as u16,
            sll_protocol: EVERYTHING.to_be(),
            sll_ifindex: nix::net::if_::if_nametoindex(interface)?.cast_signed(),
            sll_hatype: 0,
            sll_pkttype: 0,
            sll_halen: 0,
            sll_addr: [0; 8],
        };
        let length = size_of_val(&address) as libc::socklen_t;
        // SAFETY: the address and its length describe one valid sockaddr_ll that outlives the call.
        let bound = unsafe { libc::bind(socket.as_raw_fd(), (&raw const address).cast(), length) };
        if bound < 0 { Err(io::Error::last_os_error()) } else { Ok(Self { socket }) }
    }

    /// Sends a frame out of the interface.
    pub fn send(&self, frame: &[u8]) -> io::Result<()> {
        self.socket.send(frame).map(drop)
    }

    /// The next frame that satisfies a condition; `None` if none comes in time.
    pub fn next(
        &self,
        patience: Duration,
        wanted: impl Fn(&[u8]) -> bool,
    ) -> io::Result<Option<Vec<u8>>> {
        let deadline = Instant::now() + patience;
        while Instant::now() < deadline {
            match self.receive() {
                Ok(Some(frame)) if wanted(&frame) => return Ok(Some(frame)),
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Err(error),
            }
        }
        Ok(None)
    }

    /// One frame; `None` for one that this host sends. The kernel takes the outer tag off and keeps
    /// it beside the frame.
    fn receive(&self) -> io::Result<Option<Vec<u8>>> {
        let mut frame = vec![0_u8; 2048];
        let mut control = [0_u64; 16];
        // SAFETY: both are made of integers and pointers, for which zero is valid.
        let (mut from, mut message): (libc::sockaddr_ll, libc::msghdr) =
            unsafe { (std::mem::zeroed(), std::mem::zeroed()) };
        let mut into = libc::iovec { iov_base: frame.as_mut_ptr().cast(), iov_len: frame.len() };
        message.msg_name = (&raw mut from).cast();
        message.msg_namelen = size_of_val(&from) as libc::socklen_t;
        message.msg_iov = &raw mut into;
        message.msg_iovlen = 1;
        message.msg_control = control.as_mut_ptr().cast();
        message.msg_controllen = size_of_val(&control);
        // SAFETY: the header describes buffers that outlive the call.
        let length = unsafe { libc::recvmsg(self.socket.as_raw_fd(), &raw mut message, 0) };
        let length = usize::try_from(length).map_err(|_| io::Error::last_os_error())?;
        frame.truncate(length);
        if from.sll_pkttype == libc::PACKET_OUTGOING {
            return Ok(None);
        }
        if let Some((tpid, tag)) = tag_beside(&message) {
            frame.splice(12..12, [tpid.to_be_bytes(), tag.to_be_bytes()].concat());
        }
        Ok(Some(frame))
    }
}

/// Tag protocol identifier and tag that a received message tells of.
fn tag_beside(message: &libc::msghdr) -> Option<(u16, u16)> {
    // SAFETY: the kernel has filled in the message, so its first header, if any, is whole, and one of
    // this type is followed by a tpacket_auxdata.
    unsafe {
        let header = libc::CMSG_FIRSTHDR(message).as_ref()?;
        if (header.cmsg_level, header.cmsg_type) != (libc::SOL_PACKET, libc::PACKET_AUXDATA) {
            return None;
        }
        let data = libc::CMSG_DATA(header).cast::<libc::tpacket_auxdata>().read_unaligned();
        (data.tp_status & libc::TP_STATUS_VLAN_VALID != 0)
            .then_some((data.tp_vlan_tpid, data.tp_vlan_tci))
    }
}
