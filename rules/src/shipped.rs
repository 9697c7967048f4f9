//! The catalogue, the policy and the never-block lists that come with the program.

use crate::{
    catalogue::Catalogue,
    policy::{NeverBlock, Policy},
    yaml::YamlError,
};

/// The catalogue of known feeds.
pub fn catalogue() -> Result<Catalogue, YamlError> {
    Ok(Catalogue::default())
}

/// The policy for whoever sets none.
pub fn policy() -> Result<Policy, YamlError> {
    Ok(Policy::default())
}

/// The never-block lists.
pub fn never_block() -> Result<Vec<NeverBlock>, YamlError> {
    Ok(Vec::new())
}
