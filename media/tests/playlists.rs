//! Playlists of any presentation, read back by a parser that others wrote.

#![allow(clippy::unwrap_used, clippy::panic)]

mod sources;

use m3u8_rs::{MediaPlaylistType, Playlist};
use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::TestRunner;
use reelmill_media::gathered::{Gathered, Misfit};
use reelmill_media::hls;
use reelmill_media::ids::{AssetId, BlobHash, RenditionId};
use reelmill_media::image::{Image, ImageKind};
use reelmill_media::plan::{Plan, VideoSpan};
use reelmill_media::presentation::{Presentation, Sheet, Storyboard};
use reelmill_media::profile::Profile;
use reelmill_media::segment::{InitSegment, Segment};
use reelmill_media::task::{RenditionOutput, Work};
use reelmill_media::time::{Ticks, Timescale};
use sources::{any_profile, any_source};

/// What a worker that keeps its promises reports for `work`; sizes are drawn from `seed`.
fn outputs(plan: &Plan, work: &Work, seed: u64) -> Vec<RenditionOutput> {
    let bytes =
        |n: u32| 1 + (seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(u64::from(n)) % 900_000);
    let blob = |name: &str, n: u32| BlobHash::of(format!("{name} {n}").as_bytes());
    let init = |id: &RenditionId, timescale, codecs: &str| InitSegment {
        hash: blob(id.as_str(), u32::MAX),
        bytes: 700,
        timescale,
        codecs: codecs.to_owned(),
    };
    match work {
        Work::Index => vec![],
        Work::Video { segments, rungs } => rungs
            .iter()
            .map(|id| RenditionOutput {
                rendition: id.clone(),
                encoder: "libx264".into(),
                init: init(id, plan.video.as_ref().unwrap().timescale, "avc1.64001f"),
                segments: segments
                    .clone()
                    .map(|n| {
                        let span = &plan.video.as_ref().unwrap().segments[n as usize];
                        Segment {
                            number: n,
                            start: span.start,
                            duration: span.end - span.start,
                            frames: span.frames.len() as u32,
                            concealed: 0,
                            first_frame_bytes: bytes(n) as u32 / 2 + 1,
                            bytes: bytes(n),
                            hash: blob(id.as_str(), n),
                        }
                    })
                    .collect(),
            })
            .collect(),
        Work::Audio { segments, rendition } => {
            let audio = plan.sound(rendition).unwrap();
            let id = &audio.rung.id;
            let made = segments
                .clone()
                .map(|n| {
                    let span = audio.span(n as usize).unwrap();
                    Segment {
                        number: n,
                        start: span.start,
                        duration: span.end - span.start,
                        frames: audio.segments[n as usize].len() as u32,
                        concealed: 0,
                        first_frame_bytes: 0,
                        bytes: bytes(n),
                        hash: blob(id.as_str(), n),
                    }
                })
                .collect();
            vec![RenditionOutput {
                rendition: id.clone(),
                encoder: "aac".into(),
                init: init(id, audio.timeline.sample_rate, "mp4a.40.2"),
                segments: made,
            }]
        }
    }
}

fn media(text: &str) -> m3u8_rs::MediaPlaylist {
    match m3u8_rs::parse_playlist_res(text.as_bytes()) {
        Ok(Playlist::MediaPlaylist(playlist)) => playlist,
        other => panic!("not a media playlist: {other:?}\n{text}"),
    }
}

