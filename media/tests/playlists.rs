//! Playlists of any presentation, read back by a parser that others wrote.

#![allow(clippy::unwrap_used, clippy::panic)]

mod sources;

use m3u8_rs::{MediaPlaylistType, Playlist};
use proptest::prelude::*;
use reelmill_media::hls;
use reelmill_media::ids::{AssetId, BlobHash, RenditionId};
use reelmill_media::ladder::Ladder;
use reelmill_media::plan::Plan;
use reelmill_media::presentation::{Gathered, Presentation};
use reelmill_media::segment::{InitSegment, Segment};
use reelmill_media::task::{RenditionOutput, Work};
use reelmill_media::timeline::VideoTimeline;
use sources::any_source;

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
                init: init(id, plan.video.timescale, "avc1.64001f"),
                segments: segments
                    .clone()
                    .map(|n| {
                        let span = &plan.video.segments[n as usize];
                        Segment {
                            number: n,
                            start: span.start,
                            duration: span.end - span.start,
                            frames: span.frames.len() as u32,
                            concealed: 0,
                            bytes: bytes(n),
                            hash: blob(id.as_str(), n),
                        }
                    })
                    .collect(),
            })
            .collect(),
        Work::Audio { segments } => {
            let audio = plan.audio.as_ref().unwrap();
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
                        bytes: bytes(n),
                        hash: blob(id.as_str(), n),
                    }
                })
                .collect();
            vec![RenditionOutput {
                rendition: id.clone(),
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
            let end = (made.start + made.duration).micros(track.init.timescale);
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
        index in any_source(), order in any::<prop::sample::Index>(), seed in any::<u64>(),
    ) {
        let rate = VideoTimeline::of(&index).unwrap().frame_rate();
        let plan = Plan::new(&index, Ladder::default_for(&index.video.picture, rate, index.audio.as_ref()), 3).unwrap();
        let asset = AssetId::from_parts(1, 1);
        let mut gathered = Gathered::default();
        let mut before: Vec<(RenditionId, String)> = Vec::new();
        let mut tasks: Vec<_> = plan.tasks.iter().map(|t| &t.work).collect();
        let turn = order.index(tasks.len());
        tasks.rotate_left(turn);
        for (done, work) in tasks.iter().enumerate() {
            let made = outputs(&plan, work, seed);
            gathered.add(&made).unwrap();
            gathered.add(&made).unwrap();
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
    fn multivariant_playlists_name_every_rendition_with_true_rates(index in any_source(), seed in any::<u64>()) {
        let rate = VideoTimeline::of(&index).unwrap().frame_rate();
        let plan = Plan::new(&index, Ladder::default_for(&index.video.picture, rate, index.audio.as_ref()), 3).unwrap();
        let mut gathered = Gathered::default();
        for task in &plan.tasks {
            gathered.add(&outputs(&plan, &task.work, seed)).unwrap();
        }
        let presentation = gathered.presentation(AssetId::from_parts(1, 1), &plan);
        prop_assert!(presentation.complete && presentation.is_playable(&plan));
        let text = hls::multivariant_playlist(&presentation);
        let Ok(Playlist::MasterPlaylist(parsed)) = m3u8_rs::parse_playlist_res(text.as_bytes()) else {
            panic!("not a multivariant playlist:\n{text}")
        };
        prop_assert_eq!(parsed.variants.len(), plan.ladder.video.len());
        prop_assert_eq!(parsed.alternatives.len(), usize::from(plan.audio.is_some()));
        prop_assert!(parsed.independent_segments);
        for (variant, rendition) in parsed.variants.iter().zip(&presentation.video) {
            prop_assert_eq!(&variant.uri, &format!("{}.m3u8", rendition.track.id));
            let size = variant.resolution.unwrap();
            prop_assert_eq!((size.width, size.height), (u64::from(rendition.width), u64::from(rendition.height)));
            prop_assert!(variant.average_bandwidth.unwrap() <= variant.bandwidth);
            prop_assert_eq!(variant.codecs.as_deref().unwrap().contains("mp4a.40.2"), plan.audio.is_some());
            // Any run of segments of about the target duration stays below BANDWIDTH.
            for s in &rendition.track.segments {
                let seconds = s.duration.seconds(rendition.track.init.timescale);
                if seconds >= f64::from(presentation.target_duration) * 0.5 && seconds <= f64::from(presentation.target_duration) * 1.5 {
                    prop_assert!(s.bytes as f64 * 8.0 / seconds <= variant.bandwidth as f64 + 1.0);
                }
            }
        }
    }
}

#[test]
fn another_init_segment_is_refused_whole() {
    let mut gathered = Gathered::default();
    let id: RenditionId = "v360".parse().unwrap();
    let part = |name: &[u8]| RenditionOutput {
        rendition: id.clone(),
        init: InitSegment {
            hash: BlobHash::of(name),
            bytes: 1,
            timescale: reelmill_media::time::Timescale::MPEG,
            codecs: "avc1.64001f".into(),
        },
        segments: vec![],
    };
    gathered.add(&[part(b"one")]).unwrap();
    assert!(gathered.add(&[part(b"two")]).is_err());
    gathered.add(&[part(b"one")]).unwrap();
}
