//! What libx264 is told.

use ffmpeg_next::Dictionary;
use reelmill_media::profile::Effort;

use crate::video_encoder::VideoSettings;

/// The speed preset. It fixes the number of references, hence the SPS.
const fn preset(effort: Effort) -> &'static str {
    match effort {
        Effort::Fast => "veryfast",
        Effort::Thorough => "medium",
    }
}

/// `cpu-independent`: the same bytes on every CPU. `stitchable`: headers do not depend on the chunk's content.
/// No scene cuts: key frames stand where the plan says and nowhere else.
const PARAMETERS: &str =
    "cpu-independent=1:stitchable=1:scenecut=0:keyint=infinite:open-gop=0:bframes=3:b-pyramid=1";

pub(crate) fn options(settings: &VideoSettings) -> Dictionary<'static> {
    let mut options = Dictionary::new();
    options.set("preset", preset(settings.effort));
    options.set("profile", "high");
    options.set("crf", &settings.crf.to_string());
    options.set("forced-idr", "1");
    options.set("a53cc", "0");
    options.set("x264-params", PARAMETERS);
    options
}
