//! Ours: a source in a folder store, and a worker's own kitchen, children and slots working through its plan.
//!
//! Runs in a process of its own, so that what the parent of the children spends is counted as theirs is.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use anyhow::{Context, anyhow, bail};
use bytes::Bytes;
use clap::{Args, ValueEnum};
use reelmill_benches::usage::{Cost, Meter};
use reelmill_coordinator::storyboard::Storyboards;
use reelmill_media::image::{Image, ImageKind};
use reelmill_media::index::SourceIndex;
use reelmill_media::keys::{self, BlobKind};
use reelmill_media::ladder::Rung;
use reelmill_media::plan::Plan;
use reelmill_media::profile::{Effort, Profile};
use reelmill_media::source::{BLOCK_BYTES, Block, Source, SourceRef};
use reelmill_media::task::{Class, Outcome, Recipe, RenditionOutput, Task, TaskNumber, Way, Work};
use reelmill_platform::store::Store;
use reelmill_worker::child::{Child, Nursery};
use reelmill_worker::perform::Kitchen;
use reelmill_worker::recipes::Recipes;
use reelmill_worker::source_reader::Blocks;
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncRead, AsyncReadExt};

use crate::first::First;

/// As a worker has it unless told otherwise.
const BLOCK_CACHE_BYTES: u64 = 128 << 20;

/// Memory that one child may take, in bytes.
const CHILD_BYTES: u64 = 4 << 30;

/// How segments are grouped into tasks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Chunks {
    /// As planned.
    Planned,
    /// All in one.
    Whole,
    /// Each by itself: after the first few, of 4 s each.
    Single,
}

/// What is to be run.
#[derive(Debug, Clone, Args)]
pub struct Ours {
    /// Source
    #[arg(long)]
    pub clip: PathBuf,
    /// Empty folder for the store
    #[arg(long)]
    pub store: PathBuf,
    /// Program whose children do the work
    #[arg(long)]
    pub worker: PathBuf,
    /// How segments are grouped into tasks
    #[arg(long, value_enum, default_value = "planned")]
    pub chunks: Chunks,
    /// What the profile asks of encoders: fast or thorough
    #[arg(long, default_value = "fast")]
    pub effort: String,
    /// Constant rate factor
    #[arg(long, default_value_t = 23)]
    pub crf: u8,
    /// Tasks at once
    #[arg(long, default_value_t = 2)]
    pub slots: usize,
    /// Measure only the first task, and what starting a child costs
    #[arg(long)]
    pub first: bool,
    /// Leave thumbnails and poster out
    #[arg(long)]
    pub no_stills: bool,
}

/// What came of it.
#[derive(Debug, Serialize, Deserialize)]
pub struct Made {
    /// The ladder, lowest rung first.
    pub rungs: Vec<Rung>,
    /// Where segments start, in seconds.
    pub cuts: Vec<f64>,
    /// Frames per second.
    pub frame_rate: f64,
    /// Of each rung, init segment and media segments in order.
    pub files: Vec<Vec<PathBuf>>,
    /// With `first`: the first task, from a warm child.
    pub first: Option<First>,
    /// What was read of the source.
    pub reads: Reads,
}

/// Bytes of a source.
#[derive(Debug, Default, Clone, Copy, Serialize, Deserialize)]
pub struct Reads {
    /// It has so many.
    pub source: u64,
    /// Children were given so many.
    pub read: u64,
    /// The store was asked for so many.
    pub fetched: u64,
}

impl Ours {
    /// Runs it in a process of its own.
    pub fn measured(&self) -> anyhow::Result<(Cost, Made)> {
        let chunks = self.chunks.to_possible_value().ok_or_else(|| anyhow!("no such grouping"))?;
        let mut command = Command::new(std::env::current_exe()?);
        command.arg("ours").arg("--clip").arg(&self.clip).arg("--store").arg(&self.store);
        command.arg("--worker").arg(&self.worker).args(["--chunks", chunks.get_name()]);
        command.args(["--effort", &self.effort, "--crf", &self.crf.to_string()]);
        command.args(["--slots", &self.slots.to_string()]).args(self.first.then_some("--first"));
        command.args(self.no_stills.then_some("--no-stills"));
        let meter = Meter::start()?;
        let output = command.stderr(Stdio::inherit()).output()?;
        let cost = meter.cost()?;
        if !output.status.success() {
            bail!("our own run failed ({})", output.status);
        }
        Ok((cost, serde_json::from_slice(&output.stdout).context("our own run said nothing")?))
    }

