//! Which running tasks take much longer than they should, or are nobody's any more, from what workers say of their progress.
//!
//! One that the fleet's [pace](super::pace) leaves behind is raced where a slot is idle: another worker does the same, and the first
//! report counts. So is one of which nothing is heard any more, busy or not: its worker has probably died, perhaps of it. A worker
//! that is quiet for a moment is asked for, and one whose connection is gone is not waited for. Pure: time is an argument, in
//! milliseconds from any beginning. Nothing rests on it but time and, at most, a twentieth more work beside what the dead had begun.

use std::collections::{BTreeMap, BTreeSet};

use reelmill_media::ids::{AssetId, WorkerId};
use reelmill_media::task::{TaskNumber, TaskProgress};

use super::pace::{Course, Pace};

/// A worker of which nothing was heard for so long may be dead: it says something every 3 s, and is back 4 s after it has lost
/// its connection.
const SILENT_MS: u64 = 8000;
/// One of which nothing was heard for so long is worth a question.
const QUIET_MS: u64 = 1000;
/// Who has lost its connection together with others is back within this.
const BACK_WITHIN_MS: u64 = 5000;
/// Of all work done, one part in so many may be done twice.
const ONE_IN: u64 = 20;
/// What may be done twice to begin with, and what is saved up at most, in milliseconds of one core.
const CREDIT_MS: std::ops::RangeInclusive<u64> = 60_000..=600_000;

/// What is wrong with a worker's attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// It takes much longer than it should.
    Slow,
    /// Nothing is heard of it any more.
    Silent,
    /// Its connection is gone.
    Gone,
}

/// A task that another worker had better do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Straggler {
    /// Of which asset.
    pub asset: AssetId,
    /// Which task.
    pub number: TaskNumber,
    /// Which attempt.
    pub epoch: u32,
    /// Who is at it.
    pub worker: WorkerId,
    /// Why.
    pub fault: Fault,
}

/// What is known of running tasks.
#[derive(Debug)]
pub struct Stragglers {
    running: BTreeMap<(AssetId, TaskNumber), Running>,
    pace: Pace,
    credit_ms: u64,
    /// Silence counts from here on: before, nobody could be heard.
    hears_since_ms: u64,
}

#[derive(Debug)]
struct Running {
    epoch: u32,
    cost_ms: u64,
    raced: bool,
    /// More than one, where the queue handed it out again.
    workers: Vec<Sight>,
}

#[derive(Debug)]
struct Sight {
    worker: WorkerId,
    since_ms: u64,
    heard_ms: u64,
    permille: u16,
    /// Its connection is gone.
    gone: bool,
    /// It was said to be silent, or gone.
    given_up: bool,
}

impl Default for Stragglers {
    fn default() -> Self {
        let credit_ms = *CREDIT_MS.start();
        Self { running: BTreeMap::new(), pace: Pace::default(), credit_ms, hears_since_ms: 0 }
    }
}

impl Stragglers {
    /// A worker said how far it is.
    pub fn hear(&mut self, now_ms: u64, said: &TaskProgress) {
        let (Some(worker), 1..) = (said.worker, said.cost_ms) else { return };
        let fresh =
            || Running { epoch: said.epoch, cost_ms: said.cost_ms, raced: false, workers: Vec::new() };
        let running = self.running.entry((said.asset, said.number)).or_insert_with(fresh);
        if running.epoch < said.epoch {
            *running = fresh();
        }
        if running.epoch > said.epoch {
            return;
        }
        match running.workers.iter_mut().find(|sight| sight.worker == worker) {
            Some(sight) => (sight.heard_ms, sight.permille, sight.gone) = (now_ms, said.permille, false),
            None => running.workers.push(Sight {
                worker,
                since_ms: now_ms,
                heard_ms: now_ms,
                permille: said.permille,
                gone: false,
                given_up: false,
            }),
        }
    }

    /// Nobody can be heard now.
    pub const fn is_deaf(&mut self, now_ms: u64) {
        self.hears_since_ms = now_ms;
    }

    /// Those at work that have not been heard for a moment, the quietest first, and no more than `most`.
    pub fn quiet(&self, now_ms: u64, most: usize) -> Vec<WorkerId> {
        if now_ms.saturating_sub(self.hears_since_ms) < BACK_WITHIN_MS {
            return Vec::new();
        }
        let at_work = self.running.values().flat_map(|running| &running.workers);
        let mut heard_ms: BTreeMap<WorkerId, u64> = BTreeMap::new();
        for sight in at_work.filter(|sight| !sight.given_up) {
            let heard_ms = heard_ms.entry(sight.worker).or_default();
            *heard_ms = sight.heard_ms.max(*heard_ms);
        }
        let quiet = heard_ms.into_iter().filter(|(_, heard_ms)| now_ms.saturating_sub(*heard_ms) > QUIET_MS);
        let quietest: BTreeSet<_> = quiet.map(|(worker, heard_ms)| (heard_ms, worker)).collect();
        quietest.into_iter().map(|(_, worker)| worker).take(most).collect()
    }

