//! The copy of a list that stays in force while its source is broken.

use std::{
    fs::{self, File},
    io::{self, Write as _},
    path::{Path, PathBuf},
};

use jiff::Timestamp;
use sekisho_rules::feed::{FeedName, Source};
use serde::{Deserialize, Serialize};

use super::{fetch::Validators, http};

/// The content's file name begins so and goes on with its CRC-32, so that content and meta data are
/// replaced at once by replacing the meta data.
const LIST: &str = "list-";
const META: &str = "meta.json";
/// When the source was last asked, well or not.
const ASKED: &str = "asked";
/// Version of the layout of these files.
const VERSION: u32 = 1;

/// What is kept beside the content.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Meta {
    version: u32,
    /// CRC-32 of the content.
    crc32: u32,
    /// Bytes of the content.
    pub bytes: u64,
    /// CRC-32 of where it came from, which may hold a key and is not kept itself.
    #[serde(default)]
    source: u32,
    /// What the server recognises it by.
    pub validators: Validators,
    /// When the content came.
    pub fetched_at: Timestamp,
    /// When the source last said that this is its list.
    pub confirmed_at: Timestamp,
    /// Since when its claims are what they are; unset, since it came.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    claims_since: Option<Timestamp>,
    /// Since when only lists have come that are older than this one.
    #[serde(default)]
    pub older_since: Option<Timestamp>,
    /// CRC-32 and bytes of the held list that somebody rejected last.
    #[serde(default)]
    rejected: Option<(u32, u64)>,
}

impl Meta {
    /// Whether this is the content that is kept.
    pub fn is_of(&self, bytes: &[u8]) -> bool {
        self.bytes == bytes.len() as u64 && self.crc32 == crc32fast::hash(bytes)
    }

    /// Whether it came from this source; a copy from another one says nothing about its lists.
    pub fn is_from(&self, source: &Source) -> bool {
        self.source == source_crc32(source)
    }

    /// Whether this is the content that somebody rejected.
    pub fn rejects(&self, bytes: &[u8]) -> bool {
        self.rejected == Some((crc32fast::hash(bytes), bytes.len() as u64))
    }

    /// Remembers the content that somebody rejected.
    pub fn reject(&mut self, crc32: u32, bytes: u64) {
        self.rejected = Some((crc32, bytes));
    }

    /// Since when we know its claims.
    pub fn claims_since(&self) -> Timestamp {
        self.claims_since.unwrap_or(self.fetched_at)
    }

    /// Since when its claims are what they are: an earlier date of the publisher's counts, be it in
    /// the list or beside it.
    pub fn content_from(&self, stamp: Option<Timestamp>) -> Timestamp {
        let last_modified = self.validators.last_modified.as_deref().and_then(http::date);
        [stamp, last_modified].into_iter().flatten().fold(self.claims_since(), Timestamp::min)
    }

    fn list_name(&self) -> String {
        format!("{LIST}{:08x}", self.crc32)
    }
}

/// The last good copies under a state folder.
#[derive(Clone, Debug)]
pub struct LastGood {
    folder: PathBuf,
}

impl LastGood {
    /// Those below this state folder.
    pub fn new(state_dir: &Path) -> Self {
        Self { folder: state_dir.join("feeds") }
    }

    /// The copy of a feed; `None` if there is none, or if it is damaged.
    pub fn load(&self, feed: &FeedName) -> io::Result<Option<(Vec<u8>, Meta)>> {
        let folder = self.of(feed);
        let read = |name: String| match fs::read(folder.join(name)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            other => other.map(Some),
        };
        let Some(meta) = read(META.to_owned())? else { return Ok(None) };
        let Ok(meta) = serde_json::from_slice::<Meta>(&meta) else { return Ok(None) };
        let Some(bytes) = read(meta.list_name())? else { return Ok(None) };
        let whole = meta.version == VERSION && meta.is_of(&bytes);
        Ok(whole.then_some((bytes, meta)))
    }

    /// Keeps a list that was found good.
    pub fn keep(
        &self,
        feed: &FeedName,
        bytes: &[u8],
        source: &Source,
        validators: Validators,
        claims_since: Option<Timestamp>,
        now: Timestamp,
    ) -> io::Result<Meta> {
        let meta = Meta {
            version: VERSION,
            crc32: crc32fast::hash(bytes),
            bytes: bytes.len() as u64,
            source: source_crc32(source),
            validators,
            fetched_at: now,
            confirmed_at: now,
            claims_since,
            older_since: None,
            rejected: None,
        };
        let folder = self.of(feed);
        fs::create_dir_all(&folder)?;
        replace(&folder, &meta.list_name(), bytes)?;
        self.keep_meta(feed, &meta)?;
        remove_others(&folder, LIST, &meta.list_name())?;
        Ok(meta)
    }

    /// Notes that the source confirmed the copy.
    pub fn confirm(&self, feed: &FeedName, meta: &mut Meta, now: Timestamp) -> io::Result<()> {
        meta.confirmed_at = now;
        self.keep_meta(feed, meta)
    }

    /// Notes that the source of a feed is about to be asked.
    pub fn note_request(&self, feed: &FeedName, now: Timestamp) -> io::Result<()> {
        let folder = self.of(feed);
        fs::create_dir_all(&folder)?;
        fs::write(folder.join(ASKED), now.to_string())
    }

    /// When the source of a feed was last asked, if that can be read.
    pub fn last_request(&self, feed: &FeedName) -> Option<Timestamp> {
        fs::read_to_string(self.of(feed).join(ASKED)).ok()?.trim().parse().ok()
    }

