//! `sekisho demo`: real packets of subscribers to listed and clean addresses, on a stage of its
//! own, blocked by the daemon that ships.

pub mod daemon;
pub mod lab;
pub mod link;
pub mod lists;
pub mod netns;
pub mod patience;
pub mod plan;
pub mod report;
pub mod sniffer;
pub mod traffic;
pub mod trunk;

use std::{
    collections::BTreeMap,
    io::{self, Write as _},
    net::{IpAddr, SocketAddr},
    path::{Path, PathBuf},
    process,
    time::{Duration, Instant},
};

use anyhow::{Context as _, bail};
use jiff::Timestamp;
use sekisho_rules::compile::Compiled;

use self::{
    daemon::{API, Client, Counter, Daemon, Home, RulesetRow},
    lab::{CORE, CORE_V4, CORE_V6, LINE, Lab},
    lists::Lists,
    netns::{Resident, require_root},
    patience::Interrupt,
    plan::Plan,
    report::{Findings, Report},
    sniffer::{Side, Sniffer},
    traffic::{Session, Stage, Transport},
};
use crate::rulebook::{FOLDER_NEVER_BLOCK, FOLDER_POLICY};

/// Show real packets to listed addresses being blocked.
#[derive(Clone, Debug, Default, clap::Args)]
pub struct DemoArgs {
    /// Print the result as JSON, and nothing else, to standard output
    #[arg(long)]
    pub json: bool,
    /// Leave everything running until Ctrl-C, to look around
    #[arg(long)]
    pub keep: bool,
    /// Folder with a feeds.yaml whose lists take the place of the demo's own
    #[arg(long, value_name = "DIR")]
    pub lists: Option<PathBuf>,
}

/// A port of the Internet side that is only used to see whether the way there works.
const PROBE_PORT: u16 = 7;
const LONGEST_SETUP: Duration = Duration::from_secs(20);
const LONGEST_START: Duration = Duration::from_secs(120);
const LONGEST_QUIET: Duration = Duration::from_secs(30);
/// For how long no frame may pass before the traffic counts as over.
const QUIET: Duration = Duration::from_millis(500);
const LONGEST_DRAIN: Duration = Duration::from_secs(20);

/// Runs the demo; an error if anything was not as it should be.
pub fn run(args: &DemoArgs) -> anyhow::Result<()> {
    require_root("sekisho demo")?;
    let progress = Progress::begin();
    let interrupt = Interrupt::on_signals()?;
    let program = std::env::current_exe().context("cannot find the program itself")?;
    let folder = tempfile::Builder::new().prefix("sekisho-demo-").tempdir()?;

    let own_lists = folder.path().join("lists");
    let source = lists::folder_of(args.lists.as_ref(), &own_lists)?;
    progress.say(&format!("reading the lists of {}", named(args)));
    let lists = Lists::read(&source, |fault| progress.say(&format!("left out: {fault}")))?;
    let compiled = lists.compile(Timestamp::now())?;

    progress.say("building the stage: subscribers, edge and Internet in network namespaces");
    let lab = Lab::build("sekisho-demo")?;
    let plan = Plan::of(&compiled, &lab.lines);
    if plan.listed.is_empty() {
        bail!(
            "nothing of the lists of {} may be dropped, so there is nothing to show",
            named(args)
        );
    }
    let set = Set::build(&lab, &plan, &interrupt)?;

    let pins = PathBuf::from(format!("/sys/fs/bpf/sekisho-demo-{}", process::id()));
    let home = Home::new(folder.path().to_owned(), pins);
    let publisher = Resident::start(&lab.edge, "feed-server")?;
    lists.publish(&publisher, &home.catalogue())?;
    configure(&home, &lab, &source)?;

    progress.say("starting the daemon on the edge");
    let client = Client::new(&lab)?;
    let mut daemon = Daemon::start(&program, &lab, &home)?;
    let shown = (|| {
        let ruleset = live_ruleset(&client, &mut daemon, &compiled, &interrupt)?;
        progress.say(&format!(
            "{} IPv4 and {} IPv6 entries are live; {} indicators were refused",
            ruleset.entries_v4,
            ruleset.entries_v6,
            ruleset.refused_total()
        ));
        show(&set, &client, &compiled, ruleset, &interrupt, &progress)
    })()
    .with_context(|| format!("the daemon's last words:\n{}\n", home.last_words()));
    let report = shown?;

    print(&if args.json {
        format!("{}\n", serde_json::to_string_pretty(&report)?)
    } else {
        report.text()
    })?;
    if args.keep {
        keep(&lab, &home, &progress, &interrupt);
    } else if !args.json {
        progress
            .note("Look around while it runs: add --keep. Without a demo: docs/architecture.md.");
    }
    daemon.stop().context("the daemon did not end well")?;
    match report.problems.as_slice() {
        [] => Ok(()),
        [only] => bail!("the demo failed: {only}"),
        [first, rest @ ..] => bail!("the demo failed: {first}; and {} more problems", rest.len()),
    }
}

