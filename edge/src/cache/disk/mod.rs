//! Blobs on local disk, below memory: a file each, under the blob's own name.
//!
//! Why plain files and no cache engine such as `foyer`:
//!
//! - A restart has nothing to recover. A lookup opens a file by its name, so the cache is usable at once, while the list
//!   of names (which only eviction needs) is still being read. Engines that pack entries into regions scan these first.
//! - A blob is read group by group, each proven and passed on before the next is read. Engines hand out whole entries,
//!   checked by a checksum of their own, which says nothing about the blob's name.
//! - A takedown is an unlink, at once and for certain; and the kernel's page cache works as it does for any file.
//!
//! The price is a file per blob. Segments are large (hundreds of kilobytes and more), so names are few.

mod file;
mod folder;
mod index;

use std::fs;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::runtime::Handle;
use tokio::sync::{Semaphore, mpsc};
use tokio::task::spawn_blocking;
use tokio_util::sync::CancellationToken;

use self::file::FileError;
pub(crate) use self::folder::Folder;
pub use self::folder::{DiskError, DiskSettings};
use self::index::Index;
use super::blob::Blob;
use super::room::{NoRoom, Room};
use super::{Lookup, MissReason};
use crate::limits::{DISK_READS_AT_ONCE, DISK_WRITES_WAITING};
use crate::metrics::{DiskWrite, Metrics};
use crate::route::PublicBlob;

/// Blobs on disk. Cheap to clone.
#[derive(Debug, Clone)]
pub(super) struct Disk {
    inner: Arc<Inner>,
    writes: mpsc::Sender<Arc<Blob>>,
}

#[derive(Debug)]
struct Inner {
    folder: Folder,
    index: Mutex<Index>,
    reads: Semaphore,
    room: Room,
    metrics: Metrics,
}

/// The other end of a [`Disk`]: what does its slow work.
pub(super) struct Upkeep {
    inner: Arc<Inner>,
    writes: mpsc::Receiver<Arc<Blob>>,
}

impl Disk {
    /// Uses a folder. What an earlier process left is served from now on.
    pub(super) fn open(folder: Folder, room: Room, metrics: Metrics) -> (Disk, Upkeep) {
        let (sender, writes) = mpsc::channel(DISK_WRITES_WAITING);
        let inner = Arc::new(Inner {
            index: Mutex::new(Index::new(folder.capacity_bytes)),
            folder,
            reads: Semaphore::new(DISK_READS_AT_ONCE),
            room,
            metrics,
        });
        (Disk { inner: inner.clone(), writes: sender }, Upkeep { inner, writes })
    }

    /// Reads what is here of a blob; tells why not all of it is.
    pub(super) async fn read(&self, blob: &Arc<Blob>) -> Result<Result<(), MissReason>, NoRoom> {
        let Ok(_slot) = self.inner.reads.acquire().await else { return Ok(Err(MissReason::Cold)) };
        let (inner, blob) = (self.inner.clone(), blob.clone());
        spawn_blocking(move || inner.read(&blob)).await.unwrap_or(Ok(Err(MissReason::Corrupt)))
    }

    /// Takes files away for good. A blob that waits to be written has to be revoked before.
    pub(super) async fn take_down(&self, names: Vec<PublicBlob>) {
        let inner = self.inner.clone();
        let removed = spawn_blocking(move || names.iter().for_each(|name| inner.remove(name)));
        if let Err(error) = removed.await {
            tracing::error!(%error, "cannot remove from the disk cache");
        }
    }

    /// Notes that a blob was asked for and found in memory.
    pub(super) fn touch(&self, name: &PublicBlob) {
        self.inner.index().touch(name);
    }

    /// Writes a whole blob, in its time; when the disk is too slow for that, not at all.
    pub(super) fn write(&self, blob: Arc<Blob>) {
        if self.writes.try_send(blob).is_err() {
            self.inner.metrics.disk_write(DiskWrite::Skipped);
        }
    }
}

