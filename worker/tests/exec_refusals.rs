//! What is no video, or no whole one, is refused with its own code, and what is damaged never hangs or crashes.

// A panic here is a failed test, said at the place where it failed.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod harness;

use reelmill_e2e::fixtures::{Bad, Kind, bad, fixture};
use reelmill_media::task::FailureCode;

#[test]
fn bad_files_are_refused_for_what_they_are() {
    for kind in Bad::ALL {
        let source = std::fs::read(bad(kind)).unwrap();
        let failure = harness::index(&source).expect_err("an index of a bad file");
        let expected = match kind {
            Bad::Empty => FailureCode::Empty,
            Bad::Text | Bad::Playlist | Bad::Png | Bad::Garbage => FailureCode::NotMedia,
            Bad::AudioOnly => FailureCode::NoVideo,
            Bad::TruncatedMoovFirst | Bad::TruncatedMoovMissing => FailureCode::Truncated,
        };
        assert_eq!(failure.code, expected, "{kind:?}: {}", failure.reason);
        assert!(!failure.reason.is_empty());
    }
}

#[test]
fn an_mp4_is_indexed_by_few_small_reads() {
    let source = std::fs::read(fixture(Kind::MoovAtEnd).path).unwrap();
    let job = reelmill_worker::exec::protocol::Job::Index { source_bytes: source.len() as u64 };
    let made = harness::run(&source, job).unwrap();
    assert!(made.reads <= 6, "{} reads", made.reads);
}

/// A fixed generator, so that a failure can be had again.
fn random(state: &mut u64) -> usize {
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    *state as usize
}

#[test]
fn damaged_media_is_concealed_and_keeps_its_length() {
    let kinds = [Kind::Landscape, Kind::OpenGop, Kind::MpegTs, Kind::Mkv];
    for kind in kinds {
        let whole = std::fs::read(fixture(kind).path).unwrap();
        let title = harness::Title::of(&whole).unwrap();
        let mut damaged = whole.clone();
        let (from, to) = (whole.len() / 4, whole.len() * 3 / 4);
        let mut state = 7;
        for _ in 0..400 {
            let at = from + random(&mut state) % (to - from);
            damaged[at] ^= 1 << (random(&mut state) % 8);
        }
        damaged[whole.len() / 2..whole.len() / 2 + 20_000].fill(0);
        let made = title.make(&damaged, &[1]).unwrap();
        let segments = &made["v360"].segments;
        let frames: u32 = segments.iter().map(|s| s.frames).sum();
        assert_eq!(frames as usize, title.timeline.frames.len(), "{kind:?}");
        assert_eq!(segments.last().map(|s| s.start + s.duration), Some(title.timeline.end));
    }
}

#[test]
fn a_chunk_of_which_nothing_decodes_fails() {
    let mut source = std::fs::read(fixture(Kind::NoAudio).path).unwrap();
    let title = harness::Title::of(&source).unwrap();
    let first = title.index.video.samples.iter().map(|s| s.offset).min().unwrap() as usize;
    source[first..].fill(0);
    assert_eq!(title.make(&source, &[1]).unwrap_err().code, FailureCode::Corrupt);
}
