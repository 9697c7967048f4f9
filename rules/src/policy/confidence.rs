//! The least confidence that a feed's claims must have.

use crate::refusal::Why;

/// A claim without confidence passes: most feeds give none.
pub(super) fn check(confidence: Option<u8>, least: u8) -> Option<Why> {
    let confidence = confidence.filter(|&confidence| confidence < least)?;
    Some(Why::LowConfidence { confidence, least })
}
