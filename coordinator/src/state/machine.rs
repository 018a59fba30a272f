//! The rules.

use jiff::SignedDuration;
use reelmill_media::source::SourceRef;
use reelmill_media::task::{Failure, FailureCode, TaskNumber};

use super::Occasion;
use super::asset::{Arrival, Asset};
use super::attempt::Attempt;
use super::done::DoneSet;
use super::rendition::Rendition;
use super::stage::{Job, Stage};
use super::words::{Effect, Input, Moment, PlanSummary, Transition};

/// A job has at most this many tasks in flight, which bounds the record.
pub const MAX_IN_FLIGHT: usize = 512;
/// What may still be written by a coordinator that lost the race has been written by then: two of the store's deadlines.
const CLOSE_AFTER: SignedDuration = SignedDuration::from_secs(120);
/// Longer reasons are cut: they stand in a record of bounded size.
const MAX_REASON_CHARS: usize = 500;

/// Applies an input.
pub fn handle(asset: Asset, moment: Moment, input: Input) -> Transition {
    let mut step = Step { asset, moment, effects: Vec::new() };
    step.apply(input);
    Transition { asset: step.asset, effects: step.effects }
}

pub(super) struct Step {
    pub(super) asset: Asset,
    pub(super) moment: Moment,
    pub(super) effects: Vec<Effect>,
}

impl Step {
    fn apply(&mut self, input: Input) {
        match input {
            Input::UploadProgress { bytes, length } => self.upload_progress(bytes, length),
            Input::UploadComplete { source } => self.upload_complete(source),
            Input::Grown { source, durable, released, fence } => {
                if fence == self.asset.fence {
                    self.grown(source, durable, released);
                }
            }
            Input::Differs { epoch } => self.differs(epoch),
            Input::WaitFor { upto } => self.wait_for(upto),
            Input::StartOver => self.start_over(),
            Input::IndexWaits { epoch, upto } => self.index_waits(epoch, upto),
            Input::Reused { source, twin } => self.reused(source, *twin),
            Input::Republish { profile, plan } => self.republish(profile, *plan),
            Input::UploadFailed(failure) => {
                if self.asset.is_receiving() {
                    self.fail(failure);
                }
            }
            Input::HandOut { upto } => self.hand_out(upto),
            Input::Indexed { epoch, plan } => self.indexed(epoch, *plan),
            Input::TaskDone { number, epoch, worker, made } => self.task_done(number, epoch, worker, &made),
            Input::TaskFailed { number, epoch, worker, failure } => {
                self.task_failed(number, epoch, Some(worker), failure);
            }
            Input::Straggles { number, epoch, worker } => self.straggles(number, epoch, worker),
            Input::FallsSilent { number, epoch, worker } => self.falls_silent(number, epoch, worker),
            Input::Again { number } => self.repeat(number),
            Input::TaskLost { number, epoch } => {
                let reason =
                    format!("task {} was handed out again and again and never reported on", number.0);
                self.task_failed(number, epoch, None, Failure { code: FailureCode::Internal, reason });
            }
            Input::Published { playable, complete } => self.published(playable, complete),
            Input::Described(patch) => self.asset.describe(&patch),
            Input::Captioned(captions) => self.effects.extend(self.asset.take_captions(captions)),
            Input::Uncaptioned(language) => self.effects.extend(self.asset.drop_captions(&language)),
            Input::Deleted => self.delete(),
            Input::Retracted => {
                if let Stage::Deleted { retracted, .. } = &mut self.asset.stage {
                    *retracted = true;
                }
            }
            Input::Closed => match &mut self.asset.stage {
                Stage::Ready { closed, .. } | Stage::Failed { closed, .. } => *closed = true,
                Stage::Uploading
                | Stage::Queued { .. }
                | Stage::Indexing { .. }
                | Stage::Processing { .. }
                | Stage::Deleted { .. } => {}
            },
            Input::ClaimNotice => self.asset.claim_notice(self.moment.now),
            Input::NoticeTried { notice, told } => self.asset.notice_tried(&notice, told, self.moment.now),
            Input::Tick => self.tick(),
        }
    }

    /// In the plan's order. What was handed out before stays as it is, so that whoever asks for the same again, or asks
    /// late, changes nothing.
    fn hand_out(&mut self, upto: TaskNumber) {
        let (now, fence, partial) = (self.moment.now, self.asset.fence, self.asset.is_receiving());
        match &mut self.asset.stage {
            Stage::Queued { source } => {
                let attempt = Attempt::first(TaskNumber::INDEX, now).after(fence);
                attempt.publish(&mut self.effects);
                self.asset.stage = Stage::Indexing { source: *source, attempt, partial };
            }
            Stage::Processing { job, .. } => {
                while job.next < job.released()
                    && TaskNumber::planned(job.next) <= upto
                    && job.in_flight.len() < MAX_IN_FLIGHT
                {
                    let attempt = Attempt::first(TaskNumber::planned(job.next), now).after(fence);
                    attempt.publish(&mut self.effects);
                    job.next += 1;
                    job.in_flight.push(attempt);
                }
            }
            Stage::Uploading
            | Stage::Indexing { .. }
            | Stage::Ready { .. }
            | Stage::Failed { .. }
            | Stage::Deleted { .. } => {}
        }
    }

