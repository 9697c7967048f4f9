//! Asks the kernel for what the checks look at.

use std::{fs, io, path::Path};

use nix::{
    errno::Errno,
    sys::{
        resource::{RLIM_INFINITY, Resource, getrlimit},
        statfs::{BPF_FS_MAGIC, statfs},
        utsname::uname,
    },
    unistd::{SysconfVar, sysconf},
};
use rtnetlink::packet_route::link::{
    BondXmitHashPolicy, InfoBond, InfoData, LinkAttribute, LinkFlags, LinkInfo, LinkMessage,
    LinkXdp,
};

use super::{
    facts::{Attached, Bond, Facts, Host, Link, Port, Trial},
    netdev::Netdev,
    netlink::Netlink,
};
use crate::dataplane::{
    DataplaneError,
    trial::{self, PassProgram},
};

/// Looks at this machine and at interfaces of this network namespace; a wire's ends are looked at
/// although they are not named among them, and so is the one that leads to the sinkhole, if there is
/// one. With `trial`, a program that passes everything is put into
/// each driver for a moment. Blocks.
pub fn gather(
    interfaces: &[String],
    wires: &[(String, String)],
    sinkhole: Option<&str>,
    trial: bool,
) -> io::Result<Facts> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build()?;
    runtime.block_on(async {
        let passing = PassProgram::load();
        let all = All::read(trial).await?;
        let mut ports: Vec<Port> = Vec::new();
        let ends = wires.iter().flat_map(|(a, b)| [a, b]);
        for name in interfaces.iter().chain(ends) {
            if !ports.iter().any(|known| known.name == *name) {
                ports.push(all.port(name, passing.as_ref()).await);
            }
        }
        let sinkhole = match sinkhole {
            Some(name) => Some(all.outlet(name).await),
            None => None,
        };
        Ok(Facts { host: host(&passing, trial), ports, wires: wires.to_vec(), sinkhole })
    })
}

fn host(passing: &io::Result<PassProgram>, trial: bool) -> Host {
    let forbidden = |error: &io::Error| error.raw_os_error() == Some(Errno::EPERM as i32);
    let privileged = !passing.as_ref().is_err_and(forbidden);
    let number = |path: &str| fs::read_to_string(path).ok()?.trim().parse().ok();
    let (soft, _) = getrlimit(Resource::RLIMIT_MEMLOCK).unwrap_or((RLIM_INFINITY, RLIM_INFINITY));
    let (program, verified) = match (privileged, trial) {
        (false, _) => (Trial::NotTried("not permitted".to_owned()), None),
        (true, false) => (Trial::NotTried("as asked".to_owned()), None),
        (true, true) => match trial::load_own_program() {
            Ok(verified) => (Trial::Taken, verified),
            Err(error @ DataplaneError::Rejected(_)) => (Trial::Refused(error.to_string()), None),
            Err(error) => (Trial::NotTried(error.to_string()), None),
        },
    };
    let cpus = sysconf(SysconfVar::_NPROCESSORS_ONLN).ok().flatten().unwrap_or(1);
    Host {
        kernel: uname().map(|it| it.release().to_string_lossy().into_owned()).unwrap_or_default(),
        cpus: u32::try_from(cpus).unwrap_or(1),
        privileged,
        bpffs: statfs("/sys/fs/bpf").is_ok_and(|stat| stat.filesystem_type() == BPF_FS_MAGIC),
        jit: number("/proc/sys/net/core/bpf_jit_enable"),
        memlock: (soft != RLIM_INFINITY).then_some(soft),
        program,
        verified,
    }
}

/// Every interface of this namespace, and a way to ask for more.
struct All {
    netlink: Netlink,
    netdev: Netdev,
    links: Vec<LinkMessage>,
    /// Whether drivers are tried.
    trial: bool,
}

impl All {
    async fn read(trial: bool) -> io::Result<Self> {
        let netlink = Netlink::open()?;
        let links = netlink.links().await.map_err(io::Error::other)?;
        Ok(Self { netlink, netdev: Netdev::open()?, links, trial })
    }

