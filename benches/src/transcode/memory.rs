//! What a worker holds in memory while it works through sources of a minute to two hours.

use std::path::{Path, PathBuf};
use std::process::Command;

use reelmill_benches::clip::FOLDER;
use reelmill_benches::ffmpeg;

use crate::ours::Ours;

/// Lengths of sources, in minutes.
const MINUTES: [u32; 3] = [1, 10, 120];

/// Works through whole sources and prints the highest resident memory of the parent and of its largest child.
pub fn print(run: &Ours) -> anyhow::Result<()> {
    println!("\n| source | parent | largest child | read of the source |\n|---|---|---|---|");
    let mebibytes = |bytes: u64| bytes >> 20;
    for minutes in MINUTES {
        let folder = tempfile::tempdir_in(FOLDER)?;
        let clip = source(folder.path(), minutes)?;
        let (_, made) = Ours { clip, store: folder.path().join("store"), ..run.clone() }.measured()?;
        println!(
            "| {minutes} min | {} MiB | {} MiB | {:.2} of it |",
            mebibytes(made.parent_peak),
            mebibytes(made.child_peak),
            made.reads.read as f64 / made.reads.source as f64,
        );
    }
    Ok(())
}

/// A minute of small pictures with sound, over and over: what grows with a source is the number of its samples.
fn source(folder: &Path, minutes: u32) -> anyhow::Result<PathBuf> {
    let minute = folder.join("minute.mp4");
    let mut once = Command::new("ffmpeg");
    once.args([
        "-nostdin",
        "-v",
        "error",
        "-y",
        "-f",
        "lavfi",
        "-i",
        "testsrc2=size=160x96:rate=30:duration=60",
    ]);
    once.args(["-f", "lavfi", "-i", "sine=duration=60:sample_rate=48000"]);
    once.args(["-c:v", "libx264", "-preset", "ultrafast", "-g", "60", "-c:a", "aac", "-b:a", "24k"]);
    ffmpeg::run(once.arg(&minute))?;
    let long = folder.join("long.mp4");
    let mut again = Command::new("ffmpeg");
    again.args(["-nostdin", "-v", "error", "-y", "-stream_loop", &(minutes - 1).to_string(), "-i"]);
    ffmpeg::run(again.arg(&minute).args(["-c", "copy"]).arg(&long))?;
    Ok(long)
}
