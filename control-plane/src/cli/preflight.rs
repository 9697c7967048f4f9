//! `sekisho preflight`: is this machine fit, are these interfaces?

use serde::Serialize;

use super::{Failure, columns::Columns, print, print_json};
use crate::preflight::{self, Outcome, Row};

/// Arguments of `sekisho preflight`.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Interfaces to guard; `A=B` for two that are to be the ends of a wire
    #[arg(value_name = "IFACE", required = true, value_parser = subject)]
    interfaces: Vec<Subject>,
    /// The interface that leads to the sinkhole
    #[arg(long, value_name = "IFACE")]
    sinkhole: Option<String>,
    /// Attach nothing, not even for a moment, which resets the link on some drivers
    #[arg(long)]
    no_trial: bool,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Subject {
    Interface(String),
    Wire(String, String),
}

/// What is printed as JSON.
#[derive(Serialize)]
struct Report<'a> {
    fit: bool,
    checks: &'a [Row],
}

/// Fails if anything fails.
pub(super) fn run(args: &Args) -> Result<(), Failure> {
    let (mut interfaces, mut wires) = (Vec::new(), Vec::new());
    for subject in &args.interfaces {
        match subject.clone() {
            Subject::Interface(name) => interfaces.push(name),
            Subject::Wire(a, b) => wires.push((a, b)),
        }
    }
    let facts = preflight::gather(&interfaces, &wires, args.sinkhole.as_deref(), !args.no_trial)
        .map_err(Failure::failed)?;
    let rows = preflight::check(&facts);
    let fit = preflight::is_fit(&rows);
    if args.json {
        print_json(&Report { fit, checks: &rows })?;
    } else {
        print(&text(&rows))?;
    }
    let failed = rows.iter().filter(|row| row.outcome == Outcome::Fail).count();
    if fit {
        Ok(())
    } else {
        Err(Failure::failed(format!("{failed} of {} checks fail", rows.len())))
    }
}

fn subject(text: &str) -> Result<Subject, String> {
    match text.split_once('=') {
        None if !text.is_empty() => Ok(Subject::Interface(text.to_owned())),
        Some((a, b)) if !a.is_empty() && !b.is_empty() => {
            Ok(Subject::Wire(a.to_owned(), b.to_owned()))
        }
        _ => Err("expected an interface, or A=B for the ends of a wire".to_owned()),
    }
}

fn text(rows: &[Row]) -> String {
    let mut columns = Columns::new(&["", "about", "check", "found"]);
    for row in rows {
        columns.row([
            row.outcome.as_str().to_owned(),
            row.about.clone(),
            row.check.as_str().to_owned(),
            row.text.clone(),
        ]);
        if let Some(command) = &row.command {
            columns.row([String::new(), String::new(), String::new(), format!("→ {command}")]);
        }
    }
    columns.render(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::preflight::Topic;

    #[test]
    fn a_subject_is_an_interface_or_a_wire() {
        assert_eq!(subject("eth0"), Ok(Subject::Interface("eth0".to_owned())));
        assert_eq!(subject("a=b"), Ok(Subject::Wire("a".to_owned(), "b".to_owned())));
        for wrong in ["", "=", "a=", "=b"] {
            assert!(subject(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn each_row_is_a_line_and_what_mends_it_stands_below() {
        let row = |outcome, text: &str, command: Option<&str>| Row {
            about: "eth0".to_owned(),
            check: Topic::Mtu,
            outcome,
            text: text.to_owned(),
            command: command.map(str::to_owned),
        };
        let rows = [
            row(Outcome::Pass, "it fits", None),
            row(Outcome::Fail, "it does not", Some("ip link set dev eth0 mtu 1500")),
        ];
        let expected = "      about  check  found\n\
                        pass  eth0   mtu    it fits\n\
                        fail  eth0   mtu    it does not\n                    \
                        → ip link set dev eth0 mtu 1500\n";
        assert_eq!(text(&rows), expected);
    }
}
