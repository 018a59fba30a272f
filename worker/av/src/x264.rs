//! What libx264 is told.

use ffmpeg_next::Dictionary;

use crate::video_encoder::VideoSettings;

/// The speed preset. It fixes the number of B-frames and references, hence the reorder delay and the SPS.
const PRESET: &str = "veryfast";

/// `cpu-independent`: the same bytes on every CPU. `stitchable`: headers do not depend on the chunk's content.
/// No scene cuts: key frames stand where the plan says and nowhere else.
const PARAMETERS: &str =
    "cpu-independent=1:stitchable=1:scenecut=0:keyint=infinite:open-gop=0:bframes=3:b-pyramid=1";

pub(crate) fn options(settings: &VideoSettings) -> Dictionary<'static> {
    let mut options = Dictionary::new();
    options.set("preset", PRESET);
    options.set("profile", "high");
    options.set("crf", &settings.crf.to_string());
    options.set("forced-idr", "1");
    options.set("a53cc", "0");
    options.set("x264-params", PARAMETERS);
    options
}