fn check_media(presentation: &Presentation) {
    for track in presentation.tracks() {
        let text = hls::media_playlist(track, presentation.target_duration);
        let parsed = media(&text);
        assert_eq!(parsed.segments.len(), track.segments.len());
        assert_eq!(parsed.end_list, track.complete);
        assert_eq!(parsed.playlist_type, Some(MediaPlaylistType::Event));
        assert_eq!(parsed.target_duration, u64::from(presentation.target_duration));
        let mut sum = 0i64;
        for (segment, made) in parsed.segments.iter().zip(&track.segments) {
            assert!(segment.duration.round() as u64 <= parsed.target_duration);
            assert!(segment.uri.contains(&made.hash.to_string()));
            assert!(segment.uri.starts_with("../../blobs/"));
            let micros = text_micros(&text, &segment.uri);
            sum += micros;
            // No drift: the sum so far is the media time so far.
            let end = (made.start + made.duration).micros(track.timescale());
            assert_eq!(sum, end);
        }
    }
}

/// The EXTINF before `uri`, in microseconds, read as text: a float would round.
fn text_micros(text: &str, uri: &str) -> i64 {
    let lines: Vec<&str> = text.lines().collect();
    let at = lines.iter().position(|l| *l == uri).unwrap();
    let value = lines[at - 1].strip_prefix("#EXTINF:").unwrap().trim_end_matches(',');
    let (seconds, micros) = value.split_once('.').unwrap();
    assert_eq!(micros.len(), 6);
    seconds.parse::<i64>().unwrap() * 1_000_000 + micros.parse::<i64>().unwrap()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(150))]

    #[test]
    fn playlists_only_grow_whatever_the_order_of_results(
        index in any_source(), profile in any_profile(), order in any::<prop::sample::Index>(), seed in any::<u64>(),
    ) {
        let plan = Plan::new(&index, &profile, 3).unwrap();
        let asset = AssetId::from_parts(1, 1);
        let mut gathered = Gathered::default();
        let mut before: Vec<(RenditionId, String)> = Vec::new();
        let mut tasks: Vec<_> = plan.tasks.iter().map(|t| &t.work).collect();
        let turn = order.index(tasks.len());
        tasks.rotate_left(turn);
        for (done, work) in tasks.iter().enumerate() {
            let made = outputs(&plan, work, seed);
            gathered.add(&made, &[]).unwrap();
            gathered.add(&made, &[]).unwrap();
            let presentation = gathered.presentation(asset, &plan);
            prop_assert_eq!(presentation.complete, done + 1 == tasks.len());
            check_media(&presentation);
            let now: Vec<(RenditionId, String)> = presentation
                .tracks()
                .map(|t| (t.id.clone(), hls::media_playlist(t, presentation.target_duration)))
                .collect();
            for (id, old) in &before {
                let new = &now.iter().find(|(other, _)| other == id).unwrap().1;
                prop_assert!(new.starts_with(old.as_str()), "playlist of {id} did not only grow");
            }
            before = now;
        }
    }

    #[test]
    fn multivariant_playlists_name_every_rendition_with_true_rates(
        index in any_source(), profile in any_profile(), seed in any::<u64>(),
    ) {
        let plan = Plan::new(&index, &profile, 3).unwrap();
        let mut gathered = Gathered::default();
        for task in &plan.tasks {
            gathered.add(&outputs(&plan, &task.work, seed), &[]).unwrap();
        }
        let presentation = gathered.presentation(AssetId::from_parts(1, 1), &plan);
        prop_assert!(presentation.complete && presentation.is_playable(&plan));
        let text = hls::multivariant_playlist(&presentation);
        let Ok(Playlist::MasterPlaylist(parsed)) = m3u8_rs::parse_playlist_res(text.as_bytes()) else {
            panic!("not a multivariant playlist:\n{text}")
        };
        let codecs = profile.audio.len().min(plan.audio.len());
        let plain: Vec<_> = parsed.variants.iter().filter(|v| !v.is_i_frame).collect();
        prop_assert_eq!(plain.len(), plan.ladder.video.len() * codecs.max(1));
        prop_assert_eq!(parsed.variants.len() - plain.len(), profile.video.len());
        prop_assert_eq!(parsed.alternatives.len(), plan.audio.len());
        prop_assert!(parsed.independent_segments);
        for variant in plain {
            let rendition =
                presentation.video.iter().find(|r| variant.uri == format!("{}.m3u8", r.track.id)).unwrap();
            let size = variant.resolution.unwrap();
            prop_assert_eq!((size.width, size.height), (u64::from(rendition.width), u64::from(rendition.height)));
            prop_assert!(variant.average_bandwidth.unwrap() <= variant.bandwidth);
            let said = variant.codecs.as_deref().unwrap();
            prop_assert_eq!(said.contains("mp4a.40.2"), codecs > 0);
            // The group that it names is there, and each of its members has another name.
            let mut names: Vec<_> = parsed
                .alternatives
                .iter()
                .filter(|a| Some(&a.group_id) == variant.audio.as_ref())
                .map(|a| &a.name)
                .collect();
            prop_assert_eq!(names.is_empty(), codecs == 0);
            let count = names.len();
            names.sort();
            names.dedup();
            prop_assert_eq!(names.len(), count);
            // Any run of segments of about the target duration stays below BANDWIDTH.
            for s in &rendition.track.segments {
                let seconds = s.duration.seconds(rendition.track.timescale());
                if seconds >= f64::from(presentation.target_duration) * 0.5 && seconds <= f64::from(presentation.target_duration) * 1.5 {
                    // Rates are reckoned in whole microseconds.
                    prop_assert!(s.bytes as f64 * 8.0 / seconds <= variant.bandwidth as f64 * 1.00001 + 1.0);
                }
            }
        }
        for rendition in presentation.video.iter().filter(|r| r.lowest) {
            let frames = media(&hls::iframe_playlist(&rendition.track, presentation.target_duration));
            prop_assert!(frames.i_frames_only && frames.end_list);
            prop_assert_eq!(frames.segments.len(), rendition.track.segments.len());
            for (listed, made) in frames.segments.iter().zip(&rendition.track.segments) {
                let range = listed.byte_range.as_ref().unwrap();
                prop_assert_eq!((range.length, range.offset), (u64::from(made.first_frame_bytes), Some(0)));
            }
        }
    }

    #[test]
    fn sound_alone_is_a_variant(index in any_source(), seed in any::<u64>()) {
        prop_assume!(!index.audio.is_empty());
        let index = reelmill_media::index::SourceIndex { video: None, ..index };
        let plan = Plan::new(&index, &Profile::default(), 3).unwrap();
        let mut gathered = Gathered::default();
        for task in &plan.tasks {
            gathered.add(&outputs(&plan, &task.work, seed), &[]).unwrap();
        }
        let presentation = gathered.presentation(AssetId::from_parts(1, 1), &plan);
        prop_assert!(presentation.complete && presentation.is_playable(&plan));
        check_media(&presentation);
        let Ok(Playlist::MasterPlaylist(parsed)) =
            m3u8_rs::parse_playlist_res(hls::multivariant_playlist(&presentation).as_bytes())
        else {
            panic!("not a multivariant playlist")
        };
        prop_assert_eq!(parsed.variants.len(), 1);
        prop_assert_eq!(&parsed.variants[0].uri, "a0.m3u8");
        prop_assert_eq!(parsed.variants[0].codecs.as_deref(), Some("mp4a.40.2"));
    }
}

