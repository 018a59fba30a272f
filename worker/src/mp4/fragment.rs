//! Media segments: one `moof` and one `mdat` each (ISO 14496-12 §8.8; CMAF, ISO 23000-19 §7.3.2).
//!
//! Sample i in decode order is given the i-th smallest presentation time of its segment as its decode time. So decode
//! times are strictly increasing, begin at the segment's start and end at the next one's, for any frame timing and
//! without knowing the neighbours.

use reelmill_media::time::Ticks;

use super::boxes::Boxes;

/// `sample_depends_on = 2`: a sync sample (§8.8.3.1).
const SYNC: u32 = 0x0200_0000;
/// `sample_depends_on = 1`, `sample_is_non_sync_sample`.
const NOT_SYNC: u32 = 0x0101_0000;

/// `default-base-is-moof` of `tfhd`.
const DEFAULT_BASE_IS_MOOF: u32 = 0x02_0000;
/// `default-sample-flags-present` of `tfhd`.
const DEFAULT_FLAGS: u32 = 0x20;

/// `trun` flags: data offset, and per sample duration, size, flags and composition offset.
const TRUN_DATA_OFFSET: u32 = 0x1;
const TRUN_DURATION: u32 = 0x100;
const TRUN_SIZE: u32 = 0x200;
const TRUN_FLAGS: u32 = 0x400;
const TRUN_COMPOSITION: u32 = 0x800;

/// A coded frame on its way into a segment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VideoSample {
    /// Presentation time on the track's clock.
    pub pts: Ticks,
    /// Decoding can start here.
    pub sync: bool,
    /// As [`VideoConfig::sample`](super::video_config::VideoConfig::sample) gives it.
    pub data: Vec<u8>,
}

/// Samples that cannot be one segment.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadSegment {
    /// Nothing to write.
    #[error("a segment without samples")]
    Empty,
    /// It would not decode alone.
    #[error("a segment that does not start with a sync frame")]
    NoSync,
    /// Two frames at one time, or a frame after the segment's end.
    #[error("presentation times of a segment do not increase up to its end")]
    Times,
    /// A time or size does not fit its field.
    #[error("a segment's time or size does not fit its field")]
    Field,
}

/// Writes the video segment `number` (from 0). `samples` are in decode order; the last in time ends at `end`.
pub fn video_segment(number: u32, samples: &[VideoSample], end: Ticks) -> Result<Vec<u8>, BadSegment> {
    let first = samples.first().ok_or(BadSegment::Empty)?;
    if !first.sync {
        return Err(BadSegment::NoSync);
    }
    let mut times: Vec<Ticks> = samples.iter().map(|s| s.pts).collect();
    times.sort_unstable();
    let ends = times.iter().skip(1).copied().chain([end]);
    let mut rows = Vec::with_capacity(samples.len());
    for ((sample, dts), next) in samples.iter().zip(&times).zip(ends) {
        let duration = u32::try_from((next - *dts).0).ok().filter(|d| *d > 0).ok_or(BadSegment::Times)?;
        let offset = i32::try_from((sample.pts - *dts).0).map_err(|_| BadSegment::Field)?;
        rows.push((duration, size(&sample.data)?, if sample.sync { SYNC } else { NOT_SYNC }, offset));
    }
    let start = times.first().copied().ok_or(BadSegment::Empty)?;
    let flags = TRUN_DATA_OFFSET | TRUN_DURATION | TRUN_SIZE | TRUN_FLAGS | TRUN_COMPOSITION;
    let track = Track { default_flags: None, rolls: false };
    segment(number, start, track, flags, samples.iter().map(|s| s.data.as_slice()), |b| {
        for (duration, size, flags, offset) in &rows {
            b.u32(*duration).u32(*size).u32(*flags).i32(*offset);
        }
    })
}

/// Writes the audio segment `number` (from 0): packets of `packet_duration` samples from `start` on (encoder delay included), of
/// which the last lasts `last_duration` samples. `rolls`: they are of the init segment's roll group.
pub fn audio_segment(
    number: u32,
    packets: &[Vec<u8>],
    start: Ticks,
    packet_duration: u32,
    last_duration: u32,
    rolls: bool,
) -> Result<Vec<u8>, BadSegment> {
    let last = packets.len().checked_sub(1).ok_or(BadSegment::Empty)?;
    let sizes = packets.iter().map(|p| size(p)).collect::<Result<Vec<_>, _>>()?;
    let flags = TRUN_DATA_OFFSET | TRUN_DURATION | TRUN_SIZE;
    let track = Track { default_flags: Some(SYNC), rolls };
    segment(number, start, track, flags, packets.iter().map(Vec::as_slice), |b| {
        for (i, size) in sizes.iter().enumerate() {
            b.u32(if i == last { last_duration } else { packet_duration }).u32(*size);
        }
    })
}

fn size(data: &[u8]) -> Result<u32, BadSegment> {
    u32::try_from(data.len()).map_err(|_| BadSegment::Field)
}

/// What differs between tracks of pictures and of sound.
struct Track {
    default_flags: Option<u32>,
    rolls: bool,
}

