//! How the daemon, the kernel and the ruleset are, as the API tells it.

use std::collections::BTreeMap;

use jiff::Timestamp;
use sekisho_abi::record::{Mode, Modes};
use sekisho_rules::{
    compile::FeedReport,
    feed::FeedName,
    refusal::{Refusal, RefusalReason},
};
use serde::Serialize;

use crate::{
    dataplane::{Attachment, Installed, PortStatus, canary::CanaryEvidence, tables::Slots},
    feeds::FeedStatus,
    health::Health,
    history::Pin,
};

/// How the daemon and the kernel are.
#[derive(Debug, Serialize)]
pub struct Status {
    /// Version of the program.
    pub version: &'static str,
    /// When the daemon started.
    pub started_at: Timestamp,
    /// Whether it does its work.
    pub health: Health,
    /// The kill switch.
    pub mode: ModeStatus,
    /// For how many seconds the lists are still enforced.
    pub lease_seconds: u64,
    /// When a source last confirmed a list.
    pub confirmed_at: Option<Timestamp>,
    /// What is in the kernel.
    pub ruleset: RulesetStatus,
    /// The version that somebody went back to.
    pub pinned: Option<Pin>,
    /// Whether that is what was put there.
    pub proof: ProofStatus,
    /// Interfaces under guard.
    pub interfaces: Vec<InterfaceStatus>,
    /// How the feeds are.
    pub feeds: Vec<FeedStatus>,
    /// Flows that were taken out of the kernel since the start.
    pub rows_drained: u64,
}

/// Whether what is installed is what this daemon installed.
#[derive(Clone, Debug, Default, Serialize)]
pub struct ProofStatus {
    /// When that was last compared.
    pub compared_at: Option<Timestamp>,
    /// Why it can't be, if it can't.
    pub failure: Option<String>,
    /// What differs and could not be put right yet.
    pub standing: Vec<String>,
    /// What the programs make of the canary, as they were last asked.
    pub canaries: Vec<CanaryEvidence>,
    /// What differed and was put right, the latest first.
    pub put_right: Vec<PutRight>,
}

/// A difference that was put right.
#[derive(Clone, Debug, Serialize)]
pub struct PutRight {
    /// When.
    pub at: Timestamp,
    /// What it was.
    pub what: String,
}

/// The kill switch.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub struct ModeStatus {
    /// For everything.
    pub global: &'static str,
    /// Lists that may only observe.
    pub observed_lists: Vec<String>,
    /// Lists that are ignored.
    pub bypassed_lists: Vec<String>,
}

impl ModeStatus {
    /// As the pinned switch has it; `lists` are names by slot.
    pub fn of(modes: &Modes, lists: &[String]) -> Self {
        let slots = Slots::installed(lists.to_vec(), Vec::new());
        let named =
            |set| slots.names_in(set).into_iter().map(str::to_owned).collect::<Vec<String>>();
        Self {
            global: Mode::from_u8(modes.global).as_str(),
            observed_lists: named(modes.observed_lists),
            bypassed_lists: named(modes.bypassed_lists),
        }
    }
}

/// What is in the kernel.
#[derive(Debug, Serialize)]
pub struct RulesetStatus {
    /// `None` before the first publication.
    pub generation: Option<u32>,
    /// IPv4 entries.
    pub entries_v4: u32,
    /// IPv6 entries.
    pub entries_v6: u32,
    /// Bytes of the image.
    pub image_bytes: u64,
    /// Bytes that it may have.
    pub image_capacity: u64,
}

/// An interface under guard.
#[derive(Debug, Serialize)]
pub struct InterfaceStatus {
    /// Its name.
    pub name: String,
    /// The mode that applies: the milder of its own and the global one.
    pub mode: &'static str,
    /// `None` while the interface is gone.
    pub attachment: Option<Attachment>,
}

impl InterfaceStatus {
    /// Those that a dataplane guards.
    pub fn all(installed: &Installed, modes: &Modes) -> Vec<Self> {
        let status = |port: &PortStatus| Self {
            name: port.interface.clone(),
            mode: modes.of_port(usize::from(port.slot)).as_str(),
            attachment: port.attachment,
        };
        installed.ports.iter().map(status).collect()
    }
}

impl RulesetStatus {
    /// As read back from the kernel.
    pub const fn of(installed: &Installed) -> Self {
        Self {
            generation: installed.generation,
            entries_v4: installed.entries_v4,
            entries_v6: installed.entries_v6,
            image_bytes: installed.image_bytes,
            image_capacity: installed.image_capacity,
        }
    }
}

/// The ruleset that is live, and what became of the indicators behind it.
#[derive(Debug, Serialize)]
pub struct RulesetReport {
    /// Its number.
    pub generation: u32,
    /// When it went live.
    pub live_since: Timestamp,
    /// When the lists were last compiled to it.
    pub compiled_at: Timestamp,
    /// IPv4 entries.
    pub entries_v4: usize,
    /// IPv6 entries.
    pub entries_v6: usize,
    /// The account of each feed.
    pub feeds: Vec<FeedReport>,
    /// Indicators that the policy kept out, by reason.
    pub refused_by_reason: BTreeMap<RefusalReason, u64>,
    /// The first of them.
    pub refused: Vec<Refusal>,
}

/// What is not enforced although it is listed, and why.
pub(super) fn degraded(installed: &Installed, modes: &Modes, silent: &[FeedName]) -> Vec<String> {
    let ModeStatus { global, observed_lists, bypassed_lists } =
        ModeStatus::of(modes, &installed.lists);
    let enforce = Mode::Enforce.as_str();
    let mut told = Vec::new();
    if global != enforce {
        told.push(format!("the mode is {global}: nothing is dropped"));
    } else {
        let milder = InterfaceStatus::all(installed, modes).into_iter();
        told.extend(milder.filter(|interface| interface.mode != enforce).map(|interface| {
            format!("interface '{}' is in mode {}", interface.name, interface.mode)
        }));
    }
    told.extend(observed_lists.iter().map(|list| format!("list '{list}' is switched to observe")));
    told.extend(bypassed_lists.iter().map(|list| format!("list '{list}' is switched to bypass")));
    told.extend(silent.iter().map(|feed| {
        format!("feed '{feed}' only observes: its source has not confirmed it for too long")
    }));
    told
}

/// What somebody should look at of a feed.
pub(super) fn troubled(feed: &FeedStatus, now: Timestamp) -> Vec<String> {
    let name = &feed.name;
    let held = feed.held.as_ref().map(|held| {
        format!("feed '{name}': a list is held since {:.0}: {}", held.since, held.text)
    });
    held.into_iter().chain(told_stale(feed, now)).collect()
}

/// What is told of a feed whose claims have not changed for longer than they may.
fn told_stale(feed: &FeedStatus, now: Timestamp) -> Option<String> {
    let (from, most) = feed.content_from.zip(feed.max_content_age)?;
    let days = now.duration_since(from).as_hours() / 24;
    feed.is_stale(now).then(|| {
        format!(
            "feed '{}' is stale: its claims have not changed for {days} days, more than its \
             max_content_age ({most})",
            feed.name
        )
    })
}

/// That new lists don't go live.
pub(super) fn pinned(Pin { version, since, by, .. }: &Pin) -> String {
    format!(
        "version {version} is pinned by {by} since {since:.0}: new lists wait for `sekisho resume`"
    )
}
