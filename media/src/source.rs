//! A source is a list of content-addressed blocks; a byte range of it is a list of block slices.

use std::ops::Range;

use serde::{Deserialize, Serialize};

use crate::ids::BlobHash;

/// The size at which uploads are cut into blocks; an interruption leaves a shorter one.
pub const BLOCK_BYTES: usize = 8 << 20;

/// One piece of a source.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Block {
    /// BLAKE3 of the block's bytes.
    pub hash: BlobHash,
    /// Its length in bytes, 1 to [`BLOCK_BYTES`].
    pub bytes: u32,
}

/// The uploaded bytes, in order.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Source {
    /// The blocks, first byte first.
    pub blocks: Vec<Block>,
}

/// Part of one block.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BlockSlice {
    /// The block.
    pub block: Block,
    /// Byte range inside it.
    pub range: Range<u32>,
}

impl Source {
    /// Total length in bytes.
    pub fn bytes(&self) -> u64 {
        self.blocks.iter().map(|b| u64::from(b.bytes)).sum()
    }

    /// The block slices that hold `range`, cut at the source's end.
    pub fn slices(&self, range: Range<u64>) -> Vec<BlockSlice> {
        let mut at = 0u64;
        let mut out = Vec::new();
        for block in &self.blocks {
            let end = at + u64::from(block.bytes);
            let (from, to) = (range.start.max(at), range.end.min(end));
            if from < to {
                out.push(BlockSlice { block: *block, range: (from - at) as u32..(to - at) as u32 });
            }
            if end >= range.end {
                break;
            }
            at = end;
        }
        out
    }
}

/// Names a stored [`Source`]: the blob that holds its block list, and its length.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct SourceRef {
    /// The blob holding the block list as JSON.
    pub blocks: BlobHash,
    /// Total length in bytes.
    pub bytes: u64,
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn slices_cover_the_range_exactly(
            lengths in prop::collection::vec(1u32..50, 0..20), start in 0u64..600, len in 0u64..600,
        ) {
            let source = Source {
                blocks: lengths.iter().map(|&bytes| Block { hash: BlobHash::of(&[]), bytes }).collect(),
            };
            let end = start + len;
            let covered: u64 = source.slices(start..end).iter().map(|s| u64::from(s.range.end - s.range.start)).sum();
            let total = source.bytes();
            prop_assert_eq!(covered, end.min(total).saturating_sub(start.min(total)));
        }
    }
}
