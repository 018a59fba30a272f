//! What libx265 is told.

use ffmpeg_next::Dictionary;
use reelmill_media::profile::Effort;

use crate::video_encoder::VideoSettings;

/// The speed preset. At 720p it takes about three times x264's `veryfast` per frame; `fast` takes a third more for
/// one percent, and `superfast` throws away what HEVC is taken for.
const fn preset(effort: Effort) -> &'static str {
    match effort {
        Effort::Fast => "veryfast",
        Effort::Thorough => "medium",
    }
}

/// `pools`, `frame-threads`, `wpp`: one frame on one thread, or bytes depend on the number of cores.
/// `info`, `repeat-headers`, `hrd`, `aud`: nothing in the stream but pictures. `opt-*`: parameter sets do not depend on
/// the chunk's content. Key frames stand where the plan says, as IDR frames without leading pictures.
const PARAMETERS: &str = "pools=none:frame-threads=1:wpp=0:pmode=0:pme=0:keyint=-1:scenecut=0:open-gop=0:radl=0:\
                          bframes=4:b-pyramid=1:high-tier=0:opt-qp-pps=0:opt-ref-list-length-pps=0:repeat-headers=0:\
                          info=0:hrd=0:aud=0:log-level=none";

pub(crate) fn options(settings: &VideoSettings) -> Dictionary<'static> {
    let mut options = Dictionary::new();
    options.set("preset", preset(settings.effort));
    options.set("profile", "main");
    options.set("crf", &settings.crf.to_string());
    options.set("forced-idr", "1");
    options.set("x265-params", PARAMETERS);
    options
}
