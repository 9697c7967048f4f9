//! The dates of lists. A bad date never costs a row: it reads as no date.

use jiff::{Timestamp, civil::Date, fmt::rfc2822, tz::Offset};

use super::address::number;
use crate::moment::Moment;

/// A date as [`utc`] reads it, in RFC 3339, in seconds or milliseconds since 1970, or in a format
/// of its own.
pub(super) fn any(text: &[u8], format: Option<&str>) -> Option<Moment> {
    if let Some(format) = format {
        return formatted(text, format);
    }
    utc(text).or_else(|| rfc3339(text)).or_else(|| epoch_text(text))
}

/// RFC 3339, fractions and offsets included.
pub(super) fn rfc3339(text: &[u8]) -> Option<Moment> {
    let time: Timestamp = std::str::from_utf8(text).ok()?.trim().parse().ok()?;
    Moment::from_second(time.as_second())
}

/// Seconds since 1970 in 9 or 10 digits, or milliseconds in 12 or 13.
pub(super) fn epoch_text(text: &[u8]) -> Option<Moment> {
    let text = text.trim_ascii();
    let seconds = match text.len() {
        9 | 10 => text,
        12 | 13 => &text[..text.len() - 3],
        _ => return None,
    };
    number(seconds, 10).and_then(|seconds| epoch(seconds.into()))
}

/// A time or a date in UTC in the letters of `strftime`.
fn formatted(text: &[u8], format: &str) -> Option<Moment> {
    let text = std::str::from_utf8(text).ok()?.trim();
    let time = jiff::fmt::strtime::parse(format, text).ok()?;
    let time = time.to_timestamp().ok().or_else(|| {
        let time = time.to_datetime().or_else(|_| Ok(time.to_date()?.at(0, 0, 0, 0)));
        time.and_then(|time: jiff::civil::DateTime| Offset::UTC.to_timestamp(time)).ok()
    })?;
    Moment::from_second(time.as_second())
}

/// `2026-01-17 07:30:05` or `2026-01-17 07:30` in UTC, `T` for the blank and `UTC`, `(UTC)` or `Z`
/// behind it allowed; or the date alone, which is its first second.
pub(super) fn utc(text: &[u8]) -> Option<Moment> {
    let text = text.trim_ascii();
    let date = text.get(..10)?;
    let (year, month, day) = (digits(date, 0, 4)?, digits(date, 5, 2)?, digits(date, 8, 2)?);
    if date[4] != b'-' || date[7] != b'-' {
        return None;
    }
    let date = Date::new(year, i8::try_from(month).ok()?, i8::try_from(day).ok()?).ok()?;
    let (hour, minute, second) = match &text[10..] {
        [] => (0, 0, 0),
        [b' ' | b'T', time @ ..] => {
            let has_seconds = time.get(5) == Some(&b':');
            let (clock, zone) = time.split_at_checked(if has_seconds { 8 } else { 5 })?;
            if clock[2] != b':' || !is_utc_suffix(zone) {
                return None;
            }
            let second = if has_seconds { digits(clock, 6, 2)? } else { 0 };
            (digits(clock, 0, 2)?, digits(clock, 3, 2)?, second)
        }
        _ => return None,
    };
    if hour > 23 || minute > 59 || second > 59 {
        return None;
    }
    let time = date.at(i8::try_from(hour).ok()?, i8::try_from(minute).ok()?, second as i8, 0);
    Moment::from_second(Offset::UTC.to_timestamp(time).ok()?.as_second())
}

/// When the publisher made the list, if the comment says so.
pub(super) fn stamp(comment: &[u8]) -> Option<Moment> {
    const KEYS: [&str; 5] =
        ["last updated", "last update", "last-modified", "updated", "this file date"];
    let colon = comment.iter().position(|&b| b == b':')?;
    let key = comment[..colon].trim_ascii().to_ascii_lowercase();
    if !KEYS.iter().any(|known| known.as_bytes() == key) {
        return None;
    }
    let value = comment[colon + 1..].trim_ascii();
    let end = value.iter().position(|&b| b == b'#').unwrap_or(value.len());
    let value = value[..end].trim_ascii();
    utc(value).or_else(|| mail_date(value)).or_else(|| unix_date(value))
}

/// A time in seconds since 1970.
pub(super) fn epoch(seconds: i64) -> Option<Moment> {
    Moment::from_second(seconds)
}

