//! From a request's body to stored blocks, in bounded memory: one block is filled while those before it are stored, which
//! together are no longer than the longest.

use std::pin::Pin;
use std::time::{Duration, Instant};

use axum::body::Body;
use bytes::{Bytes, BytesMut};
use futures_util::stream::{FuturesOrdered, StreamExt};
use http_body_util::BodyExt;
use reelmill_media::ids::BlobHash;
use reelmill_media::keys::BlobKind;
use reelmill_media::source::{BLOCK_BYTES, Block, block_end};
use reelmill_platform::store::{Store, StoreError};
use tokio_util::sync::CancellationToken;

use super::Checksum;

/// A body without a byte for so long is taken for dead.
const IDLE_LIMIT: Duration = Duration::from_secs(60);
/// When this process drains, bytes that are on their way are taken for so long.
const LAST_BYTES: Duration = Duration::from_millis(100);
/// News of received bytes come at most this often.
const NEWS_EVERY: Duration = Duration::from_millis(500);
/// Short blocks are stored side by side: each waits for a disk or a network.
const PUTS_AT_ONCE: usize = 8;
/// A buffer starts with this and grows to a block: small uploads stay small.
const FIRST_CAPACITY: usize = 64 << 10;

/// How a body ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// As its sender meant it.
    Whole,
    /// The connection broke, or the body was not well-formed.
    Cut,
    /// Nothing came for too long.
    Idle,
    /// More came than may.
    TooLong,
    /// All bytes came, and they are not the ones that their checksum means.
    Wrong,
    /// This process drains.
    Draining,
}

/// What happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Event {
    /// Bytes have come in; so many are there in all, though not yet durable.
    Received(u64),
    /// The next block is durably stored.
    Stored(Block),
    /// No more will come.
    Ended(End),
}

/// What becomes of the bytes of a last block that a cut left unfinished.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnCut {
    /// They are stored: the upload can go on from there.
    Keep,
    /// They are dropped: the upload is lost.
    Drop,
}

type Put = Pin<Box<dyn Future<Output = Result<Block, StoreError>> + Send>>;

/// Reads a body as stored blocks.
pub struct BlockReader {
    body: Body,
    store: Store,
    stop: CancellationToken,
    on_cut: OnCut,
    /// Where in the upload the block being filled begins.
    at: u64,
    /// Bytes that may still come.
    room: u64,
    /// When `stop` was noticed.
    stopped_at: Option<Instant>,
    received: u64,
    /// Received, but beyond the block being filled.
    rest: Bytes,
    block: BytesMut,
    hasher: blake3::Hasher,
    /// Of all bytes of the body.
    checksum: Option<Checksum>,
    puts: FuturesOrdered<Put>,
    /// Bytes that they store.
    unstored: usize,
    end: Option<End>,
    told_at: Instant,
    told: u64,
}

impl BlockReader {
    /// Takes at most `limit` bytes of `body`, which belong at byte `at` of the upload, until `stop`.
    pub fn new(
        body: Body,
        store: Store,
        at: u64,
        limit: u64,
        on_cut: OnCut,
        stop: CancellationToken,
    ) -> Self {
        Self {
            body,
            store,
            stop,
            on_cut,
            at,
            room: limit,
            stopped_at: None,
            received: 0,
            rest: Bytes::new(),
            block: BytesMut::new(),
            hasher: blake3::Hasher::new(),
            checksum: None,
            puts: FuturesOrdered::new(),
            unstored: 0,
            end: None,
            told_at: Instant::now(),
            told: 0,
        }
    }

    /// The same, and the body must be what its sender meant.
    pub fn checked(self, checksum: Option<Checksum>) -> Self {
        Self { checksum, ..self }
    }

    /// Bytes that came so far.
    pub fn received(&self) -> u64 {
        self.received
    }

