//! The resources outside the sandbox that a plugin's processes can use: requested by the plugin, granted by the
//! operator or part of the plugin, and opened once. This module knows neither the request nor the grant.

use super::{mounted::Mounted, scratch::ScratchSpace, systems::SystemsReach};
use distillery_command::Command;
use distillery_core::{origin::Origin, secret::Secret};
use std::{collections::BTreeMap, sync::Arc};

/// The resources of a process; none by default.
#[derive(Clone, Debug, Default)]
pub struct Grants {
    pub mounts: Vec<Mounted>,
    /// The origins to which requests can be sent.
    pub http: Arc<[Origin]>,
    /// Variables in addition to those of every process: from the server's environment, and secrets.
    pub env: Vec<(String, Secret)>,
    pub scratch: Option<ScratchSpace>,
    /// The files that the plugin and its interpreter bring along.
    pub files: Vec<Mounted>,
    /// The working directory: the place of one of the directories.
    pub directory: Option<String>,
    /// Whether processes have a small `/dev`.
    pub dev: bool,
    /// The public systems.
    pub systems: Option<SystemsReach>,
    /// Programs of this machine, by the plugin's names for them.
    pub commands: Arc<BTreeMap<String, Arc<Command>>>,
}
