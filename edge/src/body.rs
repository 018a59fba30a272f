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
use crate::playlists::Text;
use crate::range::ByteRange;

/// What follows the header section.
///
/// There is one way in for media, [`Body::blob`], and a blob holds verified groups only: an edge cannot send a byte of a
/// blob that was not checked against its hash.
#[derive(Debug)]
pub struct Body {
    content: Content,
    /// Counts the bytes that are taken.
    taken: Option<IntCounter>,
    /// Fires when the viewer must not have it any more.
    withdrawn: Option<CancellationToken>,
}

#[derive(Debug)]
enum Content {
    /// All of it is here.
    Held(Bytes),
    /// It may still be on its way. Before it stand bytes that prove it, for a peer, or none.
    Blob(Bytes, BlobReader),
}

impl Body {
    /// No body.
    pub fn empty() -> Self {
        Self::all(Bytes::new())
    }

    /// A part of a blob, counted by `taken`. Copies nothing.
    pub fn blob(blob: Arc<Blob>, range: ByteRange, taken: IntCounter) -> Self {
        let content = Content::Blob(Bytes::new(), BlobReader::new(blob, range));
        Self { content, taken: Some(taken), withdrawn: None }
    }

    /// A blob from byte `from` on, and before it the encoded tree that proves it. Copies nothing.
    pub(crate) fn proven(tree: Bytes, blob: Arc<Blob>, from: u64) -> Self {
        let range = ByteRange { start: from.min(blob.length()), end: blob.length() };
        Self { content: Content::Blob(tree, BlobReader::new(blob, range)), taken: None, withdrawn: None }
    }

    /// All of a playlist or presentation.
    pub(crate) fn all(bytes: Bytes) -> Self {
        Self { content: Content::Held(bytes), taken: None, withdrawn: None }
    }

    /// A part of a playlist or presentation.
    pub fn text(text: &Text, range: ByteRange) -> Self {
        Self::part(text.bytes(), range)
    }

    /// A part of something the edge itself is made of: a page or a script.
    pub(crate) fn own(bytes: &'static [u8], range: ByteRange) -> Self {
        Self::part(&Bytes::from_static(bytes), range)
    }

    /// The sentence that says why there is nothing else.
    pub(crate) fn problem(text: String) -> Self {
        Self::all(text.into())
    }

    /// The same until `withdrawn` fires.
    pub(crate) fn until(self, withdrawn: Option<CancellationToken>) -> Self {
        Self { withdrawn, ..self }
    }

    fn part(bytes: &Bytes, range: ByteRange) -> Self {
        let start = usize::try_from(range.start).unwrap_or(usize::MAX).min(bytes.len());
        let end = usize::try_from(range.end).unwrap_or(usize::MAX).clamp(start, bytes.len());
        Self::all(bytes.slice(start..end))
    }

    /// How many bytes are left to send.
    pub fn length(&self) -> u64 {
        match &self.content {
            Content::Held(rest) => rest.len() as u64,
            Content::Blob(tree, reader) => tree.len() as u64 + reader.length(),
        }
    }

    /// Takes the next piece; `None` at the end. After an error there is nothing more to come.
    pub fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, FillError>>> {
        if self.length() > 0 && self.withdrawn.as_ref().is_some_and(CancellationToken::is_cancelled) {
            return Poll::Ready(Some(Err(FillError::Purged)));
        }
        let polled = match &mut self.content {
            Content::Held(rest) if rest.is_empty() => Poll::Ready(None),
            Content::Held(rest) => Poll::Ready(Some(Ok(rest.split_to(CHUNK_BYTES.min(rest.len()))))),
            Content::Blob(tree, _) if !tree.is_empty() => Poll::Ready(Some(Ok(std::mem::take(tree)))),
            Content::Blob(_, reader) => reader.poll_next(cx),
        };
        if let (Poll::Ready(Some(Ok(bytes))), Some(taken)) = (&polled, &self.taken) {
            taken.inc_by(bytes.len() as u64);
        }
        polled
    }

    /// Completes when the content is taken down or the viewer's right to it; never for what cannot be.
    pub(crate) fn revoked(&self) -> impl Future<Output = ()> + Send + use<> {
        let blob = match &self.content {
            Content::Held(_) => None,
            Content::Blob(_, reader) => Some(reader.blob().revoked().clone()),
        };
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
