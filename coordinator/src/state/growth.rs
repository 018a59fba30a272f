//! Jobs that begin with a part of their source: each longer part is indexed anew, and the plan goes on from the one
//! before. What is indexed last is the whole.

use reelmill_media::task::TaskNumber;
use serde::{Deserialize, Serialize};

use super::attempt::Attempt;
use super::machine::Step;
use super::stage::{Job, Stage};
use super::words::{Beginning, Effect, PlanSummary};

/// How far a job's plan goes, whose source was not all there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Growth {
    /// The plan is of so many bytes of the source.
    pub bytes: u64,
    /// With so many it is worth while to index it again.
    pub goes_on_at: u64,
    /// The last attempt at indexing that has ended.
    epoch: u32,
}

impl Growth {
    fn of(beginning: Beginning, epoch: u32) -> Growth {
        Growth { bytes: beginning.bytes, goes_on_at: beginning.goes_on_at, epoch }
    }
}

impl Job {
    /// A longer part of its source is being indexed.
    pub fn is_indexing(&self) -> bool {
        self.in_flight.iter().any(|attempt| attempt.number == TaskNumber::INDEX)
    }
}

impl Step {
    /// The plan of the job that has just begun is that of a beginning.
    pub(super) fn begins_to_grow(&mut self, epoch: u32, beginning: Beginning) {
        if let Stage::Processing { job, .. } = &mut self.asset.stage {
            job.growth = Some(Growth::of(beginning, epoch));
            // All of them read nothing beyond.
            job.released = None;
        }
        self.index_the_rest();
    }

    /// Indexes the whole once it is there.
    pub(super) fn index_the_rest(&mut self) {
        if !self.asset.is_receiving() {
            self.index_more();
        }
    }

    /// Indexes as much as is there.
    pub(super) fn index_more(&mut self) {
        let Stage::Processing { job, .. } = &mut self.asset.stage else { return };
        let Some(growth) = job.growth.filter(|_| !job.is_indexing()) else { return };
        let attempt = Attempt::first(TaskNumber::INDEX, self.moment.now).after(growth.epoch);
        attempt.publish(&mut self.effects);
        job.in_flight.push(attempt);
    }

    /// Takes the attempt at indexing out of a job that grows; `None` where that is not the present one.
    fn indexing_ends(&mut self, epoch: u32) -> Option<&mut Job> {
        if self.asset.epoch(TaskNumber::INDEX) != Some(epoch) {
            return None;
        }
        self.task_ends(TaskNumber::INDEX, None);
        let Stage::Processing { job, .. } = &mut self.asset.stage else { return None };
        job.in_flight.retain(|attempt| attempt.number != TaskNumber::INDEX);
        if let Some(growth) = &mut job.growth {
            growth.epoch = epoch;
        }
        Some(job)
    }

    /// The plan of more of the source: the tasks so far stay as they are.
    pub(super) fn continue_job(&mut self, epoch: u32, plan: PlanSummary) {
        let Some(job) = self.indexing_ends(epoch) else { return self.repeat(TaskNumber::INDEX) };
        (job.recipe, job.tasks, job.cost_ms) = (plan.recipe, plan.tasks, plan.cost_ms);
        job.growth = plan.growth.map(|beginning| Growth::of(beginning, epoch));
        self.asset.facts = Some(plan.facts);
        for planned in plan.renditions {
            for rendition in self.asset.renditions.iter_mut().filter(|r| r.planned.id == planned.id) {
                rendition.planned.segments = planned.segments;
            }
        }
        self.look_for_more();
        self.effects.push(Effect::RenderPlaylists);
    }

    /// The part that was there did not say more.
    pub(super) fn growth_waits(&mut self, epoch: u32, upto: u64) {
        let more = self.asset.upload.durable.saturating_add(self.asset.upload.durable / 8);
        let Some(job) = self.indexing_ends(epoch) else { return };
        if let Some(growth) = &mut job.growth {
            growth.goes_on_at = upto.max(more);
        }
        self.look_for_more();
    }

    /// More may have come while a part was indexed.
    fn look_for_more(&mut self) {
        if self.asset.is_receiving() {
            self.effects.push(Effect::CheckUpload);
        }
        self.index_the_rest();
    }

    /// The source is not what its beginning said: all is made anew, once all is there.
    pub(super) fn differs(&mut self, epoch: u32) {
        if self.indexing_ends(epoch).is_none() {
            return;
        }
        let Stage::Processing { source, .. } = &self.asset.stage else { return };
        let whole = Stage::Queued { source: *source };
        let receiving = self.asset.is_receiving();
        self.asset.stage = if receiving { Stage::Uploading } else { whole };
        self.wait_for(u64::MAX);
        self.asset.fence_off();
        self.asset.timings.playable_at = None;
        self.effects.push(Effect::Retract);
    }
}

#[cfg(test)]
mod tests {
    use jiff::{SignedDuration, Timestamp};
    use reelmill_media::ids::{AssetId, BlobHash};
    use reelmill_media::index::Container;
    use reelmill_media::source::SourceRef;
    use reelmill_media::task::Recipe;

    use super::super::words::{Input, Moment};
    use super::super::{Arrival, Asset, SourceFacts, StageName, handle};
    use super::*;

    fn source(durable: u64) -> SourceRef {
        SourceRef { blocks: BlobHash::of(&durable.to_le_bytes()), bytes: 100 }
    }

