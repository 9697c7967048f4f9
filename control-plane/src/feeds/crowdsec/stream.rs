//! An answer of the decision stream: `{"new":[...],"deleted":[...]}`, either of which may be null.

use std::{borrow::Cow, fmt};

use jiff::{SignedDuration, Timestamp};
use sekisho_rules::access::CrowdsecSpec;
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;

use super::{Decision, duration};
use crate::feeds::{
    fetch::{FetchError, FetchErrorKind},
    rows::{self, Broken},
};

/// Most decisions, several times what the largest block lists have.
pub(super) const MOST_DECISIONS: usize = 1_000_000;
/// Longest text of a decision that is kept.
const LONGEST_TEXT: usize = 256;

/// What an answer says.
pub(super) struct Stream {
    /// Bans that came.
    pub(super) new: Vec<Decision>,
    /// Ids of decisions that ended.
    pub(super) deleted: Vec<i64>,
    /// Decisions that say something else than expected.
    pub(super) unread: usize,
}

#[derive(Deserialize)]
struct Answer<'a> {
    #[serde(borrow, default, deserialize_with = "present")]
    new: Option<&'a RawValue>,
    #[serde(borrow, default, deserialize_with = "present")]
    deleted: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct Row<'a> {
    #[serde(default)]
    id: Option<i64>,
    #[serde(borrow, default)]
    origin: Cow<'a, str>,
    #[serde(borrow, default, rename = "type")]
    kind: Cow<'a, str>,
    #[serde(borrow, default)]
    scope: Cow<'a, str>,
    #[serde(borrow, default)]
    value: Cow<'a, str>,
    #[serde(borrow, default)]
    scenario: Cow<'a, str>,
    #[serde(borrow, default)]
    duration: Cow<'a, str>,
    #[serde(default)]
    simulated: Option<bool>,
}

impl Stream {
    /// Reads an answer that came now.
    pub(super) fn read(
        bytes: &[u8],
        crowdsec: &CrowdsecSpec,
        now: Timestamp,
    ) -> Result<Self, FetchError> {
        let answer: Answer<'_> = serde_json::from_slice(bytes).map_err(|error| refuse(&error))?;
        if answer.new.is_none() && answer.deleted.is_none() {
            return Err(refuse(&"it has neither 'new' nor 'deleted'"));
        }
        let mut stream = Self { new: Vec::new(), deleted: Vec::new(), unread: 0 };
        let mut rows = 0;
        for_each(answer.new, &mut rows, |row| match row.ban(crowdsec, now) {
            Ok(ban) => stream.new.extend(ban),
            Err(()) => stream.unread += 1,
        })?;
        for_each(answer.deleted, &mut rows, |row| stream.deleted.extend(row.id))?;
        Ok(stream)
    }
}

impl Row<'_> {
    /// The ban that it is; `None` if it is something else, or over.
    fn ban(self, crowdsec: &CrowdsecSpec, now: Timestamp) -> Result<Option<Decision>, ()> {
        let is = |text: &str, expected: &str| text.eq_ignore_ascii_case(expected);
        let is_wanted = crowdsec.origins.is_empty()
            || crowdsec.origins.iter().any(|origin| is(origin, &self.origin));
        let is_address = is(&self.scope, "ip") || is(&self.scope, "range");
        if self.simulated == Some(true) || !is(&self.kind, "ban") || !is_address || !is_wanted {
            return Ok(None);
        }
        let id = self.id.ok_or(())?;
        let remaining = duration::read(self.duration.trim()).ok_or(())?;
        if remaining <= SignedDuration::ZERO {
            return Ok(None);
        }
        let until = now.checked_add(remaining).map_err(|_| ())?;
        // Whole seconds: the list is to change with the decisions and not with the clock.
        let until = Timestamp::from_second(until.as_second()).map_err(|_| ())?;
        let text = |text: Cow<'_, str>| text.chars().take(LONGEST_TEXT).collect();
        Ok(Some(Decision {
            id,
            origin: text(self.origin),
            scope: self.scope.to_ascii_lowercase(),
            value: text(self.value),
            scenario: text(self.scenario),
            until,
        }))
    }
}

