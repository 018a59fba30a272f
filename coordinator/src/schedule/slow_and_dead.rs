//! Workers that are slow, or die, in virtual time: the real machine, the real watch on stragglers, and queues as NATS has
//! them. The same seed gives the same run.

use std::collections::{BTreeSet, VecDeque};

use jiff::{SignedDuration, Timestamp};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use reelmill_media::ids::{AssetId, BlobHash, WorkerId};
use reelmill_media::index::Container;
use reelmill_media::source::SourceRef;
use reelmill_media::task::{Recipe, TaskNumber, TaskProgress, Way};
use reelmill_platform::topology::ACK_WAIT;

use super::stragglers::{Fault, Straggler, Stragglers};
use crate::state::{Arrival, Asset, Effect, Input, Made, Moment, PlanSummary, SourceFacts, Stage, handle};

/// Each chunk's cost, in milliseconds of one core.
const CHUNK_MS: u64 = 6000;
/// Workers of one slot each.
const WORKERS: usize = 16;
const CHUNKS: u32 = 800;
/// Time passes by so much.
const STEP_MS: u64 = 50;
/// Workers speak, and stragglers are looked for, this often.
const LOOK_EVERY_MS: u64 = 500;

type Message = (TaskNumber, u32);

#[derive(Debug, Clone, Copy)]
struct Run {
    message: Message,
    since_ms: u64,
    takes_ms: u64,
}

#[derive(Debug)]
struct World {
    now_ms: u64,
    asset: Asset,
    /// Messages, the one to be avoided by a worker with its number.
    queue: VecDeque<(Message, Option<usize>)>,
    /// Held by the dead: they come again then.
    lost: VecDeque<(u64, Message)>,
    workers: Vec<(WorkerId, Option<Run>)>,
    slowness: Vec<u64>,
    watch: Option<Stragglers>,
    /// Takes every worker with it that goes about it in one of these ways.
    poison: Option<(TaskNumber, &'static [Way])>,
    rng: StdRng,
    /// Work that was done twice, in milliseconds of one core.
    wasted_ms: u64,
    deaths: u32,
    trace: blake3::Hasher,
}

impl World {
    fn new(seed: u64, watched: bool) -> World {
        let now = Timestamp::from_second(1_700_000_000).unwrap();
        let id = AssetId::from_parts(1, 1);
        let mut world = World {
            now_ms: 0,
            asset: Asset::new(id, "demo".parse().unwrap(), None, Some(9), Arrival::Whole, now),
            queue: VecDeque::new(),
            lost: VecDeque::new(),
            workers: (0..WORKERS as u64).map(|n| (WorkerId::from_parts(n, 1), None)).collect(),
            slowness: vec![1; WORKERS],
            watch: watched.then(Stragglers::default),
            poison: None,
            rng: StdRng::seed_from_u64(seed),
            wasted_ms: 0,
            deaths: 0,
            trace: blake3::Hasher::new(),
        };
        let source = SourceRef { blocks: BlobHash::of(b"blocks"), bytes: 9 };
        world.apply(Input::UploadComplete { source });
        world.apply(Input::HandOut { upto: TaskNumber::INDEX });
        world.queue.clear();
        let facts = SourceFacts {
            container: Container::Mp4,
            video: None,
            audio_codecs: Vec::new(),
            duration_micros: 1,
        };
        let plan = PlanSummary {
            recipe: Recipe { index: BlobHash::of(b"index"), plan: BlobHash::of(b"plan") },
            tasks: CHUNKS,
            urgent: 0,
            cost_ms: u64::from(CHUNKS) * CHUNK_MS,
            urgent_cost_ms: 0,
            growth: None,
            facts,
            renditions: Vec::new(),
        };
        world.apply(Input::Indexed { epoch: 1, plan: Box::new(plan) });
        world
    }

