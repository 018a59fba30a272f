//! Clips of real cameras, phones, encoders and attackers, from the folder that `REELMILL_MEDIA` names.

#![allow(clippy::expect_used, clippy::panic, clippy::unwrap_used)]

use std::time::Duration;

use reelmill_e2e::judge::Expected;
use reelmill_e2e::media_dir::{clip, real_clips};
use reelmill_e2e::published::MediaPlaylistType;
use reelmill_e2e::system::{System, until};

const READY: Duration = Duration::from_secs(240);
const LONG_READY: Duration = Duration::from_secs(1800);

/// What can be made: file, presented frames, and size as the viewer sees it.
const GOOD: [(&str, usize, (u32, u32)); 20] = [
    ("one_frame_sar16_9.mp4", 1, (1138, 480)),
    ("iphone_dolbyvision_5frames.mov", 4, (720, 1280)),
    ("vp9_odd_161x121.webm", 30, (161, 121)),
    ("fragmented_bogus_duration.mp4", 30, (1080, 720)),
    ("ass_subs_ac3_mono.mkv", 30, (1080, 720)),
    ("mpeg4asp_mp3.avi", 96, (960, 400)),
    ("first_pts_10s_bframes_sar.mp4", 120, (1137, 640)),
    ("sony_1080i50_ac3_pgs.mts", 13, (1920, 1080)),
    ("phone_4k60_portrait_rot.mp4", 18, (2160, 3840)),
    ("hdr10_hevc_sdr_container.mp4", 28, (1920, 1080)),
    ("hdr10_av1_portrait.mp4", 127, (720, 1280)),
    ("iphone_hevc_dv84_hlg_editlist_rot.mp4", 77, (1080, 1920)),
    ("vp8_1080p60_vorbis51.webm", 60, (1920, 1080)),
    ("screenrec_vfr_3026x1386.mp4", 63, (3026, 1386)),
    ("editlist_video_starts_1s_late.mp4", 270, (1920, 1080)),
    ("tears_of_steel_ptswrap_20s.ts", 480, (640, 360)),
    ("nature_winter_720p30_21s.mp4", 640, (1280, 720)),
    ("people_720p30_aac_39s_concat.mp4", 1168, (1280, 720)),
    ("nature_holly_720p30_50s.mp4", 1499, (1280, 720)),
    ("walkway_768x432_10fps_139s.mp4", 1394, (768, 432)),
];

/// Six minutes in full HD, which take minutes to make. Its own test looks at the beginning, and at the whole only when
/// `REELMILL_LONG` is set.
const LONG: (&str, usize, (u32, u32)) = ("long_1080p30_363s_lowbitrate.mp4", 10_883, (1920, 1080));

/// What must be refused, and the codes under which.
const BAD: [(&str, &[&str]); 4] = [
    ("corrupt_chunk_out_of_range.mp4", &["corrupt", "truncated"]),
    ("fuzz_h264_bad_ptr.mp4", &["corrupt", "truncated", "unsupported"]),
    ("ssrf_hls_disguised.avi", &["not_media"]),
    ("motion_photo_jpeg_with_mp4_tail.jpg", &["not_media"]),
];

/// Where libav's idea of a clip is not the truth: how long the first frame is held, in seconds.
const HELD_S: [(&str, f64); 1] = [
    // The edit list begins 7/600 s before a frame. libav moves the picture there, away from its sound.
    ("iphone_hevc_dv84_hlg_editlist_rot.mp4", 7.0 / 600.0),
];

/// What should come out right and does not yet, with the reason. Each is still made, so that a name here that has
/// become right fails the test.
const NOT_YET: [(&str, &str); 0] = [];

