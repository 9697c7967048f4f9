//! Frames for the programs that this process loaded, as if their interfaces had received them.

use std::{sync::PoisonError, time::Duration};

use aya::programs::{ProgramFd, TestRun, TestRunOptions};

use super::{KernelDataplane, attach, rejected};
use crate::dataplane::{DataplaneError, pins::system};

/// Most bytes by which the program lengthens a frame: an IPv6 and an ICMP header, or 60 bytes.
const LARGEST_GROWTH: usize = 64;

impl KernelDataplane {
    /// Runs the program of an interface once on a frame without sending it anywhere
    /// (`BPF_PROG_TEST_RUN`), counters included. Returns the XDP action and the frame as the program
    /// leaves it.
    pub fn rewrite(&self, interface: &str, frame: &[u8]) -> Result<(u32, Vec<u8>), DataplaneError> {
        let Some((_, program)) = self.programs.iter().find(|(name, _)| name == interface) else {
            return Err(DataplaneError::NoInterface { name: interface.to_owned() });
        };
        let mut program = program.lock().unwrap_or_else(PoisonError::into_inner);
        let mut left = vec![0; frame.len() + LARGEST_GROWTH];
        let options = TestRunOptions {
            data_in: Some(frame),
            data_out: Some(&mut left),
            ..TestRunOptions::default()
        };
        let result =
            attach::xdp(&mut program.ebpf)?.test_run(options).map_err(|error| rejected(&error))?;
        left.truncate(result.data_size_out as usize);
        Ok((result.return_value, left))
    }

    /// How many instructions the verifier had to follow to accept the program of an interface; it
    /// gives up at a million.
    pub fn verified_instructions(&self, interface: &str) -> Result<Option<u32>, DataplaneError> {
        let Some((_, program)) = self.programs.iter().find(|(name, _)| name == interface) else {
            return Err(DataplaneError::NoInterface { name: interface.to_owned() });
        };
        let mut program = program.lock().unwrap_or_else(PoisonError::into_inner);
        let info = attach::xdp(&mut program.ebpf)?.info().map_err(|error| rejected(&error))?;
        Ok(info.verified_instruction_count())
    }

    /// Runs the program of an interface on a frame without sending it anywhere
    /// (`BPF_PROG_TEST_RUN`), `repeat` times, counters included. Returns the XDP action, and how
    /// long a run took on average.
    pub fn test_run(
        &self,
        interface: &str,
        frame: &[u8],
        repeat: u32,
    ) -> Result<(u32, Duration), DataplaneError> {
        let Some((_, program)) = self.programs.iter().find(|(name, _)| name == interface) else {
            return Err(DataplaneError::NoInterface { name: interface.to_owned() });
        };
        let mut program = program.lock().unwrap_or_else(PoisonError::into_inner);
        let program = attach::xdp(&mut program.ebpf)?;
        let options = TestRunOptions { data_in: Some(frame), repeat, ..TestRunOptions::default() };
        let result = program.test_run(options).map_err(|error| rejected(&error))?;
        Ok((result.return_value, result.duration))
    }

    /// The program of an interface, for another program to call.
    pub fn program(&self, interface: &str) -> Result<ProgramFd, DataplaneError> {
        let Some((_, program)) = self.programs.iter().find(|(name, _)| name == interface) else {
            return Err(DataplaneError::NoInterface { name: interface.to_owned() });
        };
        let mut program = program.lock().unwrap_or_else(PoisonError::into_inner);
        let fd = attach::xdp(&mut program.ebpf)?.fd().map_err(|error| rejected(&error))?;
        fd.try_clone().map_err(|error| system("clone a descriptor", error))
    }
}
