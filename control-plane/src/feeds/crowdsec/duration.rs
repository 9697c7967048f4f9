//! Lengths of time as Go prints them: `3h59m50.123s`, `-1m30s`, `0s`.

use jiff::SignedDuration;

/// By its letters, a unit and its nanoseconds; longer letters first.
const UNITS: [(&str, i128); 8] = [
    ("ns", 1),
    ("us", 1_000),
    ("\u{b5}s", 1_000),
    ("\u{3bc}s", 1_000),
    ("ms", 1_000_000),
    ("s", 1_000_000_000),
    ("m", 60_000_000_000),
    ("h", 3_600_000_000_000),
];

/// Reads one; `None` if it is none or longer than three hundred years.
pub fn read(text: &str) -> Option<SignedDuration> {
    let (sign, mut rest) = match text.strip_prefix('-') {
        Some(rest) => (-1, rest),
        None => (1, text.strip_prefix('+').unwrap_or(text)),
    };
    if rest == "0" {
        return Some(SignedDuration::ZERO);
    }
    if rest.is_empty() {
        return None;
    }
    let mut nanos = 0_i128;
    while !rest.is_empty() {
        let end = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let (number, behind) = rest.split_at(end);
        let (letters, unit) = UNITS.iter().find(|(letters, _)| {
            // `m` must not take the first letter of `ms`.
            let after = behind.strip_prefix(letters);
            after.is_some_and(|after| {
                after.starts_with(|c: char| c.is_ascii_digit() || c == '.') || after.is_empty()
            })
        })?;
        nanos = nanos.checked_add(part(number, *unit)?)?;
        rest = behind.strip_prefix(letters)?;
    }
    let nanos = i64::try_from(sign * nanos).ok()?;
    Some(SignedDuration::from_nanos(nanos))
}

/// So many of a unit in nanoseconds; what is less than one is cut off.
fn part(number: &str, unit: i128) -> Option<i128> {
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if whole.len() + fraction.len() == 0 || whole.len() > 18 || fraction.contains('.') {
        return None;
    }
    let whole: i128 = if whole.is_empty() { 0 } else { whole.parse().ok()? };
    let mut sum = whole.checked_mul(unit)?;
    let mut place = unit;
    for digit in fraction.bytes() {
        place /= 10;
        sum = sum.checked_add(i128::from(digit - b'0') * place)?;
    }
    Some(sum)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn millis(text: &str) -> Option<i128> {
        read(text).map(|length| length.as_millis())
    }

    #[test]
    fn what_go_prints_is_read() {
        for (text, expected) in [
            ("3h59m50.123456789s", 14_390_123),
            ("-1m30s", -90_000),
            ("0s", 0),
            ("0", 0),
            ("1.5h", 5_400_000),
            ("250ms", 250),
            ("1m0.5s", 60_500),
            ("2562047h", 9_223_369_200_000),
            ("1500\u{b5}s", 1),
            ("2000us", 2),
            (".5s", 500),
        ] {
            assert_eq!(millis(text), Some(expected), "{text}");
        }
        assert_eq!(read("7ns"), Some(SignedDuration::from_nanos(7)));
    }

    #[test]
    fn what_is_no_length_is_none() {
        for text in [
            "",
            "-",
            "3",
            "h",
            "3x",
            "3 h",
            "1.2.3s",
            ".s",
            "9999999999h",
            "1h-2m",
            "1m\u{b5}",
            "s1",
        ] {
            assert_eq!(read(text), None, "{text}");
        }
    }

    proptest! {
        #[test]
        fn any_text_gives_a_result(text in "[-+]?([0-9.]{0,22}[a-zµμ ]{0,2}){0,4}") {
            let _ = read(&text);
        }

        #[test]
        fn hours_minutes_and_seconds_add_up(h in 0..2_000_i64, m in 0..60_i64, s in 0..60_i64) {
            let expected = SignedDuration::from_secs(h * 3_600 + m * 60 + s);
            prop_assert_eq!(read(&format!("{h}h{m}m{s}s")), Some(expected));
        }
    }
}
