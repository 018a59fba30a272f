//! A bucket behind plain HTTP, as slow as a measurement wants it.

use std::collections::HashMap;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::{Path, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use futures_util::stream;
use reelmill_media::ids::BlobHash;
use reelmill_media::keys::{self, BlobKind};
use reelmill_platform::hash_tree::HashTree;
use tokio::net::TcpListener;
use tokio::task::AbortHandle;
use tokio::time::{Instant, sleep_until};

use crate::noise::noise;

/// The name of the bucket.
pub const BUCKET: &str = "bucket";

/// The piece in which bodies come, in bytes.
const PIECE_BYTES: usize = 64 << 10;

/// Gone when dropped.
#[derive(Debug)]
pub struct Origin {
    /// Where it listens.
    pub address: SocketAddr,
    /// Paths of the segments at the edge.
    pub paths: Vec<String>,
    shelf: Arc<Shelf>,
    serving: AbortHandle,
}

#[derive(Debug)]
struct Shelf {
    objects: HashMap<String, Object>,
    /// How often a segment was asked for.
    reads: AtomicU64,
    texts: Mutex<HashMap<String, Bytes>>,
    text_reads: AtomicU64,
    /// The segment that was asked for last: a crowd may ask for the same one, and all of them take too much memory.
    last: Mutex<(usize, Bytes)>,
    /// Before the first byte of a segment, and between its pieces.
    pauses: (Duration, Duration),
}

#[derive(Debug)]
enum Object {
    Tree(Bytes),
    /// Made when it is asked for.
    Segment {
        number: usize,
        length: usize,
    },
}

impl Origin {
    /// So many segments of `length` bytes. Their pieces of 64 KiB come at a pace, the first and the others after `pauses`.
    pub async fn start(count: usize, length: usize, pauses: (Duration, Duration)) -> anyhow::Result<Self> {
        let (mut objects, mut paths) = (HashMap::new(), Vec::new());
        for number in 0..count {
            let content = noise(length, number as u64);
            let hash = BlobHash::of(&content);
            let key = keys::blob(&hash, BlobKind::Segment);
            if let Some(tree) = HashTree::of(hash, &content) {
                objects.insert(keys::hash_tree(&hash, BlobKind::Segment), Object::Tree(tree.encode()));
            }
            paths.push(format!("/{key}"));
            objects.insert(key, Object::Segment { number, length });
        }
        let last = Mutex::new((usize::MAX, Bytes::new()));
        let (reads, text_reads) = (AtomicU64::new(0), AtomicU64::new(0));
        let shelf = Arc::new(Shelf { objects, reads, texts: Mutex::default(), text_reads, last, pauses });
        let router = Router::new().route("/bucket/{*key}", axum::routing::get(get)).with_state(shelf.clone());
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let serving = tokio::spawn(async move { axum::serve(listener, router).await }).abort_handle();
        Ok(Self { address, paths, shelf, serving })
    }

    /// How often a segment was asked for so far.
    pub fn reads(&self) -> u64 {
        self.shelf.reads.load(Ordering::Relaxed)
    }

    /// Puts a text under a key, in place of what was there.
    pub fn write(&self, key: String, text: String) {
        self.shelf.texts().insert(key, text.into());
    }

    /// How often a text was asked for so far.
    pub fn text_reads(&self) -> u64 {
        self.shelf.text_reads.load(Ordering::Relaxed)
    }
}

impl Shelf {
    fn texts(&self) -> MutexGuard<'_, HashMap<String, Bytes>> {
        self.texts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn segment(&self, number: usize, length: usize) -> Bytes {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        if last.0 != number {
            *last = (number, noise(length, number as u64).into());
        }
        last.1.clone()
    }
}

impl Drop for Origin {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

async fn get(State(shelf): State<Arc<Shelf>>, Path(key): Path<String>) -> Response {
    match shelf.objects.get(&key) {
        Some(Object::Tree(tree)) => tree.clone().into_response(),
        Some(Object::Segment { number, length }) => {
            shelf.reads.fetch_add(1, Ordering::Relaxed);
            let (first, next) = shelf.pauses;
            // Who asks for what is yet to be made waits no longer than others.
            let due = Instant::now() + first;
            let content = shelf.segment(*number, *length);
            let pieces = stream::unfold((content, due), move |(mut rest, due)| async move {
                sleep_until(due).await;
                let piece = rest.split_to(PIECE_BYTES.min(rest.len()));
                (!piece.is_empty()).then_some((Ok::<_, Infallible>(piece), (rest, due + next)))
            });
            ([(header::CONTENT_LENGTH, *length)], Body::from_stream(pieces)).into_response()
        }
        None => {
            shelf.text_reads.fetch_add(1, Ordering::Relaxed);
            let text = shelf.texts().get(&key).cloned();
            text.map_or_else(|| StatusCode::NOT_FOUND.into_response(), IntoResponse::into_response)
        }
    }
}
