//! The rules.

use jiff::SignedDuration;
use reelmill_media::source::SourceRef;
use reelmill_media::task::{Failure, FailureCode, TaskNumber};

use super::Occasion;
use super::asset::{Arrival, Asset, Attempt, Encoder, Job, Rendition, Stage};
use super::done::DoneSet;
use super::words::{Effect, Input, Made, Moment, PlanSummary, Transition, Twin};

/// A task that fails so often fails its asset.
pub(super) const MAX_ATTEMPTS: u8 = 5;
/// A job has at most this many tasks in flight, which bounds the record.
pub const MAX_IN_FLIGHT: usize = 512;
/// An upload in one request without a byte for so long has lost its coordinator: idle bodies are cut much earlier.
const WHOLE_UPLOAD_LOST_AFTER: SignedDuration = SignedDuration::from_secs(180);
/// A resumable upload without a byte for so long may be complete without anybody knowing.
const RESUMABLE_UPLOAD_CHECK_AFTER: SignedDuration = SignedDuration::from_secs(30);
/// A resumable upload is given up after so long without a byte.
pub const UPLOAD_EXPIRES_AFTER: SignedDuration = SignedDuration::from_hours(72);
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

struct Step {
    asset: Asset,
    moment: Moment,
    effects: Vec<Effect>,
}

