//! Puts the packets of a sound track where their samples truly lie.
//!
//! Containers round packet times to their own clock: Matroska to milliseconds, which is 48 samples. Chunks that start
//! from times so rounded would be shifted against each other. Where a codec's packets all hold the same number of
//! samples, counting them is exact.

use reelmill_media::index::AudioTrack;
use reelmill_media::time::{Ticks, Timescale};

/// Codecs whose packets all hold the same number of samples.
const EVEN_CODECS: [&str; 6] = ["aac", "mp3", "mp2", "ac3", "eac3", "opus"];

/// Samples per packet of those.
const PACKET_SAMPLES: [i64; 11] = [1024, 2048, 1152, 576, 1536, 960, 480, 1920, 2880, 768, 256];

/// A packet may lie so many ticks of the container's clock from where counting puts it.
const TOLERANCE_TICKS: i64 = 2;

/// Replaces the track's clock by its sample rate, and its packets' times by counted ones where that is evident.
pub fn snap(track: &mut AudioTrack) {
    let Some(rate) = Timescale::new(track.sample_rate) else { return };
    let even = EVEN_CODECS.contains(&track.setup.codec.as_str());
    if !even || track.timescale == rate || track.samples.len() < 3 {
        return;
    }
    let clock = track.timescale;
    let Some(step) = packet_samples(track, rate) else { return };
    let tolerance = Ticks(TOLERANCE_TICKS).rescale(clock, rate).0.max(1) + 1;
    let mut expected: Option<i64> = None;
    for sample in &mut track.samples {
        let said = sample.pts.rescale(clock, rate).0;
        let at = match expected {
            Some(counted) if (counted - said).abs() <= tolerance => counted,
            Some(_) | None => said,
        };
        expected = Some(at + step);
        sample.pts = Ticks(at);
        sample.dts = Ticks(at);
    }
    track.window = track.window.start.rescale(clock, rate)..track.window.end.rescale(clock, rate);
    track.timescale = rate;
}

/// Samples per packet, when the usual distance of packets is that of a codec's packets.
fn packet_samples(track: &AudioTrack, rate: Timescale) -> Option<i64> {
    let mut steps: Vec<i64> = track.samples.windows(2).map(|w| (w[1].pts - w[0].pts).0).collect();
    steps.sort_unstable();
    // Rounded steps alternate between two neighbours: their mean over the middle half is close to the truth.
    let middle = steps.get(steps.len() / 4..steps.len() - steps.len() / 4).filter(|m| !m.is_empty())?;
    let mean = middle.iter().sum::<i64>() as f64 / middle.len() as f64;
    let samples = mean * f64::from(rate.get()) / f64::from(track.timescale.get());
    let tick = f64::from(rate.get()) / f64::from(track.timescale.get());
    PACKET_SAMPLES.into_iter().find(|known| (*known as f64 - samples).abs() <= (tick / 2.0).max(1.0))
}
