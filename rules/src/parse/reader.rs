//! What the formats have in common: counting, limits, and the judgement of the whole list.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

use ipnet::IpNet;

use super::{
    Limits, ParseFailure, Parsed, RejectReason, SkipReason,
    address::number,
    date,
    lines::{Line, holds},
};
use crate::{
    indicator::{Indicator, Named, Subject, Traffic},
    moment::Moment,
};

/// Longest malware name that is kept, in characters.
const MAX_MALWARE_CHARS: usize = 64;
/// Room for indicators is set aside for no more than this before the first is read.
const MAX_RESERVED: usize = 1 << 20;
/// `1.1.1.1` and a line end: no indicator is shorter.
const SHORTEST_LINE: usize = 8;

/// What a well-formed row holds.
pub(super) enum Row {
    Indicator(Indicator),
    Named(Named),
    /// A row that claims several things at once.
    Several(Vec<Claim>),
    Skip(SkipReason),
}

/// One of several claims of a row.
pub(super) enum Claim {
    Indicator(Indicator),
    Named(Named),
}

impl From<Claim> for Row {
    fn from(claim: Claim) -> Self {
        match claim {
            Claim::Indicator(indicator) => Self::Indicator(indicator),
            Claim::Named(named) => Self::Named(named),
        }
    }
}

/// Gathers the rows of one list.
pub(super) struct Reader<'l> {
    limits: &'l Limits,
    parsed: Parsed,
    rows: u64,
    announced: Option<u64>,
    has_banner: bool,
    has_mark: bool,
    /// Most claims there were when a row came that holds several.
    most_at_several: usize,
    last_reject: Option<RejectReason>,
    ends_with_line_end: bool,
}

impl<'l> Reader<'l> {
    pub(super) fn new(text: &[u8], limits: &'l Limits) -> Self {
        let lines = memchr::memchr_iter(b'\n', text).count() + 1;
        let room = lines.min(text.len() / SHORTEST_LINE).min(MAX_RESERVED);
        let parsed = Parsed { indicators: Vec::with_capacity(room), ..Parsed::default() };
        Self {
            limits,
            parsed,
            rows: 0,
            announced: None,
            has_banner: false,
            has_mark: false,
            most_at_several: 0,
            last_reject: None,
            ends_with_line_end: text.ends_with(b"\n") || text.ends_with(b"\r"),
        }
    }

    /// Takes what a comment says of the list: its date, its number of rows.
    pub(super) fn note(&mut self, line: Line<'_>, comment: &[u8]) -> Result<(), ParseFailure> {
        self.check_line_count(line.number)?;
        if let Some(stamp) = date::stamp(comment) {
            self.stamp(stamp);
        } else if let Some(rows) = announced_rows(comment) {
            self.announce(rows);
        }
        self.has_banner |= holds(comment, b"abuse.ch");
        self.has_mark |= comment == END_MARK;
        Ok(())
    }

    /// Takes the publisher's time of the list; the first one counts.
    pub(super) fn stamp(&mut self, stamp: Moment) {
        self.parsed.stamp.get_or_insert(stamp);
    }

    /// Takes the publisher's number of rows.
    pub(super) const fn announce(&mut self, rows: u64) {
        self.announced = Some(rows);
    }

    /// Reads a row and takes what it holds.
    pub(super) fn row(
        &mut self,
        line: Line<'_>,
        read: impl FnOnce() -> Result<Row, RejectReason>,
    ) -> Result<(), ParseFailure> {
        self.check_line_count(line.number)?;
        self.rows += 1;
        let row = if line.text.len() > self.limits.max_line_bytes {
            Err(RejectReason::LineTooLong)
        } else {
            read()
        };
        self.last_reject = row.as_ref().err().copied();
        match row {
            Ok(Row::Indicator(indicator)) => self.parsed.indicators.push(indicator),
            Ok(Row::Named(named)) => self.parsed.named.push(named),
            Ok(Row::Several(claims)) => return self.take_all(claims),
            Ok(Row::Skip(reason)) => *self.parsed.skipped.entry(reason).or_default() += 1,
            Err(reason) => self.parsed.rejects.add(line.number, reason, line.text),
        }
        Ok(())
    }

