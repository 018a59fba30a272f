//! Every blob that anybody holds, by name: the reason why there is one copy and one fill of each.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use reelmill_media::ids::BlobHash;

use super::blob::Blob;
use crate::route::PublicBlob;

/// The blobs that are held by the memory cache, by a fill or by a response. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub(super) struct Live(Arc<Mutex<HashMap<PublicBlob, Weak<Blob>>>>);

/// Whether a blob was there.
pub(super) enum Found {
    /// It was: whole, or on its way.
    Live(Arc<Blob>),
    /// It was not; whoever gets this has to fill it.
    New(Arc<Blob>),
}

impl Live {
    /// The blob of this name, made if there is none of use.
    pub(super) fn find(&self, name: PublicBlob) -> Found {
        let mut map = self.lock();
        let present = map.get(&name).and_then(Weak::upgrade);
        let found = match &present {
            Some(blob) if !blob.is_over() => Found::Live(blob.clone()),
            Some(_) | None => {
                let blob = Arc::new(Blob::new(name, Registration { live: self.clone(), name }));
                map.insert(name, Arc::downgrade(&blob));
                Found::New(blob)
            }
        };
        // The last reference to a blob takes the lock when it goes.
        drop(map);
        drop(present);
        found
    }

    /// The blobs of this hash.
    pub(super) fn of_hash(&self, hash: BlobHash) -> Vec<Arc<Blob>> {
        let names = PublicBlob::all_of(hash);
        let map = self.lock();
        let blobs = names.filter_map(|name| map.get(&name).and_then(Weak::upgrade)).collect();
        drop(map);
        blobs
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<PublicBlob, Weak<Blob>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A blob's place among the live ones, given up with the blob.
#[derive(Debug)]
pub(super) struct Registration {
    live: Live,
    name: PublicBlob,
}

impl Drop for Registration {
    fn drop(&mut self) {
        let mut map = self.live.lock();
        // By now the name may be another blob's.
        if map.get(&self.name).is_some_and(|blob| blob.strong_count() == 0) {
            map.remove(&self.name);
        }
    }
}
