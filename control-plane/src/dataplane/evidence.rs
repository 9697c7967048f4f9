//! What is installed, beside what this process installed, and where the two differ.

use std::{fmt, net::IpAddr};

use super::canary::{Answer, CanaryEvidence};

/// What the kernel holds of a dataplane that this process loaded.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Evidence {
    /// The ruleset that was put there, or found there at the start.
    pub expected: Option<ImageFacts>,
    /// The one that is there.
    pub found: Option<ImageFacts>,
    /// Whether its bytes match its checksum, as last read.
    pub intact: bool,
    /// Interfaces that are to be guarded.
    pub ports: Vec<PortEvidence>,
    /// Pins that are gone or are some other object's.
    pub lost_pins: Vec<String>,
    /// Interfaces that the map of devices does not lead to, though they exist.
    pub lost_devices: Vec<String>,
    /// Whether the pinned switch holds what a switch can hold.
    pub switch_holds: bool,
    /// Whether those are opted out who were to be.
    pub opt_outs_hold: bool,
    /// Whether what is sinkholed is sent as it was set to be.
    pub sinkhole_holds: bool,
    /// What the programs that are on interfaces make of probes; none without a ruleset.
    pub canaries: Vec<CanaryEvidence>,
}

/// How much is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Depth {
    /// Numbers and headers: some dozen system calls. Whatever is new is probed.
    Shallow,
    /// The ruleset's every byte, and a probe of every program.
    Deep,
}

/// Which ruleset it is.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ImageFacts {
    /// The kernel's number of its map.
    pub map: u32,
    /// Generation, entries and checksum in its header; `None` if it is no ruleset.
    pub label: Option<ImageLabel>,
}

/// What the header of a ruleset says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ImageLabel {
    /// Its number.
    pub generation: u32,
    /// IPv4 entries.
    pub entries_v4: u32,
    /// IPv6 entries.
    pub entries_v6: u32,
    /// CRC-32 of what follows.
    pub checksum: u32,
}

/// How an interface stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PortEvidence {
    /// Its name.
    pub interface: String,
    /// How it stands.
    pub state: PortState,
}

/// How an interface stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PortState {
    /// The program that this process loaded is on it.
    Guarded,
    /// There is no interface of this name.
    Absent,
    /// There is one again, and it is another one: without the program.
    Returned,
    /// The program was taken off.
    Detached,
    /// Some other program took its place in the link.
    Replaced {
        /// The kernel's number of the program that was loaded.
        expected: u32,
        /// Of the one that is there.
        found: u32,
    },
}

/// A difference between what was installed and what is.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Drift {
    /// A pin is gone, or some other object's.
    Pin {
        /// Its path.
        path: String,
    },
    /// An interface came back and bears no program.
    Interface {
        /// Its name.
        interface: String,
    },
    /// The program was taken off an interface.
    Link {
        /// Its name.
        interface: String,
    },
    /// An interface runs some other program.
    Program {
        /// Its name.
        interface: String,
        /// The kernel's number of the program that was loaded.
        expected: u32,
        /// Of the one that is there.
        found: u32,
    },
    /// Frames on a wire or to the sinkhole don't find their way to an interface.
    Device {
        /// Its name.
        interface: String,
    },
    /// The ruleset that is live is not the one that was made live.
    Image {
        /// That one.
        expected: Option<ImageFacts>,
        /// The one that is live.
        found: Option<ImageFacts>,
    },
    /// The ruleset that is live is not the one that was compiled.
    Ruleset {
        /// Of the compiled one.
        compiled: ImageLabel,
        /// Of the live one.
        installed: Option<ImageLabel>,
    },
    /// The live ruleset's bytes don't match its checksum.
    Checksum,
    /// The pinned switch holds what is no mode.
    Switch,
    /// Others are opted out than those who were to be, or nobody is.
    OptOuts,
    /// The way to the sinkhole is another one, or its interface has another hardware address.
    Sinkhole,
    /// The program on an interface makes something else of a probe than it should.
    Canary {
        /// The interface.
        interface: String,
        /// The address that was asked for.
        address: IpAddr,
        /// What should have become of the probe.
        expected: Answer,
        /// What became of it.
        answer: Answer,
    },
}

