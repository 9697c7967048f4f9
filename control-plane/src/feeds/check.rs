//! Whether a list that came may take the place of the one in force.

use std::{borrow::Cow, io};

use jiff::Timestamp;
use sekisho_rules::{
    change::{self, HoldReason, Verdict},
    feed::FeedSpec,
};

use super::{
    fetch::{FetchError, FetchErrorKind, Fetched, Validators},
    hold::Held,
    last_good::{LastGood, Meta},
};
use crate::rulebook::ReadList;

/// Why a list is not taken.
#[derive(Debug)]
pub(crate) enum Refused {
    Fetch(FetchError),
    Parse(sekisho_rules::parse::ParseFailure),
    /// Nothing is in it, and something was.
    Emptied,
    /// The publisher's date is older than that of the last good copy, whose meta data says since
    /// when.
    Older(Timestamp, Box<Meta>),
    /// Somebody rejected it.
    Rejected,
    Disk(io::Error),
    /// The work on it was stopped.
    Stopped,
}

impl From<FetchError> for Refused {
    fn from(error: FetchError) -> Self {
        Self::Fetch(error)
    }
}

impl Refused {
    pub(super) const fn reason(&self) -> &'static str {
        match self {
            Self::Fetch(error) => error.kind.as_str(),
            Self::Parse(failure) => failure.as_str(),
            Self::Emptied => "emptied",
            Self::Older(..) => "older",
            Self::Rejected => "rejected",
            Self::Disk(_) => "disk",
            Self::Stopped => "stopped",
        }
    }

    /// In words, without credentials.
    pub(crate) fn text(&self) -> String {
        match self {
            Self::Fetch(error) => error.detail.clone(),
            Self::Parse(failure) => failure.to_string(),
            Self::Emptied => "the list is empty and was not before; its claims stand until they \
                              lapse"
                .to_owned(),
            Self::Rejected => "the list is the one that was rejected".to_owned(),
            Self::Older(stamp, _) => format!("the list is older ({stamp}) than the one we have"),
            Self::Disk(error) => format!("the last good copy can't be written: {error}"),
            Self::Stopped => "reading it was stopped".to_owned(),
        }
    }
}

/// A list that passed all checks.
pub(super) struct Good {
    pub(super) list: ReadList,
    pub(super) meta: Meta,
}

/// What came of a list.
pub(super) enum Checked {
    /// It is in force.
    Good(Box<Good>),
    /// It is held; the list in force is confirmed if nothing but approval is missing.
    Held(Box<Held>, Option<Box<Good>>),
}

/// Whether what came may replace what we have; if so it is kept. Blocks.
pub(super) fn check(
    spec: &FeedSpec,
    fetched: Fetched,
    have: Option<&(ReadList, Meta)>,
    held: Option<&Held>,
    last_good: &LastGood,
    now: Timestamp,
) -> Result<Checked, Refused> {
    let (bytes, validators, withdrawn) = match fetched {
        Fetched::List { bytes, validators, withdrawn } => (Some(bytes), validators, withdrawn),
        Fetched::NotModified => (None, Validators::default(), false),
    };
    let is_held = |held: &&Held| bytes.as_ref().is_none_or(|bytes| held.is_of(bytes));
    if let Some(held) = held.filter(is_held) {
        return still_held(spec, held.clone(), have, last_good, now);
    }
    let same = |meta: &Meta| bytes.as_ref().is_none_or(|bytes| meta.is_of(bytes));
    if let Some((list, mut meta)) = have.filter(|(_, meta)| same(meta)).cloned() {
        if bytes.is_some() {
            meta.validators = validators;
        }
        meta.older_since = None;
        last_good.confirm(&spec.name, &mut meta, now).map_err(Refused::Disk)?;
        last_good.drop_held(&spec.name).map_err(Refused::Disk)?;
        let list = ReadList { confirmed_at: now, ..list };
        return Ok(Checked::Good(Box::new(Good { list, meta })));
    }
    let Some(bytes) = bytes else {
        // We sent nothing to compare with, so the server can't know that nothing changed.
        let detail = "the server answers 304 to a request without conditions";
        return Err(Refused::Fetch(FetchError::new(FetchErrorKind::Status, detail)));
    };
    if have.is_some_and(|(_, meta)| meta.rejects(&bytes)) {
        return Err(Refused::Rejected);
    }
    let list = ReadList::new(spec, &bytes, now);
    let parsed = list.parsed.as_ref().map_err(|failure| Refused::Parse(failure.clone()))?;
    let (old, meta) = match have {
        Some((list, meta)) => (list.parsed.as_ref().ok().map(|old| &**old), Some(meta)),
        None => (None, None),
    };
    let older_since = meta.and_then(|meta| meta.older_since).map(Into::into);
    let mut judged = Cow::Borrowed(spec);
    if withdrawn {
        // The source took its claims back by name: that is no list that got lost.
        judged.to_mut().may_be_empty = true;
    }
    match change::judge(old, parsed, &judged, older_since, now.into()) {
        Verdict::Take => {}
        Verdict::Emptied => return Err(Refused::Emptied),
        Verdict::Older(stamp) => return Err(older(spec, stamp.into(), meta, last_good, now)),
        Verdict::Hold(reason, figures) => {
            let why = (reason, figures);
            let new = Held::new(&bytes, &spec.source, validators, why, held, now);
            last_good.hold(&spec.name, &bytes, &new).map_err(Refused::Disk)?;
            return Ok(Checked::Held(
                Box::new(new.clone()),
                confirmed(spec, &new, have, last_good)?,
            ));
        }
    }
    let since = claims_since(&list, have);
    let kept = last_good.keep(&spec.name, &bytes, &spec.source, validators, since, now);
    let meta = kept.map_err(Refused::Disk)?;
    last_good.drop_held(&spec.name).map_err(Refused::Disk)?;
    Ok(Checked::Good(Box::new(Good { list, meta })))
}

