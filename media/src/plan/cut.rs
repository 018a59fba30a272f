//! The grid that all renditions are cut on.

use std::ops::Range;

use super::{VideoPlan, VideoSpan};
use crate::codec::AudioCodec;
use crate::index::VideoTrack;
use crate::time::{Ticks, Timescale};
use crate::timeline::{AudioTimeline, VideoTimeline};

/// Length of the first segment, in milliseconds.
const FIRST_MS: i64 = 1000;

/// A tenth longer: as long as what should have this length may get for the sake of a better cut. Four seconds still round to
/// four, so that no EXTINF raises the target duration (RFC 8216bis §4.4.3.1).
pub(super) fn stretched(length: Ticks) -> Ticks {
    Ticks(length.0 + length.0 / 10)
}

/// Where a segment starts.
#[derive(Debug, Clone, Copy)]
struct Cut {
    /// With this frame.
    frame: usize,
    /// No frame that is presented later than this changes that.
    settled: Ticks,
}

/// A segment is usually as long as all before it together: at least a second, at most what the profile asks for.
#[derive(Debug, Clone, Copy)]
pub(super) struct Grid {
    /// What the profile asks for, in milliseconds.
    segment_ms: i64,
}

impl Grid {
    pub(super) fn new(segment_seconds: u32) -> Self {
        Self { segment_ms: i64::from(segment_seconds.max(1)) * 1000 }
    }

    /// The usual length of later segments.
    pub(super) fn later(self, clock: Timescale) -> Ticks {
        Ticks::from_millis(self.segment_ms, clock)
    }

    /// The usual length of a segment that starts at `start`.
    fn usual(self, start: Ticks, clock: Timescale) -> Ticks {
        start.clamp(Ticks::from_millis(FIRST_MS, clock), self.later(clock))
    }

    /// The segments of a picture, and how many of them end where they do whatever should come after the last frame.
    pub(super) fn video(self, track: &VideoTrack, timeline: &VideoTimeline) -> (Vec<VideoSpan>, u32) {
        let entries = entries(track, timeline);
        let cut_after = |cut: &Cut| self.cut_after(cut.frame, timeline, &entries);
        let first = Cut { frame: 0, settled: Ticks::ZERO };
        let cuts: Vec<Cut> = std::iter::successors(Some(first), cut_after).collect();
        let ends = cuts.iter().skip(1).map(|cut| cut.frame).chain([timeline.frames.len()]);
        let spans = cuts.iter().map(|cut| cut.frame).zip(ends).map(|(start, end)| VideoSpan {
            frames: start as u32..end as u32,
            start: timeline.frames.get(start).map_or(Ticks::ZERO, |f| f.pts),
            end: timeline.frame_end(end - 1),
        });
        let known = timeline.frames.last().map_or(Ticks::ZERO, |frame| frame.pts);
        let settled = cuts.iter().skip(1).take_while(|cut| cut.settled <= known).count();
        (spans.collect(), settled as u32)
    }

    /// Where the segment after the one that starts with frame `from` starts; none where the picture ends with it.
    ///
    /// Of the `entries` from half the usual length on to a tenth more than all of it, that is the one nearest to it: a task
    /// that begins there decodes nothing in vain. Where there is none, it is the first frame a usual length on. What comes
    /// after the longest segment that there could be does not matter.
    fn cut_after(self, from: usize, timeline: &VideoTimeline, entries: &[usize]) -> Option<Cut> {
        let frames = &timeline.frames;
        let start = frames.get(from)?.pts;
        let usual = self.usual(start, timeline.timescale);
        let lengths = Ticks(usual.0 / 2)..=stretched(usual);
        let length = |entry: usize| frames.get(entry).map_or(timeline.end, |frame| frame.pts) - start;
        let later = &entries[entries.partition_point(|entry| *entry <= from)..];
        let near = later.iter().copied().take_while(|entry| length(*entry) <= *lengths.end());
        let off = |entry: usize| Ticks((length(entry) - usual).0.abs());
        let best = near.filter(|entry| length(*entry) >= *lengths.start()).min_by_key(|entry| off(*entry));
        let frame = best.unwrap_or_else(|| frames.partition_point(|frame| frame.pts < start + usual));
        // A later one would have to be nearer.
        let longest = best.map_or(*lengths.end(), |entry| (usual + off(entry)).min(*lengths.end()));
        (frame < frames.len()).then_some(Cut { frame, settled: start + longest })
    }

    /// Sound is cut at the packet nearest to each cut of the picture, and goes on in equal steps where it is longer;
    /// without a picture its segments are as long as usual.
    pub(super) fn audio(
        self,
        timeline: &AudioTimeline,
        codec: AudioCodec,
        video: Option<&VideoPlan>,
    ) -> Vec<Range<u32>> {
        let (packet_samples, priming) = (codec.packet_samples(), codec.priming_samples());
        let total = (timeline.samples + priming + packet_samples - 1).div_euclid(packet_samples);
        let rate = timeline.sample_rate;
        let step = self.later(rate);
        let cuts: Vec<Ticks> = match video {
            Some(video) => {
                let on_rate = |at: Ticks| at.rescale(video.timescale, rate);
                let end = video.segments.last().map_or(Ticks::ZERO, |s| on_rate(s.end));
                let tail = std::iter::successors(Some(end), |t| Some(*t + step));
                let tail = tail.take_while(|t| t.0 < timeline.samples);
                video.segments.iter().skip(1).map(|s| on_rate(s.start)).chain(tail).collect()
            }
            None => {
                let bounds = std::iter::successors(Some(Ticks::ZERO), |t| Some(*t + self.usual(*t, rate)));
                bounds.skip(1).take_while(|t| t.0 < timeline.samples).collect()
            }
        };
        let mut out: Vec<Range<u32>> = Vec::new();
        let mut start = 0i64;
        for cut in cuts {
            let packet = (cut.0 + priming + packet_samples / 2).div_euclid(packet_samples);
            // A segment that presents nothing would have no duration.
            let presents = packet > start && packet * packet_samples > priming;
            if presents && packet < total {
                out.push(start as u32..packet as u32);
                start = packet;
            }
        }
        out.push(start as u32..total.min(i64::from(u32::MAX)) as u32);
        out
    }
}

