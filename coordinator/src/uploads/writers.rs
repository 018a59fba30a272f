//! Who writes to which upload in this process. The newest connection takes over at once: the one before it may hang on a
//! network that is gone, and would hold the upload until it is given up.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use reelmill_media::ids::UploadId;
use tokio_util::sync::CancellationToken;

/// The one before has gone within this, or is fenced off by its next compare-and-set.
const HANDOVER: Duration = Duration::from_secs(2);

/// All writers of this process. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct Writers {
    writing: Arc<Mutex<HashMap<UploadId, Signals>>>,
}

/// Between a writer and the next one.
#[derive(Debug, Clone, Default)]
struct Signals {
    /// The next one wants it to go.
    go: CancellationToken,
    /// It is gone.
    gone: CancellationToken,
}

/// The right to write to an upload, until another takes over.
#[derive(Debug)]
pub struct Turn {
    id: UploadId,
    signals: Signals,
    writers: Writers,
}

impl Writers {
    /// Sends the present writer away and waits until it is gone.
    pub async fn take_over(&self, id: UploadId) -> Turn {
        let signals = Signals::default();
        let before = self.lock().insert(id, signals.clone());
        let turn = Turn { id, signals, writers: self.clone() };
        if let Some(before) = before {
            before.go.cancel();
            if tokio::time::timeout(HANDOVER, before.gone.cancelled()).await.is_err() {
                tracing::warn!(upload = %id, "the writer before does not go");
            }
        }
        turn
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<UploadId, Signals>> {
        self.writing.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Turn {
    /// Until a newer connection takes over.
    pub async fn is_over(&self) {
        self.signals.go.cancelled().await;
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        let mut writing = self.writers.lock();
        // A newer one stands there when it has sent this one away.
        if !self.signals.go.is_cancelled() {
            writing.remove(&self.id);
        }
        self.signals.gone.cancel();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_newest_writes_alone() {
        let writers = Writers::default();
        let id = UploadId::from_parts(1, 1);
        let first = writers.take_over(id).await;
        let (went, first_gone) = tokio::sync::oneshot::channel();
        let old = tokio::spawn(async move {
            first.is_over().await;
            went.send(()).unwrap();
            drop(first);
        });
        let second = writers.take_over(id).await;
        first_gone.await.unwrap();
        old.await.unwrap();
        assert_eq!(writers.lock().len(), 1);
        assert!(!second.signals.go.is_cancelled());
        drop(second);
        assert!(writers.lock().is_empty(), "who is gone is forgotten");
    }
}
