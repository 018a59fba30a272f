//! Generated lives of an asset in a world where workers die, messages double, come late or vanish, and coordinators
//! die between storing a record and acting on it.

use std::collections::{BTreeMap, BTreeSet};

use jiff::{SignedDuration, Timestamp};
use proptest::prelude::*;
use reelmill_media::ids::{AssetId, BlobHash, WorkerId};
use reelmill_media::index::Container;
use reelmill_media::source::SourceRef;
use reelmill_media::task::{Failure, FailureCode, Recipe, TaskNumber, Way};

use super::attempt::{MAX_ATTEMPTS, REPUBLISH_AFTER};
use super::report::MAX_OUTAGES;
use super::*;
use crate::schedule::Demand;

pub(super) const RETRY_AFTER: SignedDuration = SignedDuration::from_secs(1);
/// Bytes of what a task makes.
const PART_BYTES: u64 = 1000;

/// One event of a generated life.
#[derive(Debug, Clone)]
enum Event {
    /// A worker does a task, reports, and takes its message out of the queue — or dies just before that.
    WorkerDone { pick: usize, dies_before_ack: bool },
    /// One of three workers reports a failure: its own, the source's, or the store's.
    WorkerFails { pick: usize, worker: u64, code: FailureCode },
    /// A worker takes long, or is not heard of any more.
    Straggles { pick: usize, worker: u64, silent: bool, effects: usize },
    /// The queue gives a message up.
    GivenUp { pick: usize },
    /// A task message vanishes without a trace, with everything that NATS held of it.
    MessageVanishes { pick: usize },
    /// A coordinator applies a report, gets so far with the effects, and acknowledges when it got through them all. A
    /// copy of the report may come again later.
    Report { pick: usize, effects: usize, again: bool },
    /// A coordinator sweeps, and gets so far with the effects.
    Sweep { effects: usize },
    /// The feeder gives it so much room, and gets so far with the effects.
    HandOut { room: u32, effects: usize },
    /// Time passes.
    Wait { seconds: i64 },
}

fn event() -> impl Strategy<Value = Event> {
    let pick = any::<prop::sample::Index>().prop_map(|i| i.index(64));
    let effects = prop_oneof![3 => Just(usize::MAX), 1 => 0usize..4];
    let code = prop_oneof![
        8 => Just(FailureCode::Internal),
        4 => Just(FailureCode::Limit),
        4 => Just(FailureCode::Unavailable),
        2 => Just(FailureCode::Corrupt),
        1 => Just(FailureCode::Unsupported),
    ];
    prop_oneof![
        6 => (pick.clone(), any::<bool>()).prop_map(|(pick, dies_before_ack)| Event::WorkerDone { pick, dies_before_ack }),
        2 => (pick.clone(), 1..4u64, code)
            .prop_map(|(pick, worker, code)| Event::WorkerFails { pick, worker, code }),
        2 => (pick.clone(), 1..4u64, any::<bool>(), effects.clone())
            .prop_map(|(pick, worker, silent, effects)| Event::Straggles { pick, worker, silent, effects }),
        1 => pick.clone().prop_map(|pick| Event::GivenUp { pick }),
        1 => pick.clone().prop_map(|pick| Event::MessageVanishes { pick }),
        8 => (pick, effects.clone(), any::<bool>())
            .prop_map(|(pick, effects, again)| Event::Report { pick, effects, again }),
        2 => effects.clone().prop_map(|effects| Event::Sweep { effects }),
        4 => (0u32..6, effects).prop_map(|(room, effects)| Event::HandOut { room, effects }),
        2 => prop_oneof![Just(5), Just(61), Just(3700)].prop_map(|seconds| Event::Wait { seconds }),
    ]
}

#[derive(Debug)]
pub(super) struct World {
    pub(super) asset: Asset,
    pub(super) now: Timestamp,
    tasks: u32,
    pub(super) queue: BTreeSet<(TaskNumber, u32)>,
    /// Second copies.
    pub(super) races: BTreeSet<(TaskNumber, u32)>,
    /// Who has failed at what, and who was blamed for it.
    pub(super) failed: BTreeSet<(WorkerId, TaskNumber)>,
    pub(super) blamed: BTreeSet<(WorkerId, TaskNumber)>,
    reports: Vec<Input>,
    closed_playlists: bool,
    tidied: bool,
    pub(super) forgotten: bool,
    epochs: BTreeMap<TaskNumber, u32>,
    done: BTreeSet<u32>,
}

