//! Which lists the demo uses, and how they come to the daemon.

use std::{
    fs,
    hash::{DefaultHasher, Hash as _, Hasher as _},
    path::{Path, PathBuf},
    sync::Arc,
};

use anyhow::{Context as _, bail};
use axum::{
    Router,
    extract::{Path as UrlPath, State},
    http::{HeaderMap, StatusCode, header},
    response::{IntoResponse, Response},
    routing::get,
};
use jiff::Timestamp;
use sekisho_rules::{
    compile::Compiled,
    feed::{FeedSpec, Source},
    period::Period,
};
use tokio::net::TcpListener;

use super::netns::Resident;
use crate::{
    config::FetchConfig,
    feeds::{
        fetch::{Fetched, Validators},
        http::Fetcher,
        last_good::LastGood,
        transport::Transport,
    },
    rulebook::{FOLDER_CATALOGUE, ReadList, Rulebook, read_list_file},
};

/// The lists that come with the demo, by file name.
const OWN_LISTS: [(&str, &str); 8] = [
    (FOLDER_CATALOGUE, include_str!("lists/feeds.yaml")),
    ("feodo.csv", include_str!("lists/feodo.csv")),
    ("threatfox.csv", include_str!("lists/threatfox.csv")),
    ("sslbl.csv", include_str!("lists/sslbl.csv")),
    ("drop_v4.json", include_str!("lists/drop_v4.json")),
    ("drop_v6.json", include_str!("lists/drop_v6.json")),
    ("sightings.txt", include_str!("lists/sightings.txt")),
    ("hosts.txt", include_str!("lists/hosts.txt")),
];

/// Writes the demo's own lists into a folder.
pub fn write_own_lists(folder: &Path) -> anyhow::Result<()> {
    fs::create_dir_all(folder)?;
    for (name, text) in OWN_LISTS {
        fs::write(folder.join(name), text)
            .with_context(|| format!("cannot write {}", folder.join(name).display()))?;
    }
    Ok(())
}

/// The enabled feeds of a folder with the bytes of their lists.
#[derive(Debug)]
pub struct Lists {
    /// The rules of the folder.
    pub rulebook: Rulebook,
    lists: Vec<(FeedSpec, Arc<[u8]>)>,
}

impl Lists {
    /// Reads a folder and says which feeds could not be read: like the daemon, the demo goes on
    /// without them.
    pub fn read(folder: &Path, mut unreadable: impl FnMut(String)) -> anyhow::Result<Self> {
        let rulebook = Rulebook::of_folder(folder)?;
        let mut lists = Vec::new();
        for spec in rulebook.catalogue.enabled() {
            let read = match &spec.source {
                Source::File(path) => read_list_file(spec, path)
                    .with_context(|| format!("feed '{}': {}", spec.name, path.display())),
                Source::Url(_) | Source::Taxii(_) | Source::Crowdsec(_) => {
                    fetch(spec).with_context(|| format!("feed '{}'", spec.name))
                }
            };
            match read {
                Ok(bytes) => lists.push((spec.clone(), bytes.into())),
                Err(error) => unreadable(format!("{error:#}")),
            }
        }
        if lists.is_empty() {
            bail!("{}: there is no list to read", folder.join(FOLDER_CATALOGUE).display());
        }
        Ok(Self { rulebook, lists })
    }

    /// What the daemon has to make of them, by the same code.
    pub fn compile(&self, now: Timestamp) -> anyhow::Result<Compiled> {
        let read: Vec<_> = self
            .lists
            .iter()
            .map(|(spec, bytes)| (spec, ReadList::new(spec, bytes, now)))
            .collect();
        let inputs: Vec<_> = read.iter().map(|(spec, list)| (*spec, list)).collect();
        Ok(self.rulebook.compile(&inputs, now)?)
    }

