//! A time in four bytes: a table holds millions of them.

use std::{fmt, num::NonZeroU32};

use jiff::Timestamp;
use serde::{Serialize, Serializer};

use crate::period::Period;

/// A time to the second, after 1970-01-01T00:00:00Z and before 2106-02-08. An `Option` of it is no
/// larger.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Moment(NonZeroU32);

impl Moment {
    /// The earliest moment there is.
    pub const MIN: Self = Self(NonZeroU32::MIN);
    /// The latest moment there is.
    pub const MAX: Self = Self(NonZeroU32::MAX);

    /// The moment so many seconds after 1970 began, if it can be held.
    pub fn from_second(seconds: i64) -> Option<Self> {
        u32::try_from(seconds).ok().and_then(NonZeroU32::new).map(Self)
    }

    /// The moment so many seconds after 1970 began, or the nearest one that can be held.
    pub fn nearest(seconds: i64) -> Self {
        Self::from_second(seconds).unwrap_or(if seconds < 1 { Self::MIN } else { Self::MAX })
    }

    /// Seconds since 1970 began.
    pub const fn as_second(self) -> i64 {
        self.0.get() as i64
    }

    /// The moment so much later, or the latest there is.
    pub fn after(self, period: Period) -> Self {
        Self::nearest(self.as_second().saturating_add(period.as_secs()))
    }

    /// The same as jiff counts it.
    pub fn timestamp(self) -> Timestamp {
        Timestamp::from_second(self.as_second()).unwrap_or(Timestamp::UNIX_EPOCH)
    }
}

/// Loses the fraction of a second; times outside the range become the nearest moment.
impl From<Timestamp> for Moment {
    fn from(time: Timestamp) -> Self {
        Self::nearest(time.as_second())
    }
}

impl From<Moment> for Timestamp {
    fn from(moment: Moment) -> Self {
        moment.timestamp()
    }
}

/// RFC 3339, in UTC.
impl fmt::Display for Moment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.timestamp().fmt(f)
    }
}

impl Serialize for Moment {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.timestamp().serialize(serializer)
    }
}
