//! A source's way through the product itself: a store, a worker's kitchen over it, and tasks as coordinators make them.

#![allow(dead_code)] // Each test program uses its own part of this.

use bytes::Bytes;
use reelmill_media::ids::{AssetId, BlobHash};
use reelmill_media::index::SourceIndex;
use reelmill_media::keys::BlobKind;
use reelmill_media::plan::Plan;
use reelmill_media::profile::Profile;
use reelmill_media::source::{BLOCK_BYTES, Block, Source, SourceRef};
use reelmill_media::task::{Class, Recipe, Task, TaskNumber, Way, Work};
use reelmill_platform::store::Store;
use reelmill_worker::perform::Kitchen;
use reelmill_worker::probe::ready::Encoders;
use reelmill_worker::recipes::Recipes;
use reelmill_worker::source_reader::Blocks;

/// A store in a folder of its own.
pub struct Product {
    _folder: tempfile::TempDir,
    pub store: Store,
}

impl Product {
    pub fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(&format!("file://{}", folder.path().join("store").display())).unwrap();
        Self { _folder: folder, store }
    }

    /// A kitchen whose children may take so much memory, in bytes.
    pub fn kitchen(&self, memory: u64, encoders: Option<Encoders>) -> Kitchen {
        Kitchen {
            blocks: Blocks::new(self.store.clone(), 64 << 20),
            recipes: Recipes::new(self.store.clone()),
            store: self.store.clone(),
            memory,
            encoders,
        }
    }

    /// Plans what was indexed; nothing where it presents nothing.
    pub async fn plan(&self, index: BlobHash, profile: &Profile) -> Option<(Plan, Recipe)> {
        let record = self.store.get_blob(BlobKind::Record, index).await.unwrap();
        let facts: SourceIndex = postcard::from_bytes(record.bytes()).unwrap();
        let plan = Plan::new(&facts, profile, 1).ok()?;
        let record = Bytes::from(postcard::to_stdvec(&plan).unwrap());
        let hash = self.store.put_blob(BlobKind::Record, record).await.unwrap();
        Some((plan, Recipe { index, plan: hash }))
    }
}

/// Puts a source into a store.
pub async fn put_source(store: &Store, bytes: Bytes) -> SourceRef {
    let mut source = Source::default();
    for start in (0..bytes.len()).step_by(BLOCK_BYTES) {
        let block = bytes.slice(start..bytes.len().min(start + BLOCK_BYTES));
        let length = block.len() as u32;
        let hash = store.put_blob(BlobKind::SourceBlock, block).await.unwrap();
        source.blocks.push(Block { hash, bytes: length });
    }
    let list = Bytes::from(serde_json::to_vec(&source).unwrap());
    let blocks = store.put_blob(BlobKind::Record, list).await.unwrap();
    SourceRef { blocks, bytes: bytes.len() as u64 }
}

/// The task of indexing a source.
pub fn index_task(source: SourceRef) -> Task {
    Task {
        asset: AssetId::from_parts(1, 1),
        tenant: "tests".parse().unwrap(),
        number: TaskNumber::INDEX,
        epoch: 1,
        class: Class::Publish,
        source,
        recipe: None,
        work: Work::Index,
        cost_ms: 1000,
        way: Way::Any,
        avoid: Vec::new(),
        race: false,
    }
}
