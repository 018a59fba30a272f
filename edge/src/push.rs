//! Word that an asset's playlists were written: fresher texts for viewers, and fewer reads of the origin.
//!
//! Such word may be lost, so it never replaces asking again; it lets an edge ask less often for assets that it has
//! lately had word of.

use std::time::{Duration, Instant};

use futures_util::StreamExt;
use moka::sync::Cache;
use reelmill_media::ids::AssetId;
use reelmill_platform::bus::Bus;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use crate::bells::Bells;
use crate::limits::{ANNOUNCED_ASSETS, ANNOUNCED_FOR};

/// Pause before NATS is asked again for what it did not give.
pub(crate) const AGAIN: Duration = Duration::from_secs(1);

/// What was heard of late. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Announcements {
    last: Cache<AssetId, Instant>,
    bus: Option<Bus>,
    /// Rung for each of them.
    pub(crate) bells: Bells,
}

impl Announcements {
    /// Nothing heard yet; without a bus, nothing ever.
    pub(crate) fn new(bus: Option<Bus>, bells: Bells) -> Self {
        let last = Cache::builder().max_capacity(ANNOUNCED_ASSETS).time_to_live(ANNOUNCED_FOR).build();
        Self { last, bus, bells }
    }

    /// When an asset's playlists were last said to be written, as far as that is still of interest.
    pub(crate) fn last(&self, asset: AssetId) -> Option<Instant> {
        self.bus.as_ref().and_then(|_| self.last.get(&asset))
    }

    /// Whether word would come through at this moment.
    pub(crate) fn alive(&self) -> bool {
        self.bus.as_ref().is_some_and(Bus::is_connected)
    }

    /// Listens until `end`.
    pub(crate) async fn listen(self, bus: Bus, end: CancellationToken) {
        let listening = async {
            loop {
                match bus.subscribe_published().await {
                    Ok(published) => {
                        let mut published = std::pin::pin!(published);
                        while let Some(asset) = published.next().await {
                            self.last.insert(asset, Instant::now());
                            self.bells.ring(asset);
                        }
                    }
                    Err(error) => tracing::warn!(%error, "cannot listen for new playlists"),
                }
                sleep(AGAIN).await;
            }
        };
        let _: Option<()> = end.run_until_cancelled(listening).await;
    }
}
