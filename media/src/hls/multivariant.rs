//! The multivariant playlist.

use std::fmt::Write;

use super::bandwidth::BitRate;
use super::{VERSION, subtitles};
use crate::captions::Captions;
use crate::codec::AudioCodec;
use crate::keys::{iframe_playlist_name, media_playlist_name};
use crate::presentation::{AudioRendition, Edition, Presentation, VideoRendition};

/// The multivariant playlist (RFC 8216bis §4.4.6), best rung of each codec last. Rates are those of the segments there
/// are so far.
pub fn multivariant_playlist(presentation: &Presentation) -> String {
    let target = presentation.target_duration;
    let mut text = format!("#EXTM3U\n#EXT-X-VERSION:{VERSION}\n#EXT-X-INDEPENDENT-SEGMENTS\n");
    let groups = Group::all(presentation, target);
    let captions = &presentation.captions;
    subtitles::media(&mut text, captions);
    if presentation.video.is_empty() {
        for group in &groups {
            group.stream(&mut text, captions);
        }
        return text;
    }
    for group in &groups {
        group.media(&mut text);
    }
    for rendition in &presentation.video {
        let rate = BitRate::of(&rendition.track, target);
        if groups.is_empty() {
            variant(&mut text, presentation, rendition, rate, None);
        }
        for group in &groups {
            variant(&mut text, presentation, rendition, rate.plus(group.rate), Some(group));
        }
    }
    for rendition in presentation.lowest() {
        iframes(&mut text, presentation, rendition);
    }
    text
}

/// The audio renditions of one codec: a player picks a variant by codec, and in its group the language.
struct Group<'a> {
    edition: Edition,
    codec: AudioCodec,
    members: Vec<&'a AudioRendition>,
    /// Of the most expensive member (§4.4.6.2).
    rate: BitRate,
    codecs: &'a str,
}

impl<'a> Group<'a> {
    fn all(presentation: &'a Presentation, target: u32) -> Vec<Group<'a>> {
        presentation
            .audio
            .chunk_by(|a, b| a.codec == b.codec)
            .filter_map(|members| {
                let rates = members.iter().map(|m| BitRate::of(&m.track, target));
                Some(Group {
                    edition: presentation.edition,
                    codec: members.first()?.codec,
                    members: members.iter().collect(),
                    rate: rates.fold(BitRate::default(), BitRate::max),
                    codecs: members.first()?.track.codecs(),
                })
            })
            .collect()
    }

    fn media(&self, text: &mut String) {
        for (n, member) in self.members.iter().enumerate() {
            let name = name(member);
            let language = member.language.iter().map(|l| format!(",LANGUAGE=\"{}\"", bcp47(l)));
            let language: String = language.collect();
            let default = if n == 0 { "YES" } else { "NO" };
            let _ = writeln!(
                text,
                "#EXT-X-MEDIA:TYPE=AUDIO,GROUP-ID=\"{}\",NAME=\"{name}\"{language},DEFAULT={default},AUTOSELECT=YES,CHANNELS=\"{}\",URI=\"{}\"",
                self.codec,
                member.channels,
                self.address(member),
            );
        }
    }

    /// Sound alone is a variant of its own; of several tracks the first.
    fn stream(&self, text: &mut String, captions: &[Captions]) {
        let Some(first) = self.members.first() else { return };
        if self.members.len() > 1 {
            self.media(text);
        }
        let group = if self.members.len() > 1 { format!(",AUDIO=\"{}\"", self.codec) } else { String::new() };
        let _ = writeln!(
            text,
            "#EXT-X-STREAM-INF:BANDWIDTH={},AVERAGE-BANDWIDTH={},CODECS=\"{}\"{group}{}\n{}",
            self.rate.peak,
            self.rate.average,
            self.codecs,
            subtitles::of_variant(captions),
            self.address(first),
        );
    }

    fn address(&self, member: &AudioRendition) -> String {
        media_playlist_name(self.edition.playlist_of(&member.track.id))
    }
}

/// Distinct in its group, as §4.4.6.1.1 wants it.
fn name(sound: &AudioRendition) -> String {
    match (sound.source_track, &sound.language) {
        (0, None) => "Audio".to_owned(),
        (0, Some(language)) => bcp47(language).to_owned(),
        (track, None) => format!("Audio {}", track + 1),
        (track, Some(language)) => format!("{} {}", bcp47(language), track + 1),
    }
}

/// RFC 5646 §2.2.1: the two-letter code is to be used where there is one. Covers what phones and cameras record in;
/// three letters are understood as well.
fn bcp47(iso639_2: &str) -> &str {
    match iso639_2 {
        "ara" => "ar",
        "ben" => "bn",
        "ces" | "cze" => "cs",
        "deu" | "ger" => "de",
        "ell" | "gre" => "el",
        "eng" => "en",
        "fra" | "fre" => "fr",
        "heb" => "he",
        "hin" => "hi",
        "ind" => "id",
        "ita" => "it",
        "jpn" => "ja",
        "kor" => "ko",
        "nld" | "dut" => "nl",
        "pol" => "pl",
        "por" => "pt",
        "ron" | "rum" => "ro",
        "rus" => "ru",
        "spa" => "es",
        "swe" => "sv",
        "tha" => "th",
        "tur" => "tr",
        "ukr" => "uk",
        "vie" => "vi",
        "zho" | "chi" => "zh",
        other => other,
    }
}

fn variant(
    text: &mut String,
    presentation: &Presentation,
    rendition: &VideoRendition,
    rate: BitRate,
    group: Option<&Group<'_>>,
) {
    let audio_codec: String = group.iter().map(|g| format!(",{}", g.codecs)).collect();
    let group: String = group.iter().map(|g| format!(",AUDIO=\"{}\"", g.codec)).collect();
    let _ = writeln!(
        text,
        "#EXT-X-STREAM-INF:BANDWIDTH={},AVERAGE-BANDWIDTH={},CODECS=\"{}{audio_codec}\",RESOLUTION={}x{},FRAME-RATE={},VIDEO-RANGE=SDR,CLOSED-CAPTIONS=NONE{group}{}\n{}",
        rate.peak,
        rate.average,
        rendition.track.codecs(),
        rendition.width,
        rendition.height,
        rendition.frame_rate,
        subtitles::of_variant(&presentation.captions),
        media_playlist_name(presentation.playlist_of(&rendition.track)),
    );
}

/// §4.4.6.3
fn iframes(text: &mut String, presentation: &Presentation, rendition: &VideoRendition) {
    let rate = BitRate::of_first_frames(&rendition.track, presentation.target_duration);
    let _ = writeln!(
        text,
        "#EXT-X-I-FRAME-STREAM-INF:BANDWIDTH={},AVERAGE-BANDWIDTH={},CODECS=\"{}\",RESOLUTION={}x{},VIDEO-RANGE=SDR,URI=\"{}\"",
        rate.peak,
        rate.average,
        rendition.track.codecs(),
        rendition.width,
        rendition.height,
        iframe_playlist_name(presentation.playlist_of(&rendition.track)),
    );
}
