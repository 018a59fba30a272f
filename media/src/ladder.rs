//! The ladder: which renditions are wanted of a source. Intent only; what came out is a `Rendition`.

use serde::{Deserialize, Serialize};

use crate::codec::{AudioCodec, VideoCodec};
use crate::ids::RenditionId;
use crate::index::{Picture, SourceIndex};
use crate::profile::{Effort, Profile, VideoLane};
use crate::time::FrameRate;

/// One wanted video rendition.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rung {
    /// Name of the rendition: `v` and the short side, and the codec where it is not H.264.
    pub id: RenditionId,
    /// In what it is encoded.
    pub codec: VideoCodec,
    /// Width in pixels, even.
    pub width: u32,
    /// Height in pixels, even.
    pub height: u32,
    /// Constant rate factor of the encoder, on the codec's own scale: the quality wanted.
    pub crf: u8,
    /// Rate cap in kbit/s: the decoder's buffer of [`Rung::buffer_kbit`] is never filled faster than this.
    pub max_kbps: u32,
    /// Buffer of the rate cap in kbit.
    pub buffer_kbit: u32,
    /// How long the encoder may take.
    pub effort: Effort,
}

/// One wanted audio rendition.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AudioRung {
    /// Name of the rendition: `a` and the track's number, and the codec where it is not AAC.
    pub id: RenditionId,
    /// In what it is encoded.
    pub codec: AudioCodec,
    /// Which of the index's audio tracks.
    pub track: u32,
    /// ISO 639-2 code, if known.
    pub language: Option<String>,
    /// Target rate in kbit/s, for both channels.
    pub kbps: u32,
}

/// The rungs of every codec.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ladder {
    /// Codec by codec as in the profile, the lowest first in each; empty when the source has no picture.
    pub video: Vec<Rung>,
    /// Codec by codec, in each the source's tracks in order; empty when the source is silent.
    pub audio: Vec<AudioRung>,
    /// Hardware encoders may be used.
    pub hardware: bool,
}

impl Ladder {
    /// What `profile` makes of a source, whose picture comes at `rate`.
    pub fn of(profile: &Profile, index: &SourceIndex, rate: FrameRate) -> Ladder {
        let picture = index.video.as_ref().map(|video| &video.picture);
        let video = picture
            .into_iter()
            .flat_map(|picture| profile.video.iter().flat_map(move |lane| rungs(lane, picture, rate)));
        let audio = profile.audio.iter().flat_map(|lane| {
            index.audio.iter().zip(0u32..).filter_map(|(track, number)| {
                let id = match lane.codec {
                    AudioCodec::Aac => format!("a{number}"),
                    AudioCodec::Opus => format!("a{number}-{}", lane.codec),
                };
                Some(AudioRung {
                    id: id.parse().ok()?,
                    codec: lane.codec,
                    track: number,
                    language: track.language.clone(),
                    kbps: lane.kbps(),
                })
            })
        });
        Ladder { video: video.collect(), audio: audio.collect(), hardware: profile.hardware }
    }

    /// The video rungs of each codec, lowest first: what one task encodes from one decode.
    pub fn lanes(&self) -> impl Iterator<Item = &[Rung]> {
        self.video.chunk_by(|a, b| a.codec == b.codec)
    }
}

/// By the short side, so that a portrait clip gets portrait rungs; never larger than the source. A source between two
/// steps gets its own size as the top, unless that is within 10 % of a step.
fn rungs(lane: &VideoLane, picture: &Picture, rate: FrameRate) -> Vec<Rung> {
    let (width, height) = picture.display_size();
    let short = width.min(height);
    let top = short.min(lane.short_sides.last().copied().unwrap_or(short));
    let mut sides: Vec<u32> = lane.short_sides.iter().copied().filter(|side| side * 10 <= top * 9).collect();
    sides.push(top);
    sides
        .into_iter()
        .filter_map(|side| {
            let (width, height) = fit(width, height, side, lane.codec.min_side());
            let short = width.min(height);
            let id = match lane.codec {
                VideoCodec::H264 => format!("v{short}"),
                VideoCodec::Hevc | VideoCodec::Av1 => format!("v{short}-{}", lane.codec),
            };
            let max_kbps = max_kbps(lane.max_kbps_1080(), width, height, rate);
            Some(Rung {
                id: id.parse().ok()?,
                codec: lane.codec,
                width,
                height,
                crf: lane.crf(),
                max_kbps,
                buffer_kbit: max_kbps * 2,
                effort: lane.effort,
            })
        })
        .collect()
}