fn part(encoder: &str, init: &[u8], codecs: &str, numbers: std::ops::Range<u32>) -> RenditionOutput {
    let segment = |number: u32| Segment {
        number,
        start: Ticks(i64::from(number) * 100),
        duration: Ticks(100),
        frames: 1,
        concealed: 0,
        first_frame_bytes: 1,
        bytes: 1,
        hash: BlobHash::of(&number.to_le_bytes()),
    };
    RenditionOutput {
        rendition: "v360".parse().unwrap(),
        encoder: encoder.into(),
        init: InitSegment {
            hash: BlobHash::of(init),
            bytes: 1,
            timescale: Timescale::MPEG,
            codecs: codecs.into(),
        },
        segments: numbers.map(segment).collect(),
    }
}

#[test]
fn another_init_segment_of_the_same_encoder_is_refused_whole() {
    let mut gathered = Gathered::default();
    let software = |init: &[u8]| part("libx264", init, "avc1.64001f", 0..1);
    gathered.add(&[software(b"one")], &[]).unwrap();
    let refused = gathered.add(&[software(b"two")], &[]);
    assert_eq!(refused, Err(Misfit::Init("v360".parse().unwrap())));
    let other = part("h264_nvenc", b"three", "avc1.640028", 1..2);
    assert_eq!(gathered.add(&[other], &[]), Err(Misfit::Codecs("v360".parse().unwrap())));
    gathered.add(&[software(b"one")], &[]).unwrap();
}

