//! A part of a whole: `1%`, `0.5%`.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};

/// Parts of a whole: one hundredth of a percent each.
const WHOLE: u32 = 10_000;

/// A part of a whole, from 0% to 100%, in hundredths of a percent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Share(u32);

impl Share {
    /// So many out of so many; rounded down.
    pub fn of(part: u64, whole: u64) -> Self {
        let parts = u128::from(part) * u128::from(WHOLE) / u128::from(whole.max(1));
        Self(u32::try_from(parts).unwrap_or(WHOLE).min(WHOLE))
    }

    /// As a number from 0 to 1.
    pub fn ratio(self) -> f64 {
        f64::from(self.0) / f64::from(WHOLE)
    }
}

impl fmt::Display for Share {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.0 / 100, self.0 % 100) {
            (whole, 0) => write!(f, "{whole}%"),
            (whole, rest) if rest % 10 == 0 => write!(f, "{whole}.{}%", rest / 10),
            (whole, rest) => write!(f, "{whole}.{rest:02}%"),
        }
    }
}

impl FromStr for Share {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("'{text}' is no share: expected 0% to 100%, such as 1% or 0.05%");
        let number = text.strip_suffix('%').ok_or_else(wrong)?;
        let (whole, rest) = number.split_once('.').unwrap_or((number, "0"));
        let digits = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
        if !digits(whole) || !digits(rest) || rest.len() > 2 || whole.len() > 3 {
            return Err(wrong());
        }
        let whole: u32 = whole.parse().map_err(|_| wrong())?;
        let hundredths: u32 = format!("{rest:0<2}").parse().map_err(|_| wrong())?;
        let share = Self(whole * 100 + hundredths);
        if share.0 > WHOLE { Err(wrong()) } else { Ok(share) }
    }
}

impl Serialize for Share {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Share {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(D::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_read_back_as_they_are_printed() {
        for text in ["0%", "1%", "0.5%", "0.05%", "12.34%", "100%"] {
            assert_eq!(text.parse::<Share>().unwrap().to_string(), text);
        }
        assert_eq!("0.50%".parse::<Share>().unwrap(), Share::of(1, 200));
        assert!(Share::of(3, 200) > Share::of(1, 100));
        assert_eq!(Share::of(7, 0), Share(WHOLE));
    }

    #[test]
    fn what_is_no_share_is_refused() {
        for text in ["", "%", "1", "1.%", ".5%", "-1%", "100.01%", "1.234%", "9999%", "+1%", "ü%"]
        {
            assert!(text.parse::<Share>().is_err(), "{text}");
        }
    }
}
