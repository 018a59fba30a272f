//! The multivariant playlist.

use std::fmt::Write;

use super::VERSION;
use super::bandwidth::BitRate;
use crate::presentation::Presentation;

/// The multivariant playlist (RFC 8216bis §4.4.6), best rung last. Rates are those of the segments there are so far.
pub fn multivariant_playlist(presentation: &Presentation) -> String {
    let target = presentation.target_duration;
    let mut text = format!("#EXTM3U\n#EXT-X-VERSION:{VERSION}\n#EXT-X-INDEPENDENT-SEGMENTS\n");
    let mut sound = BitRate::default();
    let mut group = String::new();
    let mut audio_codec = String::new();
    if let Some(audio) = &presentation.audio {
        let id = &audio.track.id;
        sound = BitRate::of(&audio.track, target);
        group = ",AUDIO=\"audio\"".to_owned();
        audio_codec = format!(",{}", audio.track.init.codecs);
        let _ = writeln!(
            text,
            "#EXT-X-MEDIA:TYPE=AUDIO,GROUP-ID=\"audio\",NAME=\"Audio\",DEFAULT=YES,AUTOSELECT=YES,CHANNELS=\"{}\",URI=\"{id}.m3u8\"",
            audio.channels,
        );
    }
    for rendition in &presentation.video {
        let rate = BitRate::of(&rendition.track, target).plus(sound);
        let _ = writeln!(
            text,
            "#EXT-X-STREAM-INF:BANDWIDTH={},AVERAGE-BANDWIDTH={},CODECS=\"{}{audio_codec}\",RESOLUTION={}x{},FRAME-RATE={},VIDEO-RANGE=SDR,CLOSED-CAPTIONS=NONE{group}\n{}.m3u8",
            rate.peak,
            rate.average,
            rendition.track.init.codecs,
            rendition.width,
            rendition.height,
            rendition.frame_rate,
            rendition.track.id,
        );
    }
    text
}
