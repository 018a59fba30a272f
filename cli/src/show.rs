//! `reelmill show`: all that is known of an asset, as a person reads it.

use console::style;
use indicatif::HumanBytes;
use reelmill_media::captions::CaptionsKind;
use reelmill_media::ids::AssetId;
use reqwest::Method;

use crate::api::{Api, Asset, AssetState, Captions, Rendition, Source};
use crate::count::count;
use crate::length::length;
use crate::list;

/// Prints it.
pub async fn run(api: &Api, id: AssetId) -> anyhow::Result<()> {
    let asset: Asset = api.send(api.request(Method::GET, &format!("/v1/assets/{id}"))).await?.json().await?;
    for (label, text) in lines(&asset, &api.player(id)) {
        println!("{} {text}", style(format!("{label:<11}")).dim());
    }
    Ok(())
}

/// What is said of it, under its labels. A line without one goes on with what the line before says.
fn lines(asset: &Asset, player: &str) -> Vec<(&'static str, String)> {
    let mut out = vec![("asset", asset.id.to_string())];
    out.extend(asset.name.iter().map(|name| ("name", name.clone())));
    out.extend(asset.description.iter().map(|description| ("description", description.clone())));
    out.extend(under("metadata", asset.metadata.iter().map(|(key, value)| format!("{key}: {value}"))));
    out.push(("state", state(asset)));
    out.extend(asset.error.iter().map(|error| ("", error.reason.clone())));
    if let Some(abandoned) = &asset.abandoned {
        let error = &abandoned.error;
        out.push((
            "",
            format!("edition {} was not made: {} ({})", abandoned.edition, error.reason, error.code),
        ));
    }
    out.extend(asset.duration_seconds.map(|seconds| ("length", length(seconds))));
    out.push(("uploaded", uploaded(asset)));
    out.extend(asset.source.iter().map(|source| ("source", source_words(source))));
    out.extend(under("renditions", asset.renditions.iter().map(|rendition| made(asset, rendition))));
    let concealed = asset.renditions.iter().filter(|rendition| rendition.concealed > 0).map(concealed);
    out.extend(under("concealed", concealed));
    out.extend(under("captions", asset.captions.iter().map(captions)));
    match asset.taken_down() {
        Some(at) => out.push(("taken down", format!("{at} UTC: no edge serves it"))),
        None if asset.playable => out.push(("watch", player.to_owned())),
        None => {}
    }
    out
}

/// Lines that share a label.
fn under(
    label: &'static str,
    lines: impl Iterator<Item = String>,
) -> impl Iterator<Item = (&'static str, String)> {
    lines.enumerate().map(move |(n, line)| (if n == 0 { label } else { "" }, line))
}

fn state(asset: &Asset) -> String {
    let mut said = list::state(asset);
    if asset.edition > 0 {
        said += &format!(", edition {}", asset.edition);
    }
    if let Some(standing) = &asset.standing {
        said += &format!("; viewers have edition {} until it is ready", standing.edition);
    } else if asset.playable && asset.state != AssetState::Ready {
        said += ", plays already";
    }
    said
}

fn uploaded(asset: &Asset) -> String {
    let bytes = match &asset.upload {
        Some(upload) => match upload.length.filter(|length| *length != upload.bytes) {
            Some(length) => format!(", {} of {}", HumanBytes(upload.bytes), HumanBytes(length)),
            None => format!(", {}", HumanBytes(upload.bytes)),
        },
        None => String::new(),
    };
    format!("{} UTC{bytes}", asset.begun())
}

fn source_words(source: &Source) -> String {
    let mut words = vec![source.container.clone()];
    if let (Some(codec), Some(width), Some(height)) = (&source.video_codec, source.width, source.height) {
        let rate = source.frame_rate.map(|rate| format!(", {} frames/s", (rate * 100.0).round() / 100.0));
        words.push(format!("{codec} {width}×{height}{}", rate.unwrap_or_default()));
    }
    if let Some(codec) = &source.audio_codec {
        let tracks =
            (source.audio_tracks > 1).then(|| format!("{}, ", count(source.audio_tracks, "sound track")));
        words.push(format!("{}{codec}", tracks.unwrap_or_default()));
    }
    words.join("; ")
}

/// A rendition in columns: name, size, mean rate or how far it is, and codec.
fn made(asset: &Asset, rendition: &Rendition) -> String {
    let what = match &rendition.language {
        Some(language) => format!("{} {language}", rendition.size()),
        None => rendition.size(),
    };
    let codecs = rendition.codecs.as_deref().unwrap_or("-");
    let far = if rendition.progress < 1.0 {
        format!("{:.0} %", (rendition.progress * 100.0).floor())
    } else {
        let seconds = asset.duration_seconds.filter(|seconds| *seconds > 0.0 && rendition.bytes > 0);
        seconds
            .map(|s| format!("{:.0} kbit/s", rendition.bytes as f64 * 8.0 / 1000.0 / s))
            .unwrap_or_default()
    };
    format!("{:<11} {what:<10} {far:>13}  {codecs}", rendition.id)
}

