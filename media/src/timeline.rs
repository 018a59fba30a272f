//! The frames a viewer sees, in order, on the output clock. Planner and worker compute the same list from the
//! same index, so a frame's place is never counted twice by two rules.

use serde::{Deserialize, Serialize};

use crate::codec::AudioCodec;
use crate::index::{AudioTrack, SourceIndex, VideoTrack};
use crate::time::{FrameRate, Ticks, Timescale};

/// One frame of the presentation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Frame {
    /// Its identity: presentation time on the source track's clock.
    pub source_pts: Ticks,
    /// Position among the track's samples in decode order.
    pub sample: u32,
    /// Presentation time on the output clock; the first frame of a presentation is at 0.
    pub pts: Ticks,
}

/// All presented frames of the picture.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VideoTimeline {
    /// The output clock.
    pub timescale: Timescale,
    /// Frames in presentation order.
    pub frames: Vec<Frame>,
    /// Where the last frame ends, on the output clock.
    pub end: Ticks,
    /// The evident constant rate, if there is one.
    pub nominal_rate: Option<FrameRate>,
}

/// When time starts on all tracks: the earliest of the first frame and the first sounds.
///
/// A picture that starts after the sound is held from 0 on: players line tracks up by their first segments,
/// and a hole at the start would cost the sound before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Zero {
    at: Ticks,
    clock: Timescale,
}

impl Zero {
    fn of(index: &SourceIndex) -> Option<Zero> {
        let picture = index.video.as_ref().and_then(|video| {
            let (first, _) = presented(video).first().copied()?;
            Some(Zero { at: first, clock: video.timescale })
        });
        let sounds = index
            .audio
            .iter()
            .filter_map(|audio| Some(Zero { at: audio.span()?.start, clock: audio.timescale }));
        // Compared on the earlier one's clock; of equals the picture.
        picture.into_iter().chain(sounds).reduce(
            |first, next| {
                if next.on(first.clock) < first.at { next } else { first }
            },
        )
    }

    fn on(self, clock: Timescale) -> Ticks {
        self.at.rescale(self.clock, clock)
    }
}

/// Presented samples as (source pts, decode position), in presentation order; of equal times the first wins.
fn presented(track: &VideoTrack) -> Vec<(Ticks, u32)> {
    let mut list: Vec<(Ticks, u32)> = track
        .samples
        .iter()
        .enumerate()
        .filter(|(_, s)| track.window.contains(&s.pts))
        .map(|(i, s)| (s.pts, i as u32))
        .collect();
    list.sort_unstable();
    list.dedup_by_key(|(pts, _)| *pts);
    list
}

impl VideoTimeline {
    /// Lays out the frames of `index`; `None` when no picture is presented.
    pub fn of(index: &SourceIndex) -> Option<VideoTimeline> {
        let track = index.video.as_ref()?;
        let list = presented(track);
        let zero = Zero::of(index)?;
        let snapped = Grid::evident(&list, track.timescale);
        let timescale = snapped.map_or(track.timescale, |grid| grid.clock);
        let lead = zero.on(timescale);
        let place = |k: usize, pts: Ticks| match snapped {
            Some(grid) => grid.frame(k) + list[0].0.rescale(track.timescale, grid.clock) - lead,
            None => pts - lead,
        };
        let mut frames: Vec<Frame> = list
            .iter()
            .enumerate()
            .map(|(k, &(source_pts, sample))| Frame { source_pts, sample, pts: place(k, source_pts) })
            .collect();
        let last = frames.last()?.pts;
        let end = match snapped {
            Some(grid) => last + grid.step,
            None => last + track.last_duration.max(Ticks(1)),
        };
        if let Some(first) = frames.first_mut() {
            first.pts = Ticks::ZERO;
        }
        let nominal_rate = snapped.map(|grid| grid.rate).or_else(|| constant_rate(&frames, timescale));
        Some(VideoTimeline { timescale, frames, end, nominal_rate })
    }

    /// On another clock: that of a plan by an older build.
    pub fn on(mut self, clock: Timescale) -> VideoTimeline {
        if clock != self.timescale {
            for frame in &mut self.frames {
                frame.pts = frame.pts.rescale(self.timescale, clock);
            }
            self.end = self.end.rescale(self.timescale, clock);
            self.timescale = clock;
        }
        self
    }

