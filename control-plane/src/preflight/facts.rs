//! What is known of a machine and its interfaces.

use crate::dataplane::trial::Loaded;

/// Everything that the checks look at.
#[derive(Clone, Debug)]
pub struct Facts {
    /// The machine.
    pub host: Host,
    /// The interfaces that were asked for.
    pub ports: Vec<Port>,
    /// Pairs of them that are the two ends of a wire, by name.
    pub wires: Vec<(String, String)>,
    /// The interface that leads to the sinkhole.
    pub sinkhole: Option<Port>,
}

/// The machine.
#[derive(Clone, Debug)]
pub struct Host {
    /// As `uname -r` gives it.
    pub kernel: String,
    /// CPUs that may take packets.
    pub cpus: u32,
    /// Whether this process may load programs.
    pub privileged: bool,
    /// Whether a bpffs is mounted where pins go.
    pub bpffs: bool,
    /// `net.core.bpf_jit_enable`; `None` if the kernel has no such switch, as with a JIT that is
    /// always on.
    pub jit: Option<u32>,
    /// Bytes that this process may lock; `None` for no limit.
    pub memlock: Option<u64>,
    /// Whether the kernel took the program that comes with this build, with everything switched on.
    pub program: Trial,
    /// How many instructions its verifier followed, where it tells.
    pub verified: Option<u32>,
}

/// What became of a trial.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Trial {
    /// It worked.
    Taken,
    /// The kernel refused, in its own words.
    Refused(String),
    /// It was not tried, and why.
    NotTried(String),
}

/// An interface that was asked for.
#[derive(Clone, Debug)]
pub struct Port {
    /// Its name.
    pub name: String,
    /// `None` if there is none of this name.
    pub link: Option<Link>,
}

/// An interface.
#[derive(Clone, Debug)]
pub struct Link {
    /// Its number in this network namespace.
    pub index: u32,
    /// What the kernel calls its kind (`vlan`, `bond`, `veth`); `None` for hardware.
    pub kind: Option<String>,
    /// Whether it is the loopback.
    pub loopback: bool,
    /// Name of the driver of the hardware.
    pub driver: Option<String>,
    /// The interface that it sits upon.
    pub parent: Option<String>,
    /// The bond, bridge or team that it belongs to: name and kind.
    pub master: Option<(String, String)>,
    /// If it is a bond.
    pub bond: Option<Bond>,
    /// Longest packet in bytes.
    pub mtu: u32,
    /// Whether it is set up.
    pub up: bool,
    /// Whether the other end is there.
    pub carrier: bool,
    /// Whether it takes frames to anybody's address.
    pub promiscuous: bool,
    /// Receive queues in use.
    pub queues: u32,
    /// Receive queues that the driver can have, if it says so.
    pub most_queues: Option<u32>,
    /// How `ethtool -L` names its queues: `combined` or `rx`.
    pub queues_word: &'static str,
    /// Whether they are striding, as a ConnectX has them; `None` if the driver has no such switch.
    pub striding_queues: Option<bool>,
    /// Offloads that matter; `None` if the driver does not tell.
    pub offloads: Option<Offloads>,
    /// The XDP program on it.
    pub attached: Option<Attached>,
    /// Whether the driver took a program that passes everything.
    pub native: Trial,
    /// What it sends of the frames that programs redirect to it, while it has a program itself if one
    /// was tried; `None` if the kernel does not tell.
    pub redirected: Option<Sends>,
}

/// What an interface sends of the frames that programs redirect to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sends {
    /// None.
    Nothing,
    /// Those that lie in one buffer.
    OneBuffer,
    /// All.
    Everything,
}

/// A bond.
#[derive(Clone, Debug)]
pub struct Bond {
    /// As the kernel calls it: `802.3ad`, `active-backup`.
    pub mode: String,
    /// Whether its hash policy is `vlan+srcmac`.
    pub hashes_vlan_and_mac: bool,
    /// Its members.
    pub members: Vec<Port>,
}

/// Offloads that matter to a program in the driver.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Offloads {
    /// The NIC takes the outer 802.1Q tag off.
    pub strips_vlan: bool,
    /// The NIC takes the outer 802.1ad tag off.
    pub strips_service_vlan: bool,
    /// The NIC merges packets of a stream.
    pub lro: bool,
    /// The NIC merges packets of a stream, reversibly.
    pub hardware_gro: bool,
}

/// An XDP program on an interface.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attached {
    /// Who it is.
    pub program: Loaded,
    /// Whether it sits in the driver.
    pub native: bool,
}