    /// Does the work here.
    pub async fn run(&self) -> anyhow::Result<Made> {
        let store = Store::open(&format!("file://{}", std::path::absolute(&self.store)?.display()))?;
        let nursery = Nursery::of(self.worker.canonicalize().context("no worker")?);
        let kitchen = Kitchen {
            blocks: Blocks::new(store.clone(), BLOCK_CACHE_BYTES),
            recipes: Recipes::new(store.clone()),
            store: store.clone(),
            memory: CHILD_BYTES,
            encoders: None,
        };
        let source = store_source(&store, tokio::fs::File::open(&self.clip).await?).await?;
        let index = Task {
            asset: "00000000000000000000000000".parse()?,
            tenant: "bench".parse()?,
            number: TaskNumber::INDEX,
            epoch: 1,
            class: Class::Publish,
            source,
            recipe: None,
            work: Work::Index,
            cost_ms: 10_000,
            way: Way::Any,
            avoid: Vec::new(),
            race: false,
        };
        let child = nursery.start()?;
        let (Outcome::Indexed { index: hash, .. }, Some(child)) =
            kitchen.perform(&index, child, |_| {}).await
        else {
            bail!("the clip cannot be indexed");
        };
        child.end().await;
        let record = store.get_blob(BlobKind::Record, hash).await?;
        let source_index: SourceIndex = postcard::from_bytes(record.bytes())?;
        let effort: Effort = serde_json::from_value(self.effort.clone().into())?;
        let mut profile = Profile::default();
        for lane in &mut profile.video {
            lane.crf = Some(self.crf);
            lane.effort = effort;
        }
        let mut plan = Plan::new(&source_index, &profile, self.slots as u32)?;
        plan.images = plan.images.filter(|_| !self.no_stills);
        let record = Bytes::from(postcard::to_stdvec(&plan)?);
        let recipe = Recipe { index: hash, plan: store.put_blob(BlobKind::Record, record).await? };
        let task = |(number, work): (u32, Work)| Task {
            number: TaskNumber::planned(number),
            recipe: Some(recipe),
            work,
            cost_ms: 3_600_000,
            ..index.clone()
        };
        let video = plan.video.as_ref().context("the clip has no picture")?;
        let mut made = Made {
            rungs: plan.ladder.video.clone(),
            cuts: video.segments.iter().map(|s| s.start.seconds(video.timescale)).collect(),
            frame_rate: video.frame_rate.per_second(),
            files: Vec::new(),
            first: None,
            reads: Reads::default(),
        };
        let works = grouped(&plan, self.chunks);
        if self.first {
            let work = works.into_iter().next().context("an empty plan")?;
            made.first = Some(First::of(&kitchen, self, &nursery, &task((0, work))).await?);
            return Ok(made);
        }
        let tasks: Vec<Task> = (0..).zip(works).map(task).collect();
        let blocks = kitchen.blocks.clone();
        let (outputs, thumbnails) = work_through(kitchen, nursery, tasks, self.slots).await?;
        // What a coordinator does with the stills in the end.
        Storyboards::new(store).draw(&thumbnails).await?;
        for rung in &made.rungs {
            let output = outputs.get(rung.id.as_str()).with_context(|| format!("{} is missing", rung.id))?;
            let path = |hash, kind| self.store.join(keys::blob(&hash, kind));
            let init = path(output.init.hash, BlobKind::InitSegment);
            let segments = output.segments.iter().map(|s| path(s.hash, BlobKind::Segment));
            made.files.push(std::iter::once(init).chain(segments).collect());
        }
        let (read, fetched) = (blocks.read_bytes(), blocks.fetched_bytes());
        made.reads = Reads { source: source.bytes, read, fetched };
        Ok(made)
    }
}

