//! The access of guests to the public systems. This module does not know their storage.

use distillery_core::systems::Directory;
use std::sync::Arc;

/// The granted access to the systems.
#[derive(Clone, Debug)]
pub struct SystemsReach {
    /// `None` if no server runs.
    pub directory: Option<Arc<dyn Directory>>,
    pub write: bool,
}

impl SystemsReach {
    pub(super) fn directory(&self) -> Result<Arc<dyn Directory>, String> {
        self.directory.clone().ok_or_else(|| "there are no systems here: only a server has them".to_owned())
    }
}
