//! A media playlist: an EVENT that grows and is closed by EXT-X-ENDLIST.
//!
//! It stays an EVENT when closed: a server may only append to a playlist (RFC 8216bis §6.2.1), and an ended EVENT plays
//! as a VOD does.

use std::fmt::Write;

use super::VERSION;
use crate::keys::{BlobKind, blob_from_playlist};
use crate::presentation::{Run, Track};
use crate::segment::Segment;

/// The playlist of one track (RFC 8216bis §4.4.3). `target_duration` in seconds.
pub fn media_playlist(track: &Track, target_duration: u32) -> String {
    let mut text = head(target_duration);
    text.push_str("#EXT-X-INDEPENDENT-SEGMENTS\n");
    body(&mut text, track, |_| String::new());
    text
}

/// The playlist of the first frames of one video track's segments, for scrubbing (§4.4.3.6): the same blobs, of each
/// only the beginning.
pub fn iframe_playlist(track: &Track, target_duration: u32) -> String {
    let mut text = head(target_duration);
    text.push_str("#EXT-X-I-FRAMES-ONLY\n");
    body(&mut text, track, |segment| format!("#EXT-X-BYTERANGE:{}@0\n", segment.first_frame_bytes));
    text
}

fn head(target_duration: u32) -> String {
    format!(
        "#EXTM3U\n#EXT-X-VERSION:{VERSION}\n#EXT-X-TARGETDURATION:{target_duration}\n#EXT-X-MEDIA-SEQUENCE:0\n\
         #EXT-X-PLAYLIST-TYPE:EVENT\n"
    )
}

/// EXTINF values are differences of cumulated times rounded to microseconds, so their sum never drifts.
fn body(text: &mut String, track: &Track, part: impl Fn(&Segment) -> String) {
    let clock = track.timescale();
    for segment in &track.segments {
        if let Some(run) = track.run_from(segment.number) {
            begin(text, run);
        }
        let micros = (segment.start + segment.duration).micros(clock) - segment.start.micros(clock);
        let uri = blob_from_playlist(&segment.hash, BlobKind::Segment);
        let part = part(segment);
        // Writing to a String cannot fail.
        let _ = writeln!(text, "#EXTINF:{}.{:06},\n{part}{uri}", micros / 1_000_000, micros % 1_000_000);
    }
    if track.complete {
        text.push_str("#EXT-X-ENDLIST\n");
    }
}

/// Another encoder means other coding parameters (§4.4.4.3), so players are told to begin anew.
fn begin(text: &mut String, run: &Run) {
    if run.from > 0 {
        text.push_str("#EXT-X-DISCONTINUITY\n");
    }
    let init = blob_from_playlist(&run.init.hash, BlobKind::InitSegment);
    let _ = writeln!(text, "#EXT-X-MAP:URI=\"{init}\"");
}
