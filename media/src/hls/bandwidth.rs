//! Bit rates as RFC 8216bis §4.1 defines them, from measured bytes.

use crate::presentation::Track;

/// Peak and average of one track, in bits per second, rounded up.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct BitRate {
    pub(super) peak: u64,
    pub(super) average: u64,
}

impl BitRate {
    /// The largest rate of any run of segments that lasts between 0.5 and 1.5 target durations, and of any single
    /// longer segment; where the whole track is shorter than that, its average.
    pub(super) fn of(track: &Track, target_duration: u32) -> BitRate {
        let clock = track.timescale();
        Self::of_pieces(track.segments.iter().map(|s| (s.bytes, s.duration.micros(clock))), target_duration)
    }

    /// The same of the first frames alone, each shown until the next.
    pub(super) fn of_first_frames(track: &Track, target_duration: u32) -> BitRate {
        let clock = track.timescale();
        let pieces =
            track.segments.iter().map(|s| (u64::from(s.first_frame_bytes), s.duration.micros(clock)));
        Self::of_pieces(pieces, target_duration)
    }

    fn of_pieces(pieces: impl Iterator<Item = (u64, i64)>, target_duration: u32) -> BitRate {
        let list: Vec<(u64, i64)> = pieces.collect();
        let average = rate(list.iter().map(|s| s.0).sum(), list.iter().map(|s| s.1).sum());
        let (low, high) = (i64::from(target_duration) * 500_000, i64::from(target_duration) * 1_500_000);
        let mut peak = 0;
        for start in 0..list.len() {
            let (mut bytes, mut micros) = (0, 0);
            for (size, length) in &list[start..] {
                if micros + length > high && micros > 0 {
                    break;
                }
                bytes += size;
                micros += length;
                if micros >= low {
                    peak = peak.max(rate(bytes, micros));
                }
            }
        }
        BitRate { peak: peak.max(average), average }
    }

    /// The larger of both, peak and average each.
    pub(super) fn max(self, other: BitRate) -> BitRate {
        BitRate { peak: self.peak.max(other.peak), average: self.average.max(other.average) }
    }

    pub(super) fn plus(self, other: BitRate) -> BitRate {
        BitRate { peak: self.peak + other.peak, average: self.average + other.average }
    }
}

fn rate(bytes: u64, micros: i64) -> u64 {
    let micros = u128::try_from(micros).unwrap_or(0).max(1);
    u64::try_from((u128::from(bytes) * 8 * 1_000_000).div_ceil(micros)).unwrap_or(u64::MAX)
}
