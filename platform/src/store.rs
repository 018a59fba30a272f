//! The object store: blobs under their hash, and the few small mutable objects beside them.

use std::io::SeekFrom;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::stream::BoxStream;
use futures_util::{StreamExt, TryFutureExt, TryStreamExt, stream};
use jiff::Timestamp;
use object_store::local::LocalFileSystem;
use object_store::path::Path;
use object_store::prefix::PrefixStore;
use object_store::{
    GetOptions, GetRange, GetResult, GetResultPayload, ObjectMeta, ObjectStore, ObjectStoreExt,
};
use reelmill_media::ids::BlobHash;
use reelmill_media::keys::{self, BlobKind};
use tokio::io::{AsyncReadExt, AsyncSeekExt};
use tokio_util::io::ReaderStream;
use url::Url;

use crate::hash_tree::HashTree;
use crate::verified::{VerifiedBytes, WrongContent};

/// A single object is moved in less than this, or the attempt has failed.
const DEADLINE: Duration = Duration::from_secs(60);

/// The library ends a request after 30 s unless told otherwise, whatever still comes of its body; ours end by [`DEADLINE`] when
/// nothing comes.
const LONGEST_REQUEST: (&str, &str) = ("timeout", "1day");

/// What the clouds' own tools read. The library would take more, such as `TOKEN` and `REGION`, which may be about anything.
const CLOUD_VARIABLES: [&str; 3] = ["AWS_", "GOOGLE_", "AZURE_"];

/// How much of a local file is read at a time.
const FILE_PIECE_BYTES: usize = 256 << 10;

/// No blob is larger than this, in bytes: what is, was put there by somebody else.
const MAX_BLOB_BYTES: u64 = 512 << 20;

/// Why the store did not do as asked.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The address names no store that is known here.
    #[error("cannot open the object store {url:?}: {reason}")]
    Open {
        /// As configured.
        url: String,
        /// What is wrong with it.
        reason: String,
    },
    /// There is no such object.
    #[error("{key} is not in the object store")]
    NotFound {
        /// The object's key.
        key: String,
    },
    /// The object's bytes are not what its name says.
    #[error(transparent)]
    Corrupt(#[from] WrongContent),
    /// The object is larger than the caller is ready to take.
    #[error("{key} holds {bytes} bytes, more than the {limit} allowed here")]
    TooLarge {
        /// The object's key.
        key: String,
        /// Its length.
        bytes: u64,
        /// The caller's limit.
        limit: u64,
    },
    /// The store did not answer in time.
    #[error("the object store did not answer for {key} within {} s", DEADLINE.as_secs())]
    Deadline {
        /// The object's key.
        key: String,
    },
    /// The store refused or broke.
    #[error("the object store failed for {key}: {source}")]
    Unavailable {
        /// The object's key.
        key: String,
        /// What it said.
        source: object_store::Error,
    },
}

/// An open object store. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Store {
    inner: Arc<dyn ObjectStore>,
}

impl Store {
    /// Opens `file:///folder` (made if absent), `s3://bucket/prefix`, `gs://…` or `az://…`. Credentials and endpoints
    /// of clouds come from their usual environment variables (`AWS_…`, `GOOGLE_…`, `AZURE_…`).
    pub fn open(url: &str) -> Result<Store, StoreError> {
        let refuse = |reason: String| StoreError::Open { url: url.to_owned(), reason };
        let parsed = Url::parse(url).map_err(|e| refuse(e.to_string()))?;
        if parsed.scheme() == "file" {
            let folder: PathBuf =
                parsed.to_file_path().map_err(|()| refuse("not an absolute path".into()))?;
            std::fs::create_dir_all(&folder).map_err(|e| refuse(e.to_string()))?;
            let local = LocalFileSystem::new_with_prefix(&folder).map_err(|e| refuse(e.to_string()))?;
            // What is acknowledged survives a power cut.
            return Ok(Store { inner: Arc::new(local.with_fsync(true)) });
        }
        let said = std::env::vars_os().filter_map(|(key, value)| {
            let (key, value) = (key.into_string().ok()?, value.into_string().ok()?);
            let is_ours = CLOUD_VARIABLES.iter().any(|prefix| key.starts_with(prefix));
            is_ours.then(|| (key.to_ascii_lowercase(), value))
        });
        let (key, value) = LONGEST_REQUEST;
        let options = std::iter::once((key.to_owned(), value.to_owned())).chain(said);
        let (inner, prefix) =
            object_store::parse_url_opts(&parsed, options).map_err(|e| refuse(e.to_string()))?;
        Ok(Store { inner: Arc::new(PrefixStore::new(inner, prefix)) })
    }

