//! Where names of blobs stand: in the records of NATS, in what is published, and in the lists of blocks that those name.
//! Every hash that stands there counts, whatever it is for.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::io;
use std::pin::pin;

use futures_util::{StreamExt, TryStreamExt, future, stream};
use jiff::Timestamp;
use reelmill_media::ids::{AssetId, BlobHash};
use reelmill_media::keys::{self, BlobKind};
use reelmill_media::presentation::Past;
use reelmill_platform::bus::{Bus, BusError};
use reelmill_platform::kv::Bucket;
use reelmill_platform::named;
use reelmill_platform::store::{Store, StoreError};
use reelmill_platform::topology::BucketName;
use serde::Deserialize;
use serde_json::Value;

use super::marks::Marks;
use crate::archive::{Archive, ArchiveError};
use crate::publish::MAX_PRESENTATION_BYTES;
use crate::state::{Arrival, Asset, StageName};

/// Objects read at once.
const READS_AT_ONCE: usize = 32;
/// A hash under one of these words is that of a record which names more: a list of blocks, or a page of one.
const LISTS: [&str; 3] = ["blocks", "folded", "before"];

/// Why the names are not known.
#[derive(Debug, thiserror::Error)]
pub enum NamesError {
    /// NATS did not answer.
    #[error(transparent)]
    Bus(#[from] BusError),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A record that is kept cannot be read.
    #[error(transparent)]
    Archive(#[from] ArchiveError),
    /// A record in NATS cannot be read.
    #[error("a record cannot be read: {0}")]
    Record(#[from] serde_json::Error),
    /// The names do not fit on the disk.
    #[error("cannot write down what is named: {0}")]
    Disk(#[from] io::Error),
    /// NATS was lost, and the half of it that is there names too little.
    #[error("asset {0} is kept in the store and unknown to NATS: `reelmill rebuild` comes first")]
    NotRebuilt(AssetId),
}

/// All names.
#[derive(Debug)]
pub struct Names {
    /// The blobs.
    pub marks: Marks,
    /// Since when blobs may be stored that only become named when an upload ends.
    pub oldest_upload: Option<Timestamp>,
}

/// Reads all names there are.
///
/// Editions whose place others took before `past_until` name nothing any more, and their playlists go.
pub async fn read(bus: &Bus, store: &Store, past_until: Timestamp) -> Result<Names, NamesError> {
    let mut reading = Reading {
        store,
        past_until,
        marks: Marks::default(),
        lists: BTreeSet::new(),
        read: HashSet::new(),
        oldest: None,
    };
    // Each before what takes its names over: uploads become sources of assets, and outputs are published.
    for bucket in [BucketName::Uploads, BucketName::Outputs, BucketName::Tombstones, BucketName::Purges] {
        reading.read_bucket(bus, bucket).await?;
    }
    let assets = bus.bucket::<Asset>(BucketName::Assets).await?;
    let known = reading.read_assets(&assets).await?;
    reading.read_archive(&assets, &known).await?;
    reading.read_presentations(&assets, &known).await?;
    reading.read_lists().await?;
    Ok(Names { marks: reading.marks, oldest_upload: reading.oldest })
}

struct Reading<'a> {
    store: &'a Store,
    past_until: Timestamp,
    marks: Marks,
    /// Lists that are still to be read.
    lists: BTreeSet<BlobHash>,
    /// Lists that were.
    read: HashSet<BlobHash>,
    oldest: Option<Timestamp>,
}

impl Reading<'_> {
    async fn read_assets(&mut self, bucket: &Bucket<Asset>) -> Result<HashMap<AssetId, bool>, NamesError> {
        let mut texts = pin!(bucket.texts().await?);
        let mut known = HashMap::new();
        while let Some((_, text)) = texts.try_next().await? {
            let asset: Asset = serde_json::from_slice(&text)?;
            known.insert(asset.id, is_published(&asset));
            let receiving = asset.timings.received_at.is_none() && !asset.stage.name().is_final();
            if receiving && asset.upload.arrival == Arrival::Whole {
                let begun = self.oldest.unwrap_or(asset.created_at);
                self.oldest = Some(begun.min(asset.created_at));
            }
            self.note(&text)?;
        }
        Ok(known)
    }

    async fn read_bucket(&mut self, bus: &Bus, name: BucketName) -> Result<(), NamesError> {
        let bucket = bus.bucket::<Value>(name).await?;
        let mut texts = pin!(bucket.texts().await?);
        while let Some((_, text)) = texts.try_next().await? {
            self.note(&text)?;
        }
        Ok(())
    }

    /// Whoever lost NATS has no names there, and everything would be garbage.
    async fn read_archive(
        &mut self,
        bucket: &Bucket<Asset>,
        known: &HashMap<AssetId, bool>,
    ) -> Result<(), NamesError> {
        let archive = Archive::new(self.store.clone());
        let mut kept = pin!(archive.list());
        while let Some(id) = kept.try_next().await? {
            if known.contains_key(&id) || !is_worth_keeping(archive.get(id).await?) {
                continue;
            }
            match bucket.get(&id.to_string()).await? {
                Some((new, _)) => self.note(&serde_json::to_vec(&new)?)?,
                // Unless it was deleted this very moment.
                None if is_worth_keeping(archive.get(id).await?) => return Err(NamesError::NotRebuilt(id)),
                None => {}
            }
        }
        Ok(())
    }

    /// Reads what is published, and takes away what stands of assets that failed: whoever wrote it died before the record.
    async fn read_presentations(
        &mut self,
        bucket: &Bucket<Asset>,
        known: &HashMap<AssetId, bool>,
    ) -> Result<(), NamesError> {
        let store = self.store;
        let listed = store.list(keys::ASSETS);
        let presentations = listed.try_filter_map(|found| {
            let asset = keys::asset_of(&found.key);
            future::ready(Ok(asset.filter(|asset| keys::presentation(*asset) == found.key)))
        });
        let mut texts = pin!(
            presentations
                .map(|asset| async move {
                    let asset = asset?;
                    let key = keys::presentation(asset);
                    Ok::<_, StoreError>((asset, store.get_object(&key, MAX_PRESENTATION_BYTES).await?))
                })
                .buffer_unordered(READS_AT_ONCE)
        );
        while let Some(text) = texts.next().await {
            let (asset, text) = match text {
                Ok(read) => read,
                // It was deleted meanwhile.
                Err(StoreError::NotFound { .. }) => continue,
                Err(error) => return Err(error.into()),
            };
            match known.get(&asset) {
                Some(false) if !is_published_now(bucket, asset).await? => {
                    let mut strays = pin!(store.list(&keys::published(asset)));
                    while let Some(stray) = strays.try_next().await? {
                        store.delete_object(&stray.key).await?;
                    }
                }
                None if known.is_empty() => return Err(NamesError::NotRebuilt(asset)),
                // Whose it is may not be known: it plays.
                Some(_) | None => {
                    self.mark(&text)?;
                    self.read_past(asset, &text).await?;
                }
            }
        }
        Ok(())
    }

    /// Reads earlier editions for those who still watch them, and takes them away when nobody does.
    async fn read_past(&mut self, asset: AssetId, presentation: &[u8]) -> Result<(), NamesError> {
        /// Of a presentation, this alone.
        #[derive(Deserialize)]
        struct Pasts {
            #[serde(default)]
            past: Vec<Past>,
        }
        for Past { edition, playlists } in serde_json::from_slice::<Pasts>(presentation)?.past {
            let key = keys::past(asset, edition);
            let Some(since) = self.store.modified(&key).await? else { continue };
            if since >= self.past_until {
                self.mark(&self.store.get_object(&key, MAX_PRESENTATION_BYTES).await?)?;
                continue;
            }
            for playlist in playlists {
                self.store.delete_object(&format!("{}/{playlist}", keys::published(asset))).await?;
            }
            // Last, since it says what else must go.
            self.store.delete_object(&key).await?;
        }
        Ok(())
    }

    /// Lists name lists, so this goes on until there is no new one.
    async fn read_lists(&mut self) -> Result<(), NamesError> {
        while !self.lists.is_empty() {
            let next: Vec<BlobHash> = std::mem::take(&mut self.lists).into_iter().collect();
            self.read.extend(&next);
            let store = self.store;
            let mut blobs = stream::iter(next)
                .map(|hash| async move { store.get_blob(BlobKind::Record, hash).await })
                .buffer_unordered(READS_AT_ONCE);
            while let Some(blob) = blobs.next().await {
                match blob {
                    Ok(blob) => self.note(blob.bytes())?,
                    // What it named is lost already, or was never whole.
                    Err(StoreError::NotFound { .. } | StoreError::Corrupt(_)) => {}
                    Err(error) => return Err(error.into()),
                }
            }
        }
        Ok(())
    }

    fn mark(&mut self, text: &[u8]) -> io::Result<()> {
        named::blobs(text).try_for_each(|hash| self.marks.add(&hash))
    }

    /// Marks, and takes down which lists are named.
    fn note(&mut self, text: &[u8]) -> Result<(), NamesError> {
        self.mark(text)?;
        self.note_lists(&serde_json::from_slice(text)?);
        Ok(())
    }

    fn note_lists(&mut self, value: &Value) {
        match value {
            Value::Object(fields) => {
                for (name, value) in fields {
                    let hash = value.as_str().filter(|_| LISTS.contains(&name.as_str()));
                    match hash.and_then(|hash| hash.parse().ok()) {
                        Some(list) if self.read.contains(&list) => {}
                        Some(list) => drop(self.lists.insert(list)),
                        None => self.note_lists(value),
                    }
                }
            }
            Value::Array(values) => values.iter().for_each(|value| self.note_lists(value)),
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
        }
    }
}

async fn is_published_now(bucket: &Bucket<Asset>, id: AssetId) -> Result<bool, BusError> {
    Ok(bucket.get(&id.to_string()).await?.is_some_and(|(asset, _)| is_published(&asset)))
}

/// Playlists of it may stand.
const fn is_published(asset: &Asset) -> bool {
    match asset.stage.name() {
        StageName::Uploading
        | StageName::Queued
        | StageName::Indexing
        | StageName::Processing
        | StageName::Ready => true,
        StageName::Failed | StageName::Deleted => false,
    }
}

/// All bytes of it were there.
fn is_worth_keeping(asset: Option<Asset>) -> bool {
    asset.is_some_and(|asset| asset.timings.received_at.is_some())
}
