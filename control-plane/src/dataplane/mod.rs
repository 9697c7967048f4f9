//! The kernel side as the rest of the control plane sees it.
//!
//! Everything else takes the [`Dataplane`] trait; only [`kernel`] and its helpers know aya.

use std::{net::IpAddr, time::Duration};

use self::evidence::{Depth, Drift, Evidence};
use sekisho_abi::{
    flow::{FlowKey, FlowSlot, FlowTotals},
    image::{BuildError, Image, Lists},
    reason::Reason,
    record::{Count, Mode, Modes},
};

pub mod canary;
pub mod carrier;
pub mod evidence;
pub mod fake;
pub mod kernel;
mod netlink;
pub mod nic;
#[allow(unsafe_code, reason = "system calls that neither aya nor nix has")]
mod objects;
mod opt_outs;
mod pins;
mod split;
mod switch_lock;
#[allow(unsafe_code, reason = "system calls that neither aya nor nix has")]
pub mod sys;
pub mod tables;
mod tags;
#[allow(unsafe_code, reason = "system calls that neither aya nor nix has")]
pub mod trial;

pub use opt_outs::{OptOuts, PortBlock};

/// Why the dataplane refused.
#[derive(Debug, thiserror::Error)]
pub enum DataplaneError {
    /// The interface does not exist in this network namespace.
    #[error("interface '{name}' does not exist here; `ip -brief link` lists those that do")]
    NoInterface {
        /// As configured.
        name: String,
    },
    /// XDP could not be attached, not even in generic mode.
    #[error("interface '{name}' takes no XDP program: {reason}")]
    NoXdp {
        /// As configured.
        name: String,
        /// The kernel's word.
        reason: String,
    },
    /// The kernel refused the program.
    #[error("the kernel refused the XDP program: {0}")]
    Rejected(String),
    /// The image does not fit the maps that are loaded.
    #[error(
        "the ruleset needs {needed} bytes and the loaded dataplane holds {capacity}; raise \
         dataplane.image_capacity_mib and restart"
    )]
    TooLarge {
        /// Bytes of the image.
        needed: usize,
        /// Bytes of the map value.
        capacity: usize,
    },
    /// Those who opted out do not fit.
    #[error("the opt-outs do not fit: {0}")]
    OptOuts(#[from] BuildError),
    /// Another daemon owns the pins.
    #[error("{path} belongs to a daemon that is running; stop it first")]
    Busy {
        /// The pin directory.
        path: String,
    },
    /// Somebody else has been changing the kill switch for too long.
    #[error(
        "{path}: the kill switch is held by {holder} and was not let go within {waited:?}; end that \
         process and try again"
    )]
    SwitchHeld {
        /// The folder that is locked.
        path: String,
        /// Who holds it, as far as the kernel tells.
        holder: String,
        /// How long it was waited for.
        waited: Duration,
    },
    /// More interfaces than one dataplane can guard.
    #[error("{configured} interfaces are configured; one dataplane guards at most 64")]
    TooManyInterfaces {
        /// How many there are.
        configured: usize,
    },
    /// Nothing is pinned where the running dataplane should be.
    #[error(
        "no dataplane is loaded under {path}: `sekisho run -c FILE` loads one, --pin-dir DIR looks \
         elsewhere"
    )]
    NotLoaded {
        /// The pin directory.
        path: String,
    },
    /// A pinned object is of another shape than this build expects.
    #[error("{path} does not fit this build ({detail}); run `sekisho detach` and start again")]
    Incompatible {
        /// The pin.
        path: String,
        /// What differs.
        detail: String,
    },
    /// Not enough rights, no bpffs and the like.
    #[error("{call}: {source}")]
    System {
        /// What was tried.
        call: String,
        /// The system's answer.
        source: std::io::Error,
    },
}

/// How a program sits on an interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Attachment {
    /// In the driver.
    Native,
    /// In the generic hook, after the kernel built an skb: correct, but several times slower.
    Generic,
}

/// An interface under guard.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PortStatus {
    /// Interface name.
    pub interface: String,
    /// Port slot, the index into per-port maps.
    pub slot: u8,
    /// How the program is attached; `None` while the interface is gone.
    pub attachment: Option<Attachment>,
}

/// One row drained from the flow table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FlowRow {
    /// What makes it one flow.
    pub key: FlowKey,
    /// What it amounts to since the last drain.
    pub totals: FlowTotals,
}

impl From<FlowSlot> for FlowRow {
    fn from(slot: FlowSlot) -> Self {
        Self { key: slot.key(), totals: slot.totals() }
    }
}

/// A drain's number: no two drains that brought other rows have the same.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DrainId {
    /// The flow table.
    pub ledger: u32,
    /// Which of its drains.
    pub epoch: u32,
}

