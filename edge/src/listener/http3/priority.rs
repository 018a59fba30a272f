//! Which answers go first on a connection (RFC 9218): what the client says in a field or a frame, and else what is small.
//!
//! Answers of equal rank share the connection; the incremental parameter changes nothing here.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use http::HeaderMap;

use super::fault::Code;
use super::send_half::SendHalf;
use super::turns::Turns;
use crate::limits::STREAMS_PER_CONNECTION;

/// How urgent an answer is: 0 is most, 7 is least (RFC 9218 §4.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Urgency(u8);

impl Default for Urgency {
    fn default() -> Self {
        Self(3)
    }
}

impl Urgency {
    /// By the request's own field, if it has one.
    pub(super) fn of(headers: &HeaderMap) -> Option<Self> {
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

/// The requests of one connection whose answers are under way, and those that frames spoke of before they came.
#[derive(Debug, Default)]
pub(super) struct Priorities {
    known: Mutex<Known>,
    pub(super) turns: Turns,
}

#[derive(Debug, Default)]
struct Known {
    /// How many requests have come. Their streams have the numbers 0, 4, 8 and so on (RFC 9000 §2.1).
    come: u64,
    open: Vec<(u64, Arc<SendHalf>)>,
    early: Vec<(u64, Urgency)>,
}

impl Priorities {
    fn lock(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The lowest number of a stream that has not come.
    pub(super) fn next(&self) -> u64 {
        self.lock().come * 4
    }

    /// A request's stream came.
    pub(super) fn open(&self, stream: u64, half: &Arc<SendHalf>) {
        let mut known = self.lock();
        known.come = known.come.max(stream / 4 + 1);
        known.open.push((stream, half.clone()));
        if let Some(at) = known.early.iter().position(|(early, _)| *early == stream) {
            half.update_urgency(known.early.swap_remove(at).1);
        }
    }

    /// Its answer is over.
    pub(super) fn close(&self, stream: u64) {
        self.lock().open.retain(|(open, _)| *open != stream);
    }

    /// A frame says how urgent a request's answer is.
    pub(super) fn update(&self, stream: u64, urgency: Urgency) -> Result<(), Code> {
        let mut known = self.lock();
        // RFC 9218 §7.2: no request of a client's, or one beyond those that it may begin.
        let limit = known.come + u64::from(STREAMS_PER_CONNECTION);
        if !stream.is_multiple_of(4) || stream / 4 >= limit {
            return Err(Code::IdError);
        }
        self.turns.update(stream, urgency);
        if let Some((_, half)) = known.open.iter().find(|(open, _)| *open == stream) {
            half.update_urgency(urgency);
        } else if stream / 4 >= known.come {
            match known.early.iter_mut().find(|(early, _)| *early == stream) {
                Some((_, early)) => *early = urgency,
                None => known.early.push((stream, urgency)),
            }
        }
        Ok(())
    }
}

#[cfg(test)]
impl Priorities {
    /// What was said of a stream that has not come yet.
    pub(super) fn early(&self, stream: u64) -> Option<Urgency> {
        self.lock().early.iter().find(|(early, _)| *early == stream).map(|(_, urgency)| *urgency)
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
    fn what_is_spoken_of_early_is_bounded_by_what_may_come() {
        let priorities = Priorities::default();
        for number in 0..u64::from(STREAMS_PER_CONNECTION) {
            assert_eq!(priorities.update(number * 4, Urgency(0)), Ok(()));
            assert_eq!(priorities.update(number * 4, Urgency(1)), Ok(()));
        }
        assert_eq!(priorities.lock().early.len(), STREAMS_PER_CONNECTION as usize);
        assert_eq!(priorities.early(396), Some(Urgency(1)));
        for none in [400, 1, 2, 3, u64::MAX / 4] {
            assert_eq!(priorities.update(none, Urgency(0)), Err(Code::IdError));
        }
    }
}
