//! Several parts in one response (RFC 9110 §14.6, RFC 2046 §5.1).

use http::HeaderValue;
use reelmill_media::ids::BlobHash;

use crate::body::Piece;
use crate::range::ByteRange;

/// How the parts of one content are told apart.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Multipart {
    /// Stands between the parts: no content holds its own hash.
    pub(crate) boundary: BlobHash,
    pub(crate) media_type: &'static str,
    /// Length of the whole content.
    pub(crate) length: u64,
}

impl Multipart {
    /// The response's own type.
    pub(crate) fn content_type(&self) -> HeaderValue {
        let text = format!("multipart/byteranges; boundary={}", self.boundary);
        // Letters, digits and punctuation are always a valid field value.
        HeaderValue::try_from(text).unwrap_or(HeaderValue::from_static("multipart/byteranges"))
    }

    /// What stands before the part.
    pub(crate) fn head(&self, part: ByteRange) -> Piece {
        let Self { boundary, media_type, .. } = self;
        let range = part.content_range(self.length);
        let text =
            format!("\r\n--{boundary}\r\nContent-Type: {media_type}\r\nContent-Range: {range}\r\n\r\n");
        Piece::Held(text.into())
    }

    /// What stands after the last one.
    pub(crate) fn end(&self) -> Piece {
        Piece::Held(format!("\r\n--{}--\r\n", self.boundary).into())
    }
}
