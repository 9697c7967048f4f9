//! MISP events: `{"Event":{...}}`, several of them one after the other, in an array, or in the
//! `response` of a server. Attributes with `to_ids` count, the deleted ones do not.
//!
//! Types taken: `ip-dst`, `ip-dst|port`, `domain|ip`, `domain`, `hostname`, `hostname|port`, `url`,
//! `AS`. `ip-src` and `ip-src|port` are attackers, not C&C servers, and are skipped. In an object,
//! an address takes the ports that stand beside it.

use std::{borrow::Cow, fmt};

use serde::{
    Deserialize, Deserializer,
    de::{self, DeserializeSeed, IgnoredAny, MapAccess, SeqAccess, Visitor},
};

use super::{
    Limits, ParseFailure, Parsed, RejectReason, SkipReason,
    address::{self, endpoint, number},
    date,
    json_rows::failure_of,
    lines::Line,
    name::{domain, url},
    reader::{Claim, Ending, Facts, Families, Reader, Row},
};
use crate::indicator::{Subject, Traffic};

/// Most attributes of one object that are read; the objects that matter have a handful.
const MAX_IN_OBJECT: usize = 256;
/// Tags that name a malware family begin so, `misp-galaxy:malpedia="Mirai"`.
const GALAXY: &str = "misp-galaxy:";
/// Most tags of one attribute that are looked at.
const MAX_TAGS: usize = 64;

pub(super) fn read(text: &[u8], limits: &Limits) -> Result<Parsed, ParseFailure> {
    let mut reader = Reader::new(text, limits);
    let text = String::from_utf8_lossy(text);
    let mut json = serde_json::Deserializer::from_str(&text);
    let mut events = Events {
        reader: &mut reader,
        families: Families::default(),
        number: 0,
        has_event: false,
        failure: None,
    };
    loop {
        let read = Node { events: &mut events, place: Place::Outside }.deserialize(&mut json);
        if let Some(failure) = events.failure {
            return Err(failure);
        }
        read.map_err(|error| failure_of(&error))?;
        if !events.has_event {
            return Err(ParseFailure::MissingColumn { column: "Event".into() });
        }
        events.has_event = false;
        if json.end().is_ok() {
            return reader.finish(Ending::Closed);
        }
    }
}

/// What goes on while events are read.
struct Events<'e, 'l> {
    reader: &'e mut Reader<'l>,
    families: Families,
    number: u32,
    has_event: bool,
    failure: Option<ParseFailure>,
}

impl Events<'_, '_> {
    fn take<E: de::Error>(&mut self, attribute: &Attribute<'_>, ports: &[&str]) -> Result<(), E> {
        self.number = self.number.saturating_add(1);
        let number = self.number;
        let line = Line { number, text: attribute.value.0.as_bytes() };
        let families = &mut self.families;
        self.reader.row(line, || attribute.read(ports, families, number)).map_err(|failure| {
            self.failure = Some(failure);
            E::custom("enough")
        })
    }

    fn take_object<E: de::Error>(&mut self, attributes: &[Attribute<'_>]) -> Result<(), E> {
        let is_port = |attribute: &&Attribute<'_>| {
            matches!(&*attribute.kind.0, "port" | "dst-port") && !attribute.deleted.0
        };
        let ports: Vec<_> =
            attributes.iter().filter(is_port).map(|attribute| &*attribute.value.0).collect();
        attributes.iter().try_for_each(|attribute| self.take(attribute, &ports))
    }
}

/// Where a value is that is being read.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Place {
    Outside,
    Event,
    Attributes,
    Objects,
}

struct Node<'n, 'e, 'l> {
    events: &'n mut Events<'e, 'l>,
    place: Place,
}

impl<'de> DeserializeSeed<'de> for Node<'_, '_, '_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        match self.place {
            Place::Outside | Place::Objects => deserializer.deserialize_any(self),
            Place::Event => deserializer.deserialize_map(self),
            Place::Attributes => deserializer.deserialize_seq(self),
        }
    }
}

