//! What a client says on its control stream (RFC 9114 §6.2.1, §7.2, RFC 9218 §7).

use bytes::Bytes;

use super::fault::Code;
use super::frames::{Event, Frames, Kind};
use super::number;
use super::priority::{Priorities, Urgency};

/// No honest payload here is longer.
const PAYLOAD_BYTES: u64 = 1024;

/// Identifiers of HTTP/2's settings that have no sense here (RFC 9114 §11.2.2).
const SETTINGS_OF_HTTP2: [u64; 5] = [0x00, 0x02, 0x03, 0x04, 0x05];

/// A client's control stream. Nothing is pushed, and of what the client can do nothing is made use of, so that only priorities
/// are of interest; the rest is judged.
#[derive(Debug)]
pub(super) struct ControlStream<'a> {
    frames: Frames,
    has_settings: bool,
    /// The last GOAWAY and MAX_PUSH_ID.
    goaway: u64,
    pushes: u64,
    priorities: &'a Priorities,
}

impl<'a> ControlStream<'a> {
    pub(super) fn new(priorities: &'a Priorities) -> Self {
        let frames = Frames::new(Bytes::new());
        Self { frames, has_settings: false, goaway: u64::MAX, pushes: 0, priorities }
    }

    /// Takes the next piece of it.
    pub(super) fn read(&mut self, piece: Bytes) -> Result<(), Code> {
        self.frames.push(piece);
        while let Some(event) = self.frames.next() {
            match event {
                Event::Begin(kind, length) => self.begin(kind, length)?,
                Event::Payload(kind, payload) => self.judge(kind, &payload)?,
            }
        }
        Ok(())
    }

    fn begin(&mut self, kind: Kind, length: u64) -> Result<(), Code> {
        if !self.has_settings && kind != Kind::Settings {
            return Err(Code::MissingSettings);
        }
        match kind {
            Kind::Settings if self.has_settings => return Err(Code::FrameUnexpected),
            Kind::Settings => self.has_settings = true,
            Kind::Data | Kind::Headers | Kind::PushPromise | Kind::OfHttp2 => {
                return Err(Code::FrameUnexpected);
            }
            Kind::Unknown => return Ok(()),
            Kind::CancelPush
            | Kind::Goaway
            | Kind::MaxPushId
            | Kind::PriorityUpdate
            | Kind::PushPriorityUpdate => {}
        }
        if length > PAYLOAD_BYTES {
            return Err(Code::ExcessiveLoad);
        }
        self.frames.collect();
        Ok(())
    }

    fn judge(&mut self, kind: Kind, payload: &[u8]) -> Result<(), Code> {
        match kind {
            Kind::Settings => settings(payload),
            Kind::PriorityUpdate => {
                let (stream, value) = number::read(payload).ok_or(Code::FrameError)?;
                self.priorities.update(stream, Urgency::read(value))
            }
            // Nothing was promised that could be cancelled or be urgent.
            Kind::CancelPush => id(payload).and(Err(Code::IdError)),
            Kind::PushPriorityUpdate => Err(Code::IdError),
            Kind::Goaway => match id(payload)? {
                id if id > self.goaway => Err(Code::IdError),
                id => {
                    self.goaway = id;
                    Ok(())
                }
            },
            Kind::MaxPushId => match id(payload)? {
                id if id < self.pushes => Err(Code::IdError),
                id => {
                    self.pushes = id;
                    Ok(())
                }
            },
            // They are not collected.
            Kind::Data | Kind::Headers | Kind::PushPromise | Kind::OfHttp2 | Kind::Unknown => Ok(()),
        }
    }
}

/// A payload of one number.
fn id(payload: &[u8]) -> Result<u64, Code> {
    match number::read(payload) {
        Some((id, [])) => Ok(id),
        Some(_) | None => Err(Code::FrameError),
    }
}