    fn apply(&mut self, input: Input) {
        self.trace.update(format!("{} {input:?}", self.now_ms).as_bytes());
        let now = Timestamp::from_millisecond(1_700_000_000_000 + self.now_ms as i64).unwrap();
        let moment = Moment { now, retry_after: SignedDuration::from_secs(1), webhook: false };
        let next = handle(self.asset.clone(), moment, input);
        self.asset = next.asset;
        for effect in next.effects {
            match effect {
                Effect::PublishTask { number, epoch } => self.queue.push_back(((number, epoch), None)),
                Effect::RaceTask { number, epoch } => {
                    let slow = self.asset.attempt(number).and_then(|attempt| attempt.raced);
                    let avoid = self.workers.iter().position(|(id, _)| Some(*id) == slow);
                    self.queue.push_front(((number, epoch), avoid));
                }
                Effect::WithdrawTask { number } => self.withdraw(number),
                Effect::RenderPlaylists => {}
                Effect::Retract => {
                    self.queue.clear();
                    self.lost.clear();
                }
                Effect::Blame { .. }
                | Effect::CheckUpload
                | Effect::Close
                | Effect::RenderCaptions
                | Effect::WithdrawCaptions { .. }
                | Effect::Forget => panic!("{effect:?} where no task fails"),
            }
        }
        let at_work = matches!(self.asset.stage, Stage::Processing { .. });
        if let Some(watch) = &mut self.watch {
            watch.see(self.now_ms, self.asset.id, at_work, |number| self.asset.epoch(number));
        }
    }

    /// Its messages are purged, and whoever is at it hears that it is over.
    fn withdraw(&mut self, number: TaskNumber) {
        self.queue.retain(|((n, _), _)| *n != number);
        self.lost.retain(|(_, (n, _))| *n != number);
        for (_, run) in &mut self.workers {
            if let Some(Run { since_ms, takes_ms, .. }) = run.take_if(|run| run.message.0 == number) {
                self.wasted_ms += CHUNK_MS * (self.now_ms - since_ms) / takes_ms;
            }
        }
    }

    fn step(&mut self) {
        self.now_ms += STEP_MS;
        while self.lost.front().is_some_and(|(at_ms, _)| *at_ms <= self.now_ms) {
            self.queue.extend(self.lost.pop_front().map(|(_, message)| (message, None)));
        }
        for n in 0..WORKERS {
            let over = |run: &mut Run| run.since_ms + run.takes_ms <= self.now_ms;
            let (worker, run) = &mut self.workers[n];
            let (worker, Some(Run { message: (number, epoch), .. })) = (*worker, run.take_if(over)) else {
                continue;
            };
            self.apply(Input::TaskDone {
                number,
                epoch,
                worker,
                made: Made { cost_ms: CHUNK_MS, parts: vec![] },
            });
        }
        if self.now_ms.is_multiple_of(LOOK_EVERY_MS) {
            self.look();
        }
        self.hand_out();
    }

    /// As a worker does every few seconds, and when it begins.
    fn say(&mut self, n: usize) {
        let (worker, run) = self.workers[n];
        let (Some(watch), Some(Run { message: (number, epoch), since_ms, takes_ms })) =
            (&mut self.watch, run)
        else {
            return;
        };
        let said = TaskProgress {
            asset: self.asset.id,
            number,
            epoch,
            permille: ((self.now_ms - since_ms) * 1000 / takes_ms) as u16,
            worker: Some(worker),
            cost_ms: CHUNK_MS,
        };
        watch.hear(self.now_ms, &said);
    }

    fn look(&mut self) {
        for n in 0..WORKERS {
            self.say(n);
        }
        let Some(watch) = &mut self.watch else { return };
        for worker in watch.quiet(self.now_ms, WORKERS) {
            if self.workers.iter().all(|(id, _)| *id != worker) {
                watch.is_gone(worker);
            }
        }
        let idle = WORKERS.saturating_sub(self.asset.in_flight().len());
        for Straggler { number, epoch, worker, fault, .. } in watch.due(self.now_ms, idle) {
            self.apply(match fault {
                Fault::Slow => Input::Straggles { number, epoch, worker },
                Fault::Silent | Fault::Gone => Input::FallsSilent { number, epoch, worker },
            });
        }
        self.apply(Input::Tick);
    }

    fn hand_out(&mut self) {
        if let Stage::Processing { job, .. } = &self.asset.stage {
            let room = (2 * WORKERS).saturating_sub(job.in_flight.len()) as u32;
            if room > 0 && job.next < job.tasks {
                self.apply(Input::HandOut { upto: TaskNumber(job.next + room) });
            }
        }
        for n in 0..WORKERS {
            if self.workers[n].1.is_some() {
                continue;
            }
            let Some(at) = self.queue.iter().position(|(_, avoid)| *avoid != Some(n)) else { continue };
            let Some((message, _)) = self.queue.remove(at) else { continue };
            let takes_ms = CHUNK_MS * self.rng.random_range(80..=120) / 100 * self.slowness[n];
            self.workers[n].1 = Some(Run { message, since_ms: self.now_ms, takes_ms });
            self.say(n);
            let way = self.asset.attempt(message.0).map(|attempt| attempt.way);
            if self
                .poison
                .is_some_and(|(task, ways)| task == message.0 && way.is_some_and(|w| ways.contains(&w)))
            {
                self.kill(n);
            }
        }
    }