fn named(args: &DemoArgs) -> String {
    args.lists.as_ref().map_or_else(|| "the demo".to_owned(), |folder| folder.display().to_string())
}

/// The stage with its actors, seen to work without the daemon.
struct Set<'a> {
    lab: &'a Lab,
    plan: &'a Plan,
    stage: Stage,
    line: Sniffer,
    core: Sniffer,
}

impl<'a> Set<'a> {
    fn build(lab: &'a Lab, plan: &'a Plan, interrupt: &Interrupt) -> anyhow::Result<Self> {
        lab.add_remotes(plan.addresses())?;
        let stage = Stage::open(lab)?;
        let probes =
            [IpAddr::V4(CORE_V4), CORE_V6.into()].map(|ip| SocketAddr::new(ip, PROBE_PORT));
        stage.serve(plan.remotes().into_iter().chain(probes))?;
        rehearse(lab, &stage, &probes, interrupt)?;
        let line = Sniffer::start(&lab.subscribers, LINE, Side::Subscribers)?;
        let core = Sniffer::start(&lab.internet, CORE, Side::Internet)?;
        Ok(Self { lab, plan, stage, line, core })
    }

    fn frames(&self) -> u64 {
        self.line.frames() + self.core.frames()
    }
}

/// Makes sure that every subscriber reaches the Internet side while nothing is in between, so that
/// a loss later on is nobody else's.
fn rehearse(
    lab: &Lab,
    stage: &Stage,
    probes: &[SocketAddr],
    interrupt: &Interrupt,
) -> anyhow::Result<()> {
    let session = |(line, probe): (&lab::Subscriber, &SocketAddr)| Session {
        subscriber: line.clone(),
        remote: *probe,
        transport: Transport::Udp,
        inbound: false,
    };
    let sessions: Vec<_> = lab
        .lines
        .iter()
        .flat_map(|line| probes.iter().map(move |probe| (line, probe)))
        .map(session)
        .collect();
    interrupt.wait_for("every subscriber to reach the Internet side", LONGEST_SETUP, || {
        let outcomes = stage.hold(&sessions)?;
        Ok(outcomes.iter().all(|(_, completed)| *completed).then_some(()))
    })
}

fn configure(home: &Home, lab: &Lab, lists: &Path) -> anyhow::Result<()> {
    let mut config = home.configuration()?;
    let lists = std::path::absolute(lists)?;
    let policy = lists.join(FOLDER_POLICY);
    config.policy = policy.exists().then_some(policy);
    if let Ok(entries) = lists.join(FOLDER_NEVER_BLOCK).read_dir() {
        let mut files: Vec<_> = entries.filter_map(|entry| Some(entry.ok()?.path())).collect();
        files.retain(|file| file.extension().is_some_and(|e| e == "yaml" || e == "yml"));
        files.sort();
        config.never_block.files = files;
    }
    home.furnish(&config, lab)
}

/// Waits until the daemon has made of the lists what they are.
fn live_ruleset(
    client: &Client,
    daemon: &mut Daemon,
    compiled: &Compiled,
    interrupt: &Interrupt,
) -> anyhow::Result<RulesetRow> {
    let (v4, v6) = compiled.table.len();
    let what = format!("the daemon to make {v4} IPv4 and {v6} IPv6 entries live");
    interrupt.wait_for(&what, LONGEST_START, || {
        if let Some(status) = daemon.ended()? {
            bail!("the daemon ended at once ({status})");
        }
        // Until it listens and has a ruleset, its answer is an error.
        let live = client.get::<RulesetRow>("ruleset").ok();
        Ok(live.filter(|live| (live.entries_v4, live.entries_v6) == (v4, v6)))
    })
}