fn concealed(rendition: &Rendition) -> String {
    let what = if rendition.height.is_some() { "frame" } else { "packet" };
    format!("{} of {} could not be decoded", count(rendition.concealed.into(), what), rendition.id)
}

fn captions(captions: &Captions) -> String {
    let kind = match captions.kind {
        CaptionsKind::Subtitles => "",
        CaptionsKind::Captions => ", for the deaf and hard of hearing",
    };
    let shown = if captions.default { ", shown unasked" } else { "" };
    format!("{:<11} {}{kind}{shown}", captions.language, captions.name)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn said(asset: serde_json::Value) -> String {
        let lines = lines(&serde_json::from_value(asset).unwrap(), "https://localhost:8443/watch/x");
        lines.iter().map(|(label, text)| format!("{label:<11} {text}\n")).collect()
    }

    #[test]
    fn a_ready_asset_fits_a_terminal() {
        let said = said(json!({
            "id": "01jd3mze1v0000000000000000", "name": "holiday.mp4", "metadata": {"camera": "left", "day": "2"},
            "state": "ready", "playable": true, "created_at": "2026-11-22T07:30:12.5Z", "edition": 1,
            "duration_seconds": 62.4, "upload": {"bytes": 10_485_760, "length": 10_485_760},
            "source": {"container": "mp4", "video_codec": "h264", "audio_codec": "aac", "audio_tracks": 2,
                       "width": 1280, "height": 720, "frame_rate": 30_000.0 / 1001.0},
            "renditions": [
                {"id": "v360", "kind": "video", "width": 640, "height": 360, "codecs": "av01.0.01M.08.0.111.06.01.06.0",
                 "bytes": 3_510_000, "concealed": 12, "progress": 1.0},
                {"id": "a0", "kind": "audio", "language": "eng", "codecs": "mp4a.40.2", "bytes": 998_400,
                 "concealed": 0, "progress": 1.0},
            ],
            "captions": [{"language": "en", "name": "English", "default": true, "kind": "captions", "bytes": 9}],
        }));
        assert_eq!(
            said,
            "asset       01jd3mze1v0000000000000000\n\
             name        holiday.mp4\n\
             metadata    camera: left\n\
             \x20           day: 2\n\
             state       ready, edition 1\n\
             length      1:02\n\
             uploaded    2026-11-22 07:30 UTC, 10.00 MiB\n\
             source      mp4; h264 1280×720, 29.97 frames/s; 2 sound tracks, aac\n\
             renditions  v360        640×360       450 kbit/s  av01.0.01M.08.0.111.06.01.06.0\n\
             \x20           a0          sound eng     128 kbit/s  mp4a.40.2\n\
             concealed   12 frames of v360 could not be decoded\n\
             captions    en          English, for the deaf and hard of hearing, shown unasked\n\
             watch       https://localhost:8443/watch/x\n"
        );
        assert!(said.lines().all(|line| line.chars().count() <= 80));
    }

    #[test]
    fn what_is_not_there_is_not_said() {
        let failed = said(json!({
            "id": "01jd3mze1v0000000000000000", "state": "failed", "created_at": "2026-11-22T07:30:12Z",
            "upload": {"bytes": 1024, "length": 4096},
            "error": {"code": "incomplete", "reason": "The upload was cut after 1024 of 4096 bytes."},
        }));
        assert_eq!(
            failed,
            "asset       01jd3mze1v0000000000000000\n\
             state       failed incomplete\n\
             \x20           The upload was cut after 1024 of 4096 bytes.\n\
             uploaded    2026-11-22 07:30 UTC, 1.00 KiB of 4.00 KiB\n"
        );
        let again = said(json!({
            "id": "01jd3mze1v0000000000000000", "state": "processing", "playable": true, "progress": 0.456, "edition": 2,
            "standing": {"edition": 1},
            "renditions": [{"id": "v1080-av1", "width": 1920, "height": 1080, "bytes": 5, "progress": 0.999}],
        }));
        assert!(
            again
                .contains("state       processing 45 %, edition 2; viewers have edition 1 until it is ready")
        );
        assert!(again.contains("renditions  v1080-av1   1920×1080           99 %  -"), "{again}");
        let purged = said(json!({
            "id": "01jd3mze1v0000000000000000", "state": "ready", "playable": true,
            "created_at": "2026-11-22T07:30:12Z", "taken_down_at": "2026-11-22T09:15:01.25Z",
        }));
        assert!(!purged.contains("watch"), "{purged}");
        assert!(purged.ends_with("taken down  2026-11-22 09:15 UTC: no edge serves it\n"), "{purged}");
    }
}
