//! Which answers go first on a connection (RFC 9218): what the client says in a field or a frame, and else what is small.
//!
//! Answers of equal rank share the connection; the incremental parameter changes nothing here.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use http::HeaderMap;

use super::send_half::SendHalf;

/// Streams that are remembered: all that may be open, and as many that were spoken of before they came.
const REMEMBERED: usize = 256;

/// How urgent an answer is: 0 is most, 7 is least (RFC 9218 §4.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Urgency(u8);

impl Default for Urgency {
    fn default() -> Self {
        Self(3)
    }
}

impl Urgency {
    /// How many there are.
    pub(super) const LEVELS: usize = 8;

    /// Its place among them.
    pub(super) fn level(self) -> usize {
        usize::from(self.0).min(Self::LEVELS - 1)
    }

    /// By the request's own field, if it has one.
    pub(crate) fn of(headers: &HeaderMap) -> Option<Self> {
        headers.get("priority").map(|value| Self::read(value.as_bytes()))
    }

    /// Reads a dictionary (RFC 8941 §3.2). What is not understood counts as not said.
    pub(super) fn read(text: &[u8]) -> Self {
        let members = text.split(|b| *b == b',').map(<[u8]>::trim_ascii);
        let mut urgencies = members.rev().filter_map(|member| match member {
            [b'u', b'=', digit @ b'0'..=b'7'] | [b'u', b'=', digit @ b'0'..=b'7', b';', ..] => {
                Some(Self(digit - b'0'))
            }
            _ => None,
        });
        // The last one counts.
        urgencies.next().unwrap_or_default()
    }

    /// As QUIC's layer has it: more goes first. Among the equally urgent, small answers do.
    pub(super) fn rank(self, small: bool) -> i32 {
        i32::from(7 - self.0) * 2 + i32::from(small)
    }
}

/// What frames said about the streams of one connection.
#[derive(Debug, Default)]
pub(super) struct Priorities(Mutex<BTreeMap<u64, Known>>);

#[derive(Debug)]
enum Known {
    /// It has not come yet.
    Early(Urgency),
    Open(Weak<SendHalf>),
}

impl Priorities {
    /// A request's stream came.
    pub(super) fn open(&self, stream: u64, half: &Arc<SendHalf>) {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(Known::Early(urgency)) = known.insert(stream, Known::Open(Arc::downgrade(half))) {
            half.update_urgency(urgency);
        }
        bound(&mut known);
    }

    /// A frame says how urgent a request's answer is.
    pub(super) fn update(&self, stream: u64, urgency: Urgency) {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match known.get(&stream) {
            Some(Known::Open(half)) => {
                if let Some(half) = half.upgrade() {
                    half.update_urgency(urgency);
                }
            }
            Some(Known::Early(_)) | None => {
                known.insert(stream, Known::Early(urgency));
                bound(&mut known);
            }
        }
    }
}

#[cfg(test)]
impl Priorities {
    /// What was said of a stream that has not come yet.
    pub(super) fn early(&self, stream: u64) -> Option<Urgency> {
        match self.0.lock().unwrap().get(&stream) {
            Some(Known::Early(urgency)) => Some(*urgency),
            Some(Known::Open(_)) | None => None,
        }
    }
}

/// Forgets those that are over, then the oldest.
fn bound(known: &mut BTreeMap<u64, Known>) {
    if known.len() > REMEMBERED {
        known.retain(|_, known| match known {
            Known::Early(_) => true,
            Known::Open(half) => half.strong_count() > 0,
        });
    }
    while known.len() > REMEMBERED {
        known.pop_first();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn urgency(text: &str) -> u8 {
        Urgency::read(text.as_bytes()).0
    }

    #[test]
    fn what_is_not_understood_counts_as_not_said() {
        for (text, expected) in [
            ("u=0", 0),
            ("u=5, i", 5),
            ("i, u=7", 7),
            ("u=2;x=1,i=?0", 2),
            ("u=1, u=6", 6),
            ("", 3),
            ("i", 3),
            ("u=8", 3),
            ("u=-1", 3),
            ("u=1.0", 3),
            ("U=1", 3),
            ("u", 3),
            ("uu=1", 3),
        ] {
            assert_eq!(urgency(text), expected, "{text}");
        }
        assert!(Urgency(0).rank(false) > Urgency(1).rank(true));
        assert!(Urgency(1).rank(true) > Urgency(1).rank(false));
    }

    #[test]
    fn no_more_is_remembered_than_may_be() {
        let priorities = Priorities::default();
        for stream in 0..1000 {
            priorities.update(stream, Urgency(0));
        }
        assert_eq!(priorities.0.lock().unwrap().len(), REMEMBERED);
        assert_eq!(priorities.early(999), Some(Urgency(0)));
    }
}
