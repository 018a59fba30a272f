//! What playlists, headers and names say, against what the bytes are.

use std::path::Path;

use serde_json::Value;

use super::{Faults, file};
use crate::published::{Fetched, Published, Track};
use crate::tools::{node, probe};

const PLAYLIST: &str = "application/vnd.apple.mpegurl";
const CLOSED: &str = "public, max-age=60";
/// A multivariant playlist does not say whether it will change.
const OPEN: &str = "public, max-age=1";
const IMMUTABLE: &str = "public, max-age=31536000, immutable";

pub(super) fn judge(published: &Published, folder: &Path, faults: &mut Faults) {
    served(published, faults);
    hashes(published, faults);
    second_parser(published, folder, faults);
    for track in published.tracks() {
        faults.check(track.playlist.says.end_list, || format!("{}: the playlist is not closed", track.name));
        faults.check(track.init.brands.contains(b"cmfc"), || format!("{}: no brand cmfc", track.name));
        target_duration(track, faults);
    }
    iframes(published, folder, faults);
    for track in &published.video {
        variant(track, folder, faults);
        rates(track, published.audio.as_ref(), faults);
    }
    if let Some(track) = &published.audio {
        sound(track, published, folder, faults);
    }
}

/// Media types and cache lifetimes, where a server of ours answered.
fn served(published: &Published, faults: &mut Faults) {
    let mut check = |path: &str, fetched: &Fetched, media_type: &str, cache: &str| {
        let Some((is, lasts)) = &fetched.served_as else { return };
        faults.check(is == media_type, || format!("{path} is served as {is:?}, not {media_type:?}"));
        faults.check(lasts == cache, || format!("{path} has Cache-Control {lasts:?}, not {cache:?}"));
    };
    check(&published.index.path, &published.index.fetched, PLAYLIST, OPEN);
    for track in published.tracks() {
        check(&track.playlist.path, &track.playlist.fetched, PLAYLIST, CLOSED);
        check(&track.init_path, &track.init_fetched, "video/mp4", IMMUTABLE);
        for segment in &track.segments {
            check(&segment.path, &segment.fetched, "video/iso.segment", IMMUTABLE);
        }
    }
}

/// A blob's name is the hash of its bytes.
fn hashes(published: &Published, faults: &mut Faults) {
    for track in published.tracks() {
        let segments = track.segments.iter().map(|segment| (&segment.path, &segment.fetched));
        for (path, fetched) in std::iter::once((&track.init_path, &track.init_fetched)).chain(segments) {
            let hash = blake3::hash(&fetched.bytes).to_hex();
            let named = path.starts_with(&format!("blobs/{}/{hash}.", &hash[..2]));
            faults.check(named, || format!("{path} has bytes of the hash {hash}"));
        }
    }
}

/// Another parser, in strict mode, reads the same out of the playlists.
fn second_parser(published: &Published, folder: &Path, faults: &mut Faults) {
    let mut files = vec![file(folder, "index.m3u8", &published.index.fetched.bytes)];
    for track in published.tracks() {
        files.push(file(folder, &format!("{}.m3u8", track.name), &track.playlist.fetched.bytes));
    }
    let files: Vec<_> = files.into_iter().map(Into::into).collect();
    let Some(read) = faults.catch("hls-parser", node("parse-playlists.mjs", &files)) else { return };
    let variants = read[0]["variants"].as_array().map_or(0, Vec::len);
    let listed = published.index.says.variants.len();
    faults.check(variants == listed, || format!("hls-parser finds {variants} variants of {listed}"));
    for (track, read) in published.tracks().zip(read.as_array().into_iter().flatten().skip(1)) {
        let segments = read["segments"].as_array().map_or(0, Vec::len);
        faults.check(segments == track.segments.len() && read["ended"] == true, || {
            format!("{}: hls-parser finds {segments} segments, ended: {}", track.name, read["ended"])
        });
    }
}

