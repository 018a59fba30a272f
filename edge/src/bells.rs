//! Whoever holds a request until something changes is told to look again.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use reelmill_media::ids::AssetId;
use tokio::sync::Notify;
use tokio::sync::futures::Notified;

/// A bell for each asset that somebody listens for. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub(crate) struct Bells(Arc<Mutex<HashMap<AssetId, Hung>>>);

#[derive(Debug, Default)]
struct Hung {
    listeners: usize,
    bell: Arc<Notify>,
}

impl Bells {
    /// Listens for an asset's bell.
    pub(crate) fn listen(&self, asset: AssetId) -> Listener {
        let mut hung = self.lock();
        let hung = hung.entry(asset).or_default();
        hung.listeners += 1;
        Listener { bells: self.clone(), asset, bell: hung.bell.clone() }
    }

    /// Something may be different about an asset.
    pub(crate) fn ring(&self, asset: AssetId) {
        if let Some(hung) = self.lock().get(&asset) {
            hung.bell.notify_waiters();
        }
    }

    /// Something may be different about any of them.
    pub(crate) fn ring_all(&self) {
        self.lock().values().for_each(|hung| hung.bell.notify_waiters());
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<AssetId, Hung>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Somebody who listens for a bell.
#[derive(Debug)]
pub(crate) struct Listener {
    bells: Bells,
    asset: AssetId,
    bell: Arc<Notify>,
}

impl Listener {
    /// Completes when the bell rings after this call; whoever looks after the call misses nothing.
    pub(crate) fn rung(&self) -> Notified<'_> {
        self.bell.notified()
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        let mut bells = self.bells.lock();
        if let Some(hung) = bells.get_mut(&self.asset) {
            hung.listeners -= 1;
            if hung.listeners == 0 {
                bells.remove(&self.asset);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;

    #[test]
    fn a_bell_is_heard_by_all_who_listen_for_it_and_hangs_as_long_as_they_do() {
        let bells = Bells::default();
        let (here, elsewhere) = (AssetId::from_parts(1, 1), AssetId::from_parts(1, 2));
        let listeners = [here, here, elsewhere].map(|asset| bells.listen(asset));
        let heard = |ring: &dyn Fn()| {
            let rung: Vec<_> = listeners.iter().map(Listener::rung).collect();
            ring();
            rung.into_iter().map(|rung| rung.now_or_never().is_some()).collect::<Vec<_>>()
        };
        assert_eq!(heard(&|| bells.ring(here)), [true, true, false]);
        assert_eq!(heard(&|| bells.ring_all()), [true, true, true]);
        assert_eq!(heard(&|| {}), [false, false, false], "it has not rung again");
        let left = listeners.map(|listener| {
            drop(listener);
            bells.lock().len()
        });
        assert_eq!(left, [2, 1, 0]);
    }
}
