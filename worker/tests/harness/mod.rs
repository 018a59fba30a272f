//! Drives the child's side of the protocol as a worker would, over pipes in this process.

#![allow(dead_code)] // Each test program uses its own part of this.

use std::collections::BTreeMap;
use std::io::{Read, Write, pipe};
use std::ops::Range;

use reelmill_media::ids::RenditionId;
use reelmill_media::index::SourceIndex;
use reelmill_media::plan::{Plan, VideoPlan};
use reelmill_media::profile::Profile;
use reelmill_media::task::{Failure, Work};
use reelmill_media::timeline::VideoTimeline;
use reelmill_worker::confine::seal;
use reelmill_worker::exec::protocol::{
    FromChild, ImageOutput, InitOutput, Job, SegmentOutput, ToChild, read_message, write_message,
};

/// What one job made.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Made {
    pub index: Option<SourceIndex>,
    pub inits: Vec<InitOutput>,
    pub segments: Vec<SegmentOutput>,
    pub images: Vec<ImageOutput>,
    /// Bytes of the source that were read.
    pub read: u64,
    pub reads: u64,
}

/// Runs one job against a source in memory.
pub fn run(source: &[u8], job: Job) -> Result<Made, Failure> {
    run_after(|| {}, source, job)
}

/// The same under a child's filter of system calls: what opens a file is refused, what reaches for the network ends this
/// process.
pub fn run_sealed(source: &[u8], job: Job) -> Result<Made, Failure> {
    run_after(|| seal().unwrap(), source, job)
}

fn run_after(before: fn(), source: &[u8], job: Job) -> Result<Made, Failure> {
    let (child_in, mut to_child) = pipe().unwrap();
    let (mut from_child, child_out) = pipe().unwrap();
    std::thread::scope(|threads| {
        threads.spawn(move || {
            before();
            reelmill_worker::exec::serve(child_in, child_out)
        });
        converse(&mut to_child, &mut from_child, source, job)
    })
}

/// The parent's part of a job, whoever is at the other end.
pub fn converse(
    to_child: &mut impl Write,
    from_child: &mut impl Read,
    source: &[u8],
    job: Job,
) -> Result<Made, Failure> {
    write_message(to_child, &ToChild::Job(job)).unwrap();
    let mut made = Made::default();
    loop {
        match read_message::<FromChild>(from_child).unwrap().expect("the child ended without a word") {
            FromChild::Read { offset, len } => {
                let start = usize::try_from(offset).unwrap().min(source.len());
                let end = (start + len as usize).min(source.len());
                made.read += (end - start) as u64;
                made.reads += 1;
                write_message(to_child, &ToChild::Bytes(source[start..end].to_vec())).unwrap();
            }
            FromChild::Progress { permille } => assert!(permille <= 1000),
            FromChild::Init(init) => made.inits.push(init),
            FromChild::Segment(segment) => made.segments.push(segment),
            FromChild::Image(image) => made.images.push(image),
            FromChild::Index(index) | FromChild::Beginning(index) => made.index = Some(*index),
            FromChild::Done => return Ok(made),
            FromChild::Failed(failed) => return Err(failed.failure),
        }
    }
}

/// Indexes a source.
pub fn index(source: &[u8]) -> Result<SourceIndex, Failure> {
    let made = run(source, Job::Index { source_bytes: source.len() as u64 })?;
    Ok(made.index.expect("an index"))
}

/// One rendition, put together from all its chunks.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Rendition {
    pub codecs: String,
    pub init: Vec<u8>,
    pub segments: Vec<SegmentOutput>,
}

impl Rendition {
    /// Init segment and all media segments in one file.
    pub fn file(&self) -> Vec<u8> {
        let mut out = self.init.clone();
        for segment in &self.segments {
            out.extend_from_slice(&segment.bytes);
        }
        out
    }
}

/// A source with its index and plan.
pub struct Title {
    pub index: SourceIndex,
    pub timeline: Option<VideoTimeline>,
    pub plan: Plan,
}

impl Title {
    /// Indexes and plans with the default profile.
    pub fn of(source: &[u8]) -> Result<Title, Failure> {
        let index = index(source)?;
        Ok(Title::planned(index, &Profile::default()))
    }

    /// Plans with a profile.
    pub fn planned(index: SourceIndex, profile: &Profile) -> Title {
        let plan = Plan::new(&index, profile, 4).expect("a plan");
        let every = plan.video.as_ref().map_or(1, |video| video.every);
        let timeline = VideoTimeline::of(&index).map(|timeline| timeline.thinned(every));
        Title { index, timeline, plan }
    }

    /// The frames, of a source that has a picture.
    pub fn timeline(&self) -> &VideoTimeline {
        self.timeline.as_ref().expect("a picture")
    }

    /// The plan of the picture, of a source that has one.
    pub fn video(&self) -> &VideoPlan {
        self.plan.video.as_ref().expect("a picture")
    }

    /// Keeps only the lowest rungs.
    pub fn lowest(mut self, rungs: usize) -> Title {
        self.plan.ladder.video.truncate(rungs);
        self
    }

    pub fn rungs(&self) -> Vec<RenditionId> {
        self.plan.ladder.video.iter().map(|r| r.id.clone()).collect()
    }

    /// Makes everything, with video and audio cut into chunks of these numbers of segments, over and over.
    pub fn make(&self, source: &[u8], chunks: &[usize]) -> Result<BTreeMap<String, Rendition>, Failure> {
        let mut out: BTreeMap<String, Rendition> = BTreeMap::new();
        let pictures = self.plan.video.as_ref().map_or(0, |video| video.segments.len());
        let video = self.plan.ladder.lanes().flat_map(|lane| {
            let rungs: Vec<RenditionId> = lane.iter().map(|rung| rung.id.clone()).collect();
            cut(pictures, chunks).map(move |segments| Work::Video { segments, rungs: rungs.clone() })
        });
        let audio = self.plan.audio.iter().flat_map(|audio| {
            let rendition = audio.rung.id.clone();
            cut(audio.segments.len(), chunks)
                .map(move |segments| Work::Audio { rendition: rendition.clone(), segments })
        });
        for work in video.chain(audio) {
            let job =
                Job::for_work(&work, source.len() as u64, Some((&self.index, &self.plan))).expect("a job");
            let made = run(source, job)?;
            for init in made.inits {
                let rendition = out.entry(init.rendition.to_string()).or_default();
                assert!(
                    rendition.init.is_empty() || rendition.init == init.bytes,
                    "{} has different init segments",
                    init.rendition
                );
                rendition.init = init.bytes;
                rendition.codecs = init.codecs;
            }
            for segment in made.segments {
                let rendition = out.entry(segment.rendition.to_string()).or_default();
                assert_eq!(segment.number as usize, rendition.segments.len(), "segments come in order");
                rendition.segments.push(segment);
            }
        }
        Ok(out)
    }
}

fn cut(total: usize, sizes: &[usize]) -> impl Iterator<Item = Range<u32>> + '_ {
    let mut start = 0;
    sizes.iter().cycle().map_while(move |size| {
        let end = (start + size).min(total);
        let range = start as u32..end as u32;
        start = end;
        (!range.is_empty()).then_some(range)
    })
}
