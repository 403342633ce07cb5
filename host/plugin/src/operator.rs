//! The operator's rules for plugins.

use super::{granted::OperatorGrants, signature::Trusted};
use distillery_core::limits::Limits;
use std::{sync::Arc, time::Duration};

/// The operator's rules for every plugin.
#[derive(Clone, Debug, Default)]
pub struct Operator {
    pub limits: Limits,
    /// The longest grace period that a plugin can set.
    pub grace_max: Duration,
    /// The keys that must have signed a plugin; `None` if no signature is required.
    pub trusted: Option<Arc<Trusted>>,
    pub grants: OperatorGrants,
}
