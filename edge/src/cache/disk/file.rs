//! One blob in one file: its length, the hashes of its groups, then its bytes.
//!
//! The head of a file is an encoded [`HashTree`], or the length alone for what is one group at most. Nothing in a file is
//! believed: the tree proves itself against the file's name, and each group against the tree.

use std::fs::{self, File};
use std::io::{self, BufWriter, Read, Write};
use std::path::Path;

use bytes::BytesMut;
use reelmill_platform::hash_tree::{GROUP_BYTES, HashTree, WrongGroup, WrongTree};
use reelmill_platform::verified::{VerifiedBytes, VerifiedGroup, WrongContent};

use crate::cache::blob::Blob;
use crate::cache::room::{NoRoom, Reservation};

const LENGTH_BYTES: usize = 8;
const ENTRY_BYTES: u64 = 32;

/// Why a file is of no use.
#[derive(Debug, thiserror::Error)]
pub(super) enum FileError {
    /// It is not there.
    #[error("there is no such file")]
    Absent,
    /// It cannot be read.
    #[error("cannot read: {0}")]
    Io(io::Error),
    /// It ends early or goes on too long.
    #[error("its length is not what it says")]
    Torn,
    /// There is no memory for it.
    #[error(transparent)]
    NoRoom(#[from] NoRoom),
    /// Its hashes are not the blob's.
    #[error(transparent)]
    Tree(#[from] WrongTree),
    /// A group is not the blob's.
    #[error(transparent)]
    Group(#[from] WrongGroup),
    /// Its bytes are not the blob's.
    #[error(transparent)]
    Content(#[from] WrongContent),
}

impl From<io::Error> for FileError {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::NotFound => Self::Absent,
            io::ErrorKind::UnexpectedEof => Self::Torn,
            _ => Self::Io(error),
        }
    }
}

/// Size of the file of a blob, in bytes.
pub(super) fn size(blob_bytes: u64) -> u64 {
    let groups = blob_bytes.div_ceil(GROUP_BYTES as u64);
    let entries = if groups > 1 { groups * ENTRY_BYTES } else { 0 };
    LENGTH_BYTES as u64 + entries + blob_bytes
}

/// Writes a blob to `scratch` and moves it to `path`, so that a file is there whole or not at all. It is not synced: a
/// power cut may tear it, and then it is found out when it is read.
pub(super) fn write(blob: &Blob, scratch: &Path, path: &Path) -> Result<(), FileError> {
    let groups: Vec<VerifiedGroup> = blob.groups().clone();
    let mut out = BufWriter::with_capacity(4 * GROUP_BYTES, File::create(scratch)?);
    if groups.len() > 1 {
        // Proves once more what has lain in memory.
        let tree = HashTree::of_groups(blob.hash(), &groups).ok_or(WrongTree(blob.hash()))?;
        out.write_all(&tree.encode())?;
    } else {
        out.write_all(&blob.length().to_le_bytes())?;
    }
    for group in &groups {
        out.write_all(group.bytes())?;
    }
    out.into_inner().map_err(|error| FileError::Io(error.into_error()))?;
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder)?;
    }
    Ok(fs::rename(scratch, path)?)
}

/// Reads a blob into as much memory as `reserve` gives; `found` gets each group as it is proven, and says whether to go on.
pub(super) fn read(
    blob: &Blob,
    path: &Path,
    reserve: impl FnOnce(u64) -> Result<Reservation, NoRoom>,
    mut found: impl FnMut(u64, VerifiedGroup) -> bool,
) -> Result<(), FileError> {
    let mut file = File::open(path)?;
    let file_bytes = file.metadata()?.len();
    let mut head = [0; LENGTH_BYTES];
    file.read_exact(&mut head)?;
    let length = u64::from_le_bytes(head);
    // Compared without arithmetic on a length that may be anything.
    if length > file_bytes || size(length) != file_bytes {
        return Err(FileError::Torn);
    }
    let mut room = reserve(length)?;
    if length <= GROUP_BYTES as u64 {
        let bytes = take(&mut file, usize::try_from(length).map_err(|_| FileError::Torn)?)?;
        let proven = VerifiedBytes::check(blob.hash(), room.hold(bytes))?;
        proven.groups().all(|group| found(length, group));
        return Ok(());
    }
    let tree_bytes = size(length) - length - LENGTH_BYTES as u64;
    let mut encoded = head.to_vec();
    (&mut file).take(tree_bytes).read_to_end(&mut encoded)?;
    let tree = HashTree::decode(blob.hash(), &encoded)?;
    blob.set_tree(&tree);
    let mut index = 0;
    loop {
        let group_length = tree.group_length(index);
        if group_length == 0 {
            return Ok(());
        }
        let group = tree.check(index, room.hold(take(&mut file, group_length)?))?;
        if !found(length, group) {
            return Ok(());
        }
        index += 1;
    }
}

fn take(file: &mut File, length: usize) -> io::Result<bytes::Bytes> {
    let mut bytes = BytesMut::zeroed(length);
    file.read_exact(&mut bytes)?;
    Ok(bytes.freeze())
}
