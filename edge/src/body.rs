//! The body of a response: bytes handed over by reference.

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Frame, SizeHint};
use reelmill_platform::verified::VerifiedBytes;

use crate::limits::CHUNK_BYTES;
use crate::playlists::Text;
use crate::range::ByteRange;

/// What follows the header section.
///
/// There is one way in for media, [`Body::blob`], and it takes verified bytes: an edge cannot send a byte of a blob that
/// was not checked against its hash.
#[derive(Debug, Default)]
pub struct Body {
    rest: Bytes,
}

impl Body {
    /// No body.
    pub fn empty() -> Self {
        Self::default()
    }

    /// A part of a blob. Copies nothing.
    pub fn blob(blob: &VerifiedBytes, range: ByteRange) -> Self {
        Self::part(blob.bytes(), range)
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
        Self { rest: text.into() }
    }

    fn part(bytes: &Bytes, range: ByteRange) -> Self {
        let start = usize::try_from(range.start).unwrap_or(usize::MAX).min(bytes.len());
        let end = usize::try_from(range.end).unwrap_or(usize::MAX).clamp(start, bytes.len());
        Self { rest: bytes.slice(start..end) }
    }

    /// How many bytes are left to send.
    pub fn length(&self) -> u64 {
        self.rest.len() as u64
    }

    /// Takes the next piece; `None` at the end.
    pub fn next_chunk(&mut self) -> Option<Bytes> {
        (!self.rest.is_empty()).then(|| self.rest.split_to(CHUNK_BYTES.min(self.rest.len())))
    }
}

impl http_body::Body for Body {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        Poll::Ready(self.next_chunk().map(|chunk| Ok(Frame::data(chunk))))
    }

    fn is_end_stream(&self) -> bool {
        self.rest.is_empty()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.length())
    }
}