    /// So many tasks of the first so many bytes, or of all.
    fn indexed(epoch: u32, tasks: u32, bytes: Option<u64>) -> Input {
        let recipe = Recipe { index: source(tasks.into()).blocks, plan: BlobHash::of(b"plan") };
        let facts = SourceFacts {
            container: Container::MpegTs,
            video: None,
            audio_codecs: Vec::new(),
            duration_micros: i64::from(tasks),
        };
        let plan = PlanSummary {
            recipe,
            tasks,
            urgent: 1,
            cost_ms: u64::from(tasks),
            urgent_cost_ms: 1,
            growth: bytes.map(|bytes| Beginning { bytes, goes_on_at: bytes * 2 }),
            facts,
            renditions: Vec::new(),
        };
        Input::Indexed { epoch, plan: Box::new(plan) }
    }

    fn after(mut asset: Asset, inputs: impl IntoIterator<Item = Input>) -> (Asset, Vec<Effect>) {
        let now = Timestamp::from_second(1_700_000_001).unwrap();
        let moment = Moment { now, retry_after: SignedDuration::from_secs(1), webhook: false };
        let mut effects = Vec::new();
        for input in inputs {
            let next = handle(asset, moment, input);
            asset = next.asset;
            effects.extend(next.effects);
        }
        (asset, effects)
    }

    fn grown(durable: u64) -> Input {
        Input::Grown { source: source(durable), durable, released: 0, fence: 0 }
    }

    /// Its first ten bytes are planned as two tasks, which are out.
    fn begun() -> Asset {
        let now = Timestamp::from_second(1_700_000_000).unwrap();
        let id = AssetId::from_parts(1, 1);
        let new = Asset::new(id, "demo".parse().unwrap(), None, Some(100), Arrival::Whole, now);
        let hand_out = |number| Input::HandOut { upto: TaskNumber(number) };
        let (asset, effects) = after(new, [grown(10), hand_out(0), indexed(1, 2, Some(10)), hand_out(9)]);
        assert!(effects.contains(&Effect::PublishTask { number: TaskNumber(2), epoch: 1 }));
        asset
    }

    fn job(asset: &Asset) -> &Job {
        let Stage::Processing { job, .. } = &asset.stage else { panic!("{asset:?}") };
        job
    }

    #[test]
    fn each_part_is_indexed_once_however_often_it_is_told_and_the_whole_last() {
        let index = |epoch| Effect::PublishTask { number: TaskNumber::INDEX, epoch };
        let (asset, effects) = after(begun(), [grown(20), grown(20), grown(30)]);
        assert_eq!(effects, [index(2)]);
        // What is late of the one before changes nothing, and what is told twice counts once.
        let (asset, _) =
            after(asset, [indexed(1, 7, Some(10)), indexed(2, 4, Some(20)), indexed(2, 4, Some(20))]);
        assert_eq!((job(&asset).tasks, job(&asset).next, job(&asset).in_flight.len()), (4, 2, 2));
        assert_eq!(job(&asset).growth.map(|growth| (growth.bytes, growth.goes_on_at)), Some((20, 40)));
        // The last byte comes while a part is indexed: the whole comes after it.
        let (asset, effects) = after(asset, [grown(40), Input::UploadComplete { source: source(100) }]);
        assert_eq!(effects, [index(3)]);
        let (asset, effects) = after(asset, [indexed(3, 5, Some(40))]);
        assert!(effects.contains(&index(4)) && !effects.contains(&Effect::CheckUpload), "{effects:?}");
        assert!(!job(&asset).is_done());
        let (asset, _) = after(asset, [indexed(4, 6, None)]);
        assert_eq!((job(&asset).growth, job(&asset).tasks, asset.fence), (None, 6, 0));
    }

    #[test]
    fn a_part_that_cannot_be_indexed_is_waited_past() {
        let lost = |epoch| Input::TaskLost { number: TaskNumber::INDEX, epoch };
        let (asset, _) = after(begun(), [grown(40), lost(2)]);
        assert_eq!(job(&asset).growth.map(|growth| growth.goes_on_at), Some(45));
        let (asset, effects) = after(asset, [Input::UploadComplete { source: source(100) }, lost(3)]);
        assert!(effects.contains(&Effect::PublishTask { number: TaskNumber::INDEX, epoch: 3 }));
        // Of the whole it is tried again as any task is.
        assert_eq!(asset.epoch(TaskNumber::INDEX), Some(4));
    }

    #[test]
    fn what_differs_is_taken_back_and_made_of_the_whole() {
        let differs = || Input::Differs { epoch: 2 };
        let (asset, effects) = after(begun(), [grown(40), differs(), differs()]);
        assert_eq!(effects.last(), Some(&Effect::Retract));
        assert_eq!((asset.stage.name(), asset.upload.wants), (StageName::Uploading, u64::MAX));
        let (asset, _) = after(asset, [Input::UploadComplete { source: source(100) }]);
        assert_eq!(asset.stage, Stage::Queued { source: source(100) });
        let whole = [grown(40), Input::UploadComplete { source: source(100) }, indexed(2, 4, Some(40))];
        let (asset, _) = after(begun(), whole);
        let (asset, effects) =
            after(asset, [Input::Differs { epoch: 3 }, Input::HandOut { upto: TaskNumber::INDEX }]);
        assert_eq!(effects[0], Effect::Retract);
        assert!(asset.epoch(TaskNumber::INDEX) > Some(1000), "nobody mistakes it for one before");
    }
}