    /// Takes the claims of one row.
    fn take_all(&mut self, claims: Vec<Claim>) -> Result<(), ParseFailure> {
        let count = self.parsed.indicators.len() + self.parsed.named.len() + claims.len();
        self.check_claim_count(count)?;
        self.most_at_several = count;
        for claim in claims {
            match claim {
                Claim::Indicator(indicator) => self.parsed.indicators.push(indicator),
                Claim::Named(named) => self.parsed.named.push(named),
            }
        }
        Ok(())
    }

    /// Takes what was read of the text behind this one, whose lines are counted from the beginning
    /// of the whole. This reader knows how the whole ends.
    pub(super) fn append(&mut self, next: Self) -> Result<(), ParseFailure> {
        let count = self.parsed.indicators.len() + self.parsed.named.len();
        if next.most_at_several > 0 {
            self.check_claim_count(count + next.most_at_several)?;
        }
        if let Some(stamp) = next.parsed.stamp {
            self.stamp(stamp);
        }
        if next.rows > 0 {
            self.last_reject = next.last_reject;
        }
        self.rows += next.rows;
        self.announced = next.announced.or(self.announced);
        self.has_banner |= next.has_banner;
        self.has_mark |= next.has_mark;
        self.parsed.indicators.extend(next.parsed.indicators);
        self.parsed.named.extend(next.parsed.named);
        self.parsed.rejects.append(next.parsed.rejects);
        for (reason, count) in next.parsed.skipped {
            *self.parsed.skipped.entry(reason).or_default() += count;
        }
        Ok(())
    }

    /// The list, unless what was read of it says that it is another one or a part.
    pub(super) fn finish(self, ending: Ending) -> Result<Parsed, ParseFailure> {
        let rows = self.rows;
        let truncated = |detail: String| Err(ParseFailure::Truncated { detail });
        if ending == Ending::Mark && !self.has_mark {
            return truncated("the last line '; EOF' is missing".into());
        }
        match self.announced {
            Some(announced) if announced != rows => {
                return truncated(format!("it announces {announced} rows and holds {rows}"));
            }
            None if ending == Ending::Count => {
                return truncated("the last line with the number of rows is missing".into());
            }
            None if ending == Ending::CountIfBanner && self.has_banner => {
                return truncated("the last line '# END ... entries' is missing".into());
            }
            None if ending != Ending::Closed
                && !self.ends_with_line_end
                && self.last_reject.is_some_and(RejectReason::is_cut) =>
            {
                return truncated("the last row is not complete".into());
            }
            _ => {}
        }
        let Limits { tolerated_rejects, max_reject_percent, .. } = *self.limits;
        let rejected = self.parsed.rejects.total();
        let many = rejected > tolerated_rejects as u64
            && rejected.saturating_mul(100) > rows.saturating_mul(max_reject_percent.into());
        if many || (rejected > 0 && rejected == rows) {
            return Err(ParseFailure::TooManyRejects { rejects: self.parsed.rejects, rows });
        }
        Ok(self.parsed)
    }

    /// All rows together may hold no more claims than a list has lines.
    const fn check_claim_count(&self, count: usize) -> Result<(), ParseFailure> {
        let limit = self.limits.max_lines;
        if count > limit { Err(ParseFailure::TooManyLines { limit }) } else { Ok(()) }
    }

    const fn check_line_count(&self, number: u32) -> Result<(), ParseFailure> {
        let limit = self.limits.max_lines;
        if number as usize > limit { Err(ParseFailure::TooManyLines { limit }) } else { Ok(()) }
    }
}

/// The comment at the end of Spamhaus's lists.
const END_MARK: &[u8] = b"EOF";

/// What the format promises of the end of a list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ending {
    /// The number of rows may be there; if so, it must be right.
    Open,
    /// The syntax itself shows whether the list is whole.
    Closed,
    /// The number of rows is there.
    Count,
    /// The number of rows is there if the publisher's banner is.
    CountIfBanner,
    /// The last comment is `EOF`; otherwise as [`Ending::Open`].
    Mark,
}

/// What a row says beside what it is about.
#[derive(Clone, Default)]
pub(super) struct Facts {
    pub(super) malware: Option<Arc<str>>,
    pub(super) first_seen: Option<Moment>,
    pub(super) last_seen: Option<Moment>,
    pub(super) confidence: Option<u8>,
    pub(super) valid_until: Option<Moment>,
    pub(super) compromised: bool,
}