    /// What happens next. After [`Event::Ended`] nothing more.
    pub async fn next(&mut self) -> Result<Event, StoreError> {
        loop {
            self.fill();
            while self.start_put() {
                self.fill();
            }
            if let (Some(end), true, true) = (self.end, self.puts.is_empty(), self.block.is_empty()) {
                return Ok(Event::Ended(end));
            }
            let reads = self.end.is_none() && self.rest.is_empty() && self.block.len() < self.block_bytes();
            tokio::select! {
                Some(stored) = self.puts.next(), if !self.puts.is_empty() => {
                    let block = stored?;
                    self.unstored -= block.bytes as usize;
                    return Ok(Event::Stored(block));
                }
                read = read(&mut self.body, &self.stop, &mut self.stopped_at), if reads => match read {
                    Ok(bytes) => self.take(bytes),
                    Err(end) => self.finish(end),
                },
                // Whatever is not stored is being stored, and what is not full is read.
                else => return Ok(Event::Ended(End::Cut)),
            }
            if self.told_at.elapsed() >= NEWS_EVERY && self.received > self.told {
                self.told_at = Instant::now();
                self.told = self.received;
                return Ok(Event::Received(self.received));
            }
        }
    }

    fn take(&mut self, bytes: Bytes) {
        let length = bytes.len() as u64;
        if length > self.room {
            return self.finish(End::TooLong);
        }
        self.room -= length;
        self.received += length;
        if let Some(checksum) = &mut self.checksum {
            checksum.update(&bytes);
        }
        self.rest = bytes;
    }

    fn finish(&mut self, end: End) {
        let holds = end != End::Whole || self.checksum.take().is_none_or(Checksum::holds);
        let end = if holds { end } else { End::Wrong };
        self.end = Some(end);
        if end != End::Whole && self.on_cut == OnCut::Drop {
            self.rest = Bytes::new();
            self.block = BytesMut::new();
        }
    }

    /// Length of the block being filled, once it is full.
    fn block_bytes(&self) -> usize {
        (block_end(self.at) - self.at) as usize
    }

    fn fill(&mut self) {
        let part = self.rest.split_to(self.rest.len().min(self.block_bytes() - self.block.len()));
        if part.is_empty() {
            return;
        }
        if self.block.capacity() == 0 {
            self.block.reserve(FIRST_CAPACITY);
        }
        self.hasher.update(&part);
        self.block.extend_from_slice(&part);
    }

    /// Begins to store a block if it is time, and if there is room beside the others.
    fn start_put(&mut self) -> bool {
        let due = self.block.len() == self.block_bytes()
            || (self.end.is_some() && self.rest.is_empty() && !self.block.is_empty());
        let room = self.unstored == 0 || self.unstored + self.block.len() <= BLOCK_BYTES;
        if !due || !room || self.puts.len() >= PUTS_AT_ONCE {
            return false;
        }
        let bytes = std::mem::take(&mut self.block).freeze();
        let hash = BlobHash::from_digest(*self.hasher.finalize().as_bytes());
        self.hasher.reset();
        let block = Block { hash, bytes: bytes.len() as u32 };
        self.at += u64::from(block.bytes);
        let store = self.store.clone();
        self.unstored += bytes.len();
        self.puts.push_back(Box::pin(async move {
            store.put_hashed(BlobKind::SourceBlock, hash, bytes).await.map(|()| block)
        }));
        true
    }
}