    /// Keeps every `nth` frame, from the first on.
    pub fn thinned(mut self, nth: u32) -> VideoTimeline {
        if nth > 1 {
            self.frames = self.frames.into_iter().step_by(nth as usize).collect();
            self.nominal_rate = self
                .nominal_rate
                .and_then(|rate| Some(FrameRate { num: rate.num, den: rate.den.checked_mul(nth)? }));
        }
        self
    }

    /// Mean frame rate: the evident constant one, or frames over duration.
    pub fn frame_rate(&self) -> FrameRate {
        self.nominal_rate.unwrap_or_else(|| {
            let num = (self.frames.len() as u64).saturating_mul(u64::from(self.timescale.get()));
            let den = self.end.0.max(1).unsigned_abs();
            // Days of video do not fit; halving both keeps the ratio to nine digits.
            // Encoders count in 31 bits.
            let halvings = (64 - num.max(den).leading_zeros()).saturating_sub(31);
            FrameRate { num: (num >> halvings) as u32, den: ((den >> halvings) as u32).max(1) }
        })
    }

    /// Where frame `k` ends: the start of the next one, or the end of the last.
    pub fn frame_end(&self, k: usize) -> Ticks {
        self.frames.get(k + 1).map_or(self.end, |next| next.pts)
    }
}

/// A constant-rate grid that a coarse (millisecond) clock has rounded.
#[derive(Debug, Clone, Copy)]
struct Grid {
    rate: FrameRate,
    clock: Timescale,
    /// Ticks of a frame.
    step: Ticks,
}

/// Ticks per second of a grid's clock at least: fine enough to say by how much the picture starts after the sound.
const LEAST_TICKS: u32 = 10_000;

impl Grid {
    fn of(rate: FrameRate) -> Option<Grid> {
        let finer = LEAST_TICKS.div_ceil(rate.num).next_power_of_two();
        let step = Ticks(i64::from(rate.den) * i64::from(finer));
        Some(Grid { rate, clock: Timescale::new(rate.num.checked_mul(finer)?)?, step })
    }

    /// Matroska keeps milliseconds: 30 fps becomes steps of 33 and 34. Where every frame lies within one tick of
    /// a nominal rate's grid, that grid is the truth.
    fn evident(list: &[(Ticks, u32)], clock: Timescale) -> Option<Grid> {
        let (first, last) = (list.first()?.0, list.last()?.0);
        if clock.get() > 1000 || list.len() < 5 {
            return None;
        }
        let mean = (list.len() - 1) as f64 / (last - first).seconds(clock);
        let rate = FrameRate::NOMINAL
            .into_iter()
            .min_by(|a, b| (a.per_second() - mean).abs().total_cmp(&(b.per_second() - mean).abs()))?;
        let grid = Grid::of(rate)?;
        let fits = list
            .iter()
            .enumerate()
            .all(|(k, &(pts, _))| (grid.frame(k).rescale(grid.clock, clock) - (pts - first)).0.abs() <= 1);
        fits.then_some(grid)
    }

    fn frame(self, k: usize) -> Ticks {
        Ticks(k as i64 * self.step.0)
    }
}

/// The rate of frames that all last equally long (the first may be held, see [`Zero`]).
fn constant_rate(frames: &[Frame], clock: Timescale) -> Option<FrameRate> {
    let (a, b) = (frames.get(1)?, frames.get(2)?);
    let step = (b.pts - a.pts).0;
    let even = frames[1..].windows(2).all(|w| ((w[1].pts - w[0].pts).0 - step).abs() <= 1);
    let den = u32::try_from(step).ok().filter(|d| *d > 0)?;
    even.then_some(FrameRate { num: clock.get(), den })
}

/// The sound on the output clock, which for sound is its own sample rate.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct AudioTimeline {
    /// Output samples per second; also the output track's timescale.
    pub sample_rate: Timescale,
    /// Source time (on the source track's clock) that is presentation time 0.
    pub zero: Ticks,
    /// Presented sound in output samples, counted from presentation time 0: silence before `start`.
    pub start: i64,
    /// Total length in output samples, silence at the start included.
    pub samples: i64,
}

