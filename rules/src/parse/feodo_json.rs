//! abuse.ch Feodo Tracker, `ipblocklist.json`: one array of objects, read element by element.

use std::{borrow::Cow, fmt};

use serde::{
    Deserialize, Deserializer,
    de::{
        DeserializeSeed, IgnoredAny, MapAccess, SeqAccess, Visitor, value::MapAccessDeserializer,
    },
};

use super::{
    Limits, ParseFailure, Parsed, RejectReason,
    address::{network, port},
    date,
    lines::Line,
    reader::{Ending, Reader, Row, is_missing, shown},
};
use crate::indicator::{Indicator, Protocol, Traffic};

pub(super) fn read(text: &[u8], limits: &Limits) -> Result<Parsed, ParseFailure> {
    let mut reader = Reader::new(text, limits);
    let text = String::from_utf8_lossy(text);
    let mut outcome = Ok(());
    let mut json = serde_json::Deserializer::from_str(&text);
    let rows = Rows { reader: &mut reader, outcome: &mut outcome };
    let read = rows.deserialize(&mut json).and_then(|()| json.end());
    outcome?;
    match read {
        Ok(()) => reader.finish(Ending::Closed),
        Err(error) if error.is_eof() => Err(ParseFailure::Truncated { detail: error.to_string() }),
        Err(error) => Err(ParseFailure::BadJson { detail: error.to_string() }),
    }
}

/// Hands each element of the array to the reader as soon as it is read.
struct Rows<'r, 'l> {
    reader: &'r mut Reader<'l>,
    outcome: &'r mut Result<(), ParseFailure>,
}

impl<'de> DeserializeSeed<'de> for Rows<'_, '_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_seq(self)
    }
}

impl<'de> Visitor<'de> for Rows<'_, '_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an array of C&C servers")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<(), A::Error> {
        let mut number = 0_u32;
        while let Some(element) = seq.next_element::<Element<'_>>()? {
            number = number.saturating_add(1);
            if self.outcome.is_err() {
                continue;
            }
            let text = element.address_text();
            let line = Line { number, text: text.as_bytes() };
            *self.outcome = self.reader.row(line, || element.read(number));
        }
        Ok(())
    }
}

/// An element of the array, which ought to be a server.
enum Element<'a> {
    Server(Server<'a>),
    Other,
}

impl Element<'_> {
    fn address_text(&self) -> Cow<'_, str> {
        match self {
            Self::Server(server) => server.ip_address.text(),
            Self::Other => Cow::Borrowed("no object"),
        }
    }

    fn read(&self, line: u32) -> Result<Row, RejectReason> {
        let Self::Server(server) = self else { return Err(RejectReason::BadJson) };
        let address = server.ip_address.text();
        if is_missing(address.as_bytes()) {
            return Err(RejectReason::MissingColumn);
        }
        let network = network(address.as_bytes())?;
        let port = Some(port(server.port.text().as_bytes())?);
        let mut claim =
            Indicator::bare(network, Traffic { protocol: Some(Protocol::Tcp), port }, line);
        claim.first_seen = date::utc(server.first_seen.text().as_bytes());
        claim.last_seen = date::utc(server.last_online.text().as_bytes());
        let malware = server.malware.text();
        claim.malware = (!is_missing(malware.as_bytes())).then(|| shown(&malware));
        Ok(Row::Indicator(claim))
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for Element<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(ElementVisitor)
    }
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Server<'a> {
    #[serde(borrow)]
    ip_address: Scalar<'a>,
    #[serde(borrow)]
    port: Scalar<'a>,
    #[serde(borrow)]
    first_seen: Scalar<'a>,
    #[serde(borrow)]
    last_online: Scalar<'a>,
    #[serde(borrow)]
    malware: Scalar<'a>,
}

/// A string or number; anything else counts as no value.
#[derive(Default)]
enum Scalar<'a> {
    #[default]
    Missing,
    Text(Cow<'a, str>),
    Number(u64),
}

impl Scalar<'_> {
    fn text(&self) -> Cow<'_, str> {
        match self {
            Self::Missing => Cow::Borrowed(""),
            Self::Text(text) => Cow::Borrowed(text),
            Self::Number(number) => Cow::Owned(number.to_string()),
        }
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for Scalar<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(ScalarVisitor)
    }
}

/// The visits of values that are of no use, which are read over.
macro_rules! read_over {
    ($value:expr) => {
        fn visit_bool<E>(self, _: bool) -> Result<Self::Value, E> {
            Ok($value)
        }

        fn visit_i64<E>(self, _: i64) -> Result<Self::Value, E> {
            Ok($value)
        }

        fn visit_f64<E>(self, _: f64) -> Result<Self::Value, E> {
            Ok($value)
        }

        fn visit_unit<E>(self) -> Result<Self::Value, E> {
            Ok($value)
        }

        fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Self::Value, A::Error> {
            while seq.next_element::<IgnoredAny>()?.is_some() {}
            Ok($value)
        }
    };
}

struct ElementVisitor;

impl<'de> Visitor<'de> for ElementVisitor {
    type Value = Element<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a C&C server")
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Element<'de>, A::Error> {
        Server::deserialize(MapAccessDeserializer::new(map)).map(Element::Server)
    }

    fn visit_str<E>(self, _: &str) -> Result<Element<'de>, E> {
        Ok(Element::Other)
    }

    fn visit_u64<E>(self, _: u64) -> Result<Element<'de>, E> {
        Ok(Element::Other)
    }

    read_over!(Element::Other);
}

struct ScalarVisitor;

impl<'de> Visitor<'de> for ScalarVisitor {
    type Value = Scalar<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a string or a number")
    }

    fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Scalar<'de>, E> {
        Ok(Scalar::Text(Cow::Borrowed(text)))
    }

    fn visit_str<E>(self, text: &str) -> Result<Scalar<'de>, E> {
        Ok(Scalar::Text(Cow::Owned(text.to_owned())))
    }

    fn visit_u64<E>(self, number: u64) -> Result<Scalar<'de>, E> {
        Ok(Scalar::Number(number))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Scalar<'de>, A::Error> {
        while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
        Ok(Scalar::Missing)
    }

    read_over!(Scalar::Missing);
}