/// Tells `null` from a key that is not there.
fn present<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<&'de RawValue>, D::Error> {
    <&RawValue>::deserialize(deserializer).map(Some)
}

/// Takes the rows of an array, no more than a LAPI may have with those that were taken before.
fn for_each<'a>(
    array: Option<&'a RawValue>,
    rows: &mut usize,
    mut take: impl FnMut(Row<'a>),
) -> Result<(), FetchError> {
    let Some(array) = array else { return Ok(()) };
    let read = rows::each(array, |row| {
        *rows += 1;
        if *rows > MOST_DECISIONS {
            return Err(too_many());
        }
        take(row);
        Ok(())
    });
    read.map_err(|broken| match broken {
        Broken::Json(error) => refuse(&error),
        Broken::Stopped(error) => error,
    })
}

fn refuse(why: &dyn fmt::Display) -> FetchError {
    let detail = format!("the answer is no decision stream of a LAPI: {why}");
    FetchError::new(FetchErrorKind::Protocol, detail)
}

/// The LAPI has more decisions than are read.
pub(super) fn too_many() -> FetchError {
    let detail = format!("the LAPI has more than {MOST_DECISIONS} decisions");
    FetchError::new(FetchErrorKind::TooLarge, detail)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SAMPLE: &str = r#"{"new":[{"id":1,"origin":"cscli","type":"ban","scope":"Ip","value":"198.18.0.1",
        "duration":"4h","scenario":"x"}],"deleted":[{"id":2,"duration":"-5s"}]}"#;

    proptest! {
        #[test]
        fn any_bytes_give_a_result(
            edits in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..8),
            end in any::<prop::sample::Index>(),
        ) {
            let mut bytes = SAMPLE.as_bytes().to_vec();
            for (at, byte) in edits {
                let at = at.index(bytes.len());
                bytes[at] = byte;
            }
            bytes.truncate(end.index(bytes.len()) + 1);
            let now = Timestamp::UNIX_EPOCH;
            if let Ok(stream) = Stream::read(&bytes, &CrowdsecSpec::default(), now) {
                prop_assert!(stream.new.iter().all(|ban| ban.until > now));
                prop_assert!(stream.new.len() + stream.deleted.len() + stream.unread <= 2);
            }
        }
    }

    #[test]
    fn the_sample_is_a_stream() {
        let crowdsec = CrowdsecSpec::default();
        let stream = Stream::read(SAMPLE.as_bytes(), &crowdsec, Timestamp::UNIX_EPOCH).unwrap();
        assert_eq!((stream.new.len(), &stream.deleted[..], stream.unread), (1, &[2][..], 0));
    }

    #[test]
    fn more_rows_than_any_lapi_has_are_refused() {
        let read = |rows: usize| {
            let text = format!("{{\"new\":[{}{{}}]}}", "{},".repeat(rows - 1));
            let now = Timestamp::UNIX_EPOCH;
            let stream = Stream::read(text.as_bytes(), &CrowdsecSpec::default(), now);
            stream.map(|stream| stream.new.len()).map_err(|error| error.kind)
        };
        assert_eq!(read(MOST_DECISIONS), Ok(0));
        assert_eq!(read(MOST_DECISIONS + 1), Err(FetchErrorKind::TooLarge));
    }

    #[test]
    fn a_length_of_time_beyond_all_dates_is_unread() {
        let text = SAMPLE.replace("4h", "2562047h");
        let late = Timestamp::MAX;
        let stream = Stream::read(text.as_bytes(), &CrowdsecSpec::default(), late).unwrap();
        assert_eq!((stream.new.len(), stream.unread), (0, 1));
    }
}
