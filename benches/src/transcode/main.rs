//! The transcode engine beside ffmpeg: CPU, wall-clock time, bytes and VMAF of the same ladder.
//!
//! Runs are interleaved, each counts beside its neighbours of the same round only, and the median over rounds is quoted.

mod first;
mod memory;
mod ours;
mod quality;
mod rounds;
mod shaka;
mod tools;

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::Context;
use clap::{Parser, Subcommand, ValueEnum};
use reelmill_benches::clip;
use reelmill_benches::ffmpeg::Ffmpeg;
use reelmill_media::ladder::Rung;
use tokio::runtime::Runtime;

use crate::ours::{Chunks, Made, Ours, Reads};
use crate::quality::{Point, joined, vmaf};
use crate::rounds::{Contest, Pair, Ratio, Way};

/// Measures the transcode engine beside ffmpeg, and prints a table for README.md.
#[derive(Debug, Parser)]
struct Options {
    /// Rounds; the first one is not counted
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// No round is begun that would end after so many minutes
    #[arg(long, default_value_t = 60)]
    minutes: u64,
    /// Length of the clips that are made, in seconds
    #[arg(long, default_value_t = 10)]
    seconds: u32,
    /// The same of the long one
    #[arg(long, default_value_t = 60)]
    long_seconds: u32,
    /// Clip to use for all, 1080p at a constant rate; made ones unless said
    #[arg(long)]
    clip: Option<PathBuf>,
    /// The worker to measure
    #[arg(long, default_value = "target/release/reelmill-worker")]
    worker: PathBuf,
    /// What to measure
    #[arg(long, value_enum, value_delimiter = ',', default_values_t = Section::value_variants().to_vec())]
    sections: Vec<Section>,
    #[command(subcommand)]
    part: Option<Part>,
}

/// One table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Section {
    /// The first segment of the lowest rung, and what a child costs
    First,
    /// CPU and wall-clock time on the short clip
    Short,
    /// The same at preset medium, and beside bare encodes
    Medium,
    /// The same on the long clip
    Long,
    /// What stills cost
    Stills,
    /// VMAF at equal bytes, and what chunks cost in bytes
    Quality,
    /// Shaka Streamer: VMAF and bytes per CPU second
    Shaka,
    /// Memory of a worker and of its children for sources of a minute to two hours
    Memory,
}

impl Section {
    /// Ways that are compared, each round all of them.
    fn pairs(self) -> Vec<Pair> {
        let pair = |name, bars, theirs, ours| Pair { name, bars, theirs, ours };
        let one = "ffmpeg of the distribution, one process, veryfast";
        match self {
            Section::Short => vec![
                pair(one, "CPU 0.95, wall 0.95", Way::OneProcess, Way::Ours),
                pair("ffmpeg 8, one process, veryfast", "CPU 1.00", Way::OneProcess8, Way::Ours),
                pair("ffmpeg, one process per rung, veryfast", "CPU 0.72", Way::ProcessPerRung, Way::Ours),
            ],
            Section::Medium => vec![
                pair(
                    "ffmpeg of the distribution, one process, medium",
                    "",
                    Way::OneProcessMedium,
                    Way::OursThorough,
                ),
                pair("bare encodes from raw frames, medium", "CPU 1.15", Way::FloorMedium, Way::OursThorough),
            ],
            Section::Long => vec![pair(one, "CPU 0.95, wall 0.95", Way::OneProcess, Way::Ours)],
            Section::Stills => {
                vec![pair("ours without stills", "CPU 1.02", Way::OursWithoutStills, Way::Ours)]
            }
            Section::First | Section::Quality | Section::Shaka | Section::Memory => Vec::new(),
        }
    }
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
        println!("{}", serde_json::to_string(&runtime()?.block_on(ours.run())?)?);
        return Ok(());
    }
    let began = Instant::now();
    let deadline = began + Duration::from_secs(options.minutes * 60);
    for section in &options.sections {
        match section {
            Section::First => first_segment(&options)?,
            Section::Short | Section::Medium | Section::Long | Section::Stills => {
                compare_cost(&options, *section, deadline)?;
            }
            Section::Quality => compare_quality(&options)?,
            Section::Shaka => compare_with_shaka(&options)?,
            Section::Memory => {
                let binaries = options.worker.parent().context("the worker lies in no folder")?;
                runtime()?.block_on(memory::print(binaries))?;
            }
        }
    }
    Ok(())
}

fn runtime() -> std::io::Result<Runtime> {
    tokio::runtime::Builder::new_current_thread().enable_all().build()
}

/// The clip of so many seconds, or the one given.
fn clip_of(options: &Options, seconds: u32) -> anyhow::Result<PathBuf> {
    let clip = match &options.clip {
        Some(clip) => clip.clone(),
        None => clip::made(seconds)?,
    };
    let clip = clip.canonicalize().with_context(|| format!("cannot find {}", clip.display()))?;
    println!("\nclip {}", clip.display());
    Ok(clip)
}

fn compare_cost(options: &Options, section: Section, deadline: Instant) -> anyhow::Result<()> {
    let seconds = if section == Section::Long { options.long_seconds } else { options.seconds };
    let clip = clip_of(options, seconds)?;
    let ratios = Contest::new(&clip, &options.worker)?.run(&section.pairs(), options.rounds, deadline)?;
    println!(
        "\n| CPU and wall-clock time | theirs | ours | CPU ratio | wall ratio | bar | rounds |\n|---|---|---|---|---|---|---|"
    );
    ratios.iter().for_each(Ratio::print);
    Ok(())
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
        no_stills: false,
    }
}

