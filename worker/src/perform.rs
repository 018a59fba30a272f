//! One task from its job to its outcome: cut the job, run a child, store what it makes.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use reelmill_media::ids::{BlobHash, RenditionId};
use reelmill_media::image::Image;
use reelmill_media::index::{Container, SourceIndex};
use reelmill_media::keys::BlobKind;
use reelmill_media::segment::{InitSegment, Segment};
use reelmill_media::task::{Failure, FailureCode, Outcome, RenditionOutput, Task, Way, Work};
use reelmill_platform::store::{Store, StoreError};
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use crate::child::{Bounds, Child, Made};
use crate::engine;
use crate::exec::protocol::{ImageOutput, InitOutput, Job, SegmentOutput, Still, VideoJob};
use crate::outage;
use crate::probe::ready::{Encoders, Reservation};
use crate::recipes::{Opened, Recipes};
use crate::source_reader::{Blocks, SourceReader};

/// Results that wait to be stored before the child has to wait.
const UNSTORED: usize = 8;

/// Puts under way at once per task.
const PUTS: usize = 4;

/// However short a task is estimated, it may take this long.
const SHORTEST_LIMIT: Duration = Duration::from_secs(60);

/// A task that takes so many times its estimate is stuck.
const PATIENCE: u32 = 30;

/// The same for a device: it needs a fraction of what software does, and software stands by.
const SHORTEST_DEVICE_LIMIT: Duration = Duration::from_secs(15);

/// The same for a device.
const DEVICE_PATIENCE: u32 = 4;

/// What a task works with. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Kitchen {
    /// Where results go.
    pub store: Store,
    /// Where sources come from.
    pub blocks: Blocks,
    /// Indexes and plans.
    pub recipes: Recipes,
    /// Memory one child may take, in bytes.
    pub memory: u64,
    /// Hardware encoders, which tasks that allow it are tried on first.
    pub encoders: Option<Encoders>,
}

fn internal(error: impl std::fmt::Display) -> Failure {
    Failure { code: FailureCode::Internal, reason: error.to_string() }
}

impl Kitchen {
    /// Does `task` in `child`; `progress` is told parts per thousand. What is reported is durably stored. The child comes
    /// back where it may do another task of the same asset.
    pub async fn perform(
        &self,
        task: &Task,
        child: Child,
        progress: impl Fn(u16),
    ) -> (Outcome, Option<Child>) {
        match self.try_perform(task, child, progress).await {
            Ok((outcome, child)) => (outcome, child.filter(|child| self.may_go_on(child))),
            Err(failure) => (Outcome::Failed(failure), None),
        }
    }

    /// A child keeps the memory that it has taken. What the next job takes comes on top only where it does not fit in.
    fn may_go_on(&self, child: &Child) -> bool {
        child.resident_bytes().is_none_or(|held| held <= self.memory / 2)
    }