impl World {
    pub(super) fn new(tasks: u32) -> World {
        let now = Timestamp::from_second(1_700_000_000).unwrap();
        let id = AssetId::from_parts(1, 1);
        let asset = Asset::new(id, "demo".parse().unwrap(), None, Some(9), Arrival::Whole, now);
        let mut world = World {
            asset,
            now,
            tasks,
            queue: BTreeSet::new(),
            races: BTreeSet::new(),
            failed: BTreeSet::new(),
            blamed: BTreeSet::new(),
            reports: Vec::new(),
            closed_playlists: false,
            tidied: false,
            forgotten: false,
            epochs: BTreeMap::new(),
            done: BTreeSet::new(),
        };
        let source = SourceRef { blocks: BlobHash::of(b"blocks"), bytes: 9 };
        world.apply(Input::UploadComplete { source }, usize::MAX);
        world
    }

    pub(super) fn apply(&mut self, input: Input, effects: usize) {
        let moment = Moment { now: self.now, retry_after: RETRY_AFTER, webhook: true };
        let fence = self.asset.fence;
        let transition = handle(self.asset.clone(), moment, input);
        self.asset = transition.asset;
        if self.asset.fence != fence {
            // Another job, of which nothing is done.
            self.done.clear();
        }
        self.check();
        for effect in transition.effects.into_iter().take(effects) {
            self.perform(effect);
        }
    }

    fn perform(&mut self, effect: Effect) {
        match effect {
            Effect::CheckUpload => {}
            Effect::PublishTask { number, epoch } => {
                self.queue.insert((number, epoch));
            }
            Effect::RaceTask { number, epoch } => {
                self.races.insert((number, epoch));
            }
            Effect::WithdrawTask { number } => {
                self.queue.retain(|(n, _)| *n != number);
                self.races.retain(|(n, _)| *n != number);
            }
            Effect::Blame { worker, number } => {
                assert!(self.failed.contains(&(worker, number)), "blamed for what it did not do");
                self.blamed.insert((worker, number));
            }
            Effect::RenderPlaylists => {
                let Stage::Processing { job, .. } = &self.asset.stage else { return };
                let complete = job.done.len() == job.tasks;
                self.closed_playlists |= complete;
                self.apply(Input::Published { playable: !job_is_fresh(&self.asset), complete }, usize::MAX);
            }
            Effect::Retract => {
                self.queue.clear();
                self.races.clear();
            }
            Effect::Close => {
                self.tidied = true;
                self.apply(Input::Closed, usize::MAX);
            }
            Effect::Forget => self.forgotten = true,
            // Nobody gives captions here.
            Effect::RenderCaptions | Effect::WithdrawCaptions { .. } => {}
        }
    }

    fn plan(&self) -> PlanSummary {
        PlanSummary {
            recipe: Recipe { index: BlobHash::of(b"index"), plan: BlobHash::of(b"plan") },
            tasks: self.tasks,
            urgent: self.tasks.min(2),
            cost_ms: u64::from(self.tasks) * 100,
            urgent_cost_ms: u64::from(self.tasks.min(2)) * 100,
            growth: None,
            facts: SourceFacts {
                container: Container::Mp4,
                video: None,
                audio_codecs: Vec::new(),
                duration_micros: 1,
            },
            renditions: vec![Planned {
                id: "v360".parse().unwrap(),
                kind: RenditionKind::Video { width: 640, height: 360 },
                language: None,
                segments: self.tasks,
            }],
        }
    }

    pub(super) fn success(&self, number: TaskNumber, epoch: u32) -> Input {
        if number == TaskNumber::INDEX {
            return Input::Indexed { epoch, plan: Box::new(self.plan()) };
        }
        let part = MadePart {
            rendition: "v360".parse().unwrap(),
            encoder: "libx264".into(),
            init: BlobHash::of(b"init"),
            codecs: "avc1.64001f".into(),
            segments: 1,
            bytes: PART_BYTES,
            concealed: 0,
        };
        let made = Made { cost_ms: 100, parts: vec![part] };
        Input::TaskDone { number, epoch, worker: worker(9), made }
    }

