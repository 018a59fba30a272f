//! Rounds of runs in turn, and the ratios within them.

use std::path::{Path, PathBuf};
use std::time::Instant;

use reelmill_benches::ffmpeg::Ffmpeg;
use reelmill_benches::usage::{Cost, median};
use reelmill_media::ladder::Rung;

use crate::ours::{Chunks, Ours};
use crate::tools;

/// Tasks of ours at once, and bare encodes.
const SLOTS: usize = 2;

/// What is run in every round.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    Ours,
    OneProcess,
    OneProcess8,
    ProcessPerRung,
    OursThorough,
    OneProcessMedium,
    FloorMedium,
}

const WAYS: [Way; 7] = [
    Way::OneProcess,
    Way::Ours,
    Way::OneProcess8,
    Way::ProcessPerRung,
    Way::FloorMedium,
    Way::OursThorough,
    Way::OneProcessMedium,
];

/// Everything that runs need.
pub struct Contest<'a> {
    clip: &'a Path,
    worker: &'a Path,
    rungs: Vec<Rung>,
    cuts: Vec<f64>,
    frame_rate: f64,
    ffmpeg_8: Option<PathBuf>,
    raw: Vec<PathBuf>,
    _raw_folder: tempfile::TempDir,
}

/// Ours beside one of theirs.
pub struct Ratio {
    name: &'static str,
    bars: &'static str,
    theirs: Cost,
    ours: Cost,
    cpu: f64,
    wall: f64,
    rounds: usize,
}

impl Ratio {
    /// As a line of a Markdown table.
    pub fn print(&self) {
        let Self { name, bars, theirs, ours, cpu, wall, rounds } = self;
        println!(
            "| {name} | {:.1} / {:.1} s | {:.1} / {:.1} s | **{cpu:.2}** | {wall:.2} | {bars} | {rounds} |",
            theirs.cpu, theirs.wall, ours.cpu, ours.wall
        );
    }
}

impl<'a> Contest<'a> {
    /// Plans the clip, and decodes it for the bare encodes.
    pub fn new(clip: &'a Path, worker: &'a Path) -> anyhow::Result<Self> {
        let raw_folder = tempfile::tempdir_in(reelmill_benches::clip::FOLDER)?;
        let mut contest = Self {
            clip,
            worker,
            rungs: Vec::new(),
            cuts: Vec::new(),
            frame_rate: 0.0,
            ffmpeg_8: tools::ffmpeg_8(),
            raw: Vec::new(),
            _raw_folder: raw_folder,
        };
        let store = tempfile::tempdir()?;
        let (_, planned) = Ours { first: true, ..contest.ours("fast", store.path()) }.measured()?;
        (contest.rungs, contest.cuts) = (planned.rungs, planned.cuts);
        contest.frame_rate = planned.frame_rate;
        let folder = contest._raw_folder.path().to_owned();
        contest.raw = contest.peer(Path::new("ffmpeg"), "veryfast").decode(&folder)?;
        if contest.ffmpeg_8.is_none() {
            println!("ffmpeg 8 cannot be had here: it is left out");
        }
        Ok(contest)
    }

    fn ours(&self, effort: &str, store: &Path) -> Ours {
        Ours {
            clip: self.clip.to_owned(),
            store: store.to_owned(),
            worker: self.worker.to_owned(),
            chunks: Chunks::Planned,
            effort: effort.to_owned(),
            crf: 23,
            slots: SLOTS,
            first: false,
        }
    }

    fn peer<'p>(&'p self, program: &'p Path, preset: &'p str) -> Ffmpeg<'p> {
        Ffmpeg { program, clip: self.clip, rungs: &self.rungs, preset, cuts: &self.cuts }
    }

    fn run_one(&self, way: Way) -> anyhow::Result<Option<Cost>> {
        let folder = tempfile::tempdir()?;
        let (out, distribution) = (folder.path(), Path::new("ffmpeg"));
        Ok(Some(match way {
            Way::Ours => self.ours("fast", out).measured()?.0,
            Way::OursThorough => self.ours("thorough", out).measured()?.0,
            Way::OneProcess => self.peer(distribution, "veryfast").one_process(out)?,
            Way::OneProcess8 => match &self.ffmpeg_8 {
                Some(program) => self.peer(program, "veryfast").one_process(out)?,
                None => return Ok(None),
            },
            Way::ProcessPerRung => self.peer(distribution, "veryfast").process_per_rung(out)?,
            Way::OneProcessMedium => self.peer(distribution, "medium").one_process(out)?,
            Way::FloorMedium => self.peer(distribution, "medium").floor(&self.raw, self.frame_rate, SLOTS)?,
        }))
    }

    /// Runs so many rounds after one that does not count, or as many as end before the deadline, but at least one.
    pub fn run(&self, rounds: usize, deadline: Instant) -> anyhow::Result<Vec<Ratio>> {
        let mut counted: Vec<Vec<(Way, Cost)>> = Vec::new();
        for round in 0..=rounds {
            let began = Instant::now();
            let mut costs = Vec::new();
            // Each round starts elsewhere, so that none always follows the same one.
            for way in WAYS.iter().cycle().skip(round).take(WAYS.len()).copied() {
                if let Some(cost) = self.run_one(way)? {
                    println!("round {round} {way:?}: {:.1} CPU s, {:.1} s", cost.cpu, cost.wall);
                    costs.push((way, cost));
                }
            }
            if round > 0 || Instant::now() + began.elapsed() > deadline {
                counted.push(costs);
            }
            if Instant::now() + began.elapsed() > deadline {
                break;
            }
        }
        let pairs = [
            (
                "ffmpeg of the distribution, one process, veryfast",
                "CPU 0.95, wall 0.95",
                Way::OneProcess,
                Way::Ours,
            ),
            ("ffmpeg 8, one process, veryfast", "CPU 1.00", Way::OneProcess8, Way::Ours),
            ("ffmpeg, one process per rung, veryfast", "CPU 0.72", Way::ProcessPerRung, Way::Ours),
            ("ffmpeg of the distribution, one process, medium", "", Way::OneProcessMedium, Way::OursThorough),
            ("bare encodes from raw frames, medium", "CPU 1.15", Way::FloorMedium, Way::OursThorough),
        ];
        Ok(pairs
            .into_iter()
            .filter_map(|(name, bars, theirs, ours)| ratio(&counted, name, bars, theirs, ours))
            .collect())
    }
}

fn ratio(
    rounds: &[Vec<(Way, Cost)>],
    name: &'static str,
    bars: &'static str,
    theirs: Way,
    ours: Way,
) -> Option<Ratio> {
    let cost = |costs: &[(Way, Cost)], way| costs.iter().find(|(w, _)| *w == way).map(|(_, cost)| *cost);
    let pairs: Vec<(Cost, Cost)> =
        rounds.iter().filter_map(|costs| Some((cost(costs, theirs)?, cost(costs, ours)?))).collect();
    let middle = |of: &dyn Fn(&(Cost, Cost)) -> f64| median(pairs.iter().map(of));
    (!pairs.is_empty()).then(|| Ratio {
        name,
        bars,
        theirs: Cost { cpu: middle(&|p| p.0.cpu), wall: middle(&|p| p.0.wall) },
        ours: Cost { cpu: middle(&|p| p.1.cpu), wall: middle(&|p| p.1.wall) },
        cpu: middle(&|p| p.1.cpu / p.0.cpu),
        wall: middle(&|p| p.1.wall / p.0.wall),
        rounds: pairs.len(),
    })
}
