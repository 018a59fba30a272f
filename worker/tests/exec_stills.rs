//! Stills of a source that begins in the dark.

// A panic here is a failed test, said at the place where it failed.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod harness;

use std::process::Command;

use harness::Title;
use reelmill_e2e::fixtures::ffmpeg;
use reelmill_media::image::ImageKind;
use reelmill_media::task::Work;
use reelmill_worker::exec::protocol::Job;

/// Two and a half seconds of black, then pictures.
fn dark() -> Vec<u8> {
    let file = tempfile::Builder::new().suffix(".mp4").tempfile().unwrap();
    let status = Command::new(ffmpeg())
        .args(["-nostdin", "-v", "error", "-y", "-f", "lavfi", "-i"])
        .arg("testsrc2=size=640x360:rate=30:duration=9,drawbox=t=fill:color=black:enable=lt(t\\,2.5)")
        // Key frames where segments would be cut anyway.
        .args(["-c:v", "libx264", "-preset", "ultrafast", "-g", "30"])
        .arg(file.path())
        .status()
        .unwrap();
    assert!(status.success());
    std::fs::read(file.path()).unwrap()
}

#[test]
fn posters_tell_black_from_pictures() {
    let source = dark();
    let title = Title::of(&source).unwrap();
    let mut posters = Vec::new();
    for planned in &title.plan.tasks {
        let Work::Video { .. } = &planned.work else { continue };
        let job =
            Job::for_work(&planned.work, source.len() as u64, Some((&title.index, &title.plan))).unwrap();
        let images = harness::run(&source, job).unwrap().images;
        posters.extend(images.into_iter().filter(|image| image.still.kind == ImageKind::Poster));
    }
    posters.sort_by_key(|poster| poster.still.frame);
    let [first, second, third, _] = &posters[..] else { panic!("{} posters", posters.len()) };
    assert_eq!([first.still.frame, second.still.frame, third.still.frame], [29, 119, 239]);
    // As long as they are, they are told apart by whoever gathers them.
    assert!(
        first.bytes.len() < second.bytes.len() / 2,
        "{} and {} bytes",
        first.bytes.len(),
        second.bytes.len()
    );
    assert!(third.bytes.len() > second.bytes.len() / 2);
}