    /// A worker's connection is gone, and probably the worker.
    pub fn is_gone(&mut self, worker: WorkerId) {
        let at_work = self.running.values_mut().flat_map(|running| &mut running.workers);
        at_work.filter(|sight| sight.worker == worker).for_each(|sight| sight.gone = true);
    }

    /// An asset's record changed: `epoch` says which attempts it has in flight, `at_work` that those which are gone are done.
    pub fn see(
        &mut self,
        now_ms: u64,
        asset: AssetId,
        at_work: bool,
        epoch: impl Fn(TaskNumber) -> Option<u32>,
    ) {
        let of_asset = (asset, TaskNumber(0))..=(asset, TaskNumber(u32::MAX));
        let mut over = Vec::new();
        for ((_, number), running) in self.running.range(of_asset) {
            match epoch(*number) {
                Some(epoch) if epoch <= running.epoch => {}
                Some(_) => over.push((*number, false)),
                None => over.push((*number, at_work)),
            }
        }
        for (number, done) in over {
            if let Some(running) = self.running.remove(&(asset, number))
                && done
            {
                self.learn(now_ms, &running);
            }
        }
    }

    fn learn(&mut self, now_ms: u64, running: &Running) {
        self.credit_ms = (self.credit_ms + running.cost_ms / ONE_IN).min(*CREDIT_MS.end());
        // Of one that was raced it is not known how long it would have taken.
        if let ([sight], false) = (running.workers.as_slice(), running.raced) {
            self.pace.learn(sight.course(now_ms, running.cost_ms));
        }
    }

    /// Those that others are to do now, where so many slots are `idle`. Who is slow is named once per attempt, and who falls
    /// silent once each.
    pub fn due(&mut self, now_ms: u64, mut idle: usize) -> Vec<Straggler> {
        let known = self.pace.known();
        let mut due = Vec::new();
        for ((asset, number), Running { epoch, cost_ms, raced, workers }) in &mut self.running {
            // Who came last to it is the best hope.
            let Some(latest) = workers.iter_mut().max_by_key(|sight| sight.since_ms) else { continue };
            let heard_ms = latest.heard_ms.max(self.hears_since_ms);
            let silent = now_ms.saturating_sub(heard_ms) > SILENT_MS;
            let course = latest.course(now_ms, *cost_ms);
            let slow = idle > 0 && !*raced && known.is_some_and(|pace| pace.leaves_behind(course));
            let fault = if latest.gone && !latest.given_up {
                Fault::Gone
            } else if silent && !latest.given_up {
                Fault::Silent
            } else if slow {
                Fault::Slow
            } else {
                continue;
            };
            // What the second one is silent about is not done a third time for now: that costs no work. Nor does what nobody
            // is at any more.
            if !*raced && fault != Fault::Gone {
                if *cost_ms > self.credit_ms {
                    continue;
                }
                self.credit_ms -= *cost_ms;
                idle = idle.saturating_sub(1);
            }
            *raced = true;
            latest.given_up = fault != Fault::Slow;
            due.push(Straggler {
                asset: *asset,
                number: *number,
                epoch: *epoch,
                worker: latest.worker,
                fault,
            });
        }
        due
    }
}

