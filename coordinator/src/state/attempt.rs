//! An attempt's way: into its queue, out of it in vain, and in again.

use jiff::{SignedDuration, Timestamp};
use reelmill_media::ids::{AssetId, BlobHash, WorkerId};
use reelmill_media::task::{FailureCode, TaskNumber, Way};
use serde::{Deserialize, Serialize};

use super::words::Effect;

/// A task that nobody reported on for so long is put in the queue again; it refuses what it still has.
pub(super) const REPUBLISH_AFTER: SignedDuration = SignedDuration::from_secs(60);
/// An attempt without an end for so long is given up: its message may be stuck. Costs no attempt, since it may as well
/// have waited for a worker all that time.
pub(super) const STALLED_AFTER: SignedDuration = SignedDuration::from_secs(3600);
/// A task that fails so often fails its asset.
pub(super) const MAX_ATTEMPTS: u8 = 5;
/// Pauses grow so often.
const LONGEST_PAUSE: u8 = 3;

/// The present attempt at a task.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attempt {
    /// Which task.
    pub number: TaskNumber,
    /// Which attempt: reports of another one are late.
    pub epoch: u32,
    /// Attempts at this task that have failed.
    pub failures: u8,
    /// Attempts that came to nothing because something they needed was not there. They cost nothing but time.
    #[serde(default)]
    pub outages: u8,
    /// How it is gone about.
    #[serde(default)]
    pub way: Way,
    /// Workers that have failed at this task.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub failed_by: Vec<WorkerId>,
    /// It takes this worker too long, so that the same attempt was given to another as well.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub raced: Option<WorkerId>,
    /// Workers that were at this attempt and are not heard of any more.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub silent: Vec<WorkerId>,
    /// It waits in no queue before this: the attempt before it has failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[serde(with = "jiff::fmt::serde::timestamp::millisecond::optional")]
    pub not_before: Option<Timestamp>,
    /// When this attempt began.
    #[serde(with = "jiff::fmt::serde::timestamp::millisecond::required")]
    pub opened_at: Timestamp,
    /// When it was last put in the queue.
    #[serde(with = "jiff::fmt::serde::timestamp::millisecond::required")]
    pub published_at: Timestamp,
}

impl Attempt {
    /// The first attempt at a task.
    pub(super) const fn first(number: TaskNumber, now: Timestamp) -> Attempt {
        Attempt {
            number,
            epoch: 1,
            failures: 0,
            outages: 0,
            way: Way::Any,
            failed_by: Vec::new(),
            raced: None,
            silent: Vec::new(),
            not_before: None,
            opened_at: now,
            published_at: now,
        }
    }

    /// Notes that it failed, and says how the next one goes about it: by another worker, then in software, and at last
    /// without decoding, which is worth it only where the rest `shows_something`. What two workers call corrupt need not
    /// be tried in software.
    pub(super) fn fell(&mut self, worker: Option<WorkerId>, code: FailureCode, shows_something: bool) {
        self.failures += 1;
        self.failed_by.extend(worker.filter(|worker| !self.failed_by.contains(worker)));
        let last = self.failures + 1 >= MAX_ATTEMPTS || (code == FailureCode::Corrupt && self.failures > 1);
        self.way = match self.number.position() {
            None => Way::Any,
            Some(_) if last && shows_something => Way::Concealed,
            Some(_) if self.failures > 1 => Way::Software,
            Some(_) => Way::Any,
        };
    }

    /// The next attempt at the same task.
    pub(super) fn renew(&mut self, now: Timestamp) {
        self.epoch = self.epoch.saturating_add(1);
        self.raced = None;
        self.silent.clear();
        self.opened_at = now;
        self.published_at = now;
    }

    /// Puts it in its queue, unless it must wait: then time does so. What silenced a worker is another's only.
    pub(super) fn publish(&self, effects: &mut Vec<Effect>) {
        if self.not_before.is_none() && self.silent.is_empty() {
            effects.push(Effect::PublishTask { number: self.number, epoch: self.epoch });
        }
        if self.raced.is_some() {
            effects.push(Effect::RaceTask { number: self.number, epoch: self.epoch });
        }
    }

    pub(super) fn look_after(&mut self, now: Timestamp, effects: &mut Vec<Effect>) {
        if let Some(not_before) = self.not_before {
            if now < not_before {
                return;
            }
            self.not_before = None;
            self.opened_at = now;
            self.published_at = now;
        } else if now.duration_since(self.opened_at) > STALLED_AFTER {
            effects.push(Effect::WithdrawTask { number: self.number });
            self.renew(now);
        } else if now.duration_since(self.published_at) > REPUBLISH_AFTER {
            self.published_at = now;
        } else {
            return;
        }
        self.publish(effects);
    }

    /// How long it waits after failed ones: four times as long each time up to 64 times, a quarter more or less, so that
    /// tasks which failed together do not come back together. The same attempt waits the same time whoever asks.
    pub(super) fn pause(&self, asset: AssetId, first: SignedDuration) -> SignedDuration {
        let name = BlobHash::of(format!("{asset}.{}.{}", self.number.0, self.epoch).as_bytes());
        let percent = 75 + name.digest().iter().map(|byte| i32::from(*byte)).sum::<i32>() % 51;
        let before = self.failures.saturating_add(self.outages).saturating_sub(1);
        let longer = 4i32.pow(u32::from(before.min(LONGEST_PAUSE)));
        first.saturating_mul(longer).saturating_mul(percent) / 100
    }
}
