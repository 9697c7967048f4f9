//! The command line, one command a file.
//!
//! Exit status: 0 when it worked, 1 when it did not, 2 when the command line or a file of the
//! operator's is wrong.

mod breaker;
mod check;
pub(crate) mod columns;
mod compile;
mod daemon;
mod detach;
mod entries;
mod explain;
mod feeds;
mod folder;
mod history;
pub(crate) mod hits;
pub(crate) mod log;
mod mode;
mod overview;
mod preflight;
mod preview;
mod record;
pub(crate) mod run;
mod status;

use std::{
    fmt::Display,
    io::{self, Write as _},
    process::ExitCode,
};

use clap::{Parser, Subcommand};
use serde::Serialize;
use serde_json::Value;

/// ISP-side C&C traffic blocking.
#[derive(Debug, Parser)]
#[command(name = "sekisho", version, propagate_version = true)]
#[command(after_help = "Exit status: 0 it worked, 1 it did not, 2 the command line or a \
                        configuration file is wrong.")]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the daemon; it reads its files again on SIGHUP, and blocks stay when it ends
    Run(run::Args),
    /// Say whether this machine and interfaces are fit, and which command mends what is not
    Preflight(preflight::Args),
    /// Check the configuration and every file that it names
    Check(check::Args),
    /// Compile a folder of lists and say what became of every indicator; needs no rights
    Compile(compile::Args),
    /// Say what happens to traffic of an address, and why
    Explain(explain::Args),
    /// Show what lists did to the traffic of the last days, or what a list would have done
    Preview(preview::Args),
    /// Show entries that too many subscribers met, or decide about one
    Breaker(breaker::Args),
    /// Show the recorded hits: which subscriber called which listed address
    Hits(hits::Args),
    /// Show what the hits of the last days come to: by day, list, action, remote and subscriber
    Overview(overview::Args),
    /// Block an address or network for a time, whatever the feeds say
    Block(entries::BlockArgs),
    /// Let an address or network pass for a time, whatever the feeds say
    Allow(entries::AllowArgs),
    /// Let what feeds say of an address or network count for nothing
    Suppress(entries::SuppressArgs),
    /// Show the operator's own blocks, allows and suppressions, or end one
    Entries(entries::EntriesArgs),
    /// Show how the feeds are, how much they share, what they met, and which lists are held
    Feeds(feeds::Args),
    /// Put the held list of a feed into force
    Accept(feeds::WordArgs),
    /// Drop the held list of a feed
    Reject(feeds::WordArgs),
    /// Show the rulesets that were live: when, why and by whom
    History(history::Args),
    /// Show what changed from one ruleset to another
    Diff(history::DiffArgs),
    /// Make an earlier ruleset live; new lists then wait for `sekisho resume`
    Rollback(history::RollbackArgs),
    /// Let new lists go live again after a rollback
    Resume(history::ResumeArgs),
    /// Show how the daemon and the kernel are
    Status(status::Args),
    /// Show or set the kill switch, for everything, an interface or a list; needs no daemon
    Mode(mode::Args),
    /// Take programs and maps out of the kernel: traffic then flows unguarded
    Detach(detach::Args),
    /// Block real packets to listed addresses on a stage of its own; needs root
    Demo(crate::demo::DemoArgs),
}

/// Why a command ends badly.
#[derive(Debug)]
pub enum Failure {
    /// It could not do its work: exit status 1.
    Failed(String),
    /// The command line or a file of the operator's is wrong: exit status 2.
    Usage(String),
}

impl Failure {
    /// It could not do its work.
    pub fn failed(error: impl Display) -> Self {
        Self::Failed(error.to_string())
    }

    /// The operator said something wrong.
    pub fn usage(error: impl Display) -> Self {
        Self::Usage(error.to_string())
    }
}

/// Runs a command to its end.
pub fn main(cli: Cli) -> ExitCode {
    let outcome = match cli.command {
        Command::Run(args) => run::run(&args),
        Command::Preflight(args) => preflight::run(&args),
        Command::Check(args) => check::run(&args),
        Command::Compile(args) => compile::run(&args),
        Command::Explain(args) => explain::run(&args),
        Command::Preview(args) => preview::run(&args),
        Command::Breaker(args) => breaker::run(&args),
        Command::Hits(args) => hits::run(&args),
        Command::Overview(args) => overview::run(&args),
        Command::Block(args) => entries::block(&args),
        Command::Allow(args) => entries::allow(&args),
        Command::Suppress(args) => entries::suppress(&args),
        Command::Entries(args) => entries::entries(&args),
        Command::Feeds(args) => feeds::run(&args),
        Command::Accept(args) => feeds::accept(&args),
        Command::Reject(args) => feeds::reject(&args),
        Command::History(args) => history::run(&args),
        Command::Diff(args) => history::diff(&args),
        Command::Rollback(args) => history::rollback(&args),
        Command::Resume(args) => history::resume(&args),
        Command::Status(args) => status::run(&args),
        Command::Mode(args) => mode::run(&args),
        Command::Detach(args) => detach::run(&args),
        Command::Demo(args) => {
            crate::demo::run(&args).map_err(|error| Failure::failed(format!("{error:#}")))
        }
    };
    let (text, status) = match outcome {
        Ok(()) => return ExitCode::SUCCESS,
        Err(Failure::Failed(text)) => (text, 1),
        Err(Failure::Usage(text)) => (text, 2),
    };
    // Nobody is left to tell if standard error is closed.
    let _ = writeln!(io::stderr(), "sekisho: {text}");
    ExitCode::from(status)
}

/// Writes to standard output; a reader that went away (`| head`) is no failure.
fn print(text: &str) -> Result<(), Failure> {
    match io::stdout().write_all(text.as_bytes()).and_then(|()| io::stdout().flush()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(Failure::failed(error)),
        _ => Ok(()),
    }
}

fn print_json(value: &impl Serialize) -> Result<(), Failure> {
    let text = serde_json::to_string_pretty(value).map_err(Failure::failed)?;
    print(&format!("{text}\n"))
}

/// A value of the daemon's answer as a word, without what could steer a terminal.
fn plain(value: &Value) -> String {
    match value {
        Value::Null => "-".to_owned(),
        Value::String(text) => text.chars().filter(|c| !c.is_control()).collect(),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }
}
