//! Which answers go first on a connection (RFC 9218): what the client says in a field or a frame, and else what is small.
//!
//! Answers of equal rank share the connection; the incremental parameter changes nothing here.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use http::HeaderMap;

use super::send_half::SendHalf;

/// PRIORITY_UPDATE for a request stream (RFC 9218 §7.2).
const PRIORITY_UPDATE: u64 = 0xf0700;
/// The control stream's type (RFC 9114 §6.2.1).
const CONTROL: u64 = 0x00;
/// A longer PRIORITY_UPDATE says nothing that is known here.
const LONGEST_UPDATE: u64 = 256;
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
    fn read(text: &[u8]) -> Self {
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

    fn update(&self, stream: u64, urgency: Urgency) {
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

/// Reads along on a unidirectional stream.
#[derive(Debug)]
pub(super) struct Tap {
    priorities: Arc<Priorities>,
    state: State,
    /// The start of what is being read.
    held: Vec<u8>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// The stream's type comes first.
    Type,
    /// A frame's head is next.
    Head,
    /// So many bytes of a frame are of no interest.
    Skip(u64),
    /// So many bytes of a PRIORITY_UPDATE are missing.
    Update(u64),
    /// Not the control stream.
    Done,
}

impl Tap {
    pub(super) fn new(priorities: Arc<Priorities>) -> Self {
        Self { priorities, state: State::Type, held: Vec::new() }
    }

    /// Takes note of the next bytes of the stream.
    pub(super) fn read(&mut self, bytes: &[u8]) {
        let mut bytes = bytes;
        while !bytes.is_empty() && self.state != State::Done {
            bytes = self.step(bytes);
        }
    }

    /// Takes some of the bytes, at least one, and gives the rest.
    fn step<'a>(&mut self, bytes: &'a [u8]) -> &'a [u8] {
        let Some((first, rest)) = bytes.split_first() else { return bytes };
        match self.state {
            State::Type | State::Head => {
                self.held.push(*first);
                self.begin();
                rest
            }
            State::Skip(left) | State::Update(left) => {
                let taken = usize::try_from(left).unwrap_or(usize::MAX).min(bytes.len());
                let left = left - taken as u64;
                let (taken, rest) = bytes.split_at(taken);
                if let State::Update(_) = self.state {
                    self.held.extend_from_slice(taken);
                    self.state = State::Update(left);
                } else {
                    self.state = State::Skip(left);
                }
                if left == 0 {
                    self.end();
                }
                rest
            }
            State::Done => &[],
        }
    }

    /// Looks whether a type, or a frame's type and length, are there.
    fn begin(&mut self) {
        let Some((kind, rest)) = varint(&self.held) else { return };
        if self.state == State::Type {
            self.state = if kind == CONTROL { State::Head } else { State::Done };
            self.held.clear();
            return;
        }
        let Some((length, _)) = varint(rest) else { return };
        self.held.clear();
        let update = kind == PRIORITY_UPDATE && length <= LONGEST_UPDATE;
        self.state = if update { State::Update(length) } else { State::Skip(length) };
        if length == 0 {
            self.end();
        }
    }

    /// A frame is over.
    fn end(&mut self) {
        if let State::Update(_) = self.state
            && let Some((stream, value)) = varint(&self.held)
        {
            self.priorities.update(stream, Urgency::read(value));
        }
        self.held.clear();
        self.state = State::Head;
    }
}

/// A number (RFC 9000 §16) and what follows it.
fn varint(bytes: &[u8]) -> Option<(u64, &[u8])> {
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

    fn frame(kind: &[u8], payload: &[u8]) -> Vec<u8> {
        [kind, &[payload.len() as u8], payload].concat()
    }

    /// The type 0xf0700 as a number of four bytes.
    const UPDATE: [u8; 4] = [0x80, 0x0f, 0x07, 0x00];

    fn early(priorities: &Priorities, stream: u64) -> Option<u8> {
        match priorities.0.lock().unwrap().get(&stream) {
            Some(Known::Early(urgency)) => Some(urgency.0),
            Some(Known::Open(_)) | None => None,
        }
    }

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
                tap.read(piece);
                rest = after;
            }
            prop_assert_eq!(early(&priorities, 4), Some(1));
            prop_assert_eq!(early(&priorities, 8), Some(6));
        }

        #[test]
        fn any_bytes_are_survived_and_bounded(bytes in proptest::collection::vec(any::<u8>(), 0..2000)) {
            let priorities = Arc::new(Priorities::default());
            let mut tap = Tap::new(priorities.clone());
            tap.read(&[0]);
            tap.read(&bytes);
            prop_assert!(tap.held.len() <= LONGEST_UPDATE as usize);
        }
    }

    #[test]
    fn no_more_is_remembered_than_may_be() {
        let priorities = Arc::new(Priorities::default());
        let mut tap = Tap::new(priorities.clone());
        tap.read(&[0]);
        for stream in 0..1000u16 {
            let id = (stream | 0x4000).to_be_bytes();
            tap.read(&frame(&UPDATE, &[&id[..], b"u=0"].concat()));
        }
        assert_eq!(priorities.0.lock().unwrap().len(), REMEMBERED);
        assert_eq!(early(&priorities, 999), Some(0));
        // A QPACK stream is nobody's control stream.
        let mut other = Tap::new(priorities.clone());
        other.read(&[[0x02].to_vec(), frame(&UPDATE, b"\x04u=1")].concat());
        assert_eq!(early(&priorities, 4), None);
    }
}
