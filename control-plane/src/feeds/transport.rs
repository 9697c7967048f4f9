//! What a feed's source is asked, by the protocol that it speaks.

use std::path::{Path, PathBuf};

use jiff::Timestamp;
use sekisho_rules::feed::{FeedSpec, Source};
use tokio::task::spawn_blocking;
use tracing::warn;

use super::{
    check::Refused,
    crowdsec::Decisions,
    fetch::{FetchError, FetchErrorKind, Fetched, Validators},
    http::{Fetcher, Session},
    last_good::LastGood,
    misp::{self, MispError},
    secret::Secret,
    taxii,
};
use crate::rulebook::{limits, read_list_file};

/// Asks the source of one feed.
#[derive(Debug)]
pub(crate) struct Transport {
    fetcher: Fetcher,
    last_good: LastGood,
    /// What a LAPI told so far.
    decisions: Decisions,
    /// The key that was last shown to the server.
    shown: Option<Secret>,
    /// What is wrong with the way keys are kept, as far as it was told.
    warned: Vec<String>,
}

impl Transport {
    /// One that has not asked yet.
    pub(crate) fn new(fetcher: Fetcher, last_good: LastGood) -> Self {
        let decisions = Decisions::default();
        Self { fetcher, last_good, decisions, shown: None, warned: Vec::new() }
    }

    /// Asks for a list that differs from the one that `known` recognises.
    pub(crate) async fn ask(
        &mut self,
        spec: &FeedSpec,
        known: &Validators,
        now: Timestamp,
    ) -> Result<Fetched, Refused> {
        match &spec.source {
            Source::File(path) => read_file(spec.clone(), path.clone()).await,
            Source::Url(url) => self.ask_web(spec, url, known, now).await,
            Source::Taxii(url) => {
                let session = self.open(spec, now).await?;
                let kept = self.kept(spec).await?;
                let have = (known, &kept[..]);
                let asked = taxii::fetch(&session, spec, url, have, &limits(spec), now).await;
                Ok(asked.map_err(|error| session.scrubbed(error))?)
            }
            Source::Crowdsec(url) => {
                let session = self.open(spec, now).await?;
                let kept = match self.decisions.is_new() {
                    true => self.kept(spec).await?,
                    false => Vec::new(),
                };
                let limits = limits(spec);
                let asked = self.decisions.fetch(&session, spec, url, &kept, &limits, now).await;
                Ok(asked.map_err(|error| session.scrubbed(error))?)
            }
        }
    }

    async fn ask_web(
        &mut self,
        spec: &FeedSpec,
        url: &str,
        known: &Validators,
        now: Timestamp,
    ) -> Result<Fetched, Refused> {
        let session = self.open(spec, now).await?;
        let limits = limits(spec);
        if !misp::is_feed(spec) {
            return Ok(session.fetch(&session.url(url)?, known, limits.max_bytes, now).await?);
        }
        let kept = self.kept(spec).await?;
        let fetched = misp::fetch(&session, spec, url, (known, &kept), &limits, now).await;
        fetched.map_err(|error| match error {
            MispError::Fetch(error) => Refused::Fetch(error),
            MispError::Parse(failure) => Refused::Parse(failure),
        })
    }

    /// What came was not taken.
    pub(crate) const fn distrust(&mut self) {
        self.decisions.distrust();
    }

    /// Whether another key is there than the one that was last shown.
    pub(crate) async fn has_new_key(&self, spec: &FeedSpec) -> bool {
        let Some(from) = spec.auth.as_ref().map(|auth| auth.secret().clone()) else { return false };
        let read = spawn_blocking(move || Secret::read(&from)).await;
        read.is_ok_and(|read| read.is_ok_and(|found| self.shown.as_ref() != Some(&found.secret)))
    }

    /// Whether everything is there that a request needs.
    pub(crate) async fn can_ask(&self, spec: &FeedSpec) -> bool {
        let (fetcher, spec) = (self.fetcher.clone(), spec.clone());
        let open = spawn_blocking(move || fetcher.session(&spec).is_ok());
        open.await.unwrap_or(false)
    }

    async fn open(&mut self, spec: &FeedSpec, now: Timestamp) -> Result<Session, Refused> {
        self.shown = None;
        let (fetcher, last_good, asked) =
            (self.fetcher.clone(), self.last_good.clone(), spec.clone());
        let open = spawn_blocking(move || {
            let session = fetcher.session(&asked)?;
            if !matches!(asked.source, Source::Crowdsec(_)) {
                last_good.note_request(&asked.name, now).map_err(Refused::Disk)?;
            }
            Ok::<_, Refused>(session)
        });
        let session = open.await.map_err(|_| Refused::Stopped)??;
        self.shown = session.secret().cloned();
        for warning in session.warnings.iter().filter(|warning| !self.warned.contains(warning)) {
            warn!(feed = %spec.name, "{warning}");
        }
        self.warned.clone_from(&session.warnings);
        Ok(session)
    }

    /// The last good list of the source; empty if there is none.
    async fn kept(&self, spec: &FeedSpec) -> Result<Vec<u8>, Refused> {
        let (last_good, name) = (self.last_good.clone(), spec.name.clone());
        let kept = spawn_blocking(move || last_good.load(&name));
        let kept = kept.await.map_err(|_| Refused::Stopped)?.map_err(Refused::Disk)?;
        let kept = kept.filter(|(_, meta)| meta.is_from(&spec.source));
        Ok(kept.map_or_else(Vec::new, |(bytes, _)| bytes))
    }
}

async fn read_file(spec: FeedSpec, path: PathBuf) -> Result<Fetched, Refused> {
    let unreadable = |path: &Path, error: std::io::Error| {
        FetchError::new(FetchErrorKind::Unreadable, format!("{}: {error}", path.display()))
    };
    let read = spawn_blocking(move || {
        read_list_file(&spec, &path).map_err(|error| unreadable(&path, error))
    });
    let bytes = read.await.map_err(|_| Refused::Stopped)??;
    Ok(Fetched::List { bytes, validators: Validators::default(), withdrawn: false })
}
