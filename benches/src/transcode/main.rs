//! The transcode engine beside ffmpeg: CPU, wall-clock time, bytes and VMAF of the same ladder.
//!
//! Runs are interleaved, each counts beside its neighbours of the same round only, and the median over rounds is quoted.

mod ours;
mod quality;
mod rounds;
mod tools;

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::Context;
use clap::{Parser, Subcommand};
use reelmill_benches::clip;
use reelmill_benches::ffmpeg::Ffmpeg;

use crate::ours::{Chunks, Made, Ours};
use crate::quality::{Point, joined, vmaf};
use crate::rounds::{Contest, Ratio};

/// Measures the transcode engine beside ffmpeg, and prints a table for README.md.
#[derive(Debug, Parser)]
struct Options {
    /// Rounds; the first one is not counted
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// No round is begun that would end after so many minutes
    #[arg(long, default_value_t = 60)]
    minutes: u64,
    /// Length of the clip that is made, in seconds
    #[arg(long, default_value_t = 20)]
    seconds: u32,
    /// Clip to use, 1080p at a constant rate; a made one unless said
    #[arg(long)]
    clip: Option<PathBuf>,
    /// The worker to measure
    #[arg(long, default_value = "target/release/reelmill-worker")]
    worker: PathBuf,
    /// Leave VMAF out
    #[arg(long)]
    no_vmaf: bool,
    #[command(subcommand)]
    part: Option<Part>,
}

#[derive(Debug, Subcommand)]
enum Part {
    /// One run of ours, which prints what it made
    #[command(hide = true)]
    Ours(Ours),
}

fn main() -> anyhow::Result<()> {
    let options = Options::parse();
    if let Some(Part::Ours(ours)) = &options.part {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        println!("{}", serde_json::to_string(&runtime.block_on(ours.run())?)?);
        return Ok(());
    }
    let began = Instant::now();
    let clip = match &options.clip {
        Some(clip) => clip.clone(),
        None => clip::made(options.seconds)?,
    };
    let clip = clip.canonicalize().with_context(|| format!("cannot find {}", clip.display()))?;
    println!("clip {}", clip.display());
    first_segment(&options, &clip)?;
    let deadline = began + Duration::from_secs(options.minutes * 60);
    let contest = Contest::new(&clip, &options.worker)?;
    let ratios = contest.run(options.rounds, deadline)?;
    println!(
        "\n| CPU and wall-clock time | theirs | ours | CPU ratio | wall ratio | bar | rounds |\n|---|---|---|---|---|---|---|"
    );
    ratios.iter().for_each(Ratio::print);
    if options.no_vmaf || Instant::now() > deadline {
        return Ok(());
    }
    match tools::ffmpeg_with_vmaf() {
        Some(program) => compare_quality(&options, &clip, &program),
        None => {
            println!("an ffmpeg with libvmaf cannot be had here: VMAF is left out");
            Ok(())
        }
    }
}

fn run_of(options: &Options, clip: &Path, store: &Path) -> Ours {
    Ours {
        clip: clip.to_owned(),
        store: store.to_owned(),
        worker: options.worker.clone(),
        chunks: Chunks::Planned,
        effort: "fast".to_owned(),
        crf: 23,
        slots: 2,
        first: false,
    }
}

fn first_segment(options: &Options, clip: &Path) -> anyhow::Result<()> {
    let store = tempfile::tempdir()?;
    let (_, made) = Ours { first: true, ..run_of(options, clip, store.path()) }.measured()?;
    let first = made.first.context("nothing was measured")?;
    println!("\n| what | measured | bar |\n|---|---|---|");
    println!(
        "| first segment of the lowest rung, 1 s: CPU, its child's start included | {:.2} s (wall {:.2} s) | 0.6 s |",
        first.segment.cpu, first.segment.wall
    );
    println!(
        "| a task without media in a child that waits for it: wall | {:.1} ms | 5 ms |",
        first.empty_task * 1e3
    );
    println!("| start of a child, ahead of need: CPU | {:.0} ms | |", first.start_cpu * 1e3);
    Ok(())
}

/// Ours and theirs at the same settings, and ours cut differently.
fn compare_quality(options: &Options, clip: &Path, program: &Path) -> anyhow::Result<()> {
    let points = |chunks, crf| -> anyhow::Result<(Made, Vec<Point>)> {
        let folder = tempfile::tempdir()?;
        let run = Ours { chunks, crf, ..run_of(options, clip, &folder.path().join("store")) };
        let (_, made) = run.measured()?;
        let mut points = Vec::new();
        for files in &made.files {
            let file = folder.path().join("rung.mp4");
            let bytes = joined(files, &file)?;
            points.push(Point { bytes, vmaf: vmaf(program, &file, clip, made.frame_rate)? });
        }
        Ok((made, points))
    };
    let (made, planned) = points(Chunks::Planned, 23)?;
    let (_, whole) = points(Chunks::Whole, 23)?;
    let (_, single) = points(Chunks::Single, 23)?;
    let (_, cheap) = points(Chunks::Whole, 24)?;
    let folder = tempfile::tempdir()?;
    let (distribution, cuts) = (Path::new("ffmpeg"), &made.cuts);
    let peer = Ffmpeg { program: distribution, clip, rungs: &made.rungs, preset: "veryfast", cuts };
    peer.one_process(folder.path())?;
    let mut theirs = Vec::new();
    for (k, bytes) in peer.bytes(folder.path())?.into_iter().enumerate() {
        let file = folder.path().join(format!("v{k}.m3u8"));
        theirs.push(Point { bytes, vmaf: vmaf(program, &file, clip, made.frame_rate)? });
    }
    println!(
        "\n| rung | VMAF theirs | VMAF ours | bytes ours/theirs | VMAF at equal bytes | bytes of chunks as planned, of single \
         segments, at equal VMAF |\n|---|---|---|---|---|---|"
    );
    for (k, rung) in made.rungs.iter().enumerate() {
        let (Some(ours), Some(theirs)) = (planned.get(k), theirs.get(k)) else { continue };
        let (Some(&whole), Some(&cheap), Some(single)) = (whole.get(k), cheap.get(k), single.get(k)) else {
            continue;
        };
        println!(
            "| {} | {:.2} | {:.2} | {:.3} | {:+.2} | {:+.1} %, {:+.1} % |",
            rung.id,
            theirs.vmaf,
            ours.vmaf,
            ours.bytes as f64 / theirs.bytes as f64,
            ours.above(*theirs, whole, cheap),
            ours.dearer(whole, whole, cheap) * 100.0,
            single.dearer(whole, whole, cheap) * 100.0,
        );
    }
    Ok(())
}
