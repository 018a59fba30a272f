//! An origin in memory that is as slow and as faulty as a test wants it.

use std::collections::VecDeque;
use std::fmt;
use std::ops::Range;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::stream::{self, BoxStream, StreamExt};
use object_store::memory::InMemory;
use object_store::path::Path;
use object_store::{
    CopyOptions, GetOptions, GetResult, GetResultPayload, ListResult, MultipartUpload, ObjectMeta,
    ObjectStore, PutMultipartOptions, PutOptions, PutPayload, PutResult, Result,
};
use reelmill_platform::store::Store;
use tokio::sync::watch;

/// The piece in which bodies of segments come.
const PIECE_BYTES: usize = 10_000;

/// What happens to the next read of a segment.
#[derive(Debug, Clone, Copy)]
pub enum Fault {
    /// None.
    Healthy,
    /// One bit of this byte of the segment is flipped.
    Flip { byte: usize, bit: u8 },
    /// The connection breaks when this many bytes of the segment are through.
    BreakOff { after: usize },
}

#[derive(Debug)]
pub struct Origin {
    inner: InMemory,
    faults: Mutex<VecDeque<Fault>>,
    /// Where reads of segments began.
    reads: Mutex<Vec<u64>>,
    /// How far into each segment the origin goes.
    released: watch::Sender<u64>,
    /// How many other objects were asked for.
    other_reads: AtomicUsize,
    /// Before each segment, in milliseconds.
    delay_ms: AtomicU64,
}

impl Origin {
    pub fn new() -> Arc<Origin> {
        Arc::new(Origin {
            inner: InMemory::new(),
            faults: Mutex::default(),
            reads: Mutex::default(),
            released: watch::Sender::new(u64::MAX),
            other_reads: AtomicUsize::new(0),
            delay_ms: AtomicU64::new(0),
        })
    }

    pub fn store(self: &Arc<Self>) -> Store {
        Store::over(self.clone())
    }

    /// Lets segments out up to this byte.
    pub fn release(&self, bytes: u64) {
        self.released.send_replace(bytes);
    }

    /// The faults of the next reads, one each.
    pub fn plan(&self, faults: impl IntoIterator<Item = Fault>) {
        self.faults.lock().unwrap().extend(faults);
    }

    /// Where reads of segments began so far.
    pub fn reads(&self) -> Vec<u64> {
        self.reads.lock().unwrap().clone()
    }

    /// How many objects that are no segments were asked for so far: playlists, hash trees.
    pub fn other_reads(&self) -> usize {
        self.other_reads.load(Ordering::Relaxed)
    }

    /// How long every read takes to begin from now on.
    pub fn delay(&self, delay: Duration) {
        self.delay_ms.store(delay.as_millis() as u64, Ordering::Relaxed);
    }

    fn body(&self, whole: Bytes, range: Range<u64>, fault: Fault) -> BoxStream<'static, Result<Bytes>> {
        let mut bytes = whole.to_vec();
        if let Fault::Flip { byte, bit } = fault
            && let Some(byte) = byte.checked_sub(range.start as usize).and_then(|at| bytes.get_mut(at))
        {
            *byte ^= 1 << bit;
        }
        let bytes = Bytes::from(bytes);
        let released = self.released.subscribe();
        let start = range.start as usize;
        let pieces = stream::unfold((0, released), move |(at, mut released)| {
            let bytes = bytes.clone();
            async move {
                if let Fault::BreakOff { after } = fault
                    && start + at >= after
                {
                    let source = "broken off".into();
                    let error = object_store::Error::Generic { store: "test", source };
                    return Some((Err(error), (bytes.len(), released)));
                }
                if at >= bytes.len() {
                    return None;
                }
                let end = (at + PIECE_BYTES).min(bytes.len());
                released.wait_for(|to| *to >= (start + end) as u64).await.unwrap();
                Some((Ok(bytes.slice(at..end)), (end, released)))
            }
        });
        pieces.boxed()
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an origin with faults")
    }
}

#[async_trait]
impl ObjectStore for Origin {
    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        tokio::time::sleep(Duration::from_millis(self.delay_ms.load(Ordering::Relaxed))).await;
        let result = self.inner.get_opts(location, options).await?;
        if !location.as_ref().ends_with(".m4s") {
            self.other_reads.fetch_add(1, Ordering::Relaxed);
            return Ok(result);
        }
        self.reads.lock().unwrap().push(result.range.start);
        let fault = self.faults.lock().unwrap().pop_front().unwrap_or(Fault::Healthy);
        let (meta, range, attributes, extensions) =
            (result.meta.clone(), result.range.clone(), result.attributes.clone(), result.extensions.clone());
        let payload = GetResultPayload::Stream(self.body(result.bytes().await?, range.clone(), fault));
        Ok(GetResult { payload, meta, range, attributes, extensions })
    }

    async fn put_opts(&self, location: &Path, payload: PutPayload, opts: PutOptions) -> Result<PutResult> {
        self.inner.put_opts(location, payload, opts).await
    }

    async fn put_multipart_opts(
        &self,
        location: &Path,
        opts: PutMultipartOptions,
    ) -> Result<Box<dyn MultipartUpload>> {
        self.inner.put_multipart_opts(location, opts).await
    }

    fn delete_stream(&self, locations: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        self.inner.delete_stream(locations)
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        self.inner.list(prefix)
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        self.inner.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        self.inner.copy_opts(from, to, options).await
    }
}