fn segment<'a>(
    number: u32,
    start: Ticks,
    track: Track,
    run_flags: u32,
    data: impl ExactSizeIterator<Item = &'a [u8]> + Clone,
    rows: impl FnOnce(&mut Boxes),
) -> Result<Vec<u8>, BadSegment> {
    let start = u64::try_from(start.0).map_err(|_| BadSegment::Field)?;
    let count = u32::try_from(data.len()).map_err(|_| BadSegment::Field)?;
    let total: usize = data.clone().map(<[u8]>::len).sum();
    // Room for headers, so that all offsets and sizes below fit 32 bits with a sign.
    if total > i32::MAX as usize - (64 << 20) {
        return Err(BadSegment::Field);
    }
    let mut out = Boxes::new();
    let mut data_offset_at = 0;
    out.nest(b"moof", |b| {
        b.nest_full(b"mfhd", 0, 0, |b| {
            b.u32(number.wrapping_add(1));
        });
        b.nest(b"traf", |b| {
            let present = if track.default_flags.is_some() { DEFAULT_FLAGS } else { 0 };
            b.nest_full(b"tfhd", 0, DEFAULT_BASE_IS_MOOF | present, |b| {
                b.u32(super::init::TRACK_ID);
                if let Some(flags) = track.default_flags {
                    b.u32(flags);
                }
            });
            b.nest_full(b"tfdt", 1, 0, |b| {
                b.u64(start);
            });
            b.nest_full(b"trun", 1, run_flags, |b| {
                b.u32(count);
                data_offset_at = b.position();
                b.u32(0);
                rows(b);
            });
            if track.rolls {
                // All samples are of the first group that the init segment describes (§8.9.2).
                b.nest_full(b"sbgp", 0, 0, |b| {
                    b.bytes(b"roll").u32(1).u32(count).u32(1);
                });
            }
        });
    });
    let data_offset = out.position() as u32 + 8;
    out.patch_u32(data_offset_at, data_offset);
    out.nest(b"mdat", |b| {
        for bytes in data {
            b.bytes(bytes);
        }
    });
    Ok(out.into_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;
    use mp4_atom::{Decode, Mdat, Moof};
    use proptest::prelude::*;

    fn decode(bytes: &[u8]) -> (Moof, Vec<u8>) {
        let mut rest = bytes;
        let moof = Moof::decode(&mut rest).unwrap();
        let mdat = Mdat::decode(&mut rest).unwrap();
        assert!(rest.is_empty());
        (moof, mdat.data)
    }

    #[test]
    fn an_independent_reader_agrees() {
        let sample = |pts, sync, byte| VideoSample { pts: Ticks(pts), sync, data: vec![byte; 3] };
        // Decode order I P B: presented I B P.
        let samples = [sample(100, true, 1), sample(140, false, 2), sample(115, false, 3)];
        let (moof, data) = decode(&video_segment(4, &samples, Ticks(150)).unwrap());
        assert_eq!(data, [1, 1, 1, 2, 2, 2, 3, 3, 3]);
        assert_eq!(moof.mfhd.sequence_number, 5);
        let traf = &moof.traf[0];
        assert_eq!(traf.tfdt.as_ref().unwrap().base_media_decode_time, 100);
        let rows: Vec<_> =
            traf.trun[0].samples.iter().map(|e| (e.duration.unwrap(), e.cts.unwrap())).collect();
        assert_eq!(rows, [(15, 0), (25, 25), (10, -25)]);
    }

    #[test]
    fn refuses_what_would_not_play() {
        let sample = |pts, sync| VideoSample { pts: Ticks(pts), sync, data: vec![0] };
        assert_eq!(video_segment(0, &[], Ticks(1)), Err(BadSegment::Empty));
        assert_eq!(video_segment(0, &[sample(0, false)], Ticks(1)), Err(BadSegment::NoSync));
        assert_eq!(video_segment(0, &[sample(0, true), sample(0, false)], Ticks(1)), Err(BadSegment::Times));
        assert_eq!(video_segment(0, &[sample(5, true)], Ticks(5)), Err(BadSegment::Times));
    }

    proptest! {
        #[test]
        fn decode_times_walk_from_start_to_end(
            steps in prop::collection::vec(1i64..5000, 1..60), start in 0i64..1_000_000, swap in any::<prop::sample::Index>(),
        ) {
            let mut pts: Vec<i64> = steps.iter().scan(start, |t, s| { let at = *t; *t += s; Some(at) }).collect();
            let end = start + steps.iter().sum::<i64>();
            if pts.len() > 2 {
                let i = 1 + swap.index(pts.len() - 2);
                pts.swap(i, i + 1);
            }
            let samples: Vec<_> = pts.iter().enumerate()
                .map(|(i, p)| VideoSample { pts: Ticks(*p), sync: i == 0, data: vec![0] }).collect();
            let (moof, _) = decode(&video_segment(0, &samples, Ticks(end)).unwrap());
            let traf = &moof.traf[0];
            let mut dts = traf.tfdt.as_ref().unwrap().base_media_decode_time as i64;
            for (entry, pts) in traf.trun[0].samples.iter().zip(&pts) {
                prop_assert_eq!(dts + entry.cts.unwrap(), *pts);
                dts += i64::from(entry.duration.unwrap());
            }
            prop_assert_eq!(dts, end);
        }
    }
}