/// The traffic, and what became of it.
fn show(
    set: &Set<'_>,
    client: &Client,
    compiled: &Compiled,
    ruleset: RulesetRow,
    interrupt: &Interrupt,
    progress: &Progress,
) -> anyhow::Result<Report> {
    let plan = set.plan;
    quiet(set, interrupt)?;
    let frames_before = set.line.seen().frames_sent;
    let counters_before = client.counters()?;

    let sessions = [plan.clean_sessions.as_slice(), &plan.blocked_sessions].concat();
    progress.say(&format!(
        "{} subscribers hold {} sessions with {} listed and {} clean remotes",
        set.lab.lines.len(),
        sessions.len(),
        plan.listed.len(),
        plan.clean.len()
    ));
    let outcomes = set.stage.hold(&sessions)?;
    quiet(set, interrupt)?;

    let mut problems = Vec::new();
    progress.say("waiting for the daemon's account");
    let expected = report::blocked(compiled, plan, &set.line.seen(), &set.core.seen());
    let told = interrupt.wait_for("the hits", LONGEST_DRAIN, || {
        let packets: u64 = client.hits()?.iter().map(|hit| hit.packets).sum();
        Ok((packets >= expected).then_some(()))
    });
    if let Err(error) = told {
        interrupt.check()?;
        problems.push(format!("{error:#}"));
    }

    // A late frame may come between the two readings; then they are taken again.
    let mut counters = Vec::new();
    let agreed = interrupt.wait_for("the counters to add up", LONGEST_DRAIN, || {
        counters = since(&counters_before, client.counters()?);
        let frames = set.line.seen().frames_sent - frames_before;
        let counted: u64 =
            counters.iter().filter(|c| c.interface == lab::ACCESS).map(|c| c.packets).sum();
        Ok((frames == counted).then_some(()))
    });
    if let Err(error) = agreed {
        interrupt.check()?;
        problems.push(format!("{error:#} to the frames that were sent"));
    }
    let findings = Findings {
        compiled,
        plan,
        lines: &set.lab.lines,
        outcomes: &outcomes,
        line: &set.line.complete()?,
        core: &set.core.complete()?,
        hits: client.hits()?,
        ruleset,
        counters: &counters,
        problems,
    };
    Ok(findings.report())
}

fn quiet(set: &Set<'_>, interrupt: &Interrupt) -> anyhow::Result<()> {
    interrupt.wait_for_quiet("the cables to be quiet", QUIET, LONGEST_QUIET, || set.frames())
}

fn since(before: &[Counter], now: Vec<Counter>) -> Vec<Counter> {
    let before: BTreeMap<_, _> =
        before.iter().map(|c| ((&*c.interface, &*c.reason), c.packets)).collect();
    now.into_iter()
        .map(|mut counter| {
            let earlier = before.get(&(&*counter.interface, &*counter.reason));
            counter.packets = counter.packets.saturating_sub(earlier.copied().unwrap_or(0));
            counter
        })
        .collect()
}

fn keep(lab: &Lab, home: &Home, progress: &Progress, interrupt: &Interrupt) {
    let edge = lab.edge.path().display();
    progress.note(&format!(
        "Everything keeps running until Ctrl-C. In another terminal:\n\
         \n\
         \x20 nsenter --net={edge} curl -s http://{API}/api/v1/hits\n\
         \x20 nsenter --net={edge} curl -s http://{API}/metrics\n\
         \x20 nsenter --net={} ping {CORE_V4}\n\
         \n\
         The daemon's configuration is {}, its log {}.",
        lab.subscribers.path().display(),
        home.config().display(),
        home.log().display(),
    ));
    while !interrupt.is_raised() {
        std::thread::sleep(Duration::from_millis(100));
    }
    progress.say("cleaning up");
}

fn print(text: &str) -> io::Result<()> {
    let mut out = io::stdout().lock();
    out.write_all(text.as_bytes())?;
    out.flush()
}

/// Lines for whoever waits, on standard error.
struct Progress(Instant);

impl Progress {
    fn begin() -> Self {
        Self(Instant::now())
    }

    fn say(&self, text: &str) {
        self.note(&format!("[{:5.1} s] {text}", self.0.elapsed().as_secs_f64()));
    }

    /// Nobody is left to tell if standard error is closed.
    fn note(&self, text: &str) {
        let _ = writeln!(io::stderr(), "{text}");
    }
}