/// What a drain brought.
#[derive(Clone, Debug, Default)]
pub struct Drained {
    /// To [settle](Dataplane::settle) it by, once the rows are recorded.
    pub id: DrainId,
    /// A flow may occur more than once, once for each CPU: add them up.
    pub rows: Vec<FlowRow>,
}

/// What a rule matched.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RuleTotals {
    /// Hits that were recorded, or could not be kept by flow, since the daemon started.
    pub hits: Count,
    /// Those of them that no place of the flow table could hold.
    pub overflow: Count,
}

/// What the counters of one interface say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PortCounts {
    /// Port slot.
    pub slot: u8,
    /// By [`Reason`], summed over CPUs; index is the discriminant.
    pub by_reason: [Count; Reason::COUNT],
}

/// Counters that belong to no interface.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LedgerCounts {
    /// First-packet events that found the ring full.
    pub events_lost: u64,
    /// First-packet events held back by the rate limit.
    pub events_suppressed: u64,
}

/// What is installed right now, read back from the kernel.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Installed {
    /// Generation in the live image's header; `None` before the first publication.
    pub generation: Option<u32>,
    /// IPv4 prefixes in the live image.
    pub entries_v4: u32,
    /// IPv6 prefixes in the live image.
    pub entries_v6: u32,
    /// Names of the lists in the live image, by slot.
    pub lists: Vec<String>,
    /// Lists behind the live image's rules, by rule; rule 0 has none.
    pub rules: Vec<Lists>,
    /// Whether the live image's bytes match their checksum, as they were last read.
    pub intact: bool,
    /// Bytes of the image in use.
    pub image_bytes: u64,
    /// Bytes the map value holds.
    pub image_capacity: u64,
    /// For how long enforcement is still vouched for.
    pub lease: Duration,
    /// Interfaces.
    pub ports: Vec<PortStatus>,
}

/// The kernel side. Calls are short system calls; run them off the async threads.
pub trait Dataplane: Send + Sync {
    /// Makes an image live: every packet sees the whole old ruleset or the whole new one.
    fn publish(&self, image: &Image) -> Result<(), DataplaneError>;

    /// Makes these, and nobody else, opted out: their traffic passes unseen from now on.
    fn set_opt_outs(&self, opt_outs: &OptOuts) -> Result<(), DataplaneError>;

    /// Reads back what is installed.
    fn installed(&self) -> Result<Installed, DataplaneError>;

    /// Compares what is installed with what this process installed; one that only opened the
    /// dataplane installed nothing.
    fn evidence(&self, depth: Depth) -> Result<Evidence, DataplaneError>;

    /// Puts right what differs; what needs a new ruleset may still differ afterwards.
    fn repair(&self, drift: &Drift) -> Result<(), DataplaneError>;

    /// Vouches for the ruleset for this long from now; afterwards it only observes.
    fn renew_lease(&self, lifetime: Duration) -> Result<(), DataplaneError>;

    /// The kill switch as it stands.
    fn modes(&self) -> Result<Modes, DataplaneError>;

    /// Changes the kill switch from what it is, while nobody else does; gives it as it was and as it
    /// is.
    fn change_modes(
        &self,
        change: &mut dyn FnMut(&mut Modes),
    ) -> Result<(Modes, Modes), DataplaneError>;

    /// Every flow row since the last drain that was settled. Until then they are given again, under
    /// the same number, and newer ones wait.
    fn drain(&self) -> Result<Drained, DataplaneError>;

    /// Says that the rows of a drain are recorded: they are taken out of the kernel.
    fn settle(&self, id: DrainId) -> Result<(), DataplaneError>;

    /// Cumulative counters by interface.
    fn counts(&self) -> Result<Vec<PortCounts>, DataplaneError>;

    /// Totals by rule of the live image, with the lists that each rule stands for, in
    /// the order of the rules from 1 on.
    fn rule_totals(&self) -> Result<Vec<(Lists, RuleTotals)>, DataplaneError>;

    /// Cumulative counters of the event ring.
    fn ledger_counts(&self) -> Result<LedgerCounts, DataplaneError>;

    /// Takes what is on the ring of first packets, without waiting: the row of each flow as it was then.
    fn events(&self) -> Result<Vec<FlowRow>, DataplaneError>;

    /// What the live ruleset answers for a remote: the lists (by slot) that match this protocol
    /// (IANA number) and port.
    fn ask(&self, remote: IpAddr, protocol: u8, port: Option<u16>)
    -> Result<Lists, DataplaneError>;
}

/// The mode as the command line spells it.
pub fn parse_mode(text: &str) -> Result<Mode, String> {
    [Mode::Enforce, Mode::Observe, Mode::Bypass]
        .into_iter()
        .find(|mode| mode.as_str() == text)
        .ok_or_else(|| format!("'{text}' is no mode: expected enforce, observe or bypass"))
}

#[cfg(test)]
mod poisoned_tests;