/// Each I-frame playlist names, of each segment of its rendition, the part up to the end of the first frame.
fn iframes(published: &Published, folder: &Path, faults: &mut Faults) {
    for list in &published.iframes {
        let name = &list.rendition;
        let Some(track) = published.video.iter().find(|track| track.name == *name) else {
            faults.add(format!("an I-frame playlist of {name}, which is not there"));
            continue;
        };
        let says = &list.playlist.says;
        let whole = says.i_frames_only && says.end_list && says.segments.len() == track.segments.len();
        faults.check(whole, || format!("{name}: its I-frame playlist is not whole"));
        for (number, (frame, segment)) in says.segments.iter().zip(&track.segments).enumerate() {
            let Some(range) = &frame.byte_range else {
                faults.add(format!("{name}: I-frame {number} has no range"));
                continue;
            };
            let part = segment.fetched.bytes.get(..range.length as usize).unwrap_or_default();
            let same = segment.path.ends_with(frame.uri.trim_start_matches("../"));
            faults.check(same && range.offset == Some(0) && !part.is_empty(), || {
                format!("{name}: I-frame {number} is not the beginning of its segment")
            });
            if number + 1 == says.segments.len() {
                let alone = [track.init_fetched.bytes.as_slice(), part].concat();
                let alone = file(folder, &format!("{name}-iframe.mp4"), &alone);
                let shown = probe(&alone, &["-count_frames", "-show_entries", "stream=nb_read_frames"]);
                let Some(found) = faults.catch(name, shown) else { continue };
                let frames = &found["streams"][0]["nb_read_frames"];
                faults.check(*frames == "1", || format!("{name}: the last I-frame gives {frames} frames"));
            }
        }
    }
}

/// No EXTINF, rounded to seconds, is above the target duration, and the target is no guess (RFC 8216bis §4.4.3.1).
fn target_duration(track: &Track, faults: &mut Faults) {
    let target = track.playlist.says.target_duration as i64;
    let longest =
        track.segments.iter().map(|segment| (segment.micros + 500_000) / 1_000_000).max().unwrap_or(0);
    faults.check(longest <= target, || {
        format!("{}: a segment of {longest} s, the target is {target} s", track.name)
    });
}

/// CODECS, RESOLUTION and FRAME-RATE are what the stream itself says.
fn variant(track: &Track, folder: &Path, faults: &mut Faults) {
    let name = &track.name;
    let Some(variant) = &track.variant else { return };
    let whole = file(folder, &format!("{name}.mp4"), &track.whole());
    let entries = "stream=codec_name,profile,level,width,height,sample_aspect_ratio,pix_fmt";
    let Some(found) = faults.catch(name, probe(&whole, &["-show_entries", entries])) else { return };
    let stream = &found["streams"][0];
    let profile = match stream["profile"].as_str() {
        Some("High") => 100,
        Some("Main") => 77,
        Some("Baseline" | "Constrained Baseline") => 66,
        _ => 0,
    };
    let level = stream["level"].as_u64().unwrap_or(0);
    let said = variant.codecs.as_deref().unwrap_or_default().split(',').next().unwrap_or_default();
    let avc = track.init.avc.unwrap_or_default();
    let of_init = format!("avc1.{:02x}{:02x}{:02x}", avc[0], avc[1], avc[2]);
    let right =
        said.eq_ignore_ascii_case(&of_init) && u64::from(avc[0]) == profile && u64::from(avc[2]) == level;
    faults.check(right, || {
        format!("{name}: CODECS says {said}, avcC {of_init}, ffprobe {profile} level {level}")
    });

    let size = (stream["width"].as_u64().unwrap_or(0), stream["height"].as_u64().unwrap_or(0));
    let said = variant.resolution.map(|r| (r.width, r.height)).unwrap_or_default();
    let of_track = (u64::from(track.init.size.0), u64::from(track.init.size.1));
    faults.check(said == size && of_track == size, || {
        format!("{name}: RESOLUTION says {said:?}, the track {of_track:?}, the stream {size:?}")
    });
    let square = matches!(stream["sample_aspect_ratio"].as_str(), Some("1:1" | "N/A") | None);
    faults.check(square, || format!("{name}: pixels are {} and not square", stream["sample_aspect_ratio"]));
    faults.check(stream["pix_fmt"] == "yuv420p", || format!("{name}: pixel format {}", stream["pix_fmt"]));

    let said = variant.frame_rate.unwrap_or(0.0);
    let is = frame_rates(track);
    faults.check(is.iter().any(|rate| (rate - said).abs() <= 0.000_6 + rate * 0.000_3), || {
        format!("{name}: FRAME-RATE says {said}, the frames {is:?}")
    });
}

