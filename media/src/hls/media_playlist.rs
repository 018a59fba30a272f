//! A media playlist: an EVENT that grows and is closed by EXT-X-ENDLIST.
//!
//! It stays an EVENT when closed: a server may only append to a playlist (RFC 8216bis §6.2.1), and an ended EVENT plays
//! as a VOD does.

use std::fmt::Write;

use super::VERSION;
use crate::keys::{BlobKind, blob_from_playlist};
use crate::presentation::Track;

/// The playlist of one track (RFC 8216bis §4.4.3). `target_duration` in seconds.
///
/// EXTINF values are differences of cumulated times rounded to microseconds, so their sum never drifts.
pub fn media_playlist(track: &Track, target_duration: u32) -> String {
    let init = blob_from_playlist(&track.init.hash, BlobKind::InitSegment);
    let mut text = format!(
        "#EXTM3U\n#EXT-X-VERSION:{VERSION}\n#EXT-X-TARGETDURATION:{target_duration}\n#EXT-X-MEDIA-SEQUENCE:0\n\
         #EXT-X-PLAYLIST-TYPE:EVENT\n#EXT-X-INDEPENDENT-SEGMENTS\n#EXT-X-MAP:URI=\"{init}\"\n"
    );
    for segment in &track.segments {
        let clock = track.init.timescale;
        let micros = (segment.start + segment.duration).micros(clock) - segment.start.micros(clock);
        let uri = blob_from_playlist(&segment.hash, BlobKind::Segment);
        // Writing to a String cannot fail.
        let _ = writeln!(text, "#EXTINF:{}.{:06},\n{uri}", micros / 1_000_000, micros % 1_000_000);
    }
    if track.complete {
        text.push_str("#EXT-X-ENDLIST\n");
    }
    text
}
