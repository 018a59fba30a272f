//! The way of garbage: out of sight, and some time later away. Nothing has to wait for this and nobody is asked: who puts
//! a blob at the moment in which it is moved finds it again, by [`Store::get_blob`] at once and in its place after the next
//! collection, because only what nobody has named since then is removed.

use std::pin::pin;

use bytes::Bytes;
use futures_util::TryStreamExt;
use jiff::Timestamp;
use reelmill_media::keys;
use reelmill_platform::store::{Listed, Store, StoreError};

use super::marks::Named;

/// Objects moved or removed at once.
const AT_ONCE: usize = 16;

/// What was done.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Counts {
    /// Objects among the blobs.
    pub seen: u64,
    /// Of those, objects that nothing names: they are in the trash now.
    pub moved: u64,
    /// Their bytes.
    pub moved_bytes: u64,
    /// Objects that came back from the trash: something names them after all.
    pub restored: u64,
    /// Objects that were removed for good.
    pub removed: u64,
    /// Their bytes.
    pub removed_bytes: u64,
}

impl Counts {
    /// Adds those of another part.
    pub fn add(&mut self, other: Counts) {
        self.seen += other.seen;
        self.moved += other.moved;
        self.moved_bytes += other.moved_bytes;
        self.restored += other.restored;
        self.removed += other.removed;
        self.removed_bytes += other.removed_bytes;
    }
}

/// Until when something must have lain there, by the store's clock.
#[derive(Debug, Clone, Copy)]
pub struct Cutoff {
    /// Blobs put since then may be about to be named.
    pub put: Timestamp,
    /// What was moved to the trash since then may have been named while it was.
    pub moved: Timestamp,
}

/// Collects the blobs whose hash begins with one byte, of which these are named. Can end anywhere and be done again.
pub async fn collect(store: &Store, first: u8, named: &Named, cutoff: Cutoff) -> Result<Counts, StoreError> {
    let mut counts = Counts::default();
    let since = store.modified(&keys::trash_since(first)).await?;
    if since.is_some_and(|since| since > cutoff.moved) {
        return Ok(counts);
    }
    let is_named = |key: &str| keys::hash_of(key).is_some_and(|hash| named.contains(&hash));
    let mut trash = pin!(store.list(&keys::trash_beginning(first)).try_chunks(AT_ONCE).map_err(|e| e.1));
    while let Some(some) = trash.try_next().await? {
        futures_util::future::try_join_all(some.iter().map(|item| empty(store, item, is_named(&item.key))))
            .await?
            .into_iter()
            .for_each(|part| counts.add(part));
    }
    let mut begun = false;
    let mut blobs = pin!(store.list(&keys::blobs_beginning(first)).try_chunks(AT_ONCE).map_err(|e| e.1));
    while let Some(mut some) = blobs.try_next().await? {
        counts.seen += some.len() as u64;
        some.retain(|item| item.modified < cutoff.put && keys::hash_of(&item.key).is_some());
        some.retain(|item| !is_named(&item.key));
        if !some.is_empty() && !begun {
            // Before the first of them, whatever happens then.
            store.put_object(&keys::trash_since(first), Bytes::new()).await?;
            begun = true;
        }
        let moves = some.iter().filter_map(|item| Some((item, keys::in_trash(&item.key)?)));
        futures_util::future::try_join_all(
            moves.map(async |(item, to)| store.move_object(&item.key, &to).await),
        )
        .await?;
        counts.moved += some.len() as u64;
        counts.moved_bytes += some.iter().map(|item| item.bytes).sum::<u64>();
    }
    Ok(counts)
}

/// Takes an object out of the trash: back, if something names it, else for good.
async fn empty(store: &Store, item: &Listed, named: bool) -> Result<Counts, StoreError> {
    let Some(place) = keys::out_of_trash(&item.key) else { return Ok(Counts::default()) };
    if !named {
        store.delete_object(&item.key).await?;
        return Ok(Counts { removed: 1, removed_bytes: item.bytes, ..Counts::default() });
    }
    if store.modified(&place).await?.is_some() {
        // It was put again meanwhile.
        store.delete_object(&item.key).await?;
        return Ok(Counts::default());
    }
    store.move_object(&item.key, &place).await?;
    Ok(Counts { restored: 1, ..Counts::default() })
}
