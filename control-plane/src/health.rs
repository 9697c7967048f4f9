//! Whether the daemon does its work, and if not, why.

use serde::Serialize;

/// Whether the daemon does its work.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Health {
    /// Whether it does.
    pub ok: bool,
    /// What is wrong, the worst first; empty if nothing is.
    pub reasons: Vec<String>,
}

impl Health {
    /// Healthy if there is no reason against it.
    pub const fn of(reasons: Vec<String>) -> Self {
        Self { ok: reasons.is_empty(), reasons }
    }
}
