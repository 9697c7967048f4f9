//! An answer of the decision stream: `{"new":[...],"deleted":[...]}`, either of which may be null.

use std::borrow::Cow;

use jiff::{SignedDuration, Timestamp};
use sekisho_rules::access::CrowdsecSpec;
use serde::{Deserialize, Deserializer};

use super::{Decision, duration};
use crate::feeds::fetch::{FetchError, FetchErrorKind};

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
    new: Option<Option<Vec<Row<'a>>>>,
    #[serde(borrow, default, deserialize_with = "present")]
    deleted: Option<Option<Vec<Row<'a>>>>,
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
        let refuse = |why: String| {
            let detail = format!("the answer is no decision stream of a LAPI: {why}");
            FetchError::new(FetchErrorKind::Protocol, detail)
        };
        let Answer { new, deleted } =
            serde_json::from_slice(bytes).map_err(|error| refuse(error.to_string()))?;
        if new.is_none() && deleted.is_none() {
            return Err(refuse("it has neither 'new' nor 'deleted'".to_owned()));
        }
        let mut stream = Self { new: Vec::new(), deleted: Vec::new(), unread: 0 };
        for row in new.flatten().into_iter().flatten() {
            match row.ban(crowdsec, now) {
                Ok(ban) => stream.new.extend(ban),
                Err(()) => stream.unread += 1,
            }
        }
        stream.deleted = deleted.flatten().into_iter().flatten().filter_map(|row| row.id).collect();
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
fn present<'de, D: Deserializer<'de>, T: Deserialize<'de>>(
    deserializer: D,
) -> Result<Option<T>, D::Error> {
    T::deserialize(deserializer).map(Some)
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
    fn a_length_of_time_beyond_all_dates_is_unread() {
        let text = SAMPLE.replace("4h", "2562047h");
        let late = Timestamp::MAX;
        let stream = Stream::read(text.as_bytes(), &CrowdsecSpec::default(), late).unwrap();
        assert_eq!((stream.new.len(), stream.unread), (0, 1));
    }
}