    async fn try_perform(
        &self,
        task: &Task,
        child: Child,
        progress: impl Fn(u16),
    ) -> Result<(Outcome, Option<Child>), Failure> {
        let opened = match task.recipe {
            Some(recipe) => Some(self.recipes.open(recipe).await.map_err(|e| e.failure())?),
            None => None,
        };
        let recipe = opened.as_deref().map(|o| (&o.index, &o.plan));
        let source = self.blocks.open(task.source).await.map_err(|e| e.failure())?;
        let (source_bytes, there) = (task.source.bytes, source.there());
        let mut job = match (&task.work, recipe) {
            (Work::Index, _) if there < source_bytes => Job::IndexBeginning { source_bytes, there },
            // A demuxer takes the part that is there for a file that was cut off.
            (work, Some((index, _))) if index.container != Container::Mp4 => {
                Job::for_work(work, there, recipe).map_err(internal)?
            }
            (work, _) => Job::for_work(work, source_bytes, recipe).map_err(internal)?,
        };
        if task.way == Way::Concealed {
            job.conceal();
        }
        let bounds = self.bounds(task, &job, SHORTEST_LIMIT, PATIENCE);
        let reserved = match task.way {
            Way::Any => self.reserve(&job, opened.as_deref()),
            Way::Software | Way::Concealed => None,
        };
        let Some(reserved) = reserved else {
            let attempted = self.attempt(job, child, &source, bounds, progress).await;
            return match (attempted, &task.work, source.waits_for()) {
                (Err(_), Work::Index, Some(upto)) => Ok((Outcome::Waiting { upto }, None)),
                // What cannot be read of a beginning says nothing of the whole.
                (Err(_), Work::Index, None) if there < source_bytes => {
                    Ok((Outcome::Waiting { upto: there.saturating_mul(2) }, None))
                }
                (attempted, _, _) => {
                    let (results, child) = attempted?;
                    Ok((results.outcome(engine::recipe_of(task, None))?, Some(child)))
                }
            };
        };
        // What a device makes may end half-way: nothing is told of it before it is whole.
        let shorter = self.bounds(task, &job, SHORTEST_DEVICE_LIMIT, DEVICE_PATIENCE);
        let tried = match reserved.child() {
            Ok(child) => {
                let job = on_device(job.clone(), &reserved);
                let tried = self.attempt(job, child, &source, shorter, |_| {}).await;
                tried.map(|(results, _)| results)
            }
            Err(error) => Err(internal(error)),
        };
        match tried {
            Ok(results) => {
                Ok((results.outcome(engine::recipe_of(task, Some(reserved.engine())))?, Some(child)))
            }
            Err(failure) if !failure.code.is_retryable() => Err(failure),
            Err(failure) => {
                tracing::warn!(asset = %task.asset, task = task.number.0, encoder = reserved.engine().name(), reason = failure.reason, "encoding in software instead");
                let (results, child) = self.attempt(job, child, &source, bounds, progress).await?;
                // What software does with the same task, the device failed at.
                reserved.failed();
                Ok((results.outcome(engine::recipe_of(task, None))?, Some(child)))
            }
        }
    }

    fn bounds(&self, task: &Task, job: &Job, shortest: Duration, patience: u32) -> Bounds {
        let time = shortest.max(Duration::from_millis(task.cost_ms).saturating_mul(patience));
        Bounds { time, memory: self.memory, output: job.allowance() }
    }

    /// Hardware for this job, where its ladder allows it and it is there.
    fn reserve(&self, job: &Job, opened: Option<&Opened>) -> Option<Reservation> {
        let (Job::Video(job), Some(encoders)) = (job, &self.encoders) else { return None };
        if !opened.is_some_and(|opened| opened.plan.ladder.hardware) {
            return None;
        }
        let codec = job.rungs.first()?.codec;
        let sizes: Vec<_> = job.rungs.iter().map(|rung| (rung.width, rung.height)).collect();
        job.rungs.iter().all(|rung| rung.codec == codec).then(|| encoders.reserve(codec, &sizes)).flatten()
    }

    /// Runs a job in a child and stores what it makes.
    async fn attempt(
        &self,
        job: Job,
        child: Child,
        source: &SourceReader,
        bounds: Bounds,
        progress: impl Fn(u16),
    ) -> Result<(Results, Child), Failure> {
        let (sender, receiver) = mpsc::channel(UNSTORED);
        let mut results = Results::new(self.store.clone(), source.there());
        // Both sides end together: a child that fails closes the channel, a store that fails stops the child.
        let (ran, stored) =
            tokio::join!(child.run(job, source, bounds, sender), results.gather(receiver, progress));
        stored.map_err(|e| outage::failure(&e))?;
        Ok((results, ran?))
    }
}

/// The same job on the reserved encoder.
fn on_device(job: Job, reserved: &Reservation) -> Job {
    match job {
        Job::Video(job) => Job::Video(VideoJob { engine: Some(reserved.engine()), ..job }),
        Job::Index { .. } | Job::IndexBeginning { .. } | Job::Audio(_) => job,
    }
}

/// What has been made so far.
struct Results {
    store: Store,
    /// Bytes of the source that are there, from the first on.
    there: u64,
    index: Option<(BlobHash, Option<u64>)>,
    renditions: BTreeMap<RenditionId, RenditionOutput>,
    images: Vec<Image>,
}