fn grouped(plan: &Plan, chunks: Chunks) -> Vec<Work> {
    let count = plan.video.as_ref().map_or(0, |video| video.segments.len() as u32);
    let rungs: Vec<_> = plan.ladder.video.iter().map(|rung| rung.id.clone()).collect();
    let video = |segments| Work::Video { segments, rungs: rungs.clone() };
    let planned = plan.tasks.iter().map(|task| task.work.clone());
    let sound = planned.clone().filter(|work| matches!(work, Work::Audio { .. }));
    match chunks {
        Chunks::Planned => planned.collect(),
        Chunks::Whole => std::iter::once(video(0..count)).chain(sound).collect(),
        Chunks::Single => (0..count).map(|n| video(n..n + 1)).chain(sound).collect(),
    }
}

/// Puts a source into the store, block by block.
pub async fn store_source(store: &Store, mut from: impl AsyncRead + Unpin) -> anyhow::Result<SourceRef> {
    let mut source = Source::default();
    loop {
        let mut block = Vec::new();
        (&mut from).take(BLOCK_BYTES as u64).read_to_end(&mut block).await?;
        let bytes = block.len() as u32;
        if bytes == 0 {
            break;
        }
        let hash = store.put_blob(BlobKind::SourceBlock, Bytes::from(block)).await?;
        source.blocks.push(Block { hash, bytes });
    }
    let bytes = source.blocks.iter().map(|block| u64::from(block.bytes)).sum();
    let list = Bytes::from(serde_json::to_vec(&source)?);
    Ok(SourceRef { blocks: store.put_blob(BlobKind::Record, list).await?, bytes })
}

/// Each slot takes the next task and keeps its child, as a worker's do. Renditions by name, and the thumbnails.
async fn work_through(
    kitchen: Kitchen,
    nursery: Nursery,
    tasks: Vec<Task>,
    slots: usize,
) -> anyhow::Result<(BTreeMap<String, RenditionOutput>, Vec<Image>)> {
    let shared = Arc::new((kitchen, nursery, tasks, AtomicUsize::new(0)));
    let working: Vec<_> = (0..slots).map(|_| tokio::spawn(slot(shared.clone()))).collect();
    let mut all: BTreeMap<String, RenditionOutput> = BTreeMap::new();
    let mut thumbnails = Vec::new();
    for slot in working {
        let (outputs, images) = slot.await??;
        thumbnails.extend(images.into_iter().filter(|image| image.kind == ImageKind::Thumbnail));
        for output in outputs {
            match all.entry(output.rendition.to_string()) {
                std::collections::btree_map::Entry::Vacant(empty) => drop(empty.insert(output)),
                std::collections::btree_map::Entry::Occupied(mut begun) => {
                    begun.get_mut().segments.extend(output.segments);
                }
            }
        }
    }
    all.values_mut().for_each(|output| output.segments.sort_by_key(|segment| segment.number));
    thumbnails.sort_by_key(|image| image.frame);
    Ok((all, thumbnails))
}

type Shared = Arc<(Kitchen, Nursery, Vec<Task>, AtomicUsize)>;

async fn slot(shared: Shared) -> anyhow::Result<(Vec<RenditionOutput>, Vec<Image>)> {
    let (kitchen, nursery, tasks, next) = &*shared;
    let (mut made, mut stills) = (Vec::new(), Vec::new());
    let mut known: Option<Child> = None;
    while let Some(task) = tasks.get(next.fetch_add(1, Ordering::Relaxed)) {
        let child = known.take().map_or_else(|| nursery.start(), Ok)?;
        let (outcome, child) = kitchen.perform(task, child, |_| {}).await;
        known = child;
        match outcome {
            Outcome::Made { outputs, images, .. } => {
                made.extend(outputs);
                stills.extend(images);
            }
            Outcome::Indexed { .. } => bail!("an index came of {:?}", task.work),
            Outcome::Waiting { .. } => bail!("bytes of a whole source are missing"),
            Outcome::Failed(failure) => bail!("{:?}: {}", task.work, failure.reason),
        }
    }
    if let Some(child) = known {
        child.end().await;
    }
    Ok((made, stills))
}
