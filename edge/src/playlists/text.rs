//! A text, what was last heard of it, and for how long that counts.

use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use reelmill_media::ids::BlobHash;

use crate::conditional::EntityTag;
use crate::limits::{ANNOUNCED_FRESH, CLOSED_FRESH, GROWING_FRESH};

/// The tag that ends a playlist for good (RFC 8216bis §4.4.3.4).
const END: &[u8] = b"#EXT-X-ENDLIST";

/// Why there is no text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TextError {
    /// The origin does not have it (yet).
    #[error("there is no such playlist, or not yet")]
    Absent,
    /// It is larger than any playlist of ours.
    #[error("the origin's copy of this playlist is too large")]
    TooLarge,
    /// It was taken down.
    #[error("this playlist was taken down")]
    Purged,
    /// The origin failed or did not answer in time, and there is no copy here.
    #[error("the origin is not available")]
    Unavailable,
    /// To a peer: it is not here, and nobody else is to be asked.
    #[error("this edge does not hold it")]
    NotHeld,
    /// To a peer: this edge itself waits for a peer.
    #[error("this edge takes another one for the owner")]
    Misdirected,
}

/// A playlist or presentation as the origin had it.
#[derive(Debug, Clone)]
pub struct Text {
    bytes: Bytes,
    tag: EntityTag,
    closed: bool,
}

impl Text {
    pub(crate) fn new(bytes: Bytes) -> Self {
        let tag = EntityTag::of(BlobHash::of(&bytes));
        let closed = bytes.split(|b| *b == b'\n').any(|line| line.trim_ascii_end() == END);
        Self { bytes, tag, closed }
    }

    /// The bytes.
    pub fn bytes(&self) -> &Bytes {
        &self.bytes
    }

    /// The entity tag.
    pub fn tag(&self) -> EntityTag {
        self.tag
    }

    /// Whether it is complete.
    pub fn closed(&self) -> bool {
        self.closed
    }
}

/// A text that is here.
#[derive(Debug, Clone)]
pub(crate) struct Held {
    pub(crate) text: Arc<Text>,
    /// When the origin was asked for it.
    pub(crate) began: Instant,
    /// The origin did not answer since.
    pub(crate) stale: bool,
}

/// One answer of the origin, or of whoever stands before it.
#[derive(Debug, Clone)]
pub(super) struct Attempt {
    /// When the origin was asked: what it answered is at least as new as this.
    pub(super) began: Instant,
    pub(super) ended: Instant,
    pub(super) outcome: Result<Arc<Text>, TextError>,
}

impl Attempt {
    pub(super) fn new(began: Instant, outcome: Result<Arc<Text>, TextError>) -> Self {
        Self { began, ended: Instant::now(), outcome }
    }

    pub(super) fn held(&self) -> Result<Held, TextError> {
        let began = self.began;
        self.outcome.clone().map(|text| Held { text, began, stale: false })
    }

    /// Whether it still counts; `announced` is when the object was last said to be written.
    pub(super) fn fresh(&self, now: Instant, announced: Option<Instant>, alive: bool) -> bool {
        if self.older_than(announced) {
            return false;
        }
        let limit = match &self.outcome {
            Ok(text) if text.closed => CLOSED_FRESH,
            Ok(_) if alive && announced.is_some() => ANNOUNCED_FRESH,
            Ok(_) | Err(_) => GROWING_FRESH,
        };
        now.saturating_duration_since(self.began) < limit
    }

    pub(super) fn older_than(&self, announced: Option<Instant>) -> bool {
        announced.is_some_and(|at| self.began < at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_end_tag_on_its_own_line_closes() {
        assert!(Text::new(Bytes::from_static(b"#EXTM3U\n#EXT-X-ENDLIST\n")).closed());
        assert!(Text::new(Bytes::from_static(b"#EXTM3U\r\n#EXT-X-ENDLIST\r\n")).closed());
        assert!(!Text::new(Bytes::from_static(b"#EXTM3U\n#EXTINF:1,#EXT-X-ENDLIST\n")).closed());
        assert!(!Text::new(Bytes::from_static(b"")).closed());
    }
}