impl Results {
    fn new(store: Store, there: u64) -> Self {
        Self { store, there, index: None, renditions: BTreeMap::new(), images: Vec::new() }
    }

    async fn gather(
        &mut self,
        mut made: mpsc::Receiver<Made>,
        progress: impl Fn(u16),
    ) -> Result<(), StoreError> {
        let mut puts: JoinSet<Result<(), StoreError>> = JoinSet::new();
        while let Some(item) = made.recv().await {
            while puts.len() >= PUTS {
                settle(puts.join_next().await)?;
            }
            match item {
                Made::Progress(permille) => progress(permille),
                Made::Init(init) => {
                    let bytes = Bytes::from(init.bytes.clone());
                    let hash = self.put(&mut puts, BlobKind::InitSegment, bytes);
                    self.begin(&init, hash);
                }
                Made::Segment(mut segment) => {
                    let bytes = Bytes::from(std::mem::take(&mut segment.bytes));
                    let length = bytes.len() as u64;
                    let hash = self.put(&mut puts, BlobKind::Segment, bytes);
                    self.append(&segment, hash, length);
                }
                Made::Image(ImageOutput { still, bytes }) => {
                    let (length, bytes) = (bytes.len() as u64, Bytes::from(bytes));
                    let hash = self.put(&mut puts, BlobKind::Image, bytes);
                    let Still { kind, frame, at_micros, width, height, .. } = still;
                    self.images.push(Image { kind, frame, at_micros, width, height, bytes: length, hash });
                }
                Made::Index(index) => self.keep(&mut puts, &index, None),
                Made::Beginning(index) => self.keep(&mut puts, &index, Some(self.there)),
            }
        }
        while let Some(ended) = puts.join_next().await {
            settle(Some(ended))?;
        }
        Ok(())
    }

    fn put(&self, puts: &mut JoinSet<Result<(), StoreError>>, kind: BlobKind, bytes: Bytes) -> BlobHash {
        let hash = BlobHash::of(&bytes);
        let store = self.store.clone();
        puts.spawn(async move { store.put_hashed(kind, hash, bytes).await });
        hash
    }

    fn keep(&mut self, puts: &mut JoinSet<Result<(), StoreError>>, index: &SourceIndex, upto: Option<u64>) {
        // What cannot be encoded is missing at the end, and reported there.
        if let Ok(bytes) = postcard::to_stdvec(index) {
            self.index = Some((self.put(puts, BlobKind::Record, Bytes::from(bytes)), upto));
        }
    }

    fn begin(&mut self, init: &InitOutput, hash: BlobHash) {
        let output = RenditionOutput {
            rendition: init.rendition.clone(),
            encoder: init.encoder.clone(),
            init: InitSegment {
                hash,
                bytes: init.bytes.len() as u64,
                timescale: init.timescale,
                codecs: init.codecs.clone(),
            },
            segments: Vec::new(),
        };
        self.renditions.insert(init.rendition.clone(), output);
    }

    fn append(&mut self, made: &SegmentOutput, hash: BlobHash, bytes: u64) {
        if let Some(output) = self.renditions.get_mut(&made.rendition) {
            output.segments.push(Segment {
                number: made.number,
                start: made.start,
                duration: made.duration,
                frames: made.frames,
                concealed: made.concealed,
                first_frame_bytes: made.first_frame_bytes,
                bytes,
                hash,
            });
        }
    }

    fn outcome(self, recipe: BlobHash) -> Result<Outcome, Failure> {
        if let Some((index, upto)) = self.index {
            return Ok(Outcome::Indexed { index, upto });
        }
        if self.renditions.is_empty() {
            return Err(internal("the media process ended without a result"));
        }
        let outputs = self.renditions.into_values().collect();
        Ok(Outcome::Made { recipe, outputs, images: self.images })
    }
}

/// A put that was cancelled or panicked counts as stored nowhere.
fn settle(ended: Option<Result<Result<(), StoreError>, tokio::task::JoinError>>) -> Result<(), StoreError> {
    match ended {
        None => Ok(()),
        Some(Ok(done)) => done,
        Some(Err(_)) => Err(StoreError::Deadline { key: "a result".to_owned() }),
    }
}