impl Facts {
    /// The claim on traffic of a network.
    pub(super) fn on(self, network: IpNet, traffic: Traffic, line: u32) -> Indicator {
        let Self { malware, first_seen, last_seen, confidence, valid_until, compromised } = self;
        Indicator {
            network,
            traffic,
            malware,
            first_seen,
            last_seen,
            confidence,
            valid_until,
            compromised,
            line,
        }
    }

    /// The claim on what has no address.
    pub(super) fn naming(self, subject: Subject, line: u32) -> Named {
        let Self { malware, first_seen, last_seen, confidence, valid_until, compromised } = self;
        Named {
            subject,
            malware,
            first_seen,
            last_seen,
            confidence,
            valid_until,
            compromised,
            line,
        }
    }
}

/// A confidence from 0 to 100.
pub(super) fn percentage(text: &[u8]) -> Option<u8> {
    number(text, 3).and_then(|n| u8::try_from(n).ok()).filter(|&n| n <= 100)
}

/// The number of rows in `END 375 entries`, `END (114) entries`, `Number of entries: 5` or
/// `Entries : 3 subnets, 769 unique IPs`.
fn announced_rows(comment: &[u8]) -> Option<u64> {
    let text = std::str::from_utf8(comment).ok()?.trim();
    let count = if let Some(rest) = text.strip_prefix("END ") {
        rest.strip_suffix(" entries")?.trim_matches(['(', ')'])
    } else {
        let (key, value) = text.split_once(':')?;
        if !matches!(key.trim(), "Number of entries" | "Entries") {
            return None;
        }
        value.split_ascii_whitespace().next()?
    };
    number(count.as_bytes(), 9).map(u64::from)
}

/// Malware names, each held once.
#[derive(Default)]
pub(super) struct Names<'a>(HashMap<&'a [u8], Arc<str>>);

impl<'a> Names<'a> {
    /// The name in a form that is safe to print, cut to a sane length.
    pub(super) fn get(&mut self, raw: &'a [u8]) -> Arc<str> {
        Arc::clone(self.0.entry(raw).or_insert_with(|| shown(&String::from_utf8_lossy(raw))))
    }
}

/// Malware names of rows that do not outlive their reading, each held once.
#[derive(Default)]
pub(super) struct Families(HashSet<Arc<str>>);

impl Families {
    /// The name in a form that is safe to print, cut to a sane length.
    pub(super) fn get(&mut self, raw: &str) -> Arc<str> {
        let name = shown(raw);
        if let Some(known) = self.0.get(&name) {
            return Arc::clone(known);
        }
        self.0.insert(Arc::clone(&name));
        name
    }
}

/// Text of a list without control characters, cut to a sane length.
pub(super) fn shown(text: &str) -> Arc<str> {
    let plain = |c: char| if c.is_control() { ' ' } else { c };
    text.trim().chars().take(MAX_MALWARE_CHARS).map(plain).collect::<String>().into()
}

/// Whether a field is one of the usual ways to say that there is no value.
pub(super) fn is_missing(field: &[u8]) -> bool {
    matches!(field, b"" | b"None" | b"none" | b"null" | b"NULL" | b"-" | b"N/A")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn announced_numbers_of_rows_are_read() {
        assert_eq!(announced_rows(b"END 375 entries"), Some(375));
        assert_eq!(announced_rows(b"END (114) entries"), Some(114));
        assert_eq!(announced_rows(b"Number of entries: 5"), Some(5));
        assert_eq!(announced_rows(b"Entries         : 3 subnets, 769 unique IPs"), Some(3));
        assert_eq!(announced_rows(b"END entries"), None);
        assert_eq!(announced_rows(b"Maintainer : 5"), None);
    }

    #[test]
    fn malware_names_are_made_printable() {
        let mut names = Names::default();
        assert_eq!(&*names.get(b" Mir\xe1i\x1b[0m "), "Mir\u{fffd}i [0m");
        assert_eq!(names.get(&[b'x'; 500]).len(), MAX_MALWARE_CHARS);
        let mut families = Families::default();
        assert!(Arc::ptr_eq(&families.get("Mirai "), &families.get("Mirai")));
    }
}