impl AudioTimeline {
    /// The sound of track `track` of `index`, encoded as `codec`; `None` when it presents nothing.
    pub fn of(index: &SourceIndex, track: usize, codec: AudioCodec) -> Option<AudioTimeline> {
        let track: &AudioTrack = index.audio.get(track)?;
        let span = track.span()?;
        let zero = Zero::of(index)?.on(track.timescale);
        let sample_rate = codec.sample_rate(track.sample_rate);
        let start = (span.start - zero).rescale(track.timescale, sample_rate).0.max(0);
        let samples = (span.end - zero).rescale(track.timescale, sample_rate).0;
        (samples > start).then_some(AudioTimeline { sample_rate, zero, start, samples })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::index::{CodecSetup, Container, Picture, Sample};

    /// Frames as Matroska dates them, enough to tell all rates apart, and sound from 0 on.
    fn matroska(rate: FrameRate, first_ms: i64) -> SourceIndex {
        let setup = CodecSetup::new("h264", []);
        let window = Ticks(i64::MIN)..Ticks(i64::MAX);
        let sample = |pts| Sample { offset: 0, bytes: 1, pts, dts: pts, key: true };
        let millis = Timescale::new(1000).unwrap();
        let frames = (0..200).map(|k| {
            let at = Ticks(k * i64::from(rate.den)).rescale(Timescale::new(rate.num).unwrap(), millis);
            sample(Ticks(first_ms) + at)
        });
        let video = VideoTrack {
            stream: 0,
            setup: setup.clone(),
            timescale: millis,
            picture: Picture::plain(2, 2),
            samples: frames.collect(),
            window: window.clone(),
            last_duration: Ticks(33),
        };
        let audio = AudioTrack {
            stream: 1,
            setup,
            timescale: Timescale::new(48_000).unwrap(),
            sample_rate: 48_000,
            channels: 2,
            language: None,
            samples: (0..16).map(|k| sample(Ticks(k * 1024))).collect(),
            window,
        };
        SourceIndex { container: Container::Matroska, video: Some(video), audio: vec![audio] }
    }

    #[test]
    fn a_picture_after_its_sound_starts_to_the_millisecond() {
        for rate in FrameRate::NOMINAL {
            for first_ms in [0, 1, 10, 17, 20, 33, 500] {
                let timeline = VideoTimeline::of(&matroska(rate, first_ms)).unwrap();
                assert_eq!(timeline.nominal_rate, Some(rate));
                assert_eq!(timeline.frames[0].pts, Ticks::ZERO, "it is held from 0 on");
                for (k, frame) in timeline.frames.iter().enumerate().skip(1) {
                    let nominal = first_ms as f64 / 1e3 + k as f64 / rate.per_second();
                    let off = frame.pts.seconds(timeline.timescale) - nominal;
                    assert!(off.abs() < 1e-4, "{rate}: frame {k} is {off} s late, the picture {first_ms} ms");
                }
            }
        }
    }

    #[test]
    fn a_coarser_clock_of_an_older_plan_is_kept() {
        let timeline = VideoTimeline::of(&matroska(FrameRate { num: 30, den: 1 }, 0)).unwrap();
        assert_eq!(timeline.timescale.get(), 15_360);
        let older = timeline.on(Timescale::new(30).unwrap());
        assert!(older.frames.iter().map(|frame| frame.pts.0).eq(0..200));
        assert_eq!(older.end, Ticks(200));
    }

    #[test]
    fn frame_rates_are_exact_for_short_clips_and_fit_for_long_ones() {
        let clock = Timescale::new(600).unwrap();
        let frames = |n: i64, step: i64| -> Vec<Frame> {
            (0..n).map(|k| Frame { source_pts: Ticks(k), sample: k as u32, pts: Ticks(k * step) }).collect()
        };
        let rate = |frames: Vec<Frame>, end: i64, timescale: Timescale| {
            VideoTimeline { timescale, frames, end: Ticks(end), nominal_rate: None }.frame_rate()
        };
        assert_eq!(rate(frames(1, 20), 20, clock).to_string(), "30.000");
        assert_eq!(rate(frames(18, 10), 180, clock).to_string(), "60.000");
        let fine = Timescale::new(1_000_000_000).unwrap();
        for count in 1..200i64 {
            let long = rate(frames(count * 1000, 33_333_333), count * 33_333_333_000, fine);
            assert!((long.per_second() - 30.0).abs() < 1e-5, "{long}");
            assert!(i32::try_from(long.num.max(long.den)).is_ok(), "{long:?} is too fine for encoders");
        }
    }
}
