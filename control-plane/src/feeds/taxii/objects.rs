//! The indicators of a server: by id, the version that was modified last.

use std::{
    borrow::Cow,
    collections::{BTreeMap, HashSet},
    hash::{DefaultHasher, Hash as _, Hasher as _},
};

use jiff::Timestamp;
use sekisho_rules::parse::Limits;
use serde::Deserialize;
use serde_json::value::RawValue;

use crate::feeds::fetch::{FetchError, FetchErrorKind};

/// The indicators so far.
#[derive(Clone, Debug)]
pub struct Objects {
    by_id: BTreeMap<String, Version>,
    /// Which versions of which objects came since it was made, indicators or not.
    seen: HashSet<u64>,
    bytes: usize,
    limits: Limits,
}

#[derive(Clone, Debug)]
struct Version {
    modified: Option<Timestamp>,
    /// The object; `None` if it was revoked.
    text: Option<Box<str>>,
}

#[derive(Deserialize)]
struct Head<'a> {
    #[serde(borrow)]
    id: Cow<'a, str>,
    #[serde(borrow, rename = "type")]
    kind: Cow<'a, str>,
    #[serde(borrow, default)]
    modified: Option<Cow<'a, str>>,
    #[serde(default)]
    revoked: bool,
}

#[derive(Deserialize)]
struct Bundle<'a> {
    #[serde(borrow)]
    objects: Vec<&'a RawValue>,
}

impl Objects {
    /// None yet.
    pub fn new(limits: &Limits) -> Self {
        Self { by_id: BTreeMap::new(), seen: HashSet::new(), bytes: 0, limits: limits.clone() }
    }

    /// Those of a bundle that was written here; `None` if it was not.
    pub fn read(bundle: &[u8], limits: &Limits) -> Option<Self> {
        let bundle: Bundle<'_> = serde_json::from_slice(bundle).ok()?;
        let mut objects = Self::new(limits);
        for object in bundle.objects {
            objects.add(object).ok()?;
        }
        objects.seen = HashSet::new();
        Some(objects)
    }

    /// Takes an object; whether it was not there before. What is no object at all is left out.
    pub fn add(&mut self, object: &RawValue) -> Result<bool, FetchError> {
        let Ok(head) = serde_json::from_str::<Head<'_>>(object.get()) else { return Ok(false) };
        if !self.seen.insert(key(&head)) {
            return Ok(false);
        }
        if self.seen.len() > self.limits.max_lines {
            return Err(too_large(&format!("more than {} objects", self.limits.max_lines)));
        }
        if head.kind != "indicator" {
            return Ok(true);
        }
        let modified = head.modified.as_ref().and_then(|text| text.parse().ok());
        let known = self.by_id.get(&*head.id);
        if known.is_some_and(|known| known.modified > modified) {
            return Ok(true);
        }
        let text = (!head.revoked).then(|| Box::from(object.get()));
        let length = |text: &Option<Box<str>>| text.as_ref().map_or(0, |text| text.len() + 2);
        let old = known.map_or(0, |known| length(&known.text));
        self.bytes = (self.bytes + length(&text)).saturating_sub(old);
        if self.bytes > self.limits.max_bytes {
            return Err(too_large(&format!("more than {} bytes", self.limits.max_bytes)));
        }
        self.by_id.insert(head.id.into_owned(), Version { modified, text });
        Ok(true)
    }

    /// All as a STIX bundle, one a line, in the order of their ids.
    pub fn bundle(&self) -> Vec<u8> {
        let mut bundle = Vec::with_capacity(self.bytes + 64);
        bundle.extend_from_slice(b"{\"type\":\"bundle\",\"objects\":[");
        let texts = self.by_id.values().filter_map(|version| version.text.as_deref());
        for (nth, text) in texts.enumerate() {
            bundle.extend_from_slice(if nth == 0 { b"\n" } else { b",\n" });
            bundle.extend_from_slice(text.as_bytes());
        }
        bundle.extend_from_slice(b"\n]}\n");
        bundle
    }
}

fn key(head: &Head<'_>) -> u64 {
    let mut hasher = DefaultHasher::new();
    (&head.id, &head.modified, head.revoked).hash(&mut hasher);
    hasher.finish()
}

