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

/// What is run in a round.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    Ours,
    OursThorough,
    OursWithoutStills,
    OneProcess,
    OneProcess8,
    ProcessPerRung,
    OneProcessMedium,
    FloorMedium,
}

/// Two ways that are compared within each round.
pub struct Pair {
    pub name: &'static str,
    /// What we want.
    pub bars: &'static str,
    pub theirs: Way,
    pub ours: Way,
}

/// Everything that runs need.
pub struct Contest<'a> {
    clip: &'a Path,
    worker: &'a Path,
    rungs: Vec<Rung>,
    cuts: Vec<f64>,
    frame_rate: f64,
    ffmpeg_8: Option<PathBuf>,
    /// Raw pictures for the bare encodes, once they are needed.
    raw: Option<(tempfile::TempDir, Vec<PathBuf>)>,
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
    /// Plans the clip.
    pub fn new(clip: &'a Path, worker: &'a Path) -> anyhow::Result<Self> {
        let mut contest = Self {
            clip,
            worker,
            rungs: Vec::new(),
            cuts: Vec::new(),
            frame_rate: 0.0,
            ffmpeg_8: tools::ffmpeg_8(),
            raw: None,
        };
        let store = tempfile::tempdir()?;
        let (_, planned) = Ours { first: true, ..contest.ours("fast", store.path()) }.measured()?;
        (contest.rungs, contest.cuts) = (planned.rungs, planned.cuts);
        contest.frame_rate = planned.frame_rate;
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
            no_stills: false,
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
            Way::OursWithoutStills => Ours { no_stills: true, ..self.ours("fast", out) }.measured()?.0,
            Way::OneProcess => self.peer(distribution, "veryfast").one_process(out)?,
            Way::OneProcess8 => match &self.ffmpeg_8 {
                Some(program) => self.peer(program, "veryfast").one_process(out)?,
                None => return Ok(None),
            },
            Way::ProcessPerRung => self.peer(distribution, "veryfast").process_per_rung(out)?,
            Way::OneProcessMedium => self.peer(distribution, "medium").one_process(out)?,
            Way::FloorMedium => match &self.raw {
                Some((_, raw)) => self.peer(distribution, "medium").floor(raw, self.frame_rate, SLOTS)?,
                None => return Ok(None),
            },
        }))
    }

    /// Runs so many rounds after one that does not count, or as many as end before the deadline, but at least one.
    pub fn run(&mut self, pairs: &[Pair], rounds: usize, deadline: Instant) -> anyhow::Result<Vec<Ratio>> {
        let mut ways: Vec<Way> = Vec::new();
        for way in pairs.iter().flat_map(|pair| [pair.theirs, pair.ours]) {
            if !ways.contains(&way) {
                ways.push(way);
            }
        }
        if ways.contains(&Way::FloorMedium) && self.raw.is_none() {
            let folder = tempfile::tempdir_in(reelmill_benches::clip::FOLDER)?;
            let raw = self.peer(Path::new("ffmpeg"), "medium").decode(folder.path())?;
            self.raw = Some((folder, raw));
        }
        let mut counted: Vec<Vec<(Way, Cost)>> = Vec::new();
        for round in 0..=rounds {
            let began = Instant::now();
            let mut costs = Vec::new();
            // Each round starts elsewhere, so that none always follows the same one.
            for way in ways.iter().cycle().skip(round).take(ways.len()).copied() {
                if let Some(cost) = self.run_one(way)? {
                    println!("round {round} {way:?}: {:.1} CPU s, {:.1} s", cost.cpu, cost.wall);
                    costs.push((way, cost));
                }
            }
            let last = Instant::now() + began.elapsed() > deadline;
            if round > 0 || last {
                counted.push(costs);
            }
            if last {
                break;
            }
        }
        Ok(pairs.iter().filter_map(|pair| ratio(&counted, pair)).collect())
    }
}

fn ratio(rounds: &[Vec<(Way, Cost)>], pair: &Pair) -> Option<Ratio> {
    let Pair { name, bars, theirs, ours } = *pair;
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
