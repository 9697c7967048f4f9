//! A length of time in configuration: `7d`, `12h`, `5m`.

use std::{fmt, str::FromStr};

use jiff::{SignedDuration, Span, SpanRelativeTo};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};

const HOUR: i64 = 3_600;
const DAY: i64 = 24 * HOUR;
/// Ten years: longer is a typing error, and no sum with a date of this age overflows.
const LONGEST: i64 = 3_660 * DAY;

/// A length of time above zero, in whole seconds; a day has 24 hours.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Period(i64);

impl Period {
    /// So many seconds.
    pub const fn seconds(n: u16) -> Self {
        Self(n as i64)
    }

    /// So many minutes.
    pub const fn minutes(n: u16) -> Self {
        Self(n as i64 * 60)
    }

    /// So many hours.
    pub const fn hours(n: u16) -> Self {
        Self(n as i64 * HOUR)
    }

    /// So many days.
    pub const fn days(n: u16) -> Self {
        Self(n as i64 * DAY)
    }

    /// The length in seconds.
    pub const fn as_secs(self) -> i64 {
        self.0
    }

    /// The length as jiff counts it, to add to a timestamp.
    pub const fn signed(self) -> SignedDuration {
        SignedDuration::from_secs(self.0)
    }

    /// The length as the standard library counts it.
    pub const fn unsigned(self) -> std::time::Duration {
        std::time::Duration::from_secs(self.0.unsigned_abs())
    }
}

impl fmt::Display for Period {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (count, unit) = match self.0 {
            s if s % DAY == 0 => (s / DAY, "d"),
            s if s % HOUR == 0 => (s / HOUR, "h"),
            s if s % 60 == 0 => (s / 60, "m"),
            s => (s, "s"),
        };
        write!(f, "{count}{unit}")
    }
}

impl FromStr for Period {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let refuse =
            || format!("'{text}' is no length of time: expected one such as 7d, 12h, 30m or 1d 6h");
        let span: Span = text.parse().map_err(|_| refuse())?;
        let duration =
            span.to_duration(SpanRelativeTo::days_are_24_hours()).map_err(|_| refuse())?;
        let seconds = duration.as_secs();
        if (1..=LONGEST).contains(&seconds) { Ok(Self(seconds)) } else { Err(refuse()) }
    }
}

/// A length of time that may be none at all, written `0`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Wait(pub Option<Period>);

impl fmt::Display for Wait {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(period) => period.fmt(f),
            None => f.write_str("0s"),
        }
    }
}

impl Serialize for Wait {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Wait {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        if ["0", "0s"].contains(&text.as_str()) {
            return Ok(Self(None));
        }
        let refuse = |why| D::Error::custom(format!("{why}, or 0"));
        text.parse().map(|period| Self(Some(period))).map_err(refuse)
    }
}

impl Serialize for Period {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Period {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(D::Error::custom)
    }
}
