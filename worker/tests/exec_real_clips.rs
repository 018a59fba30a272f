//! Real clips of cameras, phones and encoders, in the folder that `REELMILL_MEDIA` names: made whole, or refused.

// A panic here is a failed test, said at the place where it failed.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod harness;

use harness::Title;
use reelmill_e2e::media_dir::real_clips;

/// Clips that hold no picture that can be played, on purpose.
const REFUSED: [&str; 4] = [
    "corrupt_chunk_out_of_range.mp4",
    "fuzz_h264_bad_ptr.mp4",
    "ssrf_hls_disguised.avi",
    "motion_photo_jpeg_with_mp4_tail.jpg",
];

/// Clips that last minutes, of which this much is made, in segments.
const FIRST_SEGMENTS: usize = 6;

#[test]
fn real_clips_are_made_whole_or_refused() {
    let Some(folder) = real_clips() else { return };
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        if name == "README.md" || name == "manifest.tsv" {
            continue;
        }
        let source = std::fs::read(&path).unwrap();
        let title = match Title::of(&source) {
            Ok(title) => title,
            Err(failure) => {
                assert!(REFUSED.contains(&name.as_str()), "{name}: {failure:?}");
                assert!(!failure.code.is_retryable(), "{name}: {failure:?}");
                continue;
            }
        };
        assert!(!REFUSED.contains(&name.as_str()), "{name} was taken");
        let mut title = title.lowest(1);
        if let Some(video) = &mut title.plan.video {
            video.segments.truncate(FIRST_SEGMENTS);
        }
        for audio in &mut title.plan.audio {
            audio.segments.truncate(FIRST_SEGMENTS);
        }
        let made = title.make(&source, &[2]).unwrap();
        for (id, rendition) in &made {
            assert!(rendition.segments.iter().all(|s| s.concealed == 0), "{name} {id} has holes");
            let ends = rendition.segments.iter().map(|s| s.start + s.duration);
            let starts = rendition.segments.iter().skip(1).map(|s| s.start);
            assert!(ends.zip(starts).all(|(end, start)| end == start), "{name} {id} has a gap");
        }
        assert_eq!(made.len(), 1 + title.plan.audio.len(), "{name}");
    }
}
