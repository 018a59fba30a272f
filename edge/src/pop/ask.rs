//! What one edge asks of another: GET over HTTP/3 on a connection of its own, with the field `reelmill-ask`.
//!
//! The words are ordered: whoever is asked asks on only with a lesser word, so no question comes back.

use std::time::Duration;

use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};

use crate::cache::FillError;

const ASK: HeaderName = HeaderName::from_static("reelmill-ask");
/// Where in the blob to begin, in bytes.
const FROM: HeaderName = HeaderName::from_static("reelmill-from");
/// Of a text: how old it may be at most, in milliseconds.
const WITHIN: HeaderName = HeaderName::from_static("reelmill-within-ms");
/// Of a text in an answer: how long ago the origin was asked for it, in milliseconds.
const AGE: HeaderName = HeaderName::from_static("reelmill-age-ms");
/// The text in an answer is stale: the origin is away.
const STALE: HeaderName = HeaderName::from_static("reelmill-stale");
/// Of a blob in an answer: its length, and how many bytes of hash tree stand before its own.
const LENGTH: HeaderName = HeaderName::from_static("reelmill-length");
const TREE: HeaderName = HeaderName::from_static("reelmill-tree-bytes");

/// On whose behalf something is asked for, which decides how far the question may go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Asked {
    /// A viewer: anybody may be asked.
    ByViewer,
    /// Nobody yet, but a viewer will: anybody may be asked.
    Ahead,
    /// A peer that takes this edge for the owner: the shield and the origin may be asked.
    AsOwner,
    /// An edge that has this one as its shield: the origin may be asked.
    AsShield,
    /// A peer that wants what this edge holds: nobody is asked.
    IfHeld,
}

impl Asked {
    fn token(self) -> &'static str {
        match self {
            Self::ByViewer => "viewer",
            Self::Ahead => "ahead",
            Self::AsOwner => "owner",
            Self::AsShield => "shield",
            Self::IfHeld => "held",
        }
    }
}

/// One question.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Question {
    pub(crate) asked: Asked,
    pub(crate) from: u64,
    pub(crate) within: Option<Duration>,
}

impl Question {
    /// As header fields.
    pub(super) fn write(&self, headers: &mut HeaderMap) {
        headers.insert(ASK, HeaderValue::from_static(self.asked.token()));
        if self.from > 0 {
            headers.insert(FROM, self.from.into());
        }
        if let Some(within) = self.within {
            headers.insert(WITHIN, milliseconds(within));
        }
    }

    /// Reads what [`Question::write`] wrote; `None` for what is no question of a peer.
    pub(super) fn read(headers: &HeaderMap) -> Option<Self> {
        let word = headers.get(ASK)?.as_bytes();
        let asked = [Asked::AsOwner, Asked::AsShield, Asked::IfHeld]
            .into_iter()
            .find(|asked| asked.token().as_bytes() == word)?;
        let from = if headers.contains_key(FROM) { number(headers, FROM)? } else { 0 };
        Some(Self { asked, from, within: number(headers, WITHIN).map(Duration::from_millis) })
    }
}

/// What stands before a blob's bytes in an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct BlobHead {
    pub(super) length: u64,
    pub(super) tree_bytes: u64,
}

impl BlobHead {
    pub(super) fn write(&self, headers: &mut HeaderMap) {
        headers.insert(LENGTH, self.length.into());
        headers.insert(TREE, self.tree_bytes.into());
    }

    pub(super) fn read(headers: &HeaderMap) -> Option<Self> {
        Some(Self { length: number(headers, LENGTH)?, tree_bytes: number(headers, TREE)? })
    }
}

/// How old a text in an answer is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct TextHead {
    pub(super) age: Duration,
    pub(super) stale: bool,
}

impl TextHead {
    pub(super) fn write(&self, headers: &mut HeaderMap) {
        headers.insert(AGE, milliseconds(self.age));
        if self.stale {
            headers.insert(STALE, HeaderValue::from_static("1"));
        }
    }

    pub(super) fn read(headers: &HeaderMap) -> Option<Self> {
        let age = Duration::from_millis(number(headers, AGE)?);
        Some(Self { age, stale: headers.contains_key(STALE) })
    }
}

fn milliseconds(duration: Duration) -> HeaderValue {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX).into()
}

fn number(headers: &HeaderMap, name: HeaderName) -> Option<u64> {
    headers.get(name)?.to_str().ok()?.parse().ok()
}

/// Why a peer gave nothing: its own reason, as a status.
pub(super) fn refusal(status: StatusCode) -> FillError {
    match status {
        StatusCode::NOT_FOUND => FillError::Absent,
        StatusCode::GONE => FillError::Purged,
        StatusCode::BAD_GATEWAY => FillError::Corrupt,
        StatusCode::GATEWAY_TIMEOUT => FillError::NotHeld,
        StatusCode::TOO_MANY_REQUESTS => FillError::Overloaded,
        StatusCode::MISDIRECTED_REQUEST => FillError::Misdirected,
        // Open set: whatever else it says, it has nothing to give.
        _ => FillError::Unavailable,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn every_reason_survives_the_way() {
        for reason in [
            FillError::Absent,
            FillError::Purged,
            FillError::Corrupt,
            FillError::NotHeld,
            FillError::Overloaded,
            FillError::Misdirected,
            FillError::Unavailable,
        ] {
            assert_eq!(refusal(reason.response().status()), reason);
        }
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(from: u64, within in proptest::option::of(0u64..1 << 40), length: u64, tree_bytes: u64, age in 0u64..1 << 40, stale: bool) {
            for asked in [Asked::AsOwner, Asked::AsShield, Asked::IfHeld] {
                let question = Question { asked, from, within: within.map(Duration::from_millis) };
                let mut headers = HeaderMap::new();
                question.write(&mut headers);
                prop_assert_eq!(Question::read(&headers), Some(question));
            }
            let mut headers = HeaderMap::new();
            let (blob, text) = (BlobHead { length, tree_bytes }, TextHead { age: Duration::from_millis(age), stale });
            blob.write(&mut headers);
            text.write(&mut headers);
            prop_assert_eq!((BlobHead::read(&headers), TextHead::read(&headers)), (Some(blob), Some(text)));
        }

        #[test]
        fn no_field_of_a_viewer_is_a_question(word in ".{0,12}", from in ".{0,12}") {
            let mut headers = HeaderMap::new();
            for (name, value) in [(ASK, word), (FROM, from)] {
                if let Ok(value) = HeaderValue::from_str(&value) {
                    headers.insert(name, value);
                }
            }
            if let Some(question) = Question::read(&headers) {
                prop_assert!(question.asked != Asked::ByViewer);
            }
        }
    }
}
