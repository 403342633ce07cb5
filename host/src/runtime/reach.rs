//! What the processes of a plugin can reach outside of their sandbox, ready for use: asked for by the plugin, granted by
//! the operator, opened once. Who asked and who granted is not known here.

use super::{files::Mounted, scratch::ScratchSpace, systems::SystemsReach};
use crate::{hidden::Hidden, origin::Origin};
use std::sync::Arc;

/// By default nothing.
#[derive(Clone, Debug, Default)]
pub struct Reach {
    pub mounts: Vec<Mounted>,
    /// Where requests may be sent to.
    pub http: Arc<[Origin]>,
    /// Variables beside those that every process has: of the server's environment, and secrets.
    pub env: Vec<(String, Hidden)>,
    pub scratch: Option<ScratchSpace>,
    /// The public systems.
    pub systems: Option<SystemsReach>,
}