async fn read(
    body: &mut Body,
    stop: &CancellationToken,
    stopped_at: &mut Option<Instant>,
) -> Result<Bytes, End> {
    loop {
        let frame = match stopped_at {
            None => tokio::select! {
                frame = tokio::time::timeout(IDLE_LIMIT, body.frame()) => frame.map_err(|_| End::Idle)?,
                () = stop.cancelled() => {
                    *stopped_at = Some(Instant::now());
                    continue;
                }
            },
            Some(at) => {
                // Asked first: what is always ready would never be too late.
                let left = LAST_BYTES.checked_sub(at.elapsed()).ok_or(End::Draining)?;
                tokio::time::timeout(left, body.frame()).await.map_err(|_| End::Draining)?
            }
        };
        match frame {
            None => return Err(End::Whole),
            Some(Err(_)) => return Err(End::Cut),
            // Trailers carry no bytes.
            Some(Ok(frame)) => match frame.into_data() {
                Ok(bytes) if bytes.is_empty() => {}
                Ok(bytes) => return Ok(bytes),
                Err(_) => {}
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::stream;
    use proptest::prelude::*;

    async fn read_all(
        store: &Store,
        pieces: Vec<Result<Bytes, &'static str>>,
        limit: u64,
        on_cut: OnCut,
    ) -> (Vec<Block>, End) {
        let body = Body::from_stream(stream::iter(pieces));
        let mut reader = BlockReader::new(body, store.clone(), 0, limit, on_cut, CancellationToken::new());
        let mut blocks = Vec::new();
        loop {
            match reader.next().await.unwrap() {
                Event::Received(_) => {}
                Event::Stored(block) => blocks.push(block),
                Event::Ended(end) => return (blocks, end),
            }
        }
    }

    async fn bytes_of(store: &Store, blocks: &[Block]) -> Vec<u8> {
        let mut all = Vec::new();
        for block in blocks {
            let blob = store.get_blob(BlobKind::SourceBlock, block.hash).await.unwrap();
            assert_eq!(blob.bytes().len(), block.bytes as usize);
            all.extend_from_slice(blob.bytes());
        }
        all
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 8, ..ProptestConfig::default() })]

        #[test]
        fn what_comes_in_is_what_is_stored(sizes in prop::collection::vec(1usize..5_000_000, 0..8), cut: bool) {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                let folder = tempfile::tempdir().unwrap();
                let store = Store::open(&format!("file://{}", folder.path().display())).unwrap();
                let mut sent = Vec::new();
                let mut pieces = Vec::new();
                for (n, size) in sizes.into_iter().enumerate() {
                    let piece: Vec<u8> = (0..size).map(|i| (i.wrapping_mul(n + 7) >> 3) as u8).collect();
                    sent.extend_from_slice(&piece);
                    pieces.push(Ok(Bytes::from(piece)));
                }
                if cut {
                    pieces.push(Err("connection reset"));
                }
                let (blocks, end) = read_all(&store, pieces, u64::MAX, OnCut::Keep).await;
                prop_assert_eq!(end, if cut { End::Cut } else { End::Whole });
                let mut at = 0;
                for block in blocks.iter().rev().skip(1).rev() {
                    prop_assert_eq!(at + u64::from(block.bytes), block_end(at));
                    at = block_end(at);
                }
                prop_assert!(bytes_of(&store, &blocks).await == sent);
                Ok(())
            })?;
        }
    }

    #[tokio::test]
    async fn too_much_is_refused_and_what_is_lost_is_not_stored() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(&format!("file://{}", folder.path().display())).unwrap();
        let pieces = || vec![Ok(Bytes::from_static(b"12345")), Ok(Bytes::from_static(b"678"))];
        assert_eq!(read_all(&store, pieces(), 7, OnCut::Drop).await, (vec![], End::TooLong));
        let (kept, end) = read_all(&store, pieces(), 7, OnCut::Keep).await;
        assert_eq!((bytes_of(&store, &kept).await, end), (b"12345".to_vec(), End::TooLong));
        let (whole, end) = read_all(&store, pieces(), 8, OnCut::Drop).await;
        assert_eq!((bytes_of(&store, &whole).await, end), (b"12345678".to_vec(), End::Whole));
    }

    #[tokio::test]
    async fn a_stop_takes_what_is_on_its_way_and_then_no_more() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(&format!("file://{}", folder.path().display())).unwrap();
        let piece = Bytes::from(vec![7; 3_000_000]);
        // One sender hangs after a piece, and one would never end.
        let hangs = stream::iter([Ok::<_, &str>(piece.clone())]).chain(stream::pending());
        let endless = stream::repeat_with(move || Ok::<_, &str>(piece.clone()));
        for (body, exactly) in
            [(Body::from_stream(hangs), Some(3_000_000)), (Body::from_stream(endless), None)]
        {
            let stop = CancellationToken::new();
            stop.cancel();
            let mut reader = BlockReader::new(body, store.clone(), 0, u64::MAX, OnCut::Keep, stop);
            let mut stored = 0;
            let end = loop {
                match reader.next().await.unwrap() {
                    Event::Received(_) => {}
                    Event::Stored(block) => stored += block.bytes,
                    Event::Ended(end) => break end,
                }
            };
            assert_eq!(end, End::Draining);
            assert!(exactly.is_none_or(|bytes| bytes == stored) && stored > 0, "{stored}");
        }
    }
}