/// Identifiers and values (RFC 9114 §7.2.4).
fn settings(payload: &[u8]) -> Result<(), Code> {
    let (mut rest, mut seen) = (payload, Vec::new());
    while !rest.is_empty() {
        let (id, value) = number::read(rest).ok_or(Code::FrameError)?;
        (_, rest) = number::read(value).ok_or(Code::FrameError)?;
        if SETTINGS_OF_HTTP2.contains(&id) || seen.contains(&id) {
            return Err(Code::SettingsError);
        }
        seen.push(id);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn frame(kind: u64, payload: &[u8]) -> Vec<u8> {
        let mut frame = Vec::new();
        number::write(&mut frame, kind);
        number::write(&mut frame, payload.len() as u64);
        [frame, payload.to_vec()].concat()
    }

    const SETTINGS: u64 = 0x04;
    const UPDATE: u64 = 0xf0700;

    fn read(frames: &[Vec<u8>]) -> Result<(), Code> {
        ControlStream::new(&Priorities::default()).read([&[0x04, 0x00][..], &frames.concat()].concat().into())
    }

    proptest! {
        #[test]
        fn priorities_are_read_however_the_stream_is_cut(cuts in proptest::collection::vec(1usize..7, 1..40)) {
            let stream = [
                frame(SETTINGS, &[0x06, 0x41, 0x00]),
                frame(UPDATE, b"\x04u=1"),
                frame(0x21, &[9; 40]),
                frame(UPDATE, b"\x08u=6, i"),
            ];
            let priorities = Priorities::default();
            let mut control = ControlStream::new(&priorities);
            let mut rest = Bytes::from(stream.concat());
            for cut in cuts.into_iter().cycle() {
                if rest.is_empty() {
                    break;
                }
                prop_assert_eq!(control.read(rest.split_to(cut.min(rest.len()))), Ok(()));
            }
            prop_assert_eq!(priorities.early(4), Some(Urgency::read(b"u=1")));
            prop_assert_eq!(priorities.early(8), Some(Urgency::read(b"u=6")));
        }

        #[test]
        fn any_bytes_are_judged_the_same_however_they_are_cut(
            bytes in proptest::collection::vec(any::<u8>(), 0..2000),
            cut in 1usize..50,
        ) {
            let stream = [&[0x04, 0x00][..], &bytes].concat();
            let priorities = Priorities::default();
            let mut whole = ControlStream::new(&priorities);
            let mut cut_up = ControlStream::new(&priorities);
            let piecemeal = stream.chunks(cut).try_for_each(|piece| cut_up.read(Bytes::copy_from_slice(piece)));
            prop_assert_eq!(whole.read(stream.clone().into()), piecemeal);
        }
    }

    #[test]
    fn settings_are_judged() {
        assert_eq!(settings(&[]), Ok(()));
        assert_eq!(settings(&[0x06, 0x00, 0x01, 0x40, 0x00, 0x33, 0x01]), Ok(()));
        assert_eq!(settings(&[0x06, 0x00, 0x06, 0x00]), Err(Code::SettingsError));
        for id in SETTINGS_OF_HTTP2 {
            assert_eq!(settings(&[id as u8, 0x00]), Err(Code::SettingsError));
        }
        for cut in [&[0x06][..], &[0x46], &[0x06, 0x40]] {
            assert_eq!(settings(cut), Err(Code::FrameError));
        }
    }

    #[test]
    fn numbers_are_one_and_go_one_way() {
        let (most, goaway) = (|id| frame(0x0d, &[id]), |id| frame(0x07, &[id]));
        assert_eq!(read(&[most(0), most(2), most(2), most(3)]), Ok(()));
        assert_eq!(read(&[most(2), most(1)]), Err(Code::IdError));
        assert_eq!(read(&[goaway(2), goaway(2), goaway(1)]), Ok(()));
        assert_eq!(read(&[goaway(1), goaway(2)]), Err(Code::IdError));
        assert_eq!(read(&[most(2), frame(0x03, &[0])]), Err(Code::IdError));
        assert_eq!(read(&[frame(0xf0701, b"\0u=1")]), Err(Code::IdError));
        for kind in [0x03, 0x07, 0x0d] {
            assert_eq!(read(&[frame(kind, &[])]), Err(Code::FrameError));
            assert_eq!(read(&[frame(kind, &[0, 0])]), Err(Code::FrameError));
        }
        assert_eq!(read(&[frame(UPDATE, &[])]), Err(Code::FrameError));
        assert_eq!(read(&[frame(UPDATE, &[0; 2000])]), Err(Code::ExcessiveLoad));
        assert_eq!(read(&[frame(0x21, &[0; 2000])]), Ok(()));
    }
}
