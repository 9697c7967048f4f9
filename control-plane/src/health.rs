//! Whether the daemon does its work, and if not, why.

use serde::Serialize;

/// Whether the daemon does its work.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Health {
    /// Whether it does.
    pub ok: bool,
    /// What is wrong, the worst first; empty if nothing is.
    pub reasons: Vec<String>,
    /// What it leaves undone because it was told to, or because a feed is silent.
    pub degraded: Vec<String>,
}

impl Health {
    /// Healthy if there is no reason against it.
    pub const fn of(reasons: Vec<String>) -> Self {
        Self { ok: reasons.is_empty(), reasons, degraded: Vec::new() }
    }

    /// The same, with what is left undone on purpose.
    pub fn but(self, degraded: Vec<String>) -> Self {
        Self { degraded, ..self }
    }
}