impl Upkeep {
    /// Lists what lies here, then writes what comes, until `end`, which comes at the latest when the folder is another
    /// process's.
    pub(super) async fn run(mut self, end: CancellationToken) {
        let (inner, stop) = (self.inner.clone(), end.clone());
        if let Err(error) = spawn_blocking(move || inner.list(&stop)).await {
            tracing::error!(%error, "cannot list the disk cache");
        }
        while let Some(Some(blob)) = end.run_until_cancelled(self.writes.recv()).await {
            let inner = self.inner.clone();
            if let Err(error) = spawn_blocking(move || inner.write(&blob)).await {
                tracing::error!(%error, "cannot write to the disk cache");
            }
        }
    }
}

impl Inner {
    fn index(&self) -> MutexGuard<'_, Index> {
        self.index.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn read(&self, blob: &Blob) -> Result<Result<(), MissReason>, NoRoom> {
        let name = blob.name();
        let mut length = 0;
        // On a thread that may wait.
        let reserve = |bytes| Handle::current().block_on(self.room.reserve(None, bytes));
        let outcome = file::read(blob, &self.folder.path(&name), reserve, |whole, group| {
            length = whole;
            blob.set_source(Lookup::Disk);
            blob.set_length(whole);
            blob.place(group);
            !blob.revoked().is_cancelled()
        });
        let error = match outcome {
            Ok(()) => {
                // It may be a file that is not on the list yet.
                if !self.index().touch(&name) {
                    self.add(name, length);
                }
                return Ok(Ok(()));
            }
            Err(FileError::NoRoom(error)) => return Err(error),
            Err(FileError::Absent) if self.index().has_left(&name) => return Ok(Err(MissReason::Evicted)),
            Err(FileError::Absent) => return Ok(Err(MissReason::Cold)),
            Err(error) => error,
        };
        tracing::warn!(hash = %name.hash(), %error, "dropping a damaged file of the disk cache");
        self.metrics.corrupt_file();
        self.remove(&name);
        Ok(Err(MissReason::Corrupt))
    }

    fn write(&self, blob: &Blob) {
        if blob.revoked().is_cancelled() {
            return;
        }
        let name = blob.name();
        let scratch = self.folder.scratch();
        if let Err(error) = file::write(blob, &scratch, &self.folder.path(&name)) {
            tracing::warn!(hash = %name.hash(), %error, "cannot write to the disk cache");
            self.metrics.disk_write(DiskWrite::Failed);
            // An error means that it was not even created.
            let _ = fs::remove_file(scratch);
            return;
        }
        self.metrics.disk_write(DiskWrite::Stored);
        self.add(name, blob.length());
        // Taken down meanwhile, perhaps before there was a file to remove.
        if blob.revoked().is_cancelled() {
            self.remove(&name);
        }
    }

    fn add(&self, name: PublicBlob, blob_bytes: u64) {
        let gone = self.index().insert(name, file::size(blob_bytes));
        self.unlink_all(gone);
    }

    /// Takes a blob's file away for good.
    fn remove(&self, name: &PublicBlob) {
        self.index().remove(name);
        self.unlink_all(vec![*name]);
    }

    fn unlink_all(&self, names: Vec<PublicBlob>) {
        for name in names {
            match fs::remove_file(self.folder.path(&name)) {
                Ok(()) => {}
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => {
                    tracing::error!(hash = %name.hash(), %error, "cannot remove from the disk cache");
                }
            }
        }
        self.metrics.disk_holds(self.index().bytes());
    }

    /// Takes over what an earlier process left, the oldest first.
    fn list(&self, end: &CancellationToken) {
        let mut found = match self.folder.list(end) {
            Ok(found) => found,
            Err(error) => return tracing::error!(%error, "cannot list the disk cache"),
        };
        found.sort_by_key(|(written, ..)| *written);
        tracing::info!(blobs = found.len(), "disk cache listed");
        for (_, name, bytes) in found {
            let gone = self.index().adopt(name, bytes);
            self.unlink_all(gone);
        }
    }
}
