//! `sekisho mode`: the kill switch. It writes the pinned map, the daemon alive or dead.

use std::{fmt::Write as _, path::PathBuf};

use sekisho_abi::record::{Mode, Modes};

use super::{Failure, print};
use crate::{
    config::DataplaneConfig,
    dataplane::{
        Dataplane, Installed,
        kernel::{self, KernelDataplane},
        parse_mode,
    },
    engine::status::{InterfaceStatus, ModeStatus},
};

/// Arguments of `sekisho mode`.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// enforce, observe or bypass; without it, only shows what is set
    #[arg(value_parser = parse_mode)]
    mode: Option<Mode>,
    /// Only for this interface; the milder of its mode and the global one applies
    #[arg(long, value_name = "IF", conflicts_with = "list", requires = "mode")]
    interface: Option<String>,
    /// Only for this list; the milder of its mode and the global one applies
    #[arg(long, value_name = "NAME", requires = "mode")]
    list: Option<String>,
    /// Folder of the pinned programs and maps
    #[arg(long, value_name = "DIR", default_value_os_t = DataplaneConfig::default().pin_dir)]
    pin_dir: PathBuf,
}

pub(super) fn run(args: &Args) -> Result<(), Failure> {
    if let (Some(mode), None, None) = (args.mode, &args.interface, &args.list) {
        // The switch for everything must work when much else does not.
        kernel::set_global_mode(&args.pin_dir, mode).map_err(Failure::failed)?;
        let text = KernelDataplane::open(&args.pin_dir)
            .map_err(Failure::failed)
            .and_then(|dataplane| show(&dataplane))
            .unwrap_or_else(|_| format!("now     {}\n", mode.as_str()));
        return print(&text);
    }
    let dataplane = KernelDataplane::open(&args.pin_dir).map_err(Failure::failed)?;
    print(&switch(&dataplane, args)?)
}

/// Sets the switch and says how it was and how it is.
fn switch(dataplane: &dyn Dataplane, args: &Args) -> Result<String, Failure> {
    let installed = dataplane.installed().map_err(Failure::failed)?;
    let Some(mode) = args.mode else { return show(dataplane) };
    let mut changed = Ok(());
    let mut change = |modes: &mut Modes| {
        changed = match (&args.interface, &args.list) {
            (Some(interface), _) => set_interface(modes, &installed, interface, mode),
            (None, Some(list)) => set_list(modes, &installed, list, mode),
            (None, None) => {
                modes.global = mode as u8;
                Ok(())
            }
        };
    };
    let (before, after) = dataplane.change_modes(&mut change).map_err(Failure::failed)?;
    changed?;
    let mut text = String::new();
    describe(&mut text, "before", &before, &installed);
    describe(&mut text, "now", &after, &installed);
    Ok(text)
}

fn show(dataplane: &dyn Dataplane) -> Result<String, Failure> {
    let installed = dataplane.installed().map_err(Failure::failed)?;
    let modes = dataplane.modes().map_err(Failure::failed)?;
    let mut text = String::new();
    describe(&mut text, "now", &modes, &installed);
    Ok(text)
}

fn set_interface(
    modes: &mut Modes,
    installed: &Installed,
    interface: &str,
    mode: Mode,
) -> Result<(), Failure> {
    let port = installed.ports.iter().find(|port| port.interface == interface);
    let slot = port.and_then(|port| modes.ports.get_mut(usize::from(port.slot)));
    let Some(slot) = slot else {
        let known: Vec<&str> = installed.ports.iter().map(|port| port.interface.as_str()).collect();
        return Err(Failure::usage(format!(
            "interface '{interface}' is not under guard; these are: {}",
            known.join(", ")
        )));
    };
    *slot = mode as u8;
    Ok(())
}

