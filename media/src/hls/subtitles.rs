//! Captions in HLS: a group of renditions, each of one WebVTT segment as long as the presentation (RFC 8216bis §3.1.4).
//!
//! The playlist of a rendition never changes: it is named after its content and made when the presentation's length is
//! known. As a VOD it may have a target duration of its own, also beside playlists that still grow (§6.2.4).

use std::fmt::Write;

use super::VERSION;
use crate::captions::{Captions, CaptionsKind};
use crate::keys::{BlobKind, blob_from_playlist, captions_playlist_name};

/// The group that all variants name.
const GROUP: &str = "captions";

/// The playlist of one language's captions of a presentation this long.
pub fn captions_playlist(captions: &Captions, duration_micros: i64) -> String {
    let micros = duration_micros.max(1);
    let target = micros.unsigned_abs().div_ceil(1_000_000);
    let uri = blob_from_playlist(&captions.hash, BlobKind::Captions);
    format!(
        "#EXTM3U\n#EXT-X-VERSION:{VERSION}\n#EXT-X-TARGETDURATION:{target}\n#EXT-X-MEDIA-SEQUENCE:0\n\
         #EXT-X-PLAYLIST-TYPE:VOD\n#EXTINF:{}.{:06},\n{uri}\n#EXT-X-ENDLIST\n",
        micros / 1_000_000,
        micros % 1_000_000
    )
}

/// One EXT-X-MEDIA per language (§4.4.6.1).
pub(super) fn media(text: &mut String, all: &[Captions]) {
    for captions in all {
        let Captions { language, name, default, kind, hash, .. } = captions;
        let default = if *default { "YES" } else { "NO" };
        let characteristics = match kind {
            CaptionsKind::Subtitles => "",
            CaptionsKind::Captions => {
                ",CHARACTERISTICS=\"public.accessibility.transcribes-spoken-dialog,\
                 public.accessibility.describes-music-and-sound\""
            }
        };
        // Writing to a String cannot fail.
        let _ = writeln!(
            text,
            "#EXT-X-MEDIA:TYPE=SUBTITLES,GROUP-ID=\"{GROUP}\",NAME=\"{name}\",LANGUAGE=\"{language}\",DEFAULT={default},AUTOSELECT=YES,FORCED=NO{characteristics},URI=\"{}\"",
            captions_playlist_name(hash),
        );
    }
}

/// What a variant says of them.
pub(super) fn of_variant(all: &[Captions]) -> String {
    if all.is_empty() { String::new() } else { format!(",SUBTITLES=\"{GROUP}\"") }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::BlobHash;

    fn captions(language: &str, kind: CaptionsKind, default: bool) -> Captions {
        let (name, hash) = (format!("in {language}"), BlobHash::of(language.as_bytes()));
        Captions { language: language.parse().unwrap(), name, default, kind, bytes: 1, hash }
    }

    #[test]
    fn a_playlist_is_one_segment_of_the_whole_length() {
        let captions = captions("en", CaptionsKind::Subtitles, false);
        for (micros, target, length) in
            [(1, 1, "0.000001"), (10_010_000, 11, "10.010000"), (4_000_000, 4, "4.000000")]
        {
            let text = captions_playlist(&captions, micros);
            assert!(text.contains(&format!("#EXT-X-TARGETDURATION:{target}\n")), "{text}");
            assert!(text.contains(&format!("#EXTINF:{length},\n../../blobs/")), "{text}");
            let (rest, playlist) = m3u8_rs::parse_media_playlist(text.as_bytes()).unwrap();
            assert!(rest.is_empty() && playlist.segments.len() == 1 && playlist.end_list, "{text}");
        }
    }

    #[test]
    fn viewers_see_who_each_rendition_is_for() {
        let mut text = String::new();
        let all =
            [captions("en", CaptionsKind::Captions, true), captions("pt-BR", CaptionsKind::Subtitles, false)];
        media(&mut text, &all);
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines.len(), 2);
        assert!(
            lines[0].contains("LANGUAGE=\"en\",DEFAULT=YES")
                && lines[0].contains("transcribes-spoken-dialog")
        );
        assert!(lines[1].contains("NAME=\"in pt-BR\",LANGUAGE=\"pt-BR\",DEFAULT=NO"));
        assert!(!lines[1].contains("CHARACTERISTICS"));
        assert_eq!((of_variant(&all).as_str(), of_variant(&[]).as_str()), (",SUBTITLES=\"captions\"", ""));
    }
}