    async fn port(&self, name: &str, passing: Result<&PassProgram, &io::Error>) -> Port {
        let Some(message) = self.links.iter().find(|link| self::name(link) == Some(name)) else {
            return Port { name: name.to_owned(), link: None };
        };
        let mut link = self.describe(name, message).await;
        link.native = self.attempt(&mut link, passing).await;
        if let Some(bond) = bond(message) {
            let mut members = Vec::new();
            for member in &self.links {
                let belongs = attribute(member, |it| match it {
                    LinkAttribute::Controller(master) => Some(*master),
                    _ => None,
                });
                if belongs == Some(link.index)
                    && let Some(name) = self::name(member)
                {
                    let link = Some(self.describe(name, member).await);
                    members.push(Port { name: name.to_owned(), link });
                }
            }
            link.bond = Some(Bond { members, ..bond });
        }
        Port { name: name.to_owned(), link: Some(link) }
    }

    /// An interface that gets no program.
    async fn outlet(&self, name: &str) -> Port {
        let message = self.links.iter().find(|link| self::name(link) == Some(name));
        let link = match message {
            Some(message) => Some(self.describe(name, message).await),
            None => None,
        };
        Port { name: name.to_owned(), link }
    }

    /// Everything but what a trial tells.
    async fn describe(&self, name: &str, message: &LinkMessage) -> Link {
        let kind = kind(message);
        let flags = message.header.flags;
        let number = |pick: fn(&LinkAttribute) -> Option<u32>| attribute(message, pick);
        let parent = number(|it| match it {
            LinkAttribute::Link(index) => Some(*index),
            _ => None,
        });
        let master = number(|it| match it {
            LinkAttribute::Controller(index) => Some(*index),
            _ => None,
        });
        let master = master.and_then(|index| self.by_index(index)).and_then(|master| {
            Some((self::name(master)?.to_owned(), self::kind(master).unwrap_or_default()))
        });
        let allotted = number(|it| match it {
            LinkAttribute::NumRxQueues(count) => Some(*count),
            _ => None,
        });
        let channels = self.netlink.channels(name).await.unwrap_or_default();
        let (queues_word, queues, most) = if channels.most_combined > 0 {
            ("combined", channels.combined, channels.most_combined)
        } else {
            ("rx", channels.rx, channels.most_rx)
        };
        Link {
            index: message.header.index,
            loopback: flags.contains(LinkFlags::Loopback),
            driver: driver(message),
            // The peer of a veth is no interface that it sits upon.
            parent: parent
                .filter(|_| kind.as_deref() != Some("veth"))
                .and_then(|index| self::name(self.by_index(index)?).map(str::to_owned)),
            kind,
            master,
            bond: None,
            mtu: number(|it| match it {
                LinkAttribute::Mtu(mtu) => Some(*mtu),
                _ => None,
            })
            .unwrap_or_default(),
            up: flags.contains(LinkFlags::Up),
            carrier: flags.contains(LinkFlags::LowerUp),
            promiscuous: number(|it| match it {
                LinkAttribute::Promiscuity(users) => Some(*users),
                _ => None,
            })
            .is_some_and(|users| users > 0),
            queues: if most > 0 { queues } else { allotted.unwrap_or(1) },
            most_queues: (most > 0).then_some(most),
            queues_word,
            striding_queues: self.netlink.striding_queues(name).await,
            offloads: self.netlink.offloads(name).await,
            attached: attached(message),
            native: Trial::NotTried("members of a bond are tried through it".to_owned()),
            redirected: self.netdev.redirected(message.header.index).await,
        }
    }