impl Sight {
    const fn course(&self, now_ms: u64, cost_ms: u64) -> Course {
        Course { cost_ms, elapsed_ms: now_ms.saturating_sub(self.since_ms), permille: self.permille }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn worker(n: u64) -> WorkerId {
        WorkerId::from_parts(n, 1)
    }

    fn said(number: u32, by: u64, permille: u16) -> TaskProgress {
        TaskProgress {
            asset: AssetId::from_parts(1, 1),
            number: TaskNumber(number),
            epoch: 1,
            permille,
            worker: Some(worker(by)),
            cost_ms: 1000,
        }
    }

    /// Ten tasks have taken two milliseconds for each of their estimate.
    fn warm() -> Stragglers {
        let mut all = Stragglers::default();
        for n in 1..=10 {
            all.hear(0, &said(n, 1, 0));
        }
        all.see(2000, AssetId::from_parts(1, 1), true, |_| None);
        assert!(all.running.is_empty());
        all
    }

    fn due(all: &mut Stragglers, now_ms: u64) -> Vec<u32> {
        all.due(now_ms, 1).into_iter().map(|straggler| straggler.number.0).collect()
    }

    #[test]
    fn what_takes_three_times_as_long_as_others_did_is_raced_once_unless_it_is_nearly_done() {
        let mut all = warm();
        all.hear(10_000, &said(20, 2, 0));
        all.hear(10_000, &said(21, 3, 0));
        all.hear(16_900, &said(20, 2, 300));
        all.hear(16_900, &said(21, 3, 900));
        assert_eq!(due(&mut all, 16_950), [] as [u32; 0]);
        assert_eq!(all.due(17_050, 0), [], "no slot is idle");
        assert_eq!(due(&mut all, 17_050), [20]);
        assert_eq!(due(&mut all, 17_100), [] as [u32; 0]);
        // A new attempt is another matter.
        all.hear(20_000, &TaskProgress { epoch: 2, ..said(20, 4, 0) });
        all.hear(27_050, &TaskProgress { epoch: 2, ..said(20, 4, 100) });
        assert_eq!(all.due(27_100, 1)[0].epoch, 2);
    }

    #[test]
    fn who_falls_silent_is_named_whether_or_not_a_slot_is_idle_and_so_is_the_next_one() {
        let mut all = Stragglers::default();
        let silent = |worker| Straggler {
            asset: AssetId::from_parts(1, 1),
            number: TaskNumber(1),
            epoch: 1,
            worker,
            fault: Fault::Silent,
        };
        all.hear(0, &said(1, 1, 0));
        assert_eq!(all.due(8_001, 0), [silent(worker(1))]);
        assert_eq!(all.due(60_000, 0), []);
        all.hear(60_000, &said(1, 2, 0));
        assert_eq!((all.due(68_000, 0), all.due(68_001, 0)), (vec![], vec![silent(worker(2))]));
        assert_eq!(all.due(99_000, 0), []);
    }

    #[test]
    fn whose_connection_is_gone_is_not_waited_for_and_costs_no_credit() {
        let mut all = Stragglers { credit_ms: 0, ..Stragglers::default() };
        all.hear(6000, &said(1, 1, 0));
        all.hear(6000, &said(2, 2, 0));
        all.hear(6500, &said(3, 3, 0));
        assert_eq!(all.quiet(7000, 9), []);
        assert_eq!(all.quiet(7501, 9), [worker(1), worker(2), worker(3)]);
        assert_eq!(all.quiet(7501, 1), [worker(1)]);
        all.is_gone(worker(1));
        all.is_gone(worker(2));
        // It was only away for a moment.
        all.hear(7600, &said(2, 2, 100));
        let gone = all.due(7700, 0);
        assert_eq!(gone.iter().map(|who| (who.number.0, who.fault)).collect::<Vec<_>>(), [(1, Fault::Gone)]);
        assert_eq!((all.due(7800, 0), all.quiet(7800, 9)), (vec![], vec![worker(3)]));
        // Its copy's worker, too.
        all.hear(9000, &said(1, 4, 0));
        all.is_gone(worker(4));
        assert_eq!(due(&mut all, 9100), [1]);
    }

    #[test]
    fn nobody_is_asked_for_while_all_may_have_lost_their_connections() {
        let mut all = Stragglers::default();
        all.hear(10_000, &said(1, 1, 0));
        all.is_deaf(20_000);
        assert_eq!((all.quiet(24_999, 9), all.quiet(25_000, 9)), (vec![], vec![worker(1)]));
    }

    #[test]
    fn silence_counts_only_while_somebody_listens() {
        let mut all = Stragglers::default();
        all.hear(0, &said(1, 1, 0));
        all.is_deaf(20_000);
        assert_eq!((due(&mut all, 28_000), due(&mut all, 28_001)), (vec![], vec![1]));
    }

    #[test]
    fn before_anything_is_known_of_the_fleet_only_who_falls_silent_is_raced() {
        let mut all = Stragglers::default();
        all.hear(0, &said(1, 1, 0));
        all.hear(0, &said(2, 2, 0));
        for second in 1..100 {
            all.hear(second * 1000, &said(2, 2, 0));
            assert_eq!(due(&mut all, second * 1000), if second == 9 { vec![1] } else { vec![] });
        }
        // The queue has handed it to a third one.
        all.hear(100_000, &said(1, 3, 0));
        assert_eq!(due(&mut all, 108_000), [2]);
        assert_eq!(due(&mut all, 120_000), [1]);
    }

    #[test]
    fn a_twentieth_of_the_work_is_done_twice_at_most() {
        let mut all = warm();
        let (mut raced, mut done) = (0, 0);
        for n in 100..2100 {
            let now = 10_000 * u64::from(n);
            all.hear(now, &said(n, 2, 0));
            raced += all.due(now + 8000, 1).len() as u64;
            all.see(now + 8000, AssetId::from_parts(1, 1), true, |_| None);
            done += 1;
        }
        assert!((1..=60 + done / ONE_IN).contains(&raced), "{raced} of {done}");
    }
}
