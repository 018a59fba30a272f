//! A source is a list of content-addressed blocks; a byte range of it is a list of block slices.

use std::ops::Range;

use serde::{Deserialize, Serialize};

use crate::ids::BlobHash;

/// The largest block; an interruption leaves a shorter one.
pub const BLOCK_BYTES: usize = 8 << 20;
/// The first blocks are so long.
const FIRST_BLOCK_BYTES: u64 = 256 << 10;
/// Later ones are no more than one part in so many of what came before: so little may be waited for while an upload runs.
const BLOCKS_PER_DOUBLING: u64 = 32;

/// Where the block that begins at byte `at` of an upload ends. The same bytes have the same blocks, wherever they were
/// interrupted: after an interruption at most one block is shorter.
pub const fn block_end(at: u64) -> u64 {
    let part = at / BLOCKS_PER_DOUBLING;
    let mut bytes = FIRST_BLOCK_BYTES;
    while bytes * 2 <= part && bytes < BLOCK_BYTES as u64 {
        bytes *= 2;
    }
    (at / bytes + 1) * bytes
}

/// The length of a source, in bytes, of which nobody has said where it ends: longer than any.
pub const ENDLESS_BYTES: u64 = 1 << 62;

/// One piece of a source.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Block {
    /// BLAKE3 of the block's bytes.
    pub hash: BlobHash,
    /// Its length in bytes, 1 to [`BLOCK_BYTES`].
    pub bytes: u32,
}

/// The uploaded bytes, in order. While an upload runs, some may be missing between its head and its tail.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Source {
    /// The blocks, first byte first: all of them, or those before what is missing.
    pub blocks: Vec<Block>,
    /// Bytes that are still to come.
    #[serde(default, skip_serializing_if = "is_nothing")]
    pub missing: u64,
    /// The blocks after what is missing.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tail: Vec<Block>,
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde wants it so")]
const fn is_nothing(bytes: &u64) -> bool {
    *bytes == 0
}

fn length(blocks: &[Block]) -> u64 {
    blocks.iter().map(|block| u64::from(block.bytes)).sum()
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
    /// With so many bytes missing between `blocks` and `tail`.
    pub fn with_gap(mut blocks: Vec<Block>, missing: u64, mut tail: Vec<Block>) -> Source {
        if missing == 0 {
            // Whatever way it came, a whole source has one name.
            blocks.append(&mut tail);
        }
        Source { blocks, missing, tail }
    }

    /// Total length in bytes, with those that are still to come.
    pub fn bytes(&self) -> u64 {
        length(&self.blocks) + self.missing + length(&self.tail)
    }

    /// The bytes that are missing, as a range; empty at the end where none are.
    pub fn gap(&self) -> Range<u64> {
        let start = length(&self.blocks);
        start..start + self.missing
    }

    /// The block slices that hold the beginning of `range`, up to what is missing or the source's end.
    pub fn slices(&self, range: Range<u64>) -> Vec<BlockSlice> {
        let gap = self.gap();
        let (blocks, mut at, end) = if range.start < gap.end {
            (&self.blocks, 0, range.end.min(gap.start))
        } else {
            (&self.tail, gap.end, range.end)
        };
        let mut out = Vec::new();
        for block in blocks {
            let block_end = at + u64::from(block.bytes);
            let (from, to) = (range.start.max(at), end.min(block_end));
            if from < to {
                out.push(BlockSlice { block: *block, range: (from - at) as u32..(to - at) as u32 });
            }
            if block_end >= end {
                break;
            }
            at = block_end;
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

    fn blocks(lengths: &[u32]) -> Vec<Block> {
        lengths.iter().map(|&bytes| Block { hash: BlobHash::of(&[]), bytes }).collect()
    }

    proptest! {
        #[test]
        fn blocks_end_at_fixed_places_and_are_a_small_part_of_what_came(at in 0u64..1 << 34, within in 0u64..8 << 20) {
            let end = block_end(at);
            prop_assert!(at < end && end - at <= (at / 32).max(256 << 10).min(BLOCK_BYTES as u64));
            // Whoever goes on in the middle of a block ends it there.
            prop_assert_eq!(block_end(at + within % (end - at)), end);
        }

        #[test]
        fn slices_cover_what_is_there_of_a_range(
            head in prop::collection::vec(1u32..50, 0..20), missing in 0u64..100,
            tail in prop::collection::vec(1u32..50, 0..20), start in 0u64..1200, len in 0u64..600,
        ) {
            let source = Source::with_gap(blocks(&head), missing, blocks(&tail));
            let (gap, total, end) = (source.gap(), source.bytes(), start + len);
            let lengths = |all: &[u32]| all.iter().copied().map(u64::from).sum::<u64>();
            prop_assert_eq!(total, lengths(&head) + missing + lengths(&tail));
            let covered: u64 = source.slices(start..end).iter().map(|s| u64::from(s.range.end - s.range.start)).sum();
            let there = if start < gap.end { end.min(gap.start) } else { end.min(total) };
            prop_assert_eq!(covered, there.saturating_sub(start));
            let text = serde_json::to_string(&source).unwrap();
            prop_assert_eq!(text.contains("missing"), missing > 0);
            prop_assert_eq!(serde_json::from_str::<Source>(&text).unwrap(), source);
        }
    }
}
