//! The ladder: which renditions are wanted of a source. Intent only; what came out is a `Rendition`.

use serde::{Deserialize, Serialize};

use crate::ids::RenditionId;
use crate::index::{AudioTrack, Picture};
use crate::time::FrameRate;

/// One wanted video rendition.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rung {
    /// Name of the rendition: `v` and the short side.
    pub id: RenditionId,
    /// Width in pixels, even.
    pub width: u32,
    /// Height in pixels, even.
    pub height: u32,
    /// Constant rate factor of the encoder: the quality wanted.
    pub crf: u8,
    /// Rate cap in kbit/s: the decoder's buffer of [`Rung::buffer_kbit`] is never filled faster than this.
    pub max_kbps: u32,
    /// Buffer of the rate cap in kbit.
    pub buffer_kbit: u32,
}

/// One wanted audio rendition.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AudioRung {
    /// Name of the rendition.
    pub id: RenditionId,
    /// Target rate in kbit/s, for both channels.
    pub kbps: u32,
}

/// Video rungs, lowest first, and the sound.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ladder {
    /// Lowest first; never empty.
    pub video: Vec<Rung>,
    /// Absent when the source is silent.
    pub audio: Option<AudioRung>,
}

/// Short sides of the default ladder, in pixels.
const SHORT_SIDES: [u32; 4] = [360, 480, 720, 1080];

/// Rate cap of a 1920×1080 rung at up to 30 fps, in kbit/s; other sizes follow [`max_kbps`].
const CAP_1080_KBPS: f64 = 6000.0;

impl Ladder {
    /// The default ladder: by the short side, so that a portrait clip gets portrait rungs; never larger than the
    /// source. A source between two steps gets its own size as the top, unless that is within 10 % of a step.
    pub fn default_for(picture: &Picture, rate: FrameRate, audio: Option<&AudioTrack>) -> Ladder {
        let (width, height) = picture.display_size();
        let short = width.min(height);
        let top = short.min(SHORT_SIDES[SHORT_SIDES.len() - 1]);
        let mut sides: Vec<u32> = SHORT_SIDES.into_iter().filter(|side| side * 10 <= top * 9).collect();
        sides.push(top);
        let video = sides
            .into_iter()
            .filter_map(|side| {
                let (w, h) = fit(width, height, side);
                let id = format!("v{}", w.min(h)).parse().ok()?;
                let max_kbps = max_kbps(w, h, rate);
                Some(Rung { id, width: w, height: h, crf: 23, max_kbps, buffer_kbit: max_kbps * 2 })
            })
            .collect();
        let audio = audio.and_then(|_| "a0".parse().ok()).map(|id| AudioRung { id, kbps: 128 });
        Ladder { video, audio }
    }
}

/// Scales so that the short side becomes `side`, both sides to the nearest even number (4:2:0 needs it), at least 16.
fn fit(width: u32, height: u32, side: u32) -> (u32, u32) {
    let short = u64::from(width.min(height).max(1));
    let even = |n: u32| {
        let halves = (u64::from(n) * u64::from(side) + short) / (2 * short);
        // An odd source loses its last line.
        (halves * 2).min(u64::from(n) / 2 * 2).clamp(16, 16_384) as u32
    };
    (even(width), even(height))
}

/// Pixels cost less the more there are of them; frames above 30 per second cost about half.
fn max_kbps(width: u32, height: u32, rate: FrameRate) -> u32 {
    let pixels = f64::from(width) * f64::from(height) / (1920.0 * 1080.0);
    let speed = if rate.per_second() > 33.0 { 1.5 } else { 1.0 };
    (CAP_1080_KBPS * pixels.powf(0.75) * speed).round().max(100.0) as u32
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::index::{Colour, Orientation};
    use proptest::prelude::*;

    fn picture(width: u32, height: u32, turns: u8) -> Picture {
        let orientation = Orientation { mirrored: false, quarter_turns: turns };
        Picture { width, height, sar_num: 1, sar_den: 1, orientation, colour: Colour::UNSPECIFIED }
    }

    fn sizes(picture: &Picture) -> Vec<(u32, u32)> {
        let ladder = Ladder::default_for(picture, FrameRate { num: 30, den: 1 }, None);
        ladder.video.iter().map(|r| (r.width, r.height)).collect()
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
