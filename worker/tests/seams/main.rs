//! No seam can be found: sources by random parameters go through real children in random chunkings, and every frame of
//! theirs comes out once, in its place, at its time.
//!
//! `REELMILL_SEAMS` says how many seams (boundaries between tasks) are looked at; `REELMILL_SEED` begins elsewhere.

// A panic here is a failed test, said at the place where it failed.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "../harness/boxes.rs"]
mod boxes;
#[path = "../harness/mod.rs"]
mod harness;
mod recipe;

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io::BufReader;
use std::ops::Range;
use std::path::Path;
use std::process::{Command, Stdio};

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use recipe::{Recipe, Wrapping};
use reelmill_e2e::barcode::{read_barcodes, read_barcodes_of_each};
use reelmill_media::plan::Plan;
use reelmill_media::profile::{Profile, VideoLane};
use reelmill_media::task::Work;
use reelmill_media::time::Timescale;
use reelmill_worker::exec::protocol::{Job, SegmentOutput};

/// Seams of all families together, unless the environment says otherwise.
const SEAMS: usize = 1_000;
const FAMILIES: usize = 4;

/// Chunkings of each source.
const CHUNKINGS: usize = 6;

/// The unit of Matroska's clock, and a bit: no time is further off.
const TOLERANCE_SECONDS: f64 = 0.0011;

fn number(variable: &str) -> Option<usize> {
    Some(std::env::var(variable).ok()?.parse().unwrap_or_else(|_| panic!("{variable} is not a number")))
}

fn family(wrapping: Wrapping) {
    let wanted = number("REELMILL_SEAMS").unwrap_or(SEAMS).div_ceil(FAMILIES);
    let mut seed = number("REELMILL_SEED").unwrap_or(1) as u64 * 10_000_000 + wrapping as u64 * 1_000_000;
    let (mut seams, mut sources) = (0, 0);
    while seams < wanted {
        seams += seams_of(Recipe::random(wrapping, seed), seed);
        seed += 1;
        sources += 1;
    }
    println!("{seams} seams of {sources} sources");
}

/// Looks at the seams of one source; how many there were.
fn seams_of(recipe: Recipe, seed: u64) -> usize {
    println!("source {seed}: {recipe:?}");
    // Left behind by a failure, to be looked into.
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("seams-{seed}"));
    std::fs::create_dir_all(&folder).unwrap();
    let source = Source::make(recipe, &folder);
    let mut rng = StdRng::seed_from_u64(seed);
    let mut seams = 0;
    for _ in 0..CHUNKINGS {
        let chunking = source.random_chunking(&mut rng);
        println!("  tasks of segments {chunking:?}");
        source.check(&source.transcode(&chunking), &mut rng);
        seams += chunking.len() - 1;
    }
    std::fs::remove_dir_all(&folder).unwrap();
    seams
}

/// A source and the truth about it, as ffmpeg sees it.
struct Source {
    recipe: Recipe,
    bytes: Vec<u8>,
    plan: Plan,
    index: reelmill_media::index::SourceIndex,
    /// Number and time in seconds of each frame.
    frames: Vec<(u32, f64)>,
}

#[derive(Default)]
struct Rendition {
    init: Vec<u8>,
    segments: Vec<SegmentOutput>,
}

impl Source {
    fn make(recipe: Recipe, folder: &Path) -> Self {
        recipe.make(folder);
        let file = folder.join(recipe.file_name());
        let bytes = std::fs::read(&file).unwrap();
        let numbers = read_barcodes(&file, 0);
        let times = times(&file);
        assert_eq!(numbers.len(), times.len());
        let frames: Vec<_> = numbers.into_iter().map(|n| n.expect("a number")).zip(times).collect();
        assert!(
            frames.windows(2).all(|w| w[0].0 + 1 == w[1].0),
            "the source itself is not whole: {frames:?}"
        );
        let index = harness::index(&bytes).unwrap();
        let lane = VideoLane { short_sides: vec![64, 4320], ..Profile::default().video[0].clone() };
        let profile = Profile { video: vec![lane], segment_seconds: 1, ..Profile::default() };
        let plan = Plan::new(&index, &profile, 2).unwrap();
        Self { recipe, bytes, plan, index, frames }
    }

    /// Groups the planner's segments at random.
    fn random_chunking(&self, rng: &mut StdRng) -> Vec<Range<u32>> {
        let count = self.plan.video.as_ref().unwrap().segments.len() as u32;
        let mut tasks = Vec::new();
        let mut start = 0;
        while start < count {
            let end = (start + [1, 1, 1, 1, 2, 3][rng.random_range(0..6)]).min(count);
            tasks.push(start..end);
            start = end;
        }
        tasks
    }

    fn transcode(&self, chunking: &[Range<u32>]) -> BTreeMap<String, Rendition> {
        let rungs: Vec<_> = self.plan.ladder.video.iter().map(|rung| rung.id.clone()).collect();
        let mut made: BTreeMap<String, Rendition> = BTreeMap::new();
        for segments in chunking {
            let work = Work::Video { segments: segments.clone(), rungs: rungs.clone() };
            let job = Job::for_work(&work, self.bytes.len() as u64, Some((&self.index, &self.plan))).unwrap();
            let part = in_child(&self.bytes, job);
            for init in part.inits {
                let rendition = made.entry(init.rendition.to_string()).or_default();
                assert!(rendition.init.is_empty() || rendition.init == init.bytes, "other init segments");
                rendition.init = init.bytes;
            }
            for segment in part.segments {
                made.get_mut(segment.rendition.as_str()).unwrap().segments.push(segment);
            }
        }
        made
    }