    fn indexed(&mut self, epoch: u32, plan: PlanSummary) {
        let source = match &self.asset.stage {
            Stage::Indexing { source, attempt, .. } if attempt.epoch == epoch => *source,
            Stage::Processing { .. } => return self.continue_job(epoch, plan),
            Stage::Indexing { .. } => return self.repeat(TaskNumber::INDEX),
            Stage::Uploading
            | Stage::Queued { .. }
            | Stage::Ready { .. }
            | Stage::Failed { .. }
            | Stage::Deleted { .. } => return,
        };
        self.task_ends(TaskNumber::INDEX, None);
        let growth = plan.growth;
        self.begin_job(source, plan);
        if let Some(beginning) = growth {
            self.begins_to_grow(epoch, beginning);
        }
    }

    pub(super) fn begin_job(&mut self, source: SourceRef, plan: PlanSummary) {
        self.asset.facts = Some(plan.facts);
        let begun = |planned| Rendition {
            planned,
            made: 0,
            bytes: 0,
            encoders: Vec::new(),
            codecs: None,
            concealed: 0,
            blank: 0,
        };
        self.asset.renditions = plan.renditions.into_iter().map(begun).collect();
        let receiving = self.asset.is_receiving();
        // Nobody waits for another edition of what plays.
        let (urgent, urgent_cost_ms) =
            if self.asset.standing.is_none() { (plan.urgent, plan.urgent_cost_ms) } else { (0, 0) };
        let job = Job {
            recipe: plan.recipe,
            tasks: plan.tasks,
            urgent,
            next: 0,
            released: receiving.then_some(0),
            growth: None,
            done: DoneSet::default(),
            in_flight: Vec::new(),
            cost_ms: plan.cost_ms,
            urgent_cost_ms,
            done_cost_ms: 0,
        };
        self.asset.stage = Stage::Processing { source, job };
        if receiving {
            // Only the upload knows what may begin.
            self.effects.push(Effect::CheckUpload);
        }
    }

    fn published(&mut self, playable: bool, complete: bool) {
        let Stage::Processing { source, job } = &self.asset.stage else { return };
        let all = complete && job.is_done() && !self.asset.is_receiving();
        let ready = all.then_some(Stage::Ready { source: *source, recipe: job.recipe, closed: false });
        if playable && self.asset.timings.playable_at.is_none() {
            self.asset.timings.playable_at = Some(self.moment.now);
            self.owe(Occasion::Playable);
        }
        if let Some(ready) = ready {
            self.asset.timings.completed_at = Some(self.moment.now);
            self.asset.stage = ready;
            let was_standing = self.asset.standing.take();
            self.owe(was_standing.map_or(Occasion::Ready, |_| Occasion::Republished));
        }
    }

    fn tick(&mut self) {
        if !self.moment.webhook {
            self.asset.notices.clear();
        }
        let now = self.moment.now;
        self.look_after_upload();
        match &mut self.asset.stage {
            // Of a job that was given up.
            Stage::Uploading | Stage::Queued { .. } if !self.asset.renditions.is_empty() => {
                self.effects.push(Effect::Retract);
            }
            Stage::Uploading | Stage::Queued { .. } => {}
            Stage::Indexing { attempt, .. } => attempt.look_after(now, &mut self.effects),
            Stage::Processing { job, .. } => {
                for attempt in &mut job.in_flight {
                    attempt.look_after(now, &mut self.effects);
                }
                if job.done.len() == job.tasks {
                    self.effects.push(Effect::RenderPlaylists);
                }
            }
            Stage::Ready { closed, .. } | Stage::Failed { closed, .. } => {
                let ended = self.asset.timings.completed_at.unwrap_or(self.asset.created_at);
                if !*closed && now.duration_since(ended) > CLOSE_AFTER {
                    self.effects.push(Effect::Close);
                }
            }
            Stage::Deleted { at, retracted } => {
                if now.duration_since(*at) > CLOSE_AFTER {
                    self.effects.push(Effect::Forget);
                } else if !*retracted {
                    self.effects.push(Effect::Retract);
                }
            }
        }
    }

    pub(super) fn fail(&mut self, failure: Failure) {
        let had_tasks = !self.asset.in_flight().is_empty() || !self.asset.renditions.is_empty();
        let reason = failure.reason.chars().take(MAX_REASON_CHARS).collect();
        let failure = Failure { code: failure.code, reason };
        self.asset.timings.completed_at = Some(self.moment.now);
        if let Some((source, standing)) = self.asset.stage.source().zip(self.asset.standing.take()) {
            return self.abandon(source, standing, failure);
        }
        let closed = !had_tasks && self.asset.upload.arrival == Arrival::Whole;
        self.asset.stage = Stage::Failed { failure, closed };
        self.owe(Occasion::Failed);
        if had_tasks {
            self.effects.push(Effect::Retract);
        }
    }

    pub(super) fn owe(&mut self, occasion: Occasion) {
        if self.moment.webhook {
            let edition = match occasion {
                Occasion::RepublishFailed => self.asset.abandoned.as_ref().map(|abandoned| abandoned.edition),
                Occasion::Playable | Occasion::Ready | Occasion::Failed | Occasion::Republished => None,
            };
            self.asset.owe(occasion, edition.unwrap_or(self.asset.edition), self.moment.now);
        }
    }

    /// The record stays until nobody can still be writing what must go.
    fn delete(&mut self) {
        if !matches!(self.asset.stage, Stage::Deleted { .. }) {
            self.asset.stage = Stage::Deleted { at: self.moment.now, retracted: false };
            self.asset.notices.clear();
        }
        self.effects.push(Effect::Retract);
    }
}
