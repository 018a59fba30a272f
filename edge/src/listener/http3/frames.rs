//! Cuts a stream into frames (RFC 9114 §7), however it comes in.

use bytes::{Buf, Bytes};

use super::number;

/// What a frame is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Data,
    Headers,
    CancelPush,
    Settings,
    PushPromise,
    Goaway,
    MaxPushId,
    /// PRIORITY_UPDATE of a request (RFC 9218 §7.2).
    PriorityUpdate,
    /// The same of a push.
    PushPriorityUpdate,
    /// One of HTTP/2's that have no sense here (RFC 9114 §11.2.1).
    OfHttp2,
    /// Nobody knows, and it is ignored (RFC 9114 §9).
    Unknown,
}

impl Kind {
    fn of(number: u64) -> Self {
        match number {
            0x00 => Self::Data,
            0x01 => Self::Headers,
            0x03 => Self::CancelPush,
            0x04 => Self::Settings,
            0x05 => Self::PushPromise,
            0x07 => Self::Goaway,
            0x0d => Self::MaxPushId,
            0xf0700 => Self::PriorityUpdate,
            0xf0701 => Self::PushPriorityUpdate,
            0x02 | 0x06 | 0x08 | 0x09 => Self::OfHttp2,
            _ => Self::Unknown,
        }
    }
}

/// What comes next on a stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Event {
    /// A frame with a payload of so many bytes. They are passed over unless [`Frames::collect`] is called now.
    Begin(Kind, u64),
    /// The payload of a frame that was to be collected.
    Payload(Kind, Bytes),
}

/// A stream of frames. It keeps no more than a frame's head, and what is collected.
#[derive(Debug)]
pub(super) struct Frames {
    /// Of the last piece, what has not been looked at.
    piece: Bytes,
    /// The start, from earlier pieces, of what is being read.
    held: Vec<u8>,
    place: Place,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    /// A frame's head is next.
    Head,
    /// So many bytes of a payload are left to pass over.
    Within(Kind, u64),
    /// A payload of so many bytes is wanted whole.
    Wanted(Kind, usize),
}

impl Frames {
    /// A stream whose first bytes are these.
    pub(super) fn new(piece: Bytes) -> Self {
        Self { piece, held: Vec::new(), place: Place::Head }
    }

    /// Takes the stream's next piece. The one before must have been used up: [`Self::next`] gave `None`.
    pub(super) fn push(&mut self, piece: Bytes) {
        debug_assert!(self.piece.is_empty());
        self.piece = piece;
    }

    /// Asks for the payload of the frame that has just begun. Whoever asks has judged its length.
    pub(super) fn collect(&mut self) {
        if let Place::Within(kind, length) = self.place {
            self.place = Place::Wanted(kind, usize::try_from(length).unwrap_or(usize::MAX));
        }
    }

    /// What comes next; `None` when more of the stream is needed to tell.
    pub(super) fn next(&mut self) -> Option<Event> {
        if let Place::Within(kind, left) = self.place {
            let passed = self.piece.len().min(usize::try_from(left).unwrap_or(usize::MAX));
            self.piece.advance(passed);
            let left = left - passed as u64;
            self.place = if left > 0 { Place::Within(kind, left) } else { Place::Head };
        }
        match self.place {
            Place::Head => self.begin(),
            Place::Within(..) => None,
            Place::Wanted(kind, length) => {
                let payload = self.payload(length)?;
                self.place = Place::Head;
                Some(Event::Payload(kind, payload))
            }
        }
    }

    /// Whether the stream may end here.
    pub(super) fn is_between(&self) -> bool {
        self.place == Place::Head && self.held.is_empty() && self.piece.is_empty()
    }

    fn begin(&mut self) -> Option<Event> {
        let (kind, length) = self.head()?;
        let kind = Kind::of(kind);
        self.place = Place::Within(kind, length);
        Some(Event::Begin(kind, length))
    }

