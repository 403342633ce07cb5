//! From listening to ready: waits for the plugins of the start, and tells the service manager, the operator and the log.

use crate::{
    config::Ready,
    health::{Health, Stage},
    plugin::Catalog,
    server::service::Manager,
};
use std::{
    sync::Arc,
    time::{Duration, Instant},
};

/// How much longer than one compilation the service manager waits for the next plugin.
const SPARE: Duration = Duration::from_secs(60);

pub(super) struct Readiness {
    pub catalog: Arc<Catalog>,
    pub ready: Ready,
    pub health: Arc<Health>,
    pub manager: Arc<Manager>,
    /// When the start began.
    pub begun: Instant,
    /// How long the compilation of one module can take.
    pub compile_time: Duration,
}

impl Readiness {
    /// Waits until the server is ready, and says so, unless it drains before.
    pub async fn reach(self) {
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

/// Waits until each plugin of the start is loaded, or known not to load.
pub(super) async fn all_loaded(catalog: &Catalog) {
    // The sender is in the catalog.
    let _ = catalog.loading.progress().wait_for(|progress| progress.is_ready(Ready::All)).await;
}