#[test]
fn good_clips_come_out_right() {
    if real_clips().is_none() {
        eprintln!("REELMILL_MEDIA names no folder: no real clip was tried");
        return;
    }
    let system = System::start();
    let uploads: Vec<_> = GOOD
        .iter()
        .map(|&(name, frames, size)| {
            let path = clip(name).expect("a folder is set");
            (name, frames, size, system.put(&path))
        })
        .collect();
    let mut faults = Vec::new();
    for (name, frames, size, asset) in uploads {
        let path = clip(name).expect("a folder is set");
        let mut expected = Expected::of_clip(&path, size).expect("ffprobe reads a good clip");
        if let Some((_, held)) = HELD_S.iter().find(|(known, _)| *known == name) {
            expected.lead_s = *held;
        }
        assert_eq!(expected.times_s.len(), frames, "{name}: presented frames by ffprobe");
        let made = system.at_its_end(&asset, READY);
        let found = if made.state == "ready" {
            system.judge(&asset, &expected)
        } else {
            vec![format!("failed: {:?}", made.error)]
        };
        eprintln!("{name}: {}", if found.is_empty() { "right".to_owned() } else { found.join("\n    ") });
        match NOT_YET.iter().find(|(known, _)| *known == name) {
            Some((_, reason)) if found.is_empty() => {
                faults.push(format!("{name} is right now: not any more {reason}"))
            }
            Some(_) => {}
            None => faults.extend(found.into_iter().map(|fault| format!("{name}: {fault}"))),
        }
    }
    assert!(faults.is_empty(), "{} faults:\n  {}", faults.len(), faults.join("\n  "));
}

#[test]
fn the_longest_clip_grows_from_its_beginning() {
    if real_clips().is_none() {
        eprintln!("REELMILL_MEDIA names no folder: no real clip was tried");
        return;
    }
    let (name, frames, size) = LONG;
    let path = clip(name).expect("a folder is set");
    let system = System::start();
    let asset = system.put(&path);
    let playable = system.follow(&asset, READY, |asset| asset.playable).pop().expect("an event");
    assert_eq!(playable.state, "processing", "{:?}", playable.error);
    assert!(playable.duration_seconds.is_some_and(|seconds| (seconds - 362.767).abs() < 0.05));
    if std::env::var_os("REELMILL_LONG").is_some() {
        let expected = Expected::of_clip(&path, size).expect("ffprobe reads it");
        assert_eq!(expected.times_s.len(), frames);
        system.ready(&asset, LONG_READY);
        system.must_be_right(&asset, &expected);
        return;
    }

    // What is said stays said: playlists only grow.
    let mut before: Vec<(String, String)> = Vec::new();
    until("four segments of each rendition", READY, || {
        let published = system.published(&asset);
        let now: Vec<_> =
            published.tracks().map(|track| (track.name.clone(), track.playlist.text())).collect();
        for (name, text) in &before {
            let grown = now.iter().find(|(known, _)| known == name).expect("a rendition stays");
            assert!(grown.1.starts_with(text.as_str()), "{name} was\n{text}\nand is\n{}", grown.1);
        }
        assert!(
            published
                .tracks()
                .all(|track| track.playlist.says.playlist_type == Some(MediaPlaylistType::Event))
        );
        before = now;
        let longest = published.tracks().map(|track| track.segments.len()).min()?;
        (published.video.len() == 4 && longest >= 4 && published.audio.is_some()).then_some(())
    });
    let published = system.published(&asset);
    assert!(published.tracks().any(|track| !track.playlist.says.end_list), "it is still being made");
    for track in &published.video {
        // 0, 1, 2 and 4 s, and where the source has its second key frame.
        let starts: Vec<i64> = track.segments.iter().take(5).map(|segment| segment.fragment.start).collect();
        let due = [0, 3, 6, 12, 25].map(|thirds| thirds * i64::from(track.init.timescale) / 3);
        assert_eq!(starts, due[..starts.len()], "{}", track.name);
    }
}

#[test]
fn bad_clips_are_refused() {
    if real_clips().is_none() {
        eprintln!("REELMILL_MEDIA names no folder: no real clip was tried");
        return;
    }
    let system = System::start();
    for (name, codes) in BAD {
        let asset = system.put(&clip(name).expect("a folder is set"));
        let failure = system.failed(&asset, READY);
        assert!(codes.contains(&failure.code.as_str()), "{name}: {failure:?}");
    }
}

#[test]
fn every_clip_is_known_here() {
    let Some(folder) = real_clips() else { return };
    let known = |name: &str| {
        name == LONG.0 || GOOD.iter().any(|good| good.0 == name) || BAD.iter().any(|bad| bad.0 == name)
    };
    for entry in std::fs::read_dir(folder).unwrap().filter_map(Result::ok) {
        let name = entry.file_name().to_string_lossy().into_owned();
        assert!(
            known(&name) || name.ends_with(".md") || name.ends_with(".tsv"),
            "{name} is tried by no test"
        );
    }
}