/// Kinds of differences, for metrics.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DriftKind {
    /// [`Drift::Pin`].
    Pin,
    /// [`Drift::Interface`].
    Interface,
    /// [`Drift::Link`].
    Link,
    /// [`Drift::Program`].
    Program,
    /// [`Drift::Device`].
    Device,
    /// [`Drift::Image`].
    Image,
    /// [`Drift::Ruleset`].
    Ruleset,
    /// [`Drift::Checksum`].
    Checksum,
    /// [`Drift::Switch`].
    Switch,
    /// [`Drift::OptOuts`].
    OptOuts,
    /// [`Drift::Sinkhole`].
    Sinkhole,
    /// [`Drift::Canary`].
    Canary,
}

impl DriftKind {
    /// All of them.
    pub const ALL: [Self; 12] = [
        Self::Pin,
        Self::Interface,
        Self::Link,
        Self::Program,
        Self::Device,
        Self::Image,
        Self::Ruleset,
        Self::Checksum,
        Self::Switch,
        Self::OptOuts,
        Self::Sinkhole,
        Self::Canary,
    ];

    /// The metric label.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Pin => "pin",
            Self::Interface => "interface",
            Self::Link => "link",
            Self::Program => "program",
            Self::Device => "device",
            Self::Image => "image",
            Self::Ruleset => "ruleset",
            Self::Checksum => "checksum",
            Self::Switch => "switch",
            Self::OptOuts => "opt_outs",
            Self::Sinkhole => "sinkhole",
            Self::Canary => "canary",
        }
    }
}

impl Drift {
    /// Its kind.
    pub const fn kind(&self) -> DriftKind {
        match self {
            Self::Pin { .. } => DriftKind::Pin,
            Self::Interface { .. } => DriftKind::Interface,
            Self::Link { .. } => DriftKind::Link,
            Self::Program { .. } => DriftKind::Program,
            Self::Device { .. } => DriftKind::Device,
            Self::Image { .. } => DriftKind::Image,
            Self::Ruleset { .. } => DriftKind::Ruleset,
            Self::Checksum => DriftKind::Checksum,
            Self::Switch => DriftKind::Switch,
            Self::OptOuts => DriftKind::OptOuts,
            Self::Sinkhole => DriftKind::Sinkhole,
            Self::Canary { .. } => DriftKind::Canary,
        }
    }

    /// Whether only a ruleset that is built anew is sure to mend it.
    pub const fn needs_rebuild(&self) -> bool {
        matches!(
            self,
            Self::Image { .. } | Self::Ruleset { .. } | Self::Checksum | Self::Canary { .. }
        )
    }
}

impl fmt::Display for ImageLabel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { generation, entries_v4, entries_v6, checksum } = self;
        write!(
            f,
            "generation {generation} ({entries_v4} IPv4 and {entries_v6} IPv6 entries, checksum \
             {checksum:08x})"
        )
    }
}

/// One ruleset in words, or none.
fn one(facts: Option<&ImageFacts>) -> String {
    match facts {
        None => "none".to_owned(),
        Some(ImageFacts { map, label: None }) => format!("map {map}, which is no ruleset"),
        Some(ImageFacts { map, label: Some(label) }) => format!("{label} in map {map}"),
    }
}

impl fmt::Display for Drift {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Pin { path } => write!(f, "the pin {path} is gone or some other object's"),
            Self::Interface { interface } => {
                write!(f, "interface '{interface}' is back, without the program")
            }
            Self::Link { interface } => {
                write!(f, "the program was taken off interface '{interface}'")
            }
            Self::Program { interface, expected, found } => {
                write!(f, "interface '{interface}' runs program {found} instead of {expected}")
            }
            Self::Device { interface } => {
                write!(f, "frames for interface '{interface}' don't find their way to it")
            }
            Self::Image { expected, found } => write!(
                f,
                "the live ruleset is {}, and {} was made live",
                one(found.as_ref()),
                one(expected.as_ref())
            ),
            Self::Ruleset { compiled, installed: Some(installed) } => {
                write!(f, "the live ruleset is {installed}, and {compiled} was compiled")
            }
            Self::Ruleset { compiled, installed: None } => {
                write!(f, "no ruleset is live, and {compiled} was compiled")
            }
            Self::Checksum => f.write_str("the live ruleset does not match its checksum"),
            Self::Switch => f.write_str("the pinned switch holds what is no mode"),
            Self::OptOuts => f.write_str("others are opted out than those who were to be"),
            Self::Sinkhole => f.write_str("the way to the sinkhole is not the one that was set"),
            Self::Canary { interface, address, expected, answer } => write!(
                f,
                "the program on interface '{interface}' {} the canary {address}, where a sound one \
                 {} it",
                answer.as_str(),
                expected.as_str()
            ),
        }
    }
}
