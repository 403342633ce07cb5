//! Logs what happens to generations.

use super::{
    generation::{Change, What},
    snapshot::Snapshot,
};
use std::time::Duration;

/// Logs what happened to generations. `took` returns the load time of a named plugin; `left` is the number of plugins
/// of the first load still to come.
pub fn report(changes: &[Change], snapshot: &Snapshot, took: impl Fn(&str) -> Option<Duration>, left: Option<usize>) {
    for Change { plugin, generation, what } in changes {
        let ms = took(plugin).map(|took| took.as_millis() as u64);
        let serving = snapshot.plugins().get(plugin).and_then(|state| state.serving.as_ref());
        match (what, serving) {
            (What::Serving { digest }, Some(it)) => tracing::info!(
                plugin,
                generation,
                digest,
                kind = %it.program.kind(),
                calls = it.manifest.calls.len(),
                on_demand = it.program.is_on_demand(),
                ms,
                left,
                "plugin loaded"
            ),
            (What::Retired { processes }, _) => tracing::info!(plugin, generation, processes, "generation retired"),
            (What::Failed { why }, serving) => {
                let serving = serving.map(|plugin| plugin.generation);
                tracing::error!(plugin, generation, error = why, serving, ms, left, "plugin not loaded");
            }
            (What::Removed, _) => tracing::info!(plugin, generation, "plugin removed"),
            // Logged when the failure happens.
            (What::Freed, _) | (What::Serving { .. }, None) => {}
        }
    }
}