impl<'de> Visitor<'de> for Node<'_, '_, '_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a MISP event")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<(), A::Error> {
        let Self { events, place } = self;
        if place == Place::Attributes {
            while let Some(attribute) = seq.next_element::<Attribute<'de>>()? {
                events.take(&attribute, &[])?;
            }
            return Ok(());
        }
        // An empty answer is an answer.
        events.has_event |= place == Place::Outside;
        while seq.next_element_seed(Node { events, place })?.is_some() {}
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let Self { events, place } = self;
        while let Some(key) = map.next_key::<Text<'de>>()? {
            let inner = match (place, &*key.0) {
                (Place::Outside, "Event") => {
                    events.has_event = true;
                    Place::Event
                }
                (Place::Outside, "response") => Place::Outside,
                (Place::Event, "Attribute") => Place::Attributes,
                (Place::Event, "Object") => Place::Objects,
                (Place::Objects, "Attribute") => {
                    let Few(attributes) = map.next_value()?;
                    events.take_object(&attributes)?;
                    continue;
                }
                _ => {
                    map.next_value::<IgnoredAny>()?;
                    continue;
                }
            };
            map.next_value_seed(Node { events, place: inner })?;
        }
        Ok(())
    }

    // What is neither an event nor a list of them says nothing.
    fn visit_str<E: de::Error>(self, _: &str) -> Result<(), E> {
        Ok(())
    }

    fn visit_u64<E: de::Error>(self, _: u64) -> Result<(), E> {
        Ok(())
    }

    fn visit_bool<E: de::Error>(self, _: bool) -> Result<(), E> {
        Ok(())
    }

    fn visit_unit<E: de::Error>(self) -> Result<(), E> {
        Ok(())
    }
}

/// The attributes of an object, as many as may be.
struct Few<'a>(Vec<Attribute<'a>>);

impl<'de: 'a, 'a> Deserialize<'de> for Few<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_seq(FewVisitor)
    }
}

struct FewVisitor;

impl<'de> Visitor<'de> for FewVisitor {
    type Value = Few<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "at most {MAX_IN_OBJECT} attributes")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Few<'de>, A::Error> {
        let mut attributes = Vec::new();
        while let Some(attribute) = seq.next_element()? {
            if attributes.len() == MAX_IN_OBJECT {
                return Err(de::Error::invalid_length(MAX_IN_OBJECT + 1, &self));
            }
            attributes.push(attribute);
        }
        Ok(Few(attributes))
    }
}

#[derive(Deserialize)]
struct Attribute<'a> {
    #[serde(borrow, default, rename = "type")]
    kind: Scalar<'a>,
    #[serde(borrow, default)]
    value: Scalar<'a>,
    #[serde(default)]
    to_ids: Flag,
    #[serde(default)]
    deleted: Flag,
    #[serde(borrow, default)]
    timestamp: Option<Scalar<'a>>,
    #[serde(borrow, default)]
    first_seen: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    last_seen: Option<Cow<'a, str>>,
    #[serde(borrow, default, rename = "Tag")]
    tags: Tags<'a>,
}

impl Attribute<'_> {
    /// What the attribute claims; `ports` stand beside it in its object.
    fn read(
        &self,
        ports: &[&str],
        families: &mut Families,
        line: u32,
    ) -> Result<Row, RejectReason> {
        let kind = &*self.kind.0;
        if matches!(kind, "ip-src" | "ip-src|port") {
            return Ok(Row::Skip(SkipReason::OtherThreat));
        }
        let is_known = matches!(
            kind,
            "ip-dst"
                | "ip-dst|port"
                | "domain|ip"
                | "domain"
                | "hostname"
                | "hostname|port"
                | "url"
                | "AS"
        );
        if !is_known {
            return Ok(Row::Skip(SkipReason::OtherType));
        }
        if !self.to_ids.0 || self.deleted.0 {
            return Ok(Row::Skip(SkipReason::Withdrawn));
        }
        let value = self.value.0.trim();
        let (first, second) = match value.split_once('|') {
            Some((first, second)) => (first, Some(second)),
            None => (value, None),
        };
        let facts = self.facts(families);
        match (kind, second) {
            ("ip-dst", None) => on_address(first, ports, &facts, line),
            ("ip-dst|port", Some(port)) => on_address(first, &[port], &facts, line),
            ("domain|ip", Some(address)) => {
                let name = domain(first.as_bytes()).ok_or(RejectReason::NotAName)?;
                let network = address::network(address.as_bytes())?;
                Ok(Row::Several(vec![
                    Claim::Named(facts.clone().naming(Subject::Domain(name), line)),
                    Claim::Indicator(facts.on(network, Traffic::ANY, line)),
                ]))
            }
            ("domain" | "hostname", None) | ("hostname|port", Some(_)) => {
                let name = domain(first.as_bytes()).ok_or(RejectReason::NotAName)?;
                Ok(Row::Named(facts.naming(Subject::Domain(name), line)))
            }
            ("url", _) => {
                let url = url(value.as_bytes()).ok_or(RejectReason::NotAName)?;
                Ok(Row::Named(facts.naming(Subject::Url(url), line)))
            }
            ("AS", None) => {
                let digits = value.strip_prefix("AS").unwrap_or(value);
                let asn = number(digits.as_bytes(), 10).ok_or(RejectReason::NotAName)?;
                Ok(Row::Named(facts.naming(Subject::Asn(asn), line)))
            }
            _ => Err(RejectReason::MissingColumn),
        }
    }

    fn facts(&self, families: &mut Families) -> Facts {
        let date =
            |text: &Option<Cow<'_, str>>| text.as_ref().and_then(|t| date::any(t.as_bytes(), None));
        let changed = self.timestamp.as_ref().and_then(|text| date::epoch_text(text.0.as_bytes()));
        Facts {
            malware: self.tags.0.as_deref().map(|name| families.get(name)),
            first_seen: date(&self.first_seen),
            last_seen: date(&self.last_seen).or(changed),
            ..Facts::default()
        }
    }
}

