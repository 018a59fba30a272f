//! Proving a blob group by group, with nothing trusted but its name.
//!
//! BLAKE3 is a binary tree over chunks of 1 KiB. Its nodes above groups of 64 KiB are a function of the groups' own
//! hashes, and the topmost one is the blob's name. So the list of the groups' hashes proves itself against the name,
//! and then each group against its entry: 32 bytes per 64 KiB, 0.05 %. Smaller groups would waste BLAKE3's width.

use std::sync::Arc;

use blake3::hazmat::{ChainingValue, HasherExt, Mode, merge_subtrees_non_root, merge_subtrees_root};
use bytes::{BufMut, Bytes, BytesMut};
use reelmill_media::ids::BlobHash;

use crate::verified::VerifiedGroup;

/// Bytes of a group, all but the last.
pub const GROUP_BYTES: usize = 64 << 10;

const LENGTH_BYTES: usize = 8;
const ENTRY_BYTES: usize = 32;

/// The hashes of a blob's groups, proven to be of that blob. Cheap to clone.
#[derive(Debug, Clone)]
pub struct HashTree {
    hash: BlobHash,
    length: u64,
    groups: Arc<[ChainingValue]>,
}

/// A hash tree that is not this blob's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("this is not the hash tree of blob {0}")]
pub struct WrongTree(pub BlobHash);

/// A group with other content than its place in the blob asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("group {index} of blob {hash} has other content")]
pub struct WrongGroup {
    /// Whose.
    pub hash: BlobHash,
    /// Which.
    pub index: usize,
}

impl HashTree {
    /// The longest encoding of a tree, for blobs of up to 512 MiB.
    pub const MAX_BYTES: u64 = (LENGTH_BYTES + ENTRY_BYTES * ((512 << 20) / GROUP_BYTES)) as u64;

    /// The tree of a blob with this name and content; `None` for what is one group at most, or has another name: then
    /// only the whole can be proven, or nothing.
    pub fn of(hash: BlobHash, bytes: &[u8]) -> Option<Self> {
        let groups = bytes.chunks(GROUP_BYTES).enumerate().map(|(index, group)| group_hash(index, group));
        Self::proven(hash, bytes.len() as u64, groups.collect())
    }

    /// The tree of a blob whose groups are at hand.
    pub fn of_groups(hash: BlobHash, groups: &[VerifiedGroup]) -> Option<Self> {
        let length = groups.iter().map(|group| group.bytes().len() as u64).sum();
        let hashes = groups.iter().enumerate().map(|(index, group)| group_hash(index, group.bytes()));
        Self::proven(hash, length, hashes.collect())
    }

    /// Reads and proves what [`HashTree::encode`] wrote.
    pub fn decode(hash: BlobHash, encoded: &[u8]) -> Result<Self, WrongTree> {
        let (length, entries) = encoded.split_first_chunk().ok_or(WrongTree(hash))?;
        let (entries, rest) = entries.as_chunks::<ENTRY_BYTES>();
        if !rest.is_empty() {
            return Err(WrongTree(hash));
        }
        Self::proven(hash, u64::from_le_bytes(*length), entries.into()).ok_or(WrongTree(hash))
    }

    /// Length of the blob as 8 bytes, least significant first, then 32 bytes per group.
    pub fn encode(&self) -> Bytes {
        let mut encoded = BytesMut::with_capacity(self.encoded_len());
        encoded.put_u64_le(self.length);
        self.groups.iter().for_each(|entry| encoded.put_slice(entry));
        encoded.freeze()
    }

    /// How long [`HashTree::encode`]'s result is.
    pub fn encoded_len(&self) -> usize {
        LENGTH_BYTES + ENTRY_BYTES * self.groups.len()
    }

    fn proven(hash: BlobHash, length: u64, groups: Arc<[ChainingValue]>) -> Option<Self> {
        let fits = groups.len() > 1 && length.div_ceil(GROUP_BYTES as u64) == groups.len() as u64;
        if !fits {
            return None;
        }
        let (left, right) = groups.split_at(left_groups(groups.len()));
        let root = merge_subtrees_root(&merged(left), &merged(right), Mode::Hash);
        (BlobHash::from_digest(*root.as_bytes()) == hash).then_some(Self { hash, length, groups })
    }

