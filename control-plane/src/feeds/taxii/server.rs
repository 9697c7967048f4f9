//! What is asked of a TAXII server: its discovery, its collections, and their pages.

use jiff::Timestamp;
use reqwest::{
    Url,
    header::{ACCEPT, HeaderMap, HeaderValue},
};
use sekisho_rules::{access::TaxiiSpec, parse::Limits};
use serde::{Deserialize, de::DeserializeOwned};
use serde_json::value::RawValue;

use super::{objects::Objects, protocol};
use crate::feeds::{
    fetch::{FetchError, redacted},
    http::{Answer, Session},
    rows::{self, Broken},
};

/// The media type of TAXII 2.1 (section 1.6.8); servers refuse others.
const MEDIA_TYPE: HeaderValue = HeaderValue::from_static("application/taxii+json;version=2.1");
/// The time at which the last object of a page was added (section 5.4).
const DATE_ADDED_LAST: &str = "X-TAXII-Date-Added-Last";
/// Largest answer that is no page of objects.
const MOST_BYTES_OF_HEAD: usize = 1 << 20;
/// Most collections that are read.
const MOST_COLLECTIONS: usize = 64;
/// Most pages of one collection.
const MOST_PAGES: usize = 10_000;
/// Longest cursor or time that is sent back.
const LONGEST_CURSOR: usize = 4_096;

/// A server, while it is asked once.
pub struct Server<'s> {
    /// Who asks.
    pub session: &'s Session,
    /// How much is read.
    pub limits: &'s Limits,
    /// The time.
    pub now: Timestamp,
}

/// A collection that may be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Collection {
    /// Its id.
    pub id: String,
    /// Where its objects are.
    pub objects: Url,
}

#[derive(Deserialize)]
struct Discovery {
    #[serde(default)]
    default: Option<String>,
    #[serde(default)]
    api_roots: Vec<String>,
    /// An API root has this, and no roots.
    #[serde(default)]
    versions: Vec<String>,
}

#[derive(Deserialize)]
struct Collections {
    #[serde(default)]
    collections: Vec<CollectionRow>,
}

#[derive(Deserialize)]
struct CollectionRow {
    id: String,
    #[serde(default)]
    title: String,
    #[serde(default)]
    alias: String,
    #[serde(default)]
    can_read: bool,
}

/// A page; an empty one is `{}`.
#[derive(Deserialize)]
struct Envelope<'a> {
    #[serde(default)]
    more: bool,
    #[serde(default)]
    next: Option<serde_json::Value>,
    #[serde(borrow, default)]
    objects: Option<&'a RawValue>,
    /// An error message has this.
    #[serde(default)]
    title: Option<String>,
}

impl Server<'_> {
    /// The API root: the configured one, or else the one that discovery names.
    pub async fn root(&self, source: &str, taxii: &TaxiiSpec) -> Result<Url, FetchError> {
        let no_url = |_| protocol("the API root is no URL");
        if let Some(root) = &taxii.api_root {
            return with_slash(Url::parse(root).map_err(no_url)?);
        }
        let discovery = self.session.url(source)?;
        let told: Discovery = self.document(&discovery, "discovery").await?;
        let root = match told.default.or_else(|| told.api_roots.into_iter().next()) {
            Some(root) => discovery.join(&root).map_err(no_url)?,
            None if !told.versions.is_empty() => discovery.clone(),
            None => {
                return Err(protocol("the server names no API root: name it as taxii.api_root"));
            }
        };
        // Nobody but the operator sends the password to another host.
        if root.origin() != discovery.origin() {
            return Err(protocol(format!(
                "the server names {} as its API root, which is on another host: if that is right, \
                 name it as taxii.api_root",
                redacted(root.as_str())
            )));
        }
        with_slash(root)
    }

    /// The collections that are wanted and may be read.
    pub async fn collections(
        &self,
        root: &Url,
        taxii: &TaxiiSpec,
    ) -> Result<Vec<Collection>, FetchError> {
        let url = below(root, &["collections"])?;
        let Collections { collections: rows } = self.document(&url, "list of collections").await?;
        let is =
            |row: &CollectionRow, name: &String| [&row.id, &row.title, &row.alias].contains(&name);
        let wanted = &taxii.collections;
        if let Some(missing) = wanted.iter().find(|name| !rows.iter().any(|row| is(row, name))) {
            return Err(protocol(format!("the server has no collection '{missing}'")));
        }
        let mut found = Vec::new();
        for row in &rows {
            if !wanted.is_empty() && !wanted.iter().any(|name| is(row, name)) {
                continue;
            }
            if row.can_read {
                let objects = below(root, &["collections", &row.id, "objects"])?;
                found.push(Collection { id: row.id.clone(), objects });
            } else if !wanted.is_empty() {
                let detail = format!("the collection '{}' may not be read", row.id);
                return Err(protocol(detail));
            }
        }
        match found.len() {
            0 => Err(protocol("the server has no collection that may be read")),
            1..=MOST_COLLECTIONS => Ok(found),
            many => Err(protocol(format!(
                "the server has {many} collections, and at most {MOST_COLLECTIONS} are read: name \
                 those that are wanted as taxii.collections"
            ))),
        }
    }

    /// Reads what was added to a collection; gives when the newest of it was, in the server's words.
    ///
    /// A page that has a cursor is followed by the same query with the cursor. One that has none is
    /// followed by a query for what was added after it. Never by both: that skips objects.
    pub async fn read(
        &self,
        collection: &Collection,
        since: Option<String>,
        taxii: &TaxiiSpec,
        objects: &mut Objects,
    ) -> Result<Option<String>, FetchError> {
        let mut newest = since.clone();
        let (mut after, mut cursor) = (since, None::<String>);
        for _ in 0..MOST_PAGES {
            let url = page_url(&collection.objects, after.as_deref(), cursor.as_deref(), taxii);
            let Answer { headers, bytes } = self.get(&url, self.limits.max_bytes).await?;
            let page: Envelope<'_> = read_json(&bytes, "page of objects")?;
            if let (Some(title), None) = (&page.title, &page.objects) {
                return Err(protocol(format!("the server answers '{}'", shown(title))));
            }
            let mut progress = false;
            for_each(page.objects, |object| {
                progress |= objects.add(object)?;
                Ok(())
            })?;
            let last = date_added_last(&headers);
            if let Some(last) = &last
                && is_later(last, newest.as_deref())
            {
                newest = Some(last.clone());
            }
            if !page.more {
                return Ok(newest);
            }
            if !progress {
                return Err(protocol("the server says that there is more, and sends nothing new"));
            }
            match page.next.as_ref().and_then(text_of) {
                Some(next) => cursor = Some(next),
                None if last.as_deref().is_some_and(|last| is_later(last, after.as_deref())) => {
                    (after, cursor) = (last, None);
                }
                None => {
                    return Err(protocol("the server says that there is more, and not where"));
                }
            }
        }
        Err(protocol(format!("a collection has more than {MOST_PAGES} pages")))
    }

    async fn document<T: DeserializeOwned>(&self, url: &Url, what: &str) -> Result<T, FetchError> {
        let Answer { bytes, .. } = self.get(url, MOST_BYTES_OF_HEAD).await?;
        read_json(&bytes, what)
    }

    async fn get(&self, url: &Url, most: usize) -> Result<Answer, FetchError> {
        let headers = HeaderMap::from_iter([(ACCEPT, MEDIA_TYPE)]);
        let answer = self.session.get(url, &headers, most, self.now).await?;
        answer.ok_or_else(|| protocol("the server answers 304 to a request without conditions"))
    }
}

