//! How far a job is: by the planned cost of its tasks as a whole, by the time that they cover for each rendition. Tasks in
//! work count as far as they say.

use std::collections::BTreeMap;

use reelmill_media::ids::RenditionId;
use reelmill_media::plan::Plan;
use reelmill_media::task::{TaskNumber, Work};

use crate::state::Job;

/// What is in work is not done, whatever it says.
const MOST_IN_WORK: f64 = 0.99;

/// Parts that are done, 0 to 1.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Progress {
    /// Of all.
    pub whole: f64,
    /// Of each rendition that has any work.
    pub renditions: BTreeMap<RenditionId, f64>,
}

/// A sum of weights, and how much of it is done.
#[derive(Debug, Default)]
struct Share {
    done: f64,
    of: f64,
}

impl Share {
    fn add(&mut self, weight: f64, part: f64) {
        self.done += weight * part;
        self.of += weight;
    }

    fn part(&self) -> f64 {
        if self.of > 0.0 { (self.done / self.of).min(1.0) } else { 0.0 }
    }
}

impl Progress {
    /// Of a job that goes by this plan; `running` says how far its tasks in work are, in 1/1000.
    pub fn of(job: &Job, plan: &Plan, running: &BTreeMap<TaskNumber, u16>) -> Progress {
        let mut whole = Share::default();
        let mut renditions: BTreeMap<RenditionId, Share> = BTreeMap::new();
        for (position, task) in (0u32..).zip(&plan.tasks) {
            let said =
                running.get(&TaskNumber::planned(position)).map_or(0.0, |said| f64::from(*said) / 1000.0);
            let part = if job.done.contains(position) { 1.0 } else { said.min(MOST_IN_WORK) };
            whole.add(task.cost_ms as f64, part);
            let covered = covered(plan, &task.work);
            for rendition in task.work.renditions() {
                renditions.entry(rendition.clone()).or_default().add(covered, part);
            }
        }
        let renditions = renditions.into_iter().map(|(id, share)| (id, share.part()));
        Progress { whole: whole.part(), renditions: renditions.collect() }
    }
}

/// The time that a task covers, in ticks of its own clock.
fn covered(plan: &Plan, work: &Work) -> f64 {
    let ticks = match work {
        Work::Index => None,
        Work::Video { segments, .. } => plan.video.as_ref().and_then(|video| {
            let spans = video.segments.get(segments.start as usize..segments.end as usize)?;
            Some((spans.last()?.end - spans.first()?.start).0)
        }),
        Work::Audio { rendition, segments } => plan.sound(rendition).and_then(|sound| {
            let (first, last) =
                (sound.span(segments.start as usize)?, sound.span(segments.end as usize - 1)?);
            Some((last.end - first.start).0)
        }),
    };
    ticks.unwrap_or(0) as f64
}
