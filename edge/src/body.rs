//! The body of a response: bytes handed over by reference, as soon as they are proven.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Frame, SizeHint};
use prometheus::IntCounter;
use tokio_util::sync::CancellationToken;

use crate::cache::{Blob, BlobReader, FillError};
use crate::limits::CHUNK_BYTES;
use crate::range::ByteRange;

/// What follows the header section.
///
/// There is one way in for media, [`Piece::blob`], and a blob holds verified groups only: an edge cannot send a byte of a
/// blob that was not checked against its hash.
#[derive(Debug)]
pub struct Body {
    now: Piece,
    /// What follows it.
    later: std::vec::IntoIter<Piece>,
    /// Counts the bytes that are taken of blobs.
    taken: Option<IntCounter>,
    /// Fires when the viewer must not have it any more.
    withdrawn: Option<CancellationToken>,
}

/// A stretch of a body.
#[derive(Debug)]
pub(crate) enum Piece {
    /// All of it is here.
    Held(Bytes),
    /// It may still be on its way.
    Blob(BlobReader),
}

impl Piece {
    /// A part of a blob. Copies nothing.
    pub(crate) fn blob(blob: &Arc<Blob>, range: ByteRange) -> Self {
        Self::Blob(BlobReader::new(blob.clone(), range))
    }

    /// A part of what is here. Copies nothing.
    pub(crate) fn held(bytes: &Bytes, range: ByteRange) -> Self {
        let start = usize::try_from(range.start).unwrap_or(usize::MAX).min(bytes.len());
        let end = usize::try_from(range.end).unwrap_or(usize::MAX).clamp(start, bytes.len());
        Self::Held(bytes.slice(start..end))
    }

    fn length(&self) -> u64 {
        match self {
            Self::Held(rest) => rest.len() as u64,
            Self::Blob(reader) => reader.length(),
        }
    }
}

impl Body {
    /// No body.
    pub fn empty() -> Self {
        Self::all(Bytes::new())
    }

    /// One piece, counted by `taken` if that is of a blob.
    pub(crate) fn of(piece: Piece, taken: Option<IntCounter>) -> Self {
        Self { now: piece, later: Vec::new().into_iter(), taken, withdrawn: None }
    }

    /// Pieces one after the other, counted by `taken` as far as they are of a blob.
    pub(crate) fn several(pieces: Vec<Piece>, taken: Option<IntCounter>) -> Self {
        Self { later: pieces.into_iter(), taken, ..Self::empty() }
    }

    /// A blob from byte `from` on, and before it the encoded tree that proves it. Copies nothing.
    pub(crate) fn proven(tree: Bytes, blob: &Arc<Blob>, from: u64) -> Self {
        let range = ByteRange { start: from.min(blob.length()), end: blob.length() };
        Self::several(vec![Piece::Held(tree), Piece::blob(blob, range)], None)
    }

    /// All of something that is here.
    pub(crate) fn all(bytes: Bytes) -> Self {
        Self::of(Piece::Held(bytes), None)
    }

    /// The sentence that says why there is nothing else.
    pub(crate) fn problem(text: String) -> Self {
        Self::all(text.into())
    }

    /// The same until `withdrawn` fires.
    pub(crate) fn until(self, withdrawn: Option<CancellationToken>) -> Self {
        Self { withdrawn, ..self }
    }

    /// How many bytes are left to send.
    pub fn length(&self) -> u64 {
        self.pieces().map(Piece::length).sum()
    }

    fn pieces(&self) -> impl Iterator<Item = &Piece> {
        std::iter::once(&self.now).chain(self.later.as_slice())
    }

    /// Takes the next bytes; `None` at the end. After an error there is nothing more to come.
    pub fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, FillError>>> {
        while self.now.length() == 0 {
            match self.later.next() {
                Some(next) => self.now = next,
                None => return Poll::Ready(None),
            }
        }
        if self.withdrawn.as_ref().is_some_and(CancellationToken::is_cancelled) {
            return Poll::Ready(Some(Err(FillError::Purged)));
        }
        match &mut self.now {
            Piece::Held(rest) => Poll::Ready(Some(Ok(rest.split_to(CHUNK_BYTES.min(rest.len()))))),
            Piece::Blob(reader) => {
                let polled = reader.poll_next(cx);
                if let (Poll::Ready(Some(Ok(bytes))), Some(taken)) = (&polled, &self.taken) {
                    taken.inc_by(bytes.len() as u64);
                }
                polled
            }
        }
    }

    /// Completes when the content is taken down or the viewer's right to it; never for what cannot be.
    pub(crate) fn revoked(&self) -> impl Future<Output = ()> + Send + use<> {
        let blob = self.pieces().find_map(|piece| match piece {
            Piece::Held(_) => None,
            Piece::Blob(reader) => Some(reader.blob().revoked().clone()),
        });
        let (blob, viewer) = (fired(blob), fired(self.withdrawn.clone()));
        async move {
            tokio::select! {
                () = blob => {}
                () = viewer => {}
            }
        }
    }
}

async fn fired(token: Option<CancellationToken>) {
    match token {
        Some(token) => token.cancelled_owned().await,
        None => std::future::pending().await,
    }
}

impl http_body::Body for Body {
    type Data = Bytes;
    type Error = FillError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, FillError>>> {
        self.poll_next(cx).map_ok(Frame::data)
    }

    fn is_end_stream(&self) -> bool {
        self.length() == 0
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.length())
    }
}