    /// Length of the blob. Each full group vouches for its own length, so a wrong number here makes the last one fail.
    pub fn length(&self) -> u64 {
        self.length
    }

    /// Proves one group.
    pub fn check(&self, index: usize, bytes: Bytes) -> Result<VerifiedGroup, WrongGroup> {
        let right_length = self.group_length(index) == bytes.len();
        if right_length && self.groups.get(index) == Some(&group_hash(index, &bytes)) {
            Ok(VerifiedGroup::proven(self.hash, index, bytes))
        } else {
            Err(WrongGroup { hash: self.hash, index })
        }
    }

    /// How long a group is; 0 past the last one.
    pub fn group_length(&self, index: usize) -> usize {
        let rest = self.length.saturating_sub(index as u64 * GROUP_BYTES as u64);
        usize::try_from(rest).unwrap_or(usize::MAX).min(GROUP_BYTES)
    }
}

fn group_hash(index: usize, bytes: &[u8]) -> ChainingValue {
    let mut hasher = blake3::Hasher::new();
    hasher.set_input_offset(index as u64 * GROUP_BYTES as u64);
    hasher.update(bytes).finalize_non_root()
}

/// A left subtree is the largest full one that leaves something for the right.
fn left_groups(count: usize) -> usize {
    count.next_power_of_two() / 2
}

fn merged(groups: &[ChainingValue]) -> ChainingValue {
    match groups {
        [only] => *only,
        several => {
            let (left, right) = several.split_at(left_groups(several.len()));
            merge_subtrees_non_root(&merged(left), &merged(right), Mode::Hash)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn content(length: usize) -> Bytes {
        (0..length).map(|i| (i * 31 / 7 % 251) as u8).collect()
    }

    #[test]
    fn every_group_of_every_shape_proves_itself_and_nothing_else_does() {
        for length in [65_537, 131_072, 131_073, 200_000, 3 * 65_536, 5 * 65_536 + 1, 1 << 20, 1_000_001] {
            let bytes = content(length);
            let hash = BlobHash::of(&bytes);
            let made = HashTree::of(hash, &bytes).unwrap();
            let tree = HashTree::decode(hash, &made.encode()).unwrap();
            assert_eq!((tree.length(), made.encode().len()), (length as u64, made.encoded_len()));
            for (index, group) in bytes.chunks(GROUP_BYTES).enumerate() {
                let group = bytes.slice_ref(group);
                assert_eq!(tree.check(index, group.clone()).unwrap().bytes(), &group);
                assert!(tree.check(index + 1, group.clone()).is_err());
                assert!(tree.check(index, group.slice(1..)).is_err());
                let mut flipped = group.to_vec();
                flipped[group.len() / 2] ^= 1;
                assert_eq!(tree.check(index, flipped.into()).unwrap_err(), WrongGroup { hash, index });
            }
        }
    }

    #[test]
    fn a_tree_is_proven_before_it_proves_anything() {
        let bytes = content(300_000);
        let hash = BlobHash::of(&bytes);
        let encoded = HashTree::of(hash, &bytes).unwrap().encode();
        for bit in 0..encoded.len() * 8 {
            let mut flipped = encoded.to_vec();
            flipped[bit / 8] ^= 1 << (bit % 8);
            // A length that needs the same number of groups is found out by the last group.
            if let Ok(tree) = HashTree::decode(hash, &flipped) {
                assert!(bit < 64 && tree.check(4, bytes.slice(4 * GROUP_BYTES..)).is_err());
            }
        }
        assert!(HashTree::decode(hash, &encoded[..encoded.len() - 1]).is_err());
        assert!(HashTree::decode(hash, &[]).is_err());
        assert!(HashTree::decode(BlobHash::of(b"else"), &encoded).is_err());
    }

    #[test]
    fn what_fits_in_one_group_has_no_tree() {
        for length in [0, 1, GROUP_BYTES] {
            let bytes = content(length);
            assert!(HashTree::of(BlobHash::of(&bytes), &bytes).is_none());
        }
        let bytes = content(100_000);
        assert!(HashTree::of(BlobHash::of(b"else"), &bytes).is_none());
    }
}
