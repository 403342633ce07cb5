//! Waits for the first load of plugins, and reports readiness to the service manager, the operator and the log.

use distillery_config::Ready;
use distillery_http::server::service::Manager;
use distillery_observe::health::{Health, Stage};
use distillery_plugin::Catalog;
use std::{
    sync::Arc,
    time::{Duration, Instant},
};

/// The additional time that the service manager waits for the next plugin, beyond one compilation.
const SPARE: Duration = Duration::from_secs(60);

pub(super) struct Readiness {
    pub catalog: Arc<Catalog>,
    pub ready: Ready,
    pub health: Arc<Health>,
    pub manager: Arc<Manager>,
    /// The time of the start.
    pub begun: Instant,
    /// The maximum compile time of one module.
    pub compile_time: Duration,
}

impl Readiness {
    /// Waits until the server is ready, and reports it unless the server drains first.
    pub async fn report(self) {
        let mut progress = self.catalog.loading.progress();
        let reached = loop {
            let now = *progress.borrow_and_update();
            if now.is_ready(self.ready) {
                break now;
            }
            self.manager.loading(now, self.compile_time + SPARE);
            if progress.changed().await.is_err() {
                return;
            }
        };
        self.health.enter(Stage::Serving);
        if self.health.stage() != Stage::Serving {
            return;
        }
        let ms = self.begun.elapsed().as_millis() as u64;
        tracing::info!(plugins = reached.serving, left = reached.left, ms, "ready");
        self.manager.ready().await;
    }
}

/// Waits until each plugin of the first load is loaded, or known not to load.
pub(super) async fn all_loaded(catalog: &Catalog) {
    // The sender lives as long as the catalog.
    let _ = catalog.loading.progress().wait_for(|progress| progress.is_ready(Ready::All)).await;
}
