//! Whether anything is at the other end of an interface's cable.

use std::io;

use futures_util::TryStreamExt as _;
use nix::net::if_::if_nametoindex;
use rtnetlink::{Error, Handle, packet_route::link::LinkFlags};

use super::netlink;

/// Whether an interface can send and receive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Carrier {
    /// It can.
    Present,
    /// Nothing is at the other end of the cable.
    Missing,
    /// It is set down.
    SetDown,
}

/// How these interfaces of this network namespace are; `None` for one that is gone. Blocks.
pub fn read<'a>(interfaces: impl Iterator<Item = &'a str>) -> io::Result<Vec<Option<Carrier>>> {
    netlink::wait(async {
        let (netlink, _tasks) = netlink::interfaces()?;
        let mut carriers = Vec::new();
        for interface in interfaces {
            carriers.push(match if_nametoindex(interface) {
                Ok(index) => of(&netlink, index).await?,
                Err(_) => None,
            });
        }
        Ok(carriers)
    })
}

async fn of(netlink: &Handle, index: u32) -> io::Result<Option<Carrier>> {
    let mut links = netlink.link().get().match_index(index).execute();
    let link = match links.try_next().await {
        Ok(link) => link,
        // It went in between.
        Err(Error::NetlinkError(_)) => None,
        Err(error) => return Err(io::Error::other(error)),
    };
    Ok(link.map(|link| carrier(link.header.flags)))
}

fn carrier(flags: LinkFlags) -> Carrier {
    if !flags.contains(LinkFlags::Up) {
        Carrier::SetDown
    } else if flags.contains(LinkFlags::LowerUp) {
        Carrier::Present
    } else {
        Carrier::Missing
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_interface_that_is_set_down_has_no_say_about_its_cable() {
        assert_eq!(carrier(LinkFlags::Up | LinkFlags::LowerUp), Carrier::Present);
        assert_eq!(carrier(LinkFlags::Up), Carrier::Missing);
        assert_eq!(carrier(LinkFlags::LowerUp), Carrier::SetDown);
        assert_eq!(carrier(LinkFlags::empty()), Carrier::SetDown);
    }

    #[test]
    fn one_that_is_not_there_has_none() {
        let read = read(["no-such-one"].into_iter()).expect("netlink needs no rights");
        assert_eq!(read, [None]);
    }
}