    /// Serves the lists over HTTP on loopback and writes the catalogue that says so.
    pub fn publish(&self, publisher: &Resident, catalogue: &Path) -> anyhow::Result<()> {
        let served = Arc::new(self.lists.iter().map(Served::new).collect::<Vec<_>>());
        let address = publisher.run(async move {
            let listener = TcpListener::bind("127.0.0.1:0").await?;
            let address = listener.local_addr()?;
            let router = Router::new().route("/{feed}", get(serve)).with_state(served);
            tokio::spawn(axum::serve(listener, router).into_future());
            Ok(address)
        })?;
        let mut published = self.rulebook.catalogue.clone();
        published.feeds.retain(|feed| feed.enabled);
        for feed in &mut published.feeds {
            feed.source = Source::Url(format!("http://{address}/{}", feed.name));
            (feed.auth, feed.taxii, feed.crowdsec) = (None, None, None);
            (feed.proxy, feed.proxy_login, feed.ca_file) = (None, None, None);
            feed.refresh = feed.refresh.max(Period::minutes(5));
        }
        let text = serde_yaml::to_string(&published).context("cannot write the catalogue")?;
        fs::write(catalogue, text).with_context(|| format!("cannot write {}", catalogue.display()))
    }
}

/// Fetches a list from outside, which the daemon in its closed namespace cannot.
fn fetch(spec: &FeedSpec) -> anyhow::Result<Vec<u8>> {
    let fetcher = Fetcher::new(&FetchConfig::default())?;
    let folder = tempfile::tempdir()?;
    let mut transport = Transport::new(fetcher, LastGood::new(folder.path()));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let unknown = Validators::default();
    match runtime.block_on(transport.ask(spec, &unknown, Timestamp::now())) {
        Ok(Fetched::List { bytes, .. }) => Ok(bytes),
        Err(refused) => bail!("{}", refused.text()),
        Ok(Fetched::NotModified) => bail!("the server says 'not modified' to a first request"),
    }
}

/// The folder in which `--lists` finds what the demo's own lists would be.
pub fn folder_of(given: Option<&PathBuf>, own: &Path) -> anyhow::Result<PathBuf> {
    match given {
        Some(folder) => Ok(folder.clone()),
        None => write_own_lists(own).map(|()| own.to_owned()),
    }
}

#[derive(Debug)]
struct Served {
    name: String,
    etag: String,
    bytes: Arc<[u8]>,
}

impl Served {
    fn new((spec, bytes): &(FeedSpec, Arc<[u8]>)) -> Self {
        let mut hasher = DefaultHasher::new();
        bytes.hash(&mut hasher);
        let etag = format!("\"{:016x}\"", hasher.finish());
        Self { name: spec.name.to_string(), etag, bytes: Arc::clone(bytes) }
    }
}

async fn serve(
    State(lists): State<Arc<Vec<Served>>>,
    UrlPath(feed): UrlPath<String>,
    headers: HeaderMap,
) -> Response {
    let Some(list) = lists.iter().find(|list| list.name == feed) else {
        return StatusCode::NOT_FOUND.into_response();
    };
    let etag = [(header::ETAG, list.etag.clone())];
    let known = headers.get(header::IF_NONE_MATCH).is_some_and(|tag| tag == list.etag.as_str());
    if known {
        return (StatusCode::NOT_MODIFIED, etag).into_response();
    }
    (etag, list.bytes.to_vec()).into_response()
}

#[cfg(test)]
mod tests {
    use sekisho_rules::refusal::Refusal;

    use super::*;

    fn own() -> Compiled {
        let folder = tempfile::tempdir().unwrap();
        write_own_lists(folder.path()).unwrap();
        let lists = Lists::read(folder.path(), |error| panic!("{error}")).unwrap();
        lists.compile("2026-11-22T00:00:00Z".parse().unwrap()).unwrap()
    }

    #[test]
    fn the_demos_own_lists_fill_both_families_and_every_feed_has_its_part() {
        let compiled = own();
        let (v4, v6) = compiled.table.len();
        assert!(v4 >= 10 && v6 >= 4, "{v4} IPv4 and {v6} IPv6 entries");
        for feed in &compiled.feeds {
            assert!(feed.accepted > 0, "{feed:?}");
            assert_eq!(feed.failure, None, "{feed:?}");
        }
    }

    #[test]
    fn the_demos_own_lists_show_refusals_of_several_kinds() {
        let compiled = own();
        let refused: Vec<_> = compiled.refusals.kept.iter().map(Refusal::indicator).collect();
        for indicator in ["10.0.0.0/8", "0.0.0.0/0", "8.8.8.8:53/tcp", "192.168.1.1", "2000::/3"] {
            assert!(
                refused.iter().any(|r| r == indicator || indicator.starts_with(&format!("{r}/"))),
                "{indicator} is not among {refused:?}"
            );
        }
        assert!(compiled.refusals.by_reason.len() >= 3, "{:?}", compiled.refusals.by_reason);
    }
}
