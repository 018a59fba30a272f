//! What a child reads of a source that is still coming in: the bytes of its chunk, and little more, however far into the
//! source that lies.

// A panic here is a failed test, said at the place where it failed.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "harness/ffmpeg.rs"]
mod ffmpeg;
mod harness;

use reelmill_media::plan::Plan;
use reelmill_media::profile::Profile;
use reelmill_media::task::Work;
use reelmill_worker::exec::protocol::Job;

/// Beside its own bytes a task reads what the container says of itself, the cluster in which they begin, and as far ahead as
/// it reads at once.
const MOST_BESIDE_BYTES: u64 = 700 << 10;

const H264: &[&str] = &["-c:v", "libx264", "-preset", "ultrafast", "-crf", "23", "-c:a", "aac"];
const VP8: &[&str] =
    &["-c:v", "libvpx", "-deadline", "realtime", "-cpu-used", "16", "-b:v", "1500k", "-c:a", "libopus"];

/// 100 seconds of about 200 KB each, with a key frame every two seconds.
fn source(how: &[&str], name: &str) -> Vec<u8> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join(name);
    let picture = "testsrc2=s=320x180:r=25:d=100,noise=alls=8:allf=t";
    let begin = ["-f", "lavfi", "-i", picture, "-f", "lavfi", "-i", "sine=r=48000:d=100"];
    let rest = ["-pix_fmt", "yuv420p", "-g", "50", path.to_str().unwrap()];
    ffmpeg::run(begin.iter().chain(how).chain(&rest));
    std::fs::read(path).unwrap()
}

/// Of a source of which three quarters are there, looks what the last tasks planned of that read.
fn check(how: &[&str], extra: &[&str], name: &str) {
    let source = source(&[how, extra].concat(), name);
    let length = source.len() as u64;
    let there = length / 4 * 3;
    let begun = &source[..there as usize];
    let indexed = harness::run(begun, Job::IndexBeginning { source_bytes: length, there }).unwrap();
    assert!(indexed.read <= there + there / 4, "{name}: the index read {} of {there} bytes", indexed.read);
    let index = indexed.index.unwrap();
    let plan = Plan::of_beginning(&index, &Profile::default(), there, None).unwrap();
    let last = |wanted: fn(&Work) -> bool| {
        plan.tasks.iter().map(|task| &task.work).rfind(|work| wanted(work)).unwrap()
    };
    let picture = last(|work| matches!(work, Work::Video { .. }));
    let sound = last(|work| matches!(work, Work::Audio { .. }));
    for work in [picture, sound] {
        let job = |bytes| Job::for_work(work, bytes, Some((&index, &plan))).unwrap();
        let span = job(length).source_span().unwrap();
        assert!(span.start > length / 4, "{name}: {span:?} of {length} is no late task");
        let own = span.end - span.start;
        let early = harness::run(begun, job(there)).unwrap();
        assert!(
            early.read <= own + own / 20 + MOST_BESIDE_BYTES,
            "{name}: {} bytes read for {own} of {work:?}",
            early.read
        );
        println!("{name}: {} bytes read for {own} of {work:?}", early.read);
        // With its end, a source gives the same: to the byte.
        let late = harness::run(&source, job(length)).unwrap();
        assert_eq!((early.inits, early.segments), (late.inits, late.segments), "{name}: {work:?}");
        assert!(late.read <= own + own / 20 + MOST_BESIDE_BYTES, "{name}: {} bytes with the end", late.read);
    }
}

#[test]
fn of_matroska() {
    check(H264, &[], "cues-last.mkv");
}

#[test]
fn of_matroska_as_it_is_streamed() {
    // Neither the segment nor its clusters say how long they are, and there are no cues.
    check(H264, &["-live", "1"], "live.mkv");
}

#[test]
fn of_webm() {
    check(VP8, &[], "cues-last.webm");
}

#[test]
fn of_a_transport_stream() {
    check(H264, &[], "stream.ts");
}

#[test]
fn of_fragments() {
    check(H264, &["-movflags", "+frag_keyframe+empty_moov+default_base_moof"], "fragments.mp4");
}
