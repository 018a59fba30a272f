//! What a client says on its control stream and the HTTP/3 layer does not hear: how urgent answers are (RFC 9218 §7), and of
//! pushes more than it may.

use std::sync::Arc;

use h3::error::Code;

use super::priority::{Priorities, Urgency};

/// PRIORITY_UPDATE for a request stream (RFC 9218 §7.2).
const PRIORITY_UPDATE: u64 = 0xf0700;
/// Frames of pushes (RFC 9114 §7.2.3, §7.2.7).
const CANCEL_PUSH: u64 = 0x03;
const MAX_PUSH_ID: u64 = 0x0d;
/// The control stream's type (RFC 9114 §6.2.1).
const CONTROL: u64 = 0x00;
/// A longer frame of these kinds says nothing that is known here.
const LONGEST_FRAME: u64 = 256;

/// Reads along on a unidirectional stream.
#[derive(Debug)]
pub(super) struct Tap {
    priorities: Arc<Priorities>,
    state: State,
    /// The start of what is being read.
    held: Vec<u8>,
    /// The last MAX_PUSH_ID.
    pushes: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// The stream's type comes first.
    Type,
    /// A frame's head is next.
    Head,
    /// So many bytes of a frame are of no interest.
    Skip(u64),
    /// So many bytes of a frame of this kind are missing.
    Frame(u64, u64),
    /// Not the control stream.
    Done,
}

impl Tap {
    pub(super) fn new(priorities: Arc<Priorities>) -> Self {
        Self { priorities, state: State::Type, held: Vec::new(), pushes: 0 }
    }

    /// Takes note of the next bytes of the stream; an error where the HTTP/3 layer would let pass what may not be said.
    pub(super) fn read(&mut self, bytes: &[u8]) -> Result<(), Code> {
        let mut bytes = bytes;
        while !bytes.is_empty() && self.state != State::Done {
            bytes = self.step(bytes)?;
        }
        Ok(())
    }

    /// Takes some of the bytes, at least one, and gives the rest.
    fn step<'a>(&mut self, bytes: &'a [u8]) -> Result<&'a [u8], Code> {
        let Some((first, after)) = bytes.split_first() else { return Ok(bytes) };
        let take = |left: u64| bytes.split_at(usize::try_from(left).unwrap_or(usize::MAX).min(bytes.len()));
        match self.state {
            State::Type | State::Head => {
                self.held.push(*first);
                self.begin()?;
                Ok(after)
            }
            State::Skip(left) => {
                let (taken, rest) = take(left);
                let left = left - taken.len() as u64;
                self.state = if left > 0 { State::Skip(left) } else { State::Head };
                Ok(rest)
            }
            State::Frame(kind, left) => {
                let (taken, rest) = take(left);
                self.held.extend_from_slice(taken);
                self.go_on(kind, left - taken.len() as u64)?;
                Ok(rest)
            }
            State::Done => Ok(&[]),
        }
    }

    /// Looks whether a type, or a frame's type and length, are there.
    fn begin(&mut self) -> Result<(), Code> {
        let Some((kind, rest)) = number(&self.held) else { return Ok(()) };
        if self.state == State::Type {
            self.state = if kind == CONTROL { State::Head } else { State::Done };
            self.held.clear();
            return Ok(());
        }
        let Some((length, _)) = number(rest) else { return Ok(()) };
        self.held.clear();
        match kind {
            PRIORITY_UPDATE | CANCEL_PUSH | MAX_PUSH_ID if length <= LONGEST_FRAME => {
                self.go_on(kind, length)
            }
            _ => {
                self.state = if length > 0 { State::Skip(length) } else { State::Head };
                Ok(())
            }
        }
    }

    /// So much of a frame is still missing, perhaps nothing.
    fn go_on(&mut self, kind: u64, left: u64) -> Result<(), Code> {
        if left > 0 {
            self.state = State::Frame(kind, left);
            return Ok(());
        }
        self.state = State::Head;
        let held = std::mem::take(&mut self.held);
        match (kind, number(&held)) {
            (PRIORITY_UPDATE, Some((stream, value))) => self.priorities.update(stream, Urgency::read(value)),
            // Nothing was promised that could be cancelled.
            (CANCEL_PUSH, Some(_)) => return Err(Code::H3_ID_ERROR),
            (MAX_PUSH_ID, Some((id, _))) => {
                if id < self.pushes {
                    return Err(Code::H3_ID_ERROR);
                }
                self.pushes = id;
            }
            // The HTTP/3 layer says what is wrong with a frame.
            _ => {}
        }
        Ok(())
    }
}

/// A number (RFC 9000 §16) and what follows it.
pub(super) fn number(bytes: &[u8]) -> Option<(u64, &[u8])> {
    let first = *bytes.first()?;
    let (number, rest) = bytes.split_at_checked(1 << (first >> 6))?;
    let value =
        number.iter().skip(1).fold(u64::from(first & 0x3f), |value, byte| value << 8 | u64::from(*byte));
    Some((value, rest))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn frame(kind: &[u8], payload: &[u8]) -> Vec<u8> {
        [kind, &[payload.len() as u8], payload].concat()
    }

    /// The type 0xf0700 as a number of four bytes.
    const UPDATE: [u8; 4] = [0x80, 0x0f, 0x07, 0x00];

    proptest! {
        #[test]
        fn frames_are_read_however_they_are_cut(cuts in proptest::collection::vec(1usize..7, 1..40)) {
            let stream = [
                vec![0x00],
                frame(&[0x04], &[]),
                frame(&UPDATE, b"\x04u=1"),
                frame(&[0x21], &[9; 40]),
                frame(&UPDATE, b"\x08u=6, i"),
            ]
            .concat();
            let priorities = Arc::new(Priorities::default());
            let mut tap = Tap::new(priorities.clone());
            let (mut rest, mut cuts) = (&stream[..], cuts.into_iter().cycle());
            while !rest.is_empty() {
                let (piece, after) = rest.split_at(cuts.next().unwrap().min(rest.len()));
                prop_assert_eq!(tap.read(piece), Ok(()));
                rest = after;
            }
            prop_assert_eq!(priorities.early(4), Some(Urgency::read(b"u=1")));
            prop_assert_eq!(priorities.early(8), Some(Urgency::read(b"u=6")));
        }

        #[test]
        fn any_bytes_are_survived_and_bounded(bytes in proptest::collection::vec(any::<u8>(), 0..2000)) {
            let priorities = Arc::new(Priorities::default());
            let mut tap = Tap::new(priorities.clone());
            let _ = tap.read(&[0]).and_then(|()| tap.read(&bytes));
            prop_assert!(tap.held.len() <= LONGEST_FRAME as usize);
        }
    }

    #[test]
    fn nothing_is_promised() {
        let read = |frames: &[Vec<u8>]| {
            Tap::new(Arc::default()).read(&[&[0x00, 0x04, 0x00][..], &frames.concat()].concat())
        };
        let most = |id| frame(&[0x0d], &[id]);
        assert_eq!(read(&[most(0), most(2), most(2), most(3)]), Ok(()));
        assert_eq!(read(&[most(2), most(1)]), Err(Code::H3_ID_ERROR));
        assert_eq!(read(&[most(2), frame(&[0x03], &[0])]), Err(Code::H3_ID_ERROR));
    }

    #[test]
    fn streams_of_other_kinds_are_not_read() {
        let priorities = Arc::new(Priorities::default());
        let mut other = Tap::new(priorities.clone());
        other.read(&[[0x21].to_vec(), frame(&UPDATE, b"\x04u=1")].concat()).unwrap();
        assert_eq!(priorities.early(4), None);
    }
}