fn first_segment(options: &Options) -> anyhow::Result<()> {
    let clip = clip_of(options, options.seconds)?;
    let store = tempfile::tempdir()?;
    let (_, made) = Ours { first: true, ..run_of(options, &clip, store.path()) }.measured()?;
    let first = made.first.context("nothing was measured")?;
    println!("\n| what | measured | bar |\n|---|---|---|");
    println!(
        "| first segment of the lowest rung, {:.1} s long, in a child that waits for it: CPU | {:.2} s (wall {:.2} s) | 0.6 s |",
        made.cuts.get(1).copied().unwrap_or_default(),
        first.segment.cpu,
        first.segment.wall
    );
    println!(
        "| a task without media in a child that waits for it: wall | {:.1} ms, and {:.1} ms for the end of a child that failed | 5 ms |",
        (first.failed_task - first.end) * 1e3,
        first.end * 1e3
    );
    println!("| start of a child, ahead of need: CPU | {:.0} ms | |", first.start_cpu * 1e3);
    let store = tempfile::tempdir()?;
    let (_, made) = run_of(options, &clip, store.path()).measured()?;
    let Reads { source, read, fetched } = made.reads;
    let times = |bytes: u64| bytes as f64 / source as f64;
    println!("| bytes of the source that children read | {:.3} of its size | 1.05 |", times(read));
    println!("| bytes of the source that the worker fetched | {:.3} of its size | |", times(fetched));
    Ok(())
}

/// One run of ours, and what each rung is worth.
struct Run {
    cpu: f64,
    made: Made,
    points: Vec<Point>,
}

/// The program that judges, if it can be had.
fn judge() -> Option<PathBuf> {
    let program = tools::ffmpeg_with_vmaf();
    if program.is_none() {
        println!("an ffmpeg with libvmaf cannot be had here: VMAF is left out");
    }
    program
}

fn judged(program: &Path, run: &Ours) -> anyhow::Result<Run> {
    let folder = tempfile::tempdir()?;
    let (cost, made) = Ours { store: folder.path().join("store"), ..run.clone() }.measured()?;
    let mut points = Vec::new();
    for files in &made.files {
        let file = folder.path().join("rung.mp4");
        let bytes = joined(files, &file)?;
        points.push(Point { bytes, vmaf: vmaf(program, &file, &run.clip, made.frame_rate)? });
    }
    Ok(Run { cpu: cost.cpu, made, points })
}

/// Ours and theirs at the same settings, and ours cut differently.
fn compare_quality(options: &Options) -> anyhow::Result<()> {
    let Some(program) = judge() else { return Ok(()) };
    let clip = clip_of(options, options.seconds)?;
    let (program, clip) = (program.as_path(), clip.as_path());
    let points = |chunks, crf| -> anyhow::Result<(Made, Vec<Point>)> {
        let run = judged(program, &Ours { chunks, crf, ..run_of(options, clip, Path::new("")) })?;
        Ok((run.made, run.points))
    };
    let (made, planned) = points(Chunks::Planned, 23)?;
    let (_, whole) = points(Chunks::Whole, 23)?;
    let (_, single) = points(Chunks::Single, 23)?;
    let (_, cheap) = points(Chunks::Whole, 27)?;
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

/// Ours at both efforts beside Shaka Streamer, which sets its own rates: what counts is VMAF at its bytes, and CPU time.
fn compare_with_shaka(options: &Options) -> anyhow::Result<()> {
    let (Some(program), Some(installed)) = (judge(), tools::shaka_streamer()) else {
        println!("Shaka Streamer is left out");
        return Ok(());
    };
    let clip = clip_of(options, options.seconds)?;
    let ours = |effort: &str, crf| {
        judged(&program, &Ours { effort: effort.to_owned(), crf, ..run_of(options, &clip, Path::new("")) })
    };
    let efforts = [("fast", "veryfast"), ("thorough", "medium")];
    let runs: Vec<(&str, Run, Run)> = efforts
        .into_iter()
        .map(|(effort, preset)| Ok((preset, ours(effort, 23)?, ours(effort, 26)?)))
        .collect::<anyhow::Result<_>>()?;
    let rungs: &[Rung] = runs.first().map_or(&[], |(_, run, _)| &run.made.rungs);
    let folder = tempfile::tempdir()?;
    let (cost, files) = shaka::run(&installed, &clip, rungs, folder.path())?;
    println!(
        "\n| rung | Shaka Streamer, {:.1} CPU s | {} |\n|---|---|---|---|",
        cost.cpu,
        runs.iter()
            .map(|(preset, run, _)| format!("ours, {preset}, {:.1} CPU s", run.cpu))
            .collect::<Vec<_>>()
            .join(" | ")
    );
    for ((k, rung), file) in rungs.iter().enumerate().zip(&files) {
        let bytes = file.metadata()?.len();
        let theirs = Point { bytes, vmaf: vmaf(&program, file, &clip, runs[0].1.made.frame_rate)? };
        let cells = runs.iter().filter_map(|(_, dear, cheap)| {
            let (dear, cheap) = (*dear.points.get(k)?, *cheap.points.get(k)?);
            let above = dear.above(theirs, dear, cheap);
            Some(format!("{:.2} in {} kB, {above:+.2} at its bytes", dear.vmaf, dear.bytes / 1000))
        });
        let cells: Vec<String> = cells.collect();
        println!("| {} | {:.2} in {} kB | {} |", rung.id, theirs.vmaf, bytes / 1000, cells.join(" | "));
    }
    Ok(())
}
