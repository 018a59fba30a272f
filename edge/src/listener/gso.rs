//! Whether the kernel still cuts packets for us, which it may cease to do at any time.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::sleep;

use super::shared_port::SharedPort;
use crate::metrics::{Protocol, QuicMetrics};
use crate::upgrade::Port;

/// How often it is looked.
const LOOK: Duration = Duration::from_secs(5);

/// Tells of all ports what it is like there, for ever.
pub(crate) async fn watch(ports: Vec<(Port, Arc<SharedPort>)>, metrics: QuicMetrics) {
    loop {
        for (port, shared) in &ports {
            let protocol = match port {
                Port::Viewers => Protocol::Http3,
                Port::Peers => Protocol::Peer,
            };
            metrics.gso(protocol, shared.gso_segments());
        }
        sleep(LOOK).await;
    }
}
