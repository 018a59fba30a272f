//! How many bytes a job may bring. A task's results are kept in the parent's memory and put into the store, so that what
//! has talked a child into writing without end must not fill either.

use reelmill_media::ladder::{AudioRung, Rung};
use reelmill_media::time::{Ticks, Timescale};

use super::protocol::{AudioJob, Job, MAX_MESSAGE_BYTES, VideoJob};

/// What comes besides segments, in bytes: requests for the source, init segments, stills.
const ASIDE: u64 = 64 << 20;

/// Times the rate cap. Software keeps to it; not every device does.
const OVERSHOOT: u64 = 2;

impl Job {
    /// Bytes that a child may say in all while it does this job.
    pub fn allowance(&self) -> u64 {
        let made = match self {
            Job::Index { .. } | Job::IndexBeginning { .. } => MAX_MESSAGE_BYTES as u64,
            Job::Video(job) => job.allowance(),
            Job::Audio(job) => job.allowance(),
        };
        made.saturating_add(ASIDE)
    }
}

impl VideoJob {
    fn allowance(&self) -> u64 {
        let start = self.frames.first().map_or(self.end, |frame| frame.pts);
        let of_rung = |rung: &Rung| {
            let capped = kbit(rung.max_kbps, self.end - start, self.timescale)
                .saturating_add(u64::from(rung.buffer_kbit));
            // Noise takes what it takes, even at the coarsest: below a bit per pixel.
            let pixels = u64::from(rung.width) * u64::from(rung.height) * self.frames.len() as u64;
            capped.saturating_mul(OVERSHOOT * 1000).saturating_add(pixels) / 8
        };
        self.rungs.iter().map(of_rung).fold(0, u64::saturating_add)
    }
}

impl AudioJob {
    fn allowance(&self) -> u64 {
        let first = self.segments.first().map_or(0, |segment| segment.first);
        let packets = i64::from(self.end_packet) - i64::from(first);
        let AudioRung { codec, kbps, .. } = self.rung;
        let samples = Ticks(packets.saturating_mul(codec.packet_samples()));
        kbit(kbps, samples, self.timeline.sample_rate).saturating_mul(OVERSHOOT * 1000) / 8
    }
}

/// What a rate gives in some time.
fn kbit(kbps: u32, duration: Ticks, clock: Timescale) -> u64 {
    let seconds = u64::try_from(duration.0).unwrap_or(0).div_ceil(u64::from(clock.get()));
    seconds.saturating_mul(u64::from(kbps))
}