fn for_each(
    objects: Option<&RawValue>,
    take: impl FnMut(&RawValue) -> Result<(), FetchError>,
) -> Result<(), FetchError> {
    let read = objects.map_or(Ok(()), |objects| rows::each(objects, take));
    read.map_err(|broken| match broken {
        Broken::Json(error) => protocol(format!("the objects of a page are no array: {error}")),
        Broken::Stopped(error) => error,
    })
}

fn read_json<'a, T: Deserialize<'a>>(bytes: &'a [u8], what: &str) -> Result<T, FetchError> {
    serde_json::from_slice(bytes)
        .map_err(|error| protocol(format!("the answer is no {what} of TAXII 2.1: {error}")))
}

/// The address of a page. `added_after` stays as it is while a cursor is followed.
fn page_url(objects: &Url, after: Option<&str>, cursor: Option<&str>, taxii: &TaxiiSpec) -> Url {
    let mut url = objects.clone();
    let mut query = url.query_pairs_mut();
    query.append_pair("match[type]", "indicator");
    query.append_pair("limit", &taxii.page_size.to_string());
    if let Some(after) = after {
        query.append_pair("added_after", after);
    }
    if let Some(cursor) = cursor {
        query.append_pair("next", cursor);
    }
    drop(query);
    url
}

/// Servers tell `collections` and `collections/` apart, and TAXII wants the slash.
fn with_slash(mut root: Url) -> Result<Url, FetchError> {
    let mut segments = root.path_segments_mut().map_err(|()| protocol("the API root is no URL"))?;
    segments.pop_if_empty().push("");
    drop(segments);
    Ok(root)
}

fn below(root: &Url, names: &[&str]) -> Result<Url, FetchError> {
    let mut url = root.clone();
    let mut segments = url.path_segments_mut().map_err(|()| protocol("the API root is no URL"))?;
    segments.pop_if_empty().extend(names).push("");
    drop(segments);
    Ok(url)
}

fn date_added_last(headers: &HeaderMap) -> Option<String> {
    let text = headers.get(DATE_ADDED_LAST)?.to_str().ok()?.trim();
    text.parse::<Timestamp>().ok().map(|_| text.to_owned())
}

fn is_later(time: &str, than: Option<&str>) -> bool {
    let time = time.parse::<Timestamp>().ok();
    time > than.and_then(|than| than.parse().ok())
}

fn text_of(next: &serde_json::Value) -> Option<String> {
    let text = match next {
        serde_json::Value::String(text) => text.clone(),
        serde_json::Value::Number(number) => number.to_string(),
        _ => return None,
    };
    (1..=LONGEST_CURSOR).contains(&text.len()).then_some(text)
}

fn shown(text: &str) -> String {
    text.chars().take(80).map(|c| if c.is_control() { ' ' } else { c }).collect()
}
