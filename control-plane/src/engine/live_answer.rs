//! What becomes of an address's traffic at this moment: the ruleset that is read back from the kernel
//! is looked up by the program's own lookup, and the switch and the lease are asked by its own
//! decision.
//!
//! The program itself is not run on the address: for a listed one that would be a hit of nobody's.

use sekisho_abi::{image::Lists, reason::Reason, record::Mode};
use sekisho_rules::{explain::Query, indicator::Protocol};
use sekisho_xdp::decide::decide;
use serde::Serialize;

use super::service::Service;
use crate::dataplane::{DataplaneError, tables::Slots};

/// What is in force for an address.
#[derive(Debug, Serialize)]
pub struct LiveAnswer {
    /// Number of the ruleset in the kernel; `None` before the first.
    pub generation: Option<u32>,
    /// The lists in it that name the address for this traffic.
    pub lists: Vec<String>,
    /// What becomes of a packet, by interface.
    pub interfaces: Vec<InterfaceAnswer>,
}

/// What becomes of a packet on an interface.
#[derive(Debug, Serialize)]
pub struct InterfaceAnswer {
    /// The interface.
    pub name: String,
    /// The reason that it would be counted under, were it neither protected nor opted out.
    pub reason: &'static str,
    /// A full sentence.
    pub text: String,
}

/// Asks the dataplane; blocks.
pub(super) fn ask(service: &Service, query: Query) -> Result<LiveAnswer, DataplaneError> {
    let dataplane = service.dataplane();
    let Query { address, port, protocol } = query;
    let protocols = match (protocol, port) {
        (Some(protocol), _) => vec![protocol.number()],
        (None, Some(_)) => [Protocol::Tcp, Protocol::Udp].map(Protocol::number).to_vec(),
        (None, None) => vec![0],
    };
    let mut lists = Lists::default();
    for protocol in protocols {
        let found = dataplane.ask(address.to_canonical(), protocol, port)?;
        lists.observe |= found.observe;
        lists.drop |= found.drop;
        lists.reject |= found.reject;
        lists.sinkhole |= found.sinkhole;
    }
    let (installed, modes) = (dataplane.installed()?, dataplane.modes()?);
    let answer = |interface: &crate::dataplane::PortStatus| {
        let reason = match modes.of_port(usize::from(interface.slot)) {
            Mode::Bypass => Reason::ModeBypass,
            _ if installed.generation.is_none() => Reason::NoRuleset,
            _ if lists.all() == 0 => Reason::NotListed,
            mode => decide(lists, &modes, mode, || !installed.lease.is_zero()),
        };
        let name = interface.interface.clone();
        let text = match interface.attachment {
            Some(_) => format!("On interface '{name}' it {}.", becomes(reason)),
            None => format!("Interface '{name}' is gone."),
        };
        InterfaceAnswer { name, reason: reason.as_str(), text }
    };
    let slots = Slots::installed(installed.lists.clone(), Vec::new());
    Ok(LiveAnswer {
        generation: installed.generation,
        lists: slots.names_in(lists.all()).into_iter().map(str::to_owned).collect(),
        interfaces: installed.ports.iter().map(answer).collect(),
    })
}

/// What becomes of a packet now, as far as the lists, the switch and the lease decide it.
const fn becomes(reason: Reason) -> &'static str {
    match reason {
        Reason::Dropped => "is dropped now",
        Reason::Rejected => "is rejected now",
        Reason::Sinkholed => "goes to the sinkhole now",
        Reason::ListObserved => "is counted and passes now: its lists only observe",
        Reason::ListBypassed => "passes now: its lists are switched to bypass",
        Reason::ModeObserved => "is counted and passes now: the mode is observe",
        Reason::ModeBypass => "passes now: the mode is bypass",
        Reason::LifetimeOver => "is counted and passes now: the lists are too old",
        Reason::NoRuleset => "passes now: there is no ruleset yet",
        _ => "passes now: the live ruleset does not list it",
    }
}

#[cfg(test)]
mod tests {
    use std::{sync::Arc, time::Duration};

    use jiff::Timestamp;
    use sekisho_abi::record::Modes;

    use super::*;
    use crate::{
        dataplane::{Dataplane as _, fake::FakeDataplane},
        store::Store,
        testing,
    };

    #[test]
    fn the_answer_is_what_the_kernel_holds_under_the_switch_and_the_lease_of_now() {
        let folder = tempfile::tempdir().unwrap();
        let kernel = Arc::new(FakeDataplane::new(8 << 20));
        let store = Store::open(folder.path()).unwrap();
        let service = Service::new(kernel.clone(), store, Timestamp::now());
        let reason = |query: &str| {
            let answer = ask(&service, query.parse().unwrap()).unwrap();
            (answer.interfaces[0].reason, answer.lists)
        };
        assert_eq!(reason("198.18.0.1"), ("no_ruleset", vec![]));
        let rows =
            [("198.18.0.1/32", "one", None, None), ("198.18.0.2/32", "two", Some(443), None)];
        kernel.publish(&testing::image(7, &rows)).unwrap();
        assert_eq!(reason("198.18.0.1"), ("lifetime_over", vec!["one".to_owned()]));
        kernel.renew_lease(Duration::from_secs(60)).unwrap();
        assert_eq!(reason("198.18.0.1").0, "dropped");
        assert_eq!(reason("198.18.0.3").0, "not_listed");
        assert_eq!(reason("198.18.0.2").0, "not_listed", "not for all traffic");
        assert_eq!(reason("198.18.0.2:443"), ("dropped", vec!["two".to_owned()]));
        assert_eq!(reason("198.18.0.2:443/udp").0, "not_listed");
        kernel.change_modes(&mut |modes| modes.observed_lists = 1).unwrap();
        assert_eq!(reason("198.18.0.1").0, "list_observed");
        for (mode, told) in [(Mode::Observe, "mode_observed"), (Mode::Bypass, "mode_bypass")] {
            kernel.change_modes(&mut |modes| *modes = Modes::all(mode)).unwrap();
            assert_eq!(reason("198.18.0.1").0, told);
        }
    }
}
