//! How an asset's bytes come in, and how its job begins before all of them are there.
//!
//! While the upload runs, the stage's source holds what is durable. The job that is made of it is the same as it would be
//! of the whole; [`Job::released`] says how many of its tasks need no byte that is not there.

use jiff::{SignedDuration, Timestamp};
use reelmill_media::plan::Inflow;
use reelmill_media::source::{ENDLESS_BYTES, SourceRef};
use reelmill_media::task::{Failure, FailureCode};

use super::Occasion;
use super::asset::{Arrival, Asset, Upload};
use super::attempt::Attempt;
use super::machine::Step;
use super::stage::{Job, Stage};
use super::words::{Effect, Twin};

/// An upload in one request without a byte for so long has lost its coordinator: idle bodies are cut much earlier.
const WHOLE_UPLOAD_LOST_AFTER: SignedDuration = SignedDuration::from_secs(180);
/// A resumable upload without a byte for so long may have gone on without the asset knowing.
const RESUMABLE_UPLOAD_CHECK_AFTER: SignedDuration = SignedDuration::from_secs(30);
/// A resumable upload is given up after so long without a byte.
pub const UPLOAD_EXPIRES_AFTER: SignedDuration = SignedDuration::from_hours(72);

impl Asset {
    /// Its last byte is still to come.
    pub const fn is_receiving(&self) -> bool {
        match &self.stage {
            Stage::Uploading | Stage::Queued { .. } | Stage::Indexing { .. } | Stage::Processing { .. } => {
                self.timings.received_at.is_none()
            }
            Stage::Ready { .. } | Stage::Failed { .. } | Stage::Deleted { .. } => false,
        }
    }

    /// How fast its source comes in, while it does. Its index speaks of the bytes before `upto`, or of all that there will be.
    pub fn inflow(&self, upto: Option<u64>, now: Timestamp) -> Option<Inflow> {
        let Upload { bytes, durable, length, .. } = self.upload;
        let bytes = bytes.max(durable);
        let within_ms = u64::try_from(now.duration_since(self.created_at).as_millis()).unwrap_or(0);
        let of = upto.or(length).unwrap_or(bytes);
        self.is_receiving().then_some(Inflow { bytes, of, length, within_ms })
    }
}

impl Job {
    /// How many tasks, in the plan's order, may be handed out.
    pub fn released(&self) -> u32 {
        self.released.unwrap_or(self.tasks).min(self.tasks)
    }
}

impl Attempt {
    /// The same after all that were begun up to `fence`.
    pub(super) fn after(self, fence: u32) -> Attempt {
        Attempt { epoch: self.epoch.saturating_add(fence), ..self }
    }
}

impl Step {
    pub(super) fn upload_progress(&mut self, bytes: u64, length: Option<u64>) {
        if !self.asset.is_receiving() {
            return;
        }
        let upload = &mut self.asset.upload;
        upload.bytes = upload.bytes.max(bytes);
        upload.length = upload.length.or(length);
        upload.touched_at = self.moment.now;
    }

    /// More is durable than before: `durable` bytes. Who says less, or comes late, changes nothing.
    pub(super) fn grown(&mut self, grown: SourceRef, durable: u64, released: u32) {
        let upload = &mut self.asset.upload;
        if self.asset.timings.received_at.is_some() || durable < upload.durable {
            return;
        }
        match &mut self.asset.stage {
            Stage::Uploading => self.asset.stage = Stage::Queued { source: grown },
            Stage::Queued { source } => *source = grown,
            Stage::Processing { source, job } => {
                *source = grown;
                job.released = job.released.map(|before| before.max(released));
            }
            // The attempt goes by what was there when it began.
            Stage::Indexing { .. } | Stage::Ready { .. } | Stage::Failed { .. } | Stage::Deleted { .. } => {
                return;
            }
        }
        upload.durable = durable;
        upload.bytes = upload.bytes.max(durable);
        upload.length = upload.length.or(Some(grown.bytes).filter(|bytes| *bytes < ENDLESS_BYTES));
        upload.touched_at = self.moment.now;
        self.index_more();
    }

    /// Nothing is begun before byte `upto` is there, or all are.
    pub(super) fn wait_for(&mut self, upto: u64) {
        match &self.asset.stage {
            Stage::Uploading => self.asset.upload.wants = upto,
            Stage::Queued { .. }
            | Stage::Indexing { .. }
            | Stage::Processing { .. }
            | Stage::Ready { .. }
            | Stage::Failed { .. }
            | Stage::Deleted { .. } => {}
        }
    }

