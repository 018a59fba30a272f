//! What workers report: that a task is done, or that an attempt at it has failed.

use reelmill_media::ids::WorkerId;
use reelmill_media::task::{Failure, FailureCode, TaskNumber, Way};

use super::attempt::MAX_ATTEMPTS;
use super::machine::Step;
use super::rendition::Encoder;
use super::stage::Stage;
use super::words::{Effect, Made};

/// So many attempts at one task may come to nothing for want of something they need: an hour or so. Then the asset fails.
pub(super) const MAX_OUTAGES: u8 = 60;

impl Step {
    pub(super) fn task_done(&mut self, number: TaskNumber, epoch: u32, worker: WorkerId, made: &Made) {
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
                rendition.bytes = rendition.bytes.saturating_add(part.bytes);
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
}
