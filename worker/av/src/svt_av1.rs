//! What SVT-AV1 is told.

use ffmpeg_next::Dictionary;
use reelmill_media::profile::Effort;

use crate::video_encoder::VideoSettings;

/// The speed preset. At 720p it takes about twice x264's `veryfast` per frame; 9 takes nearly twice as much again for
/// five percent of the bytes, 11 saves two fifths of the time at the cost of as many.
const fn preset(effort: Effort) -> &'static str {
    match effort {
        Effort::Fast => "10",
        Effort::Thorough => "8",
    }
}

/// `lp`: one picture at a time; with more, the rate cap hears of finished pictures in another order, and bytes differ.
/// Key frames stand where the plan says; the interval is longer than any segment, since without one (-1) the library
/// ignores the plan's. `mbr-overshoot-pct`: the default of 50 overshoots the cap by a fifth in the mean.
const PARAMETERS: &str =
    "lp=1:scd=0:intra-period=99999:enable-force-key-frames=1:mbr-overshoot-pct=25:tile-rows=0:tile-columns=0";

pub(crate) fn options(settings: &VideoSettings) -> Dictionary<'static> {
    let mut options = Dictionary::new();
    options.set("preset", preset(settings.effort));
    options.set("crf", &settings.crf.to_string());
    options.set("svtav1-params", PARAMETERS);
    options
}
