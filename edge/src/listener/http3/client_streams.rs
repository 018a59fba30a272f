//! Unidirectional streams that a client opens (RFC 9114 §6.2, RFC 9204 §4.2).

use std::future::pending;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;
use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;

use super::control_stream::ControlStream;
use super::fault::Code;
use super::number;
use super::priority::Priorities;
use crate::limits::H3_CONTROL_STREAM_BYTES;
use crate::listener::driver::{Connection, ReadError, RecvStream};

/// Hears all of them, and ends the connection where something is said that may not be.
pub(super) async fn hear(connection: &Connection, priorities: &Priorities) {
    let taken = Taken::default();
    let mut heard = FuturesUnordered::new();
    loop {
        tokio::select! {
            stream = connection.accept_uni() => match stream {
                Ok(stream) => heard.push(hear_one(stream, &taken, priorities)),
                // The connection's end is told elsewhere.
                Err(_) => return pending().await,
            },
            Some(heard) = heard.next() => if let Err(fault) = heard {
                connection.close(fault.into());
            },
        }
    }
}

/// Those that may be there once each.
#[derive(Debug, Default)]
struct Taken {
    control: AtomicBool,
    encoder: AtomicBool,
    decoder: AtomicBool,
}

/// What is said on a stream.
#[derive(Debug)]
enum Speech<'a> {
    Control(ControlStream<'a>),
    /// That the table has no room (RFC 9204 §4.3.1).
    Encoder,
    /// That streams were given up (RFC 9204 §4.4.2).
    Decoder {
        /// In the middle of a stream's number.
        within: bool,
    },
}

async fn hear_one(mut stream: RecvStream, taken: &Taken, priorities: &Priorities) -> Result<(), Code> {
    let Some((kind, mut piece)) = kind(&mut stream).await else { return Ok(()) };
    let (mut speech, place) = match kind {
        0x00 => (Speech::Control(ControlStream::new(priorities)), &taken.control),
        // Nobody but a server pushes.
        0x01 => return Err(Code::StreamCreationError),
        0x02 => (Speech::Encoder, &taken.encoder),
        0x03 => (Speech::Decoder { within: false }, &taken.decoder),
        _ => {
            stream.stop(Code::StreamCreationError.into());
            return Ok(());
        }
    };
    if place.swap(true, Ordering::Relaxed) {
        return Err(Code::StreamCreationError);
    }
    let mut allowance = H3_CONTROL_STREAM_BYTES;
    loop {
        allowance = allowance.checked_sub(piece.len() as u64).ok_or(Code::ExcessiveLoad)?;
        speech.hear(piece)?;
        piece = match stream.read().await {
            Ok(Some(piece)) => piece,
            Err(ReadError::ConnectionLost) => return Ok(()),
            // All three are there as long as the connection is (RFC 9114 §6.2.1, RFC 9204 §4.2).
            Ok(None) | Err(ReadError::GivenUp) => return Err(Code::ClosedCriticalStream),
        };
    }
}

/// Which kind of stream it is, and what came with that; `None` of one that is over before (RFC 9114 §6.2).
async fn kind(stream: &mut RecvStream) -> Option<(u64, Bytes)> {
    let mut read = Vec::new();
    loop {
        read.extend_from_slice(&stream.read().await.ok()??);
        if let Some((kind, rest)) = number::read(&read) {
            return Some((kind, Bytes::copy_from_slice(rest)));
        }
    }
}

impl Speech<'_> {
    fn hear(&mut self, piece: Bytes) -> Result<(), Code> {
        match self {
            Self::Control(control) => control.read(piece),
            // Set Dynamic Table Capacity, to nothing.
            Self::Encoder if piece.iter().all(|byte| *byte == 0x20) => Ok(()),
            Self::Encoder => Err(Code::EncoderStreamError),
            Self::Decoder { within } => {
                for byte in piece {
                    *within = match (*within, byte) {
                        // A prefix of six bits, then as many bytes as say that more follow (RFC 7541 §5.1).
                        (true, byte) => byte & 0x80 != 0,
                        // Stream Cancellation. Nothing was inserted that could be told of, and no section needs any of it.
                        (false, 0x40..=0x7f) => byte == 0x7f,
                        (false, _) => return Err(Code::DecoderStreamError),
                    };
                }
                Ok(())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn any_bytes_are_judged_the_same_however_they_are_cut(
            // Mostly those that may stand there.
            bytes in proptest::collection::vec(prop_oneof![Just(0x20), 0x40..=0x7fu8, any::<u8>()], 0..60),
            cut in 1usize..20,
        ) {
            let kinds: [fn() -> Speech<'static>; 2] = [|| Speech::Encoder, || Speech::Decoder { within: false }];
            for kind in kinds {
                let mut cut_up = kind();
                let piecemeal = bytes.chunks(cut).try_for_each(|piece| cut_up.hear(Bytes::copy_from_slice(piece)));
                prop_assert_eq!(kind().hear(bytes.clone().into()), piecemeal);
            }
        }
    }

    #[test]
    fn only_what_needs_no_table_may_be_said() {
        let encoder = |bytes: &'static [u8]| Speech::Encoder.hear(bytes.into());
        let decoder = |bytes: Vec<u8>| Speech::Decoder { within: false }.hear(bytes.into());
        assert_eq!(encoder(&[0x20, 0x20]), Ok(()));
        for insertion in [&[0x20, 0x21][..], &[0x3f], &[0xc0], &[0x40], &[0x00]] {
            assert_eq!(encoder(insertion), Err(Code::EncoderStreamError));
        }
        // Streams 4, 62, 63, 190 and 191.
        assert_eq!(decoder(vec![0x44, 0x7e, 0x7f, 0x00, 0x7f, 0x7f, 0x7f, 0x80, 0x01]), Ok(()));
        for told in [0x00, 0x01, 0x80, 0xff] {
            assert_eq!(decoder(vec![0x7f, 0x80, 0x01, told]), Err(Code::DecoderStreamError));
        }
    }
}
