//! Which blobs are named. There may be thousands of millions of names, so they lie on disk, in a file per first byte of the
//! hash, and one file at a time comes to memory.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::fs::File;
use std::io::{self, BufWriter, Read, Seek, SeekFrom, Write};

use reelmill_media::ids::BlobHash;

/// So much of each hash is kept, in bytes. Two that agree so far keep each other: garbage may stay, nothing more may go.
const KEPT: usize = 16;
/// Per file, until it is written.
const BUFFER_BYTES: usize = 4 << 10;

/// Names as they are found, in any order and as often as they come.
#[derive(Debug, Default)]
pub struct Marks {
    /// They have no name on the disk, and go with the process.
    files: BTreeMap<u8, BufWriter<File>>,
}

impl Marks {
    /// This blob is named.
    pub fn add(&mut self, hash: &BlobHash) -> io::Result<()> {
        let digest = hash.digest();
        let file = match self.files.entry(digest[0]) {
            Entry::Occupied(file) => file.into_mut(),
            Entry::Vacant(none) => none.insert(BufWriter::with_capacity(BUFFER_BYTES, tempfile::tempfile()?)),
        };
        file.write_all(&digest[..KEPT])
    }

    /// All names that begin with this byte.
    pub fn beginning(&mut self, first: u8) -> io::Result<Named> {
        let mut bytes = Vec::new();
        if let Some(file) = self.files.get_mut(&first) {
            file.flush()?;
            let file = file.get_mut();
            file.seek(SeekFrom::Start(0))?;
            file.read_to_end(&mut bytes)?;
        }
        let mut names: Vec<[u8; KEPT]> = bytes.as_chunks().0.to_vec();
        names.sort_unstable();
        names.dedup();
        Ok(Named { names })
    }
}

/// The named blobs whose hash begins with one byte.
#[derive(Debug, Default)]
pub struct Named {
    names: Vec<[u8; KEPT]>,
}

impl Named {
    /// Whether this one is among them.
    pub fn contains(&self, hash: &BlobHash) -> bool {
        let name = hash.digest().first_chunk();
        name.is_some_and(|name| self.names.binary_search(name).is_ok())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_marked_is_named_and_nothing_else() {
        let mut marks = Marks::default();
        let hashes: Vec<BlobHash> = (0..5000u32).map(|n| BlobHash::of(&n.to_le_bytes())).collect();
        for hash in hashes.iter().step_by(2).chain(&hashes[..10]).filter(|hash| hash.digest()[0] != 7) {
            marks.add(hash).unwrap();
        }
        let named: Vec<Named> = (0..=u8::MAX).map(|first| marks.beginning(first).unwrap()).collect();
        for (n, hash) in hashes.iter().enumerate() {
            let first = hash.digest()[0];
            let marked = (n % 2 == 0 || n < 10) && first != 7;
            assert_eq!(named[usize::from(first)].contains(hash), marked, "{n}");
        }
    }
}
