//! A TAXII 2.1 client (OASIS TAXII 2.1): the indicators of a server's collections as one STIX bundle.
//!
//! What was added since the last time is asked for and put over what is there, by id and version; now
//! and then everything is read again, because what is only gone from a server is in no delta.
//!
//! - [`server`]: discovery, collections, pages
//! - [`objects`]: the newest version of each indicator

pub mod objects;
pub mod server;

use std::{collections::BTreeMap, time::Duration};

use jiff::Timestamp;
use sekisho_rules::{access::TaxiiSpec, feed::FeedSpec, parse::Limits};
use serde::{Deserialize, Serialize};

use self::{
    objects::Objects,
    server::{Collection, Server},
};
use super::{
    fetch::{FetchError, FetchErrorKind, Fetched, Validators},
    http::Session,
};

/// Longest that all collections may take.
const LONGEST: Duration = Duration::from_secs(30 * 60);

/// How far a server was read.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Position {
    /// CRC-32 of the API root.
    pub root: u32,
    /// When everything was last read.
    pub full_at: Timestamp,
    /// By id of the collection: when the newest object that we have of it was added, in the server's
    /// words; `None` if it never said.
    pub added: BTreeMap<String, Option<String>>,
}

impl Position {
    /// Whether it is enough to ask for what was added since.
    fn resumes(
        &self,
        root: u32,
        taxii: &TaxiiSpec,
        collections: &[Collection],
        now: Timestamp,
    ) -> bool {
        let age = now.duration_since(self.full_at);
        let fresh = !age.is_negative() && age < taxii.resync.signed();
        let same = collections.len() == self.added.len()
            && collections.iter().all(|collection| self.added.contains_key(&collection.id));
        self.root == root && fresh && same
    }
}

/// Reads what the server added since `have`, for no longer than half an hour.
pub async fn fetch(
    session: &Session,
    spec: &FeedSpec,
    url: &str,
    have: (&Validators, &[u8]),
    limits: &Limits,
    now: Timestamp,
) -> Result<Fetched, FetchError> {
    let fetched = tokio::time::timeout(LONGEST, fetch_all(session, spec, url, have, limits, now));
    fetched.await.unwrap_or_else(|_| {
        let detail = format!("the collections took more than {} minutes", LONGEST.as_secs() / 60);
        Err(FetchError::new(FetchErrorKind::Timeout, detail))
    })
}

async fn fetch_all(
    session: &Session,
    spec: &FeedSpec,
    url: &str,
    have: (&Validators, &[u8]),
    limits: &Limits,
    now: Timestamp,
) -> Result<Fetched, FetchError> {
    let taxii = spec.taxii.clone().unwrap_or_default();
    let server = Server { session, limits, now };
    let root = server.root(url, &taxii).await?;
    let collections = server.collections(&root, &taxii).await?;
    let of = crc32fast::hash(root.as_str().as_bytes());
    let resumed = have.0.taxii.as_ref().filter(|at| at.resumes(of, &taxii, &collections, now));
    let resumed = resumed.zip(Objects::read(have.1, limits));
    let is_delta = resumed.is_some();
    let (mut position, mut objects) = match resumed {
        Some((position, objects)) => (position.clone(), objects),
        None => (Position { root: of, full_at: now, ..Position::default() }, Objects::new(limits)),
    };
    for collection in &collections {
        let since = position.added.get(&collection.id).cloned().flatten();
        let last = server.read(collection, since, &taxii, &mut objects).await?;
        position.added.insert(collection.id.clone(), last);
    }
    let validators = Validators { taxii: Some(position), ..Validators::default() };
    Ok(Fetched::List { bytes: objects.bundle(), validators, withdrawn: is_delta })
}

fn protocol(detail: impl Into<String>) -> FetchError {
    FetchError::new(FetchErrorKind::Protocol, detail)
}

#[cfg(test)]
#[path = "taxii_tests.rs"]
mod tests;