impl Step {
    fn apply(&mut self, input: Input) {
        match input {
            Input::UploadProgress { bytes, length } => self.upload_progress(bytes, length),
            Input::UploadComplete { source } => self.upload_complete(source),
            Input::Reused { source, twin } => self.reused(source, *twin),
            Input::UploadFailed(failure) => {
                if self.asset.stage == Stage::Uploading {
                    self.fail(failure);
                }
            }
            Input::HandOut { upto } => self.hand_out(upto),
            Input::Indexed { epoch, plan } => self.indexed(epoch, *plan),
            Input::TaskDone { number, epoch, made } => self.task_done(number, epoch, &made),
            Input::TaskFailed { number, epoch, failure } => self.task_failed(number, epoch, failure),
            Input::Again { number } => self.repeat(number),
            Input::TaskLost { number, epoch } => {
                let reason =
                    format!("task {} was handed out again and again and never reported on", number.0);
                self.task_failed(number, epoch, Failure { code: FailureCode::Internal, reason });
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
            Input::NoticeTried { occasion, tries, told } => {
                self.asset.notice_tried(occasion, tries, told, self.moment.now);
            }
            Input::Tick => self.tick(),
        }
    }

    fn upload_progress(&mut self, bytes: u64, length: Option<u64>) {
        if self.asset.stage != Stage::Uploading {
            return;
        }
        let upload = &mut self.asset.upload;
        upload.bytes = upload.bytes.max(bytes);
        upload.length = upload.length.or(length);
        upload.touched_at = self.moment.now;
    }

    fn upload_complete(&mut self, source: SourceRef) {
        match &self.asset.stage {
            Stage::Uploading if source.bytes == 0 => {
                self.fail(Failure {
                    code: FailureCode::Empty,
                    reason: "The upload holds no bytes.".to_owned(),
                });
            }
            Stage::Uploading => {
                let upload = &mut self.asset.upload;
                upload.bytes = source.bytes;
                upload.length = Some(source.bytes);
                upload.touched_at = self.moment.now;
                self.asset.timings.received_at = Some(self.moment.now);
                self.asset.stage = Stage::Queued { source };
            }
            Stage::Queued { .. }
            | Stage::Indexing { .. }
            | Stage::Processing { .. }
            | Stage::Ready { .. }
            | Stage::Failed { .. }
            | Stage::Deleted { .. } => {}
        }
    }

    /// Everything is there already: nothing is queued, and all ends at once.
    fn reused(&mut self, source: SourceRef, twin: Twin) {
        if self.asset.stage != Stage::Uploading {
            return;
        }
        let now = self.moment.now;
        let Asset { upload, timings, .. } = &mut self.asset;
        (upload.bytes, upload.length, upload.touched_at) = (source.bytes, Some(source.bytes), now);
        (timings.received_at, timings.playable_at, timings.completed_at) = (Some(now), Some(now), Some(now));
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

    /// In the plan's order. What was handed out before stays as it is, so that whoever asks for the same again, or asks
    /// late, changes nothing.
    fn hand_out(&mut self, upto: TaskNumber) {
        let now = self.moment.now;
        match &mut self.asset.stage {
            Stage::Queued { source } => {
                let attempt = Attempt::first(TaskNumber::INDEX, now);
                attempt.publish(&mut self.effects);
                self.asset.stage = Stage::Indexing { source: *source, attempt };
            }
            Stage::Processing { job, .. } => {
                while job.next < job.tasks
                    && TaskNumber::planned(job.next) <= upto
                    && job.in_flight.len() < MAX_IN_FLIGHT
                {
                    let attempt = Attempt::first(TaskNumber::planned(job.next), now);
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
            Stage::Indexing { source, attempt } if attempt.epoch == epoch => *source,
            Stage::Indexing { .. } | Stage::Processing { .. } => return self.repeat(TaskNumber::INDEX),
            Stage::Uploading
            | Stage::Queued { .. }
            | Stage::Ready { .. }
            | Stage::Failed { .. }
            | Stage::Deleted { .. } => return,
        };
        self.asset.facts = Some(plan.facts);
        let begun =
            |planned| Rendition { planned, made: 0, encoders: Vec::new(), codecs: None, concealed: 0 };
        self.asset.renditions = plan.renditions.into_iter().map(begun).collect();
        let job = Job {
            recipe: plan.recipe,
            tasks: plan.tasks,
            urgent: plan.urgent,
            next: 0,
            done: DoneSet::default(),
            in_flight: Vec::new(),
            cost_ms: plan.cost_ms,
            urgent_cost_ms: plan.urgent_cost_ms,
            done_cost_ms: 0,
        };
        self.asset.stage = Stage::Processing { source, job };
    }

    fn task_done(&mut self, number: TaskNumber, epoch: u32, made: &Made) {
        if self.asset.epoch(number) != Some(epoch) {
            return self.repeat(number);
        }
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
            return self.task_failed(number, epoch, Failure { code: FailureCode::Internal, reason });
        }
        for part in &made.parts {
            for rendition in renditions.iter_mut().filter(|r| r.planned.id == part.rendition) {
                rendition.made = rendition.made.saturating_add(part.segments);
                if !rendition.encoders.iter().any(|known| known.name == part.encoder) {
                    rendition.encoders.push(Encoder { name: part.encoder.clone(), init: part.init });
                }
                rendition.concealed = rendition.concealed.saturating_add(part.concealed);
                rendition.codecs.get_or_insert_with(|| part.codecs.clone());
            }
        }
        job.done.insert(position);
        job.done_cost_ms = job.done_cost_ms.saturating_add(made.cost_ms);
        job.in_flight.retain(|attempt| attempt.number != number);
        self.effects.push(Effect::RenderPlaylists);
    }

    fn task_failed(&mut self, number: TaskNumber, epoch: u32, failure: Failure) {
        if self.asset.epoch(number) != Some(epoch) {
            return self.repeat(number);
        }
        let now = self.moment.now;
        let attempt = match &mut self.asset.stage {
            Stage::Indexing { attempt, .. } => attempt,
            Stage::Processing { job, .. } => {
                let Some(attempt) = job.in_flight.iter_mut().find(|a| a.number == number) else { return };
                attempt
            }
            Stage::Uploading
            | Stage::Queued { .. }
            | Stage::Ready { .. }
            | Stage::Failed { .. }
            | Stage::Deleted { .. } => return,
        };
        attempt.failures += 1;
        if !failure.code.is_retryable() || attempt.failures >= MAX_ATTEMPTS {
            return self.fail(failure);
        }
        attempt.renew(now);
        attempt.not_before = Some(now + attempt.pause(self.asset.id, self.moment.retry_after));
    }

    fn published(&mut self, playable: bool, complete: bool) {
        let Stage::Processing { source, job } = &self.asset.stage else { return };
        let ready = (complete && job.done.len() == job.tasks).then_some(Stage::Ready {
            source: *source,
            recipe: job.recipe,
            closed: false,
        });
        if playable && self.asset.timings.playable_at.is_none() {
            self.asset.timings.playable_at = Some(self.moment.now);
            self.owe(Occasion::Playable);
        }
        if let Some(ready) = ready {
            self.asset.timings.completed_at = Some(self.moment.now);
            self.asset.stage = ready;
            self.owe(Occasion::Ready);
        }
    }

    fn tick(&mut self) {
        if !self.moment.webhook {
            self.asset.notices.clear();
        }
        let now = self.moment.now;
        let upload = &self.asset.upload;
        let idle = now.duration_since(upload.touched_at);
        match &mut self.asset.stage {
            Stage::Uploading => match upload.arrival {
                Arrival::Whole if idle > WHOLE_UPLOAD_LOST_AFTER => {
                    self.fail(incomplete("The upload was cut."));
                }
                Arrival::Resumable { .. } | Arrival::Pulled { .. } if idle > UPLOAD_EXPIRES_AFTER => {
                    self.fail(incomplete("The upload was not continued in time."));
                }
                Arrival::Resumable { .. } if idle > RESUMABLE_UPLOAD_CHECK_AFTER => {
                    self.effects.push(Effect::CheckUpload);
                }
                Arrival::Whole | Arrival::Resumable { .. } | Arrival::Pulled { .. } => {}
            },
            Stage::Queued { .. } => {}
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
    fn repeat(&mut self, number: TaskNumber) {
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

    fn fail(&mut self, failure: Failure) {
        let had_tasks = !self.asset.in_flight().is_empty();
        let reason = failure.reason.chars().take(MAX_REASON_CHARS).collect();
        let failure = Failure { code: failure.code, reason };
        self.asset.timings.completed_at = Some(self.moment.now);
        let closed = !had_tasks && self.asset.upload.arrival == Arrival::Whole;
        self.asset.stage = Stage::Failed { failure, closed };
        self.owe(Occasion::Failed);
        if had_tasks {
            self.effects.push(Effect::Retract);
        }
    }

    fn owe(&mut self, occasion: Occasion) {
        if self.moment.webhook {
            self.asset.owe(occasion, self.moment.now);
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

fn incomplete(reason: &str) -> Failure {
    Failure { code: FailureCode::Incomplete, reason: reason.to_owned() }
}