    /// A store over one that is open already.
    pub fn over(inner: Arc<dyn ObjectStore>) -> Store {
        Store { inner }
    }

    /// Stores a blob under its hash. Doing it twice is harmless.
    pub async fn put_blob(&self, kind: BlobKind, bytes: Bytes) -> Result<BlobHash, StoreError> {
        let hash = BlobHash::of(&bytes);
        self.put_hashed(kind, hash, bytes).await?;
        Ok(hash)
    }

    /// Stores a blob whose hash was computed while its bytes came in. Beside what viewers get goes its hash tree, so that
    /// an edge can pass on the first bytes before the last ones arrive.
    pub async fn put_hashed(&self, kind: BlobKind, hash: BlobHash, bytes: Bytes) -> Result<(), StoreError> {
        let tree = if kind.public_media_type().is_some() { HashTree::of(hash, &bytes) } else { None };
        let (tree_key, key) = (keys::hash_tree(&hash, kind), keys::blob(&hash, kind));
        let put_tree = async {
            match tree {
                Some(tree) => self.put_object(&tree_key, tree.encode()).await,
                None => Ok(()),
            }
        };
        tokio::try_join!(put_tree, self.put_object(&key, bytes)).map(drop)
    }

    /// Begins to fetch a blob, unproven, from byte `from` on.
    pub async fn open_blob(
        &self,
        kind: BlobKind,
        hash: BlobHash,
        from: u64,
    ) -> Result<ObjectStream, StoreError> {
        let place = keys::blob(&hash, kind);
        for key in looks(&place) {
            match self.open_object(&key, from, MAX_BLOB_BYTES).await {
                Err(StoreError::NotFound { .. }) => {}
                found => return found,
            }
        }
        Err(StoreError::NotFound { key: place })
    }

    /// Begins to fetch any object of at most `limit` bytes, from byte `from` on.
    pub async fn open_object(&self, key: &str, from: u64, limit: u64) -> Result<ObjectStream, StoreError> {
        let range = (from > 0).then_some(GetRange::Offset(from));
        let options = GetOptions { range, ..GetOptions::default() };
        let result = within_deadline(key, self.inner.get_opts(&Path::from(key), options)).await?;
        let (key, length, e_tag) = (key.to_owned(), result.meta.size, result.meta.e_tag.clone());
        if length > limit {
            return Err(StoreError::TooLarge { key, bytes: length, limit });
        }
        Ok(ObjectStream { key, length, e_tag, pieces: pieces(result) })
    }

    /// Fetches a blob and proves it.
    pub async fn get_blob(&self, kind: BlobKind, hash: BlobHash) -> Result<VerifiedBytes, StoreError> {
        let place = keys::blob(&hash, kind);
        for key in looks(&place) {
            match self.get_object(&key, MAX_BLOB_BYTES).await {
                Err(StoreError::NotFound { .. }) => {}
                found => return Ok(VerifiedBytes::check(hash, found?)?),
            }
        }
        Err(StoreError::NotFound { key: place })
    }

    /// Stores a mutable object, replacing what was there at once and whole.
    pub async fn put_object(&self, key: &str, bytes: Bytes) -> Result<(), StoreError> {
        within_deadline(key, self.inner.put(&Path::from(key), bytes.into())).await.map(drop)
    }

    /// Fetches an object of at most `limit` bytes.
    pub async fn get_object(&self, key: &str, limit: u64) -> Result<Bytes, StoreError> {
        let result = within_deadline(key, self.inner.get(&Path::from(key))).await?;
        let bytes = result.meta.size;
        if bytes > limit {
            return Err(StoreError::TooLarge { key: key.to_owned(), bytes, limit });
        }
        within_deadline(key, result.bytes()).await
    }