/// Frames a second: over the whole, and by the most usual duration.
fn frame_rates(track: &Track) -> [f64; 2] {
    let clock = f64::from(track.init.timescale);
    let times = track.times();
    let mut steps: Vec<i64> = times.windows(2).map(|pair| pair[1] - pair[0]).collect();
    steps.sort_unstable();
    let usual = steps.get(steps.len() / 2).map_or(0.0, |step| clock / *step as f64);
    [times.len() as f64 * clock / track.end().max(1) as f64, usual]
}

/// BANDWIDTH covers the worst stretch of picture and sound together, AVERAGE-BANDWIDTH is the average, and neither
/// is inflated (RFC 8216bis §4.4.6.2).
fn rates(track: &Track, audio: Option<&Track>, faults: &mut Faults) {
    let name = &track.name;
    let Some(variant) = &track.variant else { return };
    let (mut peak, mut average) = (0.0, 0.0);
    for part in std::iter::once(track).chain(audio) {
        average += rate(&part.segments);
        peak += peak_rate(part);
    }
    let said = variant.bandwidth as f64;
    faults.check(said >= peak.floor() && said <= peak * 1.01 + 8.0, || {
        format!("{name}: BANDWIDTH says {said}, the segments {peak:.0}")
    });
    let said = variant.average_bandwidth.unwrap_or(0) as f64;
    faults.check((said - average).abs() <= average * 0.01 + 8.0, || {
        format!("{name}: AVERAGE-BANDWIDTH says {said}, the segments {average:.0}")
    });
}

/// The largest rate of a run of segments of 0.5 to 1.5 target durations; the average where there is no such run.
fn peak_rate(track: &Track) -> f64 {
    let target = track.playlist.says.target_duration as i64 * 1_000_000;
    let all = &track.segments;
    let runs = (0..all.len()).flat_map(|start| (start + 1..=all.len()).map(move |end| &all[start..end]));
    let counted = runs.filter(|run| {
        let micros: i64 = run.iter().map(|segment| segment.micros).sum();
        micros * 2 >= target && (micros * 2 <= target * 3 || run.len() == 1)
    });
    counted.map(rate).fold(rate(all), f64::max)
}

/// Bits a second.
fn rate(segments: &[crate::published::Segment]) -> f64 {
    let bytes: usize = segments.iter().map(|segment| segment.fetched.bytes.len()).sum();
    let micros: i64 = segments.iter().map(|segment| segment.micros).sum();
    bytes as f64 * 8_000_000.0 / micros.max(1) as f64
}

/// The sound's codec, rate and channels, and that every variant names them.
fn sound(track: &Track, published: &Published, folder: &Path, faults: &mut Faults) {
    let name = &track.name;
    let whole = file(folder, &format!("{name}.mp4"), &track.whole());
    let entries = "stream=codec_name,profile,sample_rate,channels";
    let Some(found) = faults.catch(name, probe(&whole, &["-show_entries", entries])) else { return };
    let stream = &found["streams"][0];
    let is_aac_lc = stream["codec_name"] == "aac" && stream["profile"] == "LC";
    faults.check(is_aac_lc, || format!("{name}: {} {}", stream["codec_name"], stream["profile"]));
    let rate = text(&stream["sample_rate"]);
    faults.check(rate == track.init.timescale.to_string(), || {
        format!("{name}: {rate} samples a second on a clock of {}", track.init.timescale)
    });
    // Sound alone is a variant, which does not say its channels.
    let Some(alternative) = &track.alternative else { return };
    let said = alternative.channels.as_ref().map(ToString::to_string).unwrap_or_default();
    faults.check(said.trim_matches('"') == text(&stream["channels"]), || {
        format!("{name}: CHANNELS says {said}, ffprobe {}", stream["channels"])
    });
    let group = Some(alternative.group_id.as_str());
    for video in &published.video {
        let Some(variant) = &video.variant else { continue };
        let codec = variant.codecs.as_deref().and_then(|codecs| codecs.split(',').nth(1));
        faults.check(codec == Some("mp4a.40.2") && variant.audio.as_deref() == group, || {
            format!("{}: the variant names the sound {codec:?} of group {:?}", video.name, variant.audio)
        });
    }
}

fn text(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}