    /// Keeps what changed beside the content.
    pub fn keep_meta(&self, feed: &FeedName, meta: &Meta) -> io::Result<()> {
        replace(&self.of(feed), META, &serde_json::to_vec_pretty(meta)?)
    }

    pub(super) fn of(&self, feed: &FeedName) -> PathBuf {
        self.folder.join(&**feed)
    }
}

/// Replaces a file at once: a crash leaves the old one or the new one.
pub(crate) fn replace(folder: &Path, name: &str, bytes: &[u8]) -> io::Result<()> {
    let mut file = tempfile::NamedTempFile::new_in(folder)?;
    file.write_all(bytes)?;
    file.as_file().sync_all()?;
    file.persist(folder.join(name)).map_err(|error| error.error)?;
    File::open(folder)?.sync_all()
}

/// What a source is told by.
pub(super) fn source_crc32(source: &Source) -> u32 {
    crc32fast::hash(source.to_string().as_bytes())
}

/// Removes the content that was replaced: files whose name begins so.
pub(super) fn remove_others(folder: &Path, prefix: &str, kept: &str) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let name = entry.file_name();
        if name != kept && name.to_string_lossy().starts_with(prefix) {
            fs::remove_file(entry.path())?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_second(seconds).unwrap()
    }

    fn here() -> Source {
        Source::Url("https://lists.example.net/c2.txt".to_owned())
    }

    fn etag(text: &str) -> Validators {
        Validators { etag: Some(text.to_owned()), ..Validators::default() }
    }

    #[test]
    fn what_is_kept_comes_back() {
        let dir = tempfile::tempdir().unwrap();
        let store = LastGood::new(dir.path());
        let feed = "one".parse().unwrap();
        assert_eq!(store.load(&feed).unwrap(), None);
        store.keep(&feed, b"198.18.0.1\n", &here(), etag("a"), None, at(5)).unwrap();
        let mut kept = store.keep(&feed, b"198.18.0.2\n", &here(), etag("b"), None, at(6)).unwrap();
        store.confirm(&feed, &mut kept, at(9)).unwrap();
        let (bytes, meta) = store.load(&feed).unwrap().unwrap();
        assert_eq!(bytes, b"198.18.0.2\n");
        assert_eq!(meta.validators, etag("b"));
        assert!(meta.is_from(&here()));
        assert!(!meta.is_from(&Source::Url("https://elsewhere.example.net/".to_owned())));
        assert_eq!((meta.fetched_at, meta.confirmed_at), (at(6), at(9)));
        let names: Vec<_> = fs::read_dir(dir.path().join("feeds/one")).unwrap().collect();
        assert_eq!(names.len(), 2, "nothing temporary is left");
    }

    #[test]
    fn content_without_its_meta_data_leaves_the_old_copy_in_force() {
        let dir = tempfile::tempdir().unwrap();
        let store = LastGood::new(dir.path());
        let feed = "one".parse().unwrap();
        store.keep(&feed, b"198.18.0.1\n", &here(), etag("a"), None, at(5)).unwrap();
        fs::write(dir.path().join("feeds/one/list-00000000"), b"half").unwrap();
        assert_eq!(store.load(&feed).unwrap().unwrap().0, b"198.18.0.1\n");
    }

    #[test]
    fn a_damaged_copy_is_none() {
        let dir = tempfile::tempdir().unwrap();
        let store = LastGood::new(dir.path());
        let feed = "one".parse().unwrap();
        store.keep(&feed, b"198.18.0.1\n", &here(), etag("a"), None, at(5)).unwrap();
        let list = format!("feeds/one/list-{:08x}", crc32fast::hash(b"198.18.0.1\n"));
        fs::write(dir.path().join(list), b"198.18.0.1").unwrap();
        assert_eq!(store.load(&feed).unwrap(), None);
        fs::write(dir.path().join("feeds/one/meta.json"), b"{").unwrap();
        assert_eq!(store.load(&feed).unwrap(), None);
    }

    #[test]
    fn the_earliest_date_says_since_when_the_content_is_what_it_is() {
        let dir = tempfile::tempdir().unwrap();
        let store = LastGood::new(dir.path());
        let feed = "one".parse().unwrap();
        let dated = Validators {
            last_modified: Some("Thu, 01 Jan 1970 00:00:07 GMT".to_owned()),
            ..Validators::default()
        };
        let since = |validators: &Validators, since| {
            store.keep(&feed, b"x", &here(), validators.clone(), since, at(9)).unwrap()
        };
        assert_eq!(since(&etag("a"), None).content_from(None), at(9));
        assert_eq!(since(&etag("a"), Some(at(8))).content_from(None), at(8));
        assert_eq!(since(&dated, None).content_from(None), at(7));
        assert_eq!(since(&dated, None).content_from(Some(at(6))), at(6));
        assert_eq!(since(&dated, None).content_from(Some(at(60))), at(7));
    }

    #[test]
    fn a_request_is_remembered() {
        let dir = tempfile::tempdir().unwrap();
        let store = LastGood::new(dir.path());
        let feed = "one".parse().unwrap();
        assert_eq!(store.last_request(&feed), None);
        store.note_request(&feed, at(5)).unwrap();
        assert_eq!(store.last_request(&feed), Some(at(5)));
        fs::write(dir.path().join("feeds/one/asked"), "never").unwrap();
        assert_eq!(store.last_request(&feed), None);
    }
}
