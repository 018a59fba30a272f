//! The folder of a disk cache: whose it is, and what lies where in it.

use std::collections::VecDeque;
use std::fs::{self, File, TryLockError};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::SystemTime;

use reelmill_media::ids::BlobHash;
use reelmill_media::keys::BlobKind;
use tokio_util::sync::CancellationToken;

use crate::route::PublicBlob;

/// Folder of files that are not whole yet.
const SCRATCH: &str = "scratch";

/// What a disk cache is made with.
#[derive(Debug, Clone)]
pub struct DiskSettings {
    /// Where. Nobody else may use it.
    pub folder: PathBuf,
    /// How much, in bytes.
    pub capacity_bytes: u64,
}

/// Why there is no disk cache.
#[derive(Debug, thiserror::Error)]
pub enum DiskError {
    /// The folder is no use.
    #[error("cannot use {} as disk cache: {source}", .folder.display())]
    Folder {
        /// Which.
        folder: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Another edge is there already.
    #[error("another process uses {} as disk cache", .0.display())]
    InUse(PathBuf),
}

/// A folder that this process may use.
#[derive(Debug)]
pub(crate) struct Folder {
    path: PathBuf,
    pub(super) capacity_bytes: u64,
    scratch_number: AtomicU64,
    /// Held as long as any process uses the folder, however that ends.
    lock: File,
}

impl Folder {
    /// Takes the folder for this process; `handed` is the lock of the process that it takes over from.
    pub(crate) fn claim(settings: &DiskSettings, handed: Option<OwnedFd>) -> Result<Self, DiskError> {
        let path = settings.folder.clone();
        let refuse = |source| DiskError::Folder { folder: path.clone(), source };
        fs::create_dir_all(path.join(SCRATCH)).map_err(refuse)?;
        let lock = match handed {
            // Locked already, and the other one's scratch files may still be written.
            Some(lock) => lock.into(),
            None => {
                let lock = File::create(path.join("lock")).map_err(refuse)?;
                match lock.try_lock() {
                    Ok(()) => {}
                    Err(TryLockError::WouldBlock) => return Err(DiskError::InUse(path)),
                    Err(TryLockError::Error(error)) => return Err(refuse(error)),
                }
                for left in fs::read_dir(path.join(SCRATCH)).map_err(refuse)?.flatten() {
                    fs::remove_file(left.path()).map_err(refuse)?;
                }
                lock
            }
        };
        let scratch_number = AtomicU64::new(0);
        Ok(Self { path, capacity_bytes: settings.capacity_bytes, scratch_number, lock })
    }

    /// Where a blob lies.
    pub(super) fn path(&self, name: &PublicBlob) -> PathBuf {
        let hash = name.hash().to_string();
        self.path.join(&hash[..2]).join(format!("{hash}.{}", name.kind().extension()))
    }

    /// A name for a file that is not whole yet, no other process's.
    pub(super) fn scratch(&self) -> PathBuf {
        let number = self.scratch_number.fetch_add(1, Ordering::Relaxed);
        self.path.join(SCRATCH).join(format!("{}-{number}", std::process::id()))
    }

    /// What lies here: when it was written, its name and its size in bytes. Ends early at `end`.
    pub(super) fn list(&self, end: &CancellationToken) -> io::Result<Vec<(SystemTime, PublicBlob, u64)>> {
        let mut folders: VecDeque<PathBuf> =
            fs::read_dir(&self.path)?.flatten().map(|entry| entry.path()).collect();
        let mut found = Vec::new();
        while let Some(folder) = folders.pop_front().filter(|_| !end.is_cancelled()) {
            // What cannot be listed is no folder of ours.
            for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
                if let (Some(name), Ok(data)) = (name_of(&entry.path()), entry.metadata()) {
                    found.push((data.modified().unwrap_or(SystemTime::UNIX_EPOCH), name, data.len()));
                }
            }
        }
        Ok(found)
    }
}

impl AsFd for Folder {
    /// The lock.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.lock.as_fd()
    }
}

fn name_of(path: &Path) -> Option<PublicBlob> {
    let (hash, extension) = path.file_name()?.to_str()?.split_once('.')?;
    let hash: BlobHash = hash.parse().ok()?;
    PublicBlob::new(hash, BlobKind::from_extension(extension)?)
}
