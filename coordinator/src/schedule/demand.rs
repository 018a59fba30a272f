//! What an asset's record says of the work that is left.

use reelmill_media::ids::TenantId;
use reelmill_media::task::{Class, TaskNumber};

use super::PerClass;
use crate::state::{Asset, Attempt, Job, MAX_IN_FLIGHT, Stage};

/// Estimated cost of indexing, in milliseconds of one core.
pub const INDEX_COST_MS: u64 = 50;

/// Where so many failed attempts wait, the fault is not the tasks': no more of them are begun.
const MANY_WAITING: usize = 16;

/// The work of one asset. Urgent tasks come first in every plan.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Demand {
    /// Who pays.
    pub tenant: TenantId,
    /// The first task that was not handed out.
    pub next: TaskNumber,
    /// The first task that is not urgent.
    pub ordinary: TaskNumber,
    /// One more than the last task that may be handed out.
    pub end: TaskNumber,
    /// Tasks that may be handed out more, for the record's sake.
    pub room: u32,
    /// Tasks in the queues or in work.
    pub out: PerClass<usize>,
    /// Mean cost of a task, in milliseconds of one core.
    pub mean_ms: PerClass<u64>,
    /// Work left, in milliseconds of one core.
    pub backlog_ms: PerClass<u64>,
}

impl Demand {
    /// From the record; nothing where nothing is left to hand out or to wait for.
    pub fn of(asset: &Asset) -> Option<Demand> {
        let index = PerClass { publish: INDEX_COST_MS, ladder: 0 };
        let indexing = Demand {
            tenant: asset.tenant.clone(),
            next: TaskNumber::INDEX,
            ordinary: TaskNumber::planned(0),
            end: TaskNumber::planned(0),
            room: 1,
            out: PerClass::default(),
            mean_ms: index,
            backlog_ms: index,
        };
        match &asset.stage {
            Stage::Queued { .. } => Some(indexing),
            Stage::Indexing { attempt, .. } => {
                let out = PerClass { publish: usize::from(is_out(attempt)), ladder: 0 };
                Some(Demand { next: TaskNumber::planned(0), out, ..indexing })
            }
            Stage::Processing { job, .. } => Some(Demand::of_job(asset.tenant.clone(), job)),
            Stage::Uploading | Stage::Ready { .. } | Stage::Failed { .. } | Stage::Deleted { .. } => None,
        }
    }

    fn of_job(tenant: TenantId, job: &Job) -> Demand {
        let ordinary = TaskNumber::planned(job.urgent);
        let out = job.in_flight.iter().filter(|attempt| is_out(attempt));
        let waiting = job.in_flight.len() - out.clone().count();
        let room = if waiting < MANY_WAITING { MAX_IN_FLIGHT.saturating_sub(job.in_flight.len()) } else { 0 };
        let urgent_out = out.clone().filter(|attempt| attempt.number < ordinary).count();
        let mean = |cost: u64, tasks: u32| cost / u64::from(tasks.max(1));
        let mean_ms = PerClass {
            publish: mean(job.urgent_cost_ms, job.urgent),
            ladder: mean(
                job.cost_ms.saturating_sub(job.urgent_cost_ms),
                job.tasks.saturating_sub(job.urgent),
            ),
        };
        let urgent_left = (0..job.urgent).filter(|position| !job.done.contains(*position)).count() as u64;
        let left = job.cost_ms.saturating_sub(job.done_cost_ms);
        let publish = left.min(urgent_left * mean_ms.publish);
        Demand {
            tenant,
            next: TaskNumber::planned(job.next),
            ordinary,
            end: TaskNumber::planned(job.released()),
            room: room as u32,
            out: PerClass { publish: urgent_out, ladder: out.count() - urgent_out },
            mean_ms,
            backlog_ms: PerClass { publish, ladder: left - publish },
        }
    }

    /// The class of the task that comes after so many more were picked; none when that is all.
    pub(super) fn class_after(&self, picked: u32) -> Option<Class> {
        let number = TaskNumber(self.next.0.saturating_add(picked));
        if number >= self.end || picked >= self.room {
            None
        } else if number < self.ordinary {
            Some(Class::Publish)
        } else {
            Some(Class::Ladder)
        }
    }

    /// Of the next `picked` tasks, those of a class.
    pub(super) fn of_class(&self, picked: u32, class: Class) -> u32 {
        let urgent = self.ordinary.0.saturating_sub(self.next.0).min(picked);
        match class {
            Class::Publish => urgent,
            Class::Ladder => picked - urgent,
        }
    }

    /// What a task of a class costs, in milliseconds of one core.
    pub(super) fn cost_ms(&self, class: Class) -> u64 {
        *self.mean_ms.of(class)
    }
}

/// Those that wait after a failed attempt are in no queue.
fn is_out(attempt: &Attempt) -> bool {
    attempt.not_before.is_none()
}
