//! Coordinators make in NATS what edges follow there. An edge that begins before there ever was one has nothing to complain of.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::time::sleep;

/// Pause before NATS is looked at again.
const LOOK_EVERY: Duration = Duration::from_millis(200);

/// Waits for the first coordinator. Cheap to clone: all who wait say so once.
#[derive(Debug, Clone, Default)]
pub(crate) struct FirstCoordinator {
    said: Arc<AtomicBool>,
}

impl FirstCoordinator {
    /// Waits a moment.
    pub(crate) async fn wait(&self) {
        if !self.said.swap(true, Ordering::Relaxed) {
            tracing::info!("no coordinator has been here yet, waiting for the first");
        }
        sleep(LOOK_EVERY).await;
    }
}