    /// Puts a program into the driver, where that disturbs nobody, and takes it off. Many drivers send
    /// redirected frames only while they have a program.
    async fn attempt(&self, link: &mut Link, passing: Result<&PassProgram, &io::Error>) -> Trial {
        if !self.trial {
            return Trial::NotTried("as asked".to_owned());
        }
        if let Some(attached) = &link.attached {
            return Trial::NotTried(format!("program {} is on it", attached.program.id));
        }
        if link.master.as_ref().is_some_and(|(_, kind)| kind == "bond") {
            return Trial::NotTried("it is the bond's member".to_owned());
        }
        let passing = match passing {
            Ok(passing) => passing,
            Err(error) => return Trial::NotTried(format!("no program could be loaded: {error}")),
        };
        match passing.attach(link.index) {
            Ok(_held) => {
                link.redirected = self.netdev.redirected(link.index).await;
                Trial::Taken
            }
            Err(error) if error.raw_os_error() == Some(Errno::EPERM as i32) => {
                Trial::NotTried("not permitted".to_owned())
            }
            Err(error) => {
                let told = self.netlink.refusal(link.index, passing).await;
                Trial::Refused(
                    told.map_or_else(|| error.to_string(), |told| format!("{error}: {told}")),
                )
            }
        }
    }

    fn by_index(&self, index: u32) -> Option<&LinkMessage> {
        self.links.iter().find(|link| link.header.index == index)
    }
}

fn attribute<'a, T>(
    link: &'a LinkMessage,
    pick: impl Fn(&'a LinkAttribute) -> Option<T>,
) -> Option<T> {
    link.attributes.iter().find_map(pick)
}

fn name(link: &LinkMessage) -> Option<&str> {
    attribute(link, |it| match it {
        LinkAttribute::IfName(name) => Some(name.as_str()),
        _ => None,
    })
}

fn information(link: &LinkMessage) -> impl Iterator<Item = &LinkInfo> {
    let infos = attribute(link, |it| match it {
        LinkAttribute::LinkInfo(infos) => Some(infos),
        _ => None,
    });
    infos.into_iter().flatten()
}

fn kind(link: &LinkMessage) -> Option<String> {
    information(link).find_map(|info| match info {
        LinkInfo::Kind(kind) => Some(kind.to_string()),
        _ => None,
    })
}

fn bond(link: &LinkMessage) -> Option<Bond> {
    let told = information(link).find_map(|info| match info {
        LinkInfo::Data(InfoData::Bond(told)) => Some(told),
        _ => None,
    })?;
    let mut bond = Bond { mode: String::new(), hashes_vlan_and_mac: false, members: Vec::new() };
    for field in told {
        match field {
            InfoBond::Mode(mode) => bond.mode = mode.to_string(),
            InfoBond::XmitHashPolicy(policy) => {
                bond.hashes_vlan_and_mac = *policy == BondXmitHashPolicy::VlanSrcMac;
            }
            _ => {}
        }
    }
    Some(bond)
}

/// The driver of the hardware, whichever namespace the interface is in.
fn driver(link: &LinkMessage) -> Option<String> {
    let device = attribute(link, |it| match it {
        LinkAttribute::ParentDevName(name) => Some(name),
        _ => None,
    })?;
    let bus = attribute(link, |it| match it {
        LinkAttribute::ParentDevBusName(name) => Some(name),
        _ => None,
    })?;
    let driver = Path::new("/sys/bus").join(bus).join("devices").join(device).join("driver");
    Some(fs::read_link(driver).ok()?.file_name()?.to_str()?.to_owned())
}

fn attached(link: &LinkMessage) -> Option<Attached> {
    let told = attribute(link, |it| match it {
        LinkAttribute::Xdp(told) => Some(told),
        _ => None,
    })?;
    let (mut driver, mut other) = (None, None);
    for field in told {
        match field {
            LinkXdp::DrvProgId(id) | LinkXdp::HwProgId(id) => driver = Some(*id),
            LinkXdp::SkbProgId(id) => other = Some(*id),
            _ => {}
        }
    }
    let id = driver.or(other)?;
    Some(Attached { program: trial::program(id), native: driver.is_some() })
}
