//! The record of a resumable upload. Its size does not grow with the upload.

use jiff::Timestamp;
use reelmill_media::ids::{AssetId, BlobHash, TenantId, UploadId};
use reelmill_media::source::Block;
use serde::{Deserialize, Serialize};

use crate::pulls::Pull;
use crate::state::UPLOAD_EXPIRES_AFTER;

/// Blocks that stand in the record itself before they are folded away.
pub(super) const PAGE_BLOCKS: usize = 128;

/// An upload, as it lies in the bucket `uploads`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct UploadRecord {
    /// What it becomes; nothing by itself where it is part of a concatenation.
    pub asset: Option<AssetId>,
    /// Its place in a concatenation, where it has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub concat: Option<Concat>,
    /// The open final upload that hears of its growth, where it is a part of one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub part_of: Option<UploadId>,
    /// Where we get its bytes ourselves, if its owner does not send them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pull: Option<Pull>,
    /// Whose.
    pub tenant: TenantId,
    /// When it was created.
    pub created_at: Timestamp,
    /// When it was last written to.
    #[serde(default)]
    pub touched_at: Timestamp,
    /// `Upload-Metadata` as the client gave it.
    pub metadata: Option<String>,
    /// Total length in bytes, once it is known.
    pub length: Option<u64>,
    /// The bytes that are durably stored.
    pub blocks: BlockList,
    /// Where it is on its way.
    pub phase: Phase,
    /// The request that wrote this, by a random number: two requests never take each other's write for their own.
    pub writer: u64,
}

/// A place in a concatenation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Concat {
    /// Its bytes are a part of final ones to come.
    Partial,
    /// Its bytes are those of others, in this order.
    Final {
        /// The others.
        of: Vec<UploadId>,
    },
}

/// Where an upload is on its way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// Takes bytes.
    Open,
    /// All bytes are there, and its asset knows.
    Complete,
    /// Terminated by its owner.
    Gone,
}

impl UploadRecord {
    /// All bytes are there.
    pub fn is_full(&self) -> bool {
        self.length == Some(self.blocks.bytes)
    }

    /// When it is given up if no byte comes.
    pub fn expires_at(&self) -> Timestamp {
        self.touched_at.saturating_add(UPLOAD_EXPIRES_AFTER).unwrap_or(Timestamp::MAX)
    }
}

/// A list of blocks of any length in bounded space: all but the last few lie in the store as a chain of pages.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct BlockList {
    /// Total length in bytes.
    pub bytes: u64,
    /// Number of blocks.
    pub count: u32,
    /// The last page, which names the one before it.
    pub folded: Option<BlobHash>,
    /// The blocks after it.
    pub tail: Vec<Block>,
}

/// Part of a block list in the store.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Page {
    /// The page before.
    pub(super) before: Option<BlobHash>,
    /// Its blocks.
    pub(super) blocks: Vec<Block>,
}

impl BlockList {
    /// Adds a block at the end.
    pub fn push(&mut self, block: Block) {
        self.bytes += u64::from(block.bytes);
        self.count = self.count.saturating_add(1);
        self.tail.push(block);
    }

    /// The page that should be folded away now.
    pub(super) fn full_page(&self) -> Option<Page> {
        (self.tail.len() >= PAGE_BLOCKS).then(|| Page { before: self.folded, blocks: self.tail.clone() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use reelmill_platform::store::Store;

    proptest! {
        #![proptest_config(ProptestConfig { cases: 16, ..ProptestConfig::default() })]

        #[test]
        fn lists_of_any_length_fold_and_unfold(lengths in prop::collection::vec(1u32..9, 0..700)) {
            let folder = tempfile::tempdir().unwrap();
            let store = Store::open(&format!("file://{}", folder.path().display())).unwrap();
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            let blocks: Vec<Block> = lengths
                .iter()
                .map(|&bytes| Block { hash: BlobHash::of(&bytes.to_le_bytes()), bytes })
                .collect();
            let mut list = BlockList::default();
            for block in &blocks {
                list.push(*block);
                runtime.block_on(super::super::fold(&store, &mut list)).unwrap();
                prop_assert!(serde_json::to_string(&list).unwrap().len() < 16 << 10);
            }
            prop_assert_eq!(list.count as usize, blocks.len());
            prop_assert_eq!(list.bytes, lengths.iter().map(|b| u64::from(*b)).sum::<u64>());
            prop_assert_eq!(runtime.block_on(super::super::unfold(&store, &list)).unwrap(), blocks);
        }
    }
}