fn on_address(text: &str, ports: &[&str], facts: &Facts, line: u32) -> Result<Row, RejectReason> {
    let (network, traffic) = endpoint(text.as_bytes())?;
    if ports.is_empty() {
        return Ok(Row::Indicator(facts.clone().on(network, traffic, line)));
    }
    let mut claims = Vec::with_capacity(ports.len());
    for port in ports {
        let traffic = Traffic { port: Some(address::port(port.as_bytes())?), ..traffic };
        claims.push(Claim::Indicator(facts.clone().on(network, traffic, line)));
    }
    Ok(Row::Several(claims))
}

/// `true`, `1` or `"1"`.
#[derive(Default)]
struct Flag(bool);

impl<'de> Deserialize<'de> for Flag {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let Scalar(text) = Scalar::deserialize(deserializer)?;
        Ok(Self(matches!(&*text, "true" | "1")))
    }
}

/// A string, number or flag as text; `null` is the empty text.
#[derive(Default)]
pub(super) struct Scalar<'a>(pub(super) Cow<'a, str>);

impl<'de: 'a, 'a> Deserialize<'de> for Scalar<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(ScalarVisitor).map(Self)
    }
}

struct ScalarVisitor;

impl<'de> Visitor<'de> for ScalarVisitor {
    type Value = Cow<'de, str>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a string, a number or a flag")
    }

    fn visit_borrowed_str<E: de::Error>(self, text: &'de str) -> Result<Self::Value, E> {
        Ok(Cow::Borrowed(text))
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<Self::Value, E> {
        Ok(Cow::Owned(text.to_owned()))
    }

    fn visit_u64<E: de::Error>(self, number: u64) -> Result<Self::Value, E> {
        Ok(Cow::Owned(number.to_string()))
    }

    fn visit_bool<E: de::Error>(self, flag: bool) -> Result<Self::Value, E> {
        Ok(Cow::Borrowed(if flag { "true" } else { "false" }))
    }

    fn visit_unit<E: de::Error>(self) -> Result<Self::Value, E> {
        Ok(Cow::Borrowed(""))
    }
}

/// The malware family that the tags name.
#[derive(Default)]
struct Tags<'a>(Option<Cow<'a, str>>);

impl<'de: 'a, 'a> Deserialize<'de> for Tags<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_seq(TagsVisitor)
    }
}

struct TagsVisitor;

impl<'de> Visitor<'de> for TagsVisitor {
    type Value = Tags<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("tags")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Tags<'de>, A::Error> {
        #[derive(Deserialize)]
        struct Tag<'a> {
            #[serde(borrow)]
            name: Cow<'a, str>,
        }
        let mut family = None;
        let mut seen = 0;
        while let Some(Tag { name }) = seq.next_element()? {
            seen += 1;
            let quoted = name.strip_prefix(GALAXY).and_then(|rest| rest.split('"').nth(1));
            if let Some(quoted) = quoted.filter(|_| family.is_none() && seen <= MAX_TAGS) {
                family = Some(Cow::Owned(quoted.to_owned()));
            }
        }
        Ok(Tags(family))
    }
}

/// A key, borrowed where it can be.
#[derive(Deserialize)]
#[serde(transparent)]
struct Text<'a>(#[serde(borrow)] Cow<'a, str>);