#[test]
fn a_change_of_encoder_is_told_to_players() {
    let mut gathered = Gathered::default();
    gathered.add(&[part("libx264", b"soft", "avc1.64001f", 3..5)], &[]).unwrap();
    gathered.add(&[part("h264_nvenc", b"hard", "avc1.64001f", 0..3)], &[]).unwrap();
    let source = any_source().new_tree(&mut TestRunner::deterministic()).unwrap().current();
    let mut plan = Plan::new(&source, &Profile::default(), 1).unwrap();
    plan.video.as_mut().unwrap().segments =
        vec![VideoSpan { frames: 0..1, start: Ticks(0), end: Ticks(1) }; 5];
    let presentation = gathered.presentation(AssetId::from_parts(1, 1), &plan);
    let track = presentation.tracks().next().unwrap();
    let text = hls::media_playlist(track, 4);
    let parsed = media(&text);
    assert_eq!(
        parsed.segments.iter().map(|s| s.discontinuity).collect::<Vec<_>>(),
        [false, false, false, true, false]
    );
    for (segment, init) in [(0, b"hard"), (3, b"soft")] {
        assert!(parsed.segments[segment].map.as_ref().unwrap().uri.contains(&BlobHash::of(init).to_string()));
    }
    assert!(track.complete && text.ends_with("#EXT-X-ENDLIST\n"));
}

#[test]
fn a_storyboard_shows_every_thumbnail_once() {
    let source = any_source().new_tree(&mut TestRunner::deterministic()).unwrap().current();
    let plan = Plan::new(&source, &Profile::default(), 1).unwrap();
    let mut presentation = Gathered::default().presentation(AssetId::from_parts(1, 1), &plan);
    let still = |n: u32| Image {
        kind: ImageKind::Thumbnail,
        frame: n,
        at_micros: i64::from(n) * 61_000_000,
        width: 160,
        height: 90,
        bytes: 1,
        hash: BlobHash::of(b"still"),
    };
    presentation.thumbnails = (0..7).map(still).collect();
    presentation.duration_micros = 400_000_000;
    assert_eq!(hls::storyboard(&presentation), None);
    let sheet = |name: &[u8]| Sheet { bytes: 1, hash: BlobHash::of(name) };
    presentation.storyboard =
        Some(Storyboard { columns: 3, rows: 2, sheets: vec![sheet(b"one"), sheet(b"two")] });
    let text = hls::storyboard(&presentation).unwrap();
    let cues: Vec<&str> = text.split("\n\n").skip(1).collect();
    assert_eq!(cues.len(), 7);
    assert!(cues[4].starts_with("00:04:04.000 --> 00:05:05.000\n../../blobs/"), "{}", cues[4]);
    assert!(cues[4].contains("#xywh=160,90,160,90") && cues[4].contains(&BlobHash::of(b"one").to_string()));
    assert!(cues[6].starts_with("00:06:06.000 --> 00:06:40.000") && cues[6].contains("#xywh=0,0,"));
    assert!(cues[6].contains(&BlobHash::of(b"two").to_string()));
}