/// The frames that decoding can begin at, in order, and where the picture ends. Of a thinned picture they are the first ones
/// kept. Frames that lead an open GOP are none: they are presented before the key frame.
fn entries(track: &VideoTrack, timeline: &VideoTimeline) -> Vec<usize> {
    let keys = track.samples.iter().enumerate().filter(|(_, sample)| sample.key);
    let found = keys.filter_map(|(number, key)| {
        let entry = timeline.frames.partition_point(|frame| frame.source_pts < key.pts);
        (timeline.frames.get(entry)?.sample as usize >= number).then_some(entry)
    });
    let mut entries: Vec<usize> = found.chain([timeline.frames.len()]).collect();
    entries.sort_unstable();
    entries.dedup();
    entries
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::index::{CodecSetup, Container, Picture, Sample, SourceIndex};

    /// 30 frames a second, with these key frames. So many frames before each are decoded after it.
    fn track(frames: i64, keys: &[i64], leading: i64) -> VideoTrack {
        let mut order: Vec<i64> = (0..frames).collect();
        order.sort_by_key(|n| match keys.iter().find(|key| (*n..=*n + leading).contains(key)) {
            Some(key) => (key - leading, n != key, *n),
            None => (*n, true, *n),
        });
        let sample =
            |n: &i64| Sample { offset: 0, bytes: 1, pts: Ticks(*n), dts: Ticks(*n), key: keys.contains(n) };
        VideoTrack {
            stream: 0,
            setup: CodecSetup::new("h264", []),
            timescale: Timescale::new(30).unwrap(),
            picture: Picture::plain(2, 2),
            samples: order.iter().map(sample).collect(),
            window: Ticks(0)..Ticks(frames),
            last_duration: Ticks(1),
        }
    }

    /// The first frames of the segments, `every` so many frames kept.
    fn cuts(track: &VideoTrack, every: u32) -> Vec<u32> {
        let index = SourceIndex { container: Container::Mp4, video: Some(track.clone()), audio: Vec::new() };
        let timeline = VideoTimeline::of(&index).unwrap().thinned(every);
        Grid::new(4).video(track, &timeline).0.iter().map(|span| span.frames.start).collect()
    }

    #[test]
    fn a_segment_is_settled_when_no_later_frame_could_end_it_better() {
        let settled = |frames, keys: &[i64]| {
            let track = track(frames, keys, 0);
            let index =
                SourceIndex { container: Container::Mp4, video: Some(track.clone()), audio: Vec::new() };
            Grid::new(4).video(&track, &VideoTimeline::of(&index).unwrap()).1
        };
        // A key frame at just four seconds: as soon as it is there.
        assert_eq!((settled(240, &[0, 30, 60, 120, 240]), settled(241, &[0, 30, 60, 120, 240])), (3, 4));
        // Five frames early: six frames later another one would be worse.
        assert_eq!((settled(245, &[0, 30, 60, 120, 235]), settled(246, &[0, 30, 60, 120, 235])), (3, 4));
        // Nowhere: one might come within a tenth of the length.
        assert_eq!((settled(252, &[0, 30, 60, 120]), settled(253, &[0, 30, 60, 120])), (3, 4));
    }

    #[test]
    fn segments_start_where_decoding_can_begin() {
        let every = |gop: usize| (0..600).step_by(gop).collect::<Vec<i64>>();
        // Nowhere but at the start; at whole seconds.
        assert_eq!(cuts(&track(600, &[0], 0), 1), [0, 30, 60, 120, 240, 360, 480]);
        assert_eq!(cuts(&track(600, &every(30), 0), 1), [0, 30, 60, 120, 240, 360, 480]);
        // A little off, and far apart.
        assert_eq!(cuts(&track(600, &every(31), 0), 1), [0, 31, 62, 124, 248, 372, 496]);
        assert_eq!(cuts(&track(600, &every(250), 0), 1), [0, 30, 60, 120, 250, 370, 500]);
        // Scenes of any length; frames that lead an open GOP belong to the segment before.
        let scenes = [0, 15, 74, 133, 192, 215, 274];
        assert_eq!(cuts(&track(300, &scenes, 0), 1), [0, 15, 45, 74, 133, 215]);
        assert_eq!(cuts(&track(300, &scenes, 3), 1), [0, 15, 45, 74, 133, 215]);
    }

    #[test]
    fn of_a_thinned_picture_the_first_frame_kept_will_do() {
        assert_eq!(cuts(&track(600, &[0, 31, 63, 127, 251], 0), 2), [0, 16, 32, 64, 126, 186, 246]);
    }
}
