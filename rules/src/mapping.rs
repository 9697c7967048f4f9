//! Where a generic CSV or JSON list has what a claim needs, as the catalogue says it.

use std::fmt;

use serde::{
    Deserialize, Deserializer, Serialize, Serializer,
    de::{self, Unexpected, Visitor},
};

use crate::feed::Format;

/// Highest column number that a mapping may name.
pub const MAX_COLUMN: u8 = 64;
/// Most conditions of a mapping.
pub const MAX_CONDITIONS: usize = 16;

/// Which column or key holds what.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Mapping {
    /// The address, network, address with port, name or URL; what it holds decides what it is.
    pub value: Place,
    /// The prefix length, where it stands apart from the address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prefix: Option<Place>,
    /// The port, where it stands apart from the address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub port: Option<Place>,
    /// `tcp` or `udp`, or their numbers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub protocol: Option<Place>,
    /// The malware family.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub malware: Option<Place>,
    /// When the feed first saw it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub first_seen: Option<Place>,
    /// When the feed last saw it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_seen: Option<Place>,
    /// How sure the feed is, 0 to 100.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub confidence: Option<Place>,
    /// Rows that do not meet every one of these conditions are skipped.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub only: Vec<Condition>,
    /// How dates are written, in the letters of `strftime` and in UTC. Unset, as ISO 8601, RFC 3339
    /// or seconds since 1970.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub date_format: Option<String>,
    /// CSV: what stands between two columns.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub delimiter: Option<Delimiter>,
    /// CSV whose columns are numbered: rows at the beginning that are no data.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub skip_rows: u8,
    /// JSON: the keys that lead to the rows, `data.items`; `*` is any key. Unset, the rows are the
    /// elements of the array that the document is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rows: Option<String>,
}

/// What a row must hold to count.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Condition {
    /// The column or key.
    pub field: Place,
    /// The texts that count, compared without regard to case.
    pub is: Vec<String>,
}

/// A column by name or by number, or the keys to a JSON value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// A column's name, or the keys to a value: `network.ip`. A lone `.` is the row itself.
    Name(String),
    /// A column's number, 1-based.
    Number(u8),
}

/// The character between two columns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Delimiter(u8);

impl Delimiter {
    /// The comma.
    pub const COMMA: Self = Self(b',');

    /// The character.
    pub const fn byte(self) -> u8 {
        self.0
    }
}

impl Mapping {
    /// One that knows nothing but where the indicator is.
    pub const fn new(value: Place) -> Self {
        Self {
            value,
            prefix: None,
            port: None,
            protocol: None,
            malware: None,
            first_seen: None,
            last_seen: None,
            confidence: None,
            only: Vec::new(),
            date_format: None,
            delimiter: None,
            skip_rows: 0,
            rows: None,
        }
    }

    /// All places in a fixed order: value, prefix, port, protocol, malware, first seen, last seen,
    /// confidence, and those of the conditions.
    pub fn places(&self) -> impl Iterator<Item = Option<&Place>> {
        let fixed = [
            Some(&self.value),
            self.prefix.as_ref(),
            self.port.as_ref(),
            self.protocol.as_ref(),
            self.malware.as_ref(),
            self.first_seen.as_ref(),
            self.last_seen.as_ref(),
            self.confidence.as_ref(),
        ];
        fixed.into_iter().chain(self.only.iter().map(|condition| Some(&condition.field)))
    }

    /// Whether columns go by number.
    pub fn is_numbered(&self) -> bool {
        matches!(self.value, Place::Number(_))
    }

    /// What a catalogue must not say of this format.
    pub(crate) fn check(&self, format: Format) -> Result<(), &'static str> {
        let numbered = self.places().flatten().any(|place| matches!(place, Place::Number(_)));
        let named = self.places().flatten().any(|place| matches!(place, Place::Name(_)));
        let is_csv = format == Format::Csv;
        match () {
            () if is_csv && self.rows.is_some() => Err("'rows' is for JSON"),
            () if is_csv && numbered && named => {
                Err("columns go by name or by number, not by both")
            }
            () if is_csv && named && self.skip_rows > 0 => {
                Err("'skip_rows' is for columns that go by number")
            }
            () if !is_csv && numbered => Err("column numbers are for CSV"),
            () if !is_csv && (self.delimiter.is_some() || self.skip_rows > 0) => {
                Err("'delimiter' and 'skip_rows' are for CSV")
            }
            () if format == Format::JsonLines && self.rows.is_some() => {
                Err("'rows' is for JSON; of JSON lines, each line is a row")
            }
            () if self.only.len() > MAX_CONDITIONS => Err("'only' takes at most 16 conditions"),
            () => Ok(()),
        }
    }
}

impl Default for Mapping {
    /// A column or key `ip`.
    fn default() -> Self {
        Self::new(Place::Name("ip".to_owned()))
    }
}

impl Serialize for Place {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Name(name) => serializer.serialize_str(name),
            Self::Number(number) => serializer.serialize_u8(*number),
        }
    }
}

impl<'de> Deserialize<'de> for Place {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(PlaceVisitor)
    }
}

struct PlaceVisitor;

impl Visitor<'_> for PlaceVisitor {
    type Value = Place;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a column's name, or its number from 1 to {MAX_COLUMN}")
    }

    fn visit_str<E: de::Error>(self, name: &str) -> Result<Place, E> {
        let name = name.trim();
        if name.is_empty() {
            return Err(E::invalid_value(Unexpected::Str(name), &self));
        }
        Ok(Place::Name(name.to_owned()))
    }

    fn visit_i64<E: de::Error>(self, found: i64) -> Result<Place, E> {
        match u8::try_from(found) {
            Ok(number @ 1..=MAX_COLUMN) => Ok(Place::Number(number)),
            _ => Err(E::invalid_value(Unexpected::Signed(found), &self)),
        }
    }

    fn visit_u64<E: de::Error>(self, found: u64) -> Result<Place, E> {
        self.visit_i64(i64::try_from(found).unwrap_or(i64::MAX))
    }
}

impl Serialize for Delimiter {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_char(self.0.into())
    }
}

impl<'de> Deserialize<'de> for Delimiter {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        match text.as_bytes() {
            &[byte @ (b',' | b';' | b'\t' | b'|')] => Ok(Self(byte)),
            _ => Err(de::Error::invalid_value(
                Unexpected::Str(&text),
                &"one of ',', ';', '|' and \"\\t\"",
            )),
        }
    }
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde hands it over so")]
const fn is_zero(number: &u8) -> bool {
    *number == 0
}
