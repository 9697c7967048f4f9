//! What a MISP feed has beside its events: the manifest that names them.

use std::{borrow::Cow, collections::BTreeMap, fmt};

use serde::{
    Deserialize, Deserializer,
    de::{IgnoredAny, MapAccess, SeqAccess, Visitor},
};
use serde_json::value::RawValue;

use super::{Limits, ParseFailure, date, json_rows::failure_of, lines, misp::Scalar};
use crate::moment::Moment;

/// Bytes of a UUID as text (RFC 9562).
const UUID_LEN: usize = 36;

/// A row of the manifest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ManifestEvent {
    /// Names the event and, with `.json`, its file; hex digits and hyphens only.
    pub uuid: String,
    /// When the event last changed.
    pub timestamp: Option<Moment>,
}

/// Reads a manifest: the events by UUID. One without events may be an empty array.
pub fn read_misp_manifest(
    bytes: &[u8],
    limits: &Limits,
) -> Result<Vec<ManifestEvent>, ParseFailure> {
    if bytes.len() > limits.max_bytes {
        return Err(ParseFailure::TooLarge { limit: limits.max_bytes });
    }
    let text = String::from_utf8_lossy(lines::text_of(bytes)?);
    let Manifest { events, others } =
        serde_json::from_str(&text).map_err(|error| failure_of(&error))?;
    // An error page in JSON has keys, too, but no UUIDs.
    if events.is_empty() && others > 0 {
        let detail = "it names no event by its UUID".to_owned();
        return Err(ParseFailure::BadJson { detail });
    }
    if events.len() > limits.max_lines {
        return Err(ParseFailure::TooManyLines { limit: limits.max_lines });
    }
    Ok(events)
}

/// The events of a text that holds several one after the other: UUID, timestamp, the event's text.
/// What can't be read ends it.
pub fn misp_events(text: &str) -> BTreeMap<String, (Option<Moment>, &str)> {
    #[derive(Deserialize)]
    struct Outer<'a> {
        #[serde(borrow, rename = "Event")]
        event: Head<'a>,
    }
    #[derive(Deserialize)]
    struct Head<'a> {
        #[serde(borrow)]
        uuid: Cow<'a, str>,
        #[serde(borrow, default)]
        timestamp: Scalar<'a>,
    }
    let documents = serde_json::Deserializer::from_str(text).into_iter::<&RawValue>();
    let mut events = BTreeMap::new();
    for document in documents.map_while(Result::ok) {
        let Ok(Outer { event }) = serde_json::from_str(document.get()) else { continue };
        if let Some(uuid) = uuid(&event.uuid) {
            events.insert(uuid, (moment(&event.timestamp), document.get()));
        }
    }
    events
}

#[derive(Default)]
struct Manifest {
    events: Vec<ManifestEvent>,
    /// Keys that are no UUIDs.
    others: usize,
}

impl<'de> Deserialize<'de> for Manifest {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(ManifestVisitor)
    }
}

struct ManifestVisitor;

impl<'de> Visitor<'de> for ManifestVisitor {
    type Value = Manifest;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object of events by UUID")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Manifest, A::Error> {
        #[derive(Deserialize)]
        struct Row<'a> {
            #[serde(borrow, default)]
            timestamp: Scalar<'a>,
        }
        let mut manifest = Manifest::default();
        while let Some(key) = map.next_key::<String>()? {
            match uuid(&key) {
                Some(uuid) => {
                    let row: Row<'_> = map.next_value()?;
                    let timestamp = moment(&row.timestamp);
                    manifest.events.push(ManifestEvent { uuid, timestamp });
                }
                None => {
                    map.next_value::<IgnoredAny>()?;
                    manifest.others += 1;
                }
            }
        }
        Ok(manifest)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Manifest, A::Error> {
        let mut manifest = Manifest::default();
        while seq.next_element::<IgnoredAny>()?.is_some() {
            manifest.others += 1;
        }
        Ok(manifest)
    }
}

/// The UUID in lower case, if it is one, and so safe in a path.
fn uuid(text: &str) -> Option<String> {
    let is_uuid = text.len() == UUID_LEN
        && text.bytes().enumerate().all(|(at, byte)| match at {
            8 | 13 | 18 | 23 => byte == b'-',
            _ => byte.is_ascii_hexdigit(),
        });
    is_uuid.then(|| text.to_ascii_lowercase())
}

fn moment(text: &Scalar<'_>) -> Option<Moment> {
    date::epoch_text(text.0.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    const ONE: &str = "11111111-1111-4111-8111-111111111111";
    const TWO: &str = "22222222-2222-4222-8222-22222222222A";

    fn read(text: &str) -> Result<Vec<String>, &'static str> {
        let events = read_misp_manifest(text.as_bytes(), &Limits::default());
        let shown = |event: &ManifestEvent| {
            format!("{} {}", &event.uuid[..2], event.timestamp.map_or(0, Moment::as_second))
        };
        events.map(|events| events.iter().map(shown).collect()).map_err(|f| f.as_str())
    }

    #[test]
    fn a_manifest_names_its_events() {
        let text = format!(
            r#"{{"{ONE}":{{"info":"x","timestamp":"1787400200"}},"{TWO}":{{"timestamp":1787400201}}}}"#
        );
        assert_eq!(read(&text).unwrap(), ["11 1787400200", "22 1787400201"]);
        assert_eq!(read("[]").unwrap().len(), 0);
        assert_eq!(read("{}").unwrap().len(), 0);
    }

    #[test]
    fn what_is_no_manifest_is_refused() {
        assert_eq!(read(r#"{"saved":false,"name":"Not Found"}"#), Err("bad_json"));
        assert_eq!(read("[{}]"), Err("bad_json"));
        assert_eq!(read(r#"{"../../etc/passwd":{}}"#), Err("bad_json"));
        assert_eq!(read("<html>"), Err("html"));
        assert_eq!(read(&format!(r#"{{"{ONE}":{{"#)), Err("truncated"));
    }

    #[test]
    fn events_one_after_the_other_are_told_apart() {
        let first = format!(r#"{{"Event":{{"uuid":"{ONE}","timestamp":"1787400200"}}}}"#);
        let second = format!(r#"{{"Event": {{"uuid":"{TWO}"}}}}"#);
        let text = format!("{first}\n{second}\n{{\"Event\":1}}\n");
        let events = misp_events(&text);
        assert_eq!(events[ONE].1, first);
        assert_eq!(events[&TWO.to_ascii_lowercase()], (None, &*second));
        assert_eq!(events.len(), 2);
    }
}
