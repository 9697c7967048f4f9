//! A lab with a daemon in it, for scenarios.

use std::{
    collections::BTreeMap,
    fs,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    path::{Path, PathBuf},
    process::{Command, Output},
    sync::atomic::{AtomicU32, Ordering},
    time::Duration,
};

use anyhow::{Context as _, bail};
use sekisho::{
    config::Config,
    demo::{
        daemon::{Client, Daemon, Home, RulesetRow},
        lab::{CORE, LINE, Lab},
        lists::Lists,
        netns::{Resident, require_root},
        patience::Interrupt,
        sniffer::{Seen, Side, Sniffer},
        traffic::{Session, Stage, Transport},
    },
};

/// The listed remote of a scene, for all ports.
pub const LISTED: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::new(198, 18, 0, 66)), 443);
/// The clean remote beside it.
pub const CLEAN: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::new(198, 18, 0, 67)), 443);

const LONGEST: Duration = Duration::from_secs(60);
const QUIET: Duration = Duration::from_millis(500);

/// A lab with one listed and one clean remote, and everything that a daemon needs.
pub struct Scene {
    program: &'static Path,
    /// Counts at the subscribers' end.
    pub line: Sniffer,
    /// Counts at the Internet's end.
    pub core: Sniffer,
    stage: Stage,
    /// Asks the daemon.
    pub client: Client,
    /// The daemon's folder and pins.
    pub home: Home,
    /// The namespaces.
    pub lab: Lab,
    _publisher: Resident,
    _folder: tempfile::TempDir,
}

impl Scene {
    /// Builds the lab; `adapt` may change what the daemon is configured to do.
    pub fn build(
        program: &'static Path,
        purpose: &str,
        adapt: impl FnOnce(&mut Config) -> anyhow::Result<()>,
    ) -> anyhow::Result<Self> {
        static BUILT: AtomicU32 = AtomicU32::new(0);
        require_root("this test")?;
        let folder = tempfile::Builder::new().prefix("sekisho-test-").tempdir()?;
        let lab = Lab::build(&format!("sekisho-{purpose}"))?;
        let remotes = [LISTED, CLEAN];
        lab.add_remotes(remotes.map(|remote| remote.ip()))?;
        let stage = Stage::open(&lab)?;
        stage.serve(remotes)?;

        let lists = folder.path().join("lists");
        write_lists(&lists, &[("listed", "plain", format!("{}\n", remotes[0].ip()).as_bytes())])?;
        let publisher = Resident::start(&lab.edge, "feed-server")?;
        let nth = BUILT.fetch_add(1, Ordering::Relaxed);
        let pins = format!("/sys/fs/bpf/sekisho-{purpose}-{}-{nth}", std::process::id());
        let home = Home::new(folder.path().to_owned(), PathBuf::from(pins));
        Lists::read(&lists, |fault| eprintln!("{fault}"))?
            .publish(&publisher, &home.catalogue())?;
        let mut config = home.configuration()?;
        adapt(&mut config)?;
        home.furnish(&config, &lab)?;
        Ok(Self {
            program,
            line: Sniffer::start(&lab.subscribers, LINE, Side::Subscribers)?,
            core: Sniffer::start(&lab.internet, CORE, Side::Internet)?,
            stage,
            client: Client::new(&lab)?,
            home,
            lab,
            _publisher: publisher,
            _folder: folder,
        })
    }

    /// Starts the daemon and waits until its ruleset is live.
    pub fn start(&self) -> anyhow::Result<Daemon> {
        let mut daemon = Daemon::start(self.program, &self.lab, &self.home)?;
        self.wait_for("a live ruleset", || {
            if let Some(status) = daemon.ended()? {
                bail!("the daemon ended ({status}): {}", self.home.last_words());
            }
            let live = self.client.get::<RulesetRow>("ruleset").ok();
            Ok(live.filter(|live| live.entries_v4 == 1).map(drop))
        })?;
        Ok(daemon)
    }

    /// Waits for a condition, for a minute at most.
    pub fn wait_for<T>(
        &self,
        what: &str,
        ask: impl FnMut() -> anyhow::Result<Option<T>>,
    ) -> anyhow::Result<T> {
        Interrupt::default().wait_for(what, LONGEST, ask)
    }

    /// Every subscriber exchanges three datagrams with a remote; whether all, or none, had answers.
    pub fn ask(&self, remote: SocketAddr) -> anyhow::Result<Answers> {
        let sessions: Vec<_> = self
            .lab
            .lines
            .iter()
            .map(|line| Session {
                subscriber: line.clone(),
                remote,
                transport: Transport::Udp,
                inbound: false,
            })
            .collect();
        let outcomes = self.stage.hold(&sessions)?;
        let answered = outcomes.iter().filter(|(_, answered)| *answered).count();
        Ok(match answered {
            0 => Answers::None,
            all if all == sessions.len() => Answers::All,
            some => Answers::Some(some),
        })
    }

    /// Waits until nothing moves on the cables.
    pub fn quiet(&self) -> anyhow::Result<()> {
        Interrupt::default()
            .wait_for_quiet("quiet", QUIET, LONGEST, || self.line.frames() + self.core.frames())
    }

    /// Packets of subscribers to a remote: how many set out, and how many arrived.
    pub fn outbound(&self, remote: SocketAddr) -> anyhow::Result<(u64, u64)> {
        self.quiet()?;
        let of = |packets: &BTreeMap<_, u64>| -> u64 {
            let to = |c: &&sekisho::demo::sniffer::Conversation| c.remote == remote;
            packets.iter().filter(|(c, _)| to(c)).map(|(_, packets)| packets).sum()
        };
        let (line, core): (Seen, Seen) = (self.line.complete()?, self.core.complete()?);
        Ok((of(&line.sent), of(&core.arrived)))
    }

    /// How many packets the recorded hits tell of.
    pub fn hit_packets(&self) -> anyhow::Result<u64> {
        Ok(self.client.hits()?.iter().map(|hit| hit.packets).sum())
    }

    /// Runs the command in the edge's namespace.
    pub fn run(&self, arguments: &[&str]) -> anyhow::Result<Output> {
        let program = self.program;
        self.lab.edge.inside(|| Ok(Command::new(program).args(arguments).output()?))
    }
}

/// Who had answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answers {
    /// Every subscriber.
    All,
    /// Some, and how many.
    Some(usize),
    /// Nobody.
    None,
}

/// Writes a lists folder: for each feed its name, format and content.
pub fn write_lists(folder: &Path, feeds: &[(&str, &str, &[u8])]) -> anyhow::Result<()> {
    fs::create_dir_all(folder)?;
    let mut catalogue = String::from("feeds:\n");
    for (name, format, content) in feeds {
        catalogue.push_str(&format!(
            "  - name: {name}\n    source: {name}.txt\n    format: {format}\n    expire_after: \
             3650d\n    min_prefix_v4: 8\n    min_prefix_v6: 16\n"
        ));
        fs::write(folder.join(format!("{name}.txt")), content)?;
    }
    fs::write(folder.join("feeds.yaml"), catalogue).context("feeds.yaml")
}