    /// The index was asked for too early.
    pub(super) fn index_waits(&mut self, epoch: u32, upto: u64) {
        let receiving = self.asset.is_receiving();
        match &self.asset.stage {
            Stage::Indexing { source, attempt, .. } if attempt.epoch == epoch => {
                // Where it is again and again a little more, half as much again is waited for: tries stay few.
                let (again, durable) = (self.asset.fence > 0, self.asset.upload.durable);
                let upto = if again { upto.max(durable.saturating_add(durable / 2)) } else { upto };
                self.asset.fence = epoch;
                if receiving {
                    self.asset.stage = Stage::Uploading;
                    self.wait_for(upto);
                    // It may have come meanwhile.
                    self.effects.push(Effect::CheckUpload);
                } else {
                    self.asset.stage = Stage::Queued { source: *source };
                }
            }
            Stage::Processing { .. } => self.growth_waits(epoch, upto),
            Stage::Indexing { .. }
            | Stage::Uploading
            | Stage::Queued { .. }
            | Stage::Ready { .. }
            | Stage::Failed { .. }
            | Stage::Deleted { .. } => {}
        }
    }

    /// What came so far is void: what was made of it is taken back, and its tasks count no more.
    pub(super) fn start_over(&mut self) {
        if !self.asset.is_receiving() {
            return;
        }
        let upload = &mut self.asset.upload;
        (upload.bytes, upload.durable, upload.wants) = (0, 0, 0);
        upload.touched_at = self.moment.now;
        // Who has looked at the bytes before must not tell of them now.
        self.asset.fence_off();
        if self.asset.stage != Stage::Uploading {
            self.asset.stage = Stage::Uploading;
            self.asset.timings.playable_at = None;
            self.effects.push(Effect::Retract);
        }
    }

    pub(super) fn upload_complete(&mut self, source: SourceRef) {
        if !self.asset.is_receiving() {
            return;
        }
        if source.bytes == 0 {
            let reason = "The upload holds no bytes.".to_owned();
            return self.fail(Failure { code: FailureCode::Empty, reason });
        }
        self.received(source);
        match &mut self.asset.stage {
            Stage::Uploading => self.asset.stage = Stage::Queued { source },
            Stage::Queued { source: known } | Stage::Indexing { source: known, .. } => *known = source,
            Stage::Processing { source: known, job } => {
                *known = source;
                job.released = None;
            }
            Stage::Ready { .. } | Stage::Failed { .. } | Stage::Deleted { .. } => {}
        }
        self.index_the_rest();
    }

    /// Everything is there already: nothing is queued, and all ends at once.
    pub(super) fn reused(&mut self, source: SourceRef, twin: Twin) {
        if self.asset.stage != Stage::Uploading {
            return;
        }
        let now = self.moment.now;
        self.received(source);
        let Asset { timings, .. } = &mut self.asset;
        (timings.playable_at, timings.completed_at) = (Some(now), Some(now));
        self.asset.facts = twin.facts;
        self.asset.renditions = twin.renditions;
        self.asset.stage = Stage::Ready { source, recipe: twin.recipe, closed: false };
        if !self.asset.captions.is_empty() {
            // They may have come since its playlists were written.
            self.effects.push(Effect::RenderCaptions);
        }
        self.owe(Occasion::Playable);
        self.owe(Occasion::Ready);
    }

    fn received(&mut self, source: SourceRef) {
        let Asset { upload, timings, .. } = &mut self.asset;
        (upload.bytes, upload.durable, upload.length) = (source.bytes, source.bytes, Some(source.bytes));
        upload.touched_at = self.moment.now;
        timings.received_at = Some(self.moment.now);
    }

    /// Ends an upload that does not go on, and asks after one that may have.
    pub(super) fn look_after_upload(&mut self) {
        if !self.asset.is_receiving() {
            return;
        }
        let idle = self.moment.now.duration_since(self.asset.upload.touched_at);
        match self.asset.upload.arrival {
            Arrival::Whole if idle > WHOLE_UPLOAD_LOST_AFTER => self.fail(incomplete("The upload was cut.")),
            Arrival::Resumable { .. } | Arrival::Pulled { .. } if idle > UPLOAD_EXPIRES_AFTER => {
                self.fail(incomplete("The upload was not continued in time."));
            }
            Arrival::Resumable { .. } if idle > RESUMABLE_UPLOAD_CHECK_AFTER => {
                self.effects.push(Effect::CheckUpload);
            }
            Arrival::Whole | Arrival::Resumable { .. } | Arrival::Pulled { .. } => {}
        }
    }
}

fn incomplete(reason: &str) -> Failure {
    Failure { code: FailureCode::Incomplete, reason: reason.to_owned() }
}

#[cfg(test)]
mod tests {
    use reelmill_media::ids::{AssetId, BlobHash};
    use reelmill_media::task::TaskNumber;

    use super::super::words::{Input, Moment};
    use super::super::{StageName, handle};
    use super::*;

    fn source(durable: u64) -> SourceRef {
        SourceRef { blocks: BlobHash::of(&durable.to_le_bytes()), bytes: 100 }
    }

    fn grown(durable: u64, released: u32) -> Input {
        Input::Grown { source: source(durable), durable, released, fence: 0 }
    }