/// Since when the claims are what they are, if they are those of the list in force.
fn claims_since(list: &ReadList, have: Option<&(ReadList, Meta)>) -> Option<Timestamp> {
    let (old, meta) = have?;
    let (old, new) = (old.parsed.as_ref().ok()?, list.parsed.as_ref().ok()?);
    old.claims_the_same(new).then(|| meta.claims_since())
}

/// Notes since when only older lists come.
fn older(
    spec: &FeedSpec,
    stamp: Timestamp,
    meta: Option<&Meta>,
    last_good: &LastGood,
    now: Timestamp,
) -> Refused {
    let Some(mut meta) = meta.cloned() else { return Refused::Stopped };
    if meta.older_since.is_none() {
        meta.older_since = Some(now);
        if let Err(error) = last_good.keep_meta(&spec.name, &meta) {
            return Refused::Disk(error);
        }
    }
    Refused::Older(stamp, Box::new(meta))
}

/// The list that is held is still the source's.
fn still_held(
    spec: &FeedSpec,
    mut held: Held,
    have: Option<&(ReadList, Meta)>,
    last_good: &LastGood,
    now: Timestamp,
) -> Result<Checked, Refused> {
    held.confirmed_at = now;
    last_good.note_held(&spec.name, &held).map_err(Refused::Disk)?;
    let confirmed = confirmed(spec, &held, have, last_good)?;
    Ok(Checked::Held(Box::new(held), confirmed))
}

/// The list in force is what was approved, and stays confirmed while the source answers. One that is
/// in force because the source's own list is not to be trusted is confirmed by nobody.
fn confirmed(
    spec: &FeedSpec,
    held: &Held,
    have: Option<&(ReadList, Meta)>,
    last_good: &LastGood,
) -> Result<Option<Box<Good>>, Refused> {
    let Some((list, mut meta)) = have.filter(|_| held.reason == HoldReason::Approval).cloned()
    else {
        return Ok(None);
    };
    last_good.confirm(&spec.name, &mut meta, held.confirmed_at).map_err(Refused::Disk)?;
    let list = ReadList { confirmed_at: held.confirmed_at, ..list };
    Ok(Some(Box::new(Good { list, meta })))
}

/// Puts a held list into force; blocks.
pub(super) fn accept(
    spec: &FeedSpec,
    held: &Held,
    have: Option<&(ReadList, Meta)>,
    last_good: &LastGood,
) -> Result<Good, String> {
    let bytes = last_good.held_bytes(&spec.name, held).map_err(|error| error.to_string())?;
    let list = ReadList::new(spec, &bytes, held.confirmed_at);
    if let Err(failure) = &list.parsed {
        return Err(failure.to_string());
    }
    let since = claims_since(&list, have);
    let meta = last_good.accept(&spec.name, &bytes, &spec.source, held, since);
    Ok(Good { list, meta: meta.map_err(|error| error.to_string())? })
}

/// Drops a held list, and remembers it; blocks.
pub(super) fn reject(
    spec: &FeedSpec,
    held: &Held,
    meta: Option<Meta>,
    last_good: &LastGood,
) -> Result<Option<Meta>, String> {
    let meta = meta.map(|mut meta| {
        held.note_rejected(&mut meta);
        meta
    });
    if let Some(meta) = &meta {
        last_good.keep_meta(&spec.name, meta).map_err(|error| error.to_string())?;
    }
    last_good.drop_held(&spec.name).map_err(|error| error.to_string())?;
    Ok(meta)
}
