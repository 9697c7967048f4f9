//! A MISP feed: a manifest, and beside it a file for each event that it names.
//!
//! What comes of it is one list, the events one after the other. An event whose time in the
//! manifest did not change is taken from the last list, and so is one that changed and is not there:
//! publishers replace the manifest first. One that the manifest no longer names is left out.

use std::{collections::BTreeMap, fs, io, path::Path, time::Duration};

use jiff::Timestamp;
use reqwest::Url;
use sekisho_rules::{
    feed::{FeedSpec, Format, Source},
    moment::Moment,
    parse::{Limits, ManifestEvent, ParseFailure, misp_events, read_misp_manifest},
};

use super::{
    fetch::{FetchError, FetchErrorKind, Fetched, Validators},
    http::Session,
};

/// The file that names the events.
const MANIFEST: &str = "manifest.json";
/// Most events of a feed, the newest ones; CIRCL's has about 2,000 in eleven years.
const MOST_EVENTS: usize = 4_096;
/// Longest that a manifest and all its events may take.
const LONGEST: Duration = Duration::from_secs(30 * 60);

/// Why there is no list.
#[derive(Debug, thiserror::Error)]
pub enum MispError {
    /// The manifest or an event did not come.
    #[error(transparent)]
    Fetch(#[from] FetchError),
    /// The manifest can't be read, or there is too much of it all.
    #[error(transparent)]
    Parse(#[from] ParseFailure),
}

/// Whether the feed's source is a manifest.
pub fn is_feed(spec: &FeedSpec) -> bool {
    let path = match &spec.source {
        Source::Url(url) => Url::parse(url).map(|url| url.path().to_owned()).unwrap_or_default(),
        Source::File(path) => path.display().to_string(),
        Source::Taxii(_) | Source::Crowdsec(_) => return false,
    };
    spec.format == Format::Misp && path.rsplit('/').next() == Some(MANIFEST)
}

/// Fetches what changed since the list that we have, of which `have` recognises the manifest; for
/// no longer than half an hour.
pub async fn fetch(
    session: &Session,
    spec: &FeedSpec,
    url: &str,
    have: (&Validators, &[u8]),
    limits: &Limits,
    now: Timestamp,
) -> Result<Fetched, MispError> {
    let fetched = tokio::time::timeout(LONGEST, fetch_all(session, spec, url, have, limits, now));
    fetched.await.unwrap_or_else(|_| {
        let detail = format!("the events took more than {} minutes", LONGEST.as_secs() / 60);
        Err(FetchError::new(FetchErrorKind::Timeout, detail).into())
    })
}

async fn fetch_all(
    session: &Session,
    spec: &FeedSpec,
    url: &str,
    have: (&Validators, &[u8]),
    limits: &Limits,
    now: Timestamp,
) -> Result<Fetched, MispError> {
    let (validators, known) = have;
    let manifest = session.url(url)?;
    let fetched = session.fetch(&manifest, validators, limits.max_bytes, now).await?;
    let Fetched::List { bytes, validators, .. } = fetched else { return Ok(Fetched::NotModified) };
    let wanted = wanted(&bytes, spec, limits, now)?;
    let known = String::from_utf8_lossy(known);
    let known = misp_events(&known);
    let mut list = List::new(limits.max_bytes);
    for event in &wanted {
        if let Some(text) = unchanged(&known, event) {
            list.add(text.as_bytes())?;
            continue;
        }
        let url = event_url(&manifest, &event.uuid)?;
        match session.fetch(&url, &Validators::default(), list.room(), now).await {
            Ok(Fetched::List { bytes, .. }) => list.add(&bytes)?,
            Ok(Fetched::NotModified) => {}
            Err(error) if error.kind == FetchErrorKind::NotFound => match known.get(&event.uuid) {
                Some((_, old)) => list.add(old.as_bytes())?,
                None => list.missing += 1,
            },
            Err(error) => return Err(error.into()),
        }
    }
    let bytes = list.finish(wanted.len())?;
    Ok(Fetched::List { bytes, validators, withdrawn: false })
}

/// Reads a feed that is a folder; `manifest` is the path of its manifest.
pub fn read_folder(
    spec: &FeedSpec,
    manifest: &Path,
    limits: &Limits,
    now: Timestamp,
    read: impl Fn(&Path) -> io::Result<Vec<u8>>,
) -> Result<Vec<u8>, MispError> {
    let unreadable = |path: &Path, error: &io::Error| {
        FetchError::new(FetchErrorKind::Unreadable, format!("{}: {error}", path.display()))
    };
    // Whoever asks names the manifest.
    let unread = |error: io::Error| FetchError::new(FetchErrorKind::Unreadable, error.to_string());
    let bytes = read(manifest).map_err(unread)?;
    let wanted = wanted(&bytes, spec, limits, now)?;
    let mut list = List::new(limits.max_bytes);
    for event in &wanted {
        let path = manifest.with_file_name(format!("{}.json", event.uuid));
        match fs::exists(&path) {
            Ok(true) => list.add(&read(&path).map_err(|error| unreadable(&path, &error))?)?,
            Ok(false) | Err(_) => list.missing += 1,
        }
    }
    list.finish(wanted.len())
}

/// The newest events of the manifest that are not too old for the feed, the newest first.
fn wanted(
    manifest: &[u8],
    spec: &FeedSpec,
    limits: &Limits,
    now: Timestamp,
) -> Result<Vec<ManifestEvent>, MispError> {
    let mut events = read_misp_manifest(manifest, limits)?;
    if let Some(max_age) = spec.max_age {
        let now = Moment::from(now);
        events.retain(|event| event.timestamp.is_none_or(|time| time.after(max_age) >= now));
    }
    events.sort_by(|a, b| b.timestamp.cmp(&a.timestamp).then_with(|| a.uuid.cmp(&b.uuid)));
    events.truncate(MOST_EVENTS);
    Ok(events)
}

fn unchanged<'t>(
    known: &BTreeMap<String, (Option<Moment>, &'t str)>,
    event: &ManifestEvent,
) -> Option<&'t str> {
    let (timestamp, text) = known.get(&event.uuid)?;
    (timestamp.is_some() && *timestamp == event.timestamp).then_some(*text)
}

/// The address of an event beside the manifest's, query and all.
fn event_url(manifest: &Url, uuid: &str) -> Result<Url, FetchError> {
    let no_url = |_| FetchError::new(FetchErrorKind::Setup, "the source is no URL");
    let mut url = manifest.join(&format!("{uuid}.json")).map_err(no_url)?;
    url.set_query(manifest.query());
    Ok(url)
}

/// The events so far.
struct List {
    bytes: Vec<u8>,
    most: usize,
    missing: usize,
}

impl List {
    const fn new(most: usize) -> Self {
        Self { bytes: Vec::new(), most, missing: 0 }
    }

    const fn room(&self) -> usize {
        self.most.saturating_sub(self.bytes.len())
    }

    fn add(&mut self, event: &[u8]) -> Result<(), MispError> {
        if event.len() >= self.room() {
            return Err(ParseFailure::TooLarge { limit: self.most }.into());
        }
        self.bytes.extend_from_slice(event);
        self.bytes.push(b'\n');
        Ok(())
    }

    /// The list; an array if there are no events, which no manifest should make an empty file.
    fn finish(mut self, wanted: usize) -> Result<Vec<u8>, MispError> {
        if wanted > 0 && self.missing == wanted {
            let detail = format!("none of the {wanted} events of the manifest is there");
            return Err(FetchError::new(FetchErrorKind::NotFound, detail).into());
        }
        if self.bytes.is_empty() {
            self.bytes.extend_from_slice(b"[]\n");
        }
        Ok(self.bytes)
    }
}

#[cfg(test)]
#[path = "misp_tests.rs"]
mod tests;
