//! Decodes one frame: what the bitstream says of the picture is the truth, what the container says fills the gaps.

use reelmill_av::{DecodeError, Decoded, Frame, SourceVideoCodec, VideoDecoder};
use reelmill_media::index::{Colour, Container, Picture, VideoTrack};
use reelmill_media::task::{Failure, FailureCode};

use super::super::failure::{fail, internal, of_source};
use super::super::feed::Packets;
use super::super::parent::Parent;
use super::super::protocol::Feed;
use super::{HOP_BYTES, MAX_PIXELS};

/// Samples fed before the next key sample is tried: no codec holds back more frames.
const MAX_FED: usize = 48;
/// Key samples tried, spread over the track.
const MAX_TRIES: usize = 4;
/// Pixel aspects beyond this, either way, are taken for a fault.
const MAX_ASPECT: u64 = 16;

/// The picture facts of a source's video track, from its first frame that decodes.
pub fn picture(
    parent: &Parent,
    container: Container,
    track: &VideoTrack,
    length: u64,
) -> Result<Picture, Failure> {
    let samples = &track.samples;
    let keys: Vec<usize> = samples.iter().enumerate().filter(|(_, s)| s.key).map(|(i, _)| i).collect();
    let keys = if keys.is_empty() { vec![0] } else { keys };
    for attempt in 0..MAX_TRIES.min(keys.len()) {
        let Some(&start) = keys.get(attempt * keys.len() / MAX_TRIES.min(keys.len())) else { break };
        let feed = Feed {
            source_bytes: length,
            container,
            stream: track.stream,
            setup: track.setup.clone(),
            timescale: track.timescale,
            samples: samples.iter().skip(start).take(MAX_FED).copied().collect(),
        };
        if let Some(frame) = first_frame(parent, &feed, &track.picture)? {
            return Ok(merged(&track.picture, &frame));
        }
    }
    Err(fail(FailureCode::Corrupt, "no frame of the picture can be decoded"))
}

fn first_frame(parent: &Parent, feed: &Feed, said: &Picture) -> Result<Option<Frame>, Failure> {
    let codec = SourceVideoCodec::named(&feed.setup.codec).map_err(of_source)?;
    let size = (said.width, said.height);
    let mut decoder = match VideoDecoder::open(codec, &feed.setup.extradata, feed.timescale, size, MAX_PIXELS)
    {
        Ok(decoder) => decoder,
        Err(error) if error.is_bad_data() => return Ok(None),
        Err(error) => return Err(of_source(error)),
    };
    // A few frames are enough.
    let mut packets = Packets::open(parent, feed, HOP_BYTES)?;
    let mut frame = Frame::new().map_err(internal)?;
    loop {
        let packet = packets.next()?;
        match decoder.send(packet.as_ref()) {
            Ok(()) | Err(DecodeError::Broken(_)) => {}
            Err(error @ DecodeError::Fatal(_)) => return Err(internal(error)),
        }
        match decoder.receive(&mut frame) {
            Ok(Decoded::Frame) => return Ok(Some(frame)),
            Ok(Decoded::Hungry | Decoded::Ended) | Err(DecodeError::Broken(_)) => {}
            Err(error @ DecodeError::Fatal(_)) => return Err(internal(error)),
        }
        if packet.is_none() {
            return Ok(None);
        }
    }
}

fn merged(said: &Picture, frame: &Frame) -> Picture {
    let (container, stream) = (said.colour, frame.colour());
    let pick = |stream: u8, container: u8| if matches!(stream, 2 | 3) { container } else { stream };
    let container_aspect = (said.sar_num, said.sar_den);
    let (sar_num, sar_den) = Some(container_aspect)
        .filter(|(num, den)| *num > 0 && *den > 0)
        .or_else(|| frame.sample_aspect())
        .filter(|(num, den)| {
            let (num, den) = (u64::from(*num), u64::from(*den));
            num <= den * MAX_ASPECT && den <= num * MAX_ASPECT
        })
        .unwrap_or((1, 1));
    Picture {
        width: frame.width(),
        height: frame.height(),
        sar_num,
        sar_den,
        orientation: said.orientation,
        colour: Colour {
            primaries: pick(stream.primaries, container.primaries),
            transfer: pick(stream.transfer, container.transfer),
            matrix: pick(stream.matrix, container.matrix),
            full_range: stream.full_range.or(container.full_range),
        },
    }
}
