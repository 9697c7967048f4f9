//! The `sekisho` command.

use std::process::ExitCode;

use clap::Parser as _;

fn main() -> ExitCode {
    sekisho::cli::main(sekisho::cli::Cli::parse())
}