    fn head(&mut self) -> Option<(u64, u64)> {
        if self.held.is_empty()
            && let Some((kind, length, rest)) = head(&self.piece)
        {
            self.piece.advance(self.piece.len() - rest.len());
            return Some((kind, length));
        }
        while !self.piece.is_empty() {
            self.held.push(self.piece.get_u8());
            if let Some((kind, length, _)) = head(&self.held) {
                self.held.clear();
                return Some((kind, length));
            }
        }
        None
    }

    fn payload(&mut self, length: usize) -> Option<Bytes> {
        if self.held.is_empty() && self.piece.len() >= length {
            return Some(self.piece.split_to(length));
        }
        let missing = length - self.held.len();
        self.held.extend_from_slice(&self.piece.split_to(missing.min(self.piece.len())));
        (self.held.len() == length).then(|| std::mem::take(&mut self.held).into())
    }
}

/// A frame's type and length, and what follows.
fn head(bytes: &[u8]) -> Option<(u64, u64, &[u8])> {
    let (kind, rest) = number::read(bytes)?;
    let (length, rest) = number::read(rest)?;
    Some((kind, length, rest))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// All that happens on a stream that comes in these pieces, with the payloads of every second kind.
    fn events(pieces: impl IntoIterator<Item = Bytes>) -> (Vec<Event>, bool) {
        let mut frames = Frames::new(Bytes::new());
        let mut events = Vec::new();
        for piece in pieces {
            frames.push(piece);
            while let Some(event) = frames.next() {
                if matches!(event, Event::Begin(Kind::Headers | Kind::Settings | Kind::Unknown, 0..=1000)) {
                    frames.collect();
                }
                events.push(event);
            }
            assert!(frames.held.len() <= 1000);
        }
        (events, frames.is_between())
    }

    proptest! {
        #[test]
        fn frames_are_the_same_however_they_are_cut(
            frames in proptest::collection::vec((0u64..40, proptest::collection::vec(any::<u8>(), 0..200)), 1..8),
            cuts in proptest::collection::vec(1usize..90, 1..40),
        ) {
            let mut bytes = Vec::new();
            let mut expected = Vec::new();
            for (kind, payload) in &frames {
                number::write(&mut bytes, *kind);
                number::write(&mut bytes, payload.len() as u64);
                bytes.extend_from_slice(payload);
                let kind = Kind::of(*kind);
                expected.push(Event::Begin(kind, payload.len() as u64));
                if matches!(kind, Kind::Headers | Kind::Settings | Kind::Unknown) {
                    expected.push(Event::Payload(kind, payload.clone().into()));
                }
            }
            let whole = Bytes::from(bytes);
            prop_assert_eq!(events([whole.clone()]), (expected.clone(), true));
            let (mut rest, mut pieces) = (whole, Vec::new());
            for cut in cuts.into_iter().cycle() {
                if rest.is_empty() {
                    break;
                }
                pieces.push(rest.split_to(cut.min(rest.len())));
            }
            prop_assert_eq!(events(pieces), (expected, true));
        }

        #[test]
        fn any_bytes_are_survived_and_read_the_same(
            bytes in proptest::collection::vec(any::<u8>(), 0..2000),
            cut in 1usize..50,
        ) {
            let whole = Bytes::from(bytes);
            let pieces: Vec<Bytes> = whole.chunks(cut).map(Bytes::copy_from_slice).collect();
            prop_assert_eq!(events([whole]), events(pieces));
        }
    }

    #[test]
    fn a_stream_may_end_between_frames_only() {
        let between = |bytes: &'static [u8]| events([Bytes::from_static(bytes)]).1;
        assert!(between(&[]));
        assert!(between(&[0x01, 0x02, 0, 0]) && between(&[0x00, 0x02, 0, 0]) && between(&[0x04, 0x00]));
        assert!(!between(&[0x01]) && !between(&[0x01, 0x40]));
        assert!(!between(&[0x01, 0x02, 0]) && !between(&[0x00, 0x02, 0]) && !between(&[0x00, 0x02]));
    }
}