    fn new() -> Asset {
        let now = Timestamp::from_second(1_700_000_000).unwrap();
        let id = AssetId::from_parts(1, 1);
        Asset::new(id, "demo".parse().unwrap(), None, Some(100), Arrival::Whole, now)
    }

    fn after(asset: Asset, inputs: impl IntoIterator<Item = Input>) -> (Asset, Vec<Effect>) {
        let now = Timestamp::from_second(1_700_000_001).unwrap();
        let moment = Moment { now, retry_after: SignedDuration::from_secs(1), webhook: false };
        let mut effects = Vec::new();
        let asset = inputs.into_iter().fold(asset, |asset, input| {
            let next = handle(asset, moment, input);
            effects.extend(next.effects);
            next.asset
        });
        (asset, effects)
    }

    fn source_of(asset: &Asset) -> Option<SourceRef> {
        match &asset.stage {
            Stage::Queued { source } | Stage::Indexing { source, .. } | Stage::Processing { source, .. } => {
                Some(*source)
            }
            Stage::Uploading | Stage::Ready { .. } | Stage::Failed { .. } | Stage::Deleted { .. } => None,
        }
    }

    #[test]
    fn growth_is_heard_in_any_order_and_less_than_before_never() {
        let (one_way, _) = after(new(), [grown(10, 0), grown(30, 0), grown(20, 0)]);
        let (other_way, _) = after(new(), [grown(20, 0), grown(10, 0), grown(30, 0), grown(30, 0)]);
        assert_eq!(one_way, other_way);
        assert_eq!((source_of(&one_way), one_way.upload.durable), (Some(source(30)), 30));
        let whole = Input::UploadComplete { source: source(100) };
        let (asset, _) = after(one_way, [whole, grown(40, 0)]);
        assert_eq!(source_of(&asset), Some(source(100)));
        assert!(!asset.is_receiving());
    }

    #[test]
    fn an_index_of_a_part_never_fails_the_asset() {
        let hand_out = || Input::HandOut { upto: TaskNumber::INDEX };
        let lost = |epoch| Input::TaskLost { number: TaskNumber::INDEX, epoch };
        let (asset, _) = after(new(), [grown(10, 0), hand_out(), lost(1)]);
        assert_eq!((asset.stage.name(), asset.upload.wants), (StageName::Uploading, u64::MAX));
        // The last byte comes while the first try is still out.
        let whole = Input::UploadComplete { source: source(100) };
        let (asset, _) = after(new(), [grown(10, 0), hand_out(), whole, lost(1)]);
        assert_eq!(asset.stage, Stage::Queued { source: source(100) });
        let (asset, effects) = after(asset, [hand_out()]);
        assert_eq!(effects, [Effect::PublishTask { number: TaskNumber::INDEX, epoch: 2 }]);
        // What the first says again is late; the second speaks of the whole.
        let (asset, _) = after(asset, [lost(1)]);
        assert_eq!(asset.stage.name(), StageName::Indexing);
        let Stage::Indexing { partial: false, .. } = asset.stage else { panic!("{asset:?}") };
    }

    #[test]
    fn an_index_that_always_wants_a_little_more_is_tried_few_times() {
        let (mut asset, mut tries) = (new(), 0);
        for durable in 1..100 {
            if durable >= asset.upload.wants {
                let hand_out = Input::HandOut { upto: TaskNumber::INDEX };
                let fence = asset.fence;
                asset = after(
                    asset,
                    [Input::Grown { source: source(durable), durable, released: 0, fence }, hand_out],
                )
                .0;
                tries += 1;
                let waits = Input::IndexWaits { epoch: tries, upto: durable + 1 };
                asset = after(asset, [waits.clone(), waits]).0;
            }
        }
        assert!((8..14).contains(&tries), "{tries}");
    }

    #[test]
    fn other_bytes_than_before_are_made_anew_by_attempts_that_nobody_can_mistake() {
        let hand_out = || Input::HandOut { upto: TaskNumber::INDEX };
        let (asset, effects) = after(new(), [grown(10, 0), hand_out(), Input::StartOver]);
        assert_eq!(effects.last(), Some(&Effect::Retract));
        assert_eq!((asset.stage.name(), asset.upload.bytes), (StageName::Uploading, 0));
        let late = after(asset.clone(), [grown(20, 0)]).0;
        assert_eq!(late, asset, "of the bytes before");
        let growth = Input::Grown { source: source(5), durable: 5, released: 0, fence: asset.fence };
        let (asset, effects) = after(asset, [growth, hand_out()]);
        let [Effect::PublishTask { epoch, .. }] = effects[..] else { panic!("{effects:?}") };
        assert!(epoch > asset.fence && asset.fence > 0);
        assert_eq!(source_of(&asset), Some(source(5)));
        // Nothing was begun: nothing has to be taken back.
        assert_eq!(after(new(), [Input::StartOver]).1, []);
    }
}
