//! A child takes no more memory for a source of two hours than for one of a minute, but for the list of its samples.

// A panic here is a failed test, said at the place where it failed.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
#![cfg(target_os = "linux")]

mod harness;
#[path = "harness/watched.rs"]
mod watched;

use std::path::Path;
use std::process::{Command, Stdio};

use reelmill_e2e::fixtures::ffmpeg;
use reelmill_media::plan::Plan;
use reelmill_media::profile::Profile;
use reelmill_media::task::Work;
use reelmill_worker::exec::protocol::Job;
use watched::Watched;

/// What 120 times as many samples may take more while they are listed, in bytes: 550,000 of 40 bytes, three times over.
const LISTED: u64 = 96 << 20;

/// What the last chunk of a long source may take more than that of a short one, in bytes.
const CHUNK: u64 = 16 << 20;

/// Peak memory in bytes: of indexing, and of the last chunk of the picture and of the sound.
#[derive(Debug)]
struct Peaks {
    index: u64,
    video: u64,
    audio: u64,
}

/// A minute of small pictures with sound, over and over.
fn source(folder: &Path, times: u32) -> Vec<u8> {
    let minute = folder.join("minute.mp4");
    let run = |arguments: &str, file: &Path| {
        let mut command = Command::new(ffmpeg());
        command.args(["-nostdin", "-v", "error", "-y"]).args(arguments.split_whitespace());
        assert!(command.arg(file).status().unwrap().success());
    };
    if !minute.exists() {
        run(
            "-f lavfi -i color=gray:size=160x96:rate=30:duration=60 -f lavfi -i sine=duration=60:sample_rate=48000 \
             -c:v libx264 -preset ultrafast -g 60 -c:a aac -b:a 24k",
            &minute,
        );
    }
    let long = folder.join(format!("{times}.mp4"));
    run(&format!("-stream_loop {} -i {} -c copy", times - 1, minute.display()), &long);
    std::fs::read(long).unwrap()
}

fn peaks(source: &[u8]) -> Peaks {
    let length = source.len() as u64;
    let (made, index_peak) = in_child(source, Job::Index { source_bytes: length });
    let index = made.index.expect("an index");
    let plan = Plan::new(&index, &Profile::default(), 2).unwrap();
    let peak = |work: &Work| in_child(source, Job::for_work(work, length, Some((&index, &plan))).unwrap()).1;
    let mut last = (None, None);
    for task in &plan.tasks {
        match &task.work {
            Work::Video { .. } => last.0 = Some(&task.work),
            Work::Audio { .. } => last.1 = Some(&task.work),
            Work::Index => panic!("a plan that indexes"),
        }
    }
    Peaks { index: index_peak, video: peak(last.0.unwrap()), audio: peak(last.1.unwrap()) }
}

fn in_child(source: &[u8], job: Job) -> (harness::Made, u64) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_reelmill-worker"));
    command.arg("exec").env_clear().stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let mut to = child.stdin.take().unwrap();
    let mut watched = Watched::new(child.id(), child.stdout.take().unwrap());
    let made = harness::converse(&mut to, &mut watched, source, job).unwrap();
    drop(to);
    assert!(child.wait().unwrap().success());
    assert!(watched.peak > 0, "nothing was measured");
    (made, watched.peak)
}

#[test]
fn two_hours_take_no_more_than_a_minute() {
    let folder = tempfile::tempdir().unwrap();
    let (minute, hours) = (peaks(&source(folder.path(), 1)), peaks(&source(folder.path(), 120)));
    println!("one minute {minute:?}, two hours {hours:?}");
    assert!(hours.index < minute.index + LISTED, "{minute:?}, {hours:?}");
    assert!(hours.video < minute.video + CHUNK, "{minute:?}, {hours:?}");
    assert!(hours.audio < minute.audio + CHUNK, "{minute:?}, {hours:?}");
}