    /// From the queue, or a second copy.
    fn pick(&self, pick: usize) -> Option<(TaskNumber, u32)> {
        let all = self.queue.iter().chain(&self.races);
        all.clone().nth(pick % all.count().max(1)).copied()
    }

    /// One copy of a message is gone.
    fn taken(&mut self, message: (TaskNumber, u32)) {
        if !self.queue.remove(&message) {
            self.races.remove(&message);
        }
    }

    fn happen(&mut self, event: Event) {
        match event {
            Event::WorkerDone { pick, dies_before_ack } => {
                let Some((number, epoch)) = self.pick(pick) else { return };
                self.reports.push(self.success(number, epoch));
                if !dies_before_ack {
                    self.taken((number, epoch));
                }
            }
            Event::WorkerFails { pick, worker: n, code } => {
                let Some((number, epoch)) = self.pick(pick) else { return };
                self.taken((number, epoch));
                let failure = Failure { code, reason: "x".repeat(2000) };
                self.failed.insert((worker(n), number));
                self.reports.push(Input::TaskFailed { number, epoch, worker: worker(n), failure });
            }
            Event::Straggles { pick, worker: n, silent, effects } => {
                let Some((number, epoch)) = self.pick(pick) else { return };
                if silent {
                    self.falls_silent(number.0, epoch, n, effects);
                } else {
                    self.apply(Input::Straggles { number, epoch, worker: worker(n) }, effects);
                }
            }
            Event::GivenUp { pick } => {
                let Some((number, epoch)) = self.pick(pick) else { return };
                self.taken((number, epoch));
                self.reports.push(Input::TaskLost { number, epoch });
            }
            Event::MessageVanishes { pick } => {
                if let Some(message) = self.pick(pick) {
                    self.taken(message);
                }
            }
            Event::Report { pick, effects, again } => {
                if self.reports.is_empty() {
                    return;
                }
                let report = self.reports.swap_remove(pick % self.reports.len());
                if again || effects < usize::MAX {
                    self.reports.push(report.clone());
                }
                self.apply(report, effects);
            }
            Event::Sweep { effects } => self.apply(Input::Tick, effects),
            Event::HandOut { room, effects } => self.hand_out(room, effects),
            Event::Wait { seconds } => self.now += SignedDuration::from_secs(seconds),
        }
    }

    fn check(&mut self) {
        for attempt in self.asset.in_flight() {
            let seen = self.epochs.entry(attempt.number).or_insert(attempt.epoch);
            assert!(attempt.epoch >= *seen, "an epoch went back");
            *seen = attempt.epoch;
            assert!(attempt.failures < MAX_ATTEMPTS && attempt.outages <= MAX_OUTAGES);
            let tried = attempt.failures > 1;
            assert!(tried || attempt.way == Way::Any, "given up on without need: {attempt:?}");
            assert!(attempt.failed_by.iter().all(|worker| self.failed.contains(&(*worker, attempt.number))));
            assert!(attempt.raced.is_none() || attempt.not_before.is_none(), "what waits needs no race");
        }
        if let Stage::Processing { job, .. } = &self.asset.stage {
            assert!(job.in_flight.len() <= MAX_IN_FLIGHT);
            let numbers: BTreeSet<_> = job.in_flight.iter().map(|a| a.number).collect();
            assert_eq!(numbers.len(), job.in_flight.len(), "a task is in flight twice");
            let done: BTreeSet<u32> = job.done.positions().collect();
            assert!(done.is_superset(&self.done), "done was undone");
            for number in &numbers {
                assert!(!done.contains(&number.position().unwrap()), "done and in flight");
            }
            assert_eq!(self.asset.renditions[0].made, done.len() as u32, "a task was done twice");
            assert_eq!(self.asset.renditions[0].bytes, done.len() as u64 * PART_BYTES);
            assert_eq!(job.done_cost_ms, done.len() as u64 * 100);
            assert_eq!(job.next, done.len() as u32 + numbers.len() as u32);
            self.done = done;
        }
        if let Stage::Ready { .. } = &self.asset.stage {
            assert!(self.closed_playlists, "ready before its playlists were closed");
            assert!(self.done.len() as u32 == self.tasks || self.asset.abandoned.is_some());
            assert!(self.asset.shows_something(), "ready, and nothing to be seen");
            assert!(self.asset.timings.completed_at.is_some());
        }
        let text = serde_json::to_string(&self.asset).unwrap();
        assert!(text.len() < 4096 + 400 * self.asset.in_flight().len(), "the record grows: {}", text.len());
        assert_eq!(serde_json::from_str::<Asset>(&text).unwrap(), self.asset);
    }

