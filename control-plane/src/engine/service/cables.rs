//! Whether anything is at the other ends of the guarded interfaces' cables.

use tracing::{info, warn};

use super::Service;
use crate::{
    config::InterfaceConfig,
    dataplane::carrier::{self, Carrier},
};

/// The cable of a guarded interface.
#[derive(Clone, Debug)]
pub(super) struct Cable {
    interface: String,
    /// Whether its interface is the end of a wire.
    is_wired: bool,
    /// `None` until it was looked at, and while the interface is gone.
    carrier: Option<Carrier>,
}

impl Cable {
    fn new(interface: &InterfaceConfig) -> Self {
        let is_wired = interface.peer.is_some();
        Self { interface: interface.name.clone(), is_wired, carrier: None }
    }

    /// What is wrong with it.
    pub(super) fn trouble(&self) -> Option<String> {
        let what = match self.carrier? {
            Carrier::Present => return None,
            Carrier::Missing => "has no carrier",
            Carrier::SetDown => "is set down",
        };
        let lost = if self.is_wired { ": what its wire should send out of it is lost" } else { "" };
        Some(format!("interface '{}' {what}{lost}", self.interface))
    }

    /// The interface, and whether it has a carrier.
    pub(super) fn sample(&self) -> Option<(String, bool)> {
        Some((self.interface.clone(), self.carrier? == Carrier::Present))
    }

    fn note(&mut self, carrier: Option<Carrier>) {
        let before = std::mem::replace(&mut self.carrier, carrier);
        if before == carrier {
            return;
        }
        match self.trouble() {
            Some(trouble) => warn!("{trouble}"),
            None if carrier == Some(Carrier::Present) && before.is_some() => {
                info!(interface = self.interface, "has a carrier again");
            }
            None => {}
        }
    }
}

impl Service {
    pub(in crate::engine) fn set_cables(&self, interfaces: &[InterfaceConfig]) {
        self.state().cables = interfaces.iter().map(Cable::new).collect();
    }

    /// Looks at every cable; blocks.
    pub(in crate::engine) fn watch_cables(&self) {
        let interfaces: Vec<String> =
            self.state().cables.iter().map(|cable| cable.interface.clone()).collect();
        let read = carrier::read(interfaces.iter().map(String::as_str));
        let mut state = self.state();
        let failure = match read {
            Ok(carriers) => {
                for (cable, carrier) in state.cables.iter_mut().zip(carriers) {
                    cable.note(carrier);
                }
                None
            }
            Err(error) => {
                state.cables.iter_mut().for_each(|cable| cable.carrier = None);
                Some(error.to_string())
            }
        };
        state.cable_error = failure;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Forwarding, Role};

    fn cable(peer: Option<&str>) -> Cable {
        Cable::new(&InterfaceConfig {
            name: "one".to_owned(),
            role: Role::Subscriber,
            forwarding: if peer.is_some() { Forwarding::Wire } else { Forwarding::Kernel },
            peer: peer.map(str::to_owned),
        })
    }

    #[test]
    fn a_wire_loses_what_it_sends_to_an_end_without_a_carrier() {
        let lost = ": what its wire should send out of it is lost";
        for (peer, consequence) in [(None, ""), (Some("two"), lost)] {
            let mut cable = cable(peer);
            assert_eq!((cable.trouble(), cable.sample()), (None, None), "not looked at yet");
            for (carrier, what) in
                [(Carrier::Missing, "has no carrier"), (Carrier::SetDown, "is set down")]
            {
                cable.note(Some(carrier));
                let told = format!("interface 'one' {what}{consequence}");
                assert_eq!(cable.trouble(), Some(told));
                assert_eq!(cable.sample(), Some(("one".to_owned(), false)));
            }
            cable.note(Some(Carrier::Present));
            assert_eq!(cable.trouble(), None);
            assert_eq!(cable.sample(), Some(("one".to_owned(), true)));
            cable.note(None);
            assert_eq!((cable.trouble(), cable.sample()), (None, None), "it is gone");
        }
    }
}