/// `Sat, 22 Aug 2026 03:00:29 +0200`, as in mail and HTTP.
fn mail_date(text: &[u8]) -> Option<Moment> {
    let text = std::str::from_utf8(text).ok()?;
    let time = rfc2822::DateTimeParser::new().parse_timestamp(text).ok()?;
    Moment::from_second(time.as_second())
}

/// `Sat Aug 22 07:00:48 UTC 2026`, as `date` prints it.
fn unix_date(text: &[u8]) -> Option<Moment> {
    let text = std::str::from_utf8(text).ok()?.replacen(" UTC ", " +0000 ", 1);
    let time = Timestamp::strptime("%a %b %d %H:%M:%S %z %Y", text).ok()?;
    Moment::from_second(time.as_second())
}

fn is_utc_suffix(text: &[u8]) -> bool {
    matches!(text.trim_ascii(), b"" | b"Z" | b"UTC" | b"(UTC)")
}

fn digits(text: &[u8], at: usize, len: usize) -> Option<i16> {
    let part = text.get(at..at + len)?;
    let significant = part.iter().take_while(|&&b| b == b'0').count().min(len - 1);
    number(&part[significant..], len).and_then(|n| i16::try_from(n).ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(time: Option<Moment>) -> String {
        time.map_or("-".into(), |time| time.to_string())
    }

    #[test]
    fn dates_of_rows_are_read_as_utc() {
        for (text, expected) in [
            ("2026-01-17 07:30:05", "2026-01-17T07:30:05Z"),
            ("2026-01-17 07:30:05 UTC", "2026-01-17T07:30:05Z"),
            ("2026-01-17 07:30:05 (UTC)", "2026-01-17T07:30:05Z"),
            ("2026-01-17T07:30:05Z", "2026-01-17T07:30:05Z"),
            ("2026-08-08", "2026-08-08T00:00:00Z"),
            ("2026-08-22 18:02", "2026-08-22T18:02:00Z"),
            ("2026-08-22 18:0", "-"),
            ("2026-02-30", "-"),
            ("2026-01-17 24:00:00", "-"),
            ("2026-01-17 07:30:05 CET", "-"),
            ("17-01-2026", "-"),
            ("0000-00-00 00:00:00", "-"),
            ("None", "-"),
            ("", "-"),
        ] {
            assert_eq!(shown(utc(text.as_bytes())), expected, "{text}");
        }
    }

    #[test]
    fn dates_of_other_lists_are_read_by_their_looks_or_their_format() {
        for (text, format, expected) in [
            ("2026-08-22 18:02", None, "2026-08-22T18:02:00Z"),
            ("2026-08-22T09:00:00.123+09:00", None, "2026-08-22T00:00:00Z"),
            ("1787400000", None, "2026-08-22T12:00:00Z"),
            ("1787400000123", None, "2026-08-22T12:00:00Z"),
            ("1-6-2026", Some("%d-%m-%Y"), "2026-06-01T00:00:00Z"),
            ("22.08.2026 10:00", Some("%d.%m.%Y %H:%M"), "2026-08-22T10:00:00Z"),
            ("22.08.2026 10:00 +0900", Some("%d.%m.%Y %H:%M %z"), "2026-08-22T01:00:00Z"),
            ("2026-08-22", Some("%d.%m.%Y"), "-"),
            ("22.08.2026", Some("%Q%"), "-"),
            ("17874000001234567", None, "-"),
        ] {
            assert_eq!(shown(any(text.as_bytes(), format)), expected, "{text}");
        }
    }

    #[test]
    fn stamps_of_real_headers_are_read() {
        for (text, expected) in [
            ("Last updated: 2026-08-22 01:00:04 UTC      #", "2026-08-22T01:00:04Z"),
            ("Last updated: 2015-10-15 14:45:01 (UTC)    #", "2015-10-15T14:45:01Z"),
            ("Last update: Sat, 22 Aug 2026 03:00:29 +0200", "2026-08-22T01:00:29Z"),
            ("Last-Modified: Sat, 22 Aug 2026 09:20:42 GMT", "2026-08-22T09:20:42Z"),
            ("Updated: 2025-07-19T12:11:28Z", "2025-07-19T12:11:28Z"),
            ("This File Date  : Sat Aug 22 07:00:48 UTC 2026", "2026-08-22T07:00:48Z"),
            ("Expires: Sun, 23 Aug 2026 09:20:42 GMT", "-"),
            ("Last updated: yesterday", "-"),
        ] {
            assert_eq!(shown(stamp(text.as_bytes())), expected, "{text}");
        }
    }
}
