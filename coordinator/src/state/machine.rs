//! The rules.

use jiff::SignedDuration;
use reelmill_media::ids::WorkerId;
use reelmill_media::source::SourceRef;
use reelmill_media::task::{Failure, FailureCode, TaskNumber, Way};

use super::Occasion;
use super::asset::{Arrival, Asset};
use super::attempt::{Attempt, MAX_ATTEMPTS};
use super::done::DoneSet;
use super::rendition::{Encoder, Rendition};
use super::stage::{Job, Stage};
use super::words::{Effect, Input, Made, Moment, PlanSummary, Transition};

/// So many attempts at one task may come to nothing for want of something they need: an hour or so. Then the asset fails.
pub(super) const MAX_OUTAGES: u8 = 60;
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

    fn task_done(&mut self, number: TaskNumber, epoch: u32, worker: WorkerId, made: &Made) {
        let Some(attempt) = self.asset.attempt(number).filter(|attempt| attempt.epoch == epoch) else {
            return self.repeat(number);
        };
        let blank = attempt.way == Way::Concealed;
        let (Stage::Processing { job, .. }, Some(position)) = (&mut self.asset.stage, number.position())
        else {
            return;
        };
        let renditions = &mut self.asset.renditions;
        let stranger = made.parts.iter().find(|part| {
            let known = renditions.iter().find(|r| r.planned.id == part.rendition);
            known.is_none_or(|r| !r.fits(&part.encoder, part.init))
        });
        if let Some(part) = stranger {
            let reason = format!("task {} gave rendition {} another init segment", number.0, part.rendition);
            let failure = Failure { code: FailureCode::Internal, reason };
            return self.task_failed(number, epoch, Some(worker), failure);
        }
        for part in &made.parts {
            for rendition in renditions.iter_mut().filter(|r| r.planned.id == part.rendition) {
                rendition.made = rendition.made.saturating_add(part.segments);
                if !rendition.encoders.iter().any(|known| known.name == part.encoder) {
                    rendition.encoders.push(Encoder { name: part.encoder.clone(), init: part.init });
                }
                rendition.concealed = rendition.concealed.saturating_add(part.concealed);
                if blank {
                    rendition.blank = rendition.blank.saturating_add(part.segments);
                }
                rendition.codecs.get_or_insert_with(|| part.codecs.clone());
            }
        }
        job.done.insert(position);
        job.done_cost_ms = job.done_cost_ms.saturating_add(made.cost_ms);
        self.task_ends(number, Some(worker));
        if let Stage::Processing { job, .. } = &mut self.asset.stage {
            job.in_flight.retain(|attempt| attempt.number != number);
        }
        self.effects.push(Effect::RenderPlaylists);
    }

    /// What follows from the end of a task, apart from what it made.
    pub(super) fn task_ends(&mut self, number: TaskNumber, by: Option<WorkerId>) {
        let Some(attempt) = self.asset.attempt(number) else { return };
        if attempt.raced.is_some() {
            self.effects.push(Effect::WithdrawTask { number });
        }
        // In another way it may have gone well with any of them.
        if attempt.way == Way::Any {
            let failed = attempt.failed_by.iter().filter(|worker| Some(**worker) != by);
            self.effects.extend(failed.map(|worker| Effect::Blame { worker: *worker, number }));
        }
    }

    /// What cannot be shown of it may be left out.
    pub(super) fn shows_something(&self) -> bool {
        self.asset.shows_something() && self.asset.may_conceal()
    }

    pub(super) fn task_failed(
        &mut self,
        number: TaskNumber,
        epoch: u32,
        worker: Option<WorkerId>,
        failure: Failure,
    ) {
        if self.asset.epoch(number) != Some(epoch) {
            return self.repeat(number);
        }
        if let Stage::Indexing { partial: true, .. } = &self.asset.stage {
            // What cannot be read of a part says nothing of the whole.
            return self.index_waits(epoch, u64::MAX);
        }
        if number == TaskNumber::INDEX && self.asset.is_receiving() {
            return self.growth_waits(epoch, 0);
        }
        let now = self.moment.now;
        let shows_something = self.shows_something();
        let (attempt, hopeless) = match &mut self.asset.stage {
            Stage::Indexing { attempt, .. } => (attempt, true),
            Stage::Processing { job, .. } => {
                // Corrupt here may be corrupt everywhere: then nobody is kept waiting.
                let all_begun = job.growth.is_none() && job.next == job.tasks;
                let everywhere = all_begun && job.in_flight.iter().all(|a| a.failures > 0);
                let Some(attempt) = job.in_flight.iter_mut().find(|a| a.number == number) else { return };
                (attempt, everywhere && !shows_something)
            }
            Stage::Uploading
            | Stage::Queued { .. }
            | Stage::Ready { .. }
            | Stage::Failed { .. }
            | Stage::Deleted { .. } => return,
        };
        let raced = attempt.raced.is_some();
        let given_up = match failure.code {
            FailureCode::Unavailable => {
                attempt.outages = attempt.outages.saturating_add(1);
                attempt.outages > MAX_OUTAGES
            }
            FailureCode::Corrupt if !hopeless => {
                attempt.fell(worker, failure.code, shows_something);
                attempt.failures >= MAX_ATTEMPTS
            }
            code => {
                attempt.fell(worker, code, shows_something);
                !code.is_retryable() || attempt.failures >= MAX_ATTEMPTS
            }
        };
        if given_up {
            return self.fail(failure);
        }
        attempt.renew(now);
        attempt.not_before = Some(now + attempt.pause(self.asset.id, self.moment.retry_after));
        if raced {
            self.effects.push(Effect::WithdrawTask { number });
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

    /// The same report again: whoever applied it may have died before its effects.
    pub(super) fn repeat(&mut self, number: TaskNumber) {
        match &self.asset.stage {
            Stage::Processing { job, .. } if number.position().is_some_and(|p| job.done.contains(p)) => {
                self.effects.push(Effect::RenderPlaylists);
            }
            Stage::Failed { closed: false, .. } | Stage::Deleted { .. } => self.effects.push(Effect::Retract),
            Stage::Uploading
            | Stage::Queued { .. }
            | Stage::Indexing { .. }
            | Stage::Processing { .. }
            | Stage::Ready { .. }
            | Stage::Failed { closed: true, .. } => {}
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