fn too_large(what: &str) -> FetchError {
    FetchError::new(FetchErrorKind::TooLarge, format!("the collections have {what}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn indicator(id: &str, modified: &str, more: &str) -> Box<RawValue> {
        let text = format!(r#"{{"type":"indicator","id":"{id}","modified":"{modified}"{more}}}"#);
        RawValue::from_string(text).unwrap()
    }

    fn ids(objects: &Objects) -> Vec<String> {
        let bundle = objects.bundle();
        let bundle: Bundle<'_> = serde_json::from_slice(&bundle).unwrap();
        let id = |object: &&RawValue| {
            let head: Head<'_> = serde_json::from_str(object.get()).unwrap();
            format!("{} {}", head.id, head.modified.unwrap())
        };
        bundle.objects.iter().map(id).collect()
    }

    #[test]
    fn the_newest_version_counts_in_whatever_order_they_come() {
        let (old, new) = ("2026-01-01T00:00:00.100Z", "2026-01-01T00:00:00.20Z");
        for order in [[old, new], [new, old]] {
            let mut objects = Objects::new(&Limits::default());
            for modified in order {
                assert!(objects.add(&indicator("a", modified, "")).unwrap());
            }
            assert_eq!(ids(&objects), [format!("a {new}")]);
        }
    }

    #[test]
    fn a_revoked_indicator_is_gone_whatever_comes_after() {
        let mut objects = Objects::new(&Limits::default());
        objects.add(&indicator("a", "2026-01-01T00:00:00Z", "")).unwrap();
        objects.add(&indicator("a", "2026-01-03T00:00:00Z", ",\"revoked\":true")).unwrap();
        objects.add(&indicator("a", "2026-01-02T00:00:00Z", "")).unwrap();
        assert!(ids(&objects).is_empty());
    }

    #[test]
    fn what_was_written_reads_back() {
        let mut objects = Objects::new(&Limits::default());
        objects.add(&indicator("b", "2026-01-01T00:00:00Z", "")).unwrap();
        objects.add(&indicator("a", "2026-01-01T00:00:00Z", "")).unwrap();
        let again = Objects::read(&objects.bundle(), &Limits::default()).unwrap();
        assert_eq!(ids(&again), ["a 2026-01-01T00:00:00Z", "b 2026-01-01T00:00:00Z"]);
        assert!(Objects::read(b"<html>", &Limits::default()).is_none());
        assert!(Objects::read(b"", &Limits::default()).is_none());
    }

    proptest::proptest! {
        #[test]
        fn any_objects_give_a_bundle_that_reads_back(
            edits in proptest::collection::vec((proptest::prelude::any::<usize>(), "[ -~]"), 0..6),
            rows in 0..4_usize,
        ) {
            let mut text = (0..rows)
                .map(|n| indicator(&n.to_string(), "2026-01-01T00:00:00Z", "").get().to_owned())
                .collect::<Vec<_>>();
            for (at, letter) in edits {
                let Some(row) = text.get_mut(at % rows.max(1)) else { continue };
                let at = at % row.len();
                row.replace_range(at..=at, &letter);
            }
            let mut objects = Objects::new(&Limits::default());
            for text in text {
                if let Ok(raw) = RawValue::from_string(text) {
                    let _ = objects.add(&raw);
                }
            }
            let bundle = objects.bundle();
            let again = Objects::read(&bundle, &Limits::default());
            proptest::prop_assert_eq!(again.map(|again| again.bundle()), Some(bundle));
        }
    }

    #[test]
    fn only_what_is_new_is_progress_and_too_much_is_refused() {
        let limits = Limits { max_bytes: 100, max_lines: 3, ..Limits::default() };
        let mut objects = Objects::new(&limits);
        let one = indicator("a", "2026-01-01T00:00:00Z", "");
        assert!(objects.add(&one).unwrap());
        assert!(!objects.add(&one).unwrap());
        let no_object = RawValue::from_string("[1]".to_owned()).unwrap();
        assert!(!objects.add(&no_object).unwrap());
        let error = objects.add(&indicator("b", "2026-01-01T00:00:00Z", "")).unwrap_err();
        assert_eq!(error.detail, "the collections have more than 100 bytes");
        let other =
            |id: u8| RawValue::from_string(format!(r#"{{"type":"x","id":"{id}"}}"#)).unwrap();
        assert!(objects.add(&other(1)).is_ok());
        let error = objects.add(&other(2)).unwrap_err();
        assert_eq!(error.kind, FetchErrorKind::TooLarge);
    }
}