/// Scales so that the short side becomes `side`, both sides to the nearest even number (4:2:0 needs it), at least `min`.
fn fit(width: u32, height: u32, side: u32, min: u32) -> (u32, u32) {
    let short = u64::from(width.min(height).max(1));
    let even = |n: u32| {
        let halves = (u64::from(n) * u64::from(side) + short) / (2 * short);
        // An odd source loses its last line.
        (halves * 2).min(u64::from(n) / 2 * 2).clamp(u64::from(min), 16_384) as u32
    };
    (even(width), even(height))
}

/// Pixels cost less the more there are of them; frames above 30 per second cost about half.
fn max_kbps(cap_1080: u32, width: u32, height: u32, rate: FrameRate) -> u32 {
    let pixels = f64::from(width) * f64::from(height) / (1920.0 * 1080.0);
    let speed = if rate.per_second() > 33.0 { 1.5 } else { 1.0 };
    (f64::from(cap_1080) * pixels.powf(0.75) * speed).round().max(100.0) as u32
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::index::Orientation;
    use proptest::prelude::*;

    fn picture(width: u32, height: u32, turns: u8) -> Picture {
        let orientation = Orientation { mirrored: false, quarter_turns: turns };
        Picture { orientation, ..Picture::plain(width, height) }
    }

    fn sizes(picture: &Picture) -> Vec<(u32, u32)> {
        let lane = &Profile::default().video[0];
        rungs(lane, picture, FrameRate { num: 30, den: 1 }).iter().map(|r| (r.width, r.height)).collect()
    }

    #[test]
    fn landscape_and_portrait_mirror_each_other() {
        assert_eq!(sizes(&picture(1920, 1080, 0)), [(640, 360), (854, 480), (1280, 720), (1920, 1080)]);
        assert_eq!(sizes(&picture(1920, 1080, 1)), [(360, 640), (480, 854), (720, 1280), (1080, 1920)]);
    }

    #[test]
    fn small_odd_and_between_sizes() {
        assert_eq!(sizes(&picture(161, 121, 0)), [(160, 120)]);
        assert_eq!(sizes(&picture(768, 432, 0)), [(640, 360), (768, 432)]);
        assert_eq!(sizes(&picture(1366, 768, 0)).last(), Some(&(1366, 768)));
    }

    #[test]
    fn every_codec_has_its_own_rungs_and_names() {
        let lane = VideoLane {
            codec: VideoCodec::Av1,
            short_sides: vec![480, 2160],
            crf: Some(40),
            max_kbps_1080: Some(2000),
            effort: Effort::Fast,
        };
        let made = rungs(&lane, &picture(1920, 1080, 0), FrameRate { num: 60, den: 1 });
        let named: Vec<_> = made.iter().map(|r| (r.id.as_str(), r.crf, r.max_kbps)).collect();
        assert_eq!(named, [("v480-av1", 40, 889), ("v1080-av1", 40, 3000)]);
    }

    proptest! {
        #[test]
        fn rungs_are_even_distinct_and_never_larger(w in 16u32..8000, h in 16u32..8000, turns in 0u8..4, sar in 1u32..4) {
            let mut p = picture(w, h, turns);
            p.sar_num = sar;
            let (dw, dh) = p.display_size();
            let rungs = sizes(&p);
            prop_assert!(!rungs.is_empty());
            for pair in rungs.windows(2) {
                prop_assert!(pair[0].0.min(pair[0].1) < pair[1].0.min(pair[1].1));
            }
            for (rw, rh) in rungs {
                prop_assert!(rw % 2 == 0 && rh % 2 == 0);
                prop_assert!(rw <= dw.max(16) && rh <= dh.max(16));
            }
        }
    }
}