    /// Removes an object; removing what is not there is a success.
    pub async fn delete_object(&self, key: &str) -> Result<(), StoreError> {
        match within_deadline(key, self.inner.delete(&Path::from(key))).await {
            Ok(()) | Err(StoreError::NotFound { .. }) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Everything below a folder, in no particular order.
    pub fn list(&self, folder: &str) -> BoxStream<'static, Result<Listed, StoreError>> {
        let key = folder.to_owned();
        let listed = self.inner.list(Some(&Path::from(folder)));
        stream::try_unfold((listed, key), async |(mut listed, key)| {
            let next = within_deadline(&key, listed.try_next()).await?;
            Ok(next.map(|meta| (Listed::from(meta), (listed, key))))
        })
        .boxed()
    }

    /// When an object was last put, by the store's clock; `None` where there is none.
    pub async fn modified(&self, key: &str) -> Result<Option<Timestamp>, StoreError> {
        match within_deadline(key, self.inner.head(&Path::from(key))).await {
            Ok(meta) => Ok(Some(Listed::from(meta).modified)),
            Err(StoreError::NotFound { .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Moves an object, over what lies there; one that is gone already is a success. Where stores cannot rename, both may
    /// be there for a moment, never none.
    pub async fn move_object(&self, from: &str, to: &str) -> Result<(), StoreError> {
        let (source, target) = (Path::from(from), Path::from(to));
        match within_deadline(from, self.inner.rename(&source, &target)).await {
            Ok(()) | Err(StoreError::NotFound { .. }) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Whether the store answers at all: asks for an object that need not exist.
    pub async fn check(&self) -> Result<(), StoreError> {
        match within_deadline("health", self.inner.head(&Path::from("health"))).await {
            Ok(_) | Err(StoreError::NotFound { .. }) => Ok(()),
            Err(error) => Err(error),
        }
    }
}

/// An object as a list tells it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listed {
    /// Its key.
    pub key: String,
    /// Its length.
    pub bytes: u64,
    /// When it was last put, by the store's clock.
    pub modified: Timestamp,
}

impl From<ObjectMeta> for Listed {
    fn from(meta: ObjectMeta) -> Listed {
        let modified = Timestamp::from_millisecond(meta.last_modified.timestamp_millis());
        // Out of range is no time that a store has.
        let modified = modified.unwrap_or(Timestamp::MAX);
        Listed { key: meta.location.into(), bytes: meta.size, modified }
    }
}

/// An object on its way.
pub struct ObjectStream {
    key: String,
    length: u64,
    e_tag: Option<String>,
    pieces: BoxStream<'static, object_store::Result<Bytes>>,
}

impl ObjectStream {
    /// Length of the whole object, wherever this stream began.
    pub fn length(&self) -> u64 {
        self.length
    }

    /// Another one means other bytes.
    pub fn e_tag(&self) -> Option<&str> {
        self.e_tag.as_deref()
    }

    /// The next bytes, in pieces of no particular size; `None` at the end.
    pub async fn next(&mut self) -> Result<Option<Bytes>, StoreError> {
        within_deadline(&self.key, self.pieces.try_next()).await
    }
}

/// Where to look for a blob: in its place, in the trash if it was named again while it was taken away, and in its place once more,
/// to which it may have come back between the two.
fn looks(place: &str) -> impl Iterator<Item = String> + use<> {
    [Some(place.to_owned()), keys::in_trash(place), Some(place.to_owned())].into_iter().flatten()
}

fn pieces(result: GetResult) -> BoxStream<'static, object_store::Result<Bytes>> {
    let range = result.range.clone();
    match result.payload {
        // The library's own stream over a file takes 8 KiB per trip to the blocking pool.
        GetResultPayload::File(file, _) => {
            let failed = |e: std::io::Error| object_store::Error::Generic { store: "file", source: e.into() };
            let whole = async move {
                let mut file = tokio::fs::File::from_std(file);
                file.set_max_buf_size(FILE_PIECE_BYTES);
                file.seek(SeekFrom::Start(range.start)).await.map_err(failed)?;
                let file = file.take(range.end - range.start);
                Ok(ReaderStream::with_capacity(file, FILE_PIECE_BYTES).map_err(failed))
            };
            whole.try_flatten_stream().boxed()
        }
        GetResultPayload::Stream(stream) => stream,
    }
}

async fn within_deadline<T>(
    key: &str,
    work: impl Future<Output = object_store::Result<T>>,
) -> Result<T, StoreError> {
    match tokio::time::timeout(DEADLINE, work).await {
        Ok(Ok(done)) => Ok(done),
        Ok(Err(object_store::Error::NotFound { .. })) => Err(StoreError::NotFound { key: key.to_owned() }),
        Ok(Err(source)) => Err(StoreError::Unavailable { key: key.to_owned(), source }),
        Err(_) => Err(StoreError::Deadline { key: key.to_owned() }),
    }
}
