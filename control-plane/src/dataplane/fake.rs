//! A dataplane without a kernel, for tests: it keeps the image and asks it with the real lookup.

use std::{
    net::IpAddr,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use sekisho_abi::{
    image::{self, Image, Lists},
    record::{Mode, Modes},
};

use super::{
    Attachment, Dataplane, DataplaneError, DrainId, Drained, FlowRow, Installed, LedgerCounts,
    OptOuts, PortCounts, PortStatus, RuleTotals,
    canary::{self, Answer, CanaryEvidence},
    evidence::{Depth, Drift, Evidence, ImageFacts, ImageLabel, PortEvidence, PortState},
};

/// A dataplane without a kernel.
#[derive(Debug)]
pub struct FakeDataplane {
    capacity: usize,
    /// Like a flow table's, no other's.
    ledger: u32,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    image: Option<Image>,
    published: u64,
    lease: Duration,
    modes: Modes,
    opt_outs: OptOuts,
    rows: Vec<FlowRow>,
    /// How many of them the last drain gave.
    unsettled: usize,
    drains: u32,
    events: Vec<FlowRow>,
    counts: Vec<PortCounts>,
    rule_totals: Vec<RuleTotals>,
    refusing: bool,
    /// The image that was published, while `image` is the one that is live.
    expected: Option<Image>,
    intact: bool,
    port: PortState,
    lost_pins: Vec<String>,
    switch_holds: bool,
    repairs: Vec<Drift>,
    unrepairable: bool,
    /// Whether the program finds nothing.
    blind: bool,
}

impl FakeDataplane {
    /// Nothing installed, room for an image of this many bytes.
    pub fn new(capacity: usize) -> Self {
        let state = State {
            image: None,
            published: 0,
            lease: Duration::ZERO,
            modes: Modes::all(Mode::Enforce),
            opt_outs: OptOuts::default(),
            rows: Vec::new(),
            unsettled: 0,
            drains: 0,
            events: Vec::new(),
            counts: Vec::new(),
            rule_totals: Vec::new(),
            refusing: false,
            expected: None,
            intact: true,
            port: PortState::Guarded,
            lost_pins: Vec::new(),
            switch_holds: true,
            repairs: Vec::new(),
            unrepairable: false,
            blind: false,
        };
        Self { capacity, ledger: fastrand::u32(1..), state: Mutex::new(state) }
    }

    /// What the next drain brings.
    pub fn push_row(&self, row: FlowRow) {
        self.state().rows.push(row);
    }

    /// What the next look at the ring brings.
    pub fn push_event(&self, event: FlowRow) {
        self.state().events.push(event);
    }

    /// What the counters of the interfaces say from now on.
    pub fn set_counts(&self, counts: Vec<PortCounts>) {
        self.state().counts = counts;
    }

    /// What the totals by rule say from now on, from rule 1 on.
    pub fn set_rule_totals(&self, totals: Vec<RuleTotals>) {
        self.state().rule_totals = totals;
    }

    /// Whether publications are refused from now on.
    pub fn refuse(&self, refusing: bool) {
        self.state().refusing = refusing;
    }

    /// Makes another image live behind everybody's back, or none.
    pub fn swap_image(&self, image: Option<Image>) {
        self.state().image = image;
    }

    /// Whether the bytes of the live image are as they were built.
    pub fn set_intact(&self, intact: bool) {
        self.state().intact = intact;
    }

    /// How the interface stands from now on.
    pub fn set_port(&self, state: PortState) {
        self.state().port = state;
    }

    /// Removes a pin behind everybody's back.
    pub fn lose_pin(&self, path: &str) {
        self.state().lost_pins.push(path.to_owned());
    }

    /// Writes nonsense into the switch.
    pub fn spoil_switch(&self) {
        self.state().switch_holds = false;
    }

    /// Puts a program in the place of ours that finds nothing.
    pub fn blind(&self) {
        self.state().blind = true;
    }

    /// Whether repairs fail from now on.
    pub fn refuse_repairs(&self, refusing: bool) {
        self.state().unrepairable = refusing;
    }

    /// What was repaired or tried to be, in order.
    pub fn repairs(&self) -> Vec<Drift> {
        self.state().repairs.clone()
    }

    /// Who is opted out.
    pub fn opt_outs(&self) -> OptOuts {
        self.state().opt_outs.clone()
    }

    /// How many images were made live.
    pub fn published(&self) -> u64 {
        self.state().published
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn canaries(&self) -> Vec<CanaryEvidence> {
        let Some(image) = &self.image else { return Vec::new() };
        let expected = canary::expected(&self.modes, 0, !self.lease.is_zero());
        let answer = |address| {
            let lists = image::ask(image.bytes(), address, 17, Some(9)).all();
            let is_found = !self.blind && lists == 1 << sekisho_abi::canary::LIST;
            if is_found || expected == Answer::NotAsked { expected } else { Answer::NotFound }
        };
        let evidence = |address| CanaryEvidence {
            interface: "fake0".to_owned(),
            address,
            expected,
            answer: answer(address),
        };
        canary::ADDRESSES.map(evidence).to_vec()
    }
}

impl Dataplane for FakeDataplane {
    fn publish(&self, image: &Image) -> Result<(), DataplaneError> {
        let mut state = self.state();
        if state.refusing {
            return Err(DataplaneError::System {
                call: "bpf(BPF_MAP_UPDATE_ELEM)".to_owned(),
                source: std::io::ErrorKind::OutOfMemory.into(),
            });
        }
        let needed = image.bytes().len();
        if needed > self.capacity {
            return Err(DataplaneError::TooLarge { needed, capacity: self.capacity });
        }
        state.image = Some(image.clone());
        state.expected = Some(image.clone());
        state.intact = true;
        state.published += 1;
        Ok(())
    }

    fn set_opt_outs(&self, opt_outs: &OptOuts) -> Result<(), DataplaneError> {
        opt_outs.image(self.capacity)?;
        self.state().opt_outs = opt_outs.clone();
        Ok(())
    }

    fn installed(&self) -> Result<Installed, DataplaneError> {
        let state = self.state();
        let header = state.image.as_ref().map(Image::header);
        Ok(Installed {
            generation: header.map(|header| header.generation),
            entries_v4: header.map_or(0, |header| header.prefixes_v4),
            entries_v6: header.map_or(0, |header| header.prefixes_v6),
            lists: state
                .image
                .as_ref()
                .map(|image| image::list_names(image.bytes()))
                .unwrap_or_default(),
            rules: state.image.as_ref().map(|image| image.rules().to_vec()).unwrap_or_default(),
            intact: state.intact && state.image.is_some(),
            image_bytes: header.map_or(0, |header| header.bytes),
            image_capacity: self.capacity as u64,
            lease: state.lease,
            ports: vec![PortStatus {
                interface: "fake0".to_owned(),
                slot: 0,
                attachment: Some(Attachment::Native),
            }],
        })
    }

    fn evidence(&self, _: Depth) -> Result<Evidence, DataplaneError> {
        let state = self.state();
        Ok(Evidence {
            expected: state.expected.as_ref().map(facts),
            found: state.image.as_ref().map(facts),
            intact: state.intact,
            ports: vec![PortEvidence { interface: "fake0".to_owned(), state: state.port }],
            lost_pins: state.lost_pins.clone(),
            lost_devices: Vec::new(),
            switch_holds: state.switch_holds,
            opt_outs_hold: true,
            sinkhole_holds: true,
            canaries: state.canaries(),
        })
    }

    fn repair(&self, drift: &Drift) -> Result<(), DataplaneError> {
        let mut state = self.state();
        state.repairs.push(drift.clone());
        if state.unrepairable {
            return Err(DataplaneError::NoXdp {
                name: "fake0".to_owned(),
                reason: "device busy".to_owned(),
            });
        }
        match drift {
            Drift::Pin { path } => state.lost_pins.retain(|lost| lost != path),
            Drift::Interface { .. } | Drift::Link { .. } | Drift::Program { .. } => {
                state.port = PortState::Guarded;
            }
            Drift::Image { .. } => state.image = state.expected.clone(),
            Drift::Canary { .. } => state.blind = false,
            Drift::Switch => state.switch_holds = true,
            Drift::Device { .. }
            | Drift::Ruleset { .. }
            | Drift::Checksum
            | Drift::OptOuts
            | Drift::Sinkhole => {}
        }
        Ok(())
    }

    fn renew_lease(&self, lifetime: Duration) -> Result<(), DataplaneError> {
        self.state().lease = lifetime;
        Ok(())
    }

    fn modes(&self) -> Result<Modes, DataplaneError> {
        Ok(self.state().modes)
    }

    fn change_modes(
        &self,
        change: &mut dyn FnMut(&mut Modes),
    ) -> Result<(Modes, Modes), DataplaneError> {
        let mut state = self.state();
        let before = state.modes;
        change(&mut state.modes);
        Ok((before, state.modes))
    }

    fn drain(&self) -> Result<Drained, DataplaneError> {
        let mut state = self.state();
        if state.unsettled == 0 {
            state.unsettled = state.rows.len();
            state.drains += 1;
        }
        let rows = state.rows[..state.unsettled].to_vec();
        Ok(Drained { id: DrainId { ledger: self.ledger, epoch: state.drains }, rows })
    }

    fn settle(&self, id: DrainId) -> Result<(), DataplaneError> {
        let mut state = self.state();
        if id.epoch == state.drains {
            let settled = std::mem::take(&mut state.unsettled);
            state.rows.drain(..settled);
        }
        Ok(())
    }

    fn counts(&self) -> Result<Vec<PortCounts>, DataplaneError> {
        Ok(self.state().counts.clone())
    }

    fn rule_totals(&self) -> Result<Vec<(Lists, RuleTotals)>, DataplaneError> {
        let state = self.state();
        let rules = state.image.as_ref().map(Image::rules).unwrap_or_default();
        let totals =
            state.rule_totals.iter().copied().chain(std::iter::repeat(RuleTotals::default()));
        Ok(rules.iter().skip(1).copied().zip(totals).collect())
    }

    fn ledger_counts(&self) -> Result<LedgerCounts, DataplaneError> {
        Ok(LedgerCounts::default())
    }

    fn events(&self) -> Result<Vec<FlowRow>, DataplaneError> {
        Ok(std::mem::take(&mut self.state().events))
    }

    fn ask(
        &self,
        remote: IpAddr,
        protocol: u8,
        port: Option<u16>,
    ) -> Result<Lists, DataplaneError> {
        let state = self.state();
        let Some(bytes) = state.image.as_ref().map(Image::bytes) else {
            return Ok(Lists::default());
        };
        Ok(image::ask(bytes, remote, protocol, port))
    }
}

/// The fake has no maps: an image is known by its generation.
fn facts(image: &Image) -> ImageFacts {
    let header = image.header();
    ImageFacts {
        map: header.generation,
        label: Some(ImageLabel {
            generation: header.generation,
            entries_v4: header.prefixes_v4,
            entries_v6: header.prefixes_v6,
            checksum: header.checksum,
        }),
    }
}