fn set_list(
    modes: &mut Modes,
    installed: &Installed,
    list: &str,
    mode: Mode,
) -> Result<(), Failure> {
    let slot = installed.lists.iter().position(|name| name == list && !name.is_empty());
    let Some(slot) = slot else {
        return Err(Failure::usage(format!(
            "list '{list}' is not in the ruleset; these are: {}",
            installed.lists.join(", ")
        )));
    };
    let bit = 1_u64 << slot;
    let set = |set: &mut u64, on: bool| *set = if on { *set | bit } else { *set & !bit };
    set(&mut modes.observed_lists, mode == Mode::Observe);
    set(&mut modes.bypassed_lists, mode == Mode::Bypass);
    Ok(())
}

fn describe(text: &mut String, when: &str, modes: &Modes, installed: &Installed) {
    let ModeStatus { global, observed_lists, bypassed_lists } =
        ModeStatus::of(modes, &installed.lists);
    // Writing to a String can't fail.
    let _ = write!(text, "{when:<7} {global}");
    for interface in InterfaceStatus::all(installed, modes) {
        let _ = write!(text, "; {} {}", interface.name, interface.mode);
    }
    for (lists, mode) in [(observed_lists, "observe"), (bypassed_lists, "bypass")] {
        if !lists.is_empty() {
            let _ = write!(text, "; lists in {mode}: {}", lists.join(", "));
        }
    }
    text.push('\n');
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dataplane::fake::FakeDataplane;

    fn args(mode: Option<&str>, interface: Option<&str>, list: Option<&str>) -> Args {
        Args {
            mode: mode.map(|mode| parse_mode(mode).unwrap()),
            interface: interface.map(str::to_owned),
            list: list.map(str::to_owned),
            pin_dir: PathBuf::new(),
        }
    }

    fn dataplane() -> FakeDataplane {
        let dataplane = FakeDataplane::new(8 << 20);
        dataplane
            .publish(&crate::testing::image(
                1,
                &[("198.18.0.1/32", "a", None, None), ("198.18.0.2/32", "b", None, None)],
            ))
            .unwrap();
        dataplane
    }

    #[test]
    fn the_switch_says_how_it_was_and_how_it_is() {
        let dataplane = dataplane();
        let text = switch(&dataplane, &args(Some("observe"), None, None)).unwrap();
        assert_eq!(text, "before  enforce; fake0 enforce\nnow     observe; fake0 observe\n");
        assert_eq!(dataplane.modes().unwrap().global, Mode::Observe as u8);
    }

    #[test]
    fn without_a_mode_it_only_shows() {
        let dataplane = dataplane();
        let text = switch(&dataplane, &args(None, None, None)).unwrap();
        assert_eq!(text, "now     enforce; fake0 enforce\n");
    }

    #[test]
    fn one_list_is_switched_there_and_back() {
        let dataplane = dataplane();
        switch(&dataplane, &args(Some("bypass"), None, Some("b"))).unwrap();
        assert_eq!(dataplane.modes().unwrap().bypassed_lists, 0b10);
        let text = switch(&dataplane, &args(Some("observe"), None, Some("b"))).unwrap();
        assert!(text.ends_with("now     enforce; fake0 enforce; lists in observe: b\n"), "{text}");
        switch(&dataplane, &args(Some("enforce"), None, Some("b"))).unwrap();
        assert_eq!(dataplane.modes().unwrap(), Modes::all(Mode::Enforce));
    }

    #[test]
    fn one_interface_is_switched() {
        let dataplane = dataplane();
        switch(&dataplane, &args(Some("bypass"), Some("fake0"), None)).unwrap();
        assert_eq!(dataplane.modes().unwrap().of_port(0), Mode::Bypass);
        assert_eq!(dataplane.modes().unwrap().of_port(1), Mode::Enforce);
    }

    #[test]
    fn what_is_not_there_is_named_with_what_is() {
        let dataplane = dataplane();
        let Err(Failure::Usage(text)) = switch(&dataplane, &args(Some("bypass"), None, Some("c")))
        else {
            panic!("expected a refusal");
        };
        assert_eq!(text, "list 'c' is not in the ruleset; these are: a, b");
        let Err(Failure::Usage(text)) =
            switch(&dataplane, &args(Some("bypass"), Some("eth9"), None))
        else {
            panic!("expected a refusal");
        };
        assert_eq!(text, "interface 'eth9' is not under guard; these are: fake0");
    }
}
