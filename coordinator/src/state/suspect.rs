//! Attempts whose worker is late, or is not heard of any more: others do the same beside it. A worker that falls silent has
//! probably died, and perhaps of its task: what has silenced all that were at it counts as so many failed attempts, so that
//! no task ever takes more workers with it than it may have attempts.

use reelmill_media::ids::WorkerId;
use reelmill_media::task::{Failure, FailureCode, TaskNumber};

use super::attempt::{Attempt, MAX_ATTEMPTS};
use super::machine::Step;
use super::stage::Stage;
use super::words::Effect;

impl Step {
    /// Raced once per attempt: what takes two workers long takes long.
    pub(super) fn straggles(&mut self, number: TaskNumber, epoch: u32, worker: WorkerId) {
        if let Some(attempt) = self.at_work(number, epoch).filter(|attempt| attempt.raced.is_none()) {
            attempt.raced = Some(worker);
            self.effects.push(Effect::RaceTask { number, epoch });
        }
    }

    pub(super) fn falls_silent(&mut self, number: TaskNumber, epoch: u32, worker: WorkerId) {
        let shows_something = self.shows_something();
        let Some(attempt) = self.at_work(number, epoch) else { return };
        if !attempt.silent.contains(&worker) {
            attempt.silent.push(worker);
        }
        let tries = usize::from(attempt.failures) + attempt.silent.len();
        if tries < usize::from(MAX_ATTEMPTS) && attempt.raced.is_none() {
            // The queue would hand it out once more, to a third worker.
            self.effects.push(Effect::WithdrawTask { number });
            return self.straggles(number, epoch, worker);
        }
        let copies = 1 + usize::from(attempt.raced.is_some());
        if attempt.silent.len() < copies {
            return;
        }
        let silent = std::mem::take(&mut attempt.silent);
        let reason = format!("nothing was heard any more of those who were at task {}", number.0);
        let failure = Failure { code: FailureCode::Internal, reason };
        for worker in silent.iter().skip(1) {
            attempt.fell(Some(*worker), failure.code, shows_something);
        }
        self.task_failed(number, epoch, silent.first().copied(), failure);
    }

    /// This very attempt, unless it waits for its time.
    fn at_work(&mut self, number: TaskNumber, epoch: u32) -> Option<&mut Attempt> {
        let attempt = match &mut self.asset.stage {
            Stage::Indexing { attempt, .. } => Some(attempt).filter(|a| a.number == number),
            Stage::Processing { job, .. } => job.in_flight.iter_mut().find(|a| a.number == number),
            Stage::Uploading
            | Stage::Queued { .. }
            | Stage::Ready { .. }
            | Stage::Failed { .. }
            | Stage::Deleted { .. } => None,
        };
        attempt.filter(|a| a.epoch == epoch && a.not_before.is_none())
    }
}