    /// As the feeder does when there is room for so many more tasks.
    pub(super) fn hand_out(&mut self, room: u32, effects: usize) {
        let Some(demand) = Demand::of(&self.asset) else { return };
        let Some(last) = room.min(demand.room).checked_sub(1) else { return };
        self.apply(Input::HandOut { upto: TaskNumber(demand.next.0 + last) }, effects);
    }

    pub(super) fn fails(&mut self, number: u32, epoch: u32) {
        self.fails_with(number, epoch, epoch.into(), FailureCode::Limit);
    }

    pub(super) fn fails_with(&mut self, number: u32, epoch: u32, by: u64, code: FailureCode) {
        let (number, worker) = (TaskNumber(number), worker(by));
        self.failed.insert((worker, number));
        let failure = Failure { code, reason: "too slow".into() };
        self.apply(Input::TaskFailed { number, epoch, worker, failure }, usize::MAX);
    }

    pub(super) fn falls_silent(&mut self, number: u32, epoch: u32, by: u64, effects: usize) {
        let (number, worker) = (TaskNumber(number), worker(by));
        self.failed.insert((worker, number));
        self.apply(Input::FallsSilent { number, epoch, worker }, effects);
    }

    /// From here on nothing goes wrong any more.
    pub(super) fn settle(&mut self) {
        for _ in 0..2000 {
            while let Some(notice) = self.asset.notices.first().cloned() {
                self.apply(Input::NoticeTried { notice, told: true }, usize::MAX);
            }
            if self.asset.is_closed() {
                return;
            }
            self.now += REPUBLISH_AFTER + SignedDuration::from_secs(1);
            self.apply(Input::Tick, usize::MAX);
            self.hand_out(10, usize::MAX);
            while let Some((number, epoch)) = self.queue.pop_first().or_else(|| self.races.pop_first()) {
                self.reports.push(self.success(number, epoch));
            }
            while let Some(report) = self.reports.pop() {
                self.apply(report, usize::MAX);
            }
        }
        panic!("never ended: {self:?}");
    }
}

pub(super) fn worker(n: u64) -> WorkerId {
    WorkerId::from_parts(n, 1)
}

fn job_is_fresh(asset: &Asset) -> bool {
    asset.renditions.iter().all(|r| r.made == 0)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, ..ProptestConfig::default() })]

    #[test]
    fn every_job_ends_and_no_rule_is_broken_on_the_way(
        tasks in 1u32..40, events in prop::collection::vec(event(), 0..300),
    ) {
        let (mut world, mut again) = (World::new(tasks), World::new(tasks));
        for event in events {
            let was_final = world.asset.stage.name().is_final();
            let before = world.asset.stage.name();
            world.happen(event.clone());
            prop_assert!(!was_final || world.asset.stage.name() == before, "an end was not the end");
            again.happen(event);
            prop_assert_eq!((&world.asset, &world.queue), (&again.asset, &again.queue), "the same, another end");
        }
        world.settle();
        let had_tasks = !world.epochs.is_empty();
        prop_assert!(world.tidied || !had_tasks);
        prop_assert!(world.asset.timings.playable_at.is_some() || !world.asset.is_playable());
    }

    #[test]
    fn without_faults_every_job_becomes_ready(tasks in 1u32..200) {
        let mut world = World::new(tasks);
        world.settle();
        prop_assert_eq!(world.asset.stage.name(), StageName::Ready);
        prop_assert!(world.epochs.values().all(|epoch| *epoch == 1));
    }
}