    /// As by kill -9; another process takes its place at once, and its message comes again after the ack wait.
    fn kill(&mut self, n: usize) {
        self.deaths += 1;
        let (worker, run) = &mut self.workers[n];
        *worker = WorkerId::from_parts(1000 + u64::from(self.deaths), 1);
        if let Some(Run { message, since_ms, takes_ms }) = run.take() {
            self.wasted_ms += CHUNK_MS * (self.now_ms - since_ms) / takes_ms;
            self.lost.push_back((self.now_ms + ACK_WAIT.as_millis() as u64, message));
        }
    }

    fn done(&self) -> u32 {
        match &self.asset.stage {
            Stage::Processing { job, .. } => job.done.len(),
            other => panic!("{other:?}"),
        }
    }

    /// Until all is done; kills one worker for every so many chunks that are.
    fn run(mut self, kill_every: Option<u32>) -> World {
        let mut killed_at = BTreeSet::new();
        while self.done() < CHUNKS {
            self.step();
            assert!(self.now_ms < 24 * 3_600_000, "never done");
            let round = kill_every.map_or(0, |every| self.done() / every);
            if round > 0 && killed_at.insert(round) {
                let victim = self.rng.random_range(0..WORKERS);
                self.kill(victim);
            }
        }
        self
    }

    fn one_slow(seed: u64, watched: bool) -> World {
        let mut world = World::new(seed, watched);
        world.slowness[3] = 10;
        world.run(None)
    }
}

fn ratio(world: &World, to: &World) -> f64 {
    world.now_ms as f64 / to.now_ms as f64
}

#[test]
fn a_worker_that_is_ten_times_slower_costs_its_own_work_and_little_more() {
    let (undisturbed, slow, unwatched) =
        (World::new(5, true).run(None), World::one_slow(5, true), World::one_slow(5, false));
    let extra = |world: &World| world.wasted_ms as f64 / (u64::from(CHUNKS) * CHUNK_MS) as f64;
    println!(
        "makespan {:.3} of an undisturbed one ({:.3} without races), {:.1} % extra work ({:.1} % undisturbed)",
        ratio(&slow, &undisturbed),
        ratio(&unwatched, &undisturbed),
        100.0 * extra(&slow),
        100.0 * extra(&undisturbed),
    );
    assert!(ratio(&slow, &undisturbed) <= 1.15);
    assert!(extra(&slow) <= 0.05 && undisturbed.wasted_ms == 0);
    assert!(ratio(&unwatched, &undisturbed) > ratio(&slow, &undisturbed), "races are worth nothing");
}

#[test]
fn a_worker_killed_every_ten_chunks_costs_a_quarter_at_most() {
    let undisturbed = World::new(7, true).run(None);
    let disturbed = World::new(7, true).run(Some(10));
    println!("makespan {:.3} with {} deaths", ratio(&disturbed, &undisturbed), disturbed.deaths);
    assert!(disturbed.deaths >= CHUNKS / 10 - 1);
    assert!(ratio(&disturbed, &undisturbed) <= 1.25);
}

#[test]
fn a_task_that_takes_its_workers_with_it_is_gone_about_otherwise_before_it_has_taken_three() {
    let mut world = World::new(9, true);
    world.poison = Some((TaskNumber(7), &[Way::Any]));
    let world = world.run(None);
    assert_eq!(world.deaths, 2);
}

#[test]
fn a_task_that_takes_everybody_with_it_takes_five_at_most_and_ends_its_asset() {
    let mut world = World::new(9, true);
    world.poison = Some((TaskNumber(7), &[Way::Any, Way::Software, Way::Concealed]));
    while matches!(world.asset.stage, Stage::Processing { .. }) {
        world.step();
        assert!(world.now_ms < 24 * 3_600_000, "never over");
    }
    assert!(matches!(world.asset.stage, Stage::Failed { .. }));
    assert_eq!(world.deaths, 5);
}

#[test]
fn the_same_seed_gives_the_same_run() {
    let trace = |seed| World::new(seed, true).run(Some(10)).trace.finalize();
    assert_eq!(trace(3), trace(3));
    assert_ne!(trace(3), trace(4));
}
