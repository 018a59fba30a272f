//! What is no video, or no whole one, is refused with its own code, and what is damaged never hangs or crashes.

// A panic here is a failed test, said at the place where it failed.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod harness;

use reelmill_e2e::fixtures::{Bad, Kind, bad, fixture};
use reelmill_media::task::{FailureCode, Work};
use reelmill_worker::exec::protocol::Job;

#[test]
fn bad_files_are_refused_for_what_they_are() {
    for kind in Bad::ALL {
        let source = std::fs::read(bad(kind)).unwrap();
        let failure = harness::index(&source).expect_err("an index of a bad file");
        let expected = match kind {
            Bad::SubtitlesOnly => FailureCode::NoTracks,
            Bad::Empty => FailureCode::Empty,
            Bad::Text | Bad::Playlist | Bad::Png | Bad::Garbage => FailureCode::NotMedia,
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
        assert_eq!(frames as usize, title.timeline().frames.len(), "{kind:?}");
        assert_eq!(segments.last().map(|s| s.start + s.duration), Some(title.timeline().end));
    }
}

#[test]
fn a_chunk_of_which_nothing_decodes_fails() {
    let mut source = std::fs::read(fixture(Kind::NoAudio).path).unwrap();
    let title = harness::Title::of(&source).unwrap();
    let first = title.index.video.as_ref().unwrap().samples.iter().map(|s| s.offset).min().unwrap() as usize;
    source[first..].fill(0);
    assert_eq!(title.make(&source, &[1]).unwrap_err().code, FailureCode::Corrupt);
}

#[test]
fn a_concealed_chunk_has_the_planned_shape_and_is_made_of_nothing() {
    let fixture = fixture(Kind::Landscape);
    let source = std::fs::read(&fixture.path).unwrap();
    let title = harness::Title::of(&source).unwrap();
    let whole = title.make(&source, &[1]).unwrap();
    for work in [
        Work::Video { segments: 1..3, rungs: title.rungs() },
        Work::Audio { rendition: "a0".parse().unwrap(), segments: 1..2 },
    ] {
        let mut job = Job::for_work(&work, source.len() as u64, Some((&title.index, &title.plan))).unwrap();
        job.conceal();
        let made = harness::run(&source, job.clone()).unwrap();
        assert_eq!(made.read, 0, "the source was touched");
        assert_eq!(made, harness::run(&source, job).unwrap(), "the same task, other bytes");
        for init in &made.inits {
            let own = &whole[init.rendition.as_str()];
            assert_eq!((&init.bytes, &init.codecs), (&own.init, &own.codecs), "players see one stream");
        }
        for segment in &made.segments {
            let own = &whole[segment.rendition.as_str()].segments[segment.number as usize];
            assert_eq!(
                (segment.start, segment.duration, segment.frames),
                (own.start, own.duration, own.frames)
            );
            assert!(segment.concealed > 0 && own.concealed == 0);
            if matches!(work, Work::Video { .. }) {
                assert_eq!(segment.concealed, segment.frames, "all of it is marked");
            }
        }
    }
}

#[test]
fn a_source_that_cannot_be_read_is_not_called_bad() {
    use reelmill_worker::exec::protocol::{FromChild, ToChild, read_message, write_message};
    for kind in [Kind::Landscape, Kind::Mkv, Kind::MpegTs] {
        let source = std::fs::read(fixture(kind).path).unwrap();
        let (child_in, mut to_child) = std::io::pipe().unwrap();
        let (mut from_child, child_out) = std::io::pipe().unwrap();
        let child = std::thread::spawn(move || reelmill_worker::exec::serve(child_in, child_out));
        write_message(&mut to_child, &ToChild::Job(Job::Index { source_bytes: source.len() as u64 }))
            .unwrap();
        // The first read tells what it is; then the store is gone.
        let mut reads = 0u32;
        let failed = loop {
            match read_message::<FromChild>(&mut from_child).unwrap().unwrap() {
                FromChild::Read { offset, len } => {
                    let start = offset as usize;
                    let answer = match reads {
                        0 => ToChild::Bytes(source[start..start + len as usize].to_vec()),
                        1.. => ToChild::ReadFailed("the store is gone".into()),
                    };
                    reads += 1;
                    write_message(&mut to_child, &answer).unwrap();
                }
                FromChild::Failed(failed) => break failed.failure,
                FromChild::Progress { .. } => {}
                other @ (FromChild::Init(_)
                | FromChild::Segment(_)
                | FromChild::Image(_)
                | FromChild::Index(_)
                | FromChild::Beginning(_)
                | FromChild::Done) => {
                    panic!("{kind:?}: {other:?}")
                }
            }
        };
        assert_eq!(failed.code, FailureCode::Internal, "{kind:?}: {}", failed.reason);
        child.join().unwrap().unwrap();
    }
}

#[test]
fn a_presentation_of_years_is_too_large_to_be_planned() {
    let mut source = std::fs::read(fixture(Kind::Landscape).path).unwrap();
    let stts = source.windows(4).position(|w| w == b"stts").unwrap();
    // Version and flags, number of rows, samples of the first row: then how long each lasts.
    source[stts + 16..stts + 20].copy_from_slice(&i32::MAX.to_be_bytes());
    // The edit list would show the first six seconds alone.
    let edits = source.windows(4).position(|w| w == b"edts").unwrap();
    source[edits..edits + 4].copy_from_slice(b"free");
    assert_eq!(harness::index(&source).unwrap_err().code, FailureCode::TooLarge);
}
