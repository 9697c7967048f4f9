//! Lists that changed by more than they may, and wait for somebody's word.

use std::{fs, io};

use jiff::Timestamp;
use sekisho_rules::{
    change::{Figures, HoldReason},
    feed::{FeedName, Source},
};
use serde::{Deserialize, Serialize};

use super::{
    fetch::Validators,
    last_good::{self, LastGood, Meta},
};

/// The content's file name begins so and goes on with its CRC-32, as that of a last good copy.
const LIST: &str = "held-";
const META: &str = "held.json";
/// Version of the layout of these files.
const VERSION: u32 = 1;

/// A list that is held.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Held {
    version: u32,
    /// CRC-32 of the content.
    crc32: u32,
    /// Bytes of the content.
    bytes: u64,
    /// CRC-32 of where it came from, which may hold a key and is not kept itself.
    source: u32,
    /// What the server recognises it by.
    pub validators: Validators,
    /// Why.
    pub reason: HoldReason,
    /// By how much it differs from the list in force.
    pub figures: Figures,
    /// Since when any list of this feed is held.
    pub since: Timestamp,
    /// When it came.
    pub fetched_at: Timestamp,
    /// When the source last said that this is its list.
    pub confirmed_at: Timestamp,
}

/// A held list, as it is told.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct HeldStatus {
    /// Names the list, to accept this one and no other.
    pub list: String,
    /// Why it is held.
    pub reason: HoldReason,
    /// By how much it differs from the list in force.
    #[serde(flatten)]
    pub figures: Figures,
    /// Since when any list of the feed is held.
    pub since: Timestamp,
    /// When it came.
    pub fetched_at: Timestamp,
    /// In words.
    pub text: String,
}

/// Somebody's word on a held list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Word {
    /// Whether it is to take the place of the one in force.
    pub accepts: bool,
    /// The list that is meant; `None` is whichever is held.
    pub list: Option<String>,
    /// Whose word it is.
    pub by: String,
}

/// What came of somebody's word.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WordOutcome {
    /// Whose word it was.
    pub by: String,
    /// Why nothing came of it, if so.
    pub outcome: Result<(), WordError>,
}

/// Why nothing came of somebody's word.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WordError {
    /// No list of the feed is held.
    #[error("no list of feed '{0}' is held")]
    NothingHeld(FeedName),
    /// Another list is held than the one that was meant.
    #[error("the list that is held is {held} by now: look at it first")]
    Another {
        /// The one that is held.
        held: String,
    },
    /// The held list can't be taken.
    #[error("the held list can't be taken: {0}")]
    Broken(String),
}

impl Held {
    /// A list that is to be held. One that takes the place of another is held since that one was.
    pub fn new(
        bytes: &[u8],
        source: &Source,
        validators: Validators,
        (reason, figures): (HoldReason, Figures),
        before: Option<&Self>,
        now: Timestamp,
    ) -> Self {
        Self {
            version: VERSION,
            crc32: crc32fast::hash(bytes),
            bytes: bytes.len() as u64,
            source: last_good::source_crc32(source),
            validators,
            reason,
            figures,
            since: before.map_or(now, |before| before.since),
            fetched_at: now,
            confirmed_at: now,
        }
    }

    /// Whether this is the content that is held.
    pub fn is_of(&self, bytes: &[u8]) -> bool {
        self.bytes == bytes.len() as u64 && self.crc32 == crc32fast::hash(bytes)
    }

    /// Names the list.
    pub fn id(&self) -> String {
        format!("{:08x}", self.crc32)
    }

    /// Remembers that somebody rejected it.
    pub fn note_rejected(&self, meta: &mut Meta) {
        meta.reject(self.crc32, self.bytes);
    }

    /// As it is told.
    pub fn status(&self) -> HeldStatus {
        let Self { reason, figures, since, fetched_at, .. } = *self;
        let why = match reason {
            HoldReason::Growth => "more than it may grow",
            HoldReason::Shrinkage => "more than it may shrink",
            HoldReason::Approval => "and each change of it waits for approval",
        };
        let text = format!("{figures}, {why}");
        HeldStatus { list: self.id(), reason, figures, since, fetched_at, text }
    }
}

impl LastGood {
    /// The list of a feed that is held and came from this source; `None` if there is none, or if it
    /// is damaged.
    pub fn load_held(&self, feed: &FeedName, source: &Source) -> io::Result<Option<Held>> {
        let read = |name: &str| match fs::read(self.of(feed).join(name)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            other => other.map(Some),
        };
        let Some(meta) = read(META)? else { return Ok(None) };
        let held = serde_json::from_slice::<Held>(&meta).ok();
        let held = held.filter(|held| {
            held.version == VERSION && held.source == last_good::source_crc32(source)
        });
        let Some(held) = held else { return Ok(None) };
        Ok(read(&format!("{LIST}{}", held.id()))?.filter(|bytes| held.is_of(bytes)).map(|_| held))
    }

    /// The content of a held list.
    pub fn held_bytes(&self, feed: &FeedName, held: &Held) -> io::Result<Vec<u8>> {
        let bytes = fs::read(self.of(feed).join(format!("{LIST}{}", held.id())))?;
        if held.is_of(&bytes) {
            Ok(bytes)
        } else {
            Err(io::Error::new(io::ErrorKind::InvalidData, "the held list is damaged"))
        }
    }

    /// Holds a list, in place of the one that is held.
    pub fn hold(&self, feed: &FeedName, bytes: &[u8], held: &Held) -> io::Result<()> {
        let (folder, name) = (self.of(feed), format!("{LIST}{}", held.id()));
        fs::create_dir_all(&folder)?;
        last_good::replace(&folder, &name, bytes)?;
        self.note_held(feed, held)?;
        last_good::remove_others(&folder, LIST, &name)
    }

    /// Notes what changed about the list that is held.
    pub fn note_held(&self, feed: &FeedName, held: &Held) -> io::Result<()> {
        last_good::replace(&self.of(feed), META, &serde_json::to_vec_pretty(held)?)
    }

    /// Holds nothing any more.
    pub fn drop_held(&self, feed: &FeedName) -> io::Result<()> {
        let folder = self.of(feed);
        match fs::remove_file(folder.join(META)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            other => other?,
        }
        last_good::remove_others(&folder, LIST, "")
    }

    /// Makes the held list the last good one.
    pub fn accept(
        &self,
        feed: &FeedName,
        bytes: &[u8],
        source: &Source,
        held: &Held,
        claims_since: Option<Timestamp>,
    ) -> io::Result<Meta> {
        let validators = held.validators.clone();
        let mut meta = self.keep(feed, bytes, source, validators, claims_since, held.fetched_at)?;
        self.confirm(feed, &mut meta, held.confirmed_at)?;
        self.drop_held(feed)?;
        Ok(meta)
    }
}