    fn check(&self, made: &BTreeMap<String, Rendition>, rng: &mut StdRng) {
        let cuts = |rendition: &Rendition| -> Vec<_> {
            rendition.segments.iter().map(|s| (s.number, s.start, s.duration, s.frames)).collect()
        };
        let clock = self.plan.video.as_ref().unwrap().timescale;
        let first = made.values().next().unwrap();
        for rendition in made.values() {
            assert_eq!(cuts(rendition), cuts(first), "{:?}: renditions are cut differently", self.recipe);
            self.check_times(rendition, clock);
        }
        // Pictures of one of them: reading them costs as much as making them.
        let chosen = rng.random_range(0..made.len());
        self.check_pictures(made.values().nth(chosen).unwrap());
    }

    fn check_times(&self, rendition: &Rendition, clock: Timescale) {
        let (mut end, mut shown) = (0, Vec::new());
        for segment in &rendition.segments {
            let rows = boxes::rows(segment);
            assert_eq!((segment.start.0, rows[0].dts), (end, end), "{:?}: a hole", self.recipe);
            assert_eq!(rows[0].pts, end, "{:?}: the first frame is shown first", self.recipe);
            assert!(rows[0].sync && rows[1..].iter().all(|r| !r.sync), "{:?}: key frames", self.recipe);
            let whole = (segment.frames as usize, 0);
            assert_eq!(
                (rows.len(), segment.concealed),
                whole,
                "{:?}: frames of {}",
                self.recipe,
                segment.number
            );
            for row in rows {
                assert_eq!(row.dts, end, "{:?}: a hole inside a segment", self.recipe);
                end += row.duration;
                shown.push(row.pts);
            }
            assert_eq!(segment.start.0 + segment.duration.0, end, "{:?}: a segment's length", self.recipe);
        }
        shown.sort_unstable();
        assert_eq!(shown.len(), self.frames.len(), "{:?}: number of frames", self.recipe);
        // A picture that starts after its sound is held from 0 on.
        let from = usize::from(self.recipe.has_sound() && shown.len() > 1);
        for (pts, (number, time)) in shown.iter().zip(&self.frames).skip(from) {
            let here = (pts - shown[from]) as f64 / f64::from(clock.get());
            let there = time - self.frames[from].1;
            assert!(
                (here - there).abs() <= TOLERANCE_SECONDS,
                "{:?}: frame {number} is shown at {here}, not {there}",
                self.recipe
            );
        }
    }

    /// Each segment is decoded by a decoder of its own, which has seen nothing but the init segment.
    fn check_pictures(&self, rendition: &Rendition) {
        let folder = tempfile::tempdir().unwrap();
        let files: Vec<_> = rendition
            .segments
            .iter()
            .map(|segment| {
                let file = folder.path().join(format!("{}.mp4", segment.number));
                std::fs::write(&file, [rendition.init.as_slice(), &segment.bytes].concat()).unwrap();
                OsString::from(file)
            })
            .collect();
        let expected: Vec<_> = self.frames.iter().map(|(number, _)| Some(*number)).collect();
        assert_eq!(read_barcodes_of_each(&files), expected, "{:?}: other frames", self.recipe);
    }
}

fn in_child(source: &[u8], job: Job) -> harness::Made {
    let mut command = Command::new(env!("CARGO_BIN_EXE_reelmill-worker"));
    command.arg("exec").env_clear().stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let (mut to, from) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
    let made = harness::converse(&mut to, &mut BufReader::new(from), source, job).unwrap();
    drop(to);
    assert!(child.wait().unwrap().success());
    made
}

/// When each frame is shown, in seconds.
fn times(file: &Path) -> Vec<f64> {
    let mut command = Command::new("ffprobe");
    command.args(["-v", "error", "-threads", "1", "-select_streams", "v:0", "-of", "csv=p=0"]);
    let output =
        command.args(["-show_entries", "frame=best_effort_timestamp_time"]).arg(file).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    text.lines().filter_map(|line| line.trim_end_matches(',').parse().ok()).collect()
}

/// Once found broken: Matroska has no way back to the start from its only key frame.
#[test]
fn matroska_with_one_key_frame() {
    seams_of(Recipe::random(Wrapping::Matroska, 5).with_one_key_frame(), 5);
}

/// Once found broken: a decoder that had just begun at such a GOP kept its last frames to itself.
#[test]
fn a_last_task_within_an_open_gop() {
    seams_of(Recipe::random(Wrapping::TransportStream, 6).with_short_open_gops(), 6);
}

#[test]
fn mp4() {
    family(Wrapping::Mp4);
}

#[test]
fn fragmented_mp4() {
    family(Wrapping::FragmentedMp4);
}

#[test]
fn matroska() {
    family(Wrapping::Matroska);
}

#[test]
fn transport_stream() {
    family(Wrapping::TransportStream);
}
